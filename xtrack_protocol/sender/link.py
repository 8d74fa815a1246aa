"""One connection: moves bytes between a channel and a session, and events from lanes into it."""

from __future__ import annotations

import array
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from xtrack_protocol.ir import Command, CommandResult
from xtrack_protocol.limits import STREAMS_MAX
from xtrack_protocol.sender.lane import Lane
from xtrack_protocol.sender.wake import WRITE, Wake
from xtrack_protocol.session import (
    Acked,
    CommandReceived,
    ConnectionState,
    EmitterEvent,
    EmitterSession,
    FellBack,
    FrameRefused,
    PeerFailed,
    PeerGone,
    Rejected,
    Rewound,
    StreamHeld,
    StreamId,
    StreamOpened,
    StreamRefused,
    Welcomed,
)

if sys.platform != "win32":
    import fcntl
    import termios

if TYPE_CHECKING:
    from xtrack_protocol.net.channel import Channel

BATCH_BYTES: Final = 64 * 1024
"""Bytes that are handed to the kernel at once."""
LINGER_SECONDS: Final = (0.02, 0.5)
"""The shortest and the longest time that an event waits for others to go with it. Nothing waits behind a pause."""
LINGER_FACTOR: Final = 1000.0
"""How much longer than a batch takes to be put together the next one is waited for: a wake-up costs a training on the
same cores more than the events do."""
SETTLE_SECONDS: Final = 1.0
"""Seconds that a plain connection must have lived on before what was sent on it counts as sent."""
SLICE_EVENTS: Final = 512
"""Events that are read and framed between two looks at whether the training wants the interpreter."""
REST_FACTOR: Final = 3.0
"""How much longer than it has worked a sender leaves the interpreter to the training, unless somebody waits."""
REST_MAX: Final = 0.02
RENEW: Final = "renew"
"""The code of a connection that has opened as many streams as it may, with others left for the next one."""
READS_MAX: Final = 64
"""Chunks that are read before anything else is done again."""
FLUSH_SECONDS: Final = 1.0
"""Seconds for the last bytes of a connection that is over."""


class Owner(Protocol):
    """What a connection tells, and asks, whoever has made it."""

    def welcomed(self, news: Welcomed) -> None:
        """There is a session."""

    def fell_back(self) -> None:
        """The peer is one of plain version 1."""

    def progressed(self) -> None:
        """Some lane has got further, or is stuck."""

    def pumped(self, session: EmitterSession) -> None:
        """All lanes have had their turn."""

    def commanded(self, command: Command) -> None:
        """A command has come."""

    def complain(self, kind: str, text: str) -> None:
        """Tell people."""

    def tick(self) -> float:
        """Do what is due now and then; return the seconds until the next time."""

    def is_leaving(self) -> bool:
        """Whether the connection is to be given up."""

    def is_waited_for(self) -> bool:
        """Whether somebody waits for acks, so that nothing else counts."""

    def next_result(self) -> CommandResult | None:
        """Take the next answer to a command."""

    asleep: bool
    """Whether the link waits for something new in the spool. Whoever adds something clears it, and calls ``wake.set``.

    It is off while the link has enough to do, or can't send: then nothing is to be gained by waking it.
    """


@attrs.frozen
class Ending:
    """How a connection ended. ``code``: of a reject; empty where there was none. ``at_hello``: the peer closed instead
    of answering to hello. ``unanswered``: it said nothing at all."""

    reason: str
    code: str = ""
    retry_after: float | None = None
    at_hello: bool = False
    unanswered: bool = False


