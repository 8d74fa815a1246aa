"""A stream in the order of its seqs, whatever lies in the spool."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.ir import Envelope, Skip
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import FileLock, StreamWriter, lock_path, open_segment, read_segment, segments
from xtrack_protocol.spool import feed as feed_module
from xtrack_protocol.spool import parts as parts_module
from xtrack_protocol.spool import writer as writer_module
from xtrack_protocol.spool.feed import Event, Hole, StreamFeed
from xtrack_protocol.spool.shipping import ShipNote, write_note
from xtrack_protocol.wire import RECORDS_START, Record, encode

STREAM = StreamId("r", "w", "5e55")


def payload(seq, size=100):
    return f'{{"n":{seq}}}'.encode().ljust(size)


def skip(first, last, reason="the disk was full"):
    return encode(Envelope.of(Skip("r", "5e55", first, last, reason, "w"), seq=0, timestamp_us=1))


def write(run_dir, seqs, **options):
    """Write records with these seqs, and close."""
    writer = StreamWriter(run_dir, STREAM, **options)
    for seq in seqs:
        writer.append(seq, payload(seq))
    writer.close()


def take(feed, most=10_000):
    """Return what comes until nothing does: the seq of an event, the range of a hole."""
    found = []
    while len(found) < most and (item := feed.next()) is not None:
        if isinstance(item, Event):
            assert item.payload == payload(item.seq)
            found.append(item.seq)
        else:
            found.append((item.first, item.last))
    return found


def take_all(feed):
    found = take(feed)
    while not feed.is_finished:
        more = take(feed)
        assert more
        found += more
    return found


def record_at(run_dir, seq, which=0):
    """Return the path, offset and size of a record."""
    found = [
        (path, item.offset, item.size)
        for path in segments(run_dir)
        for item, _ in read_segment(open_segment(path), finished=True)
        if isinstance(item, Record) and item.seq == seq
    ]
    return found[which]


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def damage(run_dir, seq, which=0, *, head=False):
    path, offset, size = record_at(run_dir, seq, which)
    flip(path, offset + (5 if head else size - 10))


def failing(*_args):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# ---------------------------------------------------------------------------------------------- forward


def test_a_live_stream_is_followed_over_its_segments(tmp_path):
    feed = StreamFeed(tmp_path, STREAM)
    assert feed.next() is None
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 500)
    assert not feed.is_finished
    for seq in range(1, 101):
        writer.append(seq, payload(seq))
        assert take(feed) == [seq]
        assert feed.next() is None
        assert (feed.last_seq, feed.position, feed.is_finished) == (seq, seq + 1, False)
    writer.close()
    assert feed.next() is None
    assert feed.is_finished
    assert len(list(segments(tmp_path))) > 10


def test_a_finished_stream_with_records_of_all_sizes(tmp_path):
    sizes = [1, 2, 100, 255 * 1024, 256 * 1024, 3, 2**20 + 7, 5 * 2**20, 1]
    writer = StreamWriter(tmp_path, STREAM)
    for seq, size in enumerate(sizes, 1):
        writer.append(seq, bytes([seq]) * size)
    writer.close()
    feed = StreamFeed(tmp_path, STREAM)
    for seq, size in enumerate(sizes, 1):
        assert feed.next() == Event(seq, bytes([seq]) * size)
    assert feed.next() is None
    assert feed.is_finished


def test_what_is_read_already_is_given_at_once(tmp_path):
    """Up to what isn't plainly the next event: a declared loss, damage, the end."""
    writer = StreamWriter(tmp_path, STREAM)
    for seq in (1, 2, 3, 4, 5, 6, 7, 8):
        writer.append(seq, payload(seq))
    writer.append(12, payload(12))
    writer.close()
    damage(tmp_path, 6)
    feed = StreamFeed(tmp_path, STREAM)
    assert feed.ahead(10) == [], "nothing was read yet"
    assert take(feed, 1) == [1]
    assert feed.ahead(2) == [payload(2), payload(3)]
    assert feed.ahead(10) == [payload(seq) for seq in (2, 3, 4, 5)]
    feed.pass_by(0)
    assert feed.position == 2
    feed.pass_by(3)
    assert feed.position == 5
    assert feed.ahead(10) == [payload(5)]
    feed.pass_by(1)
    assert feed.ahead(10) == []
    hole = feed.next()
    assert (hole.first, hole.last) == (6, 6)
    assert feed.ahead(10) == [payload(7), payload(8)]
    feed.pass_by(2)
    assert feed.ahead(10) == []
    assert take(feed) == [(9, 11), 12]


