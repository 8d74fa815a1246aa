"""What `xtrack sync` ships, twice without harm. spec: DLV-9"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from local_spools import abandon
from small_collector import SmallCollector, until

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.errors import CollectorRefused, TransportError
from xtrack_protocol.sender.lane import Lane
from xtrack_protocol.sender.sync import Syncer, SyncReport
from xtrack_protocol.session import CollectorLimits, Refusal, StreamId
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.spool.shipping import read_note

NOBODY = "tcp://127.0.0.1:9"


def sync(home: Path, collector: SmallCollector, **options: Any) -> SyncReport:
    return Syncer(SpoolDir(home), collector.endpoint, **options).sync()


def states(report: SyncReport) -> dict[str, str]:
    return {stream.stream.run_id: stream.state for stream in report.streams}


def absent(start: Any, run_id: str = "r", count: int = 10) -> StreamId:
    """A run whose collector is absent for its whole life."""
    run = start(NOBODY, run_id)
    for step in range(count):
        run.log_metric("loss", float(step), step=step)
    run.end(timeout=0)
    return run._out.stream


def test_a_worker_whose_collector_is_absent_for_its_whole_life(start, home, collector):
    stream = absent(start)
    report = sync(home, collector)
    assert report.is_complete
    (only,) = report.streams
    assert (only.stream, only.state, only.events, only.acked, only.new) == (stream, "acked", 13, 13, 13)
    assert collector.seqs() == list(range(1, 14))
    note = read_note(SpoolDir(home).run_dir("r"), stream)
    assert note is not None
    assert (note.to, note.acked, note.buffer) == (collector.spec, 13, True)


def test_twice_without_harm(start, home, collector):
    absent(start)
    sync(home, collector)
    assert len(collector.arrived) == 13
    report = sync(home, collector)
    assert report.is_complete
    assert report.streams[0].new == 0
    assert collector.accepted == 1  # there was nothing to ask
    assert sync(home, collector, again=True).is_complete
    assert len(collector.arrived) == 13
    with SmallCollector() as other:
        assert sync(home, other).is_complete
        assert len(other.arrived) == 13


def test_a_collector_that_forgot_gets_it_again(start, home, collector):
    stream = absent(start)
    sync(home, collector)
    collector.forget(stream, 5)
    assert sync(home, collector, again=True).is_complete
    assert collector.seqs() == list(range(1, 14))


def test_a_spool_without_anything(home, collector):
    report = sync(home, collector)
    assert report.is_complete
    assert report.streams == ()
    assert report.remarks(0) == [f"there is nothing in the spool under {home}"]
    assert collector.accepted == 0


def test_runs_that_were_only_logged_here(home, collector):
    settings = Settings(dir=home, quiet=True)
    for number in range(3):
        with Tracker.start_run(run_id=f"r{number}", settings=settings) as run:
            run.log_metric("loss", 0.5)
    report = sync(home, collector)
    assert report.is_complete
    assert len(collector.seqs()) == 12
    note = read_note(SpoolDir(home).run_dir("r0"), report.streams[0].stream)
    assert note is not None
    assert note.buffer is False  # never trimmed


def test_orphans_of_dead_processes(home, collector):
    run = Tracker.start_run(run_id="r", settings=Settings(dir=home, quiet=True))
    run.log_metric("loss", 0.5)
    abandon(run)
    report = sync(home, collector)
    assert report.is_complete
    assert collector.seqs() == [1, 2, 3]


def test_living_local_runs_are_shipped_as_far_as_they_are(home, collector):
    run = Tracker.start_run(run_id="r", settings=Settings(dir=home, quiet=True))
    assert sync(home, collector).is_complete
    assert collector.seqs() == [1, 2]
    run.log_metric("loss", 0.5)
    assert sync(home, collector).is_complete
    run.end()
    assert sync(home, collector).is_complete
    assert collector.seqs() == [1, 2, 3, 4]


def test_runs_that_ship_themselves_are_left_alone(start, home, collector):
    run = start(collector.spec)
    assert run.flush("acked")
    report = sync(home, collector)
    assert states(report) == {"r": "live"}
    assert not report.is_complete
    run.log_metric("loss", 0.5)
    assert run.flush("acked")
    assert "fenced" not in run.stats().delivery.problem


def test_a_stream_that_another_sync_ships(start, home, collector):
    stream = absent(start)
    other = Lane.of(SpoolDir(home).run_dir("r"), stream, None, collector.spec, buffer=False)
    assert other.take()
    try:
        assert states(sync(home, collector)) == {"r": "busy"}
    finally:
        other.close()
    assert sync(home, collector).is_complete


def test_several_syncs_at_once(start, home, collector):
    for number in range(10):
        absent(start, f"r{number}", 200)
    reports: list[SyncReport] = []
    threads = [threading.Thread(target=lambda: reports.append(sync(home, collector))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 3
    assert {state for report in reports for state in states(report).values()} <= {"acked", "busy"}
    assert sync(home, collector).is_complete
    assert len(collector.seqs()) == 10 * 203


def test_refused_events_are_told(start, home, collector):
    absent(start)
    collector.rejects = {4: "seq_conflict"}
    report = sync(home, collector)
    assert not report.is_complete
    (stream,) = report.streams
    assert (stream.state, stream.acked, stream.refused) == ("refused", 12, {"seq_conflict": 1})
    assert states(sync(home, collector)) == {"r": "refused"}


def test_events_of_a_run_that_was_deleted_there_are_done_with(start, home, collector):
    absent(start)
    collector.rejects = dict.fromkeys(range(1, 14), "run_deleted")
    report = sync(home, collector)
    assert report.is_complete
    assert report.streams[0].refused == {"run_deleted": 13}


def test_runs_that_the_key_does_not_cover(start, home, collector):
    for name in ("a", "b", "c"):
        absent(start, name)
    collector.forbids = {"b"}
    report = sync(home, collector)
    assert states(report) == {"a": "acked", "b": "forbidden", "c": "acked"}
    assert not report.is_complete


def test_a_key_that_is_not_accepted(start, home):
    absent(start)
    with SmallCollector(authenticate=lambda _: Refusal("unauthorized", "no such key")) as collector:
        with pytest.raises(CollectorRefused, match="the key was not accepted: no such key") as caught:
            sync(home, collector)
        assert caught.value.code == "unauthorized"


def test_nobody_there(start, home, collector):
    absent(start)
    collector.stop()
    with pytest.raises(TransportError, match=r"nobody listens there.*xtrack serve"):
        sync(home, collector)
    with SmallCollector(port=collector.port) as later:
        assert sync(home, later).is_complete


def test_cut_connections(start, home, collector):
    for number in range(5):
        absent(start, f"r{number}", 500)
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.02):
            collector.drop_all()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        report = sync(home, collector)
    finally:
        stop.set()
        thread.join()
    if not report.is_complete:
        report = sync(home, collector)
    assert report.is_complete
    assert len(collector.seqs()) == 5 * 503


def test_it_is_given_up_without_progress(start, home, collector):
    absent(start)
    collector.acks = False
    begin = time.monotonic()
    report = sync(home, collector, patience=0.5)
    assert 0.5 <= time.monotonic() - begin < 15
    assert not report.is_complete
    assert report.problem == "nothing has been acked for 0.5 s"
    collector.acks = True
    assert sync(home, collector).is_complete


def test_more_streams_than_a_connection_may_open(home, monkeypatch):
    from xtrack_protocol.sender import link

    monkeypatch.setattr(link, "STREAMS_MAX", 10)
    for number in range(35):
        with Tracker.start_run(run_id=f"r{number}", settings=Settings(dir=home, quiet=True)):
            pass
    with SmallCollector(limits=CollectorLimits(streams=10)) as collector:
        report = sync(home, collector)
        assert report.is_complete
        assert len(report.streams) == 35
        assert collector.accepted == 4
        assert len(collector.seqs()) == 105


def test_a_damaged_spool(start, home, collector):
    absent(start, count=100)
    (segment,) = SpoolDir(home).run_dir("r").glob("*.xseg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    report = sync(home, collector)
    assert report.is_complete  # the loss is declared, and known
    assert len(collector.seqs()) == 102
    assert len(collector.skipped) == 1


# ---------------------------------------------------------------------------------------------- processes


WORK = """
import os, sys
import xtrack_protocol as xtrack
run = xtrack.start_run(run_id="r", quiet=True)
for step in range(100_000):
    run.log_metric("loss", float(step), step=step)
    os.write(1, b".")
