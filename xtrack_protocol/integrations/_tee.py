"""The process at the other end of captured descriptors: passes everything on, and gives the training a copy.

It is a process of its own so that nothing depends on the training: C code may write while it holds Python's lock, and
what was written before a kill still gets to the terminal. It needs the standard library only, and is run as a file.

It ends when nobody holds the writing ends any longer. The copy goes to a socket, as records: kind, output, size, bytes.
A training that doesn't read them loses them, and is told how many bytes; it is never waited for.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys

RECORD = struct.Struct(">BBI")
DATA, LOST, DONE = range(3)
BACKLOG_MAX = 8 * 1024 * 1024
"""Bytes of the copy that wait for the training to read them."""
_CHUNK = 64 * 1024
_NEVER_MIND = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGUSR1", "SIGUSR2")


class Tee:
    """``control``: a socket to the training. ``outputs``: descriptors to read, each with a number and its goal."""

    def __init__(self, control: int, outputs: dict[int, tuple[int, int]]) -> None:
        self._control: int | None = control
        self._outputs = outputs
        self._backlog = bytearray()
        self._lost: dict[int, int] = {}
        self._is_asked = False
        self._readable = select.poll()
        for source in outputs:
            self._readable.register(source, select.POLLIN)
        os.set_blocking(control, False)

    def run(self) -> None:
        while self._outputs:
            everything = select.poll()
            for source in self._outputs:
                everything.register(source, select.POLLIN)
            if self._control is not None:
                everything.register(self._control, select.POLLIN | (select.POLLOUT if self._backlog else 0))
            ready = [found for found, _ in everything.poll()]
            for source in ready:
                if source in self._outputs:
                    self._pass_on(source)
            if self._control in ready:
                self._talk()
            if self._is_asked and not self._readable.poll(0):
                self._add(DONE, 0, b"")  # all that was written before the question has been copied
                self._is_asked = False
        if self._control is not None:  # the training waits for the rest, or is gone
            self._add(DONE, 0, b"")
            os.set_blocking(self._control, True)
            write_all(self._control, self._backlog)

    def _pass_on(self, source: int) -> None:
        number, goal = self._outputs[source]
        try:
            data = os.read(source, _CHUNK)
        except OSError:  # a terminal that nobody has open any longer
            data = b""
        if not data or not write_all(goal, data):
            # Where the goal is gone, those who write shall be told so as they would be without us.
            self._readable.unregister(source)
            os.close(source)
            del self._outputs[source]
        if data:
            self._add(DATA, number, data)

    def _add(self, kind: int, number: int, data: bytes) -> None:
        if self._control is None:
            return
        if kind == DATA and len(self._backlog) > BACKLOG_MAX:
            self._lost[number] = self._lost.get(number, 0) + len(data)
            return
        for lost, size in self._lost.items():
            self._backlog += RECORD.pack(LOST, lost, min(size, 2**32 - 1))
        self._lost.clear()
        self._backlog += RECORD.pack(kind, number, len(data)) + data

    def _talk(self) -> None:
        assert self._control is not None
        try:
            if self._backlog:
                del self._backlog[: os.write(self._control, self._backlog[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()
            return
        try:
            asked = os.read(self._control, 64)
        except BlockingIOError:
            return
        except OSError:
            asked = b""
        if asked:
            self._is_asked = True
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._control is not None:
            os.close(self._control)
        self._control = None
        self._backlog.clear()


def write_all(goal: int, data: bytes | bytearray) -> bool:
    """Write all of it, however long that takes; return False where it can't be written."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(goal, rest) :]
        except BlockingIOError:  # somebody has made the terminal so, for all who have it
            select.select([], [goal], [])
        except OSError:
            return False
    return True


def main(control: str, *outputs: str) -> None:
    """``outputs``: SOURCE:NUMBER:GOAL, each a descriptor but for the number."""
    if os.fork():
        os._exit(0)  # the training waits for this one, and never for the other
    for name in _NEVER_MIND:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    table = {}
    for output in outputs:
        source, number, goal = map(int, output.split(":"))
        table[source] = (number, goal)
    Tee(int(control), table).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
