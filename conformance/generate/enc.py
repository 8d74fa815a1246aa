"""What a writer writes. docs/spec: the clauses that bind writers"""

from __future__ import annotations

import math
import sys
from typing import Any

from generate import enc_odd
from generate.dsl import Group, event, log, metric, param
from generate.evt import full, minimal
from xtrack_conformance.slots import CONTROL, EVENTS, read_event
from xtrack_conformance.values import tag

SID = "5f0c9d1e2b3a48576a7b8c9d0e1f2a3b"


def cases() -> Group:
    """Return the cases."""
    g = Group("enc")
    _events(g)
    _again(g)
    _numbers(g)
    _strings(g)
    _unwritable(g)
    enc_odd.cases(g)
    return g


def _events(g: Group) -> None:
    g.encode(
        "enc-metric",
        "FRM-1 FRM-1.1 FRM-2.1 ENV-7.4 ENV-2.1 ENV-4.8 JSN-6.4",
        "the simplest event",
        metric(),
        kills="writes-length-little-endian writes-length-of-itself",
    )
    g.encode(
        "enc-order",
        "ENV-7 FRM-1.4",
        "t, v, m, p, without white space",
        metric(seq=5, step=1),
        level="SHOULD",
        kills="writes-v-first writes-spaces",
    )
    g.encode(
        "enc-no-white-space-around",
        "FRM-1.4 ENV-7",
        "nothing stands before or after the text",
        log(),
        kind="boundary",
        kills="writes-a-newline",
    )
    for event_type, members in {**EVENTS, **CONTROL}.items():
        seq = 0 if event_type in CONTROL else 3
        name = event_type.replace("_", "-")
        clauses = "ENV-4.2 ENV-7.2 ENV-7.4 CTL-1.2 CTL-1.6" if event_type in CONTROL else "ENV-7.2 ENV-7.4 EVT-1"
        g.encode(
            f"enc-{name}-minimal",
            f"{clauses} JSN-6.4",
            "absent members are left out",
            event(event_type, minimal(members), seq=seq),
            kind="boundary",
            kills={
                "metric": "writes-null-for-absence",
                "metric-batch": "writes-maps-as-pairs",
                "tags": "writes-maps-as-pairs",
                "summary": "writes-maps-as-pairs",
                "ping": "writes-no-empty-bodies",
                "pong": "writes-no-empty-bodies",
            }.get(name, "writes-null-for-all-absent"),
        )
        if full(members) != minimal(members):
            g.encode(
                f"enc-{name}-full",
                f"{clauses} JSN-5.3" + (" EVT-RUN_START-5.3" if event_type == "run_start" else ""),
                "every member, by its name on the wire",
                event(event_type, full(members), seq=seq),
                kills={
                    "run-start": "writes-no-booleans",
                    "run-end": "writes-no-integers",
                    "param": "writes-no-lists",
                    "metric": "writes-no-context",
                    "metric-batch": "writes-no-integers",
                    "artifact": "writes-no-maps",
                    "checkpoint": "writes-names-of-python",
                    "status": "writes-no-objects",
                    "log": "writes-no-maps",
                    "command": "writes-no-maps",
                    "ack": "writes-no-lists",
                    "hello": "writes-no-lists",
                    "welcome": "writes-no-lists",
                    "open": "writes-no-booleans",
                    "subscribe": "writes-no-booleans",
                }.get(name, "writes-no-strings"),
            )
    g.encode(
        "enc-ids",
        "ENV-3 ENV-3.4",
        "worker id and session id",
        event("metric", metric()["p"], wid="rank0", sid=SID),
        kills="writes-no-worker",
    )
    g.encode(
        "enc-no-wid",
        "ENV-3.5 JSN-6.4",
        "no worker id: the member is left out",
        event("metric", metric()["p"], sid=SID),
        kind="boundary",
        kills="writes-null-for-absence",
    )
    g.encode(
        "enc-meta-bounds",
        "VAL-1 VAL-1.4",
        "the ends of int64",
        event("metric", metric()["p"], seq=2**63 - 1, ts=-(2**63)),
        kind="boundary",
        kills="writes-no-least-integer",
    )
    g.encode(
        "enc-unknown-type",
        "ENV-7.4 ENV-5.2",
        "an event of unknown type, as it was decoded",
        event("energy", {"run_id": "a", "joules": 1.5, "more": [None, {"a": True}]}),
        kills="writes-no-unknown-bodies",
    )
    run = event("run_start", {"run_id": {"id": "a", "exp_id": "e"}}, seq=1)
    g.encode(
        "enc-run-id-object", "EVT-1.6 ENV-4.8 EVT-1.9", "an experiment is written", run, kills="writes-run-ids-as-text"
    )
    many = event("metric_batch", {"run_id": "a", "metrics": {f"m{n}": n / 8 for n in range(300)}})
    g.encode(
        "enc-large",
        "FRM-1 ENV-7.3",
        "a length that takes two bytes",
        many,
        kind="boundary",
        kills="writes-length-little-endian",
    )