class Link:
    """Drives one connection to its end, in the calling thread. ``now`` of its session is the monotonic clock.

    ``skip_hello``: the peer is known to close at a hello; the session was made with a hello_timeout of 0, and falls
    back at once.
    """

    def __init__(
        self,
        channel: Channel,
        session: EmitterSession,
        lanes: dict[StreamId, Lane],
        owner: Owner,
        wake: Wake,
        *,
        skip_hello: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._session = session
        self._lanes = lanes
        self._owner = owner
        self._wake = wake
        self._skip_hello = skip_hello
        self._clock = clock
        self._out = memoryview(b"")
        self._queued = 0  # bytes that the session has given out
        self._heard = False
        self._ending: Ending | None = None
        self._linger_until = 0.0
        self._settling: deque[tuple[float, int]] = deque()
        self._taken = 0
        self._open: set[StreamId] = set()
        self._opened = 0

    def run(self) -> Ending:
        """Go on until the connection is over, or the owner leaves. Raises OSError where the channel breaks."""
        first = self._session.start(self._clock())
        self._send(b"" if self._skip_hello else first)
        while True:
            self._open_lanes()
            self._read()
            self._handle(self._session.handle_timer(self._clock()))
            if self._session.is_over:
                return self._finish()
            if self._owner.is_leaving():
                return self._leave()
            if self._lanes and all(lane.is_out for lane in self._lanes.values()):
                fenced = all(lane.fenced for lane in self._lanes.values())
                self._leave()
                return Ending("", "fenced" if fenced else "forbidden")
            if self._lanes and not self._open:
                self._leave()
                return Ending("", RENEW)
            was_full = len(self._out) > 0
            busy = self._pump()
            self._write()
            self._settle()
            self._wait(busy or (was_full and not self._out))  # what had no room then may have it now

    # ------------------------------------------------------------------------------------------ in

    def _read(self) -> None:
        for _ in range(READS_MAX):
            try:
                data = self._channel.read()
            except OSError as error:
                self._lost(getattr(error, "problem", "") or f"the connection broke: {error.strerror or error}")
                return
            if data is None:
                return
            if not data:
                self._lost("")
                return
            self._heard = True
            self._handle(self._session.receive(data, self._clock()))
            if self._session.is_over:
                return

    def _lost(self, reason: str) -> None:
        """The other side is gone."""
        at_hello = self._session.state is ConnectionState.HELLO_SENT and not self._heard
        has_session = self._session.state is not ConnectionState.PLAIN
        news = self._session.receive_eof(self._clock())
        if has_session:  # a frame that was cut off is no damage: what it said comes again
            news = [item for item in news if not isinstance(item, FrameRefused)]
        if reason:
            news = [PeerGone(reason) if isinstance(item, PeerGone) else item for item in news]
        self._handle(news)
        if self._ending is not None and at_hello:
            self._ending = attrs.evolve(self._ending, at_hello=True)

    def _handle(self, news: list[EmitterEvent]) -> None:  # noqa: C901, PLR0912 - a table, spelt as one match
        owner = self._owner
        for item in news:
            match item:
                case Acked(stream=stream, seq=seq, rejected=rejected):
                    lane = self._lanes.get(stream)
                    if lane is not None:
                        lane.move_to(seq)
                        for refused_seq, code in rejected:
                            lane.refuse(refused_seq, code)
                case StreamOpened(stream=stream, cursor=cursor):
                    lane = self._lanes.get(stream)
                    if lane is not None and self._session.state is not ConnectionState.PLAIN:
                        lane.open_at(cursor)
                case Rewound(stream=stream, cursor=cursor):
                    lane = self._lanes.get(stream)
                    if lane is not None:
                        lane.move_to(cursor)
                case StreamHeld(stream=stream, cursor=cursor, reason=reason):
                    lane = self._lanes.get(stream)
                    if lane is not None:
                        lane.move_to(cursor)
                        lane.held = reason or "the collector takes no more for now"
                        owner.complain("held", f"the collector takes no events for now: {lane.held}; they are kept")
                case StreamRefused(stream=stream, code=code, message=why_not):
                    lane = self._lanes.get(stream)
                    if lane is not None:
                        lane.fenced = lane.fenced or code == "fenced"
                        lane.forbidden, lane.why_not = True, why_not
                        lane.unsaved = True
                case Welcomed():
                    for lane in self._lanes.values():
                        if lane.note.durability != item.durability:
                            lane.note.durability, lane.unsaved = item.durability, True
                    self._settling.clear()
                    owner.welcomed(item)
                case FellBack():
                    owner.fell_back()
                case CommandReceived(command=command):
                    owner.commanded(command)
                case FrameRefused(error=error):
                    owner.complain("frame", f"a frame of the collector can't be read: {error}")
                case Rejected(code=code, message=message, retry_after=retry_after):
                    self._ending = Ending(message or code, code, retry_after)
                case PeerGone(reason=reason):
                    waited = self._session.state is ConnectionState.CLOSED and not self._heard
                    self._ending = self._ending or Ending(reason, unanswered=waited)
                case PeerFailed(error=error):
                    self._ending = self._ending or Ending(str(error))
                case _:
                    continue
        if news:
            owner.progressed()

    # ------------------------------------------------------------------------------------------ out

    def _open_lanes(self) -> None:
        if self._open == self._lanes.keys():
            return
        for stream in self._open - self._lanes.keys():
            self._session.end_stream(stream)
            self._open.discard(stream)
        for stream, lane in list(self._lanes.items()):
            if stream not in self._open and self._opened < STREAMS_MAX:
                self._open.add(stream)
                self._opened += 1
                lane.connected()
                self._handle(
                    self._session.open_stream(
                        stream, self._clock(), plain_cursor=lane.plain_cursor, passive=lane.passive
                    )
                )

    def _pump(self) -> bool:
        """Offer what there is; return whether there may be more at once."""
        session, owner = self._session, self._owner
        while (result := owner.next_result()) is not None:
            session.send_command_result(result, self._clock())
        if self._out or session.state not in {ConnectionState.ACTIVE, ConnectionState.PLAIN}:
            return False
        hurry = owner.is_waited_for()
        begun = self._clock()
        if not hurry and begun < self._linger_until:
            return False
        sent, worked = 0, 0.0
        more = False
        for stream, lane in list(self._lanes.items()):
            if lane.is_out or stream not in self._open:
                continue
            others_have_more = more
            while session.output_size < BATCH_BYTES:
                count = lane.pump(session, SLICE_EVENTS, self._queued)
                sent += count
                if lane.feed.problem:
                    owner.complain("spool", f"a spool can't be read, so nothing of it is sent: {lane.feed.problem}")
                if count < SLICE_EVENTS:
                    more = others_have_more
                    break
                more = True
                if not hurry:
                    worked += self._clock() - begun
                    self._rest(self._clock() - begun)
                    begun = self._clock()
            else:
                more = True
                break
        owner.pumped(session)
        if sent and not hurry:
            worked += self._clock() - begun
            shortest, longest = LINGER_SECONDS
            linger = min(max(shortest, LINGER_FACTOR * worked), longest)
            self._linger_until = 0.0 if more else self._clock() + linger
        return more

    @staticmethod
    def _rest(worked: float) -> None:
        """Leave the interpreter to the training for a moment: whoever logs must not wait for it."""
        time.sleep(min(REST_MAX, REST_FACTOR * worked))

    def _write(self) -> None:
        while True:
            if not self._out:
                if not self._session.output_size:
                    return
                self._send(self._session.data_to_send())
            count = self._channel.write(self._out)
            if not count:
                return  # no room, or the peer is gone, which reading tells
            self._out = self._out[count:]

    def _send(self, data: bytes) -> None:
        self._queued += len(data)
        self._out = memoryview(data)

    # ------------------------------------------------------------------------------------------ plain peers

    def _settle(self) -> None:
        """Count as sent what the peer's machine has taken, once the connection has outlived it by a second."""
        if self._session.state is not ConnectionState.PLAIN:
            return
        now = self._clock()
        taken = self._queued - len(self._out) - unsent_bytes(self._channel.fileno())
        if taken > self._taken:
            self._taken = taken
            self._settling.append((now + SETTLE_SECONDS, taken))
        settled = -1
        while self._settling and self._settling[0][0] <= now:
            settled = self._settling.popleft()[1]
        if settled >= 0:
            for lane in self._lanes.values():
                lane.settle(settled)
            self._owner.progressed()

    # ------------------------------------------------------------------------------------------ waiting

    def _wait(self, busy: bool) -> None:
        if self._session.is_over or (busy and not self._out):
            return
        now = self._clock()
        if self._channel.has_pending():
            return
        until = now + self._owner.tick()
        if self._open != self._lanes.keys() and self._opened < STREAMS_MAX:
            return  # it has brought new ones
        due = self._session.next_timer()
        if due is not None:
            until = min(until, due)
        if self._session.state is ConnectionState.PLAIN:
            if self._settling:
                until = min(until, self._settling[0][0])
            if self._taken < self._queued:
                until = min(until, now + 0.1)
        events = self._channel.events()
        if self._linger_until > now and not self._out:
            self._wake.wait(min(until, self._linger_until) - now, self._channel, events)
            return
        exhausted = [] if self._out else [lane for lane in self._lanes.values() if lane.is_exhausted(self._session)]
        if exhausted:
            self._owner.asleep = True
            if any(lane.has_more() for lane in exhausted):  # it came before the flag was up
                self._owner.asleep = False
                return
        self._wake.wait(until - now, self._channel, events)
        self._owner.asleep = False

    # ------------------------------------------------------------------------------------------ the end

    def _leave(self) -> Ending:
        """Close because the owner says so. A plain peer gets what is on its way; of a session nothing is lost."""
        if self._session.state is ConnectionState.PLAIN:
            self._flush()
        self._session.close()
        self._flush()
        return Ending("closed")

    def _finish(self) -> Ending:
        self._flush()
        return self._ending or Ending("the connection is over")

    def _flush(self) -> None:
        """Send what is left, if that takes no longer than a second."""
        deadline = self._clock() + FLUSH_SECONDS
        while (self._out or self._session.output_size) and self._clock() < deadline:
            if not self._out:
                self._send(self._session.data_to_send())
            count = self._channel.write(self._out)
            self._out = self._out[count:]
            if not count:
                try:
                    if self._channel.read() == b"":
                        return
                except OSError:
                    return  # nobody is there any more
                self._wake.wait(0.05, self._channel, WRITE)


def unsent_bytes(fd: int) -> int:
    """Return how many bytes of a socket the other machine hasn't taken yet; 0 where the system doesn't tell."""
    if sys.platform == "win32":
        return 0
    left = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.TIOCOUTQ, left)
    except OSError:
        return 0
    return left[0]
