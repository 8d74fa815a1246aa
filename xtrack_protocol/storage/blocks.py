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

Layout, little-endian: CRC-32 of all that follows (4 bytes), format (1 byte), length of the header (4 bytes), the header
(MessagePack, ``_Header``), the columns one after the other in the order of the header. See ``columnar``.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Annotated, Any, Final

import attrs
import msgspec
from msgspec.structs import replace

from xtrack_protocol.ir import ENVELOPES, Envelope, EventMeta, Int64, Metric, MetricBatch, MetricContext, RunId
from xtrack_protocol.limits import FRAME_HARD_MAX
from xtrack_protocol.runs.columns import Columns, Shape, is_sorted
from xtrack_protocol.runs.series import Part
from xtrack_protocol.storage.columnar import (
    EXTREMES_OF,
    decode_floats,
    decode_integers,
    encode_floats,
    encode_integers,
    extremes_of,
    floats_size,
    integers_size,
)

EVENTS_MAX: Final = 4096
"""Events in a block, at most."""

POINTS_MAX: Final = 131_072
"""Points in a block, at most, unless a single event has more."""

ORIGINALS_MAX: Final = 4 * 1024 * 1024
"""Bytes of originals that are kept as they are in a block, at most, unless a single one is larger."""

_FORMAT: Final = 1
_START: Final = 9
_EXTREMES_FROM: Final = 64
"""Shorter columns keep no extremes: to find them is quick."""

_METRIC: Final = ENVELOPES["metric"]
_BATCH: Final = ENVELOPES["metric_batch"]
_encode = msgspec.json.Encoder().encode


