"""The report as JUnit XML, for the test views of CI systems: a suite for each role, a test case for each case."""

from __future__ import annotations

from typing import Final
from xml.etree import ElementTree as ET

from xtrack_conformance.report import CaseReport, Failure, Report, RoleReport
from xtrack_conformance.reports import hex_dump, shortened
from xtrack_conformance.reports.markup import visible

_BROKEN: Final = frozenset({"crash", "timeout", "harness-error", "could-not-run", "flaky"})
"""Verdicts that are an error in JUnit's words, rather than a failure."""


def as_junit(report: Report) -> str:
    """Return the XML."""
    testee = report.testee
    root = ET.Element("testsuites", name=visible(f"XTrack {report.protocol} conformance of {testee['name']}"))
    suites = [_suite(root, report, name, role) for name, role in report.roles.items()]
    if report.problems or report.stale or not suites:
        suites.append(_problems(root, report))
    for name in ("tests", "failures", "errors"):  # skipped: some consumers' schemas have it for a suite alone
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    root.set("time", f"{report.seconds:.3f}")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(root: ET.Element, report: Report, name: str, role: RoleReport) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=name, timestamp=report.ended[:19], hostname="localhost", time="0")
    properties = ET.SubElement(suite, "properties")
    for key, value in {
        "verdict": role.verdict,
        "testee": f"{report.testee['name']} {report.testee['version']} ({report.testee['language']})",
        "requirements": f"{report.requirements.number} {report.requirements.status} {report.requirements.sha256}",
        "only": ", ".join(report.only),
    }.items():
        ET.SubElement(properties, "property", name=key, value=visible(value))
    for case in report.cases:
        if case.role == name:
            _case(suite, case)
    return _counted(suite)


def _counted(suite: ET.Element) -> ET.Element:
    suite.set("tests", str(len(suite.findall("testcase"))))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{kind}"))))
    return suite


def _case(suite: ET.Element, case: CaseReport) -> None:
    group = case.id.partition("-")[0]
    told = ET.SubElement(suite, "testcase", classname=f"xtrack.{case.role}.{group}", name=case.id, time="0")
    failure = case.failure
    if case.verdict == "pass" or failure is None:
        return
    text = "\n".join(map(visible, _lines(case, failure)))
    message = visible(f"{case.verdict}: {failure.message}")
    if case.verdict == "not-applicable":
        ET.SubElement(told, "skipped", message=message)
    elif case.excused:
        ET.SubElement(told, "skipped", message=visible(f"excused, {case.excused} ({failure.message})"))
    elif case.verdict == "nonstrict" or not case.is_judged:
        ET.SubElement(told, "system-out").text = f"{message}\n{text}"
    else:
        kind = "error" if case.verdict in _BROKEN else "failure"
        ET.SubElement(told, kind, message=message, type=case.verdict).text = text


def _lines(case: CaseReport, failure: Failure) -> list[str]:
    lines = [f"{case.id} ({case.role}, {case.level}): {failure.message}", *failure.clauses, f"why: {case.why}"]
    lines += [f"{name} {text}" for name, text in (("given", failure.given), ("expected", failure.expected)) if text]
    if failure.got:
        lines.append(f"got {failure.got}")
    for number, step in enumerate(failure.script, start=1):
        lines.append(f"{'->' if number == failure.step else '  '} step {number}: {shortened(step)}")
    data = bytes.fromhex(failure.input)
    lines += [line.text for line in hex_dump(data, failure.offset, failure.input_size, failure.input_start)]
    lines += [f"stderr: {text}" for text in failure.stderr]
    return [*lines, f"replay: {failure.replay}"] if failure.replay else lines


def _problems(root: ET.Element, report: Report) -> ET.Element:
    """Return a suite for what belongs to no case, so that it isn't lost in a view of cases."""
    suite = ET.SubElement(root, "testsuite", name="run", timestamp=report.ended[:19], hostname="localhost", time="0")
    told = [("problem", problem) for problem in report.problems]
    told += [("stale", f"{case_id} stands in the baseline, and passes") for case_id in report.stale]
    told += [("incomplete", "no case was run")] if not report.cases else []
    for number, (kind, text) in enumerate(told, start=1):
        case = ET.SubElement(suite, "testcase", classname="xtrack.run", name=f"{kind}-{number}", time="0")
        ET.SubElement(case, "error", message=visible(text), type=kind).text = visible(text)
    return _counted(suite)
