"""Damaged files of frames: what can be read is read, what can't is named, in any chunking and in linear time."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import chunked, frames, mutated

from xtrack_protocol.ir import Envelope, LogEntry, Metric
from xtrack_protocol.limits import FRAME_HARD_MAX, MIB, DecodeLimits
from xtrack_protocol.wire import Frame, SalvageDecoder, encode, encode_frame, frame_payload
from xtrack_protocol.wire import salvage as salvage_module


def metric(seq: int) -> Envelope:
    return Envelope.of(Metric("r", "loss", seq / 2), seq=seq, timestamp_us=10**15 + seq, session_id="5f0c")


def log_file(count: int) -> tuple[bytes, list[int]]:
    """A file of frames and the offset of each."""
    parts = [encode_frame(metric(seq)) for seq in range(1, count + 1)]
    starts = [sum(map(len, parts[:at])) for at in range(count)]
    return b"".join(parts), starts


def salvage(data: bytes, size: int = 0, **options: Any) -> list[Frame]:
    decoder = SalvageDecoder(**options)
    found: list[Frame] = []
    for at in range(0, len(data), size or max(1, len(data))):
        found += decoder.feed(data[at : at + (size or len(data))])
    return found + decoder.finish()


def facts(found: list[Frame]) -> list[Any]:
    return [
        (
            frame.offset,
            frame.length,
            frame.raw,
            frame.verified,
            repr(frame.envelope),
            frame.error and (str(frame.error), frame.error.offset, frame.error.length, frame.error.fatal),
        )
        for frame in found
    ]


def spans(found: list[Frame]) -> list[tuple[int, int]]:
    """The bytes that each frame accounts for."""
    return [
        (frame.error.offset, frame.error.offset + frame.error.length)
        if frame.error
        else (frame.offset, frame.offset + 4 + frame.length)
        for frame in found
    ]


def check_tiles(found: list[Frame], size: int) -> None:
    """Frames and damage cover each byte exactly once, in order. spec: ERR-3"""
    at = 0
    for begin, end in spans(found):
        assert begin == at
        assert end > begin
        at = end
    assert at == size
    for frame in found:
        assert (frame.envelope is None) != (frame.error is None)
        assert frame.error is None or not frame.error.fatal
        assert frame.error is None or frame.error.offset == frame.offset
    marks = [frame.verified for frame in found]
    assert marks == sorted(marks, reverse=True), "what stands behind lost framing stays unverified"


COUNT = 60
FILE, STARTS = log_file(COUNT)
EVENTS = {seq: metric(seq) for seq in range(1, COUNT + 1)}


def test_an_undamaged_file() -> None:
    found = salvage(FILE)
    check_tiles(found, len(FILE))
    assert [frame.envelope for frame in found] == list(EVENTS.values())
    assert all(frame.verified for frame in found)
    assert facts(salvage(FILE, 1)) == facts(found)


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.thorough
def test_every_bit_flip_of_a_file() -> None:
    """A flip costs at most the event it hits, and changes no other; what can't be known is marked.

    Plain frames can't tell a changed digit: the event that was hit may come back with another value.
    """
    lost: Counter[int] = Counter()
    unverified: Counter[bool] = Counter()
    for bit in range(8 * len(FILE)):
        damaged = flipped(FILE, bit)
        found = salvage(damaged)
        check_tiles(found, len(FILE))
        hit = max(place for place, start in enumerate(STARTS) if start <= bit // 8)
        in_length = bit // 8 - STARTS[hit] < 4
        expected = [EVENTS[seq] for seq in EVENTS if seq != hit + 1]
        others = [frame.envelope for frame in found if frame.envelope and frame.offset != STARTS[hit]]
        assert others == expected, "an event was lost or changed that wasn't hit"
        at_hit = [frame for frame in found if frame.offset == STARTS[hit]]
        assert len(at_hit) == 1
        if in_length:
            assert at_hit[0].error is not None
        if at_hit[0].error:
            end = STARTS[hit + 1] if hit + 1 < COUNT else len(FILE)
            assert spans(at_hit) == [(STARTS[hit], end)], "the range of the damage is exact"
        lost[sum(frame.envelope is None for frame in found)] += 1
        unverified[any(not frame.verified for frame in found)] += 1
        assert all(frame.verified for frame in found if frame.offset < STARTS[hit])
        if not in_length:
            assert all(frame.verified for frame in found), "the framing was never in doubt"
    assert set(lost) <= {0, 1}, lost
    assert sum(lost.values()) == 8 * len(FILE)


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_bit_flips_in_any_chunking(size: int) -> None:
    for bit in range(0, 8 * len(FILE), 97):
        damaged = flipped(FILE, bit)
        assert facts(salvage(damaged, size)) == facts(salvage(damaged))


@pytest.mark.parametrize("change", ["remove", "insert", "overwrite"])
def test_bytes_removed_inserted_or_overwritten(change: str) -> None:
    chance = random.Random(change)
    for _ in range(300):
        at, size = chance.randrange(len(FILE)), chance.randrange(1, 400)
        junk = bytes(chance.choice(b'\0\0\0\xff{}"x') for _ in range(size))
        damaged = {
            "remove": FILE[:at] + FILE[at + size :],
            "insert": FILE[:at] + junk + FILE[at:],
            "overwrite": FILE[:at] + junk + FILE[at + size :],
        }[change]
        found = salvage(damaged)
        check_tiles(found, len(damaged))
        seen = [frame.envelope for frame in found if frame.envelope]
        touched = 1 if change == "insert" else size
        intact = [
            EVENTS[place + 1]
            for place, start in enumerate(STARTS)
            if start + len(encode_frame(EVENTS[place + 1])) <= at or start >= at + touched
        ]
        strange = [envelope for envelope in seen if envelope not in EVENTS.values()]
        assert len(strange) <= 1, "two halves of frames may make one whole, and junk within a text may go unseen"
        missing = [envelope for envelope in intact if envelope not in seen]
        # a length that lost its leading zeros to the damage before it is found all the same; the frame in which the
        # damage begins may swallow one more if its length still points behind it
        assert len(missing) <= 1
        assert facts(salvage(damaged, 5)) == facts(found)


def test_every_truncation() -> None:
    for size in range(len(FILE)):
        found = salvage(FILE[:size])
        check_tiles(found, size)
        whole = sum(start + len(encode_frame(EVENTS[place + 1])) <= size for place, start in enumerate(STARTS))
        assert [frame.envelope for frame in found if frame.envelope] == [EVENTS[seq] for seq in range(1, whole + 1)]
        errors = [frame.error.kind for frame in found if frame.error]
        assert errors == ([] if size in {*STARTS, 0} else ["truncated"])


@pytest.mark.thorough
@settings(max_examples=300)
@given(st.data())
def test_any_damage_tiles_and_any_chunking_agrees(data: st.DataObject) -> None:
    stream = data.draw(mutated(data.draw(mutated(b"".join(data.draw(frames(4))) or b"\0"))))
    limits = DecodeLimits(max_frame=data.draw(st.sampled_from([FRAME_HARD_MAX, 200, 90])))
    found = salvage(stream, limits=limits)
    check_tiles(found, len(stream))
    decoder = SalvageDecoder(limits)
    pieces = [frame for chunk in data.draw(chunked(stream)) for frame in decoder.feed(chunk)] + decoder.finish()
    assert facts(pieces) == facts(found)
    assert facts(salvage(stream, 1, limits=limits)) == facts(found)


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [
                b"\x00",
                b"\x00\x00",
                b"\x00\x00\x00",
                b"\x00\x00\x00\x02{}",
                b"\x00\x00\x00\x04{}  ",
                b"{",
                b"{}",
                b"\x00\x00\x00\x05{",
                b"\x00\x00\x00\x01 ",
                b"\x00\x00\x00 ",
                b"\xff",
                b"GET",
                b"\x00\x00\x01\x00{",
                b"\x00\xff\xff\xff{",
                b"[[",
                b'"',
                encode_frame(metric(1)),
            ]
        ),
        max_size=14,
    ).map(b"".join),
    st.integers(1, 9),
)
def test_soup_of_headers(stream: bytes, size: int) -> None:
    found = salvage(stream)
    check_tiles(found, len(stream))
    assert facts(salvage(stream, size)) == facts(found)
    assert facts(found) == facts(_by_the_book(stream))


def _by_the_book(data: bytes, limit: int = FRAME_HARD_MAX) -> list[Frame]:
    """FRM-6 as it is written, without any care for time or memory."""
    from xtrack_protocol.errors import DecodeError
    from xtrack_protocol.limits import FILE_LIMITS
    from xtrack_protocol.wire.framing import decode_payload, length_error

    def length_at(at: int) -> int:
        return int.from_bytes(data[at : at + 4], "big")

    def seems_to_begin(at: int) -> bool:
        return at == len(data) or (len(data) - at >= 5 and 1 <= length_at(at) <= limit and data[at + 4] in b"{ \t\r\n")

    def malformed(payload: bytes) -> bool:
        error = decode_payload(payload, 0, FILE_LIMITS, lenient=True).error
        return error is not None and error.kind in {"bad_utf8", "bad_json"}

    def plausible(at: int) -> bool:
        length = length_at(at)
        payload = data[at + 4 : at + 4 + length]
        return (
            data[at] == 0
            and len(data) - at >= 5
            and 1 <= length <= limit
            and len(payload) == length
            and 0 not in payload
            and payload[0] in b"{ \t\r\n"
            and not malformed(payload)
        )

    found: list[Frame] = []
    at, verified = 0, True
    while at < len(data):
        error: DecodeError | None = None
        announced = None
        if len(data) - at < 4:
            odd = length_error(data[at] << 24, at, FILE_LIMITS) if data[at] else None
            error = odd or DecodeError("truncated", "the file ends inside the frame")
        else:
            announced = at + 4 + length_at(at)
            error = length_error(length_at(at), at, FILE_LIMITS)
            payload = data[at + 4 : announced]
            if error is None and 0 in payload:
                nul = at + 4 + payload.index(0)
                error = DecodeError(
                    "bad_json", f"a NUL byte in the payload, at byte {nul}: no JSON, or the length is damaged"
                )
            elif error is None and announced > len(data):
                error = DecodeError("truncated", "the file ends inside the frame")
            elif error is None:
                frame = decode_payload(payload, at, FILE_LIMITS, lenient=True, verified=verified)
                if not (frame.error and frame.error.kind in {"bad_utf8", "bad_json"}) or seems_to_begin(announced):
                    found.append(frame)
                    at = announced
                    continue
                error = frame.error
        assert error is not None
        end = next((place for place in range(at + 1, len(data)) if plausible(place)), len(data))
        placed = DecodeError(error.kind, error.reason, offset=at, length=end - at, path=error.path)
        found.append(Frame(None, placed, at, 0, b"", verified))
        verified = verified and end == announced
        at = end
    return found


def test_every_flip_by_the_book() -> None:
    data, _ = log_file(4)
    for bit in range(8 * len(data)):
        damaged = flipped(data, bit)
        assert facts(salvage(damaged)) == facts(_by_the_book(damaged))


def test_an_oversize_frame_costs_itself_alone() -> None:
    """A reader with a smaller limit passes over what is too large for it, and vouches for what follows."""
    large = encode_frame(Envelope.of(LogEntry("r", "info", "x" * 500), seq=2, timestamp_us=1))
    data = encode_frame(metric(1)) + large + encode_frame(metric(3))
    found = salvage(data, limits=DecodeLimits(max_frame=200))
    assert [frame.error and frame.error.kind for frame in found] == [None, "frame_too_large", None]
    assert all(frame.verified for frame in found)
    check_tiles(found, len(data))


def test_a_tail_of_zeros_is_one_error() -> None:
    data = encode_frame(metric(1)) + b"\0" * 5000
    found = salvage(data)
    assert [frame.error and frame.error.kind for frame in found] == [None, "empty_frame"]
    check_tiles(found, len(data))


def test_a_file_of_something_else_is_one_error() -> None:
    for other in (b"PK\x03\x04" + bytes(range(1, 256)) * 50, b"# a text\n" * 100, b"{}\n" * 50, b"\xf5XR1" * 9):
        found = salvage(other)
        assert len(found) == 1
        check_tiles(found, len(other))


def test_live_file_waits_for_the_rest() -> None:
    decoder = SalvageDecoder()
    frame = encode_frame(metric(1))
    assert decoder.feed(frame + frame[:30])[0].envelope == metric(1)
    assert decoder.offset == len(frame)
    assert decoder.feed(frame[30:-1]) == []
    assert decoder.feed(frame[-1:])[0].envelope == metric(1)
    assert decoder.offset == 2 * len(frame)


def _adversary(name: str, size: int) -> bytes:
    match name:
        case "zeros":
            return b"\0" * size
        case "headers":
            return b"\0\0\0\2{" * (size // 5)
        case "far headers":
            return b"\0\xff\xff\xff{" * (size // 5)
        case "headers that end here":
            return b"\xff" + b"".join(
                b"\0" + max(1, size - 5 * n - 6).to_bytes(3, "big") + b"{" for n in range(size // 5)
            )
        case "nested headers":
            return b"\xff" + b"\0\0\x10\0{" * 50 + b'"a":' * (size // 4)
        case "bad frames":
            return frame_payload(b'{"a":' + b"1" * 95) * (size // 104)
        case "bad frames, framing lost":
            return b"\0\0\0\0" + (b"\0\0\0\x64" + b"{" * 100) * (size // 104)
        case "large bad frames":
            return b"\0\0\0\0" + (b"\0\0\x27\x10" + b"[" * 10_000) * (size // 10_004)
        case "blocks without zeros":
            return b"\0\0\0\0" + (b"\0" + b"{" * 255) * (size // 256)
        case "long announcement, then nothing":
            return b"\0\0\0\0\0\xf0\0\0{" + b"x" * size
        case _:
            return (encode_frame(metric(1)) + b"\xff") * (size // 110)


ADVERSARIES = [
    "zeros",
    "headers",
    "far headers",
    "headers that end here",
    "nested headers",
    "bad frames",
    "bad frames, framing lost",
    "large bad frames",
    "blocks without zeros",
    "long announcement, then nothing",
    "good frames, a byte between",
]


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("chunk", [0, 512])
def test_the_search_is_linear(name: str, chunk: int) -> None:
    """Four times the bytes take about four times as long; sixteen would be the square."""

    def cost(size: int) -> float:
        data = _adversary(name, size)
        best = 1e9
        for _ in range(2):
            begin = time.process_time()
            found = salvage(data, chunk)
            best = min(best, time.process_time() - begin)
        check_tiles(found, len(data))
        return best

    small, large = cost(50_000), cost(200_000)
    assert large < 10 * small + 0.2, f"{small:.4f} s, then {large:.4f} s"


@pytest.mark.parametrize("name", ADVERSARIES)
def test_bytes_looked_at_are_linear(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payloads handed to the JSON decoder, and bytes searched for NUL, counted."""
    looked = 0
    decode_payload, find_nul = salvage_module.decode_payload, SalvageDecoder._find_nul

    def counting(payload: bytes, *args: Any, **options: Any) -> Frame:
        nonlocal looked
        looked += len(payload)
        return decode_payload(payload, *args, **options)

    def counting_find(self: SalvageDecoder, data: bytes, start: int, end: int) -> int:
        nonlocal looked
        begin = max(start, self._no_nul_before - self._offset)
        nul = find_nul(self, data, start, end)
        looked += max(0, (end if nul < 0 else nul + 1) - begin)
        return nul

    monkeypatch.setattr(salvage_module, "decode_payload", counting)
    monkeypatch.setattr(SalvageDecoder, "_find_nul", counting_find)
    for chunk in (0, 512):
        looked = 0
        data = _adversary(name, 100_000)
        salvage(data, chunk)
        assert looked <= 8 * len(data) + 1000, f"{looked / len(data):.1f} times each byte"


def test_large_announcement_is_not_copied_with_each_chunk() -> None:
    """A megabyte that may be a frame, in chunks of 100 bytes, while the framing is lost."""
    copied = 0

    class Counting(bytearray):
        def __bytes__(self) -> bytes:
            nonlocal copied
            copied += len(self)
            return bytes(memoryview(self))

    decoder = SalvageDecoder()
    decoder.feed(b"\0\0\0\0" + MIB.to_bytes(4, "big") + b"{")
    decoder._buffer = Counting(decoder._buffer)
    for _ in range(MIB // 100 - 2):
        decoder.feed(b"x" * 100)
    assert copied < 100_000


def test_memory_follows_what_may_still_be_a_frame() -> None:
    decoder = SalvageDecoder()
    decoder.feed(b"\xff")
    for _ in range(200):
        decoder.feed(b"junk" * 10_000)
        assert len(decoder._buffer) < 10
    found = decoder.feed(encode_frame(metric(1))) + decoder.finish()
    assert found[-1].envelope == metric(1)
    assert not found[-1].verified


def test_payload_is_the_same_bytes() -> None:
    found = salvage(b"\xff" + FILE)
    assert [frame.raw for frame in found[1:]] == [encode(event) for event in EVENTS.values()]
