"""The fold of each run of a SQLite store: loaded from a snapshot and the events since, kept while it is valid.

What a process remembers of a run is valid as long as the run's ``version`` is the one it knows, which is looked at
inside the transaction. So several processes can write the same run, each catching up on what the others stored.

Snapshots are written now and then, so that their cost for each event is flat however many series a run has.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, cast

import attrs

from xtrack_protocol.runs import LostReason, RunReducer, RunState, StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.answers import decode_stored
from xtrack_protocol.storage.sqlite_blocks import blocks_after
from xtrack_protocol.storage.sqlite_rows import read_event

SNAPSHOT_FORMAT: Final = 1
"""Raised when snapshots of before can't be read any more; those are then made again from the events."""

SNAPSHOT_EVENTS: Final = 2000
SNAPSHOT_EVENTS_A_SERIES: Final = 20
"""Events after which the next snapshot is due: at least so many, and so many for each series it has to hold."""

COLUMN_EVENTS: Final = 8
"""So many events in columns are folded in the time that one takes by itself."""

_EVICTED_EVENTS: Final = 64  # a run that leaves memory with more unsaved events than this gets its snapshot first

CACHED_RUNS: Final = 4096
CACHED_SERIES: Final = 20_000
"""How much is remembered: a series with its 64 last points takes up to 14 KiB."""


@attrs.define(eq=False)
class RunEntry:
    """A run, as this process knows it."""

    run_key: int
    run_id: str
    version: int
    position: int
    """Of the last event folded."""
    reducer: RunReducer
    unsaved: float = 0
    """Events folded since the snapshot; of those in columns COLUMN_EVENTS count as one."""
    tail: int = 0
    """Points of metric events that are in no proper block."""
    tail_names: set[str] = attrs.field(factory=set)
    """Their names, as far as they came since this entry was loaded."""
    streams: dict[StreamId, int] = attrs.field(factory=dict)
    series: dict[str, int] = attrs.field(factory=dict)
    lowest_ts: dict[StreamId, int] = attrs.field(factory=dict)
    """Of each stream since this entry was loaded: an earlier one can change the order of sessions."""
    identities: set[tuple[str | None, str | None]] = attrs.field(factory=set)
    """The experiments and parents seen since this entry was loaded."""
    known_state: RunState | None = None

    def state(self) -> RunState:
        """Return the run's state."""
        if self.known_state is None:
            self.known_state = self.reducer.state()
        return self.known_state

    def changed(self) -> None:
        """Forget the state."""
        self.known_state = None


class RunCache:
    """The entries of a process, bounded; the least recently used ones go first."""

    def __init__(self, runs: int = CACHED_RUNS, series: int = CACHED_SERIES) -> None:
        self._runs = runs
        self._series = series
        self._entries: OrderedDict[int, RunEntry] = OrderedDict()

    def get(self, run_key: int) -> RunEntry | None:
        """Return the entry of a run, valid or not."""
        entry = self._entries.get(run_key)
        if entry is not None:
            self._entries.move_to_end(run_key)
        return entry

    def put(self, entry: RunEntry) -> None:
        """Remember an entry."""
        self._entries[entry.run_key] = entry
        self._entries.move_to_end(entry.run_key)

    def discard(self, run_key: int) -> None:
        """Forget a run."""
        self._entries.pop(run_key, None)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()

    def surplus(self) -> list[RunEntry]:
        """Take out and return what is too much, all but the last one at most."""
        taken = []
        series = sum(entry.reducer.series_count for entry in self._entries.values())
        while len(self._entries) > 1 and (len(self._entries) > self._runs or series > self._series):
            _, entry = self._entries.popitem(last=False)
            series -= entry.reducer.series_count
            taken.append(entry)
        return taken

    def unsaved(self) -> list[RunEntry]:
        """Return the entries whose snapshot is behind."""
        return [entry for entry in self._entries.values() if entry.unsaved]


# ------------------------------------------------------------------------------------------ loading


def load_run(connection: sqlite3.Connection, path: str, row: tuple[int, str, int], known: RunEntry | None) -> RunEntry:
    """Return a run's entry, brought up to date. ``row``: key, id and version. ``known``: what the cache has.

    An entry that is newer than the row is one that another thread of this process has brought up to date since.
    """
    run_key, run_id, version = row
    if known is not None and known.version >= version:
        return known
    entry = known or _from_snapshot(connection, run_key, run_id)
    bring_up_to_date(connection, path, entry)
    entry.version = version
    entry.changed()
    return entry


def _from_snapshot(connection: sqlite3.Connection, run_key: int, run_id: str) -> RunEntry:
    row = connection.execute("SELECT position, format, data FROM snapshots WHERE run_key = ?", (run_key,)).fetchone()
    if row is not None and row[1] == SNAPSHOT_FORMAT:
        try:
            return RunEntry(run_key, run_id, -1, row[0], RunReducer.load(zlib.decompress(row[2])))
        except (ValueError, zlib.error):
            pass  # derived data: the events say it all again; `check` reports it
    return RunEntry(run_key, run_id, -1, 0, RunReducer(run_id))


