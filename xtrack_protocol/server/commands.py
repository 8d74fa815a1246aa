"""Who asked for which command, and which workers are still to answer: bookkeeping, without I/O; time is an argument.

A command goes to its workers under an id made of who asked, the asker's id and the command itself. So two askers can't
meet in one id, and a command that is repeated, on whatever connection, is the same command to the worker. spec: CTL-15
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from typing import Final, Protocol

import attrs

from xtrack_protocol.ir import AckStatus, Command, CommandResult, Envelope, run_id_text
from xtrack_protocol.limits import (
    COMMAND_ID_MAX,
    COMMAND_MAX,
    COMMAND_SECONDS,
    COMMANDS_PER_ASKER,
    COMMANDS_PER_WORKER,
)
from xtrack_protocol.wire import encode

NO_ANSWER: Final = "delivered; a plain worker does not answer"

_KEPT: Final = 1024
"""Commands whose results are kept for a repetition."""
_KEPT_TEXT: Final = 4096
"""Characters of results above which they aren't: the worker has them too."""


class CommandPeer(Protocol):
    """A connection, as the router uses it."""

    def send_command(self, command: Command) -> bool:
        """Send a command; return whether there was a way, and room."""

    def send_command_result(self, result: CommandResult) -> object:
        """Tell an asker; nothing happens where it is gone."""


@attrs.frozen
class _Worker:
    peer: CommandPeer = attrs.field(eq=id)
    worker_id: str


@attrs.define
class _Asked:
    """A command under way."""

    command_id: str
    run_id: str
    due: float
    askers: list[tuple[CommandPeer, str]]
    """Each with the id under which it asked."""
    workers: frozenset[_Worker]
    """All that it was for; ``waiting``: those that have not answered."""
    waiting: set[_Worker] = attrs.field(factory=set)
    results: list[CommandResult] = attrs.field(factory=list)
    is_final: bool = True
    """Whether a repetition is to get the same results."""


@attrs.define
class _Connection:
    """What a connection has told of workers, and what it has asked."""

    is_plain: bool
    streams: dict[tuple[str, str], set[str]] = attrs.field(factory=dict)
    """By run and worker the sessions that are open."""


