"""Frames on a stream: four bytes of length, then the payload. No I/O: bytes in, frames out. spec: FRM-1

A frame whose payload is bad costs that frame alone (spec: ERR-4). A length that can't be is fatal here, for nothing
after it can be trusted (spec: FRM-5); :mod:`xtrack_protocol.wire.salvage` is for files, where reading on is worth it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from struct import Struct as _Layout
from typing import Final

import msgspec

from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import Envelope
from xtrack_protocol.limits import FRAME_HARD_MAX, SOCKET_LIMITS, DecodeLimits
from xtrack_protocol.wire.codec import PLAIN, Buffer, Codec, decode, decode_each, encode, encode_json

PREFIX: Final = _Layout(">I")
"""The length: unsigned, 32 bits, big-endian. spec: FRM-1"""

_pack = PREFIX.pack
_unpack_from = PREFIX.unpack_from

_SHORT: Final = 1024
_PREFIXES: Final = tuple(_pack(length) for length in range(_SHORT))
"""The lengths of short payloads, ready to be used."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What stands at one place of a stream: an event, or what is wrong there.

    ``envelope`` or ``error``: one of them is None. ``offset``: of the frame's first byte, the length's, in bytes
    from the stream's start. ``length``: bytes of payload. ``raw``: the payload's original bytes, empty where they
    were not read. ``verified``: False after damage to the framing, where a reader had to guess where the frame
    begins (spec: FRM-7). ``error.length`` counts all the bytes that are unusable, from ``offset`` on; it is 0 for an
    error whose range has no end (spec: FRM-5). spec: FRM-8
    """

    envelope: Envelope | None
    error: DecodeError | None
    offset: int
    length: int
    raw: bytes
    verified: bool = True


class NeedMore(msgspec.Struct, frozen=True, gc=False):
    """The buffer ends inside a frame; ``missing`` more bytes are needed at the least."""

    missing: int


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """One frame and the bytes it took of the buffer, its length's included."""

    frame: Frame
    consumed: int


def encode_frame(envelope: Envelope, codec: Codec = "json") -> bytes:
    """Return the whole frame of ``envelope``. Raises EncodeError. spec: FRM-1, ENV-7

    Typed slots are taken as they are, as by ``encode``.
    """
    if type(envelope) in PLAIN and envelope.meta.seq >= 1 and codec == "json":
        try:  # what encode does, but a call less for each event
            payload = encode_json(envelope)
        except (ValueError, TypeError, RecursionError, OverflowError):
            payload = encode(envelope)
        else:
            if payload.replace(b"null", b"") is not payload:
                payload = encode(envelope)
    else:
        payload = encode(envelope, codec)
    length = len(payload)
    if length < _SHORT:
        return _PREFIXES[length] + payload
    if length > FRAME_HARD_MAX:
        raise EncodeError(f"the payload has {length} bytes, more than {FRAME_HARD_MAX}")  # spec: FRM-3
    return _pack(length) + payload


def frame_payload(payload: bytes) -> bytes:
    """Return ``payload`` with its length before it. spec: FRM-1"""
    return _pack(len(payload)) + payload


def decode_frame(
    buffer: Buffer, *, limits: DecodeLimits = SOCKET_LIMITS, lenient: bool = True, codec: Codec = "json"
) -> Decoded | NeedMore:
    """Decode the frame at the start of ``buffer``.

    Returns NeedMore where the buffer ends too early. A bad frame is a Frame with an ``error``; when that error is
    fatal, ``consumed`` is 0, because nobody knows where the next frame begins. spec: ERR-4, FRM-5
    """
    if len(buffer) and buffer[0]:
        return Decoded(Frame(None, _first_byte_error(buffer[0], 0), 0, 0, b""), 0)
    if len(buffer) < PREFIX.size:
        return NeedMore(PREFIX.size - len(buffer))
    (length,) = _unpack_from(buffer)
    error = length_error(length, 0, limits)
    if error:
        return Decoded(Frame(None, error, 0, length, b""), 0)
    end = PREFIX.size + length
    if len(buffer) < end:
        return NeedMore(end - len(buffer))
    return Decoded(decode_payload(bytes(buffer[PREFIX.size : end]), 0, limits, lenient=lenient, codec=codec), end)


