"""Frames on a descriptor that a parent process handed down: how a launcher listens to a worker of any language.

XTRACK_FD names the descriptor. Without it 3 is used, but only if it was a pipe or a socket when this module was
imported: later, 3 may be the first file that the script itself has opened. Standard output is used when XTRACK_FD=1
asks for it, and never otherwise. Commands come back on the same descriptor where it is a socket, else on standard
input where that is a pipe or a socket. spec: EMT-2
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from typing import Final

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.transport._stream import (
    SEND_TIMEOUT,
    Channel,
    FrameReader,
    FrameTransport,
    FrameWriter,
    PipeChannel,
    SocketChannel,
)
from xtrack_protocol.transport._turns import shared_turns
from xtrack_protocol.transport.base import StreamInfo

PUBLISHED_FD: Final = 3


def _is_channel(fd: int) -> bool:
    """Whether ``fd`` is open and a pipe or a socket."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


_THREE_WAS_HANDED_DOWN: Final = _is_channel(PUBLISHED_FD)


class StdioTransport(FrameTransport):
    """Writes to ``fd``, or to the descriptor handed down; waits at most ``timeout`` seconds for its reader.

    All who write to it, threads, forked children and other processes that inherited it, take turns, so that their
    frames never mingle. The descriptor is duplicated, and neither closed nor changed.
    """

    name = "stdio"
    promise = "accepted"

    def __init__(self, fd: int | None = None, *, timeout: float = SEND_TIMEOUT) -> None:
        super().__init__()
        self._fd = fd
        self._timeout = timeout

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
            fd = PUBLISHED_FD
        _check_writable(fd)
        writing = self._open_channel(fd)
        self._writer = FrameWriter(writing, self.address, shared_turns(fd), self._timeout)
        if isinstance(writing, SocketChannel):
            self._reader = FrameReader(writing)
        elif fd != 0 and _is_channel(0):
            self._reader = FrameReader(self._open_channel(0))

    def for_child(self) -> StdioTransport:
        self._release()
        return StdioTransport(self._fd, timeout=self._timeout)

    def _open_channel(self, fd: int) -> Channel:
        """Return a channel on a duplicate: the script may close its own, and give the number to a file."""
        channel = _channel(os.dup(fd))
        self._channels.append(channel)
        return channel


def _check_writable(fd: int) -> None:
    try:
        os.fstat(fd)
    except (OSError, OverflowError) as error:
        raise ConfigurationError("XTRACK_FD", fd, "is not open", "Name an open descriptor") from error
    if sys.platform != "win32":
        import fcntl

        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise ConfigurationError("XTRACK_FD", fd, "is open for reading only", "Name one that can be written to")


def _channel(fd: int) -> Channel:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return PipeChannel(fd)
    connection = socket.socket(fileno=fd)
    if connection.gettimeout() is not None:  # socket.setdefaulttimeout() of the script's
        connection.settimeout(None)
    return SocketChannel(connection)
