"""Signals that a script has asked for: they end its runs truthfully, or come as commands. spec: EMT-3.4

A handler of Python's runs in the main thread, between two of its steps: perhaps in the middle of an event, whose lock
that thread then holds. So it waits for nobody: what it interrupts goes on first (``StreamEmitter.when_idle``), and a
process that is to end does so after DRAIN_SECONDS whatever its disk or its collector do.

That thread may also be somewhere in C and not come back: in a collective operation, whose other ranks have just been
ended by the same signal. A thread hears of signals at once, and ends the runs in its stead where it doesn't get to it.

Nothing here is imported before a script asks for a signal.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Protocol

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import signal_number

END: Final = "end"
"""The action that ends the run; any other one is the type of a command."""

DRAIN_SECONDS: Final = 5.0
"""From the signal to the end of the process, at most."""

PATIENCE_SECONDS: Final = 1.0
"""How long of that the main thread may take to get to its handler."""


class Listener(Protocol):
    """What a signal needs of a run."""

    def hear_signal(self, name: str, action: str) -> None:
        """Take the command that the signal stands for."""

    def end_at_signal(self, name: str, again: Callable[[], None]) -> bool:
        """Send run_end; return False if that has to wait for ``again``."""

    def leave_at_signal(self, name: str, deadline: float) -> None:
        """Wait for the collector, and close."""


class _Watch:
    """Our handler of one signal, who listens, and what was there before."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number
        self.listeners: list[tuple[Listener, str]] = []
        self.pid = os.getpid()
        self._turn = threading.Lock()  # held by the thread that ends runs; never waited for
        self._handler = self._handle  # bound methods are made anew at each access; this one is found again
        self._before: Any = signal.getsignal(number)
        signal.signal(number, self._handler)

    @property
    def is_ignored(self) -> bool:
        """Whether the signal did nothing before."""
        return self._before is signal.SIG_IGN

    def remove(self) -> bool:
        """Put back what was there before. False where that can't be, for a later handler may build on ours, or the
        thread isn't the main one: ours then only passes on.
        """
        if not self.is_in_place():
            return False
        with suppress(ValueError):
            signal.signal(self.number, signal.SIG_DFL if self._before is None else self._before)
            return True
        return False

    def is_in_place(self) -> bool:
        """Whether it is this process's handler, and nobody has put another one in its place."""
        return self.pid == os.getpid() and signal.getsignal(self.number) == self._handler

    def _handle(self, _number: int, frame: FrameType | None) -> None:
        listeners = tuple(self.listeners)
        ends = [run for run, action in listeners if action == END]
        if self.pid != os.getpid():  # a forked child: its parent's runs are none of its business
            if ends or not listeners or callable(self._before):
                self._pass_on(frame)  # else it is a command, by which a data loader's worker must not end
            return
        for run, action in listeners:
            if action != END:
                run.hear_signal(self.number.name, action)
        if ends:
            if self._turn.acquire(blocking=False):  # else the end is under way: launchers send it twice
                self._end(ends, self._begin(DRAIN_SECONDS), frame)
        elif not listeners or callable(self._before):
            self._pass_on(frame)

    def hear(self) -> None:
        """In the listening thread: end the runs where the main thread hasn't got to it in time."""
        asked = [run for run, action in self.listeners if action == END]
        if asked:
            time.sleep(PATIENCE_SECONDS)
        # Not what was started meanwhile, where a handler of the script's goes on: the signal was none of its own.
        ends = [run for run, action in self.listeners if action == END and any(run is one for one in asked)]
        if ends and self._turn.acquire(blocking=False):
            try:
                self._end_all(ends, self._begin(DRAIN_SECONDS - PATIENCE_SECONDS), self._nothing)
            finally:
                self._turn.release()
                if not callable(self._before):
                    os._exit(128 + self.number)

    def _begin(self, seconds: float) -> float:
        """Return by when all has to be done; where the process is to end, it does so then."""
        if not callable(self._before):
            with suppress(RuntimeError):  # no thread can be had; then nothing but the disk can hold it up
                _thread.start_new_thread(_end_process, (self.number, seconds))
        return time.monotonic() + seconds

    def _end(self, runs: list[Listener], deadline: float, frame: FrameType | None) -> None:
        is_out = True
        try:
            is_out = self._end_all(runs, deadline, lambda: self._end(runs, deadline, frame))
        finally:
            if is_out:  # else it goes on when the event is out
                self._turn.release()
                self._pass_on(frame)

    def _end_all(self, runs: list[Listener], deadline: float, again: Callable[[], None]) -> bool:
        """End all runs before any of them waits for its collector; return whether it came to that."""
        if not all(run.end_at_signal(self.number.name, again) for run in reversed(runs)):
            return False
        for run in runs:
            run.leave_at_signal(self.number.name, deadline)
        return True

    @staticmethod
    def _nothing() -> None:
        """Do nothing."""

    def _pass_on(self, frame: FrameType | None) -> None:
        """Do what the signal did before."""
        if callable(self._before):
            self._before(self.number, frame)
        elif self._before is not signal.SIG_IGN:
            signal.signal(self.number, signal.SIG_DFL)
            os.kill(os.getpid(), self.number)
            # Still here: the first process of a container, which the kernel spares what has no handler.
            os._exit(128 + self.number)


