"""Frames on a connection. docs/spec/framing.md"""

from __future__ import annotations

from generate import frm_errors
from generate.dsl import (
    Group,
    Piece,
    bad,
    cut,
    event,
    fatal,
    good,
    log,
    metric,
    raw,
    raw_log,
    silent,
)
from generate.frames import FAULTS, MIB, TINY, sized


def cases() -> Group:
    """Return the cases."""
    g = Group("frm")
    _layout(g)
    _empty(g)
    _limits(g)
    frm_errors.add(g)
    return g


def _layout(g: Group) -> None:
    first = '{"v":1,"t":"metric","m":{"seq":1,"ts":1703123456789000},"p":{"run_id":"abc","key":"loss","value":0.5}}'
    assert len(first) == 102
    example = Piece([{"hex": "00 00 00 66"}, {"text": first}], {})
    g.feed(
        "frm-first-example",
        "FRM-1 FRM-1.1 FRM-1.3",
        "102 bytes of payload: the length is 66 in hexadecimal, of the payload alone",
        [example],
        kills="length-counts-itself length-little-endian",
    )
    g.feed(
        "frm-tiny",
        "FRM-1 FRM-1.5 FRM-2 FRM-2.2",
        "a frame small enough to be split at each of its places",
        [good(TINY)],
        kills="loses-carry-over",
    )
    g.feed(
        "frm-length-counts-itself",
        "FRM-1.1 FRM-1",
        "a length four too large takes the next frame's length for its payload's end, and nothing is right behind it",
        [
            Piece([{"hex": "00 00 00 2f"}, {"text": TINY}, {"hex": "00 00 00 2b"}], {"rejected": "bad_json"}),
            fatal("7b", "frame_too_large"),
            silent([{"text": TINY[1:]}]),
        ],
        kind="invalid",
        kills="length-counts-itself",
    )
    g.feed(
        "frm-two-frames",
        "FRM-1.2 FRM-1.5",
        "the second frame follows without a byte between",
        [good(log(seq=1)), good(log(seq=2))],
        kills="yields-backwards",
    )
    g.feed(
        "frm-three-frames",
        "FRM-1.6 FRM-1.5 ERR-3.3 ERR-1.1 ERR-3.1 ERR-4.1",
        "frames of different lengths, in the order of their offsets",
        [good(TINY), good(metric(1)), good(log("three"))],
        kills="yields-backwards",
    )
    g.feed(
        "frm-length-two-bytes",
        "FRM-1",
        "a length that takes two of its bytes: 256 = 01 00",
        [good(sized(256))],
        kind="boundary",
        kills="length-little-endian",
    )
    g.feed(
        "frm-length-three-bytes",
        "FRM-1 ERR-3.1",
        "a length that takes three of its bytes: 65,537 = 01 00 01",
        [good(sized(65_537)), good()],
        kind="boundary",
        axes=[],
        kills="length-little-endian",
    )
    g.feed(
        "frm-one-byte-payload",
        "FRM-1 FRM-5.4 FRM-1.1 FRM-8 ERR-3 ERR-3.1 ERR-3.2 ERR-3.3 ERR-4.1",
        "the shortest payload there is; no JSON object fits",
        [bad("{", "bad_json"), good()],
        kind="boundary",
        kills="length-little-endian",
    )
    g.feed(
        "frm-at-once",
        "FRM-1.7",
        "the frame must come although nothing follows and the connection stays open",
        [good()],
        follow=True,
        kind="boundary",
        kills="waits-for-the-next-frame",
    )
    g.feed(
        "frm-bad-at-once",
        "FRM-1.7",
        "so must the error of a frame that is refused",
        [good(), bad(FAULTS["bad_type"], "bad_type")],
        follow=True,
        kind="invalid",
        kills="waits-for-the-next-frame",
    )
    g.feed(
        "frm-newline-between",
        "FRM-1.2 FRM-5",
        "a newline between frames is taken for a length's first byte",
        [good(), fatal("0a", "frame_too_large"), silent(good().parts)],
        kind="invalid",
        kills="skips-white-space",
    )
    g.feed(
        "frm-space-before",
        "FRM-1.2 FRM-5",
        "a space before the first frame is taken for a length's first byte",
        [fatal("20", "frame_too_large"), silent(good().parts)],
        kind="invalid",
        kills="fatal-length-by-pieces",
    )
    spaced = (
        '{ "color" : "red", "v":1.0, "t":"log","m":{"ts":1,"seq":2},"p":{"msg":"\\u0078","run_id":"a",'
        '"level":"info","logger":null}}'
    )
    g.feed(
        "frm-payload-as-it-came",
        "FRM-8 ENV-6.3",
        "white space, unknown members, escapes, null and the spelling of numbers stay in the bytes",
        [good(spaced)],
        kills="payload-written-anew",
    )
    g.feed(
        "frm-unwritable-as-it-came",
        "FRM-8 ENV-6.3",
        "so do a number that no writer could write, and a name of no letter",
        [good(raw(metric(1, unknown="@x"), x='{ "": [1e999, -0] }'))],
        kind="boundary",
        kills="payload-written-anew",
    )
    twice = raw_log('"x","msg":"y"')
    g.feed(
        "frm-name-twice",
        "JSN-5.1",
        "taken or refused: but the same for any division of the bytes",
        [good(twice)],
        or_pieces=[[bad(twice, "bad_json")]],
        level="MAY",
        kind="boundary",
    )
    twice = raw(event("tags", {"run_id": "a", "tags": "@x"}), x='{"a":"1","b":"2","a":"3"}')
    g.feed(
        "frm-name-twice-in-map",
        "JSN-5.1",
        "the same for a name of a map, with another between",
        [good(twice), good()],
        or_pieces=[[bad(twice, "bad_json"), good()]],
        level="MAY",
        kind="invalid",
    )


