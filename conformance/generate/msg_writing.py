"""MessagePack, as it is written, and on a connection. docs/spec/values.md, MSG-2.1 to MSG-5; control.md, VER-2.7"""

from __future__ import annotations

import sys

from generate.dsl import INT64_MAX, INT64_MIN, Group, Json, Piece, bad, dump, event, good, log, metric, param
from generate.evt import full, minimal
from generate.packing import Packed, array, pack, packed_log, packed_metric, packed_param, raw
from generate.serving import (
    R,
    ack,
    acked,
    closed,
    connect,
    expect,
    flat,
    frame,
    hello,
    join,
    octets,
    one,
    open_,
    published,
    quiet,
    send,
    seqs,
    start,
    subscribe,
)
from xtrack_conformance.slots import CONTROL, EVENTS
from xtrack_conformance.values import tag

SID = "5f0c9d1e2b3a48576a7b8c9d0e1f2a3b"

# fmt: off


def cases(g: Packed) -> None:
    """Add the cases."""
    _events(g)
    _numbers(g)
    _sizes(g)
    _unwritable(g)
    _too_large(g)
    _not_chosen(g)
    _server(g)
    _connection(g)


def _events(g: Packed) -> None:
    g.write("write-simplest", "MSG-3 ENV-7.4 VER-2.6", "the simplest event", metric(), kills="writes-json writes-an-array-around writes-on-behind")
    for event_type, members in {**EVENTS, **CONTROL}.items():
        seq = 0 if event_type in CONTROL else 3
        name = event_type.replace("_", "-")
        kills = "writes-names-of-python" if event_type == "checkpoint" else ""
        kills += " writes-no-last-member" if members else ""
        kills += " writes-no-control-events" if event_type in CONTROL else ""
        g.write(f"write-{name}", "MSG-3 ENV-7.2", "every member, with the names and the structure of JSON", event(event_type, full(members), seq=seq), kills=kills)
    least = event("metric", minimal(EVENTS["metric"]), seq=3)
    g.write("write-no-nil", "MSG-3.5 JSN-6.4", "an absent member is left out, and no nil", least, kind="boundary", kills="writes-nil-for-absence")
    g.write("write-ids", "MSG-3 ENV-3", "worker id and session id", event("log", log()["p"], wid="rank-0", sid=SID), kills="writes-no-ids")
    g.write("write-unknown-type", "MSG-3 ENV-7.4", "an event that nobody knows", event("energy", {"run_id": "a", "joules": 1.5, "more": [None, {"a": True}]}), kills="writes-no-unknown-types")
    of = event("tags", {"run_id": "a", "tags": {"0": "x", "": "y", "\u00e9": "z"}})
    g.write("write-keys", "MSG-3.1", "keys are strings, also where they look like numbers", of, kind="boundary", kills="writes-number-keys")
    g.write("write-same-bytes", "ENV-7.3 MSG-3", "the same event gives the same bytes", log("x", fields={"b": 1, "a": [0.1, {"$float": "NaN"}]}), kills="writes-in-changing-order")
    g.write("write-no-name-twice", "MSG-3.5 JSN-5.3", "no map of it has a name twice", event("alert", {"run_id": "a", "title": "t", "level": "error"}), kind="boundary", kills="writes-a-name-twice")
    g.write("write-nil", "MSG-3.5 JSN-6.2", "in a free slot null is a value: nil", param([None, {"a": None}]), kind="boundary", kills="writes-zero-for-nil")


