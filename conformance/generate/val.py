"""What kinds of values a member can hold. docs/spec/values.md, VAL"""

from __future__ import annotations

import sys

from generate import val_slots, val_strings
from generate.dsl import INT64_MAX, INT64_MIN, Group, dump, event, json_with, metric, raw, raw_metric

BINARY64_MAX = sys.float_info.max
SMALLEST = 5e-324


def cases() -> Group:
    """Return the cases."""
    g = Group("val")
    _integers(g)
    _numbers(g)
    _non_finite(g)
    val_slots.free(g)
    val_slots.sets(g)
    val_strings.strings(g)
    return g


def _integers(g: Group) -> None:
    for name, value in (("max", INT64_MAX), ("min", INT64_MIN)):
        g.accept(
            f"val-int64-{name}",
            "VAL-1 VAL-1.4",
            "the last integer there is, kept exactly",
            dump(metric(1, step=value)),
            metric(1, step=value),
            kind="boundary",
            kills={"max": "integers-by-way-of-binary64", "min": "least-integer-refused"}[name],
        )
    g.accept(
        "val-integer-five-billion",
        "VAL-1 VAL-1.1 VAL-1.2 VAL-1.4",
        "an integer of more than 32 bits",
        dump(metric(1, step=5_000_000_000)),
        metric(1, step=5_000_000_000),
        kills="integers-in-32-bits",
    )
    for name, value in (
        ("above", INT64_MAX + 1),
        ("below", INT64_MIN - 1),
        ("far-above", 10**400),
        ("uint64-max", 2**64 - 1),
    ):
        g.refuse(
            f"val-int64-{name}",
            "VAL-1.1",
            "one more is no int64",
            dump(metric(1, step=value)),
            "out_of_range",
            kind="boundary" if name in {"above", "below"} else "invalid",
            kills={"above": "integers-wrap"}.get(name, "integers-saturate"),
        )
    g.accept(
        "val-2-53-plus-1",
        "VAL-1.4",
        "binary64 has no such integer",
        dump(metric(1, step=2**53 + 1)),
        metric(1, step=2**53 + 1),
        kind="boundary",
        kills="integers-by-way-of-binary64",
    )
    g.accept(
        "val-zero",
        "VAL-1",
        "zero is an integer, and no absence",
        dump(metric(1, step=0)),
        metric(1, step=0),
        kind="boundary",
        kills="zero-is-absence",
    )
    for name, value in (
        ("true", True),
        ("string", "1"),
        ("empty-string", ""),
        ("list", [1]),
        ("object", {}),
        ("non-finite", "NaN"),
    ):
        g.refuse(
            f"val-integer-{name}",
            "VAL-1.2",
            "an integer slot takes numbers only",
            dump(metric(1, step=value)),
            "bad_type",
            kind="boundary" if name == "non-finite" else "invalid",
            kills={"true": "booleans-are-integers", "string": "digits-in-strings"}.get(name, "integers-by-cast"),
        )
    for member, of in (
        ("step", metric(1, step=-1)),
        ("epoch", metric(1, epoch=-5)),
        ("ctx.batch_size", metric(1, ctx={"batch_size": -1})),
        ("size", event("artifact", {"run_id": "a", "path": "p", "size": -1})),
        ("duration_ms", event("run_end", {"run_id": "a", "status": "killed", "duration_ms": -1})),
        ("world_size", event("run_start", {"run_id": "a", "world_size": -1}, seq=1)),
    ):
        g.accept(
            f"val-negative-{member.replace('.', '-').replace('_', '-')}",
            "VAL-1.5" + (" EVT-RUN_END-1.1" if member == "duration_ms" else ""),
            "no clause forbids a negative value there",
            dump(of),
            of,
            kind="valid" if member == "epoch" else "boundary",
            kills={"step": "negative-steps-refused"}.get(member, "integers-unsigned"),
        )


