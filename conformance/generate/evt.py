"""Every event, member by member, from its table. docs/spec/events.md, and control.md for CTL-1.2"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from generate import evt_particular
from generate.dsl import Group, Json, dump, event
from xtrack_conformance.slots import CONTROL, EVENTS, Member, Slot

SAMPLES: dict[str, Any] = {
    "integer": 7, "number": 0.25, "boolean": True, "string": "text", "id": "w", "free": {"a": [1, None]},
    "checksum": "sha256:" + "ab" * 32, "memory": 1024, "pair": [3, "gap"], "run_id": "a",
}  # fmt: skip

WRONG: dict[str, Any] = {
    "integer": "x", "number": [], "boolean": 1, "string": 5, "id": 5, "checksum": 5, "memory": [], "pair": 5,
    "list": {}, "map": [], "object": [], "run_id": 5, "closed": 5,
}  # fmt: skip

WRONG_KILLS = {
    "integer": "integers-by-cast", "number": "numbers-by-javascript", "boolean": "booleans-by-truth",
    "string": "strings-of-anything", "id": "ids-of-anything", "checksum": "checksums-of-anything",
    "memory": "memory-of-anything", "pair": "pairs-of-anything", "list": "lists-of-anything-iterated",
    "map": "maps-of-anything", "object": "objects-of-anything", "run_id": "run-ids-of-anything",
    "closed": "closed-sets-by-number",
}  # fmt: skip
"""Which mutant takes that value."""

MISSING_KILLS = {
    "integer": "absent-integers-are-zero", "number": "absent-numbers-are-zero", "string": "absent-strings-are-empty",
    "run_id": "absent-run-ids-are-empty", "list": "absent-lists-are-empty", "map": "absent-maps-are-empty",
    "closed": "absent-sets-have-a-default", "free": "param-without-value",
}  # fmt: skip
"""Which mutant does without a required member."""

LEAST_KILLS = {"checkpoint": "best-key-required", "tags": "loses-tags.tags", "summary": "loses-summary.values",
               "ping": "empty-bodies-refused", "pong": "empty-bodies-refused"}  # fmt: skip


def cases() -> Group:
    """Return the cases."""
    g = Group("evt")
    for event_type, members in {**EVENTS, **CONTROL}.items():
        _table(g, event_type, members)
    _run_ids(g)
    evt_particular.add(g)
    return g


def sample(slot: Slot) -> Any:
    """Return a value that fits."""
    if slot.kind == "closed":
        return max(slot.values)
    if slot.kind == "list" and slot.item:
        return [sample(slot.item)] * 2
    if slot.kind == "map" and slot.item:
        return {"a": sample(slot.item), "b": sample(slot.item)}
    if slot.kind == "object":
        return full(slot.members)
    return SAMPLES[slot.kind]


def full(members: Mapping[str, Member]) -> Json:
    """Return a body with every member."""
    return {name: sample(member.slot) for name, member in members.items()}


def minimal(members: Mapping[str, Member]) -> Json:
    """Return a body with the required members alone."""
    return {name: sample(member.slot) for name, member in members.items() if member.required}


def _table(g: Group, event_type: str, members: Mapping[str, Member]) -> None:
    is_control = event_type in CONTROL
    seq = 0 if is_control else 2
    clause = "CTL-1.2" if is_control else f"EVT-{event_type.upper()}-1"
    more = "CTL-1.2" if is_control else "EVT-1"
    name = event_type.replace("_", "-")

    def of(body: Json) -> Json:
        return event(event_type, body, seq=seq)

    least, most = minimal(members), full(members)
    g.accept(
        f"evt-{name}-minimal",
        f"{clause} {more}" + ("" if is_control else " EVT-1.1"),
        "the required members alone",
        dump(of(least)),
        of(least),
        kind="boundary",
        kills=f"{_by_kinds('optional-{}s-required', members)} {LEAST_KILLS.get(event_type, '')}",
    )
    if most != least:
        g.accept(
            f"evt-{name}-full",
            f"{clause} {more}",
            "every member of the table",
            dump(of(most)),
            of(most),
            kills={"run_end": "final-metrics-dropped ", "metric": "context-dropped "}.get(event_type, "")
            + f"loses-{event_type}.{list(members)[-1]}",
        )
    nulls = {member: None for member, row in members.items() if not row.required and row.slot.kind != "free"}
    if nulls:
        g.accept(
            f"evt-{name}-nulls",
            f"{clause} JSN-6" + ("" if is_control else " EVT-1.1"),
            "null in every optional member",
            dump(of({**least, **nulls})),
            of(least),
            kills=_by_kinds("null-{}-refused", members) + (" null-is-no-absence" if event_type == "log" else ""),
        )
    for member, row in members.items():
        ident = f"evt-{name}-{member.replace('_', '-')}"
        if row.required:
            body = {key: value for key, value in least.items() if key != member}
            missing = "CTL-1.2" if is_control else f"{clause} EVT-1.1" + (" EVT-1.2" if member == "run_id" else "")
            g.refuse(
                f"{ident}-missing",
                missing,
                f"{member} is required",
                dump(of(body)),
                "missing_field",
                kills=MISSING_KILLS[row.slot.kind] + (" metric-without-key" if ident == "evt-metric-key" else ""),
            )
    for path, slot in _slots(members):
        if slot.kind not in WRONG:
            continue
        wrong = _set(most, path, WRONG[slot.kind])
        ident = "-".join(str(step) for step in path).replace("_", "-")
        is_map_of_free = slot.kind == "map" and slot.item is not None and slot.item.kind == "free"
        g.refuse(
            f"evt-{name}-{ident}-wrong-type",
            f"{clause} {more}" + (" VAL-4.9" if is_map_of_free else ""),
            f"{'.'.join(map(str, path))} holds a value of another type",
            dump(of(wrong)),
            "bad_type",
            kills="odd-objects-are-absence" if _has_required(slot) else WRONG_KILLS[slot.kind],
        )
        if slot.kind == "object":
            g.accept(
                f"evt-{name}-{ident}-empty",
                f"{clause} VAL-9.5",
                "an object none of whose members is required",
                dump(of(_set(most, path, {}))),
                of(_set(most, path, {})),
                kind="boundary",
                kills="empty-objects-refused",
            ) if not _has_required(slot) else None


def _has_required(slot: Slot) -> bool:
    return slot.kind == "object" and any(row.required for row in slot.members.values())


def _by_kinds(mutant: str, members: Mapping[str, Member]) -> str:
    """Return a mutant's name for each kind of slot that an optional member has."""
    kinds = dict.fromkeys(row.slot.kind for row in members.values() if not row.required)
    # what is a number, a set or a run id is no mutant's where it is absent, but where it is null
    mutants = "integer string object list map id boolean" + (" number closed run_id" if "null" in mutant else "")
    return " ".join(mutant.format(kind.replace("_", "-")) for kind in kinds if kind in mutants.split())


