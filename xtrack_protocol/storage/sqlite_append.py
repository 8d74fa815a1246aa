"""How a batch becomes rows and blocks, inside one write transaction that the caller holds.

Each event goes through the fold of its run first, which knows what is there already; where many of a stream come, all
at once. What is new is kept as ``sqlite_tail`` says. When the transaction fails, the caller forgets the folds, which
are ahead of the database then.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, compress
from operator import itemgetter
from typing import Any, Final

from xtrack_protocol.ir import ENVELOPES, Envelope, RunEnd, RunId, Skip
from xtrack_protocol.runs import Columns, gather
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import sqlite_tail
from xtrack_protocol.storage.answers import content_digest, points_of, same_content
from xtrack_protocol.storage.base import AppendResult, Incoming, StreamEvents, StreamResult
from xtrack_protocol.storage.sqlite_blocks import locate
from xtrack_protocol.storage.sqlite_parts import Part, RunInBatch, count_tail, grouped, has_use, pick
from xtrack_protocol.storage.sqlite_rows import (
    METRIC,
    find_run_row,
    insert_run,
    is_deleted,
    kind_of,
    pack,
    use_experiment,
)
from xtrack_protocol.storage.sqlite_runs import COLUMN_EVENTS, RunCache, load_run, refold, save_evicted
from xtrack_protocol.storage.sqlite_tail import Loose
from xtrack_protocol.storage.sqlite_write import ensure_stream, write_run
from xtrack_protocol.wire import is_control

BULK_EVENTS: Final = 16
"""So many events of a stream in a batch are taken together; fewer one by one."""

COLUMN_EVENTS_LEAST: Final = 4
"""So many events a shape are folded together; fewer one by one."""

_INSERT_EVENT: Final = (
    "INSERT INTO events (position, run_key, stream_key, seq, kind, received_at_us, packed, raw)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)

_METRICS: Final = frozenset({ENVELOPES["metric"], ENVELOPES["metric_batch"]})


class Batch:
    """One batch on its way into the tables."""

    def __init__(self, connection: sqlite3.Connection, path: str, cache: RunCache, now_us: int) -> None:
        self._connection = connection
        self._path = path
        self._cache = cache
        self._now_us = now_us
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        self._position: int = row[0] if row else 0
        self._before = self._position
        self._runs: dict[str, RunInBatch | None] = {}
        self._parts: list[Part] = []
        self._experiments: set[str] = set()
        self._rows: list[tuple[Any, ...]] = []
        self._grew = False
        self._positions: Sequence[int] = ()
        self._received: Sequence[int] = ()
        self._received_at_us: int | None = None
        """When all events of the batch were received, where it was at once."""
        self._conflicts: list[int] = []

    # -------------------------------------------------------------------------------------- what comes in

    def take(self, items: Iterable[Incoming]) -> AppendResult:
        """Put all of ``items`` away, and bring their runs up to date."""
        batch = list(items)
        envelopes = [item.envelope for item in batch]
        raws = [item.raw for item in batch]
        streams = [item.stream for item in batch]
        places: dict[StreamId, Sequence[int]] = {}
        if streams and streams.count(streams[0]) == len(streams):
            places[streams[0]] = range(len(streams))
        else:
            places = grouped(streams)
        dropped = 0
        for stream, own in places.items():
            if not self._add(stream, own, envelopes, raws):
                dropped += sum(has_use(envelopes[n]) for n in own)
        is_new = self._store([item.received_at_us for item in batch])
        if is_new is None:
            stored: tuple[int, ...] = tuple(range(len(batch)))
            positions = tuple(self._positions)
        else:
            stored = tuple(compress(range(len(batch)), is_new))
            positions = tuple(compress(self._positions, is_new))
        repeated = sum(len(part.repeated) for part in self._parts)
        return AppendResult(
            stored=stored,
            positions=positions,
            duplicates=repeated - len(self._conflicts),
            conflicts=tuple(self._conflicts),
            dropped=dropped,
        )

    def take_streams(self, batches: Sequence[StreamEvents]) -> list[StreamResult]:
        """Put all of ``batches`` away, and bring their runs up to date."""
        frames = batches[0].frames if len(batches) == 1 else [frame for batch in batches for frame in batch.frames]
        envelopes: list[Any] = [frame.envelope for frame in frames]
        raws = [frame.raw for frame in frames]
        ends = list(accumulate(len(batch.frames) for batch in batches))
        begins = [0, *ends[:-1]]
        ranges: dict[StreamId, list[range]] = {}
        received: list[int] = []
        for batch, begin, end in zip(batches, begins, ends, strict=True):
            ranges.setdefault(batch.stream, []).append(range(begin, end))
            received += [batch.received_at_us] * (end - begin)
        self._received_at_us = batches[0].received_at_us if len(batches) == 1 else None
        dropped: set[StreamId] = set()
        for stream, own in ranges.items():
            if not self._add(stream, own[0] if len(own) == 1 else list(chain(*own)), envelopes, raws):
                dropped.add(stream)
        is_new = self._store(received)
        results = []
        repeated = sorted(part.places[n] for part in self._parts for n in part.repeated)
        conflicting = set(self._conflicts)
        for batch, begin, end in zip(batches, begins, ends, strict=True):
            stored = 0 if batch.stream in dropped else end - begin if is_new is None else sum(is_new[begin:end])
            one = StreamResult(stored, self._positions[end - 1] if stored else 0)
            if batch.stream in dropped:
                one.dropped = not all(map(is_control, envelopes[begin:end]))
            elif stored < end - begin:
                again = repeated[bisect_left(repeated, begin) : bisect_left(repeated, end)]
                one.conflicts = tuple(envelopes[place].meta.seq for place in again if place in conflicting)
                one.duplicates = len(again) - len(one.conflicts)
            results.append(one)
        return results

    def _add(
        self, stream: StreamId, places: Sequence[int], envelopes: Sequence[Envelope], raws: Sequence[bytes]
    ) -> bool:
        """Take the events of one stream in; return False where its run was deleted."""
        if len(places) < len(envelopes):
            envelopes, raws = [envelopes[n] for n in places], [raws[n] for n in places]
        if not _METRICS.issuperset(map(type, envelopes)):
            kept = [n for n, one in enumerate(envelopes) if has_use(one)]
            if len(kept) < len(envelopes):
                places, envelopes, raws = pick(kept, places, envelopes, raws)
        if not places:  # what is passed over doesn't even make a run known
            return True
        run = self._run(stream.run_id)
        if run is None:
            return False
        part = Part(run, stream, places, envelopes, raws)
        self._parts.append(part)
        return True

    def _run(self, run_id: str) -> RunInBatch | None:
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
            found = RunInBatch(entry)
        self._runs[run_id] = found
        return found

    # -------------------------------------------------------------------------------------- what is new

    def _store(self, received: Sequence[int]) -> bytearray | None:
        """Store what is new. Return of each event in the batch whether it was; None where all were."""
        for part in self._parts:
            if len(part.envelopes) < BULK_EVENTS:
                self._fold_one_by_one(part)
            else:
                self._fold_together(part)
            self._note(part)
        self._received = received
        total, before = len(received), self._position
        is_new = None
        if len(self._parts) == 1 and len(self._parts[0].new) == total:
            self._positions = range(before + 1, before + 1 + total)
        else:
            is_new = bytearray(total)
            for part in self._parts:
                for place in part.new:
                    is_new[part.places[place]] = 1
            self._positions = list(accumulate(is_new, initial=before))[1:]
        if total:
            self._position = self._positions[-1]
        self._compare_repeated()
        self._write()
        return is_new

    def _fold_one_by_one(self, part: Part) -> None:
        reducer = part.run.entry.reducer
        new, repeated = [], []
        for place, envelope in enumerate(part.envelopes):
            if isinstance(envelope.payload, Skip):
                self._skip(part, place, envelope.payload)
            elif reducer.apply(part.stream, envelope):
                new.append(place)
            else:
                repeated.append(place)
        part.new = part.rows = new
        part.repeated = repeated

    def _fold_together(self, part: Part) -> None:
        reducer, envelopes = part.run.entry.reducer, part.envelopes
        columns = gather(envelopes)
        if len(columns) == 1 and len(columns[0]) == len(envelopes):
            new: Sequence[int] = reducer.new_places(part.stream, columns[0].seqs)
            if len(new) == len(envelopes):  # as usual: all are metrics of one shape, and new
                reducer.apply_columns(part.stream, columns)
                part.new, part.columns = new, columns
                return
        places: Sequence[int] = range(len(envelopes))
        if ENVELOPES["skip"] in set(map(type, envelopes)):
            skips = {n: payload for n in places if isinstance(payload := envelopes[n].payload, Skip)}
            for n, skip in skips.items():
                self._skip(part, n, skip)
            places = [n for n in places if n not in skips]
        new = reducer.new_places(part.stream, [envelopes[n].meta.seq for n in places])
        if len(new) < len(places):
            part.repeated = sorted({*places}.difference(places[n] for n in new))
        if len(new) < len(envelopes):
            new = [places[n] for n in new]
            envelopes = [envelopes[n] for n in new]
            columns = gather(envelopes)
        rows: Sequence[int] = ()
        if sum(map(len, columns)) < len(envelopes):
            taken = set(chain.from_iterable(one.places for one in columns))
            rows = [n for n in range(len(envelopes)) if n not in taken]
        if len(envelopes) < COLUMN_EVENTS_LEAST * len(columns):  # columns of so few are no quicker
            folded: Sequence[int] = range(len(envelopes))
        else:
            reducer.apply_columns(part.stream, columns)
            folded = rows
        for n in folded:
            reducer.apply(part.stream, envelopes[n])
        part.new, part.rows, part.columns = new, rows, columns
        if len(new) < len(part.envelopes):  # what was gathered is a part of the whole
            part.rows = [new[n] for n in rows]
            for one in columns:
                one.places = [new[n] for n in one.places]

    def _skip(self, part: Part, place: int, payload: Skip) -> None:
        """Close a range of seqs that are lost for good. spec: STR-7"""
        entry = part.run.entry
        if payload.first > payload.last or not entry.reducer.apply(part.stream, part.envelopes[place]):
            return
        part.run.skips.append((ensure_stream(self._connection, entry, part.stream), payload, part, place))

    def _note(self, part: Part) -> None:
        """Note what the new events of a stream may change beside the fold."""
        run, stream = part.run, part.stream
        if part.new:
            part.stream_key = ensure_stream(self._connection, run.entry, stream)
        run.events += len(part.new)
        run.rows += len(part.rows)
        for place in part.rows:
            envelope = part.envelopes[place]
            payload = envelope.payload
            run.note(stream, payload, envelope.meta.timestamp_us, envelope.meta.timestamp_us)
            if isinstance(payload, RunEnd):
                self._connection.execute(
                    "UPDATE streams SET end_seq = min(coalesce(end_seq, :seq), :seq) WHERE stream_key = :stream",
                    {"seq": envelope.meta.seq, "stream": part.stream_key},
                )
            self._use_experiment(getattr(payload, "run_id", None))
        for one in part.columns:
            run.note(stream, one.shape, min(one.timestamps), max(one.timestamps))
            self._use_experiment(one.shape.run_id)

    def _use_experiment(self, run_id: object) -> None:
        if isinstance(run_id, RunId) and run_id.experiment_id is not None:
            self._experiments.add(run_id.experiment_id)

    # -------------------------------------------------------------------------------------- what came again

    def _compare_repeated(self) -> None:
        """Keep those events aside, once, whose seq was taken by one with other content. spec: STR-5"""
        found: list[tuple[int, Part, int]] = []
        for part in self._parts:
            if not part.repeated:
                continue
            own = {part.envelopes[place].meta.seq: part.raws[place] for place in part.new}
            seqs = {part.envelopes[place].meta.seq for place in part.repeated}
            stream_key = ensure_stream(self._connection, part.run.entry, part.stream)
            part.stream_key = stream_key
            first = {
                **{
                    seq: raw
                    for seq, (_, raw) in locate(self._connection, self._path, stream_key, seqs - own.keys()).items()
                },
                **own,
            }
            for place in part.repeated:
                raw, seq = part.raws[place], part.envelopes[place].meta.seq
                if raw != first[seq] and not same_content(first[seq], raw):
                    found.append((part.places[place], part, place))
        for in_batch, part, place in sorted(found, key=itemgetter(0)):
            raw = part.raws[place]
            self._conflicts.append(in_batch)
            self._connection.execute(
                "INSERT OR IGNORE INTO conflicts (run_key, stream_key, seq, digest, received_at_us, packed, raw)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    part.run.entry.run_key,
                    part.stream_key,
                    part.envelopes[place].meta.seq,
                    content_digest(raw),
                    self._received[in_batch],
                    *pack(raw),
                ),
            )

    # -------------------------------------------------------------------------------------- into the tables

    def _write(self) -> None:
        connection = self._connection
        runs = [run for run in self._runs.values() if run is not None and (run.events or run.skips)]
        parts: dict[int, list[Part]] = {}  # not in the run, which they know: a circle would keep all of it for long
        for part in self._parts:
            parts.setdefault(part.run.entry.run_key, []).append(part)
        for run in runs:
            if run.skips:
                self._write_skips(run)
            self._write_events(run, parts[run.entry.run_key])
        if self._rows:
            connection.executemany(_INSERT_EVENT, self._rows)
        if self._position > self._before:  # positions of what is no row count as well
            self._raise_position()
        for experiment in sorted(self._experiments):
            use_experiment(connection, experiment, self._now_us)
        for run in runs:
            entry = run.entry
            entry.position = self._position
            entry.unsaved += run.rows + (run.events - run.rows) / COLUMN_EVENTS
            if entry.reducer.needs_refold:
                refold(connection, self._path, entry)
            write_run(connection, self._path, entry, updated_at_us=run.latest_ts, identity=run.identity)
            self._grew = self._grew or run.grew
        if self._grew:
            save_evicted(connection, self._cache.surplus())

    def _raise_position(self) -> None:
        cursor = self._connection.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'events'", (self._position,)
        )
        if not cursor.rowcount:
            self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)", (self._position,))

    def _write_skips(self, run: RunInBatch) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO skips (stream_key, first, last, received_at_us, raw) VALUES (?, ?, ?, ?, ?)",
            [
                (stream_key, skip.first, skip.last, self._received[part.places[place]], part.raws[place])
                for stream_key, skip, part, place in run.skips
            ],
        )
        run.skips.clear()  # they know their part, and that the run

    def _write_events(self, run: RunInBatch, parts: Sequence[Part]) -> None:
        """Put the new events of a run where they belong: into rows, packed together, or into blocks."""
        connection, entry = self._connection, run.entry
        series_before = len(entry.series)
        columns = [one for part in parts for one in part.columns]
        events = sum(map(len, columns))
        together: list[tuple[int, Loose]] = []
        is_direct = events >= sqlite_tail.DIRECT_EVENTS and events >= sqlite_tail.DIRECT_EVENTS_A_SHAPE * len(columns)
        packed: list[tuple[Part, Loose]] = []
        for part in parts:
            rows = part.rows
            if is_direct:
                metrics = [n for n in rows if kind_of(part.envelopes[n].payload) == METRIC]
                if metrics:
                    rows = sorted({*rows}.difference(metrics))
                if part.columns or metrics:
                    together.append((part.stream_key, self._loose(part, metrics)))
            elif part.columns:
                if sum(map(len, part.columns)) >= sqlite_tail.PACKED_EVENTS:
                    packed.append((part, self._loose(part, ())))
                else:
                    rows = sorted(chain(rows, *(one.places for one in part.columns)))
            self._add_rows(part, rows)
        if is_direct:
            sqlite_tail.compact(connection, self._path, entry, together)
        elif packed:
            chunk = max(loose.positions[-1] for _, loose in packed)
            for part, loose in packed:
                for one in part.columns:
                    count_tail(connection, entry, one.shape.names, len(one))
                sqlite_tail.insert_packed(connection, entry, part.stream_key, chunk, loose)
        run.grew = len(entry.series) > series_before

    def _add_rows(self, part: Part, rows: Sequence[int]) -> None:
        entry, stream_key = part.run.entry, part.stream_key
        for place in rows:
            in_batch, envelope = part.places[place], part.envelopes[place]
            payload = envelope.payload
            kind = kind_of(payload)
            if kind == METRIC:
                count_tail(self._connection, entry, [name for name, _ in points_of(payload)], 1)
            packed, data = pack(part.raws[place])
            self._rows.append(
                (
                    self._positions[in_batch],
                    entry.run_key,
                    stream_key,
                    envelope.meta.seq,
                    kind,
                    self._received[in_batch],
                    packed,
                    data,
                )
            )

    def _loose(self, part: Part, others: Sequence[int]) -> Loose:
        """Return the metric events of a part. ``others``: those that are in no columns."""
        envelopes, raws, places = part.envelopes, part.raws, part.places
        columns: list[Columns] | None = part.columns
        count = sum(map(len, part.columns))
        if others or count < len(envelopes):
            own = sorted(chain(others, *(one.places for one in part.columns)))
            places, envelopes, raws = pick(own, places, envelopes, raws)
            columns = None
        positions, received = self._positions, self._received
        if len(places) < len(positions):
            positions, received = [positions[n] for n in places], [received[n] for n in places]
        return Loose(positions, received, raws, envelopes, columns, self._received_at_us)
