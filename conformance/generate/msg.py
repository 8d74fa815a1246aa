"""MessagePack, as it is read. docs/spec/values.md, MSG-2 to MSG-5.1"""

from __future__ import annotations

import struct
from typing import Any

from generate import msg_writing
from generate.dsl import INT64_MAX, INT64_MIN, Json, dump, event, log, metric, param
from generate.evt import full
from generate.packing import (
    Packed,
    Raw,
    array,
    pack,
    packed_log,
    packed_metric,
    packed_param,
    pairs,
    raw,
    string,
    wide,
)
from xtrack_conformance.slots import CONTROL, EVENTS

ENVELOPE = ("t", "v", "m", "p")

# fmt: off


def cases() -> Packed:
    """Return the cases."""
    g = Packed("msg")
    _first_byte(g)
    _structure(g)
    _keys(g)
    _foreign(g)
    _broken(g)
    _strings(g)
    _as_in_json(g)
    _integers(g)
    _floats(g)
    _non_finite(g)
    msg_writing.cases(g)
    return g


def _with_head(code: int, of: Json) -> bytes:
    """Return an event's map with a longer head."""
    size = {0xDE: 2, 0xDF: 4}[code]
    return bytes([code]) + len(of).to_bytes(size, "big") + pack(of)[1:]


def _first_byte(g: Packed) -> None:
    g.take("map", "MSG-2 MSG-3", "84 begins a map of four: MessagePack", packed_metric(), metric(), kills="only-json")
    for name, code in (("map-16", 0xDE), ("map-32", 0xDF)):
        g.take(f"head-{name}", "MSG-2", f"{code:X} begins MessagePack too", _with_head(code, log()), log(), kind="boundary", kills="only-short-maps")
    g.take("head-map-of-15", "MSG-2 ENV-6", "8F: the envelope and eleven members that nobody knows", pack(log() | {f"x{n}": n for n in range(11)}), log(), kind="boundary", kills="only-shorter-heads")
    g.take("head-map-of-16", "MSG-2 ENV-6", "with one more it takes the longer head", pack(log() | {f"x{n}": n for n in range(12)}), log(), kind="boundary", kills="only-short-maps")
    g.deny("head-empty-map", "MSG-2 MSG-3", "80 is a map without an envelope", raw("80"), "bad_envelope", kind="boundary", kills="empty-maps-taken")
    for name, payload in (
        ("array", array(log())),
        ("array-16", raw("dc0001") + pack(log())),
        ("array-32", raw("dd00000001") + pack(log())),
        ("nil", raw("c0")),
        ("string", pack(dump(log()))),
        ("bin", raw("c404") + b"{}{}"),
        ("ext", raw("d6ff00000000")),
        ("unused", raw("c1") + pack(log())),
        ("false", raw("c2")),
        ("float", raw("cb3ff0000000000000")),
        ("negative", raw("ff")),
    ):
        g.deny(f"head-{name}", "MSG-2 MSG-3", "begins no map: it is read as JSON, and is no UTF-8", payload, "bad_utf8", kills="arrays-around-taken" if name == "array" else "any-first-byte")
    g.deny("head-7f", "MSG-2", "7F is no map, and no JSON", b"\x7f" + pack(log()), "bad_utf8", kind="boundary", or_class=["bad_json"], kills="any-first-byte")
    g.take("json", "MSG-2 MSG-2.1", "JSON is read wherever MessagePack is", dump(log()), log(), kills="no-json-beside")
    for name, byte in (("space", " "), ("tab", "\t"), ("line-feed", "\n"), ("carriage-return", "\r")):
        g.take(f"json-{name}", "MSG-2 MSG-2.1 JSN-1.4", "white space begins JSON, and is no number of MessagePack's", byte + dump(log()), log(), kind="boundary", kills="no-json-beside")
    g.deny("json-array", "MSG-2 MSG-2.1", "an array of JSON is no envelope here either", "[1]", "bad_envelope", kills="json-unchecked")
    g.deny("json-bad", "MSG-2.1 JSN-1.3", "JSON is held to its rules", dump(log())[:-1], "bad_json", kills="json-unchecked")


