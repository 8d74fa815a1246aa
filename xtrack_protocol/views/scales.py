"""Axes: where a value stands between two ends, and which round numbers are written beside them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import attrs

_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST: Final = sys.float_info.max
_LEAST: Final = 5e-324
_SAME: Final = 1e-12
"""Ends nearer to each other than this, as a part of their size, are one value for the eye."""


@attrs.frozen
class Scale:
    """From ``low`` to ``high``, low < high, both finite; logarithmic: 0 < low."""

    low: float
    high: float
    log: bool = False

    def part(self, value: float) -> float:
        """Return where ``value`` stands: 0 at the low end, 1 at the high one."""
        if self.log:
            low = math.log10(self.low)
            return (math.log10(value) - low) / (math.log10(self.high) - low)
        # Halved, so that the widest range there is doesn't overflow; subnormal numbers lose nothing an eye could see.
        half = self.high / 2 - self.low / 2
        return (value / 2 - self.low / 2) / half if half > 0 else 0.5

    def ticks(self, most: int) -> list[float]:
        """Return at most ``most`` round numbers within the scale, ascending; its ends where it has none."""
        found = _decades(self.low, self.high, most) if self.log else round_numbers(self.low, self.high, most)
        if len(found) < 2 and most >= 2:
            found = round_numbers(self.low, self.high, most) if self.log else found
        return found if len(found) >= 2 or most < 2 else [self.low, self.high]


def scale_of(values: Iterable[float], *, log: bool = False) -> Scale:
    """Return the scale on which all of ``values``, finite ones (and above 0 where ``log``), can be seen.

    One value stands in the middle. Without any it is from 0 to 1, or from 1 to 10.
    """
    kept = [*values]
    if not kept:
        return Scale(1.0, 10.0, log=True) if log else Scale(0.0, 1.0)
    low, high = float(min(kept)), float(max(kept))
    if log:
        if math.log10(high) - math.log10(low) < _SAME:
            low, high = max(low / 10, _LEAST), min(high * 10, _MOST)
        return Scale(low, high, log=True)
    size = max(abs(low), abs(high))
    if high / 2 - low / 2 <= _SAME * size:
        room = size / 2 or 1.0
        low, high = max(low - room, -_MOST), min(high + room, _MOST)
    return Scale(low, high)


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` multiples of 1, 2, 2.5 or 5 times a power of ten, from ``low`` to ``high``."""
    span = high / 2 - low / 2  # halved as above
    if most < 1 or span / most <= 0:
        return []
    power = math.floor(math.log10(span / most) + math.log10(2))
    for exponent in range(power - 1, power + 3):
        for digit in _ROUND[:-1]:
            try:
                step = min(digit * 10.0**exponent, _MOST)
                first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            except (OverflowError, ZeroDivisionError, ValueError):  # at the edges of what floats hold
                continue
            if last - first < most:
                # Through decimals: 3 * 0.1 should be 0.3.
                places = max(0, -exponent + 1)
                return [min(max(_rounded(number * step, places), low), high) for number in range(first, last + 1)]
    return []


def _rounded(value: float, places: int) -> float:
    return round(value, places) + 0.0 if places < 300 else value  # + 0.0: no minus before zero


def _decades(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten within a range, evenly; with 2 and 5 times them where there is room."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    count = last - first + 1
    if count < 1:
        return []
    if count <= 2:
        finer = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in (1, 2, 5)]
        finer = [value for value in finer if low * (1 - 1e-9) <= value <= min(high * (1 + 1e-9), _MOST)]
        if len(finer) <= most:
            return finer
    every = -(-count // max(1, most))
    return [float(f"1e{power}") for power in range(first, last + 1, every)]


_SUFFIXES: Final = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
"""From what size on numbers are written in which unit."""


def tick_texts(ticks: Sequence[float], *, counts: bool = False) -> list[str]:
    """Return what is written beside ticks: no two different ones the same. ``counts``: thousands as 200k."""
    size = max(map(abs, ticks), default=0.0)
    if counts:
        for least, unit, suffix in _SUFFIXES:
            if least <= size < 1e15:
                texts = [f"{tick / unit:.6g}{suffix}" if tick else "0" for tick in ticks]
                if len({*texts}) == len({*ticks}):
                    return texts
    if size == 0 or 1e-4 <= size < 1e7:
        forms = [f".{decimals}f" for decimals in range(17)]
    else:
        forms = [f".{digits}g" for digits in range(1, 17)]
    for form in forms:
        texts = [f"{tick:{form}}" for tick in ticks]
        if all(_close(float(text), tick, ticks) for text, tick in zip(texts, ticks, strict=True)):
            return texts
    return [repr(tick) for tick in ticks]


def _close(told: float, tick: float, ticks: Sequence[float]) -> bool:
    """Whether what is told of a tick is so near to it that nobody sees the difference beside the others."""
    step = min((abs(b / 2 - a / 2) for a, b in pairwise(ticks)), default=0.0)
    return told == tick or abs(told / 2 - tick / 2) <= step / 50
