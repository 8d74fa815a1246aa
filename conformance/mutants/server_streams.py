"""Mutants of the role server: what they make of streams, their seqs and losses, and of runs that are deleted."""

from __future__ import annotations

from typing import Any

from patching import Patch, Patches

import xtrack_protocol.server.subscriptions as subscriptions
import xtrack_protocol.session.collector as sessions
from xtrack_protocol.collector import StreamBatch
from xtrack_protocol.errors import RunDeleted
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.commands import CommandRouter as Router
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.dispatch import CommandDispatch
from xtrack_protocol.server.subscriptions import Subscriptions
from xtrack_protocol.session import Refusal, StreamState
from xtrack_protocol.session._tables import StreamInput
from xtrack_protocol.session.collector import CollectorSession as Session


def _leaves_out(applies: Any) -> Patch:
    """Take no notice of events to whose session, envelope and stream's memory this ``applies``."""

    def take(original: Any, self: Any, frame: Any, envelope: Any) -> None:
        memory = self.__dict__.setdefault("memory", {}).setdefault(envelope.meta.session_id, set())
        if not applies(envelope, memory):
            original(self, frame, envelope)

    return lambda p: p.around(Session, "_take_event", take)


def _behind_the_end(envelope: Any, memory: set[Any]) -> bool:
    was_over = "ended" in memory
    if envelope.event_type == "run_end":
        memory.add("ended")
    return was_over


def _control_seqs(p: Patches) -> None:
    """Take the seq of a control event for one of the stream's."""

    def take(original: Any, self: Any, frame: Any) -> None:
        envelope = frame.envelope
        if envelope is not None and envelope.event_type == "ping" and envelope.meta.seq > 0:
            self.__dict__.setdefault("memory", {}).setdefault(envelope.meta.session_id, set()).add(envelope.meta.seq)
        original(self, frame)

    p.around(Session, "_take_frame", take)
    _leaves_out(lambda envelope, memory: envelope.meta.seq in memory)(p)


def _stays_lost(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, skip: Any) -> None:
        self.__dict__.setdefault("memory", {}).setdefault(skip.session_id, set()).update(
            range(skip.first, skip.last + 1)
        )
        original(self, frame, skip)

    p.around(Session, "_take_skip", take)
    _leaves_out(lambda envelope, memory: envelope.meta.seq in memory)(p)


def _bad_skip_closes(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, skip: Any) -> None:
        if 1 <= skip.first <= skip.last:
            original(self, frame, skip)
        else:
            self._fail("protocol_error", "no such loss")

    p.around(Session, "_take_skip", take)


def _second_open(p: Patches) -> None:
    def take(original: Any, self: Any, request: Any) -> None:
        stream = sessions.StreamId(str(request.run_id), request.worker_id or "", request.session_id)
        if self.stream_state(stream) is StreamState.OPEN:
            self.fence(stream)
        else:
            original(self, request)

    p.around(Session, "_take_open", take)


def _held_skips(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, skip: Any) -> None:
        entry = self._streams.get(sessions.StreamId(str(skip.run_id), skip.worker_id or "", skip.session_id))
        is_held = entry is not None and entry.state is StreamState.HELD
        if is_held:
            entry.state, entry.interrupted = StreamState.OPEN, False
        original(self, frame, skip)
        if is_held:
            entry.step(StreamInput.HOLD)

    p.around(Session, "_take_skip", take)


def _end_is_a_farewell(p: Patches) -> None:
    """Ack a run_end, and keep nothing of it."""

    def hand_in(original: Any, self: Any, stream: Any, frames: Any, size: int, upto: int, *_: Any) -> None:
        kept = tuple(frame for frame in frames if frame.envelope.event_type != "run_end")
        if kept:
            original(self, stream, kept, size, upto, StreamBatch(stream, kept, 0).milestones)
        else:
            self.session.release(size, self._loop.time())
            self.session.ack(stream, upto)

    p.around(Connection, "_hand_in", hand_in)


def _deleted_closes(p: Patches) -> None:
    def may(original: Any, self: Any, principal: Any, stream: Any) -> Any:
        try:
            self._store.claim_run(stream.run_id, principal.owner)
        except RunDeleted:
            return Refusal("forbidden", "the run was deleted")
        return original(self, principal, stream)

    def refuse(original: Any, self: Any, stream: Any, refusal: Any) -> None:
        if "deleted" in refusal.message:
            self.reject(refusal.code, refusal.message)
        else:
            original(self, stream, refusal)

    p.around(AccessControl, "open_for_write", may)
    p.around(Connection, "refuse", refuse)


# ---------------------------------------------------------------------------------------------- subscriptions, commands


def _all_runs(p: Patches) -> None:
    def read(_original: Any, store: Any, _run_id: str, after: int, limit: int) -> Any:
        return list(store.events(after=after, limit=limit))

    p.around(subscriptions, "_read", read)


def _no_echo(p: Patches) -> None:
    def begin(original: Any, self: Any, connection: Any, wanted: Any) -> None:
        if all(stream.run_id != wanted.run_id for stream in connection.streams):
            original(self, connection, wanted)

    p.around(Subscriptions, "begin", begin)


def _history_cut(p: Patches) -> None:
    def send(original: Any, self: Any, payload: bytes) -> Any:
        self.sent = self.__dict__.get("sent", 0) + 1
        return original(self, payload) if self.sent <= 1000 else True

    p.around(Session, "send_event", send)


def _fenced_commanded(p: Patches) -> None:
    def ended(original: Any, self: Any, *args: Any, **more: Any) -> None:
        if "another connection" not in args[-1]:
            original(self, *args, **more)

    p.around(Router, "ended", ended)


def _plain_commands(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any) -> None:
        original(self, frame)
        envelope = frame.envelope
        if self._state is sessions.ConnectionState.PLAIN and envelope is not None and envelope.event_type == "command":
            self._tell(sessions.CommandRequested(envelope.payload))

    p.around(Session, "_take_frame", take)
    p.around(Connection, "send_command_result", lambda o, self, result: not self.is_plain and o(self, result))


def _for_anybody(p: Patches) -> None:
    def requested(original: Any, self: Any, connection: Any, command: Any) -> None:
        if command.run_id is not None:
            original(self, connection, command)
            return
        for peer, _ in list(self.router._connections.values()):
            peer.send_command(command)

    p.around(CommandDispatch, "requested", requested)


PATCHES: dict[str, Patch] = {
    "cursor-is-the-next": lambda p: p.around(
        Connection, "accept", lambda o, self, stream, cursor: o(self, stream, cursor + 1)
    ),
    "run-object-is-another-run": lambda p: p.set(
        sessions, "run_id_text", lambda run: run if isinstance(run, str) else f"{run.experiment_id}/{run.id}"
    ),
    "nothing-behind-the-end": _leaves_out(_behind_the_end),
    "end-is-a-farewell": _end_is_a_farewell,
    "control-seq-counts": _control_seqs,
    "skipped-stays-out": _stays_lost,
    "bad-skip-closes": _bad_skip_closes,
    "second-open-fences": _second_open,
    "hold-takes-skips": _held_skips,
    "deleted-run-closes": _deleted_closes,
    "all-runs-published": _all_runs,
    "no-echo": _no_echo,
    "history-cut": _history_cut,
    "fenced-commanded": _fenced_commanded,
    "plain-commands": _plain_commands,
    "commands-for-anybody": _for_anybody,
}
