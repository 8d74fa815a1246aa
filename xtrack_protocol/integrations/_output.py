"""One output of the process, standard output or error, on its way into a run as log events."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Final, NamedTuple

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.integrations._lines import Budget, Lines
from xtrack_protocol.integrations._run import guard
from xtrack_protocol.ir.messages import LogLevel

DROPPED: Final = "xtrack.dropped_lines"
"""The field that says how many lines were left out."""

_OWN: Final = "xtrack: "
"""What the emitter's own lines on stderr begin with: they are about the log, and no part of it."""

_BURST_SECONDS: Final = 10
_DRAIN_SECONDS: Final = 2.0


class _Dropped(NamedTuple):
    lines: int


class _State:
    """What belongs to one process: a forked child's locks may be held by threads that don't exist there."""

    def __init__(self, lines_per_second: float) -> None:
        self.lines = Lines()
        self.assembling = threading.RLock()
        self.is_assembling = False
        self.waiting: deque[str] = deque()
        """Text that a signal handler wrote in the middle."""
        self.budget = Budget(lines_per_second, lines_per_second * _BURST_SECONDS)
        self.dropped = 0
        self.queue: deque[str | _Dropped] = deque()
        self.logging = threading.Lock()
        self.logged_by: int | None = None


class Output:
    """Logs what is written to it, line by line, from any thread. Nothing here raises, or waits for another thread.

    Whoever writes makes lines of it, and logs those in line unless another thread is at it already: to hold a lock
    while logging would wait for ever for one who logs and warns, by a line on stderr.
    """

    def __init__(self, run: Run, logger: str, level: LogLevel, lines_per_second: float) -> None:
        self._run = run
        self._logger = logger
        self._level: LogLevel = level
        self._rate = lines_per_second
        self._states: dict[int, _State] = {os.getpid(): _State(lines_per_second)}

    def write(self, text: str) -> None:
        """Take a piece of text. What logging itself prints in this thread is left out, or it would never end."""
        state = self._here()
        if state.logged_by == threading.get_ident():
            return
        with guard(self._run, f"capture of {self._logger}"):
            state.waiting.append(text)
            self._assemble(state, is_last=False)
            self._log(state)

    def drop_bytes(self, size: int) -> None:
        """Say that so many bytes were lost before they could be made lines of."""
        state = self._here()
        with guard(self._run, f"capture of {self._logger}"):
            state.queue.append(f"[{size} bytes of {self._logger} were not logged: they came too fast]")
            self._log(state)

    def finish(self) -> None:
        """Log what has no line's end yet, and how many lines were left out."""
        state = self._here()
        with guard(self._run, f"capture of {self._logger}"):
            self._assemble(state, is_last=True)
            self._log(state)
            if state.logged_by != threading.get_ident() and state.logging.acquire(timeout=_DRAIN_SECONDS):
                state.logging.release()  # another thread has logged the rest

    def _here(self) -> _State:
        pid = os.getpid()
        state = self._states.get(pid)
        return state if state is not None else self._states.setdefault(pid, _State(self._rate))

    def _assemble(self, state: _State, *, is_last: bool) -> None:
        with state.assembling:
            if state.is_assembling:  # a signal handler: whom it has interrupted takes its text along
                return
            state.is_assembling = True
            try:
                while state.waiting:
                    for line in state.lines.feed(state.waiting.popleft()):
                        self._admit(state, line)
                if is_last:
                    for line in state.lines.finish():
                        self._admit(state, line)
                    self._declare(state)
            finally:
                state.is_assembling = False

    def _admit(self, state: _State, line: str) -> None:
        if line.startswith(_OWN):
            return
        if not state.budget.take():
            state.dropped += 1
            return
        self._declare(state)
        state.queue.append(line)

    @staticmethod
    def _declare(state: _State) -> None:
        if state.dropped:
            state.queue.append(_Dropped(state.dropped))
            state.dropped = 0

    def _log(self, state: _State) -> None:
        # Looked at again when the lock is given back: a line may have come for which its thread left it to this one.
        while state.queue and state.logging.acquire(blocking=False):
            state.logged_by = threading.get_ident()
            try:
                while state.queue:
                    self._log_one(state.queue.popleft())
            finally:
                state.logged_by = None
                state.logging.release()

    def _log_one(self, line: str | _Dropped) -> None:
        if self._run.ended:
            return
        if isinstance(line, str):
            self._run.log(line, level=self._level, logger=self._logger)
            return
        text = f"{line.lines} lines were not logged: more than {self._rate:g} a second"
        self._run.log(text, level="warning", logger=self._logger, **{DROPPED: line.lines})
