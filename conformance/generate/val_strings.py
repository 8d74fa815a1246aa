"""Strings, digests, lists, maps and objects. docs/spec/values.md, VAL-8 and VAL-9"""

from __future__ import annotations

import math

from generate.dsl import Group, dump, event, json_with, kills_of, log, metric, param

CHECKSUM_KILLS = kills_of({
    "digests-need-a-prefix": "bare sixty-three", "digests-in-capitals-refused": "bare-capitals",
    "any-64-letters-are-sha256": "sixty-four-letters", "checksum-must-be-sha256": "any-text",
    "empty-strings-are-absence": "empty",
})  # fmt: skip


STRING_KILLS = {
    "empty": "empty-required-strings-refused", "emoji": "utf8-of-three-bytes", "html": "html-unescaped",
    "right-to-left": "invisible-characters-dropped", "line-separator": "line-separators-are-newlines",
    "noncharacter": "noncharacters-replaced", "combining": "strings-normalised", "long": "strings-cut",
    "backslash": "escapes-resolved-twice",
}  # fmt: skip


NAME_KILLS = kills_of({
    "empty-names-dropped": "empty", "names-trimmed": "spaces", "names-of-prototypes-dropped": "proto constructor",
    "names-of-digits-are-places": "digit", "names-with-dots-nested": "dots",
})  # fmt: skip


