"""``xtrack verify``."""

from __future__ import annotations

from typing import Any

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._files import Reading, files_argument, read_files
from xtrack_protocol.cli._runs import examples, json_option
from xtrack_protocol.decode.show import reason_of

SECTION = "Files"

COLUMNS = out.columns(
    "file", "kind", ("frames", "number"), ("bad", "number"), ("missing", "number"), ("result", "status")
)


def missing_count(reading: Reading) -> int:
    """Return how many seqs are missing in a file."""
    return sum(last - first + 1 for ranges in reading.report.missing().values() for first, last in ranges)


def result_of(reading: Reading) -> str:
    """Return what is to be said of a file in one word."""
    report = reading.report
    if reading.problem is not None and not reading.header_lost:
        return "unreadable"
    if report.bad > report.torn or reading.header_lost:
        return "damaged"
    if missing_count(reading):
        return "incomplete"
    return "torn" if report.torn else "ok"


@click.command("verify", epilog=examples("xtrack verify run.bin", "xtrack verify ~/.xtrack/spool/RUN/*.xseg"))
@files_argument
@json_option
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Check files: every checksum of a segment, the framing of plain frames, and that no seq is missing.

    The result of a file is ok; torn, where a segment ends in a record that was never finished, which holds no event
    that was promised; damaged; incomplete, where seqs are missing; or unreadable. Exit status 0 for ok and torn, 1 for
    damaged and incomplete, 2 for unreadable.
    """
    readings = [read_files([name])[0] for name in files]
    results = [result_of(reading) for reading in readings]
    if as_json:
        out.as_json([_json(reading, result) for reading, result in zip(readings, results, strict=True)])
    else:
        rows = []
        for reading, result in zip(readings, results, strict=True):
            report = reading.report
            rows.append([reading.name, reading.kind, report.frames, report.bad, missing_count(reading), result])
        out.table(COLUMNS, rows)
        for reading in readings:
            if reading.problem is not None:
                out.remark(reading.problem)
            for text in reading.report.lines()[1:]:
                out.remark(text)
    if "unreadable" in results:
        return 2
    return int(any(result in {"damaged", "incomplete"} for result in results))


def _json(reading: Reading, result: str) -> dict[str, Any]:
    report = reading.report
    return {
        "file": reading.name,
        "kind": reading.kind,
        "frames": report.frames,
        "bad": report.bad,
        "result": result,
        "problem": reading.problem,
        "damage": [
            {"offset": error.offset, "length": error.length, "error": error.kind, "reason": reason_of(error)}
            for _, error in report.damage
        ],
        "missing": [
            {
                "run_id": stream.run_id,
                "worker_id": stream.worker_id,
                "session_id": stream.session_id,
                "seqs": [list(item) for item in ranges],
            }
            for stream, ranges in report.missing().items()
        ],
    }
