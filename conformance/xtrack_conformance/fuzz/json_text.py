"""JSON as it stands, for judging readers: each number with its spelling, each name that is given twice.

Python's own parser does the work; this module keeps what it would lose.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

DEPTH_MAX: Final = 64


EITHER_CLASS: Final = "bad_json or too_deep"
"""Of a text that is malformed, and seems to be nested too deep. spec: FRM-6.7"""


@attrs.frozen
class Number:
    """A number as it is spelled."""

    text: str

    @property
    def is_integer(self) -> bool:
        """Whether it has neither a fraction nor an exponent."""
        return not set(".eE") & set(self.text)


@attrs.frozen
class Token:
    """A bare NaN, Infinity or -Infinity."""

    text: str


@attrs.frozen
class Object:
    """An object: its pairs as they stand."""

    pairs: tuple[tuple[str, Any], ...]

    @property
    def members(self) -> dict[str, Any]:
        """The pairs by name, the last of several."""
        return dict(self.pairs)


@attrs.frozen
class Text:
    """What a payload holds. ``tokens``, ``twice``: whether there are bare tokens, and names given twice."""

    tree: Any
    tokens: bool = False
    twice: bool = False


class BadText(ValueError):
    """A payload that must be refused for its text. ``class_``: bad_utf8, bad_json, too_deep or EITHER_CLASS."""

    def __init__(self, class_: str, why: str) -> None:
        self.class_ = class_
        super().__init__(f"{why} ({class_})")


def read_text(payload: bytes) -> Text:
    """Return what a payload holds; raise BadText where JSN-1, JSN-2 or JSN-3 has it refused by all readers."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadText("bad_utf8", f"no UTF-8: {error.reason} at byte {error.start}") from error
    tokens = False

    def token(name: str) -> Token:
        nonlocal tokens
        tokens = True
        return Token(name)

    try:
        tree = json.loads(
            text,
            object_pairs_hook=lambda pairs: Object(tuple(pairs)),
            parse_int=Number,
            parse_float=Number,
            parse_constant=token,
        )
    except (ValueError, RecursionError) as error:
        class_ = EITHER_CLASS if isinstance(error, RecursionError) or _opened(text) > DEPTH_MAX else "bad_json"
        raise BadText(class_, f"no JSON: {error}") from error
    return Text(tree, tokens, _look_through(tree))


def _look_through(tree: Any) -> bool:
    """Return whether a name is given twice; raise BadText for what no text may hold, wherever it stands."""
    twice, waiting = False, [(tree, 1)]
    depth = 0
    while waiting:
        value, level = waiting.pop()
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise BadText("bad_json", "half of a surrogate pair")
        if isinstance(value, (Object, list)):
            depth = max(depth, level)
        if isinstance(value, Object):
            names = [name for name, _ in value.pairs]
            twice = twice or len(set(names)) < len(names)
            waiting += [(name, level + 1) for name in names] + [(item, level + 1) for _, item in value.pairs]
        elif isinstance(value, list):
            waiting += [(item, level + 1) for item in value]
    if depth > DEPTH_MAX:
        raise BadText("too_deep", f"{depth} arrays and objects are open at once")
    return twice


def _opened(text: str) -> int:
    """Return at least as many arrays and objects as are open at once in a malformed text."""
    return text.count("[") + text.count("{")
