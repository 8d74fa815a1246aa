"""Classes of errors and their order. docs/spec/errors.md"""

from __future__ import annotations

from generate.dsl import Group, dump, metric, raw
from generate.frames import FAULTS

PAIRS = (
    ("bad-utf8-before-bad-json", "bad_utf8", [{"text": '{"v":1,"t":"'}, {"hex": "ff"}, {"text": '",'}], ""),
    ("bad-json-before-bad-envelope", "bad_json", "[1,]", ""),
    ("too-deep-before-bad-envelope", "too_deep", "[" * 65 + "]" * 65, ""),
    ("too-deep-before-bad-type", "too_deep", dump(metric("x", unknown="@x")).replace('"@x"', "[" * 63 + "]" * 63), ""),
    ("bad-envelope-before-version", "bad_envelope", '{"v":2,"t":"metric","m":{"seq":1,"ts":1}}', ""),
    ("bad-envelope-before-missing", "bad_envelope", '{"v":1,"t":"metric","m":{},"p":[]}', ""),
    ("version-before-missing", "unsupported_version", '{"v":3,"t":"metric","m":{"seq":1,"ts":1},"p":{"run_id":"a","value":"x"}}', ""),
    ("version-before-meta", "unsupported_version", '{"v":2,"t":"metric","m":{},"p":{}}', ""),
    ("missing-before-type", "missing_field", '{"v":1,"t":"metric","m":{"seq":1,"ts":1},"p":{"run_id":"a","value":1,"step":"ten"}}', ""),
    ("missing-before-type-in-meta", "missing_field", '{"v":1,"t":"metric","m":{"seq":"1","ts":1},"p":{"run_id":"a","value":1}}', ""),
    ("missing-before-range", "missing_field", '{"v":1,"t":"metric","m":{"seq":0,"ts":1},"p":{"run_id":"a","value":1}}', ""),
    ("type-before-value", "bad_type", '{"v":1,"t":"log","m":{"seq":1,"ts":1},"p":{"run_id":5,"level":"loud","msg":"m"}}', ""),
    ("type-before-range", "bad_type", raw(metric("@x", step="ten"), x="1e400"), "precedence-by-place"),
    ("value-before-range", "bad_value", '{"v":1,"t":"log","m":{"seq":0,"ts":1},"p":{"run_id":"a","level":"loud","msg":"m"}}', ""),
    ("range-in-envelope-last", "missing_field", '{"v":1,"t":"metric","m":{"seq":9223372036854775808,"ts":1},"p":{"run_id":"a"}}', ""),
)  # fmt: skip

FAR_APART = {"too-deep-before-bad-type", "missing-before-range", "range-in-envelope-last", "type-before-range"}
"""Those whose faults don't follow each other in the table."""


def cases() -> Group:
    """Return the cases."""
    g = Group("err")
    for class_, payload in FAULTS.items():
        g.refuse(
            f"err-class-{class_.replace('_', '-')}",
            "ERR-1 ERR-1.1",
            f"a payload of the class {class_}, and of no other",
            payload,
            class_,
            kills={
                "bad_utf8": "bad-utf8-replaced",
                "bad_json": "end-not-noticed",
                "too_deep": "depth-one-more",
                "bad_envelope": "any-json-is-an-event",
                "unsupported_version": "later-versions-taken",
                "missing_field": "absent-numbers-are-zero",
                "bad_type": "numbers-by-javascript",
                "bad_value": "closed-sets-are-open",
                "out_of_range": "seq-zero-accepted",
            }[class_],
        )
    for name, class_, payload, kills in PAIRS:
        g.refuse(
            f"err-{name}",
            "ERR-2",
            "of several faults the one that stands first in the table is told",
            payload,
            class_,
            level="SHOULD",
            kind="invalid" if name in FAR_APART else "boundary",
            kills=kills,
        )
    for name, data in (
        ("nul", "00"),
        ("ff", "ff"),
        ("brace", "7b"),
        ("quote", "22"),
        ("zeros", "00*64"),
        ("msgpack", "81 a1 76 01"),
        ("gzip", "1f 8b 08 00"),
        ("minus", "2d"),
        ("half-escape", "22 5c"),
        ("cbor", "bf 61 76 01 ff"),
    ):
        class_ = {"ff": "bad_utf8", "msgpack": "bad_utf8", "gzip": "bad_utf8", "cbor": "bad_utf8"}.get(name, "bad_json")
        g.refuse(
            f"err-any-bytes-{name}",
            "ERR-4.2",
            "no input makes a reader fail, crash or stop",
            [{"hex": data}],
            class_,
            kills={
                "brace": "end-not-noticed",
                "quote": "end-not-noticed",
                "minus": "end-not-noticed",
                "half-escape": "end-not-noticed",
            }.get(name, "unknown-codecs-handed-on"),
        )
    return g
