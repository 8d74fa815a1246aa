"""Reports: the same facts as JSON, a page, Markdown, JUnit XML and a badge, whatever a testee says of itself."""

# ruff: noqa: E501

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import attrs
import pytest
from conformance_suite import FOLDER, HARNESSES, MUTANT, TESTEE
from hypothesis import given
from hypothesis import strategies as st
from report_pages import Page, check_junit, check_page

from xtrack_conformance import cli
from xtrack_conformance.report import (
    CaseReport,
    Failure,
    Report,
    ReportError,
    read_report,
)
from xtrack_conformance.reports import says
from xtrack_conformance.reports.badge import as_endpoint, as_svg
from xtrack_conformance.reports.html import as_html
from xtrack_conformance.reports.junit import as_junit
from xtrack_conformance.reports.markdown import as_markdown, code, plain
from xtrack_conformance.reports.text import summary

CODEC = [word for role in ("encoder", "decoder", "framer") for word in ("--role", role)]


def run(folder: Path, name: str, *words: str) -> tuple[int, Report]:
    path = folder / f"{name}.json"
    options, command = words[: words.index("--")], words[words.index("--") :]
    forms = ["--html", "html", "--markdown", "md", "--junit", "xml", "--badge", "svg"]
    paths = [str(folder / f"{name}.{word}") if number % 2 else word for number, word in enumerate(forms)]
    status = cli.main(["run", *options, "--report", str(path), *paths, *command])
    return status, read_report(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, Report]:
    """Reports of real runs: conformant, with failures, broken down, of a part, and of a testee that refuses all."""
    python = sys.executable
    baseline = folder / "baseline.json"
    baseline.write_text('{"cases": {"env-seq-zero": "they count from zero", "env-seq-first": "a guess"}}')
    return {
        "conformant": run(folder, "conformant", *CODEC, "--", python, str(TESTEE))[1],
        "failing": run(folder, "failing", "--case", "frm-*", "--", python, str(MUTANT), "offset-of-payload")[1],
        "encoding": run(folder, "encoding", "--case", "enc-*", "--", python, str(MUTANT), "writes-no-context")[1],
        "nonstrict": run(folder, "nonstrict", "--case", "err-*", "--", python, str(MUTANT), "has-one-class")[1],
        "strict": run(folder, "strict", "--case", "jsn-token-*", "--", python, str(MUTANT), "strict-only")[1],
        "excused": run(folder, "excused", "--case", "env-seq-*", "--baseline", str(baseline), "--", python, str(MUTANT), "seq-zero-accepted")[1],
        "crashing": run(folder, "crashing", "--case", "VAL-1", "--", python, str(HARNESSES), "crash")[1],
        "noisy": run(folder, "noisy", "--case", "FRM-2", "--", python, str(HARNESSES), "noise-at-the-end")[1],
        "refusing": run(folder, "refusing", *CODEC, "--", python, str(HARNESSES), "refuses-all")[1],
    }  # fmt: skip


