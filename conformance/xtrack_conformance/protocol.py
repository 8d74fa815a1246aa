"""The lines between the runner and a testee. docs/reference/testee-protocol.md tells the whole of it.

A testee reports facts. It sees neither what is expected nor which case it is asked for.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

import attrs

from xtrack_conformance import CAPABILITIES, HARNESS, PROTOCOL, ROLES
from xtrack_conformance.cases import CLASSES
from xtrack_conformance.values import BadValue, Value, shown, untag

IN_FLIGHT_MAX: Final = 1024
STATES: Final = ("between", "need-more", "closed")

Request = dict[str, Any]


class BadAnswer(ValueError):
    """A line that is no answer of the testee protocol: says what is wrong with it."""


@attrs.frozen
class Hello:
    """Who the testee is and what it can do."""

    name: str
    version: str
    language: str
    url: str
    roles: tuple[str, ...]
    capabilities: frozenset[str]
    max_in_flight: int


@attrs.frozen
class Rejected:
    """A refusal. ``class_`` is None where the testee names none."""

    class_: str | None
    fatal: bool


@attrs.frozen
class Yielded:
    """A frame or an error of a framer. ``payload`` is None for an error, ``rejected`` for a frame."""

    offset: int
    length: int | None
    payload: bytes | None
    rejected: Rejected | None
    verified: bool


@attrs.frozen
class Answer:
    """What a testee answered: one of ``event``, ``frame``, ``frames``, ``rejected``, ``ok``, ``unsupported`` and
    ``internal_error``. ``ok``: of the roles that have a memory; their scripts read it.
    """

    event: Value = None
    frame: bytes | None = None
    frames: tuple[Yielded, ...] | None = None
    state: str = ""
    rejected: Rejected | None = None
    ok: dict[str, Any] | None = None
    unsupported: str | None = None
    internal_error: str | None = None


_RESULTS: Final = {"encode": "frame", "decode": "event", "frame.feed": "frames", "frame.finish": "frames"}


def write(request: Request) -> bytes:
    """Return the line of a request. It is ASCII, whatever it holds."""
    return json.dumps(request, separators=(",", ":")).encode("ascii") + b"\n"


def bytes_text(data: bytes) -> str:
    """Return bytes as they stand in a line."""
    return base64.b64encode(data).decode("ascii")


def hello_request() -> Request:
    """Return the first request."""
    return {"id": 0, "op": "hello", "harness": HARNESS}


def read_line(line: bytes) -> dict[str, Any]:
    """Return the object of a line, which has an integer ``id``; raise BadAnswer for anything else."""
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"a line that is no JSON: {shown(line)}") from error
    if not isinstance(found, dict) or type(found.get("id")) is not int:
        raise BadAnswer(f"a line without an integer id: {shown(line)}")
    return found


def read_hello(found: dict[str, Any]) -> Hello:
    """Return what a testee says of itself; raise BadAnswer where it doesn't."""
    impl = found.get("impl")
    if not isinstance(impl, dict):
        raise BadAnswer("the answer to hello has no impl")
    roles = _strings(found, "roles")
    if unknown := [role for role in roles if role not in ROLES]:
        raise BadAnswer(f"unknown roles {', '.join(unknown)}; this harness knows {', '.join(ROLES)}")
    protocols = found.get("protocol")
    if not isinstance(protocols, list) or PROTOCOL not in protocols:
        raise BadAnswer(f"protocol must list {PROTOCOL}, not {shown(protocols)}")
    capabilities = found.get("capabilities", {})
    if not isinstance(capabilities, dict) or not all(isinstance(has, bool) for has in capabilities.values()):
        raise BadAnswer('capabilities must be an object like {"recording":true}')
    if unknown := sorted(capabilities.keys() - CAPABILITIES.keys()):
        raise BadAnswer(f"unknown capabilities {', '.join(unknown)}; this harness knows {', '.join(CAPABILITIES)}")
    has = frozenset(name for name, there in capabilities.items() if there)
    if {"decoder", "framer"} & set(roles) and not has & {"strict", "lenient"}:
        raise BadAnswer("a decoder or framer is a strict reader, a lenient one or both: capabilities name neither")
    in_flight = found.get("max_in_flight", 1)
    if type(in_flight) is not int or not 1 <= in_flight <= IN_FLIGHT_MAX:
        raise BadAnswer(f"max_in_flight must be 1 to {IN_FLIGHT_MAX}, not {shown(in_flight)}")
    return Hello(
        name=_string(impl, "name"),
        version=_string(impl, "version"),
        language=_string(impl, "language"),
        url=_string(impl, "url", default=""),
        roles=tuple(roles),
        capabilities=has,
        max_in_flight=in_flight,
    )


