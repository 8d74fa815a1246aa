"""Starts runs, and attaches to those that are there."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from xtrack_protocol.emitter import exits
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.stream import StreamEmitter, new_session_id, say
from xtrack_protocol.emitter.surroundings import find_environment, find_source
from xtrack_protocol.emitter.values import NotANumber, as_mapping, brief, to_int64, to_text
from xtrack_protocol.errors import ConfigurationError, RunNotFound, TransportError
from xtrack_protocol.ir import Resume, RunId, RunStart, StatusUpdate
from xtrack_protocol.limits import INT64_MIN, RUN_ID_MAX
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import Settings, load_settings
from xtrack_protocol.spool import SpoolDir, is_locked, lock_path, safe_name, segments, streams_of
from xtrack_protocol.transport import LocalTransport, Transport, open_transport

_bound: Final[dict[int, object]] = {}
"""By process, which call of start_run has taken XTRACK_RUN_ID. A dict, for its setdefault is atomic without a lock,
which a fork might find held."""

_loaded_ns: Final = time.time_ns()


def new_run_id() -> str:
    """Return an id that sorts by time and is unique for all that is likely: UTC second and 32 random bits."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(4).hex()}"


@attrs.frozen
class _Identity:
    run_id: str
    parent_run_id: str | None
    resume: bool | None


class Tracker:
    """The door to tracking. Every argument left out comes from the settings (environment, ``xtrack.toml``, default)."""

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
        strict: bool | None = None,
        quiet: bool | None = None,
        settings: Settings | None = None,
    ) -> Run:
        """Start a run, and return it open. spec: EVT-RUN_START-2, EVT-RUN_START-3

        ``run_id``: default XTRACK_RUN_ID for the process's first run (later ones are its children), else a new one.
        ``transport``: a name (``local``, ``file:run.bin``, ...) or a transport of your own. ``resume``: go on with the
        sessions of that run id that are over; None does so where you name a run id yourself and there are some, but
        leaves out those of other workers that were over only after this process had begun.
        ``rewind_to``: the last step that still holds; later points of those sessions are hidden (spec: FLD-8).
        ``world_size``: how many workers the run needs to be complete. ``strict``: raise instead of warning, for tests.
        Raises ConfigurationError or TransportError when the run can't be tracked as asked, which includes a disk
        without room for its first event; after this call nothing raises. spec: EMT-3
        """
        settings = settings or load_settings()
        is_strict = settings.strict if strict is None else strict
        worker = _worker_of(worker_id, settings)
        experiment = _checked_or_none("experiment_id", experiment_id or settings.experiment)
        size = _whole_or_none("world_size", settings.world_size if world_size is None else world_size, least=1)
        rewind = _whole_or_none("rewind_to", rewind_to)
        texts = _tags(tags)
        identity = _identify(run_id, _checked_or_none("parent_run_id", parent_run_id), resume, settings)
        opened = _open(transport, settings)
        resumed = _earlier_sessions(identity, worker, opened)
        out = StreamEmitter(
            opened,
            StreamId(identity.run_id, worker, new_session_id()),
            additive=_knows_additive_events(opened, settings),
            strict=is_strict,
            attachments=_attachments(opened, identity.run_id, settings),
        )
        is_told_of = not (settings.quiet if quiet is None else quiet) and worker in {"", "0"}
        if identity.resume and not resumed and isinstance(opened, LocalTransport):
            out.warn("resume", f"there is nothing of run {identity.run_id} here to resume; it starts anew")
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
            hint=f" See it: xtrack show {identity.run_id}" if isinstance(opened, LocalTransport) else "",
        )
        exits.watch(run)
        if is_told_of:
            again = ", resumed" if resumed else ""
            say(f"tracking run {identity.run_id}{f' ({to_text(name)})' if name else ''} to {opened.address}{again}")
        if params is not None:
            run.log_params(params)
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
        worker = _worker_of(worker_id, settings)
        opened = _open(transport, settings)
        if isinstance(opened, LocalTransport) and not streams_of(SpoolDir(opened.address).run_dir(run_id)):
            raise RunNotFound(run_id)
        out = StreamEmitter(
            opened,
            StreamId(run_id, worker, new_session_id()),
            additive=_knows_additive_events(opened, settings),
            strict=settings.strict if strict is None else strict,
            attachments=_attachments(opened, run_id, settings),
        )
        run = Run(out, owner=False, quiet=True, resume_checkpoint=None, resumed=False, hint="")
        exits.watch(run)
        return run


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


