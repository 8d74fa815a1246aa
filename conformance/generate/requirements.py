"""Sets of requirements: the draft is written anew each time, a final one never.

``python -m generate freeze`` makes the draft final. A case that a final set holds stays as it is; a new one belongs to
the next set, whose draft begins with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xtrack_conformance.cases import digest
from xtrack_conformance.sets import Requirement, Requirements, is_withdrawn, read_set

FOLDER = Path(__file__).parents[1] / "xtrack_conformance" / "requirements"


def final_sets(folder: Path = FOLDER) -> dict[int, Requirements]:
    """Return the sets that never change again, by number."""
    sets = [read_set(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return {entry.number: entry for entry in sorted(sets, key=lambda entry: entry.number) if entry.status == "final"}


def set_since(cases: Iterable[dict[str, Any]], finals: dict[int, Requirements]) -> None:
    """Write into each case the number of the first set that holds it. Where no final one does, that is the draft's."""
    first: dict[str, int] = {}
    for number, requirements in finals.items():
        for case_id in requirements.cases:
            first.setdefault(case_id, number)
    for case in cases:
        case["since"] = first.get(case["id"], max(finals, default=0) + 1)


def check(cases: Iterable[dict[str, Any]], finals: dict[int, Requirements]) -> None:
    """Stop where a case of a final set is gone or has changed."""
    now = {case["id"]: _requirement(case) for case in cases}
    for number, requirements in finals.items():
        changed = sorted(name for name, entry in requirements.cases.items() if now.get(name) != entry)
        if changed:
            raise SystemExit(f"set {number} is final, and these of its cases have changed: {', '.join(changed)}")


def draft_of(cases: Iterable[dict[str, Any]], finals: dict[int, Requirements]) -> Requirements | None:
    """Return the set that is under way; None where the newest final one holds all there is."""
    newest = max(finals, default=0)
    held = {case["id"]: _requirement(case) for case in cases if not is_withdrawn(case["id"], newest + 1)}
    if newest and held == finals[newest].cases:
        return None
    return Requirements(newest + 1, "draft", held)


def as_text(requirements: Requirements, status: str = "") -> str:
    """Return the file of a set, with a case a line."""
    lines = ",\n".join(
        f"{json.dumps(name)}: "
        + json.dumps({"sha256": case.sha256, "level": case.level, "clauses": list(case.clauses)})
        for name, case in requirements.cases.items()
    )
    head = {"requirements": requirements.number, "status": status or requirements.status, "sha256": requirements.sha256}
    return f'{json.dumps(head)[:-1]}, "cases": {{\n{lines}\n}}}}\n'


def _requirement(case: dict[str, Any]) -> Requirement:
    return Requirement(digest(case), case["level"], tuple(case["clauses"]))
