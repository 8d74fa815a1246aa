"""Every testee that is here is conformant in every role it declares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER, MUTANT, mutants
from testee_toolchains import require

from xtrack_conformance import cli
from xtrack_conformance.cases import load_cases

TESTEES = FOLDER / "testees"


@pytest.mark.slow  # CI asks it as it stands in the wheel
@pytest.mark.timeout(900)
def test_javascript(tmp_path: Path, capsys: Any) -> None:
    report = tmp_path / "report.json"
    command = [require("node"), str(TESTEES / "javascript" / "testee.mjs")]
    assert cli.main(["run", "--report", str(report), "--", *command]) == 0, capsys.readouterr().out
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["verdict"] == "conformant"
    assert {case["verdict"] for case in told["cases"]} <= {"pass", "not-applicable"}
    assert sorted(told["roles"]) == ["collector", "decoder", "emitter", "encoder", "framer", "server", "store"]


@pytest.mark.slow
def test_fifty_runs_have_no_flake(capsys: Any) -> None:
    for _ in range(50):
        assert cli.main(["run", "--", sys.executable, str(TESTEES / "python" / "testee.py")]) == 0, (
            capsys.readouterr().out
        )


def test_the_matrix_has_every_mutant_and_agrees_with_the_cases() -> None:
    matrix = json.loads((FOLDER / "mutants" / "matrix.json").read_text(encoding="utf-8"))["mutants"]
    assert sorted(matrix) == sorted(mutants().MUTANTS)
    for case in load_cases():
        for name in case.kills:
            assert case.id in matrix[name], (case.id, name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_matrix_is_up_to_date() -> None:
    sys.path.insert(0, str(MUTANT.parent))
    try:
        import matrix
    finally:
        sys.path.remove(str(MUTANT.parent))
    stored = (MUTANT.parent / "matrix.json").read_text(encoding="utf-8")
    assert matrix.as_text(matrix.matrix()) == stored, "run `python matrix.py` in conformance/mutants/"