def _structure(g: Packed) -> None:
    for event_type, members in {**EVENTS, **CONTROL}.items():
        of = event(event_type, full(members), seq=0 if event_type in CONTROL else 2)
        name = event_type.replace("_", "-")
        kills = {"checkpoint": "names-of-its-own", "metric": "names-of-its-own"}.get(event_type, "")
        kills += " last-member-lost" if of["p"] else ""
        kills += " control-events-refused" if event_type in CONTROL else ""
        g.take(f"read-{name}", "MSG-3", "every member, with the names and the structure of JSON", pack(of), of, kills=kills)
    of = event("energy", {"run_id": "a", "joules": 1.5, "more": [None, {"a": True}]})
    g.take("read-unknown-type", "MSG-3 ENV-5", "an event that nobody knows, as in JSON", pack(of), of, kills="unknown-types-refused")
    backwards = {name: log()[name] for name in reversed(ENVELOPE)}
    g.take("read-backwards", "MSG-3 ENV-7.1", "the order of members means nothing", pack(backwards), log(), kind="boundary", kills="envelope-in-order")
    for count, of in ((15, param([7] * 15)), (16, param([7] * 16)), (300, param([7] * 300))):
        g.take(f"read-array-of-{count}", "MSG-3", "arrays of any length", pack(of), of, kind="boundary", kills="only-short-arrays" if count > 15 else "only-shorter-heads")
    for count in (15, 16, 300):
        of = event("tags", {"run_id": "a", "tags": {f"n{n}": "x" for n in range(count)}})
        g.take(f"read-map-of-{count}", "MSG-3", "maps of any length", pack(of), of, kind="boundary", kills="only-short-maps" if count > 15 else "only-shorter-heads")
    long = raw("dd00000002") + pack(1) + pack("x")
    g.take("read-array-in-long-form", "MSG-3", "a short array may have the longest head", packed_param(Raw(long)), param([1, "x"]), kind="boundary", kills="only-short-arrays")
    g.deny("two-maps", "MSG-3 MSG-3.3", "exactly one map", pack(log()) + pack(log()), kills="goes-on-taken")
    g.deny("map-in-list", "MSG-3 ENV-1.1", "the structure is that of JSON: a body is no array", pack({**log(), "p": ["a", "info", "x"]}), "bad_envelope", kills="bodies-in-arrays")


def _keys(g: Packed) -> None:
    for name, text in (("empty", ""), ("long", "n" * 40), ("very-long", "n" * 300), ("digits", "0")):
        of = event("tags", {"run_id": "a", "tags": {text: "x"}})
        g.take(f"key-{name}", "MSG-3.1", "any string is a key", pack(of), of, kind="boundary" if name != "digits" else "valid", kills={"empty": "empty-names-dropped", "digits": "names-of-digits-dropped"}.get(name, "only-short-strings"))
    g.take("key-in-long-form", "MSG-3.1", "a short key may have a longer head", pack(log()).replace(b"\xa3msg", b"\xdb\0\0\0\x03msg"), log(), kind="boundary", kills="only-short-strings")
    for name, key in (
        ("integer", pack(0)), ("nil", raw("c0")), ("true", raw("c3")), ("float", pack(1.5)), ("bin", raw("c40161")),
        ("array", array()), ("map", pairs()), ("ext", raw("d40161")),
    ):
        kills = {"bin": "keys-become-strings", "ext": "foreign-types-taken", "map": "keys-of-any-type"}.get(name, "keys-become-strings keys-of-any-type")
        g.deny(f"key-{name}", "MSG-3.1 MSG-3.3", "a key that is no string, in a free slot", packed_param(pairs((Raw(key), 1))), kills=kills)
    for name, payload in (
        ("envelope", pairs(*log().items(), (0, 1))),
        ("meta", pack({**log(), "m": pairs(("seq", 2), ("ts", 1), (0, 1))})),
        ("body", pack({**log(), "p": pairs(*log()["p"].items(), (0, 1))})),
        ("map", pack(event("tags", {"run_id": "a", "tags": pairs((0, "x"))}))),
        ("unknown-member", pack(log(unknown=[pairs((0, 1))]))),
    ):
        g.deny(f"key-integer-in-{name}", "MSG-3.1 MSG-3.3", "in every map, known or not", payload, kind="boundary" if name == "unknown-member" else "invalid", kills="keys-become-strings unknown-unchecked" if name == "unknown-member" else "keys-become-strings")


