"""What a logged number is written by: as good as ``append`` in all but what it takes on itself."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter, open_segment, read_segment, segments
from xtrack_protocol.spool import writer as writer_module
from xtrack_protocol.spool.pen import Pen
from xtrack_protocol.wire import Damage, Record, RecordDecoder, TornTail, encode_record

STREAM = StreamId("r", "w", "5e55")


def items(run_dir):
    found = []
    for path in segments(run_dir):
        segment = open_segment(path)
        found += [item for item, _ in read_segment(segment, finished=True)]
    return found


def seqs(run_dir):
    return [item.seq if isinstance(item, Record) else type(item).__name__ for item in items(run_dir)]


def pen_of(writer):
    writer.append(1, b"1" * 100)
    pen = writer.pen()
    assert pen is not None
    assert pen.put(2, b"2" * 100)  # this length is known now
    return pen


def failing(number):
    def write(_fd, _data):
        raise OSError(number, os.strerror(number))

    return write


@given(
    st.lists(st.tuples(st.integers(0, 2**63 - 1), st.binary(min_size=1, max_size=2100)), max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_its_records_are_those_of_encode_record(events, salt):
    reading, writing = os.pipe()
    try:
        pen = Pen(writing, "segment", salt, 2**20)
        for seq, payload in events:
            expected = encode_record(seq, payload, salt)
            assert len(expected) == len(payload) + 24
            assert RecordDecoder(salt).feed(expected)[0].payload == payload
            if pen.put(seq, payload):
                assert os.read(reading, 9000) == expected
            else:
                assert len(payload) >= 2048
    finally:
        os.close(reading)
        os.close(writing)


def test_it_goes_on_where_append_was_and_the_other_way_round(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=10_000)
    pen = None
    for seq in range(1, 301):
        if seq % 7 == 0 or pen is None or not pen.put(seq, b"x" * 100):
            writer.append(seq, b"x" * 100)
            pen = writer.pen()
    writer.append(0, b"a declared loss")
    writer.close()
    assert [seq for seq in seqs(tmp_path) if seq] == list(range(1, 301))
    assert len(list(segments(tmp_path))) > 10
    assert not pen.put(301, b"x" * 100)


def test_a_segment_that_begins_with_a_loss_knows_what_it_has_written(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=8192 + 300)
    pen = pen_of(writer)
    assert pen.put(3, b"3" * 100)
    assert not pen.put(4, b"4" * 100)  # full
    writer.append(0, b"{}")
    writer.close()
    assert [open_segment(path).header.first_seq for path in segments(tmp_path)] == [1, 4]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EBADF])
def test_an_error_is_told_by_append(tmp_path, monkeypatch, number):
    writer = StreamWriter(tmp_path, STREAM)
    pen = pen_of(writer)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(number))
        assert not pen.put(3, b"3" * 100)
        with pytest.raises(SpoolError):
            writer.append(3, b"3" * 100)
    assert pen.put(4, b"4" * 100)
    writer.close()
    assert seqs(tmp_path) == [1, 2, 4]


@pytest.mark.parametrize("part", [0, 1, 19, 20, 60, 123])
@pytest.mark.parametrize("cuts", [True, False])
def test_a_short_write_is_taken_back(tmp_path, monkeypatch, part, cuts):
    writer = StreamWriter(tmp_path, STREAM)
    pen = pen_of(writer)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[:part]))
        if not cuts:
            patch.setattr(os, "ftruncate", failing(errno.EIO))
        assert not pen.put(3, b"3" * 100)
    assert pen.put(3, b"3" * 100) is cuts  # nothing is written behind what may be torn
    if not cuts:
        writer.append(3, b"3" * 100)
    writer.close()
    torn = [] if cuts or not part else ["TornTail"]
    assert seqs(tmp_path) == [1, 2, *torn, 3]


@pytest.mark.parametrize("written", [0, 40, 124])
def test_a_signal_handler_that_raises_around_the_write(tmp_path, monkeypatch, written):
    """Whether the record is there can't be known before the file is looked at; what follows it is whole in any case."""
    writer = StreamWriter(tmp_path, STREAM)
    pen = pen_of(writer)
    real = os.write

    def write_and_raise(fd, data):
        real(fd, data[:written])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_and_raise)
        with pytest.raises(KeyboardInterrupt):
            pen.put(3, b"3" * 100)
    if not pen.put(4, b"4" * 100):
        writer.append(4, b"4" * 100)
    writer.sync()
    writer.close()
    assert seqs(tmp_path) == [1, 2, *{0: [], 40: ["TornTail"], 124: [3]}[written], 4]


