"""Columns of numbers as bytes, little-endian on any machine.

Integers (int64) have a description of one to three numbers in the block's header:

- ``[value]``: all are the same; no bytes.
- ``[first, step]``: an arithmetic run; no bytes.
- ``[base, width, 0]``: each is ``base`` plus a difference of ``width`` bytes. The lowest byte of all differences stands
  first, then the second of all, and so on: so any width from 1 to 8 is taken apart and put together by slices. With 8
  bytes the base is 0, and the difference is the number itself in two's complement.

Floats (binary64) have one: ``[0]`` 8 bytes each; ``[1]`` 4 bytes each, where binary32 holds them all exactly, bit for
bit; ``[2]`` all are the same, 8 bytes in all.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import Final

from xtrack_protocol.limits import INT64_MAX, INT64_MIN

_F64, _F32, _SAME = 0, 1, 2
_BIG: Final = sys.byteorder == "big"
_SAMPLE: Final = 8
_int64 = struct.Struct("<q")


def to_bytes(numbers: array[int] | array[float]) -> bytes:
    """Return an array's items, little-endian."""
    if _BIG:  # pragma: no cover - no such machine in CI
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _filled(numbers: array[int], data: bytes | bytearray) -> array[int]:
    numbers.frombytes(data)
    if _BIG:  # pragma: no cover - no such machine in CI
        numbers.byteswap()
    return numbers


# ---------------------------------------------------------------------------------------------- integers


def encode_integers(numbers: Sequence[int]) -> tuple[list[int], bytes]:
    """Return the description and the bytes of at least one integer. Raises ValueError for one beyond int64."""
    first, last, count = numbers[0], numbers[-1], len(numbers)
    step, rest = divmod(last - first, count - 1) if count > 1 else (0, 0)
    if not rest and INT64_MIN <= step <= INT64_MAX:
        run = range(first, last + (1 if step > 0 else -1), step) if step else repeat(first, count)
        if numbers == run or list(numbers) == list(run):
            if min(first, last) < INT64_MIN or max(first, last) > INT64_MAX:
                raise ValueError(f"integers beyond int64: {first} to {last}")
            return ([first, step] if step else [first]), b""
    # Most columns ascend, which is found out in half the time that finding the least and the greatest takes.
    low, high = (first, last) if list(numbers) == sorted(numbers) else (min(numbers), max(numbers))
    if low < INT64_MIN or high > INT64_MAX:
        raise ValueError(f"an integer beyond int64: {low if low < INT64_MIN else high}")
    # Where only low bytes differ they are taken as they are; a difference is worth its time where it saves two bytes.
    plain = ((low ^ high).bit_length() + 7) // 8 if (low < 0) == (high < 0) else 8
    width = ((high - low).bit_length() + 7) // 8
    if plain - width >= 2:
        base, data = low, to_bytes(array("Q", [number - low for number in numbers]))
    else:
        width = plain
        base, data = (low >> 8 * width << 8 * width) if width < 8 else 0, to_bytes(array("q", numbers))
    return [base, width, 0], b"".join([data[place::8] for place in range(width)])


def integers_size(described: Sequence[int], count: int) -> int:
    """Return how many bytes a column has. Raises ValueError for a description of none."""
    kind = len(described)
    if kind == 1:
        return 0
    if kind == 2:
        first, step = described
        if step and INT64_MIN <= first + step * (count - 1) <= INT64_MAX:
            return 0
    elif kind == 3:
        base, width, zero = described
        if not zero and (1 <= width < 8 or (width == 8 and not base)):
            return width * count
    raise ValueError(f"no column of integers: {list(described)}")


@lru_cache(maxsize=16)
def _lanes(count: int) -> tuple[int, int]:
    """Return two integers of ``count`` times 64 bits: each a 1, and 0, 1, 2 and so on."""
    return (
        int.from_bytes(to_bytes(array("q", (1,)) * count), "little"),
        int.from_bytes(to_bytes(array("q", range(count))), "little"),
    )


