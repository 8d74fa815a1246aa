"""The tail of a run, and how it becomes blocks, inside write transactions that the caller holds.

A few metric events are rows, some more are one packed block; what many of each shape come with goes into blocks at
once, together with the tail before it. So the blocks of a run that were made together, a chunk, hold all of its metric
events between the first and the last of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import itemgetter

import attrs

from xtrack_protocol.ir import Envelope
from xtrack_protocol.runs import Columns, gather
from xtrack_protocol.storage.answers import decode_stored
from xtrack_protocol.storage.blocks import Block, build
from xtrack_protocol.storage.sqlite_blocks import StoredBlock, pack_events
from xtrack_protocol.storage.sqlite_rows import METRIC, read_event
from xtrack_protocol.storage.sqlite_runs import RunEntry

DIRECT_EVENTS = 512
"""So many metric events of a run in a transaction become blocks at once,"""
DIRECT_EVENTS_A_SHAPE = 16
"""where there are so many for each shape that they come in."""

TAIL_POINTS = 4096
TAIL_POINTS_A_SERIES = 64
TAIL_POINTS_ENOUGH = 65_536
"""Points in a tail that make blocks of it: at least so many, and so many for each series in it. Where there are many
series, so many points are enough, as who reads one of them reads the whole tail;"""
TAIL_POINTS_A_SERIES_LEAST = 16
"""but so many for each series there must be, or blocks aren't worth their room."""
ENDED_POINTS_A_SERIES = 4
"""So many make blocks of the tail of a run that has ended; fewer take no more room as they are."""

PACKED_EVENTS = 32
"""So many metric events of a stream in a transaction are packed into one row."""

_PIECE = 65_536
"""Events of a tail that are made into blocks at a time, where nobody waits for it."""


@attrs.define
class Loose:
    """Metric events of one stream, in order of position."""

    positions: Sequence[int] = attrs.field(factory=list)
    received: Sequence[int] = attrs.field(factory=list)
    raws: Sequence[bytes] = attrs.field(factory=list)
    envelopes: Sequence[Envelope] = attrs.field(factory=list)
    columns: list[Columns] | None = None
    """All of them, where that is known already."""
    received_at_us: int | None = None
    """When all of them were received, where that is known to be the same."""

    def __add__(self, other: Loose) -> Loose:
        if not self.positions or not other.positions:
            return self if self.positions else other
        return Loose(
            [*self.positions, *other.positions],
            [*self.received, *other.received],
            [*self.raws, *other.raws],
            [*self.envelopes, *other.envelopes],
        )

    def blocks(self) -> list[Block]:
        """Return the blocks they make."""
        columns = self.columns
        if columns is None:
            columns = gather(self.envelopes)
            if sum(map(len, columns)) < len(self.envelopes):  # built by hand, of what no frame decodes to
                self.envelopes = [decode_stored(raw) for raw in self.raws]
                columns = gather(self.envelopes)
        received = self.received if self.received_at_us is None else self.received_at_us
        return build(columns, self.envelopes, self.raws, self.positions, received)


def read_tail(connection: sqlite3.Connection, path: str, run_key: int, upto: int | None = None) -> dict[int, Loose]:
    """Return the tail of a run, by the keys of its streams; up to a position where it is given. Raises StoreCorrupt."""
    found: dict[int, list[tuple[int, int, bytes, Envelope]]] = {}
    last = 2**63 - 1 if upto is None else upto
    rows = connection.execute(
        "SELECT position, stream_key, received_at_us, packed, raw FROM events"
        " WHERE run_key = ? AND kind = ? AND position <= ? ORDER BY position",
        (run_key, METRIC, last),
    )
    for position, stream_key, received, packed, data in rows:
        raw, envelope = read_event(path, position, packed, data)
        found.setdefault(stream_key, []).append((position, received, raw, envelope))
    for row in connection.execute(
        f"SELECT {StoredBlock.COLUMNS} FROM blocks"  # noqa: S608 - our own names
        " WHERE run_key = ? AND packed = 1 AND chunk <= ? ORDER BY chunk",
        (run_key, last),
    ):
        block = StoredBlock(path, row)
        found.setdefault(block.stream_key, []).extend(block.events())
    result = {}
    for stream_key, events in found.items():
        events.sort(key=itemgetter(0))
        positions, received_at, raws, envelopes = zip(*events, strict=True)
        result[stream_key] = Loose(positions, received_at, raws, envelopes)
    return result


def delete_tail(connection: sqlite3.Connection, run_key: int, upto: int | None = None) -> None:
    """Delete what ``read_tail`` returned."""
    last = 2**63 - 1 if upto is None else upto
    connection.execute("DELETE FROM events WHERE run_key = ? AND kind = ? AND position <= ?", (run_key, METRIC, last))
    connection.execute("DELETE FROM blocks WHERE run_key = ? AND packed = 1 AND chunk <= ?", (run_key, last))