FOREIGN = {
    "bin-8": "c4 01 61", "bin-8-empty": "c4 00", "bin-16": "c5 0001 61", "bin-32": "c6 00000001 61",
    "fixext-1": "d4 05 61", "fixext-2": "d5 05 6161", "fixext-4": "d6 05 61616161", "fixext-8": "d7 05 6161616161616161",
    "fixext-16": "d8 05 61616161616161616161616161616161", "ext-8": "c7 03 05 616161", "ext-8-empty": "c7 00 05",
    "ext-16": "c8 0001 05 61", "ext-32": "c9 00000001 05 61",
    "timestamp-32": "d6 ff 65000000", "timestamp-64": "d7 ff 0000000065000000", "timestamp-96": "c7 0c ff 00000000 0000000065000000",
}
"""What stands for no JSON."""


def _foreign(g: Packed) -> None:
    for name, digits in FOREIGN.items():
        kills = "times-become-strings" if name.startswith("timestamp") else "bytes-become-strings" if name.startswith("bin") else "ext-becomes-nil"
        kind = "boundary" if "empty" in name else "invalid"
        g.deny(f"{name}-in-free-slot", "MSG-3.2", "no JSON has it", packed_param([raw(digits)]), kind=kind, kills=kills)
    for name, digits in (("bin-8", "c4 01 61"), ("ext-8", "c7 01 05 61"), ("timestamp-32", "d6 ff 65000000")):
        g.deny(f"{name}-in-string", "MSG-3.2", "nor does it stand for a string", packed_log(raw(digits)), kills="foreign-types-taken" + (" bytes-become-strings" if name == "bin-8" else ""))
        g.deny(f"{name}-in-unknown-member", "MSG-3.2", "nor in a member that nobody knows", packed_log(unknown=[raw(digits)]), kind="boundary", kills="unknown-unchecked")
        g.deny(f"{name}-in-number", "MSG-3.2", "nor for a number", packed_metric(raw(digits)), kills="foreign-types-taken")
    g.deny("timestamp-in-ts", "MSG-3.2", "a time is an integer of microseconds", pack({**log(), "m": {"seq": 2, "ts": raw("d6ff65000000")}}), kills="times-become-integers")
    g.take("string-8-in-string", "MSG-3.2 VAL-9", "a string of 8 bits of length holds the same bytes, and is one", packed_log(raw("d90161")), log("a"), kills="only-short-strings")


def _broken(g: Packed) -> None:
    whole = packed_metric(0.5)
    for name, payload, why in (
        ("head-alone", whole[:1], "nothing follows the head"),
        ("in-key", whole[:2], "the payload ends inside a key"),
        ("behind-key", whole[:3], "a key without a value"),
        ("in-map", pack(log())[:-4], "members are missing"),
        ("in-float", whole[:-3], "the payload ends inside a number"),
        ("last-byte", whole[:-1], "one byte is missing"),
        ("in-length", packed_log(raw("da00")), "the payload ends inside a length"),
    ):
        g.deny(f"cut-{name}", "MSG-3.3", why, payload, kind="boundary" if name in {"head-alone", "last-byte"} else "invalid", kills="cut-taken")
    for name, digits in (("zero", "00"), ("nil", "c0"), ("space", "20"), ("line-feed", "0a"), ("unused", "c1"), ("map", "80")):
        g.deny(f"behind-{name}", "MSG-3.3 MSG-3", "nothing may follow the map, white space neither", pack(log()) + raw(digits), kind="boundary" if name in {"space", "line-feed"} else "invalid", kills="goes-on-taken")
    for name, payload in (
        ("free-slot", packed_param([raw("c1")])),
        ("string", packed_log(raw("c1"))),
        ("unknown-member", packed_log(unknown=raw("c1"))),
        ("key", packed_param(pairs((raw("c1"), 1)))),
    ):
        g.deny(f"unused-type-in-{name}", "MSG-3.3", "C1 is no type", payload, kills="foreign-types-taken" + ("" if name in {"string", "key"} else " unused-type-is-nil"))
    for name, digits in (
        ("string", "db ffffffff"), ("array", "dd ffffffff"), ("map", "df ffffffff"), ("bin", "c6 ffffffff"), ("array-16", "dc ffff"),
    ):
        g.deny(f"announced-{name}", "MSG-3.3 ERR-4.2", "a length that nothing follows is refused, and costs nothing", packed_param(raw(digits)), kind="boundary", kills="cut-taken")
    g.take("one-map", "MSG-3.3 MSG-3", "the map ends where the payload ends", pack(param({})), param({}), kills="only-json")


