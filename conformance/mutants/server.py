"""Mutants of the role server, each with one behaviour changed: connections and streams.

``python server.py NAME FOLDER OPTIONS`` is a mutant's server in a process of its own, which can be killed.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import server_access
import server_greeting
import server_kinds
import server_neighbours
import server_packed
import server_requests
import server_settled
import server_spooled
import server_streams
from patching import Patch, Patches, as_server, one_by_one, serving
from tools import Mutation

import xtrack_protocol.server.connection as connections
import xtrack_protocol.server.server as servers
import xtrack_protocol.session.collector as sessions
from xtrack_protocol.ir import (
    Ack,
    Skip,
)
from xtrack_protocol.net import tls
from xtrack_protocol.server.admission import Doorkeeper
from xtrack_protocol.server.committer import Committer, skip_frame
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.reception import Reception
from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.server.streams import Streams
from xtrack_protocol.session import StreamId, StreamState
from xtrack_protocol.session._connection import Connection as Base
from xtrack_protocol.session._incoming import Incoming, IncomingStreams
from xtrack_protocol.session._reading import Reading
from xtrack_protocol.session._tables import Input, StreamInput
from xtrack_protocol.session.collector import CollectorSession as Session

HERE = Path(__file__)

# ---------------------------------------------------------------------------------------------- acks


def _too_early(p: Patches) -> None:
    def hand_in(original: Any, self: Any, stream: Any, frames: Any, size: int, upto: int, *rest: Any) -> None:
        if not self.is_plain:
            self.session.ack(stream, upto)
        original(self, stream, frames, size, upto, *rest)

    def commit(original: Any, self: Any, works: Any) -> None:
        time.sleep(0.5)
        original(self, works)

    p.around(Connection, "_hand_in", hand_in)
    p.around(Committer, "_commit", commit)


def _sends_acks(change: Any) -> Patch:
    """Write other acks: ``change(ack, entry, session)``."""

    def patch(p: Patches) -> None:
        entries: list[Any] = []

        def send(original: Any, self: Any, entry: Any, *args: Any, **more: Any) -> None:
            entries[:] = [entry]
            original(self, entry, *args, **more)

        def control(original: Any, self: Any, payload: Any, codec: Any = None) -> None:
            original(self, change(payload, entries[0], self) if isinstance(payload, Ack) else payload, codec)

        p.around(Session, "_send_ack", send)
        p.around(Session, "_control", control)

    return patch


def _of_the_run(ack: Ack, entry: Any, session: Any) -> Ack:
    mine = [one.acked for one in session._streams._streams.values() if one.stream.run_id == entry.stream.run_id]
    return msgspec.structs.replace(ack, seq=max(mine))


def _what_it_has(p: Patches) -> None:
    def committed(original: Any, self: Any, work: Any, now: float) -> None:
        entry = self.session._streams.get(work.batch.stream)
        if entry is not None:
            work.upto = entry.highest = max(work.upto, self.server.store.cursor(work.batch.stream).contiguous_to)
        original(self, work, now)

    p.around(Connection, "committed", committed)


def _duplicates_stop(p: Patches) -> None:
    def committed(original: Any, self: Any, work: Any, now: float) -> None:
        if work.outcome.duplicates and not self.is_plain:
            self.session.release(work.size, now)
        else:
            original(self, work, now)

    p.around(Connection, "committed", committed)


def _forgets_bad_frames(p: Patches) -> None:
    p.set(Connection, "_take_refused", lambda self, item: self.server.refused_frame(self.peer, item.error))


# ---------------------------------------------------------------------------------------------- streams


def _accepts_at(cursor: Any) -> Patch:
    return lambda p: p.around(
        Connection, "accept", lambda o, self, stream, found: o(self, stream, cursor(self, stream, found))
    )


def _unopened(p: Patches) -> None:
    def taken(streams: Any, stream: StreamId) -> Incoming:
        entry = streams.add(stream)
        entry.state = StreamState.OPEN
        return entry

    def of_event(original: Any, self: Any, envelope: Any) -> Any:
        found = original(self, envelope)
        if found is not None or envelope.run_id is None:
            return found
        meta = envelope.meta
        return taken(self, StreamId(envelope.run_id, meta.worker_id or "", meta.session_id or "none"))

    def skip(original: Any, self: Any, frame: Any, payload: Skip) -> None:
        stream = StreamId(str(payload.run_id), payload.worker_id or "", payload.session_id)
        if self._streams.get(stream) is None:
            taken(self._streams, stream)
        original(self, frame, payload)

    def hand_in(original: Any, self: Any, stream: Any, *args: Any) -> None:
        self.streams.add(stream)
        original(self, stream, *args)

    p.around(IncomingStreams, "of_event", of_event)
    p.around(Session, "_take_skip", skip)
    p.around(Connection, "_hand_in", hand_in)


def _stray(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any) -> None:
        kinds = {"welcome", "reject", "ack", "pong", "command_result", "unsubscribe"}
        if frame.envelope and frame.envelope.event_type in kinds:
            self._fail("protocol_error", "that makes no sense")
        else:
            original(self, frame)

    p.around(Session, "_take_frame", take)


def _controls(p: Patches) -> None:
    """Tell of control events as if they were kept: the store itself would drop them."""
    kept: dict[str, list[bytes]] = {}

    def take(original: Any, self: Any, frame: Any) -> None:
        envelope = frame.envelope
        if envelope and envelope.meta.seq < 1 and envelope.event_type in {"later", "command_result"}:
            kept.setdefault("r", []).append(frame.raw)
        original(self, frame)

    def events(original: Any, self: Any, request: Any) -> Any:
        found = original(self, request)
        more = [{"wid": "", "sid": "", "payload": as_server._base64(raw)} for raw in kept.get(request["run_id"], [])]
        return {**found, "events": found["events"] + more}

    p.around(Session, "_take_frame", take)
    p.around(as_server.Served, "events", events)


def _skip_unchecked(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, skip: Skip) -> None:
        low, high = sorted((max(1, skip.first), max(1, skip.last)))
        stream = StreamId(str(skip.run_id), skip.worker_id or "", skip.session_id)
        frame = skip_frame(stream, low, high, "mutant", 1)
        original(self, frame, frame.envelope.payload)  # type: ignore[union-attr]

    p.around(Session, "_take_skip", take)


def _newer_fenced(p: Patches) -> None:
    def permitted(original: Any, self: Any, connection: Any, stream: Any, answer: Any) -> None:
        older = self._owners.get(stream)
        if answer is None and older is not None and older is not connection:
            self._answered(stream)
            connection.fence(stream)
        else:
            original(self, connection, stream, answer)

    p.around(Streams, "_permitted", permitted)


def _fences_first(which: Any) -> Patch:
    def open_(original: Any, self: Any, connection: Any, stream: Any) -> None:
        for other, owner in list(self._owners.items()):
            if owner is not connection and which(other, stream):
                owner.fence(other)
        original(self, connection, stream)

    return lambda p: p.around(Streams, "open", open_)


def _untold(p: Patches) -> None:
    def fence(self: Any, stream: Any) -> None:
        entry = self._streams.get(stream)
        if entry is not None:
            entry.step(StreamInput.REFUSE)

    p.set(Session, "fence", fence)


def _lost_while_connected(p: Patches) -> None:
    def report(original: Any, self: Any) -> None:
        for stream in self._owners:
            self._gone[stream] = -1e9
        original(self)

    p.around(Streams, "report_lost", report)


# ---------------------------------------------------------------------------------------------- connections


def _not_closed(p: Patches) -> None:
    def leave(self: Any, transport: Any) -> None:
        self._leaving = self._loop.call_later(60, transport.abort)
        transport.write(self.session.data_to_send())

    p.set(Connection, "_leave", leave)


def _wordless(p: Patches) -> None:
    def reject(original: Any, self: Any, code: str, *args: Any) -> None:
        if code == "busy" and not self.is_over:
            self._step(Input.SEND_REJECT, "reject")
            self._ended()
        else:
            original(self, code, *args)

    p.around(Session, "reject", reject)


def _tls_or_not(p: Patches) -> None:
    async def let_in(original: Any, self: Any, sock: Any, *args: Any) -> None:
        context, first = self._server.tls, await self._peek(sock)
        if context is not None and first and first[0] != 0x16:
            self._server.tls = None
        try:
            await original(self, sock, *args)
        finally:
            self._server.tls = context

    p.around(Reception, "_let_in", let_in)


def _old_tls(p: Patches) -> None:
    import ssl

    def harden(context: Any) -> None:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("ALL:@SECLEVEL=0")

    p.set(tls, "_harden", harden)


PATCHES: dict[str, Patch] = {
    "ack-before-commit": _too_early,
    "ack-only-in-tens": lambda p: p.around(
        Session,
        "ack",
        lambda o, self, stream, upto, rejected=(): None if upto % 10 else o(self, stream, upto, rejected),
    ),
    "ack-above": _sends_acks(lambda ack, *_: msgspec.structs.replace(ack, seq=ack.seq + (ack.seq > 0))),
    "ack-unnamed": _sends_acks(lambda ack, *_: msgspec.structs.replace(ack, run_id=None, session_id=None)),
    "cursor-of-the-run": _sends_acks(_of_the_run),
    "acks-what-it-has": _what_it_has,
    "duplicate-stops-acks": _duplicates_stop,
    "rejected-unnamed": _sends_acks(lambda ack, *_: msgspec.structs.replace(ack, rejected=[])),
    "bad-frames-are-gaps": _sends_acks(
        lambda ack, *_: msgspec.structs.replace(ack, rejected=[(seq, "gap") for seq, _ in ack.rejected])
    ),
    "bad-frame-forgotten": _forgets_bad_frames,
    "bad-frame-closes": lambda p: p.set(
        Session, "_take_bad_frame", lambda self, frame, _: self._fail(frame.error.kind, "mutant")
    ),
    "frames-counted-when-taken": lambda p: p.around(
        CollectorServer,
        "hand_in",
        lambda o, self, work: (self.counters.refused_events.update(["frames"]), o(self, work))[1],
    ),
    "frames-uncounted": lambda p: p.set(CollectorServer, "refused_frame", lambda self, peer, error: None),
    "fatal-not-closed": lambda p: p.set(Session, "_fail_framing", lambda self, error: None),
    "cursor-always-0": _accepts_at(lambda *_: 0),
    "cursor-is-highest": _accepts_at(lambda self, stream, _: self.server.store.cursor(stream).last or 0),
    "derived-not-resolved": lambda p: p.around(
        IncomingStreams, "of_event", lambda o, self, envelope: o(self, envelope) if envelope.meta.session_id else None
    ),
    "derived-first-opened": lambda p: p.set(
        IncomingStreams,
        "opened",
        lambda self, entry: self._derived.setdefault((entry.stream.run_id, entry.stream.worker_id), entry),
    ),
    "long-ids-refused": lambda p: p.set(sessions, "RUN_ID_MAX", 1000),
    "unopened-taken": _unopened,
    "stray-closes": _stray,
    "controls-stored": _controls,
    "pong-missing": lambda p: p.set(Base, "_answer_ping", lambda self: None),
    "skip-ignored": lambda p: p.set(Session, "_take_skip", lambda self, frame, skip: None),
    "skip-unchecked": _skip_unchecked,
    "fenced-taken": lambda p: p.set(Connection, "fence", lambda self, stream: None),
    "fenced-all": lambda p: p.set(Connection, "fence", lambda self, stream: self.reject("fenced", "")),
    "fenced-untold": _untold,
    "fenced-by-run": _fences_first(lambda one, other: one.run_id == other.run_id),
    "fences-before-it-asks": _fences_first(lambda one, other: one == other),
    "newer-fenced": _newer_fenced,
    "hold-untold": lambda p: p.set(Connection, "hold", lambda self, stream, reason: None),
    "hold-for-ever": lambda p: p.set(Streams, "go_on", lambda self: None),
    "hold-jumps": lambda p: p.set(Incoming, "goes_on", lambda self, seq: True),
    "first-frame-waits": lambda p: p.around(
        Session, "start", lambda o, self, now: (o(self, now), setattr(self._reading, "first_due", math.inf))
    ),
    "frame-waits": lambda p: p.set(Reading, "began", lambda self, offset, now: None),
    "idle-unpinged": lambda p: p.set(Base, "_silence_due", lambda self: math.inf),
    "idle-waits": lambda p: p.set(Session, "_idle_due", lambda self: math.inf),
    "never-lost": lambda p: p.set(Streams, "report_lost", lambda self: None),
    "lost-while-connected": _lost_while_connected,
    "http-unanswered": lambda p: p.set(connections, "recognise", lambda data: None),
    "tls-or-not": _tls_or_not,
    "tls-1.1": _old_tls,
    "listens-everywhere": lambda p: p.set(servers, "check_exposure", lambda *_, **__: None),
    "unbounded": lambda p: p.set(Doorkeeper, "refusal", lambda self, address: ""),
    "stops-without-a-word": _wordless,
    "reject-not-closed": _not_closed,
    **server_streams.PATCHES,
    **server_neighbours.PATCHES,
    **server_packed.PATCHES,
    **server_greeting.PATCHES,
    **server_kinds.PATCHES,
    **server_requests.PATCHES,
    **server_settled.PATCHES,
    **server_spooled.PATCHES,
    **server_access.PATCHES,
}

MUTANTS: dict[str, Mutation] = {name: serving(name, patch, HERE) for name, patch in PATCHES.items()}

if __name__ == "__main__":
    one_by_one(Patches())
    PATCHES[sys.argv[1]](Patches())
    as_server.child(*sys.argv[2:])
