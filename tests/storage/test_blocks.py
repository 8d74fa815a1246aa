"""Blocks give back what was put into them, byte for byte, and refuse bytes that aren't whole."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
import re
import struct
import zlib
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from metric_histories import Came, streams
from strategies import int64s, mutated, same

from xtrack_protocol.ir import Envelope, LogEntry, Metric, MetricBatch, MetricContext, RunId
from xtrack_protocol.limits import INT64_MAX, INT64_MIN
from xtrack_protocol.runs import downsample, gather, join, join_fewer
from xtrack_protocol.runs.series import extremes_of
from xtrack_protocol.storage import blocks
from xtrack_protocol.storage.blocks import Block, BlockReader, build, differing, read
from xtrack_protocol.storage.columnar import (
    decode_floats,
    decode_integers,
    encode_floats,
    encode_integers,
    floats_size,
    integers_size,
)
from xtrack_protocol.wire import decode, encode


def put(came: list[Came], positions: Any = None, received_at_us: Any = 5) -> list[Block]:
    envelopes, raws = [each.envelope for each in came], [each.raw for each in came]
    positions = range(10, 10 + len(came)) if positions is None else positions
    return build(gather(envelopes), envelopes, raws, positions, received_at_us)


def of(*payloads: Metric | MetricBatch, first: int = 1, interval: int = 1000) -> list[Came]:
    found = []
    for n, payload in enumerate(payloads):
        envelope = Envelope.of(
            payload, seq=first + n, timestamp_us=1_700_000_000_000_000 + n * interval, worker_id="w", session_id="s"
        )
        found.append(Came(envelope, encode(envelope)))
    return found


def differing_of(came: list[Came]) -> set[int]:
    envelopes = [each.envelope for each in came]
    return differing(gather(envelopes), envelopes, [each.raw for each in came])


def only(came: list[Came]) -> BlockReader:
    (block,) = put(came)
    return read(block.data)


# ------------------------------------------------------------------------------------------ the whole


@given(streams(), st.randoms(use_true_random=False), st.booleans())
def test_all_comes_back(came: list[Came], rnd: random.Random, together: bool) -> None:
    positions = list(accumulate((rnd.choice((1, 1, 3, 1000)) for _ in came), initial=4))[1:]
    received = 77 if together else [rnd.choice((5, 6, rnd.randrange(2**62))) for _ in came]
    envelopes = [each.envelope for each in came]
    gathered = gather(envelopes)
    found: dict[int, tuple[int, int, Envelope, bytes]] = {}
    place_of = {position: place for place, position in enumerate(positions)}
    built = put(came, positions, received)
    assert [block.shape for block in built] == [columns.shape for columns in gathered]
    for block in built:
        reader = read(block.data)
        assert reader.shape == block.shape
        assert reader.count == block.count
        assert block.first_position == reader.positions[0] == min(reader.positions)
        assert block.last_position == reader.positions[-1] == max(reader.positions)
        assert (block.first_seq, block.last_seq) == (min(reader.seqs), max(reader.seqs))
        if reader.steps is None:
            assert block.min_step is block.max_step is None
        else:
            assert (block.min_step, block.max_step) == (min(reader.steps), max(reader.steps))
        rows = zip(reader.positions, reader.received_at_us, reader.envelopes(), reader.originals(), strict=True)
        for n, (position, received_at_us, envelope, raw) in enumerate(rows):
            found[place_of[position]] = position, received_at_us, envelope, raw
            assert reader.original(n) == raw
            assert reader.find(envelope.meta.seq) == n
            assert reader.timestamps[n] == envelope.meta.timestamp_us
        assert reader.find(2**63 - 1) is None or 2**63 - 1 in reader.seqs
        some = rnd.sample(range(reader.count), rnd.randint(0, reader.count))
        assert reader.originals(some) == [reader.original(n) for n in some]
    for columns in gathered:
        for place in columns.places:
            at = received if isinstance(received, int) else received[place]
            position, received_at_us, envelope, raw = found.pop(place)
            assert (position, received_at_us) == (positions[place], at)
            assert raw == came[place].raw
            assert same(envelope, came[place].envelope)
    assert not found


@given(streams())
def test_differing_are_those_that_the_codec_writes_otherwise(came: list[Came]) -> None:
    metrics = (each for each in enumerate(came) if isinstance(each[1].envelope.payload, (Metric, MetricBatch)))
    expected = {place for place, each in metrics if encode(each.envelope) != each.raw}
    assert differing_of(came) == expected


def test_a_number_that_json_lacks_is_no_null() -> None:
    """msgspec alone writes null for NaN: an original that does so, which no reader takes, isn't rebuilt as a text."""
    envelope = of(Metric("r", "null", math.nan))[0].envelope
    raw = msgspec.json.encode(envelope)
    assert b'"value":null' in raw
    assert differing_of([Came(envelope, raw), Came(envelope, encode(envelope))]) == {0}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 1e16])
