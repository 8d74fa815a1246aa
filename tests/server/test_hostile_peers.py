"""Peers that ask for more than anybody needs: each is bounded, and nobody else feels it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from pathlib import Path

import pytest
from event_builders import T0, a_run, capture, start
from faulty_store import FaultyStore
from server_peers import Peer, address_of, connect, eventually, frame_of, quick, read_all, serving, stream

from xtrack_protocol.errors import StoreFull
from xtrack_protocol.ir import Command, Envelope, LogEntry, OpenStream, Payload, Subscribe
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.session import Rejected, StreamRefused
from xtrack_protocol.storage import MemoryStore
from xtrack_protocol.wire import encode, frame_payload

A = stream("r", "w1", "a")


def control(payload: Payload) -> bytes:
    return frame_payload(encode(Envelope.of(payload, seq=0, timestamp_us=T0)))


def test_subscriptions_of_a_connection_are_bounded() -> None:
    with MemoryStore() as store, serving(store, limits=quick()) as server:
        with Peer(address_of(server), features=("follow",)) as peer, Peer(address_of(server)) as worker:
            peer.sock.sendall(b"".join(control(Subscribe(f"run-{number}", 0)) for number in range(3000)))
            most = 0
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline and server.counters.connections == 2:
                most = max(most, server.counters.subscriptions)
                time.sleep(0.01)
            assert most <= 256
            worker.open(A)  # nobody else feels it
            worker.send(A, 5)
            worker.wait_acked(A, 5)
        eventually(lambda: server.counters.subscriptions == 0)
        assert server.counters.refused_peers["busy"] > 0


def queue_length(server: CollectorServer) -> int:
    return len(server.committer._queue)


def test_who_opens_again_and_again_while_the_store_is_full_costs_nothing() -> None:
    store = FaultyStore()
    with serving(store, limits=quick()) as server, Peer(address_of(server)) as peer, Peer(address_of(server)) as other:
        other.open(stream("other", "", "b"))
        store.errors["append"] = StoreFull("/full")
        other.send(stream("other", "", "b"), 3)
        eventually(lambda: server.counters.store_errors > 0)
        again = control(OpenStream("r", A.session_id, "w1"))
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(400):  # each answered before the next
            peer.sock.sendall(again)
            assert peer.sock.recv(65536)
        assert queue_length(server) < 100
        store.errors.clear()
        eventually(lambda: other.pump() or other.is_open(stream("other", "", "b")))
    store.close()


def test_names_that_are_too_long_are_refused() -> None:
    with MemoryStore() as store, serving(store, limits=quick()) as server, Peer(address_of(server)) as peer:
        long = stream("r", "w" * 100_000, "a")
        peer.session.open_stream(long, time.monotonic())
        refused = peer.wait_for(StreamRefused, stream=long)
        assert "1024 bytes" in refused.message
        peer.open(A)
        peer.send(A, 3)
        peer.wait_acked(A, 3)
        assert len(refused.message) < 1000


def test_a_plain_peer_with_more_streams_than_anybody_has_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtrack_protocol.server.connection._PLAIN_STREAMS", 50)
    with MemoryStore() as store, serving(store, limits=quick()) as server, connect(address_of(server)) as sock:
        sock.sendall(b"".join(capture([start(f"run-{number}")]) for number in range(200)))
        assert read_all(sock) == b""
        eventually(lambda: server.counters.connections == 0)
        assert server.counters.events == 50
        assert server.counters.refused_peers["busy"] == 1


def test_a_plain_peer_may_bring_any_number_of_runs_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes on the events of others may stay connected for months."""
    monkeypatch.setattr("xtrack_protocol.server.connection._PLAIN_STREAMS", 50)
    monkeypatch.setattr("xtrack_protocol.server.connection._PLAIN_NAMES", 4000)
    with MemoryStore() as store, serving(store, limits=quick()) as server, connect(address_of(server)) as sock:
        for number in range(0, 200, 10):
            sock.sendall(b"".join(capture(a_run(3, run=f"run-{one}")) for one in range(number, number + 10)))
            eventually(lambda count=5 * (number + 10): server.counters.events == count)
        assert server.counters.plain == 1
        assert len(store.list_runs(limit=1000)) == 200


def test_commands_that_wait_for_the_store_are_bounded(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json", new=True)
    _, key = ring.add("ann")
    store = FaultyStore()
    with (
        serving(store, limits=quick(), access=AccessControl(store, ring)) as server,
        Peer(address_of(server), key=key, features=("commands",)) as peer,
        Peer(address_of(server), key=key) as one,
    ):
        one.open(A)
        store.slow.clear()
        one.send(A, 1)
        time.sleep(0.2)
        commands = [control(Command(f"c{n}", "custom", {"text": "x" * 10_000}, "r")) for n in range(1000)]
        for begin in range(0, 1000, 100):
            peer.sock.sendall(b"".join(commands[begin : begin + 100]))
            peer.pump(0.1)
        assert queue_length(server) < 200
        store.slow.set()
        one.wait_acked(A, 1)


def test_a_flood_of_connections_leaves_the_loop_its_time() -> None:
    """Each pass of the loop lets some in; what else waits there has its turn between them."""

    async def run() -> None:
        with MemoryStore() as store:
            server = CollectorServer(store, tcp=("127.0.0.1", 0), limits=quick(unknown_per_address=5))
            async with server:
                await asyncio.sleep(0.1)
                waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]  # in the backlog
                before = server.counters.accepted
                most = 0
                for _ in range(2000):
                    await asyncio.sleep(0)
                    most = max(most, server.counters.accepted - before)
                    before = server.counters.accepted
                    if before >= 300:
                        break
                assert before >= 300
                assert most <= 32
                for sock in waiting:
                    sock.close()

    asyncio.run(run())