def _strings(g: Packed) -> None:
    for name, text in (
        ("ascii", "text"), ("two-bytes", "\u00e9"), ("three-bytes", "\u4e16"), ("four-bytes", "\U0001f600"), ("zero", "a\0b"),
        ("last", "\U0010ffff"), ("before-surrogates", "\ud7ff"), ("behind-surrogates", "\ue000"), ("controls", "\t\n\x1f\x7f"),
        ("no-character", "\ufffe\uffff"), ("byte-order-mark", "\ufeffx"), ("backslash", "\\u0041"), ("empty", ""),
    ):
        kind = "valid" if name in {"ascii", "two-bytes", "three-bytes", "four-bytes"} else "boundary"
        kills = {"four-bytes": "strings-of-three-bytes", "backslash": "escapes-resolved", "byte-order-mark": "mark-dropped", "zero": "strings-end-at-zero", "empty": "empty-strings-refused", "controls": "controls-dropped", "ascii": ""}.get(name, "strings-of-one-byte")
        g.take(f"string-{name}", "MSG-3.4 VAL-9", "any Unicode, as it stands: there are no escapes", packed_log(text), log(text), kind=kind, kills=kills)
    for count in (31, 32, 255, 256):
        g.take(f"string-of-{count}", "MSG-3.4 VAL-9", "each length has its head", packed_log("x" * count), log("x" * count), kind="boundary", kills="only-short-strings" if count > 31 else "only-shorter-heads")
    before = pack({**log(), "p": pairs(*log()["p"].items(), ("unknown", raw("db00010000")))})
    big = [{"hex": f"{before.hex(' ')} 78*65536"}]
    g.take("string-of-65536", "MSG-3.4", "a string of 32 bits of length", big, log(), kind="boundary", kills="only-short-strings")
    for name, digits in (
        ("ff", "ff"), ("continuation", "80"), ("cut", "e4 b8"), ("overlong", "c0 80"), ("overlong-3", "e0 80 af"),
        ("surrogate", "ed a0 80"), ("surrogate-pair", "ed a0 bd ed b8 80"), ("beyond", "f4 90 80 80"), ("latin", "e9"),
    ):
        kind = "boundary" if name in {"surrogate", "beyond", "overlong"} else "invalid"
        kills = "lax-utf8 surrogates-taken" if "surrogate" in name else "lax-utf8"
        g.deny(f"utf8-{name}", "MSG-3.4 JSN-1.2", "a string that is no UTF-8", packed_log(string(bytes.fromhex(digits))), "bad_utf8", kind=kind, kills=kills)
    bad = string(b"\xff")
    for name, payload in (
        ("key", packed_param(pairs((bad, 1)))),
        ("free-slot", packed_param([bad])),
        ("unknown-member", packed_log(unknown=bad)),
        ("unknown-name", pack({**log(), "p": pairs(*log()["p"].items(), (bad, 1))})),
    ):
        g.deny(f"utf8-in-{name}", "MSG-3.4 JSN-1.1", "wherever it stands", payload, "bad_utf8", kills="lax-utf8")


