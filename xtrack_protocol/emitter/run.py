"""A run as the training script has it in hand."""

from __future__ import annotations

import hashlib
import os
import time
import traceback as tracebacks
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeAlias

from typing_extensions import Self

from xtrack_protocol.emitter import exits
from xtrack_protocol.emitter.commands import CommandCallback, CommandQueue
from xtrack_protocol.emitter.stream import RunStats, StreamEmitter, say
from xtrack_protocol.emitter.values import Converter, NotANumber, flatten_params, to_int64, to_number, to_text
from xtrack_protocol.errors import RunEnded
from xtrack_protocol.ir import (
    ActivityStatus,
    Alert,
    Artifact,
    Checkpoint,
    Command,
    EndStatus,
    ErrorInfo,
    LogEntry,
    LogLevel,
    Metric,
    MetricBatch,
    MetricContext,
    Param,
    Payload,
    Progress,
    RunEnd,
    StatusUpdate,
    Summary,
    Tags,
    UploadStrategy,
)
from xtrack_protocol.transport import Promise

ProgressLike: TypeAlias = Progress | tuple[int, int] | tuple[int, int, str]
"""How far: (current, total) or (current, total, unit)."""

_HASH_MAX: Final = 256 * 1024 * 1024
"""Bytes of a file up to which its checksum is made unasked: about a quarter of a second."""


