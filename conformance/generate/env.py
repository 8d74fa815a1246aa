"""The four members around every event. docs/spec/envelope.md"""

from __future__ import annotations

from generate.dsl import Group, dump, event, log, metric, raw

OK = metric()


def cases() -> Group:
    """Return the cases."""
    g = Group("env")
    _members(g)
    _meta(g)
    _unknown(g)
    return g


def _without(name: str) -> str:
    return dump({key: value for key, value in OK.items() if key != name})


def _members(g: Group) -> None:
    g.accept(
        "env-writers-order", "ENV-1 ENV-7 ENV-1.1 ENV-2 ENV-3.1", "t, v, m, p", dump(OK), OK, kills="fractions-dropped"
    )
    orders = ["vtmp", "pmtv", "mpvt", "vmtp"]
    for order in orders:
        text = dump({name: OK[name] for name in order})
        g.accept(
            f"env-order-{order}",
            "ENV-1.2 ENV-7.1",
            f"the order {', '.join(order)} means the same",
            text,
            OK,
            kind="boundary" if order == "pmtv" else "valid",
            kills={"pmtv": "type-must-come-first"}.get(order, "writers-order-required"),
        )
    body = {"value": 0.5, "key": "k", "run_id": "a"}
    g.accept(
        "env-order-inside",
        "ENV-1.2",
        "in m and p too",
        dump({"v": 1, "t": "metric", "m": {"ts": 1, "seq": 2}, "p": body}),
        OK,
        kills="writers-order-required",
    )
    for name in "vtmp":
        g.refuse(
            f"env-without-{name}",
            "ENV-1.1",
            f"{name} is required",
            _without(name),
            "bad_envelope",
            kills={
                "v": "version-may-be-absent",
                "t": "type-may-be-absent",
                "m": "meta-may-be-absent",
                "p": "body-may-be-absent",
            }[name],
        )
        g.refuse(
            f"env-null-{name}",
            "ENV-1.1",
            f"null is no {name}",
            dump({**OK, name: None}),
            "bad_envelope",
            kills={
                "v": "version-may-be-null",
                "t": "type-may-be-absent",
                "m": "meta-may-be-null",
                "p": "body-may-be-absent",
            }[name],
        )
    for name, value, ident in (("v", "1", "string"), ("v", True, "true"), ("v", 1.5, "fraction"), ("v", [1], "list"),
                               ("t", 1, "number"), ("t", ["metric"], "list"), ("t", True, "true"), ("m", [], "list"),
                               ("m", "x", "string"), ("m", 1, "number"), ("p", [], "list"), ("p", "x", "string"),
                               ("p", 0, "number")):  # fmt: skip
        g.refuse(
            f"env-{name}-{ident}",
            "ENV-1.1",
            "a value that doesn't fit its slot",
            dump({**OK, name: value}),
            "bad_envelope",
            kills={
                "v": {"fraction": "version-cut", "string": "version-in-a-string"}.get(
                    ident, "version-compared-loosely"
                ),
                "t": "types-of-anything",
                "m": "meta-of-anything",
                "p": "body-of-anything",
            }[name],
        )
    for ident, text in (
        ("list", "[1,2]"),
        ("string", '"x"'),
        ("number", "1"),
        ("null", "null"),
        ("true", "true"),
        ("empty-list", "[]"),
        ("empty-object", "{}"),
        ("list-of-it", f"[{dump(OK)}]"),
    ):
        g.refuse(
            f"env-payload-{ident}",
            "ENV-1.1 ENV-1",
            "the payload is no object with the four members",
            text,
            "bad_envelope",
            kind="boundary" if "empty" in ident else "invalid",
            kills={"empty-object": "type-may-be-absent", "list-of-it": "envelope-in-a-list"}.get(
                ident, "any-json-is-an-event"
            ),
        )
    for version in (0, 2, -1, 3, 256, 2**31):
        g.refuse(
            f"env-version-{'minus-1' if version < 0 else version}",
            "ENV-2",
            "this reader knows version 1 only",
            dump({**OK, "v": version}),
            "unsupported_version",
            kind="boundary" if version in {0, 2} else "invalid",
            kills={0: "earlier-versions-taken", 2: "version-2-taken", -1: "earlier-versions-taken"}.get(
                version, "later-versions-taken"
            ),
        )
    for ident, version in (("int64-max", 2**63 - 1), ("int64-min", -(2**63))):
        g.refuse(
            f"env-version-{ident}",
            "ENV-2",
            "the last versions there could be",
            dump({**OK, "v": version}),
            "unsupported_version",
            kind="boundary",
            kills={"int64-max": "later-versions-taken", "int64-min": "earlier-versions-taken"}[ident],
        )
    for ident, version_text in (("2-63", str(2**63)), ("2-64-plus-1", str(2**64 + 1)), ("1e400", "1e400")):
        g.refuse(
            f"env-version-no-int64-{ident}",
            "ENV-2 ENV-1.1",
            "no int64: it doesn't fit the slot",
            dump(OK).replace('"v":1', f'"v":{version_text}'),
            "bad_envelope",
            kind="boundary",
            kills={"2-64-plus-1": "version-wraps"}.get(ident, "later-versions-taken"),
        )
    g.refuse(
        "env-unknown-version-of-unknown-type",
        "ENV-2 ENV-5.1",
        "an unknown type has a version as well",
        dump({**event("energy", {}), "v": 2}),
        "unsupported_version",
        kills="unknown-type-unchecked",
    )
    g.accept(
        "env-version-one-point-zero",
        "ENV-2 JSN-4",
        "1.0 is 1",
        dump(OK).replace('"v":1', '"v":1.0'),
        OK,
        kind="boundary",
        kills="version-in-digits-only",
    )