def _again(g: Group) -> None:
    of = event(
        "log",
        {
            "run_id": "a",
            "level": "info",
            "msg": "x",
            "fields": {"b": 1, "a": [0.1, {"$float": "NaN"}], "c": {"d": None}},
        },
        wid="w",
        sid=SID,
    )
    g.encode(
        "enc-same-bytes",
        "ENV-7.3 ENV-7.5",
        "the same event gives the same bytes, whatever was written between",
        of,
        kills="writes-in-changing-order",
    )
    g.encode(
        "enc-no-name-twice",
        "JSN-5.3 ENV-7.2",
        "no object of it has a name twice",
        event("alert", {"run_id": "a", "title": "t", "level": "error", "text": "x", "key": "k"}),
        kind="boundary",
        kills="writes-a-name-twice",
    )


def _numbers(g: Group) -> None:
    for name, value in (("nan", "NaN"), ("infinity", "Infinity"), ("minus-infinity", "-Infinity")):
        g.encode(
            f"enc-{name}",
            "VAL-3 JSN-7.5",
            "a string in a number slot, and no bare token",
            metric(value),
            kills={"nan": "writes-bare-tokens writes-nan-as-null"}.get(name, "writes-bare-tokens"),
        )
        g.encode(
            f"enc-{name}-in-map",
            "VAL-3",
            "in a map of numbers too",
            event("summary", {"run_id": "a", "values": {"a": value}}),
            kills="writes-non-finite-as-javascript",
        )
        g.encode(
            f"enc-{name}-free",
            "VAL-4.2 JSN-7.5",
            "an object with the member $float in a free slot",
            param({"a": [{"$float": value}]}),
            kills={"nan": "writes-nan-as-string-in-free-slots"}.get(name, "writes-forms-as-strings"),
        )
    for name, number in (
        ("tenth", 0.1),
        ("third", 1 / 3),
        ("largest", sys.float_info.max),
        ("smallest", 5e-324),
        ("smallest-normal", sys.float_info.min),
        ("2-53", 2.0**53),
        ("1e21", 1e21),
        ("1e22", 1e22),
        ("1e23", 1e23),
        ("tiny", 1e-7),
        ("pi", 3.141592653589793),
        ("long", 123456789.12345679),
    ):
        g.encode(
            f"enc-float-{name}",
            "VAL-2.6",
            "digits from which the same binary64 is read back",
            metric(number),
            kind="boundary" if "est" in name else "valid",
            kills={
                "tenth": "writes-floats-by-way-of-binary32",
                "smallest": "writes-six-decimals",
                "2-53": "writes-floats-as-javascript",
                "1e21": "writes-floats-by-way-of-binary32",
                "1e22": "writes-floats-by-way-of-binary32",
                "1e23": "writes-floats-by-way-of-binary32",
                "tiny": "writes-six-decimals",
            }.get(name, "writes-six-digits"),
        )
        g.encode(
            f"enc-float-{name}-free",
            "VAL-2.6 VAL-4.1 VAL-4.5",
            "in a free slot too",
            param([number]),
            kills={
                "tenth": "writes-floats-by-way-of-binary32",
                "smallest": "writes-six-decimals",
                "2-53": "writes-floats-as-javascript",
                "1e21": "writes-floats-by-way-of-binary32",
                "1e22": "writes-floats-by-way-of-binary32",
                "1e23": "writes-floats-by-way-of-binary32",
                "tiny": "writes-six-decimals",
            }.get(name, "writes-six-digits"),
        )
    for name, zero in (("one-point-zero", 1.0), ("minus-zero", -0.0), ("zero-point-zero", 0.0), ("1e16", 1e16)):
        g.encode(
            f"enc-float-{name}",
            "VAL-2.6 ENV-7.4",
            "a float with an integral value stays a float",
            metric(zero),
            kind="boundary",
            kills={"one-point-zero": "writes-whole-floats-as-integers"}.get(name, "writes-floats-as-javascript"),
        )
    for name, whole in (("int64-max", 2**63 - 1), ("int64-min", -(2**63)), ("2-53-plus-1", 2**53 + 1), ("zero", 0)):
        g.encode(
            f"enc-number-{name}",
            "VAL-1.4 VAL-2.1",
            "an integer stays exactly that integer",
            metric(whole, step=whole),
            kind="boundary",
            kills={"int64-min": "writes-no-least-integer", "zero": "writes-no-zeros"}.get(
                name, "writes-integers-by-way-of-binary64"
            ),
        )
        kind = "valid" if name == "2-53-plus-1" else "boundary"
        g.encode(
            f"enc-free-{name}",
            "VAL-4.1 VAL-4.7",
            "in a free slot too",
            param([whole]),
            kind=kind,
            kills={"int64-min": "writes-no-least-integer"}.get(name, "writes-free-integers-by-way-of-binary64"),
        )
    g.encode(
        "enc-step-minus",
        "JSN-4.2 VAL-1 VAL-1.5",
        "digits behind a minus",
        metric(1, step=-5),
        kills="writes-steps-with-a-fraction",
    )
    g.encode(
        "enc-step-digits",
        "JSN-4.2",
        "an integer slot is written in digits",
        metric(1, step=10**18),
        kind="boundary",
        kills="writes-integers-by-way-of-binary64",
    )


