"""Several processes on one file: nothing twice, nothing lost, whoever dies in the middle."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xtrack_protocol.storage import SQLiteStore
from xtrack_protocol.testing import Worker

WRITER = """
import sys, random
from xtrack_protocol.storage import SQLiteStore
from xtrack_protocol.testing import Worker
path, name, batches, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
worker = Worker("r", name, "session-" + name)
with SQLiteStore(path, busy_seconds=60) as store:
    for _ in range(batches):
        result = store.append([worker.metric("x", worker.seq, worker.seq) for _ in range(size)])
        assert len(result.stored) == size
        print(worker.seq, flush=True)
        if random.random() < 0.1:
            assert store.get_run("r").events > 0
"""

READER = """
import sys, time
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.storage import SQLiteStore
path, wanted = sys.argv[1], int(sys.argv[2])
seen, after, deadline = [], 0, time.monotonic() + 90
with SQLiteStore(path, read_only=True) as store:
    while len(seen) < wanted and time.monotonic() < deadline:
        for event in store.events(after=after):
            seen.append((event.stream.worker_id, event.envelope.meta.seq))
            after = event.position
        try:
            count = store.get_run("r").metrics["x"].count
        except (RunNotFound, KeyError):
            continue
        assert count >= len(seen), (count, len(seen))
assert len(seen) == len(set(seen)) == wanted, (len(seen), wanted)
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


def test_processes_write_and_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SQLiteStore(path).close()
    writers = [start(WRITER, path, number, 30, 25) for number in range(4)]
    readers = [start(READER, path, 4 * 30 * 25) for _ in range(2)]
    for process in [*writers, *readers]:
        finish(process)
    with SQLiteStore(path) as store:
        state = store.get_run("r")
        assert state.events == state.metrics["x"].count == 3000
        assert [stream.gaps for stream in state.streams] == [()] * 4
        assert len(store.get_metrics("r", "x")) == 3000
        assert store.check() == []


def test_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.db"
    for process in [start(WRITER, path, number, 2, 3) for number in range(6)]:
        finish(process)
    with SQLiteStore(path) as store:
        assert store.get_run("r").events == 36
        assert store.check() == []


def test_the_same_events_from_two_processes_are_stored_once(tmp_path: Path) -> None:
    code = WRITER.replace("assert len(result.stored) == size", "").replace('"session-" + name', '"same"')
    path = tmp_path / "store.db"
    for process in [start(code, path, "same", 20, 10) for _ in range(3)]:
        finish(process)
    with SQLiteStore(path) as store:
        assert store.get_run("r").events == 200
        assert store.conflicts("r") == []
        assert store.check() == []


@pytest.mark.parametrize("attempt", range(6))
def test_a_writer_killed_in_the_middle(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "store.db"
    process = start(WRITER, path, "0", 100_000, 20)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(attempt).uniform(0.0, 0.4))
    os.kill(process.pid, signal.SIGKILL)
    out, _ = process.communicate()
    acked = max([20, *(int(line) for line in out.split("\n")[:-1])])
    with SQLiteStore(path) as store:
        stored = store.get_run("r").events
        assert stored >= acked  # nothing acked is lost
        assert stored % 20 == 0  # and no half batch
        assert store.cursor(Worker("r", "0", "session-0").stream).contiguous_to == stored
        assert store.check() == []
        result = store.append([Worker("r", "0", "session-0", seq=stored).metric("x", stored, stored)])
        assert len(result.stored) == 1


def test_what_a_process_remembers_follows_what_others_write(tmp_path: Path) -> None:
    """Including rewinds, losses, deletions: each looks at the run's version inside its transaction."""
    from xtrack_protocol.ir import Resume, RunStart
    from xtrack_protocol.runs import StreamLost

    with SQLiteStore(tmp_path / "store.db") as one, SQLiteStore(tmp_path / "store.db") as two:
        worker = Worker("r")
        one.append([worker.start(), *(worker.metric("x", step, step) for step in range(5))])
        assert two.get_run("r").metrics["x"].count == 5
        two.append([worker.metric("x", 5, 5)])
        assert one.get_run("r").metrics["x"].count == 6
        one.mark_lost(StreamLost(worker.stream, 1, "died"))
        assert two.get_run("r").status == "killed"
        resumed = Worker("r", "", "later", worker.start_us + 10**9)
        two.append([resumed.say(RunStart("r", resume=Resume(["session-1"], 2)))])
        assert one.get_run("r").metrics["x"].count == 3
        one.append([worker.metric("x", 9, 9)])
        assert two.get_run("r").metrics["x"].count == 3
        two.append([worker.skip(50, 60)])
        assert 55 in one.cursor(worker.stream)
        assert one.check() == []
        one.delete_run("r")
        assert two.append([worker.metric("x", 1, 1)]).dropped == 1
        assert two.list_runs() == []
    with SQLiteStore(tmp_path / "store.db") as store:
        assert store.check() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_uses_connections_of_its_own(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "store.db", busy_seconds=30)
    worker = Worker("r")
    store.append([worker.start()])
    events = store.events()  # a reader in the middle
    next(events)
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            try:
                own = Worker("r", str(number), f"child-{number}")
                for step in range(20):
                    store.append([own.metric("x", step, step)])
                store.annotate("r", tags={f"child{number}": "x"})
                ok = store.get_run("r").events >= 21
                store.close()
                os._exit(0 if ok else 1)
            except BaseException:
                os._exit(2)
        children.append(child)
    for step in range(20):
        store.append([worker.metric("x", step, step)])
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(events) == []
    state = store.get_run("r")
    assert state.events == 1 + 100 + 4
    assert state.tags == {f"child{number}": "x" for number in range(4)}
    assert store.check() == []
    store.close()
