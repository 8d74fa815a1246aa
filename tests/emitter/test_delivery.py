"""What is promised of events, and what is told where a promise can't be kept. spec: STR-7, EMT-3, VER-3"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.emitter.ending import left_text
from xtrack_protocol.errors import TransportError
from xtrack_protocol.ir import LogEntry
from xtrack_protocol.settings import load_settings
from xtrack_protocol.transport import (
    Delivery,
    LocalTransport,
    MemoryTransport,
    NullTransport,
    Promise,
    StdioTransport,
)
from xtrack_protocol.wire import FrameDecoder


class Counting(LocalTransport):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def send(self, seq: int, payload: bytes) -> None:
        super().send(seq, payload)
        self.said.append(f"send {seq}")

    def flush(self, until: Promise, timeout: float) -> bool:
        self.said.append(f"flush {until}")
        return super().flush(until, timeout)


def test_a_checkpoint_makes_durable_what_came_before(spool: Any) -> None:
    transport = Counting()
    run = Tracker.start_run(transport=transport)
    run.log_metric("k", 1.0)
    run.log_checkpoint("x.pt", 1)
    assert transport.said[-2:] == ["send 4", "flush durable"]
    run.log_metric("k", 1.0)
    run.end()
    assert transport.said[-3:] == ["send 5", "send 6", "flush durable"]


@pytest.mark.skipif(sys.platform != "linux", reason="strace")
@pytest.mark.slow
def test_a_checkpoint_reaches_the_disk(spool: Any, tmp_path: Path) -> None:
    """Seen from outside: the sync comes after the checkpoint's record and before what the script does next."""
    if subprocess.run(["which", "strace"], capture_output=True, check=False).returncode:
        pytest.skip("strace isn't installed")
    code = (
        "import os, xtrack_protocol as x; r = x.start_run(); r.log_checkpoint('x.pt', 1);"
        " os.write(1, b'script goes on'); r.log('after'); os._exit(0)"
    )
    log = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-o", str(log), "-e", "trace=write,fdatasync,fsync", sys.executable, "-c", code],
        check=True,
        capture_output=True,
    )
    calls = [line.split(None, 1)[1] for line in log.read_text().splitlines()]
    before = calls[: next(number for number, call in enumerate(calls) if "script goes on" in call)]
    last_write = max(number for number, call in enumerate(before) if call.startswith("write(") and "XT" in call)
    assert any(call.startswith("fdatasync(") for call in before[last_write:])


@pytest.mark.parametrize(
    ("transport", "kept"),
    [
        (LocalTransport, {"none", "accepted", "durable"}),
        (MemoryTransport, {"none"}),
        (NullTransport, {"none"}),
    ],
)
def test_flush_says_what_is_kept(spool: Any, transport: Any, kept: set[str]) -> None:
    run = Tracker.start_run(transport=transport())
    promises: tuple[Promise, ...] = ("none", "accepted", "durable", "acked")
    assert {until for until in promises if run.flush(until)} == kept
    run.end()
    assert run.flush("acked") is False
    assert run.flush("durable") is ("durable" in kept)


def test_a_flush_holds_up_nobody(spool: Any) -> None:
    """While one thread waits for the disk, others log."""
    import threading

    class Slow(LocalTransport):
        waiting, go_on = threading.Event(), threading.Event()

        def flush(self, until: Promise, timeout: float) -> bool:
            self.waiting.set()
            assert self.go_on.wait(10)
            return super().flush(until, timeout)

    transport = Slow()
    run = Tracker.start_run(transport=transport)
    thread = threading.Thread(target=run.flush, args=("durable",))
    thread.start()
    assert transport.waiting.wait(10)
    run.log_metric("k", 1.0)
    transport.go_on.set()
    thread.join()
    run.end()
    assert run.stats().accepted == 4


class Flaky(MemoryTransport):
    """Takes events, or not."""

    is_full = False

    def send(self, seq: int, payload: bytes) -> None:
        if self.is_full:
            raise TransportError(self.address, "the disk is full")
        super().send(seq, payload)


