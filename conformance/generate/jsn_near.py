"""Inputs just beside those that a clause of JSN refuses, or takes in another way. docs/spec/values.md"""

from __future__ import annotations

from generate.dsl import Group, dump, event, log, metric, param, raw, raw_log, raw_param

OK = metric()


def add(g: Group) -> None:
    """Add the cases."""
    _marks(g)
    _depth(g)
    _names_and_null(g)
    _tokens(g)


def _marks(g: Group) -> None:
    g.accept(
        "jsn-byte-order-mark-in-string",
        "JSN-1.6 VAL-9",
        "U+FEFF in a string is a character like any other",
        dump(log("a\ufeffb")),
        log("a\ufeffb"),
        kills="byte-order-marks-refused-anywhere",
    )
    g.accept(
        "jsn-byte-order-mark-in-first-name",
        "JSN-1.6 ENV-6",
        "two bytes behind the payload's beginning it is a character of a name",
        dump({"\ufeff": 1, **OK}),
        OK,
        kind="boundary",
        kills="byte-order-marks-refused-anywhere",
    )


def _depth(g: Group) -> None:
    inner: object = []
    for _ in range(39):
        inner = [inner]
    g.accept(
        "jsn-deep-42",
        "JSN-2 JSN-2.1",
        "less than 64 are open, however many that may be",
        raw_param("[" * 40 + "]" * 40),
        param(inner),
        kills="depth-of-32",
    )
    g.accept(
        "jsn-deep-42-unknown-member",
        "JSN-2.2 ENV-6.1",
        "in an unknown member too",
        raw(metric(unknown="@x"), x="[" * 40 + "]" * 40),
        OK,
        kills="depth-of-32",
    )
    g.refuse(
        "jsn-deep-65-malformed",
        "JSN-2.3",
        "65 are open, and the text ends: either fault may be told",
        raw_param("[" * 63).removesuffix("}}"),
        "bad_json",
        or_class=["too_deep"],
        level="MAY",
        kind="boundary",
    )


def _names_and_null(g: Group) -> None:
    g.accept(
        "jsn-twice-first-does-not-fit-in-envelope",
        "JSN-5.2",
        "a first v that fits no slot may be a reason to refuse, too",
        dump(OK).replace('"v":1', '"v":"one","v":1'),
        OK,
        or_refused=True,
        level="MAY",
        kind="invalid",
    )
    g.accept(
        "jsn-empty-object-of-nulls",
        "JSN-6.7 JSN-6",
        "an object whose only member is null is present, and empty",
        dump(metric(ctx={"phase": None})),
        metric(ctx={}),
        kills="empty-objects-are-absence",
    )
    for name, clauses, of in (
        ("member", "JSN-6 VAL-9.1", log("x", logger=False)),
        ("list", "JSN-6.5 VAL-9.6", param(1, nested_key=False)),
        ("id", "JSN-6.6 VAL-9.1", event("log", log()["p"], wid=0)),
        ("object", "JSN-6.7 VAL-9.6", metric(ctx="")),
    ):
        g.refuse(
            f"jsn-falsy-{name}",
            clauses,
            'neither false, nor 0, nor "" is absence where it has no place: it is a value of another type',
            dump(of),
            "bad_type",
            kills="falsy-is-absence",
        )


def _tokens(g: Group) -> None:
    g.refuse(
        "jsn-token-as-name",
        "JSN-7 JSN-1.3 JSN-7.2",
        "a name is no value: no token may stand there",
        raw_param("{NaN:1}"),
        "bad_json",
        reader="lenient",
        kills="tokens-as-names",
    )
    g.accept(
        "jsn-token-in-map-of-free",
        "JSN-7.2",
        "a map is no free slot, and its values are",
        raw(log(fields={"a": "@x"}), x="NaN"),
        log(fields={"a": {"$float": "NaN"}}),
        reader="lenient",
        kind="boundary",
        kills="tokens-refused",
    )
    g.accept(
        "jsn-token-in-quotes",
        "JSN-7.3 VAL-9.1",
        "in quotes it is a string, and fits a string slot",
        raw_log('"NaN"'),
        log("NaN"),
        kills="nan-strings-refused",
    )
    g.accept(
        "jsn-token-in-quotes-unknown-type",
        "JSN-7.1",
        "nor is it a token in an event of unknown type",
        dump(event("energy", {"what": "-Infinity"})),
        event("energy", {"what": "-Infinity"}),
        reader="strict",
        kills="infinity-strings-refused",
    )
