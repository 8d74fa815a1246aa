"""The tables of docs/spec/events.md and control.md: what each event may hold, and what counts as the same event.

An *event* is the envelope as a value (:mod:`xtrack_conformance.values`) with what its slots mean: a number slot holds
an int or a float, NaN included, and never the text "NaN". The *wire tree* is the JSON as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from xtrack_conformance.values import Value, shown

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

NON_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


@attrs.frozen
class Slot:
    """A kind of slot. ``kind``: integer, number, boolean, string, id, checksum, free, closed, list, map, object,
    run_id, memory or pair. ``item``: of a list or map. ``members``: of an object.
    """

    kind: str
    values: frozenset[str] = frozenset()
    item: Slot | None = None
    members: Mapping[str, Member] = attrs.field(factory=dict)


@attrs.frozen
class Member:
    """A row of a table. ``default``: what absence reads as, where the text says so."""

    slot: Slot
    required: bool = False
    default: Value = None


def need(slot: Slot) -> Member:
    """A required member."""
    return Member(slot, required=True)


def may(slot: Slot, default: Value = None) -> Member:
    """An optional member."""
    return Member(slot, default=default)


INTEGER: Final = Slot("integer")
NUMBER: Final = Slot("number")
BOOLEAN: Final = Slot("boolean")
STRING: Final = Slot("string")
ID: Final = Slot("id")
FREE: Final = Slot("free")
CHECKSUM: Final = Slot("checksum")
MEMORY: Final = Slot("memory")
REFUSAL: Final = Slot("pair")


def closed(*values: str) -> Slot:
    """A closed set of strings."""
    return Slot("closed", frozenset(values))


def list_of(item: Slot) -> Slot:
    """A list."""
    return Slot("list", item=item)


def map_of(item: Slot) -> Slot:
    """A map."""
    return Slot("map", item=item)


def record(members: Mapping[str, Member]) -> Slot:
    """An object with the members of a table."""
    return Slot("object", members=members)


RUN_ID: Final = Slot("run_id", members={"id": need(STRING), "exp_id": may(STRING), "parent_id": may(STRING)})
_LEVEL: Final = closed("debug", "info", "warning", "error")
_OK: Final = closed("ok", "error")
_RUN: Final = {"run_id": need(RUN_ID)}
_OF_WORKER: Final = {"run_id": may(RUN_ID), "wid": may(ID)}
_CONTEXT: Final = record(
    {"phase": may(STRING), "batch_size": may(INTEGER), "dataset_size": may(INTEGER), "agg": may(STRING)}
)
_STEP: Final = {"step": may(INTEGER), "epoch": may(INTEGER), "ctx": may(_CONTEXT)}
_ACTIVITIES: Final = (
    "initializing", "running", "training", "evaluating", "checkpointing", "paused", "resuming", "finishing",
    "completed", "failed", "killed",
)  # fmt: skip
_SOURCE: Final = record({
    name: may(STRING) for name in ("git_commit", "git_branch", "git_repo", "entrypoint", "code_hash")
})  # fmt: skip
_ENV: Final = record({
    "python_version": may(STRING),
    "platform": may(STRING),
    "hostname": may(STRING),
    "gpu_info": may(list_of(record({"name": may(STRING), "memory": may(MEMORY)}))),
    "env_vars": may(map_of(STRING)),
})  # fmt: skip

EVENTS: Final[Mapping[str, Mapping[str, Member]]] = {
    "run_start": {
        **_RUN,
        "name": may(STRING),
        "tags": may(map_of(STRING)),
        "source": may(_SOURCE),
        "env": may(_ENV),
        "resume": may(record({"sids": may(list_of(STRING)), "rewind_to": may(INTEGER)})),
        "world_size": may(INTEGER),
        "sub": may(BOOLEAN, default=False),
        "observer": may(BOOLEAN, default=False),
    },
    "run_end": {
        **_RUN,
        "status": need(closed("completed", "failed", "killed")),
        "error": may(record({"type": may(STRING, ""), "message": may(STRING, ""), "traceback": may(STRING)})),
        "final_metrics": may(map_of(NUMBER)),
        "duration_ms": may(INTEGER),
    },
    "param": {**_RUN, "key": need(STRING), "value": need(FREE), "nested_key": may(list_of(STRING))},
    "metric": {**_RUN, "key": need(STRING), "value": need(NUMBER), **_STEP},
    "metric_batch": {**_RUN, "metrics": need(map_of(NUMBER)), **_STEP},
    "artifact": {
        **_RUN,
        "path": need(STRING),
        "type": may(STRING),
        "name": may(STRING),
        "meta": may(map_of(FREE)),
        "size": may(INTEGER),
        "checksum": may(CHECKSUM),
        "upload": may(closed("reference", "inline", "stream"), default="reference"),
    },
    "checkpoint": {
        **_RUN,
        "step": need(INTEGER),
        "path": need(STRING),
        "epoch": may(INTEGER),
        "metrics": may(map_of(NUMBER)),
        "is_best": may(BOOLEAN, default=False),
        "best_key": may(STRING),
        "meta": may(map_of(FREE)),
    },
    "status": {
        **_RUN,
        "status": need(closed(*_ACTIVITIES)),
        "msg": may(STRING),
        "progress": may(record({"cur": may(INTEGER), "total": may(INTEGER), "unit": may(STRING)})),
    },
    "log": {
        **_RUN,
        "level": need(_LEVEL),
        "msg": need(STRING),
        "logger": may(STRING),
        "step": may(INTEGER),
        "fields": may(map_of(FREE)),
    },
    "tags": {**_RUN, "tags": need(map_of(STRING))},
    "alert": {
        **_RUN,
        "title": need(STRING),
        "text": may(STRING),
        "level": may(_LEVEL, default="warning"),
        "key": may(STRING),
    },
    "summary": {**_RUN, "values": need(map_of(NUMBER))},
}
"""The tables of docs/spec/events.md."""

CONTROL: Final[Mapping[str, Mapping[str, Member]]] = {
    "command": {"cmd_id": need(STRING), "type": need(STRING), "payload": may(map_of(FREE)), **_OF_WORKER},
    "ack": {
        "seq": need(INTEGER),
        "status": need(_OK),
        "error": may(STRING),
        **_OF_WORKER,
        "sid": may(ID),
        "rejected": may(list_of(REFUSAL)),
    },
    "command_result": {
        **_RUN,
        "cmd_id": need(STRING),
        "status": need(_OK),
        "msg": may(STRING),
        "wid": may(ID),
        "left": may(INTEGER),
    },
    "hello": {
        "protocols": need(list_of(INTEGER)),
        "codecs": may(list_of(STRING)),
        "features": may(list_of(STRING)),
        "agent": may(STRING),
        "auth": may(record({"scheme": need(STRING), "key": may(STRING)})),
    },
    "welcome": {
        "protocol": need(INTEGER),
        "codec": need(STRING),
        "durability": need(closed("none", "process", "power")),
        "features": may(list_of(STRING)),
        "limits": may(record({name: may(INTEGER) for name in ("max_frame", "window_events", "window_bytes")})),
    },
    "reject": {"code": need(STRING), "msg": may(STRING), "retry_after": may(NUMBER)},
    "open": {**_RUN, "sid": need(STRING), "wid": may(ID), "passive": may(BOOLEAN, default=False)},
    "skip": {
        **_RUN,
        "sid": need(STRING),
        "from": need(INTEGER),
        "to": need(INTEGER),
        "reason": may(STRING),
        "wid": may(ID),
    },
    "ping": {},
    "pong": {},
    "subscribe": {**_RUN, "from": may(INTEGER), "until_end": may(BOOLEAN, default=False)},
    "unsubscribe": {**_RUN, "code": may(STRING), "msg": may(STRING)},
}
"""The tables of docs/spec/control.md."""

META: Final = record({"seq": need(INTEGER), "ts": need(INTEGER), "wid": may(ID), "sid": may(ID)})


class Fault(ValueError):
    """A wire tree that no writer may write: ``where`` in it, ``why``, and the ``clause`` it breaks."""

    def __init__(self, where: str, why: str, clause: str) -> None:
        self.where, self.why, self.clause = where, why, clause
        super().__init__(f"{where}: {why} ({clause})")


def members_of(event_type: str) -> Mapping[str, Member] | None:
    """Return the table of an event type; None where the specification has none."""
    return EVENTS.get(event_type, CONTROL.get(event_type))


def read_event(tree: Any) -> dict[str, Value]:
    """Return the event that a wire tree stands for, or raise Fault. Unknown members are passed over.

    As strict as a reader may be, and stricter where it looks at a writer: null in place of absence is a fault.
    """
    if not isinstance(tree, dict):
        raise Fault("payload", "no object", "ENV-1")
    for name in ("t", "v", "m", "p"):
        if tree.get(name) is None:
            raise Fault(name, "is missing", "ENV-1")
    if not isinstance(tree["t"], str):
        raise Fault("t", "no string", "ENV-1")
    if type(tree["v"]) is not int or tree["v"] != 1:
        raise Fault("v", f"must be 1, not {shown(tree['v'])}", "ENV-2.1")
    if not isinstance(tree["p"], dict):
        raise Fault("p", "no object", "ENV-1")
    members = members_of(tree["t"])
    meta = _read(tree["m"], META, "m")
    assert isinstance(meta, dict)
    if tree["t"] in EVENTS and isinstance(meta["seq"], int) and meta["seq"] < 1:
        raise Fault("m.seq", f"must be at least 1, not {meta['seq']}", "ENV-4.3")
    body = _read(tree["p"], Slot("map", item=FREE) if members is None else record(members), "p")
    return {"t": tree["t"], "v": 1, "m": meta, "p": body}


def _read(value: Any, slot: Slot, where: str) -> Value:  # noqa: C901 - one branch a kind of slot
    """Return what ``value`` means in ``slot``."""
    kind = slot.kind
    if kind == "free":
        return _read_free(value, where)
    if value is None:
        raise Fault(where, "null where the slot is not free", "JSN-6.4")
    if kind == "integer":
        if isinstance(value, bool) or not isinstance(value, int):
            raise Fault(where, f"must be an integer in digits, not {shown(value)}", "JSN-4.2")
        if not INT64_MIN <= value <= INT64_MAX:
            raise Fault(where, f"{value} is no int64", "VAL-1")
        return value
    if kind == "number" or (kind == "memory" and not isinstance(value, str)):
        return _read_number(value, where)
    if kind == "boolean":
        return value if isinstance(value, bool) else _refuse(value, where, "a boolean", "VAL-5")
    if kind in {"string", "id", "checksum", "memory"} or (kind == "run_id" and isinstance(value, str)):
        return value if isinstance(value, str) else _refuse(value, where, "a string", "VAL-9")
    if kind == "closed":
        if not isinstance(value, str) or value not in slot.values:
            return _refuse(value, where, f"one of {', '.join(sorted(slot.values))}", "VAL-6")
        return value
    if kind == "list" and slot.item:
        if not isinstance(value, list):
            return _refuse(value, where, "an array", "VAL-9.2")
        return [_read(item, slot.item, f"{where}[{index}]") for index, item in enumerate(value)]
    if kind == "pair":
        if not (isinstance(value, list) and len(value) == 2):
            return _refuse(value, where, "a pair of a seq and a code", "CTL-1.2")
        return [_read(value[0], INTEGER, f"{where}[0]"), _read(value[1], STRING, f"{where}[1]")]
    if not isinstance(value, dict):
        return _refuse(value, where, "an object", "VAL-9.5")
    if slot.item:
        return {name: _read(item, slot.item, f"{where}.{name}") for name, item in value.items()}
    return _read_object(value, slot, where)


def _read_object(value: dict[str, Any], slot: Slot, where: str) -> dict[str, Value]:
    for name, member in slot.members.items():
        if member.required and name not in value:
            raise Fault(f"{where}.{name}", "is missing", "EVT-1")
    return {
        name: _read(item, slot.members[name].slot, f"{where}.{name}")
        for name, item in value.items()
        if name in slot.members
    }


def _read_number(value: Any, where: str) -> Value:
    if isinstance(value, str) and value in NON_FINITE:
        return NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _refuse(value, where, "a number", "VAL-2")
    if isinstance(value, float) or INT64_MIN <= value <= INT64_MAX:
        return value
    try:
        return float(value)
    except OverflowError:
        raise Fault(where, "an integer beyond binary64", "VAL-2.12") from None


def _read_free(value: Any, where: str) -> Value:
    if isinstance(value, dict):
        named = value.get("$float")
        if len(value) == 1 and isinstance(named, str) and named in NON_FINITE:
            return NON_FINITE[named]
        return {name: _read_free(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_read_free(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, int) and not isinstance(value, bool) and not INT64_MIN <= value <= INT64_MAX:
        raise Fault(where, f"the integer {value} is beyond int64", "VAL-4.7")
    assert value is None or isinstance(value, (bool, int, float, str))
    return value


def _refuse(value: Any, where: str, wanted: str, clause: str) -> Value:
    raise Fault(where, f"must be {wanted}, not {shown(value)}", clause)


# ------------------------------------------------------------------------------------------ sameness

_SHA256: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})\Z")


def written_checksum(checksum: str) -> str:
    """Return a checksum as a writer writes it. spec: VAL-8"""
    found = _SHA256.match(checksum)
    return f"sha256:{found[1].lower()}" if found else checksum


def normal(event: Value) -> Value:
    """Return ``event`` in one form out of the many that mean the same, so that none of them is held against a testee.

    Members the tables don't have are dropped (ENV-6), and so is what reads as absence: null, an empty list or map
    (JSN-6), a value that absence stands for. A run id is a string where that says all (EVT-1.4). A SHA-256
    has one form (VAL-8.3). What doesn't fit stays as it is, for the comparison to find.
    """
    if not isinstance(event, dict):
        return event
    result: dict[str, Value] = {name: event[name] for name in ("t", "v", "m", "p") if name in event}
    if "m" in result:
        result["m"] = _normal(result["m"], META)
    event_type = result.get("t")
    members = members_of(event_type) if isinstance(event_type, str) else None
    if members is not None and "p" in result:
        result["p"] = _normal(result["p"], record(members))
    return result


def _normal(value: Value, slot: Slot) -> Value:
    if slot.kind == "list" and slot.item and isinstance(value, list):
        return [_normal(item, slot.item) for item in value]
    if slot.kind == "checksum" and isinstance(value, str):
        return written_checksum(value)
    if not isinstance(value, dict) or not slot.members:
        return value
    result: dict[str, Value] = {}
    for name, member in slot.members.items():
        if name not in value or (not member.required and _is_absence(value[name], member)):
            continue
        result[name] = _normal(value[name], member.slot)
    return result["id"] if slot.kind == "run_id" and result.keys() == {"id"} else result


def _is_absence(value: Value, member: Member) -> bool:
    if value is None:
        return member.slot.kind != "free"
    if member.slot.kind in {"list", "map"}:
        return value in ([], {})
    if member.slot.kind == "id" and value == "":
        return True
    return member.default is not None and type(value) is type(member.default) and value == member.default
