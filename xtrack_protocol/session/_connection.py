"""What both ends of a connection have in common: its state, what waits to be sent, silence, and its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Generic, TypeVar

from xtrack_protocol.errors import DecodeError, LocalSessionError, RemoteSessionError
from xtrack_protocol.ir import ENVELOPES, Envelope, Payload, Ping, Pong
from xtrack_protocol.limits import FRAME_MAX_SOCKET, IDLE_SECONDS, OUTPUT_MAX, PING_SECONDS, DecodeLimits
from xtrack_protocol.session._inbox import Inbox
from xtrack_protocol.session._tables import LOCAL, ConnectionState, ConnectionTable, Input
from xtrack_protocol.session.events import FrameRefused, PeerFailed, PeerGone
from xtrack_protocol.wire import Codec, Frame, encode, frame_payload

EventT = TypeVar("EventT")

_S = ConnectionState

OVER = (_S.CLOSED, _S.POISONED)
_SESSION = (_S.ACTIVE, _S.DRAINING)

CONTROL_INPUTS: Final[dict[str, Input]] = {
    "hello": Input.HELLO,
    "welcome": Input.WELCOME,
    "reject": Input.REJECT,
    "open": Input.OPEN,
    "skip": Input.SKIP,
    "ack": Input.ACK,
    "command": Input.COMMAND,
    "command_result": Input.COMMAND_RESULT,
    "ping": Input.PING,
    "pong": Input.PONG,
    "subscribe": Input.SUBSCRIBE,
    "unsubscribe": Input.UNSUBSCRIBE,
}
"""The input that each control event is. spec: CTL-1"""
_INPUT_OF: Final[dict[type, Input]] = {
    envelope: CONTROL_INPUTS.get(event_type, Input.EVENT) for event_type, envelope in ENVELOPES.items()
}


def input_of(frame: Frame) -> Input:
    """Return what ``frame`` is to a connection."""
    envelope = frame.envelope
    if envelope is None:
        return Input.FATAL_FRAME if frame.error and frame.error.fatal else Input.BAD_FRAME
    what = _INPUT_OF.get(type(envelope), Input.EVENT)
    if what is Input.EVENT and envelope.meta.seq < 1:
        return Input.UNKNOWN  # a control event of a later version. spec: ENV-5.5
    return what


class Connection(Generic[EventT]):
    """One end of one connection. A new connection takes a new object."""

    _table: ClassVar[ConnectionTable]

    def __init__(
        self,
        *,
        epoch_us: int,
        limits: DecodeLimits,
        ping_after: float = PING_SECONDS,
        idle_after: float = IDLE_SECONDS,
        output_max: int = OUTPUT_MAX,
    ) -> None:
        self._state = _S.IDLE
        self._error: RemoteSessionError | None = None
        self._epoch_us = epoch_us
        self._now = 0.0
        self._limits = limits
        self._inbox = Inbox(limits)
        self._codec: Codec = "json"
        self._out: list[bytes] = []
        self._out_size = 0
        self._output_max = output_max
        self._ping_after = ping_after
        self._idle_after = idle_after
        self._heard_at = 0.0
        self._pinged_at = -math.inf
        self._pong_waits = False
        self._news: list[EventT] = []
        self.frames_refused = 0
        """Frames with errors. spec: ERR-4.3"""
        self.frames_ignored = 0
        """Frames that made no sense where they stood. spec: CTL-1.4"""

    # ------------------------------------------------------------------------------------------ what is asked

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._state

    @property
    def error(self) -> RemoteSessionError | None:
        """What poisoned the session."""
        return self._error

    @property
    def is_over(self) -> bool:
        """Whether the connection is to be closed, once what ``data_to_send`` returns has been sent."""
        return self._state in OVER

    @property
    def input_size(self) -> int:
        """Bytes of a frame that was begun and isn't complete."""
        return self._inbox.buffered

    @property
    def output_size(self) -> int:
        """Bytes that ``data_to_send`` would return."""
        return self._out_size

    def data_to_send(self) -> bytes:
        """Return the bytes to send next, once; also after the end, whose reason may be among them.

        A driver whose peer doesn't read leaves them here: what they are bounded by is kept here too.
        """
        data = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        self._pong_waits = False
        return data

    def forget_input(self) -> None:
        """Let go of the frame that was under way, on a connection that is over and may stay a while to be read."""
        if self._state in OVER:
            self._inbox = Inbox(self._limits)

    # ------------------------------------------------------------------------------------------ what happens

    def receive(self, data: bytes, now: float) -> list[EventT]:
        """Take bytes of the peer; return what they mean. The events before a fault stand; the fault is the last one.

        Raises the error of a poisoned session; returns nothing once the connection is closed.
        """
        if self._state in OVER and self._news:
            return self._take_news()  # of calls that ended it
        self._live("receive")
        if self._state is _S.CLOSED:
            return []
        self._at(now)
        if data:
            self._heard_at = self._now
            self._pinged_at = -math.inf
            for frames in self._inbox.feed(data):
                if self._state in OVER:
                    break
                self._take_frames(frames)
        return self._take_news()

    def receive_eof(self, now: float) -> list[EventT]:
        """Say that the peer has closed, or that the connection broke. A frame that was cut off is reported."""
        if self._state in OVER:
            return self._take_news()
        self._at(now)
        for frame in self._inbox.finish():
            self._refused(frame)
        self._step(Input.GONE)
        self._ended()
        self._tell(PeerGone("the other side has closed the connection"))
        return self._take_news()

    def next_timer(self) -> float | None:
        """Return when ``handle_timer`` is due, in seconds on the clock of ``now``; None: never, as things are.

        A driver that was stopped for a while reads what has come in before it looks at its timers.
        """
        due = self._next_timer()
        return None if due == math.inf else due

    def handle_timer(self, now: float) -> list[EventT]:
        """Do what is due at ``now``. It may be called at any time. Returns nothing once the connection is over."""
        if self._state in OVER:
            return self._take_news()
        self._at(now)
        self._handle_timer()
        return self._take_news()

    def close(self) -> None:
        """End the connection from this side, whatever state it is in. What was queued may still be sent."""
        if self._state not in OVER:
            self._step(Input.CLOSE)
            self._ended()

    # ------------------------------------------------------------------------------------------ for the roles

    def _take_frames(self, frames: Sequence[Frame]) -> None:
        """Take frames one after the other, until one of them ends the connection."""
        for frame in frames:
            if self._state in OVER:
                break
            self._take_frame(frame)

    def _take_frame(self, frame: Frame) -> None:
        raise NotImplementedError

    def _next_timer(self) -> float:
        raise NotImplementedError

    def _handle_timer(self) -> None:
        raise NotImplementedError

    def _ended(self) -> None:
        """Release what belongs to a connection that is over."""

    def _step(self, what: Input, call: str = "") -> bool:
        """Move by ``what``; return whether it is to be acted on. Raises for calls that the state doesn't allow."""
        following = self._table[self._state].get(what)
        if following is not None:
            self._state = following
            return True
        if what in LOCAL:
            self._live(call)
            raise LocalSessionError(call or what.value, self._state.value, "the connection doesn't allow it")
        self.frames_ignored += 1
        return False

    def _live(self, call: str) -> None:
        """Raise the error that poisoned the session; and for the first call being another one than ``start``."""
        if self._error is not None:
            raise self._error.with_traceback(None)  # or each call would make the traceback longer
        if self._state is _S.IDLE:
            raise LocalSessionError(call, self._state.value, "call start() first")

    def _at(self, now: float) -> None:
        self._now = max(self._now, now)

    def _tell(self, news: Any) -> None:
        """Add to what is returned next. ``news`` is one of EventT, which every role's union of events makes sure of."""
        self._news.append(news)

    def _take_news(self) -> list[EventT]:
        news, self._news = self._news, []
        return news

    def _refused(self, frame: Frame) -> None:
        """Report a frame whose error costs it alone. spec: ERR-4"""
        assert frame.error is not None
        self.frames_refused += 1
        self._tell(FrameRefused(frame.error, frame.raw))

    def _fail(self, code: str, reason: str, what: Input = Input.FAULT) -> None:
        """Poison the session: the peer broke a rule that can't be overlooked."""
        self._error = RemoteSessionError(code, reason)
        self._step(what)
        self._ended()
        self._tell(PeerFailed(self._error))

    def _fail_framing(self, error: DecodeError) -> None:
        """Poison the session after an error behind which nothing can be read. spec: FRM-5.1"""
        self.frames_refused += 1
        self._fail(error.kind, str(error), Input.FATAL_FRAME)

    # ------------------------------------------------------------------------------------------ sending

    def _put(self, frame: bytes) -> None:
        self._out.append(frame)
        self._out_size += len(frame)

    def _control(self, payload: Payload, codec: Codec | None = None) -> None:
        """Queue a control event: seq 0, no sid. spec: CTL-1"""
        when = self._epoch_us + int(self._now * 1_000_000)
        self._put(frame_payload(encode(Envelope.of(payload, seq=0, timestamp_us=when), codec or self._codec)))

    def _answer_ping(self) -> None:
        """Answer a ping; one answer that waits to be sent stands for many. spec: CTL-10"""
        if not self._pong_waits:
            self._control(Pong())
            self._pong_waits = True

    # ------------------------------------------------------------------------------------------ silence

    def _silence_due(self) -> float:
        """Return when a ping is due. spec: CTL-10.1"""
        if self._state not in _SESSION:
            return math.inf
        return max(self._heard_at, self._pinged_at) + self._ping_after

    def _idle_due(self) -> float:
        """Return when a silent peer of a session is given up. spec: CTL-10.2"""
        return self._heard_at + self._idle_after if self._state in _SESSION else math.inf

    def _handle_silence(self) -> bool:
        """Ping, or give the peer up; return whether the connection goes on."""
        if self._now >= self._idle_due():
            self._step(Input.IDLE)
            self._ended()
            self._tell(PeerGone(f"nothing has come for {self._idle_after:g} s", idle=True))
            return False
        if self._now >= self._silence_due() and self._step(Input.SILENCE):
            self._pinged_at = self._now
            self._control(Ping())
        return True


DEFAULT_LIMITS = DecodeLimits(max_frame=FRAME_MAX_SOCKET)
