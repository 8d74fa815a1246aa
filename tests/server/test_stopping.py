"""The end of a server: SIGTERM, SIGINT, kill -9; and what is there when it is started again."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from event_builders import a_run, capture
from server_peers import (
    SECONDS,
    Peer,
    ServeProcess,
    address_of,
    connect,
    eventually,
    quick,
    read_all,
    seqs,
    serving,
    stream,
)

from xtrack_protocol.session import Acked, StreamId
from xtrack_protocol.storage import MemoryStore, SQLiteStore

A, B = stream("r", "w1", "a"), stream("other", "", "b")


def test_a_server_that_stops_commits_acks_and_says_so() -> None:
    store = MemoryStore()
    with serving(store, limits=quick()) as server:
        peer = Peer(address_of(server))
        peer.open(A)
        peer.send(A, 3000)
        plain = connect(address_of(server))
        plain.sendall(capture(a_run(1000, run="plain")))
        idle = connect(address_of(server))
        eventually(lambda: server.counters.connections == 3)
        eventually(lambda: server.counters.plain == 1)
    rejected = peer.wait_rejected()
    assert (rejected.code, rejected.retry_after) == ("busy", 2.0)
    acked = max((item.seq for item in peer.news if isinstance(item, Acked)), default=0)
    assert seqs(store, A) == list(range(1, acked + 1)), "all that was stored was acked before the end"
    assert read_all(plain) == b""
    assert store.get_run("plain").events == 1002, "a plain worker won't send it again"
    assert b"shutting down" in read_all(idle)
    for sock in (peer, plain, idle):
        sock.close()


def test_a_server_that_stops_takes_nobody_new() -> None:
    with MemoryStore() as store, serving(store, limits=quick()) as server:
        address = address_of(server)
    with pytest.raises(OSError, match=r"(?i)refused"):
        connect(address)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals(number: int, status: int, tmp_path: Path) -> None:
    with ServeProcess("--tcp", "127.0.0.1:0", "--store", f"sqlite:///{tmp_path}/s.db", folder=tmp_path) as server:
        with Peer(server.address) as peer:
            peer.open(A)
            peer.send(A, 500)
            peer.wait_acked(A, 500)
            server.process.send_signal(number)
            assert peer.wait_rejected().code == "busy"
        assert server.process.wait(SECONDS) == status
        assert "stopping: what was received is being stored" in server.errors
    with SQLiteStore(tmp_path / "s.db") as store:
        assert seqs(store, A) == list(range(1, 501))


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with ServeProcess("--tcp", "127.0.0.1:0", "--store", "memory:", folder=tmp_path) as server:
        peer = Peer(server.address)
        peer.open(A)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in server.errors)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) in {0, 128 + signal.SIGTERM}  # it may have been quicker
        peer.close()


class Worker(threading.Thread):
    """Sends its stream over whatever server there is, and remembers what was acked."""

    def __init__(self, of: StreamId, count: int, where: list[tuple[str, int]]) -> None:
        super().__init__(daemon=True)
        self.of, self.count, self.where = of, count, where
        self.acked = 0
        self.rewound = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.acked < self.count:
                try:
                    self._connection()
                except (OSError, AssertionError):  # cut off
                    time.sleep(0.02)
        except BaseException as error:
            self.error = error

    def _connection(self) -> None:
        with Peer(self.where[0]) as peer:
            cursor = peer.open(self.of)
            self.rewound += cursor < self.acked
            self.acked = max(self.acked, cursor)
            while self.acked < self.count and not peer.is_closed:
                peer.send(self.of, min(self.count, peer.session.position(self.of) + 20))
                for item in peer.news:
                    if isinstance(item, Acked):
                        self.acked = max(self.acked, item.seq)
                peer.news.clear()


@pytest.mark.parametrize("kind", ["sqlite", "local"])
def test_kill_9_loses_nothing_that_was_acked(kind: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else f"local:{tmp_path}/store"
    port = free_port()
    where = [("127.0.0.1", port)]
    workers = [
        Worker(StreamId(f"run-{number % 2}", f"w{number}", f"{number:032x}"), 1500, where) for number in range(4)
    ]
    chance = random.Random(7)
    server = ServeProcess("--tcp", f"127.0.0.1:{port}", "--store", url, folder=tmp_path)
    for worker in workers:
        worker.start()
    for _ in range(6):
        time.sleep(0.1 + 0.4 * chance.random())
        server.process.kill()
        server.process.wait()
        server.__exit__()
        server = ServeProcess("--tcp", f"127.0.0.1:{port}", "--store", url, folder=tmp_path)
    for worker in workers:
        worker.join(90)
        assert worker.error is None
        assert worker.acked == worker.count
        assert worker.rewound == 0, "a cursor never stood below what was acked"
    assert server.stop(signal.SIGTERM) == 0
    server.__exit__()
    from xtrack_protocol.storage import open_store

    with open_store(url) as store:
        for worker in workers:
            assert seqs(store, worker.of) == list(range(1, worker.count + 1)), "each once, in order"
        assert store.check() == []


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
