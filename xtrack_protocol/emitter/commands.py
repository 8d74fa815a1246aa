"""Commands on their way into the training loop: by polling, or by callbacks from a thread. spec: CTL-2, CTL-4"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from xtrack_protocol.emitter.stream import StreamEmitter
from xtrack_protocol.emitter.values import describe, to_text
from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir.control import AckStatus, Command, CommandResult
from xtrack_protocol.ir.identity import run_id_text
from xtrack_protocol.transport.local import LocalTransport
from xtrack_protocol.wire.codec import decode

CommandCallback: TypeAlias = Callable[[Command], object]
"""Called with each command. What it returns is the answer's message; what it raises makes the answer an error."""

_POLL_SECONDS: Final = 0.2

_REMEMBERED: Final = 1024
"""Commands whose answers are kept, in case they come again."""


class CommandQueue:
    """The commands of one run. Looks at the transport when asked; a thread looks only where callbacks want it.

    Whoever looks only sorts what has come: callbacks are called by their thread alone, however long they take.
    A forked child begins with no commands and no callbacks. It hears of those that come to the mailbox of a local run
    after it has logged something; a pipe or socket, which it shares with its parent, it leaves to its parent.
    """

    def __init__(self, out: StreamEmitter) -> None:
        self._out = out
        self._closed = False
        self._first_pid = os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._polled: deque[Command] = deque()
        self._called: deque[Command] = deque()
        self._callbacks: list[tuple[str | None, CommandCallback]] = []
        self._answers: dict[str, CommandResult | None] = {}  # None: not answered yet
        self._looking = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._looked = 0.0
        self._stop = False

    def poll(self) -> Iterator[Command]:
        """Yield the commands that have come in, without waiting. Each is answered when the next one is asked for."""
        self._look()
        while self._polled:
            try:
                command = self._polled.popleft()
            except IndexError:  # another thread was quicker
                return
            try:
                yield command
            finally:
                self._answer(command, "ok", None)

    def should_stop(self) -> bool:
        """Whether a stop command has come; looks at most ten times a second, so that a loop can ask at each step.

        To be told so is the answer to the command.
        """
        if not self._stop and time.monotonic() - self._looked >= _POLL_SECONDS / 2:
            self._look()
        if self._stop:
            for command in tuple(self._polled):
                if command.type == "stop":
                    self._answer(command, "ok", None)
        return self._stop

    def on(self, callback: CommandCallback, kind: str | None) -> None:
        """Call ``callback`` for commands of a kind, or of all kinds, from a thread of its own."""
        # What its thread may need of ours is imported before it begins: see sender.shipper.
        import hashlib  # noqa: F401
        import json  # noqa: F401

        from xtrack_protocol.wire import _slow  # noqa: F401

        self._forget_parent()
        self._callbacks.append((kind, callback))
        with self._looking:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="xtrack-commands", daemon=True)
                self._thread.start()

    def take(self, command: Command) -> None:
        """Take a command that has come another way, as by a signal: nobody waits for its answer."""
        if self._closed:
            return
        stream = self._out.stream
        self._answers[command.command_id] = CommandResult(stream.run_id, command.command_id, "ok")
        self._sort_in(command)

    def close(self) -> None:
        """Stop looking, and say of what waits that nobody has carried it out."""
        self._look()  # what has come since the last look is answered, too. spec: CTL-4
        self._closed = True
        self._wake.set()
        for waiting in (self._polled, self._called):
            while waiting:
                with suppress(IndexError):  # another thread was quicker
                    self._answer(waiting.popleft(), "error", "the run ended before the command was carried out")

    def _forget_parent(self) -> None:
        if os.getpid() != self._pid:
            self._begin()

    def _run(self) -> None:
        wake = self._wake
        while not wake.wait(_POLL_SECONDS):
            self._look()
            while self._called:
                with suppress(IndexError):  # closed meanwhile
                    self._call(self._called.popleft())

    def _look(self) -> None:
        self._forget_parent()
        if self._closed or not self._out.is_open:
            return
        if self._pid != self._first_pid and not isinstance(self._out.transport, LocalTransport):
            return
        if not self._looking.acquire(blocking=False):
            return  # who is looking already sorts for all
        try:
            self._looked = time.monotonic()
            for payload in self._out.transport.receive():
                self._sort(payload)
        except Exception as error:  # noqa: BLE001 - a transport of somebody's own; the training goes on
            self._out.warn("command", f"commands can't be received: {describe(error)}")
        finally:
            self._looking.release()

    def _sort(self, payload: bytes) -> None:
        try:
            command = decode(payload).payload
        except DecodeError as error:
            self._out.warn("command", f"a command could not be read: {error}")
            return
        if not isinstance(command, Command) or not self._is_for_us(command) or self._is_repeated(command):
            return
        self._sort_in(command)

    def _sort_in(self, command: Command) -> None:
        if command.type == "stop":
            self._stop = True
        (self._called if self._callbacks_for(command) else self._polled).append(command)

    def _is_repeated(self, command: Command) -> bool:
        """Whether a command has come before; it is answered as the first time then. spec: CTL-2.3"""
        if command.command_id in self._answers:
            answer = self._answers[command.command_id]
            if answer is not None:
                self._out.answer(answer)
            return True
        self._answers[command.command_id] = None
        if len(self._answers) > _REMEMBERED:
            del self._answers[next(iter(self._answers))]
        return False

    def _is_for_us(self, command: Command) -> bool:
        stream = self._out.stream
        run_matches = command.run_id is None or run_id_text(command.run_id) == stream.run_id
        return run_matches and (command.worker_id is None or command.worker_id == stream.worker_id)

    def _callbacks_for(self, command: Command) -> list[CommandCallback]:
        return [callback for kind, callback in tuple(self._callbacks) if kind is None or kind == command.type]

    def _call(self, command: Command) -> None:
        messages = []
        for callback in self._callbacks_for(command):
            try:
                message = callback(command)
            except Exception as error:  # noqa: BLE001 - the user's code; the answer carries the error to who asked
                self._answer(command, "error", describe(error))
                return
            if message is not None:
                messages.append(to_text(message))
        self._answer(command, "ok", "; ".join(messages) or None)

    def _answer(self, command: Command, status: AckStatus, message: str | None) -> None:
        if self._answers.get(command.command_id) is not None:
            return
        stream = self._out.stream
        answer = CommandResult(stream.run_id, command.command_id, status, message, stream.worker_id or None)
        self._answers[command.command_id] = answer
        self._out.answer(answer)
