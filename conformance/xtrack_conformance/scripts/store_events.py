"""Steps of a store: events are put in, it is closed and opened again, and asked what it has."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from xtrack_conformance.protocol import BadAnswer, bytes_text
from xtrack_conformance.scripts.store_common import (
    Exchange,
    Step,
    Steps,
    Talk,
    Wrong,
    ask,
    compact,
    is_unknown,
    listed,
    make,
    member,
    merged,
    ranges_of,
    raw,
    same_event,
    value_of,
)
from xtrack_conformance.values import Value, difference, shown

_NEVER: Final = "a run that never was"


def _put(talk: Talk, step: Step) -> Exchange:
    """``events`` or ``frames``: one batch of a source. ``many``: events alike."""
    events = [*step.get("events", ()), *numbered(step["many"])] if "many" in step else step.get("events", ())
    data = b"".join(_frame(compact(event)) for event in events) + make(step.get("frames", ()))
    yield from ask(talk, "store.put", source=step.get("source", "x"), frames=bytes_text(data))


def numbered(many: dict[str, Any]) -> list[dict[str, Any]]:
    """Return copies of ``event`` with the seqs ``first`` to ``last``: metrics with as many steps, other lines."""
    event, found = many["event"], []
    for seq in range(many["first"], many["last"] + 1):
        more = {"step": seq, "value": seq / 4} if event["t"] == "metric" else {"msg": f"line {seq}"}
        found.append({**event, "m": {**event["m"], "seq": seq}, "p": {**event["p"], **more}})
    return found


def _frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def _reopen(talk: Talk, step: Step) -> Exchange:
    """``how``, or as the run's variant says."""
    how = step.get("how", talk.variant)
    if how != "kept open":
        yield from ask(talk, "store.reopen", how=how)


def _delete(talk: Talk, step: Step) -> Exchange:
    yield from ask(talk, "store.delete", run_id=step["run_id"])


def _identity(entry: dict[str, Any], where: str) -> tuple[str, str, int]:
    return (
        member(entry, "wid", str, where=where),
        member(entry, "sid", str, where=where),
        member(entry, "seq", int, where=where),
    )


def _wanted(entry: dict[str, Any]) -> tuple[str, str, int]:
    return entry.get("wid", ""), entry["sid"], entry["seq"]


def _told(identity: tuple[str, str, int]) -> str:
    return f"seq {identity[2]} of the stream ({identity[0]!r}, {identity[1]!r})"


def _events(talk: Talk, step: Step) -> Exchange:
    """``is``: all events of the run, each with its ``event`` or ``payload`` where that is judged.

    ``aside``: payloads that must be kept aside, or stand among the events. ``exact``: the bytes themselves are judged.
    """
    answer = yield from ask(talk, "store.events", run_id=step["run_id"])
    if is_unknown(answer):
        raise Wrong(f"the store doesn't know the run {step['run_id']!r}", f"{len(step['is'])} events", "unknown")
    entries = listed(answer, "events")
    got = {_identity(entry, "events"): raw(entry, "payload", "events") for entry in entries}
    aside = [raw(entry, "payload", "aside") for entry in listed(answer, "aside")]
    expected = {_wanted(entry): entry for entry in _expected(step)}
    if missing := [one for one in expected if one not in got]:
        raise Wrong(f"{_told(missing[0])} is missing", sorted(map(list, expected)), sorted(map(list, got)))
    if extra := [one for one in got if one not in expected]:
        raise Wrong(f"{_told(extra[0])} should not be there", sorted(map(list, expected)), sorted(map(list, got)))
    counted = Counter(_identity(entry, "events") for entry in entries)
    if twice := [one for one, count in counted.items() if count > 1]:
        raise Wrong(
            f"{_told(twice[0])} is there {counted[twice[0]]} times", "each event once", f"{len(entries)} events"
        )
    for identity, entry in expected.items():
        _judge_payload(_told(identity), _payload(entry), got[identity], exact=step.get("exact", False))
    for parts in step.get("aside", ()):
        payload = _payload(parts)
        if payload is not None and not any(same_event(payload, other) for other in [*aside, *got.values()]):
            raise Wrong("the payload of the other event is not kept", shown(payload), f"{len(aside)} payloads aside")


def _expected(step: Step) -> list[dict[str, Any]]:
    """Return what must be there; ``many`` as in a put."""
    events = numbered(step["many"]) if "many" in step else []
    return [*step["is"], *({"sid": one["m"]["sid"], "seq": one["m"]["seq"], "event": one} for one in events)]


def _payload(entry: dict[str, Any]) -> bytes | None:
    if "payload" in entry:
        return make(entry["payload"])
    return compact(entry["event"]) if "event" in entry else None


def _judge_payload(what: str, expected: bytes | None, got: bytes, *, exact: bool) -> None:
    if expected is None or expected == got:
        return
    if not same_event(expected, got):
        raise Wrong(f"the payload of {what} is another event", shown(expected), shown(got), data=expected)
    if exact:
        offset = next((i for i, (one, other) in enumerate(zip(expected, got, strict=False)) if one != other), len(got))
        message = f"the payload of {what} was written anew, from byte {offset} on"
        raise Wrong(message, shown(expected), shown(got), offset=offset, data=expected)


