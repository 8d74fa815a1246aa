"""``xtrack doctor``."""

from __future__ import annotations

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, reading

SECTION = "Upkeep"

COLUMNS = out.columns("check", ("state", "status"), "finding")


@click.command("doctor", epilog=examples("xtrack doctor", "XTRACK_DIR=/data/xtrack xtrack doctor --json"))
@reading
def command(store: str | None, as_json: bool) -> int:
    """Find out why tracking doesn't work here: versions, settings, folders, locks, disk room, the store.

    Exit status 1 where something is wrong.
    """
    from xtrack_protocol.cli._checks import run_checks

    rows = [[check.name, check.state, check.finding] for check in run_checks(store)]
    if as_json:
        out.as_json(out.objects(COLUMNS, rows))
    elif out.on_terminal():
        _show(rows)
    else:
        out.table(COLUMNS, rows)
    return int(any(state == "error" for _, state, _ in rows))


def _show(rows: list[list[str]]) -> None:
    """Write findings whole, on as many lines as they take: what is cut here helps nobody."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from xtrack_protocol.decode.text import escape

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, state, finding in rows:
        table.add_row(Text(name), Text(state, style=out.COLOURS.get(state, "")), Text(escape(finding), overflow="fold"))
    Console(highlight=False).print(table)