def test_no_stream_at_all(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        feed = StreamFeed(folder, STREAM)
        assert feed.next() is None
        assert feed.is_finished
        assert (feed.last_seq, feed.position, feed.problem) == (0, 1, "")


def test_streams_that_share_a_session_id_are_kept_apart(tmp_path):
    """As workers of the published protocol may, whose session ids are derived."""
    others = StreamId("r", "other", "5e55")
    writers = [StreamWriter(tmp_path, stream, live=False, segment_max=1) for stream in (STREAM, others)]
    for seq in (1, 2, 3):
        writers[0].append(seq, payload(seq))
        writers[1].append(seq + 10, payload(seq + 10))
    for writer in writers:
        writer.close()
    assert take_all(StreamFeed(tmp_path, STREAM)) == [1, 2, 3]
    assert take_all(StreamFeed(tmp_path, others)) == [(1, 10), 11, 12, 13]


def test_a_poll_when_nothing_has_come_reads_nothing(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1]
    monkeypatch.setattr(feed_module, "_LOOK_SECONDS", 1e9)
    calls = []
    for name in ("_pread",):
        monkeypatch.setattr(parts_module, name, lambda *_: calls.append("read") or b"")
    monkeypatch.setattr(os, "scandir", lambda *_: calls.append("scan"))
    monkeypatch.setattr(feed_module, "is_locked", lambda _: calls.append("lock"))
    monkeypatch.setattr(feed_module, "read_note", lambda *_: calls.append("note"))
    for _ in range(100):
        assert feed.next() is None
    assert calls == []
    writer.close()


FOLLOWED = """
import sys
from pathlib import Path
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter
writer = StreamWriter(Path(sys.argv[1]), StreamId("r", "w", "5e55"), segment_max=50_000)
print("open", flush=True)
for seq in range(1, 10**9):
    writer.append(seq, (b'{"n":%d}' % seq).ljust(100))
"""


def test_a_process_is_followed_until_kill_9(tmp_path):
    with subprocess.Popen([sys.executable, "-c", FOLLOWED, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        feed, expected = StreamFeed(tmp_path, STREAM), 1
        deadline = time.monotonic() + 30
        while not feed.is_finished:
            item = feed.next()
            if item is not None:
                assert item == Event(expected, payload(expected))
                expected += 1
            if expected == 5000 or time.monotonic() > deadline:
                process.send_signal(signal.SIGKILL)
        process.wait()
    assert expected > 5000
    assert take_all(StreamFeed(tmp_path, STREAM)) == list(range(1, expected))


# ---------------------------------------------------------------------------------------------- ends


def test_a_torn_tail_is_waited_for_and_is_no_hole(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    for seq in (1, 2):
        writer.append(seq, payload(seq))
    path, offset, _ = record_at(tmp_path, 2)
    whole = path.read_bytes()
    feed = StreamFeed(tmp_path, STREAM)
    for length in (0, 1, 10, 30, 123):
        os.truncate(path, offset)
        with path.open("ab") as file:
            file.write(whole[offset : offset + length])
        assert take(feed) == ([1] if length == 0 else [])
    assert not feed.is_finished
    writer.forget()
    assert feed.is_finished
    assert feed.next() is None
    assert feed.position == 2


def test_a_write_that_was_cut_off_leaves_no_trace(tmp_path, monkeypatch):
    """Even if it was read while it was there, and what came in its place has the same size."""
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1]
    real = os.write
    plan = [60]

    def short(fd, data):
        if plan:
            return real(fd, data[: plan.pop()])
        assert take(feed) == []
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(SpoolError):
            writer.append(2, payload(2))
    writer.append(2, payload(2, 60 - 24))
    assert feed.next() == Event(2, payload(2, 36))
    writer.close()


@pytest.mark.parametrize("head", [False, True])
def test_damage_in_a_live_stream_is_a_hole_once_more_has_come(tmp_path, head):
    writer = StreamWriter(tmp_path, STREAM)
    for seq in (1, 2):
        writer.append(seq, payload(seq))
    damage(tmp_path, 2, head=head)
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1]
    assert not feed.is_finished
    writer.append(3, payload(3))
    hole = feed.next()
    assert (hole.first, hole.last) == (2, 2)
    assert "damaged in the spool" in hole.reason
    assert take(feed) == [3]
    writer.close()


@pytest.mark.parametrize(("head", "expected"), [(False, [1, (2, 2)]), (True, [1])])
def test_damage_at_the_end_is_a_hole_where_its_seq_is_known(tmp_path, head, expected):
    write(tmp_path, [1, 2])
    damage(tmp_path, 2, head=head)
    assert take_all(StreamFeed(tmp_path, STREAM)) == expected


def test_damage_at_the_end_of_a_full_segment(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 248)
    for seq in (1, 2):
        writer.append(seq, payload(seq))
    damage(tmp_path, 2)
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1]
    writer.append(3, payload(3))
    assert take(feed) == [(2, 2), 3]
    writer.close()


def test_damage_of_everything(tmp_path):
    write(tmp_path, range(1, 11))
    for seq in range(10, 0, -1):
        damage(tmp_path, seq)
    assert take_all(StreamFeed(tmp_path, STREAM)) == [(1, 10)]


@pytest.mark.parametrize("which", ["header", "missing"])
def test_a_segment_that_is_lost_is_a_hole_also_in_a_live_stream(tmp_path, which):
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 248)
    for seq in range(1, 8):
        writer.append(seq, payload(seq))
    second = list(segments(tmp_path))[1]
    if which == "missing":
        second.unlink()
    else:
        for offset in (20, RECORDS_START // 2 + 20):
            flip(second, offset)
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1, 2, (3, 4), 5, 6, 7]
    writer.close()


