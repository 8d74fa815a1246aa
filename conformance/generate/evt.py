"""Every event, member by member, from its table. docs/spec/events.md, and control.md for CTL-1.2"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from generate.dsl import Group, Json, dump, event, raw
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
    _particular(g)
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


def _particular(g: Group) -> None:
    def start(**body: Any) -> Json:
        return event("run_start", {"run_id": "a", **body}, seq=1)

    for ident, memory in (("text", "80 GB"), ("float", 1.5), ("integer", 2**40), ("non-finite", "NaN")):
        of = start(env={"gpu_info": [{"name": "A100", "memory": memory}]})
        g.accept(
            f"evt-memory-{ident}",
            "EVT-RUN_START-5.1" + (" EVT-RUN_START-5.2" if ident in {"float", "integer"} else ""),
            "an accelerator's memory is a number or a string",
            dump(of),
            of,
            kind="boundary" if ident == "non-finite" else "valid",
            kills={
                "text": "memory-must-be-a-number",
                "float": "memory-in-whole-bytes",
                "integer": "memory-becomes-text",
                "non-finite": "memory-of-nan-is-a-number",
            }[ident],
        )
    g.refuse(
        "evt-memory-true",
        "EVT-RUN_START-5.1",
        "and nothing else",
        dump(start(env={"gpu_info": [{"memory": [1]}]})),
        "bad_type",
        kills="memory-of-anything",
    )

    def memory_as(text: str) -> str:
        return raw(start(env={"gpu_info": [{"memory": "@x"}]}), x=text)

    def memory_of(value: Any) -> Json:
        return start(env={"gpu_info": [{"memory": value}]})

    for ident, text, read in (
        ("exact", str(2**53 + 1), 2**53 + 1),
        ("beyond-int64", str(2**63), 2.0**63),
        ("minus-zero", "-0.0", -0.0),
    ):
        g.accept(
            f"evt-memory-{ident}",
            "EVT-RUN_START-5.2 VAL-2",
            "what is no string is read as in a number slot",
            memory_as(text),
            memory_of(read),
            kind="boundary",
            kills={
                "exact": "memory-by-way-of-binary64",
                "beyond-int64": "memory-becomes-text",
                "minus-zero": "memory-in-whole-bytes",
            }[ident],
        )
    g.refuse(
        "evt-memory-beyond",
        "EVT-RUN_START-5.2 VAL-2.4",
        "with the bounds of one",
        memory_as("1e400"),
        "out_of_range",
        kind="boundary",
        kills="memory-unbounded",
    )
    g.refuse(
        "evt-memory-boolean-strict",
        "EVT-RUN_START-5.2 VAL-2.8",
        "a strict reader takes no boolean there",
        memory_as("true"),
        "bad_type",
        reader="strict",
        kind="boundary",
        kills="strict-takes-booleans",
    )
    g.accept(
        "evt-memory-boolean-lenient",
        "EVT-RUN_START-5.2 VAL-2.9",
        "a lenient one does",
        memory_as("true"),
        memory_of(1),
        reader="lenient",
        kind="boundary",
        kills="memory-takes-no-boolean",
    )
    g.refuse(
        "evt-memory-token-strict",
        "EVT-RUN_START-5.2 JSN-7.1",
        "a bare token is no JSON there either",
        memory_as("NaN"),
        "bad_json",
        reader="strict",
        kills="tokens-accepted",
    )
    for event_type, member, body in (
        ("open", "passive", {"run_id": "a", "sid": "s"}),
        ("subscribe", "until_end", {"run_id": "a"}),
    ):
        g.accept(
            f"evt-{event_type}-{member.replace('_', '-')}-false",
            "CTL-1.2 JSN-6",
            "false is what absence reads as",
            dump(event(event_type, {**body, member: False}, seq=0)),
            event(event_type, body, seq=0),
            kind="boundary",
            kills="flags-by-presence",
        )
        g.accept(
            f"evt-{event_type}-{member.replace('_', '-')}-true",
            "CTL-1.2",
            "true is not",
            dump(event(event_type, {**body, member: True}, seq=0)),
            event(event_type, {**body, member: True}, seq=0),
            kills={"open": "passive-dropped", "subscribe": "booleans-are-false"}[event_type],
        )
    for name in ("sub", "observer"):
        g.accept(
            f"evt-{name}-false",
            "EVT-RUN_START-7",
            "false is what absence reads as",
            dump(start(**{name: False})),
            start(),
            kills="flags-by-presence",
        )
        g.accept(
            f"evt-{name}-true",
            "EVT-RUN_START-7",
            "true is not",
            dump(start(**{name: True})),
            start(**{name: True}),
            kills={"sub": "sub-dropped", "observer": "booleans-are-false"}[name],
        )
    for size in (0, -3, 2**40):
        of = start(world_size=size)
        g.accept(
            f"evt-world-size-{'minus-3' if size < 0 else size}",
            "EVT-RUN_START-7.3 VAL-1.5",
            "a size below 1 is no reason to refuse",
            dump(of),
            of,
            kind="valid" if size > 0 else "invalid" if size < 0 else "boundary",
            or_event=[start()] if size < 1 else [],
            kills={1099511627776: "integers-in-32-bits"}.get(size, "sizes-of-a-world-checked"),
        )
    for ident, error in (
        ("none", None),
        ("empty", {}),
        ("type-alone", {"type": "E"}),
        ("all", {"type": "E", "message": "m", "traceback": "t\n"}),
    ):
        for status in ("failed", "completed"):
            of = event("run_end", {"run_id": "a", "status": status, **({} if error is None else {"error": error})})
            clause = "EVT-RUN_END-3.1" if error is None and status == "failed" else "EVT-RUN_END-3.2"
            g.accept(
                f"evt-run-end-{status}-error-{ident}",
                clause,
                "an error may be absent, or lack any of its members, beside any status",
                dump(of),
                of,
                kills={
                    "none": "failed-needs-an-error" if status == "failed" else "optional-integers-required",
                    "empty": "errors-need-a-type",
                    "type-alone": "errors-need-a-message",
                    "all": "loses-run_end.error.traceback",
                }[ident]
                + ("" if error is None or status == "failed" else " completed-takes-no-error"),
            )
    kept = event(
        "run_end",
        {
            "run_id": "a",
            "status": "failed",
            "error": {"type": "E", "message": "m", "traceback": "t"},
            "final_metrics": {"loss": 0.5, "n": 3},
            "duration_ms": 5,
        },
        seq=9,
    )
    g.accept(
        "evt-run-end-kept",
        "EVT-RUN_END-1.1",
        "final_metrics, error and duration_ms are kept",
        dump(kept),
        kept,
        kills="final-metrics-dropped",
    )
    g.refuse(
        "evt-param-without-value",
        "EVT-PARAM-1.1",
        "a param without its value",
        dump(event("param", {"run_id": "a", "key": "k"})),
        "missing_field",
        kills="param-without-value",
    )
    nested = event("param", {"run_id": "a", "key": "optimizer", "value": {"lr": 0.1, "b": {"c": 1}}})
    g.accept(
        "evt-param-object", "EVT-PARAM-1.3", "an object is one value", dump(nested), nested, kills="params-flattened"
    )
    for ident, key in (("empty", ""), ("dots", "a.b"), ("slash", "a/b")):
        of = event("param", {"run_id": "a", "key": key, "value": 1, "nested_key": ["", "x.y"]})
        g.accept(
            f"evt-param-key-{ident}",
            "EVT-PARAM-1 VAL-9",
            "names are any strings",
            dump(of),
            of,
            kind="boundary",
            kills={"empty": "empty-required-strings-refused"}.get(ident, "names-cleaned"),
        )
    batch = event("metric_batch", {"run_id": "a", "metrics": {}})
    g.accept(
        "evt-metric-batch-empty",
        "EVT-METRIC_BATCH-1 EVT-METRIC_BATCH-1.2",
        "a batch may hold no metric",
        dump(batch),
        batch,
        kind="boundary",
        kills="empty-batch-refused",
    )
    for ident, value in (("string", "x"), ("null", None), ("list", [1])):
        of = event("metric_batch", {"run_id": "a", "metrics": {"good": 1, "bad": value}})
        g.refuse(
            f"evt-metric-batch-{ident}",
            "EVT-METRIC_BATCH-1.2",
            "one value that doesn't fit refuses the whole event",
            dump(of),
            "bad_type",
            kills="bad-metrics-dropped",
        )
    of = event("artifact", {"run_id": "a", "path": "out/m.onnx", "type": "onnx"})
    g.accept(
        "evt-artifact-any-type", "EVT-ARTIFACT-2", "any string is a type", dump(of), of, kills="open-sets-are-closed"
    )
    of = event("artifact", {"run_id": "a", "path": "../../etc/passwd"})
    g.accept(
        "evt-artifact-any-path",
        "EVT-ARTIFACT-1",
        "a reader judges no path",
        dump(of),
        of,
        kind="boundary",
        kills="paths-outside-refused",
    )
    for ident, progress in (
        ("empty", {}),
        ("beyond", {"cur": 11, "total": 10}),
        ("no-total", {"cur": 3}),
        ("negative", {"cur": -1, "total": -1}),
    ):
        of = event("status", {"run_id": "a", "status": "running", "progress": progress})
        g.accept(
            f"evt-progress-{ident}",
            "EVT-STATUS-3",
            "progress may lack any member, and be beyond its total",
            dump(of),
            of,
            kind="valid" if ident == "no-total" else "boundary",
            kills={
                "empty": "empty-objects-are-absence",
                "beyond": "progress-beyond-total-refused",
                "no-total": "progress-needs-a-total",
                "negative": "integers-unsigned",
            }[ident],
        )
    of = event("tags", {"run_id": "a", "tags": {"xtrack.name": "n", "xtrack.future": "f"}})
    g.accept(
        "evt-tags-reserved",
        "EVT-TAGS-1",
        "a reader takes tags of reserved names",
        dump(of),
        of,
        kind="boundary",
        kills="names-of-their-own-dropped",
    )
