"""Events that a writer may not write as they are given. docs/spec: refused, or in another form that a clause names"""

from __future__ import annotations

import math
from typing import Any

from generate.dsl import INT64_MAX, Group, Json, event, log, metric, param
from xtrack_conformance.slots import read_event
from xtrack_conformance.values import Value

DIGEST = "0123456789abcdef" * 4


def cases(g: Group) -> None:
    """Add the cases."""
    _seqs(g)
    _values(g)
    _depth(g)
    _checksums(g)
    _absence(g)
    _run_ids(g)


def given(of: Json, *path: str | int, to: Any) -> Any:
    """Return the event that a wire tree stands for, with another value in one place."""
    result: Any = read_event(of)
    place = result
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return result


def nested(value: Any, levels: int) -> Any:
    """Return a value inside of so many lists."""
    for _ in range(levels):
        value = [value]
    return value


def _refused_or(g: Group, case_id: str, clauses: str, why: str, value: Value, *written: Json, **more: Any) -> None:
    """Add an event that is refused, or written as one of these."""
    members = {"also_allowed": [{"event": other} for other in written], **more}
    g.encode_value(case_id, clauses, why, value, {"rejected": {}}, **members)


def _seqs(g: Group) -> None:
    for ident, seq in (("zero", 0), ("minus-1", -1), ("least", -(2**63))):
        _refused_or(
            g,
            f"enc-seq-{ident}",
            "ENV-4.8",
            "events of a run are numbered from 1: every reader would refuse this one",
            given(metric(), "m", "seq", to=seq),
            kind="boundary" if ident == "zero" else "invalid",
            kills="writes-any-seq",
        )
    for ident, seq in (("zero", 0), ("minus-1", -1)):
        g.encode(
            f"enc-unknown-type-seq-{ident}",
            "ENV-4.4 ENV-7.4",
            "an event of unknown type keeps the seq it has",
            event("energy", {"joules": 1}, seq=seq),
            kind="boundary",
            kills="numbers-unknown-types-from-1",
        )
    for ident, version in (("2", 2), ("0", 0)):
        _refused_or(
            g,
            f"enc-version-{ident}",
            "ENV-2.1",
            "a writer of this version writes no other: refused, or written as 1",
            given(metric(), "v", to=version),
            metric(),
            kind="boundary" if version == 0 else "invalid",
            kills="writes-any-version",
        )
    g.encode(
        "enc-smallest",
        "FRM-2.1 ENV-7.4 ENV-5.2",
        "an event whose type and body are empty has a payload all the same",
        event("", {}, seq=0, ts=0),
        kind="boundary",
        kills="writes-nothing-for-an-empty-event",
    )
    ping, ack = event("ping", {}, seq=0), event("ack", {"seq": 4, "status": "ok", "sid": "s"}, seq=0)
    for ident, of, name, value in (
        ("seq-1", ping, "seq", 1),
        ("seq-minus-1", ping, "seq", -1),
        ("seq-last", ack, "seq", INT64_MAX),
        ("sid", ping, "sid", "5f0c9d1e2b3a48576a7b8c9d0e1f2a3b"),
        ("sid-of-ack", ack, "sid", "s"),
    ):
        _refused_or(
            g,
            f"enc-control-{ident}",
            "CTL-1.6 CTL-1" + ("" if name == "sid" else " ENV-4.2"),
            "a control event has seq 0 and no sid in m: refused, or written so",
            given(of, "m", name, to=value),
            of,
            kind="boundary" if ident == "seq-1" else "invalid",
            kills={"sid": "writes-sid-of-control-events", "sid-of-ack": "writes-sid-of-control-events"}.get(
                ident, "writes-any-seq"
            ),
        )


