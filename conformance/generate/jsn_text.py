"""How text becomes values: tokens, white space, escapes, names. docs/spec/values.md, JSN-1"""

from __future__ import annotations

from generate.dsl import Group, dump, event, kills_of, log, metric, raw, raw_log, raw_metric, raw_param

OK = metric()


TEXT_KILLS = kills_of({
    "end-not-noticed": "no-end nothing-but-space no-closing-quote",
    "trailing-commas": "trailing-comma array-trailing-comma",
    "commas-are-white-space": "two-commas no-comma array-hole",
    "colons-before-objects-optional": "no-colon",
    "brackets-are-alike": "wrong-bracket",
    "single-quotes": "single-quotes",
    "names-without-quotes": "bare-name name-is-a-number",
    "comments-skipped": "comment comment-inside",
    "leading-zeros": "leading-zero leading-zeros-minus",
    "numbers-by-c": "no-exponent no-exponent-sign minus-alone hexadecimal two-points",
    "words-of-python": "true-in-capitals none",
    "words-by-their-first-letters": "nul-for-null",
    "undefined-is-null": "undefined",
    "escapes-of-javascript": "escape-x escape-quote escape-capital escape-zero",
    "escapes-by-scanf": "escape-short escape-not-hex",
})  # fmt: skip


def add(g: Group) -> None:
    """Add the cases."""
    body = dump(OK)
    for name, text in {
        "no-end": '{"v":1',
        "nothing-but-space": " \n",
        "trailing-comma": body[:-1] + ",}",
        "two-commas": body.replace(',"m"', ',,"m"'),
        "no-comma": body.replace(',"m"', '"m"'),
        "no-colon": body.replace('"m":', '"m"'),
        "single-quotes": body.replace('"', "'"),
        "bare-name": body.replace('"v"', "v"),
        "comment": body + "/**/",
        "comment-inside": body.replace("{", "{/**/", 1),
        "array-trailing-comma": raw_param("[1,]"),
        "array-hole": raw_param("[1,,2]"),
        "wrong-bracket": raw_param("[1}"),
        "no-closing-quote": raw_log('"x'),
        "leading-zero": raw_metric("01"),
        "leading-zeros-minus": raw_metric("-01"),
        "plus": raw_metric("+1"),
        "no-integer-part": raw_metric(".5"),
        "no-fraction": raw_metric("1."),
        "no-exponent": raw_metric("1e"),
        "no-exponent-sign": raw_metric("1e+"),
        "minus-alone": raw_metric("-"),
        "hexadecimal": raw_metric("0x10"),
        "underscore": raw_metric("1_000"),
        "two-points": raw_metric("1.2.3"),
        "true-in-capitals": raw_param("True"),
        "nul-for-null": raw_param("nul"),
        "none": raw_param("None"),
        "undefined": raw_param("undefined"),
        "escape-x": raw_log('"\\x41"'),
        "escape-quote": raw_log('"\\\'"'),
        "escape-short": raw_log('"\\u12"'),
        "escape-not-hex": raw_log('"\\u12G4"'),
        "escape-capital": raw_log('"\\U0041"'),
        "escape-zero": raw_log('"\\0"'),
        "arabic-digit": raw_metric("\u0661"),
        "name-is-a-number": raw_param("{1:2}"),
    }.items():
        g.refuse(
            f"jsn-{name}",
            "JSN-1.3 JSN-1" + (" JSN-1.8" if name in {"escape-zero", "escape-x"} else ""),
            "no JSON as RFC 8259 has it",
            text,
            "bad_json",
            kills=TEXT_KILLS.get(name, "numbers-by-python"),
        )
    for name, text in {
        "number": raw(metric(unknown="@x"), x="01"),
        "literal": raw(metric(unknown="@x"), x="nope"),
        "escape": raw(metric(unknown="@x"), x='"\\q"'),
        "nested": raw(metric(unknown="@x"), x='{"a":[1,}'),
    }.items():
        g.refuse(
            f"jsn-unknown-member-{name}",
            "JSN-1.3 ENV-6.1",
            "the text of an unknown member must be JSON too",
            text,
            "bad_json",
            kills="unknown-members-unchecked",
        )
    g.accept(
        "jsn-white-space-around",
        "JSN-1.4 JSN-1.5",
        "space, tab, line feed and carriage return, before and after",
        f" \t\n\r{body}\r\n\t ",
        OK,
        kills="white-space-around-refused",
    )
    g.accept(
        "jsn-white-space-inside",
        "JSN-1 JSN-1.3",
        "white space between all tokens",
        body.replace(":", " :\t").replace(",", "\r\n,\n"),
        OK,
        kills="white-space-inside-refused",
    )
    for name, text in {
        "text": body + " {}",
        "letter": body + "x",
        "brace": body + "}",
        "comma": body + ",",
        "nul-escape": body + "\\u0000",
    }.items():
        ident = "jsn-trailing-text" if name == "text" else f"jsn-followed-by-{name}"
        g.refuse(
            ident,
            "JSN-1.5 FRM-1.3" if name == "text" else "JSN-1.5",
            "nothing but white space may follow the text",
            text,
            "bad_json",
            kills="trailing-text-ignored",
        )
    for name, space in {
        "form-feed": "\x0c",
        "vertical-tab": "\x0b",
        "no-break-space": "\xa0",
        "line-separator": "\u2028",
        "zero-width": "\u200b",
    }.items():
        g.refuse(
            f"jsn-space-{name}",
            "JSN-1.4 JSN-1.5",
            "this is no JSON white space",
            f"{body}{space}",
            "bad_json",
            kind="boundary" if name in {"form-feed", "vertical-tab"} else "invalid",
            kills={"zero-width": "trailing-text-ignored"}.get(name, "any-white-space"),
        )
    g.refuse(
        "jsn-byte-order-mark",
        "JSN-1.6 FRM-1.4",
        "EF BB BF is no white space",
        "\ufeff" + body,
        "bad_json",
        kills="byte-order-mark-skipped",
    )
    g.refuse(
        "jsn-utf16",
        "JSN-1 JSN-1.3",
        "UTF-16 is no encoding of a payload",
        body.encode("utf-16-be"),
        "bad_json",
        or_class=["bad_utf8"],
        kills="utf16-detected",
    )
    for code in (0x01, 0x08, 0x09, 0x0A, 0x0D, 0x1F):
        g.refuse(
            f"jsn-control-{code:02x}",
            "JSN-1.7",
            f"U+{code:04X} must be escaped in a string",
            raw_log(f'"a{chr(code)}b"'),
            "bad_json",
            kind="boundary" if code in {1, 0x1F} else "invalid",
            kills="bare-controls",
        )
    g.refuse(
        "jsn-control-00",
        "JSN-1.7 FRM-6.4",
        "U+0000 must be escaped in a string",
        raw_log('"a\x00b"'),
        "bad_json",
        kills="bare-controls",
    )
    g.refuse(
        "jsn-control-in-name", "JSN-1.7", "in names too", raw_param('{"a\tb":1}'), "bad_json", kills="bare-controls"
    )
    g.accept(
        "jsn-delete",
        "JSN-1.7",
        "U+007F is no control character of JSON",
        raw_log('"a\x7fb"'),
        log("a\x7fb"),
        kind="boundary",
        kills="delete-is-a-control",
    )
    g.accept(
        "jsn-escaped-nul",
        "JSN-1.8 ERR-4.2",
        "U+0000 is a character like any other once it is escaped",
        raw_log('"a\\u0000b"'),
        log("a\0b"),
        kills="strings-end-at-nul",
    )
    g.accept(
        "jsn-all-escapes",
        "JSN-1.8 JSN-1.7",
        "each short escape, and one by number",
        raw_log(r'"\"\\\/\b\f\n\r\t\u00e9\u00E9"'),
        log('"\\/\b\f\n\r\té\u00e9'),
        kills="some-escapes-unknown",
    )
    g.accept(
        "jsn-escaped-names",
        "JSN-1.9",
        "names are compared after escapes are resolved",
        dump(OK).replace('"v"', '"\\u0076"').replace('"key"', '"\\u006bey"').replace('"seq"', '"s\\u0065q"'),
        OK,
        kills="escaped-names-unknown",
    )
    g.accept(
        "jsn-no-normalization",
        "JSN-1.9 VAL-9.4",
        "one e with an accent, and e with a combining one, are two names",
        dump(event("tags", {"run_id": "a", "tags": {"\u00e9": "1", "e\u0301": "2"}})),
        event("tags", {"run_id": "a", "tags": {"\u00e9": "1", "e\u0301": "2"}}),
        kind="boundary",
        kills="names-normalised",
    )
    g.refuse(
        "jsn-name-in-capitals",
        "JSN-1.9 ENV-1.1",
        "V is not v",
        dump(OK).replace('"v"', '"V"'),
        "bad_envelope",
        kills="names-without-case",
    )
    g.refuse(
        "jsn-name-full-width",
        "JSN-1.9 ENV-1.1",
        "a full-width letter is another name",
        dump(OK).replace('"v"', '"\uff56"'),
        "bad_envelope",
        kills="names-in-compatibility-form",
    )
    g.refuse(
        "jsn-name-with-space",
        "JSN-1.9 ENV-6",
        "a name is not trimmed",
        dump(OK).replace('"key"', '"key "'),
        "missing_field",
        kills="names-of-members-trimmed",
    )
