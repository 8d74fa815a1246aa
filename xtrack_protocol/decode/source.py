"""Reads inputs: plain frames or segments, files or pipes, finished or still being written."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final, Protocol

import attrs

from xtrack_protocol.decode.guess import looks_like
from xtrack_protocol.errors import XTrackError
from xtrack_protocol.limits import FILE_LIMITS, DecodeLimits
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import is_locked, lock_path
from xtrack_protocol.spool.layout import segment_path
from xtrack_protocol.wire import (
    RECORDS_START,
    Damage,
    Frame,
    Item,
    RecordDecoder,
    SalvageDecoder,
    SegmentHeader,
    TornTail,
    decode_header,
    sniff,
)
from xtrack_protocol.wire.files import CHUNK, item_frames
from xtrack_protocol.wire.records import SEGMENT_MAGIC

STDIN: Final = "-"


class RawFile(Protocol):
    """An open file whose ``read`` returns what is there, and waits only where nothing is."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most ``size`` bytes, none at the end."""

    def fileno(self) -> int:
        """Return the descriptor. Raises OSError where there is none."""

    def close(self) -> None:
        """Release it."""


class NotXTrack(XTrackError):
    """An input is no XTrack file: its ``name``, and what it ``looks_like``, where that is known."""

    def __init__(self, name: str, looks_like: str | None, head: bytes) -> None:
        self.name = name
        self.looks_like = looks_like
        first = " ".join(f"{byte:02x}" for byte in head[:8])
        problem = f"it looks like {looks_like}" if looks_like else f"it begins with {first}, and holds no frame"
        super().__init__(f"{name}: not an XTrack file: {problem}")


@attrs.define(eq=False)
class Input:
    """One file as it is being read. ``header``: where it is a segment. ``size``: bytes read so far."""

    name: str
    file: RawFile
    header: SegmentHeader | None = None
    size: int = 0
    torn: bool = False
    """Whether a segment ends in a record that was never finished, which is no damage. spec: RST-5"""

    @property
    def stream(self) -> StreamId | None:
        """The stream that the segment's header names."""
        header = self.header
        return StreamId(header.run_id, header.worker_id, header.session_id) if header else None

    def read(self, size: int) -> bytes:
        """Return what is there, at most ``size`` bytes; none at the end, which a growing file may leave again."""
        chunk = self.file.read(size) or b""
        self.size += len(chunk)
        return chunk

    def is_regular(self) -> bool:
        """Whether it is a file that can be read twice, and no pipe."""
        try:
            return stat.S_ISREG(os.fstat(self.file.fileno()).st_mode)
        except OSError:
            return False

    def was_truncated(self) -> bool:
        """Whether the file is shorter now than what was read of it."""
        return self.is_regular() and os.fstat(self.file.fileno()).st_size < self.size

    def read_back(self, offset: int, size: int) -> bytes | None:
        """Return bytes of the file once more, without moving in it; None for a pipe."""
        if not self.is_regular():
            return None
        if hasattr(os, "pread"):
            fd = self.file.fileno()
            begin = os.lseek(fd, 0, os.SEEK_CUR) - self.size  # standard input may have been read before
            return os.pread(fd, size, begin + offset)
        with Path(self.name).open("rb") as again:
            again.seek(offset)
            return again.read(size)


@attrs.frozen
class Batch:
    """Some frames of one input, in order.

    ``lost``: of records whose header is intact and whose payload isn't, the place among the frames and the seq.
    """

    input: Input
    frames: list[Frame]
    lost: tuple[tuple[int, int], ...] = ()

    def until_error(self) -> Batch | None:
        """Return the batch up to its first frame that isn't good, that one included; None where all are good."""
        for place, frame in enumerate(self.frames):
            if frame.error:
                return Batch(self.input, self.frames[: place + 1], tuple(one for one in self.lost if one[0] <= place))
        return None


def segment_batch(opened: Input, items: list[Item], limits: DecodeLimits) -> Batch:
    """Return the batch of some items of a segment."""
    opened.torn = opened.torn or any(isinstance(item, TornTail) for item in items)
    lost = tuple(
        (place, item.seq) for place, item in enumerate(items) if isinstance(item, Damage) and item.seq is not None
    )
    return Batch(opened, item_frames(items, limits, lenient=True), lost)


