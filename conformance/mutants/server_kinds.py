"""Mutants of the role server: what they make of the edges of rules, and of what stands just within or against them."""

from __future__ import annotations

from typing import Any

import attrs
from patching import Patch, Patches, as_server
from server_greeting import _negotiates

import xtrack_protocol.server.keys as keys
import xtrack_protocol.server.server as servers
import xtrack_protocol.server.subscriptions as subscriptions
import xtrack_protocol.session.collector as sessions
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import CommandResult
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.admission import KeyGuesses
from xtrack_protocol.server.commands import CommandRouter as Router
from xtrack_protocol.server.committer import Committer
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.server.streams import Streams
from xtrack_protocol.server.subscriptions import Subscriptions
from xtrack_protocol.session._incoming import Incoming
from xtrack_protocol.session._reading import Reading
from xtrack_protocol.session._salvage import Identity
from xtrack_protocol.session.collector import CollectorSession as Session
from xtrack_protocol.storage.access import RunAccess
from xtrack_protocol.wire import Disagreement

# ---------------------------------------------------------------------------------------------- streams


def _repeats_rejected(p: Patches) -> None:
    """Name every event of a batch in which one was there already."""

    def committed(original: Any, self: Any, work: Any, now: float) -> None:
        if work.outcome.duplicates:
            work.rejected += [(frame.envelope.meta.seq, "seq_conflict") for frame in work.batch.frames]
        original(self, work, now)

    p.around(Connection, "committed", committed)


def _tells_senders(p: Patches) -> None:
    def hold_all(self: Any, reason: str) -> None:
        self.trouble = reason
        for stream, connection in list(self._owners.items()):
            if stream in connection.brought:
                connection.hold(stream, reason)

    p.set(Streams, "hold_all", hold_all)


def _ascii_alone(p: Patches) -> None:
    def push(original: Any, self: Any, works: Any) -> None:
        if not all(frame.raw.isascii() for work in works for frame in work.batch.frames):
            raise ValueError("the store has no such letters")
        original(self, works)

    def commit_frame(original: Any, self: Any, work: Any, frame: Any, total: Any) -> None:
        if frame.raw.isascii():
            original(self, work, frame, total)
        else:
            total.refused.append((frame.envelope.meta.seq, "bad_value"))

    p.around(Committer, "_push", push)
    p.around(Committer, "_commit_frame", commit_frame)


# ---------------------------------------------------------------------------------------------- subscriptions


def _refused_published(p: Patches) -> None:
    def committed(original: Any, self: Any, work: Any, now: float) -> None:
        refused = {seq for seq, _ in work.outcome.refused}
        for frame in work.batch.frames:
            if frame.envelope.meta.seq in refused:
                for connection in self.server.subscriptions._tasks:
                    connection.session.send_event(frame.raw)
                    connection.flush()
        original(self, work, now)

    p.around(Connection, "committed", committed)


def _never_freed(p: Patches) -> None:
    def end(self: Any, connection: Any, run_id: str) -> None:
        task = self._tasks.get(connection, {}).get(run_id)
        if task is not None:
            task.cancel()

    p.set(Subscriptions, "end", end)
    p.set(Subscriptions, "_done", lambda *_: None)


def _asks_each_time(p: Patches) -> None:
    """Ask before each page whether it may be read: the mutants below show at once."""
    p.set(subscriptions, "RIGHTS_SECONDS", 0.0)


def _revoked_for_all(p: Patches) -> None:
    def changed(original: Any, access: Any, request: Any) -> Any:
        found = original(access, request)
        return attrs.evolve(found, readers=frozenset()) if "revoke" in request else found

    _asks_each_time(p)
    p.around(as_server, "_changed", changed)


def _revoked_though_public(p: Patches) -> None:
    def changed(original: Any, access: Any, request: Any) -> Any:
        found = original(access, request)
        return attrs.evolve(found, public=False) if "revoke" in request else found

    _asks_each_time(p)
    p.around(as_server, "_changed", changed)


# ---------------------------------------------------------------------------------------------- commands


