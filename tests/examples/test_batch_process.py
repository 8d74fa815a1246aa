"""A captured log is processed once, whatever happens to who processes it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from xtrack_protocol import stream_file
from xtrack_protocol.storage import open_store

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CAPTURE = EXAMPLES / "data" / "iris-run.xtrack"


def command(log: Path, results: Path, *options: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / "batch_process.py"), str(log), "--results", str(results), *options]


def process(log: Path, results: Path, *options: str) -> str:
    done = subprocess.run(command(log, results, *options), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(results: Path) -> list[tuple[int, str, str, str | None]]:
    database = sqlite3.connect(results)
    try:
        return database.execute("SELECT offset, event_type, text, error FROM results ORDER BY offset").fetchall()
    finally:
        database.close()


def test_each_event_has_its_result(tmp_path: Path) -> None:
    results, store = tmp_path / "results.db", f"sqlite:///{tmp_path}/runs.db"
    printed = process(CAPTURE, results, "--store", store, "--batch", "7", "--workers", "3")
    assert printed.splitlines()[-1] == "163 events"
    frames = list(stream_file(CAPTURE))
    found = rows(results)
    assert [(offset, kind) for offset, kind, _, _ in found] == [
        (frame.offset, frame.envelope.event_type) for frame in frames if frame.envelope
    ]
    assert sum(text.startswith("loss=") for _, _, text, _ in found) == 120
    with open_store(store) as kept:
        (run,) = kept.list_runs()
        assert (run.status, len(list(kept.events(run.run_id)))) == ("completed", 163)
    assert process(CAPTURE, results, "--store", store) == ""  # nothing is new
    assert len(rows(results)) == 163


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_again_and_again_it_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    results, store = tmp_path / "results.db", f"sqlite:///{tmp_path}/runs.db"
    options = ("--store", store, "--batch", "10", "--workers", "2", "--slow", "0.02")
    seen = []
    for lines in (2, 4):
        with subprocess.Popen(command(CAPTURE, results, *options), stdout=subprocess.PIPE) as process_:
            assert process_.stdout is not None
            for _ in range(lines):
                assert process_.stdout.readline()
            process_.kill()
        seen.append(len(rows(results)))
    assert 20 <= seen[0] < seen[0] + 40 <= seen[1] < 163
    assert seen[0] % 10 == seen[1] % 10 == 0  # whole batches
    process(CAPTURE, results, *options)
    assert [row[0] for row in rows(results)] == [frame.offset for frame in stream_file(CAPTURE)]
    with open_store(store) as kept:
        (run,) = kept.list_runs()
        assert len(list(kept.events(run.run_id))) == 163


def test_a_log_that_is_still_being_written(tmp_path: Path) -> None:
    log, results = tmp_path / "log.xtrack", tmp_path / "results.db"
    whole = CAPTURE.read_bytes()
    for size in (0, 1000, 1001, 20_000, len(whole)):
        log.write_bytes(whole[:size])
        process(log, results)
    assert [row[0] for row in rows(results)] == [frame.offset for frame in stream_file(CAPTURE)]
    assert {row[3] for row in rows(results)} == {None}


def test_what_cannot_be_read_is_kept_as_an_error(tmp_path: Path) -> None:
    log, results = tmp_path / "log.xtrack", tmp_path / "results.db"
    damaged = bytearray(CAPTURE.read_bytes())
    damaged[5000:5004] = b"\xff\xff\xff\xff"
    log.write_bytes(damaged)
    process(log, results)
    errors = [error for *_, error in rows(results) if error]
    assert errors
    assert all("unreadable" in error for error in errors)
    assert len(rows(results)) > 150


def test_what_cannot_be_handled_is_kept_as_an_error(tmp_path: Path) -> None:
    results = tmp_path / "results.db"
    code = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import batch_process
calls = []
def handle(event):
    calls.append(event.meta.seq)
    if event.meta.seq == 5 or (event.meta.seq == 6 and calls.count(6) == 1):
        raise ValueError("no")
    return "fine"
batch_process.handle = handle
sys.argv = ["batch_process.py", {str(CAPTURE)!r}, "--results", {str(results)!r}]
batch_process.main()
assert (calls.count(5), calls.count(6), calls.count(7)) == (3, 2, 1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    failed = [(text, error) for _, _, text, error in rows(results) if error]
    assert failed == [("", "ValueError: no")]
    assert len(rows(results)) == 163


def test_no_more_is_read_than_is_being_handled(tmp_path: Path) -> None:
    """With slow handlers, a long log waits on the disk: what is in flight is bounded."""
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(EXAMPLES)!r})
import batch_process, threading, time
read, done = 0, 0
frames = batch_process.stream_file
def counted(log):
    global read
    for frame in frames(log):
        read += 1
        yield frame
batch_process.stream_file = counted
most = 0
def handle(event):
    global most, done
    most = max(most, read - done)
    done += 1
    time.sleep(0.001)
    return ""
batch_process.handle = handle
options = ["--results", {str(tmp_path / "r.db")!r}, "--batch", "5", "--workers", "2"]
sys.argv = ["batch_process.py", {str(CAPTURE)!r}, *options]
batch_process.main()
assert most <= 5 * (2 * 2 + 2), most
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_usage(tmp_path: Path) -> None:
    for options, word in (((str(tmp_path / "none"),), "is no file"), ((str(CAPTURE), "--workers", "0"), "at least 1")):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "batch_process.py"), *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert word in done.stderr
