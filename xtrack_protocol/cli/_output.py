"""What verbs write: tables for people at a terminal, tab-separated lines for programs, JSON for both.

Off a terminal nothing is cut, coloured or rounded. Control characters in data never reach either, but for CSV off a
terminal, which has texts as they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import IO, Any, Final, Literal, TypeAlias

import attrs
import click
import msgspec

from xtrack_protocol.decode.streams import write_text
from xtrack_protocol.decode.text import (
    csv_text,
    duration_text,
    escape,
    escape_json,
    exact_number,
    free_as_json,
    iso_utc,
    json_line,
    local_time,
    number_as_json,
    short_number,
)
from xtrack_protocol.views.cells import Row, coloured, plain

Kind: TypeAlias = Literal["text", "id", "status", "number", "time", "duration", "json"]
"""How a column's values are written: ``time`` takes microseconds since the epoch, ``duration`` milliseconds."""

Format: TypeAlias = Literal["table", "jsonl", "csv"]

COLOURS: Final = {
    "completed": "green",
    "running": "cyan",
    "pending": "blue",
    "failed": "red",
    "killed": "yellow",
    "lost": "yellow",
    "ok": "green",
    "warning": "yellow",
    "error": "red",
}


@attrs.frozen
class Column:
    """A column: its title, also its name in JSON and CSV, and how its values are written."""

    title: str
    kind: Kind = "text"

    @property
    def exact_title(self) -> str:
        """The name where values are exact, which tells a duration's unit."""
        return f"{self.title}_ms" if self.kind == "duration" else self.title


def columns(*titles: str | tuple[str, Kind]) -> list[Column]:
    """Return columns from titles, or pairs of title and kind."""
    return [Column(title) if isinstance(title, str) else Column(*title) for title in titles]


def on_terminal() -> bool:
    """Whether people read what we write."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Return how many characters fit into a line of the terminal."""
    import shutil

    return shutil.get_terminal_size().columns


def shows_colours() -> bool:
    """Whether what we write may have colours."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def shows_unicode() -> bool:
    """Whether lines, blocks and braille can be written."""
    try:
        "⣿│▁…".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def picture_rows(rows: Iterable[Row]) -> None:
    """Write rows of spans, in colours where they are shown."""
    show = coloured if shows_colours() else plain
    write("".join(f"{show(row)}\n" for row in rows))


def value_text(value: Any) -> str:
    """Return any JSON value on one line: texts and numbers as they are, the rest as JSON."""
    if isinstance(value, str):
        return escape(value)
    if value is None or isinstance(value, bool):
        return json_line(value)
    if isinstance(value, (int, float)):
        return exact_number(value)
    return json_line(free_as_json(value))


def cell_text(value: Any, kind: Kind, *, exact: bool) -> str:
    """Return a cell. ``exact``: for programs, not for people."""
    if value is None:
        return "null" if kind == "json" else ""
    if kind == "number" and not isinstance(value, str):
        return exact_number(value) if exact else short_number(value)
    if kind == "time":
        return iso_utc(value) if exact else local_time(value)
    if kind == "duration":
        return str(value) if exact else duration_text(value)
    if kind == "json":
        if isinstance(value, float) and not exact:
            return short_number(value)
        return value_text(value)
    return escape(str(value))


def cell_json(value: Any, kind: Kind) -> Any:
    """Return a cell as JSON has it."""
    if value is None:
        return None
    if kind == "number":
        return number_as_json(value)
    if kind == "time":
        return iso_utc(value)
    return free_as_json(value) if kind == "json" else value


def write(text: str) -> None:
    """Write lines to standard output."""
    write_text(sys.stdout, text)


def line(text: str = "") -> None:
    """Write one line to standard output."""
    write(f"{text}\n")


def remark(text: str) -> None:
    """Tell people something on standard error."""
    sys.stdout.flush()
    click.echo(escape(text), err=True)


def as_json(value: Any) -> None:
    """Write one JSON value, indented."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    write_text(sys.stdout, f"{escape_json(text)}\n", "utf-8")


def table(
    header: Sequence[Column],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    marked: Collection[tuple[int, int]] = (),
    column: str = "column",
    cure: str = "--json has them all",
) -> None:
    """Write a table: aligned and cut to the terminal's width, or tab-separated and whole.

    ``marked``: places, row and column, of cells that stand out at a terminal. Where not all columns fit, a remark
    says how many don't; ``column`` is what one of them is called in it, and ``cure`` how to see them.
    """
    if on_terminal():
        left_out = _rich_table(header, rows, title, marked)
        if left_out:
            remark(f"{left_out} more {f'{column}s do' if left_out > 1 else f'{column} does'}n't fit here. {cure}")
        return
    lines = ["\t".join(escape(column.exact_title) for column in header)]
    lines += ["\t".join(_cells(header, row, exact=True)) for row in rows]
    write("\n".join(lines) + "\n")


def tabbed(header: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows without their titles, tab-separated."""
    write("".join("\t".join(_cells(header, row, exact=True)) + "\n" for row in rows))


def records(header: Sequence[Column], rows: Iterable[Sequence[Any]], form: Format) -> None:
    """Write rows as a table, as JSON objects one a line, or as CSV."""
    if form == "table":
        table(header, rows)
    elif form == "jsonl":
        for row in rows:
            write_text(sys.stdout, json_line(objects(header, [row])[0]) + "\n", "utf-8")
    else:
        write_csv(sys.stdout, header, rows)


def objects(header: Sequence[Column], rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return rows as JSON objects."""
    return [
        {column.exact_title: cell_json(value, column.kind) for column, value in zip(header, row, strict=True)}
        for row in rows
    ]


def write_csv(stream: IO[str], header: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV that no spreadsheet takes for formulas.

    Numbers stay numbers, and texts, but at a terminal, as they are.
    """
    import csv

    shown = escape if stream.isatty() else str
    writer = csv.writer(_UnixLines(stream))
    writer.writerow([csv_text(shown(column.exact_title)) for column in header])
    for row in rows:
        cells = []
        for column, value in zip(header, row, strict=True):
            is_text = isinstance(value, str)
            text = "" if value is None else shown(value) if is_text else cell_text(value, column.kind, exact=True)
            is_number = isinstance(value, (int, float)) or column.kind in {"time", "duration"}
            cells.append(text if is_number else csv_text(text))
        writer.writerow(cells)


class _UnixLines:
    """A stream for the csv module, which quotes a carriage return only where that ends its own lines, too."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        """Write one line."""
        return self._stream.write(f"{line.removesuffix(chr(13) + chr(10))}\n")


def _cells(header: Sequence[Column], row: Sequence[Any], *, exact: bool) -> list[str]:
    return [cell_text(value, column.kind, exact=exact) for column, value in zip(header, row, strict=True)]


def _rich_table(
    header: Sequence[Column],
    rows: Iterable[Sequence[Any]],
    title: str | None,
    marked: Collection[tuple[int, int]],
) -> int:
    """Write a table at a terminal; return how many columns didn't fit."""
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    titles = [escape(column.title) for column in header]
    cells = [_cells(header, row, exact=False) for row in rows]
    for number, place in marked:
        cells[number][place] += " *"
    natural = [max([cell_len(text), *(cell_len(row[place]) for row in cells)]) for place, text in enumerate(titles)]
    widths = fit([column.kind for column in header], natural, terminal_width())
    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False, padding=(0, 1))
    for column, text, width in zip(header, titles, widths, strict=False):
        justify: Literal["left", "right"] = "right" if column.kind in {"number", "duration"} else "left"
        made.add_column(Text(text), no_wrap=True, overflow="ellipsis", justify=justify, width=width)
    for number, texts in enumerate(cells):
        styled = []
        for place, (column, text, _) in enumerate(zip(header, texts, widths, strict=False)):
            style = COLOURS.get(text, "") if column.kind == "status" else ""
            styled.append(Text(text, style="bold green" if (number, place) in marked else style))
        made.add_row(*styled)
    Console(file=sys.stdout, highlight=False, width=terminal_width()).print(made)
    return len(header) - len(widths)


_GAP: Final = 3
_TEXT_MIN: Final = 8
_ID_MAX: Final = 40
_COLUMNS_MIN: Final = 2


def fit(kinds: Sequence[Kind], natural: Sequence[int], width: int) -> list[int]:
    """Return how wide to make columns, the first ones at least: what is no free text stays whole as long as it can.

    Texts share what is left; where that is too little for them, columns at the end are left out.
    """
    count = len(kinds)
    while True:
        room = width - 2 - _GAP * (count - 1)
        is_text = [
            kind in {"text", "json"} or (kind == "id" and size > _ID_MAX)
            for kind, size in zip(kinds[:count], natural, strict=False)
        ]
        texts = [place for place in range(count) if is_text[place]]
        room -= sum(natural[place] for place in range(count) if not is_text[place])
        needed = sum(min(natural[place], _TEXT_MIN) for place in texts)
        if room >= needed or count <= _COLUMNS_MIN:
            break
        count -= 1
    widths = list(natural[:count])
    room = max(room, len(texts))
    for left, place in zip(range(len(texts), 0, -1), sorted(texts, key=lambda place: natural[place]), strict=True):
        widths[place] = min(natural[place], max(1, room // left))
        room -= widths[place]
    return widths
