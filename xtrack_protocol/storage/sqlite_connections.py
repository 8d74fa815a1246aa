"""Connections to one SQLite file: opened with the right settings, shared by threads, left behind by forks.

Strategy. A connection is used by one thread at a time and goes back to a small pool; a write transaction also holds
the pool's lock, so that threads queue here and only processes meet at SQLite's own lock. Readers of other threads run
beside a writer, each on its snapshot (WAL).

A forked child must not touch its parent's connections, and SQLite, which keeps the locks of a file once per process,
would share them with new ones of the child. So Python's fork hook closes what is idle before a fork, with no write
under way; what a child inherits all the same (a fork without Python's hooks, a reader in the middle) it never uses or
closes.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import (
    NotAStore,
    StorageError,
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
)
from xtrack_protocol.storage.answers import name_matches
from xtrack_protocol.storage.sqlite_schema import is_up_to_date, read_as_newest

BUSY_SECONDS: Final = 5.0
"""How long to wait for another process's transaction."""

_IDLE_MAX: Final = 4
_CACHE_KIB: Final = 8 * 1024
_WAL_KEEP_BYTES: Final = 64 * 1024 * 1024  # a log that grew beyond, under a long reader, is cut again at a checkpoint
_RETRY_SECONDS: Final = 0.01

_NO_DATABASE: Final = ("file is not a database", "file is encrypted or is not a database")


