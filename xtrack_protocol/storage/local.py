"""The store that needs no setting up: spools under XTRACK_DIR are the truth, a SQLite index makes them quick to ask.

Whoever reads first brings the index up to date, under a lock, from where the last reader left off. What is written here
goes to the spool first, and the index may be made anew at any time. It lives beside the spool, or, where XTRACK_DIR is
on a network file system (on which SQLite's log doesn't work), under the cache folder of this machine. spec: RST-6
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs

from xtrack_protocol.errors import (
    DecodeError,
    RunDeleted,
    RunNotFound,
    SpoolError,
    StorageError,
    StoreCorrupt,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)
from xtrack_protocol.ir import Durability, Envelope, Skip, Tags
from xtrack_protocol.runs import (
    Aggregate,
    LogRecord,
    RunState,
    Series,
    SeriesPoint,
    StoredArtifact,
    StoredCheckpoint,
    StreamLost,
)
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.spool import (
    TOMBSTONE,
    SpoolDir,
    StreamWriter,
    is_locked,
    lock_path,
    make_private_dir,
    open_segment,
    read_segment,
    safe_name,
    segments,
    write_lost,
    write_private,
)
from xtrack_protocol.spool.durable import sync_file
from xtrack_protocol.storage.access import NOBODYS, RunAccess
from xtrack_protocol.storage.answers import PASSED_OVER, annotation_tags
from xtrack_protocol.storage.base import (
    AppendResult,
    Experiment,
    Incoming,
    ParamValue,
    RunQuery,
    Storage,
    StoredEvent,
)
from xtrack_protocol.storage.local_index import LOCK_SECONDS, LocalIndex
from xtrack_protocol.storage.local_notes import Expected, read_access, write_access, write_expected
from xtrack_protocol.storage.local_paths import index_path, is_network_path
from xtrack_protocol.storage.local_shipped import with_shipped
from xtrack_protocol.wire import Damage, Record, decode, encode

_WRITERS_MAX: Final = 256
"""Streams that are kept open, each with two descriptors; one that is opened again begins a segment."""
_SYNCERS: Final = 8
"""Threads that wait for the disk: a file system puts syncs that come at the same time into one."""


class LocalStore(Storage):
    """The spools under ``root`` (default XTRACK_DIR, else ``~/.xtrack``) as a store. Reading sees all that is accepted.

    ``index``: where the index is kept, if not where the docstring above says. ``lock_seconds``: how long to wait for
    another process that is bringing the index up to date. ``read_only``: nothing but the index is ever written, and
    where there is no folder none is made: it is empty until somebody makes it. Appending is durable: it ends in a sync.
    When it fails half-way (a full disk), a part of the batch may be here; the same batch may be appended again.

    Raises StoreUnavailable where ``root`` is a file.
    """

    durability: ClassVar[Durability] = "power"

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        index: str | Path | None = None,
        clock: Callable[[], int] | None = None,
        lock_seconds: float = LOCK_SECONDS,
        read_only: bool = False,
    ) -> None:
        self._spool = SpoolDir(root)
        if self._spool.root.is_file():  # else it would pass for one that nobody can write to, and that holds no run
            raise StoreUnavailable(self._spool.root, "is a file, not the folder of a local store")
        self._read_only = read_only
        self._clock = clock or (lambda: time.time_ns() // 1000)
        self._pid = os.getpid()
        self._annotations: dict[str, tuple[str, int]] = {}
        self._writers: dict[StreamId, StreamWriter] = {}
        self._syncers: ThreadPoolExecutor | None = None
        path = Path(index) if index is not None else index_path(self._spool.root)
        self._index = LocalIndex(
            self._spool, path, clock=self._clock, lock_seconds=lock_seconds, makes_folder=not read_only
        )

    @property
    def url(self) -> str:
        return f"local:{self._spool.root}"

    @property
    def root(self) -> Path:
        """The folder that XTRACK_DIR names."""
        return self._spool.root

    @property
    def index_file(self) -> Path | None:
        """Where the index is; None where it is in memory."""
        return self._index.file

    @property
    def folders_read(self) -> int:
        """How many run folders this store has looked into; those in which nothing can have come are left out."""
        return self._index.folders_read

    def refresh(self) -> None:
        """Bring the index up to date with the spools; every question does. Raises StoreLocked after 30 s."""
        with self._index.updated():
            pass

    def rebuild(self) -> None:
        """Make the index anew from the spools. Events get new positions, above all those given so far."""
        self._index.rebuild()

    # ------------------------------------------------------------------------------------------ writing

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        with self._writing() as index:
            touched: dict[StreamId, None] = {}
            for stream, items in self._new_ones(index, batch).items():
                writer = self._writer(stream)
                for item in items:
                    writer.append(item.envelope.meta.seq, item.raw)
                touched[stream] = None
            self._sync(touched)
            self._sync_others({item.stream for item in batch} - touched.keys())
            result = index.append(batch)
            for place in result.conflicts:  # kept, so that a rebuilt index knows of them too. spec: STR-5
                item = batch[place]
                self._writer(item.stream).append(item.envelope.meta.seq, item.raw)
            self._sync({batch[place].stream: None for place in result.conflicts})
            return result

    def _new_ones(self, index: Storage, batch: Sequence[Incoming]) -> dict[StreamId, list[Incoming]]:
        """Return what of a batch the spool doesn't hold yet, by stream. Deleted runs are left out. spec: FLD-9"""
        found: dict[StreamId, list[Incoming]] = {}
        here: dict[StreamId, RangeSet] = {}
        for item in batch:
            stream, payload = item.stream, item.envelope.payload
            if type(payload) in PASSED_OVER:
                continue
            if stream not in here:
                if self._is_deleted(stream.run_id):
                    continue
                here[stream] = _seqs_here(index, stream)
            if isinstance(payload, Skip) or here[stream].add(item.envelope.meta.seq):
                found.setdefault(stream, []).append(item)
        return found

    def _writer(self, stream: StreamId) -> StreamWriter:
        writer = self._writers.pop(stream, None)
        if writer is None:
            while len(self._writers) >= _WRITERS_MAX:
                self._writers.pop(next(iter(self._writers))).close()
            folder = self._spool.run_dir(stream.run_id)
            # We hold the stream's lock like an emitter, so that no reader takes it for over while we may add to it;
            # unless another process does, which files away the same stream.
            is_free = is_locked(lock_path(folder, stream.session_id)) is not True
            writer = StreamWriter(folder, stream, live=is_free)
        self._writers[stream] = writer  # the last one used is the last to go
        return writer

    def _sync(self, streams: Mapping[StreamId, None]) -> None:
        writers = [self._writers[stream] for stream in streams if stream in self._writers]  # closing one syncs it
        if len(writers) > 1:
            if self._syncers is None:
                self._syncers = ThreadPoolExecutor(_SYNCERS, thread_name_prefix="xtrack-sync")
            list(self._syncers.map(StreamWriter.sync, writers))
        else:
            for writer in writers:
                writer.sync()
        for run_id in {stream.run_id for stream in streams}:
            os.utime(self._spool.run_dir(run_id))  # a reader that took all streams for over looks again

    def _sync_others(self, streams: Iterable[StreamId]) -> None:
        """Make durable what other processes have written of ``streams``, for whoever is told that it is here.

        A worker and the collector that it ships to may well share one folder. spec: RST-9.8
        """
        for stream in streams:
            folder = self._spool.run_dir(stream.run_id)
            if stream in self._writers or not is_locked(lock_path(folder, stream.session_id)):
                continue
            prefix = f"{safe_name(stream.session_id)}."
            for path in [path for path in segments(folder) if path.name.startswith(prefix)][-2:]:
                with path.open("r+b" if sys.platform == "win32" else "rb") as file:
                    sync_file(file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[Storage]:
        """Lend the index, up to date, while nobody else changes it; errors of the spool become a store's."""
        if self._read_only:
            raise StoreReadOnly(self._spool.root)
        if self._pid != os.getpid():  # forked: the writers are our parent's
            self._pid = os.getpid()
            for writer in self._writers.values():
                writer.forget()
            self._writers, self._annotations, self._syncers = {}, {}, None
        try:
            with self._index.updated() as index:
                yield index
        except (SpoolError, OSError) as error:
            raise _store_error(error, self._spool.root) from error

    def _is_deleted(self, run_id: str) -> bool:
        return self._spool.tombstone(run_id).exists()

    def expect_run(self, run_id: str, *, name: str | None = None, experiment_id: str | None = None) -> RunState:
        with self._writing() as index:
            if self._is_deleted(run_id):
                raise RunDeleted(run_id)
            try:
                return index.get_run(run_id)
            except RunNotFound:
                write_expected(self._spool.run_dir(run_id), Expected(run_id, name, experiment_id))
            return index.expect_run(run_id, name=name, experiment_id=experiment_id)

    def mark_lost(self, lost: StreamLost) -> None:
        with self._writing() as index:
            folder = self._spool.run_dir(lost.stream.run_id)
            if self._is_deleted(lost.stream.run_id):
                return
            make_private_dir(folder)
            write_lost(folder, lost)
            index.mark_lost(lost)

    def annotate(
        self, run_id: str, *, tags: Mapping[str, str] | None = None, name: str | None = None, note: str | None = None
    ) -> RunState:
        said = annotation_tags(tags, name, note)
        with self._writing() as index:
            state = index.get_run(run_id)
            if said:
                self.append([self._annotation(state, said)])
            return with_shipped(self._spool, index.get_run(run_id))

    def _annotation(self, state: RunState, said: Mapping[str, str]) -> Incoming:
        """Return the event that sets tags so that they win over all that is stored, whatever the clocks say.

        Within a worker the last session wins (spec: FLD-2): where another one began after ours, ours is history, and
        a new one takes its place.
        """
        now_us = self._clock()
        timestamp_us = now_us if state.updated_at_us is None else max(now_us, state.updated_at_us + 1)
        session_id, seq = self._annotations.get(state.run_id, ("", 0))
        sessions = [summary.stream.session_id for summary in state.streams if not summary.stream.worker_id]
        if not sessions or sessions[-1] != session_id:
            session_id, seq = os.urandom(16).hex(), 0
        self._annotations[state.run_id] = (session_id, seq + 1)
        event = Tags(state.run_id, dict(said))
        envelope = Envelope.of(event, seq=seq + 1, timestamp_us=timestamp_us, session_id=session_id)
        return Incoming(StreamId(state.run_id, "", session_id), envelope, encode(envelope), now_us)

    def delete_run(self, run_id: str) -> None:
        with self._writing() as index:
            index.get_run(run_id)  # raises where there is none
            folder = self._spool.run_dir(run_id)
            make_private_dir(folder)
            for stream in [stream for stream in self._writers if stream.run_id == run_id]:
                self._writers.pop(stream).close()
            write_private(folder / TOMBSTONE, run_id.encode())
            for path in list(folder.iterdir()):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != TOMBSTONE:
                    path.unlink(missing_ok=True)
            index.delete_run(run_id)

    # ------------------------------------------------------------------------------------------ asking

    def cursor(self, stream: StreamId) -> RangeSet:
        found = self._index.ask(lambda index: index.cursor(stream))
        if found:
            try:
                self._sync_others([stream])
            except OSError as error:
                raise _store_error(error, self._spool.root) from error
        return found

    def get_run(self, run_id: str) -> RunState:
        return with_shipped(self._spool, self._index.ask(lambda index: index.get_run(run_id)))

    def find_run(self, ref: str) -> str:
        return self._index.ask(lambda index: index.find_run(ref))

    def search_runs(self, query: RunQuery = RunQuery()) -> list[RunState]:  # noqa: B008 - frozen
        return [with_shipped(self._spool, state) for state in self._index.ask(lambda index: index.search_runs(query))]

    def metric_keys(self, run_id: str) -> list[str]:
        return self._index.ask(lambda index: index.metric_keys(run_id))

    def get_metrics(self, run_id: str, key: str, **options: Any) -> list[SeriesPoint]:
        return self._index.ask(lambda index: index.get_metrics(run_id, key, **options))

    def get_metric_aggregate(self, run_id: str, key: str, **options: Any) -> list[Aggregate]:
        return self._index.ask(lambda index: index.get_metric_aggregate(run_id, key, **options))

    def get_series(self, run_id: str, key: str, **options: Any) -> Series:
        return self._index.ask(lambda index: index.get_series(run_id, key, **options))

    def downsample(self, run_id: str, key: str, points: int = 2000, **options: Any) -> Series:
        return self._index.ask(lambda index: index.downsample(run_id, key, points, **options))

    def get_params(self, run_id: str) -> dict[str, list[ParamValue]]:
        return self._index.ask(lambda index: index.get_params(run_id))

    def get_artifacts(self, run_id: str) -> list[StoredArtifact]:
        return self._index.ask(lambda index: index.get_artifacts(run_id))

    def get_checkpoints(self, run_id: str, *, include_hidden: bool = False) -> list[StoredCheckpoint]:
        return self._index.ask(lambda index: index.get_checkpoints(run_id, include_hidden=include_hidden))

    def get_logs(self, run_id: str, *, limit: int | None = None) -> list[LogRecord]:
        return self._index.ask(lambda index: index.get_logs(run_id, limit=limit))

    def events(self, run_id: str | None = None, *, after: int = 0, limit: int | None = None) -> Iterator[StoredEvent]:
        return self._index.ask(lambda index: index.events(run_id, after=after, limit=limit))

    def conflicts(self, run_id: str) -> list[StoredEvent]:
        return self._index.ask(lambda index: index.conflicts(run_id))

    # ------------------------------------------------------------------------------------------ experiments

    def create_experiment(
        self, name: str, *, experiment_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Experiment:
        with self._writing() as index:
            made = index.create_experiment(name, experiment_id=experiment_id, tags=tags)
            self._index.experiments.write(made)
            return made

    def get_experiment(self, name_or_id: str) -> Experiment:
        return self._index.ask(lambda index: index.get_experiment(name_or_id))

    def list_experiments(self) -> list[Experiment]:
        return self._index.ask(lambda index: index.list_experiments())

    def tag_experiment(self, name_or_id: str, tags: Mapping[str, str]) -> Experiment:
        with self._writing() as index:
            tagged = index.tag_experiment(name_or_id, tags)
            self._index.experiments.write(tagged)
            return tagged

    def delete_experiment(self, name_or_id: str, *, with_runs: bool = False) -> None:
        with self._writing() as index:
            found = index.get_experiment(name_or_id)
            if with_runs:
                for run in index.search_runs(RunQuery(experiment=found.experiment_id)):
                    self.delete_run(run.run_id)
            index.delete_experiment(found.experiment_id)
            self._index.experiments.remove(found.experiment_id)

    # ------------------------------------------------------------------------------------------ owners

    def claim_run(self, run_id: str, owner: str) -> RunAccess:
        """Make ``owner`` the owner of a run that nobody has written to yet. spec: SEC-4.1"""
        with self._writing() as index:
            known = self._access(run_id)
            folder = self._spool.run_dir(run_id)
            said = read_access(folder) is not None
            if known.owner is not None or _has_streams(index, run_id) or any(segments(folder)):
                return known
            claimed = attrs.evolve(known, owner=owner)
            # What was said of a run without an owner is replaced; the first word of another machine is not.
            if not write_access(folder, run_id, claimed, claim=not said):
                return self._access(run_id)
            index.set_access(run_id, claimed)
            return claimed

    def get_access(self, run_id: str) -> RunAccess:
        """Return who may do what with a run. Raises StoreCorrupt where that can't be read. spec: RST-7.9"""
        try:
            return self._access(run_id)
        except RunDeleted:
            return NOBODYS

    def change_access(self, run_id: str, change: Callable[[RunAccess], RunAccess]) -> RunAccess:
        """Replace what holds for a run by what ``change`` makes of it. Raises RunDeleted."""
        with self._writing() as index:
            try:
                changed = change(self._access(run_id))
            except StoreCorrupt:
                changed = change(NOBODYS)
                if changed.owner is None:  # a run whose owner can't be read must not become anybody's
                    raise
            write_access(self._spool.run_dir(run_id), run_id, changed)
            index.set_access(run_id, changed)
            return changed

    def _access(self, run_id: str) -> RunAccess:
        """Return what stands in the run's folder: it is the truth. Raises RunDeleted and StoreCorrupt."""
        try:
            deleted = self._is_deleted(run_id)
        except UnicodeEncodeError as error:
            raise StorageError(f"run {run_id!r}: no id of a run: {error}") from error
        if deleted:
            raise RunDeleted(run_id)
        known = read_access(self._spool.run_dir(run_id))
        return NOBODYS if known is None else known.access

    # ------------------------------------------------------------------------------------------ upkeep

    def backup(self, path: str | Path) -> None:
        self._index.ask(lambda index: index.backup(path))

    def check(self) -> list[str]:
        """Return what is damaged, in the spools and in the index."""
        problems = [problem for folder in self._spool.run_dirs() for problem in _check_folder(folder)]
        return problems + self._index.ask(lambda index: index.check())

    def close(self) -> None:
        """Release everything, the locks of streams too. Raises StorageError where what was written can't be synced."""
        first: SpoolError | None = None
        if self._syncers is not None and self._pid == os.getpid():
            self._syncers.shutdown()
        self._syncers = None
        while self._writers:
            try:
                self._writers.popitem()[1].close()
            except SpoolError as error:
                first = first or error
        self._index.close()
        if first is not None:
            raise _store_error(first, self._spool.root) from first


def _seqs_here(index: Storage, stream: StreamId) -> RangeSet:
    """Return which seqs of a stream have come. One whose loss was declared may come all the same. spec: STR-7"""
    known = index.cursor(stream)
    if not known:
        return known
    summary = next((one for one in index.get_run(stream.run_id).streams if one.stream == stream), None)
    return known - RangeSet(summary.skipped if summary else ())


def _has_streams(index: Storage, run_id: str) -> bool:
    try:
        return bool(index.get_run(run_id).streams)
    except RunNotFound:
        return False


def _check_folder(folder: Path) -> Iterator[str]:
    try:
        read_access(folder)
    except StoreCorrupt as error:
        yield str(error)
    for path in segments(folder):
        try:
            segment = open_segment(path)
            if segment is None:
                continue
            finished = is_locked(lock_path(folder, segment.stream.session_id)) is False
            for item, _ in read_segment(segment, finished=finished):
                if isinstance(item, Damage):
                    yield f"{path}: {item.size} bytes from byte {item.offset} on: {item.reason}"
                elif isinstance(item, Record):
                    try:
                        decode(item.payload)
                    except DecodeError as error:
                        yield f"{path}: the record at byte {item.offset} is no event: {error}"
        except SpoolError as error:
            yield str(error)


def _store_error(error: SpoolError | OSError, root: Path) -> StorageError:
    """Return what an error of the spool means for a store."""
    cause = error.__cause__ if isinstance(error, SpoolError) else error
    path = getattr(error, "path", None) or getattr(error, "filename", None) or root
    number = cause.errno if isinstance(cause, OSError) else None
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return StoreFull(path)
    if number in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return StoreReadOnly(path, f"can't be written: {error}")
    problem = f"{error.problem}. {error.cure}" if isinstance(error, SpoolError) else str(error)
    return StoreUnavailable(path, problem)


__all__ = ["LocalStore", "index_path", "is_network_path"]
