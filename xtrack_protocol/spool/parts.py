"""The segments of one stream, as they lie in its run's folder: which there are, and which seqs each can hold.

A stream's segments follow each other, but for those that a rescue after a failed sync has written: they repeat what
stands in others (spec: RST-3.7). So a segment is known to be complete when a later one begins with a higher seq.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.errors import NotASegment, SpoolError
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool.layout import SEGMENT_SUFFIX, safe_name, segment_path
from xtrack_protocol.spool.segment import Segment, open_segment
from xtrack_protocol.wire import RECORDS_START, Damage, Item, Record, RecordDecoder, TornTail

_CHUNK: Final = 256 * 1024
_BLOCK: Final = 4096
_FRESH_NS: Final = 2_500_000_000
"""How long after a change a file may change again with the same time: the coarsest clock in use has two seconds."""


@attrs.define(eq=False)
class Part:
    """A segment, read forward. ``first``: no record of it has a lower seq. ``bound``: nor this one, or a higher one.

    ``bound`` is None as long as no later segment is known: then more may be appended. ``items`` from ``index`` on have
    been read, and not been used. ``ended``: no more will come of it.
    """

    segment: Segment
    first: int
    bound: int | None = None
    items: list[Item] = attrs.field(factory=list)
    index: int = 0
    ended: bool = False
    damage: Damage | None = None
    """What is damaged between the last record that was used and the next one."""
    _fd: int = -1
    _offset: int = RECORDS_START
    _doubtful: int = -1
    _seen: tuple[int, int] = (-1, -1)

    @property
    def number(self) -> int:
        """Its place in the stream, from 1."""
        return self.segment.header.number

    def read(self, *, complete: bool) -> bool:
        """Read on into ``items``; return whether anything came. Raises OSError; FileNotFoundError when it is gone.

        ``complete``: nothing more is appended to it, so that what stands unfinished at its end is told, too.
        """
        if self.ended:
            return False
        if self._fd < 0:
            self._fd = os.open(
                self.segment.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            )
        if not complete and not self._has_grown():
            return False
        items = self._decode(complete=complete)
        if not complete:
            items = self._without_doubt(items)
        if items:
            self._seen = (-1, -1)  # there may be more behind them: what was seen of the file wasn't read to its end
        self.items, self.index = items, 0
        if self.ended:
            self.close()
        return bool(items)

    def _has_grown(self) -> bool:
        status = os.fstat(self._fd)
        if status.st_size <= self._offset:
            return False
        # A write that failed half-way may be cut off, and others come in its place, without a change of size.
        seen, self._seen = self._seen, (status.st_size, status.st_mtime_ns)
        return seen != self._seen or abs(time.time_ns() - status.st_mtime_ns) < _FRESH_NS

    def _decode(self, *, complete: bool) -> list[Item]:
        """Return the items of the next chunk that completes any, or of the end."""
        decoder, position = RecordDecoder(self.segment.header.salt_value, self._offset), self._offset
        items: list[Item] = []
        while not items:
            chunk = _read(self._fd, position)
            if not chunk:
                if complete:
                    items, self.ended = decoder.finish(), True
                break
            position += len(chunk)
            items = decoder.feed(chunk)
        self._offset = decoder.offset
        return items

    def _without_doubt(self, items: list[Item]) -> list[Item]:
        """Return what comes before damage; that may be a write that failed half-way, and is looked at once more."""
        for place, item in enumerate(items):
            if type(item) is Damage and item.offset != self._doubtful:
                self._doubtful = self._offset = item.offset
                return items[:place] or self._without_doubt(self._decode(complete=False))
        return items

    def is_being_written(self) -> bool:
        """Whether it was changed a moment ago."""
        with suppress(OSError):
            return abs(time.time_ns() - self.segment.path.stat().st_mtime_ns) < _FRESH_NS
        return False

    def rewind(self) -> None:
        """Begin again at its first record."""
        self.close()
        self.items, self.index, self.ended, self.damage = [], 0, False, None
        self._offset, self._doubtful, self._seen = RECORDS_START, -1, (-1, -1)

    def close(self) -> None:
        """Release the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _read(fd: int, position: int) -> bytes:
    """Return the next bytes. Blocks that the disk can't read are zeros: damage, which costs what was in them."""
    try:
        return _pread(fd, _CHUNK, position)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    try:
        return _pread(fd, _BLOCK - position % _BLOCK, position)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return bytes(min(_BLOCK - position % _BLOCK, max(0, os.fstat(fd).st_size - position)))


if hasattr(os, "pread"):
    _pread = os.pread
else:

    def _pread(fd: int, size: int, position: int) -> bytes:
        os.lseek(fd, position, os.SEEK_SET)
        return os.read(fd, size)