def _empty(g: Group) -> None:
    g.feed(
        "frm-empty-frame",
        "FRM-2 FRM-5",
        "a length of zero is refused, and nothing can follow it",
        [fatal("00 00 00 00", "empty_frame")],
        kind="invalid",
        kills="accepts-empty-frames",
    )
    g.feed(
        "frm-empty-frame-after-good",
        "FRM-2 FRM-5.3",
        "what was complete before a fatal error stands",
        [good(), fatal("00 00 00 00", "empty_frame")],
        kind="invalid",
        kills="forgets-frames-before-fatal",
    )
    g.feed(
        "frm-empty-frame-before-good",
        "FRM-5",
        "after a fatal error nothing is yielded, whatever is fed",
        [fatal("00 00 00 00", "empty_frame"), silent(good().parts)],
        kind="invalid",
        kills="goes-on-after-fatal",
    )
    g.feed(
        "frm-sixteen-zeros",
        "FRM-2.2 FRM-5.2 FRM-5 ERR-1 ERR-1.1",
        "a run of zeros is one error, not one for every four",
        [fatal("00*16", "empty_frame")],
        kind="boundary",
        kills="each-four-zeros-an-error fatal-length-by-pieces",
    )
    g.feed(
        "frm-five-zeros",
        "FRM-2.2",
        "one zero more than a length",
        [fatal("00*5", "empty_frame")],
        kind="boundary",
        kills="each-four-zeros-an-error",
    )
    g.feed(
        "frm-length-one",
        "FRM-2",
        "one above zero is a length",
        [bad("0", "bad_envelope"), good()],
        kind="boundary",
        kills="length-little-endian",
    )


