"""Frames on a descriptor that a parent process handed down: how a launcher listens to a worker of any language.

XTRACK_FD names the descriptor. Without it 3 is used, but only if it was a pipe or a socket when this module was
imported: later, 3 may be the first file that the script itself has opened. Standard output is used when XTRACK_FD=1
asks for it, and never otherwise. Commands come back on the same descriptor where it is a socket, else on standard input.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import ConfigurationError, TransportClosed
from xtrack_protocol.spool import FileLock
from xtrack_protocol.transport._stream import FrameReader, FrameWriter
from xtrack_protocol.transport.base import StreamInfo, Transport

PUBLISHED_FD: Final = 3


def _is_channel(fd: int) -> bool:
    """Whether ``fd`` is open and a pipe or a socket."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


_THREE_WAS_HANDED_DOWN: Final = _is_channel(PUBLISHED_FD)

_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_note_fork, after_in_child=_note_fork)


class StdioTransport(Transport):
    """Writes to ``fd``, or to the descriptor handed down. Waits at most 10 s for a reader that takes nothing.

    After a fork parent and child share the descriptor, and take turns by a lock so that frames never mingle.
    """

    name = "stdio"
    promise = "accepted"

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._writer: FrameWriter | None = None
        self._reader: FrameReader | None = None
        self._turns: FileLock | None = None

    @property
    def address(self) -> str:
        return f"fd:{PUBLISHED_FD if self._fd is None else self._fd}"

    def open(self, info: StreamInfo) -> None:  # noqa: ARG002
        fd = self._fd
        if fd is None:
            if not _THREE_WAS_HANDED_DOWN:
                raise ConfigurationError(
                    "XTRACK_TRANSPORT",
                    "stdio",
                    "no descriptor was handed down: 3 was no pipe or socket when the process started",
                    "Start the worker through a launcher, or name a descriptor with XTRACK_FD (1 is standard output)",
                )
            fd = self._fd = PUBLISHED_FD
        try:
            status = os.fstat(fd)
        except OSError as error:
            raise ConfigurationError("XTRACK_FD", fd, f"is not open: {error.strerror}", "Name an open one") from error
        if fd > 2 and hasattr(os, "set_blocking"):
            os.set_blocking(fd, False)  # standard output belongs to the script, which may not expect it
        self._writer = FrameWriter(fd, self.address)
        back = fd if stat.S_ISSOCK(status.st_mode) else 0
        self._reader = FrameReader(back) if _is_channel(back) else None
        lock_name = f"xtrack-{os.getuid() if hasattr(os, 'getuid') else 0}-{status.st_dev}-{status.st_ino}.lock"
        self._turns = FileLock(Path(tempfile.gettempdir()) / lock_name)

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        self._write(payload)

    def send_control(self, payload: bytes) -> bool:
        self._write(payload)
        return True

    def receive(self) -> list[bytes]:
        return self._reader.read() if self._reader else []

    def close(self) -> None:
        self._writer = self._reader = None  # the descriptor is our parent's gift to the process, not ours to close

    def for_child(self) -> StdioTransport:
        return StdioTransport(self._fd)

    def _write(self, payload: bytes) -> None:
        if self._writer is None:
            raise TransportClosed(self.address, "is not open")
        if not _forked or self._turns is None:
            self._writer.write(payload)
            return
        with self._turns.waiting():
            self._writer.write(payload)