def _values(g: Group) -> None:
    start = event("run_start", {"run_id": "a", "env": {"gpu_info": [{"name": "A100", "memory": 1}]}}, seq=1)
    left_out = event("run_start", {"run_id": "a", "env": {"gpu_info": [{"name": "A100"}]}}, seq=1)
    for ident, value in (("nan", math.nan), ("infinity", math.inf), ("minus-infinity", -math.inf)):
        _refused_or(
            g,
            f"enc-memory-{ident}",
            "EVT-RUN_START-5.3 JSN-7.5",
            "a string would be read as that string, so there is no form for it: refused, or left out",
            given(start, "p", "env", "gpu_info", 0, "memory", to=value),
            left_out,
            kills={"nan": "writes-any-memory"}.get(ident, "writes-infinite-memory"),
        )
    named = event("run_start", {"run_id": "a", "env": {"gpu_info": [{"memory": "NaN"}]}}, seq=1)
    g.encode(
        "enc-memory-text-nan",
        "EVT-RUN_START-5.3 EVT-RUN_START-5.1",
        "a string of that spelling is a string there, and is written",
        named,
        kind="boundary",
        kills="refuses-memory-named-nan",
    )
    for ident, whole in (("2-63", 2**63), ("below", -(2**63) - 1), ("30-digits", 10**30)):
        _refused_or(
            g,
            f"enc-number-in-map-{ident}",
            "VAL-2.12",
            "an integer beyond int64 in a number slot: refused, or written as the nearest binary64 would be read",
            given(event("summary", {"run_id": "a", "values": {"a": 1}}), "p", "values", "a", to=whole),
            event("summary", {"run_id": "a", "values": {"a": float(whole)}}),
            kind="boundary" if ident != "30-digits" else "invalid",
            kills={"2-63": "cuts-big-integers"}.get(ident, "saturates-big-integers"),
        )
    g.encode(
        "enc-number-in-map-17-digits",
        "VAL-2.12 VAL-2.1",
        "an integer within int64 is written as it is, however long",
        event("summary", {"run_id": "a", "values": {"a": 10**16 + 1}}),
        kills="writes-integers-by-way-of-binary64",
    )
    flags = event("summary", {"run_id": "a", "values": {"a": 1, "b": 0}})
    g.encode_value(
        "enc-booleans-in-map",
        "VAL-2.10",
        "in a map of numbers booleans are written as 1 and 0, too, or refused",
        given(flags, "p", "values", to={"a": True, "b": False}),
        {"event": flags},
        also_allowed=[{"rejected": {}}],
        kind="boundary",
        kills="writes-booleans-as-numbers",
    )
    _refused_or(
        g,
        "enc-number-beyond-binary64",
        "VAL-2.12",
        "an integer beyond binary64: every reader would refuse it",
        given(metric(1), "p", "value", to=10**399),
        kills="writes-endless-integers",
    )
    for ident, value, digits in (("float", 3.0, 3), ("minus-zero", -0.0, 0), ("true", True, 1)):
        g.encode_value(
            f"enc-integer-given-{ident}",
            "JSN-4.3 JSN-4.2",
            "for an integer slot it may be taken as that integer, or refused",
            given(metric(1, step=7), "p", "step", to=value),
            {"event": metric(1, step=digits)},
            also_allowed=[{"rejected": {}}],
            level="MAY",
            kind="valid" if ident == "float" else "boundary",
        )
    _refused_or(
        g,
        "enc-integer-given-fraction",
        "VAL-1 JSN-4.2 JSN-4.3 ENV-7.4",
        "a number with a fraction is no integer",
        given(metric(1, step=7), "p", "step", to=1.5),
        kills="writes-fractions-in-integer-slots",
    )
    form = {"$float": "NaN"}
    g.encode(
        "enc-map-of-free-form",
        "VAL-4.9 ENV-7.4",
        "a map of free is no free slot: this is a map of one name",
        log(fields=form),
        kind="boundary",
        kills="refuses-all-that-looks-like-a-form",
    )
    g.encode(
        "enc-unknown-type-form",
        "ENV-5.8 ENV-7.4",
        "nor is the body of an unknown type",
        event("energy", form),
        kind="boundary",
        kills="refuses-all-that-looks-like-a-form",
    )
    g.encode(
        "enc-unknown-type-free",
        "ENV-5.7 VAL-4.2",
        "but its members are free slots",
        event("energy", {"a": form, "b": [{"$float": "-Infinity"}, "NaN"]}),
        kills="writes-strings-in-unknown-types",
    )
    g.encode(
        "enc-map-order",
        "ENV-7.5 VAL-9.7",
        "the names of a map in an order of their own; the bytes may follow it or not",
        event("tags", {"run_id": "a", "tags": {"z": "1", "a": "2", "m": "3"}}),
        level="MAY",
        kind="boundary",
    )
    g.encode(
        "enc-failed-without-error",
        "ENV-7.4 EVT-1",
        "a worker of before may have sent it: a codec writes what it is given",
        event("run_end", {"run_id": "a", "status": "failed"}, seq=9),
        kind="boundary",
        kills="needs-an-error-to-write",
    )
    g.encode(
        "enc-repository-with-user",
        "ENV-7.4 EVT-1",
        "who makes the event sees to credentials: a codec changes nothing",
        event("run_start", {"run_id": "a", "source": {"git_repo": "ssh://git@host/me@home/x"}}, seq=1),
        kind="boundary",
        kills="cuts-users-out-of-urls",
    )


