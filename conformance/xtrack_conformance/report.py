"""What a run of the suite came to: a verdict, and a report as JSON. :mod:`xtrack_conformance.reports` shows it."""

from __future__ import annotations

import json
import platform
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import attrs
import cattrs

from xtrack_conformance import HARNESS, PROTOCOL
from xtrack_conformance.cases import Case, Step
from xtrack_conformance.protocol import Hello
from xtrack_conformance.runner import CaseResult
from xtrack_conformance.sets import Requirements, load_set

SuiteVerdict = Literal["conformant", "conformant-with-exceptions", "nonconformant", "incomplete"]

BAD: Final = frozenset({"fail", "crash", "timeout", "flaky"})
"""Verdicts that make an implementation nonconformant."""

UNFINISHED: Final = frozenset({"harness-error", "could-not-run"})
"""Verdicts that leave open whether it is."""

SHORTLY: Final = 2000
"""Bytes of an input that a report shows."""

STDERR: Final = 20
"""Lines of stderr that a report shows of a testee that broke down."""


class BaselineError(ValueError):
    """A baseline that can't be used."""


class ReportError(ValueError):
    """No report, or one of another version."""


@attrs.frozen
class Failure:
    """What a person needs in order to mend a failure.

    ``input``: in hexadecimal 2,000 bytes, those from ``input_start`` on. ``given``: what an encoder was given, as JSON.
    ``script``: the steps of a role that has a memory; ``step``: which of them failed, the first being 1. ``stderr``:
    the last lines of a testee that broke down.
    """

    message: str
    expected: str = ""
    got: str = ""
    offset: int | None = None
    variant: str = ""
    input: str = ""
    input_size: int = 0
    input_start: int = 0
    given: str = ""
    script: tuple[Step, ...] = ()
    step: int | None = None
    stderr: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    replay: str = ""


@attrs.frozen
class CaseReport:
    """A case's line of the report. ``excused``: the baseline's reason. ``failure``: of all but pass.

    ``recorded``: what was seen where several outcomes are right (MAY), or where nothing is judged (INFO).
    """

    id: str
    role: str
    level: str
    clauses: tuple[str, ...]
    verdict: str
    runs: int
    why: str
    excused: str | None = None
    failure: Failure | None = None
    recorded: str = ""

    @property
    def is_judged(self) -> bool:
        """Whether its verdict counts: not that of a case whose outcome is only recorded."""
        return self.level != "INFO"


@attrs.frozen
class RoleReport:
    """What came of a role. ``counts``: cases by verdict."""

    verdict: SuiteVerdict
    cases: int
    runs: int
    counts: dict[str, int]


@attrs.frozen
class ClauseReport:
    """Cases of a clause: those there are for the declared roles, those that were run, and those that failed.

    ``page``: of the specification, where it stands; ``text``: what it says.
    """

    expected: int
    executed: int
    failed: int
    page: str = ""
    text: str = ""


@attrs.frozen
class RequirementsReport:
    """The set of requirements, whether it is final, its digest, and how many cases it has in all roles."""

    number: int
    status: str
    sha256: str
    cases: int


@attrs.frozen
class Report:
    """All that is known of one run of the suite. ``only``: the options by which a part of the cases was chosen."""

    schema: str
    harness: int
    protocol: int
    requirements: RequirementsReport
    only: tuple[str, ...]
    command: tuple[str, ...]
    testee: dict[str, Any]
    platform: str
    ended: str
    seconds: float
    verdict: SuiteVerdict
    roles: dict[str, RoleReport]
    clauses: dict[str, ClauseReport]
    problems: tuple[str, ...]
    stale: tuple[str, ...]
    cases: tuple[CaseReport, ...]

    @property
    def exit_status(self) -> int:
        """0 as expected, 1 unexpected, 2 a broken testee, 3 incomplete."""
        if self.verdict == "nonconformant" or self.stale:
            return 1
        if self.problems or any(case.verdict == "harness-error" for case in self.cases):
            return 2
        return 3 if self.verdict == "incomplete" else 0

    def as_json(self) -> str:
        """Return the report as JSON; ``schemas/report.schema.json`` describes it."""
        return json.dumps(cattrs.Converter().unstructure(self), indent=1, sort_keys=False) + "\n"


