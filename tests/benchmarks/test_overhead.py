"""The measure of what tracking costs a training: its arithmetic, and that no condition raises into the training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks" / "overhead.py").exists(), reason="the benchmarks aren't here")
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
harness = pytest.importorskip("benchmarks.harness")
overhead = pytest.importorskip("benchmarks.overhead")


def turns_of(factor: float, count: int = 40) -> list[Any]:
    """Return turns whose machine is now faster, now slower, and whose tracked steps take ``factor`` as long."""
    turns = []
    for place in range(count):
        speed = 1_000_000 * (1 + 0.2 * (place % 7))
        steps = [round(speed * (3 if step % 60 == 0 else 1 + step % 5 / 100)) for step in range(200)]
        turns.append(overhead.Turn(steps, [round(step * factor) for step in steps]))
    return turns


@pytest.mark.parametrize("percent", [0.0, 0.5, 5.0, -3.0])
def test_a_known_overhead_is_found(percent: float) -> None:
    found = overhead.intervals(turns_of(1 + percent / 100), resampled=200)
    assert set(found) == {"mean", "p99"}
    for interval in found.values():
        assert interval.value == pytest.approx(percent, abs=0.01)
        assert interval.low - 0.01 <= percent <= interval.high + 0.01
        assert interval.high - interval.low < 0.02  # the machine's moods are in both of a pair


def test_noise_in_one_of_a_pair_makes_the_interval_wide() -> None:
    turns = [
        overhead.Turn(turn.bare, [step * (2 if place % 2 else 1) for step in turn.bare])
        for place, turn in enumerate(turns_of(1.0))
    ]
    mean = overhead.intervals(turns, resampled=200)["mean"]
    assert mean.low < mean.value < mean.high
    assert mean.high - mean.low > 20


def test_one_turn_makes_no_interval() -> None:
    with pytest.raises(ValueError, match="no interval"):
        overhead.intervals(turns_of(1.0, count=1))


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=20), min_size=1, max_size=6), st.data())
def test_a_percentile_of_turns_drawn_again_is_that_of_all_their_steps(stretches: list[list[int]], data: Any) -> None:
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(stretches), max_size=len(stretches)))
    steps = [step for stretch, weight in zip(stretches, weights, strict=True) for step in stretch * weight]
    if not steps:
        return
    found = overhead.Tail(stretches, 0.5).value(weights)
    assert found in steps
    assert sum(step > found for step in steps) <= len(steps) / 2
    assert sum(step >= found for step in steps) >= len(steps) / 2


def test_the_cases_run_by_name_alone() -> None:
    assert not any(case.name.startswith("overhead") for case in harness.chosen([]))
    assert {case.name for case in harness.chosen(["overhead"])} == {
        f"overhead.{kind}{name}" for name in overhead.CONDITIONS for kind in ("", "processes.")
    }


@pytest.mark.parametrize("name", ["local", "there", "stopped"])
def test_nothing_is_raised_into_a_training(name: str, tmp_path: Path) -> None:
    """A loop in plain Python under each condition; the disk that is full comes below, and PyTorch's loop with it."""
    value = iter(range(10_000))
    with overhead.condition(name, tmp_path, core=None) as run:
        turns = overhead.take_turns(lambda: float(next(value)), run, turns=2, block=50)
    assert [len(turn.tracked) for turn in turns] == [100, 100]
    assert run.stats().accepted >= overhead.WARM_UP + 200
    assert run.stats().refused == 0


def measured(folder: Path, *arguments: str) -> list[list[int]]:
    command = [sys.executable, "-m", "benchmarks.overhead", *arguments, "--dir", str(folder)]
    if sys.platform == "linux" and os.geteuid() != 0:
        command = ["unshare", "-rm", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    rows: list[list[int]] = json.loads(done.stdout)
    return rows


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_nothing_is_raised_into_a_training_by_a_full_disk(tmp_path: Path) -> None:
    rows = measured(tmp_path, "process", "full", "200", "--plain")
    assert [len(row) for row in rows] == [200]
    assert not (tmp_path / "disk" / "home").exists()  # it was unmounted


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["local", "there", "stopped", "full"])
def test_nothing_is_raised_into_a_training_in_pytorch(name: str, tmp_path: Path) -> None:
    if os.environ.get("XTRACK_FRAMEWORKS") != "all":
        pytest.importorskip("torch")
    rows = measured(tmp_path, "turns", name, "1")
    assert [len(row) for row in rows] == [2 * overhead.BLOCK] * 2