def _depth(g: Group) -> None:
    g.encode(
        "enc-depth-42",
        "JSN-2.4 JSN-2.1",
        "less than 64 are open, however many that may be",
        param(nested([], 39)),
        kills="writes-32-levels-at-most",
    )
    _refused_or(
        g,
        "enc-depth-102",
        "JSN-2.4",
        "far more than 64",
        given(param(1), "p", "value", to=nested([], 99)),
        kills="writes-any-depth",
    )
    unknown = event("energy", {"a": 1})
    for ident, of, path, levels in (("", param(1), "value", 61), ("-unknown-type", unknown, "a", 61)):
        g.encode_value(
            f"enc-depth-64-form{ident}",
            "JSN-2.1 JSN-2.4 VAL-4.2 JSN-7.5",
            "64 are open at once, the last one the object of a float",
            given(of, "p", path, to=nested(math.nan, levels)),
            {"event": {**of, "p": {**of["p"], path: nested({"$float": "NaN"}, levels)}}},
            kind="boundary",
            kills="writes-63-levels-at-most",
        )
        _refused_or(
            g,
            f"enc-depth-65-form{ident}",
            "JSN-2.4 VAL-4.2",
            "the object of a float is the 65th: it counts like any other",
            given(of, "p", path, to=nested(math.nan, levels + 1)),
            kind="boundary",
            kills={"": "forms-take-no-level", "-unknown-type": "writes-any-depth"}[ident],
        )
    _refused_or(
        g,
        "enc-depth-65-unknown-type",
        "JSN-2.4",
        "the rule holds in the body of an unknown type too",
        given(unknown, "p", "a", to=nested([], 62)),
        kind="boundary",
        kills="writes-any-depth",
    )


def _checksums(g: Group) -> None:
    def artifact(checksum: str) -> Json:
        return event("artifact", {"run_id": "a", "path": "p", "checksum": checksum})

    wanted = artifact(f"sha256:{DIGEST}")
    for ident, text in (
        ("bare", DIGEST),
        ("bare-capitals", DIGEST.upper()),
        ("capitals", f"sha256:{DIGEST.upper()}"),
        ("mixed", f"sha256:{DIGEST[:32].upper()}{DIGEST[32:]}"),
    ):
        g.encode_value(
            f"enc-checksum-{ident}",
            "VAL-8",
            "whichever form it is given, a SHA-256 is written in one",
            given(wanted, "p", "checksum", to=text),
            {"event": wanted},
            kind="valid",
            kills={"capitals": "writes-checksums-in-capitals"}.get(ident, "writes-bare-checksums"),
        )
    g.encode("enc-checksum", "VAL-8", "this one", wanted, kills="writes-checksums-in-capitals")
    for ident, text in (
        ("md5", "md5:" + "AB" * 16),
        ("63-digits", DIGEST.upper()[1:]),
        ("65-digits", "A" + DIGEST),
        ("prefix-in-capitals", f"SHA256:{DIGEST.upper()}"),
        ("no-hexadecimal", "sha256:" + "G" * 64),
        ("no-digits", "G" * 64),
        ("empty", ""),
        ("newline", f"{DIGEST.upper()}\n"),
    ):
        g.encode(
            f"enc-checksum-other-{ident}",
            "VAL-8.4 VAL-8" if ident == "no-digits" else "VAL-8.4",
            "a checksum of any other form stays as it is",
            artifact(text),
            kind={"md5": "valid", "no-digits": "invalid"}.get(ident, "boundary"),
            kills={"no-digits": "writes-any-64-letters-as-sha256", "empty": "writes-no-empty-strings"}.get(
                ident, "writes-all-checksums-small"
            ),
        )
    g.encode(
        "enc-code-hash",
        "VAL-8.4 ENV-7.4",
        "code_hash is a plain string, and no checksum",
        event("run_start", {"run_id": "a", "source": {"code_hash": DIGEST.upper()}}, seq=1),
        kind="boundary",
        kills="writes-code-hash-as-checksum",
    )


