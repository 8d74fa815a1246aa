"""Series as arrays: for whoever draws or computes, and has no use for an object a point."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress, groupby, pairwise, repeat
from operator import add
from typing import Final, Union

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


Points = tuple["array[int] | None", "array[int] | array[float]", "array[int]"]
"""Steps (None for points without), values ("d" or "q") and time stamps."""

Numbers = Union["array[int]", "array[float]", "memoryview[float]"]
"""Values that may be looked at one by one; a view has items "f" or "d"."""


@attrs.frozen
class Glance:
    """What a few of many points are found by. ``extremes``: as ``extremes_of`` finds them. ``values``: those alone.
    ``pick``: some points, without the others.
    """

    extremes: bytes
    values: Callable[[], Numbers]
    pick: Callable[[Sequence[int]], Points]


@attrs.frozen
class Part:
    """Points of one stream on their way into a series; at least one. What ``BlockReader.part`` returns.

    ``count``: how many. ``points``: asked for when their turn comes. ``steps`` and ``seqs``: the least and the
    greatest; without steps None. ``in_order``: whether both steps and seqs ascend, equal steps included. ``get_seqs``:
    asked only where that, or the other parts, leave the order open. ``place``: of the stream in session order
    (``RunReducer.stream_order``). ``rewind_to``: points of later steps are hidden (``RunReducer.rewinds``).
    ``glance``: where more is known of the points than their ends.
    """

    count: int
    points: Callable[[], Points]
    get_seqs: Callable[[], Sequence[int]]
    steps: tuple[int, int] | None
    seqs: tuple[int, int]
    in_order: bool
    place: int = 0
    rewind_to: int | None = None
    glance: Glance | None = None

    @property
    def first(self) -> tuple[int, int, int]:
        """What no point comes before: step, place, seq."""
        return 0 if self.steps is None else self.steps[0], self.place, self.seqs[0]

    @property
    def last(self) -> tuple[int, int, int]:
        """What no point comes after."""
        return 0 if self.steps is None else self.steps[1], self.place, self.seqs[1]


def join(parts: Iterable[Part], *, min_step: int | None = None, max_step: int | None = None) -> Series:
    """Return the series that ``parts``, in any order, add up to.

    Both ends of a range of steps are included, and a range leaves out points without a step. Parts that follow one
    another, as those of one stream do as a rule, are put together without a look at their points.
    """
    with_steps, without = _within(parts, min_step, max_step)
    stepped, count = sum(part.count for part in with_steps), sum(part.count for part in chain(with_steps, without))
    # Made in full at once: arrays that grow are copied again and again.
    extremes = array("q")
    series = Series(array("q", (0,)) * stepped, array("d", (0,)) * count, array("q", (0,)) * count, extremes)
    at = 0
    all_steps, all_values = memoryview(series.steps), memoryview(series.values)
    all_timestamps = memoryview(series.timestamps_us)
    for crossing in chain(_in_order(with_steps), _in_order(without)):
        is_one = len(crossing) == 1 and crossing[0].in_order
        steps, values, timestamps = crossing[0].points() if is_one else _merged(crossing)
        end = at + len(values)
        if steps is not None:
            all_steps[at:end] = steps
        all_values[at:end] = values if values.typecode == "d" else array("d", values)
        all_timestamps[at:end] = timestamps
        glance = crossing[0].glance if is_one else None
        starts = chain.from_iterable(map(repeat, range(at, end, EXTREMES_OF), repeat(2)))
        extremes.extend(map(add, starts, extremes_of(values) if glance is None else glance.extremes))
        at = end
    return series


def _within(parts: Iterable[Part], min_step: int | None, max_step: int | None) -> tuple[list[Part], list[Part]]:
    """Return what is asked for of ``parts``: those with steps, and those without."""
    ranged = min_step is not None or max_step is not None
    with_steps: list[Part] = []
    without: list[Part] = []
    for part in parts:
        if part.steps is None:
            if not ranged:
                without.append(part)
        else:
            limits = [limit for limit in (max_step, part.rewind_to) if limit is not None]
            with_steps += _cut(part, min_step, min(limits) if limits else None)
    return with_steps, without


def _cut(part: Part, low: int | None, high: int | None) -> list[Part]:
    """Return the points of ``part`` that have steps between ``low`` and ``high``, both included; none for none."""
    assert part.steps is not None
    first, last = part.steps
    if (low is None or first >= low) and (high is None or last <= high):
        return [part]
    if (low is not None and last < low) or (high is not None and first > high):
        return []
    steps, values, timestamps = part.points()
    assert steps is not None
    keep = [(low is None or step >= low) and (high is None or step <= high) for step in steps]
    if not any(keep):
        return []
    kept = array("q", compress(steps, keep))
    points = kept, array(values.typecode, compress(values, keep)), array("q", compress(timestamps, keep))
    return [
        Part(
            len(kept),
            lambda: points,
            lambda: list(compress(part.get_seqs(), keep)),
            (min(kept), max(kept)),
            part.seqs,
            part.in_order,
            part.place,
        )
    ]


def _in_order(parts: list[Part]) -> Iterator[list[Part]]:
    """Yield parts that follow one another in the order of the series, those together that cross one another."""
    crossing: list[Part] = []
    last: tuple[int, int, int] | None = None
    for first, _, part in sorted((part.first, index, part) for index, part in enumerate(parts)):
        if last is None or last < first:
            if crossing:
                yield crossing
            crossing = []
            last = part.last
        else:
            last = max(last, part.last)
        crossing.append(part)
    if crossing:
        yield crossing


def _merged(parts: list[Part]) -> Points:
    """Return the points of parts that cross one another, or of one that isn't in order; all have steps, or none has."""
    parts.sort(key=lambda part: (part.place, part.seqs))
    points = [part.points() for part in parts]
    values = list(chain.from_iterable(values for _, values, _ in points))
    timestamps = list(chain.from_iterable(timestamps for _, _, timestamps in points))
    order: Sequence[int] = range(len(values))
    in_order = all(part.in_order for part in parts)
    if not in_order or any(a.place == b.place and a.seqs[1] >= b.seqs[0] for a, b in pairwise(parts)):
        places = chain.from_iterable(repeat(part.place, len(own[1])) for part, own in zip(parts, points, strict=True))
        seqs = chain.from_iterable(part.get_seqs() for part in parts)
        keys = list(zip(places, seqs, strict=True))
        order = sorted(order, key=keys.__getitem__)
    steps = None
    if parts[0].steps is not None:
        known = list(chain.from_iterable(steps for steps, _, _ in points if steps is not None))
        order = sorted(order, key=known.__getitem__)  # equal steps stay in the order of their sessions and seqs
        steps = array("q", map(known.__getitem__, order))
    return steps, array("d", map(values.__getitem__, order)), array("q", map(timestamps.__getitem__, order))


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
    require_points(limit)
    count, buckets = len(series), _buckets(limit)
    if count <= limit:
        return series
    known = series.extremes
    if known is None or len(known) // 2 < buckets:
        order = _chosen(count, buckets, range(count), series.values, 1)
    else:
        order = _chosen(count, buckets, known, [series.values[place] for place in known], 2)
    return Series(
        array("q", [series.steps[place] for place in order[: bisect_left(order, len(series.steps))]]),
        array("d", [series.values[place] for place in order]),
        array("q", [series.timestamps_us[place] for place in order]),
    )


