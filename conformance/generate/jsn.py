"""How a payload's text is read. docs/spec/values.md, JSN"""

from __future__ import annotations

from generate import jsn_near, jsn_text, jsn_values
from generate.dsl import Group, dump, event, log, metric, param, raw, raw_log, raw_metric, raw_param, spliced

OK = metric()


def cases() -> Group:
    """Return the cases."""
    g = Group("jsn")
    _utf8(g)
    jsn_text.add(g)
    _depth(g)
    _surrogates(g)
    jsn_values.integers(g)
    jsn_values.names(g)
    jsn_values.null(g)
    jsn_values.tokens(g)
    jsn_near.add(g)
    return g


def _utf8(g: Group) -> None:
    wrong = {
        "overlong-nul": "c0 80", "overlong-slash": "c1 af", "overlong-three": "e0 80 af", "overlong-three-last":
        "e0 9f bf", "overlong-four": "f0 8f bf bf", "surrogate-first": "ed a0 80", "surrogate-last": "ed bf bf",
        "surrogate-pair": "ed a0 bd ed b8 80", "above-unicode": "f4 90 80 80", "f5": "f5 80 80 80", "ff": "ff",
        "fe": "fe", "continuation-alone": "80", "cut-two": "c3", "cut-three": "e2 82", "cut-four": "f0 9f 98",
        "bad-continuation": "c3 28", "five-bytes": "f8 88 80 80 80",
    }  # fmt: skip
    for name, data in wrong.items():
        clause = "JSN-1.2" if name.startswith(("overlong", "surrogate", "above")) else "JSN-1.1"
        g.refuse(
            f"jsn-utf8-{name}",
            f"{clause} JSN-1",
            f"{data} is no UTF-8",
            spliced(raw_log('"@"'), "@", bytes.fromhex(data)),
            "bad_utf8",
            kills={
                "overlong": "overlong-utf8",
                "surrogate": "encoded-surrogates",
                "above": "utf8-beyond-unicode",
                "f5": "utf8-beyond-unicode",
                "five": "utf8-beyond-unicode",
            }.get(name.partition("-")[0], "bad-utf8-replaced"),
        )
    right = {
        "u0080": 0x80,
        "u07ff": 0x7FF,
        "u0800": 0x800,
        "ud7ff": 0xD7FF,
        "ue000": 0xE000,
        "uffff": 0xFFFF,
        "u10000": 0x10000,
        "u10ffff": 0x10FFFF,
        "u007f": 0x7F,
    }
    for name, code in right.items():
        g.accept(
            f"jsn-utf8-{name}",
            "JSN-1.2 JSN-1.1 VAL-9",
            f"U+{code:04X} is a character at the end of a range",
            raw_log(f'"{chr(code)}"'),
            log(chr(code)),
            kind="boundary",
            kills="surrogates-neighbours-refused"
            if name in {"ud7ff", "ue000"}
            else "last-of-a-length-refused"
            if name.endswith("f")
            else "first-of-a-length-refused",
        )
    base = dump(log("x", unknown="@"))
    places = {
        "unknown-member": base,
        "unknown-name": dump(log("x") | {"@": 1}),
        "unknown-nested": dump(log("x", unknown={"a": ["@"]})),
        "unknown-type": dump(event("energy", {"run_id": "a", "what": "@"})),
        "free-slot": raw_param('{"@":1}'),
        "meta": dump(event("log", {"run_id": "a", "level": "info", "msg": "x"}, wid="@")),
        "type": dump(log("x") | {"t": "@"}),
    }
    for name, text in places.items():
        g.refuse(
            f"jsn-utf8-in-{name}",
            "JSN-1.1",
            "every byte of the payload counts, also where nobody looks",
            spliced(text, "@", b"\xff"),
            "bad_utf8",
            kills={"unknown-member": "unknown-members-unchecked"}.get(name, "bad-utf8-replaced"),
        )


