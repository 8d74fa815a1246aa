"""Our emitter, in processes of its own, with a collector of before: over TCP and a Unix socket. spec: VER-3, DLV-8.3

The collector speaks raw bytes, answers nothing, and throws away its buffer at a type that it doesn't know. What a
single sender does with one is tested in tests/sender.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from legacy_collector import LegacyCollector, until

MakeCollector = Callable[..., LegacyCollector]


@pytest.fixture(params=["tcp", "unix"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeCollector]:
    """Makes a collector, each further one in the place of the one before, which is gone."""
    made: list[LegacyCollector] = []

    def collector(**options: Any) -> LegacyCollector:
        port = 0
        if made:
            made[-1].stop()
            port = 0 if request.param == "unix" else made[-1].port
        path = tmp_path / "socket" if request.param == "unix" else None
        if path is not None:
            path.unlink(missing_ok=True)
        made.append(LegacyCollector(port, path=path, **options))
        return made[-1]

    yield collector
    made[-1].stop()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a training in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}

    def start(code: str, collector: LegacyCollector, **env: str) -> subprocess.Popen[str]:
        settings = {"XTRACK_DIR": str(tmp_path / "home"), "XTRACK_TRANSPORT": collector.spec, "XTRACK_RUN_ID": "r"}
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", "import xtrack_protocol as x\n" + textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**clean, **settings, **env},
        )

    return start


EVERYTHING = """
    run = x.start_run("all", tags={"a": "b"}, params={"lr": 0.1}, experiment_id="e", world_size=1)
    run.log_metric("loss", float("nan"), 1)
    run.log_metrics({"loss": float("-inf"), "acc": 1}, 2, epoch=1, phase="val")
    run.log_artifact("s3://bucket/model", "model")
    run.log_checkpoint("s3://bucket/c", 2, metrics={"loss": 0.5})
    run.log("half way", level="warning", x=[1, 2])
    run.set_tags({"later": "yes"})
    run.alert("look", "here", level="error")
    run.summary({"best": 0.25})
    run.log("x" * 2_000_000)
    run.set_status("evaluating")
"""

KINDS = [
    *("run_start", "status", "param", "metric", "metric_batch", "artifact", "checkpoint", "log"),
    *("log", "log", "log"),  # tags, alert, summary
    *("artifact", "log", "status", "run_end"),  # a text that was cut comes after the file that holds it
]


def test_everything_that_it_understands_arrives(make: MakeCollector, script: Any) -> None:
    collector = make()
    done = script(EVERYTHING, collector)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    until(lambda: len(collector.events) == len(KINDS))
    assert collector.kinds() == KINDS
    assert collector.seqs == list(range(1, len(KINDS) + 1))
    assert (collector.unknown, collector.thrown_away) == (["hello"], 0)
    start, *_, end = (event["p"] for event in collector.events)
    assert start["run_id"] == {"id": "r", "exp_id": "e"}
    assert end["status"] == "completed"
    tags, alert, summary = (event["p"] for event in collector.events[8:11])
    assert (tags["msg"], tags["fields"]) == ("tags", {"later": "yes"})
    assert (alert["msg"], alert["level"]) == ("look: here", "error")
    assert (summary["msg"], summary["fields"]) == ("summary", {"best": 0.25})
    assert [event["p"]["value"] for event in collector.events if event["t"] == "metric"] == ["NaN"]
    assert f"{len(KINDS)} sent to {collector.spec}, which confirms nothing" in err


def test_one_that_closes_at_hello(make: MakeCollector, script: Any) -> None:
    """It is spoken to without from then on; nothing is lost."""
    collector = make(closes_at_unknown=True)
    done = script("run = x.start_run()\nfor step in range(100): run.log_metric('loss', 1.0, step)", collector)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    until(lambda: len(collector.events) == 103)
    assert collector.seqs == list(range(1, 104))
    assert set(collector.unknown) == {"hello"}


def test_several_workers(make: MakeCollector, script: Any) -> None:
    """Ranks of a launch, each with a child that was forked and logs too."""
    collector = make()
    code = """
        import os
        run = x.start_run()
        for step in range(50):
            run.log_metric("loss", 1.0, step)
        child = os.fork()
        run.log_metric("from", 0.0 if child else 1.0)
        if child:
            os.waitpid(child, 0)
    """
    workers = [script(code, collector, RANK=str(rank), WORLD_SIZE="3") for rank in range(3)]
    for worker in workers:
        _, err = worker.communicate(timeout=90)
        assert worker.returncode == 0, err
    until(lambda: collector.kinds().count("run_end") >= 3)
    for rank in range(3):
        told = [event for event in collector.events if event["m"]["wid"] == str(rank)]
        sessions = {event["m"]["sid"] for event in told}
        assert len(sessions) == 2
        for session in sessions:
            seqs = [event["m"]["seq"] for event in told if event["m"]["sid"] == session]
            assert seqs == list(range(1, len(seqs) + 1))
    assert collector.kinds().count("metric") == 3 * 52
    assert set(collector.unknown) == {"hello"}
    assert collector.thrown_away == 0


PATIENCE = 90.0
"""Seconds, for waits between attempts to connect grow to 30 s where a restart takes long."""


@pytest.mark.timeout(400)
def test_one_that_is_restarted_again_and_again(make: MakeCollector, script: Any) -> None:
    """And forgets all it had: the training never notices, and each event came to one of them at least."""
    code = """
        import sys, time
        run = x.start_run()
        worst, step = 0.0, 0
        while not sys.stdin.readline():
            for _ in range(200):
                begun = time.perf_counter()
                run.log_metric("loss", 1.0, step)
                worst, step = max(worst, time.perf_counter() - begun), step + 1
        run.end()
        print(step, worst)
    """
    code = code.replace("while not sys.stdin.readline():", "while sys.stdin.readline().strip():")
    collectors = [make()]
    training = script(code, collectors[0], XTRACK_END_TIMEOUT="80")
    for _ in range(3):
        for _ in range(5):
            training.stdin.write("go\n")
            training.stdin.flush()
            time.sleep(0.2)
        until(lambda: collectors[-1].kinds().count("metric") > 0, PATIENCE)
        collectors.append(make())
    out, err = training.communicate("\n", timeout=PATIENCE)
    assert training.returncode == 0, err
    steps = int(out.split()[0])
    assert steps == 3000
    until(lambda: collectors[-1].kinds().count("run_end") == 1, PATIENCE)
    seen = {seq for collector in collectors for seq in collector.seqs}
    assert seen == set(range(1, steps + 4))
    for collector in collectors:
        assert set(collector.unknown) <= {"hello"}
        assert collector.thrown_away == 0


def test_one_that_comes_when_the_training_is_over(make: MakeCollector, script: Any, tmp_path: Path) -> None:
    """What is left in the spool is shipped by the command that the end of the run names."""
    collector = make()
    collector.stop()
    done = script("run = x.start_run()\nrun.log_metric('loss', 1.0, 1)\nrun.end()", collector, XTRACK_END_TIMEOUT="0.2")
    _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert "xtrack sync" in err
    collector = make()
    env = {**os.environ, "XTRACK_DIR": str(tmp_path / "home")}
    for _ in range(2):  # the second time there is nothing left
        command = [sys.executable, "-m", "xtrack_protocol.cli", "sync", "--to", collector.spec]
        synced = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
        assert synced.returncode == 1  # for nobody has confirmed anything
        assert "plain version 1, which confirms nothing" in synced.stderr
    until(lambda: len(collector.events) >= 4)
    assert collector.kinds() == ["run_start", "status", "metric", "run_end"]
    assert collector.thrown_away == 0