def _numbers(g: Group) -> None:
    for name, value in (
        ("integer", 3),
        ("int64-max", INT64_MAX),
        ("int64-min", INT64_MIN),
        ("2-53-plus-1", 2**53 + 1),
        ("zero", 0),
    ):
        g.accept(
            f"val-number-{name}",
            "VAL-2 VAL-2.1",
            "an integer in a number slot stays exactly that integer",
            dump(metric(value)),
            metric(value),
            kind="valid" if name == "integer" else "boundary",
            kills="numbers-are-floats",
        )
    for name, value in (
        ("above", INT64_MAX + 1),
        ("below", INT64_MIN - 1),
        ("uint64", 2**64 - 1),
        ("2-64-plus-1", 2**64 + 1),
        ("thirty-digits", 10**30),
        ("largest", 2**1024 - 2**971),
        ("rounds-to-largest", 2**1024 - 2**970 - 1),
    ):
        g.accept(
            f"val-number-{name}",
            "VAL-2.2",
            "an integer beyond int64 is read as the nearest binary64",
            dump(metric(value)),
            metric(float(value)),
            kind="valid" if name == "thirty-digits" else "boundary",
            kills={"above": "big-integers-refused", "rounds-to-largest": "beyond-largest-refused-unrounded"}.get(
                name, "integers-of-any-size"
            ),
        )
    for name, text, value in (
        ("one-point-zero", "1.0", 1.0),
        ("exponent", "1e3", 1000.0),
        ("tenth", "0.1", 0.1),
        ("third", "0.3333333333333333", 1 / 3),
        ("long", "0.1000000000000000055511151231257827021181583404541015625", 0.1),
        ("largest", "1.7976931348623157e308", BINARY64_MAX),
        ("smallest", "5e-324", SMALLEST),
        ("smallest-normal", "2.2250738585072014e-308", sys.float_info.min),
        ("minus-zero", "-0.0", -0.0),
        ("minus-zero-exponent", "-0e5", -0.0),
        ("tie-to-even", "9007199254740993.0", 9007199254740992.0),
        ("tie-to-even-up", "9007199254740995.0", 9007199254740996.0),
        ("above-tie", "9007199254740993.0000000001", 9007199254740994.0),
        ("rounds-to-largest", "1.7976931348623158e308", BINARY64_MAX),
        ("capital-exponent", "1.5E+3", 1500.0),
        ("1e300", "1e300", 1e300),
    ):
        g.accept(
            f"val-float-{name}",
            "VAL-2.3 VAL-2.4" if name == "1e300" else "VAL-2.3",
            "the nearest binary64, ties to even, the sign of zero kept",
            raw_metric(text),
            metric(value),
            kind="valid" if name in {"tenth", "exponent", "1e300"} else "boundary",
            kills={
                "one-point-zero": "whole-floats-are-integers",
                "tenth": "floats-by-way-of-binary32",
                "third": "floats-by-way-of-binary32",
                "long": "numbers-of-40-characters",
                "largest": "exponents-below-308",
                "smallest": "subnormals-are-zero",
                "minus-zero": "sign-of-zero-lost",
                "tie-to-even": "ties-away-from-zero",
                "tie-to-even-up": "floats-rounded-down",
                "above-tie": "floats-rounded-down",
                "rounds-to-largest": "beyond-largest-refused-unrounded",
                "capital-exponent": "capital-exponents-refused",
                "1e300": "numbers-beyond-binary32-refused",
            }.get(name, "exponents-refused"),
        )
    for name, text in (
        ("1e400", "1e400"),
        ("minus-1e400", "-1e400"),
        ("just-above", "1.7976931348623159e308"),
        ("integer", "9" * 400),
        ("integer-2-1024", str(2**1024)),
        ("integer-tie", str(2**1024 - 2**970)),
        ("long-exponent", "1e99999999999"),
    ):
        g.refuse(
            f"val-number-beyond-{name}",
            "VAL-2.4 VAL-2 VAL-2.2" if "integer" in name else "VAL-2.4 VAL-2 VAL-2.3",
            "it rounds beyond the largest binary64",
            raw_metric(text),
            "out_of_range",
            kind="boundary" if name == "just-above" else "invalid",
            kills="overflow-is-infinity",
        )
    for name, text in (("1e-400", "1e-400"), ("half-the-smallest", "2.4e-324"), ("long-exponent", "1e-99999999999")):
        g.accept(
            f"val-number-tiny-{name}",
            "VAL-2.5",
            "too small for binary64: zero",
            raw_metric(text),
            metric(0.0),
            kind="boundary" if name == "half-the-smallest" else "valid",
            kills="underflow-refused",
        )
    g.accept(
        "val-number-tiny-negative",
        "VAL-2.5 VAL-2.3",
        "and minus zero, where it is negative",
        raw_metric("-1e-400"),
        metric(-0.0),
        kind="boundary",
        kills="underflow-refused",
    )
    g.accept(
        "val-number-bare-minus-zero",
        "VAL-2.7",
        "-0 may be read as the integer 0",
        raw_metric("-0"),
        metric(-0.0),
        or_event=[metric(0)],
        level="MAY",
        kind="boundary",
    )
    for name, value in (("true", True), ("false", False)):
        g.refuse(
            f"val-number-{name}-strict",
            "VAL-2.8",
            "a boolean is no number",
            dump(metric(value)),
            "bad_type",
            reader="strict",
            kills="strict-takes-booleans",
        )
        g.accept(
            f"val-number-{name}-lenient",
            "VAL-2.9",
            "workers in the field send it: 1 or 0",
            dump(metric(value)),
            metric(int(value)),
            reader="lenient",
            kills="lenient-refuses-booleans",
        )
    for word in ("true", "false"):
        g.refuse(
            f"val-number-{word}-in-quotes",
            "VAL-2.9 VAL-2.11 VAL-3.2",
            "in quotes it is a string, and no boolean",
            dump(metric(word)),
            "bad_type",
            reader="lenient",
            kills="booleans-in-quotes",
        )
    g.accept(
        "val-number-true-in-map",
        "VAL-2.9",
        "in a map of numbers too",
        dump(event("metric_batch", {"run_id": "a", "metrics": {"a": True}})),
        event("metric_batch", {"run_id": "a", "metrics": {"a": 1}}),
        reader="lenient",
        kills="lenient-refuses-booleans",
    )
    for name, value in (
        ("string", "0.5"),
        ("list", [1]),
        ("object", {"$float": "NaN"}),
        ("empty-string", ""),
        ("word", "fast"),
    ):
        g.refuse(
            f"val-number-{name}",
            "VAL-2.11 VAL-3.2",
            "a number slot takes numbers, and three strings",
            dump(metric(value)),
            "bad_type",
            kills={"string": "digits-in-strings", "object": "float-form-anywhere"}.get(name, "numbers-by-javascript"),
        )
    for where, of in (
        ("final-metrics", event("run_end", {"run_id": "a", "status": "killed", "final_metrics": {"a": "@x"}})),
        ("checkpoint-metrics", event("checkpoint", {"run_id": "a", "step": 1, "path": "p", "metrics": {"a": "@x"}})),
        ("summary", event("summary", {"run_id": "a", "values": {"a": "@x"}})),
        ("batch", event("metric_batch", {"run_id": "a", "metrics": {"a": "@x"}})),
    ):
        for number, value in (("9007199254740993", 2**53 + 1), ("2.5", 2.5), ('"NaN"', "NaN")):
            kind = {"9007199254740993": "integer", "2.5": "float"}.get(number, "nan")
            expected = json_with(of, value)
            clauses = {"batch": "EVT-METRIC_BATCH-1.2", "summary": "EVT-SUMMARY-1"}.get(where, "")
            g.accept(
                f"val-{where}-{kind}",
                f"VAL-2 VAL-3.1 {clauses}",
                "these are number slots as well",
                raw(of, x=number),
                expected,
                kills={"float": "maps-of-numbers-cut", "nan": "nan-is-null"}.get(
                    kind, "maps-of-numbers-by-way-of-binary64"
                ),
            )
        g.refuse(
            f"val-{where}-beyond",
            "VAL-2.4",
            "and have the same bounds",
            raw(of, x="1e400"),
            "out_of_range",
            kills="overflow-is-infinity",
        )


