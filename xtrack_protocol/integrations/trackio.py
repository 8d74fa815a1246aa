"""For scripts written for trackio, and for trackers with its calls: change the import, and they track with XTrack.

    import xtrack_protocol.integrations.trackio as trackio

    with trackio.init(project="iris", name="baseline", config={"lr": 0.1}):
        trackio.log({"loss": 0.5})

It needs no trackio and no server. A project is an experiment, a group the tag ``group``, the config the params. Only
``init`` raises; afterwards a wrong value is one warning, and a count in ``run.xtrack_run.stats()``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, get_args

from typing_extensions import Self

from xtrack_protocol.emitter import Run as XTrackRun
from xtrack_protocol.emitter import current
from xtrack_protocol.emitter.ranks import find_rank
from xtrack_protocol.emitter.stream import say
from xtrack_protocol.emitter.tracker import checked_id, is_older_than_us, next_run_id, open_given, worker_of
from xtrack_protocol.emitter.values import NotANumber, as_mapping, brief, shown_in_error, to_int64, to_number, to_text
from xtrack_protocol.errors import ConfigurationError, RunNotFound, StorageError
from xtrack_protocol.integrations._run import guard
from xtrack_protocol.ir import LogLevel
from xtrack_protocol.runs import RunState
from xtrack_protocol.settings import load_settings
from xtrack_protocol.spool.layout import SpoolDir, lock_path
from xtrack_protocol.spool.locks import is_locked
from xtrack_protocol.storage import RunQuery, Storage, open_store
from xtrack_protocol.transport import LocalTransport, Transport

ResumeMode = Literal["never", "allow", "must"]
"""``never``: a new run. ``must``: the run of that name in the project. ``allow``: that one, else a new one."""

GROUP_TAG: Final = "group"

SYSTEM: Final = "system/"
"""What the names of system metrics begin with."""

_NESTED_MAX: Final = 16
"""Levels of mappings in what is logged; what lies deeper is kept as text."""

_START_OPTIONS: Final = frozenset(("parent_run_id", "quiet", "strict", "tags", "transport", "worker_id", "world_size"))
"""Arguments of Tracker.start_run."""

_WITHOUT_EFFECT: Final = {
    "space_id": "the run goes where XTRACK_TRANSPORT says",
    "server_url": "the run goes where XTRACK_TRANSPORT says",
    "dataset_id": "the run goes where XTRACK_TRANSPORT says",
    "bucket_id": "the run goes where XTRACK_TRANSPORT says",
    "private": "no Space is made",
    "settings": "set XTRACK_... variables, or write an xtrack.toml",
    "auto_log_gpu": "log_system() takes what you measure",
    "auto_log_cpu": "log_system() takes what you measure",
    "webhook_url": "alerts are events of the run, and go to no webhook",
    "webhook_min_level": "alerts are events of the run, and go to no webhook",
}
"""trackio's arguments of init that can't be obeyed, and what holds instead."""
_IGNORED: Final = frozenset({"embed", "gpu_log_interval", "cpu_log_interval"})


class AlertLevel(str, enum.Enum):
    """How much an alert matters."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


_LEVELS: Final[dict[str, LogLevel]] = {"info": "info", "warn": "warning", "error": "error"}


