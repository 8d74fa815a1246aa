"""The reference's server, for the role *server*. docs/reference/testee-server.md tells what is asked.

``python as_server.py FOLDER OPTIONS`` is a server in a process of its own, which can be killed.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from xtrack_protocol.errors import ConfigurationError, RunNotFound, StoreFull, TransportError
from xtrack_protocol.runs import RunState
from xtrack_protocol.server import AccessControl, CollectorServer, Keyring, ServerLimits, ServerThread
from xtrack_protocol.session import CollectorLimits, StreamId
from xtrack_protocol.spool import SpoolDir, StreamWriter
from xtrack_protocol.storage import (
    AppendResult,
    Incoming,
    LocalStore,
    SQLiteStore,
    StreamEvents,
    StreamResult,
    local,
)

Json = dict[str, Any]

CHILD = [sys.executable, str(Path(__file__))]
"""What is started where the server has to be killed."""

FEATURES = ["commands", "follow"]


class Store(SQLiteStore):
    """A store that can be made to refuse, as a full disk does."""

    is_full = False

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        if self.is_full:
            raise StoreFull(self.url)
        return super().append(batch)

    def append_streams(self, batches: Sequence[StreamEvents]) -> list[StreamResult]:
        if self.is_full:
            raise StoreFull(self.url)
        return super().append_streams(batches)


_here = threading.local()


def _sync_file(fd: int, *, force: Any = local.sync_file) -> None:
    """Force a file to the disk, unless that of the store which this thread works for refuses."""
    if getattr(_here, "refuses", False):
        raise OSError(errno.EIO, "the disk refuses")
    force(fd)


local.sync_file = _sync_file


class Spooled(LocalStore):
    """A store that is the spool of a folder, in which a worker lives that writes there itself."""

    is_full = refuses = False

    def __init__(self, folder: Path, worker: Json) -> None:
        stream = StreamId(worker["run_id"], worker["wid"], worker["sid"])
        self.worker = StreamWriter(SpoolDir(folder).run_dir(stream.run_id), stream)
        for payload in map(base64.b64decode, worker["payloads"]):
            self.worker.append(json.loads(payload)["m"]["seq"], payload)
        super().__init__(folder)

    def cursor(self, stream: StreamId) -> Any:
        with self._disk():
            return super().cursor(stream)

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        with self._disk():
            return super().append(batch)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        _here.refuses = self.refuses
        try:
            yield
        finally:
            _here.refuses = False

    def close(self) -> None:
        super().close()
        self.worker.close()


class Log(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Part:
    """The sessions, each a server with its store."""

    def __init__(self) -> None:
        self.sessions: dict[str, Served] = {}
        self.log = Log()
        logger = logging.getLogger("xtrack")
        logger.addHandler(self.log)
        logger.propagate = False
        logger.setLevel(logging.INFO)

    def answer(self, request: Json) -> Json:
        """Return the answer to a request."""
        name, op = request["session"], request["op"].partition(".")[2]
        if op == "forget":
            served = self.sessions.pop(name, None)
            if served is not None:
                served.forget()
            return {"ok": {}}
        if name not in self.sessions:
            self.sessions[name] = Served(Path(tempfile.mkdtemp(prefix="xtrack-served-")), self.log)
        ok: Json = getattr(self.sessions[name], op)(request)
        return {"ok": ok}


class Served:
    """One session: a folder with the store and the keys, and the server that uses them, while one runs."""

    def __init__(self, folder: Path, log: Log) -> None:
        self.folder = folder
        self.log = log
        self.first_line = 0
        self.thread: ServerThread | None = None
        self.child: subprocess.Popen[bytes] | None = None
        self.store: Store | Spooled | None = None
        self.keys_by_name: dict[str, str] = {}
        self.keyring: Keyring | None = None

    # ------------------------------------------------------------------------------------------ life

    def start(self, request: Json) -> Json:
        """Start the server."""
        options = request["options"]
        self.first_line = len(self.log.lines)
        if options.get("store") != "kept":
            for path in self.folder.glob("runs.db*"):
                path.unlink()
        made: dict[str, str] = {}
        if "keys" in options:
            self.keyring = Keyring(self.folder / "keys.json", new=True)
            made = {key["name"]: self._add(key) for key in options["keys"]}
        if options.get("kill"):
            self.child = subprocess.Popen(
                [*CHILD, str(self.folder), json.dumps(options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self.child.stdout is not None
            port = json.loads(self.child.stdout.readline())
        else:
            worker = options.get("worker")
            self.store = Spooled(self.folder / "home", worker) if worker else Store(self.folder / "runs.db")
            try:
                server = make_server(self.folder, self.store, options)
                self.thread = ServerThread(server)
                self.thread.start()
            except (ConfigurationError, TransportError, ValueError) as error:
                self.store.close()
                self.store = self.thread = None
                return {"refused": str(error)}
            port = server.port
        found = {"host": "127.0.0.1", "port": port, "durability": SQLiteStore.durability, "features": FEATURES}
        return found | ({"keys": made} if "keys" in options else {})

    def stop(self, _request: Json) -> Json:
        """Stop it, everything committed."""
        if self.child is not None:
            self.child.communicate(timeout=30)
            self.child = None
        if self.thread is not None:
            self.thread.stop()
            self.thread = None
        if self.store is not None:
            self.store.close()
            self.store = None
        return {}

    def kill(self, _request: Json) -> Json:
        """End it as kill -9 does."""
        assert self.child is not None
        self.child.kill()
        self.child.communicate(timeout=30)
        self.child = None
        return {}

    def forget(self) -> None:
        """Throw everything away."""
        if self.child is not None:
            self.kill({})
        if self.store is not None:
            self.store.is_full = False
        self.stop({})
        shutil.rmtree(self.folder, ignore_errors=True)

    # ------------------------------------------------------------------------------------------ what is there

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        """Lend the store: the server's own, or of a server in another process, its file."""
        if self.store is not None:
            yield self.store
        else:
            with SQLiteStore(self.folder / "runs.db") as store:
                yield store

    def events(self, request: Json) -> Json:
        """Tell what is stored of a run."""
        events, state = [], None
        with self._opened() as store, contextlib.suppress(RunNotFound):
            events = list(store.events(request["run_id"]))
            state = store.get_run(request["run_id"])
        return {
            "events": [
                {"wid": one.stream.worker_id, "sid": one.stream.session_id, "payload": _base64(one.raw)}
                for one in events
            ],
            "streams": _streams(state),
            "status": state.status if state else "pending",
        }

    def counts(self, _request: Json) -> Json:
        """Tell what was refused."""
        counters = self._server().counters
        log = "\n".join(self.log.lines[self.first_line :])
        return {"refused": dict(counters.refused_peers), "frames": counters.refused_events["frames"], "log": log}

    def _server(self) -> CollectorServer:
        assert self.thread is not None
        return self.thread.server

    # ------------------------------------------------------------------------------------------ what its keeper does

    def _add(self, key: Json) -> str:
        assert self.keyring is not None
        rights = key["rights"]
        info, text = self.keyring.add(
            key["owner"], experiment=key.get("experiment"), may_read="read" in rights, may_write="write" in rights
        )
        self.keys_by_name[key["name"]] = info.key_id
        return text

    def keys(self, request: Json) -> Json:
        """Change the keys."""
        change, keyring = request["change"], self.keyring
        assert keyring is not None
        if "add" in change:
            try:
                return {"key": self._add(change["add"])}
            except ConfigurationError as error:
                return {"refused": str(error)}
        if "remove" in change:
            keyring.remove(self.keys_by_name[change["remove"]])
        elif "replace" in change:
            return {"key": keyring.rotate(self.keys_by_name[change["replace"]], grace_seconds=change["grace"])[1]}
        elif "unreadable" in change:
            away = keyring.path.with_name("away")
            if change["unreadable"]:
                keyring.path.rename(away)
                keyring.path.write_bytes(b"{damaged")
                keyring.path.chmod(0o600)
            else:
                away.replace(keyring.path)
        else:
            return {"kept": _base64(keyring.path.read_bytes())}
        return {}

    def access(self, request: Json) -> Json:
        """Change who may do what with a run."""
        with self._opened() as store:
            store.change_access(request["run_id"], lambda access: _changed(access, request))
        return {}

    def delete(self, request: Json) -> Json:
        """Delete a run."""
        with self._opened() as store:
            store.delete_run(request["run_id"])
        return {}

    def trouble(self, request: Json) -> Json:
        """Have the store refuse, or not any more."""
        assert self.store is not None
        if request.get("disk"):
            assert isinstance(self.store, Spooled)
            self.store.refuses = request["on"]
        else:
            self.store.is_full = request["on"]
        return {}