@pytest.mark.parametrize("others", [(), (0.5,) * 700])
def test_rare_floats_come_back(number: float, others: tuple[float, ...]) -> None:
    came = of(*(Metric("r", "x", value) for value in (*others, number, *others)))
    came += of(*(MetricBatch("r", {"null": value, "y": 1}) for value in (*others, number, *others)), first=2000)
    assert not differing_of(came)
    originals = [raw for block in put(came) for raw in read(block.data).originals()]
    assert originals == [each.raw for each in came]
    kinds = [block.shape.is_batch for block in put(came)]
    assert kinds == [False, True]
    values = [read(block.data).values(0) for block in put(came)]
    assert same(values[0].tolist(), [*others, number, *others])


def test_a_nan_keeps_its_payload() -> None:
    """Nothing of it goes over the wire, but what was stored is what is read."""
    rare = struct.unpack("<d", bytes.fromhex("010203040506f8ff"))[0]
    described, data = encode_floats([rare, 1.0])
    assert decode_floats(described, data, 0, 2).tobytes() == struct.pack("<2d", rare, 1.0)


@pytest.mark.parametrize("number", [INT64_MIN, INT64_MAX, 2**53 + 1, -1, 0])
def test_integers_come_back_as_they_are(number: int) -> None:
    came = of(*(Metric("r", "x", value, step=step) for value, step in ((number, 0), (0, number), (1, 2), (number, -1))))
    reader = only(came)
    assert reader.values(0) == array("q", [number, 0, 1, number])
    assert reader.values(0).typecode == "q"
    assert reader.steps == array("q", [0, number, 2, -1])
    assert reader.originals() == [each.raw for each in came]


def test_an_integer_beyond_int64_is_refused() -> None:
    envelope = Envelope.of(Metric("r", "x", 2**63), seq=1, timestamp_us=0)
    with pytest.raises(ValueError, match="beyond int64"):
        build(gather([envelope]), [envelope], [b""], [1], 1)


def test_true_of_a_legacy_worker_is_a_one_whose_original_is_kept() -> None:
    raw = b'{"t":"metric","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","key":"x","value":true}}'
    came = [Came(decode(raw), raw)]
    reader = only(came)
    assert same(reader.values(0).tolist(), [1])
    assert reader.originals() == [raw]
    assert reader.shape.session_id is None


def test_batches_without_metrics_have_events_and_no_points() -> None:
    came = of(MetricBatch("r", {}, 3), MetricBatch("r", {}, 4))
    reader = only(came)
    assert reader.names == ()
    assert reader.originals() == [each.raw for each in came]
    assert same(reader.envelopes(), [each.envelope for each in came])


def test_run_ids_and_contexts_come_back_in_the_form_they_had() -> None:
    context = MetricContext("val", 2**40, None, "mean")
    for run_id in ("r", RunId("r"), RunId("r", "e", "p")):
        for each in (None, MetricContext(), context):
            came = of(Metric(run_id, "x", 1.0, context=each), Metric(run_id, "x", 2.0, context=each))
            assert same(only(came).envelopes(), [each.envelope for each in came])


def test_what_was_gathered_under_another_run_keeps_the_run_id_that_was_sent() -> None:
    came = of(Metric("sent", "x", 1.0))
    assert only(came).shape.run_id == "sent"


# ------------------------------------------------------------------------------------------ size