def decode_payload(
    payload: bytes, offset: int, limits: DecodeLimits, *, lenient: bool, codec: Codec = "json", verified: bool = True
) -> Frame:
    """Return the Frame of a payload whose frame begins at ``offset``; its error, if any, is never fatal."""
    try:
        envelope = decode(payload, codec=codec, lenient=lenient, max_depth=limits.max_depth)
    except DecodeError as error:
        placed = error.at(offset, PREFIX.size + len(payload))
        return Frame(None, placed, offset, len(payload), payload, verified)
    return Frame(envelope, None, offset, len(payload), payload, verified)


def length_error(length: int, offset: int, limits: DecodeLimits) -> DecodeError | None:
    """Return what is wrong with an announced length, if anything.

    It is fatal, and its range has no end: ``error.length`` is 0. spec: FRM-2, FRM-3, FRM-5
    """
    if length == 0:
        return DecodeError("empty_frame", "a length of zero", offset=offset, fatal=True)
    if length > FRAME_HARD_MAX:
        return _first_byte_error(length >> 24, offset)
    if length > limits.max_frame:
        reason = f"a length of {length} bytes is more than the limit of {limits.max_frame}"
        return DecodeError("frame_too_large", reason, offset=offset, fatal=True)
    return None


_OTHER_PROTOCOLS: Final = {
    **dict.fromkeys(b"CDGHOPT", "HTTP"),  # CONNECT, DELETE, GET, HEAD, OPTIONS, POST, PUT, PATCH, PRI, TRACE
    0x16: "TLS",
    ord("S"): "SSH",
    ord("*"): "Redis",
    ord("{"): "JSON without its length",
}


def _first_byte_error(first: int, offset: int) -> DecodeError:
    """Refuse what can't begin a frame: no legal length has a first byte other than zero. spec: FRM-3

    That byte is all that is looked at, so that the verdict doesn't depend on how many came with it.
    """
    speaks = _OTHER_PROTOCOLS.get(first)
    guess = f"; this looks like {speaks}" if speaks else ""
    reason = f"the first byte is 0x{first:02x}, and every frame's is 0x00{guess}"
    return DecodeError("frame_too_large", reason, offset=offset, fatal=True)


