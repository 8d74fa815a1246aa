"""Plain files and segments. docs/spec/at-rest.md, RST-1 to RST-5 and RST-8"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

from generate.dsl import Json, Parts, dump, event, log, metric
from generate.dsl import good as frame
from generate.resting import (
    HEADER,
    OTHER_SALT,
    SALT,
    Bit,
    Files,
    changed,
    damage,
    events_of,
    good,
    head,
    header,
    hexed,
    rec,
    segment,
    torn,
    unreadable,
    zeros,
)
from xtrack_conformance.scripts.store_common import make
from xtrack_conformance.segments import START

# A case a line, as in a table:
# fmt: off

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "at-rest.md"
SIZE = len(make(rec(1)))
"""Bytes of the record of a log line."""

SKIP = event("skip", {"run_id": "a", "sid": "s", "from": 4, "to": 6}, seq=0)


def cases() -> Files:
    """Return the cases."""
    g = Files("rst")
    _plain(g)
    _header(g)
    _records(g)
    _torn(g)
    _damage(g)
    _examples(g)
    _follow(g)
    _write(g)
    _kinds(g)
    return g


def _frames(*of: Json) -> Parts:
    return [part for one in of for part in frame(one).parts]


def _plain(g: Files) -> None:
    size = 4 + len(dump(log()))
    one = {"offset": 0, "length": size, "t": "log"}
    g.file("rst-plain-frame", "RST-1 RST-8.1 RST-8.2 RST-8.3", "frames from the first byte on, and nothing before", _frames(log()), {"kind": "plain", "items": [one]}, kills="plain-has-a-header")
    two = {"kind": "plain", "items": [one, {"offset": size, "length": size, "t": "log"}]}
    g.file("rst-plain-frames", "RST-1", "frames follow each other without anything between", _frames(log(), log(seq=3)), two, kills="plain-has-a-header")
    g.file("rst-plain-empty", "RST-1.4 RST-8.1", "a file without bytes is a plain file without frames", [], {"kind": "plain", "items": []}, kind="boundary", kills="empty-file-unknown")
    g.file("rst-plain-one-zero", "RST-8.1", "one byte 00 makes it a plain file, however damaged", zeros(1), {"kind": "plain"}, kind="boundary", kills="zeros-are-unknown")
    g.file("rst-plain-damaged-frame", "RST-1 RST-8.1 RST-1.1", "a plain file with an error stays a plain file", [*_frames(log()), {"frame": [{"text": "{]"}]}], {"kind": "plain", "items": [one, {"offset": size, "length": 6, "error": "bad_json"}]}, kind="invalid", kills="plain-with-errors-is-none")
    g.file("rst-plain-payload-no-event", "RST-1.1 RST-1", "a payload that is JSON and no event is an error of one byte, and no end", [{"frame": [{"text": "1"}]}, *_frames(log())], {"kind": "plain", "items": [{"offset": 0, "length": 5, "error": "bad_envelope"}, {"offset": 5, "length": size, "t": "log"}]}, kind="boundary", kills="plain-has-a-header")
    g.write("rst-plain-write", "RST-1 RST-1.1 RST-1.2", "a writer appends whole frames and no header", "plain", events=[log(seq=1), log(seq=2)], kills="plain-written-with-header plain-little-endian plain-written-as-lines")
    g.write("rst-plain-write-one", "RST-1 RST-1.2", "one event is one frame", "plain", events=[metric(seq=1)], kind="boundary", kills="plain-written-with-header plain-written-as-lines")
    g.write("rst-plain-write-none", "RST-1 RST-1.4", "without events there are no bytes", "plain", events=[], kind="boundary", kills="plain-written-with-header")
    g.write("rst-plain-write-text", "RST-1.1", "a payload is the JSON of its event, in UTF-8", "plain", events=[log("\u00fc \U0001f600", seq=1)], kills="plain-written-as-lines plain-written-with-header")
    g.write("rst-plain-write-empty-payload", "RST-1.2 FRM-2.1", "a frame without a payload is none, and can't be written", "plain", payloads=[[]], refused=True, kind="invalid", kills="empty-payload-written")


def _header(g: Files) -> None:
    first = changed([{"block": HEADER}], (23, 1))
    second = [{"block": HEADER}]
    told = dict(HEADER)
    g.read("rst-header", "RST-2 RST-2.1 RST-2.2 RST-8 RST-8.2", "two blocks of 4096 bytes, and the records behind them", good(1), told=told, kills="records-begin-at-4096")
    g.read("rst-header-alone", "RST-2", "a segment without records is one", told=told, kind="boundary", kills="segment-without-records-is-none")
    for name, at in (("magic", 0), ("length", 11), ("body", 20), ("crc", 12 + len(dump(HEADER)) + 1)):
        bad = changed([{"block": HEADER}], (at, 1))
        g.read(f"rst-header-first-{name}", "RST-2.1", f"a flipped bit in the first block's {name}: the second is used", good(1), front=[*bad, *second], told=told, kind="boundary", kills="second-header-unused")
        g.read(f"rst-header-second-{name}", "RST-2.1", f"a flipped bit in the second block's {name}: the first is used", good(1), front=[*second, *bad], told=told, kind="boundary", kills="both-headers-needed")
    g.read("rst-header-first-zeros", "RST-2.1 RST-8", "the first block was lost with its sector", good(1), front=[*zeros(4096), *second], told=told, kind="boundary", kills="second-header-unused magic-at-0-only")
    g.read("rst-header-first-wins", "RST-2.1", "of two blocks that hold the first is used", good(1), front=head(header(number=1), header(number=7)), told={"number": 1}, kind="boundary", kills="last-header-wins")
    for name, body in (
        ("list", [{"text": "[]"}]),
        ("no-json", [{"text": '{"run_id":"a","sid":"s"'}]),
        ("no-utf8", [{"text": '{"run_id":"'}, {"hex": "ff"}, {"text": '","sid":"s"}'}]),
        ("no-run", header(run_id=None)),
        ("no-sid", header(sid=None)),
        ("run-number", header(run_id=5)),
        ("run-null", {**HEADER, "run_id": None}),
        ("sid-null", {**HEADER, "sid": None}),
        ("number-string", header(number="1")),
        ("salt-short", header(salt="5eed001")),
        ("salt-long", header(salt="5eed00012")),
        ("salt-no-hex", header(salt="5eed000g")),
    ):
        why = "a block whose body is no such object doesn't hold, although its CRC does: "
        g.read(f"rst-header-body-{name}", "RST-2.1 RST-2.9" if name.endswith("null") else "RST-2.1", f"{why}the second is used", good(1), front=head(body, HEADER), told=told, kind="invalid", kills="header-body-unchecked")
        g.file(f"rst-header-bodies-{name}", "RST-2.2", f"{why}where neither does the file is refused", segment(good(1), front=head(body)), {"kind": "segment", "refused": True}, kind="invalid", kills="header-body-unchecked")
    refused = {"kind": "segment", "refused": True}
    g.file("rst-header-none", "RST-2.2 RST-8 RST-2", "neither block holds: the file is a segment, and refused", segment(good(1), front=[*first, *first]), refused, kind="invalid", kills="header-crc-unchecked unheld-header-guessed")
    g.file("rst-header-cut", "RST-2.2", "the first block is damaged and the file ends before the second", first, refused, kind="invalid", kills="header-crc-unchecked unheld-header-guessed")
    g.read("rst-header-only-first", "RST-2.1", "a file that ends inside the second block has a header and no records", front=changed(second + second, to=6000), told=told, kind="boundary", kills="both-headers-needed")
    g.file("rst-header-magic-alone", "RST-2.2 RST-8", "a file of eight bytes, the magic", [{"text": "XTRKSEG1"}], refused, kind="boundary", kills="unheld-header-guessed")
    fill = 4080 - len(dump(header(run_id="")))
    longest = header(run_id="r" * fill)
    g.read("rst-header-body-longest", "RST-2 RST-2.1", "a body of 4080 bytes fills its block", good(1), front=head(longest), told={"run_id": "r" * fill}, kind="boundary", kills="header-body-max")
    over = changed(second, (10, 0x10))
    g.file("rst-header-length-beyond", "RST-2.1 RST-2.2", "a body that announces more than its block holds doesn't hold", segment(good(1), front=[*over, *over]), refused, kind="invalid", kills="unheld-header-guessed")
    g.read("rst-header-unknown-members", "RST-2.3", "members that nobody knows are ignored", good(1), front=head({**HEADER, "host": "h", "x": {"y": [1, None]}}), told=told, kills="unknown-header-member-refused")
    room = 4080 - len(dump(header(host="")))
    g.read("rst-header-unknown-member-longest", "RST-2.3", "also one that fills the block to its end", good(1), front=head(header(host="h" * room)), told=told, kind="boundary", kills="unknown-header-member-refused header-body-max")
    defaults = {"wid": "", "number": 1, "first_seq": 1, "created": 0, "salt": "00000000"}
    g.read("rst-header-least", "RST-2.1 RST-2.9", "absent members read as what the table says, the salt as 0", good(1, salt=""), front=head({"run_id": "a", "sid": "s"}), told={"run_id": "a", "sid": "s", **defaults}, kind="boundary", kills="absent-salt-refused")
    nulls = {"run_id": "a", "sid": "s", "wid": None, "number": None, "first_seq": None, "created": None, "salt": None}
    g.read("rst-header-null", "RST-2.9 RST-2.1", "null in an optional member is absence", good(1, salt=""), front=head(nulls), told={"run_id": "a", "sid": "s", **defaults}, kills="header-null-refused")
    g.read("rst-header-least-damage", "RST-2.1 RST-5.6", "without a salt in the header a record with one is none", damage(rec(1), seq=None), front=head({"run_id": "a", "sid": "s"}), kind="invalid", kills="header-crc-of-record-unchecked")
    g.read("rst-header-worker", "RST-2.1", "a worker's segment names it", good(1), front=head(header(wid="rank-3")), told={"wid": "rank-3"}, kills="header-wid-dropped")
    g.read("rst-header-text", "RST-2.1", "ids are any text", good(1), front=head(header(run_id="\u00fc/\U0001f600", sid="")), told={"run_id": "\u00fc/\U0001f600", "sid": ""}, kind="boundary", kills="header-ids-in-ascii")
    g.read("rst-header-salt-upper", "RST-2.1", "hexadecimal digits have two cases", good(1), front=head(header(salt=SALT.upper())), kind="boundary", kills="upper-salt-refused")
    g.read("rst-header-first-seq-0", "RST-2.1", "0: it isn't known which seq is first", good(9), front=head(header(first_seq=0)), told={"first_seq": 0}, kind="boundary", kills="header-first-seq-at-least-1")
    g.read("rst-header-number-large", "RST-2.1", "the millionth segment of a stream", good(1), front=head(header(number=1_000_000)), told={"number": 1_000_000}, kind="boundary", kills="header-number-of-six-digits")
    padded = changed(second, (4095, 0xFF))
    g.read("rst-header-padding", "RST-2.1", "what stands behind the CRC is not asked about by a reader", good(1), front=[*padded, *padded], told=told, kind="boundary", kills="header-padding-checked")


def _records(g: Files) -> None:
    g.read("rst-record", "RST-3 RST-3.5 RST-3.4", "a record that holds", good(1), kills="records-begin-at-4096")
    g.read("rst-records", "RST-3 RST-5.6", "records follow each other without a gap", good(1), good(2, metric(seq=2)), good(3), kills="only-first-record")
    g.read("rst-record-descending", "RST-3.3", "who files away what others sent writes as it comes", good(3), good(1), good(2), kind="boundary", kills="descending-seq-is-damage")
    g.read("rst-record-skip", "RST-3.2 CTL-1.5", "a declared loss stands under seq 0", good(3), Bit(rec(0, SKIP), {"seq": 0, "t": "skip"}), good(7), kills="control-in-segment-is-damage")
    g.read("rst-record-again", "RST-3.7 RST-3.5", "a record may stand there twice; a reader of the file tells both", good(1), good(1), kind="boundary", kills="repeated-record-told-once")
    g.read("rst-record-seq-large", "RST-3 RST-3.5", "a seq takes 64 bits", good(2**40 + 5), kind="boundary", kills="seq-of-32-bits")
    g.read("rst-record-one-byte", "RST-3.4 RST-3.6", "a payload of one byte is a valid record, and no event", unreadable(1, "x", "bad_json"), good(2), kind="boundary", kills="short-record-is-damage undecodable-is-damage undecodable-stops-file")
    for name, payload, class_ in (
        ("utf8", [{"text": '{"t":"log'}, {"hex": "ff"}, {"text": '"}'}], "bad_utf8"),
        ("envelope", "[1]", "bad_envelope"),
        ("version", dump(log(seq=2)).replace('"v":1', '"v":9'), "unsupported_version"),
        ("missing", '{"t":"metric","v":1,"m":{"seq":2,"ts":1},"p":{"run_id":"a"}}', "missing_field"),
    ):
        g.read(f"rst-record-undecodable-{name}", "RST-3.6 RST-3.1", f"a valid record that can't be decoded ({class_}) costs that record alone", good(1), unreadable(2, payload, class_), good(3), kind="invalid", kills="undecodable-is-damage undecodable-stops-file")
    unknown = event("energy", {"run_id": "a", "joules": 1.5})
    g.read("rst-record-unknown-type", "RST-3.6 ENV-5", "an event of unknown type is an event", good(2, unknown), kills="unknown-type-is-an-error")
    g.read("rst-record-length-0", "RST-3.4 RST-5.5", "a record that announces no payload is damage, with its seq", damage(rec(7, []), seq=7), good(8), kind="invalid", kills="empty-record-taken")
    g.read("rst-record-length-max", "RST-3.4 RST-5", "16,777,215 bytes are announced, and the file ends: a torn tail", good(1), torn(rec(2, length=16_777_215)), kind="boundary", kills="limit-one-less")
    g.read("rst-record-length-over", "RST-3.4 RST-5.5", "16,777,216 bytes are announced: damage, with its seq", good(1), damage(rec(2, length=16_777_216), seq=2), kind="invalid", kills="limit-one-more huge-length-ends-file")
    g.read("rst-record-length-over-goes-on", "RST-3.4 RST-5.3", "behind a record that announces too much the next one is found", damage(rec(1, length=0x7FFFFFFF), seq=1), good(2), kind="invalid", kills="huge-length-ends-file")
    ok, n = rec(2), SIZE
    for name, at in (("payload", 30), ("payload-crc", n - 1)):
        g.read(f"rst-record-flipped-{name}", "RST-3.5 RST-5.2 RST-5.5 RST-5.7", f"a flipped bit in the {name}: this record is damage, its seq is known", good(1), damage(changed(ok, (at, 4)), seq=2), good(3), kind="invalid", kills="payload-crc-unchecked damage-without-seq damage-stops behind-damage-unverified")
    for name, at in (("magic", 0), ("magic-end", 3), ("length", 7), ("seq", 15), ("header-crc", 16)):
        g.read(f"rst-record-flipped-{name}", "RST-3.5 RST-5.2 RST-5.3 RST-5.7", f"a flipped bit in the {name}: this record is damage, and nobody knows its seq", good(1), damage(changed(ok, (at, 4))), good(3), kind="invalid", kills="damage-stops behind-damage-unverified" + (" header-crc-of-record-unchecked" if name in {"seq", "header-crc"} else ""))
    # ---- salt
    g.read("rst-salt-other", "RST-4 RST-3.5 RST-5.6", "a record of another segment is none of this one", good(1), damage(rec(2, salt=OTHER_SALT)), good(3), kind="invalid", kills="header-crc-of-record-unchecked")
    g.read("rst-salt-other-tail", "RST-4 RST-5.6", "what a reused block has left behind the last record is damage", good(1), damage(rec(2, salt=OTHER_SALT), rec(3, salt=OTHER_SALT)), kind="invalid", kills="header-crc-of-record-unchecked")
    g.read("rst-salt-highest", "RST-4 RST-3.5", "a salt takes 32 bits", good(1, salt="ffffffff"), front=head(header(salt="ffffffff")), told={"salt": "ffffffff"}, kind="boundary", kills="salt-of-31-bits")
    g.read("rst-salt-payload", "RST-3 RST-3.5", "the payload's CRC goes on from the header's", good(1), damage(_payload_crc_alone(), seq=2), good(3), kind="invalid", kills="payload-crc-unchecked payload-crc-from-zero")


def _payload_crc_alone() -> Parts:
    """Return a record whose payload's CRC was begun anew."""
    payload = dump(log(seq=2)).encode()
    return [*changed(rec(2), to=SIZE - 4), {"hex": zlib.crc32(payload).to_bytes(4, "big").hex(" ")}]


