"""What becomes of errors on a connection. docs/spec/framing.md, FRM-5, and errors.md"""

from __future__ import annotations

from generate.dsl import Group, as_parts, bad, build, cut, dump, event, good, log, silent
from generate.frames import FAULTS, TINY


def add(g: Group) -> None:
    """Add the cases."""
    for class_, payload in FAULTS.items():
        g.feed(
            f"frm-{class_.replace('_', '-')}-between",
            "FRM-5.4 ERR-3 ERR-3.1 ERR-3.2 ERR-4 ERR-4.1",
            f"{class_} costs its own frame, and those around it stand",
            [good(log(seq=1)), bad(payload, class_), good(log(seq=3))],
            kind="invalid",
            kills={
                "bad_type": "bad-payload-is-fatal offset-of-payload error-length-without-prefix skips-bad-frames-silently"
            }.get(class_, "bad-payload-is-fatal"),
        )
    g.feed(
        "frm-two-bad-frames",
        "ERR-4 ERR-3.1 FRM-1.5 FRM-1.6 FRM-8",
        "two faults in a row are two errors",
        [bad("{", "bad_json"), bad("[1]", "bad_envelope"), good()],
        kind="invalid",
        kills="stops-at-second-error",
    )
    g.feed(
        "frm-nul-in-payload",
        "FRM-5.4 FRM-6.4 FRM-5.7",
        "on a connection a zero byte in a payload costs that frame alone",
        [bad([{"text": '{"v":1,"t":"'}, {"hex": "00"}, {"text": '"}'}], "bad_json"), good()],
        kind="invalid",
        kills="nul-is-fatal",
    )
    g.feed(
        "frm-nul-and-bad-utf8",
        "FRM-5.7 FRM-5.4 ERR-2",
        "nor does it change the class: this is no UTF-8, which goes before bad_json here",
        [bad(bytes.fromhex("7b 22 00 ff 22 7d"), "bad_utf8"), good()],
        kind="boundary",
        kills="nul-is-fatal",
    )
    g.feed(
        "frm-cut-payload-with-nul",
        "FRM-5.7 FRM-5.5",
        "the connection ends inside a payload with a zero byte: truncated, and nothing sooner",
        [good(TINY), cut([{"hex": "00 00 00 40"}, {"text": '{"v":1,"t":"x'}, {"hex": "00"}, {"text": '","m'}])],
        kind="boundary",
        kills="ignores-cut-payload-with-nul",
    )
    g.feed(
        "frm-nul-and-no-end-yet",
        "FRM-5.7 FRM-5.4",
        "a zero byte in a payload of which more may come is nothing to report",
        [good(TINY), silent([{"hex": "00 00 00 40"}, {"text": '{"v":1,"t":"x'}, {"hex": "00"}, {"text": '","m'}])],
        follow=True,
        kind="boundary",
        kills="nul-reported-at-once",
    )
    g.feed(
        "frm-header-in-payload",
        "FRM-5.4 FRM-1.3",
        "what looks like a frame inside of a bad payload is none",
        [bad(as_parts(build(good(TINY).parts)), "bad_json"), good()],
        kind="boundary",
        kills="nul-is-fatal",
    )
    g.feed(
        "frm-nothing",
        "FRM-5.6 ERR-3.3 ERR-4.2",
        "a connection without a byte ends between two frames",
        [],
        axes=[],
        kind="boundary",
        kills="end-is-always-truncated",
    )
    g.feed(
        "frm-ends-between",
        "FRM-5.6",
        "the end behind a whole frame is no error",
        [good(log())],
        kills="end-is-always-truncated",
    )
    payload = dump(log())
    frame = build(good().parts)
    for name, size in (
        ("first-length-byte", 1),
        ("third-length-byte", 3),
        ("length", 4),
        ("first-payload-byte", 5),
        ("half", len(payload) // 2),
        ("all-but-one-byte", len(frame) - 1),
    ):
        g.feed(
            f"frm-cut-after-{name}",
            "FRM-5.5" + (" ERR-2.1" if size < 4 else "") + (" FRM-1.2" if size == 1 else ""),
            f"the connection ends after {size} of {len(frame)} bytes of a frame: what is left is one error",
            [good(TINY), cut(frame[:size].hex(" "))],
            kind="boundary" if size in {1, 4, len(frame) - 1} else "invalid",
            kills={"first-length-byte": "ignores-cut-length", "third-length-byte": "ignores-cut-length"}.get(
                name, "ignores-cut-payload"
            ),
        )
    g.feed(
        "frm-no-end-yet",
        "FRM-5.5 FRM-1.7 FRM-3.7",
        "an incomplete frame is nothing to report while more may come",
        [good(TINY), silent(frame[:20].hex(" "))],
        follow=True,
        kills="reports-incomplete-at-once",
    )
    g.feed(
        "frm-unknown-type",
        "FRM-5.4 ENV-5",
        "an unknown type is a frame like any other",
        [good(event("energy", {"run_id": "a", "joules": 1.5})), good()],
        kills="unknown-type-is-an-error",
    )
    many = [good(log(seq=number)) for number in range(1, 41)]
    g.feed(
        "frm-forty-frames",
        "FRM-1.5 FRM-1.6",
        "many frames in one piece, and in random ones",
        many,
        kind="boundary",
        kills="yields-backwards",
    )
    for name, data in (
        ("random-1", "00 00 00 04 de ad be ef 00 00 00 02 7b 7d"),
        ("random-2", "00 00 00 01 00 00 00 00 01 80"),
        ("random-3", "00 00 00 03 ff fe fd"),
    ):
        first = bytes.fromhex(data)
        size = 4 + first[3]
        class_ = {"random-1": "bad_utf8", "random-2": "bad_json", "random-3": "bad_utf8"}[name]
        tail = {"random-1": [bad("{}", "bad_envelope")], "random-2": [bad(b"\x80", "bad_utf8")], "random-3": []}[name]
        g.feed(
            f"frm-{name}",
            "ERR-4.2 ERR-3.3",
            "any bytes give frames and errors, which cover each byte once",
            [bad(first[4:size], class_), *tail],
            kind="invalid",
            kills={"random-3": "loses-carry-over"}.get(name, "stops-at-second-error"),
        )