SCHEMA: Final = "xtrack-conformance-report/1"


def make_report(
    *,
    hello: Hello,
    command: Sequence[str],
    cases: Sequence[Case],
    results: Sequence[CaseResult],
    problems: Sequence[str],
    seconds: float,
    baseline: Mapping[str, str] | None = None,
    replay: Sequence[str] = (),
    requirements: Requirements | None = None,
    only: Sequence[str] = (),
) -> Report:
    """Make the report of ``results``. ``cases``: those that were asked for. ``replay``: the command's beginning.

    ``requirements``: the set that the cases are of, by default the newest.
    """
    excuses = baseline or {}
    told = [_case_report(result, excuses, [*replay, "--case", result.case.id, "--", *command]) for result in results]
    stale = tuple(case.id for case in told if case.id in excuses and case.verdict in {"pass", "nonstrict"})
    roles = {}
    for role in hello.roles:
        of_role = [case for case in told if case.role == role]
        if of_role or any(case.role == role for case in cases):
            counts = dict(sorted(Counter(case.verdict for case in of_role).items()))
            roles[role] = RoleReport(_verdict(of_role), len(of_role), sum(case.runs for case in of_role), counts)
    asked = requirements or load_set()
    verdict = _verdict(told)
    if problems and verdict in {"conformant", "conformant-with-exceptions"}:
        verdict = "incomplete"
    return Report(
        schema=SCHEMA,
        harness=HARNESS,
        protocol=PROTOCOL,
        requirements=RequirementsReport(asked.number, asked.status, asked.sha256, len(asked.cases)),
        only=tuple(only),
        command=tuple(command),
        testee=attrs.asdict(hello) | {"roles": list(hello.roles), "capabilities": sorted(hello.capabilities)},
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        ended=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        verdict=verdict,
        roles=roles,
        clauses=_clause_reports(told),
        problems=tuple(problems),
        stale=stale,
        cases=tuple(told),
    )


def _verdict(cases: Sequence[CaseReport]) -> SuiteVerdict:
    """Return the verdict on cases. None that was run is incomplete, whatever else."""
    cases = [case for case in cases if case.is_judged]
    if any(case.verdict in BAD and case.excused is None for case in cases):
        return "nonconformant"
    executed = [case for case in cases if case.verdict != "not-applicable"]
    if not executed or any(case.verdict in UNFINISHED for case in executed):
        return "incomplete"
    return "conformant-with-exceptions" if any(case.excused for case in executed) else "conformant"


def _case_report(result: CaseResult, excuses: Mapping[str, str], replay: Sequence[str]) -> CaseReport:
    case = result.case
    excused = excuses.get(case.id) if result.verdict in {"fail", "crash", "timeout"} else None
    failure = None
    if result.run is None and result.verdict != "pass":
        failure = Failure(result.reason)
    elif result.run is not None and result.verdict != "pass":
        judgement = result.judgement
        data = judgement.input or case.input.data()
        start = _start(judgement.offset)
        message = result.reason or judgement.message
        failure = Failure(
            message=message,
            expected=judgement.expected,
            got=judgement.got,
            offset=judgement.offset,
            variant=result.variant,
            input=data[start : start + SHORTLY].hex(),
            input_size=len(data),
            input_start=start,
            given=_given(case),
            script=case.script,
            step=_step(message, case),
            stderr=result.stderr[-STDERR:],
            clauses=tuple(f"{name} {clause_texts()[name]}" for name in case.clauses),
            replay=command_line(replay),
        )
    recorded = ""
    if case.level in {"MAY", "INFO"}:
        recorded = result.judgement.message or result.judgement.outcome or result.reason
    return CaseReport(
        case.id, case.role, case.level, case.clauses, result.verdict, result.runs, case.why, excused, failure, recorded
    )


