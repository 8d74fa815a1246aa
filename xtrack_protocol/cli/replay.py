"""``xtrack replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._files import refuse_other_files
from xtrack_protocol.cli._runs import examples, opened, reading
from xtrack_protocol.decode.show import reason_of
from xtrack_protocol.decode.text import escape

SECTION = "Files"

_COUNTS = ("frames", "stored", "duplicates", "conflicts", "dropped", "control", "no_run", "damaged", "unverified")


def parse_speed(_: click.Context, __: click.Parameter, text: str) -> Any:
    """Return ``instant``, ``realtime`` or a factor."""
    if text in {"instant", "realtime"}:
        return text
    try:
        factor = float(text.rstrip("x"))
    except ValueError:
        raise click.BadParameter(f"{text!r} is none of instant, realtime, 2, 0.5, ...") from None
    if not 0 < factor < float("inf"):
        raise click.BadParameter(f"{text!r} must be above 0")
    return factor


@click.command(
    "replay",
    epilog=examples(
        "xtrack replay run.bin",
        "xtrack replay run.bin --speed 10 --run-id again",
        "xtrack replay ~/.xtrack/spool/RUN/*.xseg --store sqlite:///runs.db",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--speed",
    default="instant",
    show_default=True,
    callback=parse_speed,
    metavar="SPEED",
    help="instant; realtime, as far apart as the events' times; or a factor: 2 is twice as fast.",
)
@click.option("--run-id", metavar="ID", help="Put the events into this run. The file must hold one run only.")
@reading
def command(files: tuple[str, ...], speed: Any, run_id: str | None, store: str | None, as_json: bool) -> int:
    """Feed captured files into a store, which is made where there is none. A second time changes nothing.

    Exit status 1 where frames were damaged or in conflict with what the store holds; the others are stored.
    """
    from xtrack_protocol.collector import Collector

    for name in files:
        refuse_other_files(Path(name))
    with opened(store, writing=True, new=True) as target:
        collector = Collector(target)
        reports = [collector.replay_file(name, run_id=run_id, speed=speed) for name in files]
    header = out.columns("file", *((name, "number") for name in _COUNTS), "runs")
    if as_json:
        out.as_json([_json(report) for report in reports])
    else:
        rows = [
            [report.path, *(getattr(report, name) for name in _COUNTS), " ".join(report.runs)] for report in reports
        ]
        out.table(header, rows)
        for report in reports:
            for error in report.damage[:20]:
                where = f"bytes {error.offset} on, {error.length} bytes"
                out.remark(f"{report.path}: {where}: {error.kind}: {reason_of(error)}")
            for stream in report.ambiguous_streams:
                out.remark(f"{report.path}: {escape(str(stream))} holds different events under one seq")
    return int(any(report.damaged or report.conflicts for report in reports))


def _json(report: Any) -> dict[str, Any]:
    made = {"file": report.path, **{name: getattr(report, name) for name in _COUNTS}, "runs": list(report.runs)}
    made["damage"] = [
        {"offset": error.offset, "length": error.length, "error": error.kind, "reason": reason_of(error)}
        for error in report.damage
    ]
    made["ambiguous_streams"] = [attrs.asdict(stream) for stream in report.ambiguous_streams]
    return made
