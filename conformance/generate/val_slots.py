"""Slots that aren't numbers. docs/spec/values.md, VAL-4 and the clauses behind it"""

from __future__ import annotations

from typing import Any

from generate.dsl import INT64_MAX, INT64_MIN, Group, dump, event, json_with, log, metric, param, raw_param


def free(g: Group) -> None:
    """Free slots, which hold any JSON value."""
    for name, value in (
        ("true", True),
        ("false", False),
        ("integer", 1),
        ("float", 1.5),
        ("string", "x"),
        ("empty-string", ""),
        ("list", [1, "a", None, [True]]),
        ("object", {"a": {"b": [1]}}),
        ("empty-list", []),
        ("empty-object", {}),
    ):
        more = {"true": " VAL-2.8", "false": " EVT-PARAM-1.1"}.get(name, "")
        g.accept(
            f"val-free-{name}",
            f"VAL-4{more}",
            "a free slot takes any JSON value",
            dump(param(value)),
            param(value),
            kills="booleans-become-numbers-in-free-slots"
            if name in {"true", "false", "list"}
            else "params-become-json-text",
        )
    g.accept(
        "val-free-integer-exact",
        "VAL-4.1",
        "integers are kept exactly",
        dump(param([INT64_MAX, INT64_MIN, 2**53 + 1])),
        param([INT64_MAX, INT64_MIN, 2**53 + 1]),
        kind="boundary",
        kills="free-integers-by-way-of-binary64",
    )
    g.accept(
        "val-free-integer-beyond",
        "VAL-4.1 VAL-2.2",
        "beyond int64 they are the nearest binary64",
        raw_param("9223372036854775808"),
        param(9223372036854775808.0),
        kind="boundary",
        kills="integers-of-any-size",
    )
    g.accept(
        "val-free-whole-float",
        "VAL-4.1 VAL-2.3",
        "1.0 is a float",
        raw_param("1.0"),
        param(1.0),
        kind="boundary",
        kills="whole-floats-are-integers",
    )
    g.accept(
        "val-free-minus-zero",
        "VAL-4.1 VAL-2.3",
        "-0.0 keeps its sign",
        raw_param("-0.0"),
        param(-0.0),
        kind="boundary",
        kills="sign-of-zero-lost",
    )
    g.refuse(
        "val-free-beyond",
        "VAL-4.1 VAL-2.4 VAL-4",
        "1e400 is no binary64",
        raw_param('{"a":[1e400]}'),
        "out_of_range",
        kills="overflow-is-infinity",
    )
    for name, text in (("nan", "NaN"), ("infinity", "Infinity"), ("minus-infinity", "-Infinity")):
        of = param([{"$float": text}])
        g.accept(
            f"val-free-form-{name}",
            "VAL-4.3",
            "an object of this one member is the number it names",
            dump(of),
            of,
            kills="float-form-unread",
        )
        same = param(["@x"])
        g.accept(
            f"val-free-string-{name}",
            "VAL-4.6",
            "the string is a string in a free slot",
            dump(json_with(same, text)),
            json_with(same, text),
            kills="strings-become-numbers-in-free-slots",
        )
    for name, value in (
        ("spelling", {"$float": "nan"}),
        ("number", {"$float": 1.5}),
        ("two-members", {"$float": "NaN", "a": 1}),
        ("null", {"$float": None}),
        ("list", {"$float": ["NaN"]}),
        ("nested", {"$float": {"$float": 1}}),
    ):
        g.accept(
            f"val-free-no-form-{name}",
            "VAL-4.4",
            "any other object with a member $float is an ordinary object",
            dump(param(value)),
            param(value),
            kind="valid" if name in {"number", "list"} else "boundary",
            kills="params-become-json-text" if name in {"null", "list", "nested"} else "float-form-too-eager",
        )
    beside = param([{"$float": "-Infinity"}, {"$float": "-infinity"}, {"$Float": "NaN"}, {"$float": "NaN "}])
    g.accept(
        "val-free-form-beside-others",
        "VAL-4.3 VAL-4.4",
        "one of these is a number, and the others are ordinary objects, for case and white space count",
        dump(beside),
        beside,
        kind="invalid",
        kills="float-forms-without-case",
    )
    deep: Any = {"$float": "Infinity"}
    for _ in range(10):
        deep = {"a": [deep]}
    g.accept(
        "val-free-form-deep",
        "VAL-4.3",
        "at any depth",
        dump(param(deep)),
        param(deep),
        kind="boundary",
        kills="float-form-unread",
    )
    for name, of in (
        ("fields", log("y", fields={"$float": "NaN"})),
        ("meta", event("artifact", {"run_id": "a", "path": "p", "meta": {"$float": "Infinity"}})),
        ("payload", event("command", {"cmd_id": "c", "type": "pause", "payload": {"$float": "-Infinity"}}, seq=0)),
    ):
        g.accept(
            f"val-map-of-free-form-{name}",
            "VAL-4.9",
            "a map of free is no free slot: it is read as a map of one name",
            dump(of),
            of,
            kind="boundary",
            kills="maps-of-free-are-free",
        )
    g.accept(
        "val-map-of-free-form-inside",
        "VAL-4.9 VAL-4.3",
        "its values are free slots",
        dump(log(fields={"$float": {"$float": "NaN"}})),
        log(fields={"$float": {"$float": "NaN"}}),
        kind="boundary",
        kills="float-form-unread",
    )
    g.accept(
        "val-free-string-in-map-of-free",
        "VAL-4.6",
        "so it is where the free slot is a value of a map",
        dump(log(fields={"a": "NaN"})),
        log(fields={"a": "NaN"}),
        kind="boundary",
        kills="strings-become-numbers-in-free-slots",
    )
    g.accept(
        "val-free-form-escaped",
        "VAL-4.3 JSN-1.9",
        "its name may be written with an escape",
        raw_param('{"\\u0024float":"NaN"}'),
        param({"$float": "NaN"}),
        kind="boundary",
        kills="float-form-unread",
    )
    for where, of in (
        ("fields", log(fields={"a": "@x"})),
        ("meta", event("artifact", {"run_id": "a", "path": "p", "meta": {"a": "@x"}})),
        ("unknown-type", event("energy", {"a": "@x"})),
    ):
        for name, value in (("form", {"$float": "NaN"}), ("true", True), ("integer", 2**53 + 1)):
            expected = json_with(of, value)
            g.accept(
                f"val-free-{where}-{name}",
                f"VAL-4.3 {'ENV-5.8' if where == 'unknown-type' else 'VAL-4.9'}"
                if name == "form"
                else "VAL-4.8"
                if name == "true"
                else "VAL-4.1",
                "free slots are the same everywhere, lists and maps of them too",
                dump(expected),
                expected,
                kills={
                    "form": "float-form-unread",
                    "true": "booleans-become-numbers-in-free-slots",
                    "integer": "free-integers-by-way-of-binary64",
                }[name],
            )
    g.accept(
        "val-map-named-float",
        "VAL-4.3 VAL-9.3",
        "a map is no free slot: its name $float is a name",
        dump(log(fields={"$float": "NaN"})),
        log(fields={"$float": "NaN"}),
        kind="boundary",
        kills="float-form-anywhere",
    )


