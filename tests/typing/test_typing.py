"""The types that users see are what they should be: reveal.py is clean under mypy --strict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import xtrack_protocol

ROOT = Path(__file__).parents[2]


def test_types_are_as_declared(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(tmp_path),
    ]
    result = subprocess.run(
        [*command, "--warn-unused-ignores", str(Path(__file__).with_name("reveal.py"))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    ours = [line for line in result.stdout.splitlines() if line.startswith("tests/typing/")]
    assert ours == [], result.stdout + result.stderr
    assert result.returncode in {0, 1}, result.stderr


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    assert (Path(xtrack_protocol.__file__).parent / "py.typed").exists()
