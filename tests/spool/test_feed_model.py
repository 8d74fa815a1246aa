"""Random programs of a writer, a disk, a collector and a feed, against what a plain scan of the spool finds."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.ir import Envelope, Skip
from xtrack_protocol.limits import KEEP_ACKED_US
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.spool import StreamWriter, open_segment, read_segment, segments
from xtrack_protocol.spool import feed as feed_module
from xtrack_protocol.spool import parts as parts_module
from xtrack_protocol.spool import writer as writer_module
from xtrack_protocol.spool.feed import Event, Hole, StreamFeed
from xtrack_protocol.spool.shipping import ShipNote, read_note, trim
from xtrack_protocol.wire import RECORDS_START, Record, decode, encode

STREAM = StreamId("r", "w", "5e55")


def scan(run_dir):
    """Return which events can be read, and which losses are declared: slowly, and without any cleverness."""
    events, declared = {}, RangeSet()
    for path in segments(run_dir):
        segment = open_segment(path)
        for item, _ in read_segment(segment, finished=True) if segment else ():
            if isinstance(item, Record) and item.seq:
                events.setdefault(item.seq, item.payload)
            elif isinstance(item, Record):
                skip = decode(item.payload).payload
                declared.add_range(skip.first, skip.last)
    return events, declared


class SpoolAndFeed(RuleBasedStateMachine):
    """The writer's events, in ``written``, are what the feed may give; what it must give, a scan tells."""

    @initialize(segment_max=st.sampled_from([1, 300, 1500, 10**6]), seed=st.integers(0, 2**32))
    def begin(self, segment_max, seed):
        self.run_dir = Path(tempfile.mkdtemp(prefix="xtrack-feed-"))
        self.patches = [
            mock.patch.object(feed_module, "_LOOK_SECONDS", 0.0),
            mock.patch.object(parts_module.Part, "is_being_written", return_value=False),  # there is but one thread
        ]
        for patch in self.patches:
            patch.start()
        self.random = random.Random(seed)
        self.writer = StreamWriter(self.run_dir, STREAM, segment_max=RECORDS_START + segment_max, background=True)
        self.written = {}
        self.seq = 0
        self.lost = None
        self.flipped = set()
        self.harmed = RangeSet()
        """Seqs of which some copy was damaged, or which stood in a segment that was."""
        self.is_closed = False
        self.feed = StreamFeed(self.run_dir, STREAM)
        self.position = 1
        self.note = ShipNote("tcp://c:1", buffer=True, durability="power")
        self.now_us = 1

    def teardown(self):
        if hasattr(self, "writer"):
            if not self.is_closed:
                self.writer.close()
            self.check_all(StreamFeed(self.run_dir, STREAM))
            self.feed.close()
            for patch in self.patches:
                patch.stop()
            shutil.rmtree(self.run_dir)

    # ---------------------------------------------------------------------------------------- the writer

    @rule(count=st.integers(1, 20), size=st.integers(0, 200))
    def append(self, count, size):
        for _ in range(0 if self.is_closed else count):
            self.seq += 1
            if self.lost:
                self.declare()
            self.written[self.seq] = data = b'{"n":%d}' % self.seq + b" " * size
            self.writer.append(self.seq, data)

    @rule(size=st.sampled_from([200_000, 262_144, 300_000]))
    def append_a_large_one(self, size):
        self.append(1, size)

    @rule(count=st.integers(1, 5))
    def drop(self, count):
        """The disk is full for some events, whose loss is declared before the next one."""
        if not self.is_closed:
            self.lost = (self.lost[0] if self.lost else self.seq + 1, self.seq + count)
            self.seq += count

    @rule()
    def declare(self):
        if self.lost and not self.is_closed:
            skip = Skip("r", "5e55", *self.lost, "full", "w")
            self.writer.append(0, encode(Envelope.of(skip, seq=0, timestamp_us=1)))
            self.lost = None

    @rule(fails=st.booleans())
    def sync(self, fails):
        def refuse(_fd):
            raise OSError(errno.EIO, "EIO")

        with mock.patch.object(writer_module, "sync_file", refuse if fails else lambda _: None):
            try:
                self.writer.sync()
            except SpoolError:
                assert fails

    @rule(torn=st.integers(1, 60), heals=st.booleans())
    def write_half_a_record(self, torn, heals):
        """A write fails half-way, and is cut off again, or stays as a torn tail where even that fails."""
        if self.is_closed or not self.written:
            return
        real, calls = os.write, []

        def short(fd, data):
            calls.append(fd)
            if len(calls) == 1 and len(data) < RECORDS_START:
                return real(fd, data[:torn])
            self.read(3)
            raise OSError(errno.ENOSPC, "full")

        def no_truncate(_fd, _size):
            raise OSError(errno.EIO, "EIO")

        self.seq += 1
        if self.lost:
            self.seq -= 1
            self.declare()
            self.seq += 1
        with (
            mock.patch.object(os, "write", short),
            mock.patch.object(os, "ftruncate", os.ftruncate if heals else no_truncate),
        ):
            try:
                self.writer.append(self.seq, b"x" * 100)
            except SpoolError:
                self.lost = (self.seq, self.seq)

    @rule()
    def close(self):
        if not self.is_closed:
            self.declare()
            self.writer.close()
            self.is_closed = True

    # ---------------------------------------------------------------------------------------- the disk

    @rule(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def damage(self, where, bit):
        """Flip a bit anywhere behind a header."""
        paths = list(segments(self.run_dir))
        if not paths:
            return
        path = self.random.choice(paths)
        size = path.stat().st_size - RECORDS_START
        if size <= 0:
            return
        offset = RECORDS_START + int(where * size)
        if (path, offset, bit) in self.flipped:
            return  # twice would heal it
        self.flipped.add((path, offset, bit))
        for item, _ in read_segment(open_segment(path), finished=True):
            if item.offset <= offset < item.offset + item.size and isinstance(item, Record):
                if item.seq:
                    self.harmed.add(item.seq)
                else:
                    skip = decode(item.payload).payload
                    self.harmed.add_range(skip.first, skip.last)
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1 << bit]))

    # ---------------------------------------------------------------------------------------- the collector

    @rule(part=st.floats(0, 1), days=st.sampled_from([0, 1, 2]))
    def ack_and_trim(self, part, days):
        self.note.acked = max(self.note.trimmed, int(part * (self.position - 1)))
        self.now_us += days * KEEP_ACKED_US
        before, _ = scan(self.run_dir)
        trim(self.run_dir, STREAM, self.note, self.now_us)
        after, _ = scan(self.run_dir)
        gone = before.keys() - after.keys()
        assert all(seq <= self.note.trimmed <= self.note.acked for seq in gone)

    # ---------------------------------------------------------------------------------------- the feed

    @rule(most=st.integers(1, 50))
    def read(self, most):
        for _ in range(most):
            before = self.position
            item = self.feed.next()
            if item is None:
                self.check_nothing_is_kept_back()
                return
            self.take(item)
            assert self.feed.position == self.position > before

    @rule(most=st.integers(1, 30), part=st.floats(0, 1))
    def read_ahead(self, most, part):
        """What is read already, of which some is used."""
        found = self.feed.ahead(most)
        assert len(found) <= most
        assert found == self.feed.ahead(most), "it stays before them"
        used = int(part * len(found))
        for payload in found[:used]:
            self.take(Event(self.position, payload))
        self.feed.pass_by(used)
        assert self.feed.position == self.position

    @rule(where=st.floats(0, 1))
    def seek(self, where):
        self.position = 1 + int(where * self.seq)
        self.feed.seek(self.position)

    @rule()
    def ask_whether_it_is_over(self):
        if self.feed.is_finished:
            assert self.is_closed
            assert self.feed.next() is None

    @rule(close=st.booleans())
    def another_feed(self, close):
        if close:
            self.feed.close()
        else:
            self.feed.close()
            self.feed, self.position = StreamFeed(self.run_dir, STREAM), 1

    def take(self, item):
        if isinstance(item, Event):
            assert item.seq == self.position
            assert item.payload == self.written[item.seq]
            self.position = item.seq + 1
            return
        assert isinstance(item, Hole)
        assert item.first == self.position <= item.last <= self.seq
        events, _ = scan(self.run_dir)
        within = {seq for seq in events if item.first <= seq <= item.last}
        assert not within, (item, within)
        for seq in range(item.first, item.last + 1):
            if seq in self.written:  # then there is a reason for it to be gone
                assert seq in self.harmed or seq <= self.note.trimmed, (seq, item)
        self.position = item.last + 1

    def check_nothing_is_kept_back(self):
        events, declared = scan(self.run_dir)
        assert self.position not in events
        assert self.position not in declared or self.position in self.harmed
        later = [seq for seq in events if seq > self.position]
        if later:
            # Only what nothing explains is waited for: a declared loss that is itself damaged, with others between.
            assert self.position in self.harmed, (self.position, later[:3])

    def check_all(self, feed):
        """A stream that is over: each event that can be read, once, in order, and holes for all else."""
        events, declared = scan(self.run_dir)
        found, position = {}, 1
        while True:
            item = feed.next()
            if item is None:
                if feed.is_finished:
                    break
                continue
            assert (item.seq if isinstance(item, Event) else item.first) == position
            if isinstance(item, Event):
                found[item.seq] = item.payload
            position = (item.seq if isinstance(item, Event) else item.last) + 1
        assert found == events
        assert max([*events, declared.last or 0]) < position <= self.seq + 1
        feed.close()

    @invariant()
    def the_note_on_disk_knows_what_was_trimmed(self):
        if hasattr(self, "note") and self.note.trimmed:
            assert read_note(self.run_dir, STREAM).trimmed == self.note.trimmed


TestSpoolAndFeed = SpoolAndFeed.TestCase
TestSpoolAndFeed.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_programs():
    class Longer(SpoolAndFeed):
        pass

    case = Longer.TestCase
    case.settings = settings(
        max_examples=500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case("runTest").runTest()
