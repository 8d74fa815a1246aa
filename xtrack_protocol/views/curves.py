"""Curves: series as charts draw them, smoothed, thinned, and with what can't be drawn counted."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from xtrack_protocol.runs import Series, aggregate, downsample

if TYPE_CHECKING:
    from xtrack_protocol.runs import RunState
    from xtrack_protocol.storage import Storage

Axis: TypeAlias = Literal["step", "time", "epoch"]
"""What the points of a chart stand over. ``time``: seconds since the run's start."""

POINTS: Final = 2000
"""Points of a curve, unless asked for otherwise: more than a picture is wide."""


@attrs.frozen(kw_only=True)
class Curve:
    """A series to draw. ``values``, one for each of ``places``, may be NaN or infinite: that is a gap.

    ``raw``: what ``values`` was before smoothing, with places of its own. ``band``: lowest and highest value of several
    workers. ``left_out``: what isn't drawn, by what it is, and how often.
    """

    name: str
    places: Sequence[float]
    values: Sequence[float]
    axis: str = "step"
    raw: tuple[Sequence[float], Sequence[float]] | None = None
    band: tuple[tuple[Sequence[float], Sequence[float]], tuple[Sequence[float], Sequence[float]]] | None = None
    left_out: Counter[str] = attrs.field(factory=Counter)
    last: float | None = None
    """The last value as it was logged, also one that can't be drawn; None for no points."""


