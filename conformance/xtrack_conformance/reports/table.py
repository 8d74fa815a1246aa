"""A matrix of encoders and decoders, on a terminal and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator

from xtrack_conformance.matrix import Difference, Matrix
from xtrack_conformance.reports.markdown import code, plain
from xtrack_conformance.reports.markup import visible


def rows(matrix: Matrix) -> list[list[str]]:
    """Return the table: a line for each encoder, a column for each decoder, with the events that came through."""
    pairs = {(pair.encoder, pair.decoder): pair for pair in matrix.pairs}
    table = [["written by \\ read by", *matrix.decoders]]
    for encoder in matrix.encoders:
        line = [encoder]
        for decoder in matrix.decoders:
            pair = pairs[encoder, decoder]
            line.append(str(pair.agreed) if pair.agreed == pair.given else f"{pair.agreed} of {pair.given}")
        table.append(line)
    return table


def says(matrix: Matrix) -> str:
    """Return the outcome in a sentence."""
    if not matrix.pairs:
        return "No pair of an encoder and a decoder is here."
    asked = f"{_count(len(matrix.pairs), 'pair')}, {_count(matrix.events, 'event')}"
    if not matrix.differences:
        return f"{asked}: all agree."
    events = len({entry.case for entry in matrix.differences})
    return f"{asked}: {_count(len(matrix.differences), 'difference')}, in {_count(events, 'event')}."


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def as_text(matrix: Matrix, shown: int = 20) -> Iterator[str]:
    """Yield the lines for a terminal. ``shown``: differences that are told in full."""
    for entry in matrix.differences[:shown]:
        yield from map(visible, _difference(entry))
        yield ""
    if len(matrix.differences) > shown:
        yield f"... and {len(matrix.differences) - shown} more; --differences N shows more of them, --json FILE has all"
        yield ""
    for problem in matrix.problems:
        yield visible(f"problem: {problem}")
    table = [[visible(cell) for cell in line] for line in rows(matrix)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        first, *rest = (
            cell.ljust(width) if not n else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join([first, *rest]).rstrip()
    yield says(matrix)


def _difference(entry: Difference) -> Iterator[str]:
    where = f"{entry.decoder} ({entry.reader}) reads what {entry.encoder} wrote" if entry.decoder else entry.encoder
    yield f"{entry.case}, {where}: {entry.message}"
    yield f"    the {entry.blames} is wrong: {entry.encoder if entry.blames == 'encoder' else entry.decoder}"
    yield f"    event  {json.dumps(entry.event)[:1000]}"
    if entry.frame:
        yield f"    frame  {ascii(bytes.fromhex(entry.frame))[:1000]}"
    if entry.got:
        yield f"    read   {entry.got[:1000]}"


def as_markdown(matrix: Matrix, shown: int = 50) -> str:
    """Return the matrix as Markdown."""
    lines = ["# Encoders against decoders", "", says(matrix), ""]
    for number, line in enumerate(rows(matrix)):
        lines.append(f"| {' | '.join(map(plain, line))} |")
        if number == 0:
            lines.append(f"|---|{'--:|' * (len(line) - 1)}")
    if matrix.problems:
        lines += ["", "## Problems", "", *(f"- {plain(problem)}" for problem in matrix.problems)]
    if matrix.differences:
        lines += ["", f"## Differences ({len(matrix.differences)})", ""]
        for entry in matrix.differences[:shown]:
            first, *rest = _difference(entry)
            lines.append(f"- {plain(first)}  ")
            lines += [f"  {text.split(maxsplit=1)[0]} {code(text.split(maxsplit=1)[1])}  " for text in rest[1:]]
        if len(matrix.differences) > shown:
            lines.append(f"- and {len(matrix.differences) - shown} more")
    return "\n".join(lines) + "\n"
