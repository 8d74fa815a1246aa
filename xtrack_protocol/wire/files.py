"""Files of frames, read lazily: plain captures and segments of checked records, told apart by their magic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.limits import FILE_LIMITS, DecodeLimits
from xtrack_protocol.wire.framing import Frame, decode_payload
from xtrack_protocol.wire.records import (
    HEADER_BLOCK,
    RECORDS_START,
    SEGMENT_MAGIC,
    Damage,
    Item,
    Record,
    RecordDecoder,
    SegmentHeader,
    decode_header,
)
from xtrack_protocol.wire.salvage import SalvageDecoder

CHUNK: Final = 256 * 1024
"""Bytes read at a time: large enough for the disk, small enough for a bounded memory."""


def sniff(head: bytes) -> Literal["frames", "segment", "other"]:
    """Tell from a file's first bytes, of which 8,192 are enough, what it holds. An empty file holds no frames.

    Either copy of a segment's header will do. spec: RST-8
    """
    if head.startswith(SEGMENT_MAGIC) or head.startswith(SEGMENT_MAGIC, HEADER_BLOCK):
        return "segment"
    return "frames" if not head or head[0] == 0 else "other"


def stream_file(
    path: str | Path, *, limits: DecodeLimits = FILE_LIMITS, lenient: bool = True, strict: bool = False
) -> Iterator[Frame]:
    """Yield the frames of the file at ``path`` in order, reading only as far as asked. spec: RST-1, RST-8

    Memory is bounded by ``limits.max_frame`` and a chunk, whatever the file's size. Damage is a Frame with an error,
    and reading goes on after it (spec: FRM-6); ``strict`` stops after the first. Raises OSError where the file
    can't be read, and NotASegment for a segment without an intact header.
    """
    with Path(path).open("rb") as file:
        for frame in read_frames(file, limits=limits, lenient=lenient, name=str(path)):
            yield frame
            if strict and frame.error:
                return


def read_frames(
    file: BinaryIO, *, limits: DecodeLimits = FILE_LIMITS, lenient: bool = True, name: str = "input"
) -> Iterator[Frame]:
    """Yield the frames of an open binary file, a pipe too; as :func:`stream_file`. ``name`` is for messages."""
    head = b""
    while len(head) < RECORDS_START and (chunk := file.read(RECORDS_START - len(head))):
        head += chunk  # a pipe gives what it has
    if sniff(head) == "segment":
        yield from _segment_frames(file, decode_header(head, name), limits, lenient=lenient)
        return
    salvage = SalvageDecoder(limits, lenient)
    yield from salvage.feed(head)
    while chunk := file.read(CHUNK):
        yield from salvage.feed(chunk)
    yield from salvage.finish()


def read_items(file: BinaryIO, header: SegmentHeader) -> Iterator[Item]:
    """Yield what follows the header in the open segment ``file``: records, damage and the torn tail."""
    decoder = RecordDecoder(header.salt_value)
    while chunk := file.read(CHUNK):
        yield from decoder.feed(chunk)
    yield from decoder.finish()


def item_frame(item: Item, limits: DecodeLimits, *, lenient: bool) -> Frame:
    """Return the Frame that a record, damage or a torn tail of a segment amounts to."""
    if isinstance(item, Record):
        return decode_payload(item.payload, item.offset, limits, lenient=lenient)
    if isinstance(item, Damage):
        seq = "" if item.seq is None else f" (seq {item.seq})"
        error = DecodeError("bad_checksum", item.reason + seq, offset=item.offset, length=item.size)
    else:
        error = DecodeError(
            "truncated", "a torn tail: the last record was never finished", offset=item.offset, length=item.size
        )
    return Frame(None, error, item.offset, 0, b"")


def _segment_frames(file: BinaryIO, header: SegmentHeader, limits: DecodeLimits, *, lenient: bool) -> Iterator[Frame]:
    for item in read_items(file, header):
        yield item_frame(item, limits, lenient=lenient)