def decode_integers(described: Sequence[int], data: bytes, start: int, count: int) -> array[int]:
    """Return a column whose bytes begin at ``start``. Raises ValueError where a number is beyond int64."""
    if len(described) == 1:
        return array("q", described) * count
    if len(described) == 2:
        first, step = described
        if first < 0 or first + step * (count - 1) < 0:
            return array("q", range(first, first + step * count, step))
        # None of the numbers is negative, so that all of them are computed at once, as the digits of a large one.
        ones, places = _lanes(count)
        return _filled(array("q"), (first * ones + step * places).to_bytes(8 * count, "little"))
    base, width, _ = described
    is_aligned = not base & ((1 << 8 * width) - 1)
    spread = bytearray(_int64.pack(base if is_aligned else 0) * count)
    for place in range(width):
        spread[place::8] = data[start + place * count : start + (place + 1) * count]
    if is_aligned:
        return _filled(array("q"), spread)
    try:
        return array("q", [base + number for number in _filled(array("Q"), spread)])
    except OverflowError as error:
        raise ValueError("a damaged block: an integer beyond int64") from error


def pick_integers(described: Sequence[int], data: bytes, start: int, count: int, places: Sequence[int]) -> array[int]:
    """Return some numbers of a column, as ``decode_integers`` decodes all of them."""
    if len(described) < 3:
        first, step = described[0], described[1] if len(described) == 2 else 0
        return array("q", [first + step * place for place in places])
    base, width, _ = described
    end = start + width * count
    read, signed = int.from_bytes, width == 8
    try:
        return array("q", [base + read(data[start + place : end : count], "little", signed=signed) for place in places])
    except OverflowError as error:
        raise ValueError("a damaged block: an integer beyond int64") from error


# ---------------------------------------------------------------------------------------------- floats


def encode_floats(numbers: Sequence[float]) -> tuple[list[int], bytes]:
    """Return the description and the bytes of at least one float."""
    exact = to_bytes(array("d", numbers))
    if exact == exact[:8] * len(numbers):
        return [_SAME], exact[:8]
    if _fits_single(numbers[:_SAMPLE], exact[: _SAMPLE * 8]) and _fits_single(numbers, exact):
        return [_F32], to_bytes(array("f", numbers))
    return [_F64], exact


def _fits_single(numbers: Sequence[float], exact: bytes) -> bool:
    """Whether binary32 holds all numbers exactly, bit for bit."""
    return to_bytes(array("d", array("f", numbers))) == exact


def floats_size(described: Sequence[int], count: int) -> int:
    """Return how many bytes a column has. Raises ValueError for a description of none."""
    if len(described) == 1 and 0 <= described[0] <= _SAME:
        return (8 * count, 4 * count, 8)[described[0]]
    raise ValueError(f"no column of floats: {list(described)}")


def decode_floats(described: Sequence[int], data: bytes, start: int, count: int) -> array[float]:
    """Return a column whose bytes begin at ``start``."""
    if described[0] == _F32:
        singles = array("d", bytes(8 * count))  # half the time of array("d", array("f"))
        struct.pack_into(f"={count}d", singles, 0, *struct.unpack_from(f"<{count}f", data, start))
        return singles
    found = array("d", data[start : start + floats_size(described, count)])
    if _BIG:  # pragma: no cover - no such machine in CI
        found.byteswap()
    return found * count if described[0] == _SAME else found


def look_at_floats(described: Sequence[int], data: bytes, start: int, count: int) -> array[float] | memoryview[float]:
    """Return a column as ``decode_floats`` does, but as it lies there where that can be: for who wants a few of it."""
    if described[0] == _SAME or _BIG:
        return decode_floats(described, data, start, count)
    return memoryview(data)[start : start + floats_size(described, count)].cast("f" if described[0] == _F32 else "d")
