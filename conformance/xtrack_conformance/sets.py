"""Sets of requirements: which cases an implementation is judged by, frozen with each release.

``requirements/N.json`` lists the cases of set N with what they ask and expect, as digests. A set is a *draft* until it
is released: a draft is whatever cases there are, and its file a copy for readers. A *final* set never changes again;
its digest stands in :data:`FROZEN`. Cases that come later belong to the next set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final, Literal

import attrs

from xtrack_conformance.cases import Case, CaseError, load_cases, read_lock
from xtrack_conformance.data import json_files

FROZEN: Final[Mapping[int, str]] = {
    1: "a729f8705b56c55f3806332b6a922e235958351628dd09e4b58c011aee680d6a",
}
"""The digest of each final set. ``python -m generate freeze`` prints the entry."""

WITHDRAWN: Final[Mapping[str, tuple[int, str]]] = {}
"""Cases that turned out to be wrong: the first set that doesn't hold them any more, and why. Earlier sets go on to."""

Status = Literal["draft", "final"]


@attrs.frozen
class Requirement:
    """A case as a set names it. ``sha256``: of what it asks and expects."""

    sha256: str
    level: str
    clauses: tuple[str, ...]


@attrs.frozen
class Requirements:
    """A set. ``cases``: by id."""

    number: int
    status: Status
    cases: Mapping[str, Requirement]

    @property
    def sha256(self) -> str:
        """The digest of the whole."""
        return digest_of_set(self.number, self.cases)

    def select(self, cases: Iterable[Case]) -> list[Case]:
        """Return those of ``cases`` that are in this set."""
        return [case for case in cases if case.id in self.cases]


def digest_of_set(number: int, cases: Mapping[str, Requirement]) -> str:
    """Return one SHA-256 for a set: of its number and its cases, with digests, levels and clauses."""
    told = {"requirements": number, "cases": {name: attrs.asdict(case) for name, case in cases.items()}}
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_set(text: str) -> Requirements:
    """Return the set of a file's text. Raises CaseError for one that is damaged, or final and not the one we froze."""
    try:
        found: dict[str, Any] = json.loads(text)
        cases = {
            str(name): Requirement(str(entry["sha256"]), str(entry["level"]), tuple(map(str, entry["clauses"])))
            for name, entry in found["cases"].items()
        }
        requirements = Requirements(int(found["requirements"]), found["status"], cases)
        told = found["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CaseError(f"no set of requirements: {error!r}") from error
    if told != requirements.sha256:
        raise CaseError(f"the set of requirements {requirements.number} isn't what its digest says")
    if requirements.status == "final" and FROZEN.get(requirements.number) != told:
        raise CaseError(f"the set of requirements {requirements.number} isn't the one that was frozen")
    return requirements


@cache
def load_sets() -> dict[int, Requirements]:
    """Return all sets by number, in ascending order. Raises CaseError where a final one isn't as it was."""
    read = [read_set(text) for text in json_files("requirements").values()]
    found = {}
    for requirements in sorted(read, key=lambda entry: entry.number):
        if requirements.status == "draft":
            found[requirements.number] = draft(requirements.number, load_cases())
            continue
        found[requirements.number] = requirements
        if changed := changes(requirements, load_cases()):
            raise CaseError(f"cases of the frozen requirements {requirements.number} changed: {', '.join(changed)}")
    return found


def draft(number: int, cases: Iterable[Case]) -> Requirements:
    """Return the draft with that number: the cases there are by then."""
    lock = read_lock()
    held = {
        case.id: Requirement(lock[case.id], case.level, case.clauses)
        for case in cases
        if case.since <= number and not is_withdrawn(case.id, number)
    }
    return Requirements(number, "draft", held)


def is_withdrawn(case_id: str, number: int) -> bool:
    """Whether a case was taken out of the set with that number, or before."""
    return case_id in WITHDRAWN and WITHDRAWN[case_id][0] <= number


def changes(requirements: Requirements, cases: Iterable[Case]) -> list[str]:
    """Return the ids of a set's cases that are gone, or ask, expect or trace to something else than they did."""
    now = draft(requirements.number, cases).cases
    return sorted(name for name, entry in requirements.cases.items() if now.get(name) != entry)


def load_set(number: int | None = None) -> Requirements:
    """Return the set with that number; the newest, drafts included, where none is given."""
    sets = load_sets()
    if number is None:
        return sets[max(sets)]
    if number not in sets:
        raise CaseError(f"no set of requirements {number}; there are {', '.join(map(str, sets))}")
    return sets[number]
