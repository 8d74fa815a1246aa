"""Frames in a file that may be damaged: what can be read is read, and what can't is named. spec: FRM-6

Plain frames have no check on their length, so a flipped bit in one can send a reader anywhere. But valid JSON text
holds no NUL byte, and every frame begins with one: no header stands inside a legal payload. So

- a payload with a NUL byte in it is no payload: its length is damaged, and we know at that byte, before having read
  (or allocated) what the length announced;
- a place that holds 0x00, a possible length, and then one well-formed JSON object of just that length is a frame;
- each run of bytes between two NULs is looked at for at most the four headers that can end before it, so that the
  search is linear whatever the bytes are.

The verdict depends on the bytes alone, never on how they were cut into chunks.
"""

from __future__ import annotations

import re
from itertools import repeat
from typing import Final, Literal

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.limits import FILE_LIMITS, FRAME_HARD_MAX, DecodeLimits
from xtrack_protocol.wire.codec import Buffer, decode_each
from xtrack_protocol.wire.framing import PREFIX, Frame, cut_frames, decode_payload, length_error

_unpack_from = PREFIX.unpack_from

_MALFORMED: Final = frozenset({"bad_utf8", "bad_json"})
"""Payloads that are no JSON text: perhaps because their length is wrong."""

_JSON_START: Final = frozenset(b"{ \t\n\r")

_AHEAD: Final = 256
"""Bytes of frames that are cut at once behind one that isn't well: it may be the first of many, and what is cut behind
the next one was cut for nothing. As long as all is well they double."""

_HEADER: Final = re.compile(rb"\x00...[{ \t\n\r]", re.DOTALL)
"""A length below 16 MiB and the first byte of an object."""


