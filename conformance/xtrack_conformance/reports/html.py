"""The report as one page that needs nothing beside itself: no network, no font, and no script to be read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Final

from xtrack_conformance.report import (
    BAD,
    UNFINISHED,
    CaseReport,
    ClauseReport,
    Report,
    RoleReport,
    command_line,
    failures_of,
    pages,
    told_requirements,
)
from xtrack_conformance.reports import says
from xtrack_conformance.reports.failure import card, chip, class_of
from xtrack_conformance.reports.markup import Markup, join, prose, tag

FAILURES: Final = 700_000
"""Characters of failures that are shown in full; behind them a line each. The JSON has all."""

OTHERS: Final = 200_000
"""The same for each other section of cases."""

CHIPS: Final = 24
"""Clauses that are named above the failures."""

_CSP: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_SYMBOLS: Final = {"good": "\N{CHECK MARK}", "warn": "\N{WARNING SIGN}", "bad": "\N{MULTIPLICATION X}"}


def as_html(report: Report) -> str:
    """Return the page."""
    testee = report.testee
    title = f"{report.verdict}: {testee['name']} {testee['version']}, XTrack {report.protocol}"
    sections = [section for section in _sections(report) if section]
    links = [tag("a", f"{name} ", tag("b", count), href=f"#{anchor}") for anchor, name, count, _ in sections]
    find = tag("input", id="find", type="search", placeholder="Find a case or clause", aria_label="Find", hidden=True)
    body = join(
        [
            _header(report),
            tag("nav", tag("div", links, find, class_="wrap")),
            tag(
                "main",
                [tag("section", content, id=anchor) for anchor, _, _, content in sections],
                class_="wrap",
            ),
            tag(
                "footer",
                tag("div", f"Made by harness {report.harness} of the XTrack conformance suite.", class_="wrap"),
            ),
            tag("script", Markup(_file("page.js"))),
        ]
    )
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{_CSP}">'),
            Markup('<link rel="icon" href="data:,">'),
            tag("title", title),
            tag("style", Markup(_file("page.css"))),
        ]
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _file(name: str) -> str:
    return (resources.files("xtrack_conformance") / "reports" / name).read_text(encoding="utf-8")


def _header(report: Report) -> Markup:
    testee = report.testee
    kind = class_of(report.verdict)
    name = str(testee["name"])
    url = str(testee["url"])
    facts = {
        "Requirements": told_requirements(report),
        "Digest": tag("code", report.requirements.sha256),
        "Asked": f"{len(report.cases):,} of {report.requirements.cases:,} cases, "
        f"{sum(role.runs for role in report.roles.values()):,} runs in {report.seconds:.1f} s",
        "Only": ", ".join(report.only),
        "Capabilities": ", ".join(map(str, testee["capabilities"])) or "none",
        "Command": tag("code", command_line(report.command)),
        "Judged on": f"{report.platform}, {report.ended}",
    }
    return tag(
        "header",
        tag(
            "div",
            tag("p", f"XTrack {report.protocol} conformance", class_="kicker"),
            tag(
                "h1",
                tag("a", name, href=url, rel="noreferrer") if url.startswith(("https://", "http://")) else name,
                " ",
                tag("small", f"{testee['version']}, {testee['language']}"),
            ),
            tag("div", f"{_SYMBOLS[kind]} {report.verdict}", class_="verdict"),
            tag("p", says(report), class_="says"),
            _roles(report),
            tag("dl", [[tag("dt", key), tag("dd", value)] for key, value in facts.items() if value], class_="facts"),
            class_="wrap",
        ),
        class_=kind,
    )


def _roles(report: Report) -> Markup:
    return tag("div", [_role(name, role) for name, role in report.roles.items()], class_="roles", id="roles")


_ORDER: Final = {
    verdict: number
    for number, verdict in enumerate((
        "pass", "nonstrict", "fail", "crash", "timeout", "flaky", "harness-error", "could-not-run", "not-applicable",
    ))
}  # fmt: skip


def _role(name: str, role: RoleReport) -> Markup:
    counts = sorted(role.counts.items(), key=lambda entry: _ORDER.get(entry[0], len(_ORDER)))
    return tag(
        "div",
        tag("h3", name, tag("span", role.verdict, class_=class_of(role.verdict))),
        tag(
            "div",
            [tag("i", class_=class_of(verdict), style=f"flex:{count}") for verdict, count in counts],
            class_="bar",
            aria_hidden="true",
        ),
        tag("p", ", ".join(f"{count:,} {verdict}" for verdict, count in counts) or "no case"),
        class_="role",
    )


# ------------------------------------------------------------------------------------------ sections

Section = tuple[str, str, str, Markup]
"""Its anchor, its name, how much is in it, and what."""


def _sections(report: Report) -> Iterator[Section | None]:
    bad = failures_of(report)
    shown = {case.id for case in report.cases if _has_card(case)}
    yield _problems(report)
    failed = [case for case in bad if case.verdict != "could-not-run"]
    yield _failures(report, failed) if failed else None
    yield _grouped(
        "could-not-run", "Could not run", "These were not asked any more.",
        [case for case in bad if case.verdict == "could-not-run"],
    )  # fmt: skip
    nonstrict = [case for case in report.cases if case.verdict == "nonstrict" and case.failure]
    yield _cards(
        "nonstrict",
        "Nonstrict",
        "Against a SHOULD. Not held against conformance; worth knowing all the same.",
        nonstrict,
    )
    excused = [case for case in report.cases if case.excused]
    yield _cards("excused", "Excused", "The baseline knows of these, and has a reason for each.", excused)
    yield _recorded(report)
    yield _grouped(
        "not-applicable", "Not applicable", "These need a capability that the testee doesn't declare.",
        [case for case in report.cases if case.verdict == "not-applicable"],
    )  # fmt: skip
    yield _clauses(report, shown)
    yield _cases(report, shown)


def _has_card(case: CaseReport) -> bool:
    """Whether a case has an entry of its own beside that in the table of all."""
    if case.verdict == "nonstrict":
        return case.failure is not None
    return case.verdict in (BAD | UNFINISHED) - {"could-not-run"} and (case.is_judged or bool(case.excused))


def _link(case: CaseReport) -> Markup:
    return tag("a", tag("code", case.id), href=f"#{case.id}")


def _problems(report: Report) -> Section | None:
    lines = [tag("li", problem) for problem in report.problems]
    lines += [tag("li", f"{case_id} stands in the baseline, and passes. Take it out.") for case_id in report.stale]
    if not lines:
        return None
    intro = tag("p", "What the testee did between and behind the runs, and entries of the baseline that are stale.")
    return "problems", "Problems", str(len(lines)), join([tag("h2", "Problems"), intro, tag("ul", lines)])


def _failures(report: Report, failed: Sequence[CaseReport]) -> Section:
    broken = {name: clause for name, clause in report.clauses.items() if clause.failed}
    most = sorted(broken.items(), key=lambda entry: -entry[1].failed)[:CHIPS]
    chips = [
        tag("li", tag("a", f"{name} ({clause.failed})", href=f"#{name}", class_="bad", title=clause.text))
        for name, clause in most
    ]
    many = " The most frequent:" if len(broken) > CHIPS else ""
    intro = tag("p", f"{_count(len(failed), 'case')} failed, under {_count(len(broken), 'clause')}.{many}")
    content = join(
        [
            tag("h2", "Failures ", tag("small", f"{len(failed):,}")),
            intro,
            tag("ul", chips, class_="chips"),
            _within_size(failed, FAILURES, opened=3),
        ]
    )
    return "failures", "Failures", f"{len(failed):,}", content


def _cards(anchor: str, name: str, says_: str, cases: Sequence[CaseReport]) -> Section | None:
    if not cases:
        return None
    heading = tag("h2", f"{name} ", tag("small", f"{len(cases):,}"))
    return anchor, name, f"{len(cases):,}", join([heading, tag("p", says_), _within_size(cases, OTHERS)])


def _within_size(cases: Sequence[CaseReport], room: int, opened: int = 0) -> Markup:
    """Return cases in full while there is room, then with a line each. The first ``opened`` are unfolded."""
    told, size = [], 0
    for number, case in enumerate(cases):
        told.append(card(case, is_open=number < opened))
        size += len(told[-1])
        if size > room:
            break
    rest = [
        tag("li", chip(case.verdict), " ", tag("code", case.id), f": {case.failure.message if case.failure else ''}",
            id=case.id, data_find=True)
        for case in cases[len(told):]
    ]  # fmt: skip
    if not rest:
        return join(told)
    note = tag("p", f"And {len(rest):,} more, in short. The report as JSON has their bytes.")
    return join([told, note, tag("ul", rest, class_="short")])


def _grouped(anchor: str, name: str, says_: str, cases: Sequence[CaseReport]) -> Section | None:
    """Return a section of cases by the reason they share."""
    if not cases:
        return None
    by_reason: dict[str, list[CaseReport]] = defaultdict(list)
    for case in cases:
        by_reason[case.failure.message if case.failure else ""].append(case)
    groups = [
        tag(
            "details",
            tag("summary", tag("b", reason), tag("small", f" {_count(len(held), 'case')}")),
            tag("ul", [tag("li", _link(case), data_find=True) for case in held], class_="ids"),
            class_="fold-in",
        )
        for reason, held in sorted(by_reason.items(), key=lambda entry: -len(entry[1]))
    ]
    heading = tag("h2", f"{name} ", tag("small", f"{len(cases):,}"))
    return anchor, name, f"{len(cases):,}", join([heading, tag("p", says_), groups])


def _recorded(report: Report) -> Section | None:
    cases = [case for case in report.cases if case.recorded and case.verdict != "not-applicable"]
    if not cases:
        return None
    rows = [
        tag(
            "tr",
            tag("td", _link(case), class_="id"),
            tag("td", case.level),
            tag("td", case.recorded, class_="wide"),
            tag("td", case.why, class_="wide"),
            data_find=True,
        )
        for case in cases
    ]
    intro = "Several outcomes are right here (MAY), or none is judged (INFO). What was seen:"
    table = _table(("Case", "Level", "Seen", "What it is about"), rows, "cases")
    heading = tag("h2", "Recorded ", tag("small", str(len(cases))))
    return "recorded", "Recorded", str(len(cases)), join([heading, tag("p", intro), table])


def _clauses(report: Report, shown: set[str]) -> Section | None:
    if not report.clauses:
        return None
    by_page: dict[str, dict[str, ClauseReport]] = defaultdict(dict)
    for name, clause in report.clauses.items():
        by_page[clause.page][name] = clause
    failing: dict[str, list[CaseReport]] = defaultdict(list)
    for case in report.cases:
        if case.id in shown and case.verdict != "nonstrict":
            for name in case.clauses:
                failing[name].append(case)
    titles = pages()
    order = [page for page in titles if page in by_page] + [page for page in by_page if page not in titles]
    groups = []
    for page in order:
        clauses = by_page[page]
        failed = sum(clause.failed > 0 for clause in clauses.values())
        note = f" {page}, {_count(len(clauses), 'clause')}" + (f", {failed} failed" if failed else "")
        rows = [_clause_row(name, clause, failing[name]) for name, clause in clauses.items()]
        table = _table(("Clause", "Says", "Cases", "Run", "Failed"), rows, "clauses")
        summary = tag("summary", tag("b", titles.get(page, page or "Elsewhere")), tag("small", note))
        groups.append(tag("details", summary, table, class_="fold-in", open=failed > 0 or len(order) == 1))
    heading = tag("h2", "Clauses ", tag("small", f"{len(report.clauses):,}"))
    says_ = (
        "By page of the specification. Of each clause: its cases for the declared roles, how many were run and failed."
    )
    intro = tag("p", says_)
    return "clauses", "Clauses", f"{len(report.clauses):,}", join([heading, intro, groups])


def _clause_row(name: str, clause: ClauseReport, failing: Sequence[CaseReport]) -> Markup:
    links = [[" ", _link(case)] for case in failing[:6]]
    more = f" and {len(failing) - 6} more" if len(failing) > 6 else None
    return tag(
        "tr",
        tag("td", tag("code", name), class_="id"),
        tag("td", prose(clause.text), tag("br") if links else None, links, more, class_="wide"),
        tag("td", str(clause.expected), class_="n", data_n="cases"),
        tag("td", str(clause.executed), class_="n", data_n="run"),
        tag("td", chip("fail", str(clause.failed)) if clause.failed else "0", class_="n", data_n="failed"),
        id=name,
        class_="bad" if clause.failed else None,
        data_find=True,
    )


def _cases(report: Report, shown: set[str]) -> Section | None:
    if not report.cases:
        return None
    groups = []
    for role in report.roles:
        cases = [case for case in report.cases if case.role == role]
        rows = [
            tag(
                "tr",
                tag("td", _link(case) if case.id in shown else tag("code", case.id), class_="id"),
                tag("td", case.level),
                tag("td", chip(case.verdict)),
                tag("td", str(case.runs), class_="n", data_n="runs"),
                tag("td", case.why, class_="wide"),
                id=None if case.id in shown else case.id,
                data_find=True,
            )
            for case in cases
        ]
        summary = tag("summary", tag("b", role), tag("small", f" {_count(len(cases), 'case')}"))
        table = _table(("Case", "Level", "Verdict", "Runs", "What it is about"), rows, "cases")
        groups.append(tag("details", summary, table, class_="fold-in"))
    heading = tag("h2", "All cases ", tag("small", f"{len(report.cases):,}"))
    return "cases", "All cases", f"{len(report.cases):,}", join([heading, groups])


_NUMBERS: Final = frozenset({"Cases", "Run", "Runs", "Failed"})


def _table(columns: Sequence[str], rows: Iterable[Markup], class_: str) -> Markup:
    head = tag("tr", [tag("th", name, scope="col", class_="n" if name in _NUMBERS else None) for name in columns])
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_=class_), class_="scroll")


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"