def _as_in_json(g: Packed) -> None:
    def nested(levels: int, *, maps: bool = False) -> Raw:
        inner = (b"\x81\xa1a" * (levels - 1) + b"\x80") if maps else (b"\x91" * (levels - 1) + b"\x90")
        return Raw(inner)

    def tree(levels: int, *, maps: bool = False) -> Any:
        found: Any = {} if maps else []
        for _ in range(levels - 1):
            found = {"a": found} if maps else [found]
        return found

    for maps in (False, True):
        kind = "maps" if maps else "arrays"
        g.take(f"depth-{kind}-64", "MSG-3.5 JSN-2.1", "64 open at once, with the envelope and the body", packed_param(nested(62, maps=maps)), param(tree(62, maps=maps)), kind="boundary", kills="depth-63")
        g.deny(f"depth-{kind}-65", "MSG-3.5 JSN-2", "65 are one too many", packed_param(nested(63, maps=maps)), "too_deep", kind="boundary", kills="depth-65")
        g.deny(f"depth-{kind}-1000", "MSG-3.5 JSN-2", "1,000 open at once", packed_param(nested(1000, maps=maps)), "too_deep", kills="any-depth")
    g.deny("depth-unknown-member", "MSG-3.5 JSN-2.2", "in members that nobody knows as well", packed_log(unknown=nested(63)), "too_deep", kills="unknown-unchecked depth-65")
    g.deny("depth-cut", "MSG-3.5 JSN-2 JSN-2.3", "100,000 arrays that have no end", [{"hex": f"{packed_param(Raw()).hex(' ')} 91*100000"}], "bad_json", kind="boundary", or_class=["too_deep"], kills="cut-taken")
    twice = pairs(("run_id", "a"), ("level", "info"), ("msg", "first"), ("msg", "last"))
    g.take("name-twice", "MSG-3.5 JSN-5", "refused, or the last one counts", pack({**log(), "p": twice}), log("last"), or_refused=True, kind="boundary", kills="first-of-two")
    g.take("name-twice-in-free-slot", "MSG-3.5 JSN-5", "in a free slot as well", packed_param(pairs(("a", 1), ("a", 2))), param({"a": 2}), or_refused=True, kind="boundary", kills="first-of-two")
    g.take("nil-is-absence", "MSG-3.5 JSN-6", "nil in an optional member", packed_metric(0.5, step=None, ctx=None), metric(), kills="nil-refused")
    g.take("nil-in-meta", "MSG-3.5 JSN-6", "in m as well", pack({**log(), "m": {"seq": 2, "ts": 1, "wid": None, "sid": None}}), log(), kills="nil-refused")
    g.take("nil-in-free-slot", "MSG-3.5 JSN-6.2", "in a free slot it is a value", packed_param(None), param(None), kind="boundary", kills="nil-is-zero")
    g.take("nil-in-list", "MSG-3.5 JSN-6.2", "at any depth", packed_param([None, {"a": None}]), param([None, {"a": None}]), kind="boundary", kills="nil-is-zero")
    g.deny("nil-required", "MSG-3.5 JSN-6.1", "nil in a required member", packed_metric(None), "bad_type", kills="nil-is-nothing")
    g.deny("nil-in-map", "MSG-3.5 JSN-6.3", "inside a map it is no absence", pack(event("tags", {"run_id": "a", "tags": {"a": None}})), "bad_type", kills="nil-is-nothing")
    g.take("empty-map-is-absence", "MSG-3.5 JSN-6.5", "an empty map in an optional map slot", packed_log(fields={}), log(), kind="boundary", kills="empty-maps-refused")
    g.take("empty-wid-is-absence", "MSG-3.5 JSN-6.6", "an empty worker id", pack({**log(), "m": {"seq": 2, "ts": 1, "wid": ""}}), log(), kind="boundary", kills="empty-ids-refused")
    g.deny("array-for-map", "MSG-3.5 JSN-6.8", "an empty array in a map slot", pack(event("tags", {"run_id": "a", "tags": []})), "bad_type", kills="arrays-for-maps")
    g.deny("true-in-number-strict", "MSG-3 VAL-2.8", "a boolean in a number slot, to a strict reader", packed_metric(True), "bad_type", reader="strict", kills="always-lenient")
    g.take("true-in-number-lenient", "MSG-3 VAL-2.9", "a lenient reader takes it as 1", packed_metric(True), metric(1), reader="lenient", kills="always-strict")


WIDTHS = {
    "uint-8": (0xCC, 0, 255), "uint-16": (0xCD, 0, 65535), "uint-32": (0xCE, 0, 2**32 - 1), "uint-64": (0xCF, 0, INT64_MAX),
    "int-8": (0xD0, -128, 127), "int-16": (0xD1, -(2**15), 2**15 - 1), "int-32": (0xD2, -(2**31), 2**31 - 1),
    "int-64": (0xD3, INT64_MIN, INT64_MAX),
}
"""Of each width its byte, and the ends of what it holds and int64 too."""


