"""A case that didn't pass, with all that helps to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from xtrack_conformance.report import CaseReport, Failure
from xtrack_conformance.reports import hex_dump, printable, shortened
from xtrack_conformance.reports.diff import Part, diff
from xtrack_conformance.reports.markup import Child, Markup, join, prose, tag

_CLASSES: Final = {
    "pass": "good", "conformant": "good", "nonstrict": "warn", "conformant-with-exceptions": "warn",
    "incomplete": "warn", "harness-error": "warn", "could-not-run": "off", "not-applicable": "off",
}  # fmt: skip

SIDE: Final = 1500
"""Characters of an expectation and of an outcome that are shown."""

STEP: Final = 240
"""Characters of a step that are shown."""

STEP_FAILED: Final = 1000
"""Characters of the step that failed."""


def class_of(verdict: str) -> str:
    """Return how a verdict looks: good, bad, warn or off."""
    return _CLASSES.get(verdict, "bad")


def chip(verdict: str, shown: str = "") -> Markup:
    """Return a verdict as a small label."""
    return tag("span", shown or verdict, class_=f"chip {class_of(verdict)}")


def card(case: CaseReport, *, is_open: bool) -> Markup:
    """Return a case with its failure."""
    failure = case.failure or Failure("")
    place = f", {failure.variant}" if failure.variant else ""
    meta = tag("span", tag("code", case.id), f" \N{MIDDLE DOT} {case.role}, {case.level}{place}", class_="meta")
    summary = tag("summary", chip(case.verdict), " ", tag("strong", failure.message), meta)
    return tag(
        "details",
        summary,
        tag("div", _inside(case, failure)),
        class_=f"case {class_of(case.verdict)}",
        id=case.id,
        open=is_open,
        data_find=True,
    )


def _inside(case: CaseReport, failure: Failure) -> Iterator[Child]:
    if case.excused:
        yield tag("p", tag("b", "Excused: "), case.excused)
    # The clause that the message names comes first: it is the one that was broken.
    for clause in sorted(failure.clauses, key=lambda clause: not _names(failure.message, clause.partition(" ")[0])):
        name, _, said = clause.partition(" ")
        yield tag("blockquote", tag("a", name, href=f"#{name}"), " ", prose(said))
    yield tag("p", "Why: ", case.why)
    yield _sides(failure)
    if failure.script:
        yield tag("h4", "Steps")
        yield tag("ol", [_step(failure, number) for number in range(len(failure.script))], class_="steps")
    if failure.given:
        yield tag("h4", "Given")
        yield tag("pre", _cut(failure.given), class_="fold")
    if failure.input:
        size = f"{failure.input_size:,} byte{'' if failure.input_size == 1 else 's'}"
        at = "" if failure.offset is None else f", marked at offset {failure.offset} (0x{failure.offset:x})"
        yield tag("h4", f"Input, {size}{at}")
        yield _dump(failure)
    if failure.stderr:
        yield tag("h4", "Its stderr, the last lines")
        yield tag("pre", "\n".join(failure.stderr), class_="fold")
    if failure.replay:
        yield tag("h4", "Ask again")
        yield tag("div", tag("pre", tag("code", failure.replay)), class_="replay")


def _names(message: str, clause: str) -> bool:
    return re.search(rf"\b{re.escape(clause)}(?![\d.]*\d)", message) is not None


def _sides(failure: Failure) -> Markup | None:
    if not failure.expected and not failure.got:
        return None
    left, right = diff(_cut(failure.expected), _cut(failure.got))
    if not failure.expected or not failure.got:
        left, right = [(False, failure.expected)], [(False, failure.got)]
    sides = []
    for title, parts, mark in (("Expected", left, "del"), ("Got", right, "ins")):
        if any(text for _, text in parts):
            sides.append(tag("div", tag("h4", title), tag("pre", _marked(parts, mark), class_="fold")))
    return tag("div", sides, class_="sides")


def _cut(text: str) -> str:
    return text if len(text) <= SIDE else f"{text[:SIDE]}..."


def _marked(parts: list[Part], mark: str) -> Markup:
    return join(tag(mark, text) if differs else text for differs, text in parts)


def _step(failure: Failure, index: int) -> Markup:
    number = index + 1
    is_failed = number == failure.step
    step = dict(failure.script[index])
    does = str(step.pop("do", ""))
    told = shortened(step, STEP_FAILED if is_failed else STEP) if step else ""
    if is_failed:
        return tag("li", tag("b", f"{does} "), told, tag("b", " \N{LEFTWARDS ARROW} failed"), class_="failed")
    return tag("li", tag("b", f"{does} "), told, class_="later" if failure.step and number > failure.step else None)


def _dump(failure: Failure) -> Markup:
    lines = []
    data = bytes.fromhex(failure.input)
    for line in hex_dump(data, failure.offset, failure.input_size, failure.input_start):
        if line.marked is None or not line.row:
            lines.append(join([line.text]) if line.row else tag("span", line.text))
            continue
        at, row = line.marked, line.row
        if at >= len(row):
            lines.append(join([line.text]))
            continue
        before, after = row[:at].hex(" "), row[at + 1 :].hex(" ")
        pad = " " * (47 - len(row.hex(" ")))
        lines.append(
            join(
                [
                    f"{line.offset:06x}  {before}{' ' if before else ''}",
                    tag("mark", row[at : at + 1].hex()),
                    f"{' ' if after else ''}{after}{pad}  {printable(row[:at])}",
                    tag("mark", printable(row[at : at + 1])),
                    printable(row[at + 1 :]),
                ]
            )
        )
    return tag("pre", Markup("\n".join(lines)), class_="dump")
