"""Mutants of the role server: subscriptions, and commands that are passed on."""

from __future__ import annotations

import json
import uuid
from typing import Any

import attrs
from patching import Patch, Patches

import xtrack_protocol.server.commands as commands
import xtrack_protocol.server.subscriptions as subscriptions
from xtrack_protocol.ir import CommandResult, Subscribe, Unsubscribe
from xtrack_protocol.server.commands import CommandRouter as Router
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.dispatch import CommandDispatch
from xtrack_protocol.server.subscriptions import Subscriptions
from xtrack_protocol.server.subscriptions import _Subscription as Subscription
from xtrack_protocol.session import UnsubscribeRequested
from xtrack_protocol.session.collector import CollectorSession as Session

# ---------------------------------------------------------------------------------------------- subscriptions


def _sends(change: Any) -> Patch:
    """Send other events: ``change(send, payload)``."""

    def send(original: Any, self: Any, payload: bytes) -> Any:
        return change(lambda other: original(self, other), payload)

    return lambda p: p.around(Session, "send_event", send)


def _wants(**changes: Any) -> Patch:
    """Take a subscription for another one: ``changes`` are functions of what was wanted."""

    def begin(original: Any, self: Any, connection: Any, wanted: Any) -> None:
        original(self, connection, attrs.evolve(wanted, **{name: change(wanted) for name, change in changes.items()}))

    return lambda p: p.around(Subscriptions, "begin", begin)


def _ends_early(p: Patches) -> None:
    async def send(original: Any, self: Any) -> Any:
        if self._until_end and subscriptions._has_ended(self._server.store, self._run_id, 2**60):
            return self._over("ended", "")
        return await original(self)

    p.around(Subscription, "_send_page", send)


def _unsubscribes_all(p: Patches) -> None:
    def act(original: Any, self: Any, item: Any) -> None:
        original(self, item)
        if isinstance(item, UnsubscribeRequested):
            self.server.subscriptions.left(self)

    p.around(Connection, "_act", act)


def _unsubscribe_ignored(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, envelope: Any) -> None:
        if not isinstance(envelope.payload, Unsubscribe):
            original(self, frame, envelope)

    p.around(Session, "_take_control", take)


def _twice(p: Patches) -> None:
    def begin(original: Any, self: Any, connection: Any, wanted: Any) -> None:
        self._tasks.get(connection, {}).pop(wanted.run_id, None)
        original(self, connection, wanted)

    p.around(Subscriptions, "begin", begin)


def _by_stream(p: Patches) -> None:
    def read(original: Any, *args: Any) -> Any:
        found = original(*args)
        return found and sorted(found, key=lambda event: event.stream.worker_id)

    p.around(subscriptions, "_read", read)


# ---------------------------------------------------------------------------------------------- commands


def _tells(change: Any) -> Patch:
    """Tell askers something else: ``change(own_id, result, left)`` returns what is sent."""

    def tell(asker: Any, own_id: str, result: CommandResult, left: int) -> None:
        asker.send_command_result(change(own_id, result, left))

    return lambda p: p.set(commands, "_tell", tell)


def _result(own_id: str, result: CommandResult, left: int, wid: str | None) -> CommandResult:
    return CommandResult(result.run_id, own_id, result.status, result.message, wid, left)


def _to_asker(p: Patches) -> None:
    def pass_on(original: Any, self: Any, asked: Any, command: Any, workers: Any) -> None:
        asked.askers[0][0].send_command(command)
        original(self, asked, command, workers)

    p.around(Router, "_pass_on", pass_on)


def _of_all_runs(p: Patches) -> None:
    def workers(original: Any, self: Any, run_id: str, worker_id: Any) -> Any:
        runs = {run for _, connection in self._connections.values() for run, _ in connection.streams}
        return [worker for run in runs for worker in original(self, run, worker_id)]

    p.around(Router, "_workers", workers)


def _opened(applies: Any, *, is_plain: Any = lambda connection: connection.is_plain) -> Patch:
    """Register other connections as those that take commands."""

    def opened(self: Any, connection: Any, stream: Any) -> None:
        if applies(connection, stream):
            self.router.register(
                connection, stream.run_id, stream.worker_id, stream.session_id, is_plain=is_plain(connection)
            )

    return lambda p: p.set(CommandDispatch, "opened", opened)


def _takes(connection: Any) -> bool:
    return "commands" in connection.features


def _every_answer(p: Patches) -> None:
    asked: dict[str, Any] = {}

    def result(original: Any, self: Any, peer: Any, answer: Any) -> None:
        before = asked.get(answer.command_id)
        asked.setdefault(answer.command_id, self._asked.get(answer.command_id))
        original(self, peer, answer)
        for asker, own_id in before.askers if before else ():
            asker.send_command_result(_result(own_id, answer, 0, answer.worker_id))

    p.around(Router, "result", result)