class Run:
    """A run as scripts for trackio have it in hand: made by :func:`init`.

    As a context manager it ends with the block: completed, or failed with the exception, which goes on.
    """

    def __init__(
        self, run: XTrackRun, *, project: str, name: str | None, group: str | None, config: Mapping[Any, Any], step: int
    ) -> None:
        self.xtrack_run = run
        """The run behind it, which can do more: checkpoints, artifacts with checksums, commands."""
        self.project = project
        self.name = run.run_id if name is None else name
        self.group = group
        self.config = _Config(config, run)
        self._next = step
        self._steps: Iterator[int] = count(step)  # threads that log at the same time get a step each without a lock

    @property
    def id(self) -> str:
        """The run's id, as ``xtrack show`` takes it."""
        return self.xtrack_run.run_id

    def __repr__(self) -> str:
        return f"<Run {self.name!r} of project {self.project!r}, {self.id}>"

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers at a step; without one, at that after the highest so far, of which the first is 0.

        NaN stays NaN. Names of nested mappings are joined by dots. Texts and lists are kept as log events; so is what
        else is no number (an image, a table), as far as a text can say it, with a warning. Of two values of one name
        and step both are kept; the later one counts where one is asked for.
        """
        with guard(self.xtrack_run, "log"):
            own_step = self._step(step)
            numbers, others = _sorted_out(metrics)
            if numbers or not others:
                self.xtrack_run.log_metrics(metrics if numbers is None else numbers, own_step)
            for key, value in others.items():
                self._log_other(key, value, own_step)

    def _step(self, step: Any) -> Any:
        if step is None:
            found = next(self._steps)
            self._next = max(self._next, found + 1)
            return found
        try:
            whole = to_int64(step)
        except NotANumber:
            return step  # log_metrics says what is wrong with it
        if whole >= self._next:
            self._next = whole + 1
            self._steps = count(self._next)
        return whole

    def _log_other(self, key: str, value: Any, step: int) -> None:
        if not isinstance(value, (str, list, tuple)):
            self.xtrack_run._out.warn(  # noqa: SLF001 - ours
                "trackio",
                f"log: {key!r} is of type {type(value).__name__}, which is no number; what its text says of it was "
                "kept as a log event. For a file there is log_artifact()",
            )
        text = to_text(value) if isinstance(value, str) else brief(value, 200)
        self.xtrack_run.log(f"{key}: {text}", logger="trackio", step=step, key=key, value=value)

    def log_system(self, metrics: Mapping[str, Any]) -> None:
        """Log what was measured of the machine, now and without a step, under names that begin with ``system/``."""
        with guard(self.xtrack_run, "log_system"):
            numbers, others = _sorted_out(metrics)
            if numbers is None:
                self.xtrack_run.log_metrics(metrics)
                return
            named = numbers | others
            self.xtrack_run.log_metrics({SYSTEM + to_text(key).removeprefix(SYSTEM): named[key] for key in named})

    def log_artifact(self, path: Any, name: str | None = None, type: str | None = None) -> None:  # noqa: A002
        """Point at a file or folder; it isn't copied. As :meth:`xtrack_protocol.Run.log_artifact`."""
        self.xtrack_run.log_artifact(path, type, name=name)

    def alert(self, title: str, text: str | None = None, level: AlertLevel | str = AlertLevel.WARN) -> None:
        """Tell people something now."""
        word: Any = level.value if isinstance(level, AlertLevel) else level
        known: Any = _LEVELS.get(word, word) if isinstance(word, str) else word  # alert says what is wrong with it
        self.xtrack_run.alert(title, text, level=known)

    def finish(self) -> None:
        """End the run as completed. A second call does nothing."""
        self.xtrack_run.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.xtrack_run.__exit__(kind, error, traceback)


class _Config(dict[str, Any]):
    """What init was given. What is set later is logged, too."""

    def __init__(self, values: Mapping[Any, Any], run: XTrackRun) -> None:
        super().__init__(values)
        self._run = run

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._run.log_param(key, value)

    def update(self, *values: Any, **named: Any) -> None:
        new = dict(*values, **named)
        super().update(new)
        self._run.log_params(new)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __ior__(self, values: Any) -> Self:  # type: ignore[override,misc] # as dict's own
        self.update(values)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


_current: Run | None = None
"""The run of the last init. One for all threads, as a run may be used from any."""

config: dict[str, Any] = {}
"""That of the run of the last init."""


