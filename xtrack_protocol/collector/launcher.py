"""Starts training commands as runs, and ends those runs truthfully.

By default a worker logs to this machine's spool, by itself: the launcher only watches, and what is logged outlives
both. The launcher writes a stream of its own, marked as an observer, so that a command which knows nothing of tracking
is a run all the same. For workers that speak the published protocol over a descriptor there is ``transport="stdio"``.
With a collector elsewhere (``tcp``, ``tls``, ``unix``) both write to the spool as well, and ship it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import msgspec
from typing_extensions import Self

from xtrack_protocol.collector.channel import CollectorTransport, FrameChannel, root_of_local
from xtrack_protocol.collector.collector import Collector
from xtrack_protocol.collector.launched import ChannelLink, LaunchedRun, LocalLink, WorkerLink
from xtrack_protocol.collector.localruns import LAUNCH_LOCK, is_running
from xtrack_protocol.collector.process import FRAMES_FD, Spawned, check_command, spawn
from xtrack_protocol.emitter.stream import StreamEmitter, new_session_id, now_us
from xtrack_protocol.emitter.surroundings import find_environment, redact_arguments
from xtrack_protocol.emitter.tracker import checked_id, new_run_id
from xtrack_protocol.emitter.values import to_text
from xtrack_protocol.errors import ConfigurationError, LaunchError, RunNotFound, SpoolError
from xtrack_protocol.ir import Resume, RunId, RunStart, SourceInfo
from xtrack_protocol.limits import SOCKET_LIMITS
from xtrack_protocol.runs import RunState
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import load_settings
from xtrack_protocol.spool import FileLock, SpoolDir, lock_path, make_private_dir, streams_of
from xtrack_protocol.storage import Storage
from xtrack_protocol.transport import LocalTransport, Transport
from xtrack_protocol.transport.open import REMOTE, open_observer
from xtrack_protocol.wire import FrameDecoder, SalvageDecoder

FramesFrom: TypeAlias = Literal["fd", "stdout"]

LAUNCHER_WORKER: Final = "launcher"
"""The worker id of the launcher's own stream."""

_SECRET_IN_TEXT: Final = re.compile(
    r"(?i)([\w-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|xtrack[_-]key|credential)[\w-]*(?:\s*=\s*|\s*:\s*|\s+))"
    r"(\"[^\"]*\"|'[^']*'|\S+)"
)
_CREDENTIALS_IN_TEXT: Final = re.compile(r"(\b\w[\w+.-]*://)[^/@\s]*@")


def describe_command(argv: Sequence[str]) -> str:
    """Return a command line for people, the values of what looks like a secret replaced by ***.

    That is a guess by names (``--api-key``, ``TOKEN=``), also inside a shell's command, and user and password in URLs.
    """
    shown: list[str] = []
    hide_next = False
    for raw, argument in zip(argv, redact_arguments(argv), strict=True):
        if hide_next and not raw.startswith("-"):
            shown.append("***")
            hide_next = False
            continue
        text = _CREDENTIALS_IN_TEXT.sub(r"\1", argument)
        shown.append(_SECRET_IN_TEXT.sub(r"\1***", text))
        hide_next = raw.startswith("-") and "=" not in raw and _SECRET_IN_TEXT.match(f"{raw} x") is not None
    return shlex.join(shown)


@attrs.frozen(kw_only=True)
class _Order:
    """What was asked for, checked."""

    run_id: str
    argv: list[str]
    env: dict[str, str]
    cwd: str | Path | None
    name: str | None
    experiment_id: str | None
    parent_run_id: str | None
    tags: dict[str, str]
    resume: bool
    resumed: list[str] = attrs.field(factory=list)

    def run_start(self) -> RunStart:
        """Return the first event of the launcher's own stream. spec: EVT-RUN_START-7"""
        full = self.experiment_id is not None or self.parent_run_id is not None
        return RunStart(
            RunId(self.run_id, self.experiment_id, self.parent_run_id) if full else self.run_id,
            name=self.name,
            tags=self.tags,
            source=SourceInfo(entrypoint=to_text(describe_command(self.argv))),
            environment=msgspec.structs.replace(find_environment(()), python_version=None),  # the worker's is its own
            resume=Resume(self.resumed) if self.resumed else None,
            observer=True,
        )


