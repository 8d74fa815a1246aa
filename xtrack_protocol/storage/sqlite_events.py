"""The events of a SQLite store in order of position: rows and blocks, merged a page at a time.

Between two pages no transaction is open, and much may happen: new events come, rows become blocks, runs are deleted.
Positions never change, so a reader that knows how far it is goes on from there: it looks for blocks that were made
since, whose events it may have seen in part, as rows.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from heapq import heappop, heappush
from typing import Any, Final

from xtrack_protocol.ir import Envelope
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.base import StoredEvent
from xtrack_protocol.storage.sqlite_blocks import StoredBlock, locate, read_block
from xtrack_protocol.storage.sqlite_rows import KINDS, read_event
from xtrack_protocol.storage.sqlite_runs import RunEntry

EVENTS_PAGE: Final = 1000
"""Events read at a time, so that a slow reader holds no transaction open."""

_BLOCKS_AHEAD: Final = 256
"""Blocks looked up at a time, without their data."""

_CACHE_BYTES: Final = 32 * 1024 * 1024
"""Data of blocks that are read by turns, kept from one page to the next."""

_END: Final = 2**63
"""A position above all there can be."""

_EVENT_COLUMNS: Final = "run_id, worker_id, session_id, seq, received_at_us, packed, raw, end_seq"


class EventReader:
    """Reads what stands after a position, of one run or of all of them. Each page is of one moment."""

    def __init__(self, path: str, run_key: int | None, after: int) -> None:
        self._path = path
        self._run_key = run_key
        self._after = after
        self._frontier = (after, _END) if run_key is not None else (after, 0)
        """Blocks up to here, in the order in which they begin, were looked up."""
        self._seen: int | None = None
        """Of all blocks that were there at the last page the largest key."""
        self._pending: deque[tuple[int, int]] = deque()
        """Where blocks begin that aren't open yet, and their keys."""
        self._heap: list[tuple[int, int]] = []
        """Of each open block its next position, and its key."""
        self._known: set[int] = set()
        """The keys of blocks that are pending or open."""
        self._cache: OrderedDict[int, StoredBlock] = OrderedDict()
        self._cached_bytes = 0
        self._is_exhausted = False
        """Whether at this page there is no block beyond the frontier."""

    def page(self, connection: sqlite3.Connection, size: int) -> tuple[list[StoredEvent], bool]:
        """Return the next ``size`` events, and whether there are no more; the caller holds a read transaction."""
        rows = self._rows(connection, size)
        self._is_exhausted = False
        self._look_for_new_blocks(connection)
        positions = [row[0] for row in rows]
        taken: dict[int, tuple[StoredBlock, int, int]] = {}
        row = count = 0
        while count < size:
            row_at = positions[row] if row < len(rows) else _END
            block_at = self._heap[0][0] if self._heap else _END
            begin_at = self._next_beginning(connection)
            if begin_at < _END and begin_at <= min(row_at, block_at):
                self._begin(connection)
            elif row_at < block_at:
                end = min(bisect_left(positions, min(block_at, begin_at), row), row + size - count)
                count, row = count + end - row, end
            elif self._heap:
                count += self._take(connection, taken, min(row_at, begin_at), size - count)
            else:
                break
        found = [stored_event(self._path, one) for one in rows[:row]]
        self._add_blocks(connection, taken, found)
        if taken:
            found.sort(key=_position)
        if count:
            last = positions[row - 1] if row else 0
            self._after = max(last, *(block.positions[end - 1] for block, _, end in taken.values()), 0)
        return found, count < size

    # -------------------------------------------------------------------------------------- rows

    def _rows(self, connection: sqlite3.Connection, size: int) -> list[tuple[Any, ...]]:
        run = "" if self._run_key is None else "events.run_key = :run AND "
        return connection.execute(
            f"SELECT position, {_EVENT_COLUMNS} FROM events JOIN streams USING (stream_key)"  # noqa: S608
            f" JOIN runs ON runs.run_key = events.run_key WHERE {run}position > :after ORDER BY position LIMIT :limit",
            {"after": self._after, "limit": size, "run": self._run_key},
        ).fetchall()

    # -------------------------------------------------------------------------------------- blocks

    def _look_for_new_blocks(self, connection: sqlite3.Connection) -> None:
        """Find the blocks that reach over where we are: at first all of them, then those made since the last page."""
        newest = connection.execute("SELECT max(block_key) FROM blocks").fetchone()[0] or 0
        if self._run_key is not None:
            if newest != self._seen:  # those of one run stand together: where we are, all is looked up again
                self._frontier = (self._after, _END)
                self._pending.clear()
                self._heap.clear()
                self._known.clear()
        elif self._seen is None:
            self._add(connection, "last_position > :after AND first_position <= :after", 0)
        elif newest > self._seen:  # what begins beyond the frontier is found there
            self._add(
                connection, "block_key > :seen AND last_position > :after AND first_position <= :upto", self._seen
            )
        self._seen = newest

    def _add(self, connection: sqlite3.Connection, condition: str, seen: int) -> None:
        blocks = connection.execute(
            f"SELECT first_position, block_key FROM blocks WHERE {condition}",  # noqa: S608 - our own
            {"seen": seen, "after": self._after, "upto": self._frontier[0]},
        )
        new = [(first, key) for first, key in blocks if key not in self._known]
        if new:
            self._known.update(key for _, key in new)
            self._pending = deque(sorted([*self._pending, *new]))

    def _next_beginning(self, connection: sqlite3.Connection) -> int:
        """Return where the next block begins that isn't open."""
        while not self._pending and not self._is_exhausted:
            chunk, first = self._frontier
            if self._run_key is None:
                rows = connection.execute(
                    "SELECT first_position, block_key, first_position, 0 FROM blocks WHERE first_position > ?"
                    " ORDER BY first_position LIMIT ?",
                    (chunk, _BLOCKS_AHEAD),
                ).fetchall()
            else:  # chunks don't overlap, so that this too is the order in which they begin
                rows = connection.execute(
                    "SELECT first_position, block_key, chunk, first_position FROM blocks"
                    " WHERE run_key = ? AND (chunk, first_position) > (?, ?) ORDER BY chunk, first_position LIMIT ?",
                    (self._run_key, chunk, min(first, _END - 1), _BLOCKS_AHEAD),
                ).fetchall()
            self._is_exhausted = len(rows) < _BLOCKS_AHEAD
            if rows:
                self._frontier = rows[-1][2:]
                new = [(row[0], row[1]) for row in rows if row[1] not in self._known]
                self._known.update(key for _, key in new)
                self._pending.extend(new)
        return self._pending[0][0] if self._pending else _END

    def _begin(self, connection: sqlite3.Connection) -> None:
        _, key = self._pending.popleft()
        block = self._load(connection, key)
        at = _END if block is None else bisect_right(block.positions, self._after)
        if block is None or at == len(block.positions):
            self._known.discard(key)
        else:
            heappush(self._heap, (block.positions[at], key))

    def _take(
        self,
        connection: sqlite3.Connection,
        taken: dict[int, tuple[StoredBlock, int, int]],
        before: int,
        most: int,
    ) -> int:
        """Take what the block that is next has before another one's turn; return how many events."""
        at, key = heappop(self._heap)
        known = taken.get(key)
        block = known[0] if known else self._load(connection, key)
        if block is None:  # deleted, or part of a larger one now, which was found at the beginning of this page
            self._known.discard(key)
            return 0
        positions = block.positions
        begin = known[2] if known else bisect_left(positions, at)
        before = min(before, self._heap[0][0]) if self._heap else before
        end = min(bisect_left(positions, before, begin), begin + most)
        taken[key] = block, (known[1] if known else begin), end
        if end < len(positions):
            heappush(self._heap, (positions[end], key))
        else:
            self._known.discard(key)
            self._forget(key)
        return end - begin

    def _add_blocks(
        self,
        connection: sqlite3.Connection,
        taken: dict[int, tuple[StoredBlock, int, int]],
        found: list[StoredEvent],
    ) -> None:
        streams: dict[int, tuple[StreamId, int] | None] = {}
        for block, begin, end in taken.values():
            if block.stream_key not in streams:
                streams[block.stream_key] = _stream(connection, block.stream_key)
            known = streams[block.stream_key]
            if known is not None:
                stream, end_seq = known
                found += [
                    StoredEvent(position, stream, envelope, raw, received, envelope.meta.seq > end_seq)
                    for position, received, raw, envelope in block.events(begin, end)
                ]

    # -------------------------------------------------------------------------------------- the cache

    def _load(self, connection: sqlite3.Connection, key: int) -> StoredBlock | None:
        block = self._cache.get(key)
        if block is not None:
            self._cache.move_to_end(key)
            return block
        block = read_block(connection, self._path, key)
        if block is not None and not block.is_packed:  # one that is may become part of another at any time
            self._cache[key] = block
            self._cached_bytes += block.size
            while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
                self._forget(next(iter(self._cache)))
        return block

    def _forget(self, key: int) -> None:
        block = self._cache.pop(key, None)
        if block is not None:
            self._cached_bytes -= block.size


