"""Series as arrays: for whoever draws or computes, and has no use for an object a point."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise, repeat
from operator import add
from typing import Any, Final

import attrs

EXTREMES_OF: Final = 256
"""Values of which the least and the greatest are known beforehand."""


@attrs.define
class Series:
    """The points of a series, hidden ones left out, in its order: by step, session and seq; last those without a step.

    ``values``: the float nearest to each, so that integers beyond 2**53 lose digits. ``steps``: of the first
    ``len(steps)`` points; the others have none. ``timestamps_us``: microseconds since the Unix epoch, by the workers'
    clocks. Item codes: "q", "d", "q". spec: FLD-3
    """

    steps: array[int]
    values: array[float]
    timestamps_us: array[int]
    extremes: array[int] | None = attrs.field(default=None, eq=False, repr=False)
    """Of successive groups of at most 256 points, two places in ``values`` each: where the least and the greatest of
    the group stand. None where nobody knows them; ``downsample`` finds them then."""

    def __len__(self) -> int:
        return len(self.values)


@attrs.frozen(kw_only=True)
class Part:
    """Points of one stream on their way into a series; at least one. What ``BlockReader.part`` returns.

    ``steps``: None for points without. ``values``: "d" or "q". ``place``: of the stream in session order
    (``RunReducer.stream_order``). ``rewind_to``: points of later steps are hidden (``RunReducer.rewinds``).
    ``in_order``: whether both steps and seqs ascend, equal steps included; ``seqs`` is asked only where that, or the
    ranges of seqs, leaves the order open. ``extremes``: as ``BlockReader.extremes``.
    """

    steps: array[int] | None
    values: array[int] | array[float]
    timestamps: array[int]
    seqs: Callable[[], Sequence[int]]
    first_seq: int
    last_seq: int
    in_order: bool
    place: int = 0
    rewind_to: int | None = None
    extremes: bytes | None = None


def join(parts: Iterable[Part], *, min_step: int | None = None, max_step: int | None = None) -> Series:
    """Return the series that ``parts``, in any order, add up to.

    Both ends of a range of steps are included, and a range leaves out points without a step. Parts that follow one
    another, as those of one stream do as a rule, are put together without a look at their points.
    """
    ranged = min_step is not None or max_step is not None
    with_steps: list[Part] = []
    without: list[Part] = []
    for part in parts:
        own = part if part.in_order else _sorted(part)
        if own.steps is None:
            if not ranged:
                without.append(own)
        else:
            cut = _cut(own, min_step, max_step)
            if cut is not None:
                with_steps.append(cut)
    ordered = _in_order(with_steps) + _in_order(without)
    series = Series(array("q"), array("d"), array("q"), array("q"))
    for part in ordered:
        _append(series, part)
    return series


def _append(series: Series, part: Part) -> None:
    """Add points that come after all that are there."""
    first = len(series.values)
    found = part.extremes if part.extremes is not None else extremes_of(part.values)
    assert series.extremes is not None
    starts = chain.from_iterable(repeat(start, 2) for start in range(first, first + len(part.values), EXTREMES_OF))
    series.extremes.extend(map(add, starts, found))
    if part.steps is not None:
        series.steps.extend(part.steps)
    series.values.extend(part.values if part.values.typecode == "d" else array("d", part.values))
    series.timestamps_us.extend(part.timestamps)


def _picked(part: Part, order: Sequence[int]) -> Part:
    """Return some points of ``part`` in another order."""
    seqs = part.seqs()
    own = [seqs[place] for place in order]
    return attrs.evolve(
        part,
        steps=None if part.steps is None else array("q", [part.steps[place] for place in order]),
        values=array(part.values.typecode, [part.values[place] for place in order]),
        timestamps=array("q", [part.timestamps[place] for place in order]),
        seqs=lambda: own,
        extremes=None,
    )


def _sorted(part: Part) -> Part:
    """Return ``part`` in the order of the series."""
    seqs = part.seqs()
    keys: Sequence[Any] = seqs if part.steps is None else list(zip(part.steps, seqs, strict=True))
    return _picked(part, sorted(range(len(seqs)), key=keys.__getitem__))


def _cut(part: Part, min_step: int | None, max_step: int | None) -> Part | None:
    """Return those points of ``part``, whose steps ascend, that are in a range and not hidden; None without any."""
    steps = part.steps
    assert steps is not None
    limits = [limit for limit in (max_step, part.rewind_to) if limit is not None]
    start = 0 if min_step is None else bisect_left(steps, min_step)
    stop = bisect_right(steps, min(limits)) if limits else len(steps)
    if start >= stop:
        return None
    if stop - start == len(steps):
        return part
    return attrs.evolve(
        part,
        steps=steps[start:stop],
        values=part.values[start:stop],
        timestamps=part.timestamps[start:stop],
        seqs=lambda: part.seqs()[start:stop],
        extremes=None,
    )


def _in_order(parts: list[Part]) -> list[Part]:
    """Return points that follow one another in the order of the series; all ``parts`` have steps, or none has."""
    parts.sort(key=_first)
    found: list[Part] = []
    crossing: list[Part] = []
    last: tuple[int, int, int] | None = None
    for part in parts:
        if last is not None and _first(part) < last:
            crossing.append(part)
        else:
            found += _merged(crossing)
            crossing = [part]
        end = part.steps[-1] if part.steps is not None else 0, part.place, part.last_seq
        last = end if last is None else max(last, end)
    return found + _merged(crossing)


def _first(part: Part) -> tuple[int, int, int]:
    """Return what no point of ``part`` comes before."""
    return part.steps[0] if part.steps is not None else 0, part.place, part.first_seq


def _merged(parts: list[Part]) -> list[Part]:
    """Return as one part the points of several that cross one another."""
    if len(parts) < 2:
        return parts
    parts.sort(key=lambda part: (part.place, part.first_seq))
    whole = Part(  # its seqs are asked for no more
        steps=None
        if parts[0].steps is None
        else _joined("q", [part.steps for part in parts if part.steps is not None]),
        values=_joined("d", [part.values for part in parts]),
        timestamps=_joined("q", [part.timestamps for part in parts]),
        seqs=lambda: range(len(whole.values)),
        first_seq=0,
        last_seq=0,
        in_order=True,
    )
    order: Iterable[int] = range(len(whole.values))
    if any(a.place == b.place and a.last_seq >= b.first_seq for a, b in pairwise(parts)):
        places = chain.from_iterable(repeat(part.place, len(part.values)) for part in parts)
        seqs = chain.from_iterable(part.seqs() for part in parts)
        keys = list(zip(places, seqs, strict=True))
        order = sorted(order, key=keys.__getitem__)
    if whole.steps is not None:  # equal steps stay in the order of their sessions and seqs
        order = sorted(order, key=whole.steps.tolist().__getitem__)
    return [_picked(whole, list(order))]


def _joined(code: str, columns: list[Any]) -> array[Any]:
    whole = array(code)
    for column in columns:
        whole.extend(column if column.typecode == code else array(code, column))
    return whole


# ---------------------------------------------------------------------------------------------- fewer points


def extremes_of(numbers: Sequence[int | float]) -> bytes:
    """Return where in each EXTREMES_OF numbers the least and the greatest stand, a byte each; the first of equal ones.

    NaN is neither; where there is nothing else both are 0.
    """
    found = bytearray()
    total = sum(numbers)
    for start in range(0, len(numbers), EXTREMES_OF):
        part = numbers[start : start + EXTREMES_OF]
        ends = _ends(part if total == total else [number for number in part if number == number])  # noqa: PLR0124
        found += bytes(map(part.index, ends)) if ends else b"\0\0"
    return bytes(found)


def _ends(numbers: Sequence[int | float]) -> tuple[int | float, ...]:
    """Return the least and the greatest number, where there are any."""
    return (min(numbers), max(numbers)) if numbers else ()


def downsample(series: Series, limit: int) -> Series:
    """Return at most ``limit`` points of ``series`` that look like all of it; all where there are no more.

    The first and the last point are kept, and of each of many buckets of successive points the least and the greatest
    value, so that no spike is lost. NaN is neither: where a bucket has nothing else, its first one is kept. Raises
    ValueError for a limit below 2; from 4 on there are buckets.
    """
    if limit < 2:
        raise ValueError(f"a series has a first and a last point: no limit of {limit}")
    count, buckets = len(series), (limit - 2) // 2
    if count <= limit:
        return series
    kept = {0, count - 1}
    known = series.extremes
    size = count if known is None else len(known) // 2
    if known is None or size < buckets:
        known, size = None, count
    for bucket in range(buckets):
        start, stop = bucket * size // buckets, (bucket + 1) * size // buckets
        places: Sequence[int] = range(start, stop) if known is None else known[2 * start : 2 * stop]
        values = series.values[start:stop].tolist() if known is None else [series.values[place] for place in places]
        total = sum(values)
        ends = _ends(values if total == total else [value for value in values if value == value])  # noqa: PLR0124
        kept.update([places[values.index(end)] for end in ends] or places[:1])
    order = sorted(kept)
    return Series(
        array("q", [series.steps[place] for place in order[: bisect_left(order, len(series.steps))]]),
        array("d", [series.values[place] for place in order]),
        array("q", [series.timestamps_us[place] for place in order]),
    )
