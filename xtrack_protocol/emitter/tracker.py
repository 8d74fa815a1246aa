"""Starts runs, and attaches to those that are there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from xtrack_protocol.emitter import exits
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.stream import StreamEmitter, new_session_id, say
from xtrack_protocol.emitter.surroundings import find_environment, find_source
from xtrack_protocol.emitter.values import to_text
from xtrack_protocol.errors import ConfigurationError, RunNotFound
from xtrack_protocol.ir import Resume, RunId, RunStart, StatusUpdate
from xtrack_protocol.limits import RUN_ID_MAX
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import Settings, load_settings
from xtrack_protocol.spool import SpoolDir, is_alive, streams_of
from xtrack_protocol.transport import LocalTransport, Transport, open_transport

_bound_lock = threading.Lock()
_bound_pid: int | None = None
"""The process whose first run has taken XTRACK_RUN_ID."""


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
        """Start a run, and return it open. spec: EVT-RUN_START-1

        ``run_id``: default XTRACK_RUN_ID for the process's first run (later ones are its children), else a new one.
        ``transport``: a name (``local``, ``file:run.bin``, ...) or a transport of your own. ``resume``: go on with the
        sessions of that run id that are over; None does so where you name a run id yourself and there are some.
        ``rewind_to``: the last step that still holds; later points of those sessions are hidden (spec: FLD-8).
        ``strict``: raise instead of warning, for tests. Raises ConfigurationError or TransportError when the run can't
        be tracked as asked; after this call nothing raises.
        """
        settings = settings or load_settings()
        identity = _identify(run_id, parent_run_id, resume, settings)
        worker = _checked("worker_id", worker_id if worker_id is not None else settings.worker_id or "")
        opened = _open(transport, settings)
        resumed = _earlier_sessions(identity, opened, settings)
        additive = _knows_additive_events(opened, settings)
        is_quiet = settings.quiet if quiet is None else quiet
        out = StreamEmitter(
            opened,
            StreamId(identity.run_id, worker, new_session_id()),
            additive=additive,
            strict=settings.strict if strict is None else strict,
            attachments=SpoolDir(settings.dir).run_dir(identity.run_id) / "attachments",
        )
        experiment = experiment_id or settings.experiment
        out.emit(
            RunStart(
                _run_id_in_full(identity, experiment),
                name=None if name is None else to_text(name),
                tags={to_text(key): to_text(value) for key, value in (tags or {}).items()},
                source=find_source(),
                environment=find_environment(settings.env_vars),
                resume=Resume(resumed, rewind_to) if resumed else None,
                world_size=settings.world_size if world_size is None else world_size,
            )
        )
        out.emit(StatusUpdate(identity.run_id, "running"))
        run = Run(
            out,
            owner=True,
            quiet=is_quiet or worker not in {"", "0"},
            resume_checkpoint=settings.resume_checkpoint,
            resumed=bool(resumed),
            hint=f" See it: xtrack show {identity.run_id}" if isinstance(opened, LocalTransport) else "",
        )
        exits.watch(run)
        if not is_quiet and worker in {"", "0"}:
            again = ", resumed" if resumed else ""
            say(f"tracking run {identity.run_id}{f' ({name})' if name else ''} to {opened.address}{again}")
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
        run_id = _checked("run_id", run_id)
        opened = _open(transport, settings)
        if isinstance(opened, LocalTransport) and not streams_of(SpoolDir(opened.address).run_dir(run_id)):
            raise RunNotFound(run_id)
        out = StreamEmitter(
            opened,
            StreamId(run_id, worker_id or settings.worker_id or "", new_session_id()),
            additive=_knows_additive_events(opened, settings),
            strict=settings.strict if strict is None else strict,
            attachments=SpoolDir(settings.dir).run_dir(run_id) / "attachments",
        )
        run = Run(out, owner=False, quiet=True, resume_checkpoint=None, resumed=False, hint="")
        exits.watch(run)
        return run


def _identify(run_id: str | None, parent_run_id: str | None, resume: bool | None, settings: Settings) -> _Identity:
    """Decide which run this is, and whether it goes on with an earlier one."""
    global _bound_pid
    if run_id is not None:
        return _Identity(_checked("run_id", run_id), parent_run_id, resume)
    if settings.resume_run_id:
        return _Identity(_checked("XTRACK_RESUME_RUN_ID", settings.resume_run_id), parent_run_id, resume is not False)
    if not settings.run_id:
        return _Identity(new_run_id(), parent_run_id, resume)
    bound = _checked("XTRACK_RUN_ID", settings.run_id)
    with _bound_lock:
        first = _bound_pid != os.getpid()
        _bound_pid = os.getpid()
    if first:
        # Several processes of one launch share the id; one of them starting isn't a resume of another.
        return _Identity(bound, parent_run_id, resume is True)
    return _Identity(new_run_id(), parent_run_id or bound, resume)


def _checked(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(name, text, "must be a text")
    if name != "worker_id" and not text:
        raise ConfigurationError(name, text, "is empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(name, text, "has a lone surrogate, which has no UTF-8") from None
    if size > RUN_ID_MAX:
        raise ConfigurationError(name, f"{text[:40]}...", f"has {size} bytes of UTF-8, more than {RUN_ID_MAX}")
    return text


def _open(transport: str | Transport | None, settings: Settings) -> Transport:
    if isinstance(transport, Transport):
        return transport
    return open_transport(transport or settings.transport, settings)


def _knows_additive_events(transport: Transport, settings: Settings) -> bool:
    """Whether events beyond the published ones may be sent: files keep all; a peer must be known to take them."""
    return settings.additive or transport.name not in {"stdio", "unix"}


def _earlier_sessions(identity: _Identity, transport: Transport, settings: Settings) -> list[str]:
    """Return the sessions of this run that are over, for the new one to supersede. spec: FLD-4"""
    if identity.resume is False or not isinstance(transport, LocalTransport):
        return []
    if identity.resume is None and identity.parent_run_id is None and identity.run_id == settings.run_id:
        return []
    run_dir = SpoolDir(Path(transport.address)).run_dir(identity.run_id)
    return sorted({stream.session_id for stream in streams_of(run_dir) if not is_alive(run_dir, stream)})


def _run_id_in_full(identity: _Identity, experiment: str | None) -> str | RunId:
    """Return the plain id where there is nothing more to say of it."""
    if experiment is None and identity.parent_run_id is None:
        return identity.run_id
    return RunId(identity.run_id, None if experiment is None else to_text(experiment), identity.parent_run_id)
