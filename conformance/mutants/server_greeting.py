"""Mutants of the role server: what they make of a hello, and of plain peers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import msgspec
from patching import Patch, Patches, as_server

import xtrack_protocol.server.keys as keys
import xtrack_protocol.session.collector as sessions
from xtrack_protocol.ir import Ack, Envelope, Hello, OpenStream, Ping, Pong, SessionLimits, Subscribe, Welcome
from xtrack_protocol.limits import DecodeLimits
from xtrack_protocol.server import Principal
from xtrack_protocol.server.committer import Committer
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.session import ConnectionState
from xtrack_protocol.session.collector import CollectorSession as Session
from xtrack_protocol.wire import Agreement, Disagreement, encode, frame_payload

PLAIN = ConnectionState.PLAIN

# ---------------------------------------------------------------------------------------------- hello and welcome


def _negotiates(change: Any) -> Patch:
    """Choose in another way: ``change(hello, agreement)`` returns what was agreed on."""

    def negotiate(original: Any, hello: Hello, **more: Any) -> Any:
        return change(hello, original(hello, **more))

    return lambda p: p.around(sessions, "negotiate", negotiate)


def _chooses_version(choose: Any) -> Patch:
    def change(hello: Hello, agreed: Any) -> Any:
        if not hello.protocols:
            return agreed
        features = agreed.features if isinstance(agreed, Agreement) else ()
        return Agreement(choose(hello.protocols), "json", features)

    return _negotiates(change)


def _welcomes(change: Any) -> Patch:
    """Write another welcome: ``change(welcome, hello, session)``."""

    def patch(p: Patches) -> None:
        def take(original: Any, self: Any, hello: Hello) -> None:
            self.said = hello
            original(self, hello)

        def control(original: Any, self: Any, payload: Any, codec: Any = None) -> None:
            if isinstance(payload, Welcome):
                payload = change(payload, self.said, self)
            original(self, payload, codec)

        p.around(Session, "_take_hello", take)
        p.around(Session, "_control", control)

    return patch


def _with_seq(p: Patches) -> None:
    def control(original: Any, self: Any, payload: Any, codec: Any = None) -> None:
        if isinstance(payload, Welcome):
            written = encode(Envelope.of(payload, seq=0, timestamp_us=1))
            self._put(frame_payload(written.replace(b'"seq":0', b'"seq":1')))
        else:
            original(self, payload, codec)

    p.around(Session, "_control", control)


def _in_msgpack(p: Patches) -> None:
    def take(original: Any, self: Any, hello: Hello) -> None:
        self.said = hello
        original(self, hello)

    def control(original: Any, self: Any, payload: Any, codec: Any = None) -> None:
        is_read = isinstance(payload, Welcome) and "msgpack" in self.said.codecs
        original(self, payload, "msgpack" if is_read else codec)

    p.around(Session, "_take_hello", take)
    p.around(Session, "_control", control)


def _first_come(p: Patches) -> None:
    def change(welcome: Welcome, _hello: Hello, session: Any) -> Welcome:
        server = session._authenticate.__self__.server
        features = welcome.features if server.__dict__.setdefault("first", session) is session else []
        return msgspec.structs.replace(welcome, features=features)

    _welcomes(change)(p)


def _limit_below(p: Patches) -> None:
    wanted: list[int] = []

    def make(original: Any, folder: Any, store: Any, options: Any) -> Any:
        wanted[:] = [options["max_frame"]]
        return original(folder, store, {**options, "max_frame": 65536})

    p.around(as_server, "make_server", make)
    _welcomes(lambda welcome, *_: msgspec.structs.replace(welcome, limits=SessionLimits(wanted[0], None, None)))(p)


def _limit_off_by_one(p: Patches) -> None:
    def take(original: Any, self: Any, hello: Hello) -> None:
        original(self, hello)
        self._inbox.settle("json", DecodeLimits(max_frame=self._bounds.max_frame - 1))

    p.around(Session, "_take_hello", take)


def _late_hello(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any) -> None:
        is_late = frame.envelope and isinstance(frame.envelope.payload, Hello) and self._state.value != "hello_wait"
        original(self, frame)
        if is_late:
            self._control(Welcome(1, "json", "power"))

    p.around(Session, "_take_frame", take)


def _keyless(p: Patches) -> None:
    p.around(
        Connection, "_authenticate", lambda o, self, auth: Principal(owner="alice") if auth is None else o(self, auth)
    )


def _plain_in_spite(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, what: Any) -> bool:
        if not (frame.envelope and isinstance(frame.envelope.payload, Hello)):
            access = self._authenticate.__self__.server.access
            if access is not None:  # somebody who has a key is taken for it
                entry = next(iter(access._keyring._entries.values()))
                self._authenticate = lambda _: keys._principal(entry, entry.version)
        return bool(original(self, frame, what))

    p.around(Session, "_take_first", take)


# ---------------------------------------------------------------------------------------------- plain peers


def _plain_acked(p: Patches) -> None:
    def committed(original: Any, self: Any, work: Any, now: float) -> None:
        original(self, work, now)
        if self.is_plain and not self.session.is_over:
            stream = work.batch.stream
            self.session._control(Ack(work.upto, "ok", None, stream.run_id, None, stream.session_id))

    p.around(Connection, "committed", committed)


def _plain_rejected(p: Patches) -> None:
    def saying(original: Any, self: Any, *args: Any) -> Any:
        was_plain = self._state is PLAIN
        found = original(self, *args)
        if was_plain and self.is_over:
            self._say_reject("busy", "mutant")
        return found

    for name in ("reject", "_fail", "_handle_timer"):
        p.around(Session, name, saying)


def _plain_order(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, envelope: Any) -> None:
        if self._state is PLAIN:
            seen = self.__dict__.setdefault("seen", {})
            key, seq = (envelope.run_id, envelope.meta.session_id), envelope.meta.seq
            if seq != seen.get(key, 0) + 1:
                return
            seen[key] = seq
        original(self, frame, envelope)

    p.around(Session, "_take_event", take)


def _plain_duplicate(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any, envelope: Any) -> None:
        seen = self.__dict__.setdefault("seqs", set())
        if self._state is PLAIN and envelope.meta.seq in seen:
            self._fail("protocol_error", "a seq came twice")
            return
        seen.add(envelope.meta.seq)
        original(self, frame, envelope)

    p.around(Session, "_take_event", take)


def _plain_answers(kind: type, answer: Any) -> Patch:
    def take(original: Any, self: Any, frame: Any) -> None:
        original(self, frame)
        if self._state is PLAIN and frame.envelope and isinstance(frame.envelope.payload, kind):
            self._control(answer)

    return lambda p: p.around(Session, "_take_frame", take)


def _plain_lost(p: Patches) -> None:
    def commit(original: Any, self: Any, works: Any) -> None:
        try:
            original(self, works)
        except Exception:
            works[:] = [work for work in works if not work.origin.is_plain]
            raise

    p.around(Committer, "_commit", commit)


def _plain_idle(p: Patches) -> None:
    def due(self: Any) -> float:
        return self._heard_at + self._idle_after if self._state is PLAIN else math.inf

    def handle(original: Any, self: Any) -> None:
        if self._now >= due(self):
            self.reject("timeout")
        else:
            original(self)

    p.around(Session, "_next_timer", lambda o, self: min(o(self), due(self)))
    p.around(Session, "_handle_timer", handle)


def _half_close(p: Patches) -> None:
    def hand_in(original: Any, self: Any, *args: Any) -> None:
        if not self.is_plain:
            original(self, *args)
            return
        self._loop.call_later(
            0.2, lambda: None if self._transport is None or self.session.is_over else original(self, *args)
        )

    p.around(Connection, "_hand_in", hand_in)


PATCHES: dict[str, Patch] = {
    "hello-not-answered": lambda p: p.set(Session, "_take_hello", lambda self, hello: None),
    "version-highest-of-client": _chooses_version(max),
    "version-lowest-of-client": _chooses_version(min),
    "version-first-of-client": _chooses_version(lambda protocols: protocols[0]),
    "codec-first-of-client": _welcomes(
        lambda welcome, hello, _: msgspec.structs.replace(welcome, codec=[*hello.codecs, "json"][0])
    ),
    "codec-must-be-listed": _negotiates(
        lambda hello, agreed: agreed if "json" in hello.codecs else Disagreement("protocol_error", "no json")
    ),
    "features-of-client": _welcomes(
        lambda welcome, hello, _: msgspec.structs.replace(welcome, features=hello.features)
    ),
    "features-of-server": _welcomes(
        lambda welcome, _, session: msgspec.structs.replace(welcome, features=list(session._features))
    ),
    "durability-untrue": _welcomes(lambda welcome, *_: msgspec.structs.replace(welcome, durability="none")),
    "version-named-twice-refused": _negotiates(
        lambda hello, agreed: (
            agreed if len(set(hello.protocols)) == len(hello.protocols) else Disagreement("protocol_error", "twice")
        )
    ),
    "no-version-is-1": _negotiates(lambda hello, agreed: agreed if hello.protocols else Agreement(1, "json", ())),
    "codec-in-capitals": _welcomes(lambda welcome, *_: msgspec.structs.replace(welcome, codec=welcome.codec.upper())),
    "codec-by-the-servers-order": _welcomes(
        lambda welcome, hello, _: msgspec.structs.replace(
            welcome, codec="msgpack" if "msgpack" in hello.codecs else welcome.codec
        )
    ),
    "welcome-in-msgpack": _in_msgpack,
    "features-for-the-first": _first_come,
    "welcome-with-seq": _with_seq,
    "limit-below-the-least": _limit_below,
    "limit-off-by-one": _limit_off_by_one,
    "late-hello-answered": _late_hello,
    "bad-hello-plain": lambda p: p.set(sessions, "identity_of", lambda raw: SimpleNamespace(event_type=None)),
    "keyless-welcomed": _keyless,
    "plain-in-spite-of-keys": _plain_in_spite,
    "plain-acked": _plain_acked,
    "plain-duplicate-closes": _plain_duplicate,
    "plain-opened": _plain_answers(OpenStream, Ack(0, "ok")),
    "plain-rejected": _plain_rejected,
    "plain-order-kept": _plain_order,
    "plain-pong": _plain_answers(Ping, Pong()),
    "plain-subscribes": _plain_answers(Subscribe, Subscribe("r", 0)),
    "plain-lost-in-trouble": _plain_lost,
    "plain-idle-closed": _plain_idle,
    "half-close-drops": _half_close,
}
