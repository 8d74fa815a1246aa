"""What must come of the bytes of a connection or a recording, found in the plainest way there is: with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from xtrack_conformance.fuzz.json_text import EITHER_CLASS
from xtrack_conformance.fuzz.reading import Wanted, wanted_of
from xtrack_conformance.protocol import Yielded

CONNECTION_LIMIT: Final = 1_048_576
RECORDING_LIMIT: Final = 16_777_215
_BEGINS: Final = b"{ \t\n\r"


class LeftOpen(Exception):
    """Several outcomes are right, and what comes after depends on which it is."""


@attrs.frozen
class Due:
    """A frame or an error that must come. ``length``: None for a fatal error. ``accepted``: None where either is."""

    offset: int
    length: int | None
    accepted: bool | None
    verified: bool = True

    def __str__(self) -> str:
        end = "" if self.length is None else self.offset + self.length
        what = {True: "frame", False: "error", None: "frame or error"}[self.accepted]
        fatal = " fatal" if self.length is None else ""
        return f"[{self.offset}, {end}) {what}{fatal}{'' if self.verified else ' unverified'}"


def on_connection(data: bytes, reader: str, limit: int = CONNECTION_LIMIT) -> list[Due]:
    """Return what must come of all bytes of a connection. spec: FRM-1 to FRM-5"""
    found: list[Due] = []
    offset = 0
    while offset < len(data):
        head = data[offset : offset + 4]
        size = int.from_bytes(head, "big")
        if head[0] or (len(head) == 4 and (size == 0 or size > limit)):
            return [*found, Due(offset, None, accepted=False)]
        if len(head) < 4 or offset + 4 + size > len(data):
            return [*found, Due(offset, len(data) - offset, accepted=False)]
        wanted = wanted_of(data[offset + 4 : offset + 4 + size], reader)
        found.append(Due(offset, 4 + size, _ACCEPTED[wanted.outcome]))
        offset += 4 + size
    return found


_ACCEPTED: Final = {"accept": True, "refuse": False, "either": None}


def in_recording(data: bytes, reader: str, limit: int = RECORDING_LIMIT) -> list[Due]:
    """Return what must come of a whole recording. Raises LeftOpen. spec: FRM-6, FRM-7"""
    found: list[Due] = []
    offset, verified = 0, True
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big") if len(data) - offset >= 4 else -1
        end = offset + 4 + size
        if size > 0 and size <= limit and end <= len(data) and 0 not in data[offset + 4 : end]:
            wanted = wanted_of(data[offset + 4 : end], reader, messagepack=False)
            if not _loses_position(wanted, data, end, limit):
                found.append(Due(offset, 4 + size, _ACCEPTED[wanted.outcome], verified))
                offset = end
                continue
        place = offset + 1
        while place < len(data) and not _is_plausible(data, place, reader, limit):
            place += 1
        found.append(Due(offset, place - offset, accepted=False))
        if place < len(data) and (size < 0 or place != end):
            verified = False
        offset = place
    return found


def _loses_position(wanted: Wanted, data: bytes, end: int, limit: int) -> bool:
    if seems_to_begin(data, end, limit):
        return False
    if wanted.class_ in {EITHER_CLASS, "twice"}:
        raise LeftOpen
    return wanted.class_ in {"bad_utf8", "bad_json"}


def seems_to_begin(data: bytes, at: int, limit: int) -> bool:
    """Whether a frame seems to begin there, or the recording ends. spec: FRM-6.2"""
    if at == len(data):
        return True
    size = int.from_bytes(data[at : at + 4], "big")
    return len(data) - at >= 5 and 1 <= size <= limit and data[at + 4] in _BEGINS


def _is_plausible(data: bytes, at: int, reader: str, limit: int) -> bool:
    """Whether a plausible frame begins there. spec: FRM-6.6"""
    size = int.from_bytes(data[at : at + 4], "big")
    if data[at] or len(data) - at < 5 or not 1 <= size <= limit or at + 4 + size > len(data):
        return False
    payload = data[at + 4 : at + 4 + size]
    if 0 in payload or payload[0] not in _BEGINS:
        return False
    wanted = wanted_of(payload, reader, messagepack=False)
    if wanted.class_ in {EITHER_CLASS, "twice"}:
        raise LeftOpen
    return wanted.class_ not in {"bad_utf8", "bad_json"}


def problem_of(due: Sequence[Due], found: Sequence[Yielded]) -> str:
    """Say where what was yielded isn't what is due; "" where it is."""
    for item, frame in zip(due, found, strict=False):
        if not _fits(item, frame):
            return f"expected {item}, got {_as_due(frame)}"
    if len(found) < len(due):
        return f"expected {due[len(found)]}, got nothing"
    return f"expected nothing more, got {_as_due(found[len(due)])}" if len(found) > len(due) else ""


def _fits(item: Due, frame: Yielded) -> bool:
    accepted = frame.rejected is None
    if frame.offset != item.offset or item.accepted not in {None, accepted}:
        return False
    if item.length is None:
        return frame.rejected is not None and frame.rejected.fatal
    if frame.length != item.length:
        return False
    return not accepted or frame.verified == item.verified


def _as_due(frame: Yielded) -> Due:
    is_fatal = frame.rejected is not None and frame.rejected.fatal and frame.rejected.class_ != "truncated"
    return Due(frame.offset, None if is_fatal else frame.length, frame.rejected is None, frame.verified)


def tiling_problem(found: Sequence[Yielded], size: int) -> str:
    """Say where frames and errors don't cover each byte of an input exactly once, up to a fatal error. spec: ERR-3.3"""
    offset = 0
    for frame in found:
        if frame.offset != offset:
            return f"bytes [{offset}, {frame.offset}) are covered not once, or in another order"
        if _as_due(frame).length is None:
            return "" if frame is found[-1] else "something was yielded behind a fatal error (FRM-5)"
        offset += frame.length or 0
    return "" if offset == size else f"bytes [{offset}, {size}) are covered not once"
