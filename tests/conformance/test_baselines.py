"""The original published implementation, as it is described, with its known deviations and without."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER

from xtrack_conformance import cli
from xtrack_conformance.cases import load_cases
from xtrack_conformance.report import read_baseline

pytestmark = pytest.mark.thorough

BASELINES = FOLDER / "baselines"
ORIGINAL = [sys.executable, str(BASELINES / "original.py")]
AGAIN = "run `python make.py` in conformance/baselines/ after cases have changed"


def faults() -> dict[str, str]:
    """What the original is known for."""
    sys.path.insert(0, str(BASELINES))
    try:
        import original
    finally:
        sys.path.remove(str(BASELINES))
    found: dict[str, str] = original.FAULTS
    return found


def test_each_entry_has_a_reason_that_is_a_known_fault() -> None:
    reasons = read_baseline((BASELINES / "original-1.0.json").read_text(encoding="utf-8"), load_cases())
    told = {part for reason in reasons.values() for part in reason.split("; and ")}
    assert told == set(faults().values()), AGAIN


@pytest.mark.timeout(300)
def test_the_original_is_nonconformant_and_excused(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "report.json"
    baseline = ["--baseline", str(BASELINES / "original-1.0.json")]
    status = cli.main(["run", "--report", str(path), "--failures", "3", *baseline, "--", *ORIGINAL])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["stale"] == [], AGAIN
    unexcused = [case["id"] for case in report["cases"] if case["verdict"] == "fail" and not case["excused"]]
    assert unexcused == [], AGAIN
    assert (status, report["verdict"]) == (0, "conformant-with-exceptions"), capsys.readouterr().out
    assert {case["verdict"] for case in report["cases"]} <= {"pass", "fail", "nonstrict", "not-applicable"}


def test_without_the_baseline_it_is_nonconformant(capsys: Any) -> None:
    assert cli.main(["smoke", "--", *ORIGINAL]) == cli.FAILED
    assert "verdict: nonconformant" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "case_id"),
    [
        ("names", "enc-metric"),
        ("buffer", "frm-bad-type-between"),
        ("limit", "frm-newline-between"),
        ("gap", "str-gap-and-end"),
        ("run", "str-identity-worker"),
        ("later", "evt-tags-tags-missing"),
        ("lost", "fld-final-metrics"),
    ],
)
def test_one_fault_alone(fault: str, case_id: str, capsys: Any) -> None:
    assert cli.main(["run", "--case", case_id, "--", *ORIGINAL, fault]) == cli.FAILED
    others = [name for name in faults() if name != fault and name not in {"gap", "run", "later", "lost"}]
    assert cli.main(["run", "--case", case_id, "--", *ORIGINAL, *others]) == 0, capsys.readouterr().out