def _numbers(g: Packed) -> None:
    for name, told in (("nan", "NaN"), ("infinity", "Infinity"), ("minus-infinity", "-Infinity")):
        g.write(f"write-{name}", "MSG-5 VAL-3", "a string in a number slot, though there is a float for it", metric(told), kills="writes-floats-that-are-no-json writes-nil-for-nan" if name == "nan" else "writes-floats-that-are-no-json")
        g.write(f"write-{name}-in-map", "MSG-5 VAL-3", "in a map of numbers too", event("summary", {"run_id": "a", "values": {"a": told}}), kills="writes-floats-that-are-no-json")
        g.write(f"write-{name}-free", "MSG-5 VAL-4.2", "an object with the member $float in a free slot", param({"a": [{"$float": told}]}), kills="writes-floats-that-are-no-json")
    for name, number in (("largest", sys.float_info.max), ("smallest", 5e-324), ("minus-zero", -0.0), ("one", 1.0)):
        g.write(f"write-float-{name}", "MSG-5 MSG-4.3 VAL-2.6", "a finite one is a float", metric(number), kind="boundary", kills={"largest": "writes-six-digits", "smallest": "writes-single-floats"}.get(name, "writes-whole-floats-as-integers"))
    for name, number in (("tenth", 0.1), ("half", 0.5), ("third", 1 / 3), ("2-53", 2.0**53)):
        kills = {"half": "", "2-53": "writes-whole-floats-as-integers", "third": "writes-single-floats writes-six-digits"}.get(name, "writes-single-floats")
        g.write(f"write-float-{name}", "MSG-4.3 VAL-2.6", "a float from which the same binary64 is read back", param([number]), kills=kills)
    ends = [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 + 1, INT64_MAX]
    for number in (*ends, -1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, INT64_MIN):
        name = f"minus-{-number}" if number < 0 else str(number)
        kills = "writes-integers-as-floats" + (" writes-32-bits-of-integers" if not -(2**31) <= number < 2**31 else "")
        g.write(f"write-integer-{name}", "MSG-4.3 VAL-1.4", "an integer is one on the wire, in whatever width", metric(number, step=number), kind="boundary" if number not in {0, -1} else "valid", kills=kills)


def _sizes(g: Packed) -> None:
    for count in (31, 32, 255, 256):
        g.write(f"write-string-of-{count}", "MSG-3 VAL-9", "each length has its head", log("x" * count), kind="boundary", kills="writes-short-lengths" if count > 31 else "")
    g.write("write-string-of-bytes", "MSG-3.4", "the length is that of the UTF-8, not of the characters", log("\u4e16" * 11), kind="boundary", kills="counts-characters")
    g.write("write-string-of-zero", "MSG-3.4 VAL-9", "any Unicode", log("a\0\U0001f600\u00e9\\u0041"), kills="writes-bin-for-strings")
    for count in (15, 16, 300):
        g.write(f"write-array-of-{count}", "MSG-3", "arrays of any length", param([7] * count), kind="boundary", kills="writes-short-lengths" if count > 15 else "")
        of = event("tags", {"run_id": "a", "tags": {f"n{n}": "x" for n in range(count)}})
        g.write(f"write-map-of-{count}", "MSG-3", "maps of any length", of, kind="boundary", kills="writes-short-lengths" if count > 15 else "")
    deep: list[object] = []
    for _ in range(61):
        deep = [deep]
    g.write("write-depth-64", "MSG-3.5 JSN-2.4", "64 open at once can be written", param(deep), kind="boundary", kills="writes-63-levels")


def _unwritable(g: Packed) -> None:
    def odd(case_id: str, clauses: str, why: str, value: Json, *instead: Json, **more: object) -> None:
        g.encode_value(f"msg-{case_id}", clauses, why, value, {"rejected": {}}, also_allowed=list(instead), **more)

    deep: list[object] = []
    for _ in range(62):
        deep = [deep]
    odd("write-depth-65", "MSG-3.5 JSN-2.4", "65 open at once can't", param(deep), kind="boundary", kills="writes-any-depth")
    half, number = param(["\ud83d"]), tag(param(float("nan")))
    odd("write-half-a-pair", "MSG-3.4 JSN-3.1", "half of a surrogate pair has no UTF-8", half, {"not_event": tag(half)}, needs=["lone_surrogates"], kills="writes-surrogates")
    odd("write-fake-form", "MSG-5 VAL-4.5", "an object that would be read as a number", param({"$float": "NaN"}), {"not_event": number}, kills="writes-fake-forms")
    for name, value in (("beyond", 2**63), ("far-beyond", 2**70)):
        told = "although MessagePack has room for it" if value < 2**64 else "there is no room for it either"
        instead = [{"event": param([float(value)])}, {"event": param([str(value)])}]
        kind, kills = ("boundary", "writes-unsigned-integers") if value < 2**64 else ("invalid", "cuts-large-integers")
        odd(f"write-{name}-int64", "MSG-4.3 VAL-4.7", f"no integer beyond int64 in a free slot: {told}", param([value]), *instead, kind=kind, kills=kills)


