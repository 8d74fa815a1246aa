"""Reads a spool: finds its streams, and reads each from where a reader left off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import msgspec

from xtrack_protocol.errors import NotASegment, SpoolError
from xtrack_protocol.ir import Int64
from xtrack_protocol.limits import LIVENESS_LOST_US
from xtrack_protocol.runs import LostReason, StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool.layout import lock_path, lost_path, segments, write_private
from xtrack_protocol.spool.locks import is_locked
from xtrack_protocol.wire import RECORDS_START, Damage, Item, RecordDecoder, SegmentHeader, decode_header
from xtrack_protocol.wire.files import CHUNK
from xtrack_protocol.wire.records import read_object


@attrs.frozen
class Segment:
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
            while chunk := file.read(CHUNK):
                yield from decoder.feed(chunk)
    except OSError as error:
        raise SpoolError(segment.path, f"can't be read: {error.strerror or error}") from error
    if finished:
        yield from decoder.finish()


class _LostNote(msgspec.Struct, omit_defaults=True):
    """The content of a .lost file. spec: RST-7"""

    at_us: Int64 = msgspec.field(name="at")
    reason: LostReason
    after_seq: Int64 | None = None
    detail: str = ""


_decode_lost = msgspec.json.Decoder(_LostNote).decode  # once, at the import: see spool.shipping


def write_lost(run_dir: Path, lost: StreamLost) -> None:
    """Leave word that a stream's emitter was seen to die. Raises OSError."""
    note = _LostNote(lost.at_us, lost.reason, lost.after_seq or None, lost.detail)
    write_private(lost_path(run_dir, lost.stream.session_id), msgspec.json.encode(note))


def find_lost(run_dir: Path, stream: StreamId, last_seq: int, last_write_us: int) -> StreamLost | None:
    """Return what is known of the loss of a stream that hasn't ended its run. spec: FLD-6

    Somebody who saw it die has left word; or its lock is free and nothing was written for five minutes. A lock that
    is held, or that the file system can't tell of, says nothing.
    """
    try:
        note = read_object(_decode_lost, lost_path(run_dir, stream.session_id).read_bytes())
    except (OSError, ValueError, RecursionError):
        pass  # none was left, or it is damaged: the lock tells in time
    else:
        after_seq = last_seq if note.after_seq is None else note.after_seq  # spec: FLD-6.7
        return StreamLost(stream, note.at_us, note.reason, after_seq, note.detail)
    if is_locked(lock_path(run_dir, stream.session_id)) is not False:
        return None
    if time.time_ns() // 1000 - last_write_us < LIVENESS_LOST_US:
        return None
    return StreamLost(stream, last_write_us, "vanished", last_seq, "its process is gone and never ended the run")


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


def is_alive(run_dir: Path, stream: StreamId) -> bool:
    """Whether a process holds the stream's lock."""
    return is_locked(lock_path(run_dir, stream.session_id)) is True
