"""Mutants of the role server: bytes and frames, connections that break, and peers beside each other."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

import msgspec
from patching import Patch, Patches

from xtrack_protocol.ir.envelope import UnknownEnvelope
from xtrack_protocol.limits import DecodeLimits
from xtrack_protocol.server.admission import Doorkeeper
from xtrack_protocol.server.committer import Committer
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.reception import Reception
from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.session import Refusal
from xtrack_protocol.session._connection import CONTROL_INPUTS
from xtrack_protocol.session._inbox import Inbox
from xtrack_protocol.session.collector import CollectorSession as Session

# ---------------------------------------------------------------------------------------------- bytes and frames


def _read_is_a_frame(p: Patches) -> None:
    def receive(original: Any, self: Any, data: bytes, now: float) -> Any:
        news = original(self, data, now)
        if self._inbox.partial is not None:
            self._inbox = Inbox(self._limits)
        return news

    p.around(Session, "receive", receive)


def _limit_one_more(p: Patches) -> None:
    def take(original: Any, self: Any, hello: Any) -> None:
        original(self, hello)
        self._inbox.settle("json", DecodeLimits(max_frame=self._bounds.max_frame + 1))

    p.around(Session, "_take_hello", take)


def _refuses_frames(applies: Any) -> Patch:
    """End a connection at frames to whose envelope and payload's bytes this ``applies``."""

    def take(original: Any, self: Any, frame: Any) -> None:
        if frame.envelope is not None and applies(frame.envelope, frame.raw):
            self._fail("protocol_error", "that makes no sense")
        else:
            original(self, frame)

    return lambda p: p.around(Session, "_take_frame", take)


def _has_unknown_members(envelope: Any, raw: bytes) -> bool:
    if envelope.event_type not in CONTROL_INPUTS:
        return False
    known = {field.encode_name for field in msgspec.structs.fields(envelope.payload)}
    return not msgspec.json.decode(raw)["p"].keys() <= known


def _is_unknown(envelope: Any, _raw: bytes) -> bool:
    return isinstance(envelope, UnknownEnvelope) and envelope.meta.seq >= 1


def _window_enforced(p: Patches) -> None:
    def hand_in(original: Any, self: Any, stream: Any, frames: Any, *args: Any) -> None:
        taken: Counter[Any] = self.__dict__.setdefault("taken", Counter())
        taken[stream] += len(frames)
        if taken[stream] > self.server.session_limits.window_events:
            self.reject("protocol_error", "more events than the window has room for")
        else:
            original(self, stream, frames, *args)

    p.around(Connection, "_hand_in", hand_in)


def _holds_nul(p: Patches) -> None:
    def push(original: Any, self: Any, works: Any) -> None:
        if any(b"\\u0000" in frame.raw for work in works for frame in work.batch.frames):
            raise ValueError("the store has no NUL")
        original(self, works)

    p.around(Committer, "_push", push)
    p.around(Committer, "_commit_alone", lambda o, self, work: self._fail(work, ValueError("the store has no NUL")))


# ---------------------------------------------------------------------------------------------- beside each other


def _one_by_one(p: Patches) -> None:
    """Look at the next connection when the one before has said what it is."""

    async def let_in(original: Any, self: Any, sock: Any, *args: Any) -> None:
        lock = self.__dict__.setdefault("lock", asyncio.Lock())
        try:
            await lock.acquire()
        except asyncio.CancelledError:  # the server ends
            sock.close()
            raise
        try:
            await original(self, sock, *args)
            while any(not one.is_known and not one.session.is_over for one in self._server._connections):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finally:
            lock.release()

    p.around(Reception, "_let_in", let_in)


def _ten_at_most(p: Patches) -> None:
    p.around(Doorkeeper, "refusal", lambda o, self, address: "ten are enough" if self._all >= 10 else o(self, address))


def _reset_ends_all(p: Patches) -> None:
    def lost(original: Any, self: Any, error: Exception | None) -> None:
        original(self, error)
        if error is not None:
            self.server.reception.close()
            for one in list(self.server._connections):
                one.abort()

    p.around(Connection, "connection_lost", lost)


def _slow_reader_stops_all(p: Patches) -> None:
    def hold_back(original: Any, self: Any, on: bool) -> None:
        original(self, on or not all(one._writable for one in self._connections))

    def made(original: Any, self: Any, transport: Any) -> None:  # what systems keep for a reader may be megabytes
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        original(self, transport)

    p.around(Connection, "connection_made", made)
    p.around(CollectorServer, "_hold_back", hold_back)
    p.around(Connection, "pause_writing", lambda o, self: (o(self), self.server._hold_back(True)))
    p.around(Connection, "resume_writing", lambda o, self: (o(self), self.server._hold_back(False)))


def _peek_takes(p: Patches) -> None:
    async def peek(original: Any, self: Any, sock: Any) -> Any:
        found = await original(self, sock)
        if found:
            sock.recv(len(found))
        return found

    p.around(Reception, "_peek", peek)


def _ack_behind_the_reject(p: Patches) -> None:
    def say(original: Any, self: Any, code: str, *args: Any) -> None:
        original(self, code, *args)
        for entry in self._streams._streams.values():
            self._send_ack(entry)

    p.around(Session, "_say_reject", say)


def _unneeded_key(p: Patches) -> None:
    def authenticate(original: Any, self: Any, address: str, auth: Any) -> Any:
        if self._server.access is None and auth is not None:
            return Refusal("unauthorized", "there are no keys here")
        return original(self, address, auth)

    p.around(Reception, "authenticate", authenticate)


PATCHES: dict[str, Patch] = {
    "a-read-is-a-frame": _read_is_a_frame,
    "takes-one-byte-more": _limit_one_more,
    "unknown-members-of-frames-refused": _refuses_frames(_has_unknown_members),
    "unknown-type-closes": _refuses_frames(_is_unknown),
    "empty-wid-refused": _refuses_frames(lambda envelope, raw: b'"wid": ""' in raw or b'"wid":""' in raw),
    "window-enforced": _window_enforced,
    "nul-holds-the-stream": _holds_nul,
    "handshakes-one-by-one": _one_by_one,
    "ten-at-most": _ten_at_most,
    "reset-ends-the-server": _reset_ends_all,
    "slow-reader-stops-all": _slow_reader_stops_all,
    "peek-takes-the-bytes": _peek_takes,
    "ack-behind-the-reject": _ack_behind_the_reject,
    "unneeded-key-refused": _unneeded_key,
}
