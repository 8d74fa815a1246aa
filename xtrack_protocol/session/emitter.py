"""The emitter's end of a connection, without I/O: hello, streams, window, acks, and the fallback.

A driver connects, calls ``start``, and from then on: sends what ``data_to_send`` returns, hands what comes in to
``receive``, calls ``handle_timer`` when ``next_timer`` is due, and acts on the events that these return. For every
stream that is open it offers the event with the seq ``position(stream)`` + 1, as long as ``offer`` takes them. A new
connection takes a new session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from xtrack_protocol.errors import LocalSessionError
from xtrack_protocol.ir import (
    Ack,
    Command,
    CommandResult,
    Hello,
    OpenStream,
    Payload,
    Ping,
    Reject,
    Skip,
    Subscribe,
    Unsubscribe,
    run_id_text,
)
from xtrack_protocol.ir import Welcome as WelcomePayload
from xtrack_protocol.limits import (
    FRAME_MAX_EMIT,
    FRAME_MAX_SOCKET,
    HELLO_SECONDS,
    IDLE_SECONDS,
    MIB,
    PING_SECONDS,
    SESSION_FRAME_MIN,
    DecodeLimits,
)
from xtrack_protocol.session._connection import DEFAULT_LIMITS, Connection, input_of
from xtrack_protocol.session._outgoing import Outgoing, Window
from xtrack_protocol.session._tables import (
    CLIENT,
    CLIENT_STREAM,
    FEATURE_COMMANDS,
    ConnectionState,
    Input,
    StreamInput,
    StreamState,
)
from xtrack_protocol.session.events import (
    Acked,
    CommandReceived,
    CommandResultReceived,
    Drained,
    EmitterEvent,
    EventPublished,
    FellBack,
    PeerGone,
    Rejected,
    Rewound,
    StreamHeld,
    StreamOpened,
    StreamRefused,
    SubscriptionEnded,
    SubscriptionStarted,
    Welcomed,
    WindowOpened,
)
from xtrack_protocol.session.published import published_payload
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.wire import (
    SUPPORTED_CODECS,
    SUPPORTED_VERSIONS,
    Agreement,
    Codec,
    Frame,
    frame_payload,
)
from xtrack_protocol.wire.codec import transcode
from xtrack_protocol.wire.framing import PREFIX

_S = ConnectionState
_T = StreamState
_BRACE: Final = ord("{")

FINAL_CODES = frozenset({"fenced", "forbidden"})
"""The errors of an ack after which a stream isn't sent on this connection any more. spec: CTL-3.11"""


