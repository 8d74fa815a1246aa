"""Notes of what was shipped, and the removal of what a collector keeps."""

from __future__ import annotations

import os
import stat

import pytest

from xtrack_protocol.ir import Envelope, Metric, RunEnd, RunStart, Skip
from xtrack_protocol.limits import KEEP_ACKED_US
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir, StreamWriter, segments
from xtrack_protocol.spool import shipping as shipping_module
from xtrack_protocol.spool.feed import Event, Hole, StreamFeed
from xtrack_protocol.spool.layout import ship_path
from xtrack_protocol.spool.shipping import ShipNote, find_streams, read_note, trim, write_note
from xtrack_protocol.wire import RECORDS_START, encode

STREAM = StreamId("r", "", "5e55")
URL = "tls://collector:9999"
DAY = KEEP_ACKED_US
SIZE = 200
NOW = 1_700_000_000_000_000


def event(seq, payload=None):
    envelope = Envelope.of(payload or Metric("r", "loss", 1.0), seq=seq, timestamp_us=seq, session_id="5e55")
    return encode(envelope).ljust(SIZE)


def spooled(run_dir, count, *, live=False, each=3):
    """Write a stream of ``count`` events, about ``each`` to a segment."""
    writer = StreamWriter(run_dir, STREAM, segment_max=RECORDS_START + each * (SIZE + 24))
    for seq in range(1, count + 1):
        payload = RunStart("r", name="n") if seq == 1 else RunEnd("r", "completed") if seq == count else None
        writer.append(seq, event(seq, None if live and seq == count else payload))
    if not live:
        writer.close()
    return writer


def numbers(run_dir):
    return [int(path.name.split(".")[-2]) for path in segments(run_dir)]


def read_all(run_dir, stream=STREAM):
    feed = StreamFeed(run_dir, stream)
    found = []
    while (item := feed.next()) is not None or not feed.is_finished:
        if item is not None:
            found.append(item)
    return found


# ---------------------------------------------------------------------------------------------- notes


def test_a_note_comes_back_as_it_was(tmp_path):
    note = ShipNote(
        URL,
        buffer=True,
        acked=7,
        durability="power",
        unconfirmed=9,
        rejected=[(3, "bad_value")],
        rejected_count=1,
        fenced=True,
        marks=[(1, NOW)],
        trimmed=4,
        ends=['{"é":1}'],
    )
    write_note(tmp_path, STREAM, note)
    assert read_note(tmp_path, STREAM) == note
    assert stat.S_IMODE(ship_path(tmp_path, "5e55").stat().st_mode) == 0o600 or os.name == "nt"
    write_note(tmp_path, STREAM, ShipNote(URL), durable=True)
    assert read_note(tmp_path, STREAM) == ShipNote(URL)
    assert [path.name for path in tmp_path.iterdir()] == ["5e55.ship"]


def test_no_note_a_damaged_one_and_one_of_another_stream(tmp_path):
    assert read_note(tmp_path, STREAM) is None
    write_note(tmp_path, StreamId("r", "other worker", "5e55"), ShipNote(URL, acked=7))
    assert read_note(tmp_path, STREAM) is None  # the name isn't who it is
    for rubbish in (b"", b"{", b"[]", b'{"run_id":"r","sid":"5e55","note":{"to":1}}', b"\xff", b"[" * 100_000):
        ship_path(tmp_path, "5e55").write_bytes(rubbish)
        assert read_note(tmp_path, STREAM) is None
    ship_path(tmp_path, "5e55").write_bytes(
        b'{"run_id":"r","sid":"5e55","note":{"to":"x","acked":3,"later":[]},"more":{}}'
    )
    assert read_note(tmp_path, STREAM) == ShipNote("x", acked=3)  # spec: RST-7.7


def test_what_is_rejected_is_noted_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(shipping_module, "REJECTED_NOTED_MAX", 2)
    note = ShipNote(URL)
    note.add_rejected([(1, "a"), (2, "b"), (5, "c")])
    assert (note.rejected, note.rejected_count) == ([(1, "a"), (2, "b")], 3)


