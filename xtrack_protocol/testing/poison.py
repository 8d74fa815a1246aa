"""Values that stores get wrong: each must come back exactly as it was. spec: FLD-12.3"""

from __future__ import annotations

import math
from typing import Final

from xtrack_protocol.ir import Json, Number

NUMBERS: Final[tuple[Number, ...]] = (
    math.nan,
    math.inf,
    -math.inf,
    0,
    0.0,
    -0.0,
    1,
    1.0,
    -1,
    0.1,
    1e-300,
    -1e-300,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    2**31,
    2**53,
    2**53 + 1,
    float(2**53),
    -(2**53) - 1,
    2**62 + 1,
    2**63 - 1,
    -(2**63),
    float(2**63),
    9007199254740993.0,
    1 / 3,
    1e22,
    1e15,
    1e16,
)
"""For number slots."""

TEXTS: Final[tuple[str, ...]] = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "a\x00c",
    "\x00tail",
    "\n\r\t",
    "\x1b[31m",
    "\x7f\x80\x9f",
    "'",
    '"',
    "it's; DROP TABLE runs; --",
    "100%",
    "_",
    "a%b_c*d?e[f]",
    "\\",
    "C:\\dir\\n",
    "train/loss",
    "a.b.c",
    "..",
    "../../etc/passwd",
    "key with spaces ",
    "🚀",
    "👩‍👩‍👧‍👦",
    "e\u0301",
    "\u00e9",
    "\u202eright to left",
    "\ufeffbom",
    "\uffff",
    "\U0010ffff",
    "Ä Ö ß",
    "日本語",
    "null",
    "NaN",
    "latest-not",
    "k" * 300,
    "long " * 20_000,
    "ключ" * 1_000,
)
"""For names, keys and texts of any kind; no two are equal."""

FREE: Final[tuple[Json, ...]] = (
    None,
    True,
    False,
    "",
    "a\x00b",
    2**63 - 1,
    -(2**63),
    2**53 + 1,
    float(2**63),
    1e300,
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    1e-300,
    1.0,
    1,
    [],
    {},
    [[], {}, [None]],
    {"": {"": ""}},
    {"$float": "other"},
    {"a.b": {"c/d": [1, 2.0, "x"]}, "e'f\"g": "h\\i", "%": None},
    [math.nan, {"x": [math.inf, -0.0]}, 2**62 + 1],
    "🚀" * 100,
    list(range(1000)),
)
"""For free slots: any JSON. spec: VAL-4"""


def exactly(value: object) -> str:
    """Return a text that is the same for two values when they are of the same kind and the same to the last bit."""
    return repr(value)
