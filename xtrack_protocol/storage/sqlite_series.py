"""Series of a SQLite store, out of blocks and the tail, inside a read transaction that the caller holds."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any, Final, TypeAlias

import attrs

from xtrack_protocol.errors import StoreCorrupt
from xtrack_protocol.ir import MetricContext
from xtrack_protocol.runs import Aggregate, Part, Series, SeriesPoint, aggregate, join, join_fewer
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.answers import points_of
from xtrack_protocol.storage.sqlite_blocks import StoredBlock, read_block
from xtrack_protocol.storage.sqlite_runs import RunEntry
from xtrack_protocol.storage.sqlite_tail import read_tail

_Point: TypeAlias = tuple[bool, int, int, int, int | float, int | None, int, MetricContext | None, int]
"""Whether it has no step, the step, the place of its stream in session order, its seq: that is the order of a series;
then value, epoch, timestamp_us, context, and the key of its stream. spec: FLD-3"""

_TailPoint: TypeAlias = tuple[int, int, int | None, int | float, int | None, int, MetricContext | None]
"""The key of its stream, seq, step, value, epoch, timestamp_us, context."""

_TAILS: Final = 4
"""Tails that are kept in memory, so that who reads one series after the other decodes them once."""


@attrs.frozen
class StreamView:
    """What reading a series needs to know of a stream."""

    stream: StreamId
    place: int
    rewind_to: int | None


def stream_views(entry: RunEntry) -> dict[int, StreamView]:
    """Return the streams of a run by key."""
    order, rewinds = entry.reducer.stream_order(), entry.reducer.rewinds
    return {
        key: StreamView(stream, order[stream], rewinds.get(stream.session_id))
        for stream, key in entry.streams.items()
        if stream in order
    }


class Tails:
    """The points of tails read last, by run and its version. Thread-safe, as each operation on a dict is."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], dict[str, list[_TailPoint]]] = {}

    def read(
        self, connection: sqlite3.Connection, path: str, run_key: int, version: int
    ) -> dict[str, list[_TailPoint]]:
        """Return the points of a run's tail by name. Raises StoreCorrupt."""
        found = self._kept.get((run_key, version))
        if found is None:
            found = {}
            for stream_key, loose in read_tail(connection, path, run_key).items():
                for envelope in loose.envelopes:
                    payload: Any = envelope.payload
                    meta = envelope.meta
                    for name, value in points_of(payload):
                        found.setdefault(name, []).append(
                            (
                                stream_key,
                                meta.seq,
                                payload.step,
                                value,
                                payload.epoch,
                                meta.timestamp_us,
                                payload.context,
                            )
                        )
            kept = {key: points for key, points in self._kept.items() if key[0] != run_key}
            kept = dict(list(kept.items())[-(_TAILS - 1) :])
            kept[run_key, version] = found
            self._kept = kept
        return found

    def clear(self) -> None:
        """Forget all."""
        self._kept = {}


@attrs.frozen(kw_only=True)
class SeriesQuery:
    """Which points of a series are asked for."""

    key: str
    min_step: int | None = None
    max_step: int | None = None
    worker_id: str | None = None
    limit: int | None = None
    include_hidden: bool = False

    def has_step(self, step: int | None) -> bool:
        """Whether points of ``step`` are asked for."""
        if step is None:
            return self.min_step is None and self.max_step is None
        return (self.min_step is None or step >= self.min_step) and (self.max_step is None or step <= self.max_step)


