"""The launcher's end of a worker's frames: reads them into a collector, and brings commands back.

What goes wrong here never reaches the worker: its descriptor is read to the end even when nothing of it can be used any
more, for a closed pipe would kill it.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, Protocol

from xtrack_protocol.collector.collector import Collector
from xtrack_protocol.collector.tally import Tally
from xtrack_protocol.emitter.stream import new_session_id
from xtrack_protocol.errors import LaunchError, StorageError, TransportClosed, TransportError
from xtrack_protocol.ir import Command, CommandResult, Envelope, Ping, Pong
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.session.rows import rows_of
from xtrack_protocol.spool import FileLock, SpoolDir, lock_path
from xtrack_protocol.spool.mailbox import Inbox
from xtrack_protocol.transport import Promise, StreamInfo, Transport
from xtrack_protocol.wire import Frame, decode, encode, frame_payload

_CHUNK: Final = 64 * 1024
_MAIL_SECONDS: Final = 0.2
_WRITE_SECONDS: Final = 2.0
"""How long a worker may leave commands unread before there is no way to it any more."""
_RETRY_SECONDS: Final = (0.1, 0.5, 2.0)
"""Between the attempts to store what a store has refused: locked, or full for a moment."""


class Decoder(Protocol):
    """What FrameDecoder and SalvageDecoder have in common."""

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take bytes, return frames."""

    def finish(self) -> list[Frame]:
        """Return what is left."""