@pytest.mark.parametrize("which", ["header", "missing", "trimmed"])
def test_segments_without_events_behind_one_that_is_lost(tmp_path, monkeypatch, which):
    """The disk filled up just then: what follows the lost segment holds a torn tail, and a declared loss."""
    writer = StreamWriter(tmp_path, STREAM, segment_max=1)
    writer.append(1, payload(1))
    real, calls = os.write, []

    def short(fd, data):
        calls.append(fd)
        if len(calls) == 2:  # the header comes first
            return real(fd, data[:1])
        return real(fd, data) if len(calls) == 1 else failing()

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        patch.setattr(os, "ftruncate", failing)
        with pytest.raises(SpoolError):
            writer.append(2, payload(2))
    writer.append(0, skip(2, 2))
    writer.append(3, payload(3))
    first = next(segments(tmp_path))
    if which == "header":
        for offset in (20, RECORDS_START // 2 + 20):
            flip(first, offset)
    else:
        first.unlink()
    if which == "trimmed":
        write_note(tmp_path, STREAM, ShipNote("tcp://c:1", trimmed=1))
    feed = StreamFeed(tmp_path, STREAM)
    hole = feed.next()
    assert (hole.first, hole.last) == (1, 1)
    assert {"header": "header", "missing": "missing", "trimmed": "tcp://c:1"}[which] in hole.reason
    assert take(feed) == [(2, 2), 3]
    writer.close()


def test_blocks_that_the_disk_can_not_read_cost_what_was_in_them(tmp_path, monkeypatch):
    write(tmp_path, range(1, 1001))
    real, bad = parts_module._pread, range(40_960, 45_056)

    def pread(fd, size, position):
        if position < bad.stop and position + size > bad.start:
            if position < bad.start:
                raise OSError(errno.EIO, "EIO")
            failing()
        return real(fd, size, position)

    monkeypatch.setattr(parts_module, "_pread", pread)
    found = take_all(StreamFeed(tmp_path, STREAM))
    holes = [item for item in found if isinstance(item, tuple)]
    lost = sum(last - first + 1 for first, last in holes)
    assert 33 <= lost <= 35  # 124 bytes each
    assert len(found) - len(holes) + lost == 1000


# ---------------------------------------------------------------------------------------------- declared losses


def test_declared_losses_are_holes_with_their_reason(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    writer.append(0, skip(2, 4))
    feed = StreamFeed(tmp_path, STREAM)
    assert feed.next() == Event(1, payload(1))
    assert feed.next() == Hole(2, 4, "the disk was full")  # though nothing has come behind it
    writer.append(5, payload(5))
    writer.append(0, skip(6, 6))
    writer.append(0, skip(7, 9, None))
    assert take(feed) == [5, (6, 6), (7, 9)]
    assert feed.last_seq == 9
    writer.close()
    assert feed.is_finished


def test_what_comes_in_spite_of_a_declared_loss_is_an_event(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    for seq in (1, 2, 3):
        writer.append(seq, payload(seq))
    writer.append(0, skip(3, 5))  # 3 was in doubt when a signal came, and did go out
    writer.append(6, payload(6))
    assert take(StreamFeed(tmp_path, STREAM)) == [1, 2, 3, (4, 5), 6]
    writer.close()


def test_a_segment_that_begins_with_a_declared_loss(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 300)
    for seq in (1, 2, 3):
        writer.append(seq, payload(seq))
    for first in (4, 6, 8):
        writer.append(0, skip(first, first))
        writer.append(first + 1, payload(first + 1))
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1, 2, 3, (4, 4), 5, (6, 6), 7, (8, 8), 9]
    for seq in range(9, 0, -1):
        feed.seek(seq)
        found = take(feed)
        assert found[0] == ((seq, seq) if seq in {4, 6, 8} else seq)
        assert found[-1] == 9
    writer.close()


def test_a_header_that_names_no_seq_as_older_versions_wrote(tmp_path, monkeypatch):
    real = StreamWriter._create
    zero = {4}

    def create(self, first_seq):
        return real(self, 0 if first_seq in zero else first_seq)

    monkeypatch.setattr(StreamWriter, "_create", create)
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 300)
    for seq in (1, 2, 3, 0, 5, 6, 7, 8):
        writer.append(seq, payload(seq) if seq else skip(4, 4))
    assert [open_segment(path).header.first_seq for path in segments(tmp_path)] == [1, 0, 7]
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1, 2, 3, (4, 4), 5, 6, 7, 8]
    feed.seek(4)
    assert take(feed) == [(4, 4), 5, 6, 7, 8]
    writer.close()


