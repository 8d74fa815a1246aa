"""The testee in Rust builds without a warning, and is conformant in every role it declares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from testee_toolchains import cargo, rust_testee

from xtrack_conformance import cli
from xtrack_conformance.cases import load_cases

pytestmark = pytest.mark.thorough


@pytest.mark.timeout(600)
def test_rust(tmp_path: Path, capsys: Any) -> None:
    testee = rust_testee(tmp_path)
    report = tmp_path / "report.json"
    assert cli.main(["run", "--report", str(report), "--", str(testee)]) == 0, capsys.readouterr().out
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["verdict"] == "conformant"
    assert sorted(told["roles"]) == ["decoder", "encoder", "framer"]
    assert {role["verdict"] for role in told["roles"].values()} == {"conformant"}
    # Strings of Rust can't hold half of a surrogate pair; and this one has JSON alone.
    missing = {"lone_surrogates", "messagepack"}
    impossible = {case.id for case in load_cases() if case.role in told["roles"] and missing & {*case.needs}}
    others = {case["id"]: case["verdict"] for case in told["cases"] if case["verdict"] != "pass"}
    assert others == dict.fromkeys(impossible, "not-applicable")


@pytest.mark.timeout(600)
def test_its_own_tests(tmp_path: Path) -> None:
    cargo(tmp_path, "test")
