"""What is decoded in one pass is decoded as it would be alone: payload by payload, frame by frame, record by record."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import envelopes, hostile_json, mutated, same

from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import Envelope, LogEntry, Metric, MetricBatch, Param, Ping, Pong, Summary
from xtrack_protocol.limits import DEPTH_MAX, DecodeLimits
from xtrack_protocol.wire import (
    Frame,
    FrameDecoder,
    RecordDecoder,
    SalvageDecoder,
    _slow,
    decode,
    encode,
    encode_frame,
    encode_record,
    frame_payload,
)
from xtrack_protocol.wire.codec import decode_each
from xtrack_protocol.wire.files import item_frame, item_frames
from xtrack_protocol.wire.framing import decode_payload

GOOD = b'{"t":"metric","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":1.5}}'
HALVES = (GOOD[:20], GOOD[20:], GOOD[:9], GOOD[9:], GOOD[:-1], b"}", b'{"t":"', b'"}', b"[" + GOOD, GOOD + b"]", b",")
CRAFTED = (
    GOOD,
    GOOD + GOOD,
    GOOD + b"," + GOOD,
    GOOD + b"\n" + GOOD,
    b" \t\r\n" + GOOD + b" \n",
    b"\xef\xbb\xbf" + GOOD,
    GOOD.replace(b'"k"', b'"\xff"'),
    GOOD.replace(b'"k"', b'"k\x00"'),
    GOOD.replace(b'"k"', b'"\\ud800"'),
    GOOD.replace(b"1.5", b"NaN"),
    GOOD.replace(b"1.5", b'"NaN"'),
    GOOD.replace(b"1.5", b"true"),
    GOOD.replace(b'"seq":1', b'"seq":0'),
    GOOD.replace(b'"seq":1', b'"seq":1.0'),
    GOOD.replace(b'"seq":1', b'"seq":-1,"seq":2'),
    GOOD.replace(b'"seq":1', b'"seq":2,"seq":-1'),
    GOOD.replace(b'"v":1', b'"v":2'),
    GOOD.replace(b"metric", b"novelty"),
    GOOD.replace(b"}}", b',"more":[[[[[[[[1]]]]]]]]}}'),
    b'{"t":"ping","v":1,"m":{"seq":0,"ts":1},"p":{}}',
    b'{"t":"skip","v":1,"m":{"seq":-3,"ts":1},"p":{"run_id":"r","sid":"s","first":1,"last":2}}',
    b'{"t":"param","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":{"$float":"NaN"}}}',
    b'{"t":"param","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":{"$float":1}}}',
    b'{"t":"param","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":12345678901234567890}}',
    b'{"t":"param","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":"\\u0024float"}}',
    b'{"t":"param","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":'
    + b"[" * 70
    + b"]" * 70
    + b',"value":null}}',
    b'{"t":"log","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","level":"info","msg":"' + b"{[" * 40 + b'"}}',
    b'{"t":"log","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","level":"info","msg":"m","fields":{"a":'
    + b"[" * 62
    + b"]" * 62
    + b"}}}",
    b"5",
    b"null",
    b"[]",
    b" ",
    b"\x00",
    b"{" * 100_000,
    msgspec.msgpack.encode(msgspec.json.decode(GOOD)),
    msgspec.msgpack.encode(msgspec.json.decode(GOOD))[:-3],
    *HALVES,
)


def payloads() -> st.SearchStrategy[bytes]:
    whole = envelopes().map(encode)
    packed = envelopes().map(lambda envelope: encode(envelope, "msgpack"))
    return (
        st.sampled_from(CRAFTED) | whole | packed | hostile_json() | whole.flatmap(mutated) | st.binary(min_size=1)
    ).filter(bool)


def fact(result: Any) -> Any:
    if isinstance(result, DecodeError):
        return (result.kind, result.reason, result.path, result.offset, result.length, result.fatal)
    return result


def alone(payload: bytes, **options: Any) -> Any:
    try:
        return decode(payload, **options)
    except DecodeError as error:
        return error


@settings(max_examples=120)
@given(
    st.lists(payloads(), max_size=12),
    st.sampled_from(("json", "msgpack")),
    st.booleans(),
    st.sampled_from((1, 2, 3, 7, 8, 20, DEPTH_MAX)),
)
@example([GOOD, *HALVES, GOOD], "json", True, DEPTH_MAX)
@example(list(CRAFTED), "json", True, DEPTH_MAX)
@example(list(CRAFTED), "json", False, DEPTH_MAX)
@example(list(CRAFTED), "msgpack", True, DEPTH_MAX)
@example(list(CRAFTED), "json", True, 5)
def test_many_payloads_are_decoded_as_each_is_alone(
    many: list[bytes], codec: Any, lenient: bool, max_depth: int
) -> None:
    options: dict[str, Any] = {"codec": codec, "lenient": lenient, "max_depth": max_depth}
    expected = [alone(payload, **options) for payload in many]
    results, well = decode_each(many, **options)
    bad = [place for place, result in enumerate(expected) if isinstance(result, DecodeError)]
    assert len(results) == len(expected)
    assert all(same(fact(found), fact(due)) for found, due in zip(results, expected, strict=True))
    assert well == (not bad)
    results, well = decode_each(many, **options, go_on=False)
    assert well == (not bad)
    assert all(same(found, due) for found, due in zip(results, expected[: bad[0] if bad else None], strict=True))


@pytest.mark.parametrize("payload", CRAFTED)
def test_one_bad_payload_among_many_costs_itself_alone(payload: bytes) -> None:
    for place in (0, 1, 500, 998, 999):
        many = [GOOD] * 999
        many.insert(place, payload)
        results, _ = decode_each(many)
        assert len(results) == 1000
        assert same(fact(results[place]), fact(alone(payload)))
        del results[place]
        assert all(same(result, decode(GOOD)) for result in results)


def frame_facts(frames: list[Frame]) -> list[Any]:
    return [(f.offset, f.length, f.raw, f.verified, repr(f.envelope), f.error and fact(f.error)) for f in frames]


@settings(max_examples=60)
@given(st.lists(payloads(), max_size=12), st.sampled_from(("json", "msgpack")), st.integers(0, 40), st.data())
@example(list(CRAFTED), "json", 40, None)
def test_frames_in_bulk_are_those_that_come_one_by_one(many: list[bytes], codec: Any, good: int, data: Any) -> None:
    many = [*[GOOD] * good, *many, *[GOOD] * good]  # enough for the way in bulk, and a chunk's end anywhere
    stream = b"".join(map(frame_payload, many))
    decoder = FrameDecoder(codec=codec, offset=7)
    expected: list[Frame] = []
    for payload in many:
        expected += decoder.feed(frame_payload(payload))
    whole = FrameDecoder(codec=codec, offset=7)
    assert frame_facts(whole.feed(stream)) == frame_facts(expected)
    assert (whole.offset, whole.buffered) == (decoder.offset, 0)
    cut = data.draw(st.integers(0, len(stream))) if data else len(stream) // 2
    halves = FrameDecoder(codec=codec, offset=7)
    assert frame_facts(halves.feed(stream[:cut]) + halves.feed(bytearray(stream[cut:]))) == frame_facts(expected)
    offsets = [frame.offset for frame in expected]
    assert offsets == [7 + sum(4 + len(payload) for payload in many[:place]) for place in range(len(many))]


@settings(max_examples=60)
@given(st.lists(payloads(), max_size=8), st.integers(0, 30), st.integers(1, 3000))
def test_salvage_in_bulk_is_salvage_byte_by_byte(many: list[bytes], good: int, size: int) -> None:
    stream = b"".join(map(frame_payload, [*[GOOD] * good, *many, *[GOOD] * good]))
    found = []
    for step in (1, size, len(stream) + 1):
        decoder = SalvageDecoder()
        frames: list[Frame] = []
        for start in range(0, len(stream), step):
            frames += decoder.feed(stream[start : start + step])
        found.append(frame_facts(frames + decoder.finish()))
    assert found[0] == found[1] == found[2]


def test_many_bad_frames_are_read_in_linear_time() -> None:
    """What is cut behind a bad frame is cut again: that mustn't be the whole chunk each time."""
    cut = 0

    class Counted(bytes):
        def __getitem__(self, key: Any) -> Any:
            nonlocal cut
            cut += isinstance(key, slice)
            return super().__getitem__(key)

    bad = GOOD.replace(b'"k"', b"5")
    stream = b"".join(map(frame_payload, [bad] * 3000))
    decoder = SalvageDecoder()
    frames = decoder._run(Counted(stream), 0, [], at_end=False)
    assert len(frames) == 2999 or len(frames) == 3000
    assert cut < 12 * 3000


