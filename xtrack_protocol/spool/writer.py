"""Writes one stream's segments: one system call an event, in the calling thread. spec: RST-3, RST-6

When ``append`` returns, the record is in the kernel and survives kill -9 of the process. Power loss is what ``sync``
is for. A write that fails half-way is cut off again, and if even that fails, the segment is left with its torn tail and
a new one begun: nothing is ever written after bytes that may be broken.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.limits import SEGMENT_MAX
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool.layout import lock_path, make_private_dir, segment_path
from xtrack_protocol.spool.locks import FileLock
from xtrack_protocol.wire import RECORDS_START, SegmentHeader, encode_header, encode_record

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)


class StreamWriter:
    """Appends records to a stream's segments. One writer a stream; callers serialise their calls.

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
        self._fd: int | None = None
        self._path = run_dir
        self._size = 0
        self._salt = 0
        self._lock = FileLock(lock_path(run_dir, stream.session_id)) if live else None
        try:
            make_private_dir(run_dir)
            if self._lock:
                self._take_lock(self._lock)
        except OSError as error:
            raise SpoolError(run_dir, f"can't be written: {error.strerror or error}", _CURE) from error

    @staticmethod
    def _take_lock(lock: FileLock) -> None:
        """Take the stream's lock, which only a reader that is just probing it can hold for a moment."""
        for _ in range(100):
            if lock.acquire():
                return
            time.sleep(0.001)
        raise BlockingIOError(0, "another process holds the lock of this stream")

    @property
    def path(self) -> Path:
        """The segment being written; the run's folder before the first event."""
        return self._path

    def append(self, seq: int, payload: bytes) -> None:
        """Write one record. When this returns the event is accepted: it survives the end of this process."""
        if self._fd is None or self._size >= self._segment_max:
            self._begin_segment(seq)
        assert self._fd is not None
        record = encode_record(seq, payload, self._salt)
        try:
            written = os.write(self._fd, record)
        except OSError as error:
            raise SpoolError(self._path, f"can't be written: {error.strerror or error}", _CURE) from error
        if written != len(record):
            self._finish_write(record, written)
        self._size += len(record)

    def sync(self) -> None:
        """Wait until what was appended survives a power loss. Raises SpoolError: nothing is known then."""
        if self._fd is None:
            return
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            self._abandon_segment()  # after a failed fsync the kernel may have dropped what it couldn't write
            raise SpoolError(self._path, f"can't be made durable: {error.strerror or error}", _CURE) from error

    def close(self) -> None:
        """Sync, close and let go of the lock."""
        try:
            self.sync()
        finally:
            self._abandon_segment()
            if self._lock:
                self._lock.release()

    def forget(self) -> None:
        """In a forked child: close our copies of the parent's files, and touch nothing."""
        self._abandon_segment()
        if self._lock:
            self._lock.release()

    def _begin_segment(self, first_seq: int) -> None:
        if self._fd is not None:
            self.sync()
            self._abandon_segment()
        salt = os.urandom(4)
        header = SegmentHeader(
            run_id=self._stream.run_id,
            session_id=self._stream.session_id,
            worker_id=self._stream.worker_id,
            number=self._number + 1,
            first_seq=first_seq,
            created_us=time.time_ns() // 1000,
            salt=salt.hex(),
        )
        head = encode_header(header)
        try:
            fd, self._path = self._create()
            written = os.write(fd, head)
        except OSError as error:
            raise SpoolError(self._run_dir, f"can't be written: {error.strerror or error}", _CURE) from error
        if written != len(head):
            os.close(fd)
            self._path.unlink(missing_ok=True)
            raise SpoolError(self._path, "can't be written: the disk took only a part of the header", _CURE)
        self._fd, self._size, self._salt = fd, RECORDS_START, header.salt_value

    def _create(self) -> tuple[int, Path]:
        while True:
            self._number += 1
            path = segment_path(self._run_dir, self._stream.session_id, self._number)
            try:
                return os.open(path, _FLAGS, 0o600), path
            except FileExistsError:
                continue  # an earlier writer's of this stream: never touched again

    def _finish_write(self, record: bytes, written: int) -> None:
        """Write what the kernel left out, or cut off what it took."""
        assert self._fd is not None
        try:
            while written < len(record):
                written += os.write(self._fd, record[written:])
        except OSError as error:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._abandon_segment()  # with a torn tail, which readers know for what it is
            raise SpoolError(self._path, f"can't be written: {error.strerror or error}", _CURE) from error

    def _abandon_segment(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


_CURE = "Make room or set XTRACK_DIR to a folder that can be written"