def _strings(g: Group) -> None:
    for name, text in (
        ("empty", ""),
        ("controls", "".join(map(chr, range(32)))),
        ("delete", "\x7f"),
        ("quotes", '"\\/'),
        ("emoji", "\U0001f600"),
        ("bmp", "\ud7ff\ue000\uffff"),
        ("last", "\U0010ffff"),
        ("separators", "\u2028\u2029"),
        ("combining", "e\u0301"),
        ("accent", "\u00e9"),
        ("long", "x" * 10_000),
        ("literal-escape", "\\u0041"),
        ("looks-like-nan", "NaN"),
    ):
        g.encode(
            f"enc-string-{name}",
            "VAL-9 JSN-1 JSN-1.8" + (" JSN-3.1" if name in {"emoji", "last"} else ""),
            "any characters come back as they were",
            log(text),
            kind="boundary" if name in {"empty", "controls", "last"} else "valid",
            kills={
                "empty": "writes-no-empty-strings",
                "controls": "writes-bare-controls",
                "delete": "writes-no-control-characters",
                "quotes": "writes-quotes-bare",
                "combining": "writes-strings-normalised",
                "accent": "writes-latin-1",
                "long": "writes-strings-cut",
                "literal-escape": "writes-backslashes-bare",
                "looks-like-nan": "writes-words-for-strings",
            }.get(name, "writes-ascii-alone"),
        )
    for name, key in (
        ("empty", ""),
        ("dots", "a.b"),
        ("quote", 'a"b'),
        ("newline", "a\nb"),
        ("emoji", "\U0001f600"),
        ("dollar", "$float"),
    ):
        g.encode(
            f"enc-map-name-{name}",
            "VAL-9.4",
            "names of a map come back as they were",
            event("tags", {"run_id": "a", "tags": {key: "v"}}),
            kind="boundary",
            kills={"empty": "writes-no-empty-names"}.get(name, "writes-names-cleaned"),
        )
    g.encode(
        "enc-free-values",
        "VAL-4 VAL-2.10",
        "every kind of JSON value in a free slot",
        param([None, True, False, 1, 1.5, "x", "NaN", [], {}, {"a": {"b": []}}]),
        kills="writes-no-nulls-in-free-slots",
    )
    g.encode(
        "enc-null-param",
        "JSN-6.2 EVT-PARAM-1.1",
        "null is a value here, and is written",
        param(None),
        kind="boundary",
        kills="drops-null-params",
    )
    g.encode(
        "enc-empty-object-param",
        "EVT-PARAM-1.1",
        "so is {}",
        param({}),
        kind="boundary",
        kills="writes-no-empty-objects",
    )
    g.encode(
        "enc-free-no-form",
        "VAL-4.4 VAL-4.5",
        "an object that only looks like the form of a float",
        param({"$float": "nan"}),
        kind="boundary",
        kills="refuses-all-that-looks-like-a-form",
    )
    deep: Any = []
    for _ in range(61):
        deep = [deep]
    g.encode(
        "enc-depth-64", "JSN-2.1", "64 are open at once", param(deep), kind="boundary", kills="writes-63-levels-at-most"
    )


