"""What a terminal must not be handed as it is, in text that nobody vouches for, and how it is written instead."""

from __future__ import annotations

import re
from typing import Final

UNSAFE_IN_JSON: Final = (
    "\x7f-\x9f\u2028\u2029"  # controls, which a terminal obeys, and separators, which end a line
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turns of the direction: text reads as what it isn't
    "\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f"
)
"""The inside of a character class; its third line is what can't be seen at all, with which two names look like one.

The joiners U+200C and U+200D aren't in it: words of several languages are misspelt without them, and emoji fall apart.
"""

_UNSAFE: Final = "\x00-\x1f\ud800-\udfff" + UNSAFE_IN_JSON
"""Of what stands before it, JSON text has nothing but the ends of its own lines."""

_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """Return ``text`` on one line, what is unsafe in it written as an escape (``\\x1b``). spec: ERR-1.3"""
    return text if text.isprintable() else re.sub(f"[{_UNSAFE}]", _escaped, text)  # nothing unsafe is printable


def _escaped(match: re.Match[str]) -> str:
    letter = match.group()
    code = ord(letter)
    return _SHORT.get(letter) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )
