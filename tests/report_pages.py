"""Reports taken apart: a page and JUnit XML, with what must hold for each."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final
from xml.etree import ElementTree as ET

from xtrack_conformance.report import Report
from xtrack_conformance.reports.html import as_html
from xtrack_conformance.reports.junit import as_junit

SIZE_MAX: Final = 2_000_000
"""Bytes of a page."""

VOID = {"meta", "link", "input", "br"}
LINKS = {"href", "src", "action", "data", "srcset", "poster", "formaction"}


class Page(HTMLParser):
    """What stands in a page: complains of anything that isn't closed, and of what no page of ours has."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            if name in LINKS:
                self.links.append(value or "")
            if name == "style":
                assert re.fullmatch(r"flex:\d+", value or ""), value
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def text(self, tag: str) -> str:
        return "".join(self.texts.get(tag, []))


TAGS = {
    "html", "head", "meta", "link", "title", "style", "script", "body", "header", "nav", "main", "footer", "section",
    "div", "h1", "h2", "h3", "h4", "p", "small", "span", "a", "b", "i", "dl", "dt", "dd", "code", "pre", "input",
    "details", "summary", "strong", "blockquote", "mark", "del", "ins", "ol", "ul", "li",
    "table", "thead", "tbody", "tr", "th", "td", "br",
}  # fmt: skip


def check_page(report: Report) -> Page:
    text = as_html(report)
    assert len(text.encode()) < SIZE_MAX
    page = Page(text)
    assert page.tags <= TAGS
    assert len(page.ids) == len(set(page.ids))
    outside = {link for link in page.links if not link.startswith("#")} - {"data:,", report.testee["url"]}
    assert outside == set()
    assert sorted({link[1:] for link in page.links if link.startswith("#")} - set(page.ids)) == []
    assert text.count("<script") == 1
    assert "default-src 'none'" in text
    return page


def check_junit(report: Report) -> ET.Element:
    root = ET.fromstring(as_junit(report))
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert suite.attrib.keys() == {
            "name",
            "tests",
            "failures",
            "errors",
            "skipped",
            "time",
            "timestamp",
            "hostname",
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        cases = suite.findall("testcase")
        assert {child.tag for child in suite} <= {"properties", "testcase"}
        assert int(suite.attrib["tests"]) == len(cases)
        for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.attrib[name]) == sum(case.find(kind) is not None for case in cases)
        for case in cases:
            assert case.attrib.keys() == {"classname", "name", "time"}
            assert [child.tag for child in case] in ([], ["failure"], ["error"], ["skipped"], ["system-out"])
    assert root.attrib.keys() == {"name", "tests", "failures", "errors", "time"}
    for name in ("tests", "failures", "errors"):
        assert int(root.attrib[name]) == sum(int(suite.attrib[name]) for suite in root)
    return root
