"""A store of before blocks, with a row for each point: what it holds stays, and becomes blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from xtrack_protocol.errors import StoreReadOnly
from xtrack_protocol.ir import LogEntry, MetricBatch
from xtrack_protocol.storage import Incoming, MemoryStore, SQLiteStore, sqlite_schema, sqlite_tail
from xtrack_protocol.storage.answers import points_of
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.storage.sqlite_rows import KINDS, pack
from xtrack_protocol.testing import Worker
from xtrack_protocol.testing.poison import NUMBERS, exactly
from xtrack_protocol.testing.storage_series import training


def make_old(path: Path, items: Sequence[Incoming], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a store as version 2 of the schema had it, with a run in progress."""
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:2])
        connection = sqlite3.connect(path, isolation_level=None)
        sqlite_schema.migrate(connection, path, 1)
    connection.execute("BEGIN")
    stream = items[0].stream
    connection.execute("INSERT INTO runs (run_key, run_id, created_at_us) VALUES (1, ?, 1)", (stream.run_id,))
    connection.execute(
        "INSERT INTO streams (stream_key, run_key, worker_id, session_id) VALUES (1, 1, ?, ?)",
        (stream.worker_id, stream.session_id),
    )
    series: dict[str, int] = {}
    for position, item in enumerate(items, 1):
        payload, meta = item.envelope.payload, item.envelope.meta
        kind = KINDS.get(type(payload))
        row = (position, meta.seq, None if kind == 5 else kind, item.received_at_us, *pack(item.raw))
        connection.execute("INSERT INTO events VALUES (?, 1, 1, ?, ?, ?, ?, ?)", row)
        for name, value in points_of(payload):
            if name not in series:
                series[name] = len(series) + 1
                connection.execute("INSERT INTO series VALUES (?, 1, ?)", (series[name], name))
            step = payload.step
            connection.execute(
                "INSERT INTO points VALUES (?, ?, ?, 1, ?, ?, ?, ?, NULL)",
                (series[name], step is None, step or 0, meta.seq, value, payload.epoch, meta.timestamp_us),
            )
    state = MemoryStore()
    state.append(items)
    known = state.get_run(stream.run_id)
    connection.execute(
        "UPDATE runs SET version = 1, status = ?, name = ?, started_at_us = ?, updated_at_us = ?",
        (known.status, known.name, known.started_at_us, known.updated_at_us),
    )
    connection.execute("COMMIT")
    connection.close()


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
    with pytest.raises(StoreReadOnly, match="older schema 2"):
        SQLiteStore(path, read_only=True)
    with SQLiteStore(path) as store:
        assert store.check() == []
        assert exactly(store.get_run("r")) == exactly(expected.get_run("r"))
        assert [event.raw for event in store.events("r")] == [item.raw for item in items]
        for key in expected.metric_keys("r"):
            assert exactly(store.get_metrics("r", key)) == exactly(expected.get_metrics("r", key)), key
        assert store.append(items).duplicates == len(items)
        assert len(store.append([worker.end()]).stored) == 1
        assert store.check() == []
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM events WHERE kind = 5").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM blocks").fetchone()[0] > 3
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'points'").fetchall() == []
    connection.close()


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
