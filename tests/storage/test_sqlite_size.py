"""Large runs: what a question costs doesn't grow with what isn't asked for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from xtrack_protocol.storage import SQLiteStore
from xtrack_protocol.testing import Worker

POINTS = 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_of_a_million_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "store.db"
    worker = Worker("r")
    began = time.perf_counter()
    with SQLiteStore(path) as store:
        store.append([worker.start("big")])
        while worker.seq < POINTS:
            store.append([worker.metric("loss", worker.seq / 7, worker.seq) for _ in range(1000)])
    figures = {"build and append, s": time.perf_counter() - began}
    with SQLiteStore(path, read_only=True) as store:
        began = time.perf_counter()
        state = store.get_run("r")
        figures["get_run, s"] = time.perf_counter() - began
        assert state.metrics["loss"].count >= POINTS
        assert figures["get_run, s"] < 1
        began = time.perf_counter()
        points = store.get_metrics("r", "loss")
        figures["get_metrics, s"] = time.perf_counter() - began
        assert len(points) == state.metrics["loss"].count
        began = time.perf_counter()
        assert len(store.get_metrics("r", "loss", min_step=500_000, max_step=500_999)) == 1000
        figures["get_metrics of 1000 steps, s"] = time.perf_counter() - began
    figures["bytes a point"] = path.stat().st_size / POINTS
    with capsys.disabled():
        print(figures)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_before_any_snapshot_was_due(tmp_path: Path) -> None:
    """A run of ten thousand names, whose snapshots are far apart, is still read from its events."""
    with SQLiteStore(tmp_path / "store.db") as store:
        worker = Worker("r")
        for _ in range(20):
            store.append([worker.metric(f"key {number}", number, worker.seq) for number in range(5000)])
        assert len(store.metric_keys("r")) == 5000
        with SQLiteStore(tmp_path / "store.db", read_only=True) as reader:
            assert reader.get_run("r").events == 100_000
        assert store.check() == []