def _integers(g: Packed) -> None:
    for value in (0, 1, 127, -1, -32):
        g.take(f"integer-short-{value}".replace("--", "-minus-"), "MSG-4 VAL-1", "an integer in one byte", packed_metric(value, step=value), metric(value, step=value), kind="boundary" if value in {127, -32} else "valid", kills="short-integers-unsigned" if value < 0 else "short-integers-of-six-bits" if value == 127 else "")
    for name, (code, least, most) in WIDTHS.items():
        for end, value in (("least", least), ("one", 1), ("greatest", most)):
            broken = {("int-8", "least"), ("int-16", "least")}, {("uint-16", "one"), ("uint-32", "one")}
            kills = f"{name}-refused" + (" bytes-unsigned" if (name, end) in broken[0] else " little-endian" if (name, end) in broken[1] else "")
            number = wide(value, code)
            g.take(f"integer-{name}-{end}", "MSG-4 VAL-1.4", "any width, needed or not", packed_metric(number, step=number), metric(value, step=value), kind="valid" if end == "one" else "boundary", kills=kills)
    exact = 2**53 + 1
    g.take("integer-2-53-plus-1", "MSG-4 VAL-1.4", "an integer keeps all its digits", packed_metric(exact, step=-exact), metric(exact, step=-exact), kind="boundary", kills="integers-by-way-of-binary64")
    g.take("integer-in-envelope", "MSG-4 ENV-2", "v, seq and ts in the widest form", pack({**log(), "v": wide(1, 0xD3), "m": {"seq": wide(2, 0xCF), "ts": wide(1, 0xD2)}}), log(), kind="boundary", kills="uint-64-refused int-32-refused int-64-refused")
    for name, value in (("2-63", 2**63), ("2-64-minus-1", 2**64 - 1)):
        number = wide(value, 0xCF)
        g.take(f"integer-{name}-in-number", "MSG-4 VAL-2.2", "beyond int64: the nearest binary64", packed_metric(number), metric(float(value)), kind="boundary", kills="wraps-around")
        g.take(f"integer-{name}-free", "MSG-4 VAL-4.1", "in a free slot as well", packed_param([number]), param([float(value)]), kind="boundary", kills="wraps-around")
        g.deny(f"integer-{name}-in-integer", "MSG-4 VAL-1.1", "an integer slot has no room for it", packed_metric(1, step=number), "out_of_range", kind="boundary", kills="wraps-around")
    g.deny("integer-in-string", "MSG-4 VAL-9.1", "an integer is no string", packed_log(wide(1, 0xD3)), "bad_type", kills="numbers-become-strings")


def _single(value: float) -> float:
    return float(struct.unpack(">f", struct.pack(">f", value))[0])


