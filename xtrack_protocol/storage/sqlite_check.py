"""Whether a SQLite store is sound: the file, the originals, and all that is derived from them.

Everything derived is made again from the originals and compared, so the check takes as long as reading the whole store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any, Final

from xtrack_protocol.errors import DecodeError, StorageError, StoreCorrupt
from xtrack_protocol.session import RangeSet
from xtrack_protocol.storage.answers import decode_stored, points_of
from xtrack_protocol.storage.sqlite_blocks import StoredBlock, read_block
from xtrack_protocol.storage.sqlite_rows import METRIC, kind_of, read_event
from xtrack_protocol.storage.sqlite_runs import RunEntry, load_run, refolded, snapshot_problem
from xtrack_protocol.storage.sqlite_schema import migrate

_FINDINGS_MAX: Final = 100


def probe(connection: sqlite3.Connection, path: str) -> None:
    """Look whether every table and index is there, and read both of its ends; it takes no longer in a large store.

    The ends are where most of what a store does begins. Raises StoreCorrupt, and sqlite3.DatabaseError for what can't
    be read; the caller holds a read transaction.
    """
    there = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
    missing = sorted(_names_of_all() - {name for _, name, _, _ in there})
    if missing:
        raise StoreCorrupt(path, [f"it has no {name}" for name in missing])
    for kind, name, table, sql in there:
        if kind == "table":
            keys = [
                (place, column) for _, column, _, _, _, place in _pragma_rows(connection, "table_info", name) if place
            ]
            by, first = "NOT INDEXED", min(keys)[1] if keys else "rowid"
        else:
            by, first = f'INDEXED BY "{name}"', _pragma_rows(connection, "index_info", name)[0][2]
        only = "".join((sql or "").partition(" WHERE ")[1:])  # an index of some rows isn't read for all of them
        # By the first column alone, so that nothing is sorted; that of an expression has no name.
        for order in (f'ORDER BY "{first}"', f'ORDER BY "{first}" DESC') if first else ("",):
            connection.execute(f'SELECT 1 FROM "{table}" {by}{only} {order} LIMIT 1').fetchone()  # noqa: S608


def _names_of_all() -> set[str]:
    """Return the names of all tables and indexes of a store."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        migrate(fresh, ":memory:", 0)
        return {name for (name,) in fresh.execute("SELECT name FROM sqlite_master")}