class Run:
    """A run that is being tracked. Made by ``Tracker.start_run``, or by ``Tracker.attach`` for one that is there.

    May be used from any thread, and in forked children, which get streams of their own. When a ``log_*`` call
    returns, the event has been accepted as the transport promises: by default it survives kill -9. After start_run
    nothing raises into the training: a wrong value is one warning on stderr and a count in ``stats()``
    (``strict=True`` raises, for tests). As a context manager it ends with the block: completed, or failed with the
    exception, which goes on.
    """

    def __init__(
        self, out: StreamEmitter, *, owner: bool, quiet: bool, resume_checkpoint: str | None, resumed: bool, hint: str
    ) -> None:
        self._out = out
        self._emit = out.emit
        self._run_id = out.stream.run_id
        self._owner = owner
        self._quiet = quiet
        self._hint = hint
        self._pid = os.getpid()
        self._started = time.monotonic()
        self._ended = False
        self._commands = CommandQueue(out)
        self._uncaught: BaseException | None = None
        self._exit: tuple[object, int] | None = None
        self._contexts: dict[tuple[str | None, Any, Any, str | None], MetricContext] = {}
        self.resume_checkpoint = resume_checkpoint
        """The checkpoint to go on from, where XTRACK_RESUME_CHECKPOINT names one."""
        self.resumed = resumed
        """Whether this session goes on with an earlier one of the same run."""

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

    # ------------------------------------------------------------------------------------------ numbers

    def log_metric(
        self,
        key: str,
        value: Any,
        step: int | None = None,
        *,
        epoch: int | None = None,
        phase: str | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
        agg: str | None = None,
        timestamp_us: int | None = None,
    ) -> None:
        """Log one value of a series: any number, NaN and infinities included, or a scalar of numpy, torch or JAX.

        ``phase``: train, val, test, or other text. ``timestamp_us``: microseconds since the Unix epoch; default now.
        spec: EVT-METRIC-1
        """
        if self._ended:
            self._complain_ended("log_metric")
            return
        if type(value) is not float or type(key) is not str or (step is not None and type(step) is not int):
            try:
                value = to_number(value)
            except NotANumber as error:
                self._out.refuse("value", f"log_metric({key!r}): {error}. The value was not logged", error)
                return
            key = to_text(key)
            step = self._whole(step, "step")
        if phase is None and batch_size is None and epoch is None and dataset_size is None and agg is None:
            self._out.emit_metric(Metric(self._run_id, key, value, step), timestamp_us)
            return
        context = self._context(phase, batch_size, dataset_size, agg)
        epoch = self._whole(epoch, "epoch")
        self._out.emit_metric(Metric(self._run_id, key, value, step, epoch, context), timestamp_us)

    def log_metrics(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        *,
        epoch: int | None = None,
        phase: str | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
        agg: str | None = None,
        timestamp_us: int | None = None,
    ) -> None:
        """Log several series' values at one step, as one event. A value that is no number is left out, and warned of.

        spec: EVT-METRIC_BATCH-1
        """
        if self._ended:
            self._complain_ended("log_metrics")
            return
        if not isinstance(metrics, Mapping):
            text = f"log_metrics takes names with values, not {metrics!r}. For one: log_metric(key, value)"
            self._out.refuse("value", text, TypeError(text))
            return
        numbers = self._numbers("log_metrics", metrics)
        if numbers:
            context = self._context(phase, batch_size, dataset_size, agg)
            step, epoch = self._whole(step, "step"), self._whole(epoch, "epoch")
            self._emit(MetricBatch(self._run_id, numbers, step, epoch, context), timestamp_us)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set final or best values, shown with the run. Of each name the last one counts. spec: EVT-SUMMARY-1"""
        numbers = self._numbers("summary", values)
        if numbers and self._is_open("summary"):
            self._emit(Summary(self._run_id, numbers))

    def _numbers(self, call: str, values: Mapping[str, Any]) -> dict[str, int | float]:
        numbers: dict[str, int | float] = {}
        for key, value in values.items():
            if type(value) is float and type(key) is str:
                numbers[key] = value
                continue
            try:
                numbers[to_text(key)] = to_number(value)
            except NotANumber as error:
                self._out.refuse("value", f"{call}: {key!r}: {error}. It was left out", error)
        return numbers

    def _whole(self, value: Any, name: str) -> int | None:
        if value is None or type(value) is int:
            return value
        try:
            return to_int64(value)
        except NotANumber as error:
            self._out.refuse("value", f"{name}={value!r} is no whole number. The event goes without it", error)
            return None

    def _context(self, phase: str | None, batch_size: Any, dataset_size: Any, agg: str | None) -> MetricContext | None:
        if phase is None and batch_size is None and dataset_size is None and agg is None:
            return None
        key = (phase, batch_size, dataset_size, agg)
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) > 256:  # a batch size that changes at each step
                self._contexts.clear()
            context = self._contexts[key] = MetricContext(
                None if phase is None else to_text(phase),
                self._whole(batch_size, "batch_size"),
                self._whole(dataset_size, "dataset_size"),
                None if agg is None else to_text(agg),
            )
        return context

    # ------------------------------------------------------------------------------------------ params and tags

    def log_param(self, key: str, value: Any) -> None:
        """Log a hyperparameter; a mapping is logged leaf by leaf under dotted names. The last value counts.

        What JSON has no form for becomes its repr, with one warning. spec: EVT-PARAM-1
        """
        self.log_params({key: value})

    def log_params(self, params: Any) -> None:
        """Log hyperparameters: a mapping, nested or not, a dataclass, or argparse's namespace. spec: EVT-PARAM-1"""
        if not self._is_open("log_params"):
            return
        try:
            leaves = flatten_params(params)
        except TypeError as error:
            self._out.refuse("value", str(error), error)
            return
        for key, below, value in leaves:
            name = ".".join((key, *below))
            self._emit(Param(self._run_id, key, self._json(f"param {name!r}", value), below))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; others stay. Values become text. spec: EVT-TAGS-1"""
        if self._is_open("set_tags") and tags:
            self._emit(Tags(self._run_id, {to_text(key): to_text(value) for key, value in tags.items()}))

    def set_tag(self, key: str, value: Any) -> None:
        """Set one tag. spec: EVT-TAGS-1"""
        self.set_tags({key: value})

    def _json(self, what: str, value: Any) -> Any:
        converter = Converter()
        converted = converter.convert(value)
        if converter.replaced:
            kinds = ", ".join(sorted(set(converter.replaced)))
            self._out.warn("repr", f"{what}: JSON has no form for {kinds}; its repr was logged")
        return converted

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
        location = to_text(os.fsdecode(path))
        if "://" not in location:
            location = to_text(str(Path(location).absolute()))
            size, checksum = self._measure(Path(location), size, checksum)
        self._emit(
            Artifact(
                self._run_id,
                location,
                None if type is None else to_text(type),
                None if name is None else to_text(name),
                self._mapping("artifact metadata", metadata),
                size,
                checksum if isinstance(checksum, str) else None,
                upload,
            )
        )

    def _measure(self, path: Path, size: int | None, checksum: str | bool | None) -> tuple[int | None, str | None]:
        """Return a file's size in bytes and its checksum, as far as they can be had."""
        given = checksum if isinstance(checksum, str) else None
        try:
            if not path.is_file():
                if not path.exists():
                    self._out.warn("artifact", f"{path} is not there (yet); it was logged without size and checksum")
                return size, given
            actual = path.stat().st_size
            if checksum is True or (checksum is None and actual <= _HASH_MAX):
                given = _sha256(path)
        except OSError as error:
            self._out.warn("artifact", f"{path} can't be read ({error}); it was logged without size and checksum")
            return size, given
        return actual if size is None else size, given

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
        """Point at a saved state of training, and make all that was logged before it durable. spec: EVT-CHECKPOINT-1

        ``metrics``: numbers at that step. ``is_best``: the best so far by ``best_key``.
        """
        if not self._is_open("log_checkpoint"):
            return
        location = to_text(os.fsdecode(path))
        if "://" not in location:
            location = to_text(str(Path(location).absolute()))
        whole_step = self._whole(step, "step")
        if whole_step is None:
            self._out.refuse("value", f"log_checkpoint({location!r}) needs a step. It was not logged")
            return
        self._emit(
            Checkpoint(
                self._run_id,
                whole_step,
                location,
                self._whole(epoch, "epoch"),
                self._numbers("log_checkpoint", metrics or {}),
                bool(is_best),
                None if best_key is None else to_text(best_key),
                self._mapping("checkpoint metadata", metadata),
            )
        )
        self._out.flush("durable", 10.0)

    def _mapping(self, what: str, mapping: Mapping[str, Any] | None) -> dict[str, Any]:
        return self._json(what, dict(mapping)) if mapping else {}

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
        entry = LogEntry(
            self._run_id,
            self._level(level),
            to_text(message),
            None if logger is None else to_text(logger),
            self._whole(step, "step"),
            self._mapping("log fields", fields),
        )
        self._emit(entry)

    def alert(
        self, title: str, text: str | None = None, *, level: LogLevel = "warning", key: str | None = None
    ) -> None:
        """Tell people something now. Alerts of one ``key`` are the same matter told again. spec: EVT-ALERT-1"""
        if self._is_open("alert"):
            shown = None if text is None else to_text(text)
            name = None if key is None else to_text(key)
            self._emit(Alert(self._run_id, to_text(title), shown, self._level(level), name))

    def _level(self, level: str) -> LogLevel:
        if level in {"debug", "info", "warning", "error"}:
            return level  # type: ignore[return-value] # just checked
        self._out.refuse("value", f"level={level!r} is none of debug, info, warning, error. Logged as info")
        return "info"

    def set_status(
        self, status: ActivityStatus, message: str | None = None, *, progress: ProgressLike | None = None
    ) -> None:
        """Say what the worker is doing now, and how far it is. It never decides the run's status. spec: EVT-STATUS-1"""
        if not self._is_open("set_status"):
            return
        if progress is not None and not isinstance(progress, Progress):
            current, total, *unit = progress
            whole = self._whole(current, "progress"), self._whole(total, "progress")
            progress = Progress(*whole, to_text(unit[0]) if unit else None)
        update = StatusUpdate(self._run_id, status, None if message is None else to_text(message), progress)
        if status not in ActivityStatus.__args__:  # type: ignore[attr-defined]
            known = ", ".join(ActivityStatus.__args__)  # type: ignore[attr-defined]
            self._out.refuse("value", f"set_status({status!r}): it is none of {known}. It was not logged")
            return
        self._emit(update)

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
        self._commands.on(callback, type)

    @property
    def should_stop(self) -> bool:
        """Whether a stop command has come in. Cheap enough for every step."""
        return self._commands.should_stop()

    # ------------------------------------------------------------------------------------------ the end

    def flush(self, until: Promise = "accepted", timeout: float = 30.0) -> bool:
        """Wait at most ``timeout`` seconds until all that was logged is kept so; return whether it is.

        ``accepted`` holds at once; ``durable`` survives a power loss; ``acked`` is committed by a collector.
        """
        return self._out.flush(until, timeout)

    def stats(self) -> RunStats:
        """Return what has been accepted, dropped and refused so far."""
        return self._out.stats()

    def end(
        self,
        status: EndStatus = "completed",
        *,
        error: BaseException | ErrorInfo | None = None,
        final_metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """End the run, or leave it where it was only attached to. A second call does nothing. spec: EVT-RUN_END-1"""
        if self._ended:
            return
        if self._out.is_child:
            return  # a forked child's block ends; the run goes on in its parent
        if status not in {"completed", "failed", "killed"}:
            self._out.refuse("value", f"end({status!r}) is none of completed, failed, killed. Ended as failed")
            status = "failed"
        exits.unwatch(self)
        self._commands.close()
        numbers = self._numbers("end", final_metrics or {})
        if self._owner:
            duration_ms = int((time.monotonic() - self._started) * 1000)
            if status == "failed" and error is None:
                error = ErrorInfo("", "ended as failed, without an error")
            self._emit(RunEnd(self._run_id, status, _error_info(error), numbers, duration_ms))
        self._ended = True
        self._out.flush("durable", 30.0)
        self._out.close()
        self._say_end(status)

    def _say_end(self, status: str) -> None:
        stats = self._out.stats()
        if stats.dropped:
            say(f"{stats.dropped} of {stats.dropped + stats.accepted} events of {self._run_id} were lost; see above")
        if not self._quiet and self._owner:
            seconds = time.monotonic() - self._started
            say(f"run {self._run_id} {status} after {seconds:.1f} s, {stats.accepted} events.{self._hint}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        elif isinstance(error, SystemExit):
            self._end_with_code(error.code)
        else:
            self.end(_status_of(error), error=error)

    def note_uncaught(self, error: BaseException) -> None:
        """Called by the hooks: an exception is about to end the process."""
        self._uncaught = error

    def note_exit(self, code: object) -> None:
        """Called by the hooks: ``sys.exit`` was called. It counts only if nothing is logged after it."""
        self._exit = (code, self._out.seq)

    def end_at_exit(self) -> None:
        """Called by the hooks: the process ends without end() having been called."""
        if os.getpid() != self._pid:
            return
        if self._uncaught is not None:
            self.end(_status_of(self._uncaught), error=self._uncaught)
        elif self._exit is not None and self._exit[1] == self._out.seq:
            self._end_with_code(self._exit[0])
        else:
            self.end()

    def _end_with_code(self, code: object) -> None:
        if code is None or code == 0:
            self.end()
        else:
            self.end("failed", error=ErrorInfo("SystemExit", to_text(str(code))))

    def _is_open(self, call: str) -> bool:
        if self._ended:
            self._complain_ended(call)
        return not self._ended

    def _complain_ended(self, call: str) -> None:
        error = RunEnded(self._run_id, call)
        self._out.refuse("ended", str(error), error)


def _sha256(path: Path) -> str:
    """Return a file's checksum. spec: VAL-8"""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _status_of(error: BaseException) -> EndStatus:
    return "killed" if isinstance(error, KeyboardInterrupt) else "failed"


def _error_info(error: BaseException | ErrorInfo | None) -> ErrorInfo | None:
    if error is None or isinstance(error, ErrorInfo):
        return error
    lines = tracebacks.format_exception(type(error), error, error.__traceback__)
    return ErrorInfo(type(error).__name__, to_text(str(error)), to_text("".join(lines)))


__all__ = ["Payload", "ProgressLike", "Run"]
