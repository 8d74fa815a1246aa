"""From what a program prints to lines worth keeping: what a terminal would show in the end, and no more than so many.

A progress bar writes its line again and again, behind carriage returns or the terminal's cursor up. Of each line only
what stands there when the next one begins is kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

LINE_MAX: Final = 64 * 1024
"""Characters that are kept of a line, as of any text that is too long."""

_ROWS_MAX: Final = 64
"""Rows that a program may go up again."""

_MOVES: Final = re.compile(r"(\r?\n|\r|\x1b\[[0-9]{0,9}A)")
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_BEGUN: Final = re.compile(r"(?:\x1b(?:\[[0-?]{0,32})?|\r)\Z")
"""An escape that may go on in the next piece of text, and a return that may be half of a line's end."""


class _Row:
    """A line that may still change."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._kept = self._size = 0
        self.is_left = False
        """Whether the cursor has gone back to its beginning: what is written next replaces all of it."""

    def write(self, text: str) -> None:
        if self.is_left:
            self._parts.clear()
            self._kept = self._size = 0
            self.is_left = False
        self._size += len(text)
        if self._kept < LINE_MAX:
            self._parts.append(text[: LINE_MAX - self._kept])
            self._kept += len(self._parts[-1])

    def text(self) -> str:
        text = _ESCAPES.sub("", "".join(self._parts)).rstrip()
        if self._size > LINE_MAX:
            return f"{text}... [cut: {self._size} characters, the rest is lost]"
        return text


class Lines:
    """Text in pieces of any size in, whole lines out. Colours and empty lines are left out."""

    def __init__(self) -> None:
        self._rows = [_Row()]
        self._at = 0
        self._begun = ""

    def feed(self, text: str) -> list[str]:
        """Take a piece of text, and return the lines that are done."""
        text = self._begun + text
        self._begun = ""
        found = _BEGUN.search(text)
        if found:
            self._begun = found[0]
            text = text[: found.start()]
        done: list[str] = []
        for piece in _MOVES.split(text):
            if piece.endswith("\n"):
                self._down(done)
            elif piece == "\r":
                self._rows[self._at].is_left = True
            elif piece.startswith("\x1b[") and piece.endswith("A") and _MOVES.fullmatch(piece):
                self._up(int(piece[2:-1] or 1))
            elif piece:
                self._rows[self._at].write(piece)
        return done

    def finish(self) -> list[str]:
        """Return what stands there without a line's end; begin anew."""
        done: list[str] = []
        self._begun = ""
        self._flush(done)
        return done

    def _down(self, done: list[str]) -> None:
        if self._at + 1 < len(self._rows):
            self._at += 1
            self._rows[self._at].is_left = True
        else:
            self._flush(done)

    def _up(self, rows: int) -> None:
        for _ in range(min(rows, _ROWS_MAX)):
            if self._at:
                self._at -= 1
            elif len(self._rows) < _ROWS_MAX:
                self._rows.insert(0, _Row())
        self._rows[self._at].is_left = True

    def _flush(self, done: list[str]) -> None:
        done += filter(None, (row.text() for row in self._rows))
        self._rows = [_Row()]
        self._at = 0


class Budget:
    """How many lines may still be kept: ``rate`` a second in the long run, ``burst`` at once. ``clock``: seconds."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._clock = clock
        self._left = self._burst
        self._at = clock()

    def take(self) -> bool:
        """Return whether one more line may be kept."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
