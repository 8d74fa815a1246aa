"""Jobs are done once, and to their end, whoever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.runs import RunState
from xtrack_protocol.storage import LocalStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

TRAINING = """
import os, sys, time
from pathlib import Path
import xtrack_protocol as xtrack
what, folder = sys.argv[1], Path(sys.argv[2])
(folder / "pid").write_text(str(os.getpid()))
with xtrack.start_run() as run:
    first = sum(1 for _ in folder.glob("step-*"))
    for step in range(first, 4):
        run.log_metric("loss", 1 / (step + 1), step=step)
        (folder / f"step-{step}").touch()
        if what == "fails once" and step == 1 and not run.resumed or what == "fails":
            raise RuntimeError("no data")
        if what == "waits" and step == 1:
            while not (folder / "go").exists():
                time.sleep(0.02)
        if what == "never ends":
            while not run.should_stop:
                time.sleep(0.02)
"""


class Jobs:
    """A folder of jobs, a spool, and the workers of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "jobs"
        self.folder.mkdir()
        self.home = folder / "home"
        self.told = folder / "told"
        self.script = folder / "training.py"
        self.script.write_text(TRAINING)
        self.env = {**os.environ, "XTRACK_DIR": str(self.home), "XTRACK_QUIET": "1"}
        for name in ("XTRACK_RUN_ID", "XTRACK_TRANSPORT"):
            self.env.pop(name, None)

    def add(self, job: str, what: str, **order: Any) -> Path:
        folder = self.folder.parent / f"work-{job}"
        folder.mkdir()
        arguments = [str(self.script), what, str(folder)]
        (self.folder / f"{job}.json").write_text(json.dumps({"command": sys.executable, "args": arguments, **order}))
        return folder

    def worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(EXAMPLES / "job_worker.py"), str(self.folder)]
        with self.told.open("a") as told:  # no pipe, which a training would hold open
            return subprocess.Popen(command, env=self.env, stdout=told, stderr=told)

    def work(self) -> str:
        before = len(self.told.read_text()) if self.told.exists() else 0
        self.wait(self.worker())
        return self.told.read_text()[before:]

    def wait(self, worker: subprocess.Popen[bytes]) -> None:
        try:
            assert worker.wait(30) == 0, self.told.read_text()
        finally:
            worker.kill()
            worker.wait()

    def result(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"{name}.result.json").read_text())
        return found

    def state(self, name: str) -> RunState:
        with LocalStore(self.home) as store:
            return store.get_run(name)

    def steps(self, name: str) -> list[int | None]:
        with LocalStore(self.home) as store:
            return [point.step for point in store.get_metrics(name, "loss")]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


def wait_for(happened: Callable[[], object]) -> None:
    due = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < due, "30 s"
        time.sleep(0.02)


def test_jobs_are_done_and_failures_tried_again(jobs: Jobs) -> None:
    jobs.add("good", "trains", name="the good one", experiment="e")
    jobs.add("once", "fails once")
    jobs.add("bad", "fails", attempts=2)
    jobs.work()
    assert jobs.result("good") == {"status": "completed", "error": None, "attempts": 1}
    assert jobs.result("once") == {"status": "completed", "error": None, "attempts": 2}
    assert jobs.result("bad") == {"status": "failed", "error": "no data", "attempts": 2}
    good = jobs.state("good")
    assert (good.status, good.name, good.experiment_id, good.tags["job"]) == (
        "completed", "the good one", "e", "good.json",
    )  # fmt: skip
    assert jobs.steps("once") == [0, 1, 2, 3]  # resumed under its id, with its history in order
    before = jobs.result("once")
    assert jobs.work() == ""  # nothing is left to be done
    assert jobs.result("once") == before


def test_what_cannot_be_done_is_said(jobs: Jobs) -> None:
    (jobs.folder / "broken.json").write_text("{")
    (jobs.folder / "odd.json").write_text("[]")
    (jobs.folder / "none.json").write_text('{"command": "no-such-program"}')
    jobs.work()
    assert jobs.result("broken")["status"] == jobs.result("odd")["status"] == "invalid"
    assert jobs.result("none")["status"] == "not started"
    assert "no-such-program" in jobs.result("none")["error"]


def test_a_job_that_takes_too_long_is_stopped(jobs: Jobs) -> None:
    jobs.add("long", "never ends", timeout=0.7)
    jobs.work()
    result = jobs.result("long")
    assert (result["status"], result["after"]) == ("timed out", 0.7)
    assert jobs.state("long").status == result["run"] != "running"


def test_a_training_that_outlives_its_worker_is_waited_for(jobs: Jobs) -> None:
    folder = jobs.add("job", "waits")
    worker = jobs.worker()
    wait_for(lambda: (folder / "step-1").exists())
    worker.kill()
    worker.wait()
    assert not (jobs.folder / "job.result.json").exists()
    other = jobs.worker()
    wait_for(lambda: "its worker is gone" in jobs.told.read_text())
    (folder / "go").touch()
    jobs.wait(other)
    assert jobs.result("job") == {"status": "completed", "error": None, "attempts": 1}
    assert jobs.steps("job") == [0, 1, 2, 3]


def test_where_worker_and_training_are_killed_the_run_is_resumed(jobs: Jobs) -> None:
    folder = jobs.add("job", "waits")
    worker = jobs.worker()
    wait_for(lambda: (folder / "step-1").exists())
    worker.kill()
    worker.wait()
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    (folder / "go").touch()
    jobs.work()
    assert jobs.result("job") == {"status": "completed", "error": None, "attempts": 2}
    assert jobs.steps("job") == [0, 1, 2, 3]


def test_two_workers_share_the_jobs(jobs: Jobs) -> None:
    for place in range(3):
        jobs.add(f"job-{place}", "trains")
    workers = [jobs.worker() for _ in range(2)]
    for worker in workers:
        jobs.wait(worker)
    for place in range(3):
        assert jobs.result(f"job-{place}") == {"status": "completed", "error": None, "attempts": 1}
        assert jobs.steps(f"job-{place}") == [0, 1, 2, 3]
