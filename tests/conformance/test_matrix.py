"""Encoders against decoders: who differs is found, who is at fault is told, and no freedom is a difference."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER, HARNESSES, MUTANT, TESTEE
from testee_toolchains import rust_testee

from xtrack_conformance import cli
from xtrack_conformance.cases import load_cases, select
from xtrack_conformance.matrix import Matrix, _meaning, make_matrix
from xtrack_conformance.reports.table import as_markdown, as_text, says
from xtrack_conformance.slots import normal, read_event
from xtrack_conformance.values import difference

REFERENCE = [sys.executable, str(TESTEE)]
EVENTS = [case for case in load_cases() if case.role == "encoder" and case.expect.event is not None]


def mutant(name: str) -> list[str]:
    return [sys.executable, str(MUTANT), name]


def matrix_of(*commands: list[str], wanted: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> Matrix:
    return make_matrix(commands, select(load_cases(), wanted), names=names, timeout=30.0)


def test_the_reference_reads_what_it_writes() -> None:
    matrix = matrix_of(REFERENCE)
    assert matrix.differences == ()
    assert matrix.problems == ()
    [pair] = matrix.pairs
    assert (pair.encoder, pair.decoder) == ("xtrack-protocol", "xtrack-protocol")
    assert pair.agreed == pair.given
    assert matrix.events == len(EVENTS)
    refusable = [case for case in EVENTS if any(allowed.rejected for allowed in case.also_allowed)]
    assert len(EVENTS) - len(refusable) <= pair.given <= len(EVENTS)


def test_an_encoder_that_loses_something_is_found_by_all() -> None:
    matrix = matrix_of(
        REFERENCE, mutant("writes-no-context"), wanted=("enc-metric-full", "enc-metric"), names=("one", "two")
    )
    assert {(pair.encoder, pair.decoder): pair.agreed for pair in matrix.pairs} == {
        ("one", "one"): 2, ("one", "two"): 2, ("two", "one"): 1, ("two", "two"): 1,
    }  # fmt: skip
    assert {(d.case, d.encoder, d.decoder, d.reader, d.blames) for d in matrix.differences} == {
        ("enc-metric-full", "two", "one", "strict, lenient", "encoder"),
        ("enc-metric-full", "two", "two", "strict, lenient", "encoder"),
    }
    [difference, _] = matrix.differences
    assert difference.message.startswith("read another event: p.ctx: expected {'phase': 'text'")
    assert difference.event["p"]["ctx"]["phase"] == "text"
    assert bytes.fromhex(difference.frame)[4:].startswith(b'{"t":"metric"')
    assert "'step': 7" in difference.got


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("nan-is-null", "enc-nan", "read another event: p.value: expected the float nan, got null"),
        ("unknown-type-is-an-error", "enc-unknown-type", "refused it"),
        ("sign-of-zero-lost", "enc-float-minus-zero", "read another event"),
    ],
)
def test_a_decoder_that_misreads_is_at_fault(name: str, wanted: str, message: str) -> None:
    matrix = matrix_of(REFERENCE, mutant(name), wanted=(wanted,), names=("good", "bad"))
    assert {(d.decoder, d.blames) for d in matrix.differences} == {("bad", "decoder")}
    assert {d.encoder for d in matrix.differences} == {"good", "bad"}
    assert all(d.message.startswith(message) for d in matrix.differences)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    ["writes-backwards-with-spaces", "gives-digests-their-prefix", "tells-more-than-it-must", "answers-out-of-order"],
)
def test_what_the_specification_leaves_open_is_no_difference(name: str) -> None:
    wanted = ("enc-metric*", "enc-run-*", "enc-nan*", "enc-number-*", "enc-free-*", "enc-artifact-*", "enc-ids")
    matrix = matrix_of(REFERENCE, mutant(name), wanted=wanted)
    assert matrix.differences == ()
    assert len(matrix.pairs) == 4


def test_what_a_case_allows_beside_is_no_difference() -> None:
    """One encoder leaves out what another may write; decoders read what stands there."""
    case = next(case for case in EVENTS if any(allowed.event for allowed in case.also_allowed))
    event = next(allowed.event for allowed in case.also_allowed if allowed.event)
    for found in (case.expect.event, event):
        payload = json.dumps(found, separators=(",", ":")).encode()
        frame = len(payload).to_bytes(4, "big") + payload
        assert difference(_meaning(case, frame), normal(read_event(found))) is None
    assert _meaning(case, frame[:-1]) is None
    assert (
        _meaning(next(other for other in EVENTS if other.input.event and other.input.event["t"] == "log"), frame)
        is None
    )


def test_who_writes_nothing_or_breaks_down_is_told() -> None:
    matrix = matrix_of(
        REFERENCE, [sys.executable, str(HARNESSES), "refuses-all"], wanted=("enc-metric",), names=("good", "bad")
    )
    told = {(d.encoder, d.decoder, d.blames, d.message) for d in matrix.differences}
    assert ("bad", "", "encoder", "refused an event that can be written") in told
    assert ("good", "bad", "decoder", "refused it") in told
    crash = matrix_of(
        REFERENCE, [sys.executable, str(HARNESSES), "crash"], wanted=("enc-number-int64-max", "enc-metric")
    )
    assert any(d.message.startswith("crash: its output has ended") for d in crash.differences)
    assert {d.decoder for d in crash.differences} == {"xtrack-protocol 2"}


def test_the_commands_and_the_file(tmp_path: Path, capsys: Any) -> None:
    found, page = tmp_path / "matrix.json", tmp_path / "matrix.md"
    words = ["--name", "ref", "--name", "mut", "--case", "enc-metric*", "--json", str(found), "--markdown", str(page)]
    commands = ["--", *REFERENCE, "--", *mutant("writes-no-context")]
    assert cli.main(["matrix", *words, *commands]) == cli.FAILED
    out = capsys.readouterr().out
    assert "enc-metric-full, ref (strict, lenient) reads what mut wrote: read another event: p.ctx" in out
    assert "the encoder is wrong: mut" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["written", "by", "\\", "read", "by", "ref", "mut"] in lines
    told = json.loads(found.read_text(encoding="utf-8"))
    assert told["schema"] == "xtrack-conformance-matrix/1"
    assert list(told["testees"]) == ["ref", "mut"]
    assert told["testees"]["mut"]["command"][-1] == "writes-no-context"
    assert len(told["pairs"]) == 4
    assert "| mut | " in page.read_text(encoding="utf-8")

    listed = tmp_path / "testees.json"
    listed.write_text(json.dumps({"testees": {"a": REFERENCE, "b": mutant("writes-backwards-with-spaces")}}))
    words = ["matrix", str(listed), "--testee", "python", "--case", "enc-metric*", "--json", str(found), "--name", "c"]
    assert cli.main([*words, "--", *REFERENCE, "--", *REFERENCE]) == 0
    told = json.loads(found.read_text(encoding="utf-8"))
    assert list(told["testees"]) == ["a", "b", "python", "c", "xtrack-protocol"]
    assert len(told["pairs"]) == 25
    assert capsys.readouterr().out.endswith("all agree.\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "matrix needs testees"),
        (["--", "x", "--"], "matrix needs testees"),
        (["--name", "a", "--name", "b", "--", "x"], "2 names for 1 commands"),
        (["--name", "a", "--testee", "python"], "1 names for 0 commands"),
        (["FILE"], "no list of testees"),
        (["--", "/nonexistent/testee"], "can't be started"),
    ],
)
def test_wrong_usage(words: list[str], reason: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "testees.json"
    path.write_text('{"testees": []}')
    assert cli.main(["matrix", *(str(path) if word == "FILE" else word for word in words)]) == cli.USAGE
    assert reason in capsys.readouterr().err


def test_nobody_to_compare_is_incomplete(capsys: Any) -> None:
    command = ["--", sys.executable, str(HARNESSES), "hello-no-roles"]
    assert cli.main(["matrix", "--case", "enc-metric", *command]) == cli.INCOMPLETE
    assert "No pair of an encoder and a decoder is here." in capsys.readouterr().out


def test_hostile_names() -> None:
    matrix = matrix_of(REFERENCE, wanted=("enc-metric",), names=("<b>|`\x1b[2J\u202e",))
    for line in as_text(matrix):
        assert line.isprintable()
    assert "<b>" not in as_markdown(matrix)
    assert "\x1b" not in as_markdown(matrix)
    assert says(matrix) == "1 pair, 1 event: all agree."


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_testees_that_are_here_read_each_other(tmp_path: Path, capsys: Any) -> None:
    testees = FOLDER / "testees"
    commands = {"python": REFERENCE, "javascript": ["node", str(testees / "javascript" / "testee.mjs")]}
    commands["elixir"] = ["elixir", str(testees / "elixir" / "testee.exs")]
    here = {name: command for name, command in commands.items() if shutil.which(command[0])}
    if shutil.which("cargo"):
        here["rust"] = [str(rust_testee(tmp_path))]
    words = [word for name in here for word in ("--name", name)]
    assert cli.main(["matrix", *words, *(word for command in here.values() for word in ("--", *command))]) == 0, (
        capsys.readouterr().out
    )
