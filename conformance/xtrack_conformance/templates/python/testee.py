"""A testee: answers the conformance suite of XTrack for an implementation.

python -m xtrack_conformance smoke -- python testee.py

Beside it lies implementation.py. Put your own in its place; the rest can stay.
docs/reference/testee-protocol.md tells what each line means.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
from typing import Any

from implementation import Framer, Json, Refused, decode, encode

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
