"""The testee in Rust builds without a warning, and is conformant in every role it declares."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER
from testee_toolchains import require

from xtrack_conformance import cli
from xtrack_conformance.cases import load_cases

pytestmark = pytest.mark.thorough

CRATE = FOLDER / "testees" / "rust"


def cargo(target: Path, *arguments: str) -> None:
    """Run cargo on the crate, offline and with warnings as errors."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": "-D warnings"}
    command = [require("cargo"), *arguments, "--offline", "--locked", "--quiet"]
    done = subprocess.run(command, cwd=CRATE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_rust(tmp_path: Path, capsys: Any) -> None:
    cargo(tmp_path, "build", "--release")
    testee = tmp_path / "release" / ("xtrack-testee.exe" if os.name == "nt" else "xtrack-testee")
    report = tmp_path / "report.json"
    assert cli.main(["run", "--report", str(report), "--", str(testee)]) == 0, capsys.readouterr().out
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["verdict"] == "conformant"
    assert sorted(told["roles"]) == ["decoder", "encoder", "framer"]
    assert {role["verdict"] for role in told["roles"].values()} == {"conformant"}
    # Strings of Rust can't hold half of a surrogate pair.
    impossible = {case.id for case in load_cases() if case.role in told["roles"] and "lone_surrogates" in case.needs}
    others = {case["id"]: case["verdict"] for case in told["cases"] if case["verdict"] != "pass"}
    assert others == dict.fromkeys(impossible, "not-applicable")


@pytest.mark.timeout(600)
def test_its_own_tests(tmp_path: Path) -> None:
    cargo(tmp_path, "test")
