"""The testee in Elixir is conformant in every role it declares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER
from testee_toolchains import require

from xtrack_conformance import cli
from xtrack_conformance.cases import load_cases

pytestmark = pytest.mark.thorough


def test_elixir(tmp_path: Path, capsys: Any) -> None:
    report = tmp_path / "report.json"
    command = [require("elixir"), str(FOLDER / "testees" / "elixir" / "testee.exs")]
    assert cli.main(["run", "--report", str(report), "--", *command]) == 0, capsys.readouterr().out
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["verdict"] == "conformant"
    assert {role: entry["verdict"] for role, entry in told["roles"].items()} == dict.fromkeys(
        ["decoder", "encoder", "framer"], "conformant"
    )
    # All there are, but for lone_surrogates: a string of Elixir is valid UTF-8.
    declared = {"strict", "lenient", "recording", "stop_at_damage", "limits"}
    assert set(told["testee"]["capabilities"]) == declared
    needs = {case.id: case.needs for case in load_cases()}
    for case in told["cases"]:
        expected = "pass" if declared.issuperset(needs[case["id"]]) else "not-applicable"
        assert case["verdict"] == expected, case