def strings(g: Group) -> None:
    """Strings, digests and the slots built of them."""
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    of = event("artifact", {"run_id": "a", "path": "p", "checksum": "@x"})
    for name, value, clause in (
        ("prefixed", f"sha256:{digest}", "VAL-8.1"),
        ("bare", digest, "VAL-8.1"),
        ("bare-capitals", digest.upper(), "VAL-8.1"),
        ("other-digest", "md5:d41d8cd98f00b204e9800998ecf8427e", "VAL-8.2"),
        ("sixty-three", digest[:63], "VAL-8.2"),
        ("sixty-four-letters", "G" * 64, "VAL-8.1 VAL-8.2 VAL-8.3"),
        ("any-text", "none of your business", "VAL-8.2"),
        ("empty", "", "VAL-8.2"),
    ):
        g.accept(
            f"val-checksum-{name}",
            clause,
            "a checksum of any form is taken",
            dump(json_with(of, value)),
            json_with(of, value),
            kind={"sixty-three": "boundary", "empty": "boundary", "sixty-four-letters": "invalid"}.get(name, "valid"),
            kills=CHECKSUM_KILLS.get(name, "digests-are-hexadecimal"),
        )
    for name, value in (("prefixed-capitals", digest.upper()), ("prefixed-mixed", digest[:32].upper() + digest[32:])):
        g.accept(
            f"val-checksum-{name}",
            "VAL-8.3 VAL-8.1",
            "the same checksum in capitals: whichever form is handed on",
            dump(json_with(of, f"sha256:{value}")),
            json_with(of, f"sha256:{digest}"),
            kind="boundary" if "mixed" in name else "valid",
            kills="digests-in-capitals-refused",
        )
    for name, value in (
        ("other-capitals", "MD5:D41D8CD98F00B204E9800998ECF8427E"),
        ("other-prefix", f"SHA256:{digest}"),
    ):
        g.accept(
            f"val-checksum-{name}",
            "VAL-8.2",
            "what has another form is kept as it is",
            dump(json_with(of, value)),
            json_with(of, value),
            kind="boundary",
            kills={"other-capitals": "checksums-small", "other-prefix": "digests-are-hexadecimal"}[name],
        )
    for name, value in (
        ("empty", ""),
        ("emoji", "\U0001f469\u200d\U0001f52c"),
        ("right-to-left", "\u202eabc"),
        ("line-separator", "\u2028\u2029"),
        ("noncharacter", "\ufffe\uffff"),
        ("combining", "e\u0301"),
        ("long", "x" * 10_000),
        ("backslash", "\\u0041"),
        ("html", "<script>&amp;'\""),
    ):
        g.accept(
            f"val-string-{name}",
            "VAL-9 JSN-1.1 JSN-1.2" if name == "emoji" else "VAL-9",
            "any characters, in any number",
            dump(log(value)),
            log(value),
            kind="boundary" if name in {"empty", "long"} else "valid",
            kills=STRING_KILLS[name],
        )
    names = {
        "": "empty",
        "a.b": "dots",
        "a/b": "slashes",
        "$float": "dollar",
        " a ": "spaces",
        "a\nb": "newline",
        "\U0001f600": "emoji",
        "__proto__": "proto",
        "constructor": "constructor",
        "0": "digit",
    }
    for name, ident in names.items():
        tags = event("tags", {"run_id": "a", "tags": {name: "v"}})
        g.accept(
            f"val-map-name-{ident}",
            "VAL-9.4 VAL-9.3" + (" EVT-TAGS-1" if ident == "dots" else ""),
            "names of a map are kept exactly",
            dump(tags),
            tags,
            kind="valid" if ident in {"dots", "slashes", "digit"} else "boundary",
            kills=NAME_KILLS.get(ident, "names-cleaned"),
        )
    many = {f"m{number}": number / 8 for number in range(500)}
    batch = event("metric_batch", {"run_id": "a", "metrics": many})
    g.accept("val-map-large", "VAL-9.3 VAL-9.6", "five hundred entries", dump(batch), batch, kills="maps-of-256")
    order = event("metric_batch", {"run_id": "a", "metrics": {"b": 1, "a": 2}})
    g.accept(
        "val-map-order",
        "VAL-9.7",
        "the order of names means nothing",
        dump(event("metric_batch", {"metrics": {"a": 2, "b": 1}, "run_id": "a"})),
        order,
        kills="runs-come-first",
    )
    for name, content in (("number", 5), ("true", True), ("list", ["x"]), ("object", {"a": "x"}), ("float", 0.5)):
        g.refuse(
            f"val-string-not-{name}",
            "VAL-9.1 VAL-9",
            "a value of another type in a string slot",
            dump(log(content)),
            "bad_type",
            kills={"number": "numbers-become-strings"}.get(name, "strings-of-anything"),
        )
    g.refuse(
        "val-string-not-empty-list",
        "VAL-9.1",
        "an empty list is no empty string",
        dump(log([])),
        "bad_type",
        kind="boundary",
        kills="empty-lists-are-empty-strings",
    )
    g.accept(
        "val-string-of-digits",
        "VAL-9.1 VAL-9",
        "a string that looks like a number is a string",
        dump(log("5")),
        log("5"),
        kills="digits-become-numbers",
    )
    path = ["", "x.y", "\u00e9", "5"]
    g.accept(
        "val-list-of-strings",
        "VAL-9.2 VAL-9.6",
        "each element fits, and all are kept in their order",
        dump(param(1, nested_key=path)),
        param(1, nested_key=path),
        kills="lists-cut-to-one",
    )
    g.refuse(
        "val-list-last-element-number",
        "VAL-9.2",
        "the last of many elements doesn't fit",
        dump(param(1, nested_key=["a"] * 100 + [1])),
        "bad_type",
        kind="boundary",
        kills="lists-of-anything",
    )
    for name, content in (("string", "lr"), ("object", {"0": "lr"}), ("number", 0)):
        g.refuse(
            f"val-list-not-{name}",
            "VAL-9.6",
            "a value of another type in a list slot",
            dump(param(1, nested_key=content)),
            "bad_type",
            kills="lists-of-anything-iterated",
        )
    for name, content in (("element-number", ["a", 1]), ("element-list", [["a"]])):
        g.refuse(
            f"val-list-{name}",
            "VAL-9.2",
            "each element must fit",
            dump(param(1, nested_key=content)),
            "bad_type",
            kills={"element-number": "lists-of-anything", "element-list": "strings-of-anything"}[name],
        )
    for name, content in (("list", [["a", "b"]]), ("string", "a"), ("number", 1), ("true", True)):
        g.refuse(
            f"val-map-not-{name}",
            "VAL-9.6",
            "a value of another type in a map slot",
            dump(event("tags", {"run_id": "a", "tags": content})),
            "bad_type",
            kills={"list": "maps-of-pairs"}.get(name, "maps-of-anything"),
        )
        g.refuse(
            f"val-object-not-{name}",
            "VAL-9.6 VAL-9.5",
            "a value of another type in an object slot",
            dump(metric(1, ctx=content)),
            "bad_type",
            kills="objects-of-anything",
        )
    for name, content in (("number", {"a": 1}), ("object", {"a": {}}), ("true", {"a": True})):
        g.refuse(
            f"val-map-value-{name}",
            "VAL-9.3",
            "each value of a map must fit",
            dump(event("tags", {"run_id": "a", "tags": content})),
            "bad_type",
            kills={"number": "numbers-become-strings"}.get(name, "strings-of-anything"),
        )
    g.accept(
        "val-object-unknown-member",
        "VAL-9.5 ENV-6",
        "unknown members of an object are ignored",
        dump(metric(1, ctx={"phase": "val", "colour": {"a": 1}})),
        metric(1, ctx={"phase": "val"}),
        kills="unknown-members-refused",
    )
    assert math.copysign(1, -0.0) < 0
