"""What ``Run.log_batch`` takes, in MLflow's forms and in ours, made into few events."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from xtrack_protocol.emitter.checks import Checks
from xtrack_protocol.emitter.values import NotANumber, as_mapping, brief, to_number
from xtrack_protocol.ir.values import MetricBatch

_ABSENT: Final = object()


class _Point(NamedTuple):
    key: str
    value: int | float
    step: int | None
    timestamp_us: int | None


def named_values(check: Checks, what: str, values: Any) -> Mapping[Any, Any]:
    """Return names with values, of what has them, or of a sequence of items that have ``key`` and ``value``."""
    if not _is_sequence(values):
        return values  # type: ignore[no-any-return]  # whatever it is: who takes it says what is wrong with it
    named = {}
    for item in values:
        key, value = _member(item, "key"), _member(item, "value")
        if key is _ABSENT or value is _ABSENT:
            check.wrong(f"log_batch: {what}: {brief(item)} has no key and value. It was left out")
        else:
            named[check.name(f"log_batch: {what}: key", key)] = value
    return named


def metric_batches(check: Checks, run_id: str, metrics: Any) -> list[tuple[MetricBatch, int | None]]:
    """Return the events of a batch of metrics, each with its time; None: now. What is no point counts as wrong."""
    if not _is_sequence(metrics):
        numbers = check.numbers("log_batch: metrics", metrics)
        return [(MetricBatch(run_id, numbers), None)] if numbers else []
    batches: list[tuple[MetricBatch, int | None]] = []
    of_time: dict[tuple[int | None, int | None], list[int]] = defaultdict(list)
    last: dict[str, int] = {}
    for item in metrics:
        point = _point(check, item)
        if point is None:
            continue
        # The first event of its step and time behind the last one that its series is in: so a series keeps its order.
        places = of_time[point.step, point.timestamp_us]
        index = bisect_right(places, last.get(point.key, -1))
        if index == len(places):
            places.append(len(batches))
            batches.append((MetricBatch(run_id, {}, point.step), point.timestamp_us))
        place = places[index]
        batches[place][0].metrics[point.key] = point.value
        last[point.key] = place
    return batches


def _point(check: Checks, item: Any) -> _Point | None:
    key, value = _member(item, "key"), _member(item, "value")
    if key is _ABSENT or value is _ABSENT:
        check.wrong(f"log_batch: metrics: {brief(item)} has no key and value. It was left out")
        return None
    name = check.name("log_batch: metrics: key", key)
    try:
        number = to_number(value)
    except NotANumber as error:
        check.wrong(f"log_batch: metrics: {name!r}: {error}. It was left out")
        return None
    when = check.whole("timestamp_us", _known(item, "timestamp_us"))
    milliseconds = check.whole("timestamp", _known(item, "timestamp"))
    if when is None and milliseconds is not None:
        when = check.whole("timestamp", milliseconds * 1000)
    return _Point(name, number, check.whole("step", _known(item, "step")), when)


def _is_sequence(values: Any) -> bool:
    return isinstance(values, Iterable) and not isinstance(values, (str, bytes)) and as_mapping(values) is None


def _member(item: Any, name: str) -> Any:
    if isinstance(item, Mapping):
        return item.get(name, _ABSENT)
    return getattr(item, name, _ABSENT)


def _known(item: Any, name: str) -> Any:
    found = _member(item, name)
    return None if found is _ABSENT else found
