"""How commands reach a local run, and its answers come back: small files in the run's folder. spec: RST-7

``<cmd_id>.json`` is a command's encoded envelope; ``<cmd_id>.<sid>.result`` the envelope of one worker's answer. Both
appear whole. Whoever posted a command takes it away again when it has been answered or given up.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir.control import Command, CommandResult
from xtrack_protocol.ir.envelope import Envelope
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.spool.layout import make_private_dir, safe_name, write_private
from xtrack_protocol.wire.codec import decode, encode

_COMMAND: Final = ".json"
_RESULT: Final = ".result"
POLL_SECONDS: Final = 0.05
_GRAIN_SECONDS: Final = 2.0
"""A folder's time stamp may stay the same for this long though files come: the coarsest in use."""


class Inbox:
    """A worker's side: what has been posted since it started."""

    def __init__(self, folder: Path, session_id: str, since_us: int) -> None:
        self._folder = folder
        self._session_id = session_id
        self._since_us = since_us
        self._seen: set[str] = set()
        self._changed_ns = -1
        self._settled = 0.0  # monotonic: our clock and the file system's needn't agree

    def receive(self) -> list[bytes]:
        """Return the payloads of commands not returned before, in the order of their times.

        One system call when there is nothing new.
        """
        try:
            changed_ns = self._folder.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._changed_ns, self._settled = changed_ns, time.monotonic() + _GRAIN_SECONDS
            elif time.monotonic() > self._settled:
                return []
            with os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(_COMMAND) and entry.name[0] != "."]
        except OSError:
            return []  # no mailbox: nobody has posted anything
        fresh: list[tuple[int, str, bytes]] = []
        for name in names:
            if name not in self._seen:
                self._seen.add(name)
                self._read(name, fresh)
        return [payload for _, _, payload in sorted(fresh)]

    def _read(self, name: str, fresh: list[tuple[int, str, bytes]]) -> None:
        try:
            with (self._folder / name).open("rb") as file:
                payload = file.read(FRAME_MAX_EMIT + 1)
            envelope = decode(payload)
        except (OSError, DecodeError):
            return  # taken away again, not for us to read, or no command: its sender will see that nobody answers
        when = envelope.meta.timestamp_us
        # Older ones were meant for an earlier session. spec: RST-7.5
        if isinstance(envelope.payload, Command) and len(payload) <= FRAME_MAX_EMIT and when >= self._since_us:
            fresh.append((when, name, payload))

    def answer(self, payload: bytes) -> bool:
        """Leave the answer to a command; False where it is no answer, or nobody waits for it. Raises OSError."""
        try:
            result = decode(payload).payload
        except DecodeError:
            return False
        if not isinstance(result, CommandResult):
            return False
        name = safe_name(result.command_id)
        if not (self._folder / f"{name}{_COMMAND}").exists():
            return False  # its sender has given up; an answer would lie there for ever
        write_private(self._folder / f"{name}.{safe_name(self._session_id)}{_RESULT}", payload)
        return True


def post(folder: Path, command: Command) -> None:
    """Post a command. Raises OSError where the run's folder can't be written."""
    make_private_dir(folder)
    envelope = Envelope.of(command, seq=0, timestamp_us=time.time_ns() // 1000)
    write_private(folder / f"{safe_name(command.command_id)}{_COMMAND}", encode(envelope))


def wait_for_answers(folder: Path, command_id: str, *, expected: int, timeout: float) -> list[CommandResult]:
    """Return the answers to a posted command: wait for ``expected``, or ``timeout`` seconds; then clear up."""
    deadline = time.monotonic() + timeout
    try:
        while len(answers := _answers(folder, command_id)) < expected and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    finally:  # a command that was given up must not be carried out later
        (folder / f"{safe_name(command_id)}{_COMMAND}").unlink(missing_ok=True)
        for path in _answer_paths(folder, command_id):
            path.unlink(missing_ok=True)
    return answers


def _answer_paths(folder: Path, command_id: str) -> list[Path]:
    prefix = f"{safe_name(command_id)}."
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(prefix) and path.suffix == _RESULT)
    except FileNotFoundError:
        return []  # the run has been deleted meanwhile


def _answers(folder: Path, command_id: str) -> list[CommandResult]:
    answers = []
    for path in _answer_paths(folder, command_id):
        try:
            result = decode(path.read_bytes()).payload
        except (OSError, DecodeError):
            continue  # no answer of ours
        if isinstance(result, CommandResult):
            answers.append(result)
    return answers