# ---------------------------------------------------------------------------------------------- rescues


def rescued(run_dir, monkeypatch):
    """Write 1 to 3, of which 2 and 3 come to doubt and are written once more, while 4 is in a segment of its own."""
    writer = StreamWriter(run_dir, STREAM, background=True)
    writer.append(1, payload(1))
    writer.sync()
    for seq in (2, 3):
        writer.append(seq, payload(seq))
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "sync_file", failing)
        with pytest.raises(SpoolError):
            writer.sync()
    writer.append(4, payload(4))
    writer.sync()
    writer.append(5, payload(5))
    assert [open_segment(path).header.first_seq for path in segments(run_dir)] == [1, 4, 2]
    return writer


def test_what_a_rescue_wrote_twice_comes_once(tmp_path, monkeypatch):
    feed = StreamFeed(tmp_path, STREAM)
    writer = rescued(tmp_path, monkeypatch)
    assert take(feed) == [1, 2, 3, 4, 5]
    for seq in (3, 2, 5, 4, 1):
        feed.seek(seq)
        assert take(feed) == list(range(seq, 6))
    writer.append(6, payload(6))
    assert take(feed) == [6]
    writer.close()
    assert take_all(feed) == []


def test_what_is_damaged_is_read_from_the_rescue(tmp_path, monkeypatch):
    writer = rescued(tmp_path, monkeypatch)
    damage(tmp_path, 2)
    assert take(StreamFeed(tmp_path, STREAM)) == [1, 2, 3, 4, 5]
    damage(tmp_path, 2)  # the copy
    monkeypatch.setattr(parts_module.Part, "is_being_written", lambda _: False)
    assert take(StreamFeed(tmp_path, STREAM)) == [1, (2, 2), 3, 4, 5]
    writer.close()