def _floats(g: Packed) -> None:
    def f32(value: float) -> Raw:
        return Raw(b"\xca" + struct.pack(">f", value))

    for name, value in (
        ("half", 0.5), ("tenth", 0.1), ("third", 1 / 3), ("one", 1.0), ("minus-zero", -0.0), ("largest", 3.4028234663852886e38),
        ("smallest", 1.401298464324817e-45), ("smallest-normal", 1.1754943508222875e-38), ("minus", -2.5),
    ):
        kind = "boundary" if name in {"minus-zero", "largest", "smallest", "smallest-normal"} else "valid"
        kills = "single-floats-refused" + {"tenth": " single-floats-by-digits", "third": " single-floats-by-digits"}.get(name, "")
        g.take(f"float-32-{name}", "MSG-4.1 VAL-2.3", "the binary64 of the same value, and no rounder one", packed_metric(f32(value)), metric(_single(value)), kind=kind, kills=kills)
    g.take("float-32-free", "MSG-4.1 VAL-4.1", "in a free slot as well", packed_param([f32(0.1)]), param([_single(0.1)]), kills="single-floats-by-digits single-floats-refused")
    g.deny("float-32-in-string", "MSG-4.1 VAL-9.1", "a number is no string", packed_log(f32(0.5)), "bad_type", kills="numbers-become-strings")
    for name, number, whole in (
        ("ten", pack(10.0), 10), ("ten-32", f32(10.0), 10), ("minus-zero", pack(-0.0), 0), ("2-53", pack(2.0**53), 2**53),
        ("minus", pack(-3.0), -3), ("int64-min", pack(-(2.0**63)), INT64_MIN), ("below-2-63", pack(2.0**63 - 1024), 2**63 - 1024),
    ):
        g.take(f"whole-float-{name}", "MSG-4.2 JSN-4", "a float whose value is an integer, in an integer slot", packed_metric(1, step=Raw(number)), metric(1, step=whole), kind="valid" if name in {"ten", "ten-32", "minus"} else "boundary", kills="whole-floats-refused")
    g.take("whole-float-version", "MSG-4.2 ENV-2", "the version is an integer slot too", pack({**log(), "v": 1.0}), log(), kind="boundary", kills="whole-floats-refused")
    for name, number, class_ in (
        ("half", 1.5, "bad_type"), ("small", 1e-300, "bad_type"), ("nan", float("nan"), "bad_type"), ("infinity", float("inf"), "bad_type"),
        ("2-63", 2.0**63, "out_of_range"), ("1e300", 1e300, "out_of_range"),
    ):
        kind = "boundary" if name == "2-63" else "invalid"
        g.deny(f"broken-float-{name}", "MSG-4.2 VAL-1.3 VAL-1.1", "no int64, in an integer slot", packed_metric(1, step=number), class_, kind=kind, kills="floats-are-cut" if name in {"half", "small"} else "floats-saturate")
    g.take("whole-float-in-number", "MSG-4.2 VAL-2.3", "in a number slot it stays a float", packed_metric(1.0), metric(1.0), kind="boundary", kills="whole-floats-are-integers")


def _non_finite(g: Packed) -> None:
    for name, digits, told in (
        ("nan", "cb 7ff8000000000000", "NaN"), ("nan-minus", "cb fff8000000000000", "NaN"), ("nan-bits", "cb 7ff0000000000001", "NaN"),
        ("nan-32", "ca 7fc00000", "NaN"), ("infinity", "cb 7ff0000000000000", "Infinity"), ("infinity-32", "ca 7f800000", "Infinity"),
        ("minus-infinity", "cb fff0000000000000", "-Infinity"), ("minus-infinity-32", "ca ff800000", "-Infinity"),
    ):
        kind = "boundary" if name in {"nan-minus", "nan-bits"} else "valid"
        g.take(f"{name}-in-number", "MSG-5.1", "a float as it is, in a number slot, to every reader", packed_metric(raw(digits)), metric(told), kind=kind, kills="strict-refuses-nan non-finite-is-nil")
        g.take(f"{name}-free", "MSG-5.1", "in a free slot as well", packed_param({"a": [raw(digits)]}), param({"a": [{"$float": told}]}), kind=kind, kills="non-finite-refused-in-free-slots non-finite-is-nil")
    for name, told in (("nan", "NaN"), ("infinity", "Infinity"), ("minus-infinity", "-Infinity")):
        g.take(f"{name}-as-string", "MSG-5.1 VAL-3.1", "the writers' form is read too", packed_metric(told), metric(told), kills="forms-refused")
    g.take("nan-in-map", "MSG-5.1", "in a map of numbers", pack(event("summary", {"run_id": "a", "values": {"a": float("nan")}})), event("summary", {"run_id": "a", "values": {"a": "NaN"}}), kills="strict-refuses-nan")
    g.take("nan-form-free", "MSG-5.1 VAL-4.3", "the writers' form in a free slot", packed_param({"$float": "NaN"}), param({"$float": "NaN"}), kills="forms-are-objects")
    g.take("nan-string-free", "MSG-5.1 VAL-4.6", "a string in a free slot is that string", packed_param("NaN"), param("NaN"), kind="boundary", kills="strings-become-numbers-in-free-slots")
    g.deny("nan-in-string", "MSG-5.1 VAL-9.1", "in no other slot", packed_log(float("nan")), "bad_type", kills="nan-becomes-a-string")
    g.deny("nan-in-boolean", "MSG-5.1 VAL-5", "nor in a boolean's", pack(event("checkpoint", {"run_id": "a", "step": 1, "path": "p", "is_best": float("nan")})), "bad_type", kills="numbers-are-booleans")
