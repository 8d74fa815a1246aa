"""Starts runs, and attaches to those that are there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from xtrack_protocol._value import Value
from xtrack_protocol.emitter import exits
from xtrack_protocol.emitter.checks import Guard
from xtrack_protocol.emitter.ranks import Rank, began_ns, find_rank
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.stream import StreamEmitter, new_session_id, say
from xtrack_protocol.emitter.surroundings import find_environment, find_source
from xtrack_protocol.emitter.values import NotANumber, as_mapping, shown_in_error, to_int64, to_text
from xtrack_protocol.errors import ConfigurationError, RunNotFound, TransportError
from xtrack_protocol.ir.identity import RunId
from xtrack_protocol.ir.lifecycle import Resume, RunStart, StatusUpdate
from xtrack_protocol.limits import INT64_MIN, RUN_ID_MAX
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.settings import Settings, load_settings
from xtrack_protocol.spool.layout import SpoolDir, lock_path, safe_name, segments
from xtrack_protocol.spool.locks import is_locked
from xtrack_protocol.spool.segment import streams_of
from xtrack_protocol.transport.base import Transport
from xtrack_protocol.transport.local import LocalTransport
from xtrack_protocol.transport.open import open_transport

if TYPE_CHECKING:
    from xtrack_protocol.emitter.building import ExperimentBuilder, RunBuilder

_bound: Final[dict[int, _Binding]] = {}
"""By process, which call of start_run has taken XTRACK_RUN_ID or the launcher's job, and the run it came to. A dict,
for its setdefault is atomic without a lock, which a fork might find held."""

_warned_of: Final[dict[str, object]] = {}
"""What this process has been warned of; a dict as above."""

stream_class: type[StreamEmitter] = StreamEmitter
"""What new runs emit by. Listeners put one in its place that they hear of."""


def new_run_id() -> str:
    """Return an id that sorts by time and is unique for all that is likely: UTC second and 32 random bits."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(4).hex()}"


class _Binding(msgspec.Struct, eq=False):
    run_id: str | None


def run_of_launch() -> str | None:
    """Return the run that this process has started as XTRACK_RUN_ID's or its launch's; None where it hasn't."""
    binding = _bound.get(os.getpid())
    return None if binding is None else binding.run_id


def next_run_id(worker: str, transport: Transport, settings: Settings) -> str | None:
    """Return the run that the next start_run without a run id comes to, as far as variables or a launcher name it."""
    if run_of_launch() is not None:
        return None
    bound = settings.resume_run_id or settings.run_id
    rank = find_rank()
    if bound or rank is None or rank.job is None:
        return bound
    from xtrack_protocol.emitter.launch import launch_run_id

    return launch_run_id(rank.job, worker, _spool_of(transport), is_again=rank.is_again)


class _Identity(Value, frozen=True):
    """``rank``: the place in the launch whose other ranks come to the same run; None where they may not.

    ``is_launch``: the run id is the launch's own, which nobody gave. ``is_auto``: it was given to go on with, if there
    is anything of it (XTRACK_RESUME=auto).
    """

    run_id: str
    parent_run_id: str | None
    resume: bool | None
    rank: Rank | None = None
    is_launch: bool = False
    is_auto: bool = False


