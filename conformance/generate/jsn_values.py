"""How the values in a payload's text are read. docs/spec/values.md, JSN-6 and the clauses behind it"""

from __future__ import annotations

from generate.dsl import Group, dump, event, log, metric, param, raw, raw_log, raw_metric, raw_param

OK = metric()


def integers(g: Group) -> None:
    """Numbers that are integers, however they are written."""
    for name, text, value in (
        ("point-zero", "1.0", 1),
        ("exponent", "1e2", 100),
        ("capital-exponent", "1E2", 100),
        ("minus-zero", "-0.0", 0),
        ("fraction-shifted", "1.5e1", 15),
        ("negative-exponent", "1500e-2", 15),
        ("plus-exponent", "1e+2", 100),
        ("large", "1e18", 10**18),
        ("negative", "-3.0", -3),
        ("zero-exponent", "7e0", 7),
        ("bare-minus-zero", "-0", 0),
    ):
        g.accept(
            f"jsn-integer-{name}",
            {"fraction-shifted": "JSN-4 VAL-1.3", "large": "JSN-4 JSN-4.1"}.get(name, "JSN-4"),
            f"{text} is an integer",
            raw_metric("1", step=text),
            metric(1, step=value),
            kills={"bare-minus-zero": "zero-is-absence"}.get(name, "integers-in-digits-only"),
        )
    g.accept(
        "jsn-integer-in-seq",
        "JSN-4",
        "in the members of the envelope too",
        dump(OK).replace('"seq":2', '"seq":2e0').replace('"v":1', '"v":1.0'),
        OK,
        kills="integers-in-digits-only",
    )
    for name, text in (("half", "1.5"), ("tiny", "1e-1"), ("almost", "1.0000000000000002"), ("too-small", "1e-400")):
        more = {"or_event": [metric(1, step=0)]} if name == "too-small" else {}
        g.refuse(
            f"jsn-integer-{name}",
            "JSN-4 VAL-1.3" + (" JSN-4.1" if name == "almost" else ""),
            f"{text} is no integer",
            raw_metric("1", step=text),
            "bad_type",
            kind="boundary" if more else "invalid",
            kills={"half": "integers-truncated", "too-small": "zero-is-absence"}.get(name, "integers-by-cast"),
            **more,
        )
    g.accept(
        "jsn-integer-by-binary64",
        "JSN-4.1",
        "2^53 + 1 with a fraction may be read by way of binary64",
        raw_metric("1", step="9007199254740993.0"),
        metric(1, step=9007199254740993),
        or_event=[metric(1, step=9007199254740992)],
        level="MAY",
        kind="boundary",
    )
    g.accept(
        "jsn-integer-edge-by-binary64",
        "JSN-4.1",
        "the largest int64 with a fraction is 2^63 by way of binary64",
        raw_metric("1", step="9223372036854775807.0"),
        metric(1, step=2**63 - 1),
        or_refused=True,
        level="MAY",
        kind="boundary",
    )
    g.refuse(
        "jsn-integer-beyond",
        "JSN-4 VAL-1.1",
        "1e19 is an integer beyond int64",
        raw_metric("1", step="1e19"),
        "out_of_range",
        kills="integers-saturate",
    )
    g.refuse(
        "jsn-integer-far-beyond",
        "JSN-4 VAL-1.1",
        "so is 1e400",
        raw_metric("1", step="1e400"),
        "out_of_range",
        kills="integers-saturate",
    )