class FrameChannel:
    """One worker's descriptor, read by a thread of its own until its other ends are all closed.

    ``fd`` is ours from here on. ``two_way``: it is a socket, on which commands go back. ``spool``: where the store is
    the local one: the locks of the streams that come in are held there, for that is how readers tell who is connected.
    """

    def __init__(
        self,
        fd: int,
        decoder: Decoder,
        collector: Collector,
        run_id: str,
        *,
        two_way: bool,
        spool: SpoolDir | None,
        complain: Callable[[str], None],
    ) -> None:
        self._fd = fd
        self._decoder = decoder
        self._collector = collector
        self._spool = spool
        self._complain = complain
        self._source = object()
        collector.bind_source(self._source, run_id)
        os.set_blocking(fd, False)
        self._two_way = two_way
        self._writing = threading.Lock()
        self._answers: dict[str, list[CommandResult]] = {}
        self._answered = threading.Condition()
        self._held: dict[StreamId, FileLock] = {}
        self._inbox = None
        if two_way and spool is not None:
            self._inbox = Inbox(spool.mailbox(run_id), new_session_id(), time.time_ns() // 1000)
        self._closing = threading.Lock()
        self._closed = threading.Event()
        self._settled = threading.Event()
        self._unended: list[StreamId] = []
        self._fate: str | None = None
        self._thread = threading.Thread(target=self._run, name="xtrack-frames", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    # ------------------------------------------------------------------------------------------ commands

    def send(self, command: Command) -> None:
        """Send a command. Raises LaunchError where there is no way to the worker."""
        if not self._two_way:
            raise LaunchError(f"{command.type}: frames come from standard output, on which no command can go back")
        with self._answered:
            self._answers[command.command_id] = []
        try:
            self._write(encode(Envelope.of(command, seq=0, timestamp_us=time.time_ns() // 1000)))
        except TransportError as error:
            raise LaunchError(f"{command.type}: the worker can't be reached: {error}") from error

    def wait_for_answers(self, command: Command, expected: int, timeout: float) -> list[CommandResult]:
        """Return the answers to a command: wait for ``expected``, at most ``timeout`` seconds, or its end."""
        with self._answered:
            self._answered.wait_for(
                lambda: len(self._answers.get(command.command_id, ())) >= expected or self._closed.is_set(), timeout
            )
            return self._answers.pop(command.command_id, [])

    def _write(self, payload: bytes) -> None:
        """Write a whole frame. Raises TransportError; after a part of one nothing more can follow."""
        left = memoryview(frame_payload(payload))
        deadline = time.monotonic() + _WRITE_SECONDS
        with self._writing:
            while left:
                if self._closed.is_set():
                    raise TransportClosed("the worker", "has closed its descriptor")
                try:
                    left = left[os.write(self._fd, left) :]
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        self._two_way = False
                        raise TransportClosed("the worker", f"has read nothing for {_WRITE_SECONDS:g} s") from None
                    time.sleep(0.01)
                except OSError as error:
                    raise TransportClosed("the worker", f"is gone: {error.strerror or error}") from error

    # ------------------------------------------------------------------------------------------ the end

    def conclude(self, fate: str, grace: float) -> None:
        """The worker has ended: streams that haven't ended their run died with it, as ``fate`` tells.

        Waits at most ``grace`` seconds for the rest of its frames. Where a process that it has started still has the
        descriptor, reading goes on, and the verdict comes when that one has closed it too. spec: FLD-6
        """
        self._settled.wait(grace)
        with self._closing:
            self._fate = fate
            if self._settled.is_set():
                self._mark_lost()

    def _mark_lost(self) -> None:
        for stream in self._unended:
            last_seq = self._collector.store.cursor(stream).last or 0
            lost = StreamLost(stream, time.time_ns() // 1000, "died", last_seq, self._fate or "")
            self._collector.store.mark_lost(lost)
        self._unended = []

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._fd, selectors.EVENT_READ)
                while self._read(selector):
                    pass
        except (OSError, StorageError) as error:
            self._complain(f"events of the worker are no longer read: {error}")
        finally:
            self._close()

    def _read(self, selector: selectors.BaseSelector) -> bool:
        """Read once; return whether there may be more."""
        ready = selector.select(None if self._inbox is None else _MAIL_SECONDS)
        if self._inbox is not None:
            self._forward(self._inbox.receive())
        if not ready:
            return True
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return True
        except ConnectionResetError:  # the worker died with commands unread
            chunk = b""
        frames = self._decoder.feed(chunk) if chunk else self._decoder.finish()
        self._take(frames)
        if chunk and any(frame.error and frame.error.fatal for frame in frames):
            self._complain(f"the worker's frames can't be told apart any more: {frames[-1].error}")
            self._decoder = _Deaf()
        return bool(chunk)

    def _take(self, frames: list[Frame]) -> None:
        for row in rows_of(frames):  # what is no event is a row of its own
            frame = row[0]
            if frame.envelope is None:
                continue
            payload = frame.envelope.payload
            if isinstance(payload, CommandResult):
                self._take_answer(payload, frame.raw)
            elif isinstance(payload, Ping) and self._two_way:
                try:
                    self._write(encode(Envelope.of(Pong(), seq=0, timestamp_us=time.time_ns() // 1000)))
                except TransportError as error:
                    self._complain(f"a ping could not be answered: {error}")
        if frames:
            self._store(frames)

    def _take_answer(self, answer: CommandResult, raw: bytes) -> None:
        with self._answered:
            if answer.command_id in self._answers:  # else nobody waits for it here
                self._answers[answer.command_id].append(answer)
                self._answered.notify_all()
        if self._inbox is not None:
            try:
                self._inbox.answer(raw)
            except OSError as error:
                self._complain(f"the answer to a command could not be left in the mailbox: {error}")

    def _forward(self, commands: list[bytes]) -> None:
        """Pass on what others have left in the run's mailbox: the worker knows nothing of it. spec: RST-7.3"""
        for payload in commands:
            try:
                self._write(payload)
            except TransportError as error:
                self._complain(f"a command could not be passed on: {error}")

    def _store(self, frames: list[Frame]) -> None:
        for seconds in (*_RETRY_SECONDS, None):
            try:
                tally = self._collector.push_rows(frames, source=self._source)
            except StorageError as error:
                if seconds is None:
                    self._complain(f"{len(frames)} events of the worker could not be stored and are lost: {error}")
                    return
                time.sleep(seconds)
            else:
                self._look_at(tally)
                return

    def _look_at(self, tally: Tally) -> None:
        if tally.damage:
            self._complain(f"frames of the worker are damaged: {tally.damage}")
        if self._spool is None:
            return
        for stream in tally.streams.keys() - self._held.keys():
            lock = FileLock(lock_path(self._spool.run_dir(stream.run_id), stream.session_id))
            try:
                if lock.acquire():
                    self._held[stream] = lock
            except OSError as error:
                self._complain(f"the lock of a stream can't be held: {error}")

    def _close(self) -> None:
        with self._writing:
            self._closed.set()
            os.close(self._fd)
        with self._answered:
            self._answered.notify_all()
        with self._closing:
            try:
                self._unended = self._collector.close_source(self._source)
                if self._fate is not None:
                    self._mark_lost()
            except (OSError, StorageError) as error:
                self._complain(f"how the worker ended could not be stored: {error}")
            finally:
                self._settled.set()
        for lock in self._held.values():
            lock.release()


class _Deaf:
    """Takes bytes and makes nothing of them, so that a worker whose framing broke isn't stopped by a full pipe."""

    def feed(self, chunk: bytes) -> list[Frame]:  # noqa: ARG002
        return []

    def finish(self) -> list[Frame]:
        return []


class CollectorTransport(Transport):
    """A transport into a collector of this process: for the launcher's own stream, and for programs that are both."""

    name = "collector"
    promise: ClassVar[Promise] = "acked"

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._source = object()
        self._is_open = False

    @property
    def address(self) -> str:
        return self._collector.store.url

    def open(self, info: StreamInfo) -> None:  # noqa: ARG002
        self._is_open = True

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        if not self._is_open:
            raise TransportClosed(self.address, "is not open")
        try:
            pushed = self._collector.push_event(decode(payload), raw=payload, source=self._source)
        except StorageError as error:
            raise TransportError(self.address, str(error)) from error
        if pushed.outcome in {"run_deleted", "gap"}:
            raise TransportError(self.address, pushed.reason)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                self._collector.close_source(self._source)
            except StorageError as error:
                raise TransportError(self.address, str(error)) from error

    def for_child(self) -> CollectorTransport:
        return CollectorTransport(self._collector)


def root_of_local(store: object) -> Path | None:
    """Return the folder of a store that keeps its events in a spool; None for any other."""
    from xtrack_protocol.storage.local import LocalStore

    return store.root if isinstance(store, LocalStore) else None
