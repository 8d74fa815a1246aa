"""What is fuzzed: each target takes any bytes, checks what must hold, and may raise only what it lists.

A check returns what was seen in a few words; an input with which something new is seen joins the corpus. It depends
on its bytes alone, so that a file with them is a reproduction.
"""

from __future__ import annotations

import io
import json
import os
import random
import zlib
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import attrs
import msgspec

from fuzz import corpus, sessions
from xtrack_protocol.errors import ConfigurationError, DecodeError, EncodeError, NotASegment
from xtrack_protocol.ir import CONTROL_TYPES, Envelope, EventMeta, UnknownEnvelope, UnknownEvent
from xtrack_protocol.limits import DEPTH_MAX, FRAME_MAX_SOCKET, DecodeLimits
from xtrack_protocol.session import StreamResolver
from xtrack_protocol.settings import load_settings
from xtrack_protocol.storage import Incoming, MemoryStore
from xtrack_protocol.testing.poison import exactly
from xtrack_protocol.wire import (
    RECORDS_START,
    Codec,
    Damage,
    Frame,
    FrameDecoder,
    Record,
    RecordDecoder,
    SalvageDecoder,
    decode,
    decode_header,
    encode,
    encode_record,
    read_frames,
)

_SMALL = DecodeLimits(max_frame=4096)


@attrs.frozen
class Target:
    """``check`` takes bytes; ``allowed``: what it may raise, which is a verdict like any other."""

    name: str
    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], Hashable]
    allowed: tuple[type[Exception], ...] = ()


def chunkings(data: bytes) -> Iterator[list[bytes]]:
    """Yield ``data`` in one piece, in pieces at random, and if it is short byte by byte."""
    yield [data]
    rng = random.Random(zlib.crc32(data))
    mean = rng.choice((1, 3, 10, 100, 5000))
    pieces, at = [], 0
    while at < len(data):
        size = rng.randrange(0, 2 * mean + 1) if len(data) < 400 * mean else len(data) // 100
        pieces.append(data[at : at + size])
        at += size
    yield pieces
    if len(data) <= 300:
        yield [data[at : at + 1] for at in range(len(data))]


def seen(frames: list[Frame]) -> Hashable:
    """Return which events and which errors there were."""
    return tuple(
        sorted({kind_of(frame.envelope) if frame.envelope else frame.error.kind for frame in frames if frame})[:6]  # type: ignore[union-attr]
    )


def kind_of(envelope: Envelope) -> str:
    """Return the type of a known event; there is no end of unknown ones."""
    return "unknown" if isinstance(envelope.payload, UnknownEvent) else envelope.event_type


# ------------------------------------------------------------------------------------------ payloads


def as_written(envelope: Envelope) -> Envelope:
    """Return what is written of an event that was read: a control event has seq 0 and no session. spec: CTL-1"""
    if envelope.event_type not in CONTROL_TYPES or isinstance(envelope, UnknownEnvelope):
        return envelope
    meta = EventMeta(0, envelope.meta.timestamp_us, envelope.meta.worker_id)
    return msgspec.structs.replace(envelope, meta=meta)


def check_payload(data: bytes) -> Hashable:
    """A payload is decoded or refused; what was decoded is written and read again as the same."""
    envelope = decode(data)
    json.loads(data) if b"0" * 300 not in data and len(data) < 4000 else None  # what we take is JSON to others, too
    try:
        strict = decode(data, lenient=False)
    except DecodeError:
        strict = None
    assert strict is None or exactly(strict) == exactly(envelope), "strict and lenient read different things"
    for codec in ("json", "msgpack"):
        try:
            again = encode(envelope, codec)
        except EncodeError:
            assert codec == "msgpack", "what was read as JSON can't be written as JSON"
            continue
        back = decode(again, codec=codec)
        assert exactly(back) == exactly(as_written(envelope)), f"changed by a round trip in {codec}"
    return kind_of(envelope), strict is None, len(data).bit_length() // 4