def is_long(entry: RunEntry) -> bool:
    """Whether the tail is to become blocks."""
    names = len(entry.tail_names)
    enough = max(TAIL_POINTS_ENOUGH, TAIL_POINTS_A_SERIES_LEAST * names)
    return entry.tail >= max(TAIL_POINTS, min(TAIL_POINTS_A_SERIES * names, enough))


def is_worth_blocks(entry: RunEntry) -> bool:
    """Whether the tail of a run that has ended is to become blocks."""
    return entry.tail > 0 and entry.tail >= ENDED_POINTS_A_SERIES * len(entry.tail_names)


def compact(connection: sqlite3.Connection, path: str, entry: RunEntry, more: Iterable[tuple[int, Loose]] = ()) -> None:
    """Make blocks of the tail and of ``more``: new events, by the keys of their streams. Raises StoreCorrupt."""
    tail: dict[int, Loose] = {}
    if entry.tail:
        tail = read_tail(connection, path, entry.run_key)
        delete_tail(connection, entry.run_key)
    for stream_key, loose in more:
        tail[stream_key] = tail.get(stream_key, Loose()) + loose
    insert_blocks(connection, entry, {stream_key: loose.blocks() for stream_key, loose in tail.items()})
    entry.tail = 0
    entry.tail_names.clear()


def compact_slowly(connection: sqlite3.Connection, path: str, entry: RunEntry) -> bool:
    """Make blocks of the first part of a very long tail; return whether more is left."""
    row = connection.execute(
        "SELECT position FROM events WHERE run_key = ? AND kind = ? ORDER BY position LIMIT 1 OFFSET ?",
        (entry.run_key, METRIC, _PIECE),
    ).fetchone()
    if row is None or _has_packed(connection, entry.run_key, row[0]):
        compact(connection, path, entry)
        return False
    tail = read_tail(connection, path, entry.run_key, row[0])
    delete_tail(connection, entry.run_key, row[0])
    blocks = {stream_key: loose.blocks() for stream_key, loose in tail.items()}
    insert_blocks(connection, entry, blocks)
    entry.tail -= sum(block.count * len(block.names) for block in chain(*blocks.values()))
    return True


def _has_packed(connection: sqlite3.Connection, run_key: int, upto: int) -> bool:
    found = connection.execute(
        "SELECT 1 FROM blocks WHERE run_key = ? AND packed = 1 AND first_position <= ? LIMIT 1", (run_key, upto)
    )
    return found.fetchone() is not None


def insert_blocks(connection: sqlite3.Connection, entry: RunEntry, blocks: dict[int, list[Block]]) -> None:
    """Put blocks that were made together away, by the keys of their streams."""
    chunk = max((block.last_position for block in chain(*blocks.values())), default=0)
    key = next_key(connection)
    rows, series = [], []
    for stream_key, of_stream in blocks.items():
        for block in of_stream:
            rows.append(
                (
                    key,
                    entry.run_key,
                    stream_key,
                    0,
                    chunk,
                    block.first_position,
                    block.last_position,
                    block.first_seq,
                    block.last_seq,
                    block.count,
                    block.data,
                )
            )
            keys = [ensure_series(connection, entry, name) for name in block.names]
            series += [(series_key, key, block.min_step, block.max_step) for series_key in keys]
            key += 1
    connection.executemany(_INSERT_BLOCK, rows)
    connection.executemany(
        "INSERT INTO block_series (series_key, block_key, min_step, max_step) VALUES (?, ?, ?, ?)", series
    )


def insert_packed(
    connection: sqlite3.Connection,
    entry: RunEntry,
    stream_key: int,
    chunk: int,
    loose: Loose,
) -> None:
    """Put events away as they came. ``chunk``: the largest position of those of their run that are packed with them."""
    seqs = [envelope.meta.seq for envelope in loose.envelopes]
    connection.execute(
        _INSERT_BLOCK,
        (
            None,
            entry.run_key,
            stream_key,
            1,
            chunk,
            loose.positions[0],
            loose.positions[-1],
            min(seqs),
            max(seqs),
            len(seqs),
            pack_events(seqs, loose.positions, loose.received, loose.raws),
        ),
    )


_INSERT_BLOCK = (
    "INSERT INTO blocks (block_key, run_key, stream_key, packed, chunk, first_position, last_position,"
    " first_seq, last_seq, count, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def next_key(connection: sqlite3.Connection) -> int:
    """Return the key of the next block."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'blocks'").fetchone()
    return int(row[0]) + 1 if row else 1


def ensure_series(connection: sqlite3.Connection, entry: RunEntry, name: str) -> int:
    """Return the key of a series, which is made where it isn't there."""
    key = entry.series.get(name)
    if key is None:
        names = (entry.run_key, name)
        row = connection.execute("SELECT series_key FROM series WHERE run_key = ? AND name = ?", names).fetchone()
        if row is None:
            row = (connection.execute("INSERT INTO series (run_key, name) VALUES (?, ?)", names).lastrowid,)
        key = entry.series[name] = int(row[0])
    return key
