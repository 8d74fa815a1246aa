"""Blocks: many metric events of one stream and one shape as bytes, column by column. No database, no I/O.

A block holds all of its events: what a series needs (steps, values, time stamps) is read without making an event, and
every original payload can be given back byte for byte. Most need no room of their own, because the codec writes the
same bytes from the columns; which do is found out before, for a whole batch at once (``differing``), and those are kept
as they are, compressed together.

How a store uses it, for events of one stream that are new::

    columns = gather(envelopes)
    reducer.apply_columns(stream, columns)
    blocks = build(columns, envelopes, raws, positions, received_at_us)  # to be kept, with their facts
    reader = read(block.data)  # ValueError where the bytes are damaged
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress
from math import isfinite
from operator import ne, sub
from typing import Any, Final

import attrs

from xtrack_protocol.ir import Envelope, Metric, MetricBatch
from xtrack_protocol.limits import INT64_MAX, INT64_MIN
from xtrack_protocol.runs.columns import Columns, Shape, picker
from xtrack_protocol.runs.series import extremes_of
from xtrack_protocol.storage.block_reader import (
    AT_ONCE,
    BATCH,
    EVENTS_MAX,
    EXTREMES_FROM,
    METRIC,
    ORIGINALS_MAX,
    BlockReader,
    Header,
    Originals,
    read,
    sealed,
    text_of,
    written,
)
from xtrack_protocol.storage.columnar import encode_floats, encode_integers

POINTS_MAX: Final = 131_072
"""Points in a block, at most, unless a single event has more."""


@attrs.frozen
class Block:
    """A block's bytes, and what an index needs to know of it. All ranges have both ends included.

    ``shape``: its events', the metrics' names in it. ``count``: of events; each has a point of every name.
    ``min_step`` and ``max_step``: None where the events have no step.
    """

    data: bytes
    shape: Shape
    count: int
    first_position: int
    last_position: int
    first_seq: int
    last_seq: int
    min_step: int | None
    max_step: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics in it."""
        return self.shape.names


def differing(columns: Iterable[Columns], envelopes: Sequence[Envelope], raws: Sequence[bytes]) -> set[int]:
    """Return the places of the events whose original isn't what ``wire.encode`` writes of them.

    ``columns``: what was gathered of ``envelopes``. ``raws``: the original payload of each of them.
    """
    columns = list(columns)
    if sum(map(len, columns)) == len(envelopes):
        places: Sequence[int] = range(len(envelopes))
        events = list(envelopes)
        for place in _not_finite(columns):
            events[place] = _as_written(envelopes[place])
    else:
        places = sorted(chain.from_iterable(one.places for one in columns))
        odd = _not_finite(columns)
        events = [_as_written(envelopes[place]) if place in odd else envelopes[place] for place in places]
        raws = [raws[place] for place in places]
    found: set[int] = set()
    for start, text in zip(range(0, len(events), AT_ONCE), written(events), strict=True):
        own = raws[start : start + AT_ONCE]
        if text != b"\n".join((*own, b"")):
            found.update(compress(places[start:], map(ne, text.split(b"\n"), own)))
    return found


def _not_finite(columns: Iterable[Columns]) -> set[int]:
    """Return the places of events with a number that JSON lacks, of which msgspec alone makes a null."""
    found: set[int] = set()
    for one in columns:
        for values, is_integer in zip(one.values, one.shape.integers, strict=True):
            if not is_integer and not isfinite(sum(values)):  # the sum of large ones may be none, too
                found.update(compress(one.places, (not isfinite(value) for value in values)))
    return found


def _as_written(envelope: Envelope) -> Envelope:
    """Return what msgspec writes as ``wire.encode`` writes ``envelope``: numbers that JSON lacks are texts."""
    event: Any = envelope.payload
    if type(event) is Metric:
        return METRIC(
            1,
            envelope.meta,
            Metric(event.run_id, event.key, text_of(event.value), event.step, event.epoch, event.context),
        )
    metrics = {name: text_of(value) for name, value in event.metrics.items()}
    return BATCH(1, envelope.meta, MetricBatch(event.run_id, metrics, event.step, event.epoch, event.context))


# ---------------------------------------------------------------------------------------------- building


