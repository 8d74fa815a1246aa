"""Fuzzing: what it judges by agrees with every case; it finds nothing in the reference, and mutants; findings become
cases. Small budgets, fixed seeds.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import HARNESSES, MUTANT, TESTEE

from xtrack_conformance import cli
from xtrack_conformance.cases import Case, Expect, load_cases
from xtrack_conformance.fuzz.edits import edited_events
from xtrack_conformance.fuzz.findings import read_finding
from xtrack_conformance.fuzz.framing import in_recording, on_connection, problem_of, tiling_problem
from xtrack_conformance.fuzz.reading import wanted_of
from xtrack_conformance.protocol import Rejected, Yielded
from xtrack_conformance.slots import normal, read_event
from xtrack_conformance.values import difference
from xtrack_conformance.verbs import fuzz

pytest.importorskip("hypothesis")

SEED = "1"


def fuzzed(folder: Path, *words: str, command: list[str]) -> tuple[int, list[Any]]:
    """The exit status, and what was found."""
    status = cli.main(["fuzz", "--out", str(folder), "--seed", SEED, *words, "--", *command])
    return status, [read_finding(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("finding-*.json"))]


# ------------------------------------------------------------------------------------------ what it judges by


def test_it_reads_as_every_case_of_a_decoder_says() -> None:
    open_ones = set()
    for case in load_cases():
        if case.role != "decoder" or case.input.codec != "json":
            continue
        for reader in [case.input.reader] if case.input.reader else ["strict", "lenient"]:
            wanted = wanted_of(case.input.data(), reader)
            allowed = [case.expect, *case.also_allowed]
            kinds = {"refuse" if one.rejected is not None else "accept" for one in allowed}
            if wanted.outcome == "either":
                if len(kinds) == 1 and case.level == "MUST":
                    open_ones.add(case.id)
                continue
            assert wanted.outcome in kinds, (case.id, reader, wanted)
            if wanted.event is not None:
                readings = [normal(read_event(one.event)) for one in allowed if one.event is not None]
                assert any(difference(one, normal(wanted.event)) is None for one in readings), (case.id, reader, wanted)
    # What it leaves open where a case doesn't: MessagePack, names given twice, pairs of another length.
    assert len(open_ones) <= 30, open_ones


def framer_cases() -> list[Case]:
    """Cases of whole inputs, read to the end."""
    cases = [case for case in load_cases() if case.role == "framer" and "messagepack" not in case.needs]
    return [case for case in cases if not (case.input.follow or case.input.stop_at_damage)]


def yielded(expect: Expect) -> list[Yielded]:
    """What a testee would yield that does as expected."""
    return [
        Yielded(
            item.offset,
            item.length,
            None if item.rejected else b"",
            Rejected(item.rejected, item.fatal) if item.rejected else None,
            item.verified,
        )
        for item in expect.frames or ()
    ]


@pytest.mark.parametrize("case", framer_cases(), ids=lambda case: case.id)
def test_it_frames_as_every_case_says(case: Case) -> None:
    data, reader = case.input.data(), case.input.reader or "lenient"
    model = in_recording if case.input.source == "recording" else on_connection
    due = model(data, reader) if case.input.limit is None else model(data, reader, case.input.limit)
    ways = [yielded(expect) for expect in (case.expect, *case.also_allowed)]
    problems = [problem_of(due, way) or tiling_problem(way, len(data)) for way in ways]
    assert "" in problems, problems


# ------------------------------------------------------------------------------------------ what it finds


@pytest.mark.thorough
def test_nothing_in_the_reference(tmp_path: Path, capsys: Any) -> None:
    status, found = fuzzed(tmp_path, "--examples", "60", command=[sys.executable, str(TESTEE)])
    out = capsys.readouterr().out
    assert (status, found) == (0, []), out
    assert f"seed {SEED}" in out
    assert f"edits: {sum(1 for _ in edited_events())} tried" in out
    for name in ("payloads", "events", "connections", "recordings", "collectors", "stores"):
        assert f"{name}: 60 tried" in out


@pytest.mark.slow
def test_two_that_are_alike(tmp_path: Path, capsys: Any) -> None:
    command = [sys.executable, str(TESTEE)]
    words = ["--examples", "20", "--role", "decoder", "--role", "encoder", "--role", "framer"]
    status, found = fuzzed(tmp_path, *words, "--against", " ".join(command), command=command)
    assert (status, found) == (0, []), capsys.readouterr().out


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("mutant", "role", "rule"),
    [
        ("numbers-are-floats", "decoder", "event"),
        ("writes-names-of-python", "encoder", "written"),
        ("loses-carry-over", "framer", "chunking"),
        ("offset-of-payload", "framer", "tiling"),
        ("forgets-unverified", "framer", "frames"),
        ("seq-zero-accepted", "decoder", "refused"),
        ("version-wraps", "decoder", "refused"),
    ],
)
def test_mutants_are_found(mutant: str, role: str, rule: str, tmp_path: Path, capsys: Any) -> None:
    command = [sys.executable, str(MUTANT), mutant]
    status, found = fuzzed(tmp_path, "--examples", "600", "--role", role, command=command)
    out = capsys.readouterr().out
    assert status == 1, out
    assert {finding.rule for finding in found} == {rule}, out
    for finding in found:
        assert finding.role == role
        assert finding.seed >= int(SEED)
        assert finding.bytes
        assert finding.steps[0]["op"]
        assert f"finding-{finding.digest}.json" in out
        assert f"--seed {finding.seed} --role {role}" in out


@pytest.mark.thorough
def test_a_difference_between_two(tmp_path: Path, capsys: Any) -> None:
    other = f"{sys.executable} {MUTANT} numbers-are-floats"
    words = ["--examples", "400", "--role", "decoder", "--against", other]
    status, found = fuzzed(tmp_path, *words, command=[sys.executable, str(TESTEE)])
    assert (status, {finding.rule for finding in found}) == (1, {"same-in-both"}), capsys.readouterr().out
    assert found[0].against.startswith("xtrack-protocol")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["crash", "noisy", "internal-error"])
def test_a_breakdown_is_found(name: str, tmp_path: Path, capsys: Any) -> None:
    command = [sys.executable, "-c", BREAKS.format(folder=str(TESTEE.parent), name=name)]
    status, found = fuzzed(tmp_path, "--examples", "100", "--role", "encoder", command=command)
    assert (status, {finding.rule for finding in found}) == (1, {"breakdown"}), capsys.readouterr().out
    assert re.search("crash|harness-error|internal error", found[0].message)


BREAKS = """
import sys
sys.path.insert(0, {folder!r})
import testee
class Breaks(testee.Testee):
    def encode(self, request):
        if '"metric' in str(request).replace("'", '"'):
            if {name!r} == "crash":
                sys.exit(3)
            if {name!r} == "internal-error":
                raise RuntimeError("broken")
            print("hello there", flush=True)
        return super().encode(request)
