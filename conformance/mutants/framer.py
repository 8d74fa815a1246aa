"""Mutants of the framer: each divides bytes, or goes on after an error, otherwise than the specification says."""

from __future__ import annotations

import base64
from collections.abc import Callable
from types import ModuleType
from typing import Any

import framer_search
from tools import Json, Mutation, framing

Frames = list[Json]


def _feeding(change: Callable[[Any, Callable[[bytes], Json], bytes], Json]) -> Mutation:
    """Make a mutant whose answer to a piece is ``change(session, feed, piece)``."""

    def subclass(base: Any) -> type:
        class Session(base):  # type: ignore[misc]
            def feed(self, data: bytes) -> Json:
                return change(self, super().feed, data)

        return Session

    return framing(subclass)


def _finishing(change: Callable[[Any, Callable[[], Json]], Json]) -> Mutation:
    def subclass(base: Any) -> type:
        class Session(base):  # type: ignore[misc]
            def finish(self) -> Json:
                return change(self, super().finish)

        return Session

    return framing(subclass)


def _yielding(change: Callable[[Frames], Frames]) -> Mutation:
    """Make a mutant that yields other things than it found."""

    def subclass(base: Any) -> type:
        class Session(base):  # type: ignore[misc]
            def result(self, frames: list[Any]) -> Json:
                answer: Json = super().result(frames)
                return {**answer, "frames": change(answer["frames"])}

        return Session

    return framing(subclass)


def _telling(change: Callable[[Json], Json]) -> Mutation:
    return _yielding(lambda frames: [change(dict(frame)) for frame in frames])


def _is_error(frame: Json, class_: str) -> bool:
    return frame.get("rejected", {}).get("class") == class_


def _limits(change: Callable[[int], int]) -> Mutation:
    def mutate(module: ModuleType) -> None:
        original = module.DecodeLimits

        def changed(limit: int) -> Any:
            return original(max_frame=max(1, min(change(limit), 2**24 - 1)))

        module.DecodeLimits = lambda *, max_frame: changed(max_frame)
        module.SOCKET_LIMITS = changed(module.SOCKET_LIMITS.max_frame)

    return mutate


def _ignores_limit(module: ModuleType) -> None:
    module.DecodeLimits = lambda *, max_frame: module.SOCKET_LIMITS


def _file_limit(module: ModuleType) -> None:
    module.FILE_LIMITS = module.SOCKET_LIMITS


def _length_bytes(change: Callable[[bytes], bytes]) -> Mutation:
    """Make a mutant that reads the first length of a whole input otherwise."""
    return _feeding(lambda session, feed, data: feed(change(data[:4]) + data[4:]) if session.fed == 0 else feed(data))