def _identify(run_id: str | None, parent_run_id: str | None, resume: bool | None, settings: Settings) -> _Identity:
    """Decide which run this is, and whether it goes on with an earlier one. spec: EMT-1.2"""
    given = None if run_id is None else checked_id("run_id", run_id)
    variable = "XTRACK_RESUME_RUN_ID" if settings.resume_run_id else "XTRACK_RUN_ID"
    bound = settings.resume_run_id or settings.run_id
    if not bound or given not in {None, bound}:
        return _Identity(given or new_run_id(), parent_run_id, resume)
    call = object()
    if _bound.setdefault(os.getpid(), call) is call or given:
        if settings.resume_run_id:
            resume = resume is not False
        elif resume is None:
            resume = False  # several processes of one launch share the id; one of them starting isn't a resume
        return _Identity(checked_id(variable, bound), parent_run_id, resume)
    return _Identity(new_run_id(), parent_run_id or bound, resume)


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


def _worker_of(worker_id: str | None, settings: Settings) -> str:
    return checked_id("worker_id", settings.worker_id or "" if worker_id is None else worker_id, may_be_empty=True)


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


def _tags(tags: Any) -> dict[str, str]:
    names = as_mapping({} if tags is None else tags)
    if names is None:
        raise ConfigurationError("tags", brief(tags), "must be names with texts")
    return {to_text(key): to_text(value) for key, value in names.items()}


def _open(transport: str | Transport | None, settings: Settings) -> Transport:
    if isinstance(transport, Transport):
        return transport
    return open_transport(transport or settings.transport, settings)


def _knows_additive_events(transport: Transport, settings: Settings) -> bool:
    """Whether events beyond the published ones may be sent: files keep all; a peer must be known to take them."""
    return settings.additive or transport.name not in {"stdio", "unix"}


def _attachments(transport: Transport, run_id: str, settings: Settings) -> Path | None:
    """Return the folder for the full text of what has to be cut; None where there is no place for it."""
    try:
        spool = SpoolDir(transport.address if isinstance(transport, LocalTransport) else settings.dir)
    except ConfigurationError:  # no home directory, and nothing that would need one so far
        return None
    return spool.run_dir(run_id) / "attachments"


def _earlier_sessions(identity: _Identity, worker: str, transport: Transport) -> list[str]:
    """Return the sessions of this run that are over, for the new one to supersede. spec: FLD-4"""
    if identity.resume is False or not isinstance(transport, LocalTransport):
        return []
    run_dir = SpoolDir(transport.address).run_dir(identity.run_id)
    return sorted(
        {
            stream.session_id
            for stream in streams_of(run_dir)
            if _is_over(run_dir, stream, is_asked_for=bool(identity.resume))
            and (identity.resume or stream.worker_id == worker or _is_older_than_us(run_dir, stream))
        }
    )


def _is_over(run_dir: Path, stream: StreamId, *, is_asked_for: bool) -> bool:
    """Whether a session's emitter is gone; where the file system can't tell, only who asks to resume takes it so."""
    is_held = is_locked(lock_path(run_dir, stream.session_id))
    return is_asked_for if is_held is None else not is_held


def _is_older_than_us(run_dir: Path, stream: StreamId) -> bool:
    """Whether a session of another worker was over before this process began: else it is one of our own launch that
    was quicker, perhaps to fail, and its word counts.
    """
    prefix = f"{safe_name(stream.session_id)}."
    written_ns = [path.stat().st_mtime_ns for path in segments(run_dir) if path.name.startswith(prefix)]
    return max(written_ns, default=0) < _loaded_ns


def _run_id_in_full(identity: _Identity, experiment: str | None) -> str | RunId:
    """Return the plain id where there is nothing more to say of it."""
    if experiment is None and identity.parent_run_id is None:
        return identity.run_id
    return RunId(identity.run_id, experiment, identity.parent_run_id)
