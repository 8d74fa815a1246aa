"""How a batch becomes rows, inside one write transaction that the caller holds.

Each event goes through the fold of its run first, which knows what is there already; what is new becomes a row of
``events`` and, for metrics, rows of ``points``. When the transaction fails, the caller forgets the folds, which are
ahead of the database then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from xtrack_protocol.ir import (
    Artifact,
    Checkpoint,
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    Param,
    Payload,
    RunEnd,
    RunId,
    RunStart,
    Skip,
    Tags,
)
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.answers import LIVE, PASSED_OVER, content_digest, same_content
from xtrack_protocol.storage.base import AppendResult, Incoming
from xtrack_protocol.storage.sqlite_access import forget
from xtrack_protocol.storage.sqlite_runs import (
    RunCache,
    RunEntry,
    load_run,
    pack,
    refold,
    save_evicted,
    save_snapshot,
    snapshot_is_due,
    unpack,
)

KINDS: Final[dict[type, int]] = {Param: 1, LogEntry: 2, Artifact: 3, Checkpoint: 4}
"""What ``events.kind`` says of the events that are asked for by kind."""

_encode_context = lru_cache(maxsize=1024)(lambda context: msgspec.json.encode(context).decode())

_INSERT_EVENT: Final = (
    "INSERT INTO events (position, run_key, stream_key, seq, kind, received_at_us, packed, raw)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_POINT: Final = (
    "INSERT INTO points (series_key, no_step, step, stream_key, seq, value, epoch, timestamp_us, context)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def is_deleted(connection: sqlite3.Connection, run_id: str) -> bool:
    """Whether the run was deleted. spec: FLD-9"""
    return connection.execute("SELECT 1 FROM tombstones WHERE run_id = ?", (run_id,)).fetchone() is not None


def find_run_row(connection: sqlite3.Connection, run_id: str) -> tuple[int, str, int] | None:
    """Return a run's key, id and version; None for one that isn't here."""
    row: tuple[int, str, int] | None = connection.execute(
        "SELECT run_key, run_id, version FROM runs WHERE run_id = ?", (run_id,)
    ).fetchone()
    return row


def insert_run(connection: sqlite3.Connection, run_id: str, now_us: int) -> tuple[int, str, int]:
    """Make a run known."""
    cursor = connection.execute("INSERT INTO runs (run_id, created_at_us) VALUES (?, ?)", (run_id, now_us))
    assert cursor.lastrowid is not None
    return cursor.lastrowid, run_id, 0


def use_experiment(connection: sqlite3.Connection, experiment: str, now_us: int) -> None:
    """Make an experiment by use, where none goes by that id or name."""
    connection.execute(
        "INSERT INTO experiments (experiment_id, name, created_at_us, tags) SELECT :name, :name, :now, '{}' WHERE"
        " NOT EXISTS (SELECT 1 FROM experiments WHERE experiment_id = :name OR name = :name)",
        {"name": experiment, "now": now_us},
    )


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


class Batch:
    """One batch on its way into the tables."""

    def __init__(self, connection: sqlite3.Connection, path: str, cache: RunCache, now_us: int) -> None:
        self._connection = connection
        self._path = path
        self._cache = cache
        self._now_us = now_us
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        self._position: int = row[0] if row else 0
        self._runs: dict[str, _RunInBatch | None] = {}
        self._events: list[tuple[Any, ...]] = []
        self._points: list[tuple[Any, ...]] = []
        self._raws: dict[tuple[int, int], bytes] = {}
        self._experiments: set[str] = set()
        self._grew = False

    def take(self, items: Iterable[Incoming]) -> AppendResult:
        """Put all of ``items`` away, and bring their runs up to date."""
        stored: list[int] = []
        positions: list[int] = []
        conflicts: list[int] = []
        duplicates = dropped = 0
        for index, item in enumerate(items):
            payload = item.envelope.payload
            if type(payload) in PASSED_OVER:
                continue
            run = self._run(item.stream.run_id)
            if run is None:
                dropped += 1
            elif isinstance(payload, Skip):
                self._skip(run, item, payload)
            elif run.entry.reducer.apply(item.stream, item.envelope):
                stored.append(index)
                positions.append(self._store(run, item, payload))
            elif self._is_conflict(run, item):
                conflicts.append(index)
            else:
                duplicates += 1
        self._write()
        return AppendResult(
            stored=tuple(stored),
            positions=tuple(positions),
            duplicates=duplicates,
            conflicts=tuple(conflicts),
            dropped=dropped,
        )

    def _run(self, run_id: str) -> _RunInBatch | None:
        """Return a run; None for a deleted one."""
        try:
            return self._runs[run_id]
        except KeyError:
            pass
        row = find_run_row(self._connection, run_id)
        found = None
        if row is not None or not is_deleted(self._connection, run_id):
            row = row or insert_run(self._connection, run_id, self._now_us)
            entry = load_run(self._connection, self._path, row, self._cache.get(row[0]))
            self._grew = self._grew or self._cache.get(entry.run_key) is None
            self._cache.put(entry)
            found = _RunInBatch(entry)
        self._runs[run_id] = found
        return found

    # -------------------------------------------------------------------------------------- one event

    def _store(self, run: _RunInBatch, item: Incoming, payload: Payload) -> int:
        entry, stream, meta = run.entry, item.stream, item.envelope.meta
        stream_key = entry.streams.get(stream) or ensure_stream(self._connection, entry, stream)
        self._position += 1
        packed, data = pack(item.raw)
        self._events.append(
            (
                self._position,
                entry.run_key,
                stream_key,
                meta.seq,
                KINDS.get(type(payload)),
                item.received_at_us,
                packed,
                data,
            )
        )
        self._raws[stream_key, meta.seq] = item.raw
        run.events += 1
        run.note(stream, payload, meta.timestamp_us)
        if isinstance(payload, Metric):
            self._point(entry, stream_key, item, payload, payload.key, payload.value)
        elif isinstance(payload, MetricBatch):
            for key, value in payload.metrics.items():
                self._point(entry, stream_key, item, payload, key, value)
        elif isinstance(payload, RunEnd):
            self._connection.execute(
                "UPDATE streams SET end_seq = min(coalesce(end_seq, :seq), :seq) WHERE stream_key = :stream",
                {"seq": meta.seq, "stream": stream_key},
            )
        run_id = getattr(payload, "run_id", None)
        if isinstance(run_id, RunId) and run_id.experiment_id is not None:
            self._experiments.add(run_id.experiment_id)
        return self._position

    def _point(
        self,
        entry: RunEntry,
        stream_key: int,
        item: Incoming,
        payload: Metric | MetricBatch,
        key: str,
        value: float,
    ) -> None:
        series_key = entry.series.get(key) or self._series(entry, key)
        step, meta = payload.step, item.envelope.meta
        context = payload.context
        self._points.append(
            (
                series_key,
                int(step is None),
                step or 0,
                stream_key,
                meta.seq,
                value,
                payload.epoch,
                meta.timestamp_us,
                None if context is None else _encode_context(context),
            )
        )

    def _series(self, entry: RunEntry, name: str) -> int:
        """Return the key of a series, which is made where it isn't there."""
        names = (entry.run_key, name)
        row = self._connection.execute("SELECT series_key FROM series WHERE run_key = ? AND name = ?", names).fetchone()
        if row is None:
            row = (self._connection.execute("INSERT INTO series (run_key, name) VALUES (?, ?)", names).lastrowid,)
            self._grew = True
        key: int = row[0]
        entry.series[name] = key
        return key

    def _skip(self, run: _RunInBatch, item: Incoming, payload: Skip) -> None:
        """Close a range of seqs that are lost for good. spec: STR-7"""
        entry = run.entry
        if payload.first > payload.last or not entry.reducer.apply(item.stream, item.envelope):
            return
        stream_key = ensure_stream(self._connection, entry, item.stream)
        self._connection.execute(
            "INSERT OR IGNORE INTO skips (stream_key, first, last, received_at_us, raw) VALUES (?, ?, ?, ?, ?)",
            (stream_key, payload.first, payload.last, item.received_at_us, item.raw),
        )
        run.changed = True

    def _is_conflict(self, run: _RunInBatch, item: Incoming) -> bool:
        """Whether an event that came before is here with other content, which is kept aside then, once. spec: STR-5"""
        entry, seq = run.entry, item.envelope.meta.seq
        stream_key = entry.streams[item.stream]
        first = self._raws.get((stream_key, seq))
        if first is None:
            packed, data = self._connection.execute(
                "SELECT packed, raw FROM events WHERE stream_key = ? AND seq = ?", (stream_key, seq)
            ).fetchone()
            first = unpack(packed, data)
        if same_content(first, item.raw):
            return False
        digest = content_digest(item.raw)
        self._connection.execute(
            "INSERT OR IGNORE INTO conflicts (run_key, stream_key, seq, digest, received_at_us, packed, raw)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (entry.run_key, stream_key, seq, digest, item.received_at_us, *pack(item.raw)),
        )
        return True

    # -------------------------------------------------------------------------------------- the whole

    def _write(self) -> None:
        connection = self._connection
        connection.executemany(_INSERT_EVENT, self._events)
        connection.executemany(_INSERT_POINT, self._points)
        for experiment in sorted(self._experiments):
            use_experiment(connection, experiment, self._now_us)
        for run in self._runs.values():
            if run is None or not (run.events or run.changed):
                continue
            entry = run.entry
            entry.position = self._position
            entry.unsaved += run.events
            if entry.reducer.needs_refold:
                refold(connection, self._path, entry)
            write_run(connection, entry, updated_at_us=run.latest_ts, identity=run.identity)
        if self._grew:
            save_evicted(connection, self._cache.surplus())