def _who(choose: Any) -> Patch:
    """Find out in another way which worker answers: ``choose(waiting workers, peer, result)``."""

    def who(original: Any, self: Any, asked: Any, peer: Any, result: Any) -> Any:
        return original(self, asked, peer, result) or next(choose(asked, peer, result), None)

    return lambda p: p.around(Router, "_who", who)


def _gone(p: Patches) -> None:
    p.set(Router, "gone", lambda self, peer: self._connections.pop(id(peer), None))


def _same_id(p: Patches) -> None:
    def repeated(original: Any, self: Any, asker: Any, command: Any, command_id: str) -> bool:
        return (command_id in self._kept or command_id in self._asked) and original(self, asker, command, command_id)

    p.around(Router, "_repeated", repeated)


PATCHES: dict[str, Patch] = {
    "subscription-repeats": _sends(lambda send, payload: send(payload) and send(payload)),
    "subscription-mute": _sends(lambda send, payload: True),
    "subscription-rewrites": _sends(lambda send, payload: send(json.dumps(json.loads(payload)).encode())),
    "from-ignored": _wants(cursor=lambda wanted: None if wanted.cursor is None else 0),
    "from-off-by-one": _wants(cursor=lambda wanted: wanted.cursor and wanted.cursor - 1),
    "until-end-ignored": _wants(until_end=lambda wanted: False),
    "ends-unasked": _wants(until_end=lambda wanted: True),
    "ends-too-early": _ends_early,
    "subscription-unannounced": lambda p: p.set(Session, "begin_subscription", lambda self, run_id, cursor: True),
    "subscription-always-announced": lambda p: p.set(
        Session,
        "begin_subscription",
        lambda self, run_id, cursor: self._tell_peer("begin_subscription", Subscribe(run_id, cursor)),
    ),
    "unsubscribe-ignored": _unsubscribe_ignored,
    "unsubscribe-ends-all": _unsubscribes_all,
    "subscribes-twice": _twice,
    "subscription-by-stream": _by_stream,
    "refusal-unsaid": lambda p: p.set(Session, "end_subscription", lambda self, run_id, code, message="": True),
    "revoked-goes-on": lambda p: p.set(subscriptions, "RIGHTS_SECONDS", 1e9),
    "commands-kept": lambda p: p.set(CommandDispatch, "requested", lambda self, connection, command: None),
    "left-off-by-one": _tells(lambda own_id, result, left: _result(own_id, result, left + 1, result.worker_id)),
    "left-always-0": _tells(lambda own_id, result, left: _result(own_id, result, 0, result.worker_id)),
    "results-under-inner-id": _tells(
        lambda own_id, result, left: _result(result.command_id, result, left, result.worker_id)
    ),
    "results-without-wid": _tells(lambda own_id, result, left: _result(own_id, result, left, None)),
    "command-to-asker": _to_asker,
    "inner-id-is-the-clients": lambda p: p.set(commands, "_inner_id", lambda owner, command: command.command_id),
    "repeated-anew": lambda p: p.set(commands, "_inner_id", lambda owner, command: uuid.uuid4().hex),
    "same-id-taken": _same_id,
    "command-to-all": lambda p: p.around(Router, "_workers", lambda o, self, run_id, worker_id: o(self, run_id, None)),
    "command-to-all-runs": _of_all_runs,
    "command-to-all-sessions": _opened(lambda connection, stream: True),
    "command-to-passive": _opened(lambda connection, stream: connection.is_plain or _takes(connection)),
    "plain-uncommanded": _opened(lambda connection, stream: _takes(connection) and stream not in connection.passive),
    "plain-awaited": _opened(
        lambda connection, stream: connection.is_plain or _takes(connection), is_plain=lambda connection: False
    ),
    "every-answer-passed": _every_answer,
    "results-of-strangers": _who(lambda asked, peer, result: iter(asked.waiting)),
    "results-of-any-worker": _who(
        lambda asked, peer, result: (one for one in asked.waiting if one.peer is peer and result.run_id == asked.run_id)
    ),
    "results-of-any-run": _who(
        lambda asked, peer, result: (
            one for one in asked.waiting if one.peer is peer and one.worker_id == result.worker_id
        )
    ),
    "gone-unanswered": _gone,
    "late-unanswered": lambda p: p.set(Router, "handle_timer", lambda self, now: self._asked.clear()),
    "no-worker-unsaid": lambda p: p.set(Router, "refuse", lambda self, asker, command, message: None),
    "any-id-taken": lambda p: p.set(Router, "problem", lambda self, asker, command, others=0: ""),
}
