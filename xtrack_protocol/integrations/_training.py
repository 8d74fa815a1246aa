"""The run of a training, for frameworks that tell their callbacks when a training begins and ends, but not why.

An exception in the training reaches no callback there. Where nobody catches it, the process's end tells how the run
ended; where the script does, the training has begun and not ended, which is known here.
"""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any, Final

from typing_extensions import Self

from xtrack_protocol.emitter import exits
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.integrations._ranks import Place, check_start, start
from xtrack_protocol.ir.control import Command
from xtrack_protocol.ir.lifecycle import ActivityStatus, EndStatus, ErrorInfo, Progress
from xtrack_protocol.transport.base import Transport
from xtrack_protocol.transport.file import FileTransport
from xtrack_protocol.transport.local import LocalTransport

_STATUS_SECONDS: Final = 1.0
"""Between two reports of progress."""

_LEFT: Final = ErrorInfo(
    "", "the training began and did not end: the script caught the exception that ended it, and went on"
)


class RunOwner:
    """What callbacks have in common: a run that is started with the training, and ended later than it.

    ``evaluate`` may come after the training, so the run stays open: until :meth:`end`, the end of a ``with`` block, or
    the end of the process. By then it is completed, or failed by the exception that ended the block or the process,
    or killed by Ctrl-C; failed, too, where a training has begun and not ended, because the script caught its exception.
    A run of the script's own is left to the script. Raises what :func:`check_start` does.
    """

    def __init__(self, name: str | None, run: Run | None, all_ranks: bool, start_options: dict[str, Any]) -> None:
        super().__init__()
        check_start(type(self).__name__, name, run, start_options)
        self._name = name
        self._given = run
        self._all_ranks = all_ranks
        self._options = start_options
        self._is_decided = False
        self._owned: _Owned | None = None
        self._run: Run | None = None
        self._runs = 0
        self._last_step = 0
        self._activity: ActivityStatus | None = None
        self._told_at = -math.inf

    @property
    def run(self) -> Run | None:
        """The run that this process logs to; None before it has been started, and where another rank logs."""
        return self._run

    def end(self, status: EndStatus | None = None) -> None:
        """End the run; a run of the script's own is left to the script. Without ``status`` see the class."""
        if self._owned is None:
            return
        if status is None:
            self._owned.end_at_exit(None, None)
        else:
            self._owned.end(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned is None:
            return
        if isinstance(error, SystemExit):
            self._owned.end_at_exit(None, error.code)
        else:
            self._owned.end_at_exit(error, None)

    # ------------------------------------------------------------------------------------------ for the callback

    def _ensure_run(self, name: str | None, place: Place | None) -> Run | None:
        """Return the run, started now if it wasn't before. Raises as ``Tracker.start_run`` does."""
        if not self._is_decided:
            self._start(name, place, self._options)
        return self._run

    def _begin_training(self, step: int, name: str | None = None, place: Place | None = None) -> Run | None:
        """Return the run for a training that begins behind ``step``. Raises as ``Tracker.start_run`` does.

        A run that is resumed forgets what came after that step. A training from the beginning, after one that has
        ended, gets a run of its own; one that was broken off goes on in its run.
        """
        if not self._is_decided:
            self._start(name, place, {"rewind_to": step, **self._options})
        elif self._owned is not None:
            self._begin_again(self._owned, step, name, place)
        if self._owned is not None:
            self._owned.is_training, self._owned.was_trained = True, True
        self._last_step = step
        self._activity = None
        return self._run

    def _begin_again(self, owned: _Owned, step: int, name: str | None, place: Place | None) -> None:
        is_over = owned.run.ended or (owned.was_trained and not owned.is_training)
        if is_over and step == 0:
            if self._can_reopen(owned.run, (LocalTransport, FileTransport), step):
                owned.end("completed")
                options = {key: value for key, value in self._options.items() if key not in {"resume", "rewind_to"}}
                if options.get("run_id") is not None:
                    options["run_id"] = f"{options['run_id']}.{self._runs + 1}"
                self._start(name, place, {**options, "rewind_to": step})
        elif (
            owned.run.ended or step < self._last_step or (owned.run.resumed and not owned.was_trained)
        ) and self._can_reopen(owned.run, (LocalTransport,), step):
            owned.end("failed", ErrorInfo("", f"the training began again from step {step}"))
            again = {"run_id": owned.run.run_id, "resume": True, "rewind_to": step}
            self._start(name, place, {**self._options, **again})

    def _can_reopen(self, run: Run, kinds: tuple[type[Transport], ...], step: int) -> bool:
        """Whether what the run goes to can be opened once more; where it can't, the run goes on, which is told."""
        out = run._out  # noqa: SLF001 - this package's
        if isinstance(out.transport, kinds) and not isinstance(self._options.get("transport"), Transport):
            return True
        where = out.transport.address
        out.warn("training", f"{where} can't be opened again: a training from step {step} goes on in run {run.run_id}")
        return False

    def _start(self, name: str | None, place: Place | None, options: dict[str, Any]) -> None:
        run = start(self._name or name, run=self._given, all_ranks=self._all_ranks, place=place, **options)
        self._is_decided = True
        self._run = run
        self._runs += 1
        self._owned = None if run is None or run is self._given else _Owned(run)
        if run is not None:
            self._on_run(run)

    def _on_run(self, run: Run) -> None:
        """Called with each run that was started, or given."""

    def _end_training(self) -> None:
        if self._owned is not None:
            self._owned.is_training = False

    def _tell(self, run: Run, activity: ActivityStatus, progress: Progress | None = None) -> None:
        """Say what is done now: at a change at once, else now and then, for what it says of the progress."""
        now = time.monotonic()
        if activity != self._activity or (progress is not None and now - self._told_at >= _STATUS_SECONDS):
            self._activity, self._told_at = activity, now
            run.set_status(activity, progress=progress)


class _Owned:
    """A run that an integration has started, and how it ends. It is told of the process's end before the run is."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.is_training = False
        self.was_trained = False
        exits.watch(self)

    @property
    def events_logged(self) -> int:
        """As the run's."""
        return self.run.events_logged

    def end(self, status: EndStatus, error: ErrorInfo | None = None) -> None:
        exits.unwatch(self)
        self.run.end(status, error=error)

    def end_at_exit(self, error: BaseException | None, code: object) -> None:
        """End as the process does, or the block; failed where a training was left before its end. spec: EMT-4"""
        if self.is_training and error is None and exits.is_good(code):
            self.end("failed", _LEFT)
        else:
            exits.unwatch(self)
            self.run.end_at_exit(error, code)


class Requests:
    """Commands that the training's thread carries out at its next step. spec: CTL-2

    A command reaches one process. Where several train, all must do the same thing at the same step, or wait for each
    other for ever: there the answer is an error. Other commands are left to the script.
    """

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers
        self._asked: set[str] = set()
        self._processes = 0

    def listen(self, run: Run) -> None:
        """Take the commands that there are answers for."""
        for kind in self._answers:
            run.on_command(self._take, kind)

    def begin(self, processes: int) -> None:
        """Take commands from here on, for a training of so many processes."""
        self._asked.clear()
        self._processes = processes

    def end(self) -> None:
        """There is nothing to stop any more."""
        self._processes = 0

    def _take(self, command: Command) -> str:
        if self._processes == 0:
            raise RuntimeError("nothing is being trained now")
        if self._processes > 1:
            raise RuntimeError(f"{self._processes} processes train here, and would have to do it at the same step")
        self._asked.add(command.type)
        return self._answers[command.type]

    def take(self, kind: str) -> bool:
        """Whether that was asked for since the last time."""
        if kind not in self._asked:
            return False
        self._asked.discard(kind)
        return True


__all__ = ["Requests", "RunOwner"]