def test_lost_events_are_declared_as_soon_as_possible(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    transport = Flaky()
    run = Tracker.start_run(transport=transport, run_id="r", quiet=True)
    transport.is_full = True
    for _ in range(5):
        run.log_metric("k", 1.0)
    assert not run.flush()
    assert run.stats().dropped == 5
    assert capsys.readouterr().err.count("\n") == 2  # that events are lost, and that the flush couldn't help it
    transport.is_full = False
    assert run.flush("none")
    run.log_metric("k", 2.0)
    run.end()
    events = transport.events
    assert [event.meta.seq for event in events] == [1, 2, 0, 8, 9]
    skip = events[2].payload
    assert (skip.run_id, skip.first, skip.last) == ("r", 3, 7)  # type: ignore[union-attr]
    assert "5 of 9 events of r were lost" in capsys.readouterr().err
    assert (run.stats().accepted, run.stats().dropped) == (4, 5)


def test_lost_events_when_strict(spool: Any) -> None:
    transport = Flaky()
    run = Tracker.start_run(transport=transport, strict=True)
    transport.is_full = True
    with pytest.raises(TransportError):
        run.log_metric("k", 1.0)
    with pytest.raises(TransportError):
        run.log_params({"k": 1})
    transport.is_full = False
    run.end()
    assert (run.stats().dropped, run.stats().refused) == (2, 0)


FULL_DISK = """
import os, sys
sys.path.insert(0, sys.argv[1])
import xtrack_protocol as x
from xtrack_protocol.storage.local import LocalStore
root = sys.argv[2]
run = x.start_run(run_id="r", settings=None, quiet=True)
filler = os.open(root + "/filler", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(filler, bytes(4096))
except OSError:
    pass
returned = 0
for step in range(3000):
    run.log_metric("k", float(step), step=step)
    if step % 500 == 0:
        run.flush("durable")
        run.log_checkpoint("x.pt", step)
        run.log("x" * 3_000_000)
dropped = run.stats().dropped
assert dropped > 1000, dropped
os.close(filler)
os.unlink(root + "/filler")
for step in range(3000, 3010):
    run.log_metric("k", float(step), step=step)
assert run.stats().dropped == dropped
run.end()
with LocalStore(root + "/home", index="/dev/null/index.db") as store:
    state = store.get_run("r")
(stream,) = state.streams
print(dropped, state.lost_events, state.status, stream.gaps, state.metrics["k"].last.value)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces")
def test_a_full_disk(spool: Any, tmp_path: Path) -> None:
    """A tmpfs of 1 MiB: nothing raises, what is lost is counted, declared, and shown by the fold."""
    mount = tmp_path / "small"
    mount.mkdir()
    script = tmp_path / "full.py"
    script.write_text(FULL_DISK)
    inside = f'mount -t tmpfs -o size=1M none "{mount}" && exec "{sys.executable}" "{script}" "{os.getcwd()}" "{mount}"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XTRACK_DIR": f"{mount}/home"},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    dropped, lost, status, gaps, last = done.stdout.split()
    assert (dropped, status, gaps, last) == (lost, "completed", "()", "3009.0")
    lines = done.stderr.splitlines()
    assert len(lines) < 10
    assert "can't be written" in done.stderr
    assert any(f": {dropped} of " in line for line in lines)


def test_what_is_lost_is_not_told_of_as_kept_for_the_collector() -> None:
    waits = Delivery(address="tcp://there", waiting=20, ship_with="xtrack sync")
    assert left_text("r", waits, 0) == (
        "20 events of r have not reached tcp://there. They are kept in the spool; ship them with: xtrack sync"
    )
    assert left_text("r", waits, 15) == (
        "20 events of r have not reached tcp://there. "
        "Those that are not lost are kept in the spool; ship them with: xtrack sync"
    )
    assert not left_text("r", Delivery(address="tcp://there", acked=20), 15)


ABSENT = """
import resource
from xtrack_protocol.emitter import Tracker
run = Tracker.start_run(run_id="r", transport="tcp://127.0.0.1:9")
resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))
for step in range(100):
    run.log("x" * 2000)
