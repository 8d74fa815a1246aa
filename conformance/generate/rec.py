"""Frames in a file that may be damaged. docs/spec/framing.md, FRM-6 and FRM-7"""

from __future__ import annotations

from generate.dsl import Group, Piece, bad, build, cut, dump, good, joined, log, silent
from generate.frames import FAULTS, MIB, TINY, sized


def cases() -> Group:
    """Return the cases."""
    g = Group("rec")
    _whole(g)
    _lost(g)
    _search(g)
    return g


def _after(seq: int = 9) -> Piece:
    return good(log(seq=seq), verified=False)


def _with_length(frame: Piece, length: str) -> Piece:
    """Return the bytes of a frame under another length."""
    return Piece([{"hex": length}, {"hex": build(frame.parts)[4:].hex(" ")}], {})


def _whole(g: Group) -> None:
    g.recording(
        "rec-empty",
        "FRM-5.6",
        "a file without a byte holds no frame and no error",
        [],
        axes=[],
        kind="boundary",
        kills="end-is-always-truncated",
    )
    g.recording(
        "rec-three-frames",
        "FRM-6.2 FRM-8 FRM-6.1 FRM-7 FRM-7.1",
        "frames follow each other, and the last ends with the file",
        [good(log(seq=1)), good(log(seq=2)), good(TINY)],
        kills="yields-backwards",
    )
    g.recording(
        "rec-above-socket-limit",
        "FRM-3.2 FRM-3.5",
        "files may hold payloads that a connection refuses",
        [good(sized(MIB + 1)), good()],
        axes=[],
        kind="boundary",
        kills="file-limit-of-sockets",
    )
    g.recording(
        "rec-two-mebibytes",
        "FRM-3.2",
        "so may they hold one of twice that size",
        [good(sized(2 * MIB)), good()],
        axes=[],
        kills="file-limit-of-sockets",
    )
    g.recording(
        "rec-largest",
        "FRM-3.2 FRM-3.5",
        "16,777,215 bytes of payload are within a file's limit",
        [good(sized(16 * MIB - 1))],
        axes=[],
        kind="boundary",
        kills="file-limit-of-sockets",
    )
    for class_ in ("too_deep", "bad_envelope", "missing_field", "bad_type", "out_of_range"):
        g.recording(
            f"rec-{class_.replace('_', '-')}-costs-itself",
            "FRM-6.3 FRM-6.1",
            f"{class_} says nothing about the length: only that frame is lost, and nothing becomes unverified",
            [good(log(seq=1)), bad(FAULTS[class_], class_), good(log(seq=3))],
            kind="invalid",
            kills="any-error-loses-position",
        )
    g.recording(
        "rec-bad-json-before-frame",
        "FRM-6.1 FRM-6.2",
        "a frame seems to begin right behind the bad one",
        [good(log(seq=1)), bad('{"t";"log"}', "bad_json"), good(log(seq=3))],
        kind="invalid",
        kills="always-unverified-after-damage",
    )
    g.recording(
        "rec-bad-utf8-before-frame",
        "FRM-6.1 FRM-6.2",
        "the same for text that is no UTF-8",
        [bad(FAULTS["bad_utf8"], "bad_utf8"), good(log(seq=3))],
        kind="invalid",
        kills="always-unverified-after-damage",
    )
    g.recording(
        "rec-bad-json-at-end",
        "FRM-6.2",
        "where the recording ends, a frame seems to begin",
        [good(), bad("{oops}", "bad_json")],
        kind="boundary",
        kills="waits-for-the-next-frame",
    )
    g.recording(
        "rec-still-written",
        "FRM-6.13",
        "a file that is still being written may end inside a frame: that is no error",
        [good(), silent(build(good().parts)[:30].hex(" "))],
        follow=True,
        kind="boundary",
        kills="reports-incomplete-at-once",
    )
    g.recording(
        "rec-still-written-second-frame",
        "FRM-6.13",
        "nor inside the second of two, of which the first is told at once",
        [good(log(seq=1)), good(log(seq=2)), silent(build(good().parts)[:60].hex(" "))],
        follow=True,
        kills="reports-incomplete-at-once",
    )
    g.recording(
        "rec-still-written-and-bad",
        "FRM-6.13 FRM-6.3",
        "a frame that is all there is not waited for, whatever is wrong with it",
        [good(log(seq=1)), bad(FAULTS["bad_type"], "bad_type"), silent(build(good().parts)[:30].hex(" "))],
        follow=True,
        kind="invalid",
        kills="skips-bad-frames-silently",
    )
    g.recording(
        "rec-escaped-nul",
        "FRM-6.4 FRM-6.1",
        "U+0000 as an escape is no byte 00, and nothing is wrong with it",
        [good(log("a\0b", seq=1)), good(log(seq=2))],
        kills="escaped-nul-is-damage",
    )


