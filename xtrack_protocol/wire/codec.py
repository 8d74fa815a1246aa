"""Events to bytes and back: the only module, with its slow half, that uses msgspec's coders.

Strategy. A payload is decoded in one pass over its bytes into the envelope of its type. Structs refuse unknown
fields and every slot has its exact type, so what passes is legal as it stands, except in free slots, whose depth
and ``$float`` forms are looked at only where an event has one. Whatever the fast pass refuses goes to
``_slow``, which parses it again in plain Python: legacy forms are read there, unknown types and fields kept or
dropped, and everything else gets its error class and the path of the field. Both halves give the same verdict and
the same event for any bytes that both accept; a property test holds them to that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir.envelope import (
    CONTROL_TYPES,
    ENVELOPES,
    Envelope,
    EventMeta,
    KnownEnvelope,
    UnknownEnvelope,
)
from xtrack_protocol.limits import DEPTH_MAX, INT64_MAX, INT64_MIN

Codec: TypeAlias = Literal["json", "msgpack"]
"""Frames are JSON; MessagePack is a second, negotiated codec with the same field names.

spec: MSG-1, MSG-3, MSG-4, MSG-5
"""

Buffer: TypeAlias = bytes | bytearray | memoryview

encode_json: Final = msgspec.json.Encoder().encode
"""As far as msgspec goes: what it writes for a plain envelope needs a look for null, see :func:`encode`."""

_decode_json = msgspec.json.Decoder(KnownEnvelope).decode
_decode_msgpack = msgspec.msgpack.Decoder(KnownEnvelope).decode

_FREE_SLOTS: Final[dict[type[Envelope], str]] = {
    ENVELOPES["param"]: "value",
    ENVELOPES["log"]: "fields",
    ENVELOPES["artifact"]: "metadata",
    ENVELOPES["checkpoint"]: "metadata",
    ENVELOPES["command"]: "payload",
    UnknownEnvelope: "payload",
}
"""The free slot of each event that has one. spec: VAL-4"""

_REFUSALS: Final = (ValueError, RecursionError, BytesWarning)
"""How msgspec refuses a payload. The last: names that are bytes, under python -bb."""

_FREE_SLOT_LEVEL: Final = 3  # the envelope is level 1, p is level 2

_TYPED_DEPTH: Final = 8
"""More levels than any event has outside of free slots."""

_CONTROL: Final = frozenset(ENVELOPES[event_type] for event_type in CONTROL_TYPES)

PLAIN: Final = frozenset(ENVELOPES.values()) - _CONTROL - frozenset(_FREE_SLOTS)
"""Envelopes of a run's events without a free slot: what is decoded is legal if its seq is."""

_NOT_AS_IT_LOOKS: Final = re.compile(rb"\$float|[0-9]{19}|\\u00[267]")
"""What a free slot may hold that msgspec reads otherwise than the protocol: a float in disguise (spec: VAL-4), its name
written with escapes perhaps, and integers beyond int64 (spec: VAL-2)."""

_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def encode(envelope: Envelope, codec: Codec = "json") -> bytes:
    """Return the payload of a frame: UTF-8 JSON with the members t, v, m, p in that order. spec: ENV-7

    Absent fields are left out; NaN and infinities are written as texts (spec: VAL-3, VAL-4). Raises EncodeError
    for what isn't JSON: other types and keys, lone surrogates, more than 64 levels, integers beyond MessagePack's; and
    for a run's event with a seq below 1. A control event is written with seq 0 and without session id (spec: CTL-1).
    Typed slots are taken as they are: whoever builds events from user's values checks them, as the emitter does.
    """
    if type(envelope) in PLAIN and envelope.meta.seq >= 1 and codec == "json":
        try:
            payload = encode_json(envelope)
        except (ValueError, TypeError, RecursionError, OverflowError):
            return _encode_slowly(envelope, codec)  # names the field that can't be written
        # msgspec writes a non-finite float as null. Nothing else of ours does: absent fields are left out. A search
        # with ``in`` takes twice as long, for it tries to make a number of what is searched for and raises inside.
        return payload if payload.replace(b"null", b"") is payload else _encode_slowly(envelope, codec)
    return _encode_with_care(envelope, codec)


