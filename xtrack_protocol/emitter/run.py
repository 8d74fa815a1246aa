"""A run as the training script has it in hand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, get_args

from xtrack_protocol._lazy import imported
from xtrack_protocol.emitter.checks import Guard
from xtrack_protocol.emitter.commands import CommandCallback
from xtrack_protocol.emitter.files import FileFacts, measure
from xtrack_protocol.emitter.life import RunLife
from xtrack_protocol.emitter.values import brief, flatten_params, to_text
from xtrack_protocol.ir.control import Command
from xtrack_protocol.ir.files import Artifact, Checkpoint, UploadStrategy
from xtrack_protocol.ir.lifecycle import ActivityStatus, Progress, StatusUpdate, Tags
from xtrack_protocol.ir.messages import Alert, LogEntry, LogLevel
from xtrack_protocol.ir.values import Param, Summary

ProgressLike: TypeAlias = Progress | tuple[int, int] | tuple[int, int, str]
"""How far: (current, total) or (current, total, unit)."""

_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)
_ACTIVITIES: Final[tuple[ActivityStatus, ...]] = get_args(ActivityStatus)
_UPLOADS: Final[tuple[UploadStrategy, ...]] = get_args(UploadStrategy)


class Run(RunLife):
    """A run that is being tracked. Made by ``Tracker.start_run``, or by ``Tracker.attach`` for one that is there.

    May be used from any thread, and in forked children, which get streams of their own. When a ``log_*`` call
    returns, the event has been accepted as the transport promises: by default it survives kill -9. After start_run
    nothing raises into the training: a wrong value is one warning on stderr and a count in ``stats()``
    (``strict=True`` raises, for tests); only a call with wrong argument names raises, as any call in Python, and
    ``log({...})``, which means log_metrics. As a context manager it ends with the block: completed, or failed with the
    exception, which goes on.
    """

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
                self._set_tags("set_tags", tags)

    def _set_tags(self, call: str, tags: Any) -> None:
        texts = self._check.tags(call, tags)
        if texts:
            self._emit(Tags(self._run_id, texts))

    def set_tag(self, key: str, value: Any) -> None:
        """Set one tag. spec: EVT-TAGS-1"""
        if self._is_open("set_tag"):
            with Guard(self._out, "set_tag"):
                self._emit(Tags(self._run_id, {self._check.name("set_tag: key", key): to_text(value)}))

    def log_batch(self, metrics: Any = None, params: Any = None, tags: Any = None) -> None:
        """Log metrics, params and tags together, as few events as the protocol has for them.

        ``metrics``: names with numbers, or a sequence of points: mappings, or objects with attributes, of ``key`` and
        ``value``, and perhaps ``step``, and ``timestamp_us`` or ``timestamp`` (milliseconds, as MLflow's). Points of
        one step and time go as one event; each series keeps its order. ``params`` and ``tags``: names with values,
        or a sequence of such ``key`` and ``value``. A param is an event, all tags are one.
        """
        if self._is_open("log_batch"):
            with Guard(self._out, "log_batch"):
                batches = imported("xtrack_protocol.emitter.batches")  # few scripts have any
                if params is not None:
                    self._log_params(batches.named_values(self._check, "params", params))
                if tags is not None:
                    self._set_tags("log_batch: tags", batches.named_values(self._check, "tags", tags))
                if metrics is not None:
                    for batch, when in batches.metric_batches(self._check, self._run_id, metrics):
                        self._emit(batch, when)

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


def _is_wanted(checksum: str | bool | None) -> bool | None:
    """Whether to make a checksum: not where the script gives one."""
    return False if isinstance(checksum, str) else checksum


__all__ = ["ProgressLike", "Run"]
