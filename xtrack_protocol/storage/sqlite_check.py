"""Whether a SQLite store is sound: the file, the originals, and all that is derived from them.

Everything derived is made again from the originals and compared, so the check takes as long as reading the whole store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from xtrack_protocol.errors import StorageError
from xtrack_protocol.session import RangeSet
from xtrack_protocol.storage.answers import points_of
from xtrack_protocol.storage.sqlite_append import KINDS
from xtrack_protocol.storage.sqlite_runs import RunEntry, load_run, read_event, refolded, snapshot_problem

_FINDINGS_MAX: Final = 100

_POINT: Final = (
    "SELECT value, epoch, timestamp_us FROM points JOIN series USING (series_key)"
    " WHERE run_key = ? AND name = ? AND no_step = ? AND step = ? AND stream_key = ? AND seq = ?"
)


def check_store(connection: sqlite3.Connection, path: str) -> list[str]:
    """Return what is damaged, one line each, at most 100; the caller holds a read transaction."""
    found = []
    for finding in _findings(connection, path):
        found.append(finding)
        if len(found) == _FINDINGS_MAX:
            found.append("and more")
            break
    return found


def _findings(connection: sqlite3.Connection, path: str) -> Iterator[str]:
    try:
        sound = True
        for (line,) in connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                sound = False
                yield f"the file: {line}"
        for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
            yield f"{table}: row {row} belongs to nothing in {parent}"
        if sound:
            for row in connection.execute("SELECT run_key, run_id, version FROM runs ORDER BY run_key").fetchall():
                yield from _run_findings(connection, path, row)
    except sqlite3.DatabaseError as error:
        yield f"the file: {error}"


def _run_findings(connection: sqlite3.Connection, path: str, row: tuple[int, str, int]) -> Iterator[str]:
    run_key, run_id, _ = row
    unreadable = list(_event_findings(connection, path, run_key))
    for finding in unreadable:
        yield f"run {run_id!r}: {finding}"
    if unreadable:
        return
    try:
        truth = refolded(connection, path, run_key, run_id)
        quick = load_run(connection, path, row, None)
    except (StorageError, KeyError) as error:
        yield f"run {run_id!r}: its events can't be folded: {error}"
        return
    if snapshot_problem(connection, run_key):
        yield f"run {run_id!r}: its snapshot can't be read; its events are folded instead"
    # By repr: NaN isn't equal to itself, and 1 is equal to 1.0.
    if repr(quick.state()) != repr(truth.state()):
        yield f"run {run_id!r}: its snapshot isn't the fold of its events"
    yield from _cursor_findings(connection, truth)
    yield from _column_findings(connection, truth)


def _event_findings(connection: sqlite3.Connection, path: str, run_key: int) -> Iterator[str]:
    """Look at each original, and at the rows made from it."""
    points = 0
    rows = connection.execute(
        "SELECT position, stream_key, seq, kind, packed, raw FROM events WHERE run_key = ? ORDER BY position",
        (run_key,),
    )
    for position, stream_key, seq, kind, packed, data in rows:
        try:
            envelope = read_event(path, position, packed, data)[1]
        except StorageError as error:
            yield str(error)
            continue
        meta, payload = envelope.meta, envelope.payload
        if meta.seq != seq:
            yield f"event {position} is stored under seq {seq} and says {meta.seq}"
        if KINDS.get(type(payload)) != kind:
            yield f"event {position} is filed as the wrong kind"
        step, epoch = getattr(payload, "step", None), getattr(payload, "epoch", None)
        for name, value in points_of(payload):
            points += 1
            key = (run_key, name, int(step is None), step or 0, stream_key, seq)
            found = connection.execute(_POINT, key).fetchone()
            if found is None or repr(found) != repr((None if value != value else value, epoch, meta.timestamp_us)):  # noqa: PLR0124
                yield f"event {position}: its point of {name!r} is not as it says"
    stored = connection.execute(
        "SELECT count(*) FROM points JOIN series USING (series_key) WHERE run_key = ?", (run_key,)
    ).fetchone()[0]
    if stored > points:
        yield f"{stored - points} points belong to no event"
    for key, packed, data in connection.execute(
        "SELECT conflict_key, packed, raw FROM conflicts WHERE run_key = ?", (run_key,)
    ):
        try:
            read_event(path, key, packed, data)
        except StorageError:
            yield f"conflict {key} can't be read"


def _cursor_findings(connection: sqlite3.Connection, truth: RunEntry) -> Iterator[str]:
    for stream, key in truth.streams.items():
        expected = RangeSet()
        for (seq,) in connection.execute("SELECT seq FROM events WHERE stream_key = ? ORDER BY seq", (key,)):
            expected.add(seq)
        for first, last in connection.execute("SELECT first, last FROM skips WHERE stream_key = ?", (key,)):
            expected.add_range(first, last)
        if truth.reducer.seqs(stream) != expected:
            yield f"run {truth.run_id!r}: the cursor of {stream} isn't what its events add up to"


def _column_findings(connection: sqlite3.Connection, truth: RunEntry) -> Iterator[str]:
    """Compare what runs are searched by with what they are."""
    state = truth.reducer.state(with_metrics=False)
    columns: dict[str, Any] = {
        "status": state.status,
        "name": state.name,
        "experiment_id": state.experiment_id,
        "parent_run_id": state.parent_run_id,
        "started_at_us": state.started_at_us,
        "updated_at_us": state.updated_at_us,
    }
    stored = connection.execute(
        f"SELECT {', '.join(columns)} FROM runs WHERE run_key = ?",  # noqa: S608
        (truth.run_key,),
    ).fetchone()
    for (name, value), found in zip(columns.items(), stored, strict=True):
        if value != found:
            yield f"run {state.run_id!r}: it is filed under {name} {found!r} and has {value!r}"
    tags = dict(connection.execute("SELECT key, value FROM run_tags WHERE run_key = ?", (truth.run_key,)))
    if tags != state.tags:
        yield f"run {state.run_id!r}: it is filed under other tags than it has"