def test_blocks_are_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "EVENTS_MAX", 10)
    monkeypatch.setattr(blocks, "POINTS_MAX", 12)
    came = of(*(Metric("r", "x", n) for n in range(25)))
    came += of(*(MetricBatch("r", {"a": n, "b": n, "c": n}) for n in range(9)), first=100)
    came += of(*(MetricBatch("r", {str(name): n for name in range(20)}) for n in range(2)), first=200)
    found = put(came)
    assert [block.count for block in found] == [10, 10, 5, 4, 4, 1, 1, 1]
    assert [raw for block in found for raw in read(block.data).originals()] == [each.raw for each in came]


def test_originals_kept_as_they_are_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ORIGINALS_MAX", 250)
    came = [Came(each.envelope, each.raw + b" " * (n % 3)) for n, each in enumerate(of(*[Metric("r", "x", 1.0)] * 12))]
    found = put(came)
    assert 3 < len(found) < 12
    assert [raw for block in found for raw in read(block.data).originals()] == [each.raw for each in came]
    came = [Came(each.envelope, each.raw + b" " * 900) for each in came]
    assert [block.count for block in put(came)] == [1] * 12


def typical(
    count: int, value: Callable[[random.Random], float], names: tuple[str, ...] = ("train/loss",)
) -> list[Came]:
    rnd = random.Random(5)
    now, found = 1_700_000_000_000_000, []
    for n in range(count):
        now += 2000 + rnd.randrange(1000)
        metric = Metric("3f2a9c5e1b7d4e60", names[n % len(names)], value(rnd), step=n // len(names))
        envelope = Envelope.of(
            metric, seq=n + 1, timestamp_us=now, worker_id="worker-0", session_id="0123456789abcdef0123456789abcdef"
        )
        found.append(Came(envelope, encode(envelope)))
    return found


def bytes_per_scalar(came: list[Came], *, slice_of: int = 1000) -> float:
    size = sum(len(block.data) for start in range(0, len(came), slice_of) for block in put(came[start:][:slice_of]))
    return size / len(came)


def test_random_doubles_take_thirteen_bytes() -> None:
    assert bytes_per_scalar(typical(4000, random.Random.random)) <= 13
    assert bytes_per_scalar(typical(4000, random.Random.random, ("a", "b", "c"))) <= 13


def test_floats_of_half_the_precision_take_nine() -> None:
    def single(rnd: random.Random) -> float:
        return float(struct.unpack("<f", struct.pack("<f", rnd.random()))[0])

    assert bytes_per_scalar(typical(4000, single)) <= 9


def test_frames_of_another_form_take_sixty_bytes() -> None:
    def spaced(each: Came) -> Came:
        tree = json.loads(each.raw)
        return Came(each.envelope, json.dumps({name: tree[name] for name in ("v", "t", "m", "p")}).encode())

    came = [spaced(each) for each in typical(4000, random.Random.random)]
    assert len(came[0].raw) > 200
    assert bytes_per_scalar(came) <= 60


# ------------------------------------------------------------------------------------------ damage


BLOCK = put(
    [
        *of(*(Metric("r", "x", n / 3 if n != 7 else math.nan, step=n * n) for n in range(70))),
        Came(decode(b'{"t":"metric","v":1,"m":{"seq":99,"ts":2,"wid":"w","sid":"s"},"p":{"run_id":"r","key":"x",'
                    b'"value": 2.5,"step":-4}}'),
             b'{"t":"metric","v":1,"m":{"seq":99,"ts":2,"wid":"w","sid":"s"},"p":{"run_id":"r","key":"x",'
             b'"value": 2.5,"step":-4}}'),
    ]
)[0].data  # fmt: skip


def read_all(data: bytes) -> None:
    """Ask a reader for everything that it can be asked for."""
    reader = read(data)
    for index in range(len(reader.names)):
        values = reader.values(index)
        assert len(values) == reader.count
        for n, place in enumerate(reader.extremes(index)):
            values[n // 2 * 256 + place]
        assert len(reader.part(index).points()[1]) == reader.count
    assert len(reader.positions) == len(reader.received_at_us) == reader.count
    assert len(reader.epochs or reader.seqs) == reader.count
    assert len(reader.envelopes()) == len(reader.originals()) == reader.count
    reader.find(5)


def sealed(data: bytes) -> bytes:
    """``data`` with a checksum that says it is whole: what only someone who means harm writes."""
    return zlib.crc32(data[4:]).to_bytes(4, "little") + data[4:]


def test_this_block_is_whole() -> None:
    read_all(BLOCK)
    assert sealed(BLOCK) == BLOCK


@given(st.binary(max_size=200) | mutated(BLOCK) | st.integers(0, len(BLOCK) - 1).map(lambda end: BLOCK[:end]))
@example(b"")
@example(BLOCK + b"\0")
def test_bytes_that_are_damaged_are_refused(data: bytes) -> None:
    if data != BLOCK:
        with pytest.raises(ValueError, match="block"):
            read(data)


@given(st.integers(0, len(BLOCK) - 1), st.integers(1, 255))
def test_each_byte_is_covered(place: int, change: int) -> None:
    data = bytearray(BLOCK)
    data[place] ^= change
    with pytest.raises(ValueError, match="block"):
        read(bytes(data))


@settings(max_examples=400)
@given((mutated(BLOCK) | st.binary(min_size=4, max_size=60).map(lambda data: data + BLOCK[9:])).map(sealed))
def test_bytes_that_lie_raise_value_errors_alone(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_all(data)


def headers() -> st.SearchStrategy[list[Any]]:
    whole = msgspec.msgpack.decode(BLOCK[9 : 9 + int.from_bytes(BLOCK[5:9], "little")])
    others = st.sampled_from([None, [], [0], [1, 2], [5, 8, 0], [0, 8, 0], True, 0, 1, 4096])
    odd = st.integers(-(2**63), 2**64 - 1) | others.map(copy.copy)

    @st.composite
    def changed(draw: st.DrawFn) -> list[Any]:
        header = msgspec.msgpack.decode(msgspec.msgpack.encode(whole))
        for _ in range(draw(st.integers(1, 3))):
            node, key = header, draw(st.integers(0, len(header) - 1))
            while isinstance(node[key], list) and node[key] and draw(st.booleans()):
                node, key = node[key], draw(st.integers(0, len(node[key]) - 1))
            node[key] = draw(odd)
        return header

    return changed()


@settings(max_examples=500)
@given(headers())
def test_headers_that_lie_raise_value_errors_alone(header: list[Any]) -> None:
    """Also where the columns are as long as the header says."""
    text = msgspec.msgpack.encode(header)
    body = BLOCK[9 + int.from_bytes(BLOCK[5:9], "little") :]
    data = BLOCK[:5] + len(text).to_bytes(4, "little") + text + body
    with contextlib.suppress(ValueError):
        read_all(sealed(data))
    try:
        read(sealed(data))
    except ValueError as error:
        end = re.search(r"columns end at (\d+),", str(error))
        if end is not None and int(end[1]) < 10**6:
            with contextlib.suppress(ValueError):
                read_all(sealed((data + bytes(int(end[1])))[: int(end[1])]))


def test_a_later_format_says_so() -> None:
    with pytest.raises(ValueError, match="format 200"):
        read(sealed(BLOCK[:4] + bytes((200,)) + BLOCK[5:]))


# ------------------------------------------------------------------------------------------ columns of numbers


RUNS = st.tuples(st.integers(-(2**40), 2**40), st.integers(-300, 300), st.integers(1, 40))
BASES = st.integers(-(2**62), 2**62) | st.sampled_from([-1, 0, 255, 2**16 - 2, 2**32, -(2**32)])
OFFSETS = st.lists(st.integers(-(2**18), 2**18) | st.integers(-2, 300), min_size=1)
COLUMNS = st.one_of(
    st.lists(int64s(), min_size=1),
    RUNS.map(lambda run: [run[0] + run[1] * n for n in range(run[2])]),
    st.tuples(BASES, OFFSETS).map(lambda column: [column[0] + offset for offset in column[1]]),
)


@given(COLUMNS, st.binary(max_size=3))
@example([INT64_MIN, INT64_MAX], b"")
@example([INT64_MAX, INT64_MIN], b"")
@example([INT64_MIN, 0, INT64_MAX], b"")
@example([0, 1, INT64_MAX], b"")
@example([INT64_MIN, INT64_MIN + 1, INT64_MIN + 5], b"")
@example([INT64_MAX, INT64_MAX - 1, INT64_MAX - 5], b"")
@example([-1, 0, 5, 3], b"")
@example([2**32 - 2, 2**32 + 5, 2**32 - 1], b"")
def test_integers_are_read_as_written(numbers: list[int], before: bytes) -> None:
    for given_as in (numbers, tuple(numbers)):
        described, data = encode_integers(given_as)
        assert integers_size(described, len(numbers)) == len(data)
        assert decode_integers(described, before + data + b"more", len(before), len(numbers)) == array("q", numbers)
        assert len(data) <= 8 * len(numbers)


@pytest.mark.parametrize(
    ("numbers", "size"),
    [
        ([7] * 50, 0),
        (range(5, 55), 0),
        (list(range(5, 505, 10)), 0),
        (list(range(5, -45, -1)), 0),
        ([3, 4, 6, 250], 1),
        ([-3, 4, 6, 100], 1),
        ([2**40, 2**40 + 255, 2**40 + 9], 1),
        ([2**32 - 1, 2**32, 2**32 + 3], 1),
        ([1_700_000_000_000_000 + n * n for n in range(2000)], 3),
        ([INT64_MIN, INT64_MAX, 0], 8),
    ],
)
def test_integers_take_no_more_room_than_their_differences(numbers: list[int], size: int) -> None:
    _, data = encode_integers(numbers)
    assert size * len(numbers) <= len(data) <= (size + 1) * len(numbers) * (size > 0)


@given(st.lists(st.floats() | st.floats(width=32) | st.just(-0.0), min_size=1), st.binary(max_size=3))
def test_floats_are_read_as_written(numbers: list[float], before: bytes) -> None:
    described, data = encode_floats(numbers)
    assert floats_size(described, len(numbers)) == len(data)
    found = decode_floats(described, before + data + b"more", len(before), len(numbers))
    assert found.tobytes() == array("d", numbers).tobytes()
    assert found.typecode == "d"


@given(st.lists(st.floats(width=32), min_size=2, max_size=40))
def test_floats_of_half_the_precision_take_half_the_room(numbers: list[float]) -> None:
    _, data = encode_floats(numbers)
    assert len(data) <= max(8, 4 * len(numbers))


@pytest.mark.parametrize("count", [1, 63, 64, 255, 256, 257, 1000])
def test_blocks_know_their_extremes(count: int) -> None:
    rnd = random.Random(count)
    values = [rnd.random() for _ in range(count)]
    reader = only(of(*(MetricBatch("r", {"n": n, "x": value}) for n, value in enumerate(values))))
    assert reader.extremes(1) == extremes_of(values)
    assert reader.extremes(0) == extremes_of(list(range(count)))


def test_other_events_are_passed_over() -> None:
    came = of(Metric("r", "x", 1.0))
    other = Envelope.of(LogEntry("r", "info", "m"), seq=2, timestamp_us=0)
    (block,) = put([Came(other, encode(other)), *came])
    assert block.count == 1
    assert block.first_position == 11


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("jump", [1, 3], ids=["regular", "irregular"])
def test_fewer_points_are_those_of_all(integers: bool, jump: int) -> None:
    """Each is decoded by itself, out of columns of any form."""
    rnd = random.Random(jump)
    parts, seq, step = [], 1, 0
    for size in (1000, 300, 20, 4096, 1):
        envelopes = []
        for _ in range(size):
            seq, step = seq + rnd.randint(1, jump), step + rnd.randint(1, jump)
            value = rnd.randrange(-(2**62), 2**62) if integers else rnd.choice((rnd.random(), 0.5, 1e300))
            event = Metric("r", "x", value, step)
            envelopes.append(Envelope.of(event, seq=seq, timestamp_us=10**15 + seq * rnd.randint(1, jump)))
        raws = [encode(envelope) for envelope in envelopes]
        parts += [read(one.data).part(0) for one in build(gather(envelopes), envelopes, raws, range(1, size + 1), 1)]
    whole = join(parts)
    assert len(whole) == 5417
    for limit in (2, 5, 20, 40, 1000, 5417):
        few, expected = join_fewer(parts, limit), downsample(whole, limit)
        assert len(few) <= limit
        assert (few.steps, few.values, few.timestamps_us) == (expected.steps, expected.values, expected.timestamps_us)