def names(g: Group) -> None:
    """Names of members: twice, in capitals, with escapes."""
    g.accept(
        "jsn-twice-last",
        "JSN-5",
        "of a name given twice the last counts, or the payload is refused",
        raw_log('"first","msg":"last"'),
        log("last"),
        or_refused=True,
        kills="first-of-two-names",
    )
    g.accept(
        "jsn-twice-type",
        "JSN-5",
        "in the envelope too",
        dump(OK).replace('"t":"metric"', '"t":"log","t":"metric"'),
        OK,
        or_refused=True,
        kind="boundary",
        kills="names-twice-join",
    )
    g.accept(
        "jsn-twice-in-map",
        "JSN-5",
        "and in a map",
        raw(event("tags", {"run_id": "a", "tags": "@x"}), x='{"a":"1","a":"2"}'),
        event("tags", {"run_id": "a", "tags": {"a": "2"}}),
        or_refused=True,
        kills="first-of-two-names",
    )
    g.accept(
        "jsn-twice-in-free-slot",
        "JSN-5",
        "and in a free slot",
        raw_param('{"a":1,"a":2}'),
        param({"a": 2}),
        or_refused=True,
        kills="first-of-two-names",
    )
    g.accept(
        "jsn-twice-escaped",
        "JSN-5 JSN-1.9",
        "the same name, once with an escape",
        raw_log('"first","\\u006dsg":"last"'),
        log("last"),
        or_refused=True,
        kind="boundary",
        kills="first-of-two-names",
    )
    g.accept(
        "jsn-twice-first-does-not-fit",
        "JSN-5.2",
        "an earlier one that doesn't fit may be a reason to refuse",
        raw_log('5,"msg":"last"'),
        log("last"),
        or_refused=True,
        level="MAY",
        kind="boundary",
    )
    g.refuse(
        "jsn-twice-last-does-not-fit",
        "JSN-5",
        "the last one counts, and doesn't fit",
        raw_log('"first","msg":5'),
        "bad_type",
        or_class=["bad_json"],
        kills="first-of-two-names",
    )