class Tracker:
    """The door to tracking. Every argument left out comes from the settings (environment, ``xtrack.toml``, default)."""

    @staticmethod
    def build(experiment: str | None = None) -> RunBuilder:
        """Return a builder of runs of an experiment, which is made by its first run; None: as the settings say."""
        from xtrack_protocol.emitter.building import RunBuilder

        return RunBuilder().with_experiment(experiment) if experiment is not None else RunBuilder()

    @staticmethod
    def experiment(name: str) -> ExperimentBuilder:
        """Return a builder of an experiment that has tags of its own; one without needs no making."""
        from xtrack_protocol.emitter.building import ExperimentBuilder

        return ExperimentBuilder(checked_id("experiment", name))

    @staticmethod
    def start_run(
        name: str | None = None,
        *,
        run_id: str | None = None,
        experiment_id: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, Any] | None = None,
        params: Any = None,
        transport: str | Transport | None = None,
        worker_id: str | None = None,
        world_size: int | None = None,
        resume: bool | None = None,
        rewind_to: int | None = None,
        start_time_us: int | None = None,
        strict: bool | None = None,
        quiet: bool | None = None,
        settings: Settings | None = None,
    ) -> Run:
        """Start a run, and return it open. spec: EVT-RUN_START-2, EVT-RUN_START-3

        ``run_id``: default XTRACK_RUN_ID for the process's first run (later ones are its children), else a new one.
        ``transport``: a name (``local``, ``file:run.bin``, ...) or a transport of your own. ``resume``: go on with the
        sessions of that run id that are over; None does so where you name a run id yourself, or XTRACK_RESUME=auto, and
        there are some, but leaves out those of other workers that were over only after this process had begun.
        ``rewind_to``: the last step that still holds; later points of those sessions are hidden (spec: FLD-8).
        ``worker_id`` and ``world_size``: which worker this is, and how many the run needs to be complete; by default
        what a launcher tells (torchrun, mpirun, srun, JAX), whose workers then share one run (spec: EMT-7).
        ``start_time_us``: microseconds since the Unix epoch, of a run that began earlier; tags and params given here
        are of that time too.
        ``strict``: raise instead of warning, for tests.
        Raises ConfigurationError or TransportError when the run can't be tracked as asked, which includes a disk
        without room for its first event; after this call nothing raises. spec: EMT-3
        """
        settings = settings or load_settings()
        is_strict = settings.strict if strict is None else strict
        rank = find_rank(warn=_warn)
        worker = worker_of(worker_id, settings, rank)
        experiment = _checked_or_none("experiment_id", experiment_id or settings.experiment)
        size = _whole_or_none("world_size", settings.world_size if world_size is None else world_size, least=1)
        rewind = _whole_or_none("rewind_to", rewind_to)
        start_us = _whole_or_none("start_time_us", start_time_us)
        texts = _tags(tags)
        wanted = _checked_resume(resume)
        parent = _checked_or_none("parent_run_id", parent_run_id)
        opened = open_given(transport, settings)
        identity = _identify(run_id, parent, wanted, settings, rank, worker, opened)
        if size is None and worker_id is None and settings.worker_id is None:
            size = _size_of_launch(identity.rank)
        resumed = _earlier_sessions(identity, worker, opened)
        stream = StreamId(identity.run_id, worker, new_session_id())
        if is_strict and _is_written_twice(opened, stream):
            raise ConfigurationError("run_id", stream.run_id, *_written_twice(stream))
        out = stream_class(
            opened,
            stream,
            additive=_knows_additive_events(opened, settings),
            strict=is_strict,
            attachments=_attachments(opened, identity.run_id, settings),
        )
        out.dated_us = start_us
        is_told_of = not (settings.quiet if quiet is None else quiet) and worker in {"", "0"}
        if identity.resume and not resumed and isinstance(opened, LocalTransport):
            named = run_id or settings.resume_run_id or settings.run_id
            problem = _nothing_to_resume(identity, worker, named, SpoolDir(opened.root))
            if problem and not _is_written_twice(opened, stream):  # which is told below, with its cure
                out.warn("resume", problem)
        _send_start(
            out,
            RunStart(
                _run_id_in_full(identity, experiment),
                name=None if name is None else to_text(name),
                tags=texts,
                source=find_source(),
                environment=find_environment(settings.env_vars),
                resume=Resume(resumed, rewind) if resumed else None,
                world_size=size,
            ),
        )
        out.emit(StatusUpdate(identity.run_id, "running"))
        run = Run(
            out,
            owner=True,
            quiet=not is_told_of,
            resume_checkpoint=settings.resume_checkpoint,
            resumed=bool(resumed),
            hint=f" See it: xtrack show {identity.run_id}" if opened.name == LocalTransport.name else "",
            end_timeout=settings.end_timeout,
            start_time_us=start_us,
        )
        exits.watch(run)
        try:
            if settings.signals:
                _ask_for_signals(run, out, settings, is_strict=is_strict)
            if is_told_of:
                again = ", resumed" if resumed else ""
                say(f"tracking run {identity.run_id}{f' ({to_text(name)})' if name else ''} to {opened.address}{again}")
            with Guard(out, "start_run"):  # only now: of two that start at once, one at least finds the other
                if _is_written_twice(opened, stream):
                    out.warn("writers", "run {}: {}. {}".format(stream.run_id, *_written_twice(stream)))
            if params is not None:
                run.log_params(params)
        except BaseException as error:  # in strict mode, or Ctrl-C: nobody else has the run to end it
            run.end_at_exit(error, None)
            raise
        out.dated_us = None
        return run

    @staticmethod
    def attach(
        run_id: str,
        *,
        transport: str | Transport | None = None,
        worker_id: str | None = None,
        strict: bool | None = None,
        settings: Settings | None = None,
    ) -> Run:
        """Return a run that is there already, finished or not, to tag it or log more to it.

        It changes no status, and end() only leaves it. Raises RunNotFound where the local spool has no such run.
        """
        settings = settings or load_settings()
        run_id = checked_id("run_id", run_id)
        worker = worker_of(worker_id, settings, find_rank(warn=_warn))
        opened = open_given(transport, settings)
        # What a collector elsewhere has isn't known here.
        spool = _spool_of(opened) if opened.name == LocalTransport.name else None
        if spool is not None and not streams_of(spool.run_dir(run_id)):
            raise RunNotFound(run_id)
        out = stream_class(
            opened,
            StreamId(run_id, worker, new_session_id()),
            additive=_knows_additive_events(opened, settings),
            strict=settings.strict if strict is None else strict,
            attachments=_attachments(opened, run_id, settings),
        )
        run = Run(
            out,
            owner=False,
            quiet=True,
            resume_checkpoint=None,
            resumed=False,
            hint="",
            end_timeout=settings.end_timeout,
        )
        exits.watch(run)
        return run


