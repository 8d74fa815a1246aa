"""Checked records: how events rest in a spool. No I/O: bytes in, records out, and the other way round.

A segment is two copies of its header, 4 KiB each, and then records one after the other (spec: RST-2, RST-3)::

    header   magic "XTRKSEG1" | u32 length | body (JSON) | u32 CRC of all before | zeros up to 4096
    record   magic F5 "XR1" | u32 length | u64 seq | u32 header CRC | payload | u32 payload CRC

Integers are big-endian, CRCs are zlib's CRC-32. The header CRC starts from the segment's random salt and the payload
CRC from the header CRC: bytes of another segment, or a record quoted inside a payload, never pass for a record of
this one (spec: RST-4). Length and seq are checked apart from the payload, so that damage to a payload costs that one
record and says which; damage to a header costs the same, for the next magic is searched for. 0xF5 occurs nowhere in
UTF-8, so the search is short. A file that simply ends early has a torn tail, which is no damage (spec: RST-5).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as _Layout
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from zlib import crc32

import msgspec

from xtrack_protocol.errors import NotASegment
from xtrack_protocol.ir._slots import Int64
from xtrack_protocol.limits import FRAME_HARD_MAX, RUN_ID_MAX
from xtrack_protocol.wire.codec import Buffer

SEGMENT_MAGIC: Final = b"XTRKSEG1"
RECORD_MAGIC: Final = b"\xf5XR1"
HEADER_BLOCK: Final = 4096
"""Bytes of one copy of a segment's header."""
RECORDS_START: Final = 2 * HEADER_BLOCK
"""Where the first record of a segment begins, in bytes."""
RECORD_OVERHEAD: Final = 24
"""Bytes of a record that aren't payload."""

_T = TypeVar("_T")

_U32 = _Layout(">I")
_HEAD = _Layout(">4sIq")
_CHECKED_HEAD = _Layout(">4sIqI")
_HEAD_SIZE: Final = 20  # with its CRC
_pack_u32 = _U32.pack
pack_record_head = _HEAD.pack
_unpack_u32_from = _U32.unpack_from
_unpack_head_from = _CHECKED_HEAD.unpack_from

_PACKED_MAX: Final = 2048
record_packs: Final[dict[int, Callable[..., bytes]]] = {}
"""What makes a record of a payload of so many bytes, in one call; of those that training scripts emit all the time."""


class SegmentHeader(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a segment says of itself: the stream, and where in it the segment stands. spec: RST-2

    ``worker_id`` is "" where the worker has none. ``number`` counts the stream's segments from 1.
    ``first_seq``: of its first record. ``created_us``: microseconds since the Unix epoch. ``salt``: random, 32 bits.
    """

    run_id: str
    session_id: str = msgspec.field(name="sid")
    worker_id: str = msgspec.field(name="wid", default="")
    number: Int64 = 1
    first_seq: Int64 = 1
    created_us: Int64 = msgspec.field(name="created", default=0)
    salt: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{8}$")] = "00000000"

    @property
    def salt_value(self) -> int:
        """The salt as the number that header CRCs start from."""
        return int(self.salt, 16)


_decode_header = msgspec.json.Decoder(SegmentHeader).decode  # once, at the import: see spool.shipping


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record that passed its checks. ``offset`` and ``size`` are its bytes in the segment's file."""

    seq: int
    payload: bytes
    offset: int
    size: int


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes ``[offset, offset + size)`` that hold no valid record, though valid ones may follow.

    ``seq``: which record was there, where its header is intact; else None, and the seqs before and after tell.
    """

    offset: int
    size: int
    seq: int | None
    reason: str


class TornTail(msgspec.Struct, frozen=True, gc=False):
    """The file's end from ``offset`` on: a record that was never finished. No accepted event was there."""

    offset: int
    size: int


Item: TypeAlias = Record | Damage | TornTail


def encode_header(header: SegmentHeader) -> bytes:
    """Return the first 8,192 bytes of a segment. Raises ValueError for ids that don't fit."""
    for name, text in (("run", header.run_id), ("worker", header.worker_id), ("session", header.session_id)):
        if len(text.encode()) > RUN_ID_MAX:
            raise ValueError(f"the {name} id has more than {RUN_ID_MAX} bytes of UTF-8")
    body = msgspec.json.encode(header)
    block = SEGMENT_MAGIC + _pack_u32(len(body)) + body
    block += _pack_u32(crc32(block))
    if len(block) > HEADER_BLOCK:  # ids full of characters that JSON escapes
        raise ValueError(f"the ids don't fit into a segment's header of {HEADER_BLOCK} bytes")
    return block.ljust(HEADER_BLOCK, b"\0") * 2


def decode_header(head: Buffer, path: object = "segment") -> SegmentHeader:
    """Return the header that the first 8,192 bytes of a file hold, from whichever copy is intact.

    Raises NotASegment, naming ``path``.
    """
    head = bytes(head[:RECORDS_START])
    for start in (0, HEADER_BLOCK):
        header = _decode_header_block(head[start : start + HEADER_BLOCK])
        if header:
            return header
    if not head.startswith(SEGMENT_MAGIC) and head[HEADER_BLOCK : HEADER_BLOCK + 8] != SEGMENT_MAGIC:
        raise NotASegment(path, "doesn't begin with a segment's header")
    raise NotASegment(path, "both copies of the segment's header are damaged")


def _decode_header_block(block: bytes) -> SegmentHeader | None:
    if len(block) < 16 or not block.startswith(SEGMENT_MAGIC):
        return None
    (length,) = _U32.unpack_from(block, 8)
    end = 12 + length
    if end + 4 > len(block) or _U32.unpack_from(block, end)[0] != crc32(block[:end]):
        return None
    try:
        return read_object(_decode_header, block[12:end])
    except (ValueError, RecursionError):
        return None


def read_object(decode: Callable[[Buffer], _T], data: Buffer) -> _T:
    """Return what ``decode`` makes of one JSON object, in which null is absence. spec: RST-2.9, RST-7.11

    Raises ValueError and RecursionError, as ``decode`` does.
    """
    try:
        return decode(data)
    except msgspec.ValidationError:
        try:
            return decode(msgspec.json.encode(_without_nulls(msgspec.json.decode(data))))
        except OverflowError as error:  # an integer that no member takes
            raise ValueError(str(error)) from error


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(item) for name, item in value.items() if item is not None}


