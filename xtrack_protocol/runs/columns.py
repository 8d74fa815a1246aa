"""Metric events as columns: what many events of a stream have in common is said once, the rest stands in lists.

The fold and the stores take metrics so where many come at once: work in bulk costs a fraction of the same event by
event.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain, compress
from operator import itemgetter
from typing import Any, Final, NamedTuple

import attrs

from xtrack_protocol.ir import Envelope, Metric, MetricBatch, MetricContext, RunId
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
    values: list[Sequence[int | float]]

    def __len__(self) -> int:
        return len(self.seqs)

    def part(self, index: int, *, place: int = 0, rewind_to: int | None = None) -> Part:
        """Return the points of the metric ``shape.names[index]`` for ``runs.join``. For the rest see ``runs.Part``."""
        return Part(
            steps=None if self.steps is None else array("q", self.steps),
            values=array("q" if self.shape.integers[index] else "d", self.values[index]),
            timestamps=array("q", self.timestamps),
            seqs=lambda: self.seqs,
            first_seq=min(self.seqs),
            last_seq=max(self.seqs),
            in_order=is_sorted(self.seqs) and (self.steps is None or is_sorted(self.steps)),
            place=place,
            rewind_to=rewind_to,
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
    for kind, take in ((Metric, _labels_of_metrics), (MetricBatch, _labels_of_batches)):
        count = kinds.count(kind)
        if count == len(kinds):
            found += _split(envelopes, payloads, range(count), take) if count else []
        elif count:
            places = [place for place, each in enumerate(kinds) if each is kind]
            found += _split([envelopes[n] for n in places], [payloads[n] for n in places], places, take)
    found.sort(key=lambda columns: columns.places[0])
    return found


_STEP_TYPES: Final = frozenset({type(None), int})
_VALUE_TYPES: Final = frozenset({int, float})


def _labels_of_metrics(payloads: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    values = [payload.value for payload in payloads]
    return [payload.key for payload in payloads], list(map(type, values)), values


def _labels_of_batches(payloads: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    metrics = [payload.metrics for payload in payloads]
    values = [tuple(each.values()) for each in metrics]
    return list(map(tuple, metrics)), [tuple(map(type, row)) for row in values], values


def _split(
    envelopes: Sequence[Envelope], payloads: Sequence[Any], places: range | list[int], take: Any
) -> Iterable[Columns]:
    """Yield the columns of events of one kind."""
    metas = [envelope.meta for envelope in envelopes]
    names, kinds, values = take(payloads)
    steps = [payload.step for payload in payloads]
    epochs = [payload.epoch for payload in payloads]
    given: list[list[Any]] = [
        [payload.run_id for payload in payloads],
        [meta.worker_id for meta in metas],
        [meta.session_id for meta in metas],
        [payload.context for payload in payloads],
        list(map(type, steps)),
        list(map(type, epochs)),
        kinds,
    ]
    count = len(metas)
    varying = [column for column in given if column.count(column[0]) != count]
    labels = list(zip(names, *varying, strict=True)) if varying else names
    columns: list[Any] = [[meta.seq for meta in metas], [meta.timestamp_us for meta in metas], steps, epochs, values]
    if labels.count(labels[0]) == count:
        one = _columns(names[0], [column[0] for column in given], places, columns, take)
        if one is not None:
            yield one
        return
    groups: dict[Any, list[int]] = {}
    for index, label in enumerate(labels):
        if label in groups:
            groups[label].append(index)
        else:
            groups[label] = [index]
    for indexes in groups.values():
        first = indexes[0]
        picked = _picker(indexes)
        one = _columns(
            names[first],
            [column[first] for column in given],
            picked(places),
            [picked(column) for column in columns],
            take,
        )
        if one is not None:
            yield one


def _picker(indexes: list[int]) -> Any:
    """Return what takes the items at ``indexes`` out of a sequence: by a slice where they stand at even distances."""
    first, last, count = indexes[0], indexes[-1], len(indexes)
    if count == 1:
        return itemgetter(slice(first, first + 1))
    distance, rest = divmod(last - first, count - 1)
    if not rest and indexes == list(range(first, last + 1, distance)):
        return itemgetter(slice(first, last + 1, distance))
    return itemgetter(*indexes)


def _columns(names: Any, given: list[Any], places: Any, columns: list[Any], take: Any) -> Columns | None:
    """Return columns of one shape; None where a number is none that a frame decodes to."""
    run_id, worker_id, session_id, context, step, epoch, kinds = given
    seqs, timestamps, steps, epochs, values = columns
    is_batch = take is _labels_of_batches
    if not is_batch:
        names, kinds, values = (names,), (kinds,), [values]
    else:
        values = list(zip(*values, strict=True))
    if (
        step not in _STEP_TYPES
        or epoch not in _STEP_TYPES
        or any(kind is not float and kind is not int for kind in kinds)
    ):
        return None
    integers = tuple(kind is int for kind in kinds)
    shape = Shape(is_batch, names, integers, run_id, worker_id, session_id, context, step is int, epoch is int)
    if not isinstance(places, range):
        places = list(places)
    return Columns(
        shape, places, seqs, timestamps, steps if step is int else None, epochs if epoch is int else None, values
    )


def seq_ranges(columns: Iterable[Columns]) -> list[tuple[int, int]]:
    """Return the seqs of all events, none of which stands there twice, as ranges with both ends included."""
    parts = [one.seqs for one in columns if len(one)]
    if not parts:
        return []
    low, high = min(map(min, parts)), max(map(max, parts))
    if high - low + 1 == sum(map(len, parts)):
        return [(low, high)]
    return _ranges(sorted(chain.from_iterable(parts)))


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


def last_places(columns: Columns, count: int) -> Sequence[int]:
    """Return the indexes of the last ``count`` events, or all, in the order of a series: step, then seq. spec: FLD-3"""
    seqs, steps, size = columns.seqs, columns.steps, len(columns)
    if is_sorted(seqs) and (steps is None or is_sorted(steps)):
        return range(max(0, size - count), size)
    order = range(size)
    if steps is None:
        return sorted(order, key=seqs.__getitem__)[-count:]
    keys = list(zip(steps, seqs, strict=True))
    return sorted(order, key=keys.__getitem__)[-count:]


def is_sorted(numbers: Sequence[int]) -> bool:
    """Whether ``numbers`` ascend, equal ones included."""
    return list(numbers) == sorted(numbers)
