"""Sessions over real sockets: acks after commits, cursors, refused events, fencing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from server_peers import (
    Peer,
    address_of,
    end_of,
    eventually,
    frame_of,
    payload_of,
    quick,
    seqs,
    serving,
    stream,
)

from xtrack_protocol.server import CollectorServer
from xtrack_protocol.session import StreamHeld, StreamRefused, Welcomed
from xtrack_protocol.storage import MemoryStore, SQLiteStore
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.wire import frame_payload

A, B, C = stream("r", "w1", "a"), stream("r", "w2", "b"), stream("other", "", "c")


@pytest.mark.parametrize("kind", ["memory", "sqlite", "local"])
def test_what_is_acked_is_stored(kind: str, tmp_path: Path) -> None:
    stores = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path / "s.db"),
        "local": lambda: LocalStore(tmp_path / "x"),
    }
    with stores[kind]() as store, serving(store) as server, Peer(address_of(server)) as peer:
        welcome = peer.wait_for(Welcomed)
        assert welcome.durability == store.durability
        assert peer.open(A) == 0
        peer.send(A, 300)
        assert peer.wait_acked(A, 300) == []
        assert seqs(store, A) == list(range(1, 301))
        peer.send(A, 301, end_of(A))
        peer.wait_acked(A, 301)
        assert store.get_run("r").status == "completed"
        assert eventually(lambda: server.counters.events == 301)


def test_many_runs_on_one_connection_and_many_connections_of_one_run(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "s.db") as store, serving(store) as server:
        peers = [Peer(address_of(server)) for _ in range(8)]
        streams = [
            [stream(f"run-{run}", f"w{number}", "0123456789abcdef"[number]) for run in range(3)] for number in range(8)
        ]
        for peer, mine in zip(peers, streams, strict=True):
            for one in mine:
                peer.open(one)
        for upto in (50, 100, 150):
            for peer, mine in zip(peers, streams, strict=True):
                for one in mine:
                    peer.send(one, upto)
        for peer, mine in zip(peers, streams, strict=True):
            for one in mine:
                assert peer.wait_acked(one, 150) == []
                assert seqs(store, one) == list(range(1, 151))
            peer.close()
        assert store.get_run("run-0").events == 8 * 150
        assert server.counters.commits < 8 * 3 * 3, "what waits is committed together"


def test_a_stream_goes_on_where_it_was() -> None:
    with MemoryStore() as store, serving(store) as server:
        with Peer(address_of(server)) as peer:
            peer.open(A)
            peer.send(A, 10)
            peer.wait_acked(A, 10)
        with Peer(address_of(server)) as peer:
            assert peer.open(A) == 10
            peer.send(A, 12)
            peer.wait_acked(A, 12)
        assert seqs(store, A) == list(range(1, 13))
        assert server.counters.duplicates == 0


def test_what_a_peer_sent_before_it_left_is_committed() -> None:
    with MemoryStore() as store, serving(store) as server:
        with Peer(address_of(server)) as peer:
            peer.open(A)
            peer.sock.sendall(b"".join(frame_of(A, seq) for seq in range(1, 2001)))
            peer.sock.shutdown(socket.SHUT_WR)
            eventually(lambda: server.counters.connections == 0)
        assert eventually(lambda: server.counters.events == 2000)
        assert seqs(store, A) == list(range(1, 2001))


def test_refused_events_are_named() -> None:
    store = MemoryStore()
    with serving(store) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.send(A, 3)
        peer.wait_acked(A, 3)
        peer.sock.sendall(frame_of(A, 2, value=9.0))  # another event under a seq that is taken
        peer.sock.sendall(frame_payload(b'{"v":1,"t":"metric","m":{"seq":4,"ts":1},"p":{"run_id":"r"}}'))
        peer.sock.sendall(frame_of(A, 5))
        peer.session._streams[A].highest = peer.session._streams[A].sent = 5
        refused = peer.wait_acked(A, 5)
        assert sorted(refused) == [(2, "seq_conflict"), (4, "missing_field")]
        assert store.cursor(A).contiguous_to == 5, "a refused event is recorded as lost, so that the cursor goes on"
        assert store.get_run("r").streams[0].skipped == ((4, 4),)
        assert server.counters.refused_events["seq_conflict"] == 1
    with serving(store) as server, Peer(address_of(server)) as peer:
        assert peer.open(A) == 5


def test_events_of_a_deleted_run_are_refused_and_acked() -> None:
    with MemoryStore() as store, serving(store) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.open(C)
        peer.send(A, 2)
        peer.wait_acked(A, 2)
        store.delete_run("r")
        peer.send(C, 2)
        peer.send(A, 4)
        assert peer.wait_acked(A, 4) == [(3, "run_deleted"), (4, "run_deleted")]
        assert peer.wait_acked(C, 2) == []


def test_the_gap_policy_refuses_what_stands_above_a_gap() -> None:
    with MemoryStore() as store, serving(store, gap_policy="reject") as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.sock.sendall(frame_of(A, 1) + frame_of(A, 3))
        peer.session._streams[A].highest = 3
        assert peer.wait_acked(A, 3) == [(3, "gap")]
        assert seqs(store, A) == [1]


def test_a_gap_that_was_declared_is_closed() -> None:
    with MemoryStore() as store, serving(store) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.send(A, 2)
        assert peer.session.skip(A, 3, 9, "disk full")
        peer.send(A, 10)
        peer.wait_acked(A, 10)
        assert seqs(store, A) == [1, 2, 10]
        assert store.get_run("r").lost_events == 7


def test_the_newer_connection_has_the_stream() -> None:
    with MemoryStore() as store, serving(store) as server:
        with Peer(address_of(server)) as old, Peer(address_of(server)) as new:
            old.open(A)
            old.open(C)
            old.send(A, 5)
            old.wait_acked(A, 5)
            assert new.open(A) == 5
            old.wait_for(StreamRefused, stream=A, code="fenced")
            old.sock.sendall(frame_of(A, 6, value=1.0))  # of a process that doesn't know it yet
            new.send(A, 8)
            new.wait_acked(A, 8)
            old.send(C, 1)
            old.wait_acked(C, 1)  # its other stream goes on
        assert seqs(store, A) == list(range(1, 9))
        assert [event.raw for event in store.events("r")][5] == payload_of(A, 6)
        assert server.counters.fenced == 1


def test_who_has_lost_its_only_stream_is_rejected() -> None:
    with MemoryStore() as store, serving(store) as server, Peer(address_of(server)) as old:
        old.open(A)
        with Peer(address_of(server)) as new:
            new.open(A)
            assert old.wait_rejected().code == "fenced"
            new.send(A, 3)
            new.wait_acked(A, 3)


def test_what_the_older_connection_sent_is_committed_before_the_newer_is_answered(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "s.db") as store, serving(store) as server:
        for _ in range(5):
            with Peer(address_of(server)) as old, Peer(address_of(server)) as new:
                begin = old.open(A)
                data = b"".join(frame_of(A, seq) for seq in range(begin + 1, begin + 401))
                old.sock.sendall(data)
                cursor = new.open(A)
                eventually(lambda: old.is_closed or old.pump())
                assert seqs(store, A) == list(range(1, cursor + 1)), "nothing is added behind the cursor"


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with MemoryStore() as store, CollectorServer(store, unix=path).run_in_thread() as server:
        assert server.addresses == [path]
        assert path.stat().st_mode & 0o777 == 0o600
        with Peer(path) as peer:
            peer.open(A)
            peer.send(A, 3)
            peer.wait_acked(A, 3)
    assert not path.exists()


def test_too_many_streams_of_a_connection_are_refused() -> None:
    from xtrack_protocol.session import CollectorLimits

    limits = quick(session=CollectorLimits(streams=2))
    with MemoryStore() as store, serving(store, limits=limits) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.open(B)
        peer.session.open_stream(C, 0)
        assert "2 streams" in peer.wait_for(StreamHeld, stream=C).reason


def test_a_frame_that_was_cut_off_is_no_damage(caplog: pytest.LogCaptureFixture) -> None:
    """A session sends it again; of a plain worker it is lost, which is told."""
    with MemoryStore() as store, serving(store) as server:
        with Peer(address_of(server)) as peer:
            peer.open(A)
            peer.send(A, 2)
            peer.wait_acked(A, 2)
            peer.sock.sendall(frame_of(A, 3)[:-3])
        eventually(lambda: not server.counters.connections)
        assert "is no event" not in caplog.text
        assert not server.counters.refused_events
        with Peer(address_of(server)) as again:
            assert again.open(A) == 2
        with socket.create_connection(address_of(server)) as plain:
            plain.sendall(frame_of(C, 1) + frame_of(C, 2)[:-3])
        eventually(lambda: server.counters.refused_events["frames"] == 1)
        assert "is no event" in caplog.text