NAMES = ["conformant", "failing", "encoding", "nonstrict", "strict", "excused", "crashing", "noisy", "refusing"]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_a_real_run(name: str, reports: dict[str, Report], folder: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    report = reports[name]
    schema = json.loads((FOLDER / "xtrack_conformance" / "schemas" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    written = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(written)] == []
    assert json.loads(report.as_json()) == written
    check_page(report)
    check_junit(report)
    for suffix, form in (("html", as_html), ("md", as_markdown), ("xml", as_junit), ("svg", as_svg)):
        assert (folder / f"{name}.{suffix}").read_text(encoding="utf-8") == form(report), suffix


def test_the_page_of_a_conformant_run(reports: dict[str, Report]) -> None:
    report = reports["conformant"]
    page = check_page(report)
    assert report.verdict == "conformant"
    assert report.requirements.sha256 in page.text("code")
    assert set(page.ids) >= {case.id for case in report.cases} | set(report.clauses) | {"clauses", "cases", "roles"}
    assert not set(page.ids) & {"failures", "problems", "nonstrict", "excused"}


def test_the_page_of_a_failure(reports: dict[str, Report]) -> None:
    page = check_page(reports["failing"])
    assert "its offset is 90, not 86 (ERR-3)" in page.text("strong")
    assert "[86, 172) bad_type" in page.text("del")
    assert "[90, 176) bad_type" in page.text("ins")
    assert page.texts["mark"][:2] == ["00", "."]
    assert "Input, 258 bytes, marked at offset 86 (0x56)" in page.text("h4")
    assert "--case frm-bad-type-between -- " in page.text("code")
    assert {"ERR-3", "FRM-5.4", "failures"} <= set(page.ids)
    card = as_html(reports["failing"]).partition('id="frm-bad-type-between"')[2]
    clause = card.index("The offset of an error MUST be that")
    assert clause < card.index("Any other error MUST cost exactly"), "the broken clause is first"


def test_the_page_has_what_an_encoder_was_given(reports: dict[str, Report]) -> None:
    page = check_page(reports["encoding"])
    assert '"ctx": {"phase": "text"' in page.text("pre")
    assert "'ctx'" in page.text("del")


def test_the_page_of_what_is_not_failed(reports: dict[str, Report]) -> None:
    assert "nonstrict" in check_page(reports["nonstrict"]).ids
    assert {"not-applicable"} <= set(check_page(reports["strict"]).ids)
    assert "the testee has no lenient" in check_page(reports["strict"]).text("b")
    excused = check_page(reports["excused"])
    assert {"excused", "problems"} <= set(excused.ids)
    assert "they count from zero" in excused.text("p")
    assert "env-seq-first stands in the baseline, and passes. Take it out." in excused.text("li")
    assert "a line that answers nothing" in check_page(reports["noisy"]).text("li")


def test_a_crash_brings_its_stderr(tmp_path: Path, capsys: Any) -> None:
    script = tmp_path / "testee.py"
    trigger = "if b'9223372036854775807' in base64.b64decode(json.loads(line).get('payload', '')): sys.exit('out of <cheese>')"
    script.write_text(
        f"import sys, json, base64\nsys.path.insert(0, {str(TESTEE.parent)!r})\nimport testee\nt = testee.Testee()\n"
        f"for line in sys.stdin:\n    {trigger}\n    r = json.loads(line)\n"
        "    print(json.dumps({'id': r['id'], **t.answer(r)}), flush=True)\n"
    )
    status, report = run(tmp_path, "crash", "--case", "val-int64-max", "--", sys.executable, str(script))
    assert (status, report.verdict) == (1, "nonconformant")
    failure = report.cases[0].failure
    assert failure is not None
    assert failure.stderr == ("out of <cheese>",)
    assert failure.message == "its output has ended, exit status 1"
    assert "out of <cheese>" in check_page(report).text("pre")
    assert "stderr: out of <cheese>" in capsys.readouterr().out


def test_junit_tells_apart_what_failed_broke_and_was_left_out(reports: dict[str, Report]) -> None:
    def kinds(name: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for case in check_junit(reports[name]).iter("testcase"):
            for child in case:
                found.setdefault(child.tag, set()).add(case.attrib["name"])
        return found

    failed = {case.id for case in reports["failing"].cases if case.verdict == "fail"}
    assert kinds("failing") == {"failure": failed}
    assert kinds("conformant") == {}
    assert kinds("nonstrict").keys() == {"system-out"}
    assert kinds("strict").keys() == {"skipped"}
    assert kinds("excused") == {"skipped": {"env-seq-zero"}, "error": {"stale-1"}}
    assert kinds("crashing").keys() == {"error"}
    assert kinds("noisy") == {"error": {"problem-1"}}
    [failure] = check_junit(reports["failing"]).findall(".//testcase[@name='frm-bad-type-between']/failure")
    assert failure.attrib["type"] == "fail"
    assert "^^ offset 86" in (failure.text or "")
    assert "replay: " in (failure.text or "")


def test_markdown(reports: dict[str, Report]) -> None:
    text = as_markdown(reports["failing"])
    assert text.startswith("# ❌ nonconformant: xtrack-protocol ")
    assert "| framer | nonconformant | " in text
    assert "- **fail** `frm-bad-type-between`: its offset is 90, not 86 (ERR-3)  \n" in text
    assert "--case frm-bad-type-between -- " in text
    assert "| ERR-3 | " in text
    assert "# ✅ conformant" in as_markdown(reports["conformant"])
    assert len(as_markdown(reports["refusing"])) < 65_536, "what a comment on GitHub may have"


def test_badges(reports: dict[str, Report]) -> None:
    whole = attrs.evolve(reports["conformant"], only=())
    endpoint = json.loads(as_endpoint(whole))
    assert endpoint == {
        "schemaVersion": 1,
        "label": "XTrack 1 conformance",
        "message": "conformant: encoder, decoder, framer",
        "color": "brightgreen",
    }
    part = json.loads(as_endpoint(reports["conformant"]))
    assert (part["message"], part["color"]) == ("conformant (a part)", "lightgrey"), "a part proves nothing of the rest"
    assert json.loads(as_endpoint(reports["failing"]))["color"] == "red"
    for report in reports.values():
        svg = ET.fromstring(as_svg(report))
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        assert next(node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")) == "XTrack 1 conformance"


def test_report_shows_again_what_run_wrote(
    reports: dict[str, Report], folder: Path, tmp_path: Path, capsys: Any
) -> None:
    page, badge = tmp_path / "page.html", tmp_path / "badge.json"
    capsys.readouterr()
    assert cli.main(["report", str(folder / "failing.json"), "--html", str(page), "--badge", str(badge)]) == 0
    assert page.read_text(encoding="utf-8") == (folder / "failing.html").read_text(encoding="utf-8")
    assert json.loads(badge.read_text(encoding="utf-8"))["schemaVersion"] == 1
    out = capsys.readouterr().out
    assert "FAIL frm-bad-type-between" in out
    assert out.endswith("verdict: nonconformant\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no report"),
        ("[]", "no report of this version"),
        ('{"schema": "xtrack-conformance-report/0"}', "no report of this version"),
        ('{"schema": "xtrack-conformance-report/1"}', "no report: required field missing"),
        ("[" * 100_000, "no report"),
    ],
)
def test_what_is_no_report(text: str, reason: str, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(ReportError, match=reason):
        read_report(text)
    path = tmp_path / "report.json"
    path.write_text(text)
    assert cli.main(["report", str(path)]) == cli.USAGE
    assert reason in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "none.json")]) == cli.USAGE