def _torn(g: Files) -> None:
    for name, size in (("1", 1), ("magic-2", 2), ("magic-3", 3), ("magic", 4), ("length", 7), ("seq", 12), ("header-crc", 19), ("header", 20), ("payload", 60), ("payload-crc", SIZE - 1)):
        g.read(f"rst-torn-{name}", "RST-5", f"the file ends {size} bytes into a record", good(1), torn(changed(rec(2), to=size)), kind="boundary", kills="torn-is-damage torn-not-told")
    for name, length in (("0", 0), ("over", 16_777_216), ("ff", 0xFFFFFFFF)):
        g.read(f"rst-torn-length-{name}", "RST-5 RST-3.4", f"the file ends behind a length of {length:,}, which no CRC vouches for yet", good(1), torn(changed(rec(2, length=length), to=14)), kind="boundary", kills="torn-length-is-damage torn-not-told")
    g.read("rst-torn-alone", "RST-5", "the file ends inside its first record", torn(changed(rec(1), to=50)), kind="boundary", kills="torn-is-damage torn-not-told")
    for count in (1, 3, 20, 100, 5000):
        g.read(f"rst-zeros-{count}", "RST-5.1", f"{count} zero bytes up to the end were never written", good(1), torn(zeros(count)), kind="boundary", kills="zeros-are-damage torn-not-told")
    g.read("rst-zeros-alone", "RST-5.1", "nothing but zeros behind the header", torn(zeros(64)), kind="boundary", kills="zeros-are-damage torn-not-told")
    g.read("rst-zeros-no-end", "RST-5.1 RST-5.2", "zeros before a record are damage: they don't reach to the end", good(1), damage(zeros(64)), good(2), kind="invalid", kills="zeros-skipped")
    g.read("rst-zeros-then-other", "RST-5.1 RST-5.2", "the last byte is none of them: damage", good(1), damage(zeros(64), hexed("01")), kind="invalid", kills="zeros-skipped")
    g.read("rst-torn-magic-wrong", "RST-5 RST-5.2", "three bytes that begin no magic are damage", good(1), damage(hexed("f5 58 53")), kind="invalid", kills="any-tail-is-torn")
    g.read("rst-torn-text", "RST-5.2", "text at the end is damage", good(1), damage([{"text": "lost+found"}]), kind="invalid", kills="any-tail-is-torn")
    g.read("rst-torn-header-wrong", "RST-5 RST-5.2", "the file ends behind a header whose CRC doesn't hold: damage", good(1), damage(changed(rec(2), (12, 1), to=40)), kind="invalid", kills="any-tail-is-torn header-crc-of-record-unchecked")
    g.read("rst-cut-everywhere", "RST-5 RST-2.1 RST-2.2 RST-8.1", "a segment that ends at any of its bytes", good(1), good(2), axes=["cut"], kind="boundary", kills="torn-is-damage torn-not-told both-headers-needed")
    g.read("rst-flip-everywhere", "RST-5.2 RST-5.3 RST-5.4 RST-5.5 RST-2.1", "a segment with one bit turned anywhere", good(1), good(2), good(3), axes=["flip"], kind="invalid", kills="payload-crc-unchecked header-crc-of-record-unchecked damage-stops damage-without-seq second-header-unused")