def init(
    project: str,
    name: str | None = None,
    group: str | None = None,
    config: Any = None,
    resume: ResumeMode = "never",
    **options: Any,
) -> Run:
    """Start a run of a project, or go on with the one of that name; return it. One that is still open is finished.

    ``name``: default ``run-N``. ``group``: a tag. ``config``: the params, a mapping, dataclass or argparse's namespace.
    ``resume`` goes on at the step after the last one; so does a run that XTRACK_RESUME=auto goes on with. The run is
    looked for in this machine's spool (XTRACK_DIR), also where it is sent to a collector; the newest of several.
    ``options``: ``transport``, ``tags``, ``strict``, ``quiet``, ``worker_id``, ``world_size`` and ``parent_run_id`` of
    ``Tracker.start_run``; trackio's others are warned of once.
    Raises ConfigurationError for a run that must be there and isn't, and as ``Tracker.start_run``.
    """
    global _current
    start_options = _checked_options(options)
    params = as_mapping({} if config is None else config)
    if params is None:
        raise ConfigurationError("config", shown_in_error(config), "must be names with values")
    _check_resume(resume, project, name)
    name = None if name is None else to_text(name)
    settings = load_settings()
    transport = open_given(start_options.pop("transport", None), settings)
    worker = worker_of(start_options.get("worker_id"), settings, find_rank())
    found, last_step = None, None
    if name is not None and resume != "never":
        found, last_step = _find(transport, project, name, worker)
    if found is None and resume == "must":
        raise ConfigurationError(
            "resume",
            resume,
            f"there is no run {name!r} of project {project!r} {_whereabouts(transport)}",
            'With resume="allow" it would be started',
        )
    bound = None
    if found is None:  # a requeued job, perhaps, whose script knows nothing of resuming
        bound, last_step = _find_bound(next_run_id(worker, transport, settings), transport, worker)
    if name is None:
        name = (None if bound is None else bound.name) or _new_name(transport, project)
    if _current is not None:
        _current.finish()
    run = current.start_run(
        name,
        experiment_id=project,
        run_id=None if found is None else found.run_id,
        resume=True if found is not None else None,
        params=params or None,
        transport=transport,
        **start_options,
    )
    if group is not None:
        run.set_tag(GROUP_TAG, group)
    if found is None and not run.resumed:
        last_step = None
    earlier = bound if found is None and (run.resumed or settings.resume == "auto") else found
    if earlier is not None and any(stream.shipped for stream in earlier.streams):
        run._out.warn(  # noqa: SLF001 - ours
            "trackio",
            f"a part of {name or run.run_id!r} is kept by a collector alone, so that its last step may not be known "
            f"here: log() goes on at {0 if last_step is None else last_step + 1}. Give log() the steps yourself",
        )
    step = 0 if last_step is None else last_step + 1
    _current = Run(run, project=project, name=name, group=group, config=params, step=step)
    globals()["config"] = _current.config  # an argument has the same name
    return _current


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those for start_run; warn of those that do nothing. Raises TypeError for unknown ones."""
    for key, value in options.items():
        if key in _WITHOUT_EFFECT:
            if value is not None and value is not False:
                say(f"warning: trackio.init: {key} has no effect here: {_WITHOUT_EFFECT[key]}")
        elif key not in _IGNORED and key not in _START_OPTIONS:
            raise TypeError(f"init() got an unexpected keyword argument {key!r}")
    return {key: value for key, value in options.items() if key in _START_OPTIONS}


def _check_resume(resume: Any, project: Any, name: Any) -> None:
    modes = get_args(ResumeMode)
    if resume not in modes:
        raise ConfigurationError("resume", resume, f"must be one of {', '.join(modes)}")
    checked_id("project", project)
    if name is None and resume == "must":
        raise ConfigurationError("resume", resume, "which run? Give its name")


def _whereabouts(transport: Transport) -> str:
    if not isinstance(transport, LocalTransport):
        return f"that could be resumed: {transport.address} can't be searched"
    asked = ", and a collector isn't asked" if transport.is_buffer else ""
    return f"in the spool {transport.root}{asked}"


def _spool(transport: LocalTransport) -> Storage:
    return open_store(f"local:{transport.root}")


def _find(transport: Transport, project: str, name: str, worker: str) -> tuple[RunState | None, int | None]:
    """Return the newest run of that name, and the last step before this worker goes on with it. Raises StorageError
    where the spool can't be read.
    """
    if not isinstance(transport, LocalTransport):
        return None, None
    with _spool(transport) as store:
        runs = store.search_runs(RunQuery(experiment=project, name=name))  # where * and ? stand for others, too
        found = next((state for state in runs if state.name == name), None)
        return found, None if found is None else _last_step(store, found, transport, worker)


def _find_bound(run_id: str | None, transport: Transport, worker: str) -> tuple[RunState | None, int | None]:
    """Return a run that a variable or a launcher names, if it is there, and its last step as :func:`_find`."""
    if run_id is None or not isinstance(transport, LocalTransport):
        return None, None
    try:
        with _spool(transport) as store:
            bound = store.get_run(run_id)
            return bound, _last_step(store, bound, transport, worker)
    except RunNotFound:
        return None, None
    except (StorageError, OSError) as error:
        say(f"warning: trackio.init: log() goes on at 0, for the steps of {run_id} can't be read: {error}")
        return None, None


def _last_step(store: Storage, state: RunState, transport: LocalTransport, worker: str) -> int | None:
    """Return the highest step of a run, rewound ones and system metrics left out, and what this launch's other workers
    have logged, which are on their way already or were quicker.
    """
    folder = SpoolDir(transport.root).run_dir(state.run_id)
    begun = {
        stream.session_id
        for stream in (summary.stream for summary in state.streams)
        if stream.worker_id != worker
        and (is_locked(lock_path(folder, stream.session_id)) or not is_older_than_us(folder, stream))
    }
    steps: list[int] = []
    for key, metric in state.metrics.items():
        if key.startswith(SYSTEM):
            continue
        last = metric.tail[-1].step if metric.tail and not begun else None
        if last is not None:
            steps.append(last)
        elif not begun:  # points without a step come last, and there may be many
            steps += store.get_series(state.run_id, key).steps[-1:]
        else:
            points = store.get_metrics(state.run_id, key)
            steps += [point.step for point in points if point.step is not None and point.session_id not in begun]
    return max(steps, default=None)


def _new_name(transport: Transport, project: str) -> str | None:
    """Return ``run-N``, N being the first free number above that of the project's runs; None where it isn't known, or
    where rank 0 names the run.
    """
    rank = find_rank()
    if rank is not None and rank.index:
        return None
    if not isinstance(transport, LocalTransport):
        return None
    try:
        with _spool(transport) as store:
            names = [state.name for state in store.search_runs(RunQuery(experiment=project))]
    except (StorageError, OSError) as error:
        say(f"warning: trackio.init: the run has no name, for those of its project can't be read: {error}")
        return None
    taken = set(names)
    return next(name for number in count(len(names) + 1) if (name := f"run-{number}") not in taken)


def _sorted_out(metrics: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the numbers by their names, and all that is none; None for what is no mapping."""
    if type(metrics) is dict and all(type(value) is float for value in metrics.values()):
        return metrics, {}
    mapping = as_mapping(metrics)
    if mapping is None:
        return None, {}
    numbers: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, value in _leaves(mapping, "", 1):
        if value is None:
            numbers[key] = None  # log_metrics counts and tells it
            continue
        try:
            numbers[key] = to_number(value)
        except NotANumber:
            others[key] = value
    return numbers, others