def _meta(g: Group) -> None:
    p = OK["p"]
    full = event("metric", p, wid="rank0", sid="5f0c9d1e2b3a48576a7b8c9d0e1f2a3b")
    g.accept(
        "env-meta-full", "ENV-3 JSN-6.6", "wid and sid", dump(full), full, kills="session-id-dropped worker-id-dropped"
    )
    g.accept(
        "env-meta-any-sid",
        "ENV-3 VAL-9",
        "a session id is any string",
        dump(event("metric", p, sid="legacy-0")),
        event("metric", p, sid="legacy-0"),
        kind="boundary",
        kills="session-id-dropped",
    )
    for name in ("seq", "ts"):
        meta = {key: value for key, value in OK["m"].items() if key != name}
        g.refuse(
            f"env-without-{name}",
            "ENV-3.1",
            f"{name} is required",
            dump({**OK, "m": meta}),
            "missing_field",
            kills={"seq": "seq-may-be-absent", "ts": "time-may-be-absent"}[name],
        )
        for ident, value in (("string", "1"), ("true", True), ("fraction", 1.5), ("list", [])):
            g.refuse(
                f"env-{name}-{ident}",
                "ENV-3 VAL-1.2" if ident != "fraction" else "ENV-3 VAL-1.3",
                f"{name} is an integer",
                dump({**OK, "m": {**OK["m"], name: value}}),
                "bad_type",
                kills="integers-by-cast" if name == "ts" or ident == "fraction" else "seq-of-anything",
            )
        g.refuse(
            f"env-{name}-beyond",
            "ENV-3 VAL-1.1",
            f"{name} is an int64",
            dump({**OK, "m": {**OK["m"], name: 2**63}}),
            "out_of_range",
            kind="boundary",
            kills="integers-saturate",
        )
    for name in ("wid", "sid"):
        g.refuse(
            f"env-{name}-number",
            "ENV-3 VAL-9.1",
            f"{name} is a string",
            dump(event("metric", p, **{name: 7})),
            "bad_type",
            kills="ids-of-anything",
        )
    for ident, ts in (
        ("before-1970", -1),
        ("epoch", 0),
        ("far-future", 2**62),
        ("first", -(2**63)),
        ("last", 2**63 - 1),
        ("seconds", 1703123456),
    ):
        of = event("metric", p, ts=ts)
        g.accept(
            f"env-ts-{ident}",
            "ENV-3.2 ENV-3.1" if ident == "epoch" else "ENV-3.2",
            "no event is refused because of its time",
            dump(of),
            of,
            kind="valid" if ident in {"seconds", "far-future"} else "boundary",
            kills={
                "before-1970": "time-before-1970-refused",
                "epoch": "time-zero-is-absence",
                "far-future": "time-in-the-future-refused",
                "first": "least-integer-refused",
                "last": "integers-in-32-bits",
                "seconds": "seconds-guessed",
            }[ident],
        )
    for ident, seq in (("first", 1), ("last", 2**63 - 1), ("large", 10**12)):
        of = event("metric", p, seq=seq)
        g.accept(
            f"env-seq-{ident}",
            "ENV-4.3 ENV-4.7",
            "any seq from 1 on, in any order",
            dump(of),
            of,
            kind="boundary" if ident != "large" else "valid",
            kills={"first": "first-must-be-run-start"}.get(ident, "integers-in-32-bits"),
        )
    for ident, seq in (("zero", 0), ("minus-1", -1), ("least", -(2**63))):
        g.refuse(
            f"env-seq-{ident}",
            "ENV-4.3",
            "an event of a known type is numbered from 1",
            dump(event("metric", p, seq=seq)),
            "out_of_range",
            kind="boundary" if ident == "zero" else "invalid",
            kills={"zero": "seq-zero-accepted"}.get(ident, "negative-seq-accepted"),
        )
    for ident, seq in (("zero", 0), ("one", 1), ("minus-1", -1), ("last", 2**63 - 1)):
        command = event("command", {"cmd_id": "c", "type": "pause"}, seq=seq)
        g.accept(
            f"env-control-seq-{ident}",
            "ENV-4.4 CTL-1.2",
            "readers take any seq of a control event",
            dump(command),
            command,
            kind="valid" if ident == "zero" else "boundary",
            kills={"zero": "control-needs-a-seq"}.get(ident, "control-seq-must-be-zero"),
        )
        energy = event("energy", {"joules": 1}, seq=seq)
        g.accept(
            f"env-unknown-seq-{ident}",
            "ENV-4.4 ENV-5",
            "and of an event of unknown type",
            dump(energy),
            energy,
            kind="valid" if ident == "one" else "boundary",
            kills={"zero": "control-needs-a-seq"}.get(ident, "unknown-type-is-an-error"),
        )
    g.refuse(
        "env-control-seq-beyond",
        "ENV-4.4 VAL-1.1",
        "beyond int64 it is no seq, of whatever event",
        dump(event("command", {"cmd_id": "c", "type": "pause"}, seq=2**63)),
        "out_of_range",
        kills="control-seqs-unbounded",
    )