def null(g: Group) -> None:
    """null, and what is absent."""
    start = event("run_start", {"run_id": "a"}, seq=1)
    for name, text, expected in (
        ("member", dump(metric(step=None, ctx=None)), OK),
        ("nested", dump(metric(ctx={"phase": None, "batch_size": 3})), metric(ctx={"batch_size": 3})),
        ("wid", dump(event("metric", OK["p"], wid=None)), OK),
        ("name", dump(event("run_start", {"run_id": {"id": "a", "exp_id": None, "parent_id": None}, "name": None,
                                          "tags": None, "world_size": None}, seq=1)), start),
        ("closed", dump(event("artifact", {"run_id": "a", "path": "p", "upload": None})),
         event("artifact", {"run_id": "a", "path": "p"})),
        ("boolean", dump(event("checkpoint", {"run_id": "a", "step": 1, "path": "p", "is_best": None})),
         event("checkpoint", {"run_id": "a", "step": 1, "path": "p"})),
    ):  # fmt: skip
        g.accept(
            f"jsn-null-{name}",
            "JSN-6 JSN-6.1",
            "null in an optional member is absence",
            text,
            expected,
            kills={
                "member": "null-is-no-absence",
                "nested": "null-string-refused",
                "wid": "null-id-refused",
                "name": "null-map-refused",
                "closed": "null-closed-refused",
                "boolean": "null-boolean-refused",
            }[name],
        )
    for name, text in (("value", raw_metric("null")), ("key", dump(metric()).replace('"key":"k"', '"key":null')),
                       ("run-id", dump(metric()).replace('"run_id":"a"', '"run_id":null')),
                       ("seq", dump(metric()).replace('"seq":2', '"seq":null')),
                       ("status", dump(event("run_end", {"run_id": "a", "status": None}))),
                       ("map", dump(event("tags", {"run_id": "a", "tags": None}))),
                       ("run-id-id", dump(event("tags", {"run_id": {"id": None}, "tags": {}})))):  # fmt: skip
        g.refuse(
            f"jsn-null-required-{name}",
            "JSN-6.1",
            "null in a required member is refused",
            text,
            "bad_type",
            kills={"value": "null-for-required", "seq": "seq-of-anything"}.get(name, "null-is-zero"),
        )
    g.accept(
        "jsn-null-free",
        "JSN-6.2 VAL-4 EVT-PARAM-1.1 JSN-6.1",
        "null is a value of a free slot",
        dump(param(None)),
        param(None),
        kind="boundary",
        kills="null-param-is-missing",
    )
    g.accept(
        "jsn-null-in-free",
        "JSN-6.2 JSN-6.3",
        "and stays one inside of it",
        dump(param({"a": None, "b": [None]})),
        param({"a": None, "b": [None]}),
        kills="null-dropped-in-free-slots",
    )
    g.accept(
        "jsn-null-in-map-of-free",
        "JSN-6.2",
        "and in a map of free slots",
        dump(log(fields={"a": None})),
        log(fields={"a": None}),
        kills="null-dropped-in-free-slots",
    )
    for name, of in (
        ("map-of-string", event("tags", {"run_id": "a", "tags": {"a": None}})),
        ("map-of-number", event("metric_batch", {"run_id": "a", "metrics": {"a": None}})),
        ("list-of-string", param(1, nested_key=["a", None])),
        ("optional-map", event("run_start", {"run_id": "a", "tags": {"a": None}}, seq=1)),
        ("list-of-object", event("run_start", {"run_id": "a", "env": {"gpu_info": [None]}}, seq=1)),
    ):
        g.refuse(
            f"jsn-null-in-{name}",
            "JSN-6.3",
            "inside of a list or map null is no absence",
            dump(of),
            "bad_type",
            kind="boundary" if name == "optional-map" else "invalid",
            kills={"map-of-string": "null-in-maps"}.get(name, "null-is-zero"),
        )
    g.accept(
        "jsn-empty-list",
        "JSN-6.5 JSN-6.8 VAL-9.6",
        "an empty list in an optional member is absence",
        dump(param(1, nested_key=[])),
        param(1),
        kills="empty-lists-refused",
    )
    g.accept(
        "jsn-empty-map",
        "JSN-6.5",
        "and so is an empty map",
        dump(log(fields={})),
        log(),
        kind="boundary",
        kills="empty-maps-refused",
    )
    g.accept(
        "jsn-empty-ids",
        "JSN-6.6",
        'so is "" in wid and sid',
        dump(event("log", log()["p"], wid="", sid="")),
        log(),
        kind="boundary",
        kills="empty-ids-kept",
    )
    g.accept(
        "jsn-empty-strings",
        "VAL-9",
        'but "" in any other member is a string',
        dump(log("", logger="")),
        log("", logger=""),
        kind="boundary",
        kills="empty-required-strings-refused",
    )
    ack = {"seq": 1, "status": "ok"}
    for name, of, expected in (
        ("ids-of-ack", {**ack, "wid": "", "sid": ""}, ack),
        ("wid-of-ack", {**ack, "wid": "", "sid": "s"}, {**ack, "sid": "s"}),
    ):
        g.accept(
            f"jsn-empty-{name}",
            "JSN-6.6",
            'so is "" in the optional wid and sid of a body',
            dump(event("ack", of, seq=0)),
            event("ack", expected, seq=0),
            kind="boundary",
            kills="empty-ids-kept",
        )
    for name, event_type, body in (
        ("sid-required", "open", {"run_id": "a", "sid": ""}),
        ("sid-of-skip", "skip", {"run_id": "a", "sid": "", "from": 1, "to": 2}),
        ("key", "hello", {"protocols": [1], "auth": {"scheme": "key", "key": ""}}),
        ("exp-id", "tags", {"run_id": {"id": "a", "exp_id": ""}, "tags": {}}),
        ("error", "ack", {**ack, "error": ""}),
    ):
        of = event(event_type, body, seq=2 if event_type == "tags" else 0)
        g.accept(
            f"jsn-empty-{name}",
            "JSN-6.6 VAL-9",
            'everywhere else "" is a string',
            dump(of),
            of,
            kind="boundary",
            kills={
                "sid-required": "empty-sid-refused",
                "sid-of-skip": "empty-required-strings-refused",
                "key": "empty-key-is-absence",
            }.get(name, "empty-strings-are-absence"),
        )
    for name, of in (
        ("ctx", metric(ctx={})),
        ("progress", event("status", {"run_id": "a", "status": "running", "progress": {}})),
    ):
        g.accept(
            f"jsn-empty-object-{name}",
            "JSN-6.7",
            "an empty object in an object slot is present",
            dump({**of, "m": {"seq": 3, "ts": 1}}),
            {**of, "m": {"seq": 3, "ts": 1}},
            kind="boundary",
            kills="empty-objects-are-absence",
        )
    for name, of in (
        ("list-for-map", log("y", fields=[])),
        ("list-for-tags", event("run_start", {"run_id": "a", "tags": []}, seq=1)),
        ("object-for-list", param(1, nested_key={})),
        ("object-for-sids", event("run_start", {"run_id": "a", "resume": {"sids": {}}}, seq=1)),
        ("list-for-object", metric(ctx=[])),
    ):
        g.refuse(
            f"jsn-empty-{name}",
            "JSN-6.8 VAL-9.6",
            "of the wrong kind it is no absence, empty or not",
            dump(of),
            "bad_type",
            kind="boundary",
            kills={
                "list-for-tags": "maps-of-anything",
                "object-for-sids": "lists-of-anything-iterated",
                "list-for-object": "objects-of-anything",
            }.get(name, "any-emptiness-is-absence"),
        )


