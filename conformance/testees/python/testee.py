"""The reference implementation as a testee: ``python testee.py`` answers one JSON object a line.

docs/reference/testee-protocol.md tells what the lines mean.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import os
import sys
from typing import Any

import msgspec
from values_told import to_tagged
from values_told import untagged as from_tagged

import xtrack_protocol
from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import ENVELOPES, Envelope, EventMeta, UnknownEnvelope, UnknownEvent
from xtrack_protocol.limits import FILE_LIMITS, SOCKET_LIMITS, DecodeLimits
from xtrack_protocol.wire import Frame, FrameDecoder, SalvageDecoder, decode, encode, encode_frame, frame_payload
from xtrack_protocol.wire.codec import transcode

HELLO = {
    "impl": {
        "name": "xtrack-protocol",
        "version": xtrack_protocol.__version__,
        "language": "Python",
        "url": "",
    },
    "protocol": [1],
    "roles": ["encoder", "decoder", "framer", "collector", "store", "emitter", "server"],
    "capabilities": {
        "strict": True,
        "lenient": True,
        "recording": True,
        "stop_at_damage": True,
        "limits": True,
        "lone_surrogates": True,
        "messagepack": True,
        "full": True,
        "processes": True,
        "settings_file": any(importlib.util.find_spec(name) for name in ("tomllib", "tomli")),
        "forks": True,
        "threads": True,
        "folders": os.name == "posix",
        "shipping": True,
        "disk": True,
        "scalars": True,
        "frameworks": True,
        "certificates": True,
        "stalls": True,
        "keys": True,
        "commands": True,
        "follow": True,
        "deadlines": True,
        "bounds": True,
        "crash": True,
        "store_faults": True,
        "worker_in_store": True,
        "reindex": True,
        "segments": True,
        "spool": True,
        "notes": True,
        "trim": True,
        "locks": True,
        "posix": os.name == "posix",
        "tls": importlib.util.find_spec("cryptography") is not None,
    },
    "max_in_flight": 64,
}


PARTS: dict[str, str] = {"collect": "as_collector", "store": "as_store", "emit": "as_emitter", "server": "as_server"}
"""The module that answers for a role with a memory, by the first word of its ops."""


class Testee:
    """Answers requests; each ``op`` has its method."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.parts: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request, without its id."""
        match request["op"]:
            case "hello":
                return dict(HELLO)
            case "encode":
                return self.encode(request)
            case "decode":
                return self.decode(request)
            case "frame.feed":
                return self.session(request).feed(base64.b64decode(request["bytes"]))
            case "frame.finish":
                session = self.session(request)
                del self.sessions[request["session"]]
                return session.finish()
        prefix = request["op"].partition(".")[0]
        if prefix not in PARTS:
            return {"unsupported": {"capability": request["op"]}}
        if prefix not in self.parts:  # each is loaded when it is needed: a testee is started often
            self.parts[prefix] = importlib.import_module(PARTS[prefix]).Part()
        return self.parts[prefix].answer(request)

    def encode(self, request: dict[str, Any]) -> dict[str, Any]:
        """Encode an event."""
        codec, limit = request.get("codec", "json"), request.get("limit")
        try:
            envelope = to_envelope(from_tagged(request["event"]))
            frame = encode_frame(envelope, codec) if limit is None else frame_of(envelope, codec, limit)
        except (EncodeError, msgspec.ValidationError) as error:
            return {"rejected": {"reason": str(error)}}
        return {"frame": to_base64(frame)}

    def decode(self, request: dict[str, Any]) -> dict[str, Any]:
        """Decode a payload."""
        payload = base64.b64decode(request["payload"])
        try:
            envelope = decode(payload, codec=request.get("codec", "json"), lenient=request["reader"] == "lenient")
        except DecodeError as error:
            return {"rejected": {"class": error.kind, "fatal": error.fatal, "reason": str(error)}}
        return {"event": to_tagged(from_envelope(envelope))}

    def session(self, request: dict[str, Any]) -> Session:
        """Return the session of a request, begun if it is new."""
        found = self.sessions.get(request["session"])
        if found is None:
            found = self.sessions[request["session"]] = Session(request)
        return found


class Session:
    """One input of a framer."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.is_recording = request["source"] == "recording"
        self.stop_at_damage = request.get("stop_at_damage", False)
        limits = FILE_LIMITS if self.is_recording else SOCKET_LIMITS
        if "limit" in request:
            limits = DecodeLimits(max_frame=request["limit"])
        lenient, codec = request["reader"] == "lenient", request.get("codec", "json")
        self.decoder = SalvageDecoder(limits, lenient) if self.is_recording else FrameDecoder(limits, lenient, codec)
        self.fed = 0
        self.closed = False

    def feed(self, data: bytes) -> dict[str, Any]:
        """Take the next bytes."""
        self.fed += len(data)
        return self.result([] if self.closed else self.decoder.feed(data))

    def finish(self) -> dict[str, Any]:
        """Take the end of the input."""
        return self.result([] if self.closed else self.decoder.finish())

    def result(self, frames: list[Frame]) -> dict[str, Any]:
        """Return the answer that tells what came."""
        told = []
        for frame in frames:
            if not self.closed:
                told.append(self.told(frame))
                self.closed = bool(frame.error and (frame.error.fatal or self.stop_at_damage))
        state = "closed" if self.closed else "need-more" if self.fed > self.decoder.offset else "between"
        return {"frames": told, "state": state}

    def told(self, frame: Frame) -> dict[str, Any]:
        """Return a frame or an error as the protocol has it."""
        error = frame.error
        if error is None:
            entry: dict[str, Any] = {"offset": frame.offset, "length": 4 + frame.length}
            entry["payload"] = to_base64(frame.raw)
        else:
            entry = {"offset": error.offset, "length": error.length or None}
            entry["rejected"] = {"class": error.kind, "fatal": error.fatal, "reason": str(error)}
        return entry | {"verified": frame.verified}


def frame_of(envelope: Envelope, codec: Any, limit: int) -> bytes:
    """Return the frame of an event on a connection with ``codec``, on which a payload has at most ``limit`` bytes."""
    payload = transcode(encode(envelope), codec, limit)
    if len(payload) > limit:
        raise EncodeError(f"the payload has {len(payload)} bytes, more than {limit}")
    return frame_payload(payload)


def to_envelope(event: Any) -> Envelope:
    """Return the IR's envelope of an event. Raises msgspec.ValidationError."""
    if event["t"] in ENVELOPES:
        return msgspec.convert(event, ENVELOPES[event["t"]])
    return UnknownEnvelope(event["v"], msgspec.convert(event["m"], EventMeta), UnknownEvent(event["t"], event["p"]))


def from_envelope(envelope: Envelope) -> dict[str, Any]:
    """Return the event of an envelope, with the names of the wire."""
    body = envelope.payload.payload if isinstance(envelope, UnknownEnvelope) else msgspec.to_builtins(envelope.payload)
    return {"t": envelope.event_type, "v": envelope.version, "m": msgspec.to_builtins(envelope.meta), "p": body}


def to_base64(data: bytes) -> str:
    """Return bytes as they stand in a line."""
    return base64.b64encode(data).decode("ascii")


def main(testee: Testee) -> None:
    """Answer what comes on stdin until it ends."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            result = testee.answer(request)
        except Exception as error:  # noqa: BLE001 - told, not hidden: the runner counts it as a failure
            result = {"internal_error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps({"id": request["id"], **result}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Testee())