class _RunInBatch:
    """What a batch does to one run."""

    def __init__(self, entry: RunEntry) -> None:
        self.entry = entry
        self.events = 0
        self.changed = False
        self.identity = False
        """Whether name, experiment, parent, start or tags may be others now."""
        self.latest_ts: int | None = None

    def note(self, stream: StreamId, payload: Payload, timestamp_us: int) -> None:
        """Note what an event may change in the columns that runs are searched by."""
        if self.latest_ts is None or timestamp_us > self.latest_ts:
            self.latest_ts = timestamp_us
        lowest = self.entry.lowest_ts
        if timestamp_us < lowest.get(stream, timestamp_us + 1):
            lowest[stream] = timestamp_us
            self.identity = True
        if isinstance(payload, (RunStart, Tags)):
            self.identity = True
        run_id = getattr(payload, "run_id", None)
        if isinstance(run_id, RunId):
            # As long as all events name the same experiment and parent, which of them is the last makes no difference.
            identities = self.entry.identities
            identities.add((run_id.experiment_id, run_id.parent_run_id))
            self.identity = self.identity or len(identities) > 1


def write_run(
    connection: sqlite3.Connection, entry: RunEntry, *, updated_at_us: int | None = None, identity: bool = True
) -> None:
    """Write the columns that runs are searched by, and a snapshot where one is due."""
    entry.changed()
    entry.version += 1
    run_key = entry.run_key
    status = entry.reducer.status()
    before = connection.execute("SELECT status FROM runs WHERE run_key = ?", (run_key,)).fetchone()[0]
    connection.execute(
        "UPDATE runs SET version = :version, status = :status,"
        " updated_at_us = coalesce(max(updated_at_us, :updated), updated_at_us, :updated) WHERE run_key = :run",
        {"version": entry.version, "status": status, "updated": updated_at_us, "run": run_key},
    )
    if identity:
        state = entry.reducer.state(with_metrics=False)
        connection.execute(
            "UPDATE runs SET name = ?, experiment_id = ?, parent_run_id = ?, started_at_us = ? WHERE run_key = ?",
            (state.name, state.experiment_id, state.parent_run_id, state.started_at_us, run_key),
        )
        _write_tags(connection, run_key, state.tags)
    if snapshot_is_due(entry) or (before in LIVE and status not in LIVE):
        save_snapshot(connection, entry)