def smooth(values: Iterable[float], weight: float) -> array[float]:
    """Return the exponential moving average of ``values``, as TensorBoard has it: its beginning isn't drawn to zero.

    ``weight``: of the past, from 0 (no smoothing) to below 1. What isn't finite stays, and counts for nothing; values
    that are all the same stay as they are. Raises ValueError for another weight.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"a weight is at least 0 and below 1, not {weight!r}")
    found = array("d", values)
    if weight == 0 or not len(found) or found == array("d", found[:1]) * len(found):
        return found
    average, total = 0.0, 0.0
    for place, value in enumerate(found):
        if math.isfinite(value):
            average = average * weight + (1 - weight) * value
            total = total * weight + (1 - weight)
            found[place] = average / total
    return found


def curve_of(
    series: Series, name: str, *, axis: Axis = "step", start_us: int | None = None, weight: float = 0.0,
    log: bool = False, points: int = POINTS,
) -> Curve:  # fmt: skip
    """Return what to draw of a series.

    ``axis``: ``time`` counts from ``start_us`` (default: the first point); over steps, points without one are left
    out, and where none has one they are numbered from 0. ``weight``: see ``smooth``. ``log``: values that aren't above
    0 are left out.
    """
    left_out = Counter(map(_kind, series.values) if log else map(_kind_linear, series.values))
    del left_out[""]
    last = series.values[-1] if len(series) else None
    placed, without = _placed(series, axis, start_us)
    if without:
        left_out["without a step"] += without
    if log:
        positive = array("d", (value if not _kind(value) else math.nan for value in placed.values))
        placed = Series(placed.steps, positive, placed.timestamps_us)
    raw = None
    shown = placed
    if weight:
        thin = downsample(placed, points)
        raw = _scaled(thin, axis)
        shown = Series(placed.steps, smooth(placed.values, weight), placed.timestamps_us)
    places, values = _scaled(downsample(shown, points), axis)
    label = "point" if axis == "step" and len(series) and not len(series.steps) else axis
    return Curve(name=name, places=places, values=values, axis=label, raw=raw, left_out=left_out, last=last)


def _kind_linear(value: float) -> str:
    if math.isfinite(value):
        return ""
    return "NaN" if math.isnan(value) else ("+inf" if value > 0 else "-inf")


def _kind(value: float) -> str:
    return _kind_linear(value) or ("" if value > 0 else "not above 0")


def _placed(series: Series, axis: Axis, start_us: int | None) -> tuple[Series, int]:
    """Return a series whose steps are the places to draw at, and how many points have none."""
    if axis == "time":
        start = min(series.timestamps_us, default=0) if start_us is None else start_us
        order = sorted(range(len(series)), key=series.timestamps_us.__getitem__)
        times = array("q", (series.timestamps_us[place] - start for place in order))
        return Series(times, array("d", (series.values[place] for place in order)), times), 0
    stepped = len(series.steps)
    if not stepped:
        return Series(array("q", range(len(series))), series.values, series.timestamps_us, series.extremes), 0
    if stepped == len(series):
        return series, 0
    return Series(series.steps, series.values[:stepped], series.timestamps_us[:stepped]), len(series) - stepped


def _scaled(series: Series, axis: Axis) -> tuple[Sequence[float], Sequence[float]]:
    if axis == "time":
        return [place / 1e6 for place in series.steps], series.values
    return series.steps, series.values


# ------------------------------------------------------------------------------------------ from a store


def read_curve(
    store: Storage, state: RunState, key: str, name: str, *, axis: Axis = "step", worker_id: str | None = None,
    weight: float = 0.0, log: bool = False, points: int = POINTS,
) -> Curve:  # fmt: skip
    """Return the curve of a run's metric; of several workers the mean, with a band from the lowest to the highest.

    ``worker_id``: of this worker alone. An unknown key is a curve without points. Raises RunNotFound.
    """
    metric = state.metrics.get(key)
    if worker_id is None and metric is not None and metric.workers is not None:
        return _of_workers(store, state, key, name, axis=axis, weight=weight, log=log, points=points)
    without = 0
    if axis == "epoch":
        series, without = _by_epoch(store, state.run_id, key, worker_id)
    else:
        series = store.get_series(state.run_id, key, worker_id=worker_id)
    curve = curve_of(series, name, axis=axis, start_us=state.started_at_us, weight=weight, log=log, points=points)
    if without:
        curve.left_out["without an epoch"] += without
    return curve


def _by_epoch(store: Storage, run_id: str, key: str, worker_id: str | None) -> tuple[Series, int]:
    """Return a series with epochs for steps, and how many points have none."""
    found = store.get_metrics(run_id, key, worker_id=worker_id)
    kept = sorted(
        ((point.epoch, float(point.value), point.timestamp_us) for point in found if point.epoch is not None),
        key=lambda item: item[0],
    )
    return _series(kept), len(found) - len(kept)


def _of_workers(
    store: Storage, state: RunState, key: str, name: str, *, axis: Axis, weight: float, log: bool, points: int
) -> Curve:
    """Return the mean of several workers, with a band. As in ``aggregate_series``, a worker's last point of a step
    counts; but in arrays, for there may be millions.
    """
    told: dict[int, list[float]] = {}
    times: dict[int, int] = {}
    without = 0
    for worker in state.workers:
        if axis == "epoch":
            series, missing = _by_epoch(store, state.run_id, key, worker)
        else:
            series = store.get_series(state.run_id, key, worker_id=worker)
            missing = len(series) - len(series.steps)
        without += missing
        for step, value in dict(zip(series.steps, series.values, strict=False)).items():
            told.setdefault(step, []).append(value)
        for step, at in zip(series.steps, series.timestamps_us, strict=False):
            times[step] = max(at, times.get(step, at))
    steps = sorted(told)
    lines = [aggregate(step, told[step]) for step in steps]

    def drawn(values: Iterable[float | None], weight: float) -> Curve:
        numbers = (math.nan if value is None else float(value) for value in values)
        series = _series([(step, value, times[step]) for step, value in zip(steps, numbers, strict=True)])
        return curve_of(series, name, axis=axis, start_us=state.started_at_us, weight=weight, log=log, points=points)

    curve = drawn((line.mean for line in lines), weight)
    low, high = drawn((line.min for line in lines), 0.0), drawn((line.max for line in lines), 0.0)
    curve.left_out["NaN"] = sum(line.nan_count for line in lines)  # of workers, and not of means
    curve.left_out["without an epoch" if axis == "epoch" else "without a step"] += without
    return attrs.evolve(curve, left_out=+curve.left_out, band=((low.places, low.values), (high.places, high.values)))


def _series(points: Sequence[tuple[int, float, int]]) -> Series:
    steps, values, times = zip(*points, strict=True) if points else ((), (), ())
    return Series(array("q", steps), array("d", values), array("q", times))
