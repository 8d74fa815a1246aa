"""What pipes and sockets share: whole frames out within a time-out, frames in without waiting."""

from __future__ import annotations

import abc
import math
import os
import select
import socket
import time
from collections import deque
from typing import Final

from xtrack_protocol.errors import DecodeError, TransportClosed, TransportError
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.transport._turns import Turns
from xtrack_protocol.transport.base import Transport
from xtrack_protocol.wire import FrameDecoder, frame_payload

SEND_TIMEOUT: Final = 10.0
"""Seconds within which the other side must take an event."""
CONTROLS_MAX: Final = 64
"""Answers to commands that wait for a peer that takes nothing; further ones are refused."""
_CLOSE_TIMEOUT: Final = 1.0
_HURRY_TIMEOUT: Final = 1.0
_READ_SIZE: Final = 65536
_READS_MAX: Final = 16  # in one call: a peer that floods us must not hold it up

_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)
_NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)  # a script may have set SIGPIPE back to deadly
_ATOMIC: Final = getattr(select, "PIPE_BUF", 512)


def wait_for(fd: int, seconds: float, *, reading: bool) -> bool:
    """Wait until ``fd`` can be read or written, or is broken; return whether it came to that in time."""
    if hasattr(select, "poll"):  # select() refuses descriptors from 1024 on
        poll = select.poll()
        poll.register(fd, select.POLLIN if reading else select.POLLOUT)
        return bool(poll.poll(math.ceil(seconds * 1000)))
    lists: tuple[list[int], list[int]] = ([fd], []) if reading else ([], [fd])
    return any(select.select(*lists, [], seconds))


class Channel(abc.ABC):
    """A pipe or a socket. ``write`` and ``read`` never wait: they raise BlockingIOError instead."""

    @abc.abstractmethod
    def fileno(self) -> int:
        """Return its descriptor."""

    @abc.abstractmethod
    def write(self, data: memoryview) -> int:
        """Write what can be written of ``data`` now; return how much. Up to 512 bytes go whole or not at all."""

    @abc.abstractmethod
    def read(self) -> bytes:
        """Return what has come in; nothing where the other side has closed."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close our descriptor."""