def _unknown(talk: Talk, step: Step) -> Exchange:
    """Every question about the run is answered as for one that never was. spec: FLD-9.2"""
    asked: tuple[tuple[str, dict[str, str]], ...] = (
        ("store.events", {}),
        ("store.points", {"key": "k"}),
        ("store.history", {"name": "k"}),
    )
    for op, members in asked:
        answer = yield from ask(talk, op, run_id=step["run_id"], **members)
        other = yield from ask(talk, op, run_id=_NEVER, **members)
        if is_unknown(answer) != is_unknown(other) or (not is_unknown(answer) and answer != other):
            raise Wrong(f"{op} tells of the run {step['run_id']!r}", other, answer)


def _cursor(talk: Talk, step: Step) -> Exchange:
    """``is``: ranges of seqs; none for a run that isn't known."""
    answer = yield from ask(talk, "store.cursor", run_id=step["run_id"], wid=step.get("wid", ""), sid=step["sid"])
    expected, got = merged(step["is"]), [] if is_unknown(answer) else ranges_of(answer, "ranges")
    if expected != got:
        raise Wrong("the cursor of the stream is another", expected, got)


def _points(talk: Talk, step: Step) -> Exchange:
    """``is``: points in their order: ``step``, ``value``, ``seq``, and ``sid``, ``wid`` or ``ctx`` where judged."""
    answer = yield from ask(talk, "store.points", run_id=step["run_id"], key=step["key"])
    if is_unknown(answer):
        raise Wrong(f"the store doesn't know the run {step['run_id']!r}", step["is"], "unknown")
    entries = listed(answer, "points")
    got = [(_step_of(entry), member(entry, "seq", int, where="points")) for entry in entries]
    points = step["is"]
    if "many" in step:
        points = [
            {"step": one["p"]["step"], "value": one["p"]["value"], "seq": one["m"]["seq"]}
            for one in numbered(step["many"])
        ]
    wanted = [(point.get("step"), point["seq"]) for point in points]
    if sorted(map(str, got)) != sorted(map(str, wanted)):
        raise Wrong("the series has other points (steps and seqs)", wanted, got)
    if got != wanted:
        raise Wrong("the points stand in another order (steps and seqs)", wanted, got)
    for point, entry in zip(points, entries, strict=True):
        what = f"the point with seq {point['seq']}"
        value = value_of(entry, "value", "points")
        if "value" in point and not _same_number(_number(point["value"]), value):
            raise Wrong(f"{what} has another value", shown(point["value"]), shown(value))
        for name in ("wid", "sid"):
            if name in point and member(entry, name, str, where="points") != point[name]:
                raise Wrong(f"{what} is told of another stream", point[name], entry[name])
        if "ctx" in point:
            _judge_context(what, point["ctx"], value_of(entry, "ctx", "points") if "ctx" in entry else None)


def _step_of(entry: dict[str, Any]) -> int | None:
    found = value_of(entry, "step", "points")
    if found is not None and type(found) is not int:
        raise BadAnswer(f"points.step must be an integer or null, tagged, not {shown(found)}")
    return found


_NON_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def _number(value: Any) -> Value:
    """Return what stands in a number slot: a number, or the name of one."""
    return _NON_FINITE[value] if isinstance(value, str) else value


def _same_number(expected: Value, got: Value) -> bool:
    """Whether two numbers are the same, an integer and the binary64 that is exactly it included."""
    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return False
    if isinstance(expected, float) and isinstance(got, float):
        return difference(expected, got) is None
    return expected == got


def _judge_context(what: str, expected: dict[str, Any], got: Value) -> None:
    if not isinstance(got, dict):
        raise Wrong(f"{what} has lost its context", expected, shown(got))
    for name, value in expected.items():
        if got.get(name) != value:
            raise Wrong(f"{what} has another {name} in its context", expected, shown(got))


def _history(talk: Talk, step: Step) -> Exchange:
    """``is``: ``value`` and ``seq`` of each write; ``current`` on the one that counts."""
    answer = yield from ask(talk, "store.history", run_id=step["run_id"], name=step["name"])
    if is_unknown(answer):
        raise Wrong(f"the store doesn't know the run {step['run_id']!r}", step["is"], "unknown")
    entries = listed(answer, "values")
    got = {member(entry, "seq", int, where="values"): entry for entry in entries}
    expected = {entry["seq"]: entry for entry in step["is"]}
    if len(got) != len(entries) or got.keys() != expected.keys():
        raise Wrong(
            "the parameter has other writes (seqs)", sorted(expected), sorted(entry["seq"] for entry in entries)
        )
    for seq, entry in expected.items():
        value = value_of(got[seq], "value", "values")
        if difference(_free(entry["value"]), value):
            raise Wrong(f"the write with seq {seq} has another value", shown(entry["value"]), shown(value))
        if member(got[seq], "current", bool, where="values") != entry.get("current", False):
            raise Wrong(
                f"whether the write with seq {seq} counts", str(entry.get("current", False)), str(got[seq]["current"])
            )


def _free(value: Any) -> Value:
    """Return what JSON in a free slot means. spec: VAL-4.3"""
    if isinstance(value, dict):
        if len(value) == 1 and value.get("$float") in _NON_FINITE:
            return _NON_FINITE[value["$float"]]
        return {name: _free(item) for name, item in value.items()}
    return [_free(item) for item in value] if isinstance(value, list) else value


STEPS: Final[Steps] = {
    "put": _put,
    "reopen": _reopen,
    "delete": _delete,
    "events": _events,
    "unknown": _unknown,
    "cursor": _cursor,
    "points": _points,
    "history": _history,
}
