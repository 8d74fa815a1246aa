"""The sweep: trials in processes of their own, and the best one found by reading the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from xtrack_protocol.runs import RunState
from xtrack_protocol.storage import LocalStore, RunQuery

SWEEP = Path(__file__).resolve().parents[2] / "examples" / "sweep.py"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def run(*options: str) -> subprocess.Popen[str]:
        environment = {"XTRACK_DIR": str(tmp_path / "spool"), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, str(SWEEP), *options],
            env=environment,
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with process:  # closes its pipes
            process.kill()


def runs(folder: Path) -> tuple[RunState, dict[str | None, RunState]]:
    """Return the sweep and its trials by name."""
    with LocalStore(folder / "spool") as store:
        (parent,) = [state for state in store.list_runs() if state.parent_run_id is None]
        return parent, {state.name: state for state in store.search_runs(RunQuery(parent=parent.run_id))}


def test_a_grid_with_a_trial_that_fails(tmp_path: Path, start: Any) -> None:
    sweep = start("--lr", "0.02", "1e9", "--hidden", "3", "8", "--epochs", "3", "--workers", "2")
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, err
    parent, trials = runs(tmp_path)
    assert (parent.name, parent.status, parent.experiment_id) == ("grid", "completed", "iris-sweep")
    assert {name: state.status for name, state in trials.items()} == {
        "lr0.02-h3": "completed",
        "lr0.02-h8": "completed",
        "lr1e+09-h3": "failed",
        "lr1e+09-h8": "failed",
    }
    failed = trials["lr1e+09-h3"]
    assert failed.error is not None
    assert failed.error.type == "FloatingPointError"
    assert trials["lr0.02-h8"].params == {"lr": 0.02, "hidden": 8, "epochs": 3, "seed": 1}
    good = [trials["lr0.02-h3"], trials["lr0.02-h8"]]
    best = min(good, key=lambda state: state.summary["val_loss"])
    assert parent.tags["best"] == best.run_id
    assert parent.summary == {"trials": 4, "failed": 2, "best_val_loss": best.summary["val_loss"]}
    assert f"best: {best.run_id}" in out
    with LocalStore(tmp_path / "spool") as store:
        assert store.get_experiment("iris-sweep").tags == {"goal": "least val_loss"}


def test_two_variants(tmp_path: Path, start: Any) -> None:
    sweep = start("--ab", "--seeds", "2", "--epochs", "3", "--workers", "4")
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, err
    parent, trials = runs(tmp_path)
    assert {name: state.tags["variant"] for name, state in trials.items()} == {
        "A-1": "A",
        "A-2": "A",
        "B-1": "B",
        "B-2": "B",
    }
    means = {
        name: sum(state.summary["val_loss"] for state in trials.values() if state.tags["variant"] == name) / 2
        for name in "AB"
    }
    assert parent.summary == pytest.approx({f"val_loss_{name}": mean for name, mean in means.items()})
    assert parent.tags["winner"] == min(means, key=lambda name: means[name])
    assert f"winner: {parent.tags['winner']}" in out


def test_a_trial_that_is_killed_takes_no_other_with_it(tmp_path: Path, start: Any) -> None:
    sweep = start("--lr", "0.02", "0.05", "--hidden", "3", "--epochs", "300", "--workers", "1")
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "spool" / "spool").glob("*/*.xseg"))) < 2:  # the sweep's own, and the first trial's
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (trial,) = [child for child in psutil.Process(sweep.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    trial.send_signal(signal.SIGKILL)
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, err
    assert "lr0.02-h3: failed (-9)" in out
    parent, trials = runs(tmp_path)
    assert trials["lr0.05-h3"].status == "completed"
    assert trials["lr0.02-h3"].status != "completed"
    assert parent.tags["best"] == trials["lr0.05-h3"].run_id
    assert parent.summary["failed"] == 1