class ConnectionPool:
    """All connections of one store. ``lock`` is held during each write, and by readers of what writers change."""

    def __init__(
        self, path: str, *, read_only: bool, busy_seconds: float = BUSY_SECONDS, on_fork: Callable[[], None]
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.busy_seconds = busy_seconds
        self.lock = threading.RLock()
        self._on_fork = on_fork
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._left_behind: list[sqlite3.Connection] = []
        self._closed = False
        self._outdated: set[int] = set()
        """The ids of connections that read an older schema by views."""
        _POOLS.add(self)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a read transaction: all that is read is of one moment."""
        with self._translated(), self._lent() as connection:
            connection.execute("BEGIN")
            try:
                if self._outdated and id(connection) in self._outdated and is_up_to_date(connection):
                    raise StoreUnavailable(self.path, "was brought to a newer schema. Open it again")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a write transaction; commits at the end, or takes all back."""
        self._check_process()
        if self.read_only:
            raise StoreReadOnly(self.path)
        with self.lock, self._translated(), self._lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def outside_transactions(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that is in no transaction."""
        with self._translated(), self._lent() as connection:
            yield connection

    def locked(self) -> AbstractContextManager[bool]:
        """Return the lock of this process, which a fork may have changed."""
        self._check_process()
        return self.lock

    def close(self) -> None:
        """Close all connections; none is lent any more."""
        self._check_process()
        with self.lock:
            self._closed = True
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        self._check_process()
        if self._closed:
            raise StorageError(f"{self.path}: the store is closed")
        try:
            connection = self._idle.pop()  # atomic, as append below
        except IndexError:
            connection = self._connect()
        pid = self._pid
        try:
            yield connection
        finally:
            if pid != os.getpid():
                self._left_behind.append(connection)
            else:
                self._take_back(connection)

    def _take_back(self, connection: sqlite3.Connection) -> None:
        if self._closed or len(self._idle) >= _IDLE_MAX or connection.in_transaction:  # a failing disk fails rollbacks
            connection.close()
        else:
            self._idle.append(connection)

    # -------------------------------------------------------------------------------------- forks

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            self._leave_behind()

    def _before_fork(self) -> None:
        self.lock.acquire()
        self._close_idle()

    def _leave_behind(self) -> None:
        self._pid = os.getpid()
        self.lock = threading.RLock()  # the old one may be held by a thread that isn't here
        self._left_behind.extend(self._idle)
        self._idle = []
        self._on_fork()

    # -------------------------------------------------------------------------------------- opening

    def _connect(self) -> sqlite3.Connection:
        if not self.read_only:
            return self._configured("rw")
        try:
            return self._configured("ro")
        except sqlite3.OperationalError:
            # On a read-only medium SQLite can't make the files of a WAL. Without one, the file is all there is.
            if not Path(self.path).is_file() or Path(f"{self.path}-wal").exists():
                raise
            return self._configured("ro&immutable=1")

    def _configured(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{Path(self.path).absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self.busy_seconds,
            isolation_level=None,  # transactions are begun where they are meant
            check_same_thread=False,
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first look at the file
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEEP_BYTES}")
            connection.create_function("name_matches", 2, name_matches, deterministic=True)
            if self.read_only:
                (self._outdated.add if read_as_newest(connection) else self._outdated.discard)(id(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    def use_wal(self) -> None:
        """Make the file use a write-ahead log, which it then remembers."""
        deadline = time.monotonic() + self.busy_seconds
        with self._translated(), self._lent() as connection:
            while True:
                try:
                    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                    break
                except sqlite3.OperationalError as error:  # SQLite doesn't wait here when others open it too
                    if "locked" not in str(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(_RETRY_SECONDS)
        if mode != "wal":
            raise StoreUnavailable(self.path, f"its file system allows no write-ahead log (the mode is {mode!r})")

    # -------------------------------------------------------------------------------------- errors

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise store_error(error, self.path, self.busy_seconds) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise StorageError(f"{self.path}: a value can't be stored: {error}") from error


def store_error(error: sqlite3.Error, path: str, busy_seconds: float) -> StorageError:
    """Return what a SQLite error means. By its text: Python 3.10 gives no codes, and SQLite's texts don't change."""
    text = str(error)
    if "locked" in text:
        return StoreLocked(path, busy_seconds)
    if "is full" in text:
        return StoreFull(path)
    if "readonly" in text:
        return StoreReadOnly(path)
    if "malformed" in text:
        return StoreCorrupt(path, [text])
    if text in _NO_DATABASE:
        return NotAStore(path, "is no SQLite database. Give the path of a store, or of a new file")
    if "unable to open" in text or Path(path).is_dir():  # which opens for reading, and fails at the first read
        return StoreUnavailable(path, _why_not_open(path))
    if "I/O error" in text:
        return StoreUnavailable(path, f"{text}. Look at the disk and the system's log")
    return StorageError(f"{path}: {text}")


def _why_not_open(path: str) -> str:
    file = Path(path)
    if file.is_dir():
        return "is a directory"
    if not file.exists():
        return "there is no such file"
    return "can't be opened: look at its permissions and those of its directory"


def create_file(path: str) -> bool:
    """Make the file, for its owner alone, with the directories above it; one that exists stays as it is.

    Returns whether it was made.

    SQLite gives the log beside it the same permissions. Raises StoreUnavailable.
    """
    file = Path(path)
    try:
        missing = [parent for parent in file.absolute().parents if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        cure = "Name a file in a folder that can be written"
        raise StoreUnavailable(path, f"can't be made: {error.strerror} ({error.filename}). {cure}") from error
    try:
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # a umask may have taken away even the owner's right
    finally:
        os.close(descriptor)
    for directory in (file.absolute().parent, *(parent.parent for parent in missing)):
        _sync_directory(directory)
    return True


def _sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power loss: SQLite does so for the files that it makes itself."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # a directory that may be written and not be read can't be opened; its names are in the kernel's hands
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some file systems have nothing to sync there
            raise StoreUnavailable(path, f"can't be written through: {error.strerror}") from error
    finally:
        os.close(descriptor)


_POOLS: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()
_held_for_fork: list[ConnectionPool] = []
_fork_turn = threading.Lock()  # two threads that fork at once would wait for each other's pools


def _before_fork() -> None:
    _fork_turn.acquire()
    for pool in list(_POOLS):
        pool._before_fork()  # noqa: SLF001 - of this module
        _held_for_fork.append(pool)


def _after_fork_in_parent() -> None:
    while _held_for_fork:
        _held_for_fork.pop().lock.release()
    _fork_turn.release()


def _after_fork_in_child() -> None:
    while _held_for_fork:
        _held_for_fork.pop()._leave_behind()  # noqa: SLF001 - of this module
    _fork_turn.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
