"""Text in the cells of a terminal: how many it takes, cut and padded to fit, in styles."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Final, Literal, TypeAlias

import attrs

from xtrack_protocol.decode.text import escape
from xtrack_protocol.ir.lifecycle import ErrorInfo

Align: TypeAlias = Literal["left", "right"]

CURVES: Final = ("cyan", "yellow", "magenta", "green", "red", "blue")
"""Colours of curves, in order; the seventh has the first one's again."""

_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "reverse": "7",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}

ELLIPSIS: Final = "…"


def error_text(error: ErrorInfo) -> str:
    """Return an error's kind and what it says, either of which may be empty; nothing is escaped."""
    return ": ".join(filter(None, (error.type, error.message)))


@attrs.frozen
class Span:
    """A piece of a row. ``style``: names of colours, ``bold``, ``dim`` or ``reverse``, with spaces between."""

    text: str
    style: str = ""


Row: TypeAlias = "tuple[Span, ...]"


def cell_width(text: str) -> int:
    """Return how many cells ``text`` takes: wide letters (East Asian, most emoji) two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_letter_width, text))


def _letter_width(letter: str) -> int:
    if unicodedata.category(letter) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in {"W", "F"} else 1


def cut(text: str, width: int, *, middle: bool = False) -> str:
    """Return ``text``, which holds no control characters, in at most ``width`` cells; what is left out becomes an
    ellipsis, at the end or in the ``middle``.
    """
    if cell_width(text) <= width:
        return text
    if width < 1:
        return ""
    tail = (width - 1) // 2 if middle else 0
    end = _head(text[::-1], tail)[::-1]
    return _head(text, width - 1 - cell_width(end)) + ELLIPSIS + end


def distinct(texts: Sequence[str], width: int) -> list[str]:
    """Return texts, without control characters, in at most ``width`` cells each: where some are too long, all go
    without what they begin with alike, and are then cut in the middle.
    """
    told = [escape(text) for text in texts]
    if len(told) > 1 and any(cell_width(text) > width for text in told):
        alike = len(commonprefix(told))  # noqa: RUF071 - letters, and not folders
        while alike and (told[0][alike - 1].isalnum() or told[0][alike - 1] == "."):
            alike -= 1  # numbers and words stay whole
        told = [ELLIPSIS + text[alike:] for text in told] if alike > 1 else told
    return [cut(text, width, middle=True) for text in told]


def _head(text: str, width: int) -> str:
    taken = 0
    for place, letter in enumerate(text):
        taken += _letter_width(letter)
        if taken > width:
            return text[:place]
    return text


def fill(text: str, width: int, align: Align = "left", *, middle: bool = False) -> str:
    """Return ``text`` in ``width`` cells exactly: cut, or padded with spaces."""
    fitting = cut(text, width, middle=middle)
    space = " " * (width - cell_width(fitting))
    return fitting + space if align == "left" else space + fitting


def fit_row(row: Iterable[Span], width: int) -> Row:
    """Return a row in at most ``width`` cells."""
    made: list[Span] = []
    left = width
    for span in row:
        text = cut(span.text, left)
        if text:
            made.append(Span(text, span.style))
        left -= cell_width(text)
        if text != span.text:
            break
    return tuple(made)


def plain(row: Iterable[Span]) -> str:
    """Return a row's text, without spaces at its end."""
    return "".join(span.text for span in row).rstrip()


def coloured(row: Iterable[Span]) -> str:
    """Return a row with what makes a terminal show its styles."""
    parts = []
    for span in row:
        codes = ";".join(_CODES[name] for name in span.style.split())
        parts.append(f"\x1b[{codes}m{span.text}\x1b[0m" if codes else span.text)
    return "".join(parts).rstrip()


def side_by_side(cells: Sequence[Span], width: int, rows: int) -> list[Row]:
    """Return spans in at most ``rows`` rows; where there are too many, how many more there are."""
    size = max((cell_width(cell.text) for cell in cells), default=0) + 2
    across = max(1, min(len(cells), width // size))
    room = across * rows
    if len(cells) > room:
        more = f"and {len(cells)} more"
        size = min(width, max(size, len(more) + 2))
        across = max(1, width // size)
        left_out = len(cells) - across * rows + 1
        cells = [*cells[: across * rows - 1], Span(cut(f"and {left_out} more", size), "dim")]
    return [
        tuple(Span(fill(cell.text, size), cell.style) for cell in cells[start : start + across])
        for start in range(0, len(cells), across)
    ]
