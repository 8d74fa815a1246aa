"""What a process remembers of runs never shows: not when it is too little, and not when another process writes too."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, cast

import pytest

from xtrack_protocol.storage import SQLiteStore, Storage, sqlite_append, sqlite_rows, sqlite_runs, sqlite_tail
from xtrack_protocol.storage.sqlite_runs import RunCache
from xtrack_protocol.testing import StorageContract, Worker


class TestForgetfulStore(StorageContract):
    """One run is remembered, of one series, and snapshots and blocks are made all the time."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite_runs, "SNAPSHOT_EVENTS", 3)
        monkeypatch.setattr(sqlite_runs, "SNAPSHOT_EVENTS_A_SERIES", 0)
        monkeypatch.setattr(sqlite_runs, "_EVICTED_EVENTS", 1)
        monkeypatch.setattr(sqlite_rows, "_PACK_BYTES", 0)
        monkeypatch.setattr(sqlite_append, "BULK_EVENTS", 2)
        monkeypatch.setattr(sqlite_tail, "PACKED_EVENTS", 2)
        monkeypatch.setattr(sqlite_tail, "DIRECT_EVENTS", 10)
        monkeypatch.setattr(sqlite_tail, "DIRECT_EVENTS_A_SHAPE", 2)
        monkeypatch.setattr(sqlite_tail, "TAIL_POINTS", 5)
        monkeypatch.setattr(sqlite_tail, "TAIL_POINTS_A_SERIES", 1)
        monkeypatch.setattr(sqlite_tail, "ENDED_POINTS_A_SERIES", 1)

    def make_store(self, directory: Path) -> Storage:
        store = SQLiteStore(directory / "store.db")
        store._cache = RunCache(runs=1, series=1)
        return store


class Alternating:
    """Two stores on one file, as two processes have them: each call goes to the other one."""

    def __init__(self, path: Path) -> None:
        self._stores = [SQLiteStore(path), SQLiteStore(path)]

    def __getattr__(self, name: str) -> Any:
        self._stores.reverse()
        return getattr(self._stores[0], name)

    def close(self) -> None:
        for store in self._stores:
            store.close()


class TestTwoStoresOnOneFile(StorageContract):
    def make_store(self, directory: Path) -> Storage:
        return cast("Storage", Alternating(directory / "store.db"))


def test_runs_by_turns_in_a_small_memory(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "store.db") as store:
        store._cache = RunCache(runs=3, series=5)
        workers = [Worker(f"run{number}") for number in range(8)]
        for step in range(40):
            store.append([worker.metric("x", step, step) for worker in workers[step % 3 :]])
        for number, worker in enumerate(workers):
            assert store.get_run(worker.run_id).events == worker.seq, number
            assert store.cursor(worker.stream).contiguous_to == worker.seq
        assert store.check() == []


def test_a_failed_batch_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folds are ahead of the database when a transaction fails; none of that may show."""
    with SQLiteStore(tmp_path / "store.db") as store:
        worker = Worker("r")
        store.append([worker.start("n")])
        item = worker.metric("x", 1, 1)

        def fail(*_: object, **__: object) -> None:
            raise OSError("at the last moment")

        with monkeypatch.context() as patched:
            patched.setattr(sqlite_append, "write_run", fail)
            with pytest.raises(OSError, match="last moment"):
                store.append([item, Worker("other").start()])
        assert store.get_run("r").events == 1
        assert [state.run_id for state in store.list_runs()] == ["r"]
        assert store.metric_keys("r") == []
        assert len(store.append([item]).stored) == 1
        assert store.check() == []


def test_a_batch_is_let_go_of_at_once(tmp_path: Path) -> None:
    """Events aren't looked into by the garbage collector, so it hardly ever comes: a circle would keep them long."""
    worker = Worker("r")
    with SQLiteStore(tmp_path / "s.db") as store:
        store.append([worker.start("n")])
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for size in (2, 100, 1000):
                worker.seq += 1  # which is lost
                lost = worker.skip(worker.seq, worker.seq)
                store.append([*(worker.metric("loss", 0.5, step=step) for step in range(size)), lost])
            gc.collect()
            kept = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("xtrack_protocol")}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not kept