def _unwritable(g: Group) -> None:
    def value(of: dict[str, Any], *path: str, to: Any) -> dict[str, Any]:
        result: Any = read_event(of)
        place = result
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to
        return dict(result)

    deep: Any = []
    for _ in range(62):
        deep = [deep]
    g.encode_value(
        "enc-depth-65",
        "JSN-2",
        "readers refuse 65 levels: a writer must not write them",
        value(param(1), "p", "value", to=deep),
        {"rejected": {}},
        kind="boundary",
        kills="writes-any-depth",
    )
    for name, text in (("high", "\ud83d"), ("low", "x\ude00"), ("reversed", "\ude00\ud83d")):
        broken = value(log(), "p", "msg", to=text)
        g.encode_value(
            f"enc-surrogate-{name}",
            "JSN-3.1 JSN-1.2",
            "half of a surrogate pair must not be written, in any form: refused, or another text in its place",
            broken,
            {"rejected": {}},
            also_allowed=[{"not_event": tag(broken)}],
            needs=["lone_surrogates"],
            kills="writes-lone-surrogates",
        )
    beyond = value(param(1), "p", "value", to=2**63)
    g.encode_value(
        "enc-free-beyond-int64",
        "VAL-4.7",
        "an integer beyond int64 must not be written into a free slot",
        beyond,
        {"rejected": {}},
        also_allowed=[{"not_event": tag(beyond)}],
        kind="boundary",
        kills="writes-big-integers",
    )
    far = value(param(1), "p", "value", to=[{"a": -(10**30)}])
    g.encode_value(
        "enc-free-far-beyond-int64",
        "VAL-4.7",
        "nor one of thirty digits, inside of a list or a map",
        far,
        {"rejected": {}},
        also_allowed=[{"not_event": tag(far)}],
        kills="writes-big-integers",
    )
    form = value(param(1), "p", "value", to={"$float": "NaN"})
    g.encode_value(
        "enc-free-fake-form",
        "VAL-4.5",
        "a user's object that a reader would take for a number",
        form,
        {"rejected": {}},
        also_allowed=[{"not_event": tag(value(param(1), "p", "value", to=float("nan")))}],
        kills="writes-fake-float-forms",
    )
    flag = value(metric(1), "p", "value", to=True)
    g.encode_value(
        "enc-boolean-metric",
        "VAL-2.10",
        "a boolean that is given as a number is written as 1, or refused",
        flag,
        {"event": metric(1)},
        also_allowed=[{"rejected": {}}],
        kills="writes-booleans-as-numbers",
    )
    negative = tag(value(metric(1), "p", "value", to=math.nan))
    negative["v"][3][1]["v"][2][1]["v"] = "fff8000000000001"  # a NaN with its sign and a spare bit
    g.add(
        "enc-nan-with-bits",
        "encoder",
        "VAL-3.4 VAL-3",
        "the sign and the spare bits of not-a-number may be lost",
        kind="boundary",
        level="MAY",
        input={"value": negative},
        expect={"event": metric("NaN")},
    )
    big = value(metric(1), "p", "value", to=2**64)
    g.encode_value(
        "enc-number-beyond-int64",
        "VAL-2",
        "a number slot holds an int64 or a binary64",
        big,
        {"event": metric(float(2**64))},
        also_allowed=[{"rejected": {}}],
        kind="boundary",
        kills="saturates-big-integers",
    )
