"""PLUG IN your implementation: this decoder, encoder and framer of a few lines know little more than one event."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

Json = dict[str, Any]
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Refused(Exception):
    """What must be refused; its text is a class of docs/spec/errors.md."""


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
