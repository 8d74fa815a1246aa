"""A store that is full, locked, damaged, or can't keep one event: nothing is lost, nobody else is harmed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from event_builders import a_run, capture
from server_peers import Peer, address_of, connect, eventually, frame_of, payload_of, quick, seqs, serving, stream

from xtrack_protocol.errors import StorageError, StoreFull, StoreLocked
from xtrack_protocol.ir import LogEntry
from xtrack_protocol.session import CollectorLimits, StreamHeld, StreamOpened, StreamState
from xtrack_protocol.storage import AppendResult, Incoming, MemoryStore, SQLiteStore

A, B, C = stream("r", "w1", "a"), stream("other", "", "b"), stream("third", "", "c")


class TroubledStore(MemoryStore):
    """Refuses as it is told, at the place where a real one would."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.bad_runs: set[str] = set()
        self.poison: bytes = b"\0"
        self.appends = 0
        self.slow = threading.Event()
        self.slow.set()

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        self.slow.wait(30)
        self.appends += 1
        if self.error is not None:
            raise self.error
        if any(item.stream.run_id in self.bad_runs for item in batch):
            raise StorageError("the rows of this run are damaged")
        if any(self.poison in item.raw for item in batch):
            raise ValueError("can't be put into a row")
        return super().append(batch)


def test_a_full_store_makes_peers_wait_and_loses_nothing() -> None:
    store = TroubledStore()
    with serving(store, limits=quick()) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.open(B)
        peer.send(A, 5)
        peer.wait_acked(A, 5)
        store.error = StoreFull("/full")
        peer.send(A, 10)
        held = peer.wait_for(StreamHeld, stream=A)
        assert "the disk is full" in held.reason
        assert held.cursor == 5
        peer.wait_for(StreamHeld, stream=B)
        before = store.appends
        time.sleep(0.5)
        assert store.appends - before < 30, "it doesn't spin"
        with Peer(address_of(server)) as late:  # who comes now waits too
            late.session.open_stream(C, time.monotonic())
            late.wait_for(StreamHeld, stream=C)
            with connect(address_of(server)) as plain:
                plain.sendall(capture(a_run(20, run="plain")))
                time.sleep(0.2)
                store.error = None
                late.wait_for(StreamOpened, stream=C)
            late.send(C, 3)
            late.wait_acked(C, 3)
        eventually(lambda: peer.pump() or peer.is_open(A))
        eventually(lambda: peer.pump() or peer.is_open(B))
        peer.send(A, 20)
        peer.wait_acked(A, 20)
        assert seqs(store, A) == list(range(1, 21))
        eventually(lambda: store.get_run("plain").events == 22)
        assert server.counters.store_errors == 1
    store.close()


def test_a_locked_sqlite_store(tmp_path: Path) -> None:
    import sqlite3

    store = SQLiteStore(tmp_path / "s.db", busy_seconds=0.2)
    with store, serving(store, limits=quick()) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.send(A, 1)
        peer.wait_acked(A, 1)
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        peer.send(A, 50)
        assert "locked" in peer.wait_for(StreamHeld, stream=A).reason
        other.execute("ROLLBACK")
        other.close()
        eventually(lambda: peer.pump() or peer.is_open(A))
        peer.send(A, 100)
        peer.wait_acked(A, 100)
        assert seqs(store, A) == list(range(1, 101))


def test_a_store_that_stays_full_does_not_keep_the_server_from_stopping() -> None:
    store = TroubledStore()
    with serving(store, limits=quick(shutdown_seconds=0.5)) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        store.error = StoreLocked("/locked", 5.0)
        peer.send(A, 10)
        peer.wait_for(StreamHeld, stream=A)
        begun = time.monotonic()
    assert time.monotonic() - begun < 15
    assert peer.session.position(A) >= 0
    store.error = None
    with serving(store) as server, Peer(address_of(server)) as peer:  # it comes again
        assert peer.open(A) == 0
        peer.send(A, 10)
        peer.wait_acked(A, 10)


def test_an_event_that_can_not_be_stored_costs_itself_alone() -> None:
    store = TroubledStore()
    store.poison = b"poison"
    with serving(store) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.open(B)
        store.slow.clear()
        peer.send(B, 10)
        peer.send(A, 3)
        peer.send(A, 4, LogEntry("r", "info", "poison"))
        peer.send(A, 6)
        store.slow.set()
        assert peer.wait_acked(A, 6) == [(4, "bad_value")]
        assert peer.wait_acked(B, 10) == []
        assert seqs(store, A) == [1, 2, 3, 5, 6]
        assert store.get_run("r").streams[0].skipped == ((4, 4),)
        assert server.counters.refused_events["bad_value"] == 1


def test_a_run_that_is_damaged_harms_no_other() -> None:
    store = TroubledStore()
    with serving(store) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.open(B)
        store.bad_runs.add("r")
        store.slow.clear()
        peer.send(A, 5)
        peer.send(B, 5)
        store.slow.set()
        assert peer.wait_acked(B, 5) == []
        assert "damaged" in peer.wait_for(StreamHeld, stream=A).reason
        store.bad_runs.clear()
        eventually(lambda: peer.pump() or peer.is_open(A))  # asked again after a while
        peer.send(A, 5)
        peer.wait_acked(A, 5)
        assert server.counters.bytes_in_flight == 0


def test_too_much_under_way_stops_the_reading_of_all() -> None:
    store = TroubledStore()
    limits = quick(
        bytes_in_flight=2_000_000, session=CollectorLimits(in_flight=8_000_000, window_bytes=None, window_events=None)
    )
    with serving(store, limits=limits) as server:
        peers = [Peer(address_of(server)) for _ in range(3)]
        streams = [stream("r", f"w{number}", str(number)) for number in range(3)]
        for peer, one in zip(peers, streams, strict=True):
            peer.open(one)
        store.slow.clear()
        text = LogEntry("r", "info", "x" * 100_000)
        sending = [
            threading.Thread(
                target=peer.sock.sendall, args=(b"".join(frame_of(one, seq, text) for seq in range(1, 201)),)
            )
            for peer, one in zip(peers, streams, strict=True)
        ]
        for thread in sending:
            thread.start()
        eventually(lambda: server.counters.bytes_in_flight >= 2_000_000)
        time.sleep(0.5)
        assert server.counters.bytes_in_flight < 2_000_000 + 3 * 2 * 200_000
        assert server.counters.bytes_received < 20_000_000, "60 MB wait in their sockets"
        store.slow.set()
        for thread in sending:
            thread.join(30)
            assert not thread.is_alive()
        eventually(lambda: server.counters.events == 600)
        for peer in peers:
            peer.close()
        eventually(lambda: server.counters.bytes_in_flight == 0)


def test_while_one_waits_for_the_store_the_others_are_answered() -> None:
    """The loop never waits for the store: hellos are answered while a commit takes its time."""
    store = TroubledStore()
    with serving(store) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        store.slow.clear()
        peer.send(A, 5)
        for _ in range(5):
            with Peer(address_of(server)) as other:  # which waits for its welcome
                other.session.open_stream(B, time.monotonic())
                other.pump()
                assert other.session.stream_state(B) is StreamState.OPENING
        store.slow.set()
        peer.wait_acked(A, 5)


def test_payloads_are_kept_as_they_came() -> None:
    store: Any = MemoryStore()
    with serving(store) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.send(A, 20)
        peer.wait_acked(A, 20)
        assert [event.raw for event in store.events("r")] == [payload_of(A, seq) for seq in range(1, 21)]