def _too_large(g: Packed) -> None:
    batch = event("metric_batch", {"run_id": "a", "metrics": {f"m{n:02}": 0.1 for n in range(90)}})
    size, least = len(dump(batch)), len(pack(batch))
    assert size + 200 < least, (size, least)
    g.write("large-fits", "VER-2.7 VER-2.6", "where MessagePack fits, it is MessagePack", batch, limit=65_536, kills="writes-json")
    g.write("large-json", "VER-2.7", "90 floats take 3 bytes each in JSON and 9 in MessagePack, where that is too large", batch, limit=(size + least) // 2, as_json=True, kills="large-is-refused large-goes-anyway")
    g.write("large-json-just", "VER-2.7", "JSON that has exactly as many bytes as are taken", batch, limit=size + 16, as_json=True, kind="boundary", kills="large-is-refused large-goes-anyway")
    g.write("large-both", "VER-2.7 FRM-3.9", "too large in both: nothing of it goes", batch, limit=size // 2, refused=True, kind="invalid", kills="large-goes-anyway json-of-any-size")


def _not_chosen(g: Packed) -> None:
    """Add what holds where no ``welcome`` chose MessagePack, for those that could write it."""
    of = event("summary", {"run_id": "a", "values": {f"m{n}": -1.7976931348623157e308 for n in range(20)}})
    size, least = len(dump(of)), len(pack(of))
    assert least < size - 200, (size, least)
    more = {"needs": ["messagepack"], "axes": ["again"]}
    Group.add(g, "msg-not-chosen", "encoder", "MSG-1.1 VER-2.3", "where nobody chose MessagePack it is JSON, though that takes twice the bytes", kind="valid", input={"event": of}, expect={"event": of}, kills="msgpack-writes-unasked", **more)
    Group.add(g, "msg-not-chosen-large", "encoder", "MSG-1.1 FRM-3.9", "also where MessagePack would fit, and JSON is too large", kind="boundary", input={"event": of, "limit": (size + least) // 2}, expect={"rejected": {}}, kills="msgpack-writes-unasked", **more)
    packed = pack(log())
    assert b"\0" not in packed  # which would be damage, and cost more than its frame
    g.recording("msg-recording-json", "MSG-1.3 FRM-6", "a recording of JSON is read", [good(log("\u0080\u00de", seq=1)), good(metric(seq=2))], kills="recordings-of-ascii")
    for name, head in (("empty-map", raw("80")), ("head-alone", raw("8f"))):
        pieces = [[good(log(seq=1)), bad(head, class_), good(log(seq=3))] for class_ in ("bad_utf8", "bad_json")]
        g.recording(f"msg-recording-{name}", "MSG-1.3 FRM-6.3", "the shortest MessagePack there is costs its frame alone", pieces[0], or_pieces=pieces[1:], kind="boundary", kills="recordings-of-messagepack")
    pieces = [[good(log(seq=1)), bad(packed, class_), good(log(seq=3))] for class_ in ("bad_utf8", "bad_json")]
    g.recording("msg-recording-event", "MSG-1.3 FRM-6.3", "nor does a whole event in MessagePack stand in a recording", pieces[0], or_pieces=pieces[1:], kind="invalid", kills="recordings-of-messagepack")


def _server(g: Packed) -> None:
    """Add what servers are asked, whichever codec they choose."""
    would_like, chosen = hello(codecs=["msgpack", "json"]), frame("welcome", codec={"$in": ["msgpack", "json"]})

    def asks(conn: str) -> list[Json]:
        return [connect(conn), send(conn, would_like), expect(conn, chosen)]

    def script(case_id: str, clauses: str, why: str, *steps: Json | list[Json], **more: object) -> None:
        g.script(f"msg-server-{case_id}", "server", clauses, why, *flat(*steps), **more)

    writes = [join("w"), open_("w", R)]
    script("json-after-welcome", "MSG-2.1 VER-2.6 MSG-1", "whatever it chose, it takes JSON, and answers in what it chose", start(), asks("w"), open_("w", R), send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)), quiet("w"), kills="server-takes-no-json server-answers-in-json server-welcomes-in-it")
    script("nothing-asked", "MSG-1.1 VER-2.2 VER-2.6", "who names no codec gets JSON", start(), connect("w"), send("w", hello(codecs=None)), expect("w", frame("welcome", codec="json")), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1)), quiet("w"), kind="boundary", kills="server-unasked server-chooses-it-unasked")
    script("reject", "VER-2.6 FRM-5.1", "reject is JSON, whatever was chosen", start(), asks("w"), open_("w", R), send("w", octets("ff ff ff ff")), closed("w", may_reject=["*"]), kind="invalid", kills="server-rejects-in-it")
    later = one("metric", {"run_id": "r", "key": "k", "value": 0.5, "later": [1.5, {"a": None}]}, seq=4, of=R)
    script("publishes", "VER-2.6 CTL-11.2", "events come in what was chosen, members that nobody knows and all", start(), *writes, send("w", seqs(R, 1, 3), later), acked("w", ack(R, 4)), asks("s"), send("s", subscribe("r", 0)), published("s", seqs(R, 1, 3), later), quiet("s"), kills="server-publishes-json server-drops-members")
    huge = one("metric", {"run_id": "r", "key": "k", "value": 0.5, "later": 10**24}, seq=2, of=R)
    script("no-room", "VER-2.7 CTL-11.2", "an integer that MessagePack can't hold, in a member that nobody knows: the event goes as JSON", start(), *writes, send("w", seqs(R, 1), huge, seqs(R, 3)), acked("w", ack(R, 3)), asks("s"), send("s", subscribe("r", 0)), published("s", seqs(R, 1), huge, seqs(R, 3)), quiet("s"), kills="server-drops-members")
    before, after = dump({"t": "param", "v": 1, "m": {"seq": 2, "ts": 1, "sid": R[2]}, "p": {"run_id": "r", "key": "k", "value": "@"}}).split('"@"')
    floats: Json = {"raw": [{"frame": [{"text": f"{before}["}, {"repeat": [{"text": "0.1,"}], "times": 200_000}, {"text": f"0.1]{after}"}]}]}
    script("too-large", "VER-2.7 FRM-3.1", "800,000 bytes of JSON, which would be 1,800,000 in MessagePack", start(max_frame=1_048_576), *writes, send("w", seqs(R, 1), floats), acked("w", ack(R, 2)), asks("s"), send("s", subscribe("r", 0)), published("s", seqs(R, 1), floats), quiet("s"), kind="boundary", needs=["limits"], kills="server-publishes-any-size")


