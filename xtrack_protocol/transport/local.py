"""The spool on this machine, the default: an append-only file a stream, and nothing else opened. spec: RST-6"""

from __future__ import annotations

import time
from pathlib import Path

from xtrack_protocol.errors import SpoolError, TransportClosed, TransportError
from xtrack_protocol.spool import SpoolDir, StreamWriter
from xtrack_protocol.spool.mailbox import Inbox
from xtrack_protocol.transport.base import Promise, StreamInfo, Transport


class LocalTransport(Transport):
    """Accepted means: in the kernel, one system call an event. ``flush`` and ``close`` make it durable.

    ``root``: the folder that XTRACK_DIR names. Commands come through a mailbox in the run's folder.
    """

    name = "local"
    promise = "accepted"

    def __init__(self, root: str | Path | None = None) -> None:
        self._dir = SpoolDir(root)
        self._writer: StreamWriter | None = None
        self._inbox: Inbox | None = None

    @property
    def address(self) -> str:
        return str(self._dir.root)

    def open(self, info: StreamInfo) -> None:
        stream = info.stream
        try:
            if self._dir.tombstone(stream.run_id).exists():
                raise TransportError(self.address, f"run {stream.run_id!r} was deleted here", "Choose another run id")
            self._writer = StreamWriter(self._dir.run_dir(stream.run_id), stream)
        except (OSError, ValueError) as error:
            raise _transport_error(error, self.address) from error
        self._inbox = Inbox(self._dir.mailbox(stream.run_id), stream.session_id, time.time_ns() // 1000)

    def send(self, seq: int, payload: bytes) -> None:
        if self._writer is None:
            raise TransportClosed(self.address, "is not open")
        try:
            self._writer.append(seq, payload)
        except SpoolError as error:
            raise _transport_error(error, self.address) from error

    def send_control(self, payload: bytes) -> bool:
        inbox = self._inbox
        if inbox is None:
            return False
        try:
            return inbox.answer(payload)
        except OSError:
            return False  # the caller counts answers that found no way

    def receive(self) -> list[bytes]:
        inbox = self._inbox
        return inbox.receive() if inbox else []

    def flush(self, until: Promise, timeout: float) -> bool:
        writer = self._writer
        if until != "durable":
            return super().flush(until, timeout)
        if writer is None:
            return False
        try:
            writer.sync()
        except SpoolError as error:
            raise _transport_error(error, self.address) from error
        return True

    def close(self) -> None:
        writer, self._writer, self._inbox = self._writer, None, None
        if writer:
            try:
                writer.close()
            except SpoolError as error:
                raise _transport_error(error, self.address) from error

    def for_child(self) -> LocalTransport:
        if self._writer:
            self._writer.forget()
        return LocalTransport(self._dir.root)


def _transport_error(error: OSError | ValueError, address: str) -> TransportError:
    if isinstance(error, TransportError):
        return error
    if isinstance(error, SpoolError):
        return TransportError(error.path, error.problem, error.cure)
    return TransportError(address, f"can't be written: {getattr(error, 'strerror', None) or error}")