def _position(event: StoredEvent) -> int:
    return event.position


def _stream(connection: sqlite3.Connection, stream_key: int) -> tuple[StreamId, int] | None:
    """Return a stream, and the seq after which its events are late; None where its run was deleted."""
    row = connection.execute(
        "SELECT run_id, worker_id, session_id, end_seq FROM streams JOIN runs USING (run_key) WHERE stream_key = ?",
        (stream_key,),
    ).fetchone()
    return None if row is None else (StreamId(*row[:3]), _END if row[3] is None else row[3])


# ------------------------------------------------------------------------------------------ some of a run's


def told(connection: sqlite3.Connection, path: str, entry: RunEntry, payload: type) -> list[tuple[StreamId, Envelope]]:
    """Return a run's events of one payload type, no metrics, with their streams."""
    streams = {key: stream for stream, key in entry.streams.items()}
    rows = connection.execute(
        "SELECT position, stream_key, packed, raw FROM events WHERE run_key = ? AND kind = ?",
        (entry.run_key, KINDS[payload]),
    )
    return [
        (streams[stream_key], read_event(path, position, packed, data)[1])
        for position, stream_key, packed, data in rows
    ]


def conflicts(connection: sqlite3.Connection, path: str, run_key: int) -> list[StoredEvent]:
    """Return the events that came under a seq already taken. spec: STR-5"""
    rows = connection.execute(
        f"SELECT stream_key, {_EVENT_COLUMNS} FROM conflicts JOIN streams USING (stream_key)"  # noqa: S608
        " JOIN runs ON runs.run_key = conflicts.run_key WHERE conflicts.run_key = ? ORDER BY conflict_key",
        (run_key,),
    ).fetchall()
    seqs: dict[int, set[int]] = {}
    for row in rows:
        seqs.setdefault(row[0], set()).add(row[4])
    first = {key: locate(connection, path, key, wanted) for key, wanted in seqs.items()}
    return [stored_event(path, (first[row[0]][row[4]][0], *row[1:])) for row in rows]


def stored_event(path: str, row: tuple[Any, ...]) -> StoredEvent:
    """Return an event from its position and the columns above."""
    position, run_id, worker_id, session_id, seq, received_at_us, packed, data, end_seq = row
    raw, envelope = read_event(path, position, packed, data)
    late = end_seq is not None and seq > end_seq
    return StoredEvent(position, StreamId(run_id, worker_id, session_id), envelope, raw, received_at_us, late)
