"""Both ends of a connection, with drivers that keep the rules, and a peer that keeps none."""

from __future__ import annotations

import random
import zlib
from collections.abc import Hashable
from typing import Any

from fuzz.corpus import EVENTS, OTHER, STREAM, envelope
from xtrack_protocol.errors import RemoteSessionError
from xtrack_protocol.ir import Ack, Auth, Hello, run_id_text
from xtrack_protocol.limits import SESSION_FRAME_MIN
from xtrack_protocol.session import (
    CollectorLimits,
    CollectorSession,
    ConnectionState,
    EmitterSession,
    EventsReceived,
    FrameRefused,
    RangeSet,
    Refusal,
    SkipDeclared,
    StreamId,
    StreamOpened,
    StreamOpenRequested,
    StreamState,
)
from xtrack_protocol.testing.poison import exactly
from xtrack_protocol.wire import FrameDecoder, encode

_OFFERED = [encode(envelope(event, n)) for n, event in enumerate(EVENTS, 1)]
_OFFERED_OTHER = [encode(envelope(event, n, OTHER)) for n, event in enumerate(EVENTS, 1)]


def _collector(rng: random.Random, *, roomy: bool) -> CollectorSession:
    def authenticate(auth: Auth | None) -> object:
        if not roomy and auth is None and rng.random() < 0.3:
            return Refusal("unauthorized", "a key is needed", 1.0)
        return "somebody"

    bounds: dict[str, Any] = {"max_frame": SESSION_FRAME_MIN, "first_frame": SESSION_FRAME_MIN}
    if not roomy:
        bounds |= {"in_flight": rng.choice((1, 500, 100_000)), "streams": rng.choice((1, 2, 100)), "output": 4000}
    return CollectorSession(authenticate=authenticate, durability="power", limits=CollectorLimits(**bounds))


