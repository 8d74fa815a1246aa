"""Ways to change what a decoder makes of slots. The suite's tables say in which slot each value of a payload stands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tools import Json, Mutation, always_misreads, decoding, distorts, misreads, refusal

from xtrack_conformance.slots import META, Slot, members_of

Change = Callable[[Slot, Any], Any]


class Number:
    """A number of a payload, as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def value(self) -> int | float:
        """What Python makes of it."""
        return int(self.text) if re.fullmatch(r"-?\d+", self.text) else float(self.text)


def parse(payload: bytes) -> Any:
    """Return the JSON of a payload, with its numbers as they are written. Raises ValueError."""
    try:
        return json.loads(payload, parse_float=Number, parse_int=Number, parse_constant=Number)
    except RecursionError as error:
        raise ValueError("too deep") from error


def unparse(tree: Any) -> bytes:
    """Return the payload of what :func:`parse` returned."""
    return _text(tree).encode()


def _text(tree: Any) -> str:
    if isinstance(tree, Number):
        return tree.text
    if isinstance(tree, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(item)}" for name, item in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(map(_text, tree)) + "]"
    return json.dumps(tree)


def in_slots(change: Change, tree: Any) -> Any:
    """Return an event in which each slot's value, from the outermost inwards, is ``change(slot, value)``.

    The members of ``m`` and ``p`` are slots, and so are these two, of the kinds meta and body. Bodies of unknown
    types have none.
    """
    if not isinstance(tree, dict):
        return tree
    members = members_of(tree["t"]) if isinstance(tree.get("t"), str) else None
    slots = {"m": Slot("meta", members=META.members)}
    if members is not None:
        slots["p"] = Slot("body", members=members)
    return {name: _changed(change, slots[name], item) if name in slots else item for name, item in tree.items()}


def _changed(change: Change, slot: Slot, value: Any) -> Any:
    value = change(slot, value)
    if isinstance(value, dict) and slot.kind == "map" and slot.item:
        return {name: _changed(change, slot.item, item) for name, item in value.items()}
    if isinstance(value, dict) and slot.members:
        members = slot.members
        return {n: _changed(change, members[n].slot, item) if n in members else item for n, item in value.items()}
    if isinstance(value, list) and slot.kind == "list" and slot.item:
        return [_changed(change, slot.item, item) for item in value]
    return value


def _in_payload(change: Change) -> Callable[[bytes], bytes]:
    def apply(payload: bytes) -> bytes:
        try:
            return unparse(in_slots(change, parse(payload)))
        except ValueError:
            return payload

    return apply


def _of(kinds: str, change: Change) -> Change:
    """Return a change of the slots of these kinds alone, where they hold something."""
    wanted = set(kinds.split())
    return lambda slot, value: change(slot, value) if slot.kind in wanted and value is not None else value


def coerces(kinds: str, fit: Change) -> Mutation:
    """Make a mutant that makes something fitting of what stands in slots of these kinds, and wouldn't be taken."""
    return misreads(_in_payload(_of(kinds, fit)))


def rereads(change: Change) -> Mutation:
    """Make a mutant that takes what stands in slots for something else, fitting or not."""
    return always_misreads(_in_payload(change))


def mends(change: Change) -> Mutation:
    """Make a mutant that changes the slots of a payload, null and objects as a whole included, before it refuses it."""
    return misreads(_in_payload(change))


def hands_on(kinds: str, change: Callable[[Any], Any]) -> Mutation:
    """Make a mutant that hands on something else than it read in slots of these kinds."""
    return distorts(lambda event: in_slots(_of(kinds, lambda _, value: change(value)), event))


def refuses_in_slots(kinds: str, applies: Callable[[Slot, Any], bool], class_: str = "bad_type") -> Mutation:
    """Make a mutant that refuses a payload because of what stands in slots of these kinds; null included."""
    wanted = set(kinds.split())

    def read(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
        found: list[Any] = []

        def look(slot: Slot, value: Any) -> Any:
            if slot.kind in wanted and applies(slot, value):
                found.append(value)
            return value

        try:
            in_slots(look, parse(payload))
        except ValueError:
            return dict(honest(payload, reader))
        return refusal(class_) if found else dict(honest(payload, reader))

    return decoding(read)


def supplies(kinds: str, zero: Any) -> Mutation:
    """Make a mutant that supplies the zero of a language where a required member of these kinds is absent."""
    wanted = set(kinds.split())

    def fill(slot: Slot, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        absent = [n for n, row in slot.members.items() if row.required and row.slot.kind in wanted and n not in value]
        return value | dict.fromkeys(absent, zero)

    return mends(fill)


def demands(kinds: str) -> Mutation:
    """Make a mutant that refuses a body without an optional member of these kinds."""
    wanted = set(kinds.split())

    def read(honest: Any, payload: bytes, reader: str, _module: Any) -> Json:
        answer: Json = honest(payload, reader)
        if "event" not in answer:
            return answer
        tree = parse(payload)
        members = members_of(tree["t"]) or {}
        optional = {name for name, row in members.items() if not row.required and row.slot.kind in wanted}
        return refusal("missing_field") if optional - tree["p"].keys() else answer

    return decoding(read)


def loses(path: str) -> Mutation:
    """Make a mutant that loses a member of a body: ``type.member``, or deeper."""
    event_type, *names = path.split(".")

    def drop(event: Json) -> None:
        holder = event["p"]
        for name in names[:-1]:
            holder = holder.get(name) or {}
        if event["t"] == event_type:
            holder.pop(names[-1], None)

    return distorts(drop)
