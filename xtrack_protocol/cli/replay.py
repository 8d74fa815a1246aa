"""``xtrack replay``."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._files import refuse_other_files
from xtrack_protocol.cli._runs import examples, opened, reading
from xtrack_protocol.decode.show import reason_of
from xtrack_protocol.decode.source import STDIN
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


def parse_files(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of files that are there, or ``-`` for standard input. Raises BadParameter."""
    if names.count(STDIN) > 1:
        raise click.BadParameter("standard input can be read once")
    kind = click.Path(exists=True, dir_okay=False, allow_dash=True)
    return tuple(str(kind(name, option, context)) for name in names)


@contextmanager
def _paths(names: tuple[str, ...]) -> Iterator[list[tuple[str, Path]]]:
    """Give the files, each with what it is called.

    Standard input is kept in a file meanwhile: what may go into the store is known only when all of it has been seen.
    """
    if STDIN not in names:
        yield [(name, Path(name)) for name in names]
        return
    with tempfile.TemporaryDirectory(prefix="xtrack-replay-") as folder:
        kept = Path(folder) / "stdin"
        with kept.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [("<stdin>", kept) if name == STDIN else (name, Path(name)) for name in names]


@click.command(
    "replay",
    epilog=examples(
        "xtrack replay run.bin",
        "xtrack replay run.bin --speed 10 --run-id again",
        "ssh gpu1 cat run.bin | xtrack replay -",
        "xtrack replay ~/.xtrack/spool/RUN/*.xseg --store sqlite:///runs.db",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", callback=parse_files)
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

    FILE is a file of plain frames or a segment of a spool; - is standard input, which is read to its end first.

    Exit status 1 where frames were damaged or in conflict with what the store holds; the others are stored.
    """
    from xtrack_protocol.collector import Collector

    with _paths(files) as paths:
        for name, path in paths:
            refuse_other_files(path, name)
        with opened(store, writing=True, new=True) as target:
            collector = Collector(target)
            replayed = [collector.replay_file(path, run_id=run_id, speed=speed) for _, path in paths]
    reports = [attrs.evolve(report, path=name) for report, (name, _) in zip(replayed, paths, strict=True)]
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
