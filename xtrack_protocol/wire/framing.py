"""Frames on a stream: four bytes of length, then the payload. No I/O: bytes in, frames out. spec: FRM-1

A frame whose payload is bad costs that frame alone (spec: ERR-4). A length that can't be is fatal here, for nothing
after it can be trusted (spec: FRM-5); :mod:`xtrack_protocol.wire.salvage` is for files, where reading on is worth it.
"""

from __future__ import annotations

from struct import Struct as _Layout
from typing import Final

import msgspec

from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import Envelope
from xtrack_protocol.limits import FRAME_HARD_MAX, SOCKET_LIMITS, DecodeLimits
from xtrack_protocol.wire.codec import Buffer, Codec, decode, encode

PREFIX: Final = _Layout(">I")
"""The length: unsigned, 32 bits, big-endian. spec: FRM-1"""

_pack = PREFIX.pack
_unpack_from = PREFIX.unpack_from


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
    """Return the whole frame of ``envelope``. Raises EncodeError. spec: FRM-1, ENV-7"""
    payload = encode(envelope, codec)
    if len(payload) > FRAME_HARD_MAX:
        raise EncodeError(f"the payload has {len(payload)} bytes, more than {FRAME_HARD_MAX}")  # spec: FRM-3
    return _pack(len(payload)) + payload


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
        if self._buffer:
            self._buffer += chunk
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
        else:
            data = bytes(chunk)
        frames: list[Frame] = []
        position = self._decode_all(data, frames)
        self._buffer = bytearray(data[position:])
        self._offset += position
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

    def _decode_all(self, data: bytes, frames: list[Frame]) -> int:
        """Decode the frames of ``data``; return how many bytes they took."""
        position, size = 0, len(data)
        limits, lenient, codec, base = self._limits, self._lenient, self._codec, self._offset
        max_frame, max_depth = limits.max_frame, limits.max_depth
        append, unpack_from = frames.append, _unpack_from
        while size - position >= 4:
            (length,) = unpack_from(data, position)
            if not 1 <= length <= max_frame:
                self._fatal = length_error(length, base + position, limits)
                append(Frame(None, self._fatal, base + position, length if length <= FRAME_HARD_MAX else 0, b""))
                return size
            end = position + 4 + length
            if end > size:
                self._need = 4 + length
                return position
            payload = data[position + 4 : end]
            try:  # what decode_payload does, but a call less for each frame
                envelope = decode(payload, codec=codec, lenient=lenient, max_depth=max_depth)
            except DecodeError as error:
                append(Frame(None, error.at(base + position, 4 + length), base + position, length, payload))
            else:
                append(Frame(envelope, None, base + position, length, payload))
            position = end
        if position < size and data[position]:
            self._fatal = _first_byte_error(data[position], base + position)
            append(Frame(None, self._fatal, base + position, 0, b""))
            return size
        self._need = 4
        return position
