"""Frames to a collector on this machine, over a Unix socket, as plain version 1."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import ConfigurationError, TransportError
from xtrack_protocol.transport._stream import SEND_TIMEOUT, FrameReader, FrameTransport, FrameWriter, SocketChannel
from xtrack_protocol.transport._turns import Turns
from xtrack_protocol.transport.base import StreamInfo

CONNECT_TIMEOUT: Final = 5.0
"""Seconds that a collector has to take the connection."""


class UnixTransport(FrameTransport):
    """Connects to ``path``; waits at most ``timeout`` seconds for the collector to take an event.

    Accepted means: in the socket's buffer, which outlives this process, not the collector.
    """

    name = "unix"
    promise = "accepted"

    def __init__(self, path: str | Path, *, timeout: float = SEND_TIMEOUT) -> None:
        super().__init__()
        self._path = Path(path).expanduser()
        self._timeout = timeout

    @property
    def address(self) -> str:
        return f"unix:{self._path}"

    def open(self, info: StreamInfo) -> None:  # noqa: ARG002
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError(
                "XTRACK_TRANSPORT", "unix", "there are no Unix sockets on this system", "Use local"
            )
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(connection)
        except (OSError, ValueError) as error:
            connection.close()
            problem = getattr(error, "strerror", None) or error
            raise TransportError(
                self.address,
                f"no collector answers: {problem}",
                "Start one, or leave XTRACK_TRANSPORT unset to log to this machine's spool",
            ) from error
        connection.setblocking(False)
        channel = SocketChannel(connection)
        self._channels.append(channel)
        self._writer = FrameWriter(channel, self.address, Turns(), self._timeout)
        self._reader = FrameReader(channel)

    def _connect(self, connection: socket.socket) -> None:
        connection.settimeout(CONNECT_TIMEOUT)
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while True:
            try:
                return connection.connect(str(self._path))
            except BlockingIOError:  # many workers at once: the collector's queue is full for a moment
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)

    def for_child(self) -> UnixTransport:
        self._release()  # our copy of the parent's socket
        return UnixTransport(self._path, timeout=self._timeout)
