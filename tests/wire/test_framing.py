"""Frames on a stream: the same for any chunking, bounded, and fatal where nobody can go on."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import pickle
import random
import tracemalloc
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import chunked, envelopes, frames, mutated, same

from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import Envelope, LogEntry, Metric
from xtrack_protocol.limits import FRAME_HARD_MAX, MIB, DecodeLimits
from xtrack_protocol.wire import (
    Decoded,
    Frame,
    FrameDecoder,
    NeedMore,
    decode_frame,
    encode,
    encode_frame,
    frame_payload,
)


def metric(seq: int) -> Envelope:
    return Envelope.of(Metric("r", "loss", seq / 2), seq=seq, timestamp_us=seq)


def facts(frames: list[Frame]) -> list[Any]:
    """All there is to know of frames."""
    return [
        (
            frame.offset,
            frame.length,
            frame.raw,
            frame.verified,
            frame.envelope and repr(frame.envelope),
            frame.error and (str(frame.error), frame.error.length, frame.error.fatal),
        )
        for frame in frames
    ]


def decode_all(chunks: list[bytes], **options: Any) -> list[Frame]:
    decoder = FrameDecoder(**options)
    found: list[Frame] = []
    for chunk in chunks:
        found += decoder.feed(chunk)
        if found and found[-1].error and found[-1].error.fatal:
            with pytest.raises(DecodeError):
                decoder.feed(b"more")
            with pytest.raises(DecodeError):
                decoder.finish()
            return found
    return found + decoder.finish()


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@given(st.data())
def test_any_chunking_gives_the_same(data: st.DataObject) -> None:
    whole = b"".join(data.draw(frames()))
    expected = facts(decode_all([whole]))
    assert facts(decode_all(bytewise(whole))) == expected
    assert facts(decode_all(data.draw(chunked(whole)))) == expected


@settings(max_examples=200)
@given(st.data())
def test_any_chunking_of_damaged_bytes_gives_the_same(data: st.DataObject) -> None:
    stream = data.draw(mutated(b"".join(data.draw(frames(3))) or b"\0"))
    limits = DecodeLimits(max_frame=data.draw(st.sampled_from([FRAME_HARD_MAX, MIB, 100, 1])))
    expected = facts(decode_all([stream], limits=limits))
    assert facts(decode_all(bytewise(stream), limits=limits)) == expected
    assert facts(decode_all(data.draw(chunked(stream)), limits=limits)) == expected


def test_every_split_of_a_small_stream() -> None:
    stream = encode_frame(metric(1)) + frame_payload(b"{") + encode_frame(metric(3))
    expected = facts(decode_all([stream]))
    assert [fact[0] for fact in expected] == [0, len(encode_frame(metric(1))), len(encode_frame(metric(1))) + 5]
    for cuts in itertools.combinations(range(len(stream) + 1), 2):
        pieces = [stream[: cuts[0]], stream[cuts[0] : cuts[1]], stream[cuts[1] :]]
        assert facts(decode_all(pieces)) == expected


def test_a_frame_comes_with_its_last_byte() -> None:
    decoder = FrameDecoder()
    frame = encode_frame(metric(1))
    for byte in bytewise(frame)[:-1]:
        assert decoder.feed(byte) == []
    assert decoder.buffered == len(frame) - 1
    assert decoder.feed(frame[-1:])[0].envelope == metric(1)
    assert (decoder.buffered, decoder.offset) == (0, len(frame))
    assert decoder.finish() == []


@pytest.mark.parametrize("bad", [b"{", b"\xff", b"\0" * 9, b"[" * 99, b"[]", b'{"v":2,"t":"x","m":{},"p":{}}', b"NaN"])
def test_a_bad_payload_costs_that_frame_alone(bad: bytes) -> None:
    stream = encode_frame(metric(1)) + frame_payload(bad) + encode_frame(metric(2))
    found = decode_all([stream])
    assert [frame.envelope for frame in found] == [metric(1), None, metric(2)]
    broken = found[1]
    assert broken.error is not None
    assert not broken.error.fatal
    assert (broken.offset, broken.length, broken.raw) == (len(encode_frame(metric(1))), len(bad), bad)
    assert (broken.error.offset, broken.error.length) == (broken.offset, 4 + len(bad))


FATAL = {
    "empty_frame": b"\0\0\0\0",
    "frame_too_large": b"\0\x10\0\1",
}


@pytest.mark.parametrize("kind", FATAL)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_length_that_cannot_be_is_fatal(kind: str, before: int) -> None:
    good = b"".join(encode_frame(metric(seq)) for seq in range(1, before + 1))
    stream = good + FATAL[kind] + encode_frame(metric(9)) * 2
    found = decode_all([stream])
    assert [frame.envelope for frame in found[:-1]] == [metric(seq) for seq in range(1, before + 1)]
    error = found[-1].error
    assert error is not None
    assert (error.kind, error.offset, error.length, error.fatal) == (kind, len(good), 0, True)
    assert facts(decode_all(bytewise(stream))) == facts(found)


def test_a_run_of_zeros_is_one_error() -> None:
    assert [frame.error and frame.error.kind for frame in decode_all([b"\0" * 4096])] == ["empty_frame"]


@pytest.mark.parametrize(
    ("greeting", "name"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"POST /x HTTP/1.1\r\n", "HTTP"),
        (b"OPTIONS * HTTP/1.1\r\n", "HTTP"),
        (b"PRI * HTTP/2.0\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"*1\r\n$4\r\nPING\r\n", "Redis"),
        (b'{"v":1}', "JSON without its length"),
        (b"\xff\xff\xff\xff", ""),
        (b"\x01\0\0\0", ""),
    ],
)
def test_other_protocols_are_refused_at_their_first_byte(greeting: bytes, name: str) -> None:
    first = FrameDecoder().feed(greeting[:1])
    assert len(first) == 1
    error = first[0].error
    assert error is not None
    assert (error.kind, error.fatal, error.offset, error.length) == ("frame_too_large", True, 0, 0)
    assert name in str(error)
    for size in range(1, len(greeting) + 1):
        assert facts(FrameDecoder().feed(greeting[:size])) == facts(first)
        decoded = decode_frame(greeting[:size])
        assert isinstance(decoded, Decoded)
        assert decoded.consumed == 0
        assert facts([decoded.frame]) == facts(first)


def test_after_a_whole_frame_the_first_byte_still_counts() -> None:
    decoder = FrameDecoder()
    found = decoder.feed(encode_frame(metric(1)) + b"G")
    assert found[0].envelope == metric(1)
    assert found[1].error is not None
    assert found[1].error.offset == len(encode_frame(metric(1)))


def test_poison_stays_and_does_not_grow() -> None:
    decoder = FrameDecoder()
    decoder.feed(b"G")
    depths = []
    for _ in range(5):
        with pytest.raises(DecodeError) as caught:
            decoder.feed(encode_frame(metric(1)))
        depth, traceback = 0, caught.value.__traceback__
        while traceback:
            depth, traceback = depth + 1, traceback.tb_next
        depths.append(depth)
    assert len(set(depths)) == 1


def test_poison_keeps_nothing_alive() -> None:
    class Large:
        pass

    def read() -> weakref.ref[Large]:
        large, decoder = Large(), FrameDecoder()
        frames = decoder.feed(b"G")
        with contextlib.suppress(DecodeError):
            decoder.feed(b"E")
        assert frames
        return weakref.ref(large)

    left = read()
    gc.collect()
    assert left() is None


@pytest.mark.parametrize("left", range(1, 110))
def test_a_stream_that_ends_inside_a_frame(left: int) -> None:
    frame = frame_payload(encode(metric(1)).ljust(106))
    stream = encode_frame(metric(1)) + frame[:left]
    found = decode_all([stream])
    assert found[0].envelope == metric(1)
    error = found[1].error
    assert error is not None
    assert (error.kind, error.offset, error.length) == ("truncated", len(encode_frame(metric(1))), left)
    assert found[1].raw == frame[4:left]


def test_need_more_is_exact() -> None:
    frame = encode_frame(metric(1))
    for size in range(len(frame)):
        expected = 4 - size if size < 4 else len(frame) - size
        assert decode_frame(frame[:size]) == NeedMore(expected)
        assert decode_frame(memoryview(frame)[:size]) == NeedMore(expected)
    for extra in (b"", b"\0", b"GET", frame):
        decoded = decode_frame(frame + extra)
        assert isinstance(decoded, Decoded)
        assert (decoded.frame.envelope, decoded.consumed) == (metric(1), len(frame))


@given(envelopes())
def test_decode_frame_takes_what_encode_frame_gives(envelope: Envelope) -> None:
    decoded = decode_frame(bytearray(encode_frame(envelope)))
    assert isinstance(decoded, Decoded)
    assert same(decoded.frame.envelope, envelope)


def test_limits_are_exact() -> None:
    for limit in (102, 4096, MIB, FRAME_HARD_MAX):
        limits = DecodeLimits(max_frame=limit)
        fits = frame_payload(encode(metric(1)).ljust(limit))
        assert decode_all([fits], limits=limits)[0].envelope == metric(1)
        too_large = (limit + 1).to_bytes(4, "big")
        found = decode_all([too_large], limits=limits)
        assert found[0].error is not None
        assert found[0].error.kind == "frame_too_large"
        assert isinstance(decode_frame(limit.to_bytes(4, "big"), limits=limits), NeedMore)


def test_what_exceeds_every_limit_is_not_written() -> None:
    huge = Envelope.of(LogEntry("r", "info", "x" * FRAME_HARD_MAX), seq=1, timestamp_us=1)
    with pytest.raises(EncodeError, match="more than 16777215"):
        encode_frame(huge)


def test_nothing_is_allocated_for_an_announcement() -> None:
    limits = DecodeLimits(max_frame=FRAME_HARD_MAX)
    tracemalloc.start()
    try:
        decoders = [FrameDecoder(limits) for _ in range(100)]
        for decoder in decoders:
            decoder.feed(FRAME_HARD_MAX.to_bytes(4, "big") + b'{"v":1')
        assert isinstance(decode_frame(FRAME_HARD_MAX.to_bytes(4, "big"), limits=limits), NeedMore)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_memory_is_bounded_by_the_frame_under_way() -> None:
    frame = frame_payload(encode(metric(1)).ljust(100_000))
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        for _ in range(30):
            for at in range(0, len(frame), 4096):
                decoder.feed(frame[at : at + 4096])
        assert tracemalloc.get_traced_memory()[1] < 5 * len(frame)
        assert decoder.buffered == 0
    finally:
        tracemalloc.stop()


def test_dribbled_frames_are_not_copied_with_each_byte() -> None:
    """One byte at a time, a payload is copied a constant number of times: its bytes, counted where they are decoded."""
    copied = 0

    class Counting(bytearray):
        def __bytes__(self) -> bytes:
            nonlocal copied
            copied += len(self)
            return bytes(memoryview(self))

    decoder = FrameDecoder()
    decoder._buffer = Counting()
    frame = frame_payload(encode(metric(1)).ljust(20_000))
    for byte in bytewise(frame)[:-1]:
        decoder.feed(byte)
        if not isinstance(decoder._buffer, Counting):
            decoder._buffer = Counting(decoder._buffer)
    assert copied < 10 * len(frame)


def test_offsets_may_begin_anywhere() -> None:
    decoder = FrameDecoder(offset=1000)
    assert [frame.offset for frame in decoder.feed(encode_frame(metric(1)) * 2)] == [
        1000,
        1000 + len(encode_frame(metric(1))),
    ]


def test_strict_and_codec_reach_the_payload() -> None:
    token = frame_payload(b'{"t":"metric","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","key":"k","value":NaN}}')
    assert decode_all([token])[0].envelope is not None
    assert decode_all([token], lenient=False)[0].error is not None
    packed = encode_frame(metric(1), "msgpack")
    assert decode_all([packed + encode_frame(metric(2))], codec="msgpack")[1].envelope == metric(2)
    assert decode_all([packed], codec="msgpack")[0].envelope == metric(1)
    assert decode_all([packed])[0].error is not None
    decoded = decode_frame(packed, codec="msgpack")
    assert isinstance(decoded, Decoded)
    assert decoded.frame.envelope == metric(1)


def test_random_streams_of_many_frames() -> None:
    chance = random.Random(1)
    stream = b"".join(encode_frame(metric(seq)) for seq in range(1, 2000))
    decoder = FrameDecoder()
    found = []
    at = 0
    while at < len(stream):
        size = chance.choice([1, 2, 3, 5, 50, 500, 5000])
        found += decoder.feed(memoryview(stream)[at : at + size])
        at += size
    assert [frame.envelope for frame in found] == [metric(seq) for seq in range(1, 2000)]
    assert decoder.finish() == []


def test_frames_can_be_copied_and_pickled() -> None:
    for frame in decode_all([encode_frame(metric(1)) + frame_payload(b"{")]):
        for again in (copy.deepcopy(frame), pickle.loads(pickle.dumps(frame))):
            assert facts([again]) == facts([frame])
