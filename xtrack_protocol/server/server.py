"""The server: brings what its peers send to the committer, and what came of it back to them. spec: CTL-17"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from typing_extensions import Self

from xtrack_protocol.collector import Collector, GapPolicy
from xtrack_protocol.collector.channel import root_of_local
from xtrack_protocol.errors import ConfigurationError, DecodeError
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.admission import Journal, kind_of, printable
from xtrack_protocol.server.committer import Committer, Task, Work
from xtrack_protocol.server.connected import ConnectedNote
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.counters import Counters
from xtrack_protocol.server.dispatch import CommandDispatch
from xtrack_protocol.server.limits import FIRST_FRAME_KEYED, ServerLimits
from xtrack_protocol.server.listeners import check_exposure
from xtrack_protocol.server.locks import StreamLocks
from xtrack_protocol.server.reception import Reception
from xtrack_protocol.server.streams import Streams
from xtrack_protocol.server.subscriptions import Subscriptions
from xtrack_protocol.session import FEATURE_COMMANDS, FEATURE_FOLLOW, StreamId
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.storage import Storage

if TYPE_CHECKING:
    import ssl

    from xtrack_protocol.server.embedding import ServerThread

logger = logging.getLogger("xtrack.server")

_BUFFER: Final = 120 * 1024
_TICK_SECONDS: Final = 1.0


class CollectorServer:
    """Takes events of any number of workers, over TCP and Unix sockets, into one store. spec: CTL-17

    ``store``: stays open when the server stops. ``tcp``: host and port, 0 for any free one; ``unix``: the path of a
    socket. ``access``: who may do what; None: everybody everything. ``tls``: for TCP; ``fingerprint``: of its
    certificate, for the log. ``insecure``: listen beyond this
    machine without key and TLS. Raises ConfigurationError where that wasn't asked for.

    ``async with CollectorServer(...)`` listens within the block; ``run_in_thread`` is for programs without a loop.
    """

    def __init__(
        self,
        store: Storage,
        *,
        tcp: tuple[str, int] | None = None,
        unix: str | Path | None = None,
        access: AccessControl | None = None,
        tls: ssl.SSLContext | None = None,
        fingerprint: str | None = None,
        insecure: bool = False,
        limits: ServerLimits | None = None,
        gap_policy: GapPolicy = "record",
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        if tcp is None and unix is None:
            raise ConfigurationError("tcp", None, "a server listens somewhere", "Give tcp=(host, port) or unix=path")
        if isinstance(tcp, str):  # whose first two characters would pass for a host and a port
            raise ConfigurationError("tcp", tcp, "is a text", "Give tcp=(host, port)")
        self.store = store
        self.access = access
        self.tls = tls
        self.fingerprint = fingerprint
        self.limits = limits or ServerLimits()
        self.wall_us = clock
        keyed = access is not None and access.needs_key
        if tcp is not None:
            check_exposure(tcp[0], keyed=keyed, tls=tls is not None, insecure=insecure)
        first_frame = FIRST_FRAME_KEYED if keyed else self.limits.session.first_frame
        self.session_limits = attrs.evolve(self.limits.session, first_frame=first_frame)
        self.features = (FEATURE_COMMANDS, FEATURE_FOLLOW)
        self.counters = Counters()
        self.collector = Collector(store, gap_policy=gap_policy, clock=clock)
        self.epoch_us = time.time_ns() // 1000 - int(time.monotonic() * 1_000_000)
        self.buffer = memoryview(bytearray(_BUFFER))
        """Into which each connection reads: what is in it is done with before anybody else reads."""
        self._tls_buffer: bytearray | None = None
        self.loop: asyncio.AbstractEventLoop
        self.committer: Committer
        self.streams: Streams
        self.subscriptions: Subscriptions
        self.locks: StreamLocks
        self.commands = CommandDispatch(self)
        self.router = self.commands.router
        self.reception = Reception(self, tcp, None if unix is None else Path(unix))
        self._journal = Journal(logger)
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unfinished = 0
        self._held_back = False
        self._stopping: asyncio.Event | None = None
        self._over: asyncio.Event
        self._stopped = False
        self._note: ConnectedNote
        self._is_noting = False
        self._noted: frozenset[StreamId] = frozenset()

    # ------------------------------------------------------------------------------------------ life

    @property
    def addresses(self) -> list[tuple[str, int] | Path]:
        """Where it listens: hosts with ports, and the path of a Unix socket."""
        return self.reception.addresses

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return next(address[1] for address in self.addresses if isinstance(address, tuple))

    async def start(self) -> None:
        """Listen. Raises TransportError where that can't be."""
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._mark_served()
        self.reception.listen()
        self.streams = Streams(self)
        self.subscriptions = Subscriptions(self)
        self.locks = StreamLocks(self.store, self._complain_from_thread)
        self.committer = Committer(
            self.collector,
            self.limits,
            report=self._report,
            committed=self._committed,
            trouble=self._trouble,
            complain=self.complain,
        )
        self._note = ConnectedNote(self.store, self._complain_from_thread)
        self.committer.start()
        self.committer.put(Task(self._note.read, self._expect))
        self.reception.begin()
        self.spawn(self._tick())
        self.spawn(self.commands.watch_mailboxes())

    def _mark_served(self) -> None:
        """Note in a local store that it is a collector's: workers that ship to it may log to the same folder."""
        root = root_of_local(self.store)
        if root is not None:
            try:
                SpoolDir(root).mark_served()
            except OSError as error:
                problem = f"can't be written: {error.strerror or error}"
                raise ConfigurationError("store", self.store.url, problem, "Name a folder that can be") from error

    async def stop(self) -> None:
        """Begin nothing new, commit and ack what was taken, tell the peers, and close. spec: CTL-17.9

        It takes ``limits.shutdown_seconds`` at most, and what the peers need to read it.
        """
        if self._stopping is None:
            return
        if self._stopped:
            await self._over.wait()
            return
        self._stopped = True
        self._stopping.set()
        deadline = self.loop.time() + self.limits.shutdown_seconds
        self.reception.close()
        for connection in list(self._connections):
            connection.drain()
        await self._until(lambda: not any(one.is_plain and one.has_input for one in self._connections), 1.0)
        for connection in list(self._connections):
            if connection.is_plain:
                connection.hold_back(True)
        settled = self.loop.create_future()
        self.committer.put(Task(lambda: None, lambda _: _settle(settled)))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(settled, max(0.1, deadline - self.loop.time()))
        await self.subscriptions.close()
        for connection in list(self._connections):
            connection.reject("busy", "the collector is shutting down", self.limits.retry_after)
        await self._until(lambda: not self._connections, self.limits.farewell_seconds + 0.5)
        for connection in list(self._connections):
            connection.abort()
        await self._until(lambda: not self._connections, 0.5)
        await self._end_committer(deadline)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.commands.close()
        self._over.set()

    async def _end_committer(self, deadline: float) -> None:
        self._keep_note()
        self.committer.put(Task(self.locks.release, lambda _: None))
        self.committer.stop()
        await self._until(lambda: self.committer.is_over, max(0.5, deadline - self.loop.time()))
        if not self.committer.is_over:
            self.committer.abandon()
            await self._until(lambda: self.committer.is_over, 5.0)
            left = self.committer.left
            plain = sum(
                len(work.batch.frames) for work in left if isinstance(work.origin, Connection) and work.origin.is_plain
            )
            others = sum(len(work.batch.frames) for work in left) - plain
            self.complain(
                f"the store still refuses what was received: {plain} events of plain workers are lost; {others} events "
                "were not acked, and will be sent again"
            )

    async def serve_forever(self) -> None:
        """Serve until ``stop`` is called. Starts it where that hasn't been done."""
        if self._stopping is None:
            await self.start()
        assert self._stopping is not None
        await self._stopping.wait()

    async def until_stopped(self) -> None:
        """Wait until ``stop`` has done its work."""
        await self._over.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def run_in_thread(self) -> ServerThread:
        """Return a context manager within which the server runs in a thread with a loop of its own."""
        from xtrack_protocol.server.embedding import ServerThread

        return ServerThread(self)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = self.loop.time() + seconds
        while not condition() and self.loop.time() < deadline:  # noqa: ASYNC110 - of many, in a thread too
            await asyncio.sleep(0.01)

    def spawn(self, coroutine: Any) -> None:
        """Do something beside the rest, for as long as the server lives."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._stopped:
            self.complain(f"{type(task.exception()).__name__}: {task.exception()}")

    # ------------------------------------------------------------------------------------------ coming in

    def joined(self, connection: Connection) -> None:
        """A connection is there."""
        self._connections.add(connection)
        self.counters.connections = len(self._connections)
        if self._stopped:
            connection.reject("busy", "the collector is shutting down", self.limits.retry_after)

    def share_tls_buffer(self, transport: asyncio.Transport) -> None:
        """Have a connection over TLS read into a buffer that all of them share, as ``buffer`` is by the others.

        asyncio gives each 256 KiB of its own, which holds something only while it is read and decrypted, in one go.
        Where asyncio keeps it elsewhere, as before Python 3.11, each connection keeps what it has.
        """
        protocol: Any = getattr(transport, "_ssl_protocol", None)
        own = getattr(protocol, "_ssl_buffer", None)
        if type(own) is not bytearray or not hasattr(protocol, "_ssl_buffer_view"):
            return
        if self._tls_buffer is None or len(self._tls_buffer) < len(own):
            self._tls_buffer = own
        protocol._ssl_buffer = self._tls_buffer  # noqa: SLF001 - it has no other name
        protocol._ssl_buffer_view = memoryview(self._tls_buffer)  # noqa: SLF001 - as above

    def introduced(self, connection: Connection) -> None:
        """It has said what it is."""
        self.reception.introduced(connection)
        if connection.is_plain:
            self.counters.plain += 1
        else:
            self.counters.sessions += 1
        if self._held_back:
            connection.hold_back(True)

    def left(self, connection: Connection) -> None:
        """It is gone."""
        self._connections.discard(connection)
        self.reception.left(connection)
        self.counters.connections = len(self._connections)
        if connection.is_known:
            if connection.is_plain:
                self.counters.plain -= 1
            else:
                self.counters.sessions -= 1
        self.router.gone(connection)
        self.subscriptions.left(connection)
        self.streams.left(connection)
        self.counters.streams = self.streams.open_count

    # ------------------------------------------------------------------------------------------ events

    def hand_in(self, work: Work) -> None:
        """Give events to the committer, and read less when too many wait. spec: CTL-17.2"""
        self.counters.bytes_in_flight += work.size
        self.counters.events_in_flight += len(work.batch.frames)
        self.committer.put(work)
        if not self._held_back and not self._has_room(1.0):
            self._hold_back(True)

    def _has_room(self, part: float) -> bool:
        """Whether what waits is less than ``part`` of what may."""
        counters, limits = self.counters, self.limits
        return (
            counters.bytes_in_flight < part * limits.bytes_in_flight
            and counters.events_in_flight < part * limits.events_in_flight
        )

    def _hold_back(self, on: bool) -> None:
        self._held_back = on
        for connection in list(self._connections):
            connection.hold_back(on)

    def _report(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(call)

    def _committed(self, works: Sequence[Work]) -> None:
        now = self.loop.time()
        counters = self.counters
        counters.commits += 1
        touched: dict[Connection, None] = {}
        for work in works:
            connection = work.origin
            assert isinstance(connection, Connection)
            outcome = work.outcome
            counters.bytes_in_flight -= work.size
            counters.events_in_flight -= len(work.batch.frames)
            counters.events += outcome.stored
            counters.duplicates += outcome.duplicates
            for _, code in (*work.rejected, *outcome.refused):
                counters.refused_events[code] += 1
            if work.refusal is not None:
                counters.refused_events[work.refusal.code] += len(work.batch.frames)
                if connection.is_plain:
                    self.refused(work.refusal.code, connection.peer, work.refusal.message)
            if work.failure and connection.is_plain:
                self.complain(f"{len(work.batch.frames)} events of a plain worker are lost: {work.failure}")
            if outcome.ended:
                self.streams.note_end(connection, work.batch.stream)
            connection.committed(work, now)
            touched[connection] = None
        for connection in touched:
            connection.flush()
        if self._held_back and self._has_room(0.5):
            self._hold_back(False)

    def _trouble(self, reason: str) -> None:
        """The store refuses everything, or, with an empty ``reason``, no longer does. spec: CTL-17.6"""
        if reason:
            self.counters.store_errors += 1
            logger.error("nothing can be stored, peers are told to wait: %s", printable(reason))
            self.streams.hold_all(reason)
        else:
            logger.warning("the store takes events again")
            self.streams.go_on()

    def unfinished_changed(self, connection: Connection, change: int) -> None:
        """Frames that were begun hold more, or less; the one begun first is given up where it is too much.

        spec: CTL-17.3
        """
        self._unfinished += change
        if change <= 0 or self._unfinished <= self.limits.bytes_unfinished:
            return
        oldest = min(
            (one for one in self._connections if one.unfinished >= self.limits.bytes_unfinished // 1024),
            key=lambda one: one.unfinished_since,
            default=connection,
        )
        self.refused("busy", oldest.peer, "too many frames are under way; this one was begun first")
        oldest.reject("busy", "too many frames are under way at once", self.limits.retry_after)
        oldest.forget_unfinished()

    def stream_opened(self, connection: Connection, stream: StreamId) -> None:
        """A stream goes on, on this connection."""
        self.counters.streams = self.streams.open_count
        self.commands.opened(connection, stream)

    # ------------------------------------------------------------------------------------------ what is told

    def refused(self, code: str, peer: str, reason: str) -> None:
        """Count and log that a peer was refused, or given up."""
        self.counters.refused_peers[code] += 1
        self._journal.note(f"refused {code}", f"refused {peer}: {reason} ({code})", time.monotonic(), logging.WARNING)

    def refused_frame(self, peer: str, error: DecodeError) -> None:
        """Count and log that a frame was no event."""
        self.counters.refused_events["frames"] += 1
        self._journal.note("bad frame", f"a frame of {peer} is no event: {error}", time.monotonic(), logging.WARNING)

    def complain(self, text: str) -> None:
        """Log that something went wrong here; what names and numbers stand behind is a kind of line. See kind_of."""
        self._journal.note(f"error: {kind_of(text)}", text, time.monotonic(), logging.ERROR)

    def inform(self, text: str) -> None:
        """Log what happened."""
        self._journal.note(kind_of(text), text, time.monotonic())

    def left_unsaid(self, peer: str) -> None:
        """Log that a peer has gone behind the handshake: a client that doesn't trust our certificate does that."""
        self.counters.refused_peers["tls"] += 1
        ours = "" if self.fingerprint is None else f": ours is {self.fingerprint}"
        text = f"{peer} closed before it said hello; if its worker pins a fingerprint, it may be another one{ours}"
        self._journal.note("refused tls, without hello", text, time.monotonic(), logging.WARNING)

    def _complain_from_thread(self, text: str) -> None:
        self._report(lambda: self.complain(text))

    def _check_keys(self) -> None:
        """End the sessions whose keys were removed. spec: SEC-2.7"""
        access = self.access
        if access is None or not access.needs_key:
            return
        if access.problem is not None:
            self.complain(f"new peers are turned away: {access.problem}")
        for connection in list(self._connections):
            if connection.is_known and not access.is_still_valid(connection.principal):
                self.refused("unauthorized", connection.peer, "its key was removed or replaced")
                connection.reject("unauthorized", "the key of this session is not valid any more")

    def _expect(self, streams: list[StreamId] | Exception) -> None:
        """Wait for the workers that the server before this one had a connection to. spec: CTL-17.10"""
        if not isinstance(streams, Exception):
            for stream in streams:
                self.streams.expect(stream)
        self._is_noting = self._note.is_kept

    def _keep_note(self) -> None:
        if not self._is_noting:
            return
        awaited = self.streams.awaited()
        if awaited != self._noted:
            self._noted = awaited
            self.committer.put(Task(lambda: self._note.write(awaited), lambda _: None))

    async def _tick(self) -> None:
        before, since = self.counters.copy(), self.loop.time()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for duty in (self.streams.report_lost, self._keep_note, self._check_keys):
                try:
                    duty()
                except Exception as error:  # noqa: BLE001 - it is due again in a second, and so is the next one
                    self.complain(f"{duty.__name__} failed: {type(error).__name__}: {error}")
            now = self.loop.time()
            if now - since >= self.limits.report_seconds:
                logger.info("%s", self.counters.line(before, now - since))
                self._journal.flush(time.monotonic())
                before, since = self.counters.copy(), now


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
