"""Plain frames in one file, which five lines of any language can read. spec: RST-1"""

from __future__ import annotations

import os
from pathlib import Path

from xtrack_protocol.errors import TransportClosed, TransportError
from xtrack_protocol.spool import FileLock, safe_name
from xtrack_protocol.transport.base import Promise, StreamInfo, Transport
from xtrack_protocol.wire import frame_payload

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class FileTransport(Transport):
    """Appends to ``path``; each event is one system call.

    One writer a file: where another process holds it, or is a forked parent, this one writes to the path with its
    worker id (or session id) appended, and ``address`` says so.
    """

    name = "file"
    promise = "accepted"

    def __init__(self, path: str | Path) -> None:
        self._base = Path(path).expanduser()
        self._path = self._base
        self._fd: int | None = None
        self._lock: FileLock | None = None
        self._size = 0

    @property
    def address(self) -> str:
        return str(self._path)

    def open(self, info: StreamInfo) -> None:
        own = self._base.with_name(f"{self._base.name}.{safe_name(info.stream.worker_id or info.stream.session_id)}")
        try:
            for path in (self._base, own, own.with_name(f"{own.name}.{safe_name(info.stream.session_id)}")):
                lock = FileLock(path)
                if lock.acquire():
                    self._lock, self._path = lock, path
                    self._fd = os.open(path, _FLAGS, 0o600)
                    self._size = os.fstat(self._fd).st_size
                    return
        except OSError as error:
            self.close()
            raise TransportError(
                str(self._base), f"can't be written: {error.strerror or error}", "Set XTRACK_FILE to another path"
            ) from error
        raise TransportError(str(self._base), "other processes write to this file", "Set XTRACK_FILE to another path")

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        if self._fd is None:
            raise TransportClosed(self.address, "is not open")
        frame = frame_payload(payload)
        written = 0
        try:
            while written < len(frame):
                written += os.write(self._fd, frame[written:])
        except OSError as error:
            if written:
                os.ftruncate(self._fd, self._size)
            raise TransportError(self.address, f"can't be written: {error.strerror or error}", "Make room") from error
        self._size += len(frame)

    def flush(self, until: Promise, timeout: float) -> bool:  # noqa: ARG002
        if until == "durable" and self._fd is not None:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise TransportError(self.address, f"can't be made durable: {error.strerror or error}") from error
        return until != "acked"

    def close(self) -> None:
        fd, self._fd = self._fd, None
        lock, self._lock = self._lock, None
        if fd is not None:
            os.close(fd)
        if lock:
            lock.release()

    def for_child(self) -> FileTransport:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        return FileTransport(self._base)
