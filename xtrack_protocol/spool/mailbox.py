"""How commands reach a local run, and its answers come back: small files in the run's folder. spec: RST-7

``<cmd_id>.json`` is a command's encoded envelope; ``<cmd_id>.<sid>.result`` the envelope of one worker's answer. Both
appear whole. Whoever posted a command takes it away again when it has been answered or given up.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir import Command, CommandResult, Envelope
from xtrack_protocol.spool.layout import make_private_dir, safe_name, write_private
from xtrack_protocol.wire import decode, encode

_COMMAND = ".json"
_RESULT = ".result"
POLL_SECONDS = 0.05


class Inbox:
    """A worker's side: what has been posted since it started."""

    def __init__(self, folder: Path, session_id: str, since_us: int) -> None:
        self._folder = folder
        self._session_id = session_id
        self._since_us = since_us
        self._seen: set[str] = set()
        self._changed_ns = -1

    def receive(self) -> list[bytes]:
        """Return the payloads of commands not returned before; one system call when there is nothing new."""
        try:
            changed_ns = self._folder.stat().st_mtime_ns
        except OSError:
            return []  # no mailbox: nobody has posted anything
        # A file that came within the clock's grain of the last look may be missed by the time stamp alone.
        if changed_ns == self._changed_ns and time.time_ns() - changed_ns > 1_000_000_000:
            return []
        self._changed_ns = changed_ns
        payloads: list[bytes] = []
        with os.scandir(self._folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(_COMMAND) and entry.name[0] != ".")
        for name in names:
            if name not in self._seen:
                self._seen.add(name)
                payloads.extend(self._read(name))
        return payloads

    def _read(self, name: str) -> Iterator[bytes]:
        with contextlib.suppress(FileNotFoundError):  # taken away again: its sender has given up
            payload = (self._folder / name).read_bytes()
            try:
                envelope = decode(payload)
            except DecodeError:
                return  # no command of ours; its sender will see that nobody answers
            if envelope.meta.timestamp_us >= self._since_us:  # older ones were meant for an earlier session
                yield payload

    def answer(self, payload: bytes) -> bool:
        """Leave the answer to a command. Raises OSError."""
        result = decode(payload).payload
        if not isinstance(result, CommandResult):
            return False
        write_private(self._folder / f"{safe_name(result.command_id)}.{self._session_id}{_RESULT}", payload)
        return True


def post(folder: Path, command: Command) -> None:
    """Post a command. Raises OSError where the run's folder can't be written."""
    make_private_dir(folder)
    envelope = Envelope.of(command, seq=0, timestamp_us=time.time_ns() // 1000)
    write_private(folder / f"{safe_name(command.command_id)}{_COMMAND}", encode(envelope))


def wait_for_answers(folder: Path, command_id: str, *, expected: int, timeout: float) -> list[CommandResult]:
    """Return the answers to a posted command: wait for ``expected``, or ``timeout`` seconds; then clear up."""
    prefix = f"{safe_name(command_id)}."
    deadline = time.monotonic() + timeout
    while True:
        names = [entry.name for entry in folder.iterdir() if entry.name.startswith(prefix) and entry.suffix == _RESULT]
        if len(names) >= expected or time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    answers = [decode((folder / name).read_bytes()).payload for name in sorted(names)]
    for name in (*names, f"{prefix[:-1]}{_COMMAND}"):
        (folder / name).unlink(missing_ok=True)
    return [answer for answer in answers if isinstance(answer, CommandResult)]
