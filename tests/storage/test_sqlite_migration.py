"""A store of before blocks, with a row for each point: what it holds stays, and becomes blocks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from storage.older import make_old

from xtrack_protocol.errors import StoreUnavailable
from xtrack_protocol.ir import LogEntry, MetricBatch
from xtrack_protocol.storage import Incoming, MemoryStore, SQLiteStore, sqlite_tail
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.testing import Worker
from xtrack_protocol.testing.poison import NUMBERS, exactly
from xtrack_protocol.testing.storage_series import training


def told(worker: Worker) -> list[Incoming]:
    said = training(worker, 3000)
    said += [worker.metric("odd", value, step) for step, value in enumerate(NUMBERS)]
    said += [worker.say(MetricBatch("r", {})), worker.say(LogEntry("r", "info", "m"))]
    return said


@pytest.mark.parametrize("piece", [700, 65_536])
def test_what_an_older_store_holds_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(sqlite_tail, "_PIECE", piece)
    path, expected, worker = tmp_path / "store.db", MemoryStore(), Worker("r")
    items = told(worker)
    make_old(path, items, monkeypatch)
    expected.append(items)
    before = path.read_bytes()
    for read_only in (True, False):
        with SQLiteStore(path, read_only=read_only) as store:
            assert store.check() == []
            assert exactly(store.get_run("r")) == exactly(expected.get_run("r"))
            assert [event.raw for event in store.events("r")] == [item.raw for item in items]
            for key in expected.metric_keys("r"):
                assert exactly(store.get_metrics("r", key)) == exactly(expected.get_metrics("r", key)), key
                assert store.get_series("r", key).steps == expected.get_series("r", key).steps
        assert (path.read_bytes() == before) == read_only
    with SQLiteStore(path) as store:
        assert store.append(items).duplicates == len(items)
        assert len(store.append([worker.end()]).stored) == 1
        assert store.check() == []
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM events WHERE kind = 5").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM blocks").fetchone()[0] > 3
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'points'").fetchall() == []
    connection.close()


def test_a_reader_of_an_older_store_that_is_brought_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and doesn't answer without what is in blocks now."""
    path, worker = tmp_path / "store.db", Worker("r")
    make_old(path, told(worker), monkeypatch)
    with SQLiteStore(path, read_only=True) as reader:
        assert len(reader.get_metrics("r", "loss")) == 3000
        SQLiteStore(path).close()
        with pytest.raises(StoreUnavailable, match="Open it again"):
            reader.get_metrics("r", "loss")


def test_a_short_run_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, worker = tmp_path / "store.db", Worker("r")
    items = [worker.start(), *(worker.metric("x", step, step) for step in range(20))]
    make_old(path, items, monkeypatch)
    with SQLiteStore(path) as store:
        assert [point.value for point in store.get_metrics("r", "x")] == list(range(20))
        assert store.check() == []
        store.append([worker.metric("x", step, step) for step in range(20, 5000)])
        assert [point.value for point in store.get_metrics("r", "x")] == list(range(5000))
        assert store.check() == []


def test_an_index_of_an_older_version_is_made_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is derived: reading the spools again is quicker, and finds what it never had."""
    worker = Worker("r")
    with LocalStore(root) as store:
        store.append([worker.start(), *(worker.metric("x", step, step) for step in range(50))])
        path = store.index_file
    assert path is not None
    path.unlink()
    stray = Worker("stray")
    make_old(path, [stray.start()], monkeypatch)
    with LocalStore(root) as store:
        assert [state.run_id for state in store.list_runs()] == ["r"]
        assert len(store.get_metrics("r", "x")) == 50
        assert store.check() == []
    assert not path.with_name(path.name + ".damaged").exists()