class SeriesReader:
    """Reads one series of a run, as it is in the transaction of ``connection``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        run: tuple[int, int],
        query: SeriesQuery,
        streams: Mapping[int, StreamView],
        tails: Tails,
    ) -> None:
        """``run``: its key and version."""
        self._connection = connection
        self._path = path
        self._run = run
        self._query = query
        self._views = {
            key: view
            for key, view in streams.items()
            if query.worker_id is None or view.stream.worker_id == query.worker_id
        }
        self._tails = tails
        row = connection.execute(
            "SELECT series_key FROM series WHERE run_key = ? AND name = ?", (run[0], query.key)
        ).fetchone()
        self._series_key: int | None = None if row is None else row[0]

    # -------------------------------------------------------------------------------------- answers

    def points(self) -> list[SeriesPoint]:
        """Return the points, in the order of the series. spec: FLD-3, FLD-8"""
        query = self._query
        found = self._sorted()
        names = {key: (view.stream.worker_id, view.stream.session_id) for key, view in self._views.items()}
        rewinds = {key: view.rewind_to for key, view in self._views.items()}
        if not query.include_hidden or not any(rewind is not None for rewind in rewinds.values()):
            return [
                SeriesPoint(value, None if no_step else step, epoch, timestamp, *names[key], seq, context)
                for no_step, step, _, seq, value, epoch, timestamp, context, key in found
            ]
        result = []
        for no_step, step, _, seq, value, epoch, timestamp, context, key in found:
            rewind = rewinds[key]
            hidden = rewind is not None and not no_step and step > rewind
            own = None if no_step else step
            result.append(SeriesPoint(value, own, epoch, timestamp, *names[key], seq, context, hidden))
        return result

    def aggregates(self) -> list[Aggregate]:
        """Return the series over all workers, one value a step, without making its points. spec: FLD-3.7"""
        workers = {key: view.stream.worker_id for key, view in self._views.items()}
        result = []
        for step, at_step in groupby((point for point in self._sorted() if not point[0]), key=itemgetter(1)):
            # Those of a later session, and within one of a later event, take the place of those before.
            of_worker = {workers[point[8]]: point[4] for point in at_step}
            result.append(aggregate(step, list(of_worker.values())))
        return result

    def series(self) -> Series:
        """Return the series as arrays."""
        return self._joined(join)

    def fewer(self, limit: int) -> Series:
        """Return at most ``limit`` points of the series that look like all of it."""
        return self._joined(lambda parts, **steps: join_fewer(parts, limit, **steps))

    def _joined(self, together: Callable[..., Series]) -> Series:
        parts = [
            block.part(self._query.key, place=view.place, rewind_to=self._rewind_of(view))
            for block, view in self._blocks()
        ]
        parts += self._tail_parts()
        try:
            return together(parts, min_step=self._query.min_step, max_step=self._query.max_step)
        except ValueError as error:  # parts are decoded when their turn comes
            raise StoreCorrupt(self._path, [f"a block of {self._query.key!r} can't be read: {error}"]) from error

    # -------------------------------------------------------------------------------------- where they come from

    def _rewind_of(self, view: StreamView) -> int | None:
        return None if self._query.include_hidden else view.rewind_to

    def _sorted(self) -> list[_Point]:
        limit = self._query.limit
        if self._series_key is None or (limit is not None and limit <= 0):
            return []
        found = self._tail_points()
        if limit is None:
            for block, view in self._blocks():
                found += self._block_points(block, view)
        else:
            self._add_first(found, limit)
        try:
            found.sort()  # of two points the first four differ
        except TypeError:  # but in a store that is damaged
            found.sort(key=_ORDER)
        return found if limit is None else found[:limit]

    def _add_first(self, found: list[_Point], limit: int) -> None:
        """Add the points of blocks until all those that come first are there."""
        for step, key, stream_key in self._found_blocks():
            if len(found) >= limit and step is not None and sum(not p[0] and p[1] < step for p in found) >= limit:
                return
            view = self._views[stream_key]
            block = self._read(key)
            if block is not None:
                found += self._block_points(block, view)

    def _found_blocks(self) -> list[tuple[int | None, int, int]]:
        """Return of blocks that may hold points the least step, their key, and their stream's; null steps last."""
        if self._series_key is None:
            return []
        query = self._query
        text = "SELECT min_step, block_key, stream_key FROM block_series JOIN blocks USING (block_key)"
        text += " WHERE series_key = ?"
        values: list[int] = [self._series_key]
        if query.min_step is not None:
            text += " AND max_step >= ?"
            values.append(query.min_step)
        if query.max_step is not None:
            text += " AND min_step <= ?"
            values.append(query.max_step)
        rows = self._connection.execute(f"{text} ORDER BY min_step IS NULL, min_step, block_key", values)
        return [row for row in rows if row[2] in self._views]

    def _blocks(self) -> Iterator[tuple[StoredBlock, StreamView]]:
        for _, key, stream_key in self._found_blocks():
            block = self._read(key)
            if block is not None:
                yield block, self._views[stream_key]

    def _read(self, key: int) -> StoredBlock | None:
        return read_block(self._connection, self._path, key)

    def _block_points(self, block: StoredBlock, view: StreamView) -> Iterator[_Point]:
        steps, seqs, values, epochs, timestamps = block.series(self._query.key)
        no_steps: Iterator[bool] = repeat(steps is None)
        rows: Iterator[Any] = zip(
            no_steps,
            repeat(0) if steps is None else steps,
            repeat(view.place),
            seqs,
            values,
            repeat(None) if epochs is None else epochs,
            timestamps,
            repeat(block.context),
            repeat(block.stream_key),
            strict=False,
        )
        rewind_to = self._rewind_of(view)
        query = self._query
        if steps is not None and (query.min_step is not None or query.max_step is not None):
            rows = (row for row in rows if query.has_step(row[1]))
        if steps is not None and rewind_to is not None:
            rows = (row for row in rows if row[1] <= rewind_to)
        elif steps is None and not query.has_step(None):
            rows = iter(())
        return rows

    def _of_tail(self) -> Iterator[tuple[_TailPoint, StreamView]]:
        """Yield the points of the tail that are asked for."""
        if self._series_key is None:
            return
        query = self._query
        for point in self._tails.read(self._connection, self._path, *self._run).get(query.key, ()):
            view, step = self._views.get(point[0]), point[2]
            if view is None or not query.has_step(step):
                continue
            rewind_to = self._rewind_of(view)
            if rewind_to is None or step is None or step <= rewind_to:
                yield point, view

    def _tail_points(self) -> list[_Point]:
        return [
            (step is None, step or 0, view.place, seq, value, epoch, timestamp, context, key)
            for (key, seq, step, value, epoch, timestamp, context), view in self._of_tail()
        ]

    def _tail_parts(self) -> list[Part]:
        groups: dict[tuple[int, bool], list[tuple[_TailPoint, StreamView]]] = {}
        for point, view in self._of_tail():
            groups.setdefault((point[0], point[2] is None), []).append((point, view))
        return [_part([point for point, _ in group], group[0][1].place) for group in groups.values()]


_ORDER: Final = itemgetter(0, 1, 2, 3)


def _part(points: Sequence[_TailPoint], place: int) -> Part:
    """Return points of one stream, all with or all without a step, for ``runs.join``."""
    seqs = [point[1] for point in points]
    steps = None if points[0][2] is None else array("q", [point[2] or 0 for point in points])
    values = array("d", [float(point[3]) for point in points])
    timestamps = array("q", [point[5] for point in points])
    return Part(
        len(points),
        lambda: (steps, values, timestamps),
        lambda: seqs,
        None if steps is None else (min(steps), max(steps)),
        (min(seqs), max(seqs)),
        seqs == sorted(seqs) and (steps is None or list(steps) == sorted(steps)),
        place,
    )
