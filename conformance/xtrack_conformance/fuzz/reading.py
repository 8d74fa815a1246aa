"""What a reader must make of a payload, by the suite's own tables: accept it as an event, refuse it, or either.

Written from docs/spec and not from an implementation. Where a clause leaves something open (MAY), so does this.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

import attrs

from xtrack_conformance.fuzz.json_text import BadText, Number, Object, Token, read_text
from xtrack_conformance.slots import EVENTS, FREE, INT64_MAX, INT64_MIN, META, NON_FINITE, Slot, members_of, record
from xtrack_conformance.values import Value

MESSAGEPACK: Final = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])
"""First bytes by which a reader that has MessagePack takes it for that. spec: MSG-2"""

_LONG: Final = 40
"""Digits of an integer that is beyond int64 for certain."""


@attrs.frozen
class Wanted:
    """What must come of a payload.

    ``outcome``: accept, refuse or either. ``event``: as which one it is accepted; None where that is left open.
    ``class_``: of a refusal, that of a BadText or "" for any other; of either, "twice" where names are given twice.
    ``why``: it is refused.
    """

    outcome: str
    event: dict[str, Value] | None = None
    class_: str = ""
    why: str = ""


EITHER: Final = Wanted("either")


class _Refused(Exception):
    """It must be refused: says why."""


def wanted_of(payload: bytes, reader: str, *, messagepack: bool = True) -> Wanted:
    """Return what a ``strict`` or ``lenient`` reader must make of a payload.

    ``messagepack``: it may be one that takes MessagePack, as on a connection.
    """
    if messagepack and payload[:1] and payload[0] in MESSAGEPACK:
        return EITHER
    try:
        text = read_text(payload)
    except BadText as error:
        return Wanted("refuse", class_=error.class_, why=str(error))
    if text.tokens and reader == "strict":
        return Wanted("refuse", class_="bad_json", why="a bare token, for a strict reader (JSN-7.1)")
    if text.twice:
        return Wanted("either", class_="twice")
    look = _Look(reader)
    try:
        event = look.envelope(text.tree)
    except _Refused as error:
        return Wanted("refuse", why=str(error))
    if look.may_be_refused:
        return EITHER
    return Wanted("accept", None if look.may_differ else event)


class _Look:
    """One look at an event. ``may_be_refused``, ``may_differ``: whether a clause leaves that open.

    A fault outweighs what is open: all of it is looked at, until one is found.
    """

    def __init__(self, reader: str) -> None:
        self.reader = reader
        self.may_be_refused = False
        self.may_differ = False

    def envelope(self, tree: Any) -> dict[str, Value]:
        """Return the event."""
        if not isinstance(tree, Object):
            raise _Refused("no object (ENV-1.1)")
        members = tree.members
        for name in ("t", "v", "m", "p"):
            if members.get(name) is None:
                raise _Refused(f"without {name} (ENV-1.1)")
        event_type, version, meta, body = (members[name] for name in ("t", "v", "m", "p"))
        if not isinstance(event_type, str) or not isinstance(meta, Object) or not isinstance(body, Object):
            raise _Refused("a member of the envelope of another type (ENV-1.1)")
        found_version = self.integer(version, "v")
        if found_version != 1 and not self.may_be_refused:  # which is so of what is 1 by way of binary64 alone
            raise _Refused(f"another version than 1 (ENV-2): {found_version or 'an integer, by any way'}")
        known = members_of(event_type)
        read_meta = self.object(meta, META, "m")
        seq = read_meta.get("seq")
        if event_type in EVENTS and isinstance(seq, int) and seq < 1:
            raise _Refused(f"seq {seq} (ENV-4.3)")
        if known is None:
            read_body: Value = {name: self.read(item, FREE, f"p.{name}") for name, item in body.pairs}
        else:
            read_body = self.object(body, record(known), "p")
        return {"t": event_type, "v": 1, "m": read_meta, "p": read_body}

    def object(self, value: Object, slot: Slot, where: str) -> dict[str, Value]:
        """Return the members that the table has."""
        members = value.members
        found: dict[str, Value] = {}
        for name, member in slot.members.items():
            inside = f"{where}.{name}"
            if name not in members:
                if member.required:
                    raise _Refused(f"without {inside} (EVT-1.1)")
            elif members[name] is None and member.slot.kind != "free":
                if member.required:
                    raise _Refused(f"null in {inside} (JSN-6.1)")
            else:
                found[name] = self.read(members[name], member.slot, inside)
        return found

    def read(self, value: Any, slot: Slot, where: str) -> Value:
        """Return what a value means in its slot."""
        kind = slot.kind
        if kind == "free":
            return self.free(value, where)
        if kind == "integer":
            return self.integer(value, where)
        if kind == "number":
            return self.number(value, where)
        if kind == "memory":
            return value if isinstance(value, str) else self.number(value, where)
        if kind == "boolean":
            return value if isinstance(value, bool) else _refuse(where, "a boolean (VAL-5)")
        if kind in {"string", "id", "checksum"} or (kind == "run_id" and isinstance(value, str)):
            return value if isinstance(value, str) else _refuse(where, "a string (VAL-9.1)")
        if kind == "closed":
            return value if isinstance(value, str) and value in slot.values else _refuse(where, "of its set (VAL-6)")
        if kind == "list" and slot.item:
            if not isinstance(value, list):
                return _refuse(where, "an array (VAL-9.6)")
            return [self.read(item, slot.item, f"{where}[{index}]") for index, item in enumerate(value)]
        if kind == "pair":
            return self.pair(value, where)
        if not isinstance(value, Object):
            return _refuse(where, "an object (VAL-9.6)")
        if slot.item:
            return {name: self.read(item, slot.item, f"{where}.{name}") for name, item in value.pairs}
        return dict(self.object(value, slot, where))

    def pair(self, value: Any, where: str) -> Value:
        """Return a seq and a code."""
        if not isinstance(value, list):
            return _refuse(where, "an array (VAL-9.6)")
        if len(value) != 2:
            self.may_be_refused = True  # control.md says what a pair is, and not what becomes of others
            return None
        return [self.integer(value[0], where), self.read(value[1], Slot("string"), where)]

    def integer(self, value: Any, where: str) -> int | None:
        """Return an integer; None where several are right. spec: VAL-1, JSN-4"""
        if not isinstance(value, Number):
            raise _Refused(f"{where} is no number (VAL-1.2)")
        if value.is_integer:
            found = int(value.text) if len(value.text) < _LONG else INT64_MAX + 1
            if not INT64_MIN <= found <= INT64_MAX:
                raise _Refused(f"{where} is beyond int64 (VAL-1.1)")
            return found
        near = float(value.text)
        if math.isinf(near):
            raise _Refused(f"{where} is beyond int64 (VAL-1.1)")
        ways = {_as_int64(near), _as_int64(_exact(value.text, near))}
        if ways == {None}:
            raise _Refused(f"{where} is no int64 (VAL-1.3)")
        if len(ways) == 1:
            return next(iter(ways))
        # by way of binary64 it is another integer, or the one is an integer and the other none (JSN-4.1)
        self.may_differ = True
        if None in ways:
            self.may_be_refused = True
        return None

    def number(self, value: Any, where: str) -> Value:
        """Return what stands in a number slot. spec: VAL-2, VAL-3"""
        if isinstance(value, bool):
            if self.reader == "strict":
                raise _Refused(f"{where} is a boolean (VAL-2.8)")
            return int(value)
        if isinstance(value, str) and value in NON_FINITE:
            return NON_FINITE[value]
        if not isinstance(value, (Number, Token)):
            raise _Refused(f"{where} is no number (VAL-2.11)")
        return self.spelled(value, where)

    def spelled(self, value: Number | Token, where: str) -> Value:
        """Return the number that is spelled so. spec: VAL-2.1 to VAL-2.5, JSN-7.2"""
        if isinstance(value, Token):
            return NON_FINITE[value.text]
        if value.text == "-0":
            self.may_differ = True  # VAL-2.7
            return 0
        if value.is_integer and len(value.text) < _LONG and INT64_MIN <= int(value.text) <= INT64_MAX:
            return int(value.text)
        near = float(value.text)
        if math.isinf(near):
            raise _Refused(f"{where} is beyond binary64 (VAL-2.4)")
        return near

    def free(self, value: Any, where: str) -> Value:
        """Return what stands in a free slot. spec: VAL-4"""
        if isinstance(value, (Number, Token)):
            return self.spelled(value, where)
        if isinstance(value, list):
            return [self.free(item, where) for item in value]
        if isinstance(value, Object):
            if len(value.pairs) == 1 and value.pairs[0][0] == "$float":
                named = value.pairs[0][1]
                if isinstance(named, str) and named in NON_FINITE:
                    return NON_FINITE[named]
            return {name: self.free(item, f"{where}.{name}") for name, item in value.pairs}
        assert value is None or isinstance(value, (bool, str))
        return value


def _refuse(where: str, wanted: str) -> Value:
    raise _Refused(f"{where} is not {wanted}")


def _exact(text: str, near: float) -> Decimal | float:
    """Return the exact value of a number with a fraction or an exponent, or one that is as far from any integer."""
    if near == 0.0:
        mantissa = text.lower().partition("e")[0]
        return 0.5 if set(mantissa) & set("123456789") else 0.0
    return Decimal(text)


def _as_int64(value: Decimal | float) -> int | None:
    found = int(value)
    return found if found == value and INT64_MIN <= found <= INT64_MAX else None
