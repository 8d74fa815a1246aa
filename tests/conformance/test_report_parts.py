"""Parts of reports: scripts, what is only recorded, differences, dumps, bytes far away."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_pages import check_junit, check_page

from xtrack_conformance.cases import Case, load_cases, select
from xtrack_conformance.judgement import Judgement, weigh
from xtrack_conformance.plan import Run
from xtrack_conformance.protocol import Hello
from xtrack_conformance.report import Report, clause_texts, make_report, page_of, pages, read_report
from xtrack_conformance.reports import hex_dump
from xtrack_conformance.reports.diff import diff
from xtrack_conformance.reports.html import as_html
from xtrack_conformance.reports.junit import as_junit
from xtrack_conformance.reports.markdown import as_markdown
from xtrack_conformance.reports.text import summary
from xtrack_conformance.runner import CaseResult

HELLO = Hello("n", "1", "x", "", ("collector", "decoder"), frozenset({"strict"}), 1)
SCRIPT = Case(
    "str-first", 1, "collector", "MUST", "valid", "what comes first is taken", ("FRM-2", "FRM-1"),
    script=({"do": "open", "run": "a"}, {"do": "feed", "seq": 1}, {"do": "expect", "seq": [1]}),
)  # fmt: skip


def told(*results: CaseResult) -> Report:
    return make_report(
        hello=HELLO, command=["x"], cases=[result.case for result in results], results=results, problems=[], seconds=1,
        replay=["suite", "run"],
    )  # fmt: skip


def result(case: Case, judgement: Judgement) -> CaseResult:
    verdict = weigh(judgement, case.level).verdict
    weighed = weigh(judgement, case.level)
    return CaseResult(case, verdict, 1, "", weighed, weighed.message, Run(case, "", ()))  # type: ignore[arg-type]


def test_a_script_shows_its_steps_and_the_one_that_failed() -> None:
    message = "step 3 (expect): nothing was applied"
    report = told(result(SCRIPT, Judgement("fail", message, "[1]", "[]", offset=2, input=b"\x00\x00\x00\x01{")))
    failure = report.cases[0].failure
    assert failure is not None
    assert failure.step == 3
    assert failure.script == SCRIPT.script
    assert failure.input == "000000017b"
    text = "\n".join(summary(report))
    assert '  -> step 3: {"do": "expect", "seq": [1]}' in text
    assert '     step 1: {"do": "open", "run": "a"}' in text
    page = as_html(report)
    assert check_page(report)
    assert '<li class="failed"><b>expect </b>{&quot;seq&quot;: [1]}<b> \N{LEFTWARDS ARROW} failed</b></li>' in page
    assert "Steps" in page
    assert "step 3 of 3" in as_markdown(report)
    assert '-> step 3: {"do": "expect"' in as_junit(report).replace("&gt;", ">")
    assert read_report(report.as_json()) == report


@pytest.mark.parametrize("message", ["it stops", "step 4 (x): no such step", "step 0: x", "the step 2"])
def test_a_message_that_names_no_step(message: str) -> None:
    failure = told(result(SCRIPT, Judgement("fail", message))).cases[0].failure
    assert failure is not None
    assert failure.step is None
    assert len(failure.script) == 3


@pytest.mark.parametrize("verdict", ["fail", "pass"])
def test_what_is_only_recorded_is_never_judged(verdict: str) -> None:
    [good] = select(load_cases(), ["val-int64-max"])
    info = attrs.evolve(good, id="val-info", level="INFO")
    seen = result(info, Judgement(verdict, "seen to be odd", outcome="odd"))
    assert seen.verdict == "pass"
    report = told(seen, result(good, Judgement("pass")))
    assert report.verdict == "conformant"
    assert report.cases[0].recorded == "seen to be odd"
    assert "seen to be odd" in check_page(report).text("td")
    assert told(seen).verdict == "incomplete", "where nothing is judged, nothing is conformant"


@pytest.mark.parametrize("verdict", ["crash", "harness-error", "flaky"])
def test_a_breakdown_where_nothing_is_judged_is_told_and_not_held_against_it(verdict: str) -> None:
    [good] = select(load_cases(), ["val-int64-max"])
    info = attrs.evolve(good, id="val-info", level="INFO")
    broken = CaseResult(info, verdict, 1, reason="it ended", run=Run(info, "", ()))  # type: ignore[arg-type]
    report = told(broken, result(good, Judgement("pass")))
    assert report.verdict == "conformant"
    assert report.cases[0].verdict == verdict
    assert {entry.failed for entry in report.clauses.values()} == {0}
    check_page(report)
    check_junit(report)


# ------------------------------------------------------------------------------------------ parts


def test_every_clause_has_its_page() -> None:
    for clause in clause_texts():
        assert page_of(clause) in pages(), clause
    assert page_of("XYZ-1") == ""


SMALL = st.text("ab {}'\",:1", max_size=30)


@given(SMALL | st.lists(SMALL, max_size=5).map("; ".join), SMALL)
def test_a_diff_keeps_both_texts(one: str, other: str) -> None:
    left, right = diff(one, other)
    for parts, text in ((left, one), (right, other)):
        lists = "; " in one or "; " in other
        assert "".join(part for _, part in parts) == (text.replace("; ", "\n") + "\n" if lists else text)
    if one == other:
        assert not any(differs for differs, _ in left + right)


def dump(data: bytes, marked: int | None, start: int = 0, size: int | None = None) -> list[str]:
    return [line.text for line in hex_dump(data, marked, len(data) if size is None else size, start)]


def test_a_dump_shows_what_is_marked() -> None:
    assert dump(b"", None) == []
    assert dump(b"ab\x00", 2) == [
        "000000  61 62 00                                         ab.",
        "              ^^ offset 2",
    ]
    assert dump(b"abc", 3)[-1] == "                 ^^ offset 3", "right behind the last byte"
    assert dump(bytes(16), 16)[-1] == "offset 16 is behind the last byte"
    assert dump(b"abc", 99)[-1] == "offset 99 is behind the last byte"
    far = dump(bytes(2000), 16_000_500, 16_000_000 // 16 * 16 - 512 // 16 * 16, 17_000_000)
    assert any("^^ offset 16000500" in line for line in far)
    assert far[-1] == "... 17000000 bytes in all"


def test_a_report_shows_the_bytes_around_a_far_offset() -> None:
    [case] = select(load_cases(), ["frm-limit-equal"])
    report = told(attrs.evolve(result(case, Judgement("fail", "x", offset=1_048_000)), case=case))
    failure = report.cases[0].failure
    assert failure is not None
    assert failure.input_start <= 1_048_000 < failure.input_start + len(failure.input) // 2
    assert failure.input_start % 16 == 0
    assert "^^ offset 1048000" in "\n".join(summary(report))
