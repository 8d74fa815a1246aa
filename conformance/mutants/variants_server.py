"""Servers that are unusual, and legal: none may fail."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from patching import Patch, Patches, as_server, one_by_one, serving
from tools import Mutation

from xtrack_protocol.collector import StreamBatch
from xtrack_protocol.ir import Ack, Envelope, Ping, UnknownEnvelope, UnknownEvent
from xtrack_protocol.server.committer import Committer
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.session import ConnectionState
from xtrack_protocol.session.collector import CollectorSession as Session
from xtrack_protocol.wire import encode, frame_payload

HERE = Path(__file__)


def _one_by_one(p: Patches) -> None:
    """Commit and ack each event by itself."""

    def hand_in(original: Any, self: Any, stream: Any, frames: Any, size: int, upto: int, *rest: Any) -> None:
        if len(frames) < 2:
            original(self, stream, frames, size, upto, *rest)
            return
        for frame in frames:
            milestones = StreamBatch(stream, (frame,), 0).milestones
            original(self, stream, (frame,), 4 + len(frame.raw), frame.envelope.meta.seq, milestones)

    p.around(Connection, "_hand_in", hand_in)


def _bytewise(p: Patches) -> None:
    """Write a byte at a time, up to a measure."""

    def flush(original: Any, self: Any) -> None:
        transport = self._transport
        if (
            transport is not None
            and self._writable
            and not self.session.is_over
            and 0 < self.session.output_size < 2000
        ):
            for byte in self.session.data_to_send():
                transport.write(bytes([byte]))
        original(self)

    p.around(Connection, "flush", flush)


def _slow(p: Patches) -> None:
    """Take its time for each transaction."""
    p.around(Committer, "_commit", lambda o, self, works: (time.sleep(0.03), o(self, works)))


def _talkative(p: Patches) -> None:
    """Say everything twice that may be said twice, ping, and send control events of a later version."""

    def control(original: Any, self: Any, payload: Any, codec: Any = None) -> None:
        original(self, payload, codec)
        if self._state is not ConnectionState.ACTIVE or not isinstance(payload, Ack) or payload.status != "ok":
            return
        original(self, payload, codec)
        original(self, Ping(), codec)
        later = UnknownEnvelope(1, Envelope.of(Ping(), seq=0, timestamp_us=1).meta, UnknownEvent("later", {"x": [1]}))
        self._put(frame_payload(encode(later)))

    p.around(Session, "_control", control)


def _more_features(p: Patches) -> None:
    """Know more than the specification names."""

    def make(original: Any, *args: Any) -> Any:
        server = original(*args)
        server.features = ("telepathy2", *server.features, "x.y/z")
        return server

    p.around(as_server, "make_server", make)
    p.set(as_server, "FEATURES", ["telepathy2", "commands", "follow", "x.y/z"])


def _messagepack(p: Patches) -> None:
    """Speak MessagePack with those that would like it."""
    p.around(Session, "__init__", lambda o, self, **more: o(self, **{**more, "codecs": ("json", "msgpack")}))


PATCHES: dict[str, Patch] = {
    "server-speaks-messagepack": _messagepack,
    "server-acks-one-by-one": _one_by_one,
    "server-writes-bytewise": _bytewise,
    "server-takes-its-time": _slow,
    "server-talks-much": _talkative,
    "server-knows-more": _more_features,
}

VARIANTS: dict[str, Mutation] = {name: serving(name, patch, HERE) for name, patch in PATCHES.items()}

if __name__ == "__main__":
    one_by_one(Patches())
    PATCHES[sys.argv[1]](Patches())
    as_server.child(*sys.argv[2:])