class Source:
    """One FILE of a command line: a file, standard input, or a segment and, where it is followed, those after it.

    ``say`` takes remarks for people.
    """

    def __init__(
        self,
        name: str,
        *,
        limits: DecodeLimits = FILE_LIMITS,
        follow: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._limits = limits
        self._follow = follow
        self._say = say

    def batches(self) -> Iterator[Batch | None]:
        """Yield what is read; None where nothing more is there yet, and the caller may wait.

        Raises OSError for a file that can't be read, NotXTrack for one that isn't ours, NotASegment for a segment whose
        header is damaged in both copies.
        """
        name: str | None = self.name
        while name is not None:
            file = yield from self._open(name)
            try:
                name = yield from self._read(Input("<stdin>" if name == STDIN else name, file))
            finally:
                if self.name != STDIN:
                    file.close()

    def _open(self, name: str) -> Generator[None, None, RawFile]:
        if name == STDIN:
            buffer = sys.stdin.buffer
            return getattr(buffer, "raw", buffer)
        said = False
        while True:
            try:
                return Path(name).open("rb", buffering=0)
            except FileNotFoundError:
                if not self._follow:
                    raise
            if not said:
                said = True
                self._say(f"{name}: isn't there yet; waiting for it")
            yield None

    def _read(self, opened: Input) -> Generator[Batch | None, None, str | None]:
        """Read one file; return the name of the one that goes on where it ends, if any."""
        head = b""
        while len(head) < RECORDS_START:
            chunk = opened.read(RECORDS_START - len(head))
            head += chunk
            if chunk:
                if not opened.is_regular() and not head.startswith(SEGMENT_MAGIC[: len(head)]):
                    break  # a pipe, and no segment: what has come is shown without waiting for more
            elif not self._follow or (head and not head.startswith(SEGMENT_MAGIC[: len(head)])):
                break
            else:
                yield None
        kind = sniff(head)
        if kind == "segment":
            opened.header = decode_header(head, opened.name)
            return (yield from self._read_segment(opened, opened.header))
        guess = looks_like(head) if kind == "other" else None
        if guess is not None:
            raise NotXTrack(opened.name, guess, head)
        yield from self._read_frames(opened, head, doubtful=kind == "other")
        return None

    def _read_frames(self, opened: Input, head: bytes, *, doubtful: bool) -> Iterator[Batch | None]:
        """Read plain frames. ``doubtful``: it doesn't begin with one, so that one must be found before all is told."""
        decoder = SalvageDecoder(self._limits)
        held: list[Frame] = []
        for chunk in self._chunks(opened, head):
            if chunk is None:
                if opened.was_truncated():
                    self._say(f"{opened.name}: was cut short; what follows is read from its beginning")
                    yield Batch(opened, decoder.finish())
                    _rewind(opened)
                    decoder = SalvageDecoder(self._limits)
                yield None
                continue
            held += decoder.feed(chunk)
            if held and not (doubtful and all(frame.envelope is None for frame in held)):
                doubtful = False
                yield Batch(opened, held)
                held = []
        held += decoder.finish()
        if doubtful and all(frame.envelope is None for frame in held):
            raise NotXTrack(opened.name, None, head)
        yield Batch(opened, held)

    def _read_segment(self, opened: Input, header: SegmentHeader) -> Generator[Batch | None, None, str | None]:
        decoder = RecordDecoder(header.salt_value, max_payload=self._limits.max_frame)
        path = Path(opened.name)
        is_in_place = path.name == segment_path(path.parent, header.session_id, header.number).name
        after = segment_path(path.parent, header.session_id, header.number + 1)
        lock = lock_path(path.parent, header.session_id)
        last_look = False
        for chunk in self._chunks(opened, b""):
            if chunk is not None:
                yield segment_batch(opened, decoder.feed(chunk), self._limits)
            elif last_look:
                break
            elif is_in_place and (after.exists() or (lock.exists() and is_locked(lock) is False)):
                last_look = True  # nothing more is written to it, but something may have been since we read
            else:
                yield None
        yield segment_batch(opened, decoder.finish(), self._limits)
        return str(after) if self._follow and is_in_place and after.exists() else None

    def _chunks(self, opened: Input, head: bytes) -> Iterator[bytes | None]:
        """Yield the bytes of a file; None at an end at which it may go on."""
        if head:
            yield head
        while True:
            chunk = opened.read(CHUNK)
            if chunk:
                yield chunk
            elif self._follow and opened.is_regular():
                yield None
            else:
                return


def _rewind(opened: Input) -> None:
    os.lseek(opened.file.fileno(), 0, os.SEEK_SET)
    opened.size = 0
