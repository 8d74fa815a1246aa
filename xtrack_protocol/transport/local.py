"""The spool on this machine, the default: an append-only file a stream, and nothing else opened. spec: RST-6"""

from __future__ import annotations

import time
from pathlib import Path

from xtrack_protocol.errors import SpoolError, TransportClosed, TransportError
from xtrack_protocol.spool import SpoolDir, StreamWriter
from xtrack_protocol.spool.mailbox import Inbox
from xtrack_protocol.transport.base import Promise, StreamInfo, Transport


class LocalTransport(Transport):
    """Accepted means: in the kernel, one system call an event. ``sync`` happens in ``flush`` and ``close``.

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
        if self._dir.tombstone(stream.run_id).exists():
            raise TransportError(self.address, f"run {stream.run_id!r} was deleted here", "Choose another run id")
        self._inbox = Inbox(self._dir.mailbox(stream.run_id), stream.session_id, time.time_ns() // 1000)
        self._writer = StreamWriter(self._dir.run_dir(stream.run_id), stream)

    def send(self, seq: int, payload: bytes) -> None:
        if self._writer is None:
            raise TransportClosed(self.address, "is not open")
        try:
            self._writer.append(seq, payload)
        except SpoolError as error:
            raise TransportError(error.path, str(error), error.cure) from error

    def send_control(self, payload: bytes) -> bool:
        if self._inbox is None:
            return False
        try:
            return self._inbox.answer(payload)
        except OSError:
            return False  # the caller counts answers that found no way

    def receive(self) -> list[bytes]:
        return self._inbox.receive() if self._inbox else []

    def flush(self, until: Promise, timeout: float) -> bool:  # noqa: ARG002
        if until == "durable" and self._writer is not None:
            try:
                self._writer.sync()
            except SpoolError as error:
                raise TransportError(error.path, str(error), error.cure) from error
        return until != "acked"

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            try:
                writer.close()
            except SpoolError as error:
                raise TransportError(error.path, str(error), error.cure) from error

    def for_child(self) -> LocalTransport:
        if self._writer:
            self._writer.forget()
        return LocalTransport(self._dir.root)
