"""Subscriptions over the wire."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from server_peers import Peer, address_of, end_of, eventually, payload_of, quick, serving, stream

from xtrack_protocol.ir import LogEntry
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.server.subscriptions import newest
from xtrack_protocol.session import CollectorLimits, EventPublished, SubscriptionEnded, SubscriptionStarted
from xtrack_protocol.storage import MemoryStore, SQLiteStore

A, B = stream("r", "w1", "a"), stream("other", "", "b")


def subscribe(peer: Peer, run: str, cursor: int | None, **options: Any) -> None:
    assert peer.session.subscribe(run, cursor, time.monotonic(), **options)
    peer.pump()


def published(peer: Peer) -> list[bytes]:
    return [item.frame.raw for item in peer.news if isinstance(item, EventPublished)]


def got(peer: Peer, count: int) -> list[bytes]:
    eventually(lambda: peer.pump() or len(published(peer)) >= count)
    peer.pump(0.2)
    return published(peer)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_history_then_what_comes(kind: str, tmp_path: Path) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "s.db")
    with store, serving(store) as server, Peer(address_of(server)) as worker:
        worker.open(A)
        worker.open(B)
        worker.send(A, 1000)
        worker.send(B, 10)
        worker.wait_acked(A, 1000)
        with Peer(address_of(server), features=("follow",)) as reader:
            subscribe(reader, "r", 0)
            assert reader.wait_for(SubscriptionStarted) == SubscriptionStarted("r", 0)
            assert got(reader, 1000) == [payload_of(A, seq) for seq in range(1, 1001)]
            worker.send(A, 1010)
            worker.send(B, 20)
            assert got(reader, 1010) == [payload_of(A, seq) for seq in range(1, 1011)]


@pytest.mark.parametrize("cursor", [0, 1, 995, 1000])
def test_a_cursor_is_how_many_one_has(cursor: int, tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "s.db") as store, serving(store) as server, Peer(address_of(server)) as worker:
        for one in (A, B):  # so that positions and numbers differ
            worker.open(one)
        for upto in range(100, 1001, 100):
            worker.send(B, upto)
            worker.send(A, upto)
            worker.wait_acked(A, upto)
        with Peer(address_of(server), features=("follow",)) as reader:
            subscribe(reader, "r", cursor)
            assert reader.wait_for(SubscriptionStarted).cursor == cursor
            worker.send(A, 1002)
            assert got(reader, 1002 - cursor) == [payload_of(A, seq) for seq in range(cursor + 1, 1003)]


def test_from_now_on(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "s.db") as store, serving(store) as server, Peer(address_of(server)) as worker:
        worker.open(A)
        worker.open(B)
        worker.send(B, 70)
        worker.send(A, 500)
        worker.wait_acked(A, 500)
        with Peer(address_of(server), features=("follow",)) as reader:
            subscribe(reader, "r", None)
            assert reader.wait_for(SubscriptionStarted).cursor == 500
            worker.send(A, 505)
            assert got(reader, 5) == [payload_of(A, seq) for seq in range(501, 506)]


def test_a_run_that_is_not_there_yet() -> None:
    with MemoryStore() as store, serving(store) as server, Peer(address_of(server)) as reader:
        subscribe(reader, "r", 0)
        subscribe(reader, "other", None)
        eventually(lambda: server.counters.subscriptions == 2)
        with Peer(address_of(server)) as worker:
            worker.open(A)
            worker.send(A, 5)
            assert len(got(reader, 5)) == 5


def test_the_end_and_the_deletion_of_a_run() -> None:
    with MemoryStore() as store, serving(store) as server, Peer(address_of(server)) as worker:
        worker.open(A)
        worker.send(A, 5)
        worker.wait_acked(A, 5)
        with Peer(address_of(server), features=("follow",)) as reader:
            subscribe(reader, "r", 0, until_end=True)
            got(reader, 5)
            worker.send(A, 6, end_of(A))
            assert reader.wait_for(SubscriptionEnded) == SubscriptionEnded("r", "ended")
            assert len(published(reader)) == 6
            subscribe(reader, "r", 6)
            eventually(lambda: server.counters.subscriptions == 1)
            store.delete_run("r")
            ended = reader.wait_for(SubscriptionEnded, code="deleted")
            assert ended.run_id == "r"
        eventually(lambda: server.counters.subscriptions == 0)


def test_unsubscribe() -> None:
    with MemoryStore() as store, serving(store) as server, Peer(address_of(server)) as worker:
        worker.open(A)
        worker.send(A, 5)
        with Peer(address_of(server)) as reader:
            subscribe(reader, "r", 0)
            got(reader, 5)
            reader.session.unsubscribe("r", time.monotonic())
            reader.pump()
            eventually(lambda: server.counters.subscriptions == 0)
            worker.send(A, 10)
            worker.wait_acked(A, 10)
            reader.pump(0.3)
            assert len(published(reader)) == 5


PATIENT = quick(flush_seconds=600.0, session=CollectorLimits(idle_seconds=600.0))
"""For peers that are late because the machine is busy."""


def test_many_subscribers_each_at_its_own_pace(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    with store, serving(store, limits=PATIENT) as server, Peer(address_of(server)) as worker:
        worker.open(A)
        readers = [Peer(address_of(server)) for _ in range(10)]
        for reader in readers:
            subscribe(reader, "r", 0)
        for seq in range(1, 101):
            worker.send(A, seq, LogEntry("r", "info", "x" * 20_000))
        worker.wait_acked(A, 100)  # whoever doesn't read keeps nobody from it
        for reader in readers:
            assert len(got(reader, 100)) == 100
            reader.close()


def test_a_subscriber_holds_no_whole_run(tmp_path: Path) -> None:
    """A reader that stops reading makes the server keep a page, not the run."""
    with MemoryStore() as store, serving(store, limits=PATIENT) as server, Peer(address_of(server)) as worker:
        worker.open(A)
        for seq in range(1, 81):
            worker.send(A, seq, LogEntry("r", "info", "x" * 300_000))
        worker.wait_acked(A, 80)
        with Peer(address_of(server)) as reader:
            subscribe(reader, "r", 0)
            eventually(lambda: server.counters.sent > 1)
            time.sleep(1.0)
            assert server.counters.sent < 70
            waiting = max(one.session.output_size for one in server._connections)
            assert waiting < 2_000_000
            assert len(got(reader, 80)) == 80


def test_who_may_not_read_is_told(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json", new=True)
    (_, ann), (_, bob) = ring.add("ann"), ring.add("bob")
    store = MemoryStore()
    with serving(store, access=AccessControl(store, ring)) as server, Peer(address_of(server), key=ann) as worker:
        worker.open(A)
        worker.send(A, 5)
        worker.wait_acked(A, 5)
        with Peer(address_of(server), key=bob, features=("follow",)) as reader:
            subscribe(reader, "r", 0)
            assert reader.wait_for(SubscriptionEnded).code == "forbidden"
            assert published(reader) == []
        with Peer(address_of(server), key=bob) as reader:  # which doesn't know how one is told
            subscribe(reader, "r", 0)
            assert reader.wait_rejected().code == "forbidden"
        subscribe(worker, "r", 0)
        assert len(got(worker, 5)) == 5


@pytest.mark.parametrize("runs", [1, 3])
def test_the_newest_position_is_found_without_reading_all(runs: int, tmp_path: Path) -> None:
    from event_builders import a_run, frames

    from xtrack_protocol.collector import Collector

    with SQLiteStore(tmp_path / "s.db") as store:
        collector = Collector(store)
        for part in range(7):
            for run in range(runs):
                name = f"r{run}"
                for item in a_run(part + 1, name, wid=f"w{part}", sid=f"{part:032x}"):
                    collector.push_frames(frames([item]), source=part)
                for item in range(part):
                    del item
                last = [event.position for event in store.events(name)]
                assert newest(store, name) == (len(last), last[-1])
    assert newest(MemoryStore(), "nobody") == (0, 0)
