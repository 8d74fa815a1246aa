"""Commands on their way into the training loop: by polling, or by callbacks from a thread."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from xtrack_protocol.emitter.stream import StreamEmitter
from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir import Command, CommandResult, run_id_text
from xtrack_protocol.wire import decode

CommandCallback: TypeAlias = Callable[[Command], object]
"""Called with each command. What it returns is the answer's message; what it raises makes the answer an error."""

_POLL_SECONDS: Final = 0.2


class CommandQueue:
    """The commands of one run. Looks at the transport when asked; a thread looks only where callbacks want it."""

    def __init__(self, out: StreamEmitter) -> None:
        self._out = out
        self._pending: deque[Command] = deque()
        self._callbacks: list[tuple[str | None, CommandCallback]] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._looked = 0.0
        self.stop_requested = False

    def poll(self) -> Iterator[Command]:
        """Yield the commands that have come in, without waiting. Each is answered when the next one is asked for."""
        self._look()
        while self._pending:
            command = self._pending.popleft()
            try:
                yield command
            finally:
                self._answer(command, "ok", None)

    def should_stop(self) -> bool:
        """Whether a stop command has come; looks at most ten times a second, so that a loop can ask at each step."""
        if not self.stop_requested and time.monotonic() - self._looked >= _POLL_SECONDS / 2:
            self._look()
        return self.stop_requested

    def on(self, callback: CommandCallback, kind: str | None) -> None:
        """Call ``callback`` for commands of a kind, or of all kinds, from a thread of its own."""
        with self._lock:
            self._callbacks.append((kind, callback))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="xtrack-commands", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        if self._closed.is_set():
            return
        if os.getpid() != self._pid:  # a forked child: the lock may be held by a thread that doesn't exist here
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            self._looked = time.monotonic()
            for payload in self._out.transport.receive():
                self._take(payload)

    def _take(self, payload: bytes) -> None:
        try:
            command = decode(payload).payload
        except DecodeError as error:
            self._out.warn("command", f"a command could not be read: {error}")
            return
        if not isinstance(command, Command) or not self._is_for_us(command):
            return
        if command.type == "stop":
            self.stop_requested = True
        callbacks = [callback for kind, callback in self._callbacks if kind is None or kind == command.type]
        if callbacks:
            self._call(command, callbacks)
        else:
            self._pending.append(command)

    def _is_for_us(self, command: Command) -> bool:
        stream = self._out.stream
        run_matches = command.run_id is None or run_id_text(command.run_id) == stream.run_id
        return run_matches and (command.worker_id is None or command.worker_id == stream.worker_id)

    def _call(self, command: Command, callbacks: list[CommandCallback]) -> None:
        messages = []
        for callback in callbacks:
            try:
                message = callback(command)
            except Exception as error:  # noqa: BLE001 - the user's code; the answer carries the error to who asked
                self._answer(command, "error", f"{type(error).__name__}: {error}")
                return
            if message is not None:
                messages.append(str(message))
        self._answer(command, "ok", "; ".join(messages) or None)

    def _answer(self, command: Command, status: str, message: str | None) -> None:
        stream = self._out.stream
        self._out.answer(
            CommandResult(
                stream.run_id,
                command.command_id,
                "ok" if status == "ok" else "error",
                message,
                stream.worker_id or None,
            )
        )
