"""How the process ends, so that a run without end() still ends truthfully.

Normal exit is completed, an uncaught exception failed, ``sys.exit`` with anything but 0 or None failed, Ctrl-C killed.
No signal handler is installed. The hooks call what was there before them, and are taken out again with the last run.
``raise SystemExit(3)`` by hand, and ``os._exit``, leave no trace inside a process: there the launcher's word counts.
"""

from __future__ import annotations

import atexit
import sys
from types import TracebackType
from typing import Any, NoReturn, Protocol


class OpenRun(Protocol):
    """What the hooks need of a run."""

    def note_uncaught(self, error: BaseException) -> None:
        """An exception is about to end the process."""

    def note_exit(self, code: object) -> None:
        """``sys.exit`` was called."""

    def end_at_exit(self) -> None:
        """The process ends."""


_open: list[OpenRun] = []
_originals: tuple[Any, Any] | None = None


def watch(run: OpenRun) -> None:
    """Tell ``run`` how the process ends."""
    global _originals
    _open.append(run)
    if _originals is None:
        _originals = (sys.excepthook, sys.exit)
        sys.excepthook = _excepthook
        sys.exit = _exit


def unwatch(run: OpenRun) -> None:
    """No longer do."""
    global _originals
    if run in _open:
        _open.remove(run)
    if not _open and _originals is not None:
        hook, leave = _originals
        if sys.excepthook is _excepthook and sys.exit is _exit:  # else somebody has hooked in after us
            sys.excepthook, sys.exit = hook, leave
            _originals = None


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    for run in tuple(_open):
        run.note_uncaught(error)
    if _originals:
        _originals[0](kind, error, traceback)


def _exit(code: object = None, /) -> NoReturn:
    for run in tuple(_open):
        run.note_exit(code)
    raise SystemExit(code)


@atexit.register
def _at_exit() -> None:
    for run in reversed(tuple(_open)):
        run.end_at_exit()