def _damage(g: Files) -> None:
    flipped, payload = changed(rec(2), (0, 1)), changed(rec(2), (40, 1))
    g.read("rst-damage-to-the-end", "RST-5.4 RST-5.2", "without a record behind it damage reaches to the end", good(1), damage(flipped), kind="boundary", kills="damage-at-the-end-is-torn")
    g.read("rst-damage-last-payload", "RST-5.4 RST-5.5 RST-5.2", "the last record's payload is damaged: its seq is known", good(1), damage(payload, seq=2), kind="boundary", kills="payload-crc-unchecked damage-without-seq")
    g.read("rst-damage-first", "RST-5.4 RST-5.7", "the first record is damaged", damage(changed(rec(1), (5, 1))), good(2), kind="boundary", kills="damage-stops")
    g.read("rst-damage-then-zeros", "RST-5.4 RST-5.1", "zeros behind damage belong to it: no record should begin there", good(1), damage(flipped, zeros(50)), kind="boundary", kills="zeros-behind-damage-apart")
    g.read("rst-damage-then-torn", "RST-5.3 RST-5", "behind damage the header of a record holds, and the file ends: a torn tail", good(1), damage(flipped), torn(changed(rec(3), to=60)), kind="boundary", kills="torn-behind-damage-lost")
    g.read("rst-damage-then-magic", "RST-5.3 RST-5.4", "a magic behind damage, without a header that holds, is no place to go on", good(1), damage(flipped, changed(rec(3), to=19)), kind="invalid", kills="resync-at-magic-alone")
    g.read("rst-damage-then-half-magic", "RST-5.4", "a beginning of a magic behind damage is damage", good(1), damage(flipped, hexed("f5 58")), kind="boundary", kills="damage-at-the-end-is-torn half-magic-is-torn")
    g.read("rst-damage-twice", "RST-5.3 RST-5.5", "from damage a reader goes on at a header that holds, and that record is damaged, too", damage(changed(rec(1), (0, 1))), damage(payload, seq=2), good(3), kind="invalid", kills="payload-crc-unchecked damage-merged damage-without-seq")
    g.read("rst-damage-twice-with-seq", "RST-5.4 RST-5.5", "two damaged payloads are two places, each with its seq", damage(changed(rec(1), (40, 1)), seq=1), damage(payload, seq=2), good(3), kind="invalid", kills="payload-crc-unchecked damage-merged damage-without-seq")
    g.read("rst-damage-length-0-behind", "RST-5.3 RST-3.4", "a header that holds is a place to go on, also when it announces no payload", damage(changed(rec(1), (0, 1))), damage(rec(2, []), seq=2), good(3), kind="invalid", kills="empty-record-taken damage-merged")
    g.read("rst-damage-false-magic", "RST-5.3", "magics without a header that holds are passed over", good(1), damage(hexed("f5 58 52 31*3"), hexed("f5 58 52 31 00 00 00 54*2")), good(2), kind="invalid", kills="resync-at-magic-alone")
    inner = rec(9)
    around = rec(2, [{"text": "["}, *inner, {"text": "]"}])
    size = len(make(inner))
    begin, end = changed(changed(around, (20, 1)), to=21), [{"hex": make(around)[21 + size :].hex(" ")}]
    g.read("rst-damage-record-inside", "RST-5.3 RST-5.4 RST-5.6 RST-5.7", "a record of this segment inside a damaged one is a place to go on", good(1), damage(begin, seq=2), good(9), damage(end), good(3), kind="boundary", kills="damage-skips-announced-length")
    g.read("rst-record-inside-intact", "RST-3.5 RST-5.3", "inside a record that holds nobody looks for others", good(1), unreadable(2, [{"text": "["}, *inner, {"text": "]"}], "bad_utf8"), good(3), kind="boundary", kills="undecodable-is-damage undecodable-stops-file")
    g.read("rst-damage-inserted", "RST-5.2 RST-5.4", "bytes that stand between two records are damage", good(1), damage([{"text": "\n"}]), good(2), kind="invalid", kills="gap-between-records-skipped")
    g.read("rst-damage-record-shortened", "RST-5.4 RST-5.5", "a record that lost bytes: damage up to the next one, and its seq is known", good(1), damage(changed(rec(2), to=70), seq=2), good(3), kind="invalid", kills="damage-skips-announced-length damage-without-seq")
    g.read("rst-damage-class", "RST-5.8", "a reader that gives damage a class should call it bad_checksum", good(1), damage(payload, seq=2), good(3), kind="invalid", level="SHOULD", kills="damage-class")
    g.read("rst-torn-class", "RST-5.8", "a reader that gives a torn tail a class should call it truncated", good(1), torn(changed(rec(2), to=90)), kind="boundary", level="SHOULD", kills="torn-class")


