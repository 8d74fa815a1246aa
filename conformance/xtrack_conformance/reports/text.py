"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from xtrack_conformance.report import CaseReport, Report, failures_of, told_requirements
from xtrack_conformance.reports import hex_dump, shortened


def summary(report: Report, failures: int = 20) -> Iterator[str]:
    """Yield the lines a person reads. ``failures``: how many are shown in full.

    Controls are escaped: what a testee says of itself must not command a terminal.
    """
    for line in _lines(report, failures):
        yield line if line.isprintable() else "".join(map(_plain, line))


def _plain(letter: str) -> str:
    return letter if letter.isprintable() else ascii(letter)[1:-1]


def _lines(report: Report, failures: int) -> Iterator[str]:
    testee = report.testee
    yield f"XTrack {report.protocol} conformance of {testee['name']} {testee['version']} ({testee['language']})"
    runs = sum(role.runs for role in report.roles.values())
    yield f"{len(report.cases)} cases of {told_requirements(report)}, {runs} runs in {report.seconds:.1f} s"
    if report.only:
        yield f"only {' '.join(report.only)}"
    yield ""
    bad = failures_of(report)
    for case in bad[:failures]:
        yield from _told(case)
    if len(bad) > failures:
        yield f"... and {len(bad) - failures} more; --failures N shows more of them, --report FILE has all"
        yield ""
    notes = [case for case in report.cases if case.verdict == "nonstrict" and case.failure]
    for case in notes[:failures]:
        assert case.failure is not None
        yield f"nonstrict {case.id} ({', '.join(case.clauses)}): {case.failure.message}"
        if case.failure.expected:
            yield f"    expected {case.failure.expected}, got {case.failure.got}"
    if notes:
        yield ""
    for case_id in report.stale:
        yield f"stale: {case_id} stands in the baseline, and passes. Take it out."
    for problem in report.problems:
        yield f"problem: {problem}"
    width = max((len(role) for role in report.roles), default=0)
    for name, role in report.roles.items():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in role.counts.items())
        yield f"{name:<{width}}  {role.verdict}  {counts or 'no case'}"
    if not report.cases:
        yield "no case was run: the testee declares none of the roles that were asked for"
    yield f"verdict: {report.verdict}"


def _told(case: CaseReport) -> Iterator[str]:
    failure = case.failure
    assert failure is not None
    place = f", {failure.variant}" if failure.variant else ""
    yield f"{case.verdict.upper()} {case.id} ({case.role}, {case.level}{place}): {failure.message}"
    for clause in failure.clauses:
        yield f"    {clause}"
    yield f"    why: {case.why}"
    if failure.given:
        yield f"    given    {failure.given}"
    if failure.expected:
        yield f"    expected {failure.expected}"
    if failure.got:
        yield f"    got      {failure.got}"
    for number, step in enumerate(failure.script, start=1):
        yield f"  {'->' if number == failure.step else '  '} step {number}: {shortened(step)}"
    for line in hex_dump(bytes.fromhex(failure.input), failure.offset, failure.input_size, failure.input_start):
        yield f"    {line.text}"
    for text in failure.stderr:
        yield f"    stderr: {text}"
    if failure.replay:
        yield f"    replay: {failure.replay}"
    yield ""
