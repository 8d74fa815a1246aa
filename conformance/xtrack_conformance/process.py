"""A testee as a process: lines in, lines out, and whatever goes wrong with it as an event of its own.

Three threads a process, so that this works alike on Linux, macOS and Windows: one writes, one reads answers, one keeps
the tail of stderr. None of them can block the runner.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO, Final, Literal

import attrs

LINE_MAX: Final = 64 * 1024 * 1024
"""Bytes of one answer. The largest a case needs is that to a file's largest frame, 22 MiB in base64."""

STDERR_KEPT: Final = 200
"""Lines of stderr kept for the report."""

_STDERR_LINE_MAX: Final = 2000
_READ: Final = 256 * 1024

EventKind = Literal["line", "eof", "half-line", "huge-answer"]


@attrs.frozen
class Event:
    """What came from a testee's stdout. ``generation``: of the process that it came from."""

    kind: EventKind
    line: bytes = b""
    generation: int = 0


class StartFailed(Exception):
    """The testee's command can't be started."""


class Testee:
    """One process of a testee. Its events come through ``events``, which outlives it."""

    __test__ = False  # for pytest, which takes the name for a test's

    def __init__(self, command: Sequence[str], events: queue.Queue[Event], generation: int) -> None:
        self.generation = generation
        self._events = events
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=STDERR_KEPT)
        self._partial = 0
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=os.name == "posix",  # so that what it starts can be ended with it
            )
        except OSError as error:
            raise StartFailed(f"{command[0]!r} can't be started: {error.strerror or error}") from error
        threads = [(self._write, "write"), (self._read, "read"), (self._read_stderr, "stderr")]
        self._threads = [threading.Thread(target=run, name=f"testee-{name}", daemon=True) for run, name in threads]
        for thread in self._threads:
            thread.start()

    def send(self, line: bytes) -> None:
        """Have a line written. Never blocks."""
        self._requests.put(line)

    def close_input(self) -> None:
        """Tell the testee that nothing more will come."""
        self._requests.put(None)

    @property
    def has_half_a_line(self) -> bool:
        """Whether the testee has begun a line and not ended it."""
        return self._partial > 0

    def stderr(self) -> list[str]:
        """Return the last lines of its stderr."""
        return list(self._stderr)

    def wait(self, seconds: float) -> int | None:
        """Return the exit status once the process has ended; None where it hasn't."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def kill(self) -> int | None:
        """End the process and what it has started; return its exit status."""
        if os.name == "posix":
            # The group may be gone already, or be one that isn't ours any more.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        status = self.wait(10)
        self._requests.put(None)
        for thread in self._threads:
            thread.join(1)  # a grandchild in a session of its own can hold the pipes open for ever: daemons
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe and not any(thread.is_alive() for thread in self._threads):
                pipe.close()
        return status

    # Each of the following runs in a thread.

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        # A testee that has ended, or closed its stdin, is noticed by its end.
        with contextlib.suppress(OSError, ValueError):
            while (line := self._requests.get()) is not None:
                pipe.write(line)
                if self._requests.empty():
                    pipe.flush()
        with contextlib.suppress(OSError, ValueError):
            pipe.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        pieces: list[bytes] = []
        while chunk := _read_some(pipe):
            *lines, rest = chunk.split(b"\n")
            for line in lines:
                self._tell("line", b"".join([*pieces, line]))
                pieces, self._partial = [], 0
            if rest:
                pieces.append(rest)
                self._partial += len(rest)
            if self._partial > LINE_MAX:
                self._tell("huge-answer")
                return  # reads no more: the runner ends the process
        if self._partial:
            self._tell("half-line", b"".join(pieces))
        self._tell("eof")

    def _tell(self, kind: EventKind, line: bytes = b"") -> None:
        self._events.put(Event(kind, line, self.generation))

    def _read_stderr(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        begun = b""
        while chunk := _read_some(pipe):
            *lines, begun = (begun + chunk).split(b"\n")
            self._stderr.extend(line[:_STDERR_LINE_MAX].decode("utf-8", "replace") for line in lines)
            begun = begun[:_STDERR_LINE_MAX]
        if begun:
            self._stderr.append(begun.decode("utf-8", "replace"))


def _read_some(pipe: IO[bytes]) -> bytes:
    """Return what there is, at least a byte; nothing at the end."""
    with contextlib.suppress(OSError, ValueError):  # closed under our hands: the end as well
        return os.read(pipe.fileno(), _READ)
    return b""


def exit_text(status: int | None) -> str:
    """Say how a process ended."""
    if status is None:
        return "it still runs"
    if status < 0 and sys.platform != "win32":
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"
