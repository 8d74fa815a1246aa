"""Standard streams as programs find them: in any encoding, closed, or read by nobody any more."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final, TextIO

BROKEN_PIPE: Final = 141
"""What a shell reports of a program that SIGPIPE ended: 128 + 13."""


def write_text(stream: TextIO, text: str, encoding: str | None = None) -> None:
    """Write ``text`` in the stream's encoding, or in ``encoding``; what it can't hold becomes an escape."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(text)
    else:
        stream.flush()
        buffer.write(text.encode(encoding or stream.encoding or "utf-8", "backslashreplace"))


def silence(stream: TextIO) -> None:
    """Let nothing more be written to a pipe that nobody reads, not even by the interpreter when it ends."""
    with contextlib.suppress(OSError, ValueError):  # it may have no descriptor, as in tests
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def open_closed_streams() -> None:
    """Give a process that was started with standard streams closed (``>&-``) some that lead nowhere."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            null = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 - kept open
            setattr(sys, name, null)
