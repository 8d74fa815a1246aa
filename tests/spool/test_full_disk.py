"""Disks that are really full, and calls that really fail: in a mount namespace of its own, and under strace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import open_segment, read_segment, segments
from xtrack_protocol.wire import Damage, Record

ON_A_SMALL_DISK = """
import json, os, random, sys
from pathlib import Path
from xtrack_protocol.errors import SpoolError
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter, open_segment, read_segment, segments
from xtrack_protocol.transport import FileTransport, StreamInfo
from xtrack_protocol.errors import TransportError
from xtrack_protocol.wire import Record, stream_file

disk = Path(sys.argv[1])
what = sys.argv[2]
stream = StreamId("r", "", "s")
if what == "spool":
    writer = StreamWriter(disk / "r", stream, segment_max=100_000)
    append, error_type = writer.append, SpoolError
else:
    transport = FileTransport(disk / "events.bin")
    transport.open(StreamInfo(stream=stream))
    append, error_type = transport.send, TransportError
accepted, refused, text = [], 0, ""
fds = len(os.listdir("/proc/self/fd"))
rng = random.Random(7)
for seq in range(1, 6001):
    if seq in (4000, 5000):  # somebody makes a little room
        if what == "spool":
            for path in list(segments(disk / "r"))[:2]:
                for item, _ in read_segment(open_segment(path), finished=True):
                    accepted.remove(item.seq)
                path.unlink()
        else:
            (disk / "filler").unlink(missing_ok=True)
    try:
        append(seq, b'{"n":%d,"x":"%s"}' % (seq, b"x" * rng.randrange(600)))
        accepted.append(seq)
    except error_type as error:
        refused += 1
        text = str(error)
end_error = ""
try:
    (writer if what == "spool" else transport).close()
except error_type as error:
    end_error = str(error)
found = []
if what == "spool":
    for path in segments(disk / "r"):
        segment = open_segment(path)
        found += [item.seq if isinstance(item, Record) else repr(item)
                  for item, _ in read_segment(segment, finished=True)]
else:
    for frame in stream_file(disk / "events.bin"):
        n = int(frame.raw[5:].split(b",")[0]) if frame.raw else repr(frame)
        found.append(n)
print(json.dumps({"accepted": accepted, "found": found, "refused": refused, "text": text, "end": end_error,
                  "fds": len(os.listdir("/proc/self/fd")) - fds,
                  "files": len(os.listdir(disk / "r" if what == "spool" else disk))}))
"""


def on_a_small_disk(tmp_path, what):
    """Run the script with a tmpfs of 1 MiB that only it sees; skip where that can't be had."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare command here: no private mounts")
    fill = "head -c 300000 /dev/zero > $1/filler && " if what == "file" else ""
    script = f'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; {fill}exec "$2" -c "$3" "$1" "$4"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(disk), sys.executable, ON_A_SMALL_DISK, what],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no private tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("what", ["spool", "file"])
def test_a_full_disk_costs_what_it_refused_and_nothing_else(tmp_path, what):
    result = on_a_small_disk(tmp_path, what)
    assert result["refused"] > 500
    assert "Make room" in result["text"]
    assert "No space left" in result["text"]
    assert result["found"] == result["accepted"]
    assert max(result["accepted"]) > 4000  # it went on when there was room again
    assert result["fds"] <= 1
    assert result["files"] < 20
    assert result["end"] == ""


# ---------------------------------------------------------------------------------------------- strace

UNDER_STRACE = """
import sys
from pathlib import Path
from xtrack_protocol.errors import SpoolError
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter
done = open(sys.argv[2], "w")
for attempt in range(3):
    try:
        writer = StreamWriter(Path(sys.argv[1]), StreamId("r", "", "s"), segment_max=10_000)
        break
    except SpoolError:
        pass
for seq in range(1, 41):
    try:
        writer.append(seq, (b'{"n":%d}' % seq).ljust(100))
        print(seq, file=done)
    except SpoolError:
        pass
    if seq % 10 == 0:
        try:
            writer.sync()
        except SpoolError:
            pass
try:
    writer.close()
except SpoolError:
    pass
print("end", file=done)
"""

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace here")


def strace(tmp_path, inject, name):
    run_dir, told = tmp_path / name, tmp_path / f"{name}.told"
    # -P: only calls on the spool's files are counted and touched.
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={inject}"]
    for number in range(1, 12):
        command += ["-P", str(run_dir / f"s.{number:06d}.xseg")]
    command += ["-P", str(run_dir), "-P", str(run_dir / "s.lock")]
    done = subprocess.run(
        [*command, sys.executable, "-c", UNDER_STRACE, str(run_dir), str(told)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "PTRACE" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip(f"strace can't trace here: {done.stderr.strip()}")
    return run_dir, told, done


def check(run_dir, accepted):
    found = []
    for path in segments(run_dir):
        segment = open_segment(path)
        if segment:
            assert segment.stream == StreamId("r", "", "s")
            found += [item for item, _ in read_segment(segment, finished=True)]
    assert not [item for item in found if isinstance(item, Damage)]
    seqs = {item.seq for item in found if isinstance(item, Record)}
    assert seqs >= accepted
    assert len(seqs - accepted) <= 1


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync", "openat", "flock", "close"])
@pytest.mark.parametrize("when", ["1", "2", "5", "3+4", "1+"])
def test_a_call_that_fails_raises_no_surprise(tmp_path, call, error, when):
    run_dir, told, done = strace(tmp_path, f"{call}:error={error}:when={when}", "r")
    if call in {"flock", "openat", "close"} and done.returncode:
        assert "SpoolError" in done.stderr or "NameError" in done.stderr or "OSError" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    lines = told.read_text().split()
    assert lines[-1] == "end"
    check(run_dir, {int(line) for line in lines[:-1]})


@pytest.mark.slow
@needs_strace
def test_kill_at_every_single_write_and_sync(tmp_path):
    kills = {"write": 0, "fdatasync": 0, "fsync": 0}
    for call in kills:
        for when in range(1, 60):
            name = f"{call}{when}"
            run_dir, told, done = strace(tmp_path, f"{call}:signal=KILL:when={when}", name)
            lines = told.read_text().split()
            if done.returncode == 0 and lines and lines[-1] == "end":
                break  # there was no such call any more
            assert done.returncode != 0, done.stderr
            kills[call] += 1
            check_killed(run_dir)
    assert kills["write"] >= 40, kills
    assert min(kills.values()) >= 1, kills


def check_killed(run_dir):
    # What was told is lost with the process's buffers: but what is on disk must be a beginning without gaps.
    seqs = []
    for path in segments(run_dir):
        segment = open_segment(path)
        if segment:
            items = [item for item, _ in read_segment(segment, finished=True)]
            assert not [item for item in items if isinstance(item, Damage)]
            seqs += [item.seq for item in items if isinstance(item, Record)]
    assert seqs == list(range(1, len(seqs) + 1))