def _lost(g: Group) -> None:
    frame = good(log(seq=2))
    size = len(dump(log(seq=2)))
    g.recording(
        "rec-length-too-long",
        "FRM-6 FRM-6.1 FRM-6.5 FRM-6.8 FRM-6.10 FRM-7",
        "a flipped bit in a length: its payload would hold zero bytes, and a plausible frame stands before its end",
        [good(log(seq=1)), joined(_with_length(frame, "00 00 40 00"), class_="bad_json"), _after(3)],
        kind="invalid",
        kills="forgets-unverified gives-up-at-damage",
    )
    g.recording(
        "rec-length-too-short",
        "FRM-6.1 FRM-6.5 FRM-6.10 FRM-7",
        "a length that ends inside the payload: no frame seems to begin there",
        [good(log(seq=1)), joined(_with_length(frame, f"00 00 00 {size - 9:02x}"), class_="bad_json"), _after(3)],
        kind="invalid",
        kills="forgets-unverified",
    )
    g.recording(
        "rec-unverified-stays",
        "FRM-7 FRM-7.1 FRM-7.3",
        "all later frames of the file stay unverified, and stand",
        [joined(_with_length(frame, "00 00 40 00"), class_="bad_json"), _after(3), _after(4), _after(5)],
        kind="boundary",
        kills="unverified-marks-one-frame",
    )
    g.recording(
        "rec-unverified-and-bad",
        "FRM-7.1 FRM-6.3 FRM-7.3",
        "a frame with an error of its own behind damage changes nothing",
        [
            joined(_with_length(frame, "00 00 40 00"), class_="bad_json"),
            _after(3),
            bad(FAULTS["bad_type"], "bad_type"),
            _after(5),
        ],
        kind="invalid",
        kills="forgets-unverified",
    )
    g.recording(
        "rec-length-above-limit",
        "FRM-6.1 FRM-6.8 FRM-3.2 FRM-3.3",
        "a length above the limit: the bytes up to the next frame are one error",
        [good(log(seq=1)), joined(_with_length(frame, "01 00 00 52"), class_="frame_too_large"), _after(3)],
        kind="invalid",
        kills="any-header-is-plausible",
    )
    g.recording(
        "rec-text-before",
        "FRM-6.1 FRM-6.5 FRM-6.10",
        "a line of text that strayed into the file",
        [joined(silent("48 65 6c 6c 6f 0a"), class_="frame_too_large"), _after(1)],
        kind="invalid",
        kills="gives-up-at-damage",
    )
    g.recording(
        "rec-text-only",
        "FRM-6.8",
        "no plausible frame: one error to the end of the file",
        [cut("48 65 6c 6c 6f 2c 20 77 6f 72 6c 64 0a", "frame_too_large")],
        kind="invalid",
        kills="any-header-is-plausible",
    )
    g.recording(
        "rec-cut-payload",
        "FRM-6.1 FRM-6.8 FRM-6.9",
        "a file that ends inside a frame: one error for what is left",
        [good(), cut(build(frame.parts)[:30].hex(" "))],
        kind="invalid",
        kills="ignores-cut-payload",
    )
    for count in (1, 3, 4):
        g.recording(
            f"rec-cut-after-{count}",
            "FRM-6.1 FRM-6.8",
            f"a file that ends with {count} bytes of a length",
            [good(), cut("00 00 00 52"[: count * 3 - 1])],
            kind="boundary",
            kills={4: "ignores-cut-payload"}.get(count, "ignores-cut-length"),
        )
    for name, data in (("1", "0a"), ("2", "41 00"), ("3", "ff 00 00")):
        g.recording(
            f"rec-odd-tail-{name}",
            "ERR-2.1 FRM-6.8",
            f"{name} bytes are left, and begin no length: too large, as on a connection",
            [good(), cut(data, "frame_too_large")],
            kind="boundary",
            kills="ignores-odd-tail",
        )
    header = build(frame.parts)[:4].hex(" ")
    g.recording(
        "rec-cut-payload-with-nul",
        "FRM-6.4 FRM-6.8",
        "the payload is cut short and holds a zero byte: bad_json goes before truncated",
        [good(), cut([{"hex": header}, {"text": '{"v":1,"t":"x'}, {"hex": "00"}, {"text": '","m'}], "bad_json")],
        kind="boundary",
        kills="ignores-cut-payload-with-nul",
    )
    g.recording(
        "rec-nul-and-bad-utf8",
        "FRM-6.4 FRM-6.9",
        "the payload is no UTF-8 either: bad_json goes before bad_utf8",
        [good(log(seq=1)), bad(bytes.fromhex("7b 22 00 ff 22 7d"), "bad_json"), good(log(seq=3))],
        kind="boundary",
        kills="always-unverified-after-damage",
    )
    g.recording(
        "rec-zero-tail",
        "FRM-2.2 FRM-6.8",
        "a tail that was never written, after a loss of power: one error",
        [good(), cut("00*64", "empty_frame")],
        kind="invalid",
        kills="each-four-zeros-an-error",
    )
    g.recording(
        "rec-four-zeros-then-frame",
        "FRM-6.9 FRM-6.5",
        "the next frame stands exactly where the empty one ends: it stays verified",
        [good(log(seq=1)), cut("00*4", "empty_frame"), good(log(seq=3))],
        kind="boundary",
        kills="always-unverified-after-damage",
    )
    g.recording(
        "rec-eight-zeros-then-frame",
        "FRM-6.10 FRM-2.2",
        "the next frame stands elsewhere: it is unverified",
        [good(log(seq=1)), cut("00*8", "empty_frame"), _after(3)],
        kind="boundary",
        kills="forgets-unverified",
    )
    g.recording(
        "rec-five-zeros-then-frame",
        "FRM-6.5 FRM-6.10 FRM-6",
        "one zero too many: lengths are read at every place, not at every fourth",
        [good(log(seq=1)), cut("00*5", "empty_frame"), _after(3)],
        kind="boundary",
        kills="searches-by-fours",
    )
    nul = [{"text": '{"v":1,"t":"x'}, {"hex": "00"}, {"text": '","m":{"seq":2,"ts":1},"p":{}}'}]
    g.recording(
        "rec-nul-in-payload",
        "FRM-6.1 FRM-6.4 FRM-6.9",
        "a payload with a zero byte loses the position, and the next frame stands where it should",
        [good(log(seq=1)), Piece([{"frame": nul}], {"rejected": "bad_json"}), good(log(seq=3))],
        kind="boundary",
        kills="always-unverified-after-damage",
    )
    g.recording(
        "rec-bad-json-then-four-bytes",
        "FRM-6.2 FRM-6.8",
        "four bytes are too few for a frame to seem to begin: the position is lost",
        [good(), joined(bad("{oops}", "bad_json"), silent("00 00 00 07"), class_="bad_json")],
        kind="boundary",
        kills="four-bytes-seem-a-frame",
    )
    g.recording(
        "rec-bad-json-then-seeming",
        "FRM-6.2",
        "five bytes suffice: what follows is a frame of its own, cut short",
        [good(), bad("{oops}", "bad_json"), cut("00 00 00 07 7b")],
        kind="boundary",
        kills="gives-up-at-damage",
    )
    g.recording(
        "rec-bad-json-then-array",
        "FRM-6.2 FRM-6.8",
        "a frame that begins with [ does not seem to begin",
        [good(), joined(bad("{oops}", "bad_json"), bad("[12]", "bad_envelope"), class_="bad_json")],
        kind="boundary",
        kills="arrays-seem-frames",
    )
    g.recording(
        "rec-stops",
        "FRM-6.12",
        "asked to stop at damage, it tells of the first and yields nothing after it",
        [good(log(seq=1)), bad('{"t";"log"}', "bad_json"), silent(good(log(seq=3)).parts)],
        stop_at_damage=True,
        kind="invalid",
        kills="does-not-stop-at-damage",
    )
    g.recording(
        "rec-stops-at-nothing",
        "FRM-6.12",
        "where there is no damage, it yields all there is",
        [good(log(seq=1)), good(log(seq=2)), good(log(seq=3))],
        stop_at_damage=True,
        kills="stops-without-damage",
    )
    g.recording(
        "rec-stops-with-range",
        "FRM-6.12 FRM-6.8",
        "the position is lost: the error reaches to the next plausible frame, which is not yielded any more",
        [
            good(log(seq=1)),
            joined(_with_length(frame, "00 00 40 00"), class_="bad_json"),
            silent(good(log(seq=3)).parts),
        ],
        stop_at_damage=True,
        kind="boundary",
        kills="stops-without-range",
    )
    g.recording(
        "rec-stops-at-text",
        "FRM-6.12 FRM-6.8",
        "with a line of text in the file too",
        [joined(silent("48 65 6c 6c 6f 0a"), class_="frame_too_large"), silent(good(log(seq=3)).parts)],
        stop_at_damage=True,
        kind="boundary",
        kills="stops-without-range",
    )
    for class_ in ("bad_type", "out_of_range", "bad_envelope"):
        g.recording(
            f"rec-stops-at-{class_.replace('_', '-')}",
            "FRM-6.12 FRM-6.3",
            "an error of any class is the first",
            [good(log(seq=1)), bad(FAULTS[class_], class_), silent(good(log(seq=3)).parts)],
            stop_at_damage=True,
            kind="invalid",
            kills="stops-at-lost-position-alone",
        )