class _Observer(StreamEmitter):
    """The launcher's own stream. That a collector elsewhere isn't there is told by the worker, and when it ends."""

    def warn(self, kind: str, text: str, *, quietly: bool = False) -> None:
        super().warn(kind, text, quietly=quietly or kind == "collector")


class RunManager:
    """Starts runs and keeps hold of them. Thread-safe.

    ``root``: the folder that XTRACK_DIR names (default: the setting). ``store``: where ``transport="stdio"`` puts what
    it reads; by default the local store, which is also where local runs are read from.
    """

    def __init__(self, store: Storage | None = None, root: str | Path | None = None) -> None:
        chosen = root if root is not None else root_of_local(store) if store is not None else None
        settings = load_settings()
        self._spool = SpoolDir(Path(SpoolDir(chosen if chosen is not None else settings.dir).root).absolute())
        self._settings = msgspec.structs.replace(settings, dir=self._spool.root)
        self._given = store
        self._local: Storage | None = None
        self._collector: Collector | None = None
        self._lock = threading.Lock()
        self._runs: dict[str, LaunchedRun] = {}
        self._starting: set[str] = set()

    @property
    def root(self) -> Path:
        """The folder of the spool."""
        return self._spool.root

    def local_store(self) -> Storage:
        """Return the store that local runs are read from."""
        with self._lock:
            if self._local is None:
                if self._given is not None and root_of_local(self._given) is not None:
                    self._local = self._given
                else:
                    from xtrack_protocol.storage.local import LocalStore

                    self._local = LocalStore(self._spool.root)
            return self._local

    @property
    def collector(self) -> Collector:
        """The collector that takes the frames of stdio workers, and whose subscriptions see every run here."""
        store = self._given or self.local_store()
        with self._lock:
            if self._collector is None:
                self._collector = Collector(store)
            return self._collector

    # ------------------------------------------------------------------------------------------ starting

    def start_run(
        self,
        command: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        name: str | None = None,
        run_id: str | None = None,
        experiment_id: str | None = None,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        transport: str | None = None,
        resume: bool = False,
        resume_checkpoint: str | None = None,
        stdio_frames: FramesFrom = "fd",
    ) -> LaunchedRun:
        """Start ``command`` with ``args`` as a run, and return it running.

        The worker has our standard input, output and error, our environment with ``env`` on top, and XTRACK_RUN_ID,
        XTRACK_TRANSPORT, XTRACK_DIR and XTRACK_EXPERIMENT, by which a script that tracks finds its run.

        ``transport``: "local" (the worker writes to the spool; everything survives the launcher's death); "tcp", "tls"
        or "unix", with an address or without (it writes to the spool, and ships that to a collector; so does the
        launcher); or "stdio": frames come on a socket at descriptor 3, for workers of any language. Commands go back on
        the same socket; workers that read commands from standard input only aren't reached, for that is left alone.
        What the launcher hasn't read yet dies with it. ``stdio_frames="stdout"`` takes frames from the worker's
        standard output instead, for those that know no other; what else it prints there is lost. The default is the
        setting where that leads to a collector, else "local".

        A run id that has live workers or a launcher is refused; one that is over needs ``resume``, and its earlier
        sessions then vote no more (spec: FLD-8). Raises CommandNotFound, CommandNotExecutable, LaunchError,
        ConfigurationError, SpoolError or TransportError; nothing is recorded then. After the start, nothing that goes
        wrong with tracking stops the worker: see ``problems``.
        """
        transport = self._transport_of(transport)
        if stdio_frames not in {"fd", "stdout"}:
            raise ConfigurationError("stdio_frames", stdio_frames, "must be fd or stdout")
        order = _Order(
            run_id=checked_id("run_id", run_id) if run_id is not None else new_run_id(),
            argv=[command, *args],
            env=dict(os.environ),
            cwd=cwd,
            name=None if name is None else to_text(name),
            experiment_id=experiment_id or self._settings.experiment,
            parent_run_id=parent_run_id,
            tags={to_text(key): to_text(value) for key, value in (tags or {}).items()},
            resume=resume,
        )
        order.env.update(env or {})
        self._set_environment(order, transport, stdio_frames, resume_checkpoint)
        check_command(command, cwd, order.env)
        with self._reserved(order.run_id):
            if transport == "stdio":
                run = self._start_stdio(order, stdio_frames)
            else:
                run = self._start_local(order, open_observer(transport, self._settings))
            with self._lock:
                self._runs[order.run_id] = run
        return run

    def _transport_of(self, asked: str | None) -> str:
        configured = self._settings.transport
        if asked is None:
            return configured if configured.partition(":")[0] in REMOTE else "local"
        if asked not in {"local", "stdio"} and asked.partition(":")[0] not in REMOTE:
            known = ", ".join(("local", "stdio", *REMOTE))
            raise ConfigurationError("transport", asked, "a launcher has no such transport", f"Known: {known}")
        return asked

    def _set_environment(self, order: _Order, transport: str, frames: FramesFrom, checkpoint: str | None) -> None:
        env = order.env
        env["XTRACK_RUN_ID"] = order.run_id
        env["XTRACK_TRANSPORT"] = transport
        env["XTRACK_DIR"] = str(self._spool.root)
        if order.experiment_id is not None:
            env["XTRACK_EXPERIMENT"] = order.experiment_id
        if checkpoint is not None:
            env["XTRACK_RESUME_CHECKPOINT"] = checkpoint
        env.pop("XTRACK_FD", None)
        if transport == "stdio":
            env["XTRACK_FD"] = str(FRAMES_FD if frames == "fd" else 1)
            env["XTRACK_ADDITIVE"] = "1"  # this collector takes every event there is

    @contextlib.contextmanager
    def _reserved(self, run_id: str) -> Iterator[None]:
        """Let one thread at a time start a run. spec: STR-3"""
        with self._lock:
            running = self._runs.get(run_id)
            if run_id in self._starting or (running is not None and running.poll() is None):
                raise LaunchError(f"run {run_id!r} is running already: it was started here")
            self._starting.add(run_id)
        try:
            yield
        finally:
            with self._lock:
                self._starting.discard(run_id)

    def _start_local(self, order: _Order, transport: LocalTransport) -> LaunchedRun:
        run_dir = self._spool.run_dir(order.run_id)
        with _Claim(run_dir, order) as claim:
            order = claim.order
            spawned, observer, started = self._spawn(order, transport, claim, frames=None)
            link = LocalLink(
                self._spool.root, run_dir, self._spool.mailbox(order.run_id), order.run_id, set(claim.streams)
            )
            return LaunchedRun(
                order.run_id,
                spawned,
                link,
                observer,
                self.local_store,
                claim.keep(),
                started,
                end_timeout=self._settings.end_timeout,
            )

    def _start_stdio(self, order: _Order, frames: FramesFrom) -> LaunchedRun:
        collector = self.collector
        is_local = root_of_local(collector.store) is not None
        with contextlib.ExitStack() as stack:
            claim = None
            if is_local:
                claim = stack.enter_context(_Claim(self._spool.run_dir(order.run_id), order))
                order = claim.order
            else:
                order = _check_in_store(collector.store, order)
            spawned, observer, started = self._spawn(order, CollectorTransport(collector), claim, frames=frames)
            problems: list[str] = []
            runs: list[LaunchedRun] = []

            def complain(text: str) -> None:
                if runs:
                    runs[0].complain(text)
                else:
                    problems.append(text)

            channel = _open_channel(spawned, collector, order.run_id, self._spool if is_local else None, complain)
            link: WorkerLink = ChannelLink(channel, order.run_id)
            lock = claim.keep() if claim else None
            run = LaunchedRun(order.run_id, spawned, link, observer, lambda: collector.store, lock, started)
            runs.append(run)
            channel.start()
            for text in problems:
                run.complain(text)
            return run

    @staticmethod
    def _spawn(
        order: _Order, transport: Transport, claim: _Claim | None, *, frames: FramesFrom | None
    ) -> tuple[Spawned, StreamEmitter, float]:
        """Start the process, and record that it was; when it can't be started, nothing is recorded."""
        stream = StreamId(order.run_id, LAUNCHER_WORKER, new_session_id())
        observer = _Observer(transport, stream, additive=True, strict=False, attachments=None)
        if claim:
            claim.made.append(lock_path(claim.run_dir, stream.session_id))
        begun_us, started = now_us(), time.monotonic()
        try:
            spawned = spawn(
                order.argv,
                env=order.env,
                cwd=order.cwd,
                frames=frames == "fd",
                capture_stdout=frames == "stdout",
            )
        except BaseException:
            observer.close()
            raise
        observer.emit(order.run_start(), begun_us)
        return spawned, observer, started

    # ------------------------------------------------------------------------------------------ keeping hold

    def get(self, run_id: str) -> LaunchedRun:
        """Return a run that was started here. Raises LaunchError for any other."""
        with self._lock:
            run = self._runs.get(run_id)
        if run is None:
            raise LaunchError(f"run {run_id!r} was not started by this launcher")
        return run

    def runs(self) -> list[LaunchedRun]:
        """Return the runs that were started here, in the order of their starts."""
        with self._lock:
            return list(self._runs.values())

    def close(self) -> None:
        """Close the local store where this launcher opened it. Workers go on, and are no longer watched by it."""
        with self._lock:
            if self._local is not None and self._local is not self._given:
                self._local.close()
                self._local = None

    def stop_run(self, run_id: str, grace: float = 10.0) -> RunState | None:
        """Stop a run: see :meth:`LaunchedRun.stop`."""
        return self.get(run_id).stop(grace)

    def wait(self, run_id: str, timeout: float | None = None) -> RunState | None:
        """Wait for a run: see :meth:`LaunchedRun.wait`."""
        return self.get(run_id).wait(timeout)