def _is_negative(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Take a length with its first bit for a negative one, and wait for more."""
    at = data.find(b"\x80\0\0\0")
    at = data.find(b"\xff\xff\xff") if at < 0 else at
    return feed(data[:at] if at >= 0 else data)


def _loses_carry(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Forget the first byte of a length when a piece ends right behind it."""
    answer = feed(data)
    if len(data) == 1 and session.fed == 1 and not session.is_recording:
        session.decoder._buffer.clear()
        session.decoder._need = 1
    return answer


def _late(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Hold back a frame until something follows it."""
    held = getattr(session, "held", [])
    answer = feed(data)
    frames = held + answer["frames"]
    session.held = frames[-1:]
    return {**answer, "frames": frames[:-1]}


def _oversize_later(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Wait for a byte of the payload before an oversize frame is refused."""
    if session.fed == 0 and data[:4] == b"\0\x10\0\1" and len(data) < 5:
        session.kept = data
        session.fed = len(data)
        return {"frames": [], "state": "need-more"}
    kept = getattr(session, "kept", b"")
    session.kept = b""
    return feed(kept + data)


def _first_byte_later(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Wait for all of the length before a strange first byte is refused."""
    kept = getattr(session, "kept", b"") + data
    if len(kept) < 4:
        session.kept = kept
        return {"frames": [], "state": "need-more"}
    session.kept = b""
    return feed(kept)


def _strange_truncated(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    answer = feed(data)
    if data == b"G" and answer["frames"]:
        answer["frames"][0] = {"offset": 0, "length": 1, "rejected": {"class": "truncated", "fatal": False}}
        answer["state"] = "need-more"
    return answer


def _skips_space(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    return feed(data.replace(b"}}\n\0", b"}}\0"))


def _goes_on(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Read on behind an empty frame."""
    if data[:4] == b"\0\0\0\0" and len(data) > 8:
        first = feed(data[:4])
        session.__init__({"source": "connection", "reader": "lenient"})
        return {**first, "frames": first["frames"] + feed(data[4:])["frames"]}
    return feed(data)


def _each_zero(frames: Frames) -> Frames:
    found: Frames = []
    for frame in frames:
        found += [frame] * 2 if _is_error(frame, "empty_frame") else [frame]
    return found


def _accepts_empty(frame: Json) -> Json:
    if not _is_error(frame, "empty_frame"):
        return frame
    return {"offset": frame["offset"], "length": 4, "payload": "", "verified": True}


def _costs_itself(frame: Json) -> bool:
    """Say whether a frame is one that costs itself alone, whatever its class."""
    class_ = frame.get("rejected", {}).get("class", "truncated")
    return class_ not in {"truncated", "frame_too_large", "empty_frame"}


def _fatal_payloads(frame: Json) -> Json:
    if _costs_itself(frame):
        frame["rejected"] = {**frame["rejected"], "fatal": True}
    return frame


def _at_payload(frame: Json) -> Json:
    return {**frame, "offset": frame["offset"] + 4} if _costs_itself(frame) else frame


def _shorter(frame: Json) -> Json:
    return {**frame, "length": frame["length"] - 4} if _costs_itself(frame) else frame


def _written_anew(frame: Json) -> Json:
    payload = base64.b64decode(frame.get("payload", ""))
    return {**frame, "payload": base64.b64encode(payload.replace(b" ", b"")).decode()} if payload else frame


def _unknown_refused(frame: Json) -> Json:
    if b'"t":"energy"' not in base64.b64decode(frame.get("payload", "")):
        return frame
    rejected = {"class": "bad_value", "fatal": False}
    return {"offset": frame["offset"], "length": frame["length"], "rejected": rejected}


def _cut_ignored(short: bool) -> Mutation:
    """Make a mutant that reports no cut length, or no cut payload."""

    def change(_session: Any, finish: Callable[[], Json]) -> Json:
        answer = finish()
        keep = [
            frame
            for frame in answer["frames"]
            if not (_is_error(frame, "truncated") and (frame["length"] < 4) == short)
        ]
        return {**answer, "frames": keep}

    return _finishing(change)


def _always_truncated(session: Any, finish: Callable[[], Json]) -> Json:
    answer = finish()
    if not answer["frames"] and not session.closed:
        rejected = {"class": "truncated", "fatal": False}
        answer["frames"] = [{"offset": session.fed, "length": 0, "rejected": rejected}]
    return answer


def _reports_at_once(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    answer = feed(data)
    if answer["state"] == "need-more":
        offset = session.decoder.offset
        rejected = {"class": "truncated", "fatal": False}
        answer["frames"].append({"offset": offset, "length": session.fed - offset, "rejected": rejected})
    return answer


def _stops_at_second(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    answer = feed(data)
    errors = [index for index, frame in enumerate(answer["frames"]) if "rejected" in frame]
    return {**answer, "frames": answer["frames"][: errors[1]]} if len(errors) > 1 else answer


# ------------------------------------------------------------------------------------------ recordings


def _verified(frames: Frames) -> Frames:
    return [{**frame, "verified": True} for frame in frames]


def _marks_one(session: Any, answer: Json) -> Json:
    frames = []
    for frame in answer["frames"]:
        is_first = not getattr(session, "marked", False)
        if not frame.get("verified", True):
            session.marked = True
        frames.append(frame if is_first else {**frame, "verified": True})
    return {**answer, "frames": frames}


def _recording(change: Callable[[Any, Json], Json]) -> Mutation:
    """Make a mutant that changes each answer about a recording."""

    def subclass(base: Any) -> type:
        class Session(base):  # type: ignore[misc]
            def result(self, frames: list[Any]) -> Json:
                answer: Json = super().result(frames)
                return change(self, answer) if self.is_recording else answer

        return Session

    return framing(subclass)


def _always_unverified(session: Any, answer: Json) -> Json:
    frames = []
    for frame in answer["frames"]:
        frames.append({**frame, "verified": False} if getattr(session, "hurt", False) else frame)
        session.hurt = getattr(session, "hurt", False) or "rejected" in frame
    return {**answer, "frames": frames}


def _gives_up(session: Any, answer: Json) -> Json:
    frames = []
    for frame in answer["frames"]:
        if not getattr(session, "lost", False):
            frames.append(frame)
        session.lost = getattr(session, "lost", False) or "rejected" in frame
    return {**answer, "frames": frames}


def _merges(*classes: str) -> Mutation:
    """Make a mutant that takes the frame behind an error of these classes for a part of it."""

    def change(session: Any, answer: Json) -> Json:
        frames: Frames = []
        for frame in answer["frames"]:
            before = frames[-1] if frames else None
            if before and before.get("rejected", {}).get("class") in classes and "payload" in frame:
                frames[-1] = {**before, "length": before["length"] + frame["length"]}
            else:
                frames.append(frame)
        return {**answer, "frames": frames}

    return _recording(change)


def _any_header(session: Any, answer: Json) -> Json:
    """Break an error off at the first length inside of it."""
    frames: Frames = []
    for frame in answer["frames"]:
        if _is_error(frame, "frame_too_large") and frame["length"] >= 10:
            rest = {**frame, "offset": frame["offset"] + 4, "length": frame["length"] - 4}
            rest["rejected"] = {"class": "bad_json", "fatal": False}
            frames += [{**frame, "length": 4}, rest]
        else:
            frames.append(frame)
    return {**answer, "frames": frames}


def _cut_with_nul_ignored(_session: Any, finish: Callable[[], Json]) -> Json:
    """Report nothing of a payload that is cut short and holds a zero byte."""
    answer = finish()
    return {**answer, "frames": [frame for frame in answer["frames"] if "rejected" not in frame]}


def _odd_tail_ignored(session: Any, finish: Callable[[], Json]) -> Json:
    answer = finish()
    if not session.is_recording:
        return answer
    kept = [f for f in answer["frames"] if not (_is_error(f, "frame_too_large") and f["length"] < 4)]
    return {**answer, "frames": kept}


def _nul_is_fatal(base: Any) -> type:
    class Session(base):  # type: ignore[misc]
        def told(self, frame: Any) -> Json:
            entry: Json = super().told(frame)
            if not self.is_recording and frame.error and 0 in frame.raw:
                entry["rejected"] = {**entry["rejected"], "fatal": True}
            return entry

    return Session


def _nul_at_once(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Report an incomplete frame of a connection once a zero byte of its payload is there."""
    answer = feed(data)
    if not session.is_recording and 0 in session.decoder._buffer[4:]:
        offset = session.decoder.offset
        rejected = {"class": "bad_json", "fatal": False}
        answer["frames"].append({"offset": offset, "length": session.fed - offset, "rejected": rejected})
    return answer


def _without_range(session: Any, answer: Json) -> Json:
    """Stop at damage without a look at where it ends."""
    if not session.stop_at_damage:
        return answer
    return {**answer, "frames": [{**f, "length": 4} if "rejected" in f else f for f in answer["frames"]]}


def _stops_when_lost(base: Any) -> type:
    class Session(base):  # type: ignore[misc]
        def result(self, frames: list[Any]) -> Json:
            asked = self.stop_at_damage
            lost = {"truncated", "frame_too_large", "empty_frame", "bad_utf8", "bad_json"}
            self.stop_at_damage = asked and any(frame.error and frame.error.kind in lost for frame in frames)
            answer: Json = super().result(frames)
            self.stop_at_damage = asked
            return answer

    return Session


def _stops_early(session: Any, answer: Json) -> Json:
    """Take the first frame for damage, where it was asked to stop at that."""
    if not session.stop_at_damage:
        return answer
    told = getattr(session, "told_one", False)
    session.told_one = told or bool(answer["frames"])
    return {**answer, "frames": [] if told else answer["frames"][:1]}


def _escaped_nul(frame: Json) -> Json:
    if rb"\u0000" not in base64.b64decode(frame.get("payload", "")):
        return frame
    rejected = {"class": "bad_json", "fatal": False}
    return {"offset": frame["offset"], "length": frame["length"], "rejected": rejected}


def _does_not_stop(module: ModuleType) -> None:
    original = module.Session

    class Session(original):  # type: ignore[misc, valid-type]
        def __init__(self, request: Json) -> None:
            super().__init__(request)
            self.stop_at_damage = False

    module.Session = Session


def _by_pieces(session: Any, feed: Callable[[bytes], Json], data: bytes) -> Json:
    """Give a fatal error the length of what has come of it by then."""
    answer = feed(data)
    for frame in answer["frames"]:
        if frame.get("rejected", {}).get("fatal"):
            frame["length"] = session.fed - frame["offset"]
    return answer


DIVIDED: dict[str, Mutation] = {
    "fatal-length-by-pieces": _feeding(_by_pieces),
    "length-counts-itself": _length_bytes(
        lambda head: (
            (int.from_bytes(head, "big") - 4).to_bytes(4, "big")
            if len(head) == 4 and int.from_bytes(head, "big") > 4
            else head
        )
    ),
    "length-little-endian": _length_bytes(lambda head: head[::-1]),
    "length-signed": _feeding(_is_negative),
    "loses-carry-over": _feeding(_loses_carry),
    "yields-backwards": _yielding(lambda frames: frames[::-1]),
    "waits-for-the-next-frame": _feeding(_late),
    "skips-white-space": _feeding(_skips_space),
    "payload-written-anew": _telling(_written_anew),
    "accepts-empty-frames": _telling(_accepts_empty),
    "forgets-frames-before-fatal": _yielding(
        lambda frames: frames[-1:] if frames and frames[-1].get("rejected", {}).get("fatal") else frames
    ),
    "goes-on-after-fatal": _feeding(_goes_on),
    "each-four-zeros-an-error": _yielding(_each_zero),
    "limit-one-less": _limits(lambda limit: limit - 1),
    "limit-one-more": _limits(lambda limit: limit + 1),
    "limit-counts-the-length": _limits(lambda limit: limit - 4),
    "limit-at-most-a-mebibyte": _limits(lambda limit: min(limit, 2**20)),
    "ignores-configured-limit": _ignores_limit,
    "oversize-waits-for-payload": _feeding(_oversize_later),
    "first-byte-waits": _feeding(_first_byte_later),
    "strange-byte-truncated": _feeding(_strange_truncated),
    "bad-payload-is-fatal": _telling(_fatal_payloads),
    "offset-of-payload": _telling(_at_payload),
    "error-length-without-prefix": _telling(_shorter),
    "skips-bad-frames-silently": _yielding(lambda frames: [f for f in frames if not _costs_itself(f)]),
    "stops-at-second-error": _feeding(_stops_at_second),
    "unknown-type-is-an-error": _telling(_unknown_refused),
    "end-is-always-truncated": _finishing(_always_truncated),
    "ignores-cut-length": _cut_ignored(short=True),
    "ignores-cut-payload": _cut_ignored(short=False),
    "reports-incomplete-at-once": _feeding(_reports_at_once),
    "file-limit-of-sockets": _file_limit,
    "forgets-unverified": _yielding(_verified),
    "unverified-marks-one-frame": _recording(_marks_one),
    "always-unverified-after-damage": _recording(_always_unverified),
    "gives-up-at-damage": _recording(_gives_up),
    "any-error-loses-position": _merges(
        "too_deep", "bad_envelope", "unsupported_version", "missing_field", "bad_type", "bad_value", "out_of_range"
    ),
    "searches-by-fours": _merges("empty_frame"),
    "any-header-is-plausible": _recording(_any_header),
    "does-not-stop-at-damage": _does_not_stop,
    "stops-without-damage": _recording(_stops_early),
    "escaped-nul-is-damage": _telling(_escaped_nul),
    "stops-without-range": _recording(_without_range),
    "stops-at-lost-position-alone": framing(_stops_when_lost),
    "ignores-odd-tail": _finishing(_odd_tail_ignored),
    "ignores-cut-payload-with-nul": _finishing(_cut_with_nul_ignored),
    "nul-is-fatal": framing(_nul_is_fatal),
    "nul-reported-at-once": _feeding(_nul_at_once),
}
"""What becomes of bytes."""

MUTANTS: dict[str, Mutation] = DIVIDED | framer_search.MUTANTS
