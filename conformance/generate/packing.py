"""The words that MessagePack payloads are written in: values in the least bytes, and any other bytes where those are given."""

from __future__ import annotations

import struct
from typing import Any

from generate.dsl import Group, Json, log, metric, param


class Raw(bytes):
    """Bytes that stand where a value would, as they are."""


def raw(digits: str) -> Raw:
    """Return bytes that are given in hexadecimal."""
    return Raw(bytes.fromhex(digits))


def pack(value: Any) -> bytes:
    """Return the MessagePack of a value: integers and lengths in the least bytes, floats as float 64."""
    if isinstance(value, Raw):
        return value
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        return string(value.encode("utf-8"))
    if isinstance(value, list):
        return head(len(value), 0x90, 16, (0xDC, 0xDD)) + b"".join(map(pack, value))
    return pairs(*value.items())


def integer(value: int) -> bytes:
    """Return an integer in the least bytes."""
    if -32 <= value < 128:
        return struct.pack(">b", value)
    forms = ("BHIQ", 0xCC) if value > 0 else ("bhiq", 0xD0)
    for number, form in enumerate(forms[0]):
        try:
            return bytes([forms[1] + number]) + struct.pack(f">{form}", value)
        except struct.error:
            continue
    raise AssertionError(f"{value} has no room in MessagePack")


def wide(value: int, code: int) -> Raw:
    """Return an integer in the form that a byte names."""
    form = dict(zip(range(0xCC, 0xD4), "BHIQbhiq", strict=True))[code]
    return Raw(bytes([code]) + struct.pack(f">{form}", value))


def string(data: bytes) -> Raw:
    """Return a string of these bytes, be they UTF-8 or not."""
    short = len(data) < 32
    return Raw((bytes([0xA0 | len(data)]) if short else head(len(data), 0, 0, (0xD9, 0xDA, 0xDB))) + data)


def head(count: int, small: int, limit: int, codes: tuple[int, ...]) -> bytes:
    """Return the head of something that has a length: in one byte with ``small`` where that is below ``limit``."""
    if count < limit:
        return bytes([small | count])
    sizes = (1, 2, 4)[-len(codes) :]
    code, size = next((code, size) for code, size in zip(codes, sizes, strict=True) if count < 256**size)
    return bytes([code]) + count.to_bytes(size, "big")


def pairs(*members: tuple[Any, Any]) -> Raw:
    """Return a map with these keys and values, whatever they are."""
    return Raw(head(len(members), 0x80, 16, (0xDE, 0xDF)) + b"".join(pack(key) + pack(item) for key, item in members))


def array(*items: Any) -> Raw:
    """Return an array."""
    return Raw(pack(list(items)))


def packed_metric(value: Any = 0.5, **more: Any) -> bytes:
    """Return a metric whose value, and further members, are these."""
    return pack(metric(value, **more))


def packed_param(value: Any) -> bytes:
    """Return a parameter whose value is this."""
    return pack(param(value))


def packed_log(msg: Any = "x", **more: Any) -> bytes:
    """Return a log line whose ``msg``, and further members, are these."""
    return pack(log(msg, **more))


class Packed(Group):
    """Cases of MessagePack, as on a connection whose ``welcome`` chose it, and of those that know it elsewhere."""

    def add(self, case_id: str, role: str, clauses: str, why: str, **members: Any) -> None:
        """Add a case."""
        given = members.get("input")
        if given is not None:
            members["input"] = given if given.get("source") == "recording" else {**given, "codec": "msgpack"}
            members["needs"] = [*members.pop("needs", []), "messagepack"]
        kills = " ".join(f"msgpack-{name}" for name in members.pop("kills", "").split())
        super().add(case_id, role, clauses, why, **members, kills=kills)

    def take(self, case_id: str, clauses: str, why: str, payload: Any, reads_as: Json, **more: Any) -> None:
        """Add a payload that must be accepted."""
        more["kills"] = more.get("kills") or "only-json"
        self.accept(f"msg-{case_id}", clauses, why, payload, reads_as, **more)

    def deny(self, case_id: str, clauses: str, why: str, payload: Any, class_: str = "bad_json", **more: Any) -> None:
        """Add a payload that must be refused."""
        self.refuse(f"msg-{case_id}", clauses, why, payload, class_, **more)

    def write(self, case_id: str, clauses: str, why: str, of: Json, **more: Any) -> None:
        """Add an event that must be written. ``limit``: of a payload; ``as_json``: it must be JSON."""
        limit, as_json = more.pop("limit", None), more.pop("as_json", False)
        given: Json = {"event": of} | ({"limit": limit} if limit is not None else {})
        expect: Json = {"event": of} | ({"codec": "json"} if as_json else {})
        if more.pop("refused", False):
            expect = {"rejected": {}}
        members = {"kind": "valid", "axes": ["again"], **more, "kills": more.get("kills") or "writes-json"}
        self.add(f"msg-{case_id}", "encoder", clauses, why, input=given, expect=expect, **members)