def _answered_again(p: Patches) -> None:
    """Answer for a worker that is gone, also where it has answered."""
    passed: dict[str, Any] = {}

    def result(original: Any, self: Any, peer: Any, answer: Any) -> None:
        passed[answer.command_id] = peer, self._asked.get(answer.command_id), answer
        original(self, peer, answer)

    def gone(original: Any, self: Any, peer: Any) -> None:
        original(self, peer)
        for who, asked, answer in passed.values():
            for asker, own_id in asked.askers if asked and who is peer else ():
                asker.send_command_result(CommandResult(answer.run_id, own_id, "error", "gone", answer.worker_id, 0))

    p.around(Router, "result", result)
    p.around(Router, "gone", gone)


def _one_command(p: Patches) -> None:
    def problem(original: Any, self: Any, asker: Any, *args: Any) -> str:
        under_way = any(who is asker for asked in self._asked.values() for who, _ in asked.askers)
        return "a command is under way" if under_way else str(original(self, asker, *args))

    p.around(Router, "problem", problem)


# ---------------------------------------------------------------------------------------------- connections


def _first_stays(p: Patches) -> None:
    def take(original: Any, self: Any, *args: Any) -> bool:
        due = self._reading.first_due
        found = bool(original(self, *args))
        self._reading.first_due = due
        return found

    p.around(Session, "_take_first", take)


def _frame_stays(p: Patches) -> None:
    def began(original: Any, self: Any, offset: Any, now: float) -> None:
        due = self._frame_due
        original(self, offset, now)
        self._frame_due = min(due, self._frame_due)

    p.around(Reading, "began", began)


def _keys_alone(p: Patches) -> None:
    def check(_host: str, *, keyed: bool, **_: Any) -> None:
        if not keyed:
            raise ConfigurationError("tcp", "", "takes a key")

    p.set(servers, "check_exposure", check)


def _gives_up_unfinished(p: Patches) -> None:
    def changed(original: Any, self: Any, connection: Any, change: int) -> None:
        original(self, connection, change)
        if connection.unfinished > 4096:
            connection.reject("busy", "too many frames are under way at once")
            connection.forget_unfinished()

    p.around(CollectorServer, "unfinished_changed", changed)


# ---------------------------------------------------------------------------------------------- hello, and keys


def _after_a_refusal(p: Patches) -> None:
    before: list[Any] = []

    def change(_hello: Any, agreed: Any) -> Any:
        if isinstance(agreed, Disagreement):
            agreed = Disagreement("busy", "not again") if before else agreed
            before.append(agreed)
        return agreed

    _negotiates(change)(p)


def _counts_everybody(p: Patches) -> None:
    def introduced(original: Any, self: Any, connection: Any) -> None:
        original(self, connection)
        self.counters.refused_peers["unauthorized"] += 1

    p.around(CollectorServer, "introduced", introduced)


def _counts_once(p: Patches) -> None:
    def refused(original: Any, self: Any, code: str, *args: Any) -> None:
        if not self.counters.refused_peers[code]:
            original(self, code, *args)

    p.around(CollectorServer, "refused", refused)


def _logs_bad_frames(p: Patches) -> None:
    def take(original: Any, self: Any, item: Any) -> None:
        self.server.inform(f"a bad frame {item.raw!r}")
        original(self, item)

    p.around(Connection, "_take_refused", take)


def _keeps_shown(p: Patches) -> None:
    """Tell of the keys that were shown as if they were kept."""
    shown: list[str] = []

    def authenticate(original: Any, self: Any, auth: Any) -> Any:
        shown.append(auth.key if auth and auth.key else "")
        return original(self, auth)

    def show(original: Any, self: Any, request: Any) -> Any:
        found = original(self, request)
        return {"kept": as_server._base64(" ".join(shown).encode())} if "kept" in found else found

    p.around(Keyring, "authenticate", authenticate)
    p.around(as_server.Served, "keys", show)


def _undoes(p: Patches) -> None:
    def add(original: Any, self: Any, *args: Any, **more: Any) -> Any:
        try:
            return original(self, *args, **more)
        except ConfigurationError:
            self.remove(self.keys()[-1].key_id)
            raise

    p.around(Keyring, "add", add)