def test_a_sentence_for_each_verdict(reports: dict[str, Report]) -> None:
    draft = attrs.evolve(reports["conformant"], only=())
    assert says(draft).startswith(f"Nothing failed in {len(draft.cases):,} cases.")
    assert "this says nothing of the rest" in says(reports["failing"])
    assert "nothing was run" not in says(attrs.evolve(draft, verdict="incomplete", cases=()))
    assert "No case was run." in says(attrs.evolve(draft, verdict="incomplete", cases=()))


# ------------------------------------------------------------------------------------------ hostile texts

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onload='x", "</style></title></pre>--><b>", "]]>", "&amp;&#0;",
    "\x00\x1b[2J\x07\x9b", "\u202eesrever\u2066", "\ud800\udfff", "a\r\nb\tc", "`code` **bold** [x](javascript:alert(1)) | <b>", "``", "\ufffe\uffff",
    "\U000e0001\u200b", "", " ", "%00%0a", "${x}", "javascript:alert(1)",
]  # fmt: skip


def poisoned(report: Report, text: str) -> Report:
    """Return a report in which everything that comes from a testee, or a file of its makers, is ``text``."""

    def poison(case: CaseReport) -> CaseReport:
        failure = case.failure or Failure("")
        changed = attrs.evolve(
            failure, message=text, expected=text, got=f"{text}; {text}", stderr=(text,), replay=text, variant=text, given=text,
            script=({"do": text, text: [text]},),
        )  # fmt: skip
        return attrs.evolve(case, failure=changed, excused=text if case.excused else None, recorded=text, why=text)

    testee = {**report.testee, "name": text, "version": text, "language": text, "url": text, "capabilities": [text]}
    return attrs.evolve(
        report, testee=testee, command=(text, text), problems=(text,), stale=(text,), platform=text, only=(text,),
        cases=tuple(map(poison, report.cases)),
    )  # fmt: skip


FORMS: list[Callable[[Report], str]] = [as_html, as_markdown, as_junit, as_svg, as_endpoint]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_a_testee_says_breaks_out(text: str, reports: dict[str, Report]) -> None:
    for name in ("failing", "excused", "nonstrict"):
        report = poisoned(reports[name], text)
        check_page(report)
        check_junit(report)
        ET.fromstring(as_svg(report))
        for form in FORMS:
            shown = form(read_report(report.as_json()))
            shown.encode("utf-8")
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown), form
        for line in summary(report):
            assert line.isprintable(), line
    plainly = re.sub(r"(`+).*?\1", "", plain(text))
    assert not re.search(r"(?<!\\)[<>`|*\[\]]", plainly)


def test_only_a_web_address_becomes_a_link(reports: dict[str, Report]) -> None:
    def links(url: str) -> list[str]:
        testee = {**reports["noisy"].testee, "url": url}
        return Page(as_html(attrs.evolve(reports["noisy"], testee=testee))).links

    assert "https://example.org/x?a=1&b=2" in links("https://example.org/x?a=1&b=2")
    for url in ("javascript:alert(1)", "data:text/html,x", "//example.org", "ftp://example.org"):
        assert url not in links(url)


@given(st.text(max_size=40))
def test_code_in_markdown_ends_where_it_should(text: str) -> None:
    line = code(text)
    if line:
        ticks = re.match("`+", line)
        assert ticks
        assert line.endswith(ticks[0])
        assert ticks[0] not in line[len(ticks[0]) : -len(ticks[0])].strip("`") or ticks[0] == "`"
    assert "\n" not in line


def test_a_thousand_failures_stay_a_page_that_opens(reports: dict[str, Report]) -> None:
    report = reports["refusing"]
    page = check_page(report)
    failed = {case.id for case in report.cases if case.verdict != "pass"}
    assert len(failed) > 900
    assert failed <= set(page.ids)


def lines_of(report: Report) -> Iterator[str]:
    yield from summary(report)


def test_a_terminal_that_has_no_unicode(reports: dict[str, Report], monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from xtrack_conformance.verbs.report import show

    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    show(lines_of(poisoned(reports["failing"], "größer")))
    out.seek(0)
    assert "gr\\xf6\\xdfer" in out.read()
