"""Mutants of servers that speak MessagePack, as the reference's sessions can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from patching import Patch, Patches

import xtrack_protocol.session.collector as sessions
from xtrack_protocol.ir import Reject, Welcome
from xtrack_protocol.session._connection import Connection as Base
from xtrack_protocol.session.collector import CollectorSession as Session
from xtrack_protocol.wire import decode, encode
from xtrack_protocol.wire.codec import transcode


def _speaking(patch: Callable[[Patches], None]) -> Patch:
    """Return a patch of a server that speaks MessagePack with those that would like it."""

    def change(p: Patches) -> None:
        p.around(Session, "__init__", lambda o, self, **more: o(self, **{**more, "codecs": ("json", "msgpack")}))
        patch(p)

    return change


def _controls(codec_of: Callable[[Any, Any, Any], Any]) -> Callable[[Patches], None]:
    """Write control events in the codec that ``codec_of`` a session, an event and the right codec is."""
    return lambda p: p.around(
        Base, "_control", lambda o, self, event, codec=None: o(self, event, codec_of(self, event, codec))
    )


def _no_json(p: Patches) -> None:
    def take(original: Any, self: Any, frame: Any) -> None:
        if self._codec == "json" or frame.raw[:1] != b"{":
            original(self, frame)

    p.around(Session, "_take_frame", take)


PATCHES: dict[str, Patch] = {
    "msgpack-server-takes-no-json": _speaking(_no_json),
    "msgpack-server-answers-in-json": _speaking(_controls(lambda self, event, codec: "json")),
    "msgpack-server-welcomes-in-it": _speaking(
        _controls(lambda self, event, codec: "msgpack" if isinstance(event, Welcome) else codec)
    ),
    "msgpack-server-rejects-in-it": _speaking(
        _controls(lambda self, event, codec: "msgpack" if isinstance(event, Reject) else codec)
    ),
    "msgpack-server-unasked": _speaking(
        _controls(lambda self, event, codec: codec if isinstance(event, (Welcome, Reject)) else "msgpack")
    ),
    "msgpack-server-publishes-json": _speaking(
        lambda p: p.set(sessions, "transcode", lambda payload, codec, limit: payload)
    ),
    "msgpack-server-publishes-any-size": _speaking(
        lambda p: p.set(sessions, "transcode", lambda payload, codec, limit: transcode(payload, codec, 2**24))
    ),
    "msgpack-server-drops-members": _speaking(
        lambda p: p.set(sessions, "transcode", lambda payload, codec, limit: encode(decode(payload), codec))
    ),
    "msgpack-server-chooses-it-unasked": lambda p: p.around(
        sessions, "negotiate", lambda o, hello, **more: attrs.evolve(o(hello, **more), codec="msgpack")
    ),
}
"""Each may be found by cases of servers that are asked for MessagePack."""
