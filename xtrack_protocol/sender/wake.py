"""Wakes a thread that waits for a socket."""

from __future__ import annotations

import contextlib
import math
import select
import socket
from typing import Final, Protocol

READ: Final = 1
WRITE: Final = 4
"""The bits of ``select.poll``, where there is one, and ours where there is none."""


class Pollable(Protocol):
    """What can be waited for."""

    def fileno(self) -> int:
        """Return its descriptor."""


class Wake:
    """A socket pair: ``set`` ends another thread's ``wait``, this one or the next."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)

    def set(self) -> None:
        """End the wait. May be called from any thread and from signal handlers; never waits, never raises."""
        with contextlib.suppress(OSError):  # full: it will wake up anyhow. Closed: nobody waits any more
            self._writing.send(b"\0")

    def wait(self, seconds: float, channel: Pollable | None = None, events: int = 0) -> None:
        """Wait until ``set`` was called, ``channel`` is ready for ``events``, or the time is over."""
        seconds = max(0.0, min(seconds, 3600.0))
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._reading, READ)
            if channel is not None and events:
                poll.register(channel, events)
            woken = any(fd == self._reading.fileno() for fd, _ in poll.poll(math.ceil(seconds * 1000)))
        else:
            wants = [] if channel is None else [channel]
            reading: list[Pollable] = [self._reading, *(wants if events & READ else [])]
            ready, _, _ = select.select(reading, wants if events & WRITE else [], [], seconds)
            woken = self._reading in ready
        if woken:
            with contextlib.suppress(OSError):
                self._reading.recv(4096)

    def close(self) -> None:
        """Give the sockets back."""
        self._reading.close()
        self._writing.close()
