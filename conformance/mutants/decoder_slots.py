"""Mutants of the decoder that take, in slots of one kind, what has no place there; or lose, or refuse, what has."""

from __future__ import annotations

import math
import re
from typing import Any

from tools import Mutation, distorts, takes
from tools_slots import (
    Number,
    coerces,
    demands,
    hands_on,
    in_slots,
    loses,
    mends,
    refuses_in_slots,
    rereads,
    supplies,
    unparse,
)

from xtrack_conformance.slots import CONTROL, EVENTS, Slot


def _cast(_slot: Slot, value: Any) -> Any:
    """Return an integer as PHP's cast does: what stands at the beginning of a text, whether a list holds anything."""
    if isinstance(value, str):
        found = re.match(r"\s*[+-]?[0-9]+", value)
        return Number(str(int(found[0]) if found else 0))
    if isinstance(value, Number):
        number = value.value
        return value if isinstance(number, int) or 2**63 <= abs(number) < math.inf else Number(_cut(number))
    return Number(str(int(bool(value))))


def _cut(number: float) -> str:
    return str(int(number)) if math.isfinite(number) else "0"


def _javascript(_slot: Slot, value: Any) -> Any:
    """Return a number as JavaScript's Number() does."""
    if isinstance(value, list) and len(value) < 2:
        return _javascript(_slot, value[0] if value else "")
    if isinstance(value, str):
        text = value.strip()
        number = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
        if text in {"", "Infinity", "-Infinity"}:
            return text or Number("0")
        return Number(repr(float(text))) if re.fullmatch(number, text) else "NaN"
    if isinstance(value, bool):
        return Number(str(int(value)))
    return value if isinstance(value, Number) else "NaN"


def _truth(_slot: Slot, value: Any) -> bool:
    return bool(value.value) if isinstance(value, Number) else bool(value)


def _as_text(_slot: Slot, value: Any) -> str:
    return value if isinstance(value, str) else unparse(value).decode()


def _iterated(_slot: Slot, value: Any) -> Any:
    """Return a list as JavaScript's Array.from() does."""
    return value if isinstance(value, list) else list(value) if isinstance(value, str) else []


def _entries(_slot: Slot, value: Any) -> Any:
    """Return a map as JavaScript's Object.entries() has it: places are names."""
    if isinstance(value, dict):
        return value
    return {str(at): item for at, item in enumerate(value)} if isinstance(value, (list, str)) else {}


def _looked_up(_slot: Slot, value: Any) -> Any:
    """Return an object for anything in which a member can be looked up, and isn't found."""
    return value if isinstance(value, dict) else {}


def _no_odd_objects(slot: Slot, value: Any) -> Any:
    """Return an object without those of its members that should be objects, and are none."""
    if not isinstance(value, dict):
        return value
    objects = {name for name, row in slot.members.items() if row.slot.kind == "object"}
    return {name: item for name, item in value.items() if name not in objects or isinstance(item, dict)}


def _from_pairs(_slot: Slot, value: Any) -> Any:
    """Return a map of a list of names and values, as Python's dict() does."""
    if isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value):
        return {str(name): item for name, item in value}
    return value


def _ordinal(slot: Slot, value: Any) -> Any:
    """Return the value of a set that has a number."""
    return sorted(slot.values)[int(value.value) % len(slot.values)] if isinstance(value, Number) else value


def _text_alone(change: Any) -> Any:
    return lambda _slot, value: change(value) if isinstance(value, str) else value


def _zero(slot: Slot, value: Any) -> Any:
    """Return the zero of a slot for null, as Go leaves it."""
    zeros = {"integer": Number("0"), "number": Number("0"), "boolean": False, "string": "", "id": "", "run_id": "",
             "list": [], "map": {}, "object": {}, "checksum": ""}  # fmt: skip
    if value is not None:
        return value
    return min(slot.values) if slot.values else zeros.get(slot.kind)


def _fitting(slot: Slot, value: Any) -> Any:
    """Return a map of numbers without those that are none."""
    if slot.kind != "map" or slot.item is None or slot.item.kind != "number" or not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if isinstance(item, Number)}


def _in_maps(change: Any) -> Mutation:
    """Make a mutant that hands on other numbers where a map holds them."""

    def apply(slot: Slot, value: Any) -> Any:
        if slot.kind != "map" or slot.item is None or slot.item.kind != "number":
            return value
        return {name: change(number) for name, number in value.items()}

    return distorts(lambda event: in_slots(apply, event))


