from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import warnings

import pytest

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.limits import FRAME_HARD_MAX
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter, is_alive, is_locked, lock_path, open_segment, read_segment, segments
from xtrack_protocol.spool import writer as writer_module
from xtrack_protocol.wire import RECORDS_START, Record, TornTail

STREAM = StreamId("r", "w", "5e55")


def payload(number, size=100):
    return f'{{"n":{number}}}'.encode().ljust(size)


def items(run_dir, stream=STREAM):
    found = []
    for path in segments(run_dir):
        segment = open_segment(path)
        if segment and segment.stream == stream:
            found += [item for item, _ in read_segment(segment, finished=True)]
    return found


def seqs(run_dir, stream=STREAM):
    return [item.seq if isinstance(item, Record) else type(item).__name__ for item in items(run_dir, stream)]


def open_fds():
    return len(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


class Fault:
    """Stands in for os.write: fails, or writes a part, at the calls that ``plan`` names."""

    def __init__(self, monkeypatch, plan):
        self.plan, self.calls, self.real = plan, 0, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, fd, data):
        self.calls += 1
        step = self.plan.get(self.calls)
        if isinstance(step, BaseException):
            raise step
        return self.real(fd, data if step is None else data[:step])


def full():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_records_come_back_with_their_seqs(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    assert list(segments(tmp_path)) == []  # no file before the first event
    assert is_alive(tmp_path, STREAM)
    for seq in (1, 2, 0, 3, 2**63 - 1):
        writer.append(seq, payload(seq))
    writer.close()
    assert seqs(tmp_path) == [1, 2, 0, 3, 2**63 - 1]
    assert not is_alive(tmp_path, STREAM)


def test_segments_roll_and_carry_their_numbers(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 1000)
    for seq in range(1, 101):
        writer.append(seq, payload(seq))
    writer.close()
    assert seqs(tmp_path) == list(range(1, 101))
    opened = [open_segment(path) for path in segments(tmp_path)]
    assert [segment.header.number for segment in opened] == list(range(1, len(opened) + 1))
    assert [f"5e55.{segment.header.number:06d}.xseg" for segment in opened] == [s.path.name for s in opened]
    assert len({segment.header.salt for segment in opened}) == len(opened) == 12
    for segment in opened:
        assert next(read_segment(segment, finished=True))[0].seq == segment.header.first_seq


def test_a_segment_smaller_than_its_header_holds_one_record(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=1)
    for seq in (1, 2, 3):
        writer.append(seq, payload(seq))
    writer.close()
    assert seqs(tmp_path) == [1, 2, 3]
    assert len(list(segments(tmp_path))) == 3


def test_sizes_that_no_record_holds(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    for wrong in (b"", bytes(FRAME_HARD_MAX + 1)):
        with pytest.raises(SpoolError, match="no record can hold"):
            writer.append(1, wrong)
    writer.append(1, b"0")
    writer.append(2, bytes(FRAME_HARD_MAX))
    writer.close()
    assert seqs(tmp_path) == [1, 2]


# ---------------------------------------------------------------------------------------------- one writer


def test_a_second_live_writer_of_a_stream_is_refused(tmp_path):
    first = StreamWriter(tmp_path, STREAM)
    with pytest.raises(SpoolError, match="another process writes this stream"):
        StreamWriter(tmp_path, STREAM)
    first.append(1, payload(1))
    first.close()
    second = StreamWriter(tmp_path, STREAM)
    second.append(2, payload(2))
    second.close()
    assert seqs(tmp_path) == [1, 2]
    assert len(list(segments(tmp_path))) == 2  # the first's is never touched again


def test_writers_that_file_away_never_share_a_segment(tmp_path):
    writers = [StreamWriter(tmp_path, STREAM, live=False, segment_max=RECORDS_START + 500) for _ in range(3)]
    for seq in range(1, 61):
        writers[seq % 3].append(seq, payload(seq))
    for writer in writers:
        writer.close()
    assert sorted(seqs(tmp_path)) == list(range(1, 61))


def test_a_reader_that_probes_does_not_keep_a_writer_out(tmp_path):
    stop = threading.Event()
    path = lock_path(tmp_path, STREAM.session_id)

    def probe():
        while not stop.is_set():
            is_locked(path)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        for _ in range(100):
            StreamWriter(tmp_path, STREAM).close()
    finally:
        stop.set()
        thread.join()


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    from xtrack_protocol.spool import locks

    def no_locks(_fd, *, shared):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(locks, "_try_lock", no_locks)
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    writer.close()
    assert seqs(tmp_path) == [1]


# ---------------------------------------------------------------------------------------------- after the end


@pytest.mark.parametrize("end", ["close", "forget"])
def test_nothing_is_written_after_the_end(tmp_path, end):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    getattr(writer, end)()
    with pytest.raises(SpoolError, match="closed"):
        writer.append(2, payload(2))
    writer.sync()
    writer.close()
    assert seqs(tmp_path) == [1]
    assert len(list(segments(tmp_path))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_parent_and_child_after_a_fork(tmp_path):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    childs = StreamId("r", "w", "c411d")
    if pid == 0:
        code = 1
        try:
            writer.forget()
            own = StreamWriter(tmp_path, childs)
            for seq in range(1, 101):
                own.append(seq, payload(seq))
            own.close()
            code = 0
        finally:
            os._exit(code)
    for seq in range(2, 101):
        writer.append(seq, payload(seq))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert is_alive(tmp_path, STREAM)
    assert not is_alive(tmp_path, childs)
    writer.append(101, payload(101))
    writer.close()
    assert seqs(tmp_path) == list(range(1, 102))
    assert seqs(tmp_path, childs) == list(range(1, 101))


KILLED = """
import os, sys
from pathlib import Path
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter
writer = StreamWriter(Path(sys.argv[1]), StreamId("r", "w", "5e55"), segment_max=20_000)
seq = 0
while True:
    seq += 1
    writer.append(seq, (b'{"n":%d}' % seq).ljust(50 + seq % 400))
    os.write(1, b".")
"""


def test_kill_9_loses_nothing_that_was_accepted(tmp_path):
    for number in range(5):
        run_dir = tmp_path / str(number)
        with subprocess.Popen([sys.executable, "-c", KILLED, str(run_dir)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            wanted = random.randrange(1, 3000)
            process.stdout.read(wanted)
            process.send_signal(signal.SIGKILL)
            accepted = wanted + len(process.stdout.read())
        found = seqs(run_dir)
        if found[-1] == "TornTail":
            found.pop()
        assert accepted <= len(found) <= accepted + 1
        assert found == list(range(1, len(found) + 1))
        assert not is_alive(run_dir, STREAM)


# ---------------------------------------------------------------------------------------------- faults


def test_a_short_write_is_completed(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    Fault(monkeypatch, {1: 50, 2: 3})
    writer.append(2, payload(2))
    writer.append(3, payload(3))
    writer.close()
    assert seqs(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("error", [full(), OSError(errno.EIO, "EIO"), OSError(errno.EDQUOT, "EDQUOT")])
@pytest.mark.parametrize("first", [1, 19, 20, 50, 123])
def test_a_short_write_that_fails_is_cut_off_again(tmp_path, monkeypatch, error, first):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    with monkeypatch.context() as patch:
        Fault(patch, {1: first, 2: error})
        with pytest.raises(SpoolError, match=r"can't be written.*Make room"):
            writer.append(2, payload(2))
    assert seqs(tmp_path) == [1]
    writer.append(3, payload(3))
    writer.close()
    assert seqs(tmp_path) == [1, 3]
    assert len(list(segments(tmp_path))) == 1


def test_a_signal_handler_that_raises_in_the_middle_leaves_no_half_record(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    with monkeypatch.context() as patch:
        Fault(patch, {1: 30, 2: KeyboardInterrupt()})
        with pytest.raises(KeyboardInterrupt):
            writer.append(2, payload(2))
    writer.append(3, payload(3))
    writer.close()
    assert seqs(tmp_path) == [1, 3]


def test_a_record_written_before_a_signal_is_not_cut_by_a_later_fault(tmp_path, monkeypatch):
    """The write went through, the call didn't return: the writer must not count on its own idea of the size."""
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    real = os.write

    def write_and_raise(fd, data):
        real(fd, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_and_raise)
        with pytest.raises(KeyboardInterrupt):
            writer.append(2, payload(2))
    writer.append(3, payload(3))
    with monkeypatch.context() as patch:
        Fault(patch, {1: 40, 2: full()})
        with pytest.raises(SpoolError):
            writer.append(4, payload(4))
    writer.append(5, payload(5))
    writer.close()
    assert seqs(tmp_path) == [1, 2, 3, 5]


@needs_proc
def test_what_can_not_be_cut_off_stays_as_a_torn_tail_and_a_new_segment_begins(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    before = open_fds()

    def no_truncate(_fd, _size):
        raise OSError(errno.EIO, "EIO")

    with monkeypatch.context() as patch:
        Fault(patch, {1: 40, 2: full()})
        patch.setattr(os, "ftruncate", no_truncate)
        with pytest.raises(SpoolError):
            writer.append(2, payload(2))
    writer.append(3, payload(3))
    writer.sync()  # the segment with the torn tail, too
    assert open_fds() == before
    writer.close()
    assert seqs(tmp_path) == [1, "TornTail", 3]


@needs_proc
@pytest.mark.parametrize("header", [full(), 0, 100, 8191], ids=str)
def test_a_header_that_does_not_fit_leaves_no_file_and_no_descriptor(tmp_path, monkeypatch, header):
    writer = StreamWriter(tmp_path, STREAM)
    before = open_fds()
    with monkeypatch.context() as patch:
        Fault(patch, dict.fromkeys(range(1, 1000), header))
        for seq in range(1, 51):
            with pytest.raises(SpoolError, match="Make room"):
                writer.append(seq, payload(seq))
    assert open_fds() == before
    assert list(segments(tmp_path)) == []
    writer.append(51, payload(51))
    writer.close()
    assert seqs(tmp_path) == [51]
    assert [path.name for path in segments(tmp_path)] == ["5e55.000001.xseg"]


def test_a_failed_sync_is_told_and_made_good(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    writer.sync()
    writer.append(2, payload(2))

    def no_sync(_fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "sync_file", no_sync)
        with pytest.raises(SpoolError, match="made durable"):
            writer.sync()
        with pytest.raises(SpoolError, match="made durable"):
            writer.sync()
    first = next(segments(tmp_path))
    size = first.stat().st_size
    writer.append(3, payload(3))
    assert first.stat().st_size == size, "nothing is written to a segment whose sync failed"
    writer.sync()
    writer.append(4, payload(4))
    writer.close()
    assert seqs(tmp_path) == [1, 2, 3, 4, 2]  # 2 stands twice: once perhaps lost, once safe
    rescued = open_segment(list(segments(tmp_path))[-1])
    assert rescued.header.first_seq == 2


def test_a_failed_sync_is_made_good_without_another_event(tmp_path, monkeypatch):
    """A training may be silent for an hour: what is in doubt is written once more by the next sync."""
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    synced = []
    real = writer_module.sync_file

    def fails_once(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}") if os.path.isdir("/proc/self/fd") else "")
        if len(synced) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(writer_module, "sync_file", fails_once)
    with pytest.raises(SpoolError, match="made durable"):
        writer.sync()
    writer.sync()
    assert len(synced) == 2
    assert synced[0] != synced[1] or not synced[0]
    assert seqs(tmp_path) == [1, 1]
    writer.sync()
    assert len(synced) == 2  # all is known to be safe
    writer.append(2, payload(2))
    writer.close()
    assert seqs(tmp_path) == [1, 1, 2]


def test_a_segment_in_doubt_that_was_removed_stops_no_sync(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))

    def no_sync(_fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "sync_file", no_sync)
        with pytest.raises(SpoolError):
            writer.sync()
    next(segments(tmp_path)).unlink()
    writer.append(2, payload(2))
    writer.sync()
    writer.close()
    assert seqs(tmp_path) == [2]


def test_what_a_sync_saw_half_written_is_not_taken_for_synced(tmp_path, monkeypatch):
    """A sync in the middle of a write that fails: the bytes that come in its place are not synced yet."""
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    writer.sync()
    started, go = threading.Event(), threading.Event()
    real = os.write
    calls = []

    def slow_short_write(fd, data):
        calls.append(len(data))
        if len(calls) == 1:
            real(fd, data[:60])
            started.set()
            go.wait(0.2)
            return 60
        raise full()

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", slow_short_write)
        thread = threading.Thread(target=lambda: (started.wait(), writer.sync()))
        thread.start()
        with pytest.raises(SpoolError):
            writer.append(2, payload(2))
        thread.join()
    writer.append(3, b"{}")  # shorter than what was cut off
    synced = []
    monkeypatch.setattr(writer_module, "sync_file", synced.append)
    writer.sync()
    assert len(synced) == 1
    writer.close()
    assert seqs(tmp_path) == [1, 3]


def test_a_segment_that_begins_with_a_declared_loss_names_the_seq_that_follows(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=1)
    for seq in (1, 2, 0, 5, 0):
        writer.append(seq, payload(seq))
    writer.close()
    assert [open_segment(path).header.first_seq for path in segments(tmp_path)] == [1, 2, 3, 5, 6]


def test_appending_never_waits_for_a_sync_in_the_background(tmp_path, monkeypatch):
    """Not even where segments are full, and the disk takes for ever."""
    go = threading.Event()
    real = writer_module.sync_file

    def slow(fd):
        go.wait()
        real(fd)

    monkeypatch.setattr(writer_module, "sync_file", slow)
    before = open_fds() if os.path.isdir("/proc/self/fd") else 0
    writer = StreamWriter(tmp_path, STREAM, background=True, segment_max=RECORDS_START + 500)
    writer.append(1, payload(1))
    thread = threading.Thread(target=writer.sync)
    thread.start()
    for seq in range(2, 401):
        writer.append(seq, payload(seq))
    if os.path.isdir("/proc/self/fd"):
        assert open_fds() <= before + 64 + 5  # however many segments wait
    assert thread.is_alive()
    go.set()
    thread.join()
    writer.sync()
    writer.close()
    assert set(seqs(tmp_path)) == set(range(1, 401))


@needs_proc
def test_syncs_that_go_on_failing_stay_told_and_stop_no_event(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 500)

    def no_sync(_fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "sync_file", no_sync)
        for seq in range(1, 31):
            writer.append(seq, payload(seq))
            if seq % 7 == 0:
                with pytest.raises(SpoolError):
                    writer.sync()
        before = open_fds()
        for _ in range(20):
            with pytest.raises(SpoolError):
                writer.sync()
        assert open_fds() == before
    files = len(list(segments(tmp_path)))
    writer.close()
    found = seqs(tmp_path)
    assert set(found) == set(range(1, 31))
    assert len(list(segments(tmp_path))) > files  # written once more, and durable now


def test_close_after_a_failed_sync_makes_it_good(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    calls = []

    def fails_once(fd):
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(writer_module, "sync_file", fails_once)
    writer.close()
    assert seqs(tmp_path) == [1, 1]
    assert not is_alive(tmp_path, STREAM)


def test_a_close_that_fails_lets_go_of_the_lock(tmp_path, monkeypatch):
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))

    def no_sync(_fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(writer_module, "sync_file", no_sync)
    with pytest.raises(SpoolError, match="durable"):
        writer.close()
    assert not is_alive(tmp_path, STREAM)
    assert seqs(tmp_path) == [1]


def test_new_folders_are_made_durable_with_the_first_sync(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(writer_module, "sync_dir", synced.append)
    writer = StreamWriter(tmp_path / "home" / "spool" / "r", STREAM, segment_max=RECORDS_START + 10)
    writer.append(1, payload(1))
    writer.sync()
    home = tmp_path / "home"
    assert set(synced) >= {home / "spool" / "r", home / "spool", home, tmp_path}
    synced.clear()
    writer.sync()
    assert synced == []
    writer.append(2, payload(2))  # a new segment
    writer.close()
    assert synced == [home / "spool" / "r"]


def test_syncs_from_another_thread_disturb_nothing(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, segment_max=RECORDS_START + 2000)
    stop = threading.Event()
    errors = []

    def sync():
        while not stop.is_set():
            try:
                writer.sync()
            except SpoolError as error:
                errors.append(error)

    threads = [threading.Thread(target=sync) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seq in range(1, 1001):
        writer.append(seq, payload(seq))
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert errors == []
    assert seqs(tmp_path) == list(range(1, 1001))


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "spool" / "r", tmp_path / "file"):
        with pytest.raises(SpoolError, match=r"can't be written.*Make room or set XTRACK_DIR") as caught:
            StreamWriter(place, STREAM)
        assert caught.value.path == str(place)


@pytest.mark.skipif(not os.path.isdir("/proc/1"), reason="there is no /proc")
def test_a_file_system_that_takes_nothing():
    from pathlib import Path

    with pytest.raises(SpoolError, match="can't be written"):
        StreamWriter(Path("/proc/xtrack/spool/r"), STREAM)


def test_a_folder_that_is_removed_under_the_writer(tmp_path):
    run_dir = tmp_path / "r"
    writer = StreamWriter(run_dir, STREAM)
    for path in run_dir.iterdir():
        path.unlink()
    run_dir.rmdir()
    with pytest.raises(SpoolError, match="can't be written"):
        writer.append(1, payload(1))
    run_dir.mkdir()
    writer.append(2, payload(2))
    writer.close()
    assert seqs(run_dir) == [2]


def test_the_segment_is_no_link_and_appends_only(tmp_path):
    (tmp_path / "target").touch()
    (tmp_path / "5e55.000001.xseg").symlink_to(tmp_path / "target")
    writer = StreamWriter(tmp_path, STREAM)
    writer.append(1, payload(1))
    writer.close()
    assert (tmp_path / "target").stat().st_size == 0
    assert stat.S_ISREG(os.lstat(tmp_path / "5e55.000002.xseg").st_mode)


def test_a_torn_tail_of_a_dead_writer_is_left_alone(tmp_path):
    first = StreamWriter(tmp_path, STREAM)
    first.append(1, payload(1))
    first.append(2, payload(2))
    first.close()
    path = next(segments(tmp_path))
    os.truncate(path, path.stat().st_size - 5)
    second = StreamWriter(tmp_path, STREAM)
    second.append(2, payload(2))
    second.close()
    found = items(tmp_path)
    assert [type(item) for item in found] == [Record, TornTail, Record]
