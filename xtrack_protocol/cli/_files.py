"""What verbs about captured files have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from xtrack_protocol.decode import Batch, NotXTrack, Report, Source
from xtrack_protocol.decode.guess import looks_like
from xtrack_protocol.errors import NotASegment, XTrackError
from xtrack_protocol.session import StreamId
from xtrack_protocol.wire import RECORDS_START, SegmentHeader, sniff

_Callback = TypeVar("_Callback", bound=Callable[..., Any])


def files_argument(callback: _Callback) -> _Callback:
    """Add FILE..."""
    return click.argument("files", nargs=-1, required=True, metavar="FILE...")(callback)


@attrs.define
class Reading:
    """What came of reading a file. ``problem``: why it, or the rest of it, couldn't be read."""

    name: str
    report: Report
    kind: str = ""
    size: int = 0
    header: SegmentHeader | None = None
    problem: str | None = None
    header_lost: bool = False
    """Whether it is a segment whose header is damaged in both copies, without which no record can be checked."""


def read_files(
    names: Sequence[str], each: Callable[[Batch, list[StreamId | None]], None] | None = None
) -> list[Reading]:
    """Read files one after the other into one report; ``each`` gets every batch and the streams of its frames."""
    report = Report()
    readings = []
    for name in names:
        reading = Reading(name, report)
        readings.append(reading)
        try:
            for batch in Source(name).batches():
                if batch is None:
                    continue
                streams = report.take(batch)
                reading.kind = "segment" if batch.input.header else "frames"
                reading.header, reading.size = batch.input.header, batch.input.size
                if each is not None:
                    each(batch, streams)
        except NotASegment as error:
            reading.kind, reading.header_lost, reading.problem = "segment", True, str(error)
        except XTrackError as error:
            reading.problem = str(error)
        except OSError as error:
            cure = ". Name the files in it" if isinstance(error, IsADirectoryError) else ""
            reading.problem = f"{name}: {error.strerror or error}{cure}"
    return readings


def refuse_other_files(path: Path, name: str) -> None:
    """Raise NotXTrack for a file that is known to be something else. ``name``: what it is called for people."""
    with path.open("rb") as file:
        head = file.read(RECORDS_START)
    guess = looks_like(head) if sniff(head) == "other" else None
    if guess is not None:
        raise NotXTrack(name, guess, head)