def _examples(g: Files) -> None:
    """Add the examples of the specification."""
    text = SPEC.read_text("utf-8")
    blocks = re.findall(r"^```segment\n(.*?)^```\n\n```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for number, (block, told) in enumerate(blocks, 1):
        tokens = " ".join(line.partition("|")[0].strip() for line in block.splitlines())
        expected = {"kind": "segment", **json.loads(told)}
        g.file(f"rst-example-{number}", "RST-2 RST-3 RST-5 RST-5.1 RST-5.2 RST-5.5", "an example of the specification", hexed(tokens), expected, kills="payload-crc-unchecked damage-without-seq")


def _follow(g: Files) -> None:
    n = SIZE
    g.follow("rst-follow-bytes", "RST-5.10", "each byte of a record by itself: the rest is waited for", [0, *range(n, 2 * n)], good(1), good(2), kind="boundary", kills="follow-tells-torn")
    g.follow("rst-follow-records", "RST-5.10", "record by record", [0, n, 2 * n], good(1), good(2), good(3), kills="follow-tells-twice")
    g.follow("rst-follow-header", "RST-5.10 RST-2.5", "the header comes in pieces", [-8192, -8180, -4096, -1, 10], good(1), good(2), kind="boundary", kills="follow-tells-torn")
    g.follow("rst-follow-inside", "RST-5.10", "a look inside the magic, the header, the payload and its CRC", [n + 2, n + 12, n + 30, 2 * n - 2, 2 * n], good(1), good(2), good(3), kind="boundary", kills="follow-tells-torn")
    g.follow("rst-follow-damage", "RST-5.10 RST-5.3", "a damaged record in between costs itself alone", [n, n + 50, 2 * n, 3 * n - 1], good(1), damage(changed(rec(2), (40, 1)), seq=2), good(3), kind="invalid", kills="damage-stops")


def _write(g: Files) -> None:
    start = event("run_start", {"run_id": "a"}, seq=1, sid="s")
    three = [start, metric(seq=2), log(seq=3)]
    broken = "written-without-second-header written-salt-not-used written-crc-of-payload-from-zero"
    g.write("rst-write", "RST-2 RST-2.5 RST-3 RST-3.1 RST-3.2 RST-3.3 RST-2.7", "a segment of three events", events=three, kills=f"{broken} written-first-seq-off written-seq-counts-from-0")
    g.write("rst-write-one", "RST-2 RST-3", "a segment of one event", events=[log(seq=1)], kind="boundary", kills=broken)
    g.write("rst-write-first-seq", "RST-2.7", "a segment that begins with seq 41 says so", events=[log(seq=41), log(seq=42)], kind="boundary", kills="written-first-seq-always-1 written-seq-counts-from-0")
    g.write("rst-write-worker", "RST-2 RST-2.4", "the header names run, worker and session", run_id="a", wid="rank-1", sid="5f0c", events=[log(seq=1)], kills="written-without-wid")
    g.write("rst-write-text", "RST-2 RST-3.1", "ids are any text, and payloads UTF-8", run_id="\u00fc\U0001f600", sid="\u4e16", events=[log("\u4e16", seq=1, run_id="\u00fc\U0001f600")], kind="boundary", kills=broken)
    g.write("rst-write-skip", "RST-3.2", "a declared loss has the seq 0", events=[log(seq=3), SKIP, log(seq=7)], kind="boundary", kills="written-skip-has-a-seq")
    g.write("rst-write-gap", "RST-3.2 RST-3.3", "seqs are those of the events, with gaps where those have them", events=[log(seq=1), log(seq=5), log(seq=9)], kind="boundary", kills="written-seq-counts-from-0 written-seq-counts")
    g.write("rst-write-bytes", "RST-3.1 FRM-8.1", "white space and unknown members stay as they came", payloads=[[{"text": '{ "v":1,"t":"log","m":{"ts":1,"seq":1,"host":"h"},"p":{"msg":"x","level":"info","run_id":"a","c":1.50}}'}]], exact=True, level="SHOULD", kills="written-anew")
    g.write("rst-write-salt", "RST-4", "a new random salt for every segment", events=[log(seq=1)], times=4, kills="written-salt-constant")
    g.write("rst-write-empty-payload", "RST-3.4", "a record without a payload can't be written", payloads=[[]], refused=True, kind="invalid", kills="empty-payload-written")
    g.write("rst-write-ids-long", "RST-2.4", "ids that don't fit into a block are refused", run_id="r" * 5000, events=[log(seq=1)], refused=True, kind="invalid", kills="long-ids-cut")
    g.write("rst-write-ids-escaped", "RST-2.4", "ids that fit, and don't when JSON has escaped them, are refused", run_id="\u0001" * 700, events=[log(seq=1)], refused=True, kind="boundary", kills="long-ids-cut")
    g.write("rst-write-ids-of-1024", "RST-2.4", "three ids of 1024 bytes fit", run_id="r" * 1024, wid="w" * 1024, sid="s" * 1024, events=[log(seq=1, run_id="r" * 1024)], kind="boundary", kills="ids-of-1024-refused")


def _kinds(g: Files) -> None:
    one: Json = {"kind": "segment", "items": [{"offset": START, "length": SIZE, "seq": 1, "t": "log"}]}
    for name in ("events.bin", "capture.json", "1.db", "a.xseg.part"):
        g.file(f"rst-kind-name-{name.replace('.', '-')}", "RST-8 RST-8.2", f"a segment that is called {name} is one", events_of(1), one, name=name, kind="invalid" if name == "events.bin" else "boundary", kills="kind-by-name")
    size = 4 + len(dump(log()))
    plain: Json = {"kind": "plain", "items": [{"offset": 0, "length": size, "t": "log"}]}
    g.file("rst-kind-plain-name", "RST-8.1 RST-8.2", "a plain file that is called .xseg is one", _frames(log()), plain, name="s.000001.xseg", kind="boundary", kills="kind-by-name")
    unknown = {"kind": "unknown"}
    for case, why, content in (
        ("lines", "lines of JSON look like no plain file", [{"text": dump(log()) + "\n"}]),
        ("text", "a table of values in text", [{"text": "step,loss\n1,0.5\n"}]),
        ("half-magic", "seven bytes of the magic", [{"text": "XTRKSEG"}]),
        ("magic-at-1", "the magic at another place means nothing", [{"text": " XTRKSEG1"}]),
        ("magic-at-4095", "the magic at another place means nothing", [{"hex": "20*4095"}, {"text": "XTRKSEG1"}]),
        ("magic-2", "the magic of another version", [{"text": "XTRKSEG2"}, {"hex": "00*100"}]),
        ("ff", "a byte that no length begins with", hexed("ff*40")),
    ):
        g.file(f"rst-kind-{case}", "RST-8.3", why, content, unknown, kind="invalid" if case in {"lines", "text", "ff"} else "boundary", level="SHOULD", kills="anything-is-plain")
    g.file("rst-kind-magic-at-4096", "RST-8", "the magic at 4096 makes it a segment, with zeros before it", [*zeros(4096), {"block": HEADER}, *rec(1)], one, kind="boundary", kills="magic-at-0-only second-header-unused")
    g.file("rst-kind-zeros", "RST-8.1", "zeros alone are a plain file", zeros(10_000), {"kind": "plain"}, kind="boundary", kills="zeros-are-unknown")
