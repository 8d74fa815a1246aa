"""What the local transport does on a full disk: drop, wait where that was chosen, and leave a reserve to others."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from typing import NamedTuple

import pytest

from xtrack_protocol.errors import TransportError
from xtrack_protocol.limits import MIB
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir, room
from xtrack_protocol.spool.feed import Event, StreamFeed
from xtrack_protocol.transport import LocalTransport, StreamInfo, open_transport
from xtrack_protocol.transport import local as local_module

STREAM = StreamId("r", "", "5e55")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Buffer(LocalTransport):
    """As the transports to a collector are."""

    is_buffer = True


class Disk:
    """Stands in for os.write: full as long as ``number`` is set."""

    def __init__(self, monkeypatch):
        self.number, self.calls, self.real = 0, 0, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, fd, data):
        self.calls += 1
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(fd, data)


@pytest.fixture
def told():
    return []


@pytest.fixture
def opened(tmp_path, told):
    """A function that opens a transport whose warnings come into ``told``."""
    made = []

    def make(kind=LocalTransport, **options):
        transport = kind(tmp_path, **options)
        transport.open(StreamInfo(stream=STREAM, warn=lambda *what: told.append(what)))
        made.append(transport)
        return transport

    yield make
    for transport in made:
        transport.close()


def seqs(tmp_path):
    feed, found = StreamFeed(SpoolDir(tmp_path).run_dir("r"), STREAM), []
    while (item := feed.next()) is not None:
        assert isinstance(item, Event)
        found.append(item.seq)
    return found


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_waiting_until_there_is_room_if_that_was_chosen(tmp_path, monkeypatch, opened, told, number):
    transport = opened(on_full="block")
    transport.send(1, b"1")
    disk = Disk(monkeypatch)
    disk.number = number
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 7:
            disk.number = 0

    monkeypatch.setattr(local_module.time, "sleep", sleep)
    transport.send(2, b"2")
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    ((kind, text),) = told
    assert kind == "full"
    assert "XTRACK_ON_FULL=block" in text
    assert os.strerror(number) in text
    transport.send(3, b"3")
    assert seqs(tmp_path) == [1, 2, 3]


def test_ctrl_c_ends_the_wait(tmp_path, monkeypatch, opened):
    transport = opened(on_full="block")
    disk = Disk(monkeypatch)
    disk.number = errno.ENOSPC

    def interrupted(_seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local_module.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transport.send(1, b"1")
    disk.number = 0
    transport.send(1, b"1")
    assert seqs(tmp_path) == [1]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EMFILE, errno.EACCES])
def test_what_no_room_would_cure_is_never_waited_for(monkeypatch, opened, told, number):
    transport = opened(on_full="block")
    disk = Disk(monkeypatch)
    disk.number = number
    with pytest.raises(TransportError, match="can't be written"):
        transport.send(1, b"1")
    assert told == []


def test_a_fault_that_changes_while_waiting_is_told(monkeypatch, opened):
    transport = opened(on_full="block")
    disk = Disk(monkeypatch)
    disk.number = errno.ENOSPC
    monkeypatch.setattr(local_module.time, "sleep", lambda _: setattr(disk, "number", errno.EROFS))
    with pytest.raises(TransportError, match="Read-only"):
        transport.send(1, b"1")


def test_the_setting_reaches_the_transport_and_its_children(tmp_path, monkeypatch):
    transport = open_transport("local", Settings(dir=tmp_path, on_full="block"))
    child = transport.for_child()
    assert isinstance(child, LocalTransport)
    for one in (transport, child):
        assert one._on_full == "block"
    assert LocalTransport(tmp_path)._on_full == "drop"


# ---------------------------------------------------------------------------------------------- the reserve


@pytest.mark.parametrize(
    ("total", "reserve"), [(MIB, int(0.05 * MIB)), (10_000 * MIB, 500 * MIB), (20_000_000 * MIB, 1024 * MIB), (0, 0)]
)
def test_a_buffer_leaves_a_part_of_the_disk_free(tmp_path, monkeypatch, opened, total, reserve):
    usage = Usage(total, 0, reserve)
    now = [0.0]
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: asked.append(folder) or usage)
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    transport = opened(Buffer)
    transport.send(1, b"1")
    usage = Usage(total, 0, reserve - 1)
    transport.send(2, b"2")  # asked once a second only
    now[0] = 1.0
    if reserve:
        for seq in (3, 4):
            with pytest.raises(TransportError, match=r"less than .* MiB of the disk is free.*Make room"):
                transport.send(seq, b"3")
    else:
        transport.send(3, b"3")
    usage = Usage(total, 0, reserve)
    now[0] = 2.0
    transport.send(5, b"5")
    assert len(asked) == 3
    assert asked[0] == tmp_path


def test_a_spool_that_is_the_only_copy_takes_all_there_is(monkeypatch, opened):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(MIB, MIB, 0))
    opened().send(1, b"1")


def test_a_disk_that_does_not_tell_is_written_to(monkeypatch, opened):
    def refuses(_folder):
        raise OSError(errno.ENOSYS, "no")

    monkeypatch.setattr(shutil, "disk_usage", refuses)
    opened(Buffer).send(1, b"1")


def test_a_reserve_is_waited_for_too(tmp_path, monkeypatch, opened, told):
    usage = Usage(MIB, MIB, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    transport = opened(Buffer, on_full="block")

    def sleep(_seconds):
        nonlocal usage
        usage = Usage(MIB, 0, MIB)
        transport._reserve.due = 0.0

    monkeypatch.setattr(local_module.time, "sleep", sleep)
    transport.send(1, b"1")
    assert seqs(tmp_path) == [1]
    assert "which a spool that only waits for its collector leaves to others" in told[0][1]


# ---------------------------------------------------------------------------------------------- real disks

TRAINING = """
import json, os, sys, threading, time
from pathlib import Path
from xtrack_protocol.emitter import Tracker
from xtrack_protocol.spool import SpoolDir, streams_of
from xtrack_protocol.spool.feed import Event, StreamFeed
disk = Path(sys.argv[1])
filler = disk / "filler"
run = Tracker.start_run(run_id="r")
longest = 0.0
def log(step):
    global longest
    begin = time.perf_counter()
    run.log_metric("loss", 1.0, step=step)
    longest = max(longest, time.perf_counter() - begin)