def _write_tags(connection: sqlite3.Connection, run_key: int, tags: Mapping[str, str]) -> None:
    known = dict(connection.execute("SELECT key, value FROM run_tags WHERE run_key = ?", (run_key,)))
    if known == tags:
        return
    connection.execute("DELETE FROM run_tags WHERE run_key = ?", (run_key,))
    rows = ((run_key, key, value) for key, value in tags.items())
    connection.executemany("INSERT INTO run_tags (run_key, key, value) VALUES (?, ?, ?)", rows)


_RUN_TABLES: Final = ("conflicts", "events", "series", "snapshots", "run_tags", "streams", "runs")


def delete_run_rows(connection: sqlite3.Connection, run_key: int, run_id: str, now_us: int) -> None:
    """Delete all of a run and leave its tombstone. spec: FLD-9"""
    connection.execute(
        "DELETE FROM points WHERE series_key IN (SELECT series_key FROM series WHERE run_key = ?)", (run_key,)
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


def decode_context(text: str | None) -> MetricContext | None:
    """Return the context of a point."""
    return None if text is None else _decode_context(text)


_decode_json_context = msgspec.json.Decoder(MetricContext).decode  # once, at the import: see spool.shipping


@lru_cache(maxsize=1024)
def _decode_context(text: str) -> MetricContext:
    return _decode_json_context(text)