def _limits(g: Group) -> None:
    g.feed(
        "frm-limit-equal",
        "FRM-3.1 FRM-3.5",
        "1,048,576 bytes of payload are within the limit of a connection",
        [good(sized(MIB)), good()],
        kind="boundary",
        axes=[],
        kills="limit-one-less",
    )
    g.feed(
        "frm-limit-below",
        "FRM-3.1 FRM-3.4 FRM-5",
        "a little less than 1,048,576 bytes are within it, too: the four bytes of the length don't count",
        [good(sized(MIB - 2)), good()],
        axes=[],
        kills="limit-counts-the-length",
    )
    g.feed(
        "frm-large-and-not-there",
        "FRM-3.6",
        "a length within the limit is nothing to refuse, though no byte of the payload has come",
        [good(TINY), silent("00 0f ff fe")],
        follow=True,
        kills="limit-counts-the-length",
    )
    g.feed(
        "frm-limit-above",
        "FRM-3.1 FRM-3.4 FRM-3.6 ERR-2.2",
        "one byte more is refused as soon as the length is there",
        [fatal("00 10 00 01", "frame_too_large"), silent([{"text": '{"v":1,'}])],
        kind="invalid",
        kills="limit-one-more oversize-waits-for-payload",
    )
    g.feed(
        "frm-limit-above-whole",
        "FRM-3.4 FRM-5 FRM-5.2 ERR-2.2",
        "an oversize frame is refused also when all of it is there",
        [
            Piece([{"frame": sized(MIB + 1)}], {"rejected": "frame_too_large", "fatal": True}, due=4),
            silent(good().parts),
        ],
        kind="invalid",
        axes=[],
        kills="limit-one-more",
    )
    g.feed(
        "frm-limit-above-ends",
        "ERR-2.2 FRM-3.6 FRM-5 ERR-1 ERR-1.1",
        "the length alone, above the limit: too large, not truncated",
        [fatal("00 7f ff ff", "frame_too_large")],
        kind="boundary",
        kills="reports-incomplete-at-once",
    )
    g.feed(
        "frm-configured-limit-equal",
        "FRM-3 FRM-3.5",
        "a payload as long as the configured limit",
        [good(sized(100)), good(TINY)],
        limit=100,
        kind="boundary",
        kills="limit-one-less",
    )
    g.feed(
        "frm-configured-limit-below",
        "FRM-3 FRM-3.4 FRM-3.5",
        "a payload a little shorter than the configured limit: the four bytes of the length don't count",
        [good(sized(98)), good(TINY)],
        limit=100,
        kills="limit-counts-the-length",
    )
    g.feed(
        "frm-configured-limit-higher",
        "FRM-3.3",
        "a limit above the one that a connection has by itself may be configured",
        [good(sized(MIB + 1)), good()],
        limit=2 * MIB,
        axes=[],
        kills="limit-at-most-a-mebibyte",
    )
    g.feed(
        "frm-configured-limit-above",
        "FRM-3 FRM-3.4",
        "a payload one byte longer than the configured limit",
        [good(TINY), fatal("00 00 00 65", "frame_too_large"), silent(sized(101))],
        limit=100,
        kind="invalid",
        kills="limit-one-more ignores-configured-limit",
    )
    g.feed(
        "frm-configured-limit-largest",
        "FRM-3.3",
        "a limit of 16 MiB - 1 may be configured: such a length is legal",
        [cut("00 ff ff ff 7b")],
        limit=16 * MIB - 1,
        kind="boundary",
        kills="ignores-configured-limit",
    )
    g.feed(
        "frm-two-to-the-24",
        "FRM-3.3 FRM-3.4",
        "16 MiB is above every limit",
        [fatal("01 00 00 00", "frame_too_large"), silent("7b 7d")],
        kind="invalid",
        kills="fatal-length-by-pieces",
    )
    for name, length in (("top-bit", "80 00 00 00"), ("all-ones", "ff ff ff ff"), ("minus-one", "ff ff ff fe")):
        g.feed(
            f"frm-length-{name}",
            "FRM-1 FRM-3.4",
            "the length is unsigned: with its first bit it is far too large",
            [good(), fatal(length, "frame_too_large"), silent(good().parts)],
            kind="invalid",
            kills="length-signed",
        )
    http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    tls = "16 03 01 02 00 01 00 01 fc 03 03"
    g.feed(
        "frm-http",
        "FRM-3.4 FRM-5",
        "a browser is refused: 47 45 54 20 is no length",
        [fatal(http.hex(" "), "frame_too_large")],
        kind="invalid",
        kills="strange-byte-truncated",
    )
    g.feed(
        "frm-http-first-byte",
        "FRM-3.7",
        "no legal length begins with P: it can be refused at its first byte",
        [fatal(b"POST /runs HTTP/1.1\r\n".hex(" "), "frame_too_large", due=1)],
        kind="boundary",
        level="SHOULD",
        kills="first-byte-waits",
    )
    g.feed(
        "frm-tls",
        "FRM-3.4 FRM-3.7",
        "neither does any begin with 16, as TLS does",
        [fatal(tls, "frame_too_large", due=1)],
        kind="invalid",
        level="SHOULD",
    )
    g.feed(
        "frm-one-strange-byte",
        "ERR-2.1 FRM-3.7",
        "one byte that isn't 00, and the end: too large, not truncated",
        [fatal("47", "frame_too_large", due=None)],
        kind="boundary",
        kills="strange-byte-truncated",
    )
