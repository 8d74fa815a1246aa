"""The collector's end of a connection, without I/O: hello, keys, streams, acks, deadlines, and plain peers.

A driver accepts a connection, calls ``start``, and from then on: hands what comes in to ``receive`` as long as
``wants_data``, sends what ``data_to_send`` returns, calls ``handle_timer`` when ``next_timer`` is due, and acts on the
events that these return. It commits what EventsReceived and SkipDeclared bring, then gives their bytes back with
``release`` and acks them: never the other way round (spec: CTL-3.1).

Commits outlive connections: all calls but ``start`` and ``receive`` do nothing on one that is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, TypeAlias

from xtrack_protocol.errors import LocalSessionError
from xtrack_protocol.ir import (
    Ack,
    Auth,
    Command,
    CommandResult,
    Durability,
    Envelope,
    Hello,
    OpenStream,
    Reject,
    RunEnd,
    RunStart,
    SessionLimits,
    Skip,
    Subscribe,
    Unsubscribe,
    Welcome,
    run_id_text,
)
from xtrack_protocol.limits import FRAME_MAX_SOCKET, RUN_ID_MAX, DecodeLimits
from xtrack_protocol.session._connection import OVER, Connection, input_of
from xtrack_protocol.session._incoming import CollectorLimits, Incoming, IncomingStreams
from xtrack_protocol.session._reading import Reading
from xtrack_protocol.session._salvage import identity_of
from xtrack_protocol.session._tables import (
    FEATURE_COMMANDS,
    FEATURE_FOLLOW,
    SERVER,
    ConnectionState,
    Input,
    StreamInput,
    StreamState,
)
from xtrack_protocol.session.events import (
    CollectorEvent,
    CommandRequested,
    CommandResultReceived,
    EventsReceived,
    FrameRefused,
    HelloReceived,
    PeerGone,
    PeerRefused,
    PlainPeer,
    Refusal,
    SkipDeclared,
    StreamOpenRequested,
    SubscribeRequested,
    UnsubscribeRequested,
)
from xtrack_protocol.session.rows import row_end
from xtrack_protocol.session.streams import StreamId, StreamResolver
from xtrack_protocol.wire import (
    SUPPORTED_CODECS,
    Codec,
    Disagreement,
    Frame,
    frame_payload,
    negotiate,
)
from xtrack_protocol.wire.codec import transcode

_S = ConnectionState
_T = StreamState
_MILESTONES: Final = frozenset({RunStart, RunEnd})

Authenticate: TypeAlias = Callable[[Auth | None], object]
"""Takes the credential of a hello, or None where there is none; returns the owner, or a Refusal. It is called once a
connection, and compares keys in constant time (spec: CTL-5.3)."""


class CollectorSession(Connection[CollectorEvent]):
    """The end of whoever takes events.

    ``authenticate``: who a peer is; about plain peers, and a hello without credential, it is asked with None (spec:
    VER-4.1). ``durability``: what an ack will promise (spec: CTL-6.1). ``features``, ``codecs``: what can be chosen
    (spec: VER-2). ``epoch_us``: as for EmitterSession.
    """

    _table = SERVER

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        durability: Durability,
        limits: CollectorLimits | None = None,
        features: Sequence[str] = (),
        codecs: Sequence[Codec] = SUPPORTED_CODECS,
        epoch_us: int = 0,
    ) -> None:
        limits = limits or CollectorLimits()
        super().__init__(
            epoch_us=epoch_us,
            limits=DecodeLimits(max_frame=limits.first_frame),
            ping_after=limits.ping_seconds,
            idle_after=limits.idle_seconds,
            output_max=limits.output,
        )
        self._bounds = limits
        self._authenticate = authenticate
        self._durability: Durability = durability
        self._features = tuple(features)
        self._agreed: tuple[str, ...] = ()
        self._codecs = tuple(codecs)
        self._streams = IncomingStreams()
        self._resolver = StreamResolver()
        self._batch: list[Frame] = []
        self._batch_stream: StreamId | None = None
        self._batch_entry: Incoming | None = None
        self._batch_size = 0
        self._batch_last = 0
        self._milestones: list[Envelope] = []
        self._reading = Reading(limits.in_flight, limits.frame_seconds)

    # ------------------------------------------------------------------------------------------ what is asked

    @property
    def bytes_in_flight(self) -> int:
        """Bytes handed on as events and not yet given back."""
        return self._reading.in_flight

    @property
    def wants_data(self) -> bool:
        """Whether more is to be read: backpressure is reading less, and the deadlines wait for it."""
        return self._state not in OVER and self._reading.paused_at is None

    def stream_state(self, stream: StreamId) -> StreamState:
        """Return where ``stream`` stands on this connection."""
        entry = self._streams.get(stream)
        return entry.state if entry else _T.UNOPENED

    # ------------------------------------------------------------------------------------------ what is done

    def start(self, now: float) -> None:
        """Say that the connection was accepted: the deadline of the first frame runs from here. spec: CTL-14"""
        if self._state is not _S.IDLE:
            self._step(Input.START, "start")
        self._at(now)
        self._step(Input.START)
        self._heard_at = self._now
        self._reading.first_due = self._now + self._bounds.first_frame_seconds

    def accept_stream(self, stream: StreamId, cursor: int) -> None:
        """Answer a StreamOpenRequested, or end a hold: events are taken from ``cursor`` + 1 on. spec: CTL-8.1

        ``cursor``: all of 1 to it is committed, refused or skipped. What an older connection has sent of the stream is
        committed, or thrown away, before it is read.
        """
        entry = self._answer("accept_stream", stream)
        if entry is None:
            return
        if entry.state in {_T.FENCED, _T.ENDED}:
            return  # in the meantime
        if cursor < 0 or not entry.step(StreamInput.ACCEPT):
            problem = f"stream {entry.state.value}, cursor {cursor}"
            raise LocalSessionError("accept_stream", self._state.value, problem)
        entry.acked = entry.highest = cursor
        self._send_ack(entry)

    def ack(self, stream: StreamId, upto: int, rejected: Sequence[tuple[int, str]] = ()) -> None:
        """Say that everything to ``upto`` is committed, skipped or refused, which it must be by now. spec: CTL-3.1

        ``rejected``: the refused seqs with their codes, each in the first ack that covers it (spec: CTL-3.5). ``upto``
        may be above what came on this connection: no more is acked than came (spec: CTL-3.10). Nothing is sent where
        nothing has changed (acks are cumulative, and may be overtaken by later ones), for plain peers, and for streams
        that were fenced in the meantime.
        """
        if self._state is _S.PLAIN:
            return  # spec: VER-3.5
        entry = self._answer("ack", stream)
        if entry is None or not entry.step(StreamInput.ACK):
            return
        upto = max(entry.acked, min(upto, entry.highest))
        named = [(seq, code) for seq, code in rejected if seq <= upto]
        if upto > entry.acked or named:
            entry.acked = upto
            self._send_ack(entry, rejected=named)

    def hold_stream(self, stream: StreamId, reason: str) -> None:
        """Take no more events of ``stream`` until ``accept_stream``; those that come are ignored. spec: CTL-3.6"""
        self._stop(stream, StreamInput.HOLD, "hold_stream", reason)

    def refuse_stream(self, stream: StreamId, code: str = "forbidden", message: str = "") -> None:
        """Take no events of ``stream`` on this connection; ``message`` says why, for people. spec: CTL-3.11, CTL-7.2"""
        self._stop(stream, StreamInput.REFUSE, "refuse_stream", f"{code}: {message}" if message else code)

    def fence(self, stream: StreamId) -> None:
        """Take no more events of ``stream``: a newer connection has opened it. spec: CTL-13

        The peer is rejected where it was the connection's only stream, else told by an ack. spec: CTL-13.1
        """
        entry = self._streams.get(stream)
        if self._state in OVER or entry is None or not entry.step(StreamInput.REFUSE):
            return
        if len(self._streams) == 1:
            self.reject("fenced", "a newer connection has opened this stream")
        else:
            self._send_ack(entry, "fenced")

    def release(self, size: int, now: float) -> None:
        """Give back the ``size`` of events that are committed, or done with. Reading may go on by it."""
        if not 0 <= size <= self._reading.in_flight:
            problem = f"{size} bytes, when {self._reading.in_flight} are in flight"
            raise LocalSessionError("release", self._state.value, problem)
        self._reading.in_flight -= size
        self._at(now)
        self._pause_or_resume()

    def hold_back(self, on: bool, now: float) -> None:
        """Read nothing for now (all connections together hold too much), or again."""
        self._reading.held_back = on
        self._at(now)
        self._pause_or_resume()

    def send_command(self, command: Command) -> bool:
        """Send a command; return whether there is a way to the peer. spec: CTL-2"""
        if self._state in OVER or Input.REQUEST not in SERVER[self._state]:
            return False
        self._step(Input.REQUEST)
        self._control(command)
        return self._check_output()

    def send_command_result(self, result: CommandResult) -> bool:
        """Tell a client what came of its command; return whether the connection goes on. spec: CTL-15"""
        return self._tell_peer("send_command_result", result)

    def begin_subscription(self, run_id: str, cursor: int) -> bool:
        """Say that events of a run follow, the one numbered ``cursor`` + 1 first, where the peer has asked to be told.

        Return whether the connection goes on. spec: CTL-11.5
        """
        if FEATURE_FOLLOW not in self._agreed:
            return self._state not in OVER
        return self._tell_peer("begin_subscription", Subscribe(run_id, cursor))

    def end_subscription(self, run_id: str, code: str, message: str = "") -> bool:
        """Say that no more events of a run follow: ended, deleted, forbidden. spec: CTL-11.6

        False where the peer wouldn't know what that means, or is gone: nobody has told it then.
        """
        if FEATURE_FOLLOW not in self._agreed:
            return False
        return self._tell_peer("end_subscription", Unsubscribe(run_id, code, message or None))

    def send_event(self, payload: bytes) -> bool:
        """Send a subscriber an event, as it was kept; return False where the connection is over. spec: CTL-11

        A subscriber that doesn't keep up is given up when ``output`` bytes wait for it (spec: CTL-11.4); who would
        rather wait looks at ``output_size`` first.
        """
        if self._state in OVER:
            return False
        self._step(Input.ANSWER, "send_event")
        self._put(frame_payload(transcode(payload, self._codec, FRAME_MAX_SOCKET)))  # spec: CTL-11.2
        return self._check_output()

    def reject(self, code: str, message: str = "", retry_after: float | None = None) -> None:
        """End the connection and say why, where the peer would understand it. spec: CTL-7"""
        if self._state in OVER:
            return
        plain = self._state is _S.PLAIN
        self._step(Input.SEND_REJECT, "reject")
        if not plain:  # spec: VER-3.5
            self._say_reject(code, message, retry_after)
        self._ended()

    def drain(self, now: float, retry_after: float | None = None) -> None:
        """Begin nothing new: events and streams that come from now on are ignored, and not acked.

        The driver commits and acks what it has, then calls ``reject("busy", ...)``. A plain peer's events are taken as
        before, for it won't send them again: the driver stops reading when it sees fit.
        """
        if self._state in OVER:
            return
        self._at(now)
        self._step(Input.DRAIN, "drain")
        if self._state is _S.CLOSED:
            self._say_reject("busy", "the collector is shutting down", retry_after)
            self._ended()

    # ------------------------------------------------------------------------------------------ frames

    def receive(self, data: bytes, now: float) -> list[CollectorEvent]:
        """Take bytes of the peer; return what they mean, a fault last. See Connection.receive."""
        news = super().receive(data, now)
        if self._state not in OVER:
            self._reading.began(self._inbox.partial, self._now)
            self._check_output()
            self._pause_or_resume()
            news += self._take_news()
        return news

    def _take_news(self) -> list[CollectorEvent]:
        self._end_batch()
        return super()._take_news()

    def _take_frames(self, frames: Sequence[Frame]) -> None:
        at = 0
        while at < len(frames) and self._state not in OVER:
            frame = frames[at]
            self._take_frame(frame)
            at += 1
            if self._batch and self._batch[-1] is frame:  # it was taken: what goes on just like it is, too
                at = self._take_row(frames, at - 1)

    def _take_row(self, frames: Sequence[Frame], begin: int) -> int:
        """Take the rest of the row that the last event taken begins, as if one by one; return the index behind it.

        Nothing in it can be ignored, and no bad frame has its place in it: the events follow each other.
        """
        end = row_end(frames, begin)
        if end > begin + 1:
            first, last = frames[begin], frames[end - 1]
            assert last.envelope is not None
            self._batch.extend(islice(frames, begin + 1, end))
            self._add_to_batch(last.envelope.meta.seq, last.offset + last.length - first.offset - first.length)
            if self._batch_entry is not None:
                self._batch_entry.highest = max(self._batch_entry.highest, last.envelope.meta.seq)
        return end

    def _take_frame(self, frame: Frame) -> None:
        what = input_of(frame)
        if self._state is _S.HELLO_WAIT and not self._take_first(frame, what):
            return
        if frame.envelope is None:
            self._take_bad_frame(frame, what)
        elif not self._step(what):
            return
        elif what is Input.EVENT:
            self._take_event(frame, frame.envelope)
        else:
            self._end_batch()
            self._take_control(frame, frame.envelope)

    def _take_control(self, frame: Frame, envelope: Envelope) -> None:
        match envelope.payload:
            case OpenStream() as request:
                self._take_open(request)
            case Skip() as skip:
                self._take_skip(frame, skip)
            case Command() as command:
                if FEATURE_COMMANDS in self._agreed:
                    self._tell(CommandRequested(command))
                else:
                    self.frames_ignored += 1
            case CommandResult() as result:
                self._tell(CommandResultReceived(result))
            case Subscribe(run_id=run_id, cursor=cursor, until_end=until_end):
                self._tell(SubscribeRequested(run_id_text(run_id), cursor, until_end))
            case Unsubscribe(run_id=run_id):
                self._tell(UnsubscribeRequested(run_id_text(run_id)))
            case _ if input_of(frame) is Input.PING:
                self._answer_ping()

    def _take_first(self, frame: Frame, what: Input) -> bool:
        """Decide by the first frame what the connection is; return whether it is an event's as well. spec: VER-3.4"""
        self._reading.first_due = math.inf
        if what is Input.FATAL_FRAME:
            return True
        envelope = frame.envelope
        if envelope is None and identity_of(frame.raw).event_type == "hello":
            self._refused(frame)
            self._turn_away(Refusal("protocol_error", f"hello can't be read: {frame.error}"))
            return False
        if envelope is not None and isinstance(envelope.payload, Hello):
            self._take_hello(envelope.payload)
            return False
        owner = self._authenticate(None)
        if isinstance(owner, Refusal):  # spec: VER-4.1
            self._turn_away(owner)
            return False
        self._step(Input.NOT_HELLO)
        self._inbox.settle("json", DecodeLimits(max_frame=self._bounds.max_frame))
        self._tell(PlainPeer(owner))
        return True

    def _take_hello(self, hello: Hello) -> None:
        agreement = negotiate(hello, codecs=self._codecs, features=self._features)
        if isinstance(agreement, Disagreement):
            self._turn_away(Refusal(agreement.code, agreement.message))
            return
        owner = self._authenticate(hello.auth)
        if isinstance(owner, Refusal):
            self._turn_away(owner)
            return
        self._step(Input.HELLO)
        bounds = self._bounds
        self._inbox.settle(agreement.codec, DecodeLimits(max_frame=bounds.max_frame))
        self._control(
            Welcome(
                protocol=agreement.protocol,
                codec=agreement.codec,
                durability=self._durability,
                features=list(agreement.features),
                limits=SessionLimits(bounds.max_frame, bounds.window_events, bounds.window_bytes),
            ),
            "json",
        )
        self._codec = agreement.codec  # spec: VER-2.6
        self._agreed = agreement.features
        self._tell(HelloReceived(agreement, hello.agent or "", owner))

    def _turn_away(self, refusal: Refusal) -> None:
        self._step(Input.HELLO_REFUSED)
        self._say_reject(refusal.code, refusal.message, refusal.retry_after)
        self._tell(PeerRefused(refusal.code, refusal.message))
        self._ended()

    def _take_bad_frame(self, frame: Frame, what: Input) -> None:
        """Report a bad frame, and where it can be told which event it was to be, that too. spec: ERR-4, CTL-3.12"""
        assert frame.error is not None
        if what is Input.FATAL_FRAME:
            self._fail_framing(frame.error)
            return
        if not self._step(what):
            return
        self._end_batch()
        self.frames_refused += 1
        refused: FrameRefused | None = FrameRefused(frame.error, frame.raw)
        if self._state is _S.ACTIVE and refused is not None:
            refused = self._streams.place(refused)
        if refused is not None:
            self._tell(refused)

    def _take_event(self, frame: Frame, envelope: Envelope) -> None:
        entry = None
        if self._state is _S.PLAIN:
            stream = self._resolver.resolve(envelope)
        else:
            entry = self._streams.of_event(envelope)
            stream = None
            seq = envelope.meta.seq
            if entry is not None and entry.step(StreamInput.EVENT) and entry.goes_on(seq):
                stream = entry.stream
                for refused in self._streams.place_before(entry, seq):
                    self._end_batch()
                    self._tell(refused)
                entry.highest = max(entry.highest, seq)
        if stream is None:
            self.frames_ignored += 1  # spec: CTL-8.3
            return
        if stream != self._batch_stream:
            self._end_batch()
            self._batch_stream = stream
        self._batch_entry = entry
        self._batch.append(frame)
        if type(envelope.payload) in _MILESTONES:
            self._milestones.append(envelope)
        self._add_to_batch(envelope.meta.seq, 4 + frame.length)

    def _add_to_batch(self, seq: int, size: int) -> None:
        self._batch_last = max(self._batch_last, seq)
        self._batch_size += size
        self._reading.in_flight += size

    def _end_batch(self) -> None:
        """Hand on the events of one stream that have come one after the other."""
        if self._batch_stream is not None and self._batch:
            size, last, milestones = self._batch_size, self._batch_last, tuple(self._milestones)
            self._tell(EventsReceived(self._batch_stream, self._batch, size, last, milestones))
            self._batch = []
            self._batch_size = self._batch_last = 0
            self._milestones.clear()
        self._batch_stream = self._batch_entry = None

    def _take_open(self, request: OpenStream) -> None:
        stream = StreamId(run_id_text(request.run_id), request.worker_id or "", request.session_id)
        entry = self._streams.get(stream)
        if entry is None:
            longest = max(len(name.encode()) for name in (stream.run_id, stream.worker_id, stream.session_id))
            if longest > RUN_ID_MAX:  # spec: CTL-8.7
                why = f"forbidden: a run id, worker id or session id has at most {RUN_ID_MAX} bytes, not {longest}"
                self._send_ack(Incoming(stream), why)
                return
            if len(self._streams) >= self._bounds.streams:
                self._send_ack(Incoming(stream), f"a connection may open {self._bounds.streams} streams")
                return
            entry = self._streams.add(stream)
        if not entry.step(StreamInput.OPEN):
            self.frames_ignored += 1
            return
        self._streams.opened(entry)
        self._tell(StreamOpenRequested(stream, request.passive))

    def _take_skip(self, frame: Frame, skip: Skip) -> None:
        stream = StreamId(run_id_text(skip.run_id), skip.worker_id or "", skip.session_id)
        fits = 1 <= skip.first <= skip.last  # spec: CTL-9.1
        if fits and self._state is not _S.PLAIN:
            entry = self._streams.get(stream)
            fits = entry is not None and entry.step(StreamInput.SKIP) and entry.goes_on(skip.first)
            if fits and entry is not None:
                entry.highest = max(entry.highest, skip.last)
        if not fits:
            self.frames_ignored += 1  # spec: CTL-8.3
            return
        size = 4 + frame.length
        self._reading.in_flight += size
        self._tell(SkipDeclared(stream, skip.first, skip.last, skip.reason or "", frame, size))

    # ------------------------------------------------------------------------------------------ answers

    def _answer(self, call: str, stream: StreamId) -> Incoming | None:
        """Return the stream that a call is about; None on a connection that is over."""
        if self._state in OVER:
            return None
        self._step(Input.ANSWER, call)
        entry = self._streams.get(stream)
        if entry is None:
            raise LocalSessionError(call, self._state.value, f"{stream} wasn't opened on this connection")
        return entry

    def _tell_peer(self, call: str, payload: CommandResult | Subscribe | Unsubscribe) -> bool:
        if self._state in OVER:
            return False
        self._step(Input.ANSWER, call)
        self._control(payload)
        return self._check_output()

    def _stop(self, stream: StreamId, what: StreamInput, call: str, reason: str) -> None:
        entry = self._answer(call, stream)
        if entry is not None and entry.step(what):
            self._send_ack(entry, reason)

    def _send_ack(self, entry: Incoming, error: str | None = None, rejected: Sequence[tuple[int, str]] = ()) -> None:
        stream = entry.stream
        self._control(
            Ack(
                seq=entry.acked,
                status="ok" if error is None else "error",
                error_message=error,
                run_id=stream.run_id,
                worker_id=stream.worker_id or None,
                session_id=stream.session_id,  # spec: CTL-3.3
                rejected=list(rejected),
            )
        )

    def _say_reject(self, code: str, message: str, retry_after: float | None = None) -> None:
        self._control(Reject(code, message or None, retry_after), "json")

    def _fail(self, code: str, reason: str, what: Input = Input.FAULT) -> None:
        self._end_batch()
        plain = self._state is _S.PLAIN
        super()._fail(code, reason, what)
        if not plain:
            self._say_reject(code, reason)

    def _check_output(self) -> bool:
        """Give up a peer for which too much waits: it doesn't read. Return whether the connection goes on."""
        if self._out_size <= self._output_max or self._state in OVER:
            return self._state not in OVER
        self._out.clear()
        self._out_size = 0
        self._fail("protocol_error", f"the peer doesn't read: more than {self._output_max} bytes wait for it")
        return False

    def _ended(self) -> None:
        self._reading.end()
        self._end_batch()
        for refused in self._streams.end():
            self._tell(refused)

    # ------------------------------------------------------------------------------------------ time

    def _pause_or_resume(self) -> None:
        """Stop and start the deadlines with the reading: who isn't read can't be late. spec: CTL-10.3"""
        self._heard_at += self._reading.pause_or_resume(self._now)

    def _idle_due(self) -> float:
        return math.inf if self._reading.paused_at is not None else super()._idle_due()

    def _next_timer(self) -> float:
        return min(self._reading.late_due, self._silence_due(), self._idle_due())

    def _handle_timer(self) -> None:
        if self._now >= self._reading.late_due:
            first = self._now >= self._reading.first_due
            seconds = self._bounds.first_frame_seconds if first else self._bounds.frame_seconds
            what = "the first frame was" if first else "a frame that was begun was"
            reason = f"{what} not complete within {seconds:g} s"
            plain = self._state is _S.PLAIN
            self._step(Input.LATE)
            if not plain:
                self._say_reject("timeout", reason)
            self._ended()
            self._tell(PeerGone(reason))
        elif not self._handle_silence():
            self._say_reject("timeout", f"nothing has come for {self._idle_after:g} s")


__all__ = ["Authenticate", "CollectorLimits", "CollectorSession"]
