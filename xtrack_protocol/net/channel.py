"""A connected byte stream that never waits. The one over TLS is in ``tls_channel``, which alone brings ``ssl``."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from typing import Final

from xtrack_protocol.errors import TransportClosed

READ_SIZE: Final = 65536
POLLIN: Final = getattr(select, "POLLIN", 1)
POLLOUT: Final = getattr(select, "POLLOUT", 4)
NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)  # a script may have set SIGPIPE back to deadly

_DRAIN_READS: Final = 16
"""Reads before a close: a socket that is closed with something unread resets, and what was written may be lost."""


def wait(fd: int, mask: int, deadline: float) -> bool:
    """Wait until ``fd`` is ready for what ``mask`` says, or broken; return whether it came to that in time.

    ``deadline``: of ``time.monotonic``, seconds.
    """
    left = max(0.0, deadline - time.monotonic())
    if hasattr(select, "poll"):  # select() refuses descriptors from 1024 on
        poll = select.poll()
        poll.register(fd, mask)
        return bool(poll.poll(math.ceil(left * 1000)))
    reading, writing = [fd] if mask & POLLIN else [], [fd] if mask & POLLOUT else []
    return any(select.select(reading, writing, writing, left))


class Channel:
    """A connected socket, which this owns and which is non-blocking. Not thread-safe.

    Wait with ``poll`` for ``events()`` on ``fileno()``, unless ``has_pending()``; then ``read`` until it returns None,
    and ``write`` what there is. A peer that is gone is told of by ``read`` alone, after what it still had to say (a
    ``reject``, often): ``write`` returns 0 then.
    """

    def __init__(self, connection: socket.socket, peer: str, address: str) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._wants_room = False
        self._lost: OSError | None = None
        self.peer: Final = peer
        """The other end's address, for messages: ``192.0.2.1:9999``, or a path."""
        self.address: Final = address
        """The URL that was connected to."""
        self.first = b""
        """The first bytes that came, up to 16: ``explain_first_bytes`` tells by them what is no collector."""

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 after ``close``."""
        return self._socket.fileno()

    def events(self) -> int:
        """Return the mask of ``poll`` to wait for: always for input, and for room while something waits for it."""
        return POLLIN | POLLOUT if self._wants_room and self._lost is None else POLLIN

    def has_pending(self) -> bool:
        """Return whether bytes have come that ``poll`` knows nothing of."""
        return False

    def read(self) -> bytes | None:
        """Return what has come, at most some 64 KiB; None: nothing now; ``b""``: the peer has closed.

        Raises TransportClosed when the connection broke.
        """
        try:
            came = self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            if self._lost is not None:
                raise self._broken(self._lost) from self._lost
            return None
        except OSError as error:
            raise self._broken(error) from error
        self.first = self.first or came[:16]
        return came

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Hand on what can be handed on now of ``data``, which isn't empty; return how many bytes: 0 means not now."""
        if self._lost is not None:
            return 0
        try:
            sent = self._socket.send(data, NO_SIGNAL)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lost = error
            return 0
        self._wants_room = sent < len(data)
        return sent

    def close(self) -> None:
        """Close the connection. What was written still goes, but for what waits for room. Never waits itself."""
        with contextlib.suppress(OSError):  # nothing more, or closed before
            for _ in range(_DRAIN_READS):
                if not self._socket.recv(READ_SIZE):
                    break
        self._socket.close()

    def abandon(self) -> None:
        """Close our copy of the descriptor without a word to the peer: for a forked child, whose parent goes on."""
        self._socket.close()

    def _broken(self, error: OSError) -> TransportClosed:
        return TransportClosed(self.address, f"the connection broke: {error.strerror or error}")
