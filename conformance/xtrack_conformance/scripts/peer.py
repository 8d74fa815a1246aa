"""The suite's end of a connection to a server under test: raw bytes over a socket, and a strict look at what comes.

Blocking, with a generous limit for what must come. What mustn't come is never waited for: see ``scripts/server.py``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import attrs

from xtrack_conformance import msgpack
from xtrack_conformance.payloads import read_packed, read_payload
from xtrack_conformance.slots import CONTROL, INT64_MAX, INT64_MIN, Fault
from xtrack_conformance.values import shown

SECONDS = 10.0
"""How long what must come may take. The mutants' tests are less patient."""

_FRAME_MAX: Final = 16_777_215
_TAKEN: Final = 1_048_576
"""Bytes of a payload that a client takes. spec: FRM-3.1"""

_SMALL: Final = 100_000
"""Bytes of JSON that are fewer than that in any other form: a number of three bytes takes nine in MessagePack."""

_CHUNK: Final = 65536

Json = dict[str, Any]
Stream = tuple[str, str, str]


class Mismatch(Exception):
    """The server did something else than it must. ``clause``: where it isn't what the case is about."""

    def __init__(self, message: str, *, expected: str = "", got: str = "", clause: str = "") -> None:
        self.message = f"{message} ({clause})" if clause else message
        self.expected = expected
        self.got = got
        super().__init__(self.message)


@attrs.frozen
class Frame:
    """A frame of the server: its JSON, and its payload's bytes."""

    tree: Json
    payload: bytes

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.tree.get("t"))

    @property
    def body(self) -> Json:
        """The event's body."""
        body = self.tree.get("p")
        return body if isinstance(body, dict) else {}

    def told(self) -> str:
        """Return the frame for people."""
        return shown(self.payload.decode("utf-8", "replace"), 300)


@attrs.define
class Opened:
    """A stream that this connection has opened. ``highest``: of the seqs that were sent or skipped here."""

    cursor: int | None = None
    highest: int = 0
    acked: int = 0