def _pragma_rows(connection: sqlite3.Connection, pragma: str, name: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT * FROM pragma_{pragma}(?)", (name,)).fetchall()  # noqa: S608


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
    yield from _cursor_findings(connection, path, truth)
    yield from _column_findings(connection, truth)


def _event_findings(connection: sqlite3.Connection, path: str, run_key: int) -> Iterator[str]:
    """Look at each original, and at what was filed because of it."""
    tail = 0
    names: set[str] = set()
    rows = connection.execute(
        "SELECT position, seq, kind, packed, raw FROM events WHERE run_key = ? ORDER BY position", (run_key,)
    )
    for position, seq, kind, packed, data in rows:
        try:
            envelope = read_event(path, position, packed, data)[1]
        except StorageError as error:
            yield str(error)
            continue
        if envelope.meta.seq != seq:
            yield f"event {position} is stored under seq {seq} and says {envelope.meta.seq}"
        if kind_of(envelope.payload) != kind:
            yield f"event {position} is filed as the wrong kind"
        own = [name for name, _ in points_of(envelope.payload)]
        tail += len(own)
        names.update(own)
    keys = connection.execute(
        "SELECT block_key FROM blocks WHERE run_key = ? ORDER BY chunk, first_position", (run_key,)
    ).fetchall()
    for (key,) in keys:
        try:
            block = read_block(connection, path, key)
            assert block is not None  # in one transaction
            tail += yield from _block_findings(connection, block, names)
        except StorageError as error:
            yield str(error)
    yield from _chunk_findings(connection, path, run_key)
    yield from _series_findings(connection, run_key, names, tail)
    for key, packed, data in connection.execute(
        "SELECT conflict_key, packed, raw FROM conflicts WHERE run_key = ?", (run_key,)
    ):
        try:
            read_event(path, key, packed, data)
        except StorageError:
            yield f"conflict {key} can't be read"


def _block_findings(connection: sqlite3.Connection, block: StoredBlock, names: set[str]) -> Generator[str, None, int]:
    """Look at a block's events, and at what stands beside it. Add their names; return how many points are a tail's."""
    where = f"block {block.key}"
    points = 0
    steps: dict[str, list[int]] = {}
    for position, _, raw, envelope in block.events():
        try:
            said = decode_stored(raw)
        except DecodeError as error:
            yield f"{where}: event {position} can't be read: {error}"
            continue
        if said != envelope and repr(said) != repr(envelope):  # NaN isn't equal to itself
            yield f"{where}: the original of event {position} says something else than its columns"
        payload: Any = said.payload
        for name, _ in points_of(payload):
            points += 1
            steps.setdefault(name, [])
            if payload.step is not None:
                steps[name].append(payload.step)
    names.update(steps)
    positions, seqs = list(block.positions), block.seqs
    if any(one >= other for one, other in pairwise(positions)):
        yield f"{where}: its events aren't in order of position"
    stored = connection.execute(
        "SELECT first_seq, last_seq, count FROM blocks WHERE block_key = ?", (block.key,)
    ).fetchone()
    if stored != (min(seqs), max(seqs), len(seqs)):
        yield f"{where}: it is filed under other seqs than it has"
    filed = connection.execute(
        "SELECT name, min_step, max_step FROM block_series JOIN series USING (series_key) WHERE block_key = ?",
        (block.key,),
    ).fetchall()
    expected = [(name, min(own, default=None), max(own, default=None)) for name, own in steps.items()]
    if sorted(filed, key=repr) != ([] if block.is_packed else sorted(expected, key=repr)):
        yield f"{where}: it is filed under other series, or other steps, than it has"
    return points if block.is_packed else 0


def _chunk_findings(connection: sqlite3.Connection, path: str, run_key: int) -> Iterator[str]:
    """Look whether the blocks of a run that were made together stand apart from all other metrics."""
    before = 0
    chunks = connection.execute(
        "SELECT chunk, min(first_position), max(last_position), max(packed) FROM blocks WHERE run_key = ?"
        " GROUP BY chunk ORDER BY chunk",
        (run_key,),
    ).fetchall()
    for chunk, first, last, is_packed in chunks:
        if last != chunk or first <= before:
            yield f"blocks up to event {chunk} overlap with others"
        before = last
        taken = {
            position
            for (position,) in connection.execute(
                "SELECT position FROM events WHERE run_key = ? AND position BETWEEN ? AND ?", (run_key, first, last)
            )
        }
        keys = connection.execute("SELECT block_key FROM blocks WHERE run_key = ? AND chunk = ?", (run_key, chunk))
        for (key,) in keys.fetchall():
            try:
                block = read_block(connection, path, key)
                own: Sequence[int] = () if block is None else block.positions
            except StorageError:
                continue  # told already
            if not taken.isdisjoint(own):
                yield f"block {key}: another event stands at a position of one of its events"
            taken.update(own)
        if not is_packed:
            (loose,) = connection.execute(
                "SELECT count(*) FROM events WHERE run_key = ? AND kind = ? AND position < ?", (run_key, METRIC, last)
            ).fetchone()
            if loose:
                yield f"{loose} metric events stand before event {last}, up to which there are blocks"
    (newest,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone() or (0,)
    if before > newest:
        yield f"event {before} stands after the last position given, {newest}"


def _series_findings(connection: sqlite3.Connection, run_key: int, names: set[str], tail: int) -> Iterator[str]:
    filed = {name for (name,) in connection.execute("SELECT name FROM series WHERE run_key = ?", (run_key,))}
    if filed != names:
        yield f"its metrics are filed as {len(filed)} names, and have {len(names)}, or others"
    (counted,) = connection.execute("SELECT tail FROM runs WHERE run_key = ?", (run_key,)).fetchone()
    if counted != tail:
        yield f"{tail} points are in no block, and {counted} are counted"


def _cursor_findings(connection: sqlite3.Connection, path: str, truth: RunEntry) -> Iterator[str]:
    for stream, key in truth.streams.items():
        expected = RangeSet()
        for (seq,) in connection.execute("SELECT seq FROM events WHERE stream_key = ? ORDER BY seq", (key,)):
            expected.add(seq)
        keys = connection.execute("SELECT block_key FROM blocks WHERE stream_key = ? ORDER BY first_seq", (key,))
        for (block_key,) in keys.fetchall():
            block = read_block(connection, path, block_key)
            twice = [seq for seq in (() if block is None else block.seqs) if not expected.add(seq)]
            if twice:
                yield f"run {truth.run_id!r}: seq {twice[0]} of {stream} is stored twice"
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