def check_options(call: str, options: Mapping[str, Any], own: Iterable[str]) -> None:
    """Raise ConfigurationError for what is no argument of start_run, or one that ``call`` has its ``own`` way for."""
    import inspect

    known = set(inspect.signature(Tracker.start_run).parameters) - set(own)
    for option, value in options.items():
        if option not in known:
            raise ConfigurationError(f"{call}: {option}", shown_in_error(value), "no such argument, nor of start_run")


def _send_start(out: StreamEmitter, event: RunStart) -> None:
    """Send a run_start; raise TransportError where it isn't taken: a run without it would be none."""
    try:
        sent = out.emit(event)
    except BaseException:
        out.close()
        raise
    if not sent:
        out.close()
        raise TransportError(out.transport.address, "didn't take the run's first event", "See the warning above")


def _identify(
    run_id: str | None,
    parent_run_id: str | None,
    resume: bool | None,
    settings: Settings,
    rank: Rank | None,
    worker: str,
    transport: Transport,
) -> _Identity:
    """Decide which run this is, and whether it goes on with an earlier one. spec: EMT-1.2, EMT-7.2"""
    given = None if run_id is None else checked_id("run_id", run_id)
    variable = "XTRACK_RESUME_RUN_ID" if settings.resume_run_id else "XTRACK_RUN_ID"
    bound = settings.resume_run_id or settings.run_id
    if given is not None and given != bound:
        return _Identity(given, parent_run_id, resume, rank)
    if not bound and (rank is None or rank.job is None):
        if rank is not None and rank.size > 1 and rank.index == 0:
            _warn(
                f"this is worker 0 of {rank.size}, and they share nothing that names their job, so each that starts a "
                "run gets one of its own. To have one run, set XTRACK_RUN_ID to the same text for all of them"
            )
        return _Identity(new_run_id(), parent_run_id, resume)
    call = _Binding(bound or (rank.job if rank else None))
    binding = _bound.setdefault(os.getpid(), call)
    if binding is not call and not given:
        return _Identity(new_run_id(), parent_run_id or binding.run_id, resume)
    if not bound:
        assert rank is not None
        assert rank.job is not None
        from xtrack_protocol.emitter.launch import launch_run_id  # launches alone need it

        binding.run_id = launch_run_id(rank.job, worker, _spool_of(transport), is_again=rank.is_again)
        return _Identity(checked_id("run_id", binding.run_id), parent_run_id, resume, rank, is_launch=True)
    is_auto = False
    if settings.resume_run_id:
        resume = resume is not False
    elif resume is None:
        is_auto = settings.resume == "auto"
        resume = None if is_auto else False  # processes that share the id start; none of them resumes by that alone
    return _Identity(checked_id(variable, bound), parent_run_id, resume, rank, is_auto=is_auto)


def _size_of_launch(rank: Rank | None) -> int | None:
    """Return how many workers the run needs, if the launcher alone says so.

    Rank 0 leaves it to the others: where a script logs on rank 0 only, they never start, and it is complete without
    them. spec: EMT-7.3
    """
    return rank.size if rank is not None and rank.index > 0 else None