def _absence(g: Group) -> None:
    sent = event("metric", metric(1)["p"], sid="s")
    for ident, clauses, path in (("step", "JSN-6.4", ("p", "step")), ("wid", "ENV-3.5 JSN-6.4", ("m", "wid"))):
        _refused_or(
            g,
            f"enc-null-{ident}",
            clauses,
            "null is no value of such a member: it is absent, and left out, or refused",
            given(sent, *path, to=None),
            sent,
            kills="writes-null-for-absence",
        )
    for ident, of, path, value in (
        ("list-for-map", log(fields={"a": 1}), "fields", []),
        ("map-for-list", param(1, nested_key=["a"]), "nested_key", {}),
    ):
        _refused_or(
            g,
            f"enc-empty-{ident}",
            "JSN-6.8 EVT-1",
            "of the wrong kind: refused, or left out where a language has but one kind; readers refuse it if written",
            given(of, "p", path, to=value),
            {**of, "p": {name: item for name, item in of["p"].items() if name != path}},
            kind="boundary",
            kills={"list-for-map": "writes-lists-for-maps", "map-for-list": "writes-maps-for-lists"}[ident],
        )
    _refused_or(
        g,
        "enc-list-for-map",
        "JSN-6.8 EVT-1",
        "a list has no place in a map slot",
        given(log(fields={"a": 1}), "p", "fields", to=[1]),
        kills="writes-lists-for-maps",
    )
    g.encode(
        "enc-empty-object",
        "JSN-6.7 ENV-7.4",
        "an empty object is no absence, and is written",
        metric(1, ctx={}),
        kind="boundary",
        kills="writes-no-empty-objects",
    )
    g.encode(
        "enc-empty-key",
        "JSN-6.6 ENV-7.4",
        'a key of "" is a string, and no absence',
        event("hello", {"protocols": [1], "auth": {"scheme": "key", "key": ""}}, seq=0),
        kind="boundary",
        kills="writes-no-empty-strings",
    )
    g.encode(
        "enc-empty-sid-required",
        "JSN-6.6 ENV-7.4",
        'so is "" in a sid that is required',
        event("open", {"run_id": "a", "sid": ""}, seq=0),
        kind="boundary",
        kills="writes-no-empty-strings",
    )


def _run_ids(g: Group) -> None:
    for ident, of in (
        ("of-metric", metric()),
        ("of-ack", event("ack", {"seq": 1, "status": "ok", "run_id": "a"}, seq=0)),
    ):
        whole = {**of, "p": {**of["p"], "run_id": {"id": "a", "exp_id": "e"}}}
        g.encode_value(
            f"enc-run-id-object-{ident}",
            "EVT-1.9",
            "an experiment outside of run_start: written, left out, or refused",
            read_event(whole),
            {"event": whole},
            also_allowed=[{"event": of}, {"rejected": {}}],
            level="MAY",
            kind="boundary" if ident == "of-ack" else "invalid",
        )