def _depth(g: Group) -> None:
    def nested(levels: int, opening: str = "[", closing: str = "]", core: str = "") -> str:
        return opening * levels + core + closing * levels

    for kind, opening, closing, core in (("arrays", "[", "]", ""), ("objects", '{"a":', "}", "1")):
        value: object = [] if kind == "arrays" else 1
        for _ in range(61 if kind == "arrays" else 62):
            value = [value] if kind == "arrays" else {"a": value}
        g.accept(
            f"jsn-depth-64-{kind}",
            "JSN-2.1",
            "64 are open at once, the outermost object included",
            raw_param(nested(62, opening, closing, core)),
            param(value),
            kind="boundary",
            kills="depth-one-less",
        )
        g.refuse(
            f"jsn-depth-65-{kind}",
            "JSN-2",
            "65 are open at once",
            raw_param(nested(63, opening, closing, core)),
            "too_deep",
            kind="boundary",
            kills="depth-one-more",
        )
    inner: object = {"$float": "NaN"}
    for _ in range(61):
        inner = [inner]
    g.accept(
        "jsn-depth-64-form",
        "JSN-2.1 JSN-2.2 VAL-4.3",
        "the object of a float is the 64th that is open",
        raw_param(nested(61, core='{"$float":"NaN"}')),
        param(inner),
        kind="boundary",
        kills="depth-one-less",
    )
    g.refuse(
        "jsn-depth-65-form",
        "JSN-2 JSN-2.2",
        "the object of a float counts like any other",
        raw_param(nested(62, core='{"$float":"NaN"}')),
        "too_deep",
        kind="boundary",
        kills="depth-one-more forms-take-no-level-to-read",
    )
    g.refuse(
        "jsn-depth-thousands",
        "JSN-2 ERR-4.2",
        "100,000 open arrays must not bring a reader down",
        [
            {"text": raw_param("@").split("@")[0]},
            {"repeat": [{"text": "["}], "times": 100_000},
            {"repeat": [{"text": "]"}], "times": 100_000},
            {"text": "}}"},
        ],
        "too_deep",
        kills="null-for-what-is-too-deep",
    )
    g.refuse(
        "jsn-depth-unclosed",
        "JSN-2.3 ERR-4.2",
        "100,000 arrays that nobody closes: either fault may be told",
        [{"text": raw_param("@").split("@")[0]}, {"repeat": [{"text": "["}], "times": 100_000}],
        "bad_json",
        or_class=["too_deep"],
        kills="end-not-noticed",
    )
    g.refuse(
        "jsn-depth-unknown-member",
        "JSN-2.2 ENV-6.1",
        "in an unknown member too",
        raw(metric(unknown="@x"), x=nested(63)),
        "too_deep",
        kills="unknown-members-unchecked",
    )
    g.refuse(
        "jsn-depth-unknown-type",
        "JSN-2.2 ENV-5.1",
        "in an event of unknown type too",
        raw(event("energy", {"x": "@x"}), x=nested(63)),
        "too_deep",
        kills="depth-one-more",
    )
    g.accept(
        "jsn-depth-unknown-member-64",
        "JSN-2.1 JSN-2.2",
        "64 are allowed in an unknown member",
        raw(metric(unknown="@x"), x=nested(62)),
        OK,
        kind="boundary",
        kills="depth-one-less",
    )
    g.accept(
        "jsn-depth-side-by-side",
        "JSN-2.1",
        "a hundred arrays side by side are not deep",
        raw_param("[" + ",".join(["[]"] * 100) + "]"),
        param([[] for _ in range(100)]),
        kind="boundary",
        kills="brackets-counted-not-nested",
    )
    g.accept(
        "jsn-depth-in-string",
        "JSN-2.1 JSN-1.3",
        "brackets in a string open nothing",
        raw_log('"' + "[{" * 60 + '"'),
        log("[{" * 60),
        kind="boundary",
        kills="brackets-counted-not-nested",
    )


def _surrogates(g: Group) -> None:
    for name, text in {
        "high": "\\ud83d",
        "low": "\\ude00",
        "reversed": "\\ude00\\ud83d",
        "two-high": "\\ud83d\\ud83d",
        "high-then-letter": "\\ud83dx",
        "high-then-escape": "\\ud83d\\n",
        "high-then-bmp": "\\ud83d\\u0041",
        "capitals": "\\uD83D",
        "first-high": "\\ud800",
        "last-high": "\\udbff",
        "first-low": "\\udc00",
        "last-low": "\\udfff",
        "pair-then-low": "\\ud83d\\ude00\\ude00",
    }.items():
        g.refuse(
            f"jsn-surrogate-{name}",
            "JSN-3",
            "half of a surrogate pair stands without the other",
            raw_log(f'"{text}"'),
            "bad_json",
            kind="boundary" if "first" in name or "last" in name else "invalid",
            kills="lone-surrogates-accepted",
        )
    for name, text in {
        "in-name": raw_param('{"\\ud83d":1}'),
        "in-unknown-member": raw(metric(unknown="@x"), x='"\\ud83d"'),
        "in-unknown-name": raw_metric("1").replace('"k"', '"k","\\ude00":1', 1),
        "in-free-slot": raw_param('["\\ud83d"]'),
        "in-unknown-type": raw(event("energy", {"x": "@x"}), x='"\\ud83d"'),
    }.items():
        g.refuse(
            f"jsn-surrogate-{name}",
            "JSN-3 ENV-6.1",
            "names and unknown members are no exception",
            text,
            "bad_json",
            kills="lone-surrogates-accepted",
        )
    g.accept(
        "jsn-surrogate-pair",
        "JSN-3",
        "a pair is one character",
        raw_log('"\\ud83d\\ude00"'),
        log("\U0001f600"),
        kills="escaped-pairs-refused",
    )
    g.accept(
        "jsn-surrogate-pair-last",
        "JSN-3",
        "the last pair is U+10FFFF",
        raw_log('"\\udbff\\udfff"'),
        log("\U0010ffff"),
        kind="boundary",
        kills="escaped-pairs-refused",
    )
    g.accept(
        "jsn-surrogate-neighbours",
        "JSN-3",
        "U+D7FF and U+E000 are characters",
        raw_log('"\\ud7ff\\ue000"'),
        log("\ud7ff\ue000"),
        kind="boundary",
        kills="surrogates-neighbours-refused",
    )
    g.accept(
        "jsn-surrogate-spelled-out",
        "JSN-3",
        "a backslash that is escaped begins no escape",
        raw_log('"\\\\ud83d"'),
        log("\\ud83d"),
        kind="boundary",
        kills="escaped-backslashes-escape",
    )
