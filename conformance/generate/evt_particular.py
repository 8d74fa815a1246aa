"""What is particular to one event. docs/spec/events.md"""

from __future__ import annotations

from typing import Any

from generate.dsl import Group, Json, dump, event, raw


def add(g: Group) -> None:
    """Add the cases."""

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