def _start(offset: int | None) -> int:
    """Return where the bytes begin that are shown: at the first one, unless ``offset`` is far behind it."""
    return 0 if offset is None or offset < SHORTLY else (offset - SHORTLY // 2) // 16 * 16


def _given(case: Case) -> str:
    """Return the event of an encoder's case, as JSON, shortened, and behind it how it is to be written."""
    given = case.input
    if given.event is None and given.value is None:
        return ""
    how = f" in {given.codec}" if given.codec != "json" else ""
    how += f" in {given.limit} bytes at most" if given.limit is not None else ""
    text = json.dumps(given.event if given.event is not None else given.value)
    return (text if len(text) <= SHORTLY else f"{text[:SHORTLY]}...") + how


def _step(message: str, case: Case) -> int | None:
    """Return the number of the step that failed, which the message of a script begins with."""
    found = re.match(r"step (\d+)\b", message)
    return int(found[1]) if found and 1 <= int(found[1]) <= len(case.script) else None


def clause_key(clause: str) -> list[tuple[bool, int, str]]:
    """Return what sorts clauses as a reader counts: FRM-2 before FRM-10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", clause)]


def _clause_reports(cases: Sequence[CaseReport]) -> dict[str, ClauseReport]:
    clauses = sorted({clause for case in cases for clause in case.clauses}, key=clause_key)
    found = {}
    for clause in clauses:
        of_clause = [case for case in cases if clause in case.clauses]
        executed = [case for case in of_clause if case.verdict not in {"not-applicable", "could-not-run"}]
        failed = sum(case.verdict in BAD | UNFINISHED and case.is_judged for case in of_clause)
        page, text = page_of(clause), clause_texts().get(clause, "")
        found[clause] = ClauseReport(len(of_clause), len(executed), failed, page, text)
    return found


def command_line(words: Sequence[str]) -> str:
    """Return a command as it is typed."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)


@cache
def clause_texts() -> dict[str, str]:
    """Return the text of each clause of the specification by its id."""
    file = resources.files("xtrack_conformance") / "clauses.json"
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found


@cache
def pages() -> dict[str, str]:
    """Return the title of each page of the specification by its name, in the order they are read."""
    return {name: str(page["title"]) for name, page in _pages().items()}


def page_of(clause: str) -> str:
    """Return the name of the page where a clause stands; nothing for one that we don't know."""
    group = clause.partition("-")[0]
    return next((name for name, page in _pages().items() if group in page["clauses"]), "")


@cache
def _pages() -> dict[str, dict[str, Any]]:
    file = resources.files("xtrack_conformance") / "pages.json"
    found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def read_report(text: str) -> Report:
    """Return the report of a JSON text; raise ReportError where it is none."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise ReportError(f"no report of this version, which has the schema {SCHEMA}")
        report = cattrs.Converter().structure(found, Report)
        for case in report.cases:
            bytes.fromhex(case.failure.input if case.failure else "")
        for name in ("name", "version", "language", "url", "capabilities"):
            if not isinstance(report.testee.get(name), list if name == "capabilities" else str):
                raise ReportError(f"no report: the testee has no {name}")
    except cattrs.BaseValidationError as error:
        raise ReportError(f"no report: {'; '.join(cattrs.transform_error(error)[:3])}") from error
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, ReportError) else ReportError(f"no report: {error}") from error
    return report


def read_baseline(text: str, known: Sequence[Case]) -> dict[str, str]:
    """Return the reasons of a baseline, ``{"cases": {ID: REASON}}``; raise BaselineError where it is none."""
    try:
        cases = json.loads(text)["cases"]
        found = {str(case_id): str(reason) for case_id, reason in cases.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaselineError('a baseline is JSON like {"cases": {"CASE": "why it fails"}}') from error
    if unknown := sorted(found.keys() - {case.id for case in known}):
        raise BaselineError(f"the baseline names cases that aren't there: {', '.join(unknown)}")
    if unsaid := sorted(case_id for case_id, reason in found.items() if not reason.strip()):
        raise BaselineError(f"the baseline has no reason for {', '.join(unsaid)}")
    return found


def failures_of(report: Report) -> list[CaseReport]:
    """Return the cases that are held against the testee."""
    return [case for case in report.cases if case.verdict in BAD | UNFINISHED and not case.excused and case.is_judged]


def told_requirements(report: Report) -> str:
    """Return how a set of requirements is named."""
    found = report.requirements
    draft = ", draft" if found.status == "draft" else ""
    return f"requirements {found.number} (sha256 {found.sha256[:12]}{draft})"
