"""Frames to a collector on this machine, over a Unix socket, as plain version 1."""

from __future__ import annotations

import socket
from pathlib import Path

from xtrack_protocol.errors import ConfigurationError, TransportClosed, TransportError
from xtrack_protocol.transport._stream import FrameReader, FrameWriter
from xtrack_protocol.transport.base import StreamInfo, Transport


class UnixTransport(Transport):
    """Connects to ``path``. Accepted means: in the socket's buffer, which outlives this process, not the collector."""

    name = "unix"
    promise = "accepted"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        self._socket: socket.socket | None = None
        self._writer: FrameWriter | None = None
        self._reader: FrameReader | None = None

    @property
    def address(self) -> str:
        return f"unix:{self._path}"

    def open(self, info: StreamInfo) -> None:  # noqa: ARG002
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError(
                "XTRACK_TRANSPORT", "unix", "there are no Unix sockets on this system", "Use local"
            )
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise TransportError(
                self.address,
                f"no collector answers: {error.strerror or error}",
                "Start one, or leave XTRACK_TRANSPORT unset to log to this machine's spool",
            ) from error
        connection.setblocking(False)
        self._socket = connection
        self._writer = FrameWriter(connection.fileno(), self.address)
        self._reader = FrameReader(connection.fileno())

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        if self._writer is None:
            raise TransportClosed(self.address, "is not open")
        self._writer.write(payload)

    def send_control(self, payload: bytes) -> bool:
        self.send(0, payload)
        return True

    def receive(self) -> list[bytes]:
        return self._reader.read() if self._reader else []

    def close(self) -> None:
        self._writer = self._reader = None
        connection, self._socket = self._socket, None
        if connection:
            connection.close()

    def for_child(self) -> UnixTransport:
        self.close()  # our copy of the parent's socket
        return UnixTransport(self._path)
