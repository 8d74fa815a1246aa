from __future__ import annotations

import os
import random
import threading
import time

import pytest

from xtrack_protocol.errors import NotASegment, SpoolError
from xtrack_protocol.limits import LIVENESS_LOST_US
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import (
    StreamWriter,
    find_lost,
    is_alive,
    open_segment,
    read_segment,
    segments,
    streams_of,
    write_lost,
)
from xtrack_protocol.spool.layout import lost_path
from xtrack_protocol.wire import RECORDS_START, Damage, Record, TornTail

STREAM = StreamId("r", "w", "5e55")


@pytest.fixture
def segment(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    for seq in range(1, 21):
        writer.append(seq, b'{"n":%d}' % seq)
    writer.close()
    found = open_segment(next(segments(tmp_path)))
    assert found is not None
    return found


def test_reading_goes_on_from_any_item(segment):
    everything = list(read_segment(segment, finished=True))
    assert [item.seq for item, _ in everything] == list(range(1, 21))
    for place, (_, offset) in enumerate(everything):
        assert list(read_segment(segment, offset, finished=True)) == everything[place + 1 :]


def test_a_record_under_way_is_waited_for_and_a_finished_segments_is_a_torn_tail(segment):
    data = segment.path.read_bytes()
    for cut in range(1, 40):
        segment.path.write_bytes(data[:-cut])
        live = list(read_segment(segment, finished=False))
        done = list(read_segment(segment, finished=True))
        assert all(isinstance(item, Record) for item, _ in live)
        assert done[: len(live)] == live
        assert [type(item) for item, _ in done[len(live) :]] in ([], [TornTail])
        segment.path.write_bytes(data)
        offset = live[-1][1]
        rest = [item.seq for item, _ in read_segment(segment, offset, finished=False)]
        assert [item.seq for item, _ in live] + rest == list(range(1, 21))


def test_a_flipped_bit_costs_its_record_in_a_live_segment_too(segment):
    data = bytearray(segment.path.read_bytes())
    items = [item for item, _ in read_segment(segment, finished=True)]
    victim = items[9]
    data[victim.offset + 22] ^= 1
    segment.path.write_bytes(data)
    for finished in (False, True):
        found = [item for item, _ in read_segment(segment, finished=finished)]
        assert [item.seq for item in found] == list(range(1, 21))
        assert [item for item in found if isinstance(item, Damage)] == [
            Damage(victim.offset, victim.size, 10, "the payload fails its check")
        ]


def test_a_write_that_was_cut_off_while_we_read_is_no_damage(segment, monkeypatch):
    """The reader saw the first half of a record that the writer then took back and wrote over."""
    from xtrack_protocol.spool import segment as reader

    whole = segment.path.read_bytes()
    last = [item for item, _ in read_segment(segment, finished=True)][-1]
    stale = whole[: last.offset] + b"\xf5XR1 half of something else" + bytes(range(60))
    segment.path.write_bytes(stale)
    real = reader._read_items
    calls = []

    def read_items(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            segment.path.write_bytes(whole)
        return real(*args, **options)

    monkeypatch.setattr(reader, "_read_items", read_items)
    # Followed by the magic, what was seen counts as damage at once.
    segment.path.write_bytes(stale + whole[last.offset :])
    found = [item for item, _ in read_segment(segment, finished=False)]
    assert [item.seq for item in found] == list(range(1, 21))
    assert all(isinstance(item, Record) for item in found)
    assert len(calls) == 2


def test_a_reader_follows_a_writer_through_its_segments(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 3000)
    total = 2000

    def write():
        for seq in range(1, total + 1):
            writer.append(seq, b'{"n":%d}' % seq + b" " * random.randrange(200))
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    found: list[int] = []
    offsets: dict[object, int] = {}
    deadline = time.monotonic() + 60
    while len(found) < total and time.monotonic() < deadline:
        for path in segments(tmp_path):
            segment = open_segment(path)
            if segment is None:
                continue
            for item, offset in read_segment(segment, offsets.get(path, 0), finished=False):
                assert isinstance(item, Record), item
                found.append(item.seq)
                offsets[path] = offset
    thread.join()
    assert found == list(range(1, total + 1))


def test_headers(tmp_path):
    assert open_segment(tmp_path / "gone") is None
    path = tmp_path / "x.000001.xseg"
    path.touch()
    assert open_segment(path) is None
    writer = StreamWriter(tmp_path / "r", STREAM)
    writer.append(1, b"{}")
    writer.close()
    head = next(segments(tmp_path / "r")).read_bytes()
    path.write_bytes(head[:5000])
    segment = open_segment(path)
    assert segment is not None
    assert segment.stream == STREAM  # the first copy is whole
    path.write_bytes(head[:60])
    assert open_segment(path) is None  # being written
    damaged = bytearray(head)
    damaged[50] ^= 1
    path.write_bytes(damaged)
    assert open_segment(path) is not None
    damaged[4096 + 50] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(NotASegment):
        open_segment(path)
    with pytest.raises(SpoolError, match="can't be read"):
        open_segment(tmp_path)
    assert streams_of(tmp_path) == []
    assert streams_of(tmp_path / "r") == [STREAM]


def test_a_segment_that_goes_away(segment):
    os.unlink(segment.path)
    with pytest.raises(SpoolError, match="can't be read"):
        list(read_segment(segment, finished=True))


# ---------------------------------------------------------------------------------------------- who lives


def now():
    return time.time_ns() // 1000


def test_a_live_stream_is_not_lost_however_silent(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    assert is_alive(tmp_path, STREAM)
    assert find_lost(tmp_path, STREAM, 3, now() - 10 * LIVENESS_LOST_US) is None
    writer.close()
    assert not is_alive(tmp_path, STREAM)
    assert find_lost(tmp_path, STREAM, 3, now()) is None  # a moment ago is no silence
    before = now() - 2 * LIVENESS_LOST_US
    lost = find_lost(tmp_path, STREAM, 3, before)
    assert lost is not None
    assert (lost.stream, lost.at_us, lost.reason, lost.after_seq) == (STREAM, before, "vanished", 3)


def test_who_saw_it_die_is_believed(tmp_path):
    write_lost(tmp_path, StreamLost(STREAM, 17, "died", 5, "signal 9"))
    assert find_lost(tmp_path, STREAM, 3, now()) == StreamLost(STREAM, 17, "died", 5, "signal 9")
    write_lost(tmp_path, StreamLost(STREAM, 18, "died", 0, ""))
    assert find_lost(tmp_path, STREAM, 3, now()) == StreamLost(STREAM, 18, "died", 3, "")


@pytest.mark.parametrize(("after_seq", "expected"), [(b"null", 3), (b"0", 0), (b"2", 2)])
def test_which_seq_a_loss_names(tmp_path, after_seq, expected):
    """spec: FLD-6.7, RST-7.11"""
    note = b'{"at":19,"reason":"vanished","after_seq":%s,"detail":null}' % after_seq
    lost_path(tmp_path, STREAM.session_id).write_bytes(note)
    assert find_lost(tmp_path, STREAM, 3, now()) == StreamLost(STREAM, 19, "vanished", expected, "")


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"at":1}',
        b'{"at":1,"reason":"bored"}',
        b'{"at":1e999,"reason":"died"}',
        b'{"at":123456789012345678901234567890,"reason":"died"}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_note_does_not_keep_a_stream_alive(tmp_path, note):
    lost_path(tmp_path, STREAM.session_id).write_bytes(note)
    assert find_lost(tmp_path, STREAM, 3, now()) is None
    lost = find_lost(tmp_path, STREAM, 3, now() - 2 * LIVENESS_LOST_US)
    assert lost is not None
    assert lost.reason == "vanished"
