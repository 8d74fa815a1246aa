"""Events as rows of a SQLite store: what is filed how, and payloads in and out. What it knows of runs and streams."""

from __future__ import annotations

import sqlite3
import zlib
from typing import Final

from xtrack_protocol.errors import DecodeError, StoreCorrupt
from xtrack_protocol.ir import Artifact, Checkpoint, Envelope, LogEntry, Metric, MetricBatch, Param, Payload
from xtrack_protocol.storage.answers import decode_stored

KINDS: Final[dict[type, int]] = {Param: 1, LogEntry: 2, Artifact: 3, Checkpoint: 4, Metric: 5, MetricBatch: 5}
"""What ``events.kind`` says of the events that are asked for by kind."""

METRIC: Final = KINDS[Metric]
"""The kind of events that have points."""

_PACK_BYTES: Final = 400  # below, zlib gains little on a single payload


def kind_of(payload: Payload) -> int | None:
    """Return what an event is filed as."""
    return None if isinstance(payload, MetricBatch) and not payload.metrics else KINDS.get(type(payload))


def pack(raw: bytes) -> tuple[int, bytes]:
    """Return a payload as it is stored: 1 and compressed where that helps, else 0 and as it is."""
    if len(raw) >= _PACK_BYTES:
        packed = zlib.compress(raw, 1)
        if len(packed) < len(raw):
            return 1, packed
    return 0, raw


def unpack(packed: int, raw: bytes) -> bytes:
    """Return a payload as it came."""
    return zlib.decompress(raw) if packed else raw


def read_event(path: str, position: int, packed: int, data: bytes) -> tuple[bytes, Envelope]:
    """Return a stored event's payload and what it says. Raises StoreCorrupt."""
    try:
        raw = unpack(packed, data)
        return raw, decode_stored(raw)
    except (zlib.error, DecodeError) as error:
        raise StoreCorrupt(path, [f"event {position} can't be read: {error}"]) from error


def has_points(packed: int, data: bytes) -> bool:
    """Whether a stored event has points; of one that can't be read nobody knows, which ``check`` reports."""
    try:
        return kind_of(decode_stored(unpack(packed, data)).payload) == METRIC
    except (zlib.error, DecodeError):
        return False


# ------------------------------------------------------------------------------------------ runs


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
