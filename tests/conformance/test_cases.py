"""The cases: well-formed, pinned, traced to clauses in both directions, and written by the generator that is here."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from conformance_suite import FOLDER

from xtrack_conformance import CAPABILITIES
from xtrack_conformance.cases import SMOKE, CaseError, case_files, digest, load_cases, read_lock, select
from xtrack_conformance.plan import AXES, plan
from xtrack_conformance.report import clause_texts

PACKAGE = FOLDER / "xtrack_conformance"
SCHEMAS = PACKAGE / "schemas"
REASONS = Path(__file__).with_name("clauses_without_cases.txt")
KINDS = Path(__file__).with_name("kinds")
SPEC = FOLDER.parent / "docs" / "spec"
CASES = load_cases()
GROUPS = ("FRM", "JSN", "VAL", "ENV", "EVT", "ERR", "MSG", "CTL", "VER", "SEC", "STR", "FLD", "DLV", "RST", "EMT")
"""Of which each clause has a case, or a reason why not."""


def group_of(clause: str) -> str:
    return clause.partition("-")[0]


def reasons() -> dict[str, str]:
    lines = [line for line in REASONS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


def test_there_are_cases_of_each_role_and_kind() -> None:
    assert len(CASES) > 1200
    for role in {case.role for case in CASES}:
        assert {case.kind for case in CASES if case.role == role} == {"valid", "invalid", "boundary"}


def test_the_files_are_what_the_generator_writes() -> None:
    script = (
        "import json, sys; sys.argv = ['x']; from generate.__main__ import files; "
        "sys.stdout.buffer.write(json.dumps(files()).encode())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=FOLDER, capture_output=True, check=True, timeout=100)
    for name, text in json.loads(done.stdout).items():
        assert (PACKAGE / name).read_text(encoding="utf-8") == text, f"{name}: run `python -m generate` in conformance/"


def test_the_files_follow_their_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((SCHEMAS / "case.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name, cases in case_files().items():
        assert [error.message for error in validator.iter_errors({"cases": cases})][:3] == [], name


def test_the_lock_pins_what_is_asked_and_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    files = case_files()
    entry = files["frm.json"][0]
    pinned = read_lock()[entry["id"]]
    assert digest({**entry, "why": "another text", "kills": ["x"]}) == pinned
    for change in ({"expect": {"frames": []}}, {"level": "MAY"}, {"axes": []}, {"needs": ["limits"]}):
        assert digest({**entry, **change}) != pinned
    entry["expect"] = {"frames": []}
    monkeypatch.setattr("xtrack_conformance.cases.case_files", lambda: files)
    with pytest.raises(CaseError, match="not the one that lock"):
        load_cases.__wrapped__()
    del files["frm.json"]
    with pytest.raises(CaseError, match="aren't there"):
        load_cases.__wrapped__()


def clauses_of_the_specification() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in SPEC.glob("*.md"):
        text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        found |= dict(re.findall(r"^(?:- )?\*\*([A-Z]+(?:-[A-Z_]+)?-[\d.]+)\*\* (.*)$", text, re.MULTILINE))
    return found


WRITTEN = clauses_of_the_specification()


def test_cases_name_clauses_that_exist() -> None:
    assert len(WRITTEN) > 600
    assert sorted({clause for case in CASES for clause in case.clauses} - WRITTEN.keys()) == []


def test_the_texts_that_reports_quote_are_those_of_the_specification() -> None:
    named = {clause for case in CASES for clause in case.clauses}
    texts = {clause: text for clause, text in WRITTEN.items() if clause in named}
    assert clause_texts() == texts, "run `python -m generate` in conformance/"


def test_each_clause_of_the_codec_has_a_case_or_a_reason() -> None:
    clauses = {clause for clause in WRITTEN if group_of(clause) in GROUPS}
    covered = {clause for case in CASES for clause in case.clauses}
    excused = reasons()
    assert sorted(clauses - covered - excused.keys()) == [], f"write a case, or a reason into {REASONS.name}"
    assert sorted(excused.keys() & covered) == [], f"take them off {REASONS.name}"
    assert sorted(excused.keys() - clauses) == []
    untestable = [clause for clause, reason in excused.items() if reason.startswith("untestable")]
    assert len(untestable) <= len(clauses) * 0.05


def kinds_that_are_missing() -> dict[tuple[str, str], str]:
    """Return the reason for each clause and kind of which there is no case."""
    found: dict[tuple[str, str], str] = {}
    for path in KINDS.glob("*.txt"):
        kind = reason = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("no "):
                kind, _, reason = line.removeprefix("no ").partition(": ")
            elif line and not line.startswith("#"):
                for clause in line.split():
                    assert (clause, kind) not in found, f"{path.name} has {clause} twice"
                    found[clause, kind] = reason
    return found


def test_each_clause_has_a_valid_an_invalid_and_a_boundary_case_or_a_reason() -> None:
    asked = {(clause, case.kind) for case in CASES for clause in case.clauses}
    wanted = {(clause, kind) for clause, _ in asked for kind in ("valid", "invalid", "boundary")}
    excused = kinds_that_are_missing()
    assert sorted(wanted - asked - excused.keys()) == [], f"write a case, or a reason into {KINDS.name}/"
    assert sorted(excused.keys() & asked) == [], f"take them off {KINDS.name}/"
    assert sorted(excused.keys() - wanted) == []
    assert [reason for reason in excused.values() if len(reason) < 20] == []


def test_no_case_is_stronger_than_its_clauses() -> None:
    texts = clause_texts()
    for case in CASES:
        words = " ".join(texts[clause] for clause in case.clauses)
        if case.level == "MUST":
            assert "MUST" in words, case.id
        if case.level == "SHOULD":
            assert re.search("SHOULD|MUST", words), case.id


def test_each_reader_clause_can_be_broken_both_ways() -> None:
    """A clause with MUST that cases of a decoder name has at least two inputs, not one."""
    inputs = defaultdict(set)
    for case in CASES:
        for clause in case.clauses if not case.script else ():
            inputs[clause].add(case.id)
    alone = {clause for clause, ids in inputs.items() if len(ids) == 1 and "MUST" in clause_texts()[clause]}
    assert len(alone) <= 40, sorted(alone)


def test_cases_ask_different_things() -> None:
    asked = Counter(json.dumps([case.role, str(case.input), case.script, case.needs]) for case in CASES)
    assert [text for text, count in asked.items() if count > 1] == []


def test_needs_and_axes_are_known() -> None:
    for case in CASES:
        assert set(case.needs) <= CAPABILITIES.keys(), case.id
        assert set(case.axes) <= AXES.keys(), case.id


def test_the_smoke_cases_are_there() -> None:
    assert len(SMOKE) == 10
    assert {case.role for case in select(CASES, SMOKE)} == {"encoder", "decoder", "framer"}


def test_select() -> None:
    assert [case.id for case in select(CASES, ["frm-tiny"])] == ["frm-tiny"]
    assert {case.id[:11] for case in select(CASES, ["jsn-depth-*"])} == {
        "jsn-depth-6",
        "jsn-depth-t",
        "jsn-depth-u",
        "jsn-depth-s",
        "jsn-depth-i",
    }
    assert all("FRM-3.5" in case.clauses for case in select(CASES, ["FRM-3.5"]))
    assert {case.role for case in select(CASES, roles=["encoder"])} == {"encoder"}
    with pytest.raises(CaseError, match="no case or clause 'frm-nonsense'"):
        select(CASES, ["frm-nonsense"])


def test_every_chunking_holds_all_bytes_in_order() -> None:
    everything = frozenset(CAPABILITIES)
    seen = Counter()
    for case in CASES:
        if case.role == "framer":
            for run in plan(case, everything):
                assert b"".join(run.chunks) == case.input.data(), run.id
                seen[run.variant.split()[0]] += 1
    assert set(seen) == {"whole", "bytes", "split", "blocks", "random"}


def test_nothing_of_the_reference_is_imported() -> None:
    """Neither by the suite nor by the generator of its cases: they would only repeat what the reference thinks."""
    for path in [*PACKAGE.rglob("*.py"), *(FOLDER / "generate").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[Any] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            assert not any(str(name).startswith(("xtrack_protocol", "msgspec")) for name in names), path


def test_it_runs_without_the_reference_and_msgspec() -> None:
    script = (
        "import sys; sys.modules['xtrack_protocol'] = sys.modules['msgspec'] = None\n"
        "from xtrack_conformance.cli import main; sys.exit(main(['list', '--role', 'framer']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "frm-first-example\tframer\tMUST\t" in done.stdout