def _ends_sessions(p: Patches) -> None:
    def change(original: Any, self: Any, request: Any) -> Any:
        found = original(self, request)
        server = self._server()

        def end() -> None:
            for connection in list(server._connections):
                connection.reject("unauthorized", "the keys have changed")

        server.loop.call_soon_threadsafe(end)
        return found

    p.around(as_server.Served, "keys", change)


def _one_guess(p: Patches) -> None:
    def wrong(original: Any, self: Any, address: str, now: float) -> None:
        original(self, address, now)
        self._addresses[address].until = now + 5.0

    p.around(KeyGuesses, "wrong", wrong)


def _of_ascii(p: Patches) -> None:
    p.around(keys, "unfit_name", lambda o, name, *most: o(name, *most) or (None if name.isascii() else "is no ASCII"))


# ---------------------------------------------------------------------------------------------- runs


def _ends_all_grants(p: Patches) -> None:
    def delete(original: Any, self: Any, request: Any) -> Any:
        found = original(self, request)
        with self._opened() as store:
            for state in store.search_runs():
                store.change_access(
                    state.run_id, lambda access: attrs.evolve(access, readers=frozenset(), writers=frozenset())
                )
        return found

    p.around(as_server.Served, "delete", delete)


def _outlives(p: Patches) -> None:
    """Remember who might do what with a run, whatever has become of it."""

    def get_access(original: Any, self: Any, run_id: str) -> RunAccess:
        known = self.__dict__.setdefault("known_access", {})
        found = original(self, run_id)
        if found.owner is not None:
            known[run_id] = found
        return known.get(run_id, found)

    p.around(as_server.Store, "get_access", get_access)
    p.around(
        as_server.Store,
        "change_access",
        lambda o, self, run_id, change: (o(self, run_id, change), self.get_access(run_id))[0],
    )


def _begins_with_an_event(p: Patches) -> None:
    def may_read(original: Any, self: Any, principal: Any, run_id: str) -> Any:
        state = self._state(run_id)
        is_there = self._keyring is None or (state is not None and state.events)
        return original(self, principal, run_id) if is_there else self._refuse("owner", "there is no such run")

    p.around(AccessControl, "may_read", may_read)


PATCHES: dict[str, Patch] = {
    "runs-begin-with-an-event": _begins_with_an_event,
    "repeats-rejected": _repeats_rejected,
    "bad-controls-refused": lambda p: p.set(Identity, "is_control", property(lambda self: False)),
    "ids-of-255": lambda p: p.set(sessions, "RUN_ID_MAX", 255),
    "session-order-kept": lambda p: p.around(
        Incoming, "goes_on", lambda o, self, seq: seq <= self.highest + 1 and o(self, seq)
    ),
    "hold-tells-senders": _tells_senders,
    "hold-deaf": lambda p: p.around(Incoming, "goes_on", lambda o, self, seq: not self.interrupted and o(self, seq)),
    "ascii-alone-kept": _ascii_alone,
    "refused-published": _refused_published,
    "subscriptions-never-freed": _never_freed,
    "revoked-for-all": _revoked_for_all,
    "revoked-though-public": _revoked_though_public,
    "gone-answered-again": _answered_again,
    "one-command-at-a-time": _one_command,
    "first-deadline-stays": _first_stays,
    "frame-deadline-stays": _frame_stays,
    "listens-with-keys-alone": _keys_alone,
    "unfinished-given-up": _gives_up_unfinished,
    "refusal-depends-on-the-last": _after_a_refusal,
    "everybody-counted": _counts_everybody,
    "counted-once": _counts_once,
    "bad-frames-logged": _logs_bad_frames,
    "shown-keys-kept": _keeps_shown,
    "refused-change-undoes": _undoes,
    "changes-end-sessions": _ends_sessions,
    "one-guess-waits": _one_guess,
    "owners-of-ascii": _of_ascii,
    "deletion-ends-all-grants": _ends_all_grants,
    "grants-outlive-runs": _outlives,
}