class _Originals(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Originals that are kept as they are."""

    count: int
    places: list[Int64]
    lengths: list[Int64]
    packed: Annotated[int, msgspec.Meta(ge=0)]
    """How many bytes all of them have, compressed together."""


class _Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    is_batch: bool
    names: tuple[str, ...]
    run_id: str | RunId
    worker_id: str | None
    session_id: str | None
    context: MetricContext | None
    count: int
    integers: tuple[bool, ...]
    seqs: list[Int64]
    timestamps: list[Int64]
    positions: list[Int64]
    received: list[Int64]
    steps: list[Int64] | None
    epochs: list[Int64] | None
    values: list[list[Int64]]
    originals: _Originals | None
    in_order: bool
    """Whether seqs ascend, and steps, equal ones included."""


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(_Header).decode


@attrs.frozen(kw_only=True)
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


def differing(envelopes: Sequence[Envelope], raws: Sequence[bytes]) -> set[int]:
    """Return the places of the metric events whose original isn't what ``wire.encode`` writes of them.

    ``raws``: the original payload of each of ``envelopes``. Other events are all among those returned.
    """
    found: set[int] = set()
    for place, (envelope, raw) in enumerate(zip(envelopes, raws, strict=True)):
        if type(envelope) not in _KINDS or _encode(as_written(envelope)) != raw:
            found.add(place)
    return found


_KINDS: Final = (_METRIC, _BATCH)


def as_written(envelope: Envelope) -> Envelope:
    """Return what msgspec writes as ``wire.encode`` writes ``envelope``: numbers that JSON lacks are texts."""
    payload: Any = envelope.payload
    if type(payload) is Metric:
        text = _text_of(payload.value)
        return envelope if text is None else replace(envelope, payload=replace(payload, value=text))
    metrics = {name: _text_of(value) or value for name, value in payload.metrics.items()}
    return envelope if metrics == payload.metrics else replace(envelope, payload=replace(payload, metrics=metrics))


def _text_of(value: float) -> str | None:
    if value - value == 0:
        return None
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124


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
    others = differing(envelopes, raws)
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
    shape, places, seqs, steps, count = columns.shape, columns.places, columns.seqs, columns.steps, len(columns)
    parts: list[bytes] = []

    def put(numbers: Sequence[int]) -> list[int]:
        described, data = encode_integers(numbers)
        parts.append(data)
        return described

    described_seqs, described_timestamps = put(seqs), put(columns.timestamps)
    own_positions = _at(positions, places)
    described_positions = put(own_positions)
    received = [received_at_us] if isinstance(received_at_us, int) else put(_at(received_at_us, places))
    described_steps = None if steps is None else put(steps)
    described_epochs = None if columns.epochs is None else put(columns.epochs)
    described_values = []
    for values, is_integer in zip(columns.values, shape.integers, strict=True):
        described, data = encode_integers(values) if is_integer else encode_floats(values)  # type: ignore[arg-type]
        described_values.append(described)
        parts.append(data)
        if count >= _EXTREMES_FROM:
            parts.append(extremes_of(values))
    originals = None
    own = [index for index, place in enumerate(places) if place in others] if others else []
    if own:
        kept = [raws[places[index]] for index in own]
        packed = zlib.compress(b"".join(kept))
        originals = _Originals(len(own), put(own), put(list(map(len, kept))), len(packed))
        parts.append(packed)
    header = _encode_header(
        _Header(
            shape.is_batch,
            shape.names,
            shape.run_id,
            shape.worker_id,
            shape.session_id,
            shape.context,
            count,
            shape.integers,
            described_seqs,
            described_timestamps,
            described_positions,
            received,
            described_steps,
            described_epochs,
            described_values,
            originals,
            is_sorted(seqs) and (steps is None or is_sorted(steps)),
        )
    )
    body = b"".join((bytes((_FORMAT,)), len(header).to_bytes(4, "little"), header, *parts))
    return Block(
        data=zlib.crc32(body).to_bytes(4, "little") + body,
        shape=shape,
        count=count,
        first_position=own_positions[0],
        last_position=own_positions[-1],
        first_seq=min(seqs),
        last_seq=max(seqs),
        min_step=None if steps is None else min(steps),
        max_step=None if steps is None else max(steps),
    )


def _at(items: Sequence[int], places: range | list[int]) -> Sequence[int]:
    """Return the items at ``places``."""
    if isinstance(places, range):
        return items[places.start : places.stop : places.step] if places.step > 0 else [items[n] for n in places]
    return [items[place] for place in places] if len(places) < 2 else list(itemgetter(*places)(items))


# ---------------------------------------------------------------------------------------------- reading


def read(data: bytes | memoryview) -> BlockReader:
    """Return what reads a block. Raises ValueError for bytes that are none, or are damaged."""
    whole = bytes(data)
    if len(whole) < _START or zlib.crc32(whole[4:]).to_bytes(4, "little") != whole[:4]:
        raise ValueError("a damaged block: its checksum doesn't match")
    if whole[4] != _FORMAT:
        raise ValueError(f"a block of format {whole[4]}, which this version doesn't know")
    end = _START + int.from_bytes(whole[5:9], "little")
    try:
        header = _decode_header(whole[_START:end])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"a damaged block: {error}") from error
    return BlockReader(whole, header, end)


class BlockReader:
    """A block's events: each column is decoded when it is asked for first, and kept.

    All methods raise ValueError where the bytes contradict themselves, in spite of their checksum.
    """

    def __init__(self, data: bytes, header: _Header, start: int) -> None:
        self._data = data
        self._header = header
        self._kept: dict[str, array[int]] = {}
        self._own: dict[int, bytes] | None = None
        self.count: int = header.count
        """How many events."""
        self.shape = Shape(
            header.is_batch,
            header.names,
            header.integers,
            header.run_id,
            header.worker_id,
            header.session_id,
            header.context,
            header.steps is not None,
            header.epochs is not None,
        )
        """What the events have in common."""
        self._starts: dict[str, tuple[list[int], int]] = {}
        self._lay_out(start)

    def _lay_out(self, start: int) -> None:
        """Find where each column begins, and check that all are there."""
        header, count = self._header, self.count
        names = len(header.names)
        if (
            not 1 <= count <= EVENTS_MAX
            or not len(header.values) == len(header.integers) == names
            or not (header.is_batch or names == 1)
        ):
            raise ValueError("a damaged block: its header contradicts itself")
        for name in _INTEGER_COLUMNS:
            described = getattr(header, name)
            if described is not None:
                self._starts[name] = described, start
                start += integers_size(described, count)
        self._values: list[int] = []
        extremes = 2 * -(-count // EXTREMES_OF) if count >= _EXTREMES_FROM else 0
        for described, is_integer in zip(header.values, header.integers, strict=True):
            self._values.append(start)
            start += (integers_size if is_integer else floats_size)(described, count) + extremes
        self._originals = start
        if header.originals is not None:
            own = header.originals
            if not 1 <= own.count <= count:
                raise ValueError("a damaged block: its header contradicts itself")
            start += integers_size(own.places, own.count) + integers_size(own.lengths, own.count) + own.packed
        if start != len(self._data):
            raise ValueError(f"a damaged block: its columns end at {start}, and not at {len(self._data)}")

    def _integers(self, name: str) -> array[int]:
        column = self._kept.get(name)
        if column is None:
            described, start = self._starts[name]
            column = self._kept[name] = decode_integers(described, self._data, start, self.count)
        return column

    # -------------------------------------------------------------------------------------- columns

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics, in the order of ``values``."""
        return self._header.names

    @property
    def seqs(self) -> array[int]:
        """The events' seqs."""
        return self._integers("seqs")

    @property
    def timestamps(self) -> array[int]:
        """When the events were sent: microseconds since the Unix epoch, by the worker's clock."""
        return self._integers("timestamps")

    @property
    def positions(self) -> array[int]:
        """The events' positions in the store, ascending."""
        return self._integers("positions")

    @property
    def received_at_us(self) -> array[int]:
        """When the events were received: microseconds since the Unix epoch, by the collector's clock."""
        return self._integers("received")

    @property
    def steps(self) -> array[int] | None:
        """The steps; None where the events have none."""
        return None if self._header.steps is None else self._integers("steps")

    @property
    def epochs(self) -> array[int] | None:
        """The epochs; None where the events have none."""
        return None if self._header.epochs is None else self._integers("epochs")

    def values(self, index: int) -> array[int] | array[float]:
        """Return the values of the metric ``names[index]``: an array of int64 ("q") or of floats ("d")."""
        described, start = self._header.values[index], self._values[index]
        if self._header.integers[index]:
            return decode_integers(described, self._data, start, self.count)
        return decode_floats(described, self._data, start, self.count)

    def extremes(self, index: int) -> bytes:
        """Return of each 256 values of a metric where in them the least and the greatest stand, a byte each."""
        if self.count < _EXTREMES_FROM:
            return extremes_of(self.values(index))
        described, start = self._header.values[index], self._values[index]
        start += (integers_size if self._header.integers[index] else floats_size)(described, self.count)
        found = self._data[start : start + 2 * -(-self.count // EXTREMES_OF)]
        if max(found[-2:]) > (self.count - 1) % EXTREMES_OF:
            raise ValueError("a damaged block: an extreme of values that aren't there")
        return found

    def part(self, index: int, *, place: int = 0, rewind_to: int | None = None) -> Part:
        """Return the points of the metric ``names[index]`` for ``runs.join``. For the rest see ``runs.Part``."""
        seqs = self.seqs
        return Part(
            steps=self.steps,
            values=self.values(index),
            timestamps=self.timestamps,
            seqs=lambda: seqs,
            first_seq=min(seqs),
            last_seq=max(seqs),
            in_order=self._header.in_order,
            place=place,
            rewind_to=rewind_to,
            extremes=self.extremes(index),
        )

    # -------------------------------------------------------------------------------------- events

    def find(self, seq: int) -> int | None:
        """Return the place in the block of the event with ``seq``; None where it isn't here."""
        try:
            return self.seqs.index(seq)
        except ValueError:
            return None

    def envelopes(self) -> list[Envelope]:
        """Return the events."""
        return list(self._events(range(self.count), [self.values(index).tolist() for index in range(len(self.names))]))

    def original(self, place: int) -> bytes:
        """Return the original payload of the event at ``place``, byte for byte."""
        return self.originals((place,))[0]

    def originals(self, places: Sequence[int] | None = None) -> list[bytes]:
        """Return the original payloads, byte for byte; only those of the events at ``places`` where they are given."""
        wanted = range(self.count) if places is None else places
        own = self._kept_as_they_are()
        columns: list[list[Any]] = []
        for index in range(len(self.names)):
            values = self.values(index)
            columns.append([_text_of(value) or value for value in values])
        written = dict(zip(wanted, self._events(wanted, columns), strict=True))
        return [own[place] if place in own else _encode(written[place]) for place in wanted]

    def _events(self, places: Sequence[int], columns: Sequence[Sequence[Any]]) -> Iterator[Envelope]:
        """Yield the events at ``places`` with values out of ``columns``."""
        header, seqs, timestamps, steps, epochs = self._header, self.seqs, self.timestamps, self.steps, self.epochs
        for place in places:
            meta = EventMeta(seqs[place], timestamps[place], header.worker_id, header.session_id)
            step = None if steps is None else steps[place]
            epoch = None if epochs is None else epochs[place]
            if header.is_batch:
                metrics = {name: column[place] for name, column in zip(header.names, columns, strict=True)}
                yield _BATCH(1, meta, MetricBatch(header.run_id, metrics, step, epoch, header.context))
            else:
                value = columns[0][place]
                yield _METRIC(1, meta, Metric(header.run_id, header.names[0], value, step, epoch, header.context))

    def _kept_as_they_are(self) -> dict[int, bytes]:
        """Return the originals that can't be written anew, by place."""
        if self._own is None:
            self._own = {}
            described = self._header.originals
            if described is not None:
                start = self._originals
                places = decode_integers(described.places, self._data, start, described.count)
                start += integers_size(described.places, described.count)
                lengths = decode_integers(described.lengths, self._data, start, described.count)
                start += integers_size(described.lengths, described.count)
                if min(places) < 0 or max(places) >= self.count or len(set(places)) < described.count:
                    raise ValueError("a damaged block: originals of events that aren't there")
                self._own = dict(zip(places, _unpacked(self._data[start:], lengths), strict=True))
        return self._own


def _unpacked(packed: bytes, lengths: array[int]) -> list[bytes]:
    """Return texts of ``lengths`` that were compressed together."""
    total = sum(lengths)
    if min(lengths) < 0 or total > max(ORIGINALS_MAX, FRAME_HARD_MAX):
        raise ValueError("a damaged block: originals of impossible lengths")
    try:
        inflater = zlib.decompressobj()
        data = inflater.decompress(packed, total + 1)
    except zlib.error as error:
        raise ValueError(f"a damaged block: {error}") from error
    if len(data) != total or not inflater.eof:
        raise ValueError("a damaged block: originals that aren't as long as they were")
    ends = list(accumulate(lengths))
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]


_INTEGER_COLUMNS: Final = ("seqs", "timestamps", "positions", "received", "steps", "epochs")