def _non_finite(g: Group) -> None:
    for name, text in (("nan", "NaN"), ("infinity", "Infinity"), ("minus-infinity", "-Infinity")):
        g.accept(
            f"val-{name}",
            "VAL-3.1 VAL-3.3 VAL-2.11 VAL-3.2 JSN-7.1",
            "read as the binary64 it names, apart from all others",
            dump(metric(text)),
            metric(text),
            kills={
                "nan": "nan-is-null",
                "infinity": "infinities-are-the-largest",
                "minus-infinity": "infinities-are-one",
            }[name],
        )
    g.accept(
        "val-nan-escaped",
        "VAL-3.1 JSN-1.8",
        "with an escape in it, it is the same string",
        raw_metric('"\\u004eaN"'),
        metric("NaN"),
        kind="boundary",
        kills="nan-compared-before-escapes",
    )
    for text in ("nan", "inf", "+Infinity", "-NaN", "Infinity ", "1e5", "NAN"):
        ident = (
            text.strip().replace("+", "plus-").replace("-NaN", "minus-nan").lower()
            + ("-caps" if text.isupper() else "")
            + ("-space" if text[-1] == " " else "")
        )
        g.refuse(
            f"val-string-{ident}",
            "VAL-3.2 VAL-2.11",
            f'"{text}" is none of the three strings',
            dump(metric(text)),
            "bad_type",
            kind="boundary" if text in {"Infinity ", "NAN"} else "invalid",
            kills={"nan": "any-spelling-of-nan", "inf": "any-spelling-of-nan"}.get(
                ident, "strings-of-numbers-by-python"
            ),
        )
