"""Rows of runs and streams of a SQLite store, as they change: inside write transactions that the caller holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import sqlite_tail
from xtrack_protocol.storage.answers import LIVE
from xtrack_protocol.storage.sqlite_access import forget
from xtrack_protocol.storage.sqlite_runs import RunEntry, save_snapshot, snapshot_is_due


def ensure_stream(connection: sqlite3.Connection, entry: RunEntry, stream: StreamId) -> int:
    """Return the key of a stream, which is made where it isn't there."""
    key = entry.streams.get(stream)
    if key is None:
        cursor = connection.execute(
            "INSERT INTO streams (run_key, worker_id, session_id) VALUES (?, ?, ?)",
            (entry.run_key, stream.worker_id, stream.session_id),
        )
        assert cursor.lastrowid is not None
        key = entry.streams[stream] = cursor.lastrowid
    return key


def write_run(
    connection: sqlite3.Connection,
    path: str,
    entry: RunEntry,
    *,
    updated_at_us: int | None = None,
    identity: bool = True,
) -> None:
    """Write the columns that runs are searched by; make blocks of a tail, and a snapshot, where they are due."""
    entry.changed()
    entry.version += 1
    run_key = entry.run_key
    status = entry.reducer.status()
    before = connection.execute("SELECT status FROM runs WHERE run_key = ?", (run_key,)).fetchone()[0]
    has_ended = before in LIVE and status not in LIVE
    if sqlite_tail.is_long(entry) or (has_ended and sqlite_tail.is_worth_blocks(entry)):
        sqlite_tail.compact(connection, path, entry)
    connection.execute(
        "UPDATE runs SET version = :version, status = :status, tail = :tail,"
        " updated_at_us = coalesce(max(updated_at_us, :updated), updated_at_us, :updated) WHERE run_key = :run",
        {"version": entry.version, "status": status, "tail": entry.tail, "updated": updated_at_us, "run": run_key},
    )
    if identity:
        state = entry.reducer.state(with_metrics=False)
        connection.execute(
            "UPDATE runs SET name = ?, experiment_id = ?, parent_run_id = ?, started_at_us = ? WHERE run_key = ?",
            (state.name, state.experiment_id, state.parent_run_id, state.started_at_us, run_key),
        )
        _write_tags(connection, run_key, state.tags)
    if snapshot_is_due(entry) or has_ended:
        save_snapshot(connection, entry)


def _write_tags(connection: sqlite3.Connection, run_key: int, tags: Mapping[str, str]) -> None:
    known = dict(connection.execute("SELECT key, value FROM run_tags WHERE run_key = ?", (run_key,)))
    if known == tags:
        return
    connection.execute("DELETE FROM run_tags WHERE run_key = ?", (run_key,))
    rows = ((run_key, key, value) for key, value in tags.items())
    connection.executemany("INSERT INTO run_tags (run_key, key, value) VALUES (?, ?, ?)", rows)


_RUN_TABLES: Final = ("conflicts", "events", "blocks", "series", "snapshots", "run_tags", "streams", "runs")


def delete_run_rows(connection: sqlite3.Connection, run_key: int, run_id: str, now_us: int) -> None:
    """Delete all of a run and leave its tombstone. spec: FLD-9"""
    connection.execute(
        "DELETE FROM block_series WHERE series_key IN (SELECT series_key FROM series WHERE run_key = ?)", (run_key,)
    )
    for table in ("skips", "losses"):
        connection.execute(
            f"DELETE FROM {table} WHERE stream_key IN (SELECT stream_key FROM streams WHERE run_key = ?)",  # noqa: S608
            (run_key,),
        )
    for table in _RUN_TABLES:
        connection.execute(f"DELETE FROM {table} WHERE run_key = ?", (run_key,))  # noqa: S608
    forget(connection, run_id)
    insert_tombstone(connection, run_id, now_us)


def insert_tombstone(connection: sqlite3.Connection, run_id: str, deleted_at_us: int) -> None:
    """Know for good that a run was deleted."""
    connection.execute("INSERT INTO tombstones (run_id, deleted_at_us) VALUES (?, ?)", (run_id, deleted_at_us))