def check_msgpack(data: bytes) -> Hashable:
    """As above, for the other codec."""
    envelope = decode(data, codec="msgpack")
    again = encode(envelope, "msgpack")
    assert exactly(decode(again, codec="msgpack")) == exactly(as_written(envelope)), "changed by a round trip"
    return kind_of(envelope), data[:1]


# ------------------------------------------------------------------------------------------ frames


def _decode_frames(pieces: list[bytes], codec: Codec) -> list[Frame]:
    decoder, frames = FrameDecoder(_SMALL, codec=codec), []
    for piece in pieces:
        frames += decoder.feed(piece)
        assert decoder.buffered <= _SMALL.max_frame + 4 + len(piece)
        if frames and frames[-1].error and frames[-1].error.fatal:
            for call in (lambda: decoder.feed(b"x"), decoder.finish):  # poisoned for good
                try:
                    call()
                except DecodeError:
                    continue
                raise AssertionError("a poisoned decoder goes on")
            return frames
    return frames + decoder.finish()


def _check_frames(data: bytes, codec: Codec) -> Hashable:
    first: list[Frame] | None = None
    for pieces in chunkings(data):
        frames = _decode_frames(pieces, codec)
        if first is None:
            first = frames
        assert _comparable(frames) == _comparable(first), "another result in another chunking"
    assert first is not None
    at = 0
    for frame in first:
        assert frame.offset == at, "frames don't follow each other"
        assert (frame.envelope is None) != (frame.error is None)
        if frame.error and frame.error.fatal:
            assert frame is first[-1]
            break
        assert frame.raw == data[at + 4 : at + 4 + frame.length]
        at += 4 + frame.length
    else:
        assert at == len(data)
    return seen(first)


def _comparable(frames: list[Frame]) -> list[Any]:
    """Return what tells frames apart; the same payload is the same event, which need not be compared."""
    facts = []
    for frame in frames:
        error = frame.error
        what = None if error is None else (error.kind, error.offset, error.length, error.path, error.fatal)
        facts.append((what, frame.offset, frame.length, frame.raw, frame.verified))
    return facts


# ------------------------------------------------------------------------------------------ files


def check_salvage(data: bytes) -> Hashable:
    """A damaged file's frames and errors cover it without a gap, in every chunking the same."""
    first: list[Frame] | None = None
    for pieces in chunkings(data):
        decoder, frames = SalvageDecoder(_SMALL), []
        for piece in pieces:
            frames += decoder.feed(piece)
        frames += decoder.finish()
        if first is None:
            first = frames
        assert _comparable(frames) == _comparable(first), "another result in another chunking"
    assert first is not None
    at = 0
    for frame in first:
        assert frame.offset == at, "frames don't follow each other"
        assert frame.error is None or not frame.error.fatal
        at += frame.error.length if frame.error else 4 + frame.length
    assert at == len(data), "not all of the file is accounted for"
    return seen(first), any(not frame.verified for frame in first)


def check_records(data: bytes) -> Hashable:
    """What passes for a record is one, and items cover the segment without a gap, in every chunking the same."""
    first = None
    for pieces in chunkings(data):
        decoder, items = RecordDecoder(corpus.SALT, max_payload=4096), []
        for piece in pieces:
            items += decoder.feed(piece)
        items += decoder.finish()
        if first is None:
            first = items
        assert items == first, "another result in another chunking"
    assert first is not None
    at = RECORDS_START
    for item in first:
        assert item.offset == at, "items don't follow each other"
        assert item.size > 0
        if isinstance(item, Record):
            begin = at - RECORDS_START
            written = encode_record(item.seq, item.payload, corpus.SALT)
            assert data[begin : begin + item.size] == written, "no record was written here"
        at += item.size
    assert at == RECORDS_START + len(data), "not all of the segment is accounted for"
    return tuple(sorted({(type(item).__name__, item.reason if isinstance(item, Damage) else "") for item in first}))


