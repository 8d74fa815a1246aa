"""Mutants of the encoder by what stands in slots: members that are left out, and values in another form."""

from __future__ import annotations

import json
import math
import re
import struct
import unicodedata
from collections.abc import Callable
from typing import Any

from tools import Json, Mutation, dump, everywhere, member, refuses_to_write, writes_anyway, writing
from tools_slots import Change, Number, in_slots, parse, unparse

from xtrack_conformance.slots import Slot, members_of

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)


def _rewrites(change: Change) -> Mutation:
    """Make a mutant that writes something else in slots."""
    return writing(lambda payload, _: unparse(in_slots(change, parse(payload))))


def _of(kinds: str, change: Callable[[Any], Any]) -> Change:
    wanted = set(kinds.split())
    return lambda slot, value: change(value) if slot.kind in wanted else value


def _leaves_out(kind: str) -> Mutation:
    """Make a mutant that has forgotten the optional members of a kind."""

    def cut(slot: Slot, value: Any) -> Any:
        if slot.kind != "body":
            return value
        members = slot.members
        return {name: item for name, item in value.items() if members[name].required or members[name].slot.kind != kind}

    return _rewrites(cut)


def _with_nulls(slot: Slot, value: Any) -> Any:
    """Write null for each member that is absent."""
    return dict.fromkeys(slot.members) | value if slot.kind == "body" else value


def _no_zeros(slot: Slot, value: Any) -> Any:
    """Leave out optional integers that are zero."""
    if slot.kind != "body":
        return value
    integers = {name for name, row in slot.members.items() if not row.required and row.slot.kind == "integer"}
    return {name: item for name, item in value.items() if not (name in integers and item.text == "0")}


def _numbers(change: Callable[[Any], Any]) -> Mutation:
    """Make a mutant that writes the floats of number slots and free slots otherwise."""

    def rewritten(value: Any) -> Any:
        is_float = isinstance(value, Number) and isinstance(value.value, float)
        return Number(change(value.value)) if is_float else value

    return _rewrites(_of("number free", everywhere(rewritten)))


def _single(value: float) -> str:
    return repr(struct.unpack(">f", struct.pack(">f", value))[0] if abs(value) < 3e38 else value)