def _search(g: Group) -> None:
    deep = [{"repeat": [{"text": "["}], "times": 70}]
    g.recording(
        "rec-deep-and-malformed",
        "FRM-6.7 FRM-6.2",
        "either class may be told; behind it a frame seems to begin, so that either way it costs itself alone",
        [good(log(seq=1)), bad(deep, "bad_json"), good(log(seq=3))],
        or_pieces=[[good(log(seq=1)), bad(deep, "too_deep"), good(log(seq=3))]],
        kind="boundary",
        kills="always-unverified-after-damage",
    )
    found = joined(silent("01 ff 02 fe"), class_="frame_too_large")
    g.recording(
        "rec-candidate-deep-and-malformed",
        "FRM-6.7 FRM-6.6",
        "behind damage such a text is a plausible frame that is refused, or it is none",
        [found, bad(deep, "too_deep"), good(log(seq=3), verified=False)],
        or_pieces=[
            [joined(silent("01 ff 02 fe"), bad(deep, "bad_json"), class_="frame_too_large"), _after(3)],
        ],
        level="MAY",
        kind="invalid",
    )
    g.recording(
        "rec-messagepack",
        "MSG-1.3",
        "files hold JSON only: a MessagePack map is refused",
        [good(log(seq=1)), bad(bytes.fromhex("83a17401a17601a16d80"), "bad_utf8"), good(log(seq=3))],
        or_pieces=[[good(log(seq=1)), bad(bytes.fromhex("83a17401a17601a16d80"), "bad_json"), good(log(seq=3))]],
        kind="invalid",
        kills="always-unverified-after-damage",
    )
    damage = silent("01 ff 02 fe")
    g.recording(
        "rec-candidate-no-json",
        "FRM-6.6",
        "a length whose bytes are no JSON is no plausible frame",
        [joined(damage, bad("{x", "bad_json"), class_="frame_too_large"), _after()],
        kind="invalid",
        kills="any-header-is-plausible",
    )
    g.recording(
        "rec-candidate-no-utf8",
        "FRM-6.6",
        "nor is one whose bytes are no UTF-8",
        [joined(damage, bad(FAULTS["bad_utf8"], "bad_utf8"), class_="frame_too_large"), _after()],
        kind="invalid",
        kills="any-header-is-plausible",
    )
    g.recording(
        "rec-candidate-array",
        "FRM-6.6",
        "nor is one that begins with [",
        [joined(damage, bad("[1]", "bad_envelope"), class_="frame_too_large"), _after()],
        kind="invalid",
        kills="any-header-is-plausible",
    )
    g.recording(
        "rec-candidate-bad-type",
        "FRM-6.6",
        "one with a fault of its own is plausible: it is found, and refused",
        [joined(damage, class_="frame_too_large"), bad(FAULTS["bad_type"], "bad_type"), _after()],
        kind="boundary",
        kills="search-finds-events-alone",
    )
    g.recording(
        "rec-candidate-no-envelope",
        "FRM-6.6 FRM-6.3",
        "so is {}: it is JSON",
        [joined(damage, class_="frame_too_large"), bad("{}", "bad_envelope"), _after()],
        kind="boundary",
        kills="search-finds-events-alone",
    )
    g.recording(
        "rec-candidate-white-space",
        "FRM-6.6",
        "a plausible frame may begin with white space",
        [joined(damage, class_="frame_too_large"), good(f"\n{TINY}", verified=False)],
        kind="boundary",
        kills="search-finds-no-white-space",
    )
    g.recording(
        "rec-candidate-cut",
        "FRM-6.6 FRM-6.8",
        "one that the recording doesn't hold whole is not plausible",
        [good(), joined(damage, silent(build(good().parts)[:40].hex(" ")), class_="frame_too_large")],
        kind="boundary",
        kills="any-header-is-plausible",
    )
    g.recording(
        "rec-candidate-inside-candidate",
        "FRM-6.5 FRM-6.6",
        "a false length in front of a true one hides it not",
        [joined(damage, silent("00 00 00 7b"), class_="frame_too_large"), _after()],
        kind="boundary",
        kills="gives-up-at-damage",
    )
    g.recording(
        "rec-lowest-place",
        "FRM-6.5 FRM-6 FRM-6.1 FRM-6.6 FRM-6.8 FRM-6.10 FRM-7 FRM-7.3",
        "of two plausible frames the first is taken",
        [joined(damage, class_="frame_too_large"), _after(1), _after(2)],
        kind="valid",
        kills="forgets-unverified",
    )
    g.recording(
        "rec-search-is-linear",
        "FRM-6.11",
        "131,072 lengths that come to nothing: a search that begins anew for each of them does not end in time",
        [
            joined(
                silent([{"hex": "01"}, {"repeat": [{"hex": "00 00 ff ff 7b 20 20 20"}], "times": 131_072}]),
                class_="frame_too_large",
            ),
            _after(),
        ],
        axes=[],
        kind="boundary",
        kills="gives-up-at-damage",
    )
    g.recording(
        "rec-search-passes-much",
        "FRM-6.11",
        "a mebibyte without a zero byte, and a frame behind it",
        [joined(silent([{"repeat": [{"text": "stray text "}], "times": 100_000}]), class_="frame_too_large"), _after()],
        axes=[],
        kills="gives-up-at-damage",
    )
    g.recording(
        "rec-search-finds-nothing",
        "FRM-6.11",
        "lengths that come to nothing, and no frame behind them",
        [
            joined(
                silent([{"hex": "01"}, {"repeat": [{"hex": "00 00 7f ff 7b 20 20 20"}], "times": 65_536}]),
                class_="frame_too_large",
            )
        ],
        axes=[],
        kind="invalid",
        kills="any-header-is-plausible",
    )
