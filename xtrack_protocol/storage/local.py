"""The store that needs no setting up: spools under XTRACK_DIR are the truth, a SQLite index makes them quick to ask.

Whoever reads first brings the index up to date, under a lock, from where the last reader left off. It holds nothing of
its own: what is written here goes to the spool first, and the index may be deleted at any time. It lives beside the
spool, or, where XTRACK_DIR is on a network file system (on which SQLite's WAL doesn't work), under the cache folder of
this machine. Where it can't be written at all, each reader makes its own in memory. spec: RST-6
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from xtrack_protocol.errors import (
    ExperimentExists,
    ExperimentNotFound,
    NotASegment,
    NotAStore,
    SpoolError,
    StoreCorrupt,
    StoreLocked,
)
from xtrack_protocol.ir import Durability, Envelope, Skip, Tags
from xtrack_protocol.runs import (
    NAME_TAG,
    NOTE_TAG,
    LogRecord,
    RunState,
    SeriesPoint,
    StoredArtifact,
    StoredCheckpoint,
    StreamLost,
)
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.spool import (
    TOMBSTONE,
    FileLock,
    Segment,
    SpoolDir,
    StreamWriter,
    find_lost,
    is_alive,
    make_private_dir,
    open_segment,
    read_segment,
    safe_name,
    segments,
    write_lost,
    write_private,
)
from xtrack_protocol.storage.base import (
    AppendResult,
    Experiment,
    Incoming,
    ParamValue,
    RunQuery,
    Storage,
    StoredEvent,
)
from xtrack_protocol.storage.memory import MemoryStore
from xtrack_protocol.storage.progress import ProgressFile
from xtrack_protocol.storage.sqlite import SQLiteStore
from xtrack_protocol.wire import Damage, Record, decode, encode

INDEX_NAME: Final = "index.db"
LOCK_SECONDS: Final = 30.0
"""How long a reader waits for another one that is bringing the index up to date."""
_BATCH: Final = 5_000
_WRITERS_MAX: Final = 16
_EXPECTED: Final = "EXPECTED"

_NETWORK_TYPES: Final = frozenset(
    (  # noqa: SIM905 - one string is easier to read than twenty
        "9p afs beegfs ceph cifs fuse.ceph fuse.gcsfuse fuse.glusterfs fuse.s3fs fuse.sshfs glusterfs gpfs lustre nfs "
        "nfs4 orangefs panfs pvfs2 smb3 smbfs wekafs"
    ).split()
)


class LocalStore(Storage):
    """The spools under ``root`` (default XTRACK_DIR, else ``~/.xtrack``) as a store. Reading sees all that is accepted.

    ``index``: where the index is kept, if not where the docstring above says. Appending is durable: it ends in a sync.
    """

    durability: ClassVar[Durability] = "power"

    def __init__(
        self, root: str | Path | None = None, *, index: str | Path | None = None, clock: Callable[[], int] | None = None
    ) -> None:
        self._spool = SpoolDir(root)
        self._clock = clock or (lambda: time.time_ns() // 1000)
        self._session_id = os.urandom(16).hex()
        self._seqs: dict[str, int] = {}
        self._writers: dict[StreamId, StreamWriter] = {}
        self._index_path = Path(index) if index is not None else index_path(self._spool.root)
        self._index, self._progress, self._lock = self._open_index()

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
        return self._index_path if self._lock else None

    def _open_index(self) -> tuple[Storage, ProgressFile, FileLock | None]:
        path = self._index_path
        try:
            make_private_dir(path.parent)
            lock = FileLock(path.with_name(f"{path.name}.lock"))
            if lock.acquire():
                lock.release()
        except OSError:  # read-only medium, another user's spool: everything can still be read
            return MemoryStore(clock=self._clock), ProgressFile(None), None
        try:
            store = SQLiteStore(path, clock=self._clock)
        except (StoreCorrupt, NotAStore):
            self._set_aside(path)
            store = SQLiteStore(path, clock=self._clock)
        return store, ProgressFile(path), lock

    def _set_aside(self, path: Path) -> None:
        """Put a damaged index out of the way: it is made anew from the spools."""
        path.replace(path.with_name(f"{path.name}.damaged"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------ the index

    def refresh(self) -> None:
        """Bring the index up to date with the spools. Every question does. Raises StoreLocked after 30 s."""
        if self._lock is None:
            self._read_spools()
            return
        try:
            with self._lock.waiting(LOCK_SECONDS):
                self._read_spools()
        except TimeoutError:
            raise StoreLocked(self._index_path, LOCK_SECONDS) from None

    def rebuild(self) -> None:
        """Throw the index away and make it anew from the spools."""
        self._index.close()
        if self._lock:
            with self._lock.waiting(LOCK_SECONDS):
                for suffix in ("", "-wal", "-shm"):
                    self._index_path.with_name(self._index_path.name + suffix).unlink(missing_ok=True)
        self._index, self._progress, self._lock = self._open_index()
        self.refresh()

    def _read_spools(self) -> None:
        progress = self._progress.load()
        self._read_experiments()
        for folder in self._spool.run_dirs():
            changed_ns = _changed_ns(folder)
            if changed_ns is None or progress.finished.get(folder.name) == changed_ns:
                continue
            self._read_folder(folder, changed_ns, progress.offsets)

    def _read_folder(self, folder: Path, changed_ns: int, offsets: dict[str, tuple[int, str]]) -> None:
        if (folder / TOMBSTONE).exists():
            self._drop_deleted(folder)
            self._progress.save({}, {folder.name: changed_ns})
            return
        self._read_expected(folder)
        found: dict[StreamId, list[Segment]] = {}
        for path in segments(folder):
            try:
                segment = open_segment(path)
            except NotASegment as error:
                _complain(str(error))
                continue
            if segment:
                found.setdefault(segment.stream, []).append(segment)
        moved: dict[str, tuple[int, str]] = {}
        all_over = bool(found)
        for stream, parts in found.items():
            alive = is_alive(folder, stream)
            last_write_ns = 0
            for segment in parts:
                key = f"{folder.name}/{segment.path.name}"
                offset = self._read_part(segment, offsets.get(key), finished=not alive)
                if offset is not None:
                    moved[key] = (offset, segment.header.salt)
                last_write_ns = max(last_write_ns, _changed_ns(segment.path) or 0)
            all_over = self._check_liveness(folder, stream, last_write_ns // 1000, alive=alive) and all_over
        self._progress.save(moved, {folder.name: changed_ns} if all_over else {})

    def _read_part(self, segment: Segment, known: tuple[int, str] | None, *, finished: bool) -> int | None:
        """Read what is new in a segment into the index; return the new offset, None where nothing has come."""
        offset = known[0] if known and known[1] == segment.header.salt else 0
        try:
            if segment.path.stat().st_size <= offset:
                return None
        except FileNotFoundError:
            return None
        batch: list[Incoming] = []
        stream, reached = segment.stream, offset
        for item, after in read_segment(segment, offset, finished=finished):
            reached = after
            if isinstance(item, Record):
                batch.append(Incoming(stream, decode(item.payload), item.payload, self._clock()))
            elif isinstance(item, Damage):  # a torn tail held no accepted event
                _complain(f"{segment.path}: {item.size} bytes from byte {item.offset} on are damaged: {item.reason}")
            if len(batch) >= _BATCH:
                self._index.append(batch)
                batch.clear()
        if batch:
            self._index.append(batch)
        return reached

    def _check_liveness(self, folder: Path, stream: StreamId, last_write_us: int, *, alive: bool) -> bool:
        """Find out whether a stream that hasn't ended is lost; return whether nothing more can come of it."""
        if alive:
            return False
        state = self._index.get_run(stream.run_id)
        summary = next((summary for summary in state.streams if summary.stream == stream), None)
        if summary is None or summary.end_status is not None or not summary.votes:
            return True
        if summary.lost is not None:
            return True
        lost = find_lost(folder, stream, summary.last_seq, last_write_us)
        if lost is None:
            return False
        self._index.mark_lost(lost)
        return True

    def _drop_deleted(self, folder: Path) -> None:
        try:
            run_id = (folder / TOMBSTONE).read_text(encoding="utf-8")
            self._index.delete_run(run_id)
        except (OSError, LookupError):
            return  # never seen here, or gone already

    def _read_expected(self, folder: Path) -> None:
        try:
            expected = msgspec.json.decode((folder / _EXPECTED).read_bytes(), type=_Expected)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            _complain(f"{folder / _EXPECTED}: {error}")
            return
        self._index.expect_run(expected.run_id, name=expected.name, experiment_id=expected.experiment_id)

    # ------------------------------------------------------------------------------------------ writing

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        self.refresh()
        seen: dict[StreamId, RangeSet] = {}
        touched = set()
        for incoming in batch:
            stream = incoming.stream
            if self._spool.tombstone(stream.run_id).exists():
                continue
            known = seen.get(stream)
            if known is None:
                known = seen[stream] = self._index.cursor(stream)
            seq = incoming.envelope.meta.seq
            if isinstance(incoming.envelope.payload, Skip) or known.add(seq):
                self._writer(stream).append(seq, incoming.raw)
                touched.add(stream)
        for stream in touched:
            self._writers[stream].sync()
        result = self._index.append(batch)
        for position in result.conflicts:  # rare: kept so that a rebuilt index knows of them too
            incoming = batch[position]
            self._writer(incoming.stream).append(incoming.envelope.meta.seq, incoming.raw)
        return result

    def _writer(self, stream: StreamId) -> StreamWriter:
        writer = self._writers.get(stream)
        if writer is None:
            while len(self._writers) >= _WRITERS_MAX:
                self._writers.pop(next(iter(self._writers))).close()
            folder = self._spool.run_dir(stream.run_id)
            # We hold the stream's lock like an emitter, so that no reader takes it for over while we may add to it;
            # unless another process does, which files away the same stream.
            writer = self._writers[stream] = StreamWriter(folder, stream, live=not is_alive(folder, stream))
        return writer

    def expect_run(self, run_id: str, *, name: str | None = None, experiment_id: str | None = None) -> RunState:
        folder = self._spool.run_dir(run_id)
        make_private_dir(folder)
        write_private(folder / _EXPECTED, msgspec.json.encode(_Expected(run_id, name, experiment_id)))
        self.refresh()
        return self._index.get_run(run_id)

    def mark_lost(self, lost: StreamLost) -> None:
        self.refresh()
        folder = self._spool.run_dir(lost.stream.run_id)
        if folder.exists():
            write_lost(folder, lost)
        self._index.mark_lost(lost)

    def annotate(
        self, run_id: str, *, tags: Mapping[str, str] | None = None, name: str | None = None, note: str | None = None
    ) -> RunState:
        self.refresh()
        self._index.get_run(run_id)  # raises where there is none
        changes = dict(tags or {})
        changes |= {tag: text for tag, text in ((NAME_TAG, name), (NOTE_TAG, note)) if text is not None}
        seq = self._seqs[run_id] = self._seqs.get(run_id, 0) + 1
        stream = StreamId(run_id, "", self._session_id)
        now = self._clock()
        envelope = Envelope.of(Tags(run_id, changes), seq=seq, timestamp_us=now, session_id=self._session_id)
        self.append([Incoming(stream, envelope, encode(envelope), now)])
        return self._index.get_run(run_id)

    def delete_run(self, run_id: str) -> None:
        self.refresh()
        self._index.get_run(run_id)
        folder = self._spool.run_dir(run_id)
        make_private_dir(folder)
        for stream in [stream for stream in self._writers if stream.run_id == run_id]:
            self._writers.pop(stream).close()
        write_private(folder / TOMBSTONE, run_id.encode())
        for path in list(folder.iterdir()):
            if path.name != TOMBSTONE:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        self._index.delete_run(run_id)

    # ------------------------------------------------------------------------------------------ asking

    def cursor(self, stream: StreamId) -> RangeSet:
        return self._fresh().cursor(stream)

    def get_run(self, run_id: str) -> RunState:
        return self._fresh().get_run(run_id)

    def find_run(self, ref: str) -> str:
        return self._fresh().find_run(ref)

    def search_runs(self, query: RunQuery = RunQuery()) -> list[RunState]:  # noqa: B008 - frozen
        return self._fresh().search_runs(query)

    def metric_keys(self, run_id: str) -> list[str]:
        return self._fresh().metric_keys(run_id)

    def get_metrics(self, run_id: str, key: str, **options: Any) -> list[SeriesPoint]:
        return self._fresh().get_metrics(run_id, key, **options)

    def get_params(self, run_id: str) -> dict[str, list[ParamValue]]:
        return self._fresh().get_params(run_id)

    def get_artifacts(self, run_id: str) -> list[StoredArtifact]:
        return self._fresh().get_artifacts(run_id)

    def get_checkpoints(self, run_id: str, *, include_hidden: bool = False) -> list[StoredCheckpoint]:
        return self._fresh().get_checkpoints(run_id, include_hidden=include_hidden)

    def get_logs(self, run_id: str, *, limit: int | None = None) -> list[LogRecord]:
        return self._fresh().get_logs(run_id, limit=limit)

    def events(self, run_id: str | None = None, *, after: int = 0, limit: int | None = None) -> Iterator[StoredEvent]:
        return self._fresh().events(run_id, after=after, limit=limit)

    def conflicts(self, run_id: str) -> list[StoredEvent]:
        return self._fresh().conflicts(run_id)

    def _fresh(self) -> Storage:
        self.refresh()
        return self._index

    # ------------------------------------------------------------------------------------------ experiments

    @property
    def _experiments(self) -> Path:
        return self._spool.root / "experiments"

    def _read_experiments(self) -> None:
        """Make the index's experiments those of the folder, where each is a small file."""
        try:
            files = sorted(self._experiments.glob("*.json"))
        except OSError:
            return
        for file in files:
            try:
                kept = msgspec.json.decode(file.read_bytes(), type=_Experiment)
            except FileNotFoundError:
                continue
            try:
                known = self._index.get_experiment(kept.experiment_id)
            except ExperimentNotFound:
                try:
                    self._index.create_experiment(kept.name, experiment_id=kept.experiment_id, tags=kept.tags)
                except ExperimentExists:
                    _complain(f"{file}: another experiment is named {kept.name!r} too")
            else:
                if dict(known.tags) != kept.tags:
                    self._index.tag_experiment(kept.experiment_id, kept.tags)

    def _keep_experiment(self, experiment: Experiment) -> Experiment:
        make_private_dir(self._experiments)
        kept = _Experiment(experiment.experiment_id, experiment.name, dict(experiment.tags))
        write_private(self._experiments / f"{safe_name(experiment.experiment_id)}.json", msgspec.json.encode(kept))
        return experiment

    def create_experiment(
        self, name: str, *, experiment_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Experiment:
        return self._keep_experiment(self._fresh().create_experiment(name, experiment_id=experiment_id, tags=tags))

    def get_experiment(self, name_or_id: str) -> Experiment:
        return self._fresh().get_experiment(name_or_id)

    def list_experiments(self) -> list[Experiment]:
        return self._fresh().list_experiments()

    def tag_experiment(self, name_or_id: str, tags: Mapping[str, str]) -> Experiment:
        return self._keep_experiment(self._fresh().tag_experiment(name_or_id, tags))

    def delete_experiment(self, name_or_id: str, *, with_runs: bool = False) -> None:
        index = self._fresh()
        experiment = index.get_experiment(name_or_id)
        runs = index.search_runs(RunQuery(experiment=experiment.experiment_id))
        if runs and with_runs:
            for run in runs:
                self.delete_run(run.run_id)
        index.delete_experiment(experiment.experiment_id)
        (self._experiments / f"{safe_name(experiment.experiment_id)}.json").unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------ upkeep

    def backup(self, path: str | Path) -> None:
        self._fresh().backup(path)

    def check(self) -> list[str]:
        """Return what is damaged, in the spools and in the index."""
        problems = []
        for folder in self._spool.run_dirs():
            for path in segments(folder):
                try:
                    segment = open_segment(path)
                except SpoolError as error:
                    problems.append(str(error))
                    continue
                if segment is None:
                    continue
                finished = not is_alive(folder, segment.stream)
                for item, _ in read_segment(segment, finished=finished):
                    if isinstance(item, Damage):
                        problems.append(f"{path}: {item.size} bytes from byte {item.offset} on: {item.reason}")
        return problems + self._fresh().check()

    def close(self) -> None:
        while self._writers:
            self._writers.popitem()[1].close()
        self._index.close()


class _Expected(msgspec.Struct, omit_defaults=True):
    run_id: str
    name: str | None = None
    experiment_id: str | None = None


class _Experiment(msgspec.Struct, omit_defaults=True):
    experiment_id: str
    name: str
    tags: dict[str, str] = msgspec.field(default_factory=dict)


def index_path(root: Path) -> Path:
    """Return where the index of the spools under ``root`` belongs."""
    if not is_network_path(root):
        return root / INDEX_NAME
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache else Path.home() / ".cache"
    digest = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:16]
    return base / "xtrack" / f"index-{digest}.db"


def is_network_path(path: Path) -> bool:
    """Whether ``path`` is on a file system of another machine, as far as the mount table tells (Linux)."""
    try:
        table = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    resolved = os.path.realpath(path)
    best, kind = "", ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        if (resolved == mount or resolved.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind in _NETWORK_TYPES


def _changed_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _complain(text: str) -> None:
    """Say on stderr what of a spool can't be read; the rest is."""
    if sys.stderr is not None:
        sys.stderr.write(f"xtrack: warning: {text}\n")
