"""The benchmarks' own arithmetic, and that what fails there can be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks" / "harness.py").exists(), reason="the benchmarks aren't here")
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
harness = pytest.importorskip("benchmarks.harness")
report = pytest.importorskip("benchmarks.report")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--dir", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


# ------------------------------------------------------------------------------------------ statistics


def test_percentiles_are_nearest_ranks() -> None:
    values = list(range(1, 101))
    assert harness.percentile(values, 0.5) == 50
    assert harness.percentile(values, 0.99) == 99
    assert harness.percentile(values, 1) == 100
    assert harness.percentile(values, 0) == 1
    assert harness.percentile([7], 0.99) == 7
    assert harness.percentile([3, 1, 2], 0.5) == 2
    with pytest.raises(ValueError, match="no values"):
        harness.percentile([], 0.5)
    with pytest.raises(ValueError, match="no part"):
        harness.percentile([1], 50)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.floats(0.001, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], part: float) -> None:
    found = harness.percentile(values, part)
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values) - 1e-6
    assert sum(value < found for value in values) < part * len(values) + 1e-6


def test_the_ratio_is_that_of_pairs_and_not_of_medians() -> None:
    assert harness.ratio_of_pairs([2, 20, 200], [1, 10, 100]) == 2
    assert harness.ratio_of_pairs([1, 2, 30], [1, 1, 10]) == 2  # the medians' is the same, the means' isn't
    assert harness.ratio_of_pairs([4, 1, 9], [1, 1, 9]) == 1
    for above, below in (([], []), ([1], [1, 2])):
        with pytest.raises(ValueError, match="no pairs"):
            harness.ratio_of_pairs(above, below)


def test_works_take_turns_and_the_first_round_does_not_count() -> None:
    seen: list[str] = []

    def work(name: str) -> float:
        seen.append(name)
        return float(len(seen))

    found = harness.by_turns(3, lambda: work("a"), lambda: work("b"))
    assert seen == ["a", "b"] * 4
    assert found == [[3, 5, 7], [4, 6, 8]]


def test_goals_are_met_or_not() -> None:
    assert harness.Figure("f", 1.5, "x", harness.at_most(1.5)).verdict == "met"
    assert harness.Figure("f", 1.51, "x", harness.at_most(1.5)).verdict == "not met"
    assert harness.Figure("f", 0.9, "x", harness.at_least(0.9)).verdict == "met"
    assert harness.Figure("f", 0.89, "x", harness.at_least(0.9)).verdict == "not met"
    assert harness.Figure("f", None, "x", harness.at_least(0.9)).verdict == "not measured"
    assert harness.Figure("f", 3.0).verdict == ""


def test_a_comparison_tells_which_one_is_faster() -> None:
    import time

    bench = harness.Bench(Path(), quick=True)
    slow = (lambda: time.sleep(0.02), harness.at_least(0.9))
    figures = {one.name: one for one in bench.compare("ours", 10, lambda: time.sleep(0.002), {"slow": slow})}
    assert figures["ours / slow"].value > 2
    assert figures["ours / slow"].verdict == "met"
    figures = {one.name: one for one in bench.compare("ours", 10, slow[0], {"fast": (lambda: None, slow[1])})}
    assert figures["ours / fast"].verdict == "not met"


def test_the_pass_for_memory_finds_what_was_held() -> None:
    figure = harness.Bench(Path(), tracing=True).traced("list", lambda: bytearray(8 * harness.MIB))
    assert 8 <= figure.value < 9


def test_numbers_have_the_digits_that_count() -> None:
    shown = [report.number(value) for value in (None, 0, 1234567.8, 12.345, 1.5, 0.1234, 0.00012)]
    assert shown == ["-", "0", "1,234,568", "12.35", "1.50", "0.123", "0.00012"]


# ------------------------------------------------------------------------------------------ runs

CASES = """
from benchmarks.harness import Figure, at_most, case
@case("own.good")
def good(bench):
    yield Figure("good", 1.0, "x", at_most(2))
@case("own.bad")
def bad(bench):
    yield Figure("bad", 3.0, "x", at_most(2))
@case("own.raises")
def raises(bench):
    yield Figure("before", 1.0)
    raise RuntimeError("the disk is on fire")
@case("own.dies")
def dies(bench):
    import os
    os._exit(3)
    yield
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_cases.py").write_text(CASES)
    return tmp_path


def test_a_case_that_raises_or_dies_is_told_and_stops_no_other(own: Path) -> None:
    written = own / "found.json"
    markdown = own / "found.md"
    options = ("--module", "own_cases", "--only", "own", "--json", str(written), "--markdown", str(markdown))
    done = run(*options, folder=own)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the disk is on fire" in done.stdout
    assert "failed: own.raises, own.dies" in done.stderr
    found = json.loads(written.read_text())
    cases = {one["case"]: one for one in found["cases"]}
    assert cases["own.good"]["figures"][0]["verdict"] == "met"
    assert cases["own.bad"]["figures"][0]["verdict"] == "not met"
    assert cases["own.raises"]["error"] == "RuntimeError: the disk is on fire"
    assert "exit status 3" in cases["own.dies"]["error"]
    assert found["conditions"]["python"]
    assert found["conditions"]["quick"]
    assert "| own.bad | bad | 3.00 x | <= 2 | not met |" in markdown.read_text()


def test_goals_decide_the_exit_status_only_where_asked(own: Path) -> None:
    options = ("--module", "own_cases", "--only", "own.good,own.bad")
    assert run(*options, folder=own).returncode == 0
    assert run(*options, "--strict", folder=own).returncode == 1
    assert run("--module", "own_cases", "--only", "own.good", "--strict", folder=own).returncode == 0


def test_a_case_that_is_none_is_refused(own: Path) -> None:
    done = run("--only", "P99", folder=own)
    assert done.returncode == 2
    assert "no case is called 'P99'" in done.stderr


def test_one_real_case_from_end_to_end(tmp_path: Path) -> None:
    written = tmp_path / "found.json"
    done = run("--only", "P3.encode", "--json", str(written), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (case,) = json.loads(written.read_text())["cases"]
    names = {one["name"]: one for one in case["figures"]}
    ratio = names["encode_frame / a bare two-line function"]
    assert 0.05 < ratio["value"] < 3
    assert ratio["goal"] == ">= 0.95"
    assert names["encode_frame: peak of Python's memory (tracemalloc)"]["value"] > 0
    assert case["peak_mib"] > 5