for step in range(100):
    log(step)
room = os.statvfs(disk)
with filler.open("wb") as file:  # another program takes all there is
    try:
        while True:
            file.write(bytes(4096))
            file.flush()
    except OSError:
        pass
    try:
        file.close()
    except OSError:
        pass
def make_room():
    time.sleep(0.7)
    filler.unlink()
thread = threading.Thread(target=make_room)
if sys.argv[2] == "block":
    thread.start()
for step in range(100, 300):
    log(step)
if sys.argv[2] == "drop":
    thread.start()
    thread.join()
for step in range(300, 400):
    log(step)
run.end()
stats = run.stats()
folder = SpoolDir().run_dir("r")
(stream,) = streams_of(folder)
feed, events, holes = StreamFeed(folder, stream), 0, []
while not feed.is_finished:
    item = feed.next()
    if isinstance(item, Event):
        events += 1
    elif item is not None:
        holes.append([item.first, item.last, item.reason])
print(json.dumps({"events": events, "holes": holes, "dropped": stats.dropped, "accepted": stats.accepted,
                  "warnings": stats.warnings, "longest": longest, "last": feed.last_seq}))
"""


def on_a_real_small_disk(tmp_path, on_full):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare command here: no private mounts")
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1" "$4"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(disk), sys.executable, TRAINING, on_full],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "XTRACK_DIR": str(disk / "x"), "XTRACK_ON_FULL": on_full},
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no private tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_training_on_a_full_disk_drops_the_newest_and_declares_it(tmp_path):
    result, text = on_a_real_small_disk(tmp_path, "drop")
    assert result["dropped"] > 100
    assert result["events"] == result["accepted"]
    ((first, last, reason),) = result["holes"]
    assert last - first + 1 == result["dropped"]
    assert reason == "the transport failed"
    assert result["last"] == result["accepted"] + result["dropped"]
    assert text.count("events are being lost") == 1
    assert result["longest"] < 0.5, "a training must not stall"


def test_a_training_waits_for_room_where_that_was_chosen(tmp_path):
    result, text = on_a_real_small_disk(tmp_path, "block")
    assert (result["dropped"], result["holes"]) == (0, [])
    assert result["events"] == result["accepted"] == result["last"] > 400
    assert text.count("waiting until there is room") == 1
    assert result["longest"] > 0.3


def test_threads_wait_together_and_lose_nothing(tmp_path, monkeypatch):
    from xtrack_protocol.emitter import Tracker

    monkeypatch.setenv("XTRACK_DIR", str(tmp_path))
    monkeypatch.setenv("XTRACK_ON_FULL", "block")
    monkeypatch.setattr(local_module, "ON_FULL_SECONDS", (0.01, 0.01))
    run = Tracker.start_run(run_id="r")
    disk = Disk(monkeypatch)
    disk.number = errno.ENOSPC

    def work(worker):
        for step in range(50):
            run.log_metric(f"loss{worker}", 1.0, step=step)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    while disk.calls < 5:
        pass
    disk.number = 0
    for thread in threads:
        thread.join()
    run.end()
    assert run.stats().dropped == 0
    assert run.stats().accepted >= 200


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="POSIX")
def test_a_disk_without_room_is_asked_and_not_written_to(tmp_path, monkeypatch, opened):
    """A call that logs in vain must not cost a training more than one that succeeds."""
    transport = opened()
    transport.send(1, b"1")
    disk = Disk(monkeypatch)
    disk.number = errno.ENOSPC
    with pytest.raises(TransportError, match="No space left") as first:
        transport.send(2, b"2")
    real, asked = os.statvfs, []

    def full(path):
        asked.append(path)
        return real(path).__class__([1] * 3 + [0] * 8)

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", full)
        tried = disk.calls
        for _ in range(4):
            with pytest.raises(TransportError) as again:
                transport.send(2, b"2")
            assert str(again.value) == str(first.value)
        assert (disk.calls, len(asked)) == (tried, 4)
    with pytest.raises(TransportError):  # there is room, and the write fails all the same
        transport.send(2, b"2")
    assert disk.calls > tried
    disk.number = 0
    transport.send(2, b"2")
    transport.send(3, b"3")
    assert len(asked) == 4  # all is well again: nothing is asked
    assert seqs(tmp_path) == [1, 2, 3]
