"""Plain frames in one file, which five lines of any language can read. spec: RST-1"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import TransportClosed, TransportError
from xtrack_protocol.limits import FRAME_HARD_MAX
from xtrack_protocol.spool import FileLock, safe_name
from xtrack_protocol.spool.durable import sync_dir, sync_file
from xtrack_protocol.transport.base import Promise, StreamInfo, Transport
from xtrack_protocol.wire import frame_payload

APPEND_MAX: Final = 1024**3
"""Bytes up to which a file is appended to: it is looked through before, which takes a few seconds then."""

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CURE: Final = "Set XTRACK_FILE to another path"


class FileTransport(Transport):
    """Appends to ``path``; each event is one system call.

    One writer a file: where another process holds it, or is a forked parent, this one writes to the path with its
    worker id (or session id) appended, and ``address`` says so. So it does where the file ends inside a frame, or is
    damaged: what follows that would not be found by a simple reader.
    """

    name = "file"
    promise = "accepted"

    def __init__(self, path: str | Path) -> None:
        try:
            self._base = Path(path).expanduser().absolute()  # the script may change its working directory
        except (OSError, RuntimeError) as error:
            raise TransportError(str(path), str(error), _CURE) from error
        self._path = self._base
        self._fd: int | None = None
        self._lock: FileLock | None = None
        self._is_torn = False
        self._is_new = True

    @property
    def address(self) -> str:
        return str(self._path)

    def open(self, info: StreamInfo) -> None:
        stream = info.stream
        own = self._base.with_name(f"{self._base.name}.{safe_name(stream.worker_id or stream.session_id)}")
        try:
            for path in (self._base, own, own.with_name(f"{own.name}.{safe_name(stream.session_id)}")):
                if self._try_open(path):
                    if path != self._base:  # spec: RST-1.3
                        info.warn("file", f"{self._base} has another writer, or is damaged: {path} is written instead")
                    return
        except (OSError, ValueError) as error:
            self.close()
            if isinstance(error, TransportError):
                raise
            problem = getattr(error, "strerror", None) or error
            raise TransportError(str(self._base), f"can't be written: {problem}", _CURE) from error
        raise TransportError(str(self._base), "other processes write to this file, or it is damaged", _CURE)

    def _try_open(self, path: Path) -> bool:
        if path.exists() and not path.is_file():
            raise TransportError(str(path), "is no regular file", _CURE)
        lock = FileLock(path)
        if not lock.acquire():
            return False
        self._lock, self._path = lock, path
        if not _can_append(path):
            self.close()
            self._path = self._base
            return False
        self._fd = os.open(path, _FLAGS, 0o600)
        return True

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        fd = self._fd
        if fd is None or self._is_torn:
            raise TransportClosed(self.address, "ends inside an event" if self._is_torn else "is not open")
        if not 0 < len(payload) <= FRAME_HARD_MAX:  # spec: FRM-2, FRM-3
            raise TransportError(self.address, f"no frame can hold {len(payload)} bytes")
        frame = frame_payload(payload)
        try:
            written = os.write(fd, frame)
        except OSError as error:
            raise TransportError(self.address, f"can't be written: {error.strerror or error}", "Make room") from error
        if written != len(frame):
            self._finish_write(fd, frame, written)

    def _finish_write(self, fd: int, frame: bytes, written: int) -> None:
        """Write what the kernel left out, or cut off what it took."""
        begin = os.fstat(fd).st_size - written
        try:
            while written < len(frame):
                written += os.write(fd, frame[written:])
        except BaseException as error:  # a signal handler may raise here, too
            try:
                os.ftruncate(fd, begin)
            except OSError:
                self._is_torn = True
            if isinstance(error, OSError):
                problem = f"can't be written: {error.strerror or error}"
                raise TransportError(self.address, problem, "Make room") from error
            raise

    def flush(self, until: Promise, timeout: float) -> bool:
        fd = self._fd
        if until != "durable":
            return super().flush(until, timeout)
        if fd is None:
            return False
        try:
            sync_file(fd)
            if self._is_new:
                sync_dir(self._path.parent)
                self._is_new = False
        except OSError as error:
            raise TransportError(self.address, f"can't be made durable: {error.strerror or error}") from error
        return True

    def close(self) -> None:
        fd, self._fd = self._fd, None
        lock, self._lock = self._lock, None
        if fd is not None:
            os.close(fd)
        if lock:
            lock.release()

    def for_child(self) -> FileTransport:
        self.close()  # our copies of the parent's descriptors, which leaves the parent its lock
        return FileTransport(self._base)


def _can_append(path: Path) -> bool:
    """Whether the file holds whole frames only. Raises TransportError for one that holds something else."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and size > APPEND_MAX:
            return False
        position = 0
        while position < size:
            prefix = file.read(4)
            if position == 0 and prefix[0]:
                raise TransportError(str(path), "holds something else than frames", _CURE)
            length = int.from_bytes(prefix, "big")
            position += 4 + length
            if len(prefix) < 4 or not 0 < length <= FRAME_HARD_MAX or position > size:
                return False
            file.seek(length, os.SEEK_CUR)
    return True