def test_another_collector_has_nothing_yet(tmp_path):
    note = ShipNote(URL, buffer=True, acked=7, durability="power", marks=[(1, 1)], trimmed=4, ends=["{}"])
    assert note.moved_to("x") == ShipNote("x", buffer=True, trimmed=4, ends=["{}"])


# ---------------------------------------------------------------------------------------------- trimming


def test_acked_segments_stay_for_a_day(tmp_path):
    spooled(tmp_path, 10)
    note = ShipNote(URL, buffer=True, acked=7, durability="power")
    assert trim(tmp_path, STREAM, note, NOW) == 0
    assert dict(note.marks).keys() == {1, 2}  # 1 to 3, 4 to 6; the third holds 7 to 9
    assert trim(tmp_path, STREAM, note, NOW + DAY - 1) == 0
    assert numbers(tmp_path) == [1, 2, 3, 4]
    note.acked = 9
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 2
    assert numbers(tmp_path) == [3, 4]
    assert (note.trimmed, note.marks) == (6, [(3, NOW + DAY)])
    assert read_note(tmp_path, STREAM) == note  # written before anything was removed
    found = read_all(tmp_path)
    assert found[0] == Hole(1, 6, f"shipped to {URL}, and no longer kept here")
    assert [item.seq for item in found[1:]] == [7, 8, 9, 10]


@pytest.mark.parametrize("durability", ["none", "process"])
def test_acks_that_survive_no_power_loss_remove_nothing(tmp_path, durability):  # spec: DLV-5
    spooled(tmp_path, 10)
    note = ShipNote(URL, buffer=True, acked=10, durability="power")
    trim(tmp_path, STREAM, note, NOW)
    assert len(note.marks) == 4
    note.durability = durability
    assert trim(tmp_path, STREAM, note, NOW + 2 * DAY) == 0
    assert note.marks == []  # and what was marked waits a day again
    note.durability = "power"
    assert trim(tmp_path, STREAM, note, NOW + 3 * DAY) == 0
    assert numbers(tmp_path) == [1, 2, 3, 4]


def test_a_spool_that_is_the_only_copy_is_never_trimmed(tmp_path):
    spooled(tmp_path, 10)
    note = ShipNote(URL, buffer=False, acked=10, durability="power", marks=[(1, 1), (2, 1)])
    assert trim(tmp_path, STREAM, note, NOW + 9 * DAY) == 0
    assert numbers(tmp_path) == [1, 2, 3, 4]


def test_nothing_of_a_collectors_own_store_is_trimmed(tmp_path):  # spec: RST-9.7
    spool = SpoolDir(tmp_path)
    spooled(spool.run_dir("r"), 10)
    spool.mark_served()
    spool.mark_served()  # the second time without harm
    note = ShipNote(URL, buffer=True, acked=10, durability="power", marks=[(1, 1), (2, 1)])
    assert trim(spool.run_dir("r"), STREAM, note, NOW + 9 * DAY) == 0
    assert numbers(spool.run_dir("r")) == [1, 2, 3, 4]