def check_header(data: bytes) -> Hashable:
    """A segment's header is read or refused."""
    header = decode_header(data)
    return len(header.run_id) > 1, header.number > 1


def check_file(data: bytes) -> Hashable:
    """Any file at all is read to its end."""
    return seen(list(read_frames(io.BytesIO(data))))


# ------------------------------------------------------------------------------------------ stores


def check_store(data: bytes) -> Hashable:
    """Whatever can be decoded can be stored, folded and asked for; and the order of arrival changes nothing."""
    resolver, batch = StreamResolver(), []
    for frame in FrameDecoder(DecodeLimits(max_frame=FRAME_MAX_SOCKET, max_depth=DEPTH_MAX)).feed(data):
        if frame.envelope is not None and frame.envelope.meta.seq > 0:
            stream = resolver.resolve(frame.envelope)
            if stream is not None:
                batch.append(Incoming(stream, frame.envelope, frame.raw, 1))
    answers = []
    seqs = {(item.stream, item.envelope.meta.seq) for item in batch}
    for order in (batch, batch[::-1]) if len(seqs) == len(batch) else (batch,):
        store = MemoryStore()
        for item in order:
            store.append([item])
        runs = store.list_runs()
        for run in runs:
            for key in store.metric_keys(run.run_id):
                store.get_metrics(run.run_id, key)
            store.get_params(run.run_id), store.get_logs(run.run_id), store.get_checkpoints(run.run_id)
        answers.append([exactly(run) for run in runs])
        assert store.check() == []
    assert answers[0] == answers[-1], "the order of arrival shows"
    return tuple(sorted({kind_of(item.envelope) for item in batch})), len(answers)


# ------------------------------------------------------------------------------------------ settings


def check_settings(data: bytes) -> Hashable:
    """Settings are understood, or refused with their name."""
    environment = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition("=")
        if name and name != "XTRACK_CONFIG" and "\0" not in line:
            environment[name] = _KEY if name == "XTRACK_KEY" else value
    settings = load_settings(environment, start=_NOWHERE)
    assert _KEY not in repr(settings), "a key is shown"
    if _parse_endpoint is not None:
        endpoint = _parse_endpoint(settings.transport, settings)
        assert _KEY not in f"{endpoint!r}{endpoint.url}", "a key is shown"
        return settings.transport[:4], endpoint.scheme, endpoint.tls is None
    return settings.transport[:4], settings.port == 9999, settings.tls


def _find_parse_endpoint() -> Any:
    try:
        from xtrack_protocol.net.endpoint import parse_endpoint
    except ImportError:
        return None
    return parse_endpoint


_parse_endpoint = _find_parse_endpoint()
_NOWHERE = Path(os.sep)
_KEY = "xtk_a-canary-of-a-key"

TARGETS = (
    Target("payload", corpus.payloads, check_payload, (DecodeError,)),
    Target("msgpack", lambda: corpus.payloads("msgpack"), check_msgpack, (DecodeError, EncodeError)),
    Target("frames", corpus.frames, lambda data: _check_frames(data, "json")),
    Target("frames-msgpack", lambda: corpus.frames("msgpack"), lambda data: _check_frames(data, "msgpack")),
    Target("salvage", corpus.frames, check_salvage),
    Target("records", corpus.segments, check_records),
    Target("header", corpus.headers, check_header, (NotASegment,)),
    Target("file", lambda: [*corpus.frames(), *(corpus.headers()[0] + one for one in corpus.segments())], check_file,
           (NotASegment,)),
    Target("collector", corpus.collector_conversations, sessions.check_collector),
    Target("collector-chunks", corpus.collector_conversations, sessions.check_collector_chunks),
    Target("emitter", corpus.emitter_conversations, sessions.check_emitter),
    Target("emitter-chunks", corpus.emitter_conversations, sessions.check_emitter_chunks),
    Target("store", corpus.frames, check_store),
    Target("settings", corpus.environments, check_settings, (ConfigurationError,)),
)  # fmt: skip
