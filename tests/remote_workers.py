"""A real collector, and who speaks with it by hand: workers in threads, a proxy that cuts, and strangers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from xtrack_protocol.client import CollectorClient
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.ir import Auth, Command, CommandResult, Envelope, Hello, Metric, RunStart
from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.session import CommandReceived, EmitterSession, StreamId, StreamOpened
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import Storage
from xtrack_protocol.wire import encode

PATIENCE = 30.0


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count(store: Storage, run_id: str = "run-1") -> int:
    try:
        return len(list(store.events(run_id)))
    except RunNotFound:
        return 0


@contextlib.contextmanager
def serving(store: Storage, port: int = 0, **options: Any) -> Iterator[CollectorServer]:
    with CollectorServer(store, tcp=("127.0.0.1", port), **options).run_in_thread() as server:
        yield server


def url(server: CollectorServer) -> str:
    return f"tcp://127.0.0.1:{server.port}"


def client_of(server: CollectorServer, **settings: Any) -> CollectorClient:
    return CollectorClient(url(server), Settings(**settings))


class Worker:
    """A worker with a session, in a thread: it logs what it is told to, and answers commands as ``answer`` says."""

    def __init__(
        self,
        port: int,
        run_id: str = "run-1",
        worker_id: str = "",
        features: tuple[str, ...] = ("commands",),
        answer: Callable[[Command], CommandResult | None] | None = None,
        key: str | None = None,
        passive: bool = False,
    ) -> None:
        self.stream = StreamId(run_id, worker_id, f"sid{worker_id}".ljust(32, "0"))
        self.commands: list[Command] = []
        self.opened = threading.Event()
        self._answer = answer or self.say_ok
        self._passive = passive
        self._seq = 0
        self._payloads: list[bytes] = []
        self._over = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._session = EmitterSession(
            Hello([1], features=list(features), auth=None if key is None else Auth("key", key))
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.log(RunStart(run_id))
        self._thread.start()
        assert self.opened.wait(PATIENCE)

    def say_ok(self, command: Command, message: str | None = "done") -> CommandResult:
        return CommandResult(self.stream.run_id, command.command_id, "ok", message, self.stream.worker_id or None)

    def log(self, *payloads: Any) -> None:
        for payload in payloads:
            self._seq += 1
            self._payloads.append(
                encode(
                    Envelope.of(
                        payload,
                        seq=self._seq,
                        timestamp_us=self._seq,
                        worker_id=self.stream.worker_id or None,
                        session_id=self.stream.session_id,
                    )
                )
            )

    def metrics(self, count: int) -> None:
        self.log(*(Metric(self.stream.run_id, "loss", step, step) for step in range(count)))

    def close(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        self._socket.close()

    def _run(self) -> None:
        session, now = self._session, time.monotonic
        self._socket.sendall(session.start(now()))
        self._socket.settimeout(0.01)
        opening = False
        while not self._over.is_set():
            try:
                data = self._socket.recv(65536)
                news = session.receive(data, now()) if data else session.receive_eof(now())
            except TimeoutError:
                news = session.handle_timer(now())
            for item in news:
                if isinstance(item, CommandReceived):
                    self.commands.append(item.command)
                    result = self._answer(item.command)
                    if result is not None:
                        session.send_command_result(result, now())
                elif isinstance(item, StreamOpened):
                    self.opened.set()
            if session.is_over:
                return
            if session.state.value == "active":
                if not opening:
                    opening = True
                    session.open_stream(self.stream, now(), passive=self._passive)
                while self.opened.is_set() and (at := session.position(self.stream)) < len(self._payloads):
                    if not session.offer(self.stream, at + 1, self._payloads[at]):
                        break
            out = session.data_to_send()
            if out:
                self._socket.settimeout(PATIENCE)
                self._socket.sendall(out)
                self._socket.settimeout(0.01)


@contextlib.contextmanager
def working(server: CollectorServer, *args: Any, **options: Any) -> Iterator[Worker]:
    worker = Worker(server.port, *args, **options)
    try:
        yield worker
    finally:
        worker.close()


class Proxy:
    """Passes connections on to a port, and cuts each after some bytes of what comes back."""

    def __init__(self, port: int, cut_after: Callable[[int], int]) -> None:
        self.connections = 0
        self._port = port
        self._cut_after = cut_after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self._port))
            left = self._cut_after(self.connections)
            threading.Thread(target=self._pump, args=(near, far, 2**62), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, left), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError):
            while left > 0 and (data := source.recv(min(65536, left))):
                target.sendall(data)
                left -= len(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextlib.contextmanager
def stranger(says: bytes, *, closes: bool) -> Iterator[str]:
    """Listen, read a little, say something, and close or not."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.recv(1000)
                    connection.sendall(says)
                    if closes:
                        connection.close()
                    else:
                        kept.append(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        for one in kept:
            one.close()
