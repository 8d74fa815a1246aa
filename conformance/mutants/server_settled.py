"""Mutants of the role server: what is settled by an ack, by a deletion, and by a command that comes again."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

from patching import Patch, Patches, as_server

import xtrack_protocol.server.commands as commands
from xtrack_protocol.ir import Envelope
from xtrack_protocol.server.commands import CommandRouter as Router
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.subscriptions import Subscriptions
from xtrack_protocol.session._incoming import IncomingStreams
from xtrack_protocol.wire import encode


def _gap_holds(p: Patches) -> None:
    def committed(original: Any, self: Any, work: Any, now: float) -> None:
        work.upto = min(work.upto, self.server.store.cursor(work.batch.stream).contiguous_to)
        original(self, work, now)

    p.around(Connection, "committed", committed)


def _runless(p: Patches) -> None:
    def of_event(original: Any, self: Any, envelope: Any) -> Any:
        return original(self, envelope) if envelope.run_id is not None else next(iter(self._streams.values()), None)

    p.around(IncomingStreams, "of_event", of_event)


def _cursor_stays(p: Patches) -> None:
    cursors: dict[Any, int] = {}

    def committed(original: Any, self: Any, work: Any, now: float) -> None:
        cursors[work.batch.stream] = max(work.upto, cursors.get(work.batch.stream, 0))
        original(self, work, now)

    def accept(original: Any, self: Any, stream: Any, cursor: int) -> None:
        original(self, stream, max(cursor, cursors.get(stream, 0)))

    p.around(Connection, "committed", committed)
    p.around(Connection, "accept", accept)


def _tells_of_tombs(p: Patches) -> None:
    tombs: set[str] = set()

    def begin(original: Any, self: Any, connection: Any, wanted: Any) -> None:
        if wanted.run_id in tombs:
            self._refuse(connection, wanted.run_id, "deleted", "mutant")
        else:
            original(self, connection, wanted)

    p.around(Subscriptions, "begin", begin)
    p.around(as_server.Store, "delete_run", lambda o, self, run_id: (tombs.add(run_id), o(self, run_id))[1])


def _by_bytes(owner: Any, command: Any) -> str:
    told = encode(Envelope.of(command, seq=0, timestamp_us=0))
    return hashlib.sha256(repr(owner).encode() + told).hexdigest()[:32]


def _of_each_connection(p: Patches) -> None:
    numbers: dict[int, int] = {}
    count = itertools.count()

    def request(original: Any, self: Any, asker: Any, command: Any, now: float, *, owner: Any = "") -> Any:
        number = numbers.setdefault(id(asker), next(count))
        return original(self, asker, command, now, owner=(owner, number))

    p.around(Router, "request", request)


def _ids_of_all(p: Patches) -> None:
    def repeated(original: Any, self: Any, asker: Any, command: Any, command_id: str) -> bool:
        under_way = [own_id for asked in self._asked.values() for _, own_id in asked.askers]
        if command_id not in self._asked and command.command_id in under_way:
            self.refuse(asker, command, "mutant")
            return True
        return bool(original(self, asker, command, command_id))

    p.around(Router, "_repeated", repeated)


def _whoever_waits(p: Patches) -> None:
    def who(original: Any, self: Any, asked: Any, peer: Any, result: Any) -> Any:
        waiting = [worker for worker in asked.waiting if worker.peer is peer]
        if result.worker_id is None and len(waiting) == 1:
            return waiting[0]
        return original(self, asked, peer, result)

    p.around(Router, "_who", who)


PATCHES: dict[str, Patch] = {
    "gap-holds-acks": _gap_holds,
    "runless-taken": _runless,
    "cursor-outlives-the-run": _cursor_stays,
    "deleted-unsubscribed": _tells_of_tombs,
    "repeated-by-bytes": lambda p: p.set(commands, "_inner_id", _by_bytes),
    "repeated-elsewhere-anew": _of_each_connection,
    "owners-share-commands": lambda p: p.around(
        Router, "request", lambda o, self, asker, command, now, *, owner="": o(self, asker, command, now)
    ),
    "ids-of-all-connections": _ids_of_all,
    "no-wid-is-whoever-waits": _whoever_waits,
}
