"""``xtrack stats``."""

from __future__ import annotations

from typing import Any

import attrs
import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._files import Reading, files_argument, read_files
from xtrack_protocol.cli._runs import examples, json_option
from xtrack_protocol.decode import Batch
from xtrack_protocol.session import StreamId

SECTION = "Files"


@attrs.define
class Span:
    """Events counted: how many, their payloads' bytes, and the times of the first and the last."""

    events: int = 0
    bytes: int = 0
    largest: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def add(self, timestamp_us: int | None, size: int) -> None:
        """Count one event."""
        self.events += 1
        self.bytes += size
        self.largest = max(self.largest, size)
        if timestamp_us is not None:
            self.first_us = timestamp_us if self.first_us is None else min(self.first_us, timestamp_us)
            self.last_us = timestamp_us if self.last_us is None else max(self.last_us, timestamp_us)

    def row(self) -> list[Any]:
        """Return the cells of a table."""
        return [self.events, self.bytes, self.largest, self.first_us, self.last_us]


_SPAN = out.columns(
    ("events", "number"), ("bytes", "number"), ("largest", "number"), ("first", "time"), ("last", "time")
)
FILES = out.columns("file", "kind", ("bytes", "number"))
TYPES = [out.Column("type"), *_SPAN]
RUNS = [out.Column("run_id", "id"), *_SPAN]
STREAMS = [*out.columns(("run_id", "id"), "worker", "session"), *_SPAN, out.Column("missing", "number")]


@attrs.define
class _Sums:
    total: Span = attrs.field(factory=Span)
    types: dict[str, Span] = attrs.field(factory=dict)
    runs: dict[str, Span] = attrs.field(factory=dict)
    streams: dict[StreamId, Span] = attrs.field(factory=dict)

    def take(self, batch: Batch, streams: list[StreamId | None]) -> None:
        """Count a batch."""
        for frame, stream in zip(batch.frames, streams, strict=True):
            envelope = frame.envelope
            if envelope is None:
                continue
            when = envelope.meta.timestamp_us if envelope.meta.seq > 0 else None
            spans = [self.total, self.types.setdefault(envelope.event_type, Span())]
            if stream is not None:
                spans += [self.runs.setdefault(stream.run_id, Span()), self.streams.setdefault(stream, Span())]
            for span in spans:
                span.add(when, frame.length)


@click.command("stats", epilog=examples("xtrack stats run.bin", "xtrack stats --json run.bin | jq .types"))
@files_argument
@json_option
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Count what is in files: by type, run and stream, with sizes in bytes and the time they span.

    Exit status 0; 1 where some frames are bad; 2 where a file can't be read.
    """
    sums = _Sums()
    readings = read_files(files, sums.take)
    report = readings[0].report
    missing = {stream: sum(last - first + 1 for first, last in ranges) for stream, ranges in report.missing().items()}
    parts = {
        "files": (FILES, [[reading.name, reading.kind, reading.size] for reading in readings]),
        "types": (TYPES, [[name, *span.row()] for name, span in sorted(sums.types.items())]),
        "runs": (RUNS, [[name, *span.row()] for name, span in sorted(sums.runs.items())]),
        "streams": (
            STREAMS,
            [
                [stream.run_id, stream.worker_id, stream.session_id, *span.row(), missing.get(stream, 0)]
                for stream, span in sorted(sums.streams.items())
            ],
        ),
    }
    if as_json:
        total = out.objects(_SPAN, [sums.total.row()])[0]
        made: dict[str, Any] = {"frames": report.frames, "bad": report.bad, **total}
        out.as_json(made | {name: out.objects(header, rows) for name, (header, rows) in parts.items()})
    else:
        for place, (header, rows) in enumerate(parts.values()):
            if place and not out.on_terminal():
                out.line()
            out.table(header, rows)
        out.remark(report.lines(most=0)[0])
    return _status(readings)


def _status(readings: list[Reading]) -> int:
    for reading in readings:
        if reading.problem is not None:
            out.remark(reading.problem)
    if any(reading.problem is not None for reading in readings):
        return 2
    return int(readings[0].report.bad > 0)