def test_who_is_turned_away_and_goes_on_sending_holds_up_nobody() -> None:
    """A peer that sends faster than it is thrown away must not keep the loop for itself."""
    with MemoryStore() as store, CollectorServer(store, tcp=("127.0.0.1", 0)).run_in_thread() as server:
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        stop = threading.Event()
        sent = 0

        def flood() -> None:
            nonlocal sent
            data = b"x" * 1_000_000
            try:
                while not stop.is_set():
                    sent += theirs.send(data)
            except OSError:
                pass

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        eventually(lambda: sent > 0)
        done = threading.Event()

        def turn_away() -> None:
            server.reception.turn_away(ours, "full")
            done.set()

        server.loop.call_soon_threadsafe(turn_away)
        assert done.wait(10)
        stop.set()
        theirs.close()
        thread.join(10)
        assert sent < 64 << 20


def test_lines_of_one_kind_are_bounded_whatever_names_they_hold(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = FaultyStore()
    store.poison = b"poison"
    with serving(store, limits=quick()) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        for seq in range(2, 202):
            peer.sock.sendall(frame_of(A, seq, LogEntry("r", "info", "poison")))
        eventually(lambda: server.counters.refused_events["bad_value"] == 200)
        lines = [record for record in caplog.records if "can't be stored" in record.getMessage()]
        assert 1 <= len(lines) <= 10
        assert len(caplog.records) < 40


def test_streams_without_end_leave_descriptors_for_others(tmp_path: Path) -> None:
    """With the local store each stream that is open takes a lock: one peer must not have them all."""
    from server_peers import ServeProcess

    few = ("sh", "-c", 'ulimit -n 300; exec "$@"', "sh")
    with ServeProcess(
        "--tcp", "127.0.0.1:0", "--store", f"local:{tmp_path}/store", folder=tmp_path, prefix=few
    ) as server:
        with Peer(server.address) as greedy, Peer(server.address) as modest:
            many = [stream(f"run-{number}", "", "c") for number in range(600)]
            for one in many:
                greedy.session.open_stream(one, time.monotonic())
            eventually(lambda: greedy.pump() or all(greedy.is_open(one) for one in many))
            modest.open(A)
            modest.send(A, 5)
            modest.wait_acked(A, 5)
            with Peer(server.address) as late:
                late.open(stream("late"))
                late.send(stream("late"), 5)
                late.wait_acked(stream("late"), 5)
        assert "more workers are connected than locks can be held (100)" in server.errors


def test_who_sends_nothing_readable_is_given_up() -> None:
    with MemoryStore() as store, serving(store, limits=quick(unreadable_frames=1000)) as server:
        junk = b"\0\0\0\2{}"
        with connect(address_of(server)) as plain:  # one good event, and the count begins anew
            for seq in (1, 2):
                plain.sendall(junk * 900 + frame_of(A, seq))
            eventually(lambda: server.counters.events == 2)
            assert server.counters.refused_peers["protocol_error"] == 0
            plain.sendall(junk * 1001)
            assert read_all(plain) == b""  # spec: VER-3.5
        with Peer(address_of(server)) as peer:
            peer.sock.sendall(junk * 1100)
            assert "frames were all unreadable" in peer.wait_for(Rejected).message
        assert server.counters.refused_peers["protocol_error"] == 2


def test_ten_megabytes_of_tiny_frames(tmp_path: Path) -> None:
    """Whatever they are, what is kept of them is bounded, and another worker is served beside them."""
    tiny = b"\0\0\0\2{}" * (10 * 1024 * 1024 // 6)
    events = b"".join(frame_of(stream("r", "w2", "b"), seq) for seq in range(1, 20_000))
    with MemoryStore() as store, serving(store, limits=quick()) as server:
        most = 0
        done = threading.Event()

        def flood(data: bytes) -> None:
            with contextlib.suppress(OSError), connect(address_of(server)) as sock:  # it may be thrown out
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                read_all(sock)

        threads = [threading.Thread(target=flood, args=(data,), daemon=True) for data in (tiny, events)]
        for thread in threads:
            thread.start()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.01):
                most = max(most, server.counters.bytes_in_flight)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        with Peer(address_of(server)) as worker:
            worker.open(A)
            worker.send(A, 50)
            worker.wait_acked(A, 50)
        for thread in threads:
            thread.join(90)
            assert not thread.is_alive()
        done.set()
        watcher.join()
        assert most < 64 << 20
        eventually(lambda: server.counters.bytes_in_flight == 0)
        assert store.get_run("r").events == 50 + 19_999