class _Claim:
    """A run's folder, held for one launcher. Leaves nothing behind when the start fails. spec: RST-6.2"""

    def __init__(self, run_dir: Path, order: _Order) -> None:
        self.run_dir = run_dir
        self.order = order
        self.made: list[Path] = []
        """Files to take away again."""
        self.streams: list[StreamId] = []
        self._was_there = run_dir.exists()
        self._lock = FileLock(run_dir / LAUNCH_LOCK)
        self._kept = False

    def __enter__(self) -> Self:
        run_id = self.order.run_id
        try:
            make_private_dir(self.run_dir)
            if not self._lock.acquire():
                raise LaunchError(f"run {run_id!r} is running already: another launcher has started it")
        except OSError as error:
            raise SpoolError(
                self.run_dir,
                f"can't be written: {error.strerror or error}",
                "Make room or set XTRACK_DIR to a folder that can be written",
            ) from error
        try:
            if is_running(self.run_dir):
                raise LaunchError(f"run {run_id!r} is running already: its worker is alive")
            self.streams = streams_of(self.run_dir)
            if self.streams and not self.order.resume:
                raise LaunchError(f"run {run_id!r} is there already. Resume it, or start the command under another id")
        except BaseException:
            self._lock.release()
            raise
        if not self._was_there:
            self.made.append(self.run_dir / LAUNCH_LOCK)
        sessions = sorted({stream.session_id for stream in self.streams})
        self.order = attrs.evolve(self.order, resumed=sessions)
        return self

    def keep(self) -> FileLock:
        """Return the lock, to be released when the run is over: the start has succeeded."""
        self._kept = True
        return self._lock

    def __exit__(self, *_: object) -> None:
        if self._kept:
            return
        for path in self.made:
            path.unlink(missing_ok=True)
        self._lock.release()
        if not self._was_there:
            with contextlib.suppress(OSError):  # not empty: somebody else has come to use it
                self.run_dir.rmdir()


def _check_in_store(store: Storage, order: _Order) -> _Order:
    """Refuse a run that a store without a spool has already, unless it is to be resumed."""
    try:
        state = store.get_run(order.run_id)
    except RunNotFound:
        return order
    if state.status != "pending" and not order.resume:
        raise LaunchError(f"run {order.run_id!r} is {state.status} already. Resume it, or start it under another id")
    return attrs.evolve(order, resumed=sorted({summary.stream.session_id for summary in state.streams}))


def _open_channel(
    spawned: Spawned, collector: Collector, run_id: str, spool: SpoolDir | None, complain: Callable[[str], None]
) -> FrameChannel:
    if spawned.frames is not None:
        return FrameChannel(
            spawned.frames.detach(),
            FrameDecoder(),
            collector,
            run_id,
            two_way=True,
            spool=spool,
            complain=complain,
        )
    assert spawned.process.stdout is not None
    fd = os.dup(spawned.process.stdout.fileno())
    spawned.process.stdout.close()
    # Text between the frames is passed over, as damage in a file is. spec: FRM-6
    decoder = SalvageDecoder(SOCKET_LIMITS)
    return FrameChannel(fd, decoder, collector, run_id, two_way=False, spool=spool, complain=complain)
