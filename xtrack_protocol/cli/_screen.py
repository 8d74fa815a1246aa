"""The whole terminal as one page that is drawn again and again, and the keys that are pressed meanwhile."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

from typing_extensions import Self

from xtrack_protocol.cli._output import shows_colours
from xtrack_protocol.views.cells import Row, coloured, plain

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_BEGIN: Final = "\x1b[?2026h\x1b[H"
"""What follows is to be shown at once; terminals that don't know that pass over it."""
_END: Final = "\x1b[?2026l"
_SLICE: Final = 0.25
"""Seconds after which a waiting screen looks whether its size has changed."""

KEYS: Final = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up",
    b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down",
    b"\x1b[5~": "page up", b"b": "page up",
    b"\x1b[6~": "page down", b" ": "page down",
    b"\x1b[H": "home", b"\x1b[1~": "home", b"g": "home",
    b"\x1b[F": "end", b"\x1b[4~": "end", b"G": "end",
    b"q": "quit", b"Q": "quit", b"\x04": "quit",
}  # fmt: skip


def can_take_the_screen() -> bool:
    """Whether standard output is a terminal that knows what a page is."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """The terminal behind standard output, for a block. What stood there before comes back at its end, also when a
    signal ends the program, and while it is stopped by Ctrl-Z.
    """

    def __init__(self) -> None:
        self._shown: list[str] | None = None
        self._size = (0, 0)
        self._keys_fd: int | None = None
        self._before: Any = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._take()
        for name, handler in (("SIGTERM", _exit), ("SIGHUP", _exit), ("SIGTSTP", self._stop)):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._give_back()

    def size(self) -> tuple[int, int]:
        """Return columns and rows."""
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:  # it is gone, which the next write will tell
            return 80, 24
        return size.columns or 80, size.lines or 24

    def show(self, rows: Sequence[Row]) -> None:
        """Show rows that fit the size; nothing is written where they are what is shown already."""
        show = coloured if shows_colours() else plain
        size = self.size()
        lines = [show(row) for row in rows[: size[1]]]
        if lines == self._shown and size == self._size:
            return
        self._shown, self._size = lines, size
        # Each line is erased before it is written: behind one that fills the row, erasing would take its last letter.
        _write(_BEGIN + "\r\n".join(f"\x1b[2K{line}" for line in lines) + "\x1b[J" * (len(lines) < size[1]) + _END)

    def wait(self, seconds: float) -> list[str]:
        """Wait for keys, or so long, or until the size changes; return what was pressed, in the words of KEYS."""
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, min(end - time.monotonic(), _SLICE))
            if self._keys_fd is None:
                time.sleep(left)
            else:
                import select

                if select.select([self._keys_fd], [], [], left)[0]:
                    data = os.read(self._keys_fd, 1024)
                    return _pressed(data) if data else ["quit"]  # the terminal is gone
            if time.monotonic() >= end or self.size() != self._size:
                return []

    def _take(self) -> None:
        try:
            import termios
            import tty
        except ImportError:  # Windows: without keys, Ctrl-C ends it
            pass
        else:
            if sys.stdin is not None and sys.stdin.isatty():
                self._keys_fd = sys.stdin.fileno()
                self._before = termios.tcgetattr(self._keys_fd)
                tty.setcbreak(self._keys_fd)
        self._shown = None
        _write(_ENTER)

    def _give_back(self) -> None:
        if self._keys_fd is not None:
            import termios

            termios.tcsetattr(self._keys_fd, termios.TCSADRAIN, self._before)
            self._keys_fd = None
        _write(_LEAVE)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # returns when we are continued
        signal.signal(number, self._stop)
        self._take()


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


_OTHER_KEY: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)", re.DOTALL)
"""A key that sends several bytes, of which the last may be a letter: F2 is no Q."""


def _pressed(data: bytes) -> list[str]:
    """Return the names of the keys in ``data``; others are passed over."""
    names = []
    while data:
        found = next((key for key in KEYS if data.startswith(key)), None)
        if found is not None:
            names.append(KEYS[found])
        else:
            other = _OTHER_KEY.match(data)
            found = other[0] if other else data[:1]
        data = data[len(found) :]
    return names


def _write(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding or "utf-8", "replace"))
    sys.stdout.flush()


def scrolled(offset: int, key: str, page: int, most: int) -> int:
    """Return where a list that stood at ``offset`` stands after a key. ``most``: the last offset there is."""
    moves: dict[str, Callable[[], int]] = {
        "up": lambda: offset - 1,
        "down": lambda: offset + 1,
        "page up": lambda: offset - page,
        "page down": lambda: offset + page,
        "home": lambda: 0,
        "end": lambda: most,
    }
    return min(max(0, moves[key]() if key in moves else offset), max(0, most))