def _slots(members: Mapping[str, Member], before: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Slot]]:
    """Yield each slot of a body of :func:`full`, with its path."""
    for name, member in members.items():
        yield from _slots_of(member.slot, (*before, name))


def _slots_of(slot: Slot, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Slot]]:
    yield path, slot
    if slot.kind == "object":
        yield from _slots(slot.members, path)
    elif slot.item:
        yield from _slots_of(slot.item, (*path, 1 if slot.kind == "list" else "b"))


def _set(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """Return a copy of ``value`` with another value at ``path``."""
    if not path:
        return to
    if isinstance(value, list):
        return [_set(item, path[1:], to) if index == path[0] else item for index, item in enumerate(value)]
    return {name: _set(item, path[1:], to) if name == path[0] else item for name, item in value.items()}


def _run_ids(g: Group) -> None:
    for event_type, members in EVENTS.items():
        name = event_type.replace("_", "-")
        least = minimal(members)
        plain = event(event_type, {**least, "run_id": "abc"})
        g.accept(
            f"evt-{name}-run-id-object",
            "EVT-1.4 EVT-1.2",
            "the object with an id alone is the same run as the string",
            dump(event(event_type, {**least, "run_id": {"id": "abc"}})),
            plain,
            kills={"log": "run-id-object-in-run-start-only"}.get(name, "run-id-objects-refused"),
        )
        more = event(event_type, {**least, "run_id": {"id": "abc", "exp_id": "e", "parent_id": "p"}})
        g.accept(
            f"evt-{name}-run-id-full",
            "EVT-1.3 EVT-1.4",
            "with an experiment and a parent run",
            dump(more),
            more,
            kills={"run-start": "experiment-dropped"}.get(name, "run-id-objects-refused"),
        )
    tags = EVENTS["tags"]
    for ident, value, class_ in (
        ("list", ["a"], "bad_type"),
        ("true", True, "bad_type"),
        ("without-id", {"exp_id": "e"}, "missing_field"),
        ("empty-object", {}, "missing_field"),
        ("id-number", {"id": 5}, "bad_type"),
        ("exp-id-number", {"id": "a", "exp_id": 5}, "bad_type"),
    ):
        clause = "EVT-1.1 EVT-1.3" if class_ == "missing_field" else "EVT-1.3"
        g.refuse(
            f"evt-run-id-{ident}",
            clause,
            "a run id is a string, or an object with one as id",
            dump(event("tags", {**minimal(tags), "run_id": value})),
            class_,
            kills="run-id-without-id"
            if class_ == "missing_field"
            else f"{'strings' if 'number' in ident else 'run-ids'}-of-anything",
        )
    for ident, run_id in (
        ("empty", ""),
        ("long", "r" * 5000),
        ("strange", "a/b\\c\0d \U0001f600"),
        ("1024", "r" * 1024),
    ):
        of = event("tags", {"run_id": run_id, "tags": {}})
        g.accept(
            f"evt-run-id-{ident}",
            "EVT-1.8 EVT-1.2 EVT-1.3" if ident == "empty" else "EVT-1.8",
            "readers take a run id of any length",
            dump(of),
            of,
            kind="valid" if ident == "strange" else "boundary",
            kills={"empty": "empty-run-id-refused", "strange": "strings-end-at-nul"}.get(ident, "long-run-id-refused"),
        )