def _pieces(rng: random.Random, data: bytes) -> list[bytes]:
    mean, pieces, at = rng.choice((5, 50, 500, 50_000)), [], 0
    while at < len(data):
        size = max(1, len(data) // 200, int(rng.expovariate(1 / mean)))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def check_collector(data: bytes) -> Hashable:
    """Whatever a peer sends: no surprise, nothing acked that didn't come, and what is in flight is accounted for."""
    rng = random.Random(zlib.crc32(data))
    session = _collector(rng, roomy=False)
    now, out, kinds = 0.0, bytearray(), set()
    have: dict[StreamId, RangeSet] = {}
    pending: list[EventsReceived | SkipDeclared] = []
    session.start(now)
    for piece in _pieces(rng, data):
        now += rng.choice((0.0, 0.0, 0.01, 1.0, 25.0))
        news = _receive(session, piece, now) if session.wants_data or session.is_over else []
        if rng.random() < 0.3:
            news += session.handle_timer(now)
        for item in news:
            kinds.add(type(item).__name__)
            if isinstance(item, StreamOpenRequested):
                _answer_open(rng, session, item.stream, have)
            elif isinstance(item, EventsReceived | SkipDeclared):
                pending.append(item)
            elif isinstance(item, FrameRefused) and item.stream is not None and item.seq is not None:
                have.setdefault(item.stream, RangeSet()).add(item.seq)
        if rng.random() < 0.7:
            _commit(session, pending, have, now)
        if rng.random() < 0.6:
            out += session.data_to_send()
        assert session.output_size <= 4000 + 200_000, "output grows without bound"
    _commit(session, pending, have, now)
    assert session.bytes_in_flight == 0, "what was given back is still in flight"
    session.receive_eof(now)
    assert session.is_over
    out += session.data_to_send()
    _check_output(out, have)
    return frozenset(kinds), session.state, session.error.code if session.error else ""


def _receive(session: CollectorSession | EmitterSession, piece: bytes, now: float) -> list[Any]:
    poisoned = session.state is ConnectionState.POISONED
    try:
        return list(session.receive(piece, now))
    except RemoteSessionError as error:
        if not poisoned or error is not session.error:
            raise
        return []


def _answer_open(
    rng: random.Random, session: CollectorSession, stream: StreamId, have: dict[StreamId, RangeSet]
) -> None:
    what = rng.random()
    if what < 0.8:
        session.accept_stream(stream, have.setdefault(stream, RangeSet()).contiguous_to)
    elif what < 0.9:
        session.hold_stream(stream, "full")
    else:
        session.refuse_stream(stream)


def _commit(
    session: CollectorSession, pending: list[EventsReceived | SkipDeclared], have: dict[StreamId, RangeSet], now: float
) -> None:
    plain = session.state is ConnectionState.PLAIN
    for item in pending:
        seqs = have.setdefault(item.stream, RangeSet())
        if isinstance(item, SkipDeclared):
            assert 1 <= item.first <= item.last
            seqs.add_range(item.first, item.last)
        else:
            assert item.frames
            for frame in item.frames:
                assert frame.envelope is not None
                assert frame.envelope.meta.seq >= 1
                seqs.add(frame.envelope.meta.seq)
        session.release(item.size, now)
        if not plain and session.state is not ConnectionState.PLAIN:
            session.ack(item.stream, seqs.contiguous_to)
    pending.clear()


def _check_output(out: bytes | bytearray, have: dict[StreamId, RangeSet]) -> None:
    """What a session sends is legal to the last byte, and says nothing untrue."""
    for frame in FrameDecoder(codec="msgpack").feed(bytes(out)):  # which takes JSON as well
        assert frame.envelope is not None, frame.error
        ack = frame.envelope.payload
        if isinstance(ack, Ack) and ack.session_id is not None:
            stream = StreamId(run_id_text(ack.run_id or ""), ack.worker_id or "", ack.session_id)
            upto = have[stream].contiguous_to if stream in have else 0
            assert ack.seq <= upto, "more is acked than came"


def check_collector_chunks(data: bytes) -> Hashable:
    """How a peer's bytes were cut shows in nothing but the size of batches."""
    rng = random.Random(zlib.crc32(data))
    results = []
    for pieces in ([data], _pieces(rng, data)):
        session = _collector(rng, roomy=True)
        session.start(0.0)
        news: list[Any] = []
        for piece in pieces:
            news += _receive(session, piece, 0.0)
        news += session.receive_eof(0.0)
        results.append((_flat(news), session.data_to_send(), session.state, session.frames_refused))
    assert exactly(results[0]) == exactly(results[1]), "another result in another chunking"
    return tuple(sorted({type(item).__name__ for item, *_ in results[0][0]}))


def _flat(news: list[Any]) -> list[Any]:
    """Return what was told, with each event by itself."""
    flat: list[Any] = []
    for item in news:
        if isinstance(item, EventsReceived):
            flat += [(item.stream, _fact(frame)) for frame in item.frames]
        elif hasattr(item, "frame"):
            flat.append((type(item), _fact(item.frame)))
        elif hasattr(item, "error"):
            flat.append((type(item), str(item.error), getattr(item, "raw", None), getattr(item, "seq", None)))
        else:
            flat.append((item,))
    return flat


def _fact(frame: Any) -> tuple[Any, ...]:
    return frame.envelope, frame.offset, frame.length, frame.raw


# ------------------------------------------------------------------------------------------ the emitter's end


def _emitter(rng: random.Random) -> EmitterSession:
    codecs = rng.choice((["json"], ["msgpack", "json"]))
    return EmitterSession(Hello([1], list(codecs)), require_session=rng.random() < 0.3, output_max=20_000)


def check_emitter(data: bytes) -> Hashable:
    """Whatever a collector answers: no surprise, and what is offered goes on where it may."""
    rng = random.Random(zlib.crc32(data))
    session = _emitter(rng)
    now, out, kinds = 0.0, bytearray(session.start(0.0)), set()
    session.open_stream(STREAM, now)
    if rng.random() < 0.5:
        session.open_stream(OTHER, now, plain_cursor=rng.randrange(5))
    highest = {STREAM: 0, OTHER: 0}
    for piece in _pieces(rng, data):
        now += rng.choice((0.0, 0.0, 0.01, 0.7, 25.0))
        news = _receive(session, piece, now)
        if rng.random() < 0.3 and not session.is_over:
            news += session.handle_timer(now)
        for item in news:
            kinds.add(type(item).__name__)
            if isinstance(item, StreamOpened):
                assert item.cursor >= 0
        _offer(rng, session, highest)
        if rng.random() < 0.6:
            out += session.data_to_send()
        assert session.output_size < 400_000, "output grows without bound"
    out += session.data_to_send()
    session.receive_eof(now)
    assert session.is_over
    for frame in FrameDecoder(codec="msgpack").feed(bytes(out)):  # which takes JSON as well
        assert frame.error is None, frame.error
    return frozenset(kinds), session.state, session.error.code if session.error else ""


def _offer(rng: random.Random, session: EmitterSession, highest: dict[StreamId, int]) -> None:
    if session.is_over or session.state not in {ConnectionState.ACTIVE, ConnectionState.PLAIN}:
        return
    for stream, events in ((STREAM, _OFFERED), (OTHER, _OFFERED_OTHER)):
        for _ in range(rng.randrange(4)):
            if session.is_over or session.stream_state(stream) is not StreamState.OPEN:
                break
            seq = session.position(stream) + 1
            highest[stream] = max(highest[stream], seq)
            if seq > len(events):
                if seq < 2**63 - 20 and rng.random() < 0.2:
                    session.skip(stream, seq, seq + 10, "made up")
                break
            if not session.offer(stream, seq, events[seq - 1]):
                break


def check_emitter_chunks(data: bytes) -> Hashable:
    """How a collector's bytes were cut shows in nothing."""
    rng = random.Random(zlib.crc32(data))
    seed, results = rng.random(), []
    for pieces in ([data], _pieces(rng, data)):
        session = _emitter(random.Random(seed))
        session.start(0.0)
        session.open_stream(STREAM, 0.0)
        news: list[Any] = []
        for piece in pieces:
            news += _receive(session, piece, 0.0)
        news += session.receive_eof(0.0)
        results.append((_flat(news), session.data_to_send(), session.state, session.frames_ignored))
    assert exactly(results[0]) == exactly(results[1]), "another result in another chunking"
    return tuple(sorted({type(item[0]).__name__ for item in results[0][0]}))
