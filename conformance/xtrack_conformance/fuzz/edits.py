"""One edit at a time: a search by chance seldom tries just this value in just that place, so each is tried once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from xtrack_conformance.fuzz.strategies import Pairs, Raw, as_pairs, places, pool_for, spelled
from xtrack_conformance.slots import CONTROL, EVENTS, META, Member, Slot

_SAMPLES: Final[dict[str, Any]] = {
    "integer": 1, "number": 0.5, "boolean": True, "string": "x", "free": 0.5, "id": "x", "checksum": "sha256:00",
    "run_id": "x", "memory": "x", "pair": [1, "x"],
}  # fmt: skip


def edited_events() -> Iterator[Pairs]:
    """Yield, of each type of event with all its members, the events that differ from it in one place.

    There a value is replaced by one that readers go wrong about, or a member is left out or given twice.
    """
    for name, members in {**EVENTS, **CONTROL}.items():
        event = as_pairs(_event(name, members))
        for number in range(len(places(event))):
            yield from _edits(event, number)


def as_payload(event: Pairs) -> bytes:
    """Return an event as bytes."""
    return spelled(event).encode("utf-8", "surrogatepass")


def with_less(event: Pairs) -> Iterator[Pairs]:
    """Yield the events that are this one without one of its members or items."""
    for number in range(len(places(event))):
        copy = deepcopy(event)
        there, index = places(copy)[number]
        del there[index]
        yield copy


def _edits(event: Pairs, number: int) -> Iterator[Pairs]:
    holder, index = places(event)[number]
    is_member = isinstance(holder, Pairs)
    value = holder[index][1] if is_member else holder[index]
    for text in pool_for(value):
        copy = deepcopy(event)
        there, index = places(copy)[number]
        there[index] = (there[index][0], Raw(text)) if is_member else Raw(text)
        yield copy
    if is_member:
        for change in (list.pop, lambda there, at: there.insert(at, there[at])):
            copy = deepcopy(event)
            there, index = places(copy)[number]
            change(there, index)
            yield copy


def _event(name: str, members: Mapping[str, Member]) -> dict[str, Any]:
    is_control = name in CONTROL
    meta = {part: _sample(member.slot) for part, member in META.members.items() if part != "sid" or not is_control}
    if is_control:
        meta["seq"] = 0
    return {"t": name, "v": 1, "m": meta, "p": _body(members)}


def _body(members: Mapping[str, Member]) -> dict[str, Any]:
    return {name: _sample(member.slot) for name, member in members.items()}


def _sample(slot: Slot) -> Any:
    if slot.kind == "closed":
        return min(slot.values)
    if slot.kind == "list" and slot.item:
        return [_sample(slot.item)]
    if slot.kind == "map" and slot.item:
        return {"x": _sample(slot.item)}
    return _body(slot.members) if slot.kind == "object" else _SAMPLES[slot.kind]
