"""Series as arrays: for whoever draws or computes, and has no use for an object a point."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence

import attrs

EXTREMES_OF = 256
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

    Both ends of a range of steps are included, and a range leaves out points without a step.
    """
    ranged = min_step is not None or max_step is not None
    rows: list[tuple[bool, int, int, int, float, int]] = []
    for part in parts:
        steps = part.steps
        if steps is None:
            if not ranged:
                rows += [
                    (True, 0, part.place, seq, float(value), timestamp)
                    for seq, value, timestamp in zip(part.seqs(), part.values, part.timestamps, strict=True)
                ]
            continue
        rows += [
            (False, step, part.place, seq, float(value), timestamp)
            for step, seq, value, timestamp in zip(steps, part.seqs(), part.values, part.timestamps, strict=True)
            if (part.rewind_to is None or step <= part.rewind_to)
            and (min_step is None or step >= min_step)
            and (max_step is None or step <= max_step)
        ]
    rows.sort(key=lambda row: row[:4])
    return Series(
        array("q", [row[1] for row in rows if not row[0]]),
        array("d", [row[4] for row in rows]),
        array("q", [row[5] for row in rows]),
    )


def downsample(series: Series, limit: int) -> Series:
    """Return at most ``limit`` points of ``series`` that look like all of it; all where there are no more.

    The first and the last point are kept, and of each of many buckets of successive points the least and the greatest
    value, so that no spike is lost. NaN is neither: where a bucket has nothing else, its first one is kept. Raises
    ValueError for a limit below 2; from 4 on there are buckets.
    """
    if limit < 2:
        raise ValueError(f"a series has a first and a last point: no limit of {limit}")
    count = len(series)
    if count <= limit:
        return series
    buckets = (limit - 2) // 2
    kept = [0]
    values = series.values
    for bucket in range(buckets):
        start, stop = 1 + bucket * (count - 2) // buckets, 1 + (bucket + 1) * (count - 2) // buckets
        part = values[start:stop].tolist()
        present = [value for value in part if value == value]  # noqa: PLR0124 - NaN is not
        places = {start + part.index(min(present)), start + part.index(max(present))} if present else {start}
        kept += sorted(places)
    kept.append(count - 1)
    steps = series.steps
    return Series(
        array("q", [steps[place] for place in kept if place < len(steps)]),
        array("d", [values[place] for place in kept]),
        array("q", [series.timestamps_us[place] for place in kept]),
    )
