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

from struct import Struct as _Layout
from typing import Final, TypeAlias
from zlib import crc32

import msgspec

from xtrack_protocol.errors import NotASegment
from xtrack_protocol.ir import Int64
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

_U32 = _Layout(">I")
_HEAD = _Layout(">4sIQ")
_HEAD_SIZE: Final = 20  # with its CRC
_pack_u32 = _U32.pack
_pack_head = _HEAD.pack
_MASK64: Final = 2**64 - 1


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
    salt: str = "00000000"

    @property
    def salt_value(self) -> int:
        """The salt as the number that header CRCs start from."""
        return int(self.salt, 16)


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
        header = msgspec.json.decode(block[12:end], type=SegmentHeader)
        header.salt_value  # noqa: B018 - raises ValueError where it is no number
    except ValueError:
        return None
    return header


def encode_record(seq: int, payload: bytes, salt: int) -> bytes:
    """Return the record of ``payload``, an encoded envelope of that ``seq``. spec: RST-3"""
    head = _pack_head(RECORD_MAGIC, len(payload), seq & _MASK64)
    head_crc = crc32(head, salt)
    return b"%b%b%b%b" % (head, _pack_u32(head_crc), payload, _pack_u32(crc32(payload, head_crc)))


class RecordDecoder:
    """Decodes the records of one segment, fed in chunks of any size from byte 8,192 on.

    The result is the same for any chunking. ``max_payload`` bounds what a header can make us hold back.
    A live segment is read by feeding what has come; only ``finish()`` tells a torn tail from damage.
    """

    def __init__(self, salt: int, offset: int = RECORDS_START, max_payload: int = FRAME_HARD_MAX) -> None:
        self._salt = salt
        self._max_payload = max_payload
        self._buffer = b""
        self._offset = offset  # of the buffer's first byte
        self._damage: tuple[int, int | None, str] | None = None  # offset, seq, reason

    @property
    def offset(self) -> int:
        """Where to go on reading: everything before was returned as records or damage."""
        return self._damage[0] if self._damage else self._offset

    def feed(self, chunk: Buffer) -> list[Item]:
        """Take the next bytes; return what they complete, in order."""
        self._buffer += chunk
        return self._run(at_end=False)

    def finish(self) -> list[Item]:
        """Say that nothing follows; return the damage or the torn tail at the end, if any."""
        items = self._run(at_end=True)
        left = self._offset + len(self._buffer)
        if self._damage:
            begin, seq, reason = self._damage
            self._damage = None
            items.append(self._damage_or_tear(begin, left, seq, reason))
        elif self._buffer:
            items.append(self._damage_or_tear(self._offset, left, None, "no record begins here"))
        self._offset, self._buffer = left, b""
        return items

    def _damage_or_tear(self, begin: int, end: int, seq: int | None, reason: str) -> Item:
        return TornTail(begin, end - begin) if reason == _TORN else Damage(begin, end - begin, seq, reason)

    def _run(self, *, at_end: bool) -> list[Item]:
        items: list[Item] = []
        data, position = self._buffer, 0
        while position < len(data):
            record = self._read(data, position)
            if isinstance(record, Record):
                if self._damage:
                    begin, seq, reason = self._damage
                    items.append(Damage(begin, record.offset - begin, seq, reason))
                    self._damage = None
                items.append(record)
                position += record.size
            elif record is None and not at_end:
                break  # needs more bytes
            else:
                if not self._damage:
                    seq, reason = record or (None, _TORN)
                    if not any(data[position:]) and at_end:
                        reason = _TORN  # never written: space that was reserved, or blocks lost in a power loss
                    self._damage = (self._offset + position, seq, reason)
                position = self._next_magic(data, position + 1)
        self._buffer = data[position:]
        self._offset += position
        return items

    def _next_magic(self, data: bytes, position: int) -> int:
        found = data.find(RECORD_MAGIC, position)
        if found >= 0:
            return found
        for keep in (3, 2, 1):  # the magic may be cut by the chunk's end
            if len(data) - keep >= position and RECORD_MAGIC.startswith(data[len(data) - keep :]):
                return len(data) - keep
        return len(data)

    def _read(self, data: bytes, position: int) -> Record | tuple[int | None, str] | None:
        """Return the record at ``position``; or the seq, if known, and what is wrong; or None: needs more bytes."""
        available = len(data) - position
        if not RECORD_MAGIC.startswith(data[position : position + 4]):
            return None, "no record begins here"
        if available < _HEAD_SIZE:
            return None
        head = data[position : position + 16]
        head_crc = crc32(head, self._salt)
        if head_crc != _U32.unpack_from(data, position + 16)[0]:
            return None, "the record's header fails its check"
        _, length, unsigned = _HEAD.unpack(head)
        seq = unsigned - 2**64 if unsigned >= 2**63 else unsigned
        if length > self._max_payload:
            return seq, f"a payload of {length} bytes is more than {self._max_payload}"
        if available < length + RECORD_OVERHEAD:
            return None
        payload = data[position + _HEAD_SIZE : position + _HEAD_SIZE + length]
        if crc32(payload, head_crc) != _U32.unpack_from(data, position + _HEAD_SIZE + length)[0]:
            return seq, "the payload fails its check"
        return Record(seq, payload, self._offset + position, length + RECORD_OVERHEAD)


_TORN: Final = "the file ends inside the record"
