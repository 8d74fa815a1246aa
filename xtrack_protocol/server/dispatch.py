"""Commands in a server: who may, where they go, and the mailboxes of a local store.

A worker on this machine that isn't connected is reached through the mailbox in its run's folder; and who puts a command
there, on this machine, reaches the workers that are connected. spec: CTL-15.10
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xtrack_protocol.collector.channel import root_of_local
from xtrack_protocol.collector.commands import send_command
from xtrack_protocol.collector.localruns import live_workers
from xtrack_protocol.errors import LaunchError
from xtrack_protocol.ir import Command, CommandResult, Envelope, run_id_text
from xtrack_protocol.server.commands import CommandRouter
from xtrack_protocol.server.committer import Task
from xtrack_protocol.session import FEATURE_COMMANDS, Refusal, StreamId
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.spool.mailbox import Inbox
from xtrack_protocol.wire import decode, encode

if TYPE_CHECKING:
    from xtrack_protocol.server.connection import Connection
    from xtrack_protocol.server.server import CollectorServer

_LOOK_SECONDS: Final = 0.25
"""Between two looks into the mailboxes."""
_AT_ONCE: Final = 8
"""Commands to workers that are not connected; each has a thread, which waits."""
_HERE_SECONDS: Final = 60.0
"""How long such a worker's answer is waited for."""
_FRESH_US: Final = 5_000_000
"""How old a command may be that lies in a mailbox when it is looked into for the first time."""


