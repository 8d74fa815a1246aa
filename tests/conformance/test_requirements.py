"""Sets of requirements: a final one never changes, a draft follows the cases, a report names which it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from conformance_suite import FOLDER, TESTEE

from xtrack_conformance import cli, sets
from xtrack_conformance.cases import CaseError, digest, load_cases
from xtrack_conformance.sets import FROZEN, Requirement, Requirements, changes, digest_of_set, draft, load_set, read_set

FILES = sorted((FOLDER / "xtrack_conformance" / "requirements").glob("*.json"))
CASES = load_cases()


@pytest.fixture
def generator() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        from generate import requirements
    finally:
        sys.path.remove(str(FOLDER))
    return requirements


# ------------------------------------------------------------------------------------------ those that are here


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_set_is_what_its_digest_says(path: Path) -> None:
    found = read_set(path.read_text(encoding="utf-8"))
    assert found.number == int(path.stem)
    assert found.sha256 == json.loads(path.read_text(encoding="utf-8"))["sha256"]


def test_final_sets_are_those_that_were_frozen() -> None:
    """A final set that is changed, or dropped, doesn't fit the digest that the code has."""
    finals = {}
    for path in FILES:
        found = read_set(path.read_text(encoding="utf-8"))
        if found.status == "final":
            finals[found.number] = found.sha256
            assert changes(found, CASES) == []
    assert finals == dict(FROZEN)


def test_there_is_one_draft_at_most_and_it_is_the_newest() -> None:
    numbers = [int(path.stem) for path in FILES]
    statuses = [read_set(path.read_text(encoding="utf-8")).status for path in FILES]
    assert sorted(numbers) == list(range(1, len(FILES) + 1))
    by_number = [status for _, status in sorted(zip(numbers, statuses, strict=True))]
    assert "draft" not in by_number[:-1]


def test_the_newest_set_holds_every_case() -> None:
    newest = load_set()
    withdrawn = {case.id for case in CASES if sets.is_withdrawn(case.id, newest.number)}
    assert set(newest.cases) == {case.id for case in CASES} - withdrawn
    assert {case.since for case in CASES} <= set(range(1, newest.number + 1))
    for case in CASES:
        if case.id in newest.cases:
            assert (newest.cases[case.id].level, newest.cases[case.id].clauses) == (case.level, case.clauses)


def test_withdrawn_cases_have_a_reason() -> None:
    for case_id, (number, reason) in sets.WITHDRAWN.items():
        assert case_id in {case.id for case in CASES}, "earlier sets go on to hold it"
        assert number > 1
        assert len(reason) > 10


# ------------------------------------------------------------------------------------------ a life of sets


def case(case_id: str, **more: Any) -> dict[str, Any]:
    return {
        "id": case_id, "since": 1, "role": "decoder", "level": "MUST", "kind": "valid", "why": "it is",
        "clauses": ["FRM-1"], "input": {"payload": [{"text": case_id}]}, "expect": {"rejected": {}}, **more,
    }  # fmt: skip


