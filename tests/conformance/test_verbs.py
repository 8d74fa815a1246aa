"""The verbs of the command line: each explains itself, and ``xtrack conformance`` names them all."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import TESTEE

from xtrack_conformance import cli


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_each_verb_explains_itself(verb: str, capsys: Any) -> None:
    assert cli.main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {cli.PROGRAM} {verb} ")
    assert cli.VERBS[verb].help.capitalize()[:20].casefold() in out.casefold()
    assert cli.main([verb, "--no-such-option"]) == cli.USAGE


def test_help_names_every_verb_and_shows_examples_that_parse(capsys: Any) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb in cli.VERBS:
        assert re.search(rf"^ +{verb} ", out, re.MULTILINE), verb
    for example in re.findall(rf"^  {re.escape(cli.PROGRAM)} (\w+)", out, re.MULTILINE):
        assert example in cli.VERBS


def test_xtrack_conformance_names_every_verb() -> None:
    pytest.importorskip("click")
    from xtrack_protocol.cli.conformance import command

    for verb in cli.VERBS:
        assert re.search(rf"^ +{verb} ", command.help or "", re.MULTILINE), verb


def test_files_that_can_not_be_written_are_told_before_anything_is_asked(tmp_path: Path, capsys: Any) -> None:
    told = tmp_path / "told"
    testee = [sys.executable, "-c", f"open({str(told)!r}, 'w')"]
    for option in ("--report", "--html", "--markdown", "--junit", "--badge"):
        missing = tmp_path / "none" / "file"
        assert cli.main(["run", option, str(missing), "--", *testee]) == cli.USAGE
        assert capsys.readouterr().err.endswith(f": {option} {missing}: there is no folder {missing.parent}\n")
    assert not told.exists()


def test_a_verdict_is_told_where_its_report_can_not_be_written(tmp_path: Path, capsys: Any) -> None:
    reference = ["--", sys.executable, str(TESTEE)]
    assert cli.main(["run", "--case", "enc-metric", "--report", str(tmp_path), *reference]) == cli.USAGE
    told = capsys.readouterr()
    assert "verdict: " in told.out
    assert told.err.startswith(f"{cli.PROGRAM}: {tmp_path}: ")


def test_commands_go_through_xtrack_as_they_are(capsys: Any) -> None:
    pytest.importorskip("click")
    from xtrack_protocol.cli import main

    reference = ["--", sys.executable, str(TESTEE)]
    assert main(["conformance", "matrix", "--case", "enc-metric", *reference, *reference]) == 0
    assert "4 pairs, 1 event: all agree." in capsys.readouterr().out