@settings(max_examples=60)
@given(st.lists(payloads(), max_size=10), st.lists(st.integers(0, 5000), max_size=3))
def test_items_in_bulk_are_those_that_come_one_by_one(many: list[bytes], damaged: list[int]) -> None:
    segment = bytearray(b"".join(encode_record(seq, payload, 77) for seq, payload in enumerate(many, 1)))
    for place in damaged:
        if place < len(segment):
            segment[place] ^= 0x41
    items = (decoder := RecordDecoder(77)).feed(bytes(segment)) + decoder.finish()
    slowly = RecordDecoder(77)
    one_by_one = [item for byte in segment for item in slowly.feed(bytes([byte]))] + slowly.finish()
    assert items == one_by_one
    for lenient in (True, False):
        limits = DecodeLimits()
        assert frame_facts(item_frames(items, limits, lenient=lenient)) == frame_facts(
            [item_frame(item, limits, lenient=lenient) for item in items]
        )


@settings(max_examples=60)
@given(envelopes(), st.sampled_from(("json", "msgpack")))
def test_a_frame_is_its_length_and_its_payload(envelope: Envelope, codec: Any) -> None:
    payload = encode(envelope, codec)
    assert encode_frame(envelope, codec) == frame_payload(payload)
    assert same(
        decode(payload, codec=codec), decode_payload(payload, 0, DecodeLimits(), lenient=True, codec=codec).envelope
    )