def test_a_rescue_that_is_being_written_is_waited_for(tmp_path, monkeypatch):
    writer = rescued(tmp_path, monkeypatch)
    path, offset, _ = record_at(tmp_path, 2, 1)
    whole = path.read_bytes()
    damage(tmp_path, 2)
    os.truncate(path, offset)
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1]
    path.write_bytes(whole)
    assert take(feed) == [2, 3, 4, 5]
    writer.close()


# ---------------------------------------------------------------------------------------------- gaps


def test_a_gap_that_nothing_explains_is_waited_for(tmp_path):
    """A collector that files away what others send may still get it."""
    writer = StreamWriter(tmp_path, STREAM)
    for seq in (1, 2, 5, 6, 4):
        writer.append(seq, payload(seq))
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1, 2]
    assert not feed.is_finished
    writer.append(3, payload(3))
    writer.close()
    assert take_all(feed) == [3, 4, 5, 6]
    feed.seek(4)
    assert take_all(feed) == [4, 5, 6]


def test_a_gap_that_nothing_explains_is_a_hole_when_the_stream_is_over(tmp_path):
    write(tmp_path, [1, 2, 5, 6, 3, 1])
    feed = StreamFeed(tmp_path, STREAM)
    assert take_all(feed) == [1, 2, 3, (4, 4), 5, 6]
    write(tmp_path, [4, 7])  # it came after all: nobody who goes back to it misses it
    feed.seek(3)
    assert take_all(feed) == [3, 4, 5, 6, 7]


def test_what_was_filed_away_in_any_order(tmp_path):
    write(tmp_path, [7, 3, 9, 1], segment_max=RECORDS_START + 248)
    write(tmp_path, [2, 8, 6, 5, 4, 3], segment_max=RECORDS_START + 400)
    feed = StreamFeed(tmp_path, STREAM)
    assert take_all(feed) == list(range(1, 10))
    for seq in (5, 2, 9, 1):
        feed.seek(seq)
        assert take_all(feed) == list(range(seq, 10))


# ---------------------------------------------------------------------------------------------- seeking


def test_seeking_back_and_forth(tmp_path):
    write(tmp_path, range(1, 501), segment_max=RECORDS_START + 2000)
    feed = StreamFeed(tmp_path, STREAM)
    for seq in (1, 500, 250, 251, 249, 17, 16, 18, 499, 1, 2):
        feed.seek(seq)
        assert feed.position == seq
        assert take(feed, 3) == list(range(seq, min(seq + 3, 501)))
    feed.seek(501)
    assert feed.next() is None
    assert feed.is_finished
    feed.seek(10**18)
    assert feed.next() is None
    with pytest.raises(ValueError, match="1 or more"):
        feed.seek(0)


def test_seeking_to_the_middle_of_a_segment_opens_no_other(tmp_path, monkeypatch):
    write(tmp_path, range(1, 501), segment_max=RECORDS_START + 2000)
    opened = []
    real = os.open
    feed = StreamFeed(tmp_path, STREAM)
    feed.next()
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(os.fspath(path)) or real(path, *rest))
    feed.seek(300)
    assert take(feed, 1) == [300]
    assert len(opened) == 1


