"""``promote``: draft a case from what fuzzing has found."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, Final

from xtrack_conformance.cases import CLASSES, load_cases
from xtrack_conformance.fuzz.findings import Finding, FindingError, read_finding
from xtrack_conformance.report import clause_texts
from xtrack_conformance.values import BadValue, untag
from xtrack_conformance.verbs import Context, UsageError, Verb
from xtrack_conformance.verbs.report import show

TODO: Final = "TODO"
"""What the author must put something else for. A case with it is not taken: its clause isn't there."""

GROUPS: Final = {"decoder": "jsn", "encoder": "enc", "framer": "frm", "collector": "fld", "store": "sto"}

Json = dict[str, Any]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FINDING", help="what fuzz has saved")
    parser.add_argument("--id", metavar="ID", help="the case's id, which begins with its group (frm-...)")
    parser.add_argument("--clause", action="append", default=[], metavar="C", help="a clause that says so (FRM-3.5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the case as JSON, too")


def _promote(context: Context) -> int:
    arguments = context.arguments
    try:
        finding = read_finding(arguments.file.read_text(encoding="utf-8"))
    except (FindingError, UnicodeDecodeError) as error:
        raise UsageError(f"{arguments.file}: {error}") from error
    case_id = arguments.id or f"{GROUPS[finding.role]}-{TODO.lower()}-{finding.digest}"
    if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", case_id):
        raise UsageError(f"{case_id!r} is no id: a group, and words in small letters, with - between them")
    if any(case.id == case_id for case in load_cases()):
        raise UsageError(f"there is a case {case_id} already, and an id is never given twice")
    case = draft(finding, case_id, arguments.clause)
    if arguments.json:
        arguments.json.write_text(json.dumps({"cases": [case]}, indent=1) + "\n", encoding="utf-8", newline="\n")
    show(iter(_told(finding, case)))
    return 0


def draft(finding: Finding, case_id: str, clauses: list[str]) -> Json:
    """Return the case that a finding may become, as JSON, with TODO where its author has to decide."""
    given = {name: value for name, value in finding.input.items() if (name, value) != ("source", "connection")}
    case: Json = {
        "id": case_id,
        "since": 1,
        "role": finding.role,
        "level": "MUST",
        "kind": TODO,
        "why": TODO,
        "clauses": clauses or [TODO],
    }
    if finding.role in {"collector", "store"}:
        ask: Json = {"do": "run", "run_id": "a", "is": TODO}
        if finding.role == "store":
            ask = {"do": "events", "run_id": "a", "is": TODO}
        return case | {"script": [*finding.script, ask]}
    if finding.role == "framer":
        given.pop("reader", None)
        return case | {"axes": ["chunking"], "input": given, "expect": {"frames": TODO}}
    return case | {"input": given, "expect": TODO}


def _told(finding: Finding, case: Json) -> list[str]:
    clauses = clause_texts()
    said = [f"#   {name} {clauses.get(name, '(no case names it yet: see docs/spec)')}" for name in case["clauses"]]
    named = sorted(set(re.findall(r"[A-Z]{3}(?:-[A-Z_]+)?-[0-9]+(?:\.[0-9]+)?", finding.message)))
    hint = [f"#   perhaps {name} {clauses.get(name, '')}" for name in named if name not in case["clauses"]]
    return [
        f"# Found in {finding.testee or 'a testee'}"
        + (f", against {finding.against}" if finding.against else "")
        + f" (fuzz --seed {finding.seed} --role {finding.role}): {finding.rule}",
        f"# observed: {finding.message}",
        *([f"#   expected by the search: {finding.expected[:400]}"] if finding.expected else []),
        *([f"#   got: {finding.got[:400]}"] if finding.got else []),
        "#",
        "# Before it is a case, read the specification, and fill in what says TODO: the clauses and why they say so",
        "# (one line), what must come, what else is allowed, and which mutant it kills. What the search expected is",
        "# no argument. Put it into conformance/generate, write the cases (python -m generate), and run the tests.",
        *said,
        *hint,
        "",
        *_python(finding, case).splitlines(),
        "",
        "# The same as JSON:",
        *(f"# {line}" for line in json.dumps(case, indent=1).splitlines()),
    ]


def _python(finding: Finding, case: Json) -> str:
    """Return the call for a module of conformance/generate."""
    head = [case["id"], " ".join(case["clauses"]), case["why"]]
    if finding.role in {"collector", "store"}:
        words = [
            json.dumps(case["id"]),
            json.dumps(finding.role),
            *map(json.dumps, head[1:]),
            *map(repr, case["script"]),
        ]
        return "group.script(\n" + "".join(f"    {word},\n" for word in words) + ")"
    words = list(map(json.dumps, head))
    if finding.role == "encoder":
        words.append(_value(finding))
        words.append('{"event": TODO},  # in the writer\'s form; or {"rejected": {}}')
        return "group.encode_value(\n" + "".join(f"    {_with_comma(word)}\n" for word in words) + ")"
    if finding.role == "decoder":
        words.append(repr(finding.input["payload"]))
        words.append(f"TODO,  # the event it reads as; for group.refuse its class: {', '.join(CLASSES[3:])}")
        words.append(f"reader={finding.input['reader']!r},  # leave it out where both must do it")
        call = (
            "group.accept"
            if finding.rule == "accepted"
            else "group.refuse"
            if finding.rule == "refused"
            else "group.TODO"
        )
        return call + "(\n" + "".join(f"    {_with_comma(word)}\n" for word in words) + ")"
    words.append("[TODO],  # good(...), bad(...), cut(...), fatal(...): pieces of these bytes")
    call = "group.recording" if finding.input.get("source") == "recording" else "group.feed"
    lines = "".join(f"    {_with_comma(word)}\n" for word in words)
    return f"# bytes: {finding.bytes}\n{call}(\n{lines})"


def _with_comma(word: str) -> str:
    return word if ",  # " in word else f"{word},"


def _value(finding: Finding) -> str:
    try:
        return repr(untag(finding.input["value"]))
    except BadValue:
        return TODO


VERBS = (
    Verb("promote", "draft a case from what fuzz has found", _options, _promote, "FINDING [--id ID] [--clause C]"),
)
