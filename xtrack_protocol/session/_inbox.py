"""The bytes of a connection on their way in: one frame at a time while it is open what comes next, then in bulk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xtrack_protocol.limits import DecodeLimits
from xtrack_protocol.wire import Codec, Frame, FrameDecoder, NeedMore, decode_frame


class Inbox:
    """Frames of a connection. The codec applies from the frame behind ``welcome`` on (spec: VER-2.6), which may have
    come in the same piece of bytes; so nothing behind a frame is decoded before that frame has been taken.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._offset = 0
        self._decoder: FrameDecoder | None = None

    def settle(self, codec: Codec, limits: DecodeLimits) -> None:
        """From the next frame on, decode with ``codec`` and ``limits``."""
        self._decoder = FrameDecoder(limits, codec=codec, offset=self._offset)

    @property
    def partial(self) -> int | None:
        """The offset of the frame that was begun and isn't complete; None between frames."""
        if self._decoder is not None and not self._buffer:
            return self._decoder.offset if self._decoder.buffered else None
        return self._offset if self._buffer else None

    @property
    def buffered(self) -> int:
        """Bytes of the frame that was begun."""
        return len(self._buffer) + (self._decoder.buffered if self._decoder is not None else 0)

    def feed(self, data: bytes) -> Iterator[Sequence[Frame]]:
        """Yield the frames that ``data`` completes, one at a time or many, each piece to be taken before the next.

        After a fatal one nothing more must be fed. spec: FRM-1.5
        """
        if self._decoder is not None:
            yield self._decoder.feed(data)
            return
        self._buffer += data
        while self._buffer:
            if self._decoder is not None:
                rest = bytes(self._buffer)
                self._buffer.clear()
                yield self._decoder.feed(rest)
                return
            decoded = decode_frame(self._buffer, limits=self._limits)
            if isinstance(decoded, NeedMore):
                return
            frame = self._placed(decoded.frame)
            del self._buffer[: decoded.consumed]
            self._offset += decoded.consumed
            if frame.error is not None and frame.error.fatal:
                self._buffer.clear()
            yield (frame,)

    def finish(self) -> list[Frame]:
        """Say that the connection has ended; return the truncated frame, if it ended inside one. spec: FRM-5.5"""
        decoder = self._decoder
        if decoder is None:
            decoder = FrameDecoder(self._limits, offset=self._offset)
            decoder.feed(bytes(self._buffer))
            self._buffer.clear()
            self._decoder = decoder
        return decoder.finish()

    def _placed(self, frame: Frame) -> Frame:
        """Return ``frame``, which was decoded as if the connection began with it, at its offset. spec: ERR-3"""
        if not self._offset:
            return frame
        error = frame.error.at(self._offset, frame.error.length) if frame.error else None
        return Frame(frame.envelope, error, self._offset, frame.length, frame.raw, frame.verified)
