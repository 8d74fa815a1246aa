"""A run as the training script has it in hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, NoReturn, TypeAlias, get_args

from typing_extensions import Self

from xtrack_protocol.emitter import exits
from xtrack_protocol.emitter.checks import Guard
from xtrack_protocol.emitter.commands import CommandCallback, CommandQueue
from xtrack_protocol.emitter.ending import delivered_text, end_seconds, left_text, wait_for_collector
from xtrack_protocol.emitter.files import FileFacts, measure
from xtrack_protocol.emitter.numbers import NumberLog
from xtrack_protocol.emitter.stream import RunStats, StreamEmitter, say
from xtrack_protocol.emitter.values import brief, error_info, flatten_params, to_text
from xtrack_protocol.ir.control import Command
from xtrack_protocol.ir.files import Artifact, Checkpoint, UploadStrategy
from xtrack_protocol.ir.lifecycle import ActivityStatus, EndStatus, ErrorInfo, Progress, RunEnd, StatusUpdate, Tags
from xtrack_protocol.ir.messages import Alert, LogEntry, LogLevel
from xtrack_protocol.ir.values import Param, Summary
from xtrack_protocol.transport.base import Promise

ProgressLike: TypeAlias = Progress | tuple[int, int] | tuple[int, int, str]
"""How far: (current, total) or (current, total, unit)."""

_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)
_ACTIVITIES: Final[tuple[ActivityStatus, ...]] = get_args(ActivityStatus)
_ENDS: Final[tuple[EndStatus, ...]] = get_args(EndStatus)
_UPLOADS: Final[tuple[UploadStrategy, ...]] = get_args(UploadStrategy)
_PROMISES: Final[tuple[Promise, ...]] = get_args(Promise)


class Run(NumberLog):
    """A run that is being tracked. Made by ``Tracker.start_run``, or by ``Tracker.attach`` for one that is there.

    May be used from any thread, and in forked children, which get streams of their own. When a ``log_*`` call
    returns, the event has been accepted as the transport promises: by default it survives kill -9. After start_run
    nothing raises into the training: a wrong value is one warning on stderr and a count in ``stats()``
    (``strict=True`` raises, for tests); only a call with wrong argument names raises, as any call in Python, and
    ``log({...})``, which means log_metrics. As a context manager it ends with the block: completed, or failed with the
    exception, which goes on.
    """

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
    ) -> None:
        super().__init__(out)
        self._owner = owner
        self._quiet = quiet
        self._hint = hint
        self._end_timeout = end_timeout
        self._pid = os.getpid()
        self._started = time.monotonic()
        self._ending: Final = threading.Lock()  # taken once, by the first end(), and never given back
        self._is_kept = self._is_acked = False
        self._commands = CommandQueue(out)
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

    # ---------------------------------------------------------------------------------------- numbers, params, tags

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set final or best values, shown with the run. Of each name the last one counts. spec: EVT-SUMMARY-1"""
        if self._is_open("summary"):
            with Guard(self._out, "summary"):
                numbers = self._check.numbers("summary", values)
                if numbers:
                    self._emit(Summary(self._run_id, numbers))

    def log_param(self, key: str, value: Any) -> None:
        """Log a hyperparameter; a mapping is logged leaf by leaf under dotted names. The last value counts.

        What JSON has no form for becomes its repr, with one warning. spec: EVT-PARAM-1
        """
        if self._is_open("log_param"):
            with Guard(self._out, "log_param"):
                self._log_params({self._check.name("log_param: key", key): value})

    def log_params(self, params: Any) -> None:
        """Log hyperparameters: a mapping, nested or not, a dataclass, or argparse's namespace. spec: EVT-PARAM-2"""
        if self._is_open("log_params"):
            with Guard(self._out, "log_params"):
                self._log_params(params)

    def _log_params(self, params: Any) -> None:
        try:
            leaves = flatten_params(params)
        except TypeError as error:
            self._out.refuse("value", str(error), error)
            return
        for key, below, value in leaves:
            name = ".".join((key, *below))
            self._emit(Param(self._run_id, key, self._check.json(f"param {name!r}", value), below))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; others stay. Values become text. spec: EVT-TAGS-1"""
        if self._is_open("set_tags"):
            with Guard(self._out, "set_tags"):
                texts = self._check.tags("set_tags", tags)
                if texts:
                    self._emit(Tags(self._run_id, texts))

    def set_tag(self, key: str, value: Any) -> None:
        """Set one tag. spec: EVT-TAGS-1"""
        if self._is_open("set_tag"):
            with Guard(self._out, "set_tag"):
                self._emit(Tags(self._run_id, {self._check.name("set_tag: key", key): to_text(value)}))

    # ------------------------------------------------------------------------------------------ files

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        type: str | None = None,  # noqa: A002 - the protocol's name
        *,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        size: int | None = None,
        checksum: str | bool | None = None,
        upload: UploadStrategy | None = "reference",
    ) -> None:
        """Point at a file, folder or URL that the run made. The file itself is not sent. spec: EVT-ARTIFACT-1

        Size and SHA-256 are taken from the file as it is now. ``checksum``: True makes one whatever the file's size
        (unasked only up to 256 MiB), False makes none, a text is taken as it is.
        """
        if not self._is_open("log_artifact"):
            return
        with Guard(self._out, "log_artifact"):
            check = self._check
            location, file = check.location(path)
            if checksum is not None and not isinstance(checksum, (str, bool)):
                checksum = check.name("checksum", checksum)
            facts = FileFacts() if file is None else measure(file, checksum=_is_wanted(checksum))
            if facts.problem:
                self._out.warn("artifact", f"{location} {facts.problem}; it was logged without size and checksum")
            event = Artifact(
                self._run_id,
                location,
                check.optional_name("type", type),
                check.optional_name("name", name),
                check.mapping("artifact metadata", metadata),
                facts.size if size is None else check.whole("size", size),
                to_text(checksum) if isinstance(checksum, str) else facts.checksum,
                None if upload is None else check.choice("upload", upload, _UPLOADS, "reference"),
            )
            self._emit(event)

    def log_checkpoint(
        self,
        path: str | os.PathLike[str],
        step: int,
        *,
        epoch: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        is_best: bool = False,
        best_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Point at a saved state of training, and make all that was logged before it durable. spec: EVT-CHECKPOINT-2

        ``metrics``: numbers at that step. ``is_best``: the best so far by ``best_key``.
        """
        if not self._is_open("log_checkpoint"):
            return
        with Guard(self._out, "log_checkpoint"):
            check = self._check
            location, _ = check.location(path)
            whole_step = check.whole("step", step)
            if whole_step is None:
                self._out.refuse("value", f"log_checkpoint({location!r}) needs a step. It was not logged")
                return
            event = Checkpoint(
                self._run_id,
                whole_step,
                location,
                check.whole("epoch", epoch),
                check.numbers("log_checkpoint", {} if metrics is None else metrics),
                bool(is_best),
                check.optional_name("best_key", best_key),
                check.mapping("checkpoint metadata", metadata),
            )
            self._emit(event)
            self._out.flush("durable", 10.0)

    # ------------------------------------------------------------------------------------------ messages

    def log(
        self,
        message: str,
        *,
        level: LogLevel = "info",
        logger: str | None = None,
        step: int | None = None,
        **fields: Any,
    ) -> None:
        """Log a line of text with fields. Raises TypeError for a mapping: those are metrics. spec: EVT-LOG-1"""
        if isinstance(message, Mapping):
            raise TypeError("log() takes a message; for numbers by name there is log_metrics(mapping, step=...)")
        if not self._is_open("log"):
            return
        with Guard(self._out, "log"):
            check = self._check
            entry = LogEntry(
                self._run_id,
                check.choice("level", level, _LEVELS, "info"),
                to_text(message),
                check.optional_name("logger", logger),
                check.whole("step", step),
                check.mapping("log fields", fields),
            )
            self._emit(entry)

    def alert(
        self, title: str, text: str | None = None, *, level: LogLevel = "warning", key: str | None = None
    ) -> None:
        """Tell people something now. Alerts of one ``key`` are the same matter told again. spec: EVT-ALERT-1"""
        if not self._is_open("alert"):
            return
        with Guard(self._out, "alert"):
            shown = None if text is None else to_text(text)
            chosen = self._check.choice("level", level, _LEVELS, "warning")
            self._emit(Alert(self._run_id, to_text(title), shown, chosen, self._check.optional_name("key", key)))

    def set_status(
        self, status: ActivityStatus, message: str | None = None, *, progress: ProgressLike | None = None
    ) -> None:
        """Say what the worker is doing now, and how far it is. It never decides the run's status. spec: EVT-STATUS-1"""
        if not self._is_open("set_status"):
            return
        with Guard(self._out, "set_status"):
            chosen = self._check.choice_or_none("set_status: status", status, _ACTIVITIES, "it was not logged")
            if chosen is not None:
                shown = None if message is None else to_text(message)
                self._emit(StatusUpdate(self._run_id, chosen, shown, self._check.progress(progress)))

    # ------------------------------------------------------------------------------------------ commands

    def commands(self) -> Iterator[Command]:
        """Yield the commands that have come in, without waiting; each is answered when its turn in the loop is over.

        spec: CTL-2
        """
        return self._commands.poll()

    def on_command(self, callback: CommandCallback, type: str | None = None) -> None:  # noqa: A002
        """Call ``callback(command)`` from a thread, for each command of a type, or of every type.

        What it returns is the answer's message; what it raises makes the answer an error, and goes no further.
        """
        with Guard(self._out, "on_command"):
            if not callable(callback):
                raise TypeError(f"on_command takes something to call, not {brief(callback)}")
            self._commands.on(callback, self._check.optional_name("type", type))

    @property
    def should_stop(self) -> bool:
        """Whether a stop command has come in. Cheap enough for every step."""
        return self._commands.should_stop()

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

    def end(
        self,
        status: EndStatus = "completed",
        *,
        error: BaseException | ErrorInfo | str | None = None,
        final_metrics: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        """End the run, or leave it where it was only attached to. A second call does nothing. spec: EVT-RUN_END-1

        ``timeout``: seconds to wait at most for a collector elsewhere to ack everything; default XTRACK_END_TIMEOUT.
        What it hasn't got by then stays in the spool, and the command that ships it is printed (spec: EMT-3.3).
        In a forked child it ends that child's stream; the run goes on in its parent.
        """
        if os.getpid() != self._pid:
            self._leave_child(timeout)
            return
        if self._ended or not self._ending.acquire(blocking=False):
            return
        exits.unwatch(self)
        try:
            with Guard(self._out, "end"):
                self._commands.close()
                self._out.finish(self._run_end(status, error, final_metrics) if self._owner else None)
        finally:
            self._ended = True
            try:
                self._close(timeout)
            finally:
                self._say_end(status)

    def _run_end(self, status: Any, error: Any, final_metrics: Any) -> RunEnd:
        duration_ms = int((time.monotonic() - self._started) * 1000)
        chosen = self._check.choice("end: status", status, _ENDS, "failed")
        info = error_info(error)
        if chosen == "failed" and info is None:
            info = ErrorInfo("", "ended as failed, without an error")
        numbers = self._check.numbers("end: final_metrics", {} if final_metrics is None else final_metrics)
        return RunEnd(self._run_id, chosen, info, numbers, duration_ms)

    def _close(self, timeout: float | None) -> None:
        try:
            with Guard(self._out, "end"):
                self._is_kept = self._out.flush("durable", 30.0)
                seconds = end_seconds(self._out, timeout, self._end_timeout)
                self._is_acked = wait_for_collector(self._out, seconds, quiet=self._quiet)
        finally:
            with Guard(self._out, "end"):
                self._out.close()

    def _leave_child(self, timeout: float | None) -> None:
        """In a forked child: end its own stream, if it has one. It says nothing of the run. spec: STR-3"""
        self._ended = True
        with Guard(self._out, "end"):
            self._commands.close()
            self._out.finish(None)
        self._close(timeout)

    def _say_end(self, status: object) -> None:
        stats = self._out.stats()
        left = left_text(self._run_id, stats.delivery)
        if left:
            say(left)
        if not self._owner:
            return
        if stats.dropped:
            say(f"{stats.dropped} of {stats.dropped + stats.accepted} events of {self._run_id} were lost; see above")
        if not self._quiet:
            seconds = time.monotonic() - self._started
            got = delivered_text(stats.delivery)
            say(
                f"run {self._run_id} {to_text(status)} after {seconds:.1f} s, {stats.accepted} events{got}.{self._hint}"
            )

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


def _is_wanted(checksum: str | bool | None) -> bool | None:
    """Whether to make a checksum: not where the script gives one."""
    return False if isinstance(checksum, str) else checksum


__all__ = ["ProgressLike", "Run"]
