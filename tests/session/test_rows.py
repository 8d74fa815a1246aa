"""Rows of events: what is taken many at a time is what would have been taken one by one."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_machines import (
    HELLO,
    NOW,
    OTHER,
    STREAM,
    WID,
    S,
    anybody,
    bad_frame,
    control,
    event,
    event_frame,
    open_frame,
)

from xtrack_protocol.ir import (
    Envelope,
    LogEntry,
    Metric,
    MetricBatch,
    Param,
    Payload,
    Ping,
    RunEnd,
    RunId,
    RunStart,
    Skip,
    UnknownEvent,
)
from xtrack_protocol.session import (
    CollectorLimits,
    CollectorSession,
    EventsReceived,
    StreamId,
    StreamState,
)
from xtrack_protocol.session._connection import Connection
from xtrack_protocol.session.rows import row_end
from xtrack_protocol.wire import Frame, FrameDecoder, encode_frame, frame_payload

DERIVED = StreamId("run-1", "", "legacy-1")
STREAMS = (STREAM, OTHER, WID, DERIVED)
NEARLY = tuple(attrs.evolve(STREAM, **{name: "another"}) for name in ("run_id", "worker_id", "session_id"))
KINDS = ("metric", "metric", "metric", "batch", "log", "param", "start", "end", "object", "unknown")


class OneByOne(CollectorSession):
    """A session that knows nothing of rows."""

    _take_frames = Connection._take_frames  # type: ignore[assignment]


def payload_of(kind: str, run_id: str) -> Payload:
    payloads: dict[str, Payload] = {
        "metric": Metric(run_id, "loss", 0.5),
        "batch": MetricBatch(run_id, {"a": 1.0}),
        "log": LogEntry(run_id, "info", "text"),
        "param": Param(run_id, "lr", 0.1),
        "start": RunStart(run_id),
        "end": RunEnd(run_id, "completed"),
        "object": Metric(RunId(run_id, "e1"), "loss", 0.5),
        "unknown": UnknownEvent("later", {"run_id": run_id}),
    }
    return payloads[kind]


def one_event(seq: int, kind: str, stream: StreamId) -> bytes:
    named = attrs.evolve(stream, session_id="" if stream is DERIVED else stream.session_id)
    return encode_frame(event(seq, payload_of(kind, stream.run_id), named))


def skip_frame(stream: StreamId, first: int, last: int) -> bytes:
    return control(Skip(stream.run_id, stream.session_id, first, last, worker_id=stream.worker_id or None))


def skip_with_a_place(seq: int, stream: StreamId) -> bytes:
    """A control event that looks like the next one of its stream."""
    sid = stream.session_id
    return bad_frame(
        f'{{"t":"skip","v":1,"m":{{"seq":{seq},"ts":1,"sid":"{sid}"}},'
        f'"p":{{"run_id":"{stream.run_id}","sid":"{sid}","first":{seq},"last":{seq}}}}}'
    )


@st.composite
def steps(draw: st.DrawFn) -> list[Any]:
    """What a peer sends, as bytes, and what the driver does in between, as calls of a session."""
    nexts = dict.fromkeys(STREAMS, 1)
    found: list[Any] = []
    for _ in range(draw(st.integers(1, 12))):
        what = draw(st.sampled_from(("row", "row", "row", "row", "event", "jump", "other", "call")))
        stream = draw(st.sampled_from(STREAMS))
        seq = nexts[stream]
        if what == "row":
            count = draw(st.integers(1, 30))
            kinds = draw(st.sampled_from(("metric", "batch", "log", "object", "any")))
            for number in range(seq, seq + count):
                kind = draw(st.sampled_from(KINDS)) if kinds == "any" else kinds
                found.append(one_event(number, kind, stream))
            if draw(st.booleans()):  # one of them is of another stream, or out of turn
                other = draw(st.sampled_from((*NEARLY, *STREAMS)))
                place = draw(st.integers(seq, seq + count - 1))
                number = place + draw(st.sampled_from((0, 0, -1, 1, 3)))
                found[place - seq - count] = one_event(max(1, number), "metric", other)
            nexts[stream] = seq + count
        elif what == "event":
            found.append(one_event(seq, draw(st.sampled_from(KINDS)), stream))
            nexts[stream] = seq + 1
        elif what == "jump":
            nexts[stream] = max(1, seq + draw(st.sampled_from((-5, -1, 1, 2, 10))))
        elif what == "other":
            last = seq + draw(st.integers(-1, 3))
            found.append(
                draw(
                    st.sampled_from(
                        (
                            control(Ping()),
                            control(
                                Skip(stream.run_id, stream.session_id, seq, last, worker_id=stream.worker_id or None)
                            ),
                            control(UnknownEvent("later_control", {})),
                            skip_with_a_place(seq, stream),
                            bad_frame("{"),
                            bad_frame(
                                f'{{"m":{{"seq":{seq},"sid":"{stream.session_id}"}},"p":{{"run_id":"{stream.run_id}"}}}}'
                            ),
                            open_frame(stream),
                        )
                    )
                )
            )
        else:
            found.append((draw(st.sampled_from(("hold", "accept", "refuse", "fence", "ack", "drain"))), stream, seq))
    if draw(st.integers(0, 9)) == 0:
        found.append(b"\x00\x00\x00\x00")
    return found


def call(session: CollectorSession, name: str, stream: StreamId, seq: int) -> None:
    state = session.stream_state(stream)
    if name == "drain":
        session.drain(NOW)
    elif name == "fence":
        session.fence(stream)
    elif state is StreamState.UNOPENED or session.is_over:
        return
    elif name == "hold":
        session.hold_stream(stream, "later")
    elif name == "accept" and state in {StreamState.OPENING, StreamState.HELD}:
        session.accept_stream(stream, seq - 1)
    elif name == "refuse":
        session.refuse_stream(stream)
    elif name == "ack":
        session.ack(stream, seq)


def begun(kind: type[CollectorSession], state: S) -> CollectorSession:
    session = kind(authenticate=anybody, durability="power", limits=CollectorLimits())
    session.start(NOW)
    if state is S.PLAIN:
        session.receive(event_frame(1), NOW)
        return session
    session.receive(control(HELLO), NOW)
    for stream in STREAMS:
        session.receive(open_frame(stream), NOW)
        session.accept_stream(stream, 0)
    return session


def told(session: CollectorSession, done: list[Any], cuts: list[int]) -> list[Any]:
    """Return all that is told and said; what comes between two calls is fed in pieces that end at ``cuts``."""
    facts: list[Any] = []
    waiting = b""

    def feed() -> None:
        nonlocal waiting
        ends = sorted({cut % (len(waiting) + 1) for cut in cuts} | {len(waiting)})
        for begin, end in zip([0, *ends], ends, strict=False):
            if not session.is_over:
                facts.extend(session.receive(waiting[begin:end], NOW))
        waiting = b""

    for step in done:
        if isinstance(step, bytes):
            waiting += step
            continue
        feed()
        call(session, *step)
    feed()
    facts += [session.state, session.bytes_in_flight, session.frames_ignored, session.frames_refused]
    facts += [session.data_to_send(), session.wants_data, [session.stream_state(stream) for stream in STREAMS]]
    facts += session.receive_eof(NOW)
    return [fact if isinstance(fact, EventsReceived) else repr(fact) for fact in facts]  # errors have no equality


@settings(max_examples=300, deadline=None)
@given(steps(), st.lists(st.integers(0, 20_000), max_size=3), st.sampled_from((S.ACTIVE, S.PLAIN)))
def test_rows_are_taken_as_their_events_would_be(done: list[Any], cuts: list[int], state: S) -> None:
    assert told(begun(CollectorSession, state), done, cuts) == told(begun(OneByOne, state), done, cuts)


@settings(max_examples=100, deadline=None)
@given(steps())
def test_what_is_told_of_a_batch_holds(done: list[Any]) -> None:
    for item in told(begun(CollectorSession, S.ACTIVE), done, []):
        if isinstance(item, EventsReceived):
            envelopes = [frame.envelope for frame in item.frames if frame.envelope]
            assert len(envelopes) == len(item.frames) > 0
            assert item.last == max(envelope.meta.seq for envelope in envelopes)
            assert item.size == sum(4 + frame.length for frame in item.frames)
            assert item.milestones == tuple(
                envelope for envelope in envelopes if isinstance(envelope.payload, RunStart | RunEnd)
            )


def goes_on(before: Frame, frame: Frame) -> bool:
    """Whether ``frame`` belongs to the row of ``before``; in other words than row_end's."""
    envelope = frame.envelope
    if envelope is None or before.envelope is None:
        return False
    plain = {"metric", "metric_batch", "log", "param"}
    return (
        {envelope.event_type, before.envelope.event_type} <= plain
        and envelope.meta.seq == before.envelope.meta.seq + 1
        and identity(envelope) == identity(before.envelope)
    )