def _end_process(number: int, seconds: float) -> None:
    """End the process as its signal would have, should it still be there: its disk may hang."""
    time.sleep(seconds)
    os._exit(128 + number)


class _Ear:
    """A pipe that Python writes each signal's number to, at once and in whatever thread, and a thread that reads it."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        _thread.start_new_thread(self._listen, ())

    def close(self) -> bool:
        """Take it out again; return False in a thread that may not do so."""
        with suppress(ValueError):
            now = signal.set_wakeup_fd(-1)
            if now != self._writing:
                signal.set_wakeup_fd(now)  # of somebody who came later
            os.close(self._writing)
            return True
        return False

    def forget(self) -> None:
        """In a forked child: let go of the pipe, or the parent's thread would never hear of its end."""
        with suppress(ValueError):
            signal.set_wakeup_fd(-1)
        for end in (self._reading, self._writing):
            with suppress(OSError):
                os.close(end)

    def _listen(self) -> None:
        while numbers := os.read(self._reading, 512):
            for number in set(numbers):
                watching = _watches.get(number)
                if watching is not None:
                    watching.hear()
        os.close(self._reading)


def _new_ear() -> _Ear | None:
    """Return an ear; None where Python's one descriptor for it is in use, by an event loop as a rule."""
    if sys.platform == "win32":
        return None
    before = signal.set_wakeup_fd(-1)
    if before != -1:
        signal.set_wakeup_fd(before)
        return None
    with suppress(OSError, RuntimeError):  # no descriptor or no thread: then the handler alone has to do
        return _Ear()
    return None


_watches: Final[dict[int, _Watch]] = {}
_ear: _Ear | None = None


def _deafen_child() -> None:
    """In a forked child: its signals are not its parent's, whose pipe it has."""
    global _ear
    if _ear is not None:
        _ear.forget()
        _ear = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_deafen_child)


def watch(run: Listener, given: int | str, action: str) -> None:
    """Have a signal come to ``run``. Raises ConfigurationError where that can't be."""
    global _ear
    try:
        number = signal.Signals(signal_number(given))
    except ValueError as error:
        raise ConfigurationError("signal", given, str(error), "Choose SIGTERM") from None
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "signal", number.name, "only the main thread can ask for signals", "Call on_signal() there"
        )
    watching = _watches.get(number)
    if watching is None or not watching.is_in_place():
        watching = _Watch(number)
        _watches[number] = watching
    if action == END and watching.is_ignored:
        _remove_unused(watching)
        raise ConfigurationError(
            "signal", number.name, "this process ignores it (under nohup, say), so it ends nothing", "Choose SIGTERM"
        )
    watching.listeners = [(other, what) for other, what in watching.listeners if other is not run]
    watching.listeners.append((run, action))
    if action == END and _ear is None:
        _ear = _new_ear()


def unwatch(run: Listener) -> None:
    """No signal comes to ``run`` any more."""
    for watching in tuple(_watches.values()):
        watching.listeners = [(other, action) for other, action in watching.listeners if other is not run]
        _remove_unused(watching)


def _remove_unused(watching: _Watch) -> None:
    global _ear
    if not watching.listeners and watching.remove():
        _watches.pop(watching.number, None)
    if not _watches and _ear is not None and _ear.close():
        _ear = None
