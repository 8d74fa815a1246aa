"""Peers of a real server, over real sockets: sessions, plain workers, and people who speak something else."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from event_builders import T0
from typing_extensions import Self

from xtrack_protocol.ir import Auth, Envelope, Hello, Metric, Payload, RunEnd, RunStart
from xtrack_protocol.server import CollectorServer, ServerLimits
from xtrack_protocol.session import Acked, EmitterSession, Rejected, StreamId, StreamOpened, StreamState, Welcomed
from xtrack_protocol.storage import Storage
from xtrack_protocol.wire import encode, frame_payload

SECONDS = 30.0
"""How long a test waits for what must come."""


def stream(run: str = "r", wid: str = "", letter: str = "a") -> StreamId:
    return StreamId(run, wid, letter * 32)


def payload_of(of: StreamId, seq: int, payload: Payload | None = None, value: float | None = None) -> bytes:
    """The event ``seq`` of a stream: run_start for 1, else a metric."""
    if payload is None:
        payload = RunStart(of.run_id) if seq == 1 else Metric(of.run_id, "loss", value or 1 / seq, step=seq)
    return encode(
        Envelope.of(
            payload,
            seq=seq,
            timestamp_us=T0 + seq,
            worker_id=of.worker_id or None,
            session_id=None if of.is_derived else of.session_id,
        )
    )


def frame_of(of: StreamId, seq: int, payload: Payload | None = None, value: float | None = None) -> bytes:
    return frame_payload(payload_of(of, seq, payload, value))


def end_of(of: StreamId, status: str = "completed") -> RunEnd:
    return RunEnd(of.run_id, status)  # type: ignore[arg-type]


def eventually(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait until ``condition`` is true, and return what it is."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found or time.monotonic() > deadline:
            assert found, "it never came"
            return found
        time.sleep(0.01)


def connect(address: Any, source: str | None = None) -> socket.socket:
    if isinstance(address, (str, Path)):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(address))
        return sock
    return socket.create_connection(address, SECONDS, source_address=(source, 0) if source else None)


def read_all(sock: socket.socket, seconds: float = SECONDS) -> bytes:
    """What comes until the other side closes."""
    sock.settimeout(seconds)
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


class Peer:
    """A worker's end of a session. ``news``: everything that the session has told."""

    def __init__(
        self,
        address: Any,
        *,
        key: str | None = None,
        features: tuple[str, ...] = (),
        welcome: bool = True,
        source: str | None = None,
        wrap: Callable[[socket.socket], socket.socket] = lambda sock: sock,
    ) -> None:
        self.sock = wrap(connect(address, source))
        auth = Auth("key", key) if key is not None else None
        self.session = EmitterSession(Hello([1], ["json"], list(features), "tests", auth), require_session=True)
        self.news: list[Any] = []
        self.is_closed = False
        self.sock.settimeout(SECONDS)
        try:
            self.sock.sendall(self.session.start(time.monotonic()))
            if welcome:
                self.wait_for(Welcomed)
        except BaseException:
            self.sock.close()
            raise

    def pump(self, seconds: float = 0.05) -> None:
        """Send what waits, and read once."""
        data = self.session.data_to_send()
        if data:
            self.sock.sendall(data)
        self.sock.settimeout(seconds)
        try:
            chunk = self.sock.recv(65536)
        except TimeoutError:
            return
        except ConnectionResetError:
            chunk = b""
        finally:
            self.sock.settimeout(SECONDS)
        if chunk:
            self.news += self.session.receive(chunk, time.monotonic())
        else:
            self.is_closed = True

    def wait_for(self, kind: type, seconds: float = SECONDS, **facts: Any) -> Any:
        """Pump until something of ``kind`` with these facts has been told, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            for item in self.news:
                if isinstance(item, kind) and all(getattr(item, name) == value for name, value in facts.items()):
                    return item
            assert time.monotonic() < deadline, f"no {kind.__name__} {facts}, but {self.news}"
            assert not self.is_closed, f"closed, without {kind.__name__} {facts}: {self.news}"
            self.pump()

    def open(self, of: StreamId) -> int:
        """Open a stream; return its cursor."""
        before = len(self.news)
        self.session.open_stream(of, time.monotonic())
        deadline = time.monotonic() + SECONDS
        while not any(isinstance(item, StreamOpened) and item.stream == of for item in self.news[before:]):
            assert time.monotonic() < deadline, self.news
            assert not self.is_closed, self.news
            self.pump()
        return next(item.cursor for item in self.news[before:] if isinstance(item, StreamOpened) and item.stream == of)

    def send(self, of: StreamId, upto: int, last: Payload | None = None) -> None:
        """Offer events up to seq ``upto``; ``last``: what the last one is."""
        deadline = time.monotonic() + SECONDS
        while (seq := self.session.position(of) + 1) <= upto:
            payload = last if seq == upto else None
            if not self.session.offer(of, seq, payload_of(of, seq, payload)):
                assert time.monotonic() < deadline, self.news
                assert not self.is_closed, self.news
                self.pump()
        self.pump(0.001)

    def wait_acked(self, of: StreamId, seq: int) -> list[tuple[int, str]]:
        """Wait until all to ``seq`` is acked; return what was refused."""
        deadline = time.monotonic() + SECONDS
        while not any(isinstance(item, Acked) and item.stream == of and item.seq >= seq for item in self.news):
            assert time.monotonic() < deadline, f"{seq} was never acked: {self.news}"
            self.pump()
        acks = [item for item in self.news if isinstance(item, Acked) and item.stream == of]
        return [pair for item in acks for pair in item.rejected]

    def wait_rejected(self) -> Rejected:
        found = self.wait_for(Rejected)
        assert isinstance(found, Rejected)
        return found

    def is_open(self, of: StreamId) -> bool:
        return self.session.stream_state(of) is StreamState.OPEN

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def serving(store: Storage, **options: Any) -> Iterator[CollectorServer]:
    """A server on a free port, in a thread."""
    options.setdefault("tcp", ("127.0.0.1", 0))
    with CollectorServer(store, **options).run_in_thread() as server:
        yield server


def address_of(server: CollectorServer) -> tuple[str, int]:
    return "127.0.0.1", server.port


def quick(**changes: Any) -> ServerLimits:
    """Limits with short waits."""
    return ServerLimits(**{"farewell_seconds": 0.5, "shutdown_seconds": 5.0, "retry_seconds": (0.02, 0.1), **changes})


def seqs(store: Storage, of: StreamId) -> list[int]:
    """The seqs that are stored of a stream, in the order of their positions."""
    return [event.envelope.meta.seq for event in store.events(of.run_id) if event.stream == of]


class ServeProcess:
    """``xtrack serve`` in a process of its own."""

    def __init__(self, *options: str, folder: Path, prefix: tuple[str, ...] = (), **environ: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
        with (folder / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "xtrack_protocol.cli", "serve", *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=inherited | {"XTRACK_DIR": str(folder / "xtrack"), "PYTHONUNBUFFERED": "1"} | environ,
            )
        self.folder = folder
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if "XTRACK_TRANSPORT=unix" in line or ("XTRACK_TRANSPORT=tcp" in line and "--unix" not in options):
                break
        assert "listening on" in self.said, self.errors

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def address(self) -> tuple[str, int]:
        found = re.search(r"listening on \w+://(\S+):(\d+)", self.said)
        assert found
        return found[1], int(found[2])

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
