"""Writes one stream's segments: one system call an event, in the calling thread. spec: RST-3, RST-6

When ``append`` returns, the record is in the kernel and survives kill -9 of the process. Power loss is what ``sync``
is for. A write that fails half-way is cut off again, and if even that fails, the segment is left with its torn tail and
a new one begun: nothing is ever written after bytes that may be broken (spec: RST-5.11).

After a sync that failed, the kernel may have dropped what it couldn't write, and the next sync would say nothing of it.
So that segment is not written to again, and nothing counts as durable until the records in doubt have been written once
more, to a segment of their own, by a later sync. Readers know them for the same events by their seqs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.limits import FRAME_HARD_MAX, SEGMENT_MAX
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool.durable import sync_dir, sync_file
from xtrack_protocol.spool.layout import lock_path, make_private_dir, segment_path
from xtrack_protocol.spool.locks import FileLock
from xtrack_protocol.wire import RECORDS_START, Record, RecordDecoder, SegmentHeader, encode_header, encode_record

_FLAGS: Final = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | os.O_APPEND
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_CURE: Final = "Make room or set XTRACK_DIR to a folder that can be written"
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""File systems without locks, as Lustre is often mounted. Readers can't tell there who lives. spec: RST-6.5"""
_NO_FILE: Final = -1


@attrs.frozen
class _Doubtful:
    """A segment whose last bytes may not have reached the disk."""

    path: Path
    salt: int
    offset: int