class FrameDecoder:
    """Decodes a stream of frames fed in chunks of any size, with the same result for any chunking.

    ``limits``: what is taken (pipes and sockets by default). ``lenient``: take what legacy workers write.
    ``codec``: what was negotiated. After a fatal error every further call raises it again: such a stream stays
    poisoned. Memory: what was fed of the frame under way, at most ``limits.max_frame`` bytes and a chunk.
    """

    def __init__(
        self, limits: DecodeLimits = SOCKET_LIMITS, lenient: bool = True, codec: Codec = "json", offset: int = 0
    ) -> None:
        self._limits = limits
        self._lenient = lenient
        self._codec: Codec = codec
        self._offset = offset  # of the buffer's first byte
        self._buffer = bytearray()
        self._need = 1  # bytes the buffer must hold before there is anything to do
        self._fatal: DecodeError | None = None

    @property
    def offset(self) -> int:
        """Where the next frame begins, in bytes from the stream's start."""
        return self._offset

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame held back."""
        return len(self._buffer)

    def feed(self, chunk: Buffer) -> list[Frame]:
        """Take the next bytes; return the frames they complete, in order. A fatal error is the last Frame."""
        if self._fatal:
            raise self._poison()
        data = bytes(chunk)  # a copy only of what may change
        held = self._buffer
        frames: list[Frame] = []
        base, begin = self._offset, 0
        if held:
            missing = self._need - len(held)
            if len(data) < missing:
                held += data
                return []
            if len(held) < PREFIX.size:
                data = bytes(held) + data
            else:  # the frame under way is put together, and what follows it is decoded where it is
                payload = bytes(held[PREFIX.size :]) + data[:missing]
                frames.append(decode_payload(payload, base, self._limits, lenient=self._lenient, codec=self._codec))
                base, begin = base + len(held), missing
        position = self._decode_all(data, begin, base, frames)
        self._buffer = bytearray(data[position:])
        self._offset = base + position
        return frames

    def finish(self) -> list[Frame]:
        """Say that the stream has ended; return the truncated frame, if it ended inside one."""
        if self._fatal:
            raise self._poison()
        if not self._buffer:
            return []
        left = len(self._buffer)
        self._fatal = DecodeError(
            "truncated",
            f"the stream ends {self._need - left} bytes before the frame does",
            offset=self._offset,
            length=left,
            fatal=True,
        )
        raw = bytes(self._buffer[PREFIX.size :])
        return [Frame(None, self._fatal, self._offset, max(0, self._need - PREFIX.size), raw)]

    def _poison(self) -> DecodeError:
        """Return the fatal error to raise once more: a copy, for the frame that holds the first one isn't looked into
        by Python's garbage collector, and would keep the traceback and all that is reached from it for good.
        """
        assert self._fatal is not None
        return self._fatal.at(self._fatal.offset, self._fatal.length)

    def _decode_all(self, data: bytes, position: int, base: int, frames: list[Frame]) -> int:
        """Decode the frames of ``data`` from ``position`` on; return where the first begins that isn't whole.

        ``base``: the offset of the first byte of ``data``.
        """
        size = len(data)
        limits, lenient, codec = self._limits, self._lenient, self._codec
        max_frame, max_depth = limits.max_frame, limits.max_depth
        if size - position >= _MANY:
            offsets, payloads, position = cut_frames(data, position, base, max_frame)
            frames += decode_frames(payloads, offsets, limits, lenient=lenient, codec=codec)
        while size - position >= 4:
            (length,) = _unpack_from(data, position)
            if not 1 <= length <= max_frame:
                self._fatal = length_error(length, base + position, limits)
                length = length if length <= FRAME_HARD_MAX else 0
                frames.append(Frame(None, self._fatal, base + position, length, b""))
                return size
            end = position + 4 + length
            if end > size:
                self._need = 4 + length
                return position
            payload = data[position + 4 : end]
            try:  # what decode_payload does, but a call less for each frame
                envelope = decode(payload, codec=codec, lenient=lenient, max_depth=max_depth)
            except DecodeError as error:
                frames.append(Frame(None, error.at(base + position, 4 + length), base + position, length, payload))
            else:
                frames.append(Frame(envelope, None, base + position, length, payload))
            position = end
        if position < size and data[position]:
            self._fatal = _first_byte_error(data[position], base + position)
            frames.append(Frame(None, self._fatal, base + position, 0, b""))
            return size
        self._need = 4
        return position


_MANY: Final = 2048
"""Bytes from which on it takes less time to cut all frames and to decode all payloads than to go frame by frame."""


def cut_frames(
    data: bytes, position: int, base: int, max_frame: int, until: int | None = None
) -> tuple[list[int], list[bytes], int]:
    """Cut whole frames that begin before ``until`` from ``data``: their offsets, their payloads, and where they end.

    It stops before a length that isn't legal, and before a frame that ``data`` ends in. ``base``: the offset of the
    first byte of ``data``.
    """
    offsets: list[int] = []
    payloads: list[bytes] = []
    add_offset, add_payload, unpack_from = offsets.append, payloads.append, _unpack_from
    size = len(data)
    last = size - PREFIX.size
    if until is not None and until <= last:
        last = until - 1
    while position <= last:
        (length,) = unpack_from(data, position)
        start = position + 4
        end = start + length
        if end > size or not 1 <= length <= max_frame:
            break
        add_payload(data[start:end])
        add_offset(base + position)
        position = end
    return offsets, payloads, position


def decode_frames(
    payloads: list[bytes], offsets: list[int], limits: DecodeLimits, *, lenient: bool, codec: Codec = "json"
) -> Iterable[Frame]:
    """Return what :func:`decode_payload` returns for each payload and the offset of its frame."""
    results, well = decode_each(payloads, codec=codec, lenient=lenient, max_depth=limits.max_depth)
    if well:
        return map(Frame, results, repeat(None), offsets, map(len, payloads), payloads)
    return map(_as_frame, results, offsets, payloads)


def _as_frame(result: Envelope | DecodeError, offset: int, payload: bytes) -> Frame:
    length = len(payload)
    if isinstance(result, DecodeError):
        return Frame(None, result.at(offset, PREFIX.size + length), offset, length, payload)
    return Frame(result, None, offset, length, payload)
