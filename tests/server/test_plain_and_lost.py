"""Plain workers of version 1; and workers whose connection goes away."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from event_builders import a_run, capture, end, frames, metric, start
from server_peers import (
    Peer,
    address_of,
    connect,
    end_of,
    eventually,
    frame_of,
    quick,
    read_all,
    seqs,
    serving,
    stream,
)

from xtrack_protocol.server import CollectorServer
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import MemoryStore, SQLiteStore
from xtrack_protocol.storage.local import LocalStore

A = stream("r", "w1", "a")


def test_a_plain_worker_is_served_and_told_nothing() -> None:
    with MemoryStore() as store, serving(store) as server:
        sock = connect(address_of(server))
        sock.sendall(capture(a_run(500)))
        eventually(lambda: server.counters.events == 502)
        assert server.counters.plain == 1
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
        sock.close()
        assert store.get_run("r").status == "completed"
        [summary] = store.get_run("r").streams
        assert summary.stream.is_derived


def test_a_plain_worker_that_is_silent_stays() -> None:
    with MemoryStore() as store, serving(store) as server:
        sock = connect(address_of(server))
        sock.sendall(capture([start()]))
        eventually(lambda: server.counters.events == 1)
        time.sleep(0.3)
        sock.sendall(capture([metric(2)]))
        eventually(lambda: server.counters.events == 2)
        sock.close()


def test_one_bad_frame_of_a_plain_worker_costs_itself_alone() -> None:
    with MemoryStore() as store, serving(store) as server:
        with connect(address_of(server)) as sock:
            sock.sendall(capture([start(), metric(2)]) + b"\0\0\0\3{,}" + capture([metric(3), end(4)]))
            eventually(lambda: server.counters.events == 4)
        assert server.counters.refused_events["frames"] == 1
        assert store.get_run("r").status == "completed"


def test_a_plain_worker_that_begins_anew_supersedes_its_earlier_session() -> None:
    with MemoryStore() as store, serving(store) as server:
        with connect(address_of(server)) as sock:
            sock.sendall(capture([start(), metric(2)]))
            sock.sendall(capture([start(ts=1_800_000_000_000_000), metric(2), end(3)]))
            eventually(lambda: server.counters.events == 5)
        eventually(lambda: store.get_run("r").status == "completed")
        assert len(store.get_run("r").streams) == 2


def test_a_plain_worker_that_leaves_without_an_end_is_running_then_lost() -> None:
    with MemoryStore() as store, serving(store, limits=quick(lost_seconds=2.0)) as server:
        with connect(address_of(server)) as sock:
            sock.sendall(capture([start(), metric(2)]))
            eventually(lambda: server.counters.events == 2)
        assert store.get_run("r").status == "running"
        eventually(lambda: store.get_run("r").status == "lost")
        [summary] = store.get_run("r").streams
        assert summary.lost is not None
        assert (summary.lost.reason, summary.lost.after_seq) == ("vanished", 2)
        eventually(lambda: server.counters.lost_streams == 1)


def test_a_session_that_is_gone_counts_as_lost_unless_it_comes_back() -> None:
    limits = quick(lost_seconds=3.0)
    with MemoryStore() as store, serving(store, limits=limits) as server:
        gone, back, done = (stream("r", f"w{number}", str(number)) for number in range(3))
        with Peer(address_of(server)) as peer:
            for one in (gone, back, done):
                peer.open(one)
                peer.send(one, 5, end_of(one) if one == done else None)
                peer.wait_acked(one, 5)
        with Peer(address_of(server)) as peer:
            assert peer.open(back) == 5
            eventually(lambda: store.get_run("r").status == "lost" or peer.pump(0.2))
            found = {summary.stream: summary.status for summary in store.get_run("r").streams}
            assert found == {gone: "lost", back: "running", done: "completed"}
        with Peer(address_of(server)) as peer:  # who comes back all the same goes on
            assert peer.open(gone) == 5
            peer.send(gone, 6)
            peer.wait_acked(gone, 6)
            found = {summary.stream: summary.status for summary in store.get_run("r").streams}
            assert found[gone] == "running"


def test_a_stream_that_was_opened_and_never_used_makes_no_run() -> None:
    with MemoryStore() as store, serving(store, limits=quick(lost_seconds=0.1)) as server:
        with Peer(address_of(server)) as peer:
            peer.open(A)
        time.sleep(1.5)
        assert store.list_runs() == []
        assert server.counters.lost_streams == 0


def test_readers_of_a_local_store_see_who_is_connected(tmp_path) -> None:
    from xtrack_protocol.spool import SpoolDir, is_locked, lock_path

    with LocalStore(tmp_path) as store, serving(store) as server:
        folder = SpoolDir(tmp_path).run_dir("r")
        many = [stream("r", f"w{number}", f"{number:02x}"[-1] + "f") for number in range(2)]
        many = [
            StreamId("r", f"w{number}", f"{number:032x}") for number in range(20)
        ]  # more than writers are kept open
        with Peer(address_of(server)) as peer:
            for one in many:
                peer.open(one)
                peer.send(one, 2)
                peer.wait_acked(one, 2)
            assert all(is_locked(lock_path(folder, one.session_id)) for one in many)
        eventually(lambda: sum(bool(is_locked(lock_path(folder, one.session_id))) for one in many) <= 16)


def test_events_with_a_session_id_on_a_plain_connection(tmp_path) -> None:
    path = tmp_path / "s"
    with MemoryStore() as store, CollectorServer(store, unix=path).run_in_thread() as server:
        with connect(path) as sock:
            sock.sendall(b"".join(frame_of(A, seq) for seq in range(1, 11)))
            eventually(lambda: server.counters.events == 10)
        assert seqs(store, A) == list(range(1, 11))
        with Peer(path) as peer:
            assert peer.open(A) == 10


def test_a_worker_that_dies_while_its_collector_is_away_is_lost(tmp_path: Path) -> None:
    limits = quick(lost_seconds=2.0)
    other, done = stream("r", "w2", "b"), stream("r", "w3", "c")
    with SQLiteStore(tmp_path / "s.db") as store:
        with serving(store) as server:
            collector = server.collector
            collector.push_frames(frames([start("replayed"), metric(2, run="replayed")]))
            with Peer(address_of(server)) as peer, connect(address_of(server)) as plain:
                for one in (A, other, done):
                    peer.open(one)
                    peer.send(one, 3, end_of(one) if one == done else None)
                    peer.wait_acked(one, 3)
                plain.sendall(capture([start("plain"), metric(2, run="plain")]))
                eventually(lambda: server.counters.events == 11)
        assert (tmp_path / "s.db.connected").stat().st_mode & 0o777 == 0o600
        with serving(store, limits=limits) as server, Peer(address_of(server)) as peer:
            peer.open(other)
            eventually(lambda: peer.pump(0.1) or store.get_run("r").status == "lost")
            eventually(lambda: peer.pump(0.1) or store.get_run("plain").status == "lost")
            found = {summary.stream: summary.status for summary in store.get_run("r").streams}
            assert found == {A: "lost", other: "running", done: "completed"}
            assert store.get_run("replayed").status == "running", "it never had a connection"
        (tmp_path / "s.db.connected").write_text("{")
        with serving(store):
            pass