def _changed(access: Any, request: Json) -> Any:
    if "owner" in request:
        return attrs.evolve(access, owner=request["owner"])
    if "public" in request:
        return attrs.evolve(access, public=request["public"])
    name = {request["grant"] if "grant" in request else request["revoke"]}
    readers, writers = access.readers - name, access.writers - name
    rights = request.get("rights", [])
    if "write" in rights:
        writers |= name
    elif "read" in rights:
        readers |= name
    return attrs.evolve(access, readers=readers, writers=writers)


def _streams(state: RunState | None) -> list[Json]:
    return [
        {"wid": one.stream.worker_id, "sid": one.stream.session_id, "lost": [list(pair) for pair in one.skipped]}
        for one in (state.streams if state else ())
    ]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# ---------------------------------------------------------------------------------------------- the server


def make_server(folder: Path, store: SQLiteStore | LocalStore, options: Json) -> CollectorServer:
    """Return a server with these options. Raises ConfigurationError and ValueError."""
    deadlines, bounds = options.get("deadlines", {}), options.get("bounds", {})
    session = {
        name: deadlines[short]
        for short, name in (
            ("first_frame", "first_frame_seconds"),
            ("frame", "frame_seconds"),
            ("ping", "ping_seconds"),
            ("idle", "idle_seconds"),
        )
        if short in deadlines
    }
    if "max_frame" in options:
        session["max_frame"] = options["max_frame"]
    limits: Json = {"farewell_seconds": 0.2, "retry_seconds": (0.02, 0.1), "shutdown_seconds": 5.0}
    for short, name in (
        ("connections", "connections"),
        ("subscriptions", "subscriptions_per_connection"),
        ("unfinished", "bytes_unfinished"),
    ):
        if short in bounds:
            limits[name] = bounds[short]
    if "gone" in deadlines:
        limits["lost_seconds"] = deadlines["gone"]
    access = AccessControl(store, Keyring(folder / "keys.json")) if "keys" in options else None
    if "command" in deadlines:
        limits["command_seconds"] = deadlines["command"]
    return CollectorServer(
        store,
        tcp=(options.get("host", "127.0.0.1"), 0),
        access=access,
        tls=_tls(folder) if options.get("tls") else None,
        limits=ServerLimits(session=CollectorLimits(**session), **limits),
    )


def _tls(folder: Path) -> Any:
    from xtrack_protocol.net.tls import keep_self_signed, server_context

    return server_context(*keep_self_signed(folder / "tls", ["127.0.0.1"]))


def child(folder: str, options: str) -> None:
    """Be a server until stdin ends."""
    with SQLiteStore(Path(folder) / "runs.db") as store:
        server = make_server(Path(folder), store, json.loads(options))
        with ServerThread(server):
            sys.stdout.write(f"{server.port}\n")
            sys.stdout.flush()
            sys.stdin.read()


if __name__ == "__main__":
    child(*sys.argv[1:])
