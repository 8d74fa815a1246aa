"""The compilers and interpreters of testees in other languages, which not every machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conformance_suite import FOLDER

CRATE = FOLDER / "testees" / "rust"


def require(tool: str) -> str:
    """Where ``tool`` is. A test is skipped without it, unless ``XTRACK_TESTEES=all`` says that all are installed."""
    path = shutil.which(tool)
    if path is not None:
        return path
    if os.environ.get("XTRACK_TESTEES") == "all":
        pytest.fail(f"XTRACK_TESTEES=all, and there is no {tool}", pytrace=False)
    pytest.skip(f"there is no {tool}")


def cargo(target: Path, *arguments: str) -> None:
    """Run cargo on the testee in Rust, offline and with warnings as errors; what is built goes to ``target``."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": "-D warnings"}
    command = [require("cargo"), *arguments, "--offline", "--locked", "--quiet"]
    done = subprocess.run(command, cwd=CRATE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rust_testee(target: Path) -> Path:
    """Build the testee in Rust; return where it is."""
    cargo(target, "build", "--release")
    return target / "release" / ("xtrack-testee.exe" if os.name == "nt" else "xtrack-testee")