def decode(payload: Buffer, *, codec: Codec = "json", lenient: bool = True, max_depth: int = DEPTH_MAX) -> Envelope:
    """Return the envelope that ``payload`` (a frame without its length) holds.

    ``lenient`` readers, the default, take what legacy workers write: bare NaN and Infinity tokens, true and false
    as metric values (spec: JSN-7, VAL-5). Raises DecodeError, with offset 0, and nothing else. spec: ERR-1
    """
    if codec != "json" and not _is_msgpack(payload):
        codec = "json"  # spec: MSG-2
    try:
        envelope: Envelope = _decode_json(payload) if codec == "json" else _decode_msgpack(payload)
    except _REFUSALS:
        pass
    else:
        if type(envelope) in PLAIN and envelope.meta.seq >= 1 and max_depth >= _TYPED_DEPTH:
            return envelope
        if _is_legal(envelope, payload, codec, max_depth):
            return envelope
    from xtrack_protocol.wire import _slow

    return _slow.decode(bytes(payload), codec=codec, lenient=lenient, max_depth=max_depth)


def decode_each(
    payloads: Sequence[bytes],
    *,
    codec: Codec = "json",
    lenient: bool = True,
    max_depth: int = DEPTH_MAX,
    go_on: bool = True,
) -> tuple[list[Any], bool]:
    """Return what :func:`decode` returns for each payload, or the DecodeError it raises; and whether it raised none.

    All of them in one pass, for no Python runs between two. Unless it is to ``go_on``, it stops before an error.
    """
    results: list[Any] = []
    fast = _decode_json if codec == "json" else _decode_msgpack
    well, rest = True, iter(payloads)
    while True:
        try:
            results.extend(map(fast, rest))
            break
        except _REFUSALS:  # of one payload: those before it are in ``results``, and ``rest`` stands behind it
            pass
        result = _decoded(payloads[len(results)], codec, lenient=lenient, max_depth=max_depth)
        if type(result) is DecodeError:
            well = False
            if not go_on:
                break
        results.append(result)
    if (
        PLAIN.issuperset(map(type, results))
        and not [1 for envelope in results if envelope.meta.seq < 1]
        and max_depth >= _TYPED_DEPTH
    ):
        return results, well
    for place, (envelope, payload) in enumerate(zip(results, payloads, strict=False)):
        if type(envelope) is not DecodeError and not _is_legal(envelope, payload, codec, max_depth):
            result = results[place] = _decoded(payload, codec, lenient=lenient, max_depth=max_depth)
            if type(result) is DecodeError:
                well = False
                if not go_on:
                    return results[:place], well
    return results, well


def _decoded(payload: bytes, codec: Codec, *, lenient: bool, max_depth: int) -> Envelope | DecodeError:
    try:
        return decode(payload, codec=codec, lenient=lenient, max_depth=max_depth)
    except DecodeError as error:
        return error


def transcode(payload: bytes, codec: Codec, max_payload: int) -> bytes:
    """Return an event's payload, whose own codec its first byte tells, as it goes on a connection with ``codec``.

    Members that this version doesn't know survive (spec: FRM-8.2). What MessagePack can't hold, or what would have more
    than ``max_payload`` bytes in it, stays JSON (spec: VER-2.7). Raises DecodeError for MessagePack that is no event.
    """
    if _is_msgpack(payload):
        return payload if codec == "msgpack" else encode(decode(payload, codec="msgpack"))
    if codec == "json":
        return payload
    try:
        # Numbers without a JSON form have the same text in both codecs, so that nothing has to know the slots.
        packed = msgspec.msgpack.encode(msgspec.json.decode(payload))
    except (ValueError, RecursionError, OverflowError):
        return payload  # integers beyond 64 bits, or tokens that only lenient readers take
    return packed if len(packed) <= max_payload else payload


