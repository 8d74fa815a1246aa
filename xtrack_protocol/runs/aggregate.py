"""One line a step over all workers of a run. spec: FLD-3.7, FLD-3.8"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from xtrack_protocol.runs.values import Aggregate, SeriesPoint


def aggregate_series(points: Iterable[SeriesPoint]) -> list[Aggregate]:
    """Return what workers' values at each step add up to, from points in the order of the series.

    Of each worker the last point of a step counts, which is that of its last session. Points without a step are left
    out, and so are hidden ones. spec: FLD-3.7
    """
    result = []
    for step, at_step in groupby(points, key=attrgetter("step")):
        if step is None:
            continue
        of_worker = {point.worker_id: point.value for point in at_step if not point.hidden}
        if of_worker:
            result.append(aggregate(step, list(of_worker.values())))
    return result


def aggregate(step: int | None, values: Sequence[int | float]) -> Aggregate:
    """Return what values of different workers add up to, whatever their order. spec: FLD-3.8"""
    numbers = [value for value in values if value == value]  # noqa: PLR0124 - NaN is what doesn't equal itself
    if not numbers:
        return Aggregate(step, 0, len(values), None, None, None)
    lowest, highest = _one_of(numbers, min(numbers)), _one_of(numbers, max(numbers))
    return Aggregate(step, len(numbers), len(values) - len(numbers), _mean(numbers), lowest, highest)


def _one_of(numbers: Sequence[int | float], extreme: float) -> int | float:
    """Return the one of several equal numbers that doesn't depend on their order: of 1 and 1.0, of 0.0 and -0.0."""
    return min((number for number in numbers if number == extreme), key=repr)


def _mean(numbers: Sequence[int | float]) -> float:
    """Return the mean of the correctly rounded sum, whatever the order; of both infinities NaN."""
    count = len(numbers)
    try:
        return math.fsum(numbers) / count
    except OverflowError:  # the sum, not the mean
        return math.fsum(number / count for number in numbers)
    except ValueError:  # inf - inf
        return math.nan
