"""Sessions brought into any state, and every input that can happen to them. Time is in seconds, and begins at 100."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xtrack_protocol.ir import (
    Ack,
    Auth,
    Command,
    CommandResult,
    Envelope,
    Hello,
    LogEntry,
    Metric,
    OpenStream,
    Payload,
    Ping,
    Pong,
    Reject,
    SessionLimits,
    Skip,
    Subscribe,
    UnknownEvent,
    Unsubscribe,
    Welcome,
)
from xtrack_protocol.session import (
    CollectorLimits,
    CollectorSession,
    ConnectionState,
    EmitterSession,
    EventsReceived,
    Refusal,
    StreamId,
    StreamOpenRequested,
)
from xtrack_protocol.session._tables import Input
from xtrack_protocol.wire import FrameDecoder, encode, encode_frame, frame_payload

NOW = 100.0
STREAM = StreamId("run-1", "", "a" * 32)
OTHER = StreamId("run-2", "w1", "b" * 32)
HELLO = Hello([1], ["json"], ["f1"], "tests")
S = ConnectionState


def control(payload: Payload) -> bytes:
    return encode_frame(Envelope.of(payload, seq=0, timestamp_us=1))


def event_payload(seq: int, stream: StreamId = STREAM, value: float = 0.5, **fields: Any) -> bytes:
    return encode(event(seq, Metric(stream.run_id, "loss", value, **fields), stream))


def event(seq: int, payload: Payload, stream: StreamId = STREAM) -> Envelope:
    return Envelope.of(
        payload, seq=seq, timestamp_us=seq, worker_id=stream.worker_id or None, session_id=stream.session_id or None
    )


def event_frame(seq: int, stream: StreamId = STREAM) -> bytes:
    return frame_payload(event_payload(seq, stream))


def open_frame(stream: StreamId = STREAM) -> bytes:
    return control(OpenStream(stream.run_id, stream.session_id, stream.worker_id or None))


def ack_frame(
    seq: int,
    stream: StreamId | None = STREAM,
    status: str = "ok",
    error: str | None = None,
    rejected: list[tuple[int, str]] | None = None,
) -> bytes:
    named = {} if stream is None else {"run_id": stream.run_id, "session_id": stream.session_id}
    if stream is not None and stream.worker_id:
        named["worker_id"] = stream.worker_id
    return control(Ack(seq, status, error, rejected=rejected or [], **named))  # type: ignore[arg-type]


def welcome_frame(
    events: int | None = None, size: int | None = None, max_frame: int | None = None, **changes: Any
) -> bytes:
    fields: dict[str, Any] = {"protocol": 1, "codec": "json", "durability": "power"}
    limits = SessionLimits(max_frame, events, size)
    return control(Welcome(**{**fields, "limits": limits, **changes}))


def said(data: bytes) -> list[Any]:
    """Return the payloads of what was sent; UnknownEvent and stream events are returned as they are."""
    decoder = FrameDecoder()
    frames = decoder.feed(data)
    assert decoder.finish() == []
    assert all(frame.error is None for frame in frames)
    return [frame.envelope.payload for frame in frames if frame.envelope]


# ---------------------------------------------------------------------------------------------- emitters


def emitter_in(state: ConnectionState, **options: Any) -> EmitterSession:
    """Return an emitter in ``state``; where that can be, STREAM is open with cursor 0. Nothing waits to be sent."""
    session = EmitterSession(HELLO, **options)
    if state is S.IDLE:
        return session
    session.start(NOW)
    if state is S.HELLO_SENT:
        session.open_stream(STREAM, NOW)
        return session
    if state is S.PLAIN:
        session.open_stream(STREAM, NOW)
        session.handle_timer(NOW + 2)
    else:
        session.receive(welcome_frame(), NOW)
        session.open_stream(STREAM, NOW)
        session.receive(ack_frame(0), NOW)
    if state is S.DRAINING:
        assert session.offer(STREAM, 1, event_payload(1))
        session.drain(NOW)
    elif state is S.CLOSED:
        session.close()
    elif state is S.POISONED:
        session.receive(b"HTTP/1.1 400", NOW)
    session.data_to_send()
    assert session.state is state
    return session


def _start(session: Any) -> None:
    session.start(NOW)


def _drain(session: EmitterSession) -> None:
    if session.state is S.ACTIVE:
        session.offer(STREAM, 1, event_payload(1))  # or there would be nothing to wait for
    session.drain(NOW)


EMITTER_CALLS: dict[Input, Callable[[EmitterSession], Any]] = {
    Input.START: _start,
    Input.OPEN_STREAM: lambda session: session.open_stream(OTHER, NOW),
    Input.SEND: lambda session: session.offer(STREAM, 1, event_payload(1)),
    Input.REQUEST: lambda session: session.subscribe("run-1", 0, NOW),
    Input.DRAIN: _drain,
    Input.CLOSE: lambda session: session.close(),
}

PEER_BYTES: dict[Input, bytes] = {
    Input.HELLO: control(HELLO),
    Input.WELCOME: welcome_frame(),
    Input.REJECT: control(Reject("busy")),
    Input.OPEN: open_frame(OTHER),
    Input.EVENT: event_frame(1),
    Input.SKIP: control(Skip(STREAM.run_id, STREAM.session_id, 1, 2)),
    Input.ACK: ack_frame(0),
    Input.COMMAND: control(Command("c1", "stop")),
    Input.COMMAND_RESULT: control(CommandResult("run-1", "c1", "ok")),
    Input.PING: control(Ping()),
    Input.PONG: control(Pong()),
    Input.SUBSCRIBE: control(Subscribe("run-1")),
    Input.UNSUBSCRIBE: control(Unsubscribe("run-1")),
    Input.UNKNOWN: control(UnknownEvent("later_control", {})),
    Input.BAD_FRAME: frame_payload(b'{"v":1,'),
    Input.FATAL_FRAME: b"\x00\x00\x00\x00",
}


# ---------------------------------------------------------------------------------------------- collectors


def anybody(auth: Auth | None) -> object:
    return "anybody" if auth is None else auth.key


def nobody(auth: Auth | None) -> object:
    return Refusal("unauthorized", "a key is needed", 7.0)


def collector_in(state: ConnectionState, **options: Any) -> CollectorSession:
    """Return a collector in ``state``; where that can be, STREAM is open with cursor 0. Nothing waits to be sent."""
    options = {"authenticate": anybody, "durability": "power", "limits": CollectorLimits(), **options}
    session = CollectorSession(**options)
    if state is S.IDLE:
        return session
    session.start(NOW)
    if state is S.HELLO_WAIT:
        return session
    if state is S.PLAIN:
        session.receive(encode_frame(event(1, LogEntry("run-1", "info", "first"))), NOW)
    else:
        session.receive(control(HELLO), NOW)
        session.receive(open_frame(), NOW)
        session.accept_stream(STREAM, 0)
    if state is S.DRAINING:
        session.drain(NOW)
    elif state is S.CLOSED:
        session.close()
    elif state is S.POISONED:
        session.receive(b"GET / HTTP/1.1", NOW)
    session.data_to_send()
    assert session.state is state
    return session


COLLECTOR_CALLS: dict[Input, Callable[[CollectorSession], Any]] = {
    Input.START: _start,
    Input.ANSWER: lambda session: session.send_event(event_payload(1)),
    Input.REQUEST: lambda session: session.send_command(Command("c1", "stop")),
    Input.SEND_REJECT: lambda session: session.reject("busy"),
    Input.DRAIN: lambda session: session.drain(NOW),
    Input.CLOSE: lambda session: session.close(),
}


WID = StreamId("run-1", "w7", "c" * 32)


def waiting(**options: Any) -> CollectorSession:
    return collector_in(S.HELLO_WAIT, **options)


def active(**options: Any) -> CollectorSession:
    return collector_in(S.ACTIVE, **options)


def ack(seq: int, stream: StreamId = STREAM, error: str | None = None, rejected: list[Any] | None = None) -> Ack:
    status = "ok" if error is None else "error"
    wid = stream.worker_id or None
    return Ack(seq, status, error, stream.run_id, wid, stream.session_id, rejected or [])  # type: ignore[arg-type]


def received_seqs(news: list[Any]) -> list[int]:
    return [frame.envelope.meta.seq for item in news if isinstance(item, EventsReceived) for frame in item.frames]


def bad_frame(text: str) -> bytes:
    return frame_payload(text.encode())


def take(session: CollectorSession, stream: StreamId, cursor: int = 0) -> None:
    """Open another stream, and accept it."""
    assert session.receive(open_frame(stream), NOW) == [StreamOpenRequested(stream)]
    session.accept_stream(stream, cursor)
    assert said(session.data_to_send()) == [ack(cursor, stream)]