class PartFolder:
    """Finds the segments of one stream; those that were found before stay the same objects."""

    def __init__(self, run_dir: Path, stream: StreamId) -> None:
        self._run_dir = run_dir
        self._stream = stream
        self._prefix = f"{safe_name(stream.session_id)}."
        self._known: dict[int, Part] = {}
        self._others: set[int] = set()
        self._changed = (-1, -1)
        self.numbers: set[int] = set()
        """The numbers of all files of this session id, also of those whose header can't be read."""
        self.damaged: set[int] = set()
        """The numbers of those that are no segment any more."""
        self._next_path = segment_path(run_dir, stream.session_id, 1)

    @property
    def has_parts(self) -> bool:
        """Whether any segment is there."""
        return bool(self._known)

    @property
    def parts(self) -> list[Part]:
        """The segments found so far, by number."""
        return [self._known[number] for number in sorted(self._known)]

    def fault_before(self, part: Part | None, seq: int) -> str:
        """Return what is wrong with segments before ``part`` (None: the end) that might hold ``seq``; "" if nothing.

        Those in between that can't hold it, for they begin later, are passed over.
        """
        number = part.number if part is not None else max(self.numbers, default=0) + 1
        first = part.first if part is not None else seq + 1
        while first > seq or number not in self._known:
            number -= 1
            if number < 1:
                break
            if number in self.damaged:
                return "damaged in the spool: the header of a segment"
            if number not in self.numbers:
                return "a segment of the spool is missing"
            if number in self._known:
                first = self._known[number].first
        return ""

    def next_is_there(self) -> bool:
        """Whether the segment is there that follows the last one as a rule: one stat."""
        try:
            self._next_path.stat()
        except OSError:
            return False
        return True

    def may_have_changed(self) -> bool:
        """Whether anything was created or removed in the folder since ``look``, or may have been: one stat."""
        try:
            changed_ns = self._run_dir.stat().st_mtime_ns
        except OSError:
            return bool(self.numbers)
        return changed_ns != self._changed[0] or abs(self._changed[1] - changed_ns) < _FRESH_NS

    def look(self) -> bool:
        """Look what there is now; return whether there is a segment that wasn't, or one less.

        Raises SpoolError where the folder, or a header, can't be read.
        """
        try:
            changed = (self._run_dir.stat().st_mtime_ns, time.time_ns())
            numbers = self._list()
        except FileNotFoundError:  # deleted, or not made yet
            changed, numbers = (-1, -1), set()
        except OSError as error:
            raise SpoolError(self._run_dir, f"can't be read: {error.strerror or error}") from error
        before = set(self._known)
        for number in self._known.keys() - numbers:
            self._known.pop(number).close()
        for number in sorted(numbers - self._known.keys() - self._others - self.damaged):
            self._open(number)
        self.numbers, self._changed = numbers, changed
        self._next_path = segment_path(self._run_dir, self._stream.session_id, max(numbers, default=0) + 1)
        if before == set(self._known):
            return False
        self._find_bounds()
        return True

    def _list(self) -> set[int]:
        found = set()
        with os.scandir(self._run_dir) as entries:
            for entry in entries:
                if entry.name.startswith(self._prefix) and entry.name.endswith(SEGMENT_SUFFIX):
                    number = entry.name[len(self._prefix) : -len(SEGMENT_SUFFIX)]
                    if number.isascii() and number.isdigit():
                        found.add(int(number))
        return found

    def _open(self, number: int) -> None:
        try:
            segment = open_segment(segment_path(self._run_dir, self._stream.session_id, number))
        except NotASegment:
            self.damaged.add(number)
            return
        if segment is None:
            return  # its header isn't there yet
        if segment.stream != self._stream:
            self._others.add(number)
        else:
            self._known[number] = Part(segment, segment.header.first_seq)

    def _find_bounds(self) -> None:
        parts = self.parts
        first = 1
        for part in parts:
            # 0: it began with a declared loss, and may hold whatever follows the one before
            part.first = first = part.segment.header.first_seq or first
        for place, part in enumerate(parts):
            part.bound = next((later.first for later in parts[place + 1 :] if later.first > part.first), None)

    def close(self) -> None:
        """Release all files."""
        for part in self._known.values():
            part.close()


def _items_of(part: Part) -> Iterator[Item]:
    """Yield all items of a segment to which nothing more is appended. Raises OSError."""
    reading = Part(part.segment, part.first)
    try:
        while not reading.ended:
            reading.read(complete=True)
            yield from reading.items
    finally:
        reading.close()


def records_of(part: Part) -> Iterator[Record]:
    """Yield all records of a segment to which nothing more is appended. Raises OSError."""
    return (item for item in _items_of(part) if type(item) is Record)


def last_seq_of(part: Part) -> int:
    """Return the highest seq that stands in a segment, damaged or not; 0 where there is none. Raises OSError."""
    return max((item.seq or 0 for item in _items_of(part) if not isinstance(item, TornTail)), default=0)


def find_strays(parts: list[Part]) -> dict[int, tuple[Part, Record]]:
    """Return the records that stand where their seq doesn't belong, in their segment or among segments, by seq.

    An emitter writes none, but who files away what others have sent may. Payloads are left out. Raises OSError.
    """
    found: dict[int, tuple[Part, Record]] = {}
    for part in parts:
        highest = part.first - 1
        for record in records_of(part):
            if record.seq > highest and (part.bound is None or record.seq < part.bound):
                highest = record.seq
            elif record.seq > 0:
                found.setdefault(record.seq, (part, Record(record.seq, b"", record.offset, record.size)))
    return found


def read_stray(part: Part, record: Record) -> bytes | None:
    """Return the payload of a record that ``find_strays`` has found; None where it is damaged now. Raises OSError."""
    with part.segment.path.open("rb") as file:
        file.seek(record.offset)
        items = RecordDecoder(part.segment.header.salt_value, record.offset).feed(file.read(record.size))
    return items[0].payload if items and type(items[0]) is Record and items[0].seq == record.seq else None
