"""The spool on this machine, the default: an append-only file a stream, and nothing else opened. spec: RST-6"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from xtrack_protocol.errors import SpoolError, TransportClosed, TransportError
from xtrack_protocol.limits import ON_FULL_SECONDS
from xtrack_protocol.spool import syncing
from xtrack_protocol.spool.layout import SpoolDir
from xtrack_protocol.spool.mailbox import Inbox
from xtrack_protocol.spool.room import Ballast, Reserve, has_room, is_full
from xtrack_protocol.spool.writer import StreamWriter
from xtrack_protocol.transport.base import Promise, StreamInfo, Transport


class LocalTransport(Transport):
    """Accepted means: in the kernel, one system call an event. A thread makes it durable every second; ``flush`` and
    ``close`` do so at once.

    ``root``: the folder that XTRACK_DIR names. ``on_full``: what ``send`` does where the disk is full: ``drop`` raises,
    ``block`` waits in the calling thread until there is room. Commands come through a mailbox in the run's folder.
    """

    name = "local"
    promise = "accepted"
    is_buffer: ClassVar[bool] = False
    """Whether the spool only waits for a collector, and leaves a reserve of the disk free."""

    def __init__(self, root: str | Path | None = None, *, on_full: str = "drop") -> None:
        self._dir = SpoolDir(root)
        self._on_full = on_full
        self._warn: Callable[[str, str], None] | None = None
        self._reserve: Reserve | None = None
        self._ballast: Ballast | None = None
        self._writer: StreamWriter | None = None
        self._inbox: Inbox | None = None
        self._full: TransportError | None = None
        """What the last write said, where that was for want of room."""

    @property
    def root(self) -> Path:
        """The folder of the spool."""
        return self._dir.root

    @property
    def address(self) -> str:
        return str(self._dir.root)

    def open(self, info: StreamInfo) -> None:
        stream = info.stream
        try:
            if self._dir.tombstone(stream.run_id).exists():
                raise TransportError(self.address, f"run {stream.run_id!r} was deleted here", "Choose another run id")
            self._writer = StreamWriter(self._dir.run_dir(stream.run_id), stream, background=True, lock=info.lock)
        except (OSError, ValueError) as error:
            raise _transport_error(error, self.address) from error
        self._warn = info.warn
        self._reserve = Reserve(self._dir.root) if self.is_buffer else None
        self._ballast = Ballast(self._dir.root)
        syncing.watch(self._writer, info.warn)
        self._inbox = Inbox(self._dir.mailbox(stream.run_id), stream.session_id, time.time_ns() // 1000)

    def send(self, seq: int, payload: bytes) -> None:
        if self._writer is None:
            raise TransportClosed(self.address, "is not open")
        if self._full is not None and (problem := self.no_room()) is not None:
            raise problem
        try:
            if self._reserve is not None:
                self._reserve.check()
            self._writer.append(seq, payload)
        except SpoolError as error:
            if self._on_full != "block" or not is_full(error):
                problem = _transport_error(error, self.address)
                if is_full(error) and self._reserve is None:
                    self._full = problem
                raise problem from error
            self._send_when_there_is_room(self._writer, seq, payload, error)

    def shortcut(self) -> Callable[[int, bytes], bool] | None:
        """The segment itself, where nothing but a write is to be done. A subclass whose ``send`` does more has none."""
        if self._writer is None or self._reserve is not None or type(self).send is not LocalTransport.send:
            return None
        pen = self._writer.pen()
        return pen.put if pen else None

    def _send_when_there_is_room(self, writer: StreamWriter, seq: int, payload: bytes, error: SpoolError) -> None:
        """Wait for others to make room: the script has chosen that over a loss. spec: DLV-7"""
        if self._warn is not None:
            self._warn("full", f"waiting until there is room, as XTRACK_ON_FULL=block says: {error}")
        delay, longest = ON_FULL_SECONDS
        while True:
            time.sleep(delay)  # Ctrl-C gets through
            delay = min(2 * delay, longest)
            try:
                if self._reserve is not None:
                    self._reserve.check()
                writer.append(seq, payload)
            except SpoolError as again:
                if not is_full(again) or self._on_full != "block":  # in a hurry since
                    raise _transport_error(again, self.address) from again
            else:
                return

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

    def make_room(self) -> bool:
        """Give up what was kept back for the stream's last words, and what is left to others. spec: DLV-7.2"""
        reserve, self._reserve = self._reserve, None
        ballast, self._ballast = self._ballast, None
        return (ballast is not None and ballast.drop()) or reserve is not None

    def hurry(self) -> None:
        self._on_full = "drop"

    def no_room(self) -> TransportError | None:
        if self._full is not None and has_room(self._dir.root):
            self._full = None
        # The same error again: to try, and to tell anew what went wrong, costs five times as much.
        return None if self._full is None else self._full.with_traceback(None)

    def close(self) -> None:
        self.make_room()
        writer, self._writer, self._inbox = self._writer, None, None
        if writer:
            syncing.unwatch(writer)
            try:
                writer.close()
            except SpoolError as error:
                raise _transport_error(error, self.address) from error

    def for_child(self) -> LocalTransport:
        self._forget()
        return LocalTransport(self._dir.root, on_full=self._on_full)

    def _forget(self) -> None:
        """In a forked child: let go of what is its parent's."""
        if self._ballast:
            self._ballast.forget()
        if self._writer:
            self._writer.forget()


def _transport_error(error: OSError | ValueError, address: str) -> TransportError:
    if isinstance(error, TransportError):
        return error
    if isinstance(error, SpoolError):
        return TransportError(error.path, error.problem, error.cure)
    return TransportError(address, f"can't be written: {getattr(error, 'strerror', None) or error}")