class SalvageDecoder:
    """Like FrameDecoder, for files: no error is fatal.

    A damaged range is one Frame with an error whose ``offset`` and ``length`` give the range; what follows it is
    ``verified=False`` unless the damage ended exactly where the damaged frame had said that it would.

    A decoder that begins at the ``offset`` of another one, and as ``verified``, goes on as that one would.
    """

    def __init__(
        self, limits: DecodeLimits = FILE_LIMITS, lenient: bool = True, offset: int = 0, *, verified: bool = True
    ) -> None:
        self._limits = limits
        self._lenient = lenient
        self._offset = offset  # of the buffer's first byte
        self._buffer = bytearray()
        self._no_nul_before = 0  # absolute: in the payload under way, no NUL stands before this offset
        self._due = 0  # absolute: before these bytes are here, only a NUL can decide anything
        self._ahead = _AHEAD
        self._verified = verified
        self._damage: _Damage | None = None

    @property
    def offset(self) -> int:
        """Where the next frame begins, or the damage that is being passed over."""
        return self._damage.error.offset if self._damage else self._offset

    @property
    def verified(self) -> bool:
        """Whether frames stand where the ones before them said that they would."""
        return self._verified

    @property
    def is_lost(self) -> bool:
        """Whether damage is being passed over."""
        return self._damage is not None

    def feed(self, chunk: Buffer) -> list[Frame]:
        """Take the next bytes; return what they complete, in order."""
        data = bytes(chunk)
        held = self._buffer
        if self._offset + len(held) + len(data) < self._due and 0 not in data:
            held += data
            return []  # a large payload in small chunks, to be copied and looked at once, not with each of them
        frames: list[Frame] = []
        begin = self._complete(held, data, frames) if held and not self._damage else 0
        return self._run(data if begin else bytes(held) + data, begin, frames, at_end=False)

    def finish(self) -> list[Frame]:
        """Say that the file has ended; return what was still held back."""
        return self._run(bytes(self._buffer), 0, [], at_end=True)

    def _complete(self, held: bytearray, data: bytes, frames: list[Frame]) -> int:
        """Read the frame under way, so that what follows it in ``data`` needs no copy; return where that begins.

        0 where all isn't well with it, or it isn't whole yet: then nothing has been done.
        """
        if len(held) < PREFIX.size:
            return 0
        length: int = _unpack_from(held)[0]
        missing = PREFIX.size + length - len(held)
        if not (1 <= length <= self._limits.max_frame and 0 < missing <= len(data)):
            return 0
        payload = bytes(held[PREFIX.size :]) + data[:missing]
        frame = decode_payload(payload, self._offset, self._limits, lenient=self._lenient, verified=self._verified)
        if frame.error:
            return 0
        frames.append(frame)
        self._offset += len(held)  # of the first byte of data
        return missing

    def _run(self, data: bytes, position: int, frames: list[Frame], *, at_end: bool) -> list[Frame]:
        """Read ``data``, whose first byte stands at the offset, from ``position`` on; add to ``frames``."""
        self._due = 0
        while True:
            if not self._damage:
                position = self._read_intact(data, position, frames)
            step = self._search if self._damage else self._read
            after = step(data, position, frames, at_end)
            if after is None:
                break
            position = after
        if self._damage:
            position = max(position, self._damage.searched - self._offset)
        self._offset += position
        self._buffer = bytearray(data[position:])
        return frames

    def _read_intact(self, data: bytes, position: int, frames: list[Frame]) -> int:
        """Read frames as long as all is well, which is nearly always; return where that ends.

        Whatever isn't well here is looked at again, with care. A payload that can be decoded holds no NUL.
        """
        limits, base = self._limits, self._offset
        while True:
            until = position + self._ahead
            offsets, payloads, end = cut_frames(data, position, base, limits.max_frame, until)
            if not payloads:
                return position
            results, well = decode_each(payloads, lenient=self._lenient, max_depth=limits.max_depth, go_on=False)
            facts = (results, repeat(None), offsets, map(len, payloads), payloads)
            frames += map(Frame, *facts) if self._verified else map(Frame, *facts, repeat(False))
            if not well:
                self._ahead = _AHEAD
                return offsets[len(results)] - base
            self._ahead *= 2 if self._ahead < FRAME_HARD_MAX else 1
            position = end

    # Each of the following returns the position in ``data`` to go on from, or None when it needs more bytes.

    def _read(self, data: bytes, position: int, frames: list[Frame], at_end: bool) -> int | None:
        """Read the frame at ``position``, where one is due."""
        size = len(data)
        offset = self._offset + position
        if size - position < PREFIX.size:
            if at_end and position < size:
                odd = length_error(data[position] << 24, offset, self._limits) if data[position] else None
                return self._begin_damage(odd or _truncated(offset), offset, None)  # spec: ERR-2.1
            return None
        length: int = _unpack_from(data, position)[0]
        start, end = position + PREFIX.size, position + PREFIX.size + length
        error = length_error(length, offset, self._limits)
        if error:
            return self._begin_damage(error, offset, end)
        nul = self._find_nul(data, start, min(end, size))
        if nul >= 0:
            reason = f"a NUL byte in the payload, at byte {self._offset + nul}: no JSON, or the length is damaged"
            return self._begin_damage(DecodeError("bad_json", reason, offset=offset), offset, end)
        if end > size:
            self._due = self._offset + end
            return self._begin_damage(_truncated(offset), offset, None) if at_end else None
        frame = decode_payload(data[start:end], offset, self._limits, lenient=self._lenient, verified=self._verified)
        if frame.error and frame.error.kind in _MALFORMED:
            plausible = self._is_frame_start(data, end, at_end)
            if plausible is None:
                return None
            if not plausible:
                return self._begin_damage(frame.error, offset, end)
        frames.append(frame)
        return end

    def _is_frame_start(self, data: bytes, position: int, at_end: bool) -> bool | None:
        """Whether a frame seems to begin at ``position``, or the file ends there; None: can't tell yet."""
        size = len(data)
        if position == size:
            return True if at_end else None
        if size - position <= PREFIX.size:
            return False if at_end else None
        length: int = _unpack_from(data, position)[0]
        return 1 <= length <= self._limits.max_frame and data[position + PREFIX.size] in _JSON_START

    def _find_nul(self, data: bytes, start: int, end: int) -> int:
        """Find a NUL byte in ``data[start:end]``, looking at each byte once however often we are called."""
        known = self._no_nul_before - self._offset
        nul = data.find(0, max(start, known), end)
        self._no_nul_before = self._offset + (start if nul >= 0 else end)
        return nul

    def _begin_damage(self, error: DecodeError, offset: int, announced_end: int | None) -> int:
        end = None if announced_end is None else self._offset + announced_end
        self._damage = _Damage(error, searched=offset + 1, announced_end=end)
        self._no_nul_before = self._due = 0
        return offset + 1 - self._offset

    def _search(self, data: bytes, position: int, frames: list[Frame], at_end: bool) -> int | None:
        """Look for the next plausible frame from ``position`` on."""
        assert self._damage is not None
        size = len(data)
        match = _HEADER.search(data, position)
        if not match:
            if at_end:
                self._end_damage(self._offset + size, frames)
            else:
                cut = data.find(0, max(position, size - PREFIX.size))  # perhaps a header, of which more is to come
                self._damage.searched = self._offset + (size if cut < 0 else cut)
            return None
        candidate = match.start()
        verdict = self._is_whole_frame(data, candidate, at_end)
        if verdict == "yes":
            self._end_damage(self._offset + candidate, frames)
            return candidate
        if verdict == "unknown":
            self._damage.searched = self._offset + candidate
            return None
        return candidate + 1

    def _is_whole_frame(self, data: bytes, position: int, at_end: bool) -> Literal["yes", "no", "unknown"]:
        """Whether the header at ``position`` is that of a plausible frame. spec: FRM-6"""
        size = len(data)
        length: int = _unpack_from(data, position)[0]
        start, end = position + PREFIX.size, position + PREFIX.size + length
        if not 1 <= length <= self._limits.max_frame or self._find_nul(data, start, min(end, size)) >= 0:
            return "no"
        if end > size:
            self._due = self._offset + end
            return "no" if at_end else "unknown"
        frame = decode_payload(data[start:end], 0, self._limits, lenient=self._lenient)
        return "no" if frame.error and frame.error.kind in _MALFORMED else "yes"

    def _end_damage(self, end: int, frames: list[Frame]) -> None:
        """Report the damaged range that ends before the absolute offset ``end``."""
        damage = self._damage
        assert damage is not None
        self._damage = None
        self._no_nul_before = 0
        begin = damage.error.offset
        error = DecodeError(
            damage.error.kind, damage.error.reason, offset=begin, length=end - begin, path=damage.error.path
        )
        frames.append(Frame(None, error, begin, 0, b"", self._verified))
        if damage.announced_end != end:
            self._verified = False  # spec: FRM-7


def _truncated(offset: int) -> DecodeError:
    return DecodeError("truncated", "the file ends inside the frame", offset=offset)


class _Damage:
    """Damage under way: its error, how far we have looked, and where the damaged frame said that it ends."""

    __slots__ = ("announced_end", "error", "searched")

    def __init__(self, error: DecodeError, searched: int, announced_end: int | None) -> None:
        self.error = error
        self.searched = searched
        self.announced_end = announced_end
