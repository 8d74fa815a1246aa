"""Metric events as columns: what many events of a stream have in common is said once, the rest stands in lists.

The fold and the stores take metrics so where many come at once: work in bulk costs a fraction of the same event by
event.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress
from operator import itemgetter
from typing import Any, Final, NamedTuple

import attrs

from xtrack_protocol.ir import Envelope, Metric, MetricBatch, MetricContext, RunId
from xtrack_protocol.runs.facts import Point
from xtrack_protocol.runs.series import Part


class Shape(NamedTuple):
    """What all events of some columns have in common; hashable."""

    is_batch: bool
    """Whether the events are MetricBatch; else they are Metric, and there is one name."""
    names: tuple[str, ...]
    """The metrics, in the order of the event."""
    integers: tuple[bool, ...]
    """Of each name whether the values are integers; else they are floats."""
    run_id: str | RunId
    """As it was sent, which need not be the id of the run that the events are kept under."""
    worker_id: str | None
    session_id: str | None
    """As it was sent: None in legacy events."""
    context: MetricContext | None
    has_step: bool
    has_epoch: bool


@attrs.define
class Columns:
    """Metric events of one stream and one shape, in the order in which they came; at least one.

    ``places``: of each event its index in the sequence that was gathered, ascending. ``timestamps``: microseconds
    since the Unix epoch, by the worker's clock. ``steps`` and ``epochs``: None where the shape has none. ``values``: a
    column for each name. All columns are lists or tuples of plain numbers, equally long.
    """

    shape: Shape
    places: range | list[int]
    seqs: Sequence[int]
    timestamps: Sequence[int]
    steps: Sequence[int] | None
    epochs: Sequence[int] | None
    values: Sequence[Sequence[int | float]]
    _seqs_ascend: bool | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _timestamp_ends: tuple[int, int] | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _steps_ascend: bool | None = attrs.field(default=None, init=False, eq=False, repr=False)

    @property
    def seqs_ascend(self) -> bool:
        """Whether each seq is above the one before, as in a stream that came as it was sent."""
        if self._seqs_ascend is None:
            self._seqs_ascend = is_sorted(self.seqs)
        return self._seqs_ascend

    @property
    def steps_ascend(self) -> bool:
        """Whether no step is below the one before; so it is where there are none."""
        if self._steps_ascend is None:
            self._steps_ascend = self.steps is None or is_sorted(self.steps)
        return self._steps_ascend

    @property
    def timestamp_ends(self) -> tuple[int, int]:
        """The earliest and the latest time stamp."""
        if self._timestamp_ends is None:
            stamps = self.timestamps
            self._timestamp_ends = (stamps[0], stamps[-1]) if is_sorted(stamps) else (min(stamps), max(stamps))
        return self._timestamp_ends

    @property
    def seq_ends(self) -> tuple[int, int]:
        """The least and the greatest seq."""
        return (self.seqs[0], self.seqs[-1]) if self.seqs_ascend else (min(self.seqs), max(self.seqs))

    @property
    def step_ends(self) -> tuple[int, int] | None:
        """The least and the greatest step; None without steps."""
        if self.steps is None:
            return None
        return (self.steps[0], self.steps[-1]) if self.steps_ascend else (min(self.steps), max(self.steps))

    def __len__(self) -> int:
        return len(self.seqs)

    def part(self, index: int, *, place: int = 0, rewind_to: int | None = None) -> Part:
        """Return the points of the metric ``shape.names[index]`` for ``runs.join``. For the rest see ``runs.Part``."""
        steps = None if self.steps is None else array("q", self.steps)
        values = array("q" if self.shape.integers[index] else "d", self.values[index])
        points = steps, values, array("q", self.timestamps)
        in_order = self.seqs_ascend and self.steps_ascend
        return Part(
            len(self), lambda: points, lambda: self.seqs, self.step_ends, self.seq_ends, in_order, place, rewind_to
        )

    def point(self, index: int, values: Sequence[int | float]) -> Point:
        """Return the point of one event, whose value is that in ``values``."""
        return (
            values[index],
            None if self.steps is None else self.steps[index],
            None if self.epochs is None else self.epochs[index],
            self.timestamps[index],
            self.seqs[index],
            self.shape.context,
        )

    def pick(self, start: int, stop: int) -> Columns:
        """Return the events from ``start`` on, those from ``stop`` on left out."""
        part = slice(start, stop)
        return Columns(
            self.shape,
            self.places[part],
            self.seqs[part],
            self.timestamps[part],
            None if self.steps is None else self.steps[part],
            None if self.epochs is None else self.epochs[part],
            [column[part] for column in self.values],
        )

    def only(self, keep: Sequence[bool]) -> Columns:
        """Return the events for which ``keep``, which has an entry for each, says so; there may be none."""
        return Columns(
            self.shape,
            list(compress(self.places, keep)),
            list(compress(self.seqs, keep)),
            list(compress(self.timestamps, keep)),
            None if self.steps is None else list(compress(self.steps, keep)),
            None if self.epochs is None else list(compress(self.epochs, keep)),
            [list(compress(column, keep)) for column in self.values],
        )


def gather(envelopes: Sequence[Envelope]) -> list[Columns]:
    """Return the metric events of one stream as columns, one for each shape, in order of first appearance.

    ``envelopes``: as ``wire.decode`` gives them. Other events among them are passed over, and so are metrics with a
    number that no frame decodes to (one built by hand with a bool, say): what is in no ``places`` is left to be taken
    one by one.
    """
    payloads = [envelope.payload for envelope in envelopes]
    kinds = list(map(type, payloads))
    found: list[Columns] = []
    for kind in (Metric, MetricBatch):
        count = kinds.count(kind)
        if count == len(kinds):
            found += _split(envelopes, payloads, range(count), is_batch=kind is MetricBatch) if count else []
        elif count:
            places = [place for place, each in enumerate(kinds) if each is kind]
            own = [envelopes[place] for place in places], [payloads[place] for place in places]
            found += _split(*own, places, is_batch=kind is MetricBatch)
    found.sort(key=lambda columns: columns.places[0])
    return found


_STEP_TYPES: Final = frozenset({type(None), int})
_VALUE_TYPES: Final = frozenset({int, float})


def _split(
    envelopes: Sequence[Envelope], payloads: Sequence[Any], places: range | list[int], *, is_batch: bool
) -> Iterator[Columns]:
    """Yield the columns of events of one kind. The work of each event is done by C loops over columns."""
    metas = [envelope.meta for envelope in envelopes]
    names: list[Any]
    kinds: list[Any]
    values: list[Any]
    if is_batch:
        metrics = [payload.metrics for payload in payloads]
        names, values = list(map(tuple, metrics)), [tuple(each.values()) for each in metrics]
        kinds = [tuple(map(type, row)) for row in values]
    else:
        names, values = [payload.key for payload in payloads], [payload.value for payload in payloads]
        kinds = list(map(type, values))
    steps, epochs = [payload.step for payload in payloads], [payload.epoch for payload in payloads]
    given: tuple[list[Any], ...] = (
        kinds,
        [payload.run_id for payload in payloads],
        [meta.worker_id for meta in metas],
        [meta.session_id for meta in metas],
        [payload.context for payload in payloads],
        list(map(type, steps)),
        list(map(type, epochs)),
    )
    count = len(metas)
    varying = [column for column in given if column.count(column[0]) != count]
    labels = list(zip(names, *varying, strict=True)) if varying else names
    seqs, timestamps = [meta.seq for meta in metas], [meta.timestamp_us for meta in metas]
    for first, pick in _groups(labels):
        kind, run_id, worker_id, session_id, context, step, epoch = (column[first] for column in given)
        if step not in _STEP_TYPES or epoch not in _STEP_TYPES:
            continue
        if is_batch:
            if not _VALUE_TYPES.issuperset(kind):
                continue
            shaped, integers = names[first], tuple(each is int for each in kind)
            columns = list(zip(*pick(values), strict=True))
        else:
            if kind not in _VALUE_TYPES:
                continue
            shaped, integers = (names[first],), (kind is int,)
            columns = [pick(values)]
        own = pick(places)
        yield Columns(
            Shape(is_batch, shaped, integers, run_id, worker_id, session_id, context, step is int, epoch is int),
            own if isinstance(own, (range, list)) else list(own),
            pick(seqs),
            pick(timestamps),
            pick(steps) if step is int else None,
            pick(epochs) if epoch is int else None,
            columns,
        )


def _groups(labels: list[Any]) -> Iterator[tuple[int, Callable[[Any], Any]]]:
    """Yield of each different label the first index, and what takes the items that have it out of a sequence."""
    count, first = len(labels), labels[0]
    if labels.count(first) == count:
        yield 0, itemgetter(slice(None))
        return
    try:
        period = labels.index(first, 1)
    except ValueError:
        period = count
    if len(set(labels[:period])) == period and labels[period:] == labels[:-period]:  # loss, accuracy, loss, ...
        for index in range(period):
            yield index, itemgetter(slice(index, None, period))
        return
    groups: defaultdict[Any, list[int]] = defaultdict(list)
    for label, index in zip(labels, range(count), strict=True):
        groups[label].append(index)
    for indexes in groups.values():
        yield indexes[0], picker(indexes)


def seq_ranges(columns: Iterable[Columns]) -> list[tuple[int, int]]:
    """Return the seqs of all events, none of which stands there twice, as ranges with both ends included."""
    parts = [one for one in columns if len(one)]
    if not parts:
        return []
    ends = [one.seq_ends for one in parts]
    low, high = min(first for first, _ in ends), max(last for _, last in ends)
    if high - low + 1 == sum(map(len, parts)):
        return [(low, high)]
    return _ranges(sorted(chain.from_iterable(one.seqs for one in parts)))


def _ranges(seqs: list[int]) -> list[tuple[int, int]]:
    """Return ascending seqs as ranges: a search by halves, because there are few of them as a rule."""
    found: list[tuple[int, int]] = []
    todo = [(0, len(seqs) - 1)]
    while todo:
        low, high = todo.pop()
        if seqs[high] - seqs[low] == high - low:
            if found and found[-1][1] + 1 == seqs[low]:
                found[-1] = (found[-1][0], seqs[high])
            else:
                found.append((seqs[low], seqs[high]))
        else:
            middle = (low + high) // 2
            todo += ((middle + 1, high), (low, middle))
    return found


def tail_picker(columns: Columns, count: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what takes out of a column the last ``count`` items, or all, in the order of the series: by step, then
    seq. spec: FLD-3
    """
    seqs, steps = columns.seqs, columns.steps
    if columns.seqs_ascend and columns.steps_ascend:
        return itemgetter(slice(-count, None))
    keys: Sequence[Any] = seqs if steps is None else list(zip(steps, seqs, strict=True))
    order = sorted(range(len(seqs)), key=keys.__getitem__)[-count:]
    return picker(order)


def picker(indexes: Sequence[int]) -> Callable[[Any], Any]:
    """Return what takes the items at ``indexes``, at least one, out of a sequence."""
    return itemgetter(*indexes) if len(indexes) > 1 else itemgetter(slice(indexes[0], indexes[0] + 1))


def is_sorted(numbers: Sequence[int]) -> bool:
    """Whether ``numbers`` ascend, equal ones included. Sorting what is sorted takes less than comparing in Python."""
    return list(numbers) == sorted(numbers)
