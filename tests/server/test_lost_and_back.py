"""Workers that die, are shipped by others, or come back: what the run's status says of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_peers import SECONDS, Peer, address_of, end_of, eventually, quick, serving, stream

from xtrack_protocol.storage import MemoryStore, SQLiteStore, Storage
from xtrack_protocol.storage.local import LocalStore

A = stream("r", "w1", "a")

DIES = """
import os, xtrack_protocol
run = xtrack_protocol.start_run(run_id="killed")
for step in range(20):
    run.log_metric("loss", 1 / (step + 1), step=step)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(params=["memory", "sqlite", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SQLiteStore(tmp_path / "s.db")
    else:
        made = LocalStore(tmp_path / "store")
    with made:
        yield made


def python(*argv: str, folder: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    return subprocess.run(
        [sys.executable, *argv],
        env=inherited | {"XTRACK_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )


def test_a_killed_worker_that_another_ships_is_lost(store: Storage, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    died = python("-c", DIES, folder=spool)
    assert died.returncode == -9, died.stderr
    with serving(store, limits=quick(lost_seconds=2.0)) as server:
        url = f"tcp://127.0.0.1:{server.port}"
        shipped = python("-m", "xtrack_protocol.cli", "sync", str(spool), "--to", url, folder=spool)
        assert shipped.returncode == 0, shipped.stderr
        assert store.get_run("killed").events >= 21
        eventually(lambda: store.get_run("killed").status == "lost")
        eventually(lambda: server.counters.lost_streams == 1)
        again = python("-m", "xtrack_protocol.cli", "sync", str(spool), "--to", url, "--again", folder=spool)
        assert again.returncode == 0, again.stderr
        time.sleep(3)
        assert store.get_run("killed").status == "lost"
        assert server.counters.lost_streams == 1, "it was lost before"


def test_a_passive_stream_alone(store: Storage) -> None:
    with serving(store, limits=quick(lost_seconds=1.0)) as server:
        with Peer(address_of(server), features=("commands",)) as peer:
            peer.session.open_stream(A, time.monotonic(), passive=True)
            eventually(lambda: peer.pump() or peer.is_open(A))
            peer.send(A, 5)
            peer.wait_acked(A, 5)
            time.sleep(2)
            assert store.get_run("r").status == "running"
        eventually(lambda: store.get_run("r").status == "lost")


def test_a_stream_that_is_only_looked_up_again_stays_awaited(store: Storage) -> None:
    """Its connection brings nothing new, and goes away: that is no reason to take it for running."""
    with serving(store, limits=quick(lost_seconds=2.5)) as server:
        for upto in (5, None, None):
            with Peer(address_of(server)) as peer:
                peer.open(A)
                if upto:
                    peer.send(A, upto)
                    peer.wait_acked(A, upto)
            time.sleep(0.3)
        eventually(lambda: store.get_run("r").status == "lost")


def test_a_lost_worker_that_comes_back_and_ends_is_completed(store: Storage) -> None:
    with serving(store, limits=quick(lost_seconds=1.0)) as server:
        with Peer(address_of(server)) as peer:
            peer.open(A)
            peer.send(A, 5)
            peer.wait_acked(A, 5)
        eventually(lambda: store.get_run("r").status == "lost")
        with Peer(address_of(server)) as peer:
            assert peer.open(A) == 5
            peer.send(A, 8)
            peer.wait_acked(A, 8)
            assert store.get_run("r").status == "running"
        eventually(lambda: store.get_run("r").status == "lost")
        with Peer(address_of(server)) as peer:
            assert peer.open(A) == 8
            peer.send(A, 10, end_of(A))
            peer.wait_acked(A, 10)
            assert store.get_run("r").status == "completed"
        time.sleep(2.5)
        assert store.get_run("r").status == "completed"
        assert server.counters.lost_streams == 2
