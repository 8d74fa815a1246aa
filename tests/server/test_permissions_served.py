"""Keys and owners at a server that runs: over sockets, keys that change under its eyes, two servers at once."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from server_peers import Peer, address_of, eventually, payload_of, serving, stream

from xtrack_protocol.ir import Command, Metric, RunId, RunStart
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.session import (
    Acked,
    CommandResultReceived,
    EventPublished,
    StreamRefused,
    SubscriptionEnded,
    SubscriptionStarted,
)
from xtrack_protocol.storage import RunAccess, SQLiteStore
from xtrack_protocol.testing import Worker


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    ring = Keyring(tmp_path / "keys.json", new=True)
    ring.add("nobody")
    return ring


def served(store: SQLiteStore, ring: Keyring, **options: Any) -> Any:
    """A server with a reader of the keys of its own, as another process has it."""
    return serving(store, access=AccessControl(store, Keyring(ring.path)), **options)


def refused(peer: Peer, run_id: str) -> StreamRefused:
    of = stream(run_id)
    peer.session.open_stream(of, 0)
    found = peer.wait_for(StreamRefused, stream=of)
    assert isinstance(found, StreamRefused)
    return found


def test_runs_belong_to_who_writes_first(tmp_path: Path, ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    """Strangers are told so, and their events are not kept; both logs hold no secret."""
    keys = {name: ring.add(name)[1] for name in ("ann", "bob")}
    caplog.set_level(logging.DEBUG)
    with SQLiteStore(tmp_path / "s.db") as store:
        store.append([Worker("local").start()])
        with served(store, ring) as server:
            with Peer(address_of(server), key=keys["ann"]) as ann, Peer(address_of(server), key=keys["bob"]) as bob:
                assert ann.open(stream("r")) == 0
                ann.send(stream("r"), 5)
                ann.wait_acked(stream("r"), 5)
                taken = refused(bob, "r")
                assert (taken.code, "`xtrack access r --grant bob:write`" in taken.message) == ("forbidden", True)
                unowned = refused(bob, "local")
                assert "`xtrack access local --owner bob`" in unowned.message
                assert bob.open(stream("bobs")) == 0, "the connection goes on"
                bob.send(stream("bobs"), 3)
                bob.wait_acked(stream("bobs"), 3)
            assert server.counters.refused_peers["forbidden"] == 2
            store.change_access("r", lambda _: RunAccess(owner="ann", writers=frozenset({"bob"})))
            with Peer(address_of(server), key=keys["bob"]) as bob:
                assert bob.open(stream("r", "w2", "b")) == 0
        assert store.get_run("r").events == 5
        assert store.get_run("local").events == 1
        assert {run: store.get_access(run).owner for run in ("r", "local", "bobs")} == {
            "r": "ann",
            "local": None,
            "bobs": "bob",
        }
    assert "somebody else's" in caplog.text
    assert all(key.split("_", 2)[2][:12] not in caplog.text for key in keys.values())


def test_a_key_for_one_experiment_at_work(tmp_path: Path, ring: Keyring) -> None:
    """A run in another one is refused with its first event, none of which is kept."""
    _, key = ring.add("ann", experiment="vision")
    with SQLiteStore(tmp_path / "s.db") as store, served(store, ring) as server:
        with Peer(address_of(server), key=key) as peer:
            assert peer.open(stream("out")) == 0
            peer.send(stream("out"), 4)
            told = peer.wait_for(StreamRefused, stream=stream("out"))
            assert "XTRACK_EXPERIMENT=vision" in told.message
            good = stream("in")
            assert peer.open(good) == 0
            start = payload_of(good, 1, RunStart(RunId("in", "vision")))
            eventually(lambda: peer.session.offer(good, 1, start))
            peer.send(good, 4)
            peer.wait_acked(good, 4)
        assert not any(isinstance(item, Acked) and item.stream == stream("out") for item in peer.news)
        assert [run.run_id for run in store.list_runs()] == ["in"]


def test_a_run_start_does_not_make_up_for_the_event_before_it(tmp_path: Path, ring: Keyring) -> None:
    """A run is made by its first event, also where a run_start of the experiment comes with it. spec: SEC-3.2"""
    _, key = ring.add("ann", experiment="vision")
    of = stream("r")
    with SQLiteStore(tmp_path / "s.db") as store, served(store, ring) as server:
        with Peer(address_of(server), key=key) as peer:
            assert peer.open(of) == 0
            for seq, payload in ((1, Metric("r", "loss", 0.5)), (2, RunStart(RunId("r", "vision")))):
                assert peer.session.offer(of, seq, payload_of(of, seq, payload))
            assert peer.wait_for(StreamRefused, stream=of).code == "forbidden"
        assert store.list_runs() == []


def test_a_key_that_is_removed_ends_its_sessions(tmp_path: Path, ring: Keyring) -> None:
    """Others go on, and a key that is added holds at once; nothing is restarted. spec: SEC-2.6, SEC-2.7."""
    info, key = ring.add("ann")
    other, old = ring.add("bob")
    with SQLiteStore(tmp_path / "s.db") as store, served(store, ring) as server:
        with Peer(address_of(server), key=key) as ann, Peer(address_of(server), key=old) as bob:
            ann.open(stream("r"))
            ann.send(stream("r"), 3)
            ann.wait_acked(stream("r"), 3)
            bob.open(stream("q"))
            _, new = ring.rotate(other.key_id, grace_seconds=3600)
            ring.remove(info.key_id)
            assert ann.wait_rejected().code == "unauthorized"
            bob.send(stream("q"), 3)
            bob.wait_acked(stream("q"), 3)
            with Peer(address_of(server), key=new) as again:
                assert again.open(stream("q", "w2", "b")) == 0
                ring.rotate(other.key_id)
                assert bob.wait_rejected().code == again.wait_rejected().code == "unauthorized"
        for gone in (key, old, new):
            with Peer(address_of(server), key=gone, welcome=False) as peer:
                assert peer.wait_rejected().code == "unauthorized"
        assert store.get_run("r").events == 3


def test_a_file_of_keys_that_breaks_lets_nobody_in_and_ends_nobody(tmp_path: Path, ring: Keyring) -> None:
    """spec: SEC-2.8."""
    _, key = ring.add("ann")
    good = ring.path.read_bytes()
    with (
        SQLiteStore(tmp_path / "s.db") as store,
        served(store, ring) as server,
        Peer(address_of(server), key=key) as ann,
    ):
        ann.open(stream("r"))
        ring.path.write_bytes(good[:-20])
        with Peer(address_of(server), key=key, welcome=False) as peer:
            told = peer.wait_rejected()
            assert (told.code, told.retry_after) == ("busy", 5)
        ann.send(stream("r"), 3)
        ann.wait_acked(stream("r"), 3)
        ring.path.write_bytes(good)
        with Peer(address_of(server), key=key) as peer:
            assert peer.open(stream("q")) == 0


def test_two_servers_on_one_store_agree_who_owns_a_run(tmp_path: Path, ring: Keyring) -> None:
    """Two owners open the same runs at the same moment at one each. spec: SEC-4.1."""
    keys = {name: ring.add(name)[1] for name in ("ann", "bob")}
    runs = [f"r{number}" for number in range(15)]
    won: dict[str, set[str]] = {"ann": set(), "bob": set()}
    errors: list[BaseException] = []
    barrier = threading.Barrier(2)
    with SQLiteStore(tmp_path / "s.db") as one, SQLiteStore(tmp_path / "s.db") as two:
        with served(one, ring) as first, served(two, ring) as second:

            def open_all(name: str, server: Any) -> None:
                try:
                    with Peer(address_of(server), key=keys[name]) as peer:
                        barrier.wait(30)
                        for run in runs:
                            peer.session.open_stream(stream(run, name, name[0]), 0)
                        peer.pump()
                        eventually(lambda: peer.pump() or len(peer.news) >= len(runs) + 1)
                        won[name] = {run for run in runs if peer.is_open(stream(run, name, name[0]))}
                except BaseException as error:
                    errors.append(error)

            threads = [
                threading.Thread(target=open_all, args=("ann", first)),
                threading.Thread(target=open_all, args=("bob", second)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert errors == []
        assert won["ann"] | won["bob"] == set(runs)
        assert won["ann"] & won["bob"] == set()
        assert {run: one.get_access(run).owner for run in runs} == {
            run: "ann" if run in won["ann"] else "bob" for run in runs
        }


def test_rights_that_are_taken_back_end_what_is_under_way(tmp_path: Path, ring: Keyring) -> None:
    """A reader hears no more, and a writer writes no more, though nobody reconnects. spec: SEC-4.3, SEC-4.4."""
    keys = {name: ring.add(name)[1] for name in ("ann", "bob")}
    of, bobs = stream("r"), stream("r", "w2", "b")
    with SQLiteStore(tmp_path / "s.db") as store, served(store, ring) as server:
        with (
            Peer(address_of(server), key=keys["ann"]) as ann,
            Peer(address_of(server), key=keys["bob"], features=("follow",)) as bob,
        ):
            ann.open(of)
            ann.send(of, 3)
            ann.wait_acked(of, 3)
            store.change_access("r", lambda _: RunAccess(owner="ann", writers=frozenset({"bob"})))
            bob.open(bobs)
            bob.send(bobs, 3)
            bob.wait_acked(bobs, 3)
            bob.session.subscribe("r", 0, time.monotonic())
            bob.wait_for(SubscriptionStarted)
            eventually(lambda: bob.pump() or sum(isinstance(item, EventPublished) for item in bob.news) == 6)
            store.change_access("r", lambda _: RunAccess(owner="ann"))
            assert bob.wait_for(SubscriptionEnded).code == "forbidden"
            bob.send(bobs, 6)
            told = bob.wait_for(StreamRefused, stream=bobs)
            assert told.code == "forbidden"
            ann.send(of, 6)
            ann.wait_acked(of, 6)
            bob.pump(0.5)
            assert sum(isinstance(item, EventPublished) for item in bob.news) == 6
        assert store.get_run("r").events == 9


def test_a_command_does_not_tell_which_runs_there_are(tmp_path: Path, ring: Keyring) -> None:
    """spec: SEC-4.7."""
    keys = {name: ring.add(name)[1] for name in ("ann", "bob")}
    with (
        SQLiteStore(tmp_path / "s.db") as store,
        served(store, ring) as server,
        Peer(address_of(server), key=keys["ann"]) as ann,
        Peer(address_of(server), key=keys["bob"], features=("commands",)) as bob,
    ):
        ann.open(stream("r1"))
        ann.send(stream("r1"), 3)
        ann.wait_acked(stream("r1"), 3)
        for run_id in ("r1", "r2"):
            bob.session.send_command(Command(run_id * 2, "pause", {}, run_id), time.monotonic())
        eventually(lambda: bob.pump() or sum(isinstance(i, CommandResultReceived) for i in bob.news) == 2)
        answers = [item.result for item in bob.news if isinstance(item, CommandResultReceived)]
        texts = [(answer.message or "").replace(answer.run_id, "RUN") for answer in answers]
        assert texts[0] == texts[1]
