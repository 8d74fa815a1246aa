"""The specification's clauses and the code name each other: ids are unique, well-formed and never dangle."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import xtrack_protocol

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "docs" / "spec"
NOT_IN_CODE = Path(__file__).with_name("clauses_not_in_code.txt")

ID = r"(?:FRM|JSN|MSG|VAL|ENV|EVT(?:-[A-Z_]+)?|CTL|VER|ERR|STR|DLV|FLD|RST|EMT|SEC)-\d+(?:\.\d+)?"
MENTION = re.compile(rf"\b{ID}\b")
CLAUSE = re.compile(rf"^(?:- )?\*\*({ID})\*\* ")
KEYWORD = re.compile(r"\b(?:MUST|SHALL|SHOULD|REQUIRED|RECOMMENDED|MAY|OPTIONAL)\b")
SENTENCE_END = re.compile(r"(?<=[.:)])\s+(?=[A-Z`])")


def prose(path: Path) -> list[str]:
    """Return the file's lines without code blocks."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return text.splitlines()


def read_clauses() -> list[tuple[str, str, str]]:
    """Return file, id and text of each clause, in order."""
    found = []
    for path in sorted(SPEC.glob("*.md")):
        for line in prose(path):
            if match := CLAUSE.match(line):
                found.append((path.name, match[1], line[match.end() :]))
    return found


CLAUSES = read_clauses()
IDS = {clause_id for _, clause_id, _ in CLAUSES}


def major(clause_id: str) -> str:
    return clause_id.partition(".")[0]


def not_in_code() -> dict[str, str]:
    """Return the major clauses that no module need name, each with the reason."""
    entries = {}
    for line in NOT_IN_CODE.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            clause_id, _, reason = line.partition(" ")
            entries[clause_id] = reason.strip()
    return entries


def named_in_code() -> dict[str, list[str]]:
    """Return the ids that modules name, with the places."""
    places: dict[str, list[str]] = {}
    package = Path(xtrack_protocol.__file__).parent  # the installed one, where the wheel is tested
    for path in sorted(package.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for clause_id in MENTION.findall(line):
                places.setdefault(clause_id, []).append(f"{path.relative_to(package.parent)}:{number}")
    return places


def test_there_are_clauses() -> None:
    assert len(CLAUSES) > 400


def test_ids_are_unique() -> None:
    assert [clause_id for clause_id, count in Counter(i for _, i, _ in CLAUSES).items() if count > 1] == []


def test_a_sub_clause_has_its_clause() -> None:
    assert sorted(i for i in IDS if major(i) not in IDS) == []


def test_ids_of_a_group_stand_in_order() -> None:
    last: dict[str, tuple[int, ...]] = {}
    for _, clause_id, _ in CLAUSES:
        group, _, number = clause_id.rpartition("-")
        place = tuple(map(int, number.split(".")))
        assert place > last.get(group, (0,)), clause_id
        last[group] = place


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause[1])
def test_a_clause_is_one_normative_sentence(clause: tuple[str, str, str]) -> None:
    sentences = [part for part in SENTENCE_END.split(clause[2]) if KEYWORD.search(part)]
    assert len(sentences) == 1, clause
    assert clause[2].endswith((".", ":", "?"))


def test_keywords_stand_in_clauses_only() -> None:
    outside = [
        (path.name, line)
        for path in sorted(SPEC.glob("*.md"))
        for line in prose(path)
        if KEYWORD.search(line) and not CLAUSE.match(line)
    ]
    keywords_section = [line for name, line in outside if name == "README.md"]
    assert [place for place in outside if place[0] != "README.md"] == []
    assert len(keywords_section) <= 2


def test_ids_named_in_the_specification_exist() -> None:
    dangling = {
        (path.name, clause_id)
        for path in SPEC.glob("*.md")
        for line in prose(path)
        for clause_id in MENTION.findall(line)
        if clause_id not in IDS
    }
    assert dangling == set()


def test_ids_named_in_code_exist() -> None:
    assert {clause_id: places for clause_id, places in named_in_code().items() if clause_id not in IDS} == {}


def test_each_clause_is_named_in_code() -> None:
    named = {major(clause_id) for clause_id in named_in_code()}
    missing = {major(clause_id) for clause_id in IDS} - named - not_in_code().keys()
    assert sorted(missing) == [], f"name them where they are implemented, or give the reason in {NOT_IN_CODE.name}"


def test_clauses_excused_from_code_exist_and_say_why() -> None:
    for clause_id, reason in not_in_code().items():
        assert clause_id in IDS, clause_id
        assert reason, clause_id
        assert clause_id not in {major(named) for named in named_in_code()}, f"{clause_id} is named: take it off"
