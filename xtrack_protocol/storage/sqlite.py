"""A store in one SQLite file."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from xtrack_protocol.errors import (
    ExperimentExists,
    RunDeleted,
    RunNotFound,
    StorageError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
)
from xtrack_protocol.ir import Artifact, Checkpoint, Durability, LogEntry, Param
from xtrack_protocol.limits import LOG_TAIL
from xtrack_protocol.runs import (
    Aggregate,
    LogRecord,
    RunState,
    Series,
    SeriesPoint,
    StoredArtifact,
    StoredCheckpoint,
    StreamLost,
    require_points,
)
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.storage import answers, sqlite_access, sqlite_events, sqlite_queries
from xtrack_protocol.storage.access import RunAccess
from xtrack_protocol.storage.base import (
    AppendResult,
    Experiment,
    Incoming,
    ParamValue,
    RunQuery,
    Storage,
    StoredEvent,
    StreamEvents,
    StreamResult,
)
from xtrack_protocol.storage.sqlite_append import Batch
from xtrack_protocol.storage.sqlite_check import check_store, probe
from xtrack_protocol.storage.sqlite_connections import BUSY_SECONDS, ConnectionPool, create_file
from xtrack_protocol.storage.sqlite_events import EventReader, conflicts, told
from xtrack_protocol.storage.sqlite_rows import find_run_row, insert_run, is_deleted, use_experiment
from xtrack_protocol.storage.sqlite_runs import RunCache, RunEntry, load_run, save_snapshot
from xtrack_protocol.storage.sqlite_schema import BLOCKS_VERSION, found_version, migrate, require_readable
from xtrack_protocol.storage.sqlite_series import SeriesQuery, SeriesReader, Tails, stream_views
from xtrack_protocol.storage.sqlite_tail import compact_slowly, is_long
from xtrack_protocol.storage.sqlite_write import delete_run_rows, ensure_stream, insert_tombstone, write_run


def wall_clock_us() -> int:
    """Return the time: microseconds since the Unix epoch."""
    return time.time_ns() // 1000


class SQLiteStore(Storage):
    """A store in one SQLite file, which threads and processes can write and read at once.

    What ``append`` has returned survives a power loss: a write-ahead log, written through with each transaction. Files
    are made for their owner alone. ``read_only``: nothing is ever written, a file of an older schema is refused;
    works for files of others and on read-only media. ``busy_seconds``: how long to wait for another process's
    transaction before StoreLocked. ``clock``: the time in microseconds since the Unix epoch; it stands in what the
    store itself says (received, created, deleted, annotated), never in anything else.

    A forked child can go on using the store it inherits. Raises NotAStore, StoreVersionError, StoreUnavailable,
    StoreReadOnly, StoreLocked, StoreCorrupt.
    """

    durability: ClassVar[Durability] = "power"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
        clock: Callable[[], int] = wall_clock_us,
    ) -> None:
        self.path = str(Path(path).absolute())
        self.read_only = read_only
        self._clock = clock
        self._cache = RunCache()
        self._tails = Tails()
        self._new_session()
        self._pool = ConnectionPool(
            self.path, read_only=read_only, busy_seconds=busy_seconds, on_fork=self._forget_after_fork
        )
        try:
            self._open()
        except BaseException:
            self._pool.close()
            raise

    def _open(self) -> None:
        if self.read_only:
            with self._pool.outside_transactions() as connection:
                require_readable(connection, self.path)
            return
        create_file(self.path)
        with self._pool.outside_transactions() as connection:
            found_version(connection, self.path)  # before anything is changed in a file that may not be ours
        self._pool.use_wal()
        with self._pool.outside_transactions() as connection:
            before = migrate(connection, self.path, self._clock())
        if 0 < before < BLOCKS_VERSION:
            self._make_blocks()

    def _make_blocks(self) -> None:
        """Make blocks of the long tails that a store of before blocks comes with, a part at a time.

        What is left when that is cut short is done when events of the run come.
        """
        with self._pool.reading() as connection:
            runs = connection.execute("SELECT run_id FROM runs WHERE tail > 0").fetchall()
        for (run_id,) in runs:
            is_left = True
            while is_left:
                with self._writing() as connection:
                    row = find_run_row(connection, run_id)
                    if row is None:
                        break
                    entry = self._entry(connection, row)
                    is_left = is_long(entry) and compact_slowly(connection, self.path, entry)
                    write_run(connection, self.path, entry, identity=False)

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, clock: Callable[[], int] = wall_clock_us) -> SQLiteStore:
        """Make a new store. Raises StoreUnavailable where the file exists."""
        if not create_file(str(path)):
            raise StoreUnavailable(path, "is there already, and is never overwritten")
        return cls(path, clock=clock)

    @property
    def url(self) -> str:
        """``sqlite:///`` and the absolute path."""
        return f"sqlite:///{self.path}"

    def _new_session(self) -> str:
        session_id = secrets.token_hex(16)
        self._annotator = answers.Annotator(session_id, self._new_session)
        return session_id

    def _forget_after_fork(self) -> None:
        self._cache.clear()
        self._new_session()

    # -------------------------------------------------------------------------------------- writing

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._pool.locked(), self._pool.writing() as connection:
                yield connection
        except BaseException:
            self._cache.clear()  # the folds are ahead of what was taken back
            raise

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        """Store the new ones of ``batch``, in one transaction. spec: FLD-12"""
        if not batch:
            return AppendResult()
        with self._writing() as connection:
            return Batch(connection, self.path, self._cache, self._clock()).take(batch)

    def append_streams(self, batches: Sequence[StreamEvents]) -> list[StreamResult]:
        """Store the new ones of ``batches``, in one transaction. spec: FLD-12"""
        if not any(batch.frames for batch in batches):
            return [StreamResult() for _ in batches]
        with self._writing() as connection:
            return Batch(connection, self.path, self._cache, self._clock()).take_streams(batches)

    def expect_run(self, run_id: str, *, name: str | None = None, experiment_id: str | None = None) -> RunState:
        """Make a run known before its first event. spec: FLD-5.8"""
        with self._writing() as connection:
            row = find_run_row(connection, run_id)
            if row is not None:
                return self._entry(connection, row).state()
            if is_deleted(connection, run_id):
                raise RunDeleted(run_id)
            now_us = self._clock()
            entry = self._entry(connection, insert_run(connection, run_id, now_us))
            connection.execute(
                "UPDATE runs SET expected_name = ?, expected_experiment = ? WHERE run_key = ?",
                (name, experiment_id, entry.run_key),
            )
            entry.reducer.expect(name=name, experiment_id=experiment_id)
            if experiment_id is not None:
                use_experiment(connection, experiment_id, now_us)
            write_run(connection, self.path, entry)
            return entry.state()

    def mark_lost(self, lost: StreamLost) -> None:
        """Record that a worker is known to be gone. spec: FLD-6"""
        with self._writing() as connection:
            run_id = lost.stream.run_id
            row = find_run_row(connection, run_id)
            if row is None:
                if is_deleted(connection, run_id):
                    return
                row = insert_run(connection, run_id, self._clock())
            entry = self._entry(connection, row)
            facts = (
                ensure_stream(connection, entry, lost.stream),
                lost.reason,
                lost.at_us,
                lost.after_seq,
                lost.detail,
            )
            cursor = connection.execute(
                "INSERT OR IGNORE INTO losses (stream_key, reason, at_us, after_seq, detail) VALUES (?, ?, ?, ?, ?)",
                facts,
            )
            if cursor.rowcount:
                entry.reducer.apply_lost(lost)
                write_run(connection, self.path, entry)

    def annotate(
        self, run_id: str, *, tags: Mapping[str, str] | None = None, name: str | None = None, note: str | None = None
    ) -> RunState:
        """Tag, rename or note a run. spec: EVT-TAGS-2"""
        said = answers.annotation_tags(tags, name, note)
        with self._writing() as connection:
            entry = self._entry(connection, self._row(connection, run_id))
            if said:
                now_us = self._clock()
                event = self._annotator.annotation(entry.reducer, run_id, now_us, said)
                Batch(connection, self.path, self._cache, now_us).take([event])
            return entry.state()

    def delete_run(self, run_id: str) -> None:
        """Delete a run for good and leave a tombstone. spec: FLD-9"""
        with self._writing() as connection:
            run_key, _, _ = self._row(connection, run_id)
            delete_run_rows(connection, run_key, run_id, self._clock())
            self._cache.discard(run_key)

    # -------------------------------------------------------------------------------------- runs

    def _row(self, connection: sqlite3.Connection, run_id: str) -> tuple[int, str, int]:
        row = find_run_row(connection, run_id)
        if row is None:
            raise RunNotFound(run_id)
        return row

    def _entry(self, connection: sqlite3.Connection, row: tuple[int, str, int]) -> RunEntry:
        """Return the fold of a run, for who holds the pool's lock."""
        entry = load_run(connection, self.path, row, self._cache.get(row[0]))
        self._cache.put(entry)
        return entry

    def cursor(self, stream: StreamId) -> RangeSet:
        """Return which seqs of ``stream`` are here. spec: FLD-12.2"""
        with self._pool.locked(), self._pool.reading() as connection:
            row = find_run_row(connection, stream.run_id)
            return RangeSet() if row is None else self._entry(connection, row).reducer.seqs(stream)

    def get_run(self, run_id: str) -> RunState:
        """Return a run's state. Raises RunNotFound."""
        with self._pool.locked(), self._pool.reading() as connection:
            return self._entry(connection, self._row(connection, run_id)).state()

    def find_run(self, ref: str) -> str:
        """Return the id of the run that ``ref`` means. Raises RunNotFound or AmbiguousRun."""
        with self._pool.reading() as connection:
            return sqlite_queries.find_run(connection, ref)

    def search_runs(self, query: RunQuery = RunQuery()) -> list[RunState]:  # noqa: B008 - frozen
        """Return the states of the runs that match."""
        states = []
        with self._pool.reading() as connection:
            for row in sqlite_queries.search_rows(connection, query):
                with self._pool.locked():  # for one run at a time, so that writers get their turn
                    # What isn't remembered isn't put there: a list of all runs must not push out those being written.
                    states.append(load_run(connection, self.path, row, self._cache.get(row[0])).state())
        return states

    # -------------------------------------------------------------------------------------- what a run holds

    def metric_keys(self, run_id: str) -> list[str]:
        """Return the names of a run's metrics, sorted. Raises RunNotFound."""
        with self._pool.reading() as connection:
            return sqlite_queries.metric_keys(connection, self._row(connection, run_id)[0])

    def get_metrics(
        self,
        run_id: str,
        key: str,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        worker_id: str | None = None,
        limit: int | None = None,
        include_hidden: bool = False,
    ) -> list[SeriesPoint]:
        """Return a series in its order. spec: FLD-3, FLD-8"""
        query = SeriesQuery(
            key=key,
            min_step=min_step,
            max_step=max_step,
            worker_id=worker_id,
            limit=limit,
            include_hidden=include_hidden,
        )
        with self._series(run_id, query) as reader:
            return reader.points()

    def get_series(
        self,
        run_id: str,
        key: str,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        worker_id: str | None = None,
        include_hidden: bool = False,
    ) -> Series:
        """Return a series as arrays. spec: FLD-3, FLD-8"""
        query = SeriesQuery(
            key=key, min_step=min_step, max_step=max_step, worker_id=worker_id, include_hidden=include_hidden
        )
        with self._series(run_id, query) as reader:
            return reader.series()

    def downsample(
        self,
        run_id: str,
        key: str,
        points: int = 2000,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        worker_id: str | None = None,
    ) -> Series:
        """Return few points of a series that look like all of it, of most blocks without a look at their points."""
        require_points(points)
        query = SeriesQuery(key=key, min_step=min_step, max_step=max_step, worker_id=worker_id)
        with self._series(run_id, query) as reader:
            return reader.fewer(points)

    @contextmanager
    def _series(self, run_id: str, query: SeriesQuery) -> Iterator[SeriesReader]:
        with self._pool.reading() as connection:
            with self._pool.locked():  # the first look at the tables, so that points and streams are of one moment
                row = self._row(connection, run_id)
                streams = stream_views(self._entry(connection, row))
            yield SeriesReader(connection, self.path, (row[0], row[2]), query, streams, self._tails)

    def get_metric_aggregate(
        self, run_id: str, key: str, *, min_step: int | None = None, max_step: int | None = None
    ) -> list[Aggregate]:
        """Return a series over all workers. spec: FLD-3.7"""
        with self._series(run_id, SeriesQuery(key=key, min_step=min_step, max_step=max_step)) as reader:
            return reader.aggregates()

    def get_params(self, run_id: str) -> dict[str, list[ParamValue]]:
        """Return each param with its history. spec: FLD-2.9"""
        with self._pool.locked(), self._pool.reading() as connection:
            entry = self._entry(connection, self._row(connection, run_id))
            params = told(connection, self.path, entry, Param)
            return answers.param_history(params, entry.reducer.stream_order())

    def get_artifacts(self, run_id: str) -> list[StoredArtifact]:
        """Return all artifacts in the order of their time stamps."""
        with self._pool.locked(), self._pool.reading() as connection:
            entry = self._entry(connection, self._row(connection, run_id))
            return answers.artifacts_of(told(connection, self.path, entry, Artifact))

    def get_checkpoints(self, run_id: str, *, include_hidden: bool = False) -> list[StoredCheckpoint]:
        """Return all checkpoints in the order of steps. spec: FLD-8"""
        with self._pool.locked(), self._pool.reading() as connection:
            entry = self._entry(connection, self._row(connection, run_id))
            checkpoints = told(connection, self.path, entry, Checkpoint)
            order, rewinds = entry.reducer.stream_order(), entry.reducer.rewinds
            return answers.checkpoints_of(checkpoints, order, rewinds, include_hidden=include_hidden)

    def get_logs(self, run_id: str, *, limit: int | None = None) -> list[LogRecord]:
        """Return all log events, or the last ``limit``, in the order of their time stamps."""
        if limit is not None and limit <= LOG_TAIL:
            return list(self.get_run(run_id).logs[-limit:]) if limit > 0 else list(self.get_run(run_id).logs[:0])
        with self._pool.locked(), self._pool.reading() as connection:
            entry = self._entry(connection, self._row(connection, run_id))
            logs = answers.logs_of(told(connection, self.path, entry, LogEntry))
            return logs if limit is None else logs[-limit:]

    def events(self, run_id: str | None = None, *, after: int = 0, limit: int | None = None) -> Iterator[StoredEvent]:
        """Yield stored events in order of position. No transaction is open between two of them."""
        run_key = None
        if run_id is not None:
            with self._pool.reading() as connection:
                run_key = self._row(connection, run_id)[0]
        return self._events(run_key, after, limit)

    def _events(self, run_key: int | None, after: int, limit: int | None) -> Iterator[StoredEvent]:
        left = limit
        reader = EventReader(self.path, run_key, after)
        while left is None or left > 0:
            size = sqlite_events.EVENTS_PAGE if left is None else min(left, sqlite_events.EVENTS_PAGE)
            with self._pool.reading() as connection:
                page, is_last = reader.page(connection, size)
            yield from page
            if is_last:
                return
            left = None if left is None else left - len(page)

    def conflicts(self, run_id: str) -> list[StoredEvent]:
        """Return the events that came under a seq already taken. spec: STR-5"""
        with self._pool.reading() as connection:
            return conflicts(connection, self.path, self._row(connection, run_id)[0])

    # -------------------------------------------------------------------------------------- experiments

    def create_experiment(
        self, name: str, *, experiment_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Make an experiment. Raises ExperimentExists."""
        made = Experiment(name if experiment_id is None else experiment_id, name, self._clock(), dict(tags or {}))
        with self._writing() as connection:
            for taken in (made.name, made.experiment_id):
                if sqlite_queries.find_experiment(connection, taken) is not None:
                    raise ExperimentExists(taken)
            sqlite_queries.insert_experiment(connection, made)
        return made

    def get_experiment(self, name_or_id: str) -> Experiment:
        """Return an experiment by its id or its name. Raises ExperimentNotFound."""
        with self._pool.reading() as connection:
            return sqlite_queries.get_experiment(connection, name_or_id)

    def list_experiments(self) -> list[Experiment]:
        """Return all experiments, sorted by name."""
        with self._pool.reading() as connection:
            return sqlite_queries.list_experiments(connection)

    def tag_experiment(self, name_or_id: str, tags: Mapping[str, str]) -> Experiment:
        """Set tags of an experiment. Raises ExperimentNotFound."""
        with self._writing() as connection:
            found = sqlite_queries.get_experiment(connection, name_or_id)
            connection.execute(
                "UPDATE experiments SET tags = ? WHERE experiment_id = ?",
                (sqlite_queries.tags_text({**found.tags, **tags}), found.experiment_id),
            )
            return sqlite_queries.get_experiment(connection, found.experiment_id)

    def delete_experiment(self, name_or_id: str, *, with_runs: bool = False) -> None:
        """Delete an experiment, with its runs where asked. Raises ExperimentNotFound, StorageError."""
        with self._writing() as connection:
            found = sqlite_queries.get_experiment(connection, name_or_id)
            runs = sqlite_queries.runs_of_experiment(connection, found)
            if runs and not with_runs:
                raise StorageError(answers.experiment_in_use(found, len(runs)))
            now_us = self._clock()
            for run_key, run_id, _ in runs:
                delete_run_rows(connection, run_key, run_id, now_us)
                self._cache.discard(run_key)
            connection.execute("DELETE FROM experiments WHERE experiment_id = ?", (found.experiment_id,))

    # -------------------------------------------------------------------------------------- owners

    def claim_run(self, run_id: str, owner: str) -> RunAccess:
        """Make ``owner`` the owner of a run that nobody has written to yet. spec: SEC-4.1"""
        access = self.get_access(run_id)
        if access.owner is not None:  # each connection asks again, and a write transaction waits for all others
            return access
        with self._writing() as connection:
            return sqlite_access.claim(connection, run_id, owner)

    def get_access(self, run_id: str) -> RunAccess:
        """Return who may do what with a run."""
        with self._pool.reading() as connection:
            return sqlite_access.read(connection, run_id)

    def change_access(self, run_id: str, change: Callable[[RunAccess], RunAccess]) -> RunAccess:
        """Replace what holds for a run by what ``change`` makes of it. Raises RunDeleted."""
        with self._writing() as connection:
            return sqlite_access.change(connection, run_id, change)

    # -------------------------------------------------------------------------------------- upkeep

    def restore_experiment(self, experiment: Experiment) -> None:
        """Make an experiment as another store has it, for copies of stores."""
        with self._writing() as connection:
            sqlite_queries.insert_experiment(connection, experiment)

    def restore_tombstone(self, run_id: str, deleted_at_us: int) -> None:
        """Know that a run was deleted from another store, for copies of stores. spec: FLD-9"""
        with self._writing() as connection:
            insert_tombstone(connection, run_id, deleted_at_us)

    def backup(self, path: str | Path) -> None:
        """Write a consistent copy of the whole store to ``path``, while others go on writing."""
        target = Path(path)
        if not create_file(str(target)):
            raise StoreUnavailable(path, "is there already, and is never overwritten")
        try:
            with self._pool.outside_transactions() as connection:
                copy = sqlite3.connect(target, isolation_level=None)
                try:
                    connection.backup(copy)
                    copy.execute("PRAGMA synchronous = FULL")
                    copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    copy.close()
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def probe(self) -> None:
        """Read a little of every part, which takes no longer in a large store. Raises StoreCorrupt.

        For who is about to rely on a store, and can't wait for ``check``.
        """
        with self._pool.reading() as connection:
            probe(connection, self.path)

    def check(self) -> list[str]:
        """Return what is damaged. Reads all of the store."""
        with self._pool.reading() as connection:
            return check_store(connection, self.path)

    def close(self) -> None:
        """Save what makes the next opening quick, and release all connections."""
        try:
            if not self.read_only and self._cache.unsaved():
                self._save_snapshots()
        except (StoreLocked, StoreFull, StoreReadOnly, StoreUnavailable):
            pass  # snapshots are derived: without them the next reader folds a few more events, and nothing is lost
        finally:
            self._cache.clear()
            self._pool.close()

    def _save_snapshots(self) -> None:
        with self._writing() as connection:
            for entry in self._cache.unsaved():
                row = find_run_row(connection, entry.run_id)
                if row is not None and row[:2] == (entry.run_key, entry.run_id):
                    save_snapshot(connection, load_run(connection, self.path, row, entry))