class EmitterSession(Connection[EmitterEvent]):
    """The end of whoever makes or ships events.

    ``hello``: what is said first; a codec it doesn't list isn't used. ``require_session``: never fall back, for a key
    or TLS is configured (spec: VER-4). ``epoch_us``: the wall clock's time at ``now`` = 0, in microseconds since the
    Unix epoch, for the ``ts`` of control events. ``hello_timeout``, ``ping_after``, ``idle_after``: seconds.
    ``output_max``: bytes that may wait in ``data_to_send`` before ``offer`` says to wait.
    """

    _table = CLIENT

    def __init__(
        self,
        hello: Hello,
        *,
        require_session: bool = False,
        epoch_us: int = 0,
        limits: DecodeLimits = DEFAULT_LIMITS,
        hello_timeout: float = HELLO_SECONDS,
        ping_after: float = PING_SECONDS,
        idle_after: float = IDLE_SECONDS,
        output_max: int = 1 * MIB,
    ) -> None:
        super().__init__(
            epoch_us=epoch_us, limits=limits, ping_after=ping_after, idle_after=idle_after, output_max=output_max
        )
        self._hello = hello
        self._require_session = require_session
        self._hello_timeout = hello_timeout
        self._answer_due = math.inf
        self._streams: dict[StreamId, Outgoing] = {}
        self._max_payload = FRAME_MAX_EMIT
        self._window = Window()
        self._told_to_wait = False
        self._features: tuple[str, ...] = ()

    # ------------------------------------------------------------------------------------------ what is asked

    @property
    def max_payload(self) -> int:
        """Bytes of payload that the peer takes; a larger event is declared with ``skip``. spec: FRM-3.8, FRM-3.9"""
        return self._max_payload

    @property
    def features(self) -> tuple[str, ...]:
        """What both sides have named; nothing before the welcome, and with a plain peer. spec: VER-2.4"""
        return self._features

    @property
    def unacked_events(self) -> int:
        """Events on their way."""
        return self._window.events

    def stream_state(self, stream: StreamId) -> StreamState:
        """Return where ``stream`` stands on this connection."""
        entry = self._streams.get(stream)
        return entry.state if entry else _T.UNOPENED

    def position(self, stream: StreamId) -> int:
        """Return the last seq of an open stream that needn't be offered: the next one is to be the one behind it."""
        return self._entry("position", stream).sent

    # ------------------------------------------------------------------------------------------ what is done

    def start(self, now: float) -> bytes:
        """Say hello: return the first bytes of the connection. spec: CTL-5"""
        self._at(now)
        if self._state is not _S.IDLE:
            self._step(Input.START, "start")
        self._step(Input.START)
        self._heard_at = self._now
        self._answer_due = self._now + self._hello_timeout
        self._control(self._hello, "json")
        return self.data_to_send()

    def open_stream(
        self, stream: StreamId, now: float, *, plain_cursor: int = 0, passive: bool = False
    ) -> list[EmitterEvent]:
        """Open ``stream``, now or as soon as it is clear what the peer is. Opening it again changes nothing;
        one that was ended stays so on this connection.

        ``plain_cursor``: where a plain connection goes on, for a plain peer doesn't know what it has. spec: CTL-8
        ``passive``: it is shipped for a worker that isn't here, and takes no commands. spec: CTL-8.6
        """
        self._step(Input.OPEN_STREAM, "open_stream")
        self._at(now)
        entry = self._streams.get(stream)
        if entry is not None and entry.state is _T.ENDED:
            raise LocalSessionError("open_stream", self._state.value, f"{stream} was ended on this connection")
        if entry is None:
            entry = self._streams[stream] = Outgoing(stream, plain_cursor, passive)
            self._open(entry)
        return self._take_news()

    def end_stream(self, stream: StreamId) -> None:
        """Have nothing more to do with ``stream`` on this connection; what is on its way no longer counts."""
        entry = self._streams.get(stream)
        if entry is not None and entry.step(StreamInput.END):
            self._window.forget(entry)

    def offer(self, stream: StreamId, seq: int, payload: bytes) -> bool:
        """Send an event if its stream is open and the window has room; return whether it was taken.

        ``seq`` must be ``position(stream)`` + 1 (spec: CTL-12), ``payload`` its JSON as it was kept, at most
        ``max_payload`` bytes. What a plain peer wouldn't know is sent in its published form (spec: VER-3.1).
        """
        self._step(Input.SEND, "offer")
        entry = self._entry("offer", stream)
        if entry.state is not _T.OPEN:
            return False
        self._check_next("offer", entry, seq)
        if seq in entry.refused:
            return self.skip(stream, seq, seq, "refused before")  # spec: CTL-3.8
        if not 0 < len(payload) <= self._max_payload:
            problem = f"a payload of {len(payload)} bytes; the peer takes 1 to {self._max_payload}"
            raise LocalSessionError("offer", self._state.value, problem)
        size = len(payload)
        if not self._window.has_room(size) or (self._out_size and self._out_size + size > self._output_max):
            self._told_to_wait = True
            return False
        if self._state is _S.PLAIN:
            instead = published_payload(payload)
            if instead is not None:
                self._put(frame_payload(instead))
        else:
            self._put(frame_payload(transcode(payload, self._codec, self._max_payload)))
            self._window.add(entry, seq, (size,))
        entry.step(StreamInput.EVENT)
        entry.moved_to(seq)
        return True

    def offer_many(self, stream: StreamId, first: int, payloads: Sequence[bytes]) -> int:
        """Send events of consecutive seqs, ``first`` that of the first one, as :meth:`offer` does one at a time; return
        how many were taken, from the first on.

        It also ends before one that is larger than ``max_payload``, or was refused: what to do with it is for the
        caller to say. Raises as ``offer`` does, DecodeError too; then the ones before it were taken: see ``position``.
        """
        self._step(Input.SEND, "offer_many")
        entry = self._entry("offer_many", stream)
        if entry.state is not _T.OPEN:
            return 0
        self._check_next("offer_many", entry, first)
        sizes = [len(payload) for payload in payloads]
        total = sum(sizes)
        framed = total + len(sizes) * PREFIX.size
        if not (
            sizes
            and self._state is _S.ACTIVE
            and self._codec == "json"
            and not entry.refused
            and min(sizes) > 0
            and max(sizes) <= self._max_payload
            and self._window.has_room(total, len(sizes))
            and self._out_size + framed <= self._output_max
            and all(payload[0] == _BRACE for payload in payloads)
        ):
            return self._offer_each(stream, first, payloads)
        self._out += map(frame_payload, payloads)
        self._out_size += framed
        self._window.add(entry, first, sizes)
        entry.step(StreamInput.EVENT)
        entry.moved_to(first + len(sizes) - 1)
        return len(sizes)

    def _offer_each(self, stream: StreamId, first: int, payloads: Sequence[bytes]) -> int:
        refused = self._streams[stream].refused
        for seq, payload in enumerate(payloads, first):
            if seq in refused or len(payload) > self._max_payload or not self.offer(stream, seq, payload):
                return seq - first
        return len(payloads)

    def skip(self, stream: StreamId, first: int, last: int, reason: str = "") -> bool:
        """Declare that the seqs ``first`` to ``last`` will never come; return whether that was taken.

        ``first`` must be ``position(stream)`` + 1. A plain peer isn't told (spec: VER-3.2). spec: CTL-9, STR-7.2
        """
        self._step(Input.SEND, "skip")
        entry = self._entry("skip", stream)
        if entry.state is not _T.OPEN:
            return False
        self._check_next("skip", entry, first)
        if last < first:
            raise LocalSessionError("skip", self._state.value, f"an empty range: {first} to {last}")
        if self._state is _S.ACTIVE:
            if self._out_size > self._output_max:
                self._told_to_wait = True
                return False
            self._control(Skip(stream.run_id, stream.session_id, first, last, reason or None, stream.worker_id or None))
        entry.step(StreamInput.SKIP)
        entry.moved_to(last)
        return True

    def send_command_result(self, result: CommandResult, now: float) -> bool:
        """Send what came of a command. False with a plain peer, where it goes as an event of the stream (VER-3.1)."""
        return self._request("send_command_result", result, now)

    def send_command(self, command: Command, now: float) -> bool:
        """Send a command for the workers of its run; the answers come as CommandResultReceived, the last with ``left``
        0. False with a peer that passes none on: a plain one, or one without the feature. spec: CTL-15
        """
        if command.run_id is None:
            raise LocalSessionError("send_command", self._state.value, "a command to a collector names a run_id")
        if self._state is _S.ACTIVE and FEATURE_COMMANDS not in self._features:
            return False
        return self._request("send_command", command, now)

    def subscribe(self, run_id: str, cursor: int | None, now: float, *, until_end: bool = False) -> bool:
        """Ask for a run's events, as EventPublished. False with a plain peer. spec: CTL-11

        With the feature ``follow`` a SubscriptionStarted comes before them, and a SubscriptionEnded where there will be
        no more: with ``until_end``, when the run has ended.
        """
        return self._request("subscribe", Subscribe(run_id, cursor, until_end), now)

    def unsubscribe(self, run_id: str, now: float) -> bool:
        """Ask for no more events of a run. False with a plain peer. spec: CTL-11.3"""
        return self._request("unsubscribe", Unsubscribe(run_id), now)

    def drain(self, now: float) -> list[EmitterEvent]:
        """Offer nothing more, and close once all that was sent is acked, which Drained says."""
        self._step(Input.DRAIN, "drain")
        self._at(now)
        if self._state is _S.CLOSED:
            self._tell(Drained())
        self._close_if_drained()
        return self._take_news()

    # ------------------------------------------------------------------------------------------ frames

    def _take_frame(self, frame: Frame) -> None:
        what = input_of(frame)
        envelope = frame.envelope
        if envelope is None:
            assert frame.error is not None
            if what is Input.FATAL_FRAME:
                self._fail_framing(frame.error)
            elif self._step(what):
                self._refused(frame)
            return
        payload = envelope.payload
        if isinstance(payload, WelcomePayload):
            self._take_welcome(payload)
        elif not self._step(what):
            return
        elif isinstance(payload, Reject):
            self._take_reject(payload)
        elif isinstance(payload, Ack):
            self._take_ack(payload)
        elif isinstance(payload, Command):
            if self._state is not _S.HELLO_SENT or not self._require_session:
                self._tell(CommandReceived(payload))
        elif what is Input.EVENT:
            self._tell(EventPublished(frame))
        else:
            self._take_answer(payload)

    def _take_answer(self, payload: Payload) -> None:
        """Take what came of a request, and pings."""
        match payload:
            case CommandResult():
                self._tell(CommandResultReceived(payload))
            case Subscribe(run_id=run_id, cursor=cursor):
                self._tell(SubscriptionStarted(run_id_text(run_id), cursor or 0))
            case Unsubscribe(run_id=run_id, code=code, message=message):
                self._tell(SubscriptionEnded(run_id_text(run_id), code or "", message or ""))
            case Ping():
                self._answer_ping()

    def _take_welcome(self, welcome: WelcomePayload) -> None:
        late = self._state is _S.PLAIN
        if Input.WELCOME not in CLIENT[self._state]:
            self.frames_ignored += 1
            return
        codec: Codec | None = next((ours for ours in SUPPORTED_CODECS if ours == welcome.codec), None)
        if welcome.protocol not in self._hello.protocols or welcome.protocol not in SUPPORTED_VERSIONS:
            self._fail("protocol_error", f"welcome chose protocol {welcome.protocol}, which hello didn't name")
            return
        if codec is None or (codec != "json" and codec not in self._hello.codecs):  # spec: CTL-6, VER-2.3
            self._fail("protocol_error", f"welcome chose the codec {welcome.codec[:40]!r}, which hello didn't name")
            return
        limits = welcome.limits
        max_frame = FRAME_MAX_SOCKET if limits is None or limits.max_frame is None else limits.max_frame
        if max_frame < SESSION_FRAME_MIN:
            self._fail("protocol_error", f"welcome allows {max_frame} bytes a frame, fewer than {SESSION_FRAME_MIN}")
            return
        self._step(Input.WELCOME)
        self._answer_due = math.inf
        self._codec = codec
        self._inbox.settle(codec, self._limits)
        self._max_payload = min(FRAME_MAX_EMIT, max_frame)
        if limits is not None:
            self._window = Window(limits.window_events, limits.window_bytes)
        self._features = tuple(feature for feature in welcome.features if feature in self._hello.features)
        self._tell(
            Welcomed(
                agreement=Agreement(welcome.protocol, codec, self._features),
                durability=welcome.durability,
                max_frame=max_frame,
                window_events=self._window.max_events,
                window_bytes=self._window.max_bytes,
                late=late,
            )
        )
        for entry in self._streams.values():
            self._open(entry)

    def _take_reject(self, reject: Reject) -> None:
        if reject.code == "fenced":
            for entry in self._streams.values():
                if entry.step(StreamInput.REFUSE):
                    self._tell(StreamRefused(entry.stream, "fenced"))  # spec: CTL-13.2
        retry_after = None if reject.retry_after is None else float(reject.retry_after)
        self._tell(Rejected(reject.code, reject.message or "", retry_after))
        self._ended()

    def _take_ack(self, ack: Ack) -> None:
        entry = self._stream_of(ack)
        if entry is None:
            return
        fault = entry.fault_of(ack)
        if fault:
            self._fail("protocol_error", fault)
            return
        if ack.status == "error":
            self._take_hold(ack, entry)
        elif entry.step(StreamInput.ACCEPT):
            self._window.forget(entry)
            entry.acked = entry.sent = ack.seq  # spec: CTL-8.2
            entry.highest = max(entry.highest, ack.seq)
            entry.told_cursor = True
            self._tell(StreamOpened(entry.stream, ack.seq))
        elif entry.step(StreamInput.ACK):
            self._take_progress(ack, entry)
        else:
            self.frames_ignored += 1
            return
        if self._told_to_wait and self._window.has_room(0):
            self._told_to_wait = False
            self._tell(WindowOpened())
        self._close_if_drained()

    def _stream_of(self, ack: Ack) -> Outgoing | None:
        """Return the stream that ``ack`` is meant for. spec: CTL-3.3, CTL-3.4"""
        if ack.session_id is None:
            entries = [entry for entry in self._streams.values() if entry.state is not _T.UNOPENED]
            if len(entries) == 1:
                return entries[0]
            if entries:
                self._fail("protocol_error", f"an ack without sid, with {len(entries)} streams open")
                return None
        elif ack.run_id is not None:
            entry = self._streams.get(StreamId(run_id_text(ack.run_id), ack.worker_id or "", ack.session_id))
            if entry is not None:
                return entry
        self.frames_ignored += 1
        return None

    def _take_progress(self, ack: Ack, entry: Outgoing) -> None:
        for seq, _ in ack.rejected:
            entry.refused.add(seq)
        if ack.seq < entry.acked:  # spec: CTL-3.7
            self._rewind(entry, ack.seq)
            self._tell(Rewound(entry.stream, ack.seq))
            return
        self._window.forget(entry, ack.seq)
        entry.acked = ack.seq
        entry.sent = max(entry.sent, ack.seq)  # after a rewind, what was on its way has come all the same
        self._tell(Acked(entry.stream, ack.seq, tuple(ack.rejected)))

    def _take_hold(self, ack: Ack, entry: Outgoing) -> None:
        """Stop: for good after a final code, else until an ack says otherwise. spec: CTL-3.6, CTL-3.11"""
        reason = ack.error_message or ""
        code, _, message = reason.partition(": ")
        if code in FINAL_CODES:
            if entry.step(StreamInput.REFUSE):
                self._window.forget(entry)
                self._tell(StreamRefused(entry.stream, code, message))
        elif StreamInput.HOLD in CLIENT_STREAM[entry.state]:
            if entry.state is _T.OPEN and (ack.seq != entry.acked or ack.rejected):
                self._take_progress(ack, entry)
            entry.step(StreamInput.HOLD)
            self._rewind(entry, ack.seq)
            self._tell(StreamHeld(entry.stream, ack.seq, reason))
        else:
            self.frames_ignored += 1

    # ------------------------------------------------------------------------------------------ streams, window

    def _open(self, entry: Outgoing) -> None:
        """Open a stream as the peer understands it, or leave it noted until that is known."""
        stream = entry.stream
        if self._state is _S.ACTIVE and entry.step(StreamInput.OPEN):
            self._window.forget(entry)
            entry.acked = entry.sent = entry.highest = 0
            entry.told_cursor = False
            self._control(OpenStream(stream.run_id, stream.session_id, stream.worker_id or None, entry.passive))
        elif self._state is _S.PLAIN and entry.step(StreamInput.ADOPT):
            entry.moved_to(entry.plain_cursor)
            self._tell(StreamOpened(stream, entry.plain_cursor))

    def _rewind(self, entry: Outgoing, cursor: int) -> None:
        """Go on behind ``cursor``, whatever was sent."""
        self._window.forget(entry)
        entry.acked = entry.sent = cursor

    # ------------------------------------------------------------------------------------------ helpers

    def _entry(self, call: str, stream: StreamId) -> Outgoing:
        entry = self._streams.get(stream)
        if entry is None or entry.state is _T.ENDED:
            self._live(call)
            raise LocalSessionError(call, self._state.value, f"{stream} isn't opened on this connection")
        return entry

    def _check_next(self, call: str, entry: Outgoing, seq: int) -> None:
        """Refuse what would break the order of a stream, or leave a gap. spec: CTL-12, CTL-12.1"""
        if seq != entry.sent + 1:
            raise LocalSessionError(call, self._state.value, f"seq {seq}, when {entry.sent + 1} comes next")

    def _request(self, call: str, payload: Command | CommandResult | Subscribe | Unsubscribe, now: float) -> bool:
        self._step(Input.REQUEST, call)
        self._at(now)
        if self._state is _S.PLAIN:
            return False  # spec: VER-3.2
        self._control(payload)
        return True

    def _close_if_drained(self) -> None:
        if self._state is not _S.DRAINING:
            return
        if any(entry.state is _T.OPEN and entry.acked < entry.sent for entry in self._streams.values()):
            return
        self._step(Input.DRAINED)
        self._tell(Drained())
        self._ended()

    def _ended(self) -> None:
        self._answer_due = math.inf
        for entry in self._streams.values():
            entry.step(StreamInput.END)
            self._window.forget(entry)

    # ------------------------------------------------------------------------------------------ time

    def _next_timer(self) -> float:
        if self._state is _S.HELLO_SENT:
            return self._answer_due
        return min(self._silence_due(), self._idle_due())

    def _handle_timer(self) -> None:
        if self._state is not _S.HELLO_SENT:
            self._handle_silence()
        elif self._now >= self._answer_due:
            self._answer_due = math.inf
            if self._require_session:  # spec: VER-4
                self._step(Input.NO_SESSION)
                reason = f"no answer to hello within {self._hello_timeout:g} s, and no fallback with a key or TLS"
                self._tell(PeerGone(reason))
                self._ended()
                return
            self._step(Input.NO_ANSWER)
            self._tell(FellBack())
            for entry in self._streams.values():
                self._open(entry)
