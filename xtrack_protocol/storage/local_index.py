"""The index of a spool: a SQLite store made from it, which any reader brings up to date under a lock.

It holds nothing of its own. So whatever is wrong with it is no reason not to answer: where it can't be written, each
reader makes one in memory; a damaged one is set aside and made anew, and one that was deleted, or replaced by another
process, is noticed. Only one of a newer version of this package is left alone. spec: RST-6.9
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from xtrack_protocol.errors import (
    ExperimentExists,
    ExperimentNotFound,
    NotAStore,
    StorageError,
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
)
from xtrack_protocol.spool import FileLock, SpoolDir, make_private_dir
from xtrack_protocol.storage.base import Experiment, Storage
from xtrack_protocol.storage.local_notes import ExperimentFolder
from xtrack_protocol.storage.local_paths import is_network_path
from xtrack_protocol.storage.local_reader import SpoolReader
from xtrack_protocol.storage.memory import MemoryStore
from xtrack_protocol.storage.progress import Progress, ProgressFile, clear_tables
from xtrack_protocol.storage.sqlite import SQLiteStore
from xtrack_protocol.storage.sqlite_schema import is_outdated

LOCK_SECONDS: Final = 30.0
"""How long a reader waits for another one that is bringing the index up to date."""

_RETRY_SECONDS: Final = 0.002

_T = TypeVar("_T")

_DAMAGED: Final = (StoreCorrupt, NotAStore)
_NOT_WRITABLE: Final = (StoreFull, StoreReadOnly, StoreUnavailable)

_abandoned: Final[list[Storage]] = []
"""Stores whose file was replaced under them. Not closed: SQLite would delete the log of the file that is there now."""


class LocalIndex:
    """The index at ``path`` of the spools in ``spool``. Thread-safe, and usable in forked children.

    ``makes_folder``: whether it makes the folder of the spools where there is none; else it is in memory until then.
    """

    def __init__(
        self,
        spool: SpoolDir,
        path: Path,
        *,
        clock: Callable[[], int],
        lock_seconds: float = LOCK_SECONDS,
        makes_folder: bool = True,
    ) -> None:
        self._spool = spool
        self._path = path
        self._clock = clock
        self._lock_seconds = lock_seconds
        self._reader = SpoolReader(spool, is_remote=is_network_path(spool.root), clock=clock)
        self._experiments = ExperimentFolder(spool.root / "experiments")
        self._mutex = threading.RLock()
        self._pid = os.getpid()
        self._depth = 0
        self._is_closed = False
        self._awaits_folder = not makes_folder
        self._store: Storage | None = None
        self._identity: tuple[int, int] | None = None
        self._progress = Progress()
        self._lock: FileLock | None = FileLock(path.with_name(f"{path.name}.lock"))
        with self._held():
            self._open()

    @property
    def file(self) -> Path | None:
        """Where the index is; None where it is in memory."""
        return None if self._is_in_memory else self._path

    @property
    def _is_in_memory(self) -> bool:
        return self._lock is None or self._awaits_folder

    @property
    def folders_read(self) -> int:
        """How many run folders were looked into so far, those left out not counted."""
        return self._reader.folders_read

    @property
    def experiments(self) -> ExperimentFolder:
        """The experiments that were made by name."""
        return self._experiments

    # ------------------------------------------------------------------------------------------ asking

    @contextmanager
    def updated(self) -> Iterator[Storage]:
        """Bring the index up to date, and lend it while nobody else can change it. May be nested.

        Raises StoreLocked where another process holds it for too long.
        """
        if self._pid != os.getpid():  # forked: the mutex may be held by a thread that isn't here
            self._pid, self._mutex, self._depth = os.getpid(), threading.RLock(), 0
        with self._mutex:
            if self._is_closed:
                raise StorageError(f"{self._path}: the store is closed")
            if self._depth:
                assert self._store is not None
                yield self._store
                return
            with self._held():
                store = self._read()
                self._depth += 1
                try:
                    yield store
                finally:
                    self._depth -= 1

    def ask(self, question: Callable[[Storage], _T]) -> _T:
        """Return the answer of the index, brought up to date before."""
        with self.updated() as store:
            pass
        try:
            return question(store)
        except _DAMAGED:
            self._replace_damaged(store)
        except StorageError:
            if store is self._store:
                raise
            # Another thread has found it damaged, or replaced, and has closed it under us.
        with self.updated() as store:
            return question(store)

    def rebuild(self) -> None:
        """Throw away what the index holds, and make it anew from the spools."""
        with self._mutex, self._held():
            self._clear()
            self._read()

    def close(self) -> None:
        """Release the index."""
        with self._mutex:
            self._is_closed = True
            self._close()

    # ------------------------------------------------------------------------------------------ the file

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the index's lock among processes."""
        if self._awaits_folder and self._spool.root.exists():
            self._close()  # what stood for it, empty
            self._awaits_folder = False
        lock = None if self._awaits_folder else self._lock
        if lock is not None and not self._acquire(lock):
            lock = None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _acquire(self, lock: FileLock) -> bool:
        """Take the lock; return False where there is no place for it, and everything goes on in memory."""
        deadline = time.monotonic() + self._lock_seconds
        try:
            make_private_dir(self._path.parent)
            while not lock.acquire():
                if time.monotonic() >= deadline:
                    raise StoreLocked(self._path, self._lock_seconds)
                time.sleep(_RETRY_SECONDS)
        except OSError as error:  # a read-only medium, another user's spool
            self._use_memory(error)
            return False
        return True

    def _read(self) -> Storage:
        """Bring the index up to date; whoever calls holds the lock."""
        self._open()
        assert self._store is not None
        try:
            self._read_into(self._store)
        except _DAMAGED:
            self._set_aside()
            self._open()
            self._read_into(self._store)
        except _NOT_WRITABLE as error:
            if self._lock is None:
                raise
            self._use_memory(error)
            self._read_into(self._store)
        return self._store

    def _read_into(self, store: Storage) -> None:
        self._read_experiments(store)
        if not self._reader.read(store, self._progress):
            self._clear()
            assert self._store is not None
            self._read_experiments(self._store)
            self._reader.read(self._store, self._progress)

    def _clear(self) -> None:
        """Empty the index."""
        if self._is_in_memory:
            self._close()
        else:
            try:
                clear_tables(self._path)
            except _DAMAGED:
                self._set_aside()
        self._open()

    def _open(self) -> None:
        """Open the index, or open it again where another file is at its place now."""
        if self._is_in_memory:
            if self._store is None:
                self._store, self._progress = MemoryStore(clock=self._clock), Progress()
            return
        identity = _identity(self._path)
        if self._store is not None:
            if identity == self._identity:
                return
            _abandoned.append(self._store)
            self._store = None
        if is_outdated(str(self._path)):  # to read the spools again is quicker than to bring it up to date
            try:
                clear_tables(self._path)
            except (*_DAMAGED, *_NOT_WRITABLE):
                pass  # who opens it says what is wrong
        if identity is None:  # deleted by hand, perhaps without its log, which is of no use to another file
            self._remove_log()
        try:
            try:
                self._store = SQLiteStore(self._path, clock=self._clock)
            except _DAMAGED:
                self._set_aside()
                self._store = SQLiteStore(self._path, clock=self._clock)
        except (*_NOT_WRITABLE, OSError) as error:
            self._use_memory(error)
            return
        self._identity = _identity(self._path)
        self._progress = ProgressFile(self._path)

    def _use_memory(self, error: Exception) -> None:
        """Go on without a file: all can still be read, only each reader reads it by itself."""
        self._reader.complain(f"the index can't be written, every spool is read instead: {error}")
        self._close()
        self._lock = None
        self._open()

    def _replace_damaged(self, store: Storage) -> None:
        with self._mutex, self._held():
            if store is self._store:
                self._set_aside()

    def _set_aside(self) -> None:
        """Put a damaged index out of the way: it is made anew from the spools."""
        self._reader.complain(f"the index was damaged and is made anew; the damaged one is {self._path}.damaged")
        self._close()
        with suppress(FileNotFoundError):
            self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        self._remove_log()

    def _remove_log(self) -> None:
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _close(self) -> None:
        store, self._store, self._identity = self._store, None, None
        if store is not None:
            try:
                store.close()
            except _DAMAGED + _NOT_WRITABLE as error:  # it could not save what would have made its next opening quick
                self._reader.complain(f"the index was closed as it was: {error}")

    # ------------------------------------------------------------------------------------------ experiments

    def _read_experiments(self, store: Storage) -> None:
        """Make known the experiments that were made by name."""
        for kept in self._experiments.read(self._reader.complain):
            try:
                known = store.get_experiment(kept.experiment_id)
            except ExperimentNotFound:
                self._restore_experiment(store, kept)
            else:
                if {**known.tags, **kept.tags} != dict(known.tags):
                    store.tag_experiment(known.experiment_id, kept.tags)

    def _restore_experiment(self, store: Storage, kept: Experiment) -> None:
        try:
            if isinstance(store, SQLiteStore):
                if any(other.name == kept.name for other in store.list_experiments()):
                    raise ExperimentExists(kept.name)
                store.restore_experiment(kept)
            else:
                store.create_experiment(kept.name, experiment_id=kept.experiment_id, tags=kept.tags)
        except ExperimentExists as error:  # made on two machines at once
            self._reader.complain(f"experiment {kept.experiment_id!r} is left out: {error}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
