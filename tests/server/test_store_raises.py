"""A store that raises where nobody expects it: the committer lives on, and nobody is lost or told a lie."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from event_builders import capture, metric, start
from faulty_store import Fault, FaultyStore
from server_peers import Peer, address_of, connect, eventually, quick, seqs, serving, stream

from xtrack_protocol.errors import StorageError, StoreFull, StoreLocked
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.session import Rejected, StreamHeld, StreamRefused

A, B = stream("r", "w1", "a"), stream("other", "", "b")


def test_a_run_for_which_every_write_fails_harms_no_other() -> None:
    """Neither its events nor a note that they are lost can be stored: it waits, and the others go on."""
    store = FaultyStore()
    with serving(store, limits=quick()) as server, Peer(address_of(server)) as peer:
        peer.open(A)
        peer.open(B)
        store.bad_run = "r"
        peer.send(A, 5)
        held = peer.wait_for(StreamHeld, stream=A)
        assert "bad run" in held.reason
        peer.send(B, 5)
        peer.wait_acked(B, 5)
        store.bad_run = None
        eventually(lambda: peer.pump() or peer.is_open(A))
        peer.send(A, 5)
        peer.wait_acked(A, 5)
        assert seqs(store, A) == [1, 2, 3, 4, 5]
        eventually(lambda: server.counters.bytes_in_flight == 0)


@pytest.mark.parametrize("error", [Fault("broken"), StorageError("broken"), StoreLocked("/x", 1.0)])
def test_rights_that_can_not_be_looked_up(error: Exception, tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json", new=True)
    _, key = ring.add("ann")
    _, narrow = ring.add("ann", experiment="vision")
    store = FaultyStore()
    with (
        serving(store, limits=quick(), access=AccessControl(store, ring)) as server,
        Peer(address_of(server), key=key) as good,
        Peer(address_of(server), key=narrow) as bad,
    ):
        good.open(B)
        bad.open(A)
        store.errors["get_experiment"] = error
        bad.send(A, 3)
        bad.wait_for(StreamHeld, stream=A)
        good.send(B, 5)
        good.wait_acked(B, 5)
        store.errors.clear()
        eventually(lambda: bad.pump() or bad.is_open(A))
        bad.send(A, 3)  # it comes again, and is judged
        told = bad.wait_for(StreamRefused, stream=A)
        assert "vision" in told.message
        assert [run.run_id for run in store.list_runs()] == ["other"]


@pytest.mark.parametrize("error", [Fault("broken"), StorageError("broken")])
def test_a_cursor_that_can_not_be_read(error: Exception) -> None:
    store = FaultyStore()
    store.errors["cursor"] = error
    with serving(store, limits=quick()) as server, Peer(address_of(server)) as peer:
        peer.session.open_stream(A, time.monotonic())
        assert "broken" in peer.wait_for(StreamHeld, stream=A).reason
        store.errors.clear()
        eventually(lambda: peer.pump() or peer.is_open(A))
        peer.send(A, 5)
        peer.wait_acked(A, 5)


@pytest.mark.parametrize("error", [Fault("broken"), StoreLocked("/x", 1.0)])
def test_a_lost_worker_that_can_not_be_recorded_yet(error: Exception) -> None:
    store = FaultyStore()
    with serving(store, limits=quick(lost_seconds=0.3)) as server:
        with Peer(address_of(server)) as peer:
            peer.open(A)
            peer.send(A, 3)
            peer.wait_acked(A, 3)
        with connect(address_of(server)) as plain:  # whose second session takes the place of the first
            plain.sendall(capture([start("plain"), metric(2, run="plain")]))
            plain.sendall(capture([start("plain", ts=1_800_000_000_000_000), metric(2, run="plain")]))
            eventually(lambda: server.counters.events == 7)
            store.errors["mark_lost"] = error
        time.sleep(1.5)
        store.errors.clear()
        eventually(lambda: store.get_run("r").status == "lost")
        eventually(lambda: store.get_run("plain").status == "lost")


def test_who_is_back_while_the_store_is_full_is_not_lost() -> None:
    """What was to be recorded waited for the store; by then it isn't true any more."""
    store = FaultyStore()
    with serving(store, limits=quick(lost_seconds=0.3)) as server, Peer(address_of(server)) as other:
        other.open(B)
        with Peer(address_of(server)) as peer:
            peer.open(A)
            peer.send(A, 3)
            peer.wait_acked(A, 3)
        store.errors["append"] = StoreFull("/full")
        other.send(B, 2)
        eventually(lambda: server.counters.store_errors > 0)
        time.sleep(2.5)  # it is due now, and stands behind what can't be stored
        with Peer(address_of(server)) as peer:
            peer.session.open_stream(A, time.monotonic())
            peer.wait_for(StreamHeld, stream=A)
            store.errors.clear()
            eventually(lambda: peer.pump() or peer.is_open(A))
            time.sleep(0.5)
            assert store.get_run("r").status == "running"


def test_an_older_connection_that_asks_again_does_not_fence_the_newer(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json", new=True)
    _, key = ring.add("ann")
    store = FaultyStore()
    with (
        serving(store, limits=quick(), access=AccessControl(store, ring)) as server,
        Peer(address_of(server), key=key) as older,
        Peer(address_of(server), key=key) as newer,
    ):
        store.errors["claim_run"] = StorageError("broken")
        older.session.open_stream(A, time.monotonic())
        older.wait_for(StreamHeld, stream=A)
        store.errors.clear()
        assert newer.open(A) == 0
        newer.send(A, 3)
        newer.wait_acked(A, 3)
        deadline = time.monotonic() + 7  # the older one is asked for again after 5 s
        while time.monotonic() < deadline:
            newer.pump(0.2)
            assert not any(isinstance(item, (Rejected, StreamRefused)) for item in newer.news)
        older.pump()
        assert older.wait_rejected().code == "fenced"
        newer.send(A, 5)
        newer.wait_acked(A, 5)


def test_what_is_lost_at_the_end_is_counted_to_the_last_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = FaultyStore()
    with serving(store, limits=quick(shutdown_seconds=0.5)) as server, connect(address_of(server)) as plain:
        store.errors["append"] = StoreFull("/full")
        plain.sendall(capture([start("plain"), *(metric(seq, run="plain") for seq in range(2, 8))]))
        eventually(lambda: server.counters.store_errors > 0)
    assert "7 events of plain workers are lost" in caplog.text