class Peer:
    """One connection. ``welcomed``: a ``welcome`` has come. ``rest``: built, and not sent yet."""

    def __init__(self, name: str, host: str, port: int, *, tls: bool = False) -> None:
        self.name = name
        self.welcomed = False
        self.codec = "json"
        self.max_frame = 1_048_576
        self.rest = b""
        self.streams: dict[Stream, Opened] = {}
        self._data = bytearray()
        self._ended = False
        try:
            self._socket = socket.create_connection((host, port), SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self._socket = _client_context().wrap_socket(self._socket)
        except OSError as error:
            raise Mismatch(f"no connection to {host}:{port}", got=str(error)) from error

    # ------------------------------------------------------------------------------------------ sending

    def send(self, data: bytes, pieces: int | None = None) -> None:
        """Send bytes, in pieces of so many. That the other side has closed shows when something is expected of it."""
        self._socket.settimeout(SECONDS)
        try:
            for start in range(0, len(data), pieces or len(data) or 1):
                self._socket.sendall(data[start : start + (pieces or len(data))])
        except TimeoutError as error:
            raise Mismatch(f"the server has read nothing for {SECONDS:g} s", expected="that it reads") from error
        except OSError:
            pass

    def note_sent(self, tree: Any) -> None:
        """Keep in mind which acks may come for an event. None: for something that might have been one of any stream."""
        if not isinstance(tree, dict) or not isinstance(tree.get("p"), dict):
            for entry in self.streams.values():
                entry.highest += 1
            return
        body, meta = tree["p"], tree["m"]
        run = run_text(body.get("run_id"))
        if tree["t"] == "open":
            entry = self.streams.setdefault((run, body.get("wid", ""), body["sid"]), Opened())
            entry.cursor = None
        elif tree["t"] == "skip":
            self._raise((run, body.get("wid", ""), body["sid"]), body["to"])
        elif "sid" in meta:
            self._raise((run, meta.get("wid", ""), meta["sid"]), meta["seq"])
        else:
            for stream in self.streams:
                if stream[:2] == (run, meta.get("wid", "")):
                    self._raise(stream, meta["seq"])

    def _raise(self, stream: Stream, seq: int) -> None:
        if stream in self.streams:
            self.streams[stream].highest = max(self.streams[stream].highest, seq)

    def half_close(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection, so that the server gets RST."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
            )
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # ------------------------------------------------------------------------------------------ reading

    def frame(self, deadline: float) -> Frame | None:
        """Return the next frame; None where the server has closed. Raises Mismatch for what no server may write."""
        head = self._take(4, deadline)
        if head is None:
            return None
        length = int.from_bytes(head, "big")
        if not 1 <= length <= _FRAME_MAX:
            raise Mismatch("what came is no frame", got=shown(bytes(head + self._data[:40])), clause="FRM-1")
        payload = self._take(length, deadline)
        if payload is None:
            raise Mismatch("the connection ended inside a frame of the server", got=shown(head), clause="FRM-1")
        frame = Frame(self._read(payload), payload)
        if frame.type in CONTROL:
            check_control(frame)
        if frame.type == "welcome":
            self.welcomed = True
            self.codec = str(frame.body.get("codec"))
            self.max_frame = frame.body.get("limits", {}).get("max_frame", self.max_frame)
        elif frame.type == "ack":
            self._check_ack(frame)
        return frame

    def _read(self, payload: bytes) -> Json:
        """Return the tree of a payload, which must be in the codec that was chosen."""
        if not msgpack.is_map(payload):
            tree = _tree(payload)
            if self.codec == "msgpack" and tree.get("t") != "reject" and len(payload) < _SMALL and _has_room(tree):
                raise Mismatch("JSON, where welcome chose MessagePack", got=shown(payload, 300), clause="VER-2.6")
            return tree
        if self.codec != "msgpack":
            raise Mismatch("MessagePack, which no welcome chose", got=shown(payload, 300), clause="MSG-1.1")
        if len(payload) > _TAKEN:
            text = f"{len(payload)} bytes of MessagePack, and {_TAKEN} are taken"
            raise Mismatch(text, got=shown(payload, 300), clause="VER-2.7")
        try:
            tree = msgpack.read_tree(payload)
        except Fault as fault:
            message = f"MessagePack that no writer may write: {fault.where}: {fault.why}"
            raise Mismatch(message, got=shown(payload, 300), clause=fault.clause) from fault
        if tree.get("t") == "reject":
            raise Mismatch("a reject in MessagePack", got=shown(payload, 300), clause="VER-2.6")
        return tree

    def rest_of_it(self) -> bytes:
        """Return all bytes that come until the server closes."""
        deadline = time.monotonic() + SECONDS
        while self._more(deadline):
            pass
        data, self._data = bytes(self._data), bytearray()
        return data

    def _take(self, size: int, deadline: float) -> bytes | None:
        while len(self._data) < size:
            if not self._more(deadline):
                if self._data and size == 4:
                    raise Mismatch("the connection ended inside a length", got=shown(bytes(self._data)), clause="FRM-1")
                return None
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def _more(self, deadline: float) -> bool:
        """Read once; return False at the end of the connection."""
        if self._ended:
            return False
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            chunk = self._socket.recv(_CHUNK)
        except TimeoutError as error:
            raise Mismatch(f"nothing has come for {SECONDS:g} s") from error
        except OSError:  # a reset is an end, too
            chunk = b""
        self._ended = not chunk
        self._data += chunk
        return bool(chunk)

    # ------------------------------------------------------------------------------------------ acks

    def stream_of(self, frame: Frame) -> Stream | None:
        """Return the stream that an ack is about; None where that can't be told."""
        body = frame.body
        if "sid" in body:
            return run_text(body.get("run_id")), body.get("wid", ""), body["sid"]
        return next(iter(self.streams)) if len(self.streams) == 1 else None

    def _check_ack(self, frame: Frame) -> None:
        body, stream = frame.body, self.stream_of(frame)
        if len(self.streams) > 1 and not {"sid", "run_id"} <= body.keys():
            raise Mismatch("an ack doesn't name its stream, one of several", got=frame.told(), clause="CTL-3.3")
        entry = self.streams.get(stream) if stream else None
        if entry is None:
            raise Mismatch("an ack for a stream that wasn't opened here", got=frame.told(), clause="CTL-8.3")
        if body["seq"] < 0:
            raise Mismatch("an ack with a seq below 0", got=frame.told(), clause="CTL-3")
        if entry.cursor is None:  # what the collector has from elsewhere
            entry.cursor = body["seq"]
        highest = max(entry.cursor, entry.highest)
        if body["seq"] > highest:
            wanted = f"at most {highest}: what was sent here, or the cursor that was named"
            raise Mismatch("an ack above what it can cover", expected=wanted, got=frame.told(), clause="CTL-3.10")
        if body["status"] == "error":  # the next one with ok names the cursor (CTL-3.14)
            entry.cursor = None

    def is_repetition(self, frame: Frame) -> bool:
        """Whether an ack says nothing that wasn't said."""
        stream = self.stream_of(frame)
        entry = self.streams.get(stream) if stream else None
        return entry is not None and frame.body["status"] == "ok" and frame.body["seq"] <= entry.acked

    def note_acked(self, frame: Frame) -> None:
        """Keep in mind what a frame has said of a cursor, if it is an ack."""
        if frame.type != "ack":
            return
        stream = self.stream_of(frame)
        if stream in self.streams and frame.body["status"] == "ok":
            self.streams[stream].acked = frame.body["seq"]


def run_text(run_id: Any) -> str:
    """Return the run that a run id names, in either form."""
    return str(run_id.get("id")) if isinstance(run_id, dict) else str(run_id)


def check_control(frame: Frame) -> None:
    """Look at a control event as strictly as its writer is bound. Raises Mismatch."""
    try:
        written = (read_packed if msgpack.is_map(frame.payload) else read_payload)(frame.payload)
    except Fault as fault:
        message = f"a control event that no writer may write: {fault.where}: {fault.why}"
        raise Mismatch(message, got=frame.told(), clause=fault.clause) from fault
    meta = written.event["m"]
    assert isinstance(meta, dict)
    if meta["seq"] != 0 or "sid" in meta:
        raise Mismatch("a control event has seq 0, and no sid", got=frame.told(), clause="CTL-1")


def _tree(payload: bytes) -> Json:
    try:
        tree = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Mismatch("a payload that is no JSON", got=shown(payload), clause="JSN-1") from error
    if not isinstance(tree, dict):
        raise Mismatch("a payload that is no object", got=shown(payload), clause="ENV-1")
    return tree


def _has_room(value: Any) -> bool:
    """Whether MessagePack can hold a value of JSON."""
    if isinstance(value, dict):
        return all(map(_has_room, value.values()))
    if isinstance(value, list):
        return all(map(_has_room, value))
    if isinstance(value, float):
        return value - value == 0.0
    return not isinstance(value, int) or INT64_MIN <= value <= INT64_MAX


def _client_context() -> ssl.SSLContext:
    """Return a context that takes any certificate: who it is from is the client's business, which isn't judged."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# ------------------------------------------------------------------------------------------ what is sent


def control_event(event_type: str, body: Json) -> Json:
    """Return a control event."""
    return {"t": event_type, "v": 1, "m": {"seq": 0, "ts": 1}, "p": body}


def framed(payload: bytes) -> bytes:
    """Return the frame of a payload."""
    return len(payload).to_bytes(4, "big") + payload


def numbered(item: Json, conn: Peer | None) -> Iterator[Json]:
    """Yield the events ``seqs`` of a stream: the first is its run_start, all others are metrics.

    "next" in place of the first seq: the one behind the cursor that the collector has named. ``text``: log lines with
    so many letters instead.
    """
    run, wid, sid = item["stream"]
    first, last = item["seqs"]
    if first == "next" and conn is not None:
        first = (conn.streams[run, wid, sid].cursor or 0) + 1
    for seq in range(first, last + 1):
        meta: Json = {"seq": seq, "ts": 1_000_000 + seq} | ({"wid": wid} if wid else {}) | ({"sid": sid} if sid else {})
        if seq == 1:
            yield {"t": "run_start", "v": 1, "m": meta, "p": {"run_id": run}}
        else:
            if "text" in item:
                log = {"run_id": run, "level": "info", "msg": "x" * item["text"]}
                yield {"t": "log", "v": 1, "m": meta, "p": log}
                continue
            value = item.get("value", 0.5)
            yield {"t": "metric", "v": 1, "m": meta, "p": {"run_id": run, "key": "k", "value": value, "step": seq}}