class SocketChannel(Channel):
    """A connected socket, which this owns."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        return self._socket.fileno()

    def write(self, data: memoryview) -> int:
        return self._socket.send(data, _DONT_WAIT | _NO_SIGNAL)

    def read(self) -> bytes:
        return self._socket.recv(_READ_SIZE, _DONT_WAIT)

    def close(self) -> None:
        self._socket.close()


class PipeChannel(Channel):
    """A pipe, or whatever else a descriptor may be, which this owns.

    It is left as it is: to make it non-blocking would make it so for all who share it, a terminal perhaps. So
    nothing is written before it can take it, and then no more than a pipe that can be written to takes at once.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def write(self, data: memoryview) -> int:
        if not wait_for(self._fd, 0, reading=False):
            raise BlockingIOError
        return os.write(self._fd, data[:_ATOMIC])

    def read(self) -> bytes:
        if not wait_for(self._fd, 0, reading=True):
            raise BlockingIOError
        return os.read(self._fd, _READ_SIZE)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class FrameWriter:
    """Writes whole frames, from several threads and in turn with other processes.

    A frame of which the peer took a part and then no more can't be taken back: the stream is over then. After a
    time-out no further event waits until the peer has taken one, so that it is paid for once. ``channel`` may be
    the number of a descriptor; it stays its owner's.
    """

    def __init__(
        self, channel: Channel | int, address: str, turns: Turns | None = None, timeout: float = SEND_TIMEOUT
    ) -> None:
        self._channel = PipeChannel(channel) if isinstance(channel, int) else channel
        self._address = address
        self._turns = turns or Turns()
        self._timeout = timeout
        self._patience = timeout
        self._controls: deque[memoryview] = deque()
        self._broken: str | None = None

    def write(self, payload: bytes) -> None:
        """Write the frame of ``payload``. Raises TransportError, or TransportClosed when nothing more can follow."""
        if not 0 < len(payload) <= FRAME_MAX_EMIT:  # receivers close the connection on it. spec: FRM-3
            raise TransportError(self._address, f"no frame can hold {len(payload)} bytes")
        frame = memoryview(frame_payload(payload))
        deadline = time.monotonic() + self._patience
        if not self._turns.take(self._patience):
            self._patience = 0.0
            raise TransportError(self._address, f"other writers have held it for {self._timeout:g} s")
        try:
            self._write_controls(deadline)
            self._put(frame, deadline)
            self._patience = self._timeout
        finally:
            self._turns.give()
        if self._controls:
            self.pump()

    def post(self, payload: bytes) -> bool:
        """Send a control event when that can be done without waiting; return False where it never can."""
        if self._broken or not 0 < len(payload) <= FRAME_MAX_EMIT or len(self._controls) >= CONTROLS_MAX:
            return False
        self._controls.append(memoryview(frame_payload(payload)))
        self.pump()
        return not self._broken

    def pump(self) -> None:
        """Write what was posted, as far as it goes without waiting; what is too long for that goes with an event."""
        while self._controls and not self._broken and len(self._controls[0]) <= _ATOMIC and self._turns.take(0):
            try:
                if not self._controls or not wait_for(self._channel.fileno(), 0, reading=False):
                    return
                self._put(self._controls[0], deadline=0.0)
                self._controls.popleft()
            except (TransportError, ValueError, IndexError):
                return  # no room, or closed in the meantime: a write to come says so
            finally:
                self._turns.give()

    def hurry(self) -> None:
        """From the next event on, wait a second for the peer at the most."""
        self._timeout = min(self._timeout, _HURRY_TIMEOUT)
        self._patience = min(self._patience, _HURRY_TIMEOUT)

    def close(self) -> None:
        """Write what was posted, in a second at the most. The channel stays open."""
        if self._controls and not self._broken and self._turns.take(_CLOSE_TIMEOUT):
            try:
                self._write_controls(time.monotonic() + _CLOSE_TIMEOUT)
            except TransportError:
                self._controls.clear()  # the peer is gone, and nobody is left who waits for an answer
            finally:
                self._turns.give()

    def _write_controls(self, deadline: float) -> None:
        while self._controls:
            self._put(self._controls[0], deadline)
            self._controls.popleft()

    def _put(self, frame: memoryview, deadline: float) -> None:
        if self._broken:
            raise TransportClosed(self._address, self._broken)
        write, left = self._channel.write, frame
        try:
            while left:
                try:
                    left = left[write(left) :]
                except BlockingIOError:
                    self._wait(deadline, started=len(left) < len(frame))
        except TransportError:
            raise
        except OSError as error:
            self._broken = f"the other side is gone: {error.strerror or error}"
            raise TransportClosed(self._address, self._broken) from error
        except BaseException:  # a signal handler raised: a short frame is there or isn't, a long one may be in part
            if len(frame) > _ATOMIC:
                self._broken = "an event was interrupted half-way"
            raise

    def _wait(self, deadline: float, *, started: bool) -> None:
        left = deadline - time.monotonic()
        if left > 0 and wait_for(self._channel.fileno(), left, reading=False):
            return
        problem = f"the other side has not taken an event within {self._timeout:g} s"
        self._patience = 0.0
        if started:
            self._broken = problem
            raise TransportClosed(self._address, problem)
        raise TransportError(self._address, problem)


class FrameReader:
    """Reads the control frames that have come in on a channel, without waiting."""

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel | None = channel
        self._decoder = FrameDecoder()

    def read(self) -> list[bytes]:
        """Return the payloads that have come in; for good none once the peer has closed or broken the framing."""
        payloads: list[bytes] = []
        for _ in range(_READS_MAX):
            channel = self._channel
            if channel is None:
                break
            try:
                chunk = channel.read()
                frames = self._decoder.feed(chunk)
            except BlockingIOError:
                break
            except (OSError, DecodeError):
                self._channel = None
                break
            payloads += [frame.raw for frame in frames if frame.envelope]
            if not chunk or any(frame.error and frame.error.fatal for frame in frames):
                self._channel = None
        return payloads


class FrameTransport(Transport):
    """What stdio and unix have in common once they are open: a writer, and a reader where there is a way back."""

    def __init__(self) -> None:
        self._channels: list[Channel] = []
        self._writer: FrameWriter | None = None
        self._reader: FrameReader | None = None

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        if self._writer is None:
            raise TransportClosed(self.address, "is not open")
        self._writer.write(payload)

    def send_control(self, payload: bytes) -> bool:
        writer = self._writer
        return writer is not None and writer.post(payload)

    def hurry(self) -> None:
        if self._writer:
            self._writer.hurry()

    def receive(self) -> list[bytes]:
        reader, writer = self._reader, self._writer
        if writer:
            writer.pump()
        return reader.read() if reader else []

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            writer.close()
        self._release()

    def _release(self) -> None:
        self._writer = self._reader = None
        while self._channels:
            self._channels.pop().close()
