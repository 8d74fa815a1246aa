"""Captures descriptors 1 and 2 themselves: what C code and started programs write to them as well.

In their place come pipes, or terminals where they are terminals, to a process of its own (:mod:`_tee`), which passes
everything on to where it went before, and sends a copy back here, for a thread to log.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from xtrack_protocol.integrations import _tee
from xtrack_protocol.integrations._output import Output

_SYNC_SECONDS: Final = 5.0
"""Seconds that the end waits for what was written before it."""

_CHUNK: Final = 64 * 1024


class Descriptors:
    """``outputs``: what each descriptor's text goes to. Raises OSError where they can't be captured."""

    def __init__(self, outputs: Mapping[int, Output]) -> None:
        self._outputs = outputs
        self._saved: dict[int, int] = {}
        self._ours: dict[int, os.stat_result] = {}
        self._pid = os.getpid()
        flush_all()
        with contextlib.ExitStack() as opened:
            self._open(opened)

    def _open(self, opened: contextlib.ExitStack) -> None:
        """Start the process and the thread, then put the new descriptors in place: where one of the two can't be
        started, nothing has changed.
        """

        def later_closed(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        if not sys.executable:
            raise OSError("the path of this Python is not known")
        writing: dict[int, int] = {}
        table: list[str] = []
        passed: list[int] = []
        with contextlib.ExitStack() as failed:
            for fd in self._outputs:
                saved = os.dup(fd)
                failed.callback(os.close, saved)
                self._saved[fd] = saved
                reading, writing[fd] = map(later_closed, _pair_for(fd))
                table.append(f"{reading}:{fd}:{saved}")
                passed += [reading, saved]
            self._socket, theirs = socket.socketpair()
            failed.callback(self._socket.close)
            with theirs:
                command = [sys.executable, "-I", "-S", str(Path(_tee.__file__)), str(theirs.fileno()), *table]
                done = subprocess.run(
                    command,
                    pass_fds=[*passed, theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is not for it
                    check=False,
                )
            if done.returncode:
                raise OSError(f"{command[0]} ended with {done.returncode}")
            self._thread = threading.Thread(target=self._read, name="xtrack-output", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # a limit of threads or of memory; the process ends with the pipes
                raise OSError(f"the thread that reads the copy: {error}") from error
            failed.pop_all()
        for fd, end in writing.items():
            os.dup2(end, fd)
            self._ours[fd] = os.fstat(end)

    def close(self) -> bool:
        """Put back what was there before, where nobody has put something else there; wait for the rest of the copy.

        Return whether all of it has come.
        """
        flush_all()
        for fd, saved in self._saved.items():
            if _is_same(fd, self._ours[fd]):
                os.dup2(saved, fd)
            os.close(saved)
        with contextlib.suppress(OSError):  # the process is gone: nothing will come
            self._socket.send(b"?")
        self._thread.join(_SYNC_SECONDS)
        is_whole = not self._thread.is_alive()
        self._socket.close()
        return is_whole

    def _read(self) -> None:
        decoders = {fd: codecs.getincrementaldecoder("utf-8")("replace") for fd in self._outputs}
        received = bytearray()
        while True:
            try:
                chunk = self._socket.recv(_CHUNK)
            except OSError:
                return
            if not chunk:
                return
            received += chunk
            while len(received) >= _tee.RECORD.size:
                kind, fd, size = _tee.RECORD.unpack_from(received)
                if kind == _tee.DONE:
                    return
                end = _tee.RECORD.size + (size if kind == _tee.DATA else 0)
                if len(received) < end:
                    break
                if kind == _tee.DATA:
                    self._outputs[fd].write(decoders[fd].decode(bytes(received[_tee.RECORD.size : end])))
                else:
                    self._outputs[fd].drop_bytes(size)
                del received[:end]


def flush_all() -> None:
    """Let everything out that Python and C hold back, to where it was written for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, broken, or none: its owner will be told
            stream.flush()
    with contextlib.suppress(Exception):  # no ctypes, or no such library
        import ctypes

        ctypes.CDLL(None).fflush(None)


def _pair_for(fd: int) -> tuple[int, int]:
    """Return an end to read from and one to write to, that is a terminal where ``fd`` is one."""
    if not os.isatty(fd):
        return os.pipe()
    import fcntl
    import termios
    import tty

    reading, writing = os.openpty()
    tty.setraw(writing)  # the real terminal does what there is to do
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(writing, termios.TIOCSWINSZ, size)
    return reading, writing


def _is_same(fd: int, before: os.stat_result) -> bool:
    try:
        now = os.fstat(fd)
    except OSError:  # closed by somebody: put back what was there
        return True
    return (now.st_dev, now.st_ino, now.st_rdev) == (before.st_dev, before.st_ino, before.st_rdev)
