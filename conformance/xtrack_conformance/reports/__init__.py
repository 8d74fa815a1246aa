"""A report as people and other programs like it: a module each."""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs

from xtrack_conformance.cases import Step
from xtrack_conformance.report import Report, failures_of


def shortened(step: Step, limit: int = 160) -> str:
    """Return a step of a script as one line."""
    text = json.dumps(step, ensure_ascii=True)
    return text if len(text) <= limit else f"{text[:limit]}..."


@attrs.frozen
class DumpLine:
    """A line of a dump: the bytes of ``row``, which begin at ``offset``, or a remark where there are none.

    ``marked``: which of the row is meant.
    """

    text: str
    offset: int = 0
    row: bytes = b""
    marked: int | None = None


def hex_dump(data: bytes, marked: int | None, size: int, start: int = 0, lines: int = 8) -> Iterator[DumpLine]:
    """Yield the bytes as lines of sixteen, those around the marked one, with a line that marks it.

    ``data`` are those of ``size`` bytes that begin at ``start``, a multiple of sixteen.
    """
    first = start if marked is None else max(start, (marked // 16 - lines // 2) * 16)
    last = min(start + len(data), first + lines * 16)
    is_shown = marked is None
    for offset in range(first, last, 16):
        row = data[offset - start : min(offset + 16, last) - start]
        at = marked - offset if marked is not None and offset <= marked < offset + 16 else None
        yield DumpLine(f"{offset:06x}  {row.hex(' '):<47}  {printable(row)}", offset, row, at)
        if at is not None:
            is_shown = True
            yield DumpLine(f"{'':6}  {'   ' * at}^^ offset {marked}")
    if not is_shown:
        yield DumpLine(f"offset {marked} is behind the last byte")
    if last < size:
        yield DumpLine(f"... {size} bytes in all")


def printable(row: bytes) -> str:
    """Return bytes as text, with a point for each that is no ASCII."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)


def says(report: Report) -> str:
    """Return the verdict in a sentence or two."""
    bad = len(failures_of(report))
    cases = f"{bad:,} of {len(report.cases):,} cases" if bad != 1 else f"One of {len(report.cases):,} cases"
    nonstrict = sum(role.counts.get("nonstrict", 0) for role in report.roles.values())
    told = {
        "conformant": f"Nothing failed in {len(report.cases):,} cases.",
        "conformant-with-exceptions": "Nothing failed but what the baseline excuses.",
        "nonconformant": f"{cases} did not come to what the specification requires.",
        "incomplete": "Not everything could be run, so that there is no verdict on the whole."
        if report.cases
        else "No case was run.",
    }[report.verdict]
    if nonstrict:
        told += f" {nonstrict:,} {'is' if nonstrict == 1 else 'are'} nonstrict, which is not held against it."
    if report.only:
        told += f" Only a part was asked ({', '.join(report.only)}): this says nothing of the rest."
    if report.requirements.status == "draft":
        told += " The set of requirements is a draft."
    return told