class CommandDispatch:
    """Commands of clients and mailboxes, on their way to workers. Everything happens in the server's loop."""

    def __init__(self, server: CollectorServer) -> None:
        self.router: Final = CommandRouter(seconds=server.limits.command_seconds)
        self._server = server
        root = root_of_local(server.store)
        self._spool = None if root is None else SpoolDir(root)
        self._timer: asyncio.TimerHandle | None = None
        self._here = 0
        self._checked: Counter[Connection] = Counter()
        """Commands of which the store is asked whether they may be sent."""
        self._inboxes: dict[str, Inbox] = {}
        self._posted = 0

    def opened(self, connection: Connection, stream: StreamId) -> None:
        """Note that a worker can take commands, where it does. spec: CTL-15.1"""
        takes = FEATURE_COMMANDS in connection.features and stream not in connection.passive
        if connection.is_plain or takes:
            self.router.register(
                connection, stream.run_id, stream.worker_id, stream.session_id, is_plain=connection.is_plain
            )

    def requested(self, connection: Connection, command: Command) -> None:
        """Pass a client's command on, if its key may. spec: CTL-15.5"""
        access, principal = self._server.access, connection.principal
        problem = self.router.problem(connection, command, self._checked[connection])
        if problem:
            self.router.refuse(connection, command, problem)
            return
        if access is None:
            self._pass_on(connection, command, None)
            return
        assert command.run_id is not None
        run_id = run_id_text(command.run_id)
        self._checked[connection] += 1

        def checked(answer: Refusal | Exception | None) -> None:
            self._checked[connection] -= 1
            if not self._checked[connection]:
                del self._checked[connection]
            self._pass_on(connection, command, answer)

        self._server.committer.put(Task(lambda: access.may_command(principal, run_id), checked))

    def answered(self, connection: Connection, result: CommandResult) -> None:
        """Pass a worker's answer back."""
        self.router.result(connection, result)

    def close(self) -> None:
        """Wait for no more answers."""
        if self._timer is not None:
            self._timer.cancel()

    def _pass_on(self, connection: Connection, command: Command, answer: Refusal | Exception | None) -> None:
        if answer is not None:
            text = answer.message if isinstance(answer, Refusal) else str(answer)
            code = answer.code if isinstance(answer, Refusal) else "busy"
            self._server.refused(code, connection.peer, f"command {command.type}: {text}")
            self.router.refuse(connection, command, text)
            return
        if connection.session.is_over:
            return  # who asked is gone
        owner = getattr(connection.principal, "owner", "")
        if self.router.request(connection, command, self._server.loop.time(), owner=owner):
            self._set_timer()
        elif self._spool is None or self._here >= _AT_ONCE:
            self.router.refuse_unreachable(connection, command)
        else:
            self._here += 1
            threading.Thread(
                target=self._ask_here, args=(self._spool.root, connection, command), name="xtrack-command", daemon=True
            ).start()

    def _set_timer(self) -> None:
        self.close()
        due = self.router.next_timer()
        self._timer = None if due is None else self._server.loop.call_at(due, self._due)

    def _due(self) -> None:
        self.router.handle_timer(self._server.loop.time())
        self._set_timer()

    # ------------------------------------------------------------------------------------------ workers here

    def _ask_here(self, root: Path, connection: Connection, command: Command) -> None:
        """Ask workers of this machine that log to the store's own spool; in a thread."""
        assert command.run_id is not None
        run_id, worker_id = run_id_text(command.run_id), command.worker_id
        answers: list[CommandResult] | str | None = None
        try:
            live = {local.stream.worker_id for local in live_workers(SpoolDir(root).run_dir(run_id))}
            if worker_id in live if worker_id is not None else live:
                answers = send_command(
                    root, run_id, command.type, command.payload, worker_id=worker_id, timeout=_HERE_SECONDS
                )
        except (LaunchError, OSError) as error:
            answers = str(error)
        except Exception as error:  # noqa: BLE001 - who asked waits for an answer
            answers = f"{type(error).__name__}: {error}"
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._server.loop.call_soon_threadsafe(self._asked_here, connection, command, answers)

    def _asked_here(self, connection: Connection, command: Command, answers: list[CommandResult] | str | None) -> None:
        self._here -= 1
        if answers is None:
            self.router.refuse_unreachable(connection, command)
        elif isinstance(answers, str):
            self.router.refuse(connection, command, answers)
        else:
            for left, one in zip(range(len(answers) - 1, -1, -1), answers, strict=True):
                connection.send_command_result(
                    CommandResult(one.run_id, command.command_id, one.status, one.message, one.worker_id, left)
                )

    # ------------------------------------------------------------------------------------------ mailboxes

    async def watch_mailboxes(self) -> None:
        """Pass on what is put into the mailboxes of runs whose workers are connected. Ends where there are none."""
        if self._spool is None:
            return
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            # A worker that holds its lock itself looks into the mailbox itself.
            runs = self._server.locks.runs & self.router.runs
            self._inboxes = {run_id: self._inboxes.get(run_id) or self._inbox(run_id) for run_id in runs}
            if not runs:
                continue
            for run_id, command in await asyncio.to_thread(self._look, list(self._inboxes.items())):
                asker = _Mailbox(self, self._spool.mailbox(run_id))
                named = Command(command.command_id, command.type, command.payload, run_id, command.worker_id)
                if self.router.request(asker, named, self._server.loop.time(), owner="mailbox"):
                    self._set_timer()

    def _inbox(self, run_id: str) -> Inbox:
        assert self._spool is not None
        return Inbox(self._spool.mailbox(run_id), "", time.time_ns() // 1000 - _FRESH_US)

    @staticmethod
    def _look(inboxes: list[tuple[str, Inbox]]) -> list[tuple[str, Command]]:
        found = []
        for run_id, inbox in inboxes:
            for payload in inbox.receive():
                command = decode(payload).payload
                if isinstance(command, Command):
                    found.append((run_id, command))
        return found

    def answer_mailbox(self, folder: Path, result: CommandResult) -> None:
        """Put an answer into a mailbox; in a thread."""
        self._posted += 1
        name = f"via-{self._posted}"
        payload = encode(Envelope.of(result, seq=0, timestamp_us=time.time_ns() // 1000))

        def post() -> None:
            try:
                Inbox(folder, name, 0).answer(payload)
            except OSError as error:
                self._server.loop.call_soon_threadsafe(
                    self._server.complain, f"{folder}: the answer to a command can't be written: {error.strerror}"
                )

        self._server.loop.run_in_executor(None, post)


class _Mailbox:
    """Who has put a command into a mailbox."""

    def __init__(self, dispatch: CommandDispatch, folder: Path) -> None:
        self._dispatch = dispatch
        self._folder = folder

    def send_command(self, command: Command) -> bool:  # noqa: ARG002 - it asks, and takes none
        """Refuse: there is no worker."""
        return False

    def send_command_result(self, result: CommandResult) -> None:
        """Put the answer beside the command."""
        self._dispatch.answer_mailbox(self._folder, result)


__all__ = ["CommandDispatch"]
