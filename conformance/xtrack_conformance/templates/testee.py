"""A testee: answers the conformance suite of XTrack for an implementation.

python -m xtrack_conformance smoke -- python testee.py

The decoder, the encoder and the framer below are of a few lines and know little more than one event. Put your own in
their place, where it says PLUG IN; the rest can stay. docs/reference/testee-protocol.md tells what each line means.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import sys
from typing import Any

Json = dict[str, Any]
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Refused(Exception):
    """What must be refused; its text is a class of docs/spec/errors.md."""


# ---------------------------------------------------------------------------- the implementation

# PLUG IN the events of your implementation. This one checks required members of one event, and no others.
EVENTS: dict[str, dict[str, Any]] = {"metric": {"run_id": str, "key": str, "value": (int, float)}}


def decode(payload: bytes, reader: str) -> Json:
    """PLUG IN your decoder: return the event, or raise Refused. ``reader``: strict or lenient."""
    try:
        event = json.loads(payload.decode("utf-8"), parse_constant=NON_FINITE.get if reader == "lenient" else refuse)
    except UnicodeDecodeError as error:
        raise Refused("bad_utf8") from error
    except ValueError as error:
        raise Refused("bad_json") from error
    if not isinstance(event, dict) or any(event.get(name) is None for name in "tvmp"):
        raise Refused("bad_envelope")
    for name, kind in EVENTS.get(event["t"], {}).items():
        if name not in event["p"]:
            raise Refused("missing_field")
        if event["p"][name] in NON_FINITE and name == "value":
            event["p"][name] = NON_FINITE[event["p"][name]]
        if not isinstance(event["p"][name], kind):
            raise Refused("bad_type")
    return event


def refuse(token: str) -> float:
    """A strict reader knows no bare tokens."""
    raise ValueError(token)


def encode(event: Json) -> bytes:
    """PLUG IN your encoder: return the whole frame, or raise Refused."""
    body = {name: written(value) for name, value in event["p"].items()}
    payload = json.dumps({**event, "p": body}, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return len(payload).to_bytes(4, "big") + payload


def written(value: Any) -> Any:
    """A number that JSON doesn't have goes as a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class Framer:
    """PLUG IN your frame reader. This one reads connections only."""

    def __init__(self, reader: str, limit: int) -> None:
        self.reader, self.limit = reader, limit
        self.buffer, self.offset, self.closed = b"", 0, False

    def feed(self, data: bytes) -> list[Json]:
        """Return what these bytes complete: frames and errors, in order."""
        self.buffer += data
        found: list[Json] = []
        while len(self.buffer) >= 4 and not self.closed:
            size = int.from_bytes(self.buffer[:4], "big")
            if size == 0 or size > self.limit:  # no way to know where the next frame begins
                self.closed = True
                rejected = {"class": "empty_frame" if size == 0 else "frame_too_large", "fatal": True}
                found.append({"offset": self.offset, "length": None, "rejected": rejected})
            elif len(self.buffer) < 4 + size:
                break
            else:
                found.append(self.told(self.buffer[4 : 4 + size]))
                self.buffer, self.offset = self.buffer[4 + size :], self.offset + 4 + size
        return found

    def told(self, payload: bytes) -> Json:
        """Return a frame: its payload, or why it is refused."""
        frame = {"offset": self.offset, "length": 4 + len(payload)}
        try:
            decode(payload, self.reader)
        except Refused as error:
            return {**frame, "rejected": {"class": str(error), "fatal": False}}
        return {**frame, "payload": base64.b64encode(payload).decode()}

    def finish(self) -> list[Json]:
        """Return what is left at the end: an error, inside of a frame."""
        rest, self.buffer = self.buffer, b""
        if self.closed or not rest:
            return []
        return [{"offset": self.offset, "length": len(rest), "rejected": {"class": "truncated", "fatal": False}}]


# ---------------------------------------------------------------------------- the testee

HELLO: Json = {
    "impl": {"name": "my-xtrack", "version": "0.1", "language": "Python"},  # PLUG IN who you are
    "protocol": [1],
    "roles": ["encoder", "decoder", "framer"],
    "capabilities": {"strict": True, "lenient": True},  # PLUG IN: recording, limits, stop_at_damage, lone_surrogates
    "max_in_flight": 16,
}
SESSIONS: dict[str, Framer] = {}


def answer(request: Json) -> Json:
    """Return the answer to a request, without its id."""
    match request["op"]:
        case "hello":
            return HELLO
        case "decode":
            return {"event": tagged(decode(base64.b64decode(request["payload"]), request["reader"]))}
        case "encode":
            return {"frame": base64.b64encode(encode(untagged(request["event"]))).decode()}
        case "frame.feed" | "frame.finish":
            name = request["session"]
            if name not in SESSIONS:
                SESSIONS[name] = Framer(request["reader"], request.get("limit", 1_048_576))
            framer = SESSIONS[name]
            is_end = request["op"] == "frame.finish"
            frames = framer.finish() if is_end else framer.feed(base64.b64decode(request["bytes"]))
            if is_end:
                del SESSIONS[name]
            state = "closed" if framer.closed else "need-more" if framer.buffer else "between"
            return {"frames": frames, "state": state}
    return {"unsupported": {"capability": request["op"]}}


def tagged(value: Any) -> Json:
    """Return a value with its type, so that 1, 1.0 and true stay apart on their way."""
    if value is None:
        return {"t": "null"}
    if isinstance(value, bool):
        return {"t": "bool", "v": value}
    if isinstance(value, int):
        return {"t": "int", "v": str(value)}
    if isinstance(value, float):
        return {"t": "float", "v": struct.pack(">d", value).hex()}
    if isinstance(value, str):
        return {"t": "str", "v": value}
    if isinstance(value, list):
        return {"t": "list", "v": [tagged(item) for item in value]}
    return {"t": "obj", "v": [[name, tagged(item)] for name, item in value.items()]}


def untagged(tagged_value: Json) -> Any:
    """Return the value of a tagged one."""
    held = tagged_value.get("v")
    match tagged_value["t"], held:
        case "int", str():
            return int(held)
        case "float", str():
            return struct.unpack(">d", bytes.fromhex(held))[0]
        case "list", list():
            return [untagged(item) for item in held]
        case "obj", list():
            return {name: untagged(item) for name, item in held}
    return held


def main() -> None:
    """Answer a line of stdin by a line of stdout, until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = answer(request)
        except Refused as error:
            result = {"rejected": {"class": str(error), "fatal": False}}
        except Exception as error:  # noqa: BLE001 - told, and counted as a failure of this one request
            result = {"internal_error": repr(error)}
        sys.stdout.write(json.dumps({"id": request["id"], **result}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
