"""What the steps of stores have in common: how they ask, how they read answers, how they say what is wrong."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final

from xtrack_conformance.cases import Part, build
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.segments import block, record
from xtrack_conformance.slots import Fault, normal, read_event
from xtrack_conformance.values import BadValue, Value, difference, shown, untag

Step = dict[str, Any]
Exchange = Generator[dict[str, Any], dict[str, Any], None]
Asking = Generator[dict[str, Any], dict[str, Any], dict[str, Any]]
Steps = dict[str, "Callable[[Talk, Step], Exchange]"]
Ranges = list[tuple[int, int]]


class Wrong(Exception):
    """What a step finds against a clause. ``verdict``: fail, or nonstrict where the clause says SHOULD."""

    def __init__(
        self,
        message: str,
        expected: object = "",
        got: object = "",
        *,
        verdict: str = "fail",
        offset: int | None = None,
        data: bytes = b"",
    ) -> None:
        self.expected = expected if isinstance(expected, str) else plain(expected)
        self.got = got if isinstance(got, str) else plain(got)
        self.verdict = verdict
        self.offset = offset
        self.input = data
        super().__init__(message)


class Talk:
    """A conversation. ``variant``: the place on the case's axes. ``notes``: what SHOULD be otherwise."""

    def __init__(self, session: str, variant: str, capabilities: frozenset[str]) -> None:
        self.session = session
        self.variant = variant
        self.capabilities = capabilities
        self.notes: list[Wrong] = []


def ask(talk: Talk, op: str, **members: Any) -> Asking:
    """Ask the testee, and return the answer's ``ok``."""
    answer = yield {"op": op, "session": talk.session, **members}
    return answer


def plain(value: object, limit: int = 600) -> str:
    """Return a value as JSON for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}..."


# ------------------------------------------------------------------------------------------ bytes of cases


def make(parts: Iterable[Part]) -> bytes:
    """Return the bytes that parts stand for: those of all cases, and segments.

    ``{"event": E}``: its compact JSON. ``{"block": BODY}``: one copy of a header; ``{"record": {"seq", "payload",
    "salt", "length"}}``, of which the salt is in hexadecimal. ``{"of": PARTS, "xor": [[at, bits]...], "to": N}``: the
    parts with some bits turned, up to byte N.
    """
    return b"".join(map(_make_part, parts))


def _make_part(part: Part) -> bytes:
    if "event" in part:
        return compact(part["event"])
    if "block" in part:
        body = part["block"]
        return block(make(body) if isinstance(body, list) else body)
    if "record" in part:
        told = part["record"]
        salt = int(told.get("salt", "0"), 16)
        return record(told["seq"], make(told["payload"]), salt, length=told.get("length"))
    if "of" in part:
        data = bytearray(make(part["of"]))
        for at, bits in part.get("xor", ()):
            data[at] ^= bits
        return bytes(data[: part.get("to", len(data))])
    if "frame" in part:
        payload = make(part["frame"])
        return len(payload).to_bytes(4, "big") + payload
    if "repeat" in part:
        return make(part["repeat"]) * int(part["times"])
    return build([part])


def compact(event: object) -> bytes:
    """Return an event as a writer of the specification writes it."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


# ------------------------------------------------------------------------------------------ answers

KINDS: Final = {str: "a string", int: "an integer", list: "a list", dict: "an object", bool: "true or false"}


def member(answer: Any, name: str, *kinds: type, where: str = "ok") -> Any:
    """Return a member of an answer, of one of ``kinds``; None is a kind of its own. Raises BadAnswer."""
    value = answer.get(name) if isinstance(answer, dict) else None
    if not any(type(value) is kind for kind in kinds):
        wanted = " or ".join(KINDS.get(kind, "null") for kind in kinds)
        raise BadAnswer(f"{where}.{name} must be {wanted}, not {shown(value)}")
    return value


def listed(answer: Any, name: str, where: str = "ok") -> list[dict[str, Any]]:
    """Return a member that is a list of objects. Raises BadAnswer."""
    found: list[dict[str, Any]] = member(answer, name, list, where=where)
    if not all(isinstance(entry, dict) for entry in found):
        raise BadAnswer(f"{where}.{name} must be a list of objects")
    return found


def raw(answer: Any, name: str, where: str = "ok") -> bytes:
    """Return a member that is bytes. Raises BadAnswer."""
    try:
        return base64.b64decode(member(answer, name, str, where=where), validate=True)
    except binascii.Error as error:
        raise BadAnswer(f"{where}.{name} is no base64: {error}") from error


def value_of(answer: Any, name: str, where: str = "ok") -> Value:
    """Return a member that is a tagged value. Raises BadAnswer."""
    try:
        return untag(answer.get(name), f"{where}.{name}")
    except BadValue as error:
        raise BadAnswer(str(error)) from error


def ranges_of(answer: Any, name: str, where: str = "ok") -> Ranges:
    """Return a member that is a list of pairs of seqs, in one form of the many that mean the same. Raises BadAnswer."""
    found = member(answer, name, list, where=where)
    for pair in found:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)):
            raise BadAnswer(f"{where}.{name} must hold pairs of a first and a last seq, not {shown(pair)}")
    return merged(found)


def merged(pairs: Iterable[Sequence[int]]) -> Ranges:
    """Return ranges in ascending order, with none that touches another."""
    result: Ranges = []
    for first, last in sorted((pair[0], pair[1]) for pair in pairs):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def is_unknown(answer: Any) -> bool:
    """Whether the answer says that there is no such run."""
    return isinstance(answer, dict) and answer.get("unknown") is True


# ------------------------------------------------------------------------------------------ events


def same_event(expected: bytes, got: bytes) -> bool:
    """Whether two payloads stand for the same event: the same bytes, or another writing of them. spec: STR-4.2"""
    if expected == got:
        return True
    try:
        first, second = json.loads(expected), json.loads(got)
    except (ValueError, RecursionError):
        return False
    with contextlib.suppress(Fault):  # then the trees themselves are compared
        first, second = normal(read_event(first)), normal(read_event(second))
    return difference(first, second) is None