def identity(envelope: Envelope) -> tuple[Any, ...]:
    return envelope.payload.run_id, envelope.meta.worker_id, envelope.meta.session_id  # type: ignore[union-attr]


@given(steps())
def test_where_a_row_ends(done: list[Any]) -> None:
    frames = FrameDecoder().feed(b"".join(step for step in done if isinstance(step, bytes)))
    for begin in range(len(frames)):
        end = begin + 1
        while end < len(frames) and goes_on(frames[end - 1], frames[end]):
            end += 1
        assert row_end(frames, begin) == end


@pytest.mark.parametrize("other", [*NEARLY, STREAM])
def test_a_row_is_of_one_stream_and_leaves_nothing_out(other: StreamId) -> None:
    row = [event(seq, Metric(STREAM.run_id, "loss", 0.5), STREAM) for seq in range(1, 4)]
    behind = event(5 if other is STREAM else 4, Metric(other.run_id, "loss", 0.5), other)
    frames = FrameDecoder().feed(b"".join(map(encode_frame, [*row, behind])))
    assert row_end(frames, 0) == 3


def test_a_row_is_one_batch() -> None:
    session = begun(CollectorSession, S.ACTIVE)
    session.data_to_send()
    data = b"".join(event_frame(seq) for seq in range(1, 1001))
    [batch] = session.receive(data, NOW)
    assert isinstance(batch, EventsReceived)
    assert (batch.stream, batch.last, batch.size, len(batch.frames)) == (STREAM, 1000, len(data), 1000)
    assert frame_payload(batch.frames[-1].raw) == event_frame(1000)
    assert session.bytes_in_flight == len(data)
    session.release(batch.size, NOW)
    session.ack(STREAM, batch.last)
    assert len(FrameDecoder().feed(session.data_to_send())) == 1
