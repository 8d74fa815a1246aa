"""Writes records to one segment, at the least cost: what a logged number costs is mostly spent here."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

from xtrack_protocol.wire.records import (
    RECORD_MAGIC,
    RECORD_OVERHEAD,
    RECORDS_START,
    pack_record_head,
    record_packs,
)


class Pen:
    """A segment that is being written: whole records up to ``end``. What is before ``synced`` survives a power loss.

    ``fd`` is -1 where nothing more is written to it: whoever looks at it then finds out by the error of the write.
    """

    __slots__ = ("_kept_fd", "end", "fd", "last_seq", "limit", "path", "salt", "synced")

    def __init__(self, fd: int, path: Path, salt: int, limit: int) -> None:
        self.fd = fd
        self.path = path
        self.salt = salt
        self.limit = limit
        self.end = self.synced = RECORDS_START
        self.last_seq = 0
        self._kept_fd = -1

    def put(self, seq: int, payload: bytes) -> bool:
        """Write one record as ``StreamWriter.append`` does; return False where nothing was written, and that has to be
        called. Its callers hold the lock that the writer was made with. Raises what a signal handler does.
        """
        size = len(payload)
        pack = record_packs.get(size)
        if pack is None or self.end >= self.limit:
            return False
        head = pack_record_head(RECORD_MAGIC, size, seq)
        head_crc = crc32(head, self.salt)
        try:
            written = os.write(self.fd, pack(head, head_crc, payload, crc32(payload, head_crc)))
        except OSError:
            return False
        except BaseException:
            self.look_at_end(size + RECORD_OVERHEAD)
            raise
        if written != size + RECORD_OVERHEAD:
            return self._cut_off(written)
        self.end += written
        self.last_seq = seq
        return True

    def _cut_off(self, written: int) -> bool:
        """Take back what the kernel has taken of a record; return False."""
        try:
            os.ftruncate(self.fd, os.fstat(self.fd).st_size - written)
        except BaseException as error:  # a signal handler may raise, too
            self.limit = 0  # with a torn tail, which readers know for what it is
            if not isinstance(error, OSError):
                raise
        return False

    def write(self, record: bytes) -> None:
        """Write a record, all of it or nothing. Raises OSError."""
        try:
            written = os.write(self.fd, record)
            if written != len(record):
                self._finish(record, written)
        except BaseException:  # a signal handler may raise, too
            self.look_at_end(len(record))
            raise
        self.end += len(record)

    def _finish(self, record: bytes, written: int) -> None:
        """Write what the kernel left out, or cut off what it took."""
        begin = os.fstat(self.fd).st_size - written
        try:
            while written < len(record):
                written += os.write(self.fd, record[written:])
        except BaseException:
            try:
                os.ftruncate(self.fd, begin)
            except OSError:
                self.limit = 0  # with a torn tail, which readers know for what it is
            raise

    def look_at_end(self, size: int) -> None:
        """Find out where a segment ends after a call that didn't return: its record may be there all the same."""
        try:
            end = os.fstat(self.fd).st_size
        except OSError:
            end = -1
        if end in {self.end, self.end + size}:
            self.end = end
        else:
            self.limit = 0  # whatever stands there now, nothing is written behind it

    def withdraw(self) -> None:
        """Have nothing more written to it. A write that has begun goes on; ``close`` is for when it is over."""
        if self.fd >= 0:
            self._kept_fd, self.fd = self.fd, -1

    def close(self) -> None:
        """Close the descriptor, once."""
        self.withdraw()
        fd, self._kept_fd = self._kept_fd, -1
        if fd >= 0:
            os.close(fd)