def test_seeking_into_a_hole(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    writer.append(0, skip(2, 9))
    for seq in range(10, 20):
        writer.append(seq, payload(seq))
    damage(tmp_path, 15)
    feed = StreamFeed(tmp_path, STREAM)
    feed.seek(5)
    assert feed.next() == Hole(5, 9, "the disk was full")
    feed.seek(15)
    assert take(feed) == [(15, 15), 16, 17, 18, 19]
    feed.seek(3)
    assert take(feed, 2) == [(3, 9), 10]
    writer.close()


def test_closing_gives_the_descriptors_back(tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts descriptors in /proc")
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 300)
    for seq in range(1, 101):
        writer.append(seq, payload(seq))
    before = len(os.listdir("/proc/self/fd"))
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == list(range(1, 101))
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    feed.close()
    assert len(os.listdir("/proc/self/fd")) == before
    writer.append(101, payload(101))
    assert take(feed) == [101]
    feed.close()
    writer.close()


# ---------------------------------------------------------------------------------------------- what can't be read now


@contextmanager
def out_of(monkeypatch, number):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        yield


def test_what_can_not_be_read_now_is_told_and_read_later(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    feed = StreamFeed(tmp_path, STREAM)
    with out_of(monkeypatch, errno.EMFILE):
        assert feed.next() is None
        assert "Too many open files" in feed.problem
        assert not feed.is_finished
    assert take(feed) == [1]
    assert feed.problem == ""
    writer.close()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_of_another_user(tmp_path):
    write(tmp_path, [1])
    tmp_path.chmod(0)
    try:
        feed = StreamFeed(tmp_path, STREAM)
        assert feed.next() is None
        assert "can't be read" in feed.problem
    finally:
        tmp_path.chmod(0o700)
    assert take(feed) == [1]


def test_where_locks_can_not_be_seen_nothing_is_ever_over(tmp_path, monkeypatch):
    write(tmp_path, [1, 3])
    monkeypatch.setattr(feed_module, "is_locked", lambda _: None)
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed) == [1]
    assert not feed.is_finished


def test_a_run_that_is_deleted_under_the_feed(tmp_path):
    write(tmp_path, range(1, 11), segment_max=RECORDS_START + 248)
    feed = StreamFeed(tmp_path, STREAM)
    assert take(feed, 3) == [1, 2, 3]
    for path in segments(tmp_path):
        path.unlink()
    found = take_all(feed)
    assert found in ([], [4])


def test_who_takes_the_stream_up_again_is_noticed(tmp_path):
    write(tmp_path, [1])
    feed = StreamFeed(tmp_path, STREAM)
    assert take_all(feed) == [1]
    lock = FileLock(lock_path(tmp_path, "5e55"))
    assert lock.acquire()
    try:
        writer = StreamWriter(tmp_path, STREAM, live=False)
        writer.append(2, payload(2))
        assert take(feed) == [2]
        assert not feed.is_finished
        writer.append(3, payload(3))
        assert take(feed) == [3]
        writer.close()
    finally:
        lock.release()
    assert take_all(feed) == []


def test_a_segment_whose_header_is_not_written_yet(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    path = next(segments(tmp_path))
    whole = path.read_bytes()
    os.truncate(path, 100)
    feed = StreamFeed(tmp_path, STREAM)
    assert feed.next() is None
    path.write_bytes(whole)
    deadline = time.monotonic() + 20
    while (item := feed.next()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert item == Event(1, payload(1))
    writer.close()


def test_a_backlog_is_read_to_its_end_however_old_it_is(tmp_path):
    """While its writer lives and appends nothing: what was seen of the file says nothing of what was read of it."""
    writer = StreamWriter(tmp_path, STREAM)
    try:
        for seq in range(1, 41):
            writer.append(seq, payload(seq, 50_000))
        feed = StreamFeed(tmp_path, STREAM)
        for path in segments(tmp_path):
            os.utime(path, (1_700_000_000, 1_700_000_000))
        assert [event.seq for event in iter(feed.next, None)] == list(range(1, 41))
        assert not feed.is_finished
        feed.close()
    finally:
        writer.close()