def test_a_collector_that_was_restored_takes_its_acks_back(tmp_path):
    spooled(tmp_path, 10)
    note = ShipNote(URL, buffer=True, acked=10, durability="power")
    trim(tmp_path, STREAM, note, NOW)
    note.acked = 3
    trim(tmp_path, STREAM, note, NOW + DAY // 2)
    note.acked = 10
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 1
    assert numbers(tmp_path) == [2, 3, 4]


def test_a_clock_that_jumps_back_removes_nothing_early(tmp_path):
    spooled(tmp_path, 10)
    note = ShipNote(URL, buffer=True, acked=10, durability="power")
    trim(tmp_path, STREAM, note, NOW + 400 * DAY)
    assert trim(tmp_path, STREAM, note, NOW) == 0
    assert trim(tmp_path, STREAM, note, NOW + DAY - 1) == 0
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 4


def test_the_last_segment_of_a_live_stream_stays(tmp_path):
    writer = spooled(tmp_path, 9, live=True)
    note = ShipNote(URL, buffer=True, acked=9, durability="power")
    trim(tmp_path, STREAM, note, NOW)
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 2
    assert numbers(tmp_path) == [3]
    writer.append(10, event(10, RunEnd("r", "completed")))
    writer.close()
    assert numbers(tmp_path) == [3, 4]
    note.acked = 10
    trim(tmp_path, STREAM, note, NOW + DAY)
    assert trim(tmp_path, STREAM, note, NOW + 2 * DAY) == 2
    assert numbers(tmp_path) == []
    assert note.trimmed == 10
    assert [text.split('"')[3] for text in note.ends] == ["run_start", "run_end"]
    assert read_all(tmp_path) == [Hole(1, 10, f"shipped to {URL}, and no longer kept here")]


def test_what_was_dropped_at_the_end_is_acked_too(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, event(1))
    writer.append(0, encode(Envelope.of(Skip("r", "5e55", 2, 5, "full"), seq=0, timestamp_us=1)))
    writer.close()
    note = ShipNote(URL, buffer=True, acked=5, durability="power")
    trim(tmp_path, STREAM, note, NOW)
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 1


def test_damage_that_was_not_acked_keeps_its_segment(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    for seq in (1, 2):
        writer.append(seq, event(seq))
    writer.close()
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    note = ShipNote(URL, buffer=True, acked=1, durability="power")
    trim(tmp_path, STREAM, note, NOW)
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 0
    note.acked = 2  # a skip was committed
    trim(tmp_path, STREAM, note, NOW)
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 1


def test_nothing_is_removed_where_the_note_can_not_be_written(tmp_path, monkeypatch):
    spooled(tmp_path, 10)
    note = ShipNote(URL, buffer=True, acked=10, durability="power")
    trim(tmp_path, STREAM, note, NOW)

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shipping_module, "write_private", full)
    with pytest.raises(OSError, match="No space"):
        trim(tmp_path, STREAM, note, NOW + DAY)
    assert numbers(tmp_path) == [1, 2, 3, 4]


def test_a_writer_and_a_feed_go_on_while_what_is_behind_them_is_trimmed(tmp_path):
    writer = spooled(tmp_path, 9, live=True)
    feed = StreamFeed(tmp_path, STREAM)
    for seq in range(1, 6):
        assert feed.next() == Event(seq, event(seq, RunStart("r", name="n") if seq == 1 else None))
    note = ShipNote(URL, buffer=True, acked=3, durability="power")
    trim(tmp_path, STREAM, note, NOW)
    assert trim(tmp_path, STREAM, note, NOW + DAY) == 1
    writer.append(10, event(10))
    assert [feed.next().seq for _ in range(5)] == [6, 7, 8, 9, 10]
    feed.seek(2)
    assert feed.next() == Hole(2, 3, f"shipped to {URL}, and no longer kept here")
    assert feed.next().seq == 4
    writer.close()


# ---------------------------------------------------------------------------------------------- finding


def test_streams_are_found_with_what_is_known_of_them(tmp_path):
    spool = SpoolDir(tmp_path)
    assert find_streams(spool) == []
    live = StreamWriter(spool.run_dir("b"), StreamId("b", "w", "5e55"))
    live.append(1, event(1))
    done = StreamWriter(spool.run_dir("a"), StreamId("a", "", "5e55"))
    done.append(1, event(1))
    done.close()
    StreamWriter(spool.run_dir("none"), StreamId("none", "", "5e55")).close()  # came to no event
    gone = StreamWriter(spool.run_dir("gone"), StreamId("gone", "", "5e55"))
    gone.append(1, event(1))
    gone.close()
    spool.tombstone("gone").touch()
    write_note(spool.run_dir("a"), StreamId("a", "", "5e55"), ShipNote(URL, acked=1))
    write_note(spool.run_dir("a"), StreamId("a", "", "7717"), ShipNote(URL, acked=9, trimmed=9))
    (spool.run_dir("a") / "x.ship").write_text("rubbish")
    found = find_streams(spool)
    assert found == [
        (spool.run_dir("a"), StreamId("a", "", "5e55"), ShipNote(URL, acked=1), False),
        (spool.run_dir("a"), StreamId("a", "", "7717"), ShipNote(URL, acked=9, trimmed=9), False),
        (spool.run_dir("b"), StreamId("b", "w", "5e55"), None, True),
    ]
    assert found[2].is_live
    live.close()
