"""What mutants of MessagePack are made of: a walk over its bytes, whether they are right or not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

SIZES = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip
"""Bytes of the length behind each head that has one."""

FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""Bytes behind the head of each number."""

STRINGS = frozenset({0xD9, 0xDA, 0xDB})
ARRAYS = frozenset({0xDC, 0xDD})
MAPS = frozenset({0xDE, 0xDF})


def is_map(payload: bytes) -> bool:
    """Whether a payload begins as a map does."""
    return 0x80 <= payload[0] <= 0x8F or payload[0] in MAPS


def walk(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the head of each value and its place, and at last (-1, end). Raises IndexError where that is not there."""
    at, left = 0, 1
    while left:
        head = data[at]
        yield head, at
        size = SIZES.get(head, 0)
        count = int.from_bytes(data[at + 1 : at + 1 + size], "big")
        at, left = at + 1 + size, left - 1
        if head <= 0x8F and head >= 0x80:
            left += 2 * (head & 0x0F)
        elif 0x90 <= head <= 0x9F:
            left += head & 0x0F
        elif 0xA0 <= head <= 0xBF:
            at += head & 0x1F
        elif head in ARRAYS:
            left += count
        elif head in MAPS:
            left += 2 * count
        elif head in FIXED:
            at += FIXED[head]
        elif 0xD4 <= head <= 0xD8:
            at += 1 + 2 ** (head - 0xD4)
        elif head in SIZES:
            at += count + (0xC7 <= head <= 0xC9)
        if at > len(data):
            raise IndexError(at)
    yield -1, at


def heads(data: bytes) -> list[tuple[int, int]]:
    """Return what :func:`walk` yields, as far as it comes."""
    found, places = [], walk(data)
    with contextlib.suppress(IndexError):
        for place in places:
            found.append(place)  # noqa: PERF402 - what came before the data ended is kept
    return found


def end_of(data: bytes) -> int | None:
    """Return where the first value ends; None where it doesn't."""
    places = heads(data)
    return places[-1][1] if places and places[-1][0] == -1 else None


def reheaded(change: Callable[[int, bytes], bytes | None]) -> Callable[[bytes], bytes]:
    """Return a function that rewrites values: ``change`` has the head of one and all from it on, and returns the bytes
    that stand in place of as many.
    """

    def apply(payload: bytes) -> bytes:
        result, done = b"", 0
        for head, at in heads(payload):
            new = change(head, payload[at:]) if head >= 0 else None
            if new is not None:
                result += payload[done:at] + new
                done = at + len(new)
        return result + payload[done:]

    return apply


def tree_of(payload: bytes) -> Any:
    """Return what msgspec makes of a payload; None where it refuses it."""
    try:
        return msgspec.msgpack.decode(payload) if is_map(payload) else None
    except (ValueError, TypeError, RecursionError):
        return None


def is_odd(leaf: Any) -> bool:
    """Whether a value is a float that is not finite."""
    return isinstance(leaf, float) and not math.isfinite(leaf)