def is_control(envelope: Envelope) -> bool:
    """Whether the envelope belongs to the session and not to a run's stream of events. spec: CTL-1, ENV-5"""
    return envelope.event_type in CONTROL_TYPES or (envelope.__class__ is UnknownEnvelope and envelope.meta.seq < 1)


def _encode_with_care(envelope: Envelope, codec: Codec) -> bytes:
    """Encode what isn't a plain event: with the seq that it may have, and with a look into its free slot."""
    if envelope.meta.seq < 1 or envelope.__class__ in _CONTROL:
        envelope = _with_seq_as_written(envelope)
    if codec == "json":
        try:
            payload = encode_json(envelope)
        except (ValueError, TypeError, RecursionError, OverflowError):
            return _encode_slowly(envelope, codec)
        if b"null" not in payload:
            slot = _FREE_SLOTS.get(envelope.__class__)
            if slot is None or (
                envelope.__class__ is not UnknownEnvelope
                and _is_plain(getattr(envelope.payload, slot), _FREE_SLOT_LEVEL)
            ):
                return payload
    return _encode_slowly(envelope, codec)


def _with_seq_as_written(envelope: Envelope) -> Envelope:
    """Return an envelope whose seq a writer may write, or raise EncodeError. spec: CTL-1, ENV-4, ENV-5"""
    cls, meta = envelope.__class__, envelope.meta
    if cls in _CONTROL:
        if meta.seq == 0 and meta.session_id is None:
            return envelope
        return replace(envelope, meta=EventMeta(0, meta.timestamp_us, meta.worker_id))
    if cls is UnknownEnvelope:
        return envelope
    raise EncodeError(f"must be at least 1, not {meta.seq}", "m.seq")


def _is_msgpack(payload: Buffer) -> bool:
    """Whether ``payload`` begins as a MessagePack map does, and no JSON text can. spec: MSG-2"""
    return len(payload) > 0 and (0x80 <= payload[0] <= 0x8F or payload[0] in {0xDE, 0xDF})


def _encode_slowly(envelope: Envelope, codec: Codec) -> bytes:
    from xtrack_protocol.wire import _slow

    return _slow.encode(envelope, codec)


def _is_legal(envelope: Envelope, payload: Buffer, codec: Codec, max_depth: int) -> bool:
    """Whether what msgspec has read of ``payload`` is surely what the protocol reads."""
    cls = type(envelope)
    if envelope.meta.seq < 1 and cls not in _CONTROL:
        return False
    slot = _FREE_SLOTS.get(cls)
    if slot is None:
        return max_depth >= _TYPED_DEPTH
    if codec != "json" or cls is UnknownEnvelope:
        return False
    payload = bytes(payload)
    value = getattr(envelope.payload, slot)
    if not (value is None or value == {} or type(value) is str) and _NOT_AS_IT_LOOKS.search(payload):
        return False
    # Counted whatever the slot holds: of a name that stands twice the first value isn't there any more.
    return payload.count(b"{") + payload.count(b"[") <= max_depth or _is_within(payload, max_depth)


def _is_within(payload: bytes, max_depth: int) -> bool:
    """Whether legal JSON has at most ``max_depth`` levels. spec: JSN-2

    Each turn takes away the innermost brackets, all at once: hundreds of thousands of them cost milliseconds.
    """
    brackets = _STRINGS.sub(b"", payload).translate(_AS_SQUARE, _NO_BRACKETS)
    for _ in range(max_depth):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"")
    return not brackets


def _is_plain(value: Any, level: int) -> bool:
    """Whether msgspec writes ``value``, which stands at nesting ``level``, as the JSON that it is."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(INT64_MIN <= value <= INT64_MAX)
    if kind is float:
        return bool(value - value == 0.0)
    if level > DEPTH_MAX:
        return False
    if kind is dict:
        return "$float" not in value and all(
            type(key) is str and _is_plain(item, level + 1) for key, item in value.items()
        )
    if kind is list or kind is tuple:
        return all(_is_plain(item, level + 1) for item in value)
    return False


__all__ = ["Buffer", "Codec", "EncodeError", "decode", "encode", "is_control", "transcode"]