run.end(timeout=0)
print(run.stats().dropped)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_lost_events_at_the_end_without_a_collector(spool: Any) -> None:
    done = subprocess.run([sys.executable, "-c", ABSENT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50
    assert "Those that are not lost are kept in the spool" in done.stderr
    assert "They are kept in the spool" not in done.stderr


def test_a_peer_that_knows_the_published_events_only(spool: Any) -> None:
    """VER-3: no additive type on the wire, and nothing is lost but the form."""
    ours, theirs = socket.socketpair()
    settings = load_settings({})
    run = Tracker.start_run(
        run_id="r", transport=StdioTransport(ours.fileno()), settings=settings, world_size=2, resume=True, quiet=True
    )
    run.set_tags({"a": "b"})
    run.summary({"best": 0.5})
    run.alert("title", "text", level="error")
    run.alert("title only")
    run.log_metric("k", 1.0)
    run.end()
    ours.close()
    decoder, events = FrameDecoder(), []
    while chunk := theirs.recv(65536):
        events += [frame.envelope for frame in decoder.feed(chunk) if frame.envelope]
    theirs.close()
    kinds = [event.event_type for event in events]
    assert kinds == ["run_start", "status", "log", "log", "log", "log", "metric", "run_end"]
    assert [event.meta.seq for event in events] == list(range(1, 9))
    start = events[0].payload
    assert (start.resume, start.world_size, start.sub) == (None, 2, False)  # older readers ignore what they don't know
    tags, summary, alert, short = [event.payload for event in events if isinstance(event.payload, LogEntry)]
    assert (tags.message, tags.fields) == ("tags", {"a": "b"})
    assert (summary.message, summary.fields) == ("summary", {"best": 0.5})
    assert (alert.level, alert.message) == ("error", "title: text")
    assert short.message == "title only"


def test_stats(memory: Any) -> None:
    run = memory.run
    run.log_metric("k", 1.0)
    run.log_metric("k", "x")
    run.log_param("p", object())
    stats = run.stats()
    assert stats.accepted == 4
    assert stats.accepted_bytes == sum(map(len, memory.transport.payloads))
    assert (stats.dropped, stats.refused, stats.cut) == (0, 1, 0)
    assert stats.warnings == {"value": 1, "repr": 1}


def test_times_are_now(memory: Any) -> None:
    before = time.time_ns() // 1000
    memory.run.log_metric("k", 1.0)
    memory.run.log("m")
    after = time.time_ns() // 1000
    assert all(before <= event.meta.timestamp_us <= after for event in memory.sent)


def test_artifacts(memory: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"abc")
    digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    run = memory.run
    run.log_artifact("model.bin", "model")
    assert (memory.last.path, memory.last.size_bytes, memory.last.checksum) == (str(file), 3, digest)
    run.log_artifact(file, checksum=False)
    assert (memory.last.size_bytes, memory.last.checksum) == (3, None)
    run.log_artifact(file, checksum="md5:x", size=9)
    assert (memory.last.size_bytes, memory.last.checksum) == (9, "md5:x")
    run.log_artifact(file, checksum="AB" * 32)
    assert memory.last.checksum == "sha256:" + "ab" * 32  # spec: VAL-8
    run.log_artifact(os.fsencode(file), checksum=True, upload=None)
    assert (memory.last.checksum, memory.last.upload_strategy) == (digest, None)
    run.log_artifact(tmp_path)
    assert (memory.last.path, memory.last.size_bytes) == (str(tmp_path), None)
    assert run.stats().warnings == {}
    run.log_artifact("not there")
    run.log_artifact("null\0byte")
    assert memory.last.path.endswith("null\0byte")
    assert run.stats().warnings == {"artifact": 2}
    assert run.stats().refused == 0


def test_artifacts_without_a_working_directory(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    memory.run.log_artifact("model.bin")
    assert memory.last.path == "model.bin"
    Tracker.start_run().end()
    monkeypatch.chdir(tmp_path)