def test_a_sync_that_fails_in_the_middle_of_a_write_loses_nothing(tmp_path, monkeypatch):
    """The record that was on its way stands in the segment in doubt, and is written once more with the others."""
    lock = threading.RLock()
    writer = StreamWriter(tmp_path, STREAM, background=True, lock=lock)
    pen = pen_of(writer)
    begun, go_on = threading.Event(), threading.Event()
    real_write, real_sync = os.write, writer_module.sync_file
    fails = [True]

    def slow_write(fd, data):
        if threading.current_thread().name == "logs":
            begun.set()
            assert go_on.wait(20)
        return real_write(fd, data)

    def sync_file(fd):
        if fails:
            fails.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real_sync(fd)

    monkeypatch.setattr(os, "write", slow_write)
    monkeypatch.setattr(writer_module, "sync_file", sync_file)
    monkeypatch.setattr(writer_module, "_APPEND_SECONDS", 0.05)
    taken = []

    def log():
        with lock:
            taken.append(pen.put(3, b"3" * 100))

    thread = threading.Thread(target=log, name="logs")
    thread.start()
    assert begun.wait(20)
    with pytest.raises(SpoolError, match="made durable"):
        writer.sync()
    with pytest.raises(SpoolError, match="while an event is being written"):
        writer.sync()
    go_on.set()
    thread.join()
    assert taken == [True]
    assert not pen.put(4, b"4" * 100), "nothing more is written to a segment whose sync failed"
    writer.sync()
    assert seqs(tmp_path) == [1, 2, 3, 1, 2, 3]
    writer.append(4, b"4" * 100)
    writer.close()
    assert [seq for seq in seqs(tmp_path) if seq == 4] == [4]


def test_a_handler_that_syncs_inside_of_a_write_waits_for_nobody(tmp_path, monkeypatch):
    lock = threading.RLock()
    writer = StreamWriter(tmp_path, STREAM, background=True, lock=lock)
    pen_of(writer)
    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "sync_file", failing_sync)
        with pytest.raises(SpoolError, match="made durable"):
            writer.sync()
    with lock, pytest.raises(SpoolError, match="in the middle of a call"):
        writer.sync()
    writer.sync()
    writer.close()
    assert seqs(tmp_path) == [1, 2, 1, 2]


def failing_sync(_fd):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_came_while_a_sync_ran_is_synced_where_its_segment_became_full(tmp_path, monkeypatch):
    """A segment that was the present one when its sync began, and isn't when it ends, has more to be synced."""
    writer = StreamWriter(tmp_path, STREAM, background=True, segment_max=8192 + 300)
    writer.append(1, b"1" * 100)
    first = next(segments(tmp_path)).stat().st_ino
    synced = []
    real = writer_module.sync_file

    def sync_file(fd):
        if not synced:
            for seq in (2, 3, 4):  # 4 stands in the next one
                writer.append(seq, b"x" * 100)
        status = os.fstat(fd)
        synced.append((status.st_ino, status.st_size if len(synced) else 8192 + 124))
        real(fd)

    monkeypatch.setattr(writer_module, "sync_file", sync_file)
    writer.sync()
    whole = next(segments(tmp_path)).stat().st_size
    assert [size for inode, size in synced if inode == first][-1] == whole
    assert len([inode for inode, _ in synced if inode == first]) == 2
    writer.close()
    assert seqs(tmp_path) == [1, 2, 3, 4]
    assert not any(isinstance(item, (Damage, TornTail)) for item in items(tmp_path))
