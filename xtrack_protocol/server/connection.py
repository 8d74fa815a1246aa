"""One connection: a session, the socket under it, and nobody who waits for it.

Bytes come into a buffer that all connections share, for each is read, decoded and done with in one go; so a connection
that does nothing holds next to nothing. What goes out stays in the session until the socket takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from xtrack_protocol.collector import StreamBatch
from xtrack_protocol.ir import Auth, Command, CommandResult, Envelope
from xtrack_protocol.server.committer import Work, skip_frame
from xtrack_protocol.server.limits import RIGHTS_SECONDS
from xtrack_protocol.server.strangers import Stranger, recognise
from xtrack_protocol.session import (
    CollectorEvent,
    CollectorSession,
    CommandRequested,
    CommandResultReceived,
    ConnectionState,
    EventsReceived,
    FrameRefused,
    HelloReceived,
    PeerFailed,
    PeerGone,
    PeerRefused,
    PlainPeer,
    Refusal,
    SkipDeclared,
    StreamId,
    StreamOpenRequested,
    StreamState,
    SubscribeRequested,
    UnsubscribeRequested,
)
from xtrack_protocol.wire import Frame

if TYPE_CHECKING:
    from xtrack_protocol.server.server import CollectorServer

_OUTPUT_HIGH: Final = 64 * 1024
"""Bytes on their way to the socket above which the rest waits in the session."""
_QUIET_SECONDS: Final = 0.1
"""Without anything new, after which a plain peer is taken to have sent nothing more."""
_COMMANDS_HIGH: Final = 1024 * 1024
"""Bytes that wait for a peer above which no command is added."""
_PLAIN_STREAMS: Final = 10_000
"""Streams that a plain connection has at a time, and"""
_PLAIN_NAMES: Final = 8 * 1024 * 1024
"""characters of their names: nobody opens them, and nothing else would bound them."""
_DISCARD_MAX: Final = 256 * 1024
"""Bytes of a peer that was refused which are read and thrown away, so that it gets to know why."""


class Connection(asyncio.BufferedProtocol):
    """A peer, from when it was accepted until its socket is closed.

    ``address``: of the peer, without its port; ``peer``: for people.
    """

    def __init__(self, server: CollectorServer, address: str, peer: str) -> None:
        self.server = server
        self.address = address
        self.peer = peer
        self.agent = ""
        self.features: tuple[str, ...] = ()
        self.principal: Any = None
        self.is_known = False
        """Whether it has said what it is."""
        self.is_plain = False
        self.streams: set[StreamId] = set()
        """Those that it has open, or as a plain peer has sent events of."""
        self.passive: set[StreamId] = set()
        """Those of workers that aren't there. spec: CTL-8.6"""
        self.unfinished_since = 0.0
        """When the frame that is under way was begun."""
        self.unfinished = 0
        """Bytes of it."""
        self.session = CollectorSession(
            authenticate=self._authenticate,
            durability=server.store.durability,
            limits=server.session_limits,
            features=server.features,
            codecs=("json",),
            epoch_us=server.epoch_us,
        )
        self.was_made = False
        self.is_tls = False
        self.asked: dict[StreamId, int] = {}
        """When it asked for a stream: by this, and not by when the store answered, a connection is newer."""
        self.brought: set[StreamId] = set()
        """Streams of which something is stored, or on its way there."""
        self._transport: asyncio.Transport | None = None
        self._loop = server.loop
        self._timer: asyncio.TimerHandle | None = None
        self._writable = True
        self._stuck: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._discarded = 0
        self._read_at = 0.0
        self._is_reading = True
        self._seen_any = False
        self._stranger: Stranger | None = None
        self._held: set[StreamId] = set()
        self._unsaid: dict[StreamId, list[tuple[int, str]]] = {}
        self._granted: dict[StreamId, float] = {}
        self._names = 0
        self._unreadable = 0
        self._forbidden: dict[StreamId, Refusal] = {}
        self._drained: list[asyncio.Future[None]] = []

    # ------------------------------------------------------------------------------------------ the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.was_made = True
        transport.set_write_buffer_limits(high=_OUTPUT_HIGH)
        if self.is_tls:
            self.server.share_tls_buffer(transport)
        self.session.start(self._loop.time())
        self.server.joined(self)
        self._set_timer()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the interface's
        return self.server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._leaving is not None or self.session.is_over:
            self._discard(nbytes)
            return
        data = bytes(self.server.buffer[:nbytes])
        self._read_at = self._loop.time()
        self.server.counters.bytes_received += nbytes
        if not self._seen_any:
            self._seen_any = True
            self._stranger = recognise(data)
        self.take(self.session.receive(data, self._loop.time()))

    def eof_received(self) -> bool:
        self._take_eof()
        return False  # close it

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        self._take_eof()
        for handle in (self._timer, self._stuck, self._leaving):
            if handle is not None:
                handle.cancel()
        self._transport = None
        self._note_unfinished()
        self._wake_writers()
        self.server.left(self)

    def _take_eof(self) -> None:
        if self.session.is_over:
            return
        news = self.session.receive_eof(self._loop.time())
        if self.is_known and not self.is_plain:  # a frame that was cut off is no damage: it comes whole the next time
            news = [item for item in news if not (isinstance(item, FrameRefused) and item.error.kind == "truncated")]
        self.take(news)

    def pause_writing(self) -> None:
        self._writable = False
        self._stuck = self._loop.call_later(self.server.limits.flush_seconds, self._give_up_writing)

    def resume_writing(self) -> None:
        self._writable = True
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        self.flush()
        self._wake_writers()

    def _give_up_writing(self) -> None:
        seconds = self.server.limits.flush_seconds
        self.server.refused("slow_reader", self.peer, f"it has read nothing of what waits for it for {seconds:g} s")
        self.abort()

    def abort(self) -> None:
        """Close the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def has_input(self) -> bool:
        """Whether something may still come that was sent already."""
        return self._loop.time() - self._read_at < _QUIET_SECONDS and not self.session.is_over

    # ------------------------------------------------------------------------------------------ the session

    def take(self, news: Sequence[CollectorEvent]) -> None:
        """Act on what the session tells, then send what it wants to send."""
        for item in news:
            self._act(item)
        self._note_unfinished()
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it, and see what is to be done next."""
        transport = self._transport
        if transport is None:
            return
        session = self.session
        if session.is_over and self._leaving is None:
            self._leave(transport)
        elif self._writable and session.output_size:
            transport.write(session.data_to_send())
        wants = session.wants_data or session.is_over
        if wants != self._is_reading and not transport.is_closing():
            self._is_reading = wants
            if wants:
                transport.resume_reading()
            else:
                transport.pause_reading()
        self._set_timer()

    def _leave(self, transport: asyncio.Transport) -> None:
        """Say the last words, and let them be read: a socket that is closed with bytes unread takes them back."""
        seconds = self.server.limits.farewell_seconds
        self._leaving = self._loop.call_later(seconds, transport.abort)
        last_words = self.session.data_to_send()
        self.session.forget_input()
        if self._stranger is not None and self._stranger.answer:
            last_words = self._stranger.answer
        if last_words:
            transport.write(last_words)
        if transport.can_write_eof() and not transport.is_closing():
            with contextlib.suppress(OSError):
                transport.write_eof()
        else:
            transport.close()

    def _discard(self, nbytes: int) -> None:
        self._discarded += nbytes
        if self._discarded > _DISCARD_MAX:
            self.abort()

    def _set_timer(self) -> None:
        due = self.session.next_timer()
        timer = self._timer
        if timer is not None and not timer.cancelled():
            if due is not None and timer.when() <= due:
                return  # it will look again
            timer.cancel()
        self._timer = None if due is None or self._transport is None else self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.take(self.session.handle_timer(self._loop.time()))

    def _note_unfinished(self) -> None:
        """Tell the server how much of an unfinished frame is kept."""
        size = 0 if self._transport is None or self.session.is_over else self.session.input_size
        if size != self.unfinished:
            if not self.unfinished or size < self.unfinished:
                self.unfinished_since = self._loop.time()
            before, self.unfinished = self.unfinished, size
            self.server.unfinished_changed(self, size - before)

    # ------------------------------------------------------------------------------------------ what it tells

    def _authenticate(self, auth: Auth | None) -> object:
        return self.server.reception.authenticate(self.address, auth)

    def _act(self, item: CollectorEvent) -> None:
        if isinstance(item, EventsReceived):
            self._hand_in(item.stream, item.frames, item.size, item.last, item.milestones)
        elif isinstance(item, SkipDeclared):
            self._hand_in(item.stream, (item.frame,), item.size, item.last)
            self.server.counters.skips += 1
        elif isinstance(item, FrameRefused):
            self._take_refused(item)
        elif isinstance(item, StreamOpenRequested):
            (self.passive.add if item.passive else self.passive.discard)(item.stream)
            self.server.streams.open(self, item.stream)
        elif isinstance(item, HelloReceived):
            self.agent, self.features = item.agent, item.agreement.features
            self._known(item.owner)
        elif isinstance(item, PlainPeer):
            self.is_plain = True
            self._known(item.owner)
        elif isinstance(item, PeerRefused):
            self.server.refused(item.code, self.peer, item.message)
        elif isinstance(item, PeerFailed):
            self._take_failure(item)
        elif isinstance(item, PeerGone):
            self._take_gone(item)
        elif isinstance(item, SubscribeRequested):
            self.server.subscriptions.begin(self, item)
        elif isinstance(item, UnsubscribeRequested):
            self.server.subscriptions.end(self, item.run_id)
        elif isinstance(item, CommandRequested):
            self.server.commands.requested(self, item.command)
        else:
            assert isinstance(item, CommandResultReceived)
            self.server.commands.answered(self, item.result)

    def _known(self, owner: object) -> None:
        self.principal = owner
        self.is_known = True
        self.server.introduced(self)

    def _hand_in(
        self,
        stream: StreamId,
        frames: Sequence[Frame],
        size: int,
        upto: int,
        milestones: Sequence[Envelope] = (),
    ) -> None:
        if self.is_plain and stream not in self.streams:
            if not self._has_room_for(stream):
                return
            self.streams.add(stream)
            self.server.streams.plain(self, stream)
            self.server.stream_opened(self, stream)
        self.brought.add(stream)
        self._unreadable = 0
        source = self if self.is_plain else None
        batch = StreamBatch(stream, frames, self.server.wall_us(), source, milestones)
        self.server.hand_in(Work(self, batch, size, upto))

    def _has_room_for(self, stream: StreamId) -> bool:
        """Whether a plain peer may have one stream more; it is given up otherwise. spec: CTL-17.12"""
        self._names += _length(stream)
        if len(self.streams) < _PLAIN_STREAMS and self._names <= _PLAIN_NAMES:
            return True
        if not self.session.is_over:
            self.server.refused("busy", self.peer, f"it has {len(self.streams)} runs and workers that have not ended")
            self.session.reject("busy")
        return False

    def ended(self, stream: StreamId) -> bool:
        """Forget a stream of a plain peer that has ended; return whether it was known."""
        known = stream in self.streams
        if known:
            self.streams.discard(stream)
            self.brought.discard(stream)
            self._names -= _length(stream)
        return known

    def _take_refused(self, item: FrameRefused) -> None:
        """Record which event a bad frame was to be, or nobody would know why it is missing. spec: CTL-3.12"""
        if self._unreadable > self.server.limits.unreadable_frames:
            return
        self.server.refused_frame(self.peer, item.error)
        if item.stream is None or item.seq is None:
            self._count_unreadable()
            return
        frame = skip_frame(item.stream, item.seq, item.seq, item.error.kind, self.server.wall_us())
        batch = StreamBatch(item.stream, (frame,), self.server.wall_us())
        self.server.hand_in(Work(self, batch, 0, item.seq, [(item.seq, item.error.kind)]))

    def _count_unreadable(self) -> None:
        """Give a peer up that sends nothing else: looking into each frame would leave the others waiting."""
        self._unreadable += 1
        if self._unreadable > self.server.limits.unreadable_frames:
            reason = f"its last {self._unreadable} frames were all unreadable"
            self.server.refused("protocol_error", self.peer, reason)
            self.session.reject("protocol_error", reason)

    def _take_failure(self, item: PeerFailed) -> None:
        stranger = self._stranger
        if stranger is not None and not self.is_known:
            self.server.refused("wrong_protocol", self.peer, stranger.explain(tls=self.server.tls is not None))
            return
        self._stranger = None
        self.server.refused(item.error.code, self.peer, item.error.reason)

    def _take_gone(self, item: PeerGone) -> None:
        if "closed the connection" not in item.reason:
            self.server.refused("timeout", self.peer, item.reason)
        elif not self.is_known and not self._seen_any and self.is_tls:  # else somebody looked whether the port is open
            self.server.left_unsaid(self.peer)

    # ------------------------------------------------------------------------------------------ what came of it

    def may_store(self, stream: StreamId, first: Envelope, *, is_start: bool) -> Refusal | None:
        """Whether events of ``stream`` may be stored; in the committer's thread. spec: CTL-7.2"""
        access = self.server.access
        if access is None:
            return None
        refusal, granted, now = self._forbidden.get(stream), self._granted.get(stream), time.monotonic()
        is_new = granted is None
        if refusal is None and (now - granted >= RIGHTS_SECONDS if granted is not None else self.is_plain):
            refusal = access.open_for_write(self.principal, stream)
        if refusal is None and (is_start or is_new):
            refusal = access.check_start(self.principal, stream, first)
        if refusal is None:
            if granted is None or now - granted >= RIGHTS_SECONDS:
                self._granted[stream] = now
        else:
            self._forbidden[stream] = refusal
        return refusal

    def committed(self, work: Work, now: float) -> None:
        """Give the bytes back and ack, or say why not."""
        session, stream = self.session, work.batch.stream
        session.release(work.size, now)
        if self.is_plain:
            return
        if work.refusal is not None:
            self._refuse(stream, work.refusal)
            return
        rejected = [*self._unsaid.pop(stream, ()), *work.rejected, *work.outcome.refused]
        if work.failure:
            self.server.streams.hold_and_retry(self, stream, work.failure)
        elif session.stream_state(stream) is StreamState.OPEN:
            session.ack(stream, work.upto, rejected)
            return
        if rejected and not session.is_over:
            self._unsaid[stream] = rejected

    def _refuse(self, stream: StreamId, refusal: Refusal) -> None:
        state = self.session.stream_state(stream)
        if not self.session.is_over and state not in {StreamState.FENCED, StreamState.ENDED, StreamState.UNOPENED}:
            self.session.refuse_stream(stream, refusal.code, refusal.message)
            self.server.refused(refusal.code, self.peer, refusal.message)

    def refuse(self, stream: StreamId, refusal: Refusal) -> None:
        """Take no events of ``stream``: the peer may not send them."""
        self._held.discard(stream)
        self._refuse(stream, refusal)
        self.flush()

    def accept(self, stream: StreamId, cursor: int) -> None:
        """Take events of ``stream`` from ``cursor`` + 1 on, if the peer still waits for that."""
        self._held.discard(stream)
        if self.session.stream_state(stream) in {StreamState.OPENING, StreamState.HELD}:
            self.session.accept_stream(stream, cursor)
            self.server.stream_opened(self, stream)
            self.flush()

    def hold(self, stream: StreamId, reason: str) -> None:
        """Take no events of ``stream`` for now."""
        state = self.session.stream_state(stream)
        if not self.session.is_over and state in {StreamState.OPENING, StreamState.OPEN}:
            self._held.add(stream)
            self.session.hold_stream(stream, reason)
            self.flush()

    @property
    def held(self) -> frozenset[StreamId]:
        """Streams of which nothing is taken for now."""
        return frozenset(self._held)

    def fence(self, stream: StreamId) -> None:
        """Take no more of ``stream``: a newer connection has it. spec: CTL-13"""
        self.streams.discard(stream)
        self.brought.discard(stream)
        self._held.discard(stream)
        how = "went on with another connection"
        self.server.router.ended(self, stream.run_id, stream.worker_id, stream.session_id, how)
        self.session.fence(stream)
        self.flush()

    def forget_unfinished(self) -> None:
        """Note that the connection is over, whatever frame was under way."""
        self._note_unfinished()

    def reject(self, code: str, message: str, retry_after: float | None = None) -> None:
        """End the connection, and say why."""
        self.session.reject(code, message, retry_after)
        self.flush()

    def hold_back(self, on: bool) -> None:
        """Read nothing for now, or again."""
        self.session.hold_back(on, self._loop.time())
        self.flush()

    def drain(self) -> None:
        """Begin nothing new. spec: CTL-17.9"""
        if self.session.state in {ConnectionState.HELLO_WAIT, ConnectionState.ACTIVE, ConnectionState.PLAIN}:
            self.session.drain(self._loop.time(), self.server.limits.retry_after)
            self.flush()

    def send_command(self, command: Command) -> bool:
        """Pass a command on; return whether there is a way to the peer, and room."""
        if self.session.output_size > _COMMANDS_HIGH:  # it doesn't read; more of them would cost it its connection
            return False
        sent = self.session.send_command(command)
        self.flush()
        return sent

    def send_command_result(self, result: CommandResult) -> bool:
        """Tell a client what came of its command; return whether the connection goes on."""
        sent = not self.session.is_over and self.session.send_command_result(result)
        self.flush()
        return sent

    async def room(self) -> bool:
        """Wait until the socket takes more; return whether the connection goes on."""
        while not self._writable and self._transport is not None:
            future = self._loop.create_future()
            self._drained.append(future)
            await future
        return self._transport is not None and not self.session.is_over

    def _wake_writers(self) -> None:
        waiting, self._drained = self._drained, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def _length(stream: StreamId) -> int:
    return len(stream.run_id) + len(stream.worker_id) + len(stream.session_id)