def tokens(g: Group) -> None:
    """Bare NaN and Infinity tokens."""
    names = {"nan": "NaN", "infinity": "Infinity", "minus-infinity": "-Infinity"}
    for name, token in names.items():
        g.accept(
            f"jsn-token-{name}",
            "JSN-7 JSN-7.2 JSN-7.4",
            "workers in the field write it, and lenient readers take it",
            raw_metric(token),
            metric(token),
            reader="lenient",
            kills="tokens-refused",
        )
        g.refuse(
            f"jsn-token-{name}-strict",
            "JSN-7.1",
            "it is no JSON",
            raw_metric(token),
            "bad_json",
            reader="strict",
            kills="tokens-accepted",
        )
        g.accept(
            f"jsn-token-{name}-free",
            "JSN-7.2",
            "in a free slot it is the number it names",
            raw_param(token),
            param({"$float": token}),
            reader="lenient",
            kills="float-form-unread",
        )
        g.refuse(
            f"jsn-token-{name}-integer",
            "JSN-7.3",
            "it is no integer",
            raw_metric("1", step=token),
            "bad_type",
            reader="lenient",
            kind="boundary",
            kills="integers-by-cast",
        )
    g.accept(
        "jsn-token-nested",
        "JSN-7",
        "at any depth of a free slot",
        raw_param('{"a":[NaN,-Infinity]}'),
        param({"a": [{"$float": "NaN"}, {"$float": "-Infinity"}]}),
        reader="lenient",
        kills="float-form-unread",
    )
    g.accept(
        "jsn-token-unknown-member",
        "JSN-7 ENV-6.1",
        "in an unknown member too",
        raw(metric(unknown="@x"), x="[NaN]"),
        OK,
        reader="lenient",
        kind="boundary",
        kills="tokens-refused",
    )
    g.refuse(
        "jsn-token-unknown-member-strict",
        "JSN-7.1 ENV-6.1",
        "and there too a strict reader refuses it",
        raw(metric(unknown="@x"), x="[NaN]"),
        "bad_json",
        reader="strict",
        kind="boundary",
        kills="unknown-members-unchecked",
    )
    for name, text in (("string", raw_log("NaN")), ("boolean", raw(event("checkpoint", {"run_id": "a", "step": 1,
                        "path": "p", "is_best": "@x"}), x="Infinity")), ("map", raw(event("tags", {"run_id": "a",
                        "tags": "@x"}), x="NaN"))):  # fmt: skip
        g.refuse(
            f"jsn-token-in-{name}",
            "JSN-7.3",
            "it is a number, and this slot takes none",
            text,
            "bad_type",
            reader="lenient",
            kills={"string": "strings-of-anything", "boolean": "booleans-by-truth", "map": "maps-of-anything"}[name],
        )
    for token in ("nan", "-NaN", "+Infinity", "inf", "Inf", "NAN", "INFINITY", "infinity", "Infinit", "NaNs", "+NaN"):
        ident = token.replace("+", "plus-").replace("-", "minus-", 1 if token[0] == "-" else 0)
        caps = "-caps" if token.isupper() else "-small" if token.islower() else ""
        g.refuse(
            f"jsn-spelling-{ident.lower()}{caps}",
            "JSN-7.4",
            f"{token} is taken by nobody",
            raw_metric(token),
            "bad_json",
            kind="boundary" if token in {"Infinit", "NaNs"} else "invalid",
            kills={
                "nan": "any-spelling-of-nan",
                "inf": "any-spelling-of-nan",
                "Infinit": "numbers-by-c",
                "NaNs": "numbers-by-c",
            }.get(ident, "numbers-by-python"),
        )