def build(
    columns: Iterable[Columns],
    envelopes: Sequence[Envelope],
    raws: Sequence[bytes],
    positions: Sequence[int],
    received_at_us: int | Sequence[int],
) -> list[Block]:
    """Return the blocks of what was gathered of ``envelopes``, those of each shape one after the other.

    ``raws``, ``positions`` and ``received_at_us`` (microseconds since the Unix epoch): of each of ``envelopes``; one
    number for all of them where they were received together. Positions ascend. No block has more than EVENTS_MAX
    events. Raises ValueError for integers beyond int64.
    """
    columns = list(columns)
    others = differing(columns, envelopes, raws)
    return [
        _build(part, positions, received_at_us, raws, others) for one in columns for part in _parts(one, raws, others)
    ]


def _parts(columns: Columns, raws: Sequence[bytes], others: set[int]) -> Iterator[Columns]:
    """Yield ``columns`` in parts that are no larger than a block may be."""
    size = max(1, min(EVENTS_MAX, POINTS_MAX // max(1, len(columns.shape.names))))
    start = 0
    while start < len(columns):
        stop = min(start + size, len(columns))
        if others:
            sizes = accumulate(len(raws[place]) if place in others else 0 for place in columns.places[start:stop])
            stop = min(stop, start + max(1, sum(total <= ORIGINALS_MAX for total in sizes)))
        yield columns if stop - start == len(columns) else columns.pick(start, stop)
        start = stop


def _build(
    columns: Columns,
    positions: Sequence[int],
    received_at_us: int | Sequence[int],
    raws: Sequence[bytes],
    others: set[int],
) -> Block:
    shape, places, count = columns.shape, columns.places, len(columns)
    parts: list[bytes] = []

    def put(numbers: Sequence[int]) -> list[int]:
        described, data = encode_integers(numbers)
        parts.append(data)
        return described

    def put_near(numbers: Sequence[int], near: Sequence[int]) -> tuple[list[int], bool]:
        """Put ``numbers``, or their differences to ``near`` where those take less; return whether they do."""
        described, data = encode_integers(numbers)
        differences = list(map(sub, numbers, near)) if data else []
        if not differences or min(differences) < INT64_MIN or max(differences) > INT64_MAX:
            parts.append(data)
            return described, False
        near_described, near_data = encode_integers(differences)
        is_near = len(near_data) < len(data)
        parts.append(near_data if is_near else data)
        return (near_described, True) if is_near else (described, False)

    seqs, timestamps = put(columns.seqs), put(columns.timestamps)
    own_positions = _at(positions, places)
    described_positions, positions_near = put_near(own_positions, columns.seqs)
    if isinstance(received_at_us, int):
        received, received_near = [received_at_us], False
    else:
        received, received_near = put_near(_at(received_at_us, places), columns.timestamps)
    steps = None if columns.steps is None else put(columns.steps)
    epochs = None if columns.epochs is None else put(columns.epochs)
    described_values: list[Sequence[int]] = []
    for values, is_integer in zip(columns.values, shape.integers, strict=True):
        described, data = encode_integers(values) if is_integer else encode_floats(values)  # type: ignore[arg-type]
        described_values.append(described)
        parts.append(data)
        if count >= EXTREMES_FROM:
            parts.append(extremes_of(values))
    originals = None
    own = [index for index, place in enumerate(places) if place in others] if others else []
    if own:
        kept = [raws[places[index]] for index in own]
        packed = zlib.compress(b"".join(kept), 1)  # higher levels take twice the time and save a tenth
        originals = Originals(len(own), put(own), put(list(map(len, kept))), len(packed))
        parts.append(packed)
    header = Header(
        shape.is_batch,
        shape.names,
        shape.integers,
        shape.run_id,
        shape.worker_id,
        shape.session_id,
        shape.context,
        count,
        seqs,
        timestamps,
        described_positions,
        positions_near,
        received,
        received_near,
        steps,
        epochs,
        described_values,
        originals,
        columns.seqs_ascend and columns.steps_ascend,
    )
    return Block(
        sealed(header, parts),
        shape,
        count,
        own_positions[0],
        own_positions[-1],
        *columns.seq_ends,
        *(columns.step_ends or (None, None)),
    )


def _at(items: Sequence[int], places: range | list[int]) -> Sequence[int]:
    """Return the items at ``places``."""
    if isinstance(places, range):
        return items[places.start : places.stop : places.step] if places.step > 0 else [items[n] for n in places]
    found: Sequence[int] = picker(places)(items)
    return found


__all__ = ["EVENTS_MAX", "ORIGINALS_MAX", "POINTS_MAX", "Block", "BlockReader", "build", "differing", "read"]