def _unknown(g: Group) -> None:
    energy = event("energy", {"run_id": "abc", "joules": 12.5, "more": {"a": [None, True]}}, sid="s")
    g.accept(
        "env-unknown-type",
        "ENV-5 ENV-5.2",
        "its type and its body are handed on",
        dump(energy),
        energy,
        kills="unknown-type-is-an-error unknown-body-lost",
    )
    for ident, body in (
        ("empty", {}),
        ("no-run", {"a": 1}),
        ("run-as-object", {"run_id": {"id": "r"}}),
        ("run-is-number", {"run_id": 7}),
        ("run-is-null", {"run_id": None}),
        ("looks-like-metric", {"run_id": "a", "key": 5, "value": "x"}),
    ):
        of = event("energy", body)
        g.accept(
            f"env-unknown-type-{ident}",
            "ENV-5.1 ENV-5.4" if "run" in ident else "ENV-5.1 ENV-5.2" if ident == "empty" else "ENV-5.1",
            "its body may be any object",
            dump(of),
            of,
            kind="boundary" if ident == "empty" else "valid",
            kills={
                "empty": "empty-bodies-refused",
                "no-run": "unknown-types-need-a-run",
                "run-is-number": "runs-of-unknown-types-checked",
                "run-is-null": "runs-of-unknown-types-checked",
            }.get(ident, "unknown-body-lost"),
        )
    for ident, name in (
        ("empty", ""),
        ("capitals", "Metric"),
        ("space", "metric "),
        ("emoji", "\U0001f600"),
        ("long", "x" * 300),
        ("prefix", "metrics"),
        ("control", "a\nb"),
        ("proto", "__proto__"),
    ):
        of = event(name, {"run_id": "a", "value": 1})
        g.accept(
            f"env-type-{ident}",
            "ENV-5 VAL-9",
            "a type is any string, and this one is not known",
            dump(of),
            of,
            kind="boundary",
            kills={
                "capitals": "types-without-case",
                "space": "types-trimmed",
                "long": "types-of-255-bytes",
                "prefix": "types-by-prefix",
                "proto": "types-found-in-prototypes",
            }.get(ident, "types-are-identifiers"),
        )
    for ident, text, class_ in (
        ("bad-meta", dump(event("energy", {}, seq=2) | {"m": {"seq": 1}}), "missing_field"),
        ("body-list", dump({**energy, "p": [1]}), "bad_envelope"),
        ("seq-string", dump({**energy, "m": {"seq": "1", "ts": 1}}), "bad_type"),
        ("number-beyond", raw(event("energy", {"a": "@x"}), x="1e400"), "out_of_range"),
    ):
        g.refuse(
            f"env-unknown-type-{ident}",
            "ENV-5.1 ENV-5.8" if ident == "body-list" else "ENV-5.1",
            "v, m and the rules of values hold as for any other",
            text,
            class_,
            kills={"number-beyond": "overflow-is-infinity"}.get(ident, "unknown-type-unchecked"),
        )
    form = event("energy", {"$float": "NaN"})
    g.accept(
        "env-unknown-type-form",
        "ENV-5.8",
        "the body is no free slot: an object of this form is a map of one name",
        dump(form),
        form,
        kind="boundary",
        kills="body-of-unknown-type-is-free",
    )
    for ident, text in (("nested", "[1e400]"), ("in-object", '{"b":-1e999}'), ("400-digits", "9" * 400)):
        g.refuse(
            f"env-unknown-type-beyond-{ident}",
            "ENV-5.7 ENV-6.2 VAL-4.1",
            "its members are free slots, and no unknown members: numbers in them have their bound",
            raw(event("energy", {"a": "@x"}), x=text),
            "out_of_range",
            kills={"400-digits": "overflow-is-infinity"}.get(ident, "unknown-bodies-unbounded"),
        )
    g.accept(
        "env-unknown-type-number-in-envelope",
        "ENV-6.2 ENV-5.7",
        "beside its four members, and in m, they have none",
        raw({**event("energy", {"a": 1}), "x": "@x"}, x="1e400").replace('"ts":1', '"ts":1,"load":1e400'),
        event("energy", {"a": 1}),
        kind="boundary",
        kills="envelopes-of-unknown-types-bounded",
    )
    g.accept(
        "env-unknown-member-envelope",
        "ENV-6",
        "an unknown member beside the four",
        dump({"x": [1], **OK, "y": {"a": None}}),
        OK,
        kills="unknown-members-refused",
    )
    g.accept(
        "env-unknown-member-meta",
        "ENV-6",
        "one in m",
        dump({**OK, "m": {**OK["m"], "host": {"a": 1}}}),
        OK,
        kills="unknown-members-refused",
    )
    g.accept(
        "env-unknown-member-body",
        "ENV-6",
        "one in p",
        dump(metric(0.5, colour="red")),
        OK,
        kills="unknown-members-refused",
    )
    g.accept(
        "env-unknown-member-run-id",
        "ENV-6 EVT-1.3",
        "one in a run id",
        dump(event("tags", {"run_id": {"id": "a", "owner": "me"}, "tags": {}})),
        event("tags", {"run_id": "a", "tags": {}}),
        kills="unknown-members-refused",
    )
    g.accept(
        "env-received-at",
        "ENV-6 ENV-3.3",
        "the time of receipt is no member: a reader ignores it",
        dump({**OK, "m": {**OK["m"], "received_at": 5}}),
        OK,
        kills="unknown-members-refused",
    )
    for ident, text in (("1e999", "1e999"), ("400-digits", "9" * 400), ("minus", "-1e999"), ("tiny", "1e-999")):
        g.accept(
            f"env-unknown-number-{ident}",
            "ENV-6.2",
            "a number in an unknown member has no bound",
            raw(metric(0.5, unknown="@x"), x=text),
            OK,
            kind="boundary" if ident in {"1e999", "tiny"} else "valid",
            kills={"tiny": "underflow-refused"}.get(ident, "unknown-numbers-bounded"),
        )
    g.accept(
        "env-unknown-number-in-envelope",
        "ENV-6.2",
        "nor one beside v",
        raw({**OK, "x": "@x"}, x="1e999"),
        OK,
        kind="boundary",
        kills="unknown-numbers-bounded",
    )
    g.accept(
        "env-unknown-member-of-any-type",
        "ENV-6 ENV-6.1",
        "its value may be anything",
        dump(log("x", unknown=[{"run_id": 5, "level": None}, True])),
        log("x"),
        kills="unknown-members-refused",
    )
