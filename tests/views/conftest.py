"""A spool of its own, with runs in it that have something of everything."""

import math
import os

import pytest

from xtrack_protocol import Tracker

EXACT = 2**53 + 1


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("XTRACK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "xd"))
    monkeypatch.setenv("XTRACK_QUIET", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def base():
    """A run of one worker: steps out of order and none, NaN, infinities, integers that no float holds, phases."""
    with Tracker.start_run(
        "base",
        run_id="base",
        experiment_id="exp",
        tags={"kind": "a"},
        params={"lr": 0.1, "layers": [1, 2]},
        strict=True,
    ) as run:
        for step, value in ((3, 0.25), (1, 0.5), (2, math.nan), (3, 0.125), (-1, math.inf)):
            run.log_metric(
                "loss", value, step, epoch=step + 10, phase="train", batch_size=8, timestamp_us=10**15 + step
            )
        run.log_metrics({"count": EXACT, "system/gpu": -math.inf})
        run.log_metrics({"count": 7}, step=1, phase="val", dataset_size=50, agg="mean")
        run.summary({"best": 0.125})
    return run.run_id


@pytest.fixture
def four():
    """A run of four workers, ten steps each, of which the last one has NaN at step 5 and the second half of a step."""
    for worker in range(4):
        with Tracker.start_run("four", run_id="four", worker_id=str(worker), world_size=4, strict=True) as run:
            for step in range(10):
                run.log_metric("loss", math.nan if (worker, step) == (3, 5) else float(worker + step), step)
            if worker == 1:
                run.log_metric("own", 1.5, 0)
    return "four"


@pytest.fixture
def failed():
    """A run that failed and has little to show, with hostile names."""
    run = Tracker.start_run("</td><script>alert(1)</script>", run_id="bad", params={"lr": "<img src=x>", "deep": None})
    run.log_metric('"><svg onload=alert(2)>\u202e\x1b[31m', 1.0, 1)
    run.end("failed", error=ValueError("<b>no</b>"))
    return "bad"
