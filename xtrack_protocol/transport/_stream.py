"""What pipes and sockets share: whole frames out within a time-out, frames in without waiting."""

from __future__ import annotations

import os
import select
import time
from typing import Final

from xtrack_protocol.errors import DecodeError, TransportClosed, TransportError
from xtrack_protocol.wire import FrameDecoder, frame_payload

SEND_TIMEOUT: Final = 10.0
"""Seconds that a peer may take no bytes before an event is given up."""


class FrameWriter:
    """Writes whole frames to a non-blocking descriptor.

    A frame of which the peer took a part and then no more can't be taken back: the stream is over then.
    """

    def __init__(self, fd: int, address: str, timeout: float = SEND_TIMEOUT) -> None:
        self._fd = fd
        self._address = address
        self._timeout = timeout
        self._broken: str | None = None

    def write(self, payload: bytes) -> None:
        """Write the frame of ``payload``. Raises TransportError, or TransportClosed when nothing more can follow."""
        if self._broken:
            raise TransportClosed(self._address, self._broken)
        view = memoryview(frame_payload(payload))
        started = False
        deadline = time.monotonic() + self._timeout
        while view:
            try:
                view = view[os.write(self._fd, view) :]
                started = True
            except BlockingIOError:
                self._wait(deadline, started=started)
            except OSError as error:
                self._broken = f"the other side is gone: {error.strerror or error}"
                raise TransportClosed(self._address, self._broken) from error

    def _wait(self, deadline: float, *, started: bool) -> None:
        left = deadline - time.monotonic()
        if left > 0 and select.select([], [self._fd], [], left)[1]:
            return
        problem = f"the other side has taken nothing for {self._timeout:g} s"
        if started:
            self._broken = problem
            raise TransportClosed(self._address, problem)
        raise TransportError(self._address, problem)


class FrameReader:
    """Reads the control frames that have come in on a descriptor, without waiting."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._decoder = FrameDecoder()

    def read(self) -> list[bytes]:
        """Return the payloads that have come in; for good none once the peer has closed or broken the framing."""
        payloads: list[bytes] = []
        while self._fd is not None and select.select([self._fd], [], [], 0)[0]:
            try:
                chunk = os.read(self._fd, 65536)
                frames = self._decoder.feed(chunk)
            except BlockingIOError:
                break
            except (OSError, DecodeError):
                self._fd = None
                break
            payloads += [frame.raw for frame in frames if frame.envelope]
            if not chunk or any(frame.error and frame.error.fatal for frame in frames):
                self._fd = None
        return payloads