SETS = {
    "run-end-status": (event("run_end", {"run_id": "a", "status": "@x"}, seq=3), ["completed", "failed", "killed"]),
    "status": (event("status", {"run_id": "a", "status": "@x"}, seq=3),
               ["initializing", "running", "training", "evaluating", "checkpointing", "paused", "resuming", "finishing",
                "completed", "failed", "killed"]),
    "log-level": (event("log", {"run_id": "a", "level": "@x", "msg": "m"}), ["debug", "info", "warning", "error"]),
    "alert-level": (event("alert", {"run_id": "a", "title": "t", "level": "@x"}), ["debug", "info", "warning", "error"]),
    "upload": (event("artifact", {"run_id": "a", "path": "p", "upload": "@x"}), ["reference", "inline", "stream"]),
    "ack-status": (event("ack", {"seq": 1, "status": "@x"}, seq=0), ["ok", "error"]),
}  # fmt: skip

OPEN = {
    "artifact-type": (event("artifact", {"run_id": "a", "path": "p", "type": "@x"}), "model"),
    "ctx-phase": (metric(1, ctx={"phase": "@x"}), "train"),
    "ctx-agg": (metric(1, ctx={"agg": "@x"}), "mean"),
    "progress-unit": (event("status", {"run_id": "a", "status": "running", "progress": {"unit": "@x"}}), "step"),
    "command-type": (event("command", {"cmd_id": "c", "type": "@x"}, seq=0), "stop"),
}