def snapshot_problem(connection: sqlite3.Connection, run_key: int) -> bool:
    """Whether there is a snapshot that should be readable and isn't."""
    row = connection.execute(
        "SELECT data FROM snapshots WHERE run_key = ? AND format = ?", (run_key, SNAPSHOT_FORMAT)
    ).fetchone()
    try:
        if row is not None:
            RunReducer.load(zlib.decompress(row[0]))
    except (ValueError, zlib.error):
        return True
    return False


def refolded(connection: sqlite3.Connection, path: str, run_key: int, run_id: str) -> RunEntry:
    """Return a run's entry from its events alone, whatever snapshot there is. spec: FLD-12.4"""
    entry = RunEntry(run_key, run_id, -1, 0, RunReducer(run_id))
    bring_up_to_date(connection, path, entry)
    return entry


def bring_up_to_date(connection: sqlite3.Connection, path: str, entry: RunEntry) -> None:
    """Fold what was stored since, by whomever."""
    entry.streams.update(stream_keys(connection, entry.run_key, entry.run_id))
    (entry.tail,) = connection.execute("SELECT tail FROM runs WHERE run_key = ?", (entry.run_key,)).fetchone()
    _replay(connection, path, entry)
    if entry.reducer.needs_refold:
        refold(connection, path, entry)


def refold(connection: sqlite3.Connection, path: str, entry: RunEntry) -> None:
    """Fold all events again, because a rewind came after points it hides. spec: FLD-8"""
    entry.reducer = entry.reducer.restarted()
    entry.position = 0
    entry.unsaved = 0
    _replay(connection, path, entry)
    entry.changed()


def _replay(connection: sqlite3.Connection, path: str, entry: RunEntry) -> None:
    reducer, run_key = entry.reducer, entry.run_key
    streams = {key: stream for stream, key in entry.streams.items()}
    expected = connection.execute("SELECT expected_name, expected_experiment FROM runs WHERE run_key = ?", (run_key,))
    for name, experiment in expected:
        reducer.expect(name=name, experiment_id=experiment)
    after = entry.position
    for block in blocks_after(connection, path, run_key, after):
        columns = block.columns(after)
        reducer.apply_columns(streams[block.stream_key], columns)
        entry.position = max(entry.position, block.positions[-1])
        entry.unsaved += sum(map(len, columns)) / COLUMN_EVENTS
    events = connection.execute(
        "SELECT position, stream_key, packed, raw FROM events WHERE run_key = ? AND position > ? ORDER BY position",
        (run_key, after),
    )
    for position, stream_key, packed, data in events:
        reducer.apply(streams[stream_key], read_event(path, position, packed, data)[1])
        entry.position = max(entry.position, position)
        entry.unsaved += 1
    for stream_key, raw in connection.execute(
        "SELECT stream_key, raw FROM skips JOIN streams USING (stream_key) WHERE run_key = ?", (run_key,)
    ):
        reducer.apply(streams[stream_key], decode_stored(raw))
    for lost in losses(connection, entry.run_key, streams):
        reducer.apply_lost(lost)


def losses(connection: sqlite3.Connection, run_key: int, streams: dict[int, StreamId]) -> Iterator[StreamLost]:
    """Yield what is known of lost streams of a run."""
    for stream_key, reason, at_us, after_seq, detail in connection.execute(
        "SELECT stream_key, reason, at_us, after_seq, detail FROM losses JOIN streams USING (stream_key)"
        " WHERE run_key = ?",
        (run_key,),
    ):
        yield StreamLost(streams[stream_key], at_us, cast("LostReason", reason), after_seq, detail)


def stream_keys(connection: sqlite3.Connection, run_key: int, run_id: str) -> dict[StreamId, int]:
    """Return the streams of a run."""
    rows = connection.execute("SELECT worker_id, session_id, stream_key FROM streams WHERE run_key = ?", (run_key,))
    return {StreamId(run_id, worker_id, session_id): key for worker_id, session_id, key in rows}


# ------------------------------------------------------------------------------------------ snapshots


def snapshot_is_due(entry: RunEntry) -> bool:
    """Whether enough has come since the last one to pay for the next."""
    return entry.unsaved >= SNAPSHOT_EVENTS and entry.unsaved >= SNAPSHOT_EVENTS_A_SERIES * entry.reducer.series_count


def save_snapshot(connection: sqlite3.Connection, entry: RunEntry) -> None:
    """Write the run's snapshot; nothing where it can't be written as one, and its events are folded each time."""
    data = entry.reducer.snapshot()
    if data is not None:
        # Another process may have deleted the run, or written a later one.
        connection.execute(
            "INSERT OR REPLACE INTO snapshots (run_key, position, format, data) SELECT :run, :position, :format, :data"
            " WHERE EXISTS (SELECT 1 FROM runs WHERE run_key = :run) AND NOT EXISTS"
            " (SELECT 1 FROM snapshots WHERE run_key = :run AND position > :position AND format = :format)",
            {
                "run": entry.run_key,
                "position": entry.position,
                "format": SNAPSHOT_FORMAT,
                "data": zlib.compress(data, 1),
            },
        )
    entry.unsaved = 0


def save_evicted(connection: sqlite3.Connection, entries: list[RunEntry]) -> None:
    """Write the snapshots of runs that leave the cache with much unsaved."""
    for entry in entries:
        if entry.unsaved >= _EVICTED_EVENTS:
            save_snapshot(connection, entry)