def read_answer(found: dict[str, Any], op: str) -> Answer:
    """Return the answer to a request of ``op``; raise BadAnswer for what is none."""
    results = (_RESULTS[op], "rejected") if op in _RESULTS else ("ok",)
    kinds = [name for name in (*results, "unsupported", "internal_error") if name in found]
    if len(kinds) != 1:
        wanted = f"{', '.join(results)}, unsupported and internal_error"
        raise BadAnswer(f"an answer to {op} has one of {wanted}; this one has {', '.join(kinds) or 'none of them'}")
    try:
        return _read_kind(found, op, kinds[0])
    except BadValue as error:
        raise BadAnswer(str(error)) from error


def _read_kind(found: dict[str, Any], op: str, kind: str) -> Answer:
    if kind == "event":
        return Answer(event=untag(found["event"], "event"))
    if kind == "frame":
        return Answer(frame=_bytes(found, "frame"))
    if kind == "frames":
        frames = found["frames"]
        if not isinstance(frames, list):
            raise BadAnswer("frames must be a list")
        state = found.get("state")
        if state not in STATES:
            raise BadAnswer(f"state must be one of {', '.join(STATES)}, not {shown(state)}")
        return Answer(frames=tuple(map(_yielded, frames)), state=state)
    if kind == "ok":
        if not isinstance(found["ok"], dict):
            raise BadAnswer(f"ok must be an object, not {shown(found['ok'])}")
        return Answer(ok=found["ok"])
    if kind == "rejected":
        if op.startswith("frame."):
            raise BadAnswer("what a framer refuses stands in frames")
        return Answer(rejected=_rejected(found["rejected"]))
    text = _string(found, kind) if kind == "internal_error" else _string(found[kind], "capability")
    return Answer(internal_error=text) if kind == "internal_error" else Answer(unsupported=text)


def _yielded(entry: Any) -> Yielded:
    if not isinstance(entry, dict) or ("payload" in entry) == ("rejected" in entry):
        raise BadAnswer(f"an entry of frames has either payload or rejected: {shown(entry)}")
    offset, length = entry.get("offset"), entry.get("length")
    if type(offset) is not int or not (length is None or type(length) is int):
        raise BadAnswer(f"an entry of frames has an integer offset and length: {shown(entry)}")
    verified = entry.get("verified", True)
    if not isinstance(verified, bool):
        raise BadAnswer("verified must be true or false")
    rejected = _rejected(entry["rejected"]) if "rejected" in entry else None
    if rejected is None and length is None:
        raise BadAnswer(f"a frame has a length: {shown(entry)}")
    return Yielded(offset, length, None if rejected else _bytes(entry, "payload"), rejected, verified)


def _rejected(entry: Any) -> Rejected:
    if not isinstance(entry, dict):
        raise BadAnswer(f'rejected must be an object like {{"class":"bad_json"}}, not {shown(entry)}')
    class_, fatal = entry.get("class"), entry.get("fatal", False)
    if not (class_ is None or class_ in CLASSES):
        raise BadAnswer(f"unknown class {shown(class_)}; leave class out where there is none of {', '.join(CLASSES)}")
    if not isinstance(fatal, bool):
        raise BadAnswer("fatal must be true or false")
    return Rejected(class_, fatal)


def _bytes(found: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(_string(found, name), validate=True)
    except binascii.Error as error:
        raise BadAnswer(f"{name} is no base64: {error}") from error


def _string(found: Any, name: str, default: str | None = None) -> str:
    value = found.get(name, default) if isinstance(found, dict) else None
    if not isinstance(value, str):
        raise BadAnswer(f"{name} must be a string, not {shown(value)}")
    return value


def _strings(found: dict[str, Any], name: str) -> list[str]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadAnswer(f"{name} must be a list of strings, not {shown(value)}")
    return value