"""


@pytest.mark.parametrize("when", ["nobody there", "connected"])
def test_kill_9_loses_nothing_that_was_accepted(home, collector, when):
    spec = NOBODY if when == "nobody there" else collector.spec
    process = subprocess.Popen(
        [sys.executable, "-c", WORK], stdout=subprocess.PIPE, env={**os.environ, "XTRACK_TRANSPORT": spec}
    )
    assert process.stdout is not None
    returned = 0
    while returned < 3000:
        returned += len(os.read(process.stdout.fileno(), 4096))
    process.kill()
    while told := os.read(process.stdout.fileno(), 65536):
        returned += len(told)
    process.wait()
    process.stdout.close()
    report = sync(home, collector)
    assert report.is_complete
    seqs = collector.seqs()
    assert seqs == list(range(1, len(seqs) + 1))
    assert returned + 2 <= len(seqs) <= returned + 3


def cli(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xtrack_protocol.cli", "sync", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )


def test_the_command(start, home, collector):
    stream = absent(start)
    done = cli("--to", collector.spec)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
    assert f"1 of 1 streams are acked by {collector.spec}, 13 events of them now" in done.stderr
    done = cli("--json", XTRACK_TRANSPORT=collector.spec)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["complete"], told["acked_now"], told["streams"][0]["state"]) == (True, 0, "acked")
    done = cli(str(home), XTRACK_HOST="127.0.0.1", XTRACK_PORT=str(collector.port))
    assert done.returncode == 0, done.stderr
    collector.forget(stream, 5)
    done = cli("--again", "--timeout", "20", "--to", collector.spec)
    assert done.returncode == 0, done.stderr
    assert collector.seqs() == list(range(1, 14))


def test_the_command_says_what_is_wrong(start, home, collector, tmp_path):
    absent(start)
    collector.rejects = {4: "seq_conflict"}
    done = cli("--to", collector.spec)
    assert done.returncode == 1
    assert "run r: refused for good: seq_conflict, 1 events" in done.stderr
    done = cli("--to", NOBODY)
    assert done.returncode == 1
    assert "nobody listens there" in done.stderr
    done = cli("--to", "http://x")
    assert done.returncode == 2
    assert "--to" in done.stderr
    done = cli(str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "there is no such folder. `xtrack sync --help`" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt(start, home, collector):
    absent(start, count=2000)
    collector.acks = False
    process = subprocess.Popen(
        [sys.executable, "-m", "xtrack_protocol.cli", "sync", "--to", collector.spec],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(collector.arrived) > 1000)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert "interrupted" in error
    assert "waiting" in said
    collector.acks = True
    assert sync(home, collector).is_complete


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_watching(start, home, collector, tmp_path):
    absent(start, "first")
    printed = tmp_path / "printed"
    with printed.open("wb") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from xtrack_protocol.cli import sync, main; sync.WATCH_SECONDS = 0.1; raise SystemExit(main())",
                "sync",
                "--watch",
                "--to",
                collector.spec,
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    until(lambda: "first" in printed.read_text())
    absent(start, "second")
    until(lambda: "second" in printed.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in {0, 130}, printed.read_text()
    assert len(collector.seqs()) == 26