def _connection(g: Packed) -> None:
    def packed(of: Json) -> Piece:
        return Piece([{"frame": [{"hex": pack(of).hex(" ")}]}], {})

    def feed(case_id: str, clauses: str, why: str, *pieces: Piece, **more: object) -> None:
        g.feed(f"msg-{case_id}", clauses, why, pieces, **more)

    one, two, three = log(seq=1), metric(seq=2), log(seq=3)
    feed("frames", "MSG-2 FRM-1.3 VER-2.6", "frame behind frame", packed(one), packed(two), kills="only-json")
    feed("frames-json-between", "MSG-2.1 MSG-2", "JSON between MessagePack is read", packed(one), good(two), packed(three), kills="no-json-beside")
    feed("frames-json-alone", "MSG-2.1", "and where nothing else comes", good(one), good(two), kind="boundary", kills="no-json-beside")
    feed("frames-json-with-space", "MSG-2.1 MSG-2", "JSON that begins with white space", good(" " + dump(one)), packed(two), kind="boundary", kills="no-json-beside")
    feed("frames-bad-json", "MSG-2.1 FRM-5.4", "bad JSON costs itself alone", packed(one), bad('{"v":1,', "bad_json"), packed(three), kind="invalid", kills="json-unchecked")
    feed("frames-bad", "MSG-3.3 FRM-5.4", "so does bad MessagePack: one byte too many, and a member too few", packed(one), bad(pack(two) + b"\0", "bad_json"), bad(pack(two)[:-1], "bad_json"), packed(three), kind="invalid", kills="goes-on-taken cut-taken")
    feed("frames-no-map", "MSG-2 FRM-5.4", "so does what begins neither", bad(array(two), "bad_utf8"), good(three), kind="invalid", kills="arrays-around-taken")
    feed("frames-zeros", "MSG-4 FRM-5.7", "zero bytes in a payload are numbers, and no damage", Piece([{"frame": [{"hex": packed_param([0] * 9).hex(" ")}]}], {}), packed(three), kind="boundary", kills="zeros-are-damage")
    feed("frames-foreign", "MSG-3.2 FRM-5.4", "a type that is no JSON costs its frame alone", bad(packed_param(raw("c40100")), "bad_json"), packed(three), kind="invalid", kills="bytes-become-strings")
    feed("frames-strings", "MSG-3.4 FRM-5.4", "and so does a string that is no UTF-8", bad(packed_log(raw("a1ff")), "bad_utf8"), packed(three), kind="invalid", kills="lax-utf8")
    feed("frames-numbers", "MSG-5.1 MSG-4.1", "numbers of every kind", Piece([{"frame": [{"hex": packed_metric(raw("ca7fc00000"), step=raw("cf0000000000000001")).hex(" ")}]}], {}), kind="boundary", kills="single-floats-refused")