class StreamWriter:
    """Appends records to a stream's segments. One writer a stream; callers serialise their calls.

    Only ``sync`` may be called while another thread is in ``append``, so that waiting for a disk stops nobody.
    Raises SpoolError, naming the path and the cure, where the spool can't be written. ``live`` takes the lock that
    tells readers that the emitter lives; who only files away events of another emitter doesn't.
    """

    def __init__(
        self, run_dir: Path, stream: StreamId, *, live: bool = True, segment_max: int = SEGMENT_MAX, number: int = 1
    ) -> None:
        self._run_dir = run_dir
        self._stream = stream
        self._segment_max = segment_max
        self._number = number - 1
        self._path = run_dir
        self._fd = _NO_FILE
        self._left = 0  # bytes until the next segment
        self._salt = 0
        self._closed = False
        self._poisoned = False  # a sync of this segment has failed
        self._doubtful: list[_Doubtful] = []
        self._synced = RECORDS_START  # what is before this offset survives a power loss
        self._unsynced_dirs: tuple[Path, ...] = ()
        self._syncing = threading.RLock()
        self._changing = threading.Lock()  # the descriptor: a sync must not find another file behind its number
        try:
            encode_header(self._header(1))
        except ValueError as error:
            raise SpoolError(run_dir, f"can't hold this stream: {error}", "Choose a shorter id") from error
        self._lock = FileLock(lock_path(run_dir, stream.session_id)) if live else None
        try:
            self._prepare_dir()
            if self._lock:
                self._take_lock(self._lock)
        except OSError as error:
            raise self._failure(error, run_dir) from error

    def _prepare_dir(self) -> None:
        if self._run_dir.is_symlink():  # readers pass over it, too. spec: RST-6.8
            raise SpoolError(self._run_dir, "is a symbolic link, and the spool follows none", "Remove it")
        missing = [folder for folder in self._run_dir.parents if not folder.exists()]
        make_private_dir(self._run_dir)
        ours = self._run_dir.parents[: max(2, len(missing) + 1)]  # perhaps made by another process a moment ago
        self._unsynced_dirs = (self._run_dir, *ours)

    def _take_lock(self, lock: FileLock) -> None:
        """Take the stream's lock, which only a reader that is just probing it can hold for a moment."""
        try:
            for _ in range(100):
                if lock.acquire():
                    return
                time.sleep(0.001)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._lock = None
            return
        raise SpoolError(
            lock.path, "another process writes this stream", "Give this one a session id, or a worker id, of its own"
        )

    @property
    def path(self) -> Path:
        """The segment being written; the run's folder before the first event."""
        return self._path

    def append(self, seq: int, payload: bytes) -> None:
        """Write one record. When this returns the event is accepted: it survives the end of this process."""
        if self._left <= 0 or self._poisoned:
            self._begin_segment(seq)
        if not 0 < len(payload) <= FRAME_HARD_MAX:  # spec: RST-3.4
            raise SpoolError(self._path, f"no record can hold {len(payload)} bytes")
        record = encode_record(seq, payload, self._salt)
        try:
            written = os.write(self._fd, record)
        except OSError as error:
            raise self._failure(error, self._path) from error
        if written != len(record):
            self._finish_write(record, written)
        self._left -= len(record)

    def sync(self) -> None:
        """Wait until what was appended survives a power loss. Raises SpoolError where that is not known."""
        with self._syncing:
            self._rescue_all()
            with self._changing:
                if self._fd == _NO_FILE:
                    return
                path = self._path
                if self._poisoned:
                    raise SpoolError(path, "can't be made durable before the next event", _CURE)
                fd, doubtful = os.dup(self._fd), _Doubtful(path, self._salt, self._synced)
            try:
                end = os.fstat(fd).st_size
                self._sync(fd)
            except OSError as error:
                with self._changing:
                    self._poisoned = True
                    self._doubtful.append(doubtful)
                raise SpoolError(path, f"can't be made durable: {error.strerror or error}", _CURE) from error
            finally:
                os.close(fd)
            self._synced = end

    def close(self) -> None:
        """Sync, close and let go of the lock. Raises SpoolError where the sync fails; all is closed then, too."""
        try:
            try:
                self.sync()
            except SpoolError:
                self._abandon_segment()
                self.sync()  # what was in doubt, written once more
        finally:
            self.forget()

    def forget(self) -> None:
        """Close everything as it is, and write nothing: for a forked child, whose parent goes on writing."""
        self._closed = True
        # A thread that doesn't exist in this child may hold them.
        self._changing, self._syncing = threading.Lock(), threading.RLock()
        self._abandon_segment()
        if self._lock:
            self._lock.release()

    def _sync(self, fd: int) -> None:
        sync_file(fd)
        dirs = self._unsynced_dirs
        for folder in dirs:
            sync_dir(folder)
        with self._changing:
            if self._unsynced_dirs is dirs:  # no segment has come in the meantime
                self._unsynced_dirs = ()

    def _header(self, first_seq: int) -> SegmentHeader:
        return SegmentHeader(
            run_id=self._stream.run_id,
            session_id=self._stream.session_id,
            worker_id=self._stream.worker_id,
            number=self._number + 1,
            first_seq=first_seq,
            created_us=time.time_ns() // 1000,
            salt=os.urandom(4).hex(),
        )

    def _begin_segment(self, first_seq: int) -> None:
        if self._closed:
            raise SpoolError(self._run_dir, "the writer is closed")
        if self._fd != _NO_FILE and not self._poisoned:
            with contextlib.suppress(SpoolError):  # remembered as in doubt; it doesn't stop this event
                self.sync()
        self._abandon_segment()
        with self._changing:
            self._fd, header, self._path = self._create(first_seq)
            self._salt, self._synced = header.salt_value, RECORDS_START
            self._left = self._segment_max - RECORDS_START

    def _create(self, first_seq: int) -> tuple[int, SegmentHeader, Path]:
        """Create the next segment with its header, or nothing."""
        while True:
            header = self._header(first_seq)
            path = segment_path(self._run_dir, self._stream.session_id, header.number)
            try:
                fd = os.open(path, _FLAGS, 0o600)
            except FileExistsError:
                self._number += 1  # an earlier writer's of this stream: never touched again
                continue
            except OSError as error:
                raise self._failure(error, path) from error
            try:
                head = encode_header(header)
                if os.write(fd, head) != len(head):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except BaseException as error:
                os.close(fd)
                path.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise self._failure(error, path) from error
                raise
            self._number += 1
            self._unsynced_dirs = (self._run_dir, *self._unsynced_dirs[1:])
            return fd, header, path

    def _rescue_all(self) -> None:
        """Write once more what failed syncs have left in doubt, where nothing more is appended to it."""
        for doubtful in list(self._doubtful):
            if doubtful.path == self._path and self._fd != _NO_FILE:
                continue
            try:
                records = _records(doubtful)
                if records:
                    self._rescue(records)
            except OSError as error:
                problem = error.problem if isinstance(error, SpoolError) else error.strerror or error
                raise SpoolError(doubtful.path, f"can't be made durable: {problem}", _CURE) from error
            self._doubtful.remove(doubtful)

    def _rescue(self, records: list[Record]) -> None:
        with self._changing:
            fd, header, path = self._create(records[0].seq)
        try:
            for record in records:
                data = encode_record(record.seq, record.payload, header.salt_value)
                if os.write(fd, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._sync(fd)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)  # it holds nothing that isn't elsewhere; the next sync begins again
            raise
        os.close(fd)

    def _finish_write(self, record: bytes, written: int) -> None:
        """Write what the kernel left out, or cut off what it took."""
        begin = os.fstat(self._fd).st_size - written
        try:
            while written < len(record):
                written += os.write(self._fd, record[written:])
        except BaseException as error:  # a signal handler may raise here, too
            try:
                os.ftruncate(self._fd, begin)
            except OSError:
                self._abandon_segment()  # with a torn tail, which readers know for what it is
            if isinstance(error, OSError):
                raise self._failure(error, self._path) from error
            raise

    def _abandon_segment(self) -> None:
        with self._changing:
            fd, self._fd = self._fd, _NO_FILE
            self._left = 0
            self._poisoned = False
            if fd != _NO_FILE:
                os.close(fd)

    @staticmethod
    def _failure(error: OSError, path: Path) -> SpoolError:
        if isinstance(error, SpoolError):
            return error
        return SpoolError(path, f"can't be written: {error.strerror or error}", _CURE)


def _records(doubtful: _Doubtful) -> list[Record]:
    """Return the records in doubt that can still be read, from the kernel's memory as a rule."""
    decoder = RecordDecoder(doubtful.salt, doubtful.offset)
    with doubtful.path.open("rb") as file:
        file.seek(doubtful.offset)
        return [item for item in decoder.feed(file.read()) if isinstance(item, Record)]
