"""Checked records: a flipped bit costs at most one event, and which one is known."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import chunked, mutated

from xtrack_protocol.errors import NotASegment
from xtrack_protocol.ir import Envelope, Metric, Param
from xtrack_protocol.limits import FRAME_HARD_MAX, RUN_ID_MAX
from xtrack_protocol.wire import (
    RECORDS_START,
    Damage,
    Item,
    Record,
    RecordDecoder,
    SegmentHeader,
    TornTail,
    decode_header,
    encode,
    encode_header,
    encode_record,
)
from xtrack_protocol.wire.records import HEADER_BLOCK, RECORD_MAGIC, RECORD_OVERHEAD, SEGMENT_MAGIC

SALT = 0x5EED0001
HEADER = SegmentHeader("run", "5f0c9d1e", "w0", 2, 101, 1703123456000000, "5eed0001")


@cache
def payload(seq: int) -> bytes:
    return encode(Envelope.of(Metric("r", "loss", seq / 2), seq=seq, timestamp_us=10**15 + seq, session_id="5f0c"))


def log_of(count: int, salt: int = SALT) -> tuple[bytes, list[int]]:
    parts = [encode_record(seq, payload(seq), salt) for seq in range(1, count + 1)]
    starts = [sum(map(len, parts[:at])) for at in range(count)]
    return b"".join(parts), [RECORDS_START + start for start in starts]


def read(data: bytes, size: int = 0, salt: int = SALT, **options: Any) -> list[Item]:
    decoder = RecordDecoder(salt, **options)
    items: list[Item] = []
    for at in range(0, len(data), size or max(1, len(data))):
        items += decoder.feed(data[at : at + (size or len(data))])
    items += decoder.finish()
    assert decoder.offset == RECORDS_START + len(data)
    return items


def check_tiles(items: list[Item], size: int) -> None:
    at = RECORDS_START
    for item in items:
        assert item.offset == at
        assert item.size > 0
        at += item.size
    assert at == RECORDS_START + size
    assert not any(isinstance(item, TornTail) for item in items[:-1])


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_layout() -> None:
    record = encode_record(3, b"{}", SALT)
    assert record[:16] == b"\xf5XR1" + (2).to_bytes(4, "big") + (3).to_bytes(8, "big")
    assert record[20:22] == b"{}"
    assert len(record) == 2 + RECORD_OVERHEAD
    assert read(record) == [Record(3, b"{}", RECORDS_START, len(record))]


@pytest.mark.parametrize("seq", [0, 1, 2**63 - 1, -1, -(2**63)])
def test_any_seq(seq: int) -> None:
    items = read(encode_record(seq, b"{}", SALT))
    assert isinstance(items[0], Record)
    assert items[0].seq == seq


def check_every_flip(count: int, step: int = 1) -> None:
    data, starts = log_of(count)
    ends = [*starts[1:], RECORDS_START + len(data)]
    for bit in range(0, 8 * len(data), step):
        items = read(flipped(data, bit))
        hit = max(place for place, start in enumerate(starts) if start <= RECORDS_START + bit // 8)
        records = [item for item in items if isinstance(item, Record)]
        assert [(item.seq, item.payload) for item in records] == [
            (seq, payload(seq)) for seq in range(1, count + 1) if seq != hit + 1
        ], "one event is lost, the others are whole, and none is made up"
        bad = [item for item in items if not isinstance(item, Record)]
        assert [(item.offset, item.offset + item.size) for item in bad] == [(starts[hit], ends[hit])]
        in_header = RECORDS_START + bit // 8 - starts[hit] < 20
        assert isinstance(bad[0], Damage)
        assert bad[0].seq == (None if in_header else hit + 1)


@pytest.mark.thorough
def test_every_bit_flip_of_60_records() -> None:
    check_every_flip(60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_bit_flip_of_1000_records() -> None:
    """All bits, each with only the records around it: one that is farther off is read before or after the damage."""
    data, starts = log_of(1000)
    ends = [*starts[1:], RECORDS_START + len(data)]
    for hit in range(1000):
        first, last = max(0, hit - 1), min(999, hit + 1)
        begin, end = starts[first] - RECORDS_START, ends[last] - RECORDS_START
        window = data[begin:end]
        expected = [seq for seq in range(first + 1, last + 2) if seq != hit + 1]
        for bit in range(8 * (starts[hit] - RECORDS_START - begin), 8 * (ends[hit] - RECORDS_START - begin)):
            items = RecordDecoder(SALT, starts[first])
            found = items.feed(flipped(window, bit)) + items.finish()
            assert [item.seq for item in found if isinstance(item, Record)] == expected
            bad = [item for item in found if not isinstance(item, Record)]
            assert [(type(item), item.offset, item.offset + item.size) for item in bad] == [
                (Damage, starts[hit], ends[hit])
            ]


@pytest.mark.slow
def test_sampled_bit_flips_of_a_whole_log_of_1000() -> None:
    check_every_flip(1000, step=4999)


def check_every_truncation(count: int, step: int = 1) -> None:
    data, starts = log_of(count)
    ends = [*starts[1:], RECORDS_START + len(data)]
    whole = [(seq, payload(seq)) for seq in range(1, count + 1)]
    for size in range(0, len(data) + 1, step):
        items = read(data[:size])
        kept = sum(end <= RECORDS_START + size for end in ends)
        assert [(item.seq, item.payload) for item in items if isinstance(item, Record)] == whole[:kept]
        rest = [item for item in items if not isinstance(item, Record)]
        torn_from = ends[kept - 1] if kept else RECORDS_START
        size_left = RECORDS_START + size - torn_from
        assert rest == ([TornTail(torn_from, size_left)] if size_left else []), "a torn tail is no damage"


def test_every_truncation_of_60_records() -> None:
    check_every_truncation(60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_truncation_of_1000_records() -> None:
    check_every_truncation(1000, step=7)
    data, starts = log_of(1000)
    for begin, end in zip(starts, [*starts[1:], RECORDS_START + len(data)], strict=True):
        for size in range(1, end - begin):
            decoder = RecordDecoder(SALT, begin)
            piece = data[begin - RECORDS_START : begin - RECORDS_START + size]
            assert decoder.feed(piece) + decoder.finish() == [TornTail(begin, size)]


@pytest.mark.thorough
@settings(max_examples=300)
@given(st.data())
def test_any_damage_tiles_and_any_chunking_agrees(data: st.DataObject) -> None:
    log, _ = log_of(data.draw(st.integers(0, 4)))
    tail = data.draw(st.sampled_from([b"", b"\0" * 50, b"\xf5", b"\xf5XR", RECORD_MAGIC, b"junk"]))
    stream = data.draw(mutated(data.draw(mutated(log)) + tail)) if log + tail else b""
    items = read(stream)
    check_tiles(items, len(stream))
    assert read(stream, 1) == items
    decoder = RecordDecoder(SALT)
    assert [item for chunk in data.draw(chunked(stream)) for item in decoder.feed(chunk)] + decoder.finish() == items
    real = {(seq, payload(seq)) for seq in range(1, 5)}
    assert {(item.seq, item.payload) for item in items if isinstance(item, Record)} <= real


def test_two_damaged_records_in_a_row_are_told_apart() -> None:
    data, starts = log_of(5)
    damaged = flipped(flipped(data, 8 * (starts[1] - RECORDS_START + 30)), 8 * (starts[2] - RECORDS_START + 30))
    items = read(damaged)
    assert [(type(item), item.seq) for item in items if not isinstance(item, TornTail)] == [
        (Record, 1),
        (Damage, 2),
        (Damage, 3),
        (Record, 4),
        (Record, 5),
    ]
    assert [item.offset for item in items] == starts
    assert read(damaged, 1) == items


def test_a_torn_tail_behind_damage_is_still_torn() -> None:
    data, starts = log_of(3)
    damaged = flipped(data, 8 * (starts[1] - RECORDS_START + 30))[:-5]
    items = read(damaged)
    assert [type(item) for item in items] == [Record, Damage, TornTail]
    assert items[2].offset == starts[2]
    assert read(damaged, 1) == items


def test_half_a_header_behind_damage_is_damage() -> None:
    data, starts = log_of(3)
    damaged = flipped(data, 8 * (starts[1] - RECORDS_START))[: starts[2] - RECORDS_START + 10]
    items = read(damaged)
    assert [type(item) for item in items] == [Record, Damage]
    assert items[1].size == len(damaged) - (starts[1] - RECORDS_START)
    assert read(damaged, 1) == items


@pytest.mark.parametrize("zeros", [1, 3, 4, 19, 20, 24, 5000])
@pytest.mark.parametrize("size", [0, 1, 7])
def test_zeros_to_the_end_were_never_written(zeros: int, size: int) -> None:
    data, _ = log_of(2)
    items = read(data + b"\0" * zeros, size)
    assert items[2:] == [TornTail(RECORDS_START + len(data), zeros)]
    nearly = read(data + b"\0" * zeros + b"\1", size)
    assert [type(item) for item in nearly[2:]] == [Damage]
    more = read(data + b"\0" * zeros + encode_record(3, payload(3), SALT), size)
    assert [type(item) for item in more[2:]] == [Damage, Record]


def test_other_segments_records_do_not_pass() -> None:
    foreign, _ = log_of(3, salt=SALT ^ 1)
    data, _ = log_of(2)
    items = read(data + foreign)
    assert [type(item) for item in items] == [Record, Record, Damage]
    check_tiles(items, len(data) + len(foreign))
    assert [type(item) for item in read(foreign + data)] == [Damage, Record, Record]


def test_a_record_quoted_in_a_payload_does_not_pass() -> None:
    """Quoted in a payload that is damaged, so that the search meets the quotation."""
    quoted = encode_record(7, payload(7), SALT ^ 0xFFFF)
    outer = encode_record(1, b'{"x":"' + quoted + b'"}', SALT)
    damaged = outer[:-1] + bytes([outer[-1] ^ 1]) + encode_record(2, payload(2), SALT)
    assert [type(item) for item in read(damaged)] == [Damage, Record]
    text = encode(Envelope.of(Param("r", "k", quoted.decode("latin-1")), seq=1, timestamp_us=1))
    assert RECORD_MAGIC not in text


@pytest.mark.parametrize("length", [0, FRAME_HARD_MAX + 1, 2**32 - 1])
def test_lengths_that_no_payload_has_are_damage(length: int) -> None:
    """Even with a header CRC that holds. spec: RST-3"""
    from zlib import crc32

    head = RECORD_MAGIC + length.to_bytes(4, "big") + (9).to_bytes(8, "big")
    crc = crc32(head, SALT)
    record = head + crc.to_bytes(4, "big") + crc32(b"", crc).to_bytes(4, "big")
    items = read(record + encode_record(10, payload(10), SALT))
    assert [(type(item), item.seq) for item in items if not isinstance(item, TornTail)] == [(Damage, 9), (Record, 10)]


def test_max_payload_bounds_what_is_held_back() -> None:
    record = encode_record(1, b"x" * 1000, SALT)
    decoder = RecordDecoder(SALT, max_payload=999)
    items = decoder.feed(record) + decoder.finish()
    assert [type(item) for item in items] == [Damage]


def test_a_live_segment_is_read_as_it_grows() -> None:
    data, starts = log_of(3)
    decoder = RecordDecoder(SALT)
    assert len(decoder.feed(data[: starts[2] - RECORDS_START + 10])) == 2
    assert decoder.offset == starts[2]
    again = RecordDecoder(SALT, decoder.offset)
    assert again.feed(data[starts[2] - RECORDS_START :]) == decoder.feed(data[starts[2] - RECORDS_START + 10 :])


def test_damage_is_read_again_from_where_the_decoder_says() -> None:
    data, starts = log_of(3)
    damaged = flipped(data, 8 * (starts[1] - RECORDS_START))
    decoder = RecordDecoder(SALT)
    first = decoder.feed(damaged[: starts[1] - RECORDS_START + 50])
    assert decoder.offset == starts[1]
    again = RecordDecoder(SALT, decoder.offset)
    assert first + again.feed(damaged[starts[1] - RECORDS_START :]) + again.finish() == read(damaged)


def test_large_records_are_not_copied_with_each_chunk() -> None:
    copied = 0

    class Counting(bytearray):
        def __bytes__(self) -> bytes:
            nonlocal copied
            copied += len(self)
            return bytes(memoryview(self))

    record = encode_record(1, b"x" * 500_000, SALT)
    decoder = RecordDecoder(SALT)
    decoder.feed(record[:30])
    decoder._buffer = Counting(decoder._buffer)
    for at in range(30, len(record), 100):
        items = decoder.feed(record[at : at + 100])
    assert isinstance(items[0], Record)
    assert copied < 2 * len(record)


# ------------------------------------------------------------------------------------------ headers


def test_header_round_trip_and_layout() -> None:
    head = encode_header(HEADER)
    assert len(head) == RECORDS_START
    assert head[:HEADER_BLOCK] == head[HEADER_BLOCK:]
    assert head.startswith(SEGMENT_MAGIC)
    assert decode_header(head) == HEADER
    assert decode_header(head + b"records") == HEADER
    assert HEADER.salt_value == SALT


def test_every_bit_of_the_header_may_flip() -> None:
    """Either copy is enough, so no single flip can matter."""
    head = encode_header(HEADER)
    used = 16 + int.from_bytes(head[8:12], "big")
    for start in (0, HEADER_BLOCK):
        for bit in [*range(8 * start, 8 * (start + used)), 8 * (start + HEADER_BLOCK) - 1]:
            assert decode_header(flipped(head, bit)) == HEADER


def test_two_damaged_copies_are_no_segment() -> None:
    head = encode_header(HEADER)
    for first, second in ((0, HEADER_BLOCK), (100, HEADER_BLOCK + 3), (9, HEADER_BLOCK + 9)):
        with pytest.raises(NotASegment, match=r"seg\.xseg"):
            decode_header(flipped(flipped(head, 8 * first), 8 * second), "seg.xseg")


@pytest.mark.parametrize("head", [b"", b"XTRKSEG1", b"\0" * RECORDS_START, b"XTRKSEG1" + b"\xff" * 9000])
def test_other_bytes_are_no_segment(head: bytes) -> None:
    with pytest.raises(NotASegment):
        decode_header(head)


def _block(body: bytes) -> bytes:
    from zlib import crc32

    block = SEGMENT_MAGIC + len(body).to_bytes(4, "big") + body
    block += crc32(block).to_bytes(4, "big")
    return block.ljust(HEADER_BLOCK, b"\0") * 2


@pytest.mark.parametrize("salt", ["", "1", "-0000001", "0x5eed00", "5eed00011", " 5eed001", "5_eed_01", "xxxxxxxx"])
def test_salt_is_eight_hexadecimal_digits(salt: str) -> None:
    with pytest.raises(NotASegment):
        decode_header(_block(b'{"run_id":"r","sid":"s","salt":"%s"}' % salt.encode()))


def test_header_members_it_does_not_know_are_ignored() -> None:
    header = decode_header(_block(b'{"run_id":"r","sid":"s","future":[1]}'))
    assert header == SegmentHeader("r", "s")
    assert (header.worker_id, header.number, header.first_seq, header.salt_value) == ("", 1, 1, 0)
    with pytest.raises(NotASegment):
        decode_header(_block(b'{"run_id":"r"}'))


def test_null_in_a_header_is_absence() -> None:
    """spec: RST-2.9"""
    header = b'{"run_id":"r","sid":"s","wid":null,"number":null,"first_seq":null,"created":null,"salt":null}'
    assert decode_header(_block(header)) == SegmentHeader("r", "s")
    for body in (b'{"run_id":null,"sid":"s"}', b"[null]", b"null", b'{"run_id":"r","sid":null,"x":%d}' % 10**30):
        with pytest.raises(NotASegment):
            decode_header(_block(body))


def test_a_header_that_is_nested_too_deep() -> None:
    with pytest.raises(NotASegment):
        decode_header(_block(b'{"run_id":"r","sid":"s","x":' + b"[" * 2000 + b"]" * 2000 + b"}"))


def test_ids_fit_or_are_refused() -> None:
    limit = "x" * RUN_ID_MAX
    assert decode_header(encode_header(SegmentHeader(limit, limit, limit))).run_id == limit
    for ids in ((limit + "x", "s"), ("r", "s", "\u00e9" * (RUN_ID_MAX // 2 + 1)), ("\0" * 1000, "\0" * 1000)):
        with pytest.raises(ValueError, match="id"):
            encode_header(SegmentHeader(*ids))


def test_random_noise_is_damage() -> None:
    chance = random.Random(1)
    noise = bytes(chance.randrange(256) for _ in range(20_000)).replace(b"\xf5", RECORD_MAGIC)
    items = read(noise)
    check_tiles(items, len(noise))
    assert [type(item) for item in items] == [Damage]
    assert read(noise, 13) == items