def join_fewer(
    parts: Iterable[Part], limit: int, *, min_step: int | None = None, max_step: int | None = None
) -> Series:
    """Return what ``downsample`` makes of what ``join`` returns, without a look at points that nobody will see."""
    require_points(limit)
    with_steps, without = _within(parts, min_step, max_step)
    wanted = [*with_steps, *without]
    count, buckets = sum(part.count for part in wanted), _buckets(limit)
    if count <= limit:
        return join(wanted)
    crossings = [*_in_order(with_steps), *_in_order(without)]
    sizes = [sum(part.count for part in crossing) for crossing in crossings]
    is_known = sum(-(-size // EXTREMES_OF) for size in sizes) >= buckets
    starts: list[int] = []
    picks: list[Callable[[Sequence[int]], Points]] = []
    known: list[int] = []
    candidates = array("d")
    at = 0
    for crossing, size in zip(crossings, sizes, strict=True):
        is_one = len(crossing) == 1 and crossing[0].in_order
        glance = crossing[0].glance if is_one else None
        if glance is None:
            glance = glance_at(crossing[0].points() if is_one else _merged(crossing))
        if is_known:
            groups = chain.from_iterable(map(repeat, range(0, size, EXTREMES_OF), repeat(2)))
            places = list(map(add, groups, glance.extremes))
            candidates.extend(map(float, map(glance.values().__getitem__, places)))
            known += [at + place for place in places]
        else:
            candidates.extend(glance.values().tolist())
        starts.append(at)
        picks.append(glance.pick)
        at += size
    series = Series(array("q"), array("d"), array("q"))
    places_of = known if is_known else range(count)
    chosen = _chosen(count, buckets, places_of, candidates, 2 if is_known else 1)
    for index, own in groupby(chosen, lambda place: bisect_right(starts, place) - 1):
        steps, values, timestamps = picks[index]([place - starts[index] for place in own])
        series.steps.extend(steps or ())
        series.values.extend(values)
        series.timestamps_us.extend(timestamps)
    return series


def glance_at(points: Points) -> Glance:
    """Return what points that are decoded already are found by."""
    steps, values, timestamps = points
    return Glance(
        extremes_of(values),
        lambda: values,
        lambda places: (
            None if steps is None else array("q", [steps[place] for place in places]),
            array("d", [values[place] for place in places]),
            array("q", [timestamps[place] for place in places]),
        ),
    )


def require_points(limit: int) -> None:
    """Raise ValueError for a limit that has no room for the first and the last point."""
    if limit < 2:
        raise ValueError(f"a series has a first and a last point: no limit of {limit}")


def _buckets(limit: int) -> int:
    """Return of how many stretches the least and the greatest are kept."""
    return (limit - 2) // 2


def _chosen(count: int, buckets: int, places: Sequence[int], values: Sequence[int | float], width: int) -> list[int]:
    """Return the places that are kept of ``count`` points, sorted. ``values`` stand at ``places``, the candidates, of
    which ``width`` go together.
    """
    kept = {0, count - 1}
    size = len(values) // width
    for bucket in range(buckets):
        start, stop = width * (bucket * size // buckets), width * ((bucket + 1) * size // buckets)
        own = values[start:stop]
        total = sum(own)
        ends = _ends(own if total == total else [value for value in own if value == value])  # noqa: PLR0124
        kept.update([places[start + own.index(end)] for end in ends] or places[start : min(start + 1, stop)])
    return sorted(kept)
