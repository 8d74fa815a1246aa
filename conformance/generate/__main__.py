"""``python -m generate`` writes the cases, their lock, the draft of the requirements and the clauses' texts.

``python -m generate freeze`` makes the draft final as well, for a release.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from generate import (  # noqa: E402  # noqa: E402
    ctl,
    emc,
    emd,
    eme,
    emf,
    emp,
    ems,
    enc,
    env,
    err,
    evt,
    examples,
    fld,
    frm,
    jsn,
    msg,
    rec,
    requirements,
    rst,
    sec,
    spl,
    stm,
    sto,
    val,
    ver,
)
from generate.dsl import Group  # noqa: E402
from xtrack_conformance.cases import digest  # noqa: E402

PACKAGE = HERE.parent / "xtrack_conformance"
SPEC = HERE.parents[1] / "docs" / "spec"
CLAUSE = re.compile(r"^(?:- )?\*\*([A-Z]+(?:-[A-Z_]+)?-\d+(?:\.\d+)?)\*\* (.*)$", re.MULTILINE)


def groups() -> list[Group]:
    """Return all groups, each of which is a file."""
    modules = (frm, rec, jsn, val, env, evt, err, enc, msg, stm, fld, ver, ctl, sec, rst, spl, sto, examples)
    emitters = (emc, emd, eme, emf, emp, ems)
    return [module.cases() for module in (*modules, *emitters)]


def files() -> dict[str, str]:
    """Return the text of each file that is generated, by its path in the package."""
    found: dict[str, str] = {}
    lock: dict[str, str] = {}
    finals = requirements.final_sets()
    written = groups()
    for group in written:
        requirements.set_since(group.cases, finals)
        for case in group.cases:
            if case["id"] in lock:
                raise SystemExit(f"the case {case['id']} is there twice")
            lock[case["id"]] = digest(case)
        lines = ",\n".join(_told(case) for case in group.cases)
        found[f"cases/{group.name}.json"] = f'{{"cases": [\n{lines}\n]}}\n'
    found["cases/lock.json"] = json.dumps({"cases": lock}, indent=0) + "\n"
    requirements.check([case for group in written for case in group.cases], finals)
    texts: dict[str, str] = {}
    for path in sorted(SPEC.glob("*.md")):
        texts |= dict(
            CLAUSE.findall(re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL))
        )
    named = {clause for group in written for case in group.cases for clause in case["clauses"]}
    texts = {name: text for name, text in texts.items() if name in named}
    found["clauses.json"] = json.dumps(texts, indent=0, ensure_ascii=False) + "\n"
    found["pages.json"] = json.dumps(_pages(), indent=0, ensure_ascii=False) + "\n"
    return found


def draft(status: str = "") -> dict[str, str]:
    """Return the file of the set of requirements that is under way, by its path, if there is one."""
    cases = [case for group in groups() for case in group.cases]
    finals = requirements.final_sets()
    requirements.set_since(cases, finals)
    found = requirements.draft_of(cases, finals)
    return {f"requirements/{found.number}.json": requirements.as_text(found, status)} if found else {}


def _pages() -> dict[str, dict[str, Any]]:
    """Return the pages of the specification in the order of its table: the title, and the groups of clauses."""
    found = {}
    table = (SPEC / "README.md").read_text("utf-8")
    for name, clauses in re.findall(r"^\| \[([\w-]+\.md)\]\S* \| ([A-Z, ]+) \|", table, re.MULTILINE):
        title = (SPEC / name).read_text("utf-8").partition("\n")[0].removeprefix("# ")
        found[name] = {"title": title, "clauses": clauses.split(", ")}
    return found


def _told(case: dict[str, Any]) -> str:
    """Return a case with one member a line."""
    members = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in case.items())
    return f"{{\n{members}\n}}"


def main(words: list[str]) -> None:
    """Write everything; ``freeze``: as part of a release."""
    for name, text in (files() | draft("final" if words == ["freeze"] else "")).items():
        (PACKAGE / name).parent.mkdir(exist_ok=True)
        (PACKAGE / name).write_text(text, encoding="utf-8", newline="\n")
        print(name, len(text))  # noqa: T201
        if name.startswith("requirements/") and words == ["freeze"]:
            found = json.loads(text)
            print(f'Now write into FROZEN of sets.py: {found["requirements"]}: "{found["sha256"]}",')  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