def _javascript(value: float) -> str:
    """Write a float as JavaScript does: without a fraction where it is an integer."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)


def _null_for_non_finite(slot: Slot, value: Any) -> Any:
    if slot.kind == "number":
        return None if isinstance(value, str) else value
    return _no_forms(value, None) if slot.kind == "free" else value


def _no_forms(value: Any, instead: Any) -> Any:
    if isinstance(value, list):
        return [_no_forms(item, instead) for item in value]
    if isinstance(value, dict):
        is_form = value.keys() == {"$float"} and value["$float"] in {"NaN", "Infinity", "-Infinity"}
        return instead if is_form else {name: _no_forms(item, instead) for name, item in value.items()}
    return value


def _no_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_no_nulls(item) for item in value if item is not None]
    return (
        {name: _no_nulls(item) for name, item in value.items() if item is not None}
        if isinstance(value, dict)
        else value
    )


def _strings(change: Callable[[str], str]) -> Mutation:
    """Make a mutant that writes other strings, and other names of maps."""

    def rewritten(slot: Slot, value: Any) -> Any:
        if slot.kind == "string":
            return change(value)
        return {change(name): item for name, item in value.items()} if slot.kind == "map" else value

    return _rewrites(rewritten)


def _raw(pattern: bytes, replacement: bytes) -> Mutation:
    """Make a mutant that writes other bytes in place of some."""
    return writing(lambda payload, _: re.sub(pattern, replacement, payload))


def _names(change: Callable[[str], str | None]) -> Mutation:
    """Make a mutant that writes other names of maps."""

    def rewritten(slot: Slot, value: Any) -> Any:
        if slot.kind != "map":
            return value
        return {to: item for name, item in value.items() if (to := change(name)) is not None}

    return _rewrites(rewritten)


def _saturated(event: Json) -> str | None:
    """Write the end of int64 for an integer beyond it."""
    found: list[int] = []

    def cut(slot: Slot, value: Any) -> Any:
        if slot.kind != "number" or type(value) is not int or INT64_MIN <= value <= INT64_MAX:
            return value
        found.append(value)
        return max(INT64_MIN, min(INT64_MAX, value))

    cut_event = in_slots(cut, event)
    return dump(cut_event) if found else None


def _infinite_memory(event: Json) -> str | None:
    memory = (member(event, "p", "env", "gpu_info") or [{}])[0].get("memory")
    return re.sub("-?Infinity", r'"\g<0>"', dump(event)) if memory in {math.inf, -math.inf} else None


def _depth(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(_depth, items), default=0)


def _has_form(value: Any) -> bool:
    if isinstance(value, dict):
        return "$float" in value or any(map(_has_form, value.values()))
    return isinstance(value, list) and any(map(_has_form, value))


def _is_unknown(event: Json) -> bool:
    return members_of(event["t"]) is None


def _without_body(payload: bytes, event: Json) -> bytes:
    return payload.replace(b',"p":{}', b"") if event["p"] == {} else payload


def _empty_unknown(payload: bytes, event: Json) -> bytes:
    return dump({**json.loads(payload), "p": {}}).encode() if _is_unknown(event) else payload


MEMBERS: dict[str, Mutation] = {
    **{f"writes-no-{kind}s": _leaves_out(kind) for kind in ("integer", "string", "boolean", "list", "map", "object")},
    "writes-null-for-all-absent": _rewrites(_with_nulls),
    "writes-no-zeros": _rewrites(_no_zeros),
    "writes-no-empty-bodies": writing(_without_body),
    "writes-no-unknown-bodies": writing(_empty_unknown),
    "writes-no-worker": _raw(rb',"wid":"[^"]*"(?=[^{}]*\},"p")', b""),
    "writes-run-ids-as-text": _rewrites(
        lambda slot, value: value["id"] if slot.kind == "run_id" and isinstance(value, dict) else value
    ),
    "writes-maps-as-pairs": _rewrites(
        lambda slot, value: [[name, item] for name, item in value.items()] if slot.kind == "map" else value
    ),
    "writes-maps-for-lists": writes_anyway(
        lambda event: dump(event) if isinstance(member(event, "p", "nested_key"), dict) else None
    ),
    "numbers-unknown-types-from-1": refuses_to_write(lambda event: _is_unknown(event) and event["m"]["seq"] < 1),
    "writes-63-levels-at-most": refuses_to_write(lambda event: _depth(event) > 62),
    "refuses-all-that-looks-like-a-form": refuses_to_write(_has_form),
}
"""Which members are written."""

VALUES: dict[str, Mutation] = {
    "writes-non-finite-as-javascript": _rewrites(_null_for_non_finite),
    "writes-forms-as-strings": _raw(rb'\{"\$float":("[^"]*")\}', rb"\1"),
    "writes-floats-by-way-of-binary32": _numbers(_single),
    "writes-six-decimals": _numbers(lambda value: f"{value:.6f}"),
    "writes-floats-as-javascript": _numbers(_javascript),
    "writes-free-integers-by-way-of-binary64": _rewrites(
        _of(
            "free",
            everywhere(
                lambda leaf: (
                    Number(repr(float(leaf.text)))
                    if isinstance(leaf, Number) and leaf.text.lstrip("-").isdigit()
                    else leaf
                )
            ),
        )
    ),
    "writes-no-least-integer": refuses_to_write(lambda event: str(INT64_MIN) in dump(event)),
    "saturates-big-integers": writes_anyway(_saturated),
    "writes-infinite-memory": writes_anyway(_infinite_memory),
    "writes-no-nulls-in-free-slots": _rewrites(_of("free", _no_nulls)),
    "writes-code-hash-as-checksum": writing(
        lambda payload, _: re.sub(rb'"code_hash":"([0-9A-F]{64})"', rb'"code_hash":"sha256:\1"', payload)
    ),
    "writes-ascii-alone": _strings(lambda text: text.encode("ascii", "replace").decode()),
    "writes-strings-normalised": _strings(lambda text: unicodedata.normalize("NFC", text)),
    "writes-strings-cut": _strings(lambda text: text[:4096]),
    "writes-no-control-characters": _strings(lambda text: re.sub("[\0-\x1f\x7f]", "", text)),
    "writes-quotes-bare": _raw(rb'\\"', b'"'),
    "writes-backslashes-bare": _raw(rb"\\\\", rb"\\"),
    "writes-words-for-strings": _raw(rb'"msg":"NaN"', rb'"msg":NaN'),
    "writes-names-cleaned": _names(lambda name: re.sub(r"[^A-Za-z0-9_]", "_", name) if name else name),
    "writes-no-empty-names": _names(lambda name: name or None),
}
"""In which form values are written."""

MUTANTS: dict[str, Mutation] = MEMBERS | VALUES
