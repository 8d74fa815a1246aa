"""A run as plain tables for SQL: no schema of ours to learn."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xtrack_protocol.decode.text import free_as_json, iso_utc, json_line
from xtrack_protocol.runs import SeriesPoint

if TYPE_CHECKING:
    from xtrack_protocol.storage import Storage

_TABLES: Final = """
CREATE TABLE run (
    run_id TEXT PRIMARY KEY, name TEXT, status TEXT NOT NULL, experiment TEXT, parent_run_id TEXT, note TEXT,
    started_at TEXT, ended_at TEXT, duration_ms INTEGER, events INTEGER NOT NULL, lost_events INTEGER NOT NULL,
    error_type TEXT, error_message TEXT, error_traceback TEXT
);
CREATE TABLE tags (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE params (key TEXT PRIMARY KEY, value, json TEXT NOT NULL);
CREATE TABLE metrics (
    key TEXT NOT NULL, step INTEGER, value REAL, text TEXT, epoch INTEGER, time TEXT NOT NULL, worker TEXT NOT NULL,
    session TEXT NOT NULL, seq INTEGER NOT NULL, phase TEXT
);
CREATE TABLE artifacts (
    path TEXT NOT NULL, name TEXT, type TEXT, bytes INTEGER, checksum TEXT, metadata TEXT NOT NULL, time TEXT NOT NULL,
    worker TEXT NOT NULL
);
CREATE TABLE checkpoints (
    step INTEGER NOT NULL, epoch INTEGER, path TEXT NOT NULL, is_best INTEGER NOT NULL, metrics TEXT NOT NULL,
    metadata TEXT NOT NULL, time TEXT NOT NULL, worker TEXT NOT NULL
);
CREATE TABLE logs (
    time TEXT NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL, logger TEXT, step INTEGER, fields TEXT NOT NULL,
    worker TEXT NOT NULL
);
"""
"""In ``metrics`` a value is NULL where it is NaN or no int64, and ``text`` holds what it is exactly."""

_INDEX: Final = "CREATE INDEX metrics_by_key ON metrics (key, step)"


def write_sqlite(source: Storage, run_id: str, path: Path) -> int:
    """Write a run to a new database; return how many rows it has."""
    state = source.get_run(run_id)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_TABLES)
        error = state.error
        _insert(
            database,
            "run",
            [
                (
                    state.run_id,
                    state.name,
                    state.status,
                    state.experiment_id,
                    state.parent_run_id,
                    state.note,
                    _time(state.started_at_us),
                    _time(state.ended_at_us),
                    state.duration_ms,
                    state.events,
                    state.lost_events,
                    error.type if error else None,
                    error.message if error else None,
                    error.traceback if error else None,
                )
            ],
        )
        _insert(database, "tags", state.tags.items())
        _insert(
            database,
            "params",
            ((key, _native(value), json_line(free_as_json(value))) for key, value in state.params.items()),
        )
        for key in source.metric_keys(run_id):
            _insert(database, "metrics", (_point(key, point) for point in source.get_metrics(run_id, key)))
        _insert(database, "artifacts", _artifacts(source, run_id))
        _insert(database, "checkpoints", _checkpoints(source, run_id))
        _insert(database, "logs", _logs(source, run_id))
        database.execute(_INDEX)
        return database.total_changes


def _insert(database: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(database.execute(f"PRAGMA table_info({table})").fetchall()))
    database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - our own names


def _time(timestamp_us: int | None) -> str | None:
    return None if timestamp_us is None else iso_utc(timestamp_us)


def _native(value: Any) -> Any:
    """Return a value that SQL can reckon with; None where only JSON can say it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, float):
        return None if isnan(value) else value
    return value if isinstance(value, str) else None


def _point(key: str, point: SeriesPoint) -> tuple[Any, ...]:
    value = _native(point.value)
    exact = None if value == point.value and type(value) is float else repr(point.value)
    phase = point.context.phase if point.context else None
    when, worker = iso_utc(point.timestamp_us), point.worker_id
    return key, point.step, value, exact, point.epoch, when, worker, point.session_id, point.seq, phase


def _artifacts(source: Storage, run_id: str) -> Iterator[tuple[Any, ...]]:
    for stored in source.get_artifacts(run_id):
        made = stored.artifact
        metadata, when = json_line(free_as_json(made.metadata)), iso_utc(stored.timestamp_us)
        kind, size, checksum = made.artifact_type, made.size_bytes, made.checksum
        yield made.path, made.name, kind, size, checksum, metadata, when, stored.worker_id


def _checkpoints(source: Storage, run_id: str) -> Iterator[tuple[Any, ...]]:
    for stored in source.get_checkpoints(run_id):
        made = stored.checkpoint
        metrics = json_line(free_as_json(made.metrics_snapshot))
        metadata, when = json_line(free_as_json(made.metadata)), iso_utc(stored.timestamp_us)
        yield made.step, made.epoch, made.path, int(made.is_best), metrics, metadata, when, stored.worker_id


def _logs(source: Storage, run_id: str) -> Iterator[tuple[Any, ...]]:
    for record in source.get_logs(run_id):
        entry = record.entry
        fields, when = json_line(free_as_json(entry.fields)), iso_utc(record.timestamp_us)
        yield when, entry.level, entry.message, entry.logger_name, entry.step, fields, record.worker_id