def _leaves(mapping: Mapping[Any, Any], above: str, level: int) -> Iterator[tuple[str, Any]]:
    for key, value in list(mapping.items()):
        name = above + to_text(key)
        if isinstance(value, Mapping) and level < _NESTED_MAX:
            yield from _leaves(value, f"{name}.", level + 1)
        else:
            yield name, value


# ------------------------------------------------------------------------------------------ of the current run


def _running(call: str) -> Run:
    if _current is None:
        raise ConfigurationError("run", None, f"{call}: no run has been started", "Call init() first")
    return _current


def log(metrics: Mapping[str, Any], step: int | None = None) -> None:
    """Log to the current run; as :meth:`Run.log`."""
    _running("log").log(metrics, step)


def log_system(metrics: Mapping[str, Any]) -> None:
    """Log to the current run; as :meth:`Run.log_system`."""
    _running("log_system").log_system(metrics)


def log_artifact(path: Any, name: str | None = None, type: str | None = None) -> None:  # noqa: A002
    """Log to the current run; as :meth:`Run.log_artifact`."""
    _running("log_artifact").log_artifact(path, name, type)


def alert(title: str, text: str | None = None, level: AlertLevel | str = AlertLevel.WARN) -> None:
    """Alert by the current run; as :meth:`Run.alert`."""
    _running("alert").alert(title, text, level)


def finish() -> None:
    """End the current run; as :meth:`Run.finish`."""
    _running("finish").finish()


_INSTEAD: Final = {
    "show": "`xtrack ls`, `xtrack show` and `xtrack watch` look at runs",
    "sync": "`xtrack sync` sends a spool to a collector",
    "save": "log_artifact() points at a file",
    "use_artifact": "the run's artifacts are paths: open them",
    "log_gpu": "log_system() takes what you measure",
    "log_cpu": "log_system() takes what you measure",
    "Api": "xtrack_protocol.views.open_runs() reads runs",
    **dict.fromkeys(
        ("Image", "Video", "Audio", "Html", "Object3D", "Table", "Histogram", "Markdown", "Artifact", "Trace"),
        "write a file, and point at it with log_artifact()",
    ),
}


if not TYPE_CHECKING:  # which would take every name for one that there is

    def __getattr__(name: str) -> NoReturn:
        instead = f"; instead: {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{instead}", name=name)


__all__ = [
    "AlertLevel",
    "ResumeMode",
    "Run",
    "alert",
    "config",
    "finish",
    "init",
    "log",
    "log_artifact",
    "log_system",
]
