"""How the process ends, so that a run without end() still ends truthfully. spec: EMT-4

Normal exit is completed, an uncaught exception failed, ``sys.exit`` with anything but 0 or None failed, Ctrl-C killed.
No signal handler is installed. The hooks call what was there before them, and are taken out again with the last run.
``raise SystemExit(3)`` by hand, and ``os._exit``, leave no trace inside a process: there the launcher's word counts.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, NoReturn, Protocol


class OpenRun(Protocol):
    """What the hooks need of a run."""

    @property
    def events_logged(self) -> int:
        """How many events this process has logged so far."""

    def end_at_exit(self, error: BaseException | None, code: object) -> None:
        """The process ends: by an exception that nobody caught, or with an exit code other than 0 or None, or well."""


_open: list[OpenRun] = []
_turn = threading.RLock()
"""Runs start and end in many threads at once, as in a job queue."""


def _forget_turn() -> None:
    """In a forked child: whoever held it may not exist there."""
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_turn)

_hooks: _Hooks | None = None
after_runs: Final[list[Callable[[], None]]] = []
"""What is called at the end of the process when the runs that were still open have ended."""

_uncaught: BaseException | None = None
_leaving: _Leaving | None = None


def watch(run: OpenRun) -> None:
    """Tell ``run`` how the process ends."""
    global _hooks
    with _turn:
        _open.append(run)
        if _hooks is None:
            _hooks = _Hooks()


def unwatch(run: OpenRun) -> None:
    """No longer do."""
    global _hooks
    with _turn:
        if run in _open:
            _open.remove(run)
        if not _open and _hooks is not None:
            _hooks.remove()
            _hooks = None


class _Leaving:
    """What is known of the last ``sys.exit``: its code, if it surely ends the process, and what was logged by then."""

    def __init__(self, code: object) -> None:
        self.code = code
        self.is_sure = False
        self._logged = [(run, run.events_logged) for run in _open]

    def holds_for(self, run: OpenRun) -> bool:
        """Whether the process ends by it, as far as can be told: nobody caught it, and nothing was logged after it."""
        return self.is_sure or any(other is run and run.events_logged == count for other, count in self._logged)


class _Exit(SystemExit):
    """What ``sys.exit`` raises in the main thread while runs are open: it finds out whether it was caught.

    An exception that is let go of while a frame of that thread is running was caught there. When no frame is left,
    nobody has caught it. One that is part of a cycle, as asyncio makes, lives on and tells nothing.
    """

    leaving: _Leaving

    def __del__(self) -> None:
        global _leaving
        if threading.current_thread() is not threading.main_thread() or _leaving is not self.leaving:
            return
        if sys._getframe(0).f_back is None:  # noqa: SLF001 - the documented way to the caller
            _leaving.is_sure = True
        elif not _at_end:
            _leaving = None


def _exit_of(code: object) -> _Exit:
    global _leaving
    error = _Exit(code)
    error.leaving = _leaving = _Leaving(code)
    return error


class _Hooks:
    """Our ``sys.excepthook`` and ``sys.exit``, and what was there before, which they call.

    Others may have hooked in after us when the last run ends. Then ours stay where they are and only pass calls on.
    """

    def __init__(self) -> None:
        self._hook_before, self._exit_before = sys.excepthook, sys.exit
        self._active = True
        # Bound methods are made anew at each access; these two are found again by remove().
        self._hook, self._exit = self._excepthook, self._sys_exit
        sys.excepthook, sys.exit = self._hook, self._exit

    def remove(self) -> None:
        """Put back what was there before, as far as we are still in its place."""
        self._active = False
        if sys.excepthook is self._hook:
            sys.excepthook = self._hook_before
        if sys.exit is self._exit:
            sys.exit = self._exit_before

    def _excepthook(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        global _uncaught
        if self._active and not _is_interactive():
            _uncaught = error
        self._hook_before(kind, error, traceback)

    def _sys_exit(self, code: object = None, /) -> NoReturn:
        if self._active and not is_good(code) and threading.current_thread() is threading.main_thread():
            raise _exit_of(code)  # in no variable here: the traceback would keep it, and it the traceback
        self._exit_before(code)  # type: ignore[arg-type] # whatever the script gave
        raise SystemExit(code)  # where somebody's sys.exit returns


def is_good(code: object) -> bool:
    """Whether an exit code says that all went well."""
    return code is None or (isinstance(code, int) and code == 0)


def _is_interactive() -> bool:
    """Whether somebody types at a prompt, where an exception ends a line and not the process."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


_at_end = False


@atexit.register
def _end_open_runs() -> None:
    global _at_end
    _at_end = True
    for run in reversed(tuple(_open)):
        code = _leaving.code if _leaving is not None and _leaving.holds_for(run) else None
        run.end_at_exit(_uncaught, code)
    for call in tuple(after_runs):
        call()