def _no_empty_objects(slot: Slot, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    members = slot.members
    return {n: item for n, item in value.items() if not (item == {} and n in members and members[n].slot.members)}


def _no_empty_strings(slot: Slot, value: Any) -> Any:
    """Return an object without its empty strings that aren't required."""
    if not isinstance(value, dict):
        return value
    optional = {n for n, row in slot.members.items() if not row.required and row.slot.kind in {"string", "checksum"}}
    return {name: item for name, item in value.items() if not (item == "" and name in optional)}


def _lacks_text(slot: Slot, value: Any) -> bool:
    """Say whether a required string is empty."""
    strings = {name for name, row in slot.members.items() if row.required and row.slot.kind in {"string", "run_id"}}
    return isinstance(value, dict) and any(value.get(name) == "" for name in strings)


def _open_sets(change: Any) -> Mutation:
    """Make a mutant that hands on other values of the open sets."""
    paths = {"artifact": "type", "command": "type", "metric": "ctx.phase ctx.agg", "status": "progress.unit"}

    def apply(event: Any) -> None:
        for path in paths.get(event["t"], "").split():
            *before, last = path.split(".")
            holder = event["p"].get(before[0]) if before else event["p"]
            if isinstance(holder, dict) and isinstance(holder.get(last), str):
                holder[last] = change(holder[last])

    return distorts(apply)


COERCED: dict[str, Mutation] = {
    "integers-by-cast": coerces("integer", _cast),
    "numbers-by-javascript": coerces("number", _javascript),
    "booleans-by-truth": coerces("boolean", _truth),
    "strings-of-anything": coerces("string", _as_text),
    "ids-of-anything": coerces("id", _as_text),
    "checksums-of-anything": coerces("checksum", _as_text),
    "memory-of-anything": coerces("memory", _as_text),
    "run-ids-of-anything": coerces(
        "run_id", lambda slot, value: value if isinstance(value, dict) else _as_text(slot, value)
    ),
    "lists-of-anything-iterated": coerces("list", _iterated),
    "maps-of-anything": coerces("map", _entries),
    "objects-of-anything": coerces("object", _looked_up),
    "odd-objects-are-absence": mends(_no_odd_objects),
    "maps-of-pairs": coerces("map", _from_pairs),
    "pairs-of-anything": coerces("pair", lambda _, value: [Number("0"), ""] if isinstance(value, Number) else value),
    "warning-is-warn": refuses_in_slots("closed", lambda _, value: value == "warning", "bad_value"),
    "closed-sets-by-number": coerces("closed", _ordinal),
    "closed-sets-without-case": coerces("closed", _text_alone(str.lower)),
    "closed-sets-trimmed": coerces("closed", _text_alone(str.strip)),
    "closed-sets-are-open": takes(lambda _: True, "bad_value"),
    "lists-of-one-unwrapped": coerces(
        "closed boolean integer number string",
        lambda _, value: value[0] if isinstance(value, list) and len(value) == 1 else value,
    ),
    "null-is-zero": mends(_zero),
    "bad-metrics-dropped": mends(_fitting),
}
"""What is taken in a slot, and made to fit."""

ABSENT: dict[str, Mutation] = {
    "absent-integers-are-zero": supplies("integer", Number("0")),
    "absent-numbers-are-zero": supplies("number", Number("0")),
    "absent-strings-are-empty": supplies("string", ""),
    "absent-run-ids-are-empty": supplies("run_id", ""),
    "absent-lists-are-empty": supplies("list", []),
    "absent-maps-are-empty": supplies("map", {}),
    "absent-sets-have-a-default": mends(
        lambda slot, value: (
            {n: min(row.slot.values) for n, row in slot.members.items() if row.required and row.slot.values} | value
            if isinstance(value, dict)
            else value
        )
    ),
    "optional-integers-required": demands("integer"),
    "optional-strings-required": demands("string"),
    "optional-objects-required": demands("object"),
    "optional-lists-required": demands("list"),
    "optional-maps-required": demands("map"),
    "optional-ids-required": demands("id"),
    "optional-booleans-required": demands("boolean"),
    **{
        f"null-{kind.replace('_', '-')}-refused": refuses_in_slots(kind, lambda _, value: value is None)
        for kind in ("integer", "string", "object", "list", "map", "id", "boolean", "number", "closed", "run_id")
    },
    "empty-objects-are-absence": distorts(lambda event: in_slots(_no_empty_objects, event)),
    "empty-objects-refused": refuses_in_slots("object", lambda _, value: value == {}),
    "empty-lists-refused": refuses_in_slots("list", lambda _, value: value == []),
    "empty-maps-refused": refuses_in_slots("map", lambda _, value: value == {}),
    "empty-strings-are-absence": distorts(lambda event: in_slots(_no_empty_strings, event)),
    "empty-required-strings-refused": refuses_in_slots("body run_id object", _lacks_text, "missing_field"),
}
"""What is absent, null or empty."""

LOST = ["run_end.error.traceback"] + [
    f"{name}.{list(members)[-1]}" for name, members in {**EVENTS, **CONTROL}.items() if members
]
"""The last member of each table, as of one that was copied without its last line; and one that lies deeper."""

TOLD: dict[str, Mutation] = {
    **{f"loses-{path}": loses(path) for path in LOST},
    "closed-sets-in-capitals": hands_on("closed", str.upper),
    "open-sets-in-capitals": _open_sets(str.upper),
    "open-sets-lower-cased": _open_sets(str.lower),
    "booleans-are-false": hands_on("boolean", lambda _: False),
    "flags-by-presence": rereads(lambda slot, value: True if slot.kind == "boolean" and value is False else value),
    "maps-of-numbers-by-way-of-binary64": _in_maps(
        lambda number: int(float(number)) if type(number) is int else number
    ),
    "maps-of-numbers-cut": _in_maps(lambda number: math.trunc(number) if math.isfinite(number) else number),
    "run-id-objects-refused": refuses_in_slots("run_id", lambda _, value: isinstance(value, dict)),
}
"""What is handed on."""

MUTANTS: dict[str, Mutation] = COERCED | ABSENT | TOLD
