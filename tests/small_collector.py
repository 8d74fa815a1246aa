"""A collector that is small and real: sockets, CollectorSession, a thread. What it has it keeps in memory."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any

import attrs
from typing_extensions import Self

from xtrack_protocol.ir import Command, CommandResult
from xtrack_protocol.net.endpoint import Endpoint
from xtrack_protocol.session import (
    CollectorLimits,
    CollectorSession,
    CommandResultReceived,
    EventsReceived,
    FrameRefused,
    HelloReceived,
    PlainPeer,
    RangeSet,
    SkipDeclared,
    StreamId,
    StreamOpenRequested,
)


def until(what: Any, seconds: float = 30.0) -> None:
    """Wait until ``what()`` holds; fail where it doesn't in a generous time."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it doesn't come to that"
        time.sleep(0.005)


@attrs.define(eq=False)
class Connection:
    socket: socket.socket
    session: CollectorSession
    plain: bool = False
    opened: set[StreamId] = attrs.field(factory=set)
    to_close: bool = False


class SmallCollector:
    """Listens at once. Everything it may do wrong is an attribute to set."""

    def __init__(self, path: Path | None = None, port: int = 0, **session: Any) -> None:
        self.path = path
        self.session_options = {"authenticate": lambda auth: "anybody", "durability": "power", **session}
        self.events: dict[StreamId, dict[int, bytes]] = {}
        self.has: dict[StreamId, RangeSet] = {}
        self.skipped: list[tuple[StreamId, int, int, str]] = []
        self.rejects: dict[int, str] = {}
        """Seqs that it refuses, with codes."""
        self.forbids: set[str] = set()
        """Runs that nobody may write."""
        self.results: list[CommandResult] = []
        self.arrived: list[int] = []
        """Every seq that came, duplicates too."""
        self.hellos = 0
        self.connections: list[Connection] = []
        self.accepted = 0
        self.acks = True
        self.closes_at_hello = False
        self.is_deaf = False
        """Accepts connections, and neither reads nor answers."""
        self._jobs: list[Any] = []
        self._stop = threading.Event()
        if path is None:
            self._listening = socket.create_server(("127.0.0.1", port))
            self.port = self._listening.getsockname()[1]
        else:
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(str(path))
            self._listening.listen(16)
        self._listening.settimeout(0)
        self._poked, self._poke = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        if self.path is not None:
            return Endpoint(scheme="unix", path=self.path)
        return Endpoint(scheme="tcp", host="127.0.0.1", port=self.port)

    @property
    def spec(self) -> str:
        return self.endpoint.url

    def seqs(self, stream: StreamId | None = None) -> list[int]:
        found = self.events if stream is None else {stream: self.events.get(stream, {})}
        return sorted(seq for events in found.values() for seq in events)

    def do(self, job: Any) -> None:
        """Have its thread call ``job()``, and wait for that."""
        done = threading.Event()
        self._jobs.append(lambda: (job(), done.set()))
        self._poke.send(b"x")
        assert done.wait(20)

    def drop_all(self) -> None:
        """Cut every connection."""
        self.do(lambda: [self._close(connection) for connection in list(self.connections)])

    def forget(self, stream: StreamId, upto: int) -> None:
        """Be restored from a backup that has the stream's events to ``upto`` only, and cut every connection."""

        def restore() -> None:
            for seq in [seq for seq in self.events[stream] if seq > upto]:
                del self.events[stream][seq]
            self.has[stream] = RangeSet([(1, upto)] if upto else [])
            for connection in list(self.connections):
                self._close(connection)

        self.do(restore)

    def on_each(self, call: Any) -> None:
        """Call ``call(session)`` for every connection."""
        self.do(lambda: [call(connection.session) for connection in self.connections])

    def send_command(self, command: Command) -> None:
        self.on_each(lambda session: session.send_command(command))

    def stop(self) -> None:
        """Close all; it may be called again."""
        if self._stop.is_set():
            return
        self._stop.set()
        with contextlib.suppress(OSError):
            self._poke.send(b"x")
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._poke.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------ its thread

    def _run(self) -> None:
        while not self._stop.is_set():
            reading: list[Any] = [self._listening, self._poked]
            writing = []
            for connection in self.connections:
                if connection.session.wants_data and not self.is_deaf:
                    reading.append(connection.socket)
                if connection.session.output_size:
                    writing.append(connection.socket)
            ready, _, _ = select.select(reading, writing, [], 0.05)
            if self._poked in ready:
                self._poked.recv(1000)
            while self._jobs:
                self._jobs.pop(0)()
            if self._listening in ready:
                with contextlib.suppress(BlockingIOError):
                    self._accept(self._listening.accept()[0])
            for connection in list(self.connections):
                self._serve(connection, connection.socket in ready)
        for connection in list(self.connections):
            self._close(connection)
        self._listening.close()
        self._poked.close()

    def _accept(self, accepted: socket.socket) -> None:
        accepted.setblocking(True)
        session = CollectorSession(**{"limits": CollectorLimits(), **self.session_options})
        session.start(time.monotonic())
        self.accepted += 1
        self.connections.append(Connection(accepted, session))

    def _serve(self, connection: Connection, ready: bool) -> None:
        session = connection.session
        if self.is_deaf:
            return
        try:
            if ready and connection.socket.fileno() >= 0:
                data = connection.socket.recv(65536)
                if data and self.closes_at_hello and b'"hello"' in data[:40]:
                    self.hellos += 1
                    self._close(connection)
                    return
                news = session.receive(data, time.monotonic()) if data else session.receive_eof(time.monotonic())
                for item in news:
                    self._take(connection, item)
            for item in session.handle_timer(time.monotonic()):
                self._take(connection, item)
            if session.output_size:
                connection.socket.sendall(session.data_to_send())
        except OSError:
            self._close(connection)
            return
        if session.is_over:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        connection.socket.close()
        if connection in self.connections:
            self.connections.remove(connection)

    def _take(self, connection: Connection, item: Any) -> None:
        session, now = connection.session, time.monotonic()
        if isinstance(item, HelloReceived):
            self.hellos += 1
        elif isinstance(item, PlainPeer):
            connection.plain = True
        elif isinstance(item, StreamOpenRequested):
            if item.stream.run_id in self.forbids:
                session.refuse_stream(item.stream)
                return
            for other in self.connections:
                if other is not connection and item.stream in other.opened:
                    other.session.fence(item.stream)
            connection.opened.add(item.stream)
            session.accept_stream(item.stream, self._cursor(item.stream))
        elif isinstance(item, EventsReceived):
            self._commit(connection, item)
        elif isinstance(item, SkipDeclared):
            self.skipped.append((item.stream, item.first, item.last, item.reason))
            self._note(item.stream, item.first, item.last)
            session.release(item.size, now)
            self._ack(connection, item.stream)
        elif isinstance(item, FrameRefused) and item.stream is not None and item.seq is not None:
            self._note(item.stream, item.seq, item.seq)
            self._ack(connection, item.stream, [(item.seq, item.error.kind)])
        elif isinstance(item, CommandResultReceived):
            self.results.append(item.result)

    def _commit(self, connection: Connection, item: EventsReceived) -> None:
        rejected = []
        for frame in item.frames:
            seq = frame.envelope.meta.seq
            self.arrived.append(seq)
            if seq in self.rejects:
                rejected.append((seq, self.rejects[seq]))
            else:
                kept = self.events.setdefault(item.stream, {}).setdefault(seq, frame.raw)
                assert kept == frame.raw, "another event of the same seq"
            self._note(item.stream, seq, seq)
        connection.session.release(item.size, time.monotonic())
        self._ack(connection, item.stream, rejected)

    def _note(self, stream: StreamId, first: int, last: int) -> None:
        self.has.setdefault(stream, RangeSet()).add_range(first, last)

    def _cursor(self, stream: StreamId) -> int:
        has = self.has.get(stream)
        return has.contiguous_to if has else 0

    def _ack(self, connection: Connection, stream: StreamId, rejected: list[tuple[int, str]] | None = None) -> None:
        if self.acks and not connection.plain:
            connection.session.ack(stream, self._cursor(stream), rejected or [])
