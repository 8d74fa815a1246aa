"""The report as Markdown, for the summary of a CI job or a comment: short, and every failure with its replay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from xtrack_conformance.report import CaseReport, Report, failures_of, told_requirements
from xtrack_conformance.reports import says, shortened
from xtrack_conformance.reports.markup import visible

SHOWN: Final = 50
"""Failures that are shown; more than that nobody reads here."""

_SYMBOLS: Final = {"conformant": "✅", "conformant-with-exceptions": "☑️", "nonconformant": "❌", "incomplete": "⚠️"}
_SPECIAL: Final = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)|^[#+-]")
_SIDE: Final = 300


def as_markdown(report: Report) -> str:
    """Return the text."""
    return "\n".join(_lines(report)) + "\n"


def plain(text: str) -> str:
    """Return a text on one line in which no character means anything to Markdown."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(visible(text).split()))


def code(text: str) -> str:
    """Return a text on one line as code, whatever it holds. Pipes are escaped for tables."""
    line = " ".join(visible(text).split()).replace("|", "\\|")
    ticks = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if "`" in line else ""
    return f"{ticks}{pad}{line}{pad}{ticks}" if line else ""


def _lines(report: Report) -> Iterator[str]:
    testee = report.testee
    yield f"# {_SYMBOLS[report.verdict]} {report.verdict}: {plain(str(testee['name']))} {plain(str(testee['version']))}"
    yield ""
    yield f"{plain(says(report))} XTrack {report.protocol}, {told_requirements(report)}."
    yield ""
    yield "| Role | Verdict | Cases | Runs | |"
    yield "|---|---|--:|--:|---|"
    for name, role in report.roles.items():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in role.counts.items())
        yield f"| {name} | {role.verdict} | {role.cases} | {role.runs} | {counts} |"
    yield from _problems(report)
    bad = failures_of(report)
    if bad:
        yield from ("", f"## Failures ({len(bad)})", "")
        for case in bad[:SHOWN]:
            yield from _failure(case)
        if len(bad) > SHOWN:
            yield f"- and {len(bad) - SHOWN} more"
    broken = {name: clause for name, clause in report.clauses.items() if clause.failed}
    if broken:
        yield from (
            "",
            f"## Clauses ({len(broken)})",
            "",
            "| Clause | Cases | Run | Failed | |",
            "|---|--:|--:|--:|---|",
        )
        for name, clause in list(broken.items())[:SHOWN]:
            yield f"| {name} | {clause.expected} | {clause.executed} | {clause.failed} | {plain(clause.text)} |"
        if len(broken) > SHOWN:
            yield f"\nand {len(broken) - SHOWN} more"
    for title, cases in (
        ("Nonstrict", [case for case in report.cases if case.verdict == "nonstrict"]),
        ("Excused", [case for case in report.cases if case.excused]),
    ):
        yield from _listed(title, cases)
    missing = [case for case in report.cases if case.verdict == "not-applicable"]
    if missing:
        reasons = sorted({case.failure.message for case in missing if case.failure})
        yield from ("", f"Not applicable: {len(missing)} ({plain('; '.join(reasons))}).")


def _problems(report: Report) -> Iterator[str]:
    if report.problems or report.stale:
        yield from ("", "## Problems", "")
        yield from (f"- {plain(problem)}" for problem in report.problems)
        yield from (f"- {code(case_id)} stands in the baseline, and passes. Take it out." for case_id in report.stale)


def _failure(case: CaseReport) -> Iterator[str]:
    failure = case.failure
    assert failure is not None
    yield f"- **{case.verdict}** {code(case.id)}: {plain(failure.message)}  "
    yield f"  {plain(', '.join(case.clauses))}. Why: {plain(case.why)}  "
    if failure.step:
        step = shortened(failure.script[failure.step - 1], _SIDE)
        yield f"  step {failure.step} of {len(failure.script)}: {code(step)}  "
    for name, text in (("expected", failure.expected), ("got", failure.got)):
        if text:
            yield f"  {name} {code(text if len(text) <= _SIDE else f'{text[:_SIDE]}...')}  "
    if failure.replay:
        yield f"  {code(failure.replay)}"


def _listed(title: str, cases: list[CaseReport]) -> Iterator[str]:
    if not cases:
        return
    yield from ("", f"<details><summary>{title} ({len(cases)})</summary>", "")
    for case in cases[:SHOWN]:
        reason = case.excused or (case.failure.message if case.failure else "")
        yield f"- {code(case.id)} ({plain(', '.join(case.clauses))}): {plain(reason)}"
    if len(cases) > SHOWN:
        yield f"- and {len(cases) - SHOWN} more"
    yield from ("", "</details>")