def test_from_draft_to_final_to_the_next(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [case("frm-a"), case("frm-b")]

    # A draft follows the cases.
    assert generator.final_sets(tmp_path) == {}
    generator.set_since(first, {})
    found = generator.draft_of(first, {})
    assert (found.number, found.status, list(found.cases)) == (1, "draft", ["frm-a", "frm-b"])
    (tmp_path / "1.json").write_text(generator.as_text(found))
    assert generator.final_sets(tmp_path) == {}
    more = [*first, case("frm-c")]
    generator.set_since(more, {})
    found = generator.draft_of(more, {})
    assert list(found.cases) == ["frm-a", "frm-b", "frm-c"]

    # A final one has its digest in the code.
    (tmp_path / "1.json").write_text(generator.as_text(found, "final"))
    with pytest.raises(CaseError, match="isn't the one that was frozen"):
        generator.final_sets(tmp_path)
    monkeypatch.setattr(sets, "FROZEN", {1: found.sha256})
    finals = generator.final_sets(tmp_path)
    assert list(finals) == [1]
    assert generator.draft_of(more, finals) is None, "nothing is new"

    # What comes later belongs to the next.
    later = [*more, case("frm-d")]
    generator.set_since(later, finals)
    assert [entry["since"] for entry in later] == [1, 1, 1, 2]
    following = generator.draft_of(later, finals)
    assert (following.number, following.status, len(following.cases)) == (2, "draft", 4)
    generator.check(later, finals)

    # And what the final one holds stays.
    for change in ({"expect": {"rejected": {"class": "bad_json"}}}, {"level": "SHOULD"}, {"clauses": ["FRM-2"]}):
        with pytest.raises(SystemExit, match=r"set 1 is final.*frm-a"):
            generator.check([{**later[0], **change}, *later[1:]], finals)
    with pytest.raises(SystemExit, match="frm-b"):
        generator.check([later[0], *later[2:]], finals)
    generator.check([{**later[0], "why": "told better", "kills": ["x"]}, *later[1:]], finals)

    # Unless it was wrong, and the next one goes without.
    monkeypatch.setattr(sets, "WITHDRAWN", {"frm-a": (2, "the text says otherwise")})
    assert list(generator.draft_of(later, finals).cases) == ["frm-b", "frm-c", "frm-d"]
    generator.check(later, finals)


def test_a_changed_file_is_noticed(generator: ModuleType) -> None:
    text = generator.as_text(generator.draft_of([case("frm-a"), case("frm-b")], {}))
    told = json.loads(text)
    assert read_set(text).sha256 == told["sha256"]
    for change in (
        lambda entry: entry["cases"].pop("frm-b"),
        lambda entry: entry["cases"]["frm-a"].update(level="MAY"),
        lambda entry: entry["cases"]["frm-a"].update(sha256="0" * 64),
        lambda entry: entry["cases"]["frm-a"].update(clauses=[]),
        lambda entry: entry.update(requirements=2),
    ):
        changed = json.loads(text)
        change(changed)
        with pytest.raises(CaseError, match="isn't what its digest says"):
            read_set(json.dumps(changed))
    for broken in ("{", "{}", "[]", '{"requirements": 1, "status": "draft", "sha256": "", "cases": {"a": {}}}'):
        with pytest.raises(CaseError, match="no set of requirements"):
            read_set(broken)


def test_changed_cases_of_a_final_set_stop_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CASES[0]
    held = draft(1, CASES)
    assert changes(held, CASES) == []
    assert changes(held, CASES[1:]) == [entry.id]
    assert changes(held, [attrs.evolve(entry, clauses=("FRM-9",)), *CASES[1:]]) == [entry.id]
    other = Requirements(1, "final", {**held.cases, "frm-gone": Requirement("0" * 64, "MUST", ("FRM-1",))})
    assert changes(other, CASES) == ["frm-gone"]
    monkeypatch.setattr(sets, "read_set", lambda _: other)
    with pytest.raises(CaseError, match="cases of the frozen requirements 1 changed: frm-gone"):
        sets.load_sets.__wrapped__()


def test_digests_don_t_depend_on_the_order() -> None:
    held = draft(1, CASES).cases
    assert digest_of_set(1, dict(reversed(held.items()))) == digest_of_set(1, held) != digest_of_set(2, held)
    assert digest(case("a")) == digest(dict(reversed(case("a").items())))


# ------------------------------------------------------------------------------------------ on the command line


def test_a_report_names_its_set(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "report.json"
    words = ["run", "--requirements", "1", "--case", "FRM-2", "--report", str(path)]
    assert cli.main([*words, "--", sys.executable, str(TESTEE)]) == 0
    asked = load_set(1)
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["requirements"] == {
        "number": 1,
        "status": asked.status,
        "sha256": asked.sha256,
        "cases": len(asked.cases),
    }
    assert told["only"] == ["--case FRM-2"]
    assert f"requirements 1 (sha256 {asked.sha256[:12]}" in capsys.readouterr().out


def test_a_set_chooses_the_cases(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    small = Requirements(7, "draft", {name: load_set().cases[name] for name in ("frm-tiny", "enc-metric")})
    monkeypatch.setattr(sets, "load_sets", lambda: {7: small})
    assert cli.main(["list"]) == 0
    assert {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()} == {"frm-tiny", "enc-metric"}
    assert cli.main(["list", "--case", "frm-two-frames"]) == cli.USAGE
    assert cli.main(["list", "--requirements", "3"]) == cli.USAGE
    assert "no set of requirements 3; there are 7" in capsys.readouterr().err