def checked_id(name: str, text: Any, *, may_be_empty: bool = False) -> str:
    """Return an id that every spool has room for. Raises ConfigurationError, naming the argument ``name``."""
    if not isinstance(text, str):
        raise ConfigurationError(name, text, "must be a text")
    if not text and not may_be_empty:
        raise ConfigurationError(name, text, "is empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(name, text, "has a lone surrogate, which has no UTF-8") from None
    if size > RUN_ID_MAX:
        raise ConfigurationError(name, f"{text[:40]}...", f"has {size} bytes of UTF-8, more than {RUN_ID_MAX}")
    return to_text(text)


def worker_of(worker_id: str | None, settings: Settings, rank: Rank | None) -> str:
    """Return a worker's id: as given, else by XTRACK_WORKER_ID, else the rank in the launch. spec: EMT-7.1"""
    if worker_id is None:
        worker_id = settings.worker_id or (str(rank.index) if rank else "")
    return checked_id("worker_id", worker_id, may_be_empty=True)


def _ask_for_signals(run: Run, out: StreamEmitter, settings: Settings, *, is_strict: bool) -> None:
    """Have the signals of XTRACK_SIGNALS come to the run. Outside of the main thread, where none can be asked for, each
    run counts that and the first one tells it: a server that starts its runs in threads has as many as requests.
    """
    if is_strict or threading.current_thread() is threading.main_thread():
        for number, action in settings.signals:
            run.on_signal(number, action)
        return
    text = (
        "XTRACK_SIGNALS is not obeyed by runs that are started outside of the main thread, where Python allows no "
        f"handlers; {run.run_id} is the first one. Start them there, or unset it; this is told once"
    )
    out.warn("signals", text, quietly=not _is_news("XTRACK_SIGNALS"))


def _warn(text: str) -> None:
    """Warn, once, of what was found before there is a stream to warn through."""
    if _is_news(text):
        say(f"warning: {text}")


def _is_news(matter: str) -> bool:
    """Whether this process is to be told of it for the first time."""
    mark = object()
    return _warned_of.setdefault(matter, mark) is mark


def _checked_or_none(name: str, text: Any) -> str | None:
    return None if text is None else checked_id(name, text)


def _whole_or_none(name: str, value: Any, *, least: int = INT64_MIN) -> int | None:
    if value is None:
        return None
    try:
        number = to_int64(value)
    except NotANumber as error:
        raise ConfigurationError(name, value, str(error)) from error
    if number < least:
        raise ConfigurationError(name, value, f"must be at least {least}")
    return number


def _checked_resume(resume: Any) -> bool | None:
    """Return what was asked for, also where a comparison of numpy's or torch's says it.

    Raises ConfigurationError for a text: "never" of other trackers is as true as any.
    """
    if isinstance(resume, str):
        raise ConfigurationError(
            "resume", resume, "must be True, False or None", "None resumes where there is something"
        )
    return None if resume is None else bool(resume)


def _nothing_to_resume(identity: _Identity, worker: str, named: str | None, spool: SpoolDir) -> str | None:
    """Return why a run that was to go on doesn't; None where it does: other workers of it have begun already."""
    if named is None and not identity.is_launch:  # the id is a new one, of which nobody can know anything
        return f"resume: no run_id says which run to go on with; {identity.run_id} starts anew"
    alive = {stream.worker_id for stream in streams_of(spool.run_dir(identity.run_id))}  # else it would go on with them
    if not alive:
        return f"there is nothing of run {identity.run_id} here to resume; it starts anew"
    if worker in alive:
        return (
            f"run {identity.run_id} hasn't ended: a session of this worker is open still, "
            "and the new one goes beside it"
        )
    return None


def _tags(tags: Any) -> dict[str, str]:
    names = as_mapping({} if tags is None else tags)
    if names is None:
        raise ConfigurationError("tags", shown_in_error(tags), "must be names with texts")
    return {to_text(key): to_text(value) for key, value in names.items()}


def open_given(transport: str | Transport | None, settings: Settings) -> Transport:
    """Return the transport of the argument ``transport``, not opened yet; without one, that of the settings.

    Raises ConfigurationError.
    """
    if isinstance(transport, Transport):
        return transport
    if not transport:
        return open_transport(settings.transport, settings)
    if not isinstance(transport, str):
        known = "must be a name, as in local, file:run.bin or tcp://HOST:PORT, or a Transport"
        raise ConfigurationError("transport", shown_in_error(transport), known)
    return open_transport(transport, settings, where="transport")


def _knows_additive_events(transport: Transport, settings: Settings) -> bool:
    """Whether events beyond the published ones may be sent: files keep all; a peer must be known to take them."""
    return settings.additive or transport.name != "stdio"


def _attachments(transport: Transport, run_id: str, settings: Settings) -> Path | None:
    """Return the folder for the full text of what has to be cut; None where there is no place for it."""
    try:
        spool = SpoolDir(transport.root if isinstance(transport, LocalTransport) else settings.dir)
    except ConfigurationError:  # no home directory, and nothing that would need one so far
        return None
    return spool.run_dir(run_id) / "attachments"


def _spool_of(transport: Transport) -> SpoolDir | None:
    """Return the spool that a transport writes to."""
    return SpoolDir(transport.root) if isinstance(transport, LocalTransport) else None


def _earlier_sessions(identity: _Identity, worker: str, transport: Transport) -> list[str]:
    """Return the sessions of this run that are over, for the new one to supersede. spec: FLD-4"""
    spool = _spool_of(transport)
    if identity.resume is False or spool is None:
        return []
    run_dir = spool.run_dir(identity.run_id)
    is_asked_for = bool(identity.resume) or identity.is_auto
    over = [stream for stream in streams_of(run_dir) if _is_over(run_dir, stream, is_asked_for=is_asked_for)]
    # In a launch, only one that begins again goes on with other workers' sessions: there may be fewer of them now.
    # Where workers are tried again one by one, as those of an indexed job, the end of another one stays.
    is_again = (
        not (identity.is_launch or identity.is_auto)
        or (identity.rank is not None and identity.rank.is_again)
        or (identity.is_launch and any(stream.worker_id == worker for stream in over))
    )
    return sorted(
        {
            stream.session_id
            for stream in over
            if identity.resume or stream.worker_id == worker or (is_again and is_older_than_us(run_dir, stream))
        }
    )


def _is_written_twice(transport: Transport, stream: StreamId) -> bool:
    """Whether another process logs to the run as the same worker, though nobody has declared that. It costs a look
    into the run's folder, and more only where another session of the run is alive.
    """
    spool = _spool_of(transport)
    if spool is None:
        return False
    run_dir = spool.run_dir(stream.run_id)
    own = lock_path(run_dir, stream.session_id)
    try:
        held = [path for path in run_dir.iterdir() if path.suffix == own.suffix and path != own and is_locked(path)]
    except FileNotFoundError:  # nobody has begun it
        return False
    if not held:
        return False
    from xtrack_protocol.emitter.writers import is_written_twice

    return is_written_twice(run_dir, stream.worker_id, held)


def _written_twice(stream: StreamId) -> tuple[str, str]:
    """Return what is wrong, and the cure."""
    as_worker = f" as worker {stream.worker_id}" if stream.worker_id else ""
    problem = f"another process is logging to it{as_worker}, too, and the points of both are mixed"
    return problem, "Give one another run id; or each a worker id (XTRACK_WORKER_ID), where they are workers of one run"


def _is_over(run_dir: Path, stream: StreamId, *, is_asked_for: bool) -> bool:
    """Whether a session's emitter is gone; where the file system can't tell, only who asks to resume takes it so."""
    is_held = is_locked(lock_path(run_dir, stream.session_id))
    return is_asked_for if is_held is None else not is_held


def is_older_than_us(run_dir: Path, stream: StreamId) -> bool:
    """Whether a session of another worker was over before this process began: else it is one of our own launch that
    was quicker, perhaps to fail, and its word counts.
    """
    prefix = f"{safe_name(stream.session_id)}."
    written_ns = [path.stat().st_mtime_ns for path in segments(run_dir) if path.name.startswith(prefix)]
    return max(written_ns, default=0) < began_ns()


def _run_id_in_full(identity: _Identity, experiment: str | None) -> str | RunId:
    """Return the plain id where there is nothing more to say of it."""
    if experiment is None and identity.parent_run_id is None:
        return identity.run_id
    return RunId(identity.run_id, experiment, identity.parent_run_id)
