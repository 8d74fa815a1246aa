"""Segments as they lie in a spool: their headers, what is in them, and the streams that they are parts of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from xtrack_protocol._value import Value
from xtrack_protocol.errors import NotASegment, SpoolError
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.spool.layout import segments
from xtrack_protocol.wire.records import RECORDS_START, Damage, Item, RecordDecoder, SegmentHeader, decode_header

_CHUNK: Final = 256 * 1024
"""Bytes read at a time, as of any file of frames."""


class Segment(Value, frozen=True):
    """A segment's file and what its header says."""

    path: Path
    header: SegmentHeader

    @property
    def stream(self) -> StreamId:
        """The stream that the segment is a part of."""
        return StreamId(self.header.run_id, self.header.worker_id, self.header.session_id)


def open_segment(path: Path) -> Segment | None:
    """Return the segment at ``path``; None where its header isn't written yet, or the file is gone.

    Raises NotASegment for a header that is damaged in both copies, SpoolError for a file that can't be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(RECORDS_START)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpoolError(path, f"can't be read: {error.strerror or error}") from error
    try:
        return Segment(path, decode_header(head, path))
    except NotASegment:
        if len(head) < RECORDS_START:
            return None
        raise


def read_segment(segment: Segment, offset: int = RECORDS_START, *, finished: bool) -> Iterator[tuple[Item, int]]:
    """Yield the items of a segment from ``offset`` on, each with the offset to go on from after it.

    ``finished``: nothing is written to it any more, so that what stands unfinished at its end is reported too.
    Raises SpoolError where the file can't be read, or is gone.
    """
    start = max(offset, RECORDS_START)
    doubtful = -1
    while True:
        for item in _read_items(segment, start, finished=finished):
            if isinstance(item, Damage) and not finished and item.offset != doubtful:
                # Perhaps a write that failed half-way, seen before the writer cut it off again: look once more.
                doubtful = start = item.offset
                break
            yield item, item.offset + item.size
        else:
            return


def _read_items(segment: Segment, start: int, *, finished: bool) -> Iterator[Item]:
    decoder = RecordDecoder(segment.header.salt_value, start)
    try:
        with segment.path.open("rb") as file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                yield from decoder.feed(chunk)
    except OSError as error:
        raise SpoolError(segment.path, f"can't be read: {error.strerror or error}") from error
    if finished:
        yield from decoder.finish()


def streams_of(run_dir: Path) -> list[StreamId]:
    """Return the streams in a run's folder, sorted. Segments that are no longer readable are passed over."""
    found = set()
    for path in segments(run_dir):
        try:
            segment = open_segment(path)
        except SpoolError:
            continue  # whoever reads its events will say so
        if segment:
            found.add(segment.stream)
    return sorted(found)
