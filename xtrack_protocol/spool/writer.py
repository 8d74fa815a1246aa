"""Writes one stream's segments: one system call an event, in the calling thread. spec: RST-3, RST-6

When ``append`` returns, the record is in the kernel and survives kill -9 of the process. Power loss is what ``sync``
is for. A write that fails half-way is cut off again, and if even that fails, the segment is left with its torn tail and
a new one begun: nothing is ever written after bytes that may be broken (spec: RST-5.11).

After a sync that failed, the kernel may have dropped what it couldn't write, and the next sync would say nothing of it.
So that segment is not written to again, and nothing counts as durable until the records in doubt have been written once
more, to a segment of their own, by a later sync. Readers know them for the same events by their seqs. spec: DLV-2.1
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.limits import FRAME_HARD_MAX, SEGMENT_MAX
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.spool.durable import sync_dir, sync_file
from xtrack_protocol.spool.layout import lock_path, make_private_dir, segment_path
from xtrack_protocol.spool.locks import FileLock
from xtrack_protocol.wire.records import (
    RECORDS_START,
    Record,
    RecordDecoder,
    SegmentHeader,
    encode_header,
    encode_record,
)

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
_UNSYNCED_MAX: Final = 64
"""Segments that wait for a sync in the background, each with a descriptor: half a GiB, at which the kernel itself has
long made writers wait. Those beyond are written once more by the sync."""


class _Open(msgspec.Struct, eq=False):
    """A segment that this writer has written. What is before ``synced`` survives a power loss."""

    fd: int
    path: Path
    salt: int
    synced: int = RECORDS_START


class StreamWriter:
    """Appends records to a stream's segments. One writer a stream; callers serialise their calls.

    Only ``sync`` may be called while another thread is in ``append``, so that waiting for a disk stops nobody.
    Raises SpoolError, naming the path and the cure, where the spool can't be written. ``live`` takes the lock that
    tells readers that the emitter lives; who only files away events of another emitter doesn't. ``background``: another
    thread calls ``sync`` all along, so that ``append`` never waits for the disk, also where a segment is full.
    """

    def __init__(
        self,
        run_dir: Path,
        stream: StreamId,
        *,
        live: bool = True,
        background: bool = False,
        segment_max: int = SEGMENT_MAX,
        number: int = 1,
    ) -> None:
        self._run_dir = run_dir
        self._stream = stream
        self._background = background
        self._segment_max = segment_max
        self._number = number - 1
        self._path = run_dir
        self._current: _Open | None = None
        self._left = 0  # bytes until the next segment
        self._last_seq = 0
        self._closed = False
        self._unsynced: list[_Open] = []  # complete
        self._doubtful: list[_Open] = []  # those of which a sync has failed; closed
        self._unsynced_dirs: tuple[Path, ...] = ()
        self._syncing = threading.RLock()  # held while waiting for a disk; only its holder closes descriptors
        self._changing = threading.RLock()  # held for what is in memory, and for the write of a record
        try:
            encode_header(self._header(1, 1))
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

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be appended any more."""
        return self._closed

    # ------------------------------------------------------------------------------------------ appending

    def append(self, seq: int, payload: bytes) -> None:
        """Write one record. When this returns the event is accepted: it survives the end of this process."""
        if self._left <= 0 and self._current and not self._background:
            self._sync_full_segment()
        with self._changing:
            current = self._current
            if current is None or self._left <= 0:
                current = self._begin_segment(seq)
            if not 0 < len(payload) <= FRAME_HARD_MAX:  # spec: RST-3.4
                raise SpoolError(self._path, f"no record can hold {len(payload)} bytes")
            record = encode_record(seq, payload, current.salt)
            try:
                written = os.write(current.fd, record)
            except OSError as error:
                raise self._failure(error, current.path) from error
            if written != len(record):
                self._finish_write(current, record, written)
            self._left -= len(record)
            self._last_seq = max(self._last_seq, seq)

    def _sync_full_segment(self) -> None:
        with self._changing:
            self._retire()
        with contextlib.suppress(SpoolError):  # remembered as in doubt; it doesn't stop this event
            self.sync()

    def _begin_segment(self, seq: int) -> _Open:
        if self._closed:
            raise SpoolError(self._run_dir, "the writer is closed")
        self._retire()
        # A declared loss has no seq: what follows it is later than all there was. spec: RST-2
        self._current = current = self._create(seq or self._last_seq + 1)
        self._path, self._left = current.path, self._segment_max - RECORDS_START
        return current

    def _retire(self) -> None:
        """Write no more to the present segment. It stays open until it is synced."""
        current, self._current, self._left = self._current, None, 0
        if current is None:
            return
        if len(self._unsynced) < _UNSYNCED_MAX:
            self._unsynced.append(current)
        else:
            self._doubtful.append(current)
            os.close(current.fd)

    def _finish_write(self, current: _Open, record: bytes, written: int) -> None:
        """Write what the kernel left out, or cut off what it took."""
        begin = os.fstat(current.fd).st_size - written
        try:
            while written < len(record):
                written += os.write(current.fd, record[written:])
        except BaseException as error:  # a signal handler may raise here, too
            try:
                os.ftruncate(current.fd, begin)
            except OSError:
                self._retire()  # with a torn tail, which readers know for what it is
            if isinstance(error, OSError):
                raise self._failure(error, current.path) from error
            raise

    def _header(self, number: int, first_seq: int) -> SegmentHeader:
        return SegmentHeader(
            run_id=self._stream.run_id,
            session_id=self._stream.session_id,
            worker_id=self._stream.worker_id,
            number=number,
            first_seq=first_seq,
            created_us=time.time_ns() // 1000,
            salt=os.urandom(4).hex(),
        )

    def _create(self, first_seq: int) -> _Open:
        """Create the next segment with its header, or nothing. Two threads may do so at once."""
        number = self._number
        while True:
            number += 1
            header = self._header(number, first_seq)
            path = segment_path(self._run_dir, self._stream.session_id, number)
            try:
                fd = os.open(path, _FLAGS, 0o600)
            except FileExistsError:
                continue  # an earlier writer's of this stream: never touched again
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
            with self._changing:
                self._number = max(self._number, number)
                self._unsynced_dirs = (self._run_dir, *self._unsynced_dirs[1:])
            return _Open(fd, path, header.salt_value)

    # ------------------------------------------------------------------------------------------ syncing

    def sync(self) -> None:
        """Wait until what was appended survives a power loss. Raises SpoolError where that is not known.

        What an earlier call has left in doubt is written once more.
        """
        with self._syncing:
            self._rescue_all()
            while True:
                with self._changing:
                    segment = self._unsynced[0] if self._unsynced else self._current
                    if segment is None:
                        return
                    end = os.fstat(segment.fd).st_size  # no record is half written now
                self._sync_segment(segment, end)
                with self._changing:
                    if segment is self._current or segment not in self._unsynced:  # the latter: forgotten meanwhile
                        return
                    self._unsynced.remove(segment)
                os.close(segment.fd)

    def _sync_segment(self, segment: _Open, end: int) -> None:
        try:
            if end > segment.synced or self._unsynced_dirs:
                self._wait_for_disk(segment.fd)
        except OSError as error:
            with self._changing:
                if segment is self._current:
                    self._retire()
                if segment in self._unsynced:
                    self._unsynced.remove(segment)
                    os.close(segment.fd)
                    self._doubtful.append(segment)
            raise SpoolError(segment.path, f"can't be made durable: {error.strerror or error}", _CURE) from error
        segment.synced = end

    def _wait_for_disk(self, fd: int) -> None:
        dirs = self._unsynced_dirs
        sync_file(fd)
        for folder in dirs:
            sync_dir(folder)
        with self._changing:
            if self._unsynced_dirs is dirs:  # no segment has come in the meantime
                self._unsynced_dirs = ()

    def _rescue_all(self) -> None:
        """Write once more what failed syncs have left in doubt."""
        for segment in list(self._doubtful):
            try:
                records = _records(segment)
                if records:
                    self._rescue(records)
            except FileNotFoundError:
                pass  # removed since: a collector has acked all of it, or the run was deleted
            except OSError as error:
                problem = error.problem if isinstance(error, SpoolError) else error.strerror or error
                raise SpoolError(segment.path, f"can't be made durable: {problem}", _CURE) from error
            self._doubtful.remove(segment)

    def _rescue(self, records: list[Record]) -> None:
        segment = self._create(next((record.seq for record in records if record.seq), 1))
        try:
            for record in records:
                data = encode_record(record.seq, record.payload, segment.salt)
                if os.write(segment.fd, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._wait_for_disk(segment.fd)
        except BaseException:
            os.close(segment.fd)
            segment.path.unlink(missing_ok=True)  # it holds nothing that isn't elsewhere; the next sync begins again
            raise
        os.close(segment.fd)

    # ------------------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """Sync, close and let go of the lock. Raises SpoolError where the sync fails; all is closed then, too."""
        with self._syncing:
            with self._changing:
                self._closed = True
                self._retire()
            try:
                try:
                    self.sync()
                except SpoolError:
                    self.sync()  # what was in doubt, written once more
            finally:
                self._release()

    def forget(self) -> None:
        """Close everything as it is, and write nothing: for a forked child, whose parent goes on writing."""
        # A thread that doesn't exist in this child may hold them.
        self._changing, self._syncing = threading.RLock(), threading.RLock()
        self._closed = True
        self._retire()
        self._release()

    def _release(self) -> None:
        unsynced, self._unsynced, self._doubtful = self._unsynced, [], []
        for segment in unsynced:
            os.close(segment.fd)
        if self._lock:
            self._lock.release()

    @staticmethod
    def _failure(error: OSError, path: Path) -> SpoolError:
        if isinstance(error, SpoolError):
            return error
        return SpoolError(path, f"can't be written: {error.strerror or error}", _CURE)


def _records(segment: _Open) -> list[Record]:
    """Return the records in doubt that can still be read, from the kernel's memory as a rule."""
    decoder = RecordDecoder(segment.salt, segment.synced)
    with segment.path.open("rb") as file:
        file.seek(segment.synced)
        return [item for item in decoder.feed(file.read()) if isinstance(item, Record)]
