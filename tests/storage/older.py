"""Stores as older versions of this package made them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from xtrack_protocol.storage import Incoming, MemoryStore, sqlite_schema
from xtrack_protocol.storage.answers import points_of
from xtrack_protocol.storage.sqlite_rows import KINDS, pack


def make_old(path: Path, items: Sequence[Incoming], monkeypatch: pytest.MonkeyPatch, version: int = 2) -> None:
    """Make a store of version 1 or 2 of the schema, with a run in progress."""
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:version])
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