def encode_record(seq: int, payload: bytes, salt: int) -> bytes:
    """Return the record of ``payload``, an encoded envelope of that ``seq``. spec: RST-3"""
    size = len(payload)
    head = pack_record_head(RECORD_MAGIC, size, seq)
    head_crc = crc32(head, salt)
    pack = record_packs.get(size)
    if pack is None:
        if size >= _PACKED_MAX:
            return b"".join((head, _pack_u32(head_crc), payload, _pack_u32(crc32(payload, head_crc))))
        pack = record_packs[size] = _Layout(f">16sI{size}sI").pack
    return pack(head, head_crc, payload, crc32(payload, head_crc))


class RecordDecoder:
    """Decodes the records of one segment, fed in chunks of any size from byte 8,192 on.

    The result is the same for any chunking. ``max_payload`` bounds what a header can make us hold back.
    A live segment is read by feeding what has come; only ``finish()`` tells a torn tail from damage.
    """

    def __init__(self, salt: int, offset: int = RECORDS_START, max_payload: int = FRAME_HARD_MAX) -> None:
        self._salt = salt
        self._max_payload = max_payload
        self._buffer = bytearray()
        self._offset = offset  # of the buffer's first byte
        self._need = 1  # bytes the buffer must hold before there is anything to do
        self._bad: _Bad | None = None  # what is being passed over

    @property
    def offset(self) -> int:
        """Where to go on reading: everything before was returned as records or damage."""
        return self._bad.offset if self._bad else self._offset

    @property
    def is_lost(self) -> bool:
        """Whether damage is being passed over."""
        return self._bad is not None

    def feed(self, chunk: Buffer) -> list[Item]:
        """Take the next bytes; return what they complete, in order."""
        held = self._buffer
        if len(held) + len(chunk) < self._need:
            held += chunk
            return []
        return self._run(bytes(held) + bytes(chunk) if held else bytes(chunk), at_end=False)

    def finish(self) -> list[Item]:
        """Say that nothing follows; return the damage or the torn tail at the end, if any."""
        items = self._run(bytes(self._buffer), at_end=True)
        if self._bad:
            begin, size = self._bad.offset, self._offset - self._bad.offset
            items.append(
                TornTail(begin, size) if self._bad.torn else Damage(begin, size, self._bad.seq, self._bad.reason)
            )
            self._bad = None
        return items

    def _run(self, data: bytes, *, at_end: bool) -> list[Item]:
        items: list[Item] = []
        position = 0
        self._need = 1
        while position < len(data):
            if self._bad is None:
                position = self._read_intact(data, position, items)
                if position == len(data):
                    break
            found = self._read(data, position)
            if isinstance(found, _Needs):
                if not at_end:
                    self._need = found.size
                    break
                if found.is_header and self._bad:
                    found = _Bad(self._offset + position, None, "")  # no header CRC holds here
                else:
                    found = _Bad(self._offset + position, None, _TORN, torn=True)
            if self._bad and (isinstance(found, Record) or found.seq is not None or found.torn):
                begin = self._bad.offset
                items.append(Damage(begin, found.offset - begin, self._bad.seq, self._bad.reason))
                self._bad = None
            if isinstance(found, Record):
                items.append(found)
                position += found.size
            else:
                position = self._pass_over(data, position, found)
        self._buffer = bytearray(data[position:])
        self._offset += position
        return items

    def _read_intact(self, data: bytes, position: int, items: list[Item]) -> int:
        """Read records as long as all is well; return where that ends, to be looked at with care."""
        salt, base, max_payload = self._salt, self._offset, self._max_payload
        size, append = len(data), items.append
        last = size - _HEAD_SIZE
        while position <= last:
            magic, length, seq, head_crc = _unpack_head_from(data, position)
            start = position + _HEAD_SIZE
            end = start + length
            if magic != RECORD_MAGIC or end > size - 4 or not 1 <= length <= max_payload:
                break
            payload = data[start:end]
            if (
                crc32(data[position : position + 16], salt) != head_crc
                or crc32(payload, head_crc) != _unpack_u32_from(data, end)[0]
            ):
                break
            append(Record(seq, payload, base + position, length + RECORD_OVERHEAD))
            position = end + 4
        return position

    def _pass_over(self, data: bytes, position: int, found: _Bad) -> int:
        """Take note of what is bad at ``position``; return the next one at which a record may begin."""
        after = len(data) if found.reason == _TORN else self._next_magic(data, position + 1)
        if self._bad is None:
            self._bad = found
            # Zeros to the end of the file were never written: reserved space, or blocks lost with the power.
            found.torn = found.torn or (found.seq is None and data[position] == 0)
        if self._bad.reason != _TORN and self._bad.torn and data[position:after].strip(b"\0"):
            self._bad.torn = False
        return after

    def _next_magic(self, data: bytes, position: int) -> int:
        found = data.find(RECORD_MAGIC, position)
        if found >= 0:
            return found
        for keep in (3, 2, 1):  # the magic may be cut by the chunk's end
            if len(data) - keep >= position and RECORD_MAGIC.startswith(data[len(data) - keep :]):
                return len(data) - keep
        return len(data)

    def _read(self, data: bytes, position: int) -> Record | _Bad | _Needs:
        """Return the record at ``position``, or what is wrong there, or how many bytes it takes to tell."""
        available = len(data) - position
        offset = self._offset + position
        if not RECORD_MAGIC.startswith(data[position : position + 4]):
            return _Bad(offset, None, "no record begins here")
        if available < _HEAD_SIZE:
            return _Needs(_HEAD_SIZE, is_header=True)
        head = data[position : position + 16]
        head_crc = crc32(head, self._salt)
        if head_crc != _U32.unpack_from(data, position + 16)[0]:
            return _Bad(offset, None, "the record's header fails its check")
        _, length, seq = _HEAD.unpack(head)
        if not 1 <= length <= self._max_payload:
            return _Bad(offset, seq, f"a payload of {length} bytes is not within 1 and {self._max_payload}")
        if available < length + RECORD_OVERHEAD:
            return _Needs(length + RECORD_OVERHEAD, is_header=False)
        payload = data[position + _HEAD_SIZE : position + _HEAD_SIZE + length]
        if crc32(payload, head_crc) != _U32.unpack_from(data, position + _HEAD_SIZE + length)[0]:
            return _Bad(offset, seq, "the payload fails its check")
        return Record(seq, payload, offset, length + RECORD_OVERHEAD)


_TORN: Final = "the file ends inside the record"


class _Bad(msgspec.Struct):
    """Where no valid record stands. ``seq``: the record's, where its header is intact. ``torn``: if nothing follows,
    this is no damage.
    """

    offset: int
    seq: int | None
    reason: str
    torn: bool = False


class _Needs(msgspec.Struct, frozen=True):
    """The bytes end inside what may be a record: inside its header, or behind an intact one."""

    size: int
    is_header: bool
