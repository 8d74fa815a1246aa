"""Skeletons of testees pass ``smoke`` as they are written; the testees that come with the suite are found by name."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from testee_toolchains import require

from xtrack_conformance import cli, shipped
from xtrack_conformance.verbs.init import SKELETONS

pytestmark = pytest.mark.thorough

TOOLS = {"python": sys.executable, "javascript": "node", "elixir": "elixir", "rust": "cargo"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", sorted(SKELETONS))
def test_a_skeleton_passes_smoke_by_the_commands_that_are_printed(language: str, tmp_path: Path, capsys: Any) -> None:
    require(TOOLS[language])
    assert cli.main(["init", "--lang", language, str(tmp_path / "new")]) == 0
    told = capsys.readouterr().out
    commands = re.findall(r"^  (.+)$", told, re.MULTILINE)
    assert len(commands) == (3 if language == "rust" else 2)
    for command in commands[:-2]:
        built = subprocess.run([*shlex.split(command), "--quiet"], capture_output=True, text=True, check=False)
        assert (built.returncode, built.stderr) == (0, "")
    assert commands[-2].startswith(f"{cli.PROGRAM} smoke -- ")
    assert commands[-1] == commands[-2].replace(" smoke ", " run ")
    start = [sys.executable if word == "python" else word for word in shlex.split(commands[-2])]
    assert cli.main(start[start.index("smoke") :]) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "10 cases" in told
    assert told.endswith("verdict: conformant\n")


@pytest.mark.parametrize("language", sorted(SKELETONS))
def test_nothing_is_overwritten(language: str, tmp_path: Path, capsys: Any) -> None:
    there = tmp_path / SKELETONS[language].files[-1]
    there.parent.mkdir(exist_ok=True)
    there.write_text("mine")
    assert cli.main(["init", "--lang", language, str(tmp_path)]) == cli.USAGE
    assert "is there already; nothing was written" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_the_testee_is_short_and_says_where_to_plug_in(tmp_path: Path, capsys: Any) -> None:
    for language in SKELETONS:
        assert cli.main(["init", "--lang", language, str(tmp_path / language)]) == 0
        texts = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / language).rglob("*.*")}
        testee = texts.get("testee") or texts["main"]
        assert "PLUG IN" in testee
        assert "PLUG IN" in texts["implementation"]
        assert len(testee.splitlines()) <= 125


def test_testees_by_name(capsys: Any) -> None:
    assert cli.main(["smoke", "--testee", "python"]) == 0, capsys.readouterr().out
    capsys.readouterr()
    assert cli.main(["list", "--testees"]) == 0
    assert [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()] == list(shipped.SHIPPED)
    assert cli.main(["smoke", "--testee", "python", "--", "other"]) == cli.USAGE
    assert "are two testees" in capsys.readouterr().err


def test_a_testee_by_name_that_can_not_run(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(shipped.shutil, "which", lambda _: None)  # type: ignore[attr-defined]
    assert cli.main(["smoke", "--testee", "javascript"]) == cli.USAGE
    assert "needs node" in capsys.readouterr().err
    monkeypatch.setattr(shipped, "__file__", "/nonexistent/shipped.py")
    assert cli.main(["smoke", "--testee", "python"]) == cli.USAGE
    assert "did not come with this installation" in capsys.readouterr().err


def test_in_javascript_by_name(capsys: Any) -> None:
    require("node")
    assert cli.main(["smoke", "--testee", "javascript"]) == 0, capsys.readouterr().out