class CommandRouter:
    """Passes commands from those who ask to the workers of a run, and the answers back. Not thread-safe.

    The server tells it of connections and asks for permissions first. ``seconds``: after which a worker's answer isn't
    waited for any more. ``counts``: requests, passed (commands to one worker each), answered, refused, ignored
    (results that nobody waits for).
    """

    def __init__(self, *, seconds: float = COMMAND_SECONDS) -> None:
        self._seconds = seconds
        self._connections: dict[int, tuple[CommandPeer, _Connection]] = {}
        self._asked: dict[str, _Asked] = {}  # in the order of their deadlines
        self._kept: OrderedDict[str, list[CommandResult]] = OrderedDict()
        self.counts: Counter[str] = Counter()

    # ------------------------------------------------------------------------------------------ workers

    def register(self, peer: CommandPeer, run_id: str, worker_id: str, session_id: str, *, is_plain: bool) -> None:
        """Say that a stream is open on ``peer``, which takes commands for it. May be said again. spec: CTL-15.1"""
        _, connection = self._connections.setdefault(id(peer), (peer, _Connection(is_plain)))
        connection.streams.setdefault((run_id, worker_id), set()).add(session_id)

    def ended(self, peer: CommandPeer, run_id: str, worker_id: str, session_id: str, how: str = "ended") -> None:
        """Say that a stream has ended, or what else became of it there: its worker takes no more commands."""
        _, connection = self._connections.get(id(peer), (peer, None))
        sessions = connection.streams.get((run_id, worker_id)) if connection else None
        if connection is None or sessions is None:
            return
        sessions.discard(session_id)
        if not sessions:
            del connection.streams[run_id, worker_id]
            for asked in list(self._asked.values()):
                if asked.run_id == run_id:
                    self._give_up(asked, [_Worker(peer, worker_id)], f"{how} before it answered")

    def workers(self, run_id: str) -> list[str]:
        """Return the ids of the workers of a run that a command would reach."""
        return sorted({worker.worker_id for worker in self._workers(run_id, None)})

    @property
    def runs(self) -> frozenset[str]:
        """The runs of which some worker would be reached."""
        return frozenset(run for _, connection in self._connections.values() for run, _ in connection.streams)

    # ------------------------------------------------------------------------------------------ commands

    def request(self, asker: CommandPeer, command: Command, now: float, *, owner: Hashable = "") -> bool:
        """Pass a command on to the workers that are connected, and answer for those that can't be reached.

        ``owner``: whose credential the asker has. False where no worker of the run is connected: nothing has been
        answered yet, ``refuse`` does that.
        """
        self.counts["requests"] += 1
        problem = self.problem(asker, command)
        if problem:
            self.refuse(asker, command, problem)
            return True
        assert command.run_id is not None
        run_id = run_id_text(command.run_id)
        command_id = _inner_id(owner, command)
        if self._repeated(asker, command, command_id):
            return True
        workers = self._workers(run_id, command.worker_id)
        if not workers:
            return False
        askers = [(asker, command.command_id)]
        asked = _Asked(command_id, run_id, now + self._seconds, askers, frozenset(workers), set(workers))
        self._asked[command_id] = asked
        inner = Command(command_id, command.type, command.payload, run_id, command.worker_id)
        self._pass_on(asked, inner, workers)
        return True

    def refuse(self, asker: CommandPeer, command: Command, message: str) -> None:
        """Answer a command that isn't passed on. spec: CTL-15.5"""
        self.counts["refused"] += 1
        run_id = "" if command.run_id is None else run_id_text(command.run_id)
        asker.send_command_result(
            CommandResult(run_id, command.command_id, "error", message, command.worker_id, left=0)
        )

    def refuse_unreachable(self, asker: CommandPeer, command: Command) -> None:
        """Answer a command for which ``request`` found no worker."""
        run_id = "" if command.run_id is None else run_id_text(command.run_id)
        who = f"no worker {command.worker_id!r}" if command.worker_id is not None else "no worker"
        self.refuse(asker, command, f"{who} of run {run_id!r} is connected to this collector to take a command")

    def result(self, peer: CommandPeer, result: CommandResult) -> None:
        """Pass a worker's answer back to who asked. One that wasn't asked for is ignored. spec: CTL-15.3"""
        asked = self._asked.get(result.command_id)
        worker = self._who(asked, peer, result) if asked else None
        if asked is None or worker is None:
            self.counts["ignored"] += 1
            return
        self.counts["answered"] += 1
        asked.waiting.discard(worker)
        self._answer(asked, worker.worker_id, result.status, result.message)

    def gone(self, peer: CommandPeer) -> None:
        """Forget a connection that is over; answer for its workers. spec: CTL-15.6"""
        self._connections.pop(id(peer), None)
        for asked in list(self._asked.values()):
            asked.askers = [(asker, own_id) for asker, own_id in asked.askers if asker is not peer]
            if not asked.askers:
                del self._asked[asked.command_id]
        for asked in list(self._asked.values()):
            lost = [worker for worker in asked.waiting if worker.peer is peer]
            self._give_up(asked, lost, "lost its connection before it answered")

    def next_timer(self) -> float | None:
        """Return when ``handle_timer`` is due; None: never, as things are."""
        return next((asked.due for asked in self._asked.values()), None)

    def handle_timer(self, now: float) -> None:
        """Answer for workers that have taken too long. spec: CTL-15.6"""
        for asked in list(self._asked.values()):
            if asked.due > now:
                return
            reason = f"has not answered within {self._seconds:g} s; it may still carry the command out"
            self._give_up(asked, asked.waiting, reason)

    # ------------------------------------------------------------------------------------------ inside

    def problem(self, asker: CommandPeer, command: Command, others: int = 0) -> str:
        """Return why a command isn't passed on; "" where it may be. spec: CTL-15.5, CTL-15.9

        ``others``: commands of the asker that are not here yet.
        """
        if command.run_id is None or not run_id_text(command.run_id):
            return "the command names no run_id"
        if not 0 < len(command.command_id.encode()) <= COMMAND_ID_MAX:
            return f"cmd_id must have 1 to {COMMAND_ID_MAX} bytes"
        size = len(encode(Envelope.of(command, seq=0, timestamp_us=0)))
        if size > COMMAND_MAX:
            return f"the command has {size} bytes; a collector passes on at most {COMMAND_MAX}"
        mine = [own_id for asked in self._asked.values() for who, own_id in asked.askers if who is asker]
        if len(mine) + others >= COMMANDS_PER_ASKER:
            return f"{len(mine) + others} commands of this connection wait for answers already"
        return ""

    def _repeated(self, asker: CommandPeer, command: Command, command_id: str) -> bool:
        """Answer a repeated command with what there is; return whether nothing else is to be done. spec: CTL-15.8"""
        kept = self._kept.get(command_id)
        if kept is not None:
            for left, result in zip(range(len(kept) - 1, -1, -1), kept, strict=True):
                _tell(asker, command.command_id, result, left)
            return True
        asked = self._asked.get(command_id)
        if asked is not None:
            for left, result in zip(range(len(asked.results) - 1, -1, -1), asked.results, strict=True):
                _tell(asker, command.command_id, result, left + len(asked.waiting))
            if not any(who is asker for who, _ in asked.askers):
                asked.askers.append((asker, command.command_id))
            return True
        for other in self._asked.values():
            if any(who is asker and own_id == command.command_id for who, own_id in other.askers):
                self.refuse(asker, command, "another command with this cmd_id is under way")
                return True
        return False

    def _workers(self, run_id: str, worker_id: str | None) -> list[_Worker]:
        return [
            _Worker(peer, wid)
            for peer, connection in self._connections.values()
            for run, wid in connection.streams
            if run == run_id and worker_id in {None, wid}
        ]

    def _pass_on(self, asked: _Asked, command: Command, workers: Iterable[_Worker]) -> None:
        """Send a command to each connection once, and answer at once for those that can't or won't."""
        by_peer: dict[int, list[_Worker]] = {}
        for worker in workers:
            by_peer.setdefault(id(worker.peer), []).append(worker)
        instead: list[tuple[_Worker, AckStatus, str]] = []
        for mine in by_peer.values():
            peer = mine[0].peer
            under_way = sum(other.peer is peer for one in self._asked.values() for other in one.waiting) - len(mine)
            if under_way >= COMMANDS_PER_WORKER:
                problem = f"{under_way} commands wait for its answer already"
            elif not peer.send_command(command):
                problem = "its connection takes no command now"
            else:
                problem = ""
                self.counts["passed"] += len(mine)
            if problem:
                asked.is_final = False
                instead += [(worker, "error", f"{_name(worker)}: {problem}") for worker in mine]
            elif self._connections[id(peer)][1].is_plain:
                instead += [(worker, "ok", NO_ANSWER) for worker in mine]  # spec: CTL-15.7
        for worker, status, message in instead:
            asked.waiting.discard(worker)
            self._answer(asked, worker.worker_id, status, message)

    def _who(self, asked: _Asked, peer: CommandPeer, result: CommandResult) -> _Worker | None:
        """Return the worker that answers, where it hasn't yet.

        One that doesn't say who it is has no id, or else must be the only one that was asked on its connection. spec:
        CTL-15.12
        """
        if run_id_text(result.run_id) != asked.run_id:
            return None
        mine = {worker.worker_id: worker for worker in asked.workers if worker.peer is peer}
        found = mine.get(result.worker_id or "")
        if found is None and result.worker_id is None and len(mine) == 1:
            found = next(iter(mine.values()))
        return found if found in asked.waiting else None

    def _answer(self, asked: _Asked, worker_id: str, status: AckStatus, message: str | None) -> None:
        result = CommandResult(asked.run_id, asked.command_id, status, message, worker_id or None)
        asked.results.append(result)
        for asker, own_id in asked.askers:
            _tell(asker, own_id, result, len(asked.waiting))
        if not asked.waiting:
            self._asked.pop(asked.command_id, None)
            self._keep(asked)

    def _keep(self, asked: _Asked) -> None:
        if not asked.is_final or sum(len(result.message or "") for result in asked.results) > _KEPT_TEXT:
            return
        self._kept[asked.command_id] = asked.results
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def _give_up(self, asked: _Asked, workers: Iterable[_Worker], reason: str) -> None:
        """Answer for workers from which no answer will come. spec: CTL-15.6"""
        for worker in sorted(asked.waiting.intersection(workers), key=lambda worker: worker.worker_id):
            asked.is_final = False
            asked.waiting.discard(worker)
            self._answer(asked, worker.worker_id, "error", f"{_name(worker)} {reason}")


def _name(worker: _Worker) -> str:
    return f"worker {worker.worker_id!r}" if worker.worker_id else "the worker"


def _tell(asker: CommandPeer, own_id: str, result: CommandResult, left: int) -> None:
    asker.send_command_result(
        CommandResult(result.run_id, own_id, result.status, result.message, result.worker_id, left)
    )


def _inner_id(owner: Hashable, command: Command) -> str:
    """Return the id under which a command is passed on: the same for what says the same. spec: CTL-15.2, CTL-15.8"""
    assert command.run_id is not None
    named = Command(command.command_id, command.type, command.payload, run_id_text(command.run_id), command.worker_id)
    told = json.loads(encode(Envelope.of(named, seq=0, timestamp_us=0)))
    digest = hashlib.sha256(repr(owner).encode())
    digest.update(b"\0")
    digest.update(json.dumps(told, sort_keys=True).encode())
    return digest.hexdigest()[:32]


__all__ = ["NO_ANSWER", "CommandPeer", "CommandRouter"]
