"""What a run is, and how it ends: by its script, by the end of its process, or by a signal."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, NoReturn, get_args

from typing_extensions import Self

from xtrack_protocol.emitter import exits
from xtrack_protocol.emitter.checks import Guard
from xtrack_protocol.emitter.commands import CommandQueue
from xtrack_protocol.emitter.ending import delivered_text, end_seconds, end_status, left_text, wait_for_collector
from xtrack_protocol.emitter.numbers import NumberLog
from xtrack_protocol.emitter.stream import RunStats, StreamEmitter, now_us, say
from xtrack_protocol.emitter.values import error_info, to_text
from xtrack_protocol.ir.control import Command
from xtrack_protocol.ir.lifecycle import EndStatus, ErrorInfo, RunEnd
from xtrack_protocol.ir.messages import LogEntry
from xtrack_protocol.transport.base import Promise

_ENDS: Final[tuple[EndStatus, ...]] = get_args(EndStatus)
_PROMISES: Final[tuple[Promise, ...]] = get_args(Promise)

_LEAVING_SECONDS: Final = 1.0
"""Of the seconds that are left to a process by a signal, what is kept for the disk and for closing."""


class RunLife(NumberLog):
    """The part of a Run that knows what it is and how it ends."""

    def __init__(
        self,
        out: StreamEmitter,
        *,
        owner: bool,
        quiet: bool,
        resume_checkpoint: str | None,
        resumed: bool,
        hint: str,
        end_timeout: float,
        start_time_us: int | None = None,
    ) -> None:
        super().__init__(out)
        self._owner = owner
        self._quiet = quiet
        self._hint = hint
        self._end_timeout = end_timeout
        self._pid = os.getpid()
        self._started = time.monotonic()
        self._is_dated = start_time_us is not None
        self._start_us = now_us() if start_time_us is None else start_time_us
        self._end_us: int | None = None
        self._ending: Final = threading.Lock()  # taken once, by the first end(), and never given back
        self._is_kept = self._is_acked = False
        self._last: tuple[RunEnd | None, int | None] | None = None  # once an end is under way: what it sends, and when
        self._has_signals = False
        self._commands = CommandQueue(out)
        self._at_end: list[tuple[int, Callable[[], object]]] = []  # with the processes that asked
        self.resume_checkpoint = resume_checkpoint
        """The checkpoint to go on from, where XTRACK_RESUME_CHECKPOINT names one."""
        self.resumed = resumed
        """Whether this session goes on with an earlier one of the same run."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a run can't be pickled. In the other process: Tracker.attach({self._run_id!r})")

    def __repr__(self) -> str:
        return f"<Run {self._run_id!r} to {self._out.transport.address}{', ended' if self._ended else ''}>"

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run_id

    @property
    def worker_id(self) -> str | None:
        """This worker's id, where the run has several."""
        return self._out.stream.worker_id or None

    @property
    def session_id(self) -> str:
        """The id of this emitter's start. spec: STR-1"""
        return self._out.stream.session_id

    @property
    def ended(self) -> bool:
        """Whether end() was called."""
        return self._ended

    @property
    def events_logged(self) -> int:
        """How many events this session has logged: the last seq given out."""
        return self._out.seq

    # ------------------------------------------------------------------------------------------ the end

    def flush(self, until: Promise = "accepted", timeout: float = 30.0) -> bool:
        """Wait at most ``timeout`` seconds until all that was logged is kept so; return whether it is.

        ``accepted`` holds at once; ``durable`` survives a power loss; ``acked`` is committed by a collector. After the
        end it tells what held then.
        """
        with Guard(self._out, "flush"):
            chosen = self._check.choice_or_none("flush: until", until, _PROMISES, "nothing was waited for")
            if chosen is None:
                return False
            if self._ended:
                return self._is_acked if chosen == "acked" else self._is_kept
            return self._out.flush(chosen, float(timeout))
        return False

    def stats(self) -> RunStats:
        """Return what has been accepted, dropped and refused so far, and how far a collector elsewhere has got."""
        return self._out.stats()

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` when the run ends, in this process and before its last event, in order of these calls.

        For what logs from a thread, or holds back what it logs. It must not take long; what it raises is counted and
        warned of. After the end it is never called.
        """
        self._at_end.append((os.getpid(), callback))

    def _call_those_at_end(self) -> None:
        here = os.getpid()
        try:
            for pid, callback in tuple(self._at_end):
                if pid == here:  # a forked child has its parent's in its list, too
                    with Guard(self._out, "call_at_end"):
                        callback()
        except KeyboardInterrupt:  # they are waited for no longer, and the run ends all the same
            return

    def end(
        self,
        status: EndStatus = "completed",
        *,
        error: BaseException | ErrorInfo | str | None = None,
        final_metrics: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        end_time_us: int | None = None,
    ) -> None:
        """End the run, or leave it where it was only attached to. A second call does nothing. spec: EVT-RUN_END-1

        ``timeout``: seconds to wait at most for a collector elsewhere to ack everything; default XTRACK_END_TIMEOUT.
        What it hasn't got by then stays in the spool, and the command that ships it is printed (spec: EMT-3.3).
        ``end_time_us``: microseconds since the Unix epoch, of a run that was over earlier; default now.
        In a forked child it ends that child's stream; the run goes on in its parent.
        """
        if os.getpid() != self._pid:
            self._leave_child(timeout)
            return
        if self._ended or not self._ending.acquire(blocking=False):
            return
        exits.unwatch(self)
        try:
            try:
                self._call_those_at_end()
            finally:  # whatever one of them has raised, the run has an end
                with Guard(self._out, "end"):
                    self._end_us = self._end_time(end_time_us)
                    self._last = (self._run_end(status, error, final_metrics) if self._owner else None, self._end_us)
                    self._commands.close()
                    self._out.finish(*self._last)
        finally:
            self._ended = True
            try:
                self._close(timeout)
            finally:
                ended = self._last[0] if self._last else None
                self._say_end(ended.status if ended else status)
                self._leave_signals()

    def set_terminated(
        self,
        status: str = "completed",
        *,
        error: BaseException | ErrorInfo | str | None = None,
        end_time_us: int | None = None,
    ) -> None:
        """End the run as ``end`` does, by MLflow's name of a status too: FINISHED, FAILED, KILLED, in any case.

        A status that ends nothing, such as RUNNING, is refused, and so is a run that was only attached to: who started
        it alone says how it ended. spec: EVT-RUN_END-2, FLD-5.9
        """
        if not self._is_open("set_terminated"):
            return
        chosen = None
        with Guard(self._out, "set_terminated"):
            chosen = end_status(status) if self._owner else None
            if not self._owner:
                problem = "only who started a run says how it ended; this one was attached to"
                self._out.refuse("attached", f"set_terminated: {problem}")
            elif chosen is None:
                self._check.choice_or_none("set_terminated: status", status, _ENDS, "the run was not ended")
        if chosen is not None:
            self.end(chosen, error=error, end_time_us=end_time_us)

    def _end_time(self, given: Any) -> int | None:
        """Return when the run ended, where that is not now; it can't be before the run's start."""
        when = self._check.whole("end: end_time_us", given)
        if when is not None and when < self._start_us:
            self._out.refuse(
                "value", f"end: end_time_us={when} is before the run's start, {self._start_us}; now is taken"
            )
            return None
        return when

    def _seconds(self) -> float:
        """Return how long the run took: by a clock that never goes backwards, unless its times were told."""
        if self._end_us is None and not self._is_dated:
            return time.monotonic() - self._started
        return max(0, (now_us() if self._end_us is None else self._end_us) - self._start_us) / 1e6

    def _run_end(self, status: Any, error: Any, final_metrics: Any) -> RunEnd:
        duration_ms = int(self._seconds() * 1000)
        chosen = self._check.choice("end: status", status, _ENDS, "failed")
        info = error_info(error)
        if chosen == "failed" and info is None:
            info = ErrorInfo("", "ended as failed, without an error")
        numbers = self._check.numbers("end: final_metrics", {} if final_metrics is None else final_metrics)
        return RunEnd(self._run_id, chosen, info, numbers, duration_ms)

    def _close(self, timeout: float | None, *, quiet: bool = False) -> None:
        try:
            with Guard(self._out, "end"):
                self._is_kept = self._out.flush("durable", 30.0)
                seconds = end_seconds(self._out, timeout, self._end_timeout)
                self._is_acked = wait_for_collector(self._out, seconds, quiet=quiet or self._quiet)
        finally:
            with Guard(self._out, "end"):
                self._out.close()

    def _leave_child(self, timeout: float | None) -> None:
        """In a forked child: end its own stream, if it has one. It says nothing of the run. spec: STR-3"""
        try:
            self._call_those_at_end()
        finally:
            self._ended = True
            with Guard(self._out, "end"):
                self._commands.close()
                self._out.finish(None)
            self._close(timeout)

    def _say_end(self, status: object) -> None:
        stats = self._out.stats()
        left = left_text(self._run_id, stats.delivery, stats.dropped)
        if left:
            say(left)
        if not self._owner:
            return
        if stats.dropped:
            say(f"{stats.dropped} of {stats.dropped + stats.accepted} events of {self._run_id} were lost; see above")
        if self._out.untold:
            say(f"{self._out.untold} more calls of {self._run_id} were wrong like those warned of above")
        if not self._quiet:
            seconds = self._seconds()
            got = delivered_text(stats.delivery)
            say(
                f"run {self._run_id} {to_text(status)} after {seconds:.1f} s, {stats.accepted} events{got}.{self._hint}"
            )

    # ------------------------------------------------------------------------------------------ signals

    def on_signal(self, signal: int | str, action: str = "end") -> None:
        """Have a signal (``"SIGTERM"``, or its number) end the run, or come as a command. spec: EMT-3.4

        ``end``: the run is killed, with the error ``Preempted``. Its run_end goes first, then a collector elsewhere is
        waited for, 5 s at most in all; then what the signal did before is done, as a rule the end of the process.
        Any other ``action`` is the type of a command: ``checkpoint_now``, ``stop``, or a word of your own. It comes by
        ``commands()``, ``on_command`` and ``should_stop``, and a handler of before is called as well.
        Signals are for the main thread. Lasts until the run has ended.
        """
        if self._is_open("on_signal"):
            with Guard(self._out, "on_signal"):
                from xtrack_protocol.emitter import signals

                self._has_signals = True
                signals.watch(self, signal, self._check.name("on_signal: action", action))

    def _leave_signals(self) -> None:
        if self._has_signals:
            from xtrack_protocol.emitter import signals

            signals.unwatch(self)

    def hear_signal(self, name: str, action: str) -> None:
        """Called by a signal's handler: take the command that it stands for."""
        if self._ended:
            return
        with Guard(self._out, "on_signal"):
            self._commands.take(Command(f"{name}-{os.urandom(8).hex()}", action, {"signal": name}))
            self._emit(LogEntry(self._run_id, "warning", f"{name} came: {action}", "xtrack"))

    def end_at_signal(self, name: str, again: Callable[[], None]) -> bool:
        """Called by a signal's handler: send run_end, or what an end that is under way sends; return whether it is out.

        False: the handler has interrupted an event, and ``again`` is called when that is out.
        """
        self._out.hurry()
        if self._out.when_idle(again):
            return False
        exits.unwatch(self)
        is_first = self._ending.acquire(blocking=False)
        with Guard(self._out, "end"):
            if self._last is None:
                error = ErrorInfo("Preempted", f"{name} told the process to end")
                self._last = (self._run_end("killed", error, None) if self._owner else None, None)
            self._out.finish(*self._last)
        self._ended = True
        if is_first:
            with Guard(self._out, "end"):
                self._commands.close()
        return True

    def leave_at_signal(self, name: str, deadline: float) -> None:
        """Called after that: wait for the collector, until ``deadline`` by the monotonic clock, and close."""
        left = deadline - time.monotonic() - _LEAVING_SECONDS
        try:
            self._close(max(0.0, min(left, self._end_timeout)), quiet=True)
        finally:
            end = self._last[0] if self._last else None
            self._say_end(f"{end.status if end else 'left'} ({name})")
            self._leave_signals()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, SystemExit):
            self.end_at_exit(None, error.code)
        else:
            self.end_at_exit(error, None)

    def end_at_exit(self, error: BaseException | None, code: object) -> None:
        """Called by the hooks, and at the end of a block: end by ``error``, by an exit code, or well. spec: EMT-4"""
        if error is not None:
            self.end("killed" if isinstance(error, KeyboardInterrupt) else "failed", error=error)
        elif exits.is_good(code):
            self.end()
        else:
            self.end("failed", error=ErrorInfo("SystemExit", to_text(code)))

    def _is_open(self, call: str) -> bool:
        if self._ended:
            self._complain_ended(call)
        return not self._ended


__all__ = ["RunLife"]
