"""Files of frames, read lazily: plain captures and segments of checked records, told apart by their magic."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.limits import FILE_LIMITS, DecodeLimits
from xtrack_protocol.wire.framing import Frame, decode_frames, decode_payload
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

CHUNK: Final = 64 * 1024
"""Bytes read at a time: large enough for the disk, small enough for a bounded memory, and so small that what becomes of
them stays in the cache of a core."""


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
    return _Frames.of(_file_batches(Path(path), limits, lenient=lenient, strict=strict))


def read_frames(
    file: BinaryIO, *, limits: DecodeLimits = FILE_LIMITS, lenient: bool = True, name: str = "input"
) -> Iterator[Frame]:
    """Yield the frames of an open binary file, a pipe too; as :func:`stream_file`. ``name`` is for messages."""
    return _Frames.of(_batches(file, limits, lenient=lenient, name=name))


def read_items(file: BinaryIO, header: SegmentHeader) -> Iterator[Item]:
    """Yield what follows the header in the open segment ``file``: records, damage and the torn tail."""
    decoder = RecordDecoder(header.salt_value)
    while chunk := file.read(CHUNK):
        yield from decoder.feed(chunk)
    yield from decoder.finish()


def item_frames(items: Sequence[Item], limits: DecodeLimits, *, lenient: bool) -> list[Frame]:
    """Return what :func:`item_frame` returns for each item, the records' in one pass."""
    records = [item for item in items if isinstance(item, Record)]
    frames = decode_frames(
        [record.payload for record in records], [record.offset for record in records], limits, lenient=lenient
    )
    if len(records) == len(items):
        return list(frames)
    rest = iter(frames)
    return [next(rest) if isinstance(item, Record) else item_frame(item, limits, lenient=lenient) for item in items]


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


def _batches(file: BinaryIO, limits: DecodeLimits, *, lenient: bool, name: str) -> Generator[list[Frame], None, None]:
    head = b""
    while len(head) < RECORDS_START and (chunk := file.read(RECORDS_START - len(head))):
        head += chunk  # a pipe gives what it has
    if sniff(head) == "segment":
        decoder = RecordDecoder(decode_header(head, name).salt_value)
        while chunk := file.read(CHUNK):
            yield item_frames(decoder.feed(chunk), limits, lenient=lenient)
        yield item_frames(decoder.finish(), limits, lenient=lenient)
        return
    salvage = SalvageDecoder(limits, lenient)
    yield salvage.feed(head)
    while chunk := file.read(CHUNK):
        yield salvage.feed(chunk)
    yield salvage.finish()


def _file_batches(
    path: Path, limits: DecodeLimits, *, lenient: bool, strict: bool
) -> Generator[list[Frame], None, None]:
    with path.open("rb") as file:
        batches = _batches(file, limits, lenient=lenient, name=str(path))
        if not strict:
            yield from batches  # nothing here holds on to frames while the next ones are decoded
            return
        for frames in batches:
            bad = next((place for place, frame in enumerate(frames) if frame.error), None)
            if bad is not None:
                yield frames[: bad + 1]
                return
            yield frames


class _Frames(chain[Frame]):
    """Yields the frames of lists, and can be closed as a generator can, which would take a tenth more time."""

    _batches: Generator[list[Frame], None, None]

    @classmethod
    def of(cls, batches: Generator[list[Frame], None, None]) -> _Frames:
        frames = cast("_Frames", cls.from_iterable(batches))
        frames._batches = batches  # noqa: SLF001 - its own class
        return frames

    def close(self) -> None:
        """Close the file, and yield no more."""
        self._batches.close()
        deque(self, maxlen=0)
