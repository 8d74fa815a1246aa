"""Segments by the letter of docs/spec/at-rest.md: made from what cases say, and read by a strict reader of our own.

It knows nothing of events: a payload is bytes here.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from typing import Any, Final, Literal

import attrs

MAGIC: Final = b"XTRKSEG1"
RECORD_MAGIC: Final = bytes.fromhex("f5585231")
BLOCK: Final = 4096
START: Final = 2 * BLOCK
"""Where the records begin."""
HEAD: Final = 20
OVERHEAD: Final = 24
PAYLOAD_MAX: Final = 16_777_215
SEGMENT_FULL: Final = 8 * 1024 * 1024
"""RST-6.4: behind this no further record is begun."""

ABSENT: Final = {"wid": "", "number": 1, "first_seq": 1, "created": 0, "salt": "00000000"}
"""What absent members of a header read as."""

Kind = Literal["plain", "segment", "unknown"]


class BadSegment(ValueError):
    """Bytes that are no segment as a writer must write it: says what is wrong, and where."""

    def __init__(self, text: str, offset: int | None = None) -> None:
        self.offset = offset
        super().__init__(text)


@attrs.frozen
class Item:
    """A record, damage or a torn tail. ``payload``: of a record; ``seq``: where its header tells it."""

    kind: Literal["record", "damage", "torn"]
    offset: int
    length: int
    seq: int | None = None
    payload: bytes | None = None


# ------------------------------------------------------------------------------------------ making


def block(body: dict[str, Any] | bytes) -> bytes:
    """Return one copy of a header. spec: RST-2"""
    text = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    data = MAGIC + struct.pack(">I", len(text)) + text
    return (data + struct.pack(">I", zlib.crc32(data))).ljust(BLOCK, b"\0")


def record(seq: int, payload: bytes, salt: int, *, length: int | None = None) -> bytes:
    """Return a record. ``length``: what it announces, where that isn't the truth. spec: RST-3"""
    head = RECORD_MAGIC + struct.pack(">Iq", len(payload) if length is None else length, seq)
    head_crc = zlib.crc32(head, salt)
    return head + struct.pack(">I", head_crc) + payload + struct.pack(">I", zlib.crc32(payload, head_crc))


# ------------------------------------------------------------------------------------------ reading


def kind_of(data: bytes) -> Kind:
    """Tell what a file is. spec: RST-8, RST-8.1"""
    if data[:8] == MAGIC or data[BLOCK : BLOCK + 8] == MAGIC:
        return "segment"
    return "plain" if not data or data[0] == 0 else "unknown"


def header_of(data: bytes) -> dict[str, Any] | None:
    """Return the header of a segment, absent members as what they read as; None where no block holds. spec: RST-2.1"""
    for begin in (0, BLOCK):
        found = _read_block(data[begin : begin + BLOCK])
        if found is not None:
            return found
    return None