testee.main(Breaks())
"""

MEMORY = """
import sys
sys.path.insert(0, {folder!r})
import as_collector, as_store, testee
class Collector(as_collector.Session):
    def {method}(self, *arguments):
        told = super().{method}(*arguments)
        {change}
        return told
as_collector.Session = Collector
testee.main(testee.Testee())
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "change", "rule"),
    [
        ("stream", "told['gaps'] = []", "gaps"),
        pytest.param("stream", "told['has'] = told['has'][:1]", "has", marks=pytest.mark.slow),
        pytest.param("stream", "told['conflicts'] = 0", "conflicts", marks=pytest.mark.slow),
        (
            "points",
            "told['points']['v'].append({'t': 'obj', 'v': [['seq', {'t': 'int', 'v': str(id(self) % 1009)}]]})",
            "order",
        ),
    ],
)
def test_a_collector_that_is_wrong_is_found(method: str, change: str, rule: str, tmp_path: Path, capsys: Any) -> None:
    text = MEMORY.format(folder=str(TESTEE.parent), method=method, change=change)
    command = [sys.executable, "-c", text]
    status, found = fuzzed(tmp_path, "--examples", "60", "--role", "collector", command=command)
    assert (status, {finding.rule for finding in found}) == (1, {rule}), capsys.readouterr().out
    assert {step["do"] for step in found[0].script} <= {"feed", "lost"}


FORGETS = """
import sys
sys.path.insert(0, {folder!r})
import as_store, testee
class Part(as_store.Part):
    def answer(self, request):
        told = super().answer(request)
        if request["op"] == "store.reopen":
            self.opened = True
        if request["op"] == "store.events" and getattr(self, "opened", False) and told["ok"].get("events"):
            told["ok"]["events"].pop()
        return told
as_store.Part = Part
testee.main(testee.Testee())
"""


@pytest.mark.thorough
def test_a_store_that_forgets_is_found(tmp_path: Path, capsys: Any) -> None:
    command = [sys.executable, "-c", FORGETS.format(folder=str(TESTEE.parent))]
    status, found = fuzzed(tmp_path, "--examples", "60", "--role", "store", command=command)
    assert (status, {finding.rule for finding in found}) == (1, {"events"}), capsys.readouterr().out
    assert {step["do"] for step in found[0].script} <= {"put", "reopen"}


def test_seconds_are_kept(tmp_path: Path, capsys: Any) -> None:
    command = [sys.executable, str(TESTEE)]
    status, _ = fuzzed(tmp_path, "--seconds", "0.1", "--role", "encoder", command=command)
    assert status == 0
    assert "events: 200 tried" in capsys.readouterr().out


def test_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert cli.main(["fuzz", "--", sys.executable, str(HARNESSES), "hello-no-roles"]) == cli.USAGE
    assert "no role that can be tried" in capsys.readouterr().err
    assert cli.main(["fuzz", "--seconds", "1", "--examples", "1", "--", "x"]) == cli.USAGE
    monkeypatch.setattr(fuzz.importlib.util, "find_spec", lambda _: None)  # type: ignore[attr-defined]
    assert cli.main(["fuzz", "--", "x"]) == cli.USAGE
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seconds", "--timeout"])
@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
def test_seconds_that_nothing_can_wait_are_wrong_usage(option: str, value: str, capsys: Any) -> None:
    assert cli.main(["fuzz", f"{option}={value}", "--", "x"]) == cli.USAGE
    assert f"argument {option}: invalid" in capsys.readouterr().err


def test_a_finding_is_json_that_reads_back(tmp_path: Path, capsys: Any) -> None:
    command = [sys.executable, str(MUTANT), "numbers-are-floats"]
    _, found = fuzzed(tmp_path, "--examples", "400", "--role", "decoder", command=command)
    assert len(found) == 2  # from the list, and from the search
    for path in tmp_path.glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["schema"] == "xtrack-conformance-finding/1"
    for finding in found:
        payload = bytes.fromhex(finding.bytes)
        assert b"".join(part["text"].encode() for part in finding.input["payload"]) == payload
        assert len(payload) < 120  # shrunk