def sets(g: Group) -> None:
    """Closed and open sets."""
    for name, (of, values) in SETS.items():
        for value in values:
            g.accept(
                f"val-{name}-{value}",
                "VAL-6 VAL-6.1 VAL-6.2",
                "a value of the closed set",
                dump(json_with(of, value)),
                json_with(of, value),
                kills={
                    "resuming": "one-status-missing statuses-of-a-run-only",
                    "training": "statuses-of-a-run-only",
                    "warning": "warning-is-warn",
                }.get(value, "closed-sets-in-capitals"),
            )
        known = values[0]
        for wrong, clause, why in (
            ("unknown", "VAL-6", "a value that is not in the set"),
            (known.upper(), "VAL-6.1", "case counts"),
            (f" {known}", "VAL-6.1", "nothing is trimmed"),
            ("", "VAL-6", "the empty string is in no set"),
        ):
            ident = {"unknown": "unknown", known.upper(): "capitals", f" {known}": "space"}.get(wrong, "empty")
            g.refuse(
                f"val-{name}-not-{ident}",
                clause,
                why,
                dump(json_with(of, wrong)),
                "bad_value",
                kind="boundary" if ident in {"space", "empty"} else "invalid",
                kills={"capitals": "closed-sets-without-case", "space": "closed-sets-trimmed"}.get(
                    ident, "closed-sets-are-open"
                ),
            )
        for wrong_type, value in (("number", 1), ("list", [known])):
            g.refuse(
                f"val-{name}-not-{wrong_type}",
                "VAL-6.2",
                "a value that is no string",
                dump(json_with(of, value)),
                "bad_type",
                kind="boundary" if wrong_type == "list" else "invalid",
                kills={"list": "lists-of-one-unwrapped"}.get(wrong_type, "closed-sets-by-number"),
            )
    for name, (of, known) in OPEN.items():
        for ident, value in (("known", known), ("new", "something else"), ("empty", ""), ("capitals", known.upper())):
            g.accept(
                f"val-{name}-{ident}",
                "VAL-7 VAL-7.1" + (" EVT-ARTIFACT-2" if name == "artifact-type" else ""),
                "any string, kept as it is",
                dump(json_with(of, value)),
                json_with(of, value),
                kind="valid" if ident == "known" else "boundary",
                kills={
                    "empty": f"empty-{'required-strings-refused' if name == 'command-type' else 'strings-are-absence'}",
                    "capitals": "open-sets-lower-cased",
                }.get(ident, "open-sets-in-capitals"),
            )
    flag = event("checkpoint", {"run_id": "a", "step": 1, "path": "p", "is_best": "@x"})
    for value in (True, False):
        g.accept(
            f"val-boolean-{str(value).lower()}",
            "VAL-5",
            "a boolean",
            dump(json_with(flag, value)),
            json_with(flag, value),
            kills={True: "booleans-are-false", False: "flags-by-presence"}[value],
        )
    for name, wrong in (("one", 1), ("zero", 0), ("string", "true"), ("list", []), ("float", 1.0)):
        g.refuse(
            f"val-boolean-{name}",
            "VAL-5",
            "nothing else will do",
            dump(json_with(flag, wrong)),
            "bad_type",
            kind="boundary" if name == "zero" else "invalid",
            kills={"one": "numbers-are-booleans"}.get(name, "booleans-by-truth"),
        )