def _read_block(data: bytes) -> dict[str, Any] | None:
    if data[:8] != MAGIC or len(data) < 16:
        return None
    end = 12 + int.from_bytes(data[8:12], "big")
    if end + 4 > BLOCK or zlib.crc32(data[:end]) != int.from_bytes(data[end : end + 4], "big"):
        return None
    try:
        body = json.loads(data[12:end].decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    found = {**ABSENT, **{name: value for name, value in body.items() if value is not None}}
    texts = all(isinstance(found.get(name), str) for name in ("run_id", "wid", "sid", "salt"))
    if not texts or not all(type(found[name]) is int for name in ("number", "first_seq", "created")):
        return None
    salt = found["salt"]
    return found if len(salt) == 8 and all(digit in "0123456789abcdefABCDEF" for digit in salt) else None


def items_of(data: bytes, salt: int) -> list[Item]:
    """Return what follows the header of a segment to which nothing is written any more. spec: RST-3.5, RST-5"""
    items: list[Item] = []
    position = START
    while position < len(data):
        item = _item_at(data, position, salt)
        items.append(item)
        position += item.length
    return items


def _item_at(data: bytes, position: int, salt: int) -> Item:
    rest = len(data) - position
    head = _head_at(data, position, salt)
    if head is not None:
        length, seq, head_crc = head
        if 1 <= length <= PAYLOAD_MAX:
            if rest < length + OVERHEAD:
                return Item("torn", position, rest)
            payload = data[position + HEAD : position + HEAD + length]
            crc = data[position + HEAD + length : position + OVERHEAD + length]
            if zlib.crc32(payload, head_crc) == int.from_bytes(crc, "big"):
                return Item("record", position, length + OVERHEAD, seq, payload)
    elif (rest < HEAD and RECORD_MAGIC.startswith(data[position : position + 4])) or not any(data[position:]):
        return Item("torn", position, rest)
    after = position
    while (after := data.find(RECORD_MAGIC, after + 1)) >= 0:
        if _head_at(data, after, salt) is not None:
            break
    return Item("damage", position, (after if after >= 0 else len(data)) - position, head[1] if head else None)


def _head_at(data: bytes, position: int, salt: int) -> tuple[int, int, int] | None:
    """Return length, seq and CRC of the record header that holds at a place, whatever length it announces."""
    head = data[position : position + HEAD]
    if len(head) < HEAD or head[:4] != RECORD_MAGIC:
        return None
    crc = zlib.crc32(head[:16], salt)
    length, seq, told = struct.unpack(">IqI", head[4:])
    return (length, seq, crc) if told == crc else None


# ------------------------------------------------------------------------------------------ judging writers


def check_written(data: bytes, run_id: str, wid: str, sid: str) -> tuple[dict[str, Any], list[Item]]:
    """Return the header and the records of a segment as a writer must leave it behind. Raises BadSegment."""
    if len(data) < START:
        raise BadSegment(f"a segment begins with {START} bytes of header; these are {len(data)} (RST-2)", len(data))
    if data[:BLOCK] != data[BLOCK:START]:
        at = next(i for i in range(BLOCK) if data[i] != data[BLOCK + i])
        raise BadSegment("the two blocks of the header differ (RST-2)", BLOCK + at)
    header = _read_block(data[:BLOCK])
    if header is None:
        raise BadSegment(f"the header doesn't hold: {_why(data[:BLOCK])} (RST-2)", 0)
    end = 16 + int.from_bytes(data[8:12], "big")
    if any(data[end:BLOCK]):
        raise BadSegment("the header's body is followed by other bytes than zeros (RST-2)", end)
    for name, wanted in (("run_id", run_id), ("wid", wid), ("sid", sid)):
        if header[name] != wanted:
            raise BadSegment(f"the header's {name} is {header[name]!r}, not {wanted!r} (RST-2)", 12)
    items = items_of(data, int(header["salt"], 16))
    for item in items:
        if item.kind != "record":
            raise BadSegment(
                f"no valid record begins here, but {item.kind} of {item.length} bytes (RST-3)", item.offset
            )
    return header, items


def _why(data: bytes) -> str:
    if data[:8] != MAGIC:
        return "no magic"
    end = 12 + int.from_bytes(data[8:12], "big")
    if end + 4 > BLOCK:
        return "its body doesn't fit into the block"
    if zlib.crc32(data[:end]) != int.from_bytes(data[end : end + 4], "big"):
        return "its CRC is another"
    return "its body is no such object"


# ------------------------------------------------------------------------------------------ names

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+=@")
_SHORTENED: Final = re.compile(r".*[A-Z].*|con|prn|aux|nul|(com|lpt)[0-9]", re.DOTALL)


def name_of(text: str) -> str:
    """Return what stands for an id in the names of a spool. spec: RST-6.13, RST-6.14"""
    data = text.encode()
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data) or "%00empty"
    if len(name) <= 120 and not _SHORTENED.fullmatch(text):
        return name
    return f"{name[:79]}~{hashlib.sha256(data).hexdigest()[:40]}"