@pytest.mark.parametrize("size", [1, 800, 850, 900, 1023, 1024, 1025, 70_000])
def test_lengths_around_the_ready_made_ones(size: int) -> None:
    envelope = Envelope.of(Metric("r", "k" * size, 1.0), seq=1, timestamp_us=1)
    assert encode_frame(envelope) == frame_payload(encode(envelope))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_way_of_writing_writes_null_for_a_number(value: float) -> None:
    events: list[Any] = [
        Metric("r", "k", value),
        MetricBatch("r", {"a": 1.0, "b": value}),
        Summary("r", {"a": value}),
        Param("r", "k", value),
        LogEntry("r", "info", "null", fields={"x": value}),
    ]
    for event in events:
        envelope = Envelope.of(event, seq=1, timestamp_us=1)
        for payload in (encode(envelope), encode_frame(envelope)[4:]):
            assert payload == _slow.encode(envelope, "json")
            assert b":null" not in payload
            assert same(decode(payload, lenient=False), envelope)


def test_texts_that_hold_null_are_written() -> None:
    envelope = Envelope.of(Metric("null", ":null,", 1.0), seq=1, timestamp_us=1)
    assert encode_frame(envelope)[4:] == encode(envelope) == msgspec.json.encode(envelope)


@pytest.mark.parametrize(
    "event", [Metric(None, "k", 1.0), Metric("r", "k", None), Metric("r", "k", 1.0, step=math.nan)]
)  # type: ignore[arg-type]
def test_null_in_a_typed_slot_is_an_error(event: Metric) -> None:
    envelope = Envelope.of(event, seq=1, timestamp_us=1)
    for write in (encode, encode_frame):
        with pytest.raises(EncodeError):
            write(envelope)


@pytest.mark.parametrize("seq", [0, -1])
def test_seq_is_looked_at_in_every_way_of_writing(seq: int) -> None:
    for write in (encode, encode_frame):
        with pytest.raises(EncodeError):
            write(Envelope.of(Metric("r", "k", 1.0), seq=seq, timestamp_us=1))
    control: Any
    for control in (Ping(), Pong()):
        envelope = Envelope.of(control, seq=5, timestamp_us=1, session_id="s")
        assert encode_frame(envelope)[4:] == encode(envelope)
        assert decode(encode(envelope)).meta.seq == 0
