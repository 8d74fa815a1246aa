"""What a block is as bytes, and what reads them. ``blocks`` says what blocks are for, and makes them.

Little-endian: CRC-32 of all that follows (4 bytes), format (1 byte), length of the header (4 bytes), the header
(MessagePack, ``Header``); then seqs, time stamps, positions, times of receipt, steps and epochs where there are any, of
each metric the values and, in longer columns, their extremes; at last the originals that are kept as they are.
``columnar`` says how numbers are written.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, repeat
from math import isfinite, isnan
from operator import add, itemgetter
from typing import Annotated, Any, Final

import msgspec

from xtrack_protocol.ir import ENVELOPES, Envelope, EventMeta, Int64, Metric, MetricBatch, MetricContext, RunId
from xtrack_protocol.limits import FRAME_HARD_MAX
from xtrack_protocol.runs.columns import Shape, picker
from xtrack_protocol.runs.series import EXTREMES_OF, Glance, Numbers, Part, Points, extremes_of
from xtrack_protocol.storage.columnar import (
    decode_floats,
    decode_integers,
    floats_size,
    integers_size,
    look_at_floats,
    pick_integers,
)

EVENTS_MAX: Final = 4096
"""Events in a block, at most."""

ORIGINALS_MAX: Final = 4 * 1024 * 1024
"""Bytes of originals that are kept as they are in a block, at most, unless a single one is larger."""

EXTREMES_FROM: Final = 64
"""Shorter columns keep no extremes: to find them is quick."""

FORMAT: Final = 1
_START: Final = 9

METRIC: Final = ENVELOPES["metric"]
BATCH: Final = ENVELOPES["metric_batch"]

AT_ONCE: Final = 512
"""Events that are written at once: the bytes of more of them don't fit into the nearest cache."""

_encode_lines = msgspec.json.Encoder().encode_lines


class Originals(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Originals that are kept as they are."""

    count: int
    places: Sequence[Int64]
    lengths: Sequence[Int64]
    packed: Annotated[int, msgspec.Meta(ge=0)]
    """How many bytes all of them have, compressed together."""


class Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """What a block's events have in common, and where its columns are."""

    is_batch: bool
    names: tuple[str, ...]
    integers: tuple[bool, ...]
    run_id: str | RunId
    worker_id: str | None
    session_id: str | None
    context: MetricContext | None
    count: int
    seqs: Sequence[Int64]
    timestamps: Sequence[Int64]
    positions: Sequence[Int64]
    positions_near: bool
    """Whether they are differences to the seqs."""
    received: Sequence[Int64]
    received_near: bool
    """Whether they are differences to the time stamps."""
    steps: Sequence[Int64] | None
    epochs: Sequence[Int64] | None
    values: Sequence[Sequence[Int64]]
    originals: Originals | None
    in_order: bool
    """Whether seqs ascend, and steps, equal ones included."""


_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Header).decode


def written(envelopes: Sequence[Envelope]) -> Iterator[bytes]:
    """Yield, some at a time, what ``wire.encode`` writes of metric events with texts for numbers JSON lacks, each event
    with a newline behind it, and with no other newline in it.
    """
    for start in range(0, len(envelopes), AT_ONCE):
        yield _encode_lines(envelopes[start : start + AT_ONCE])


def text_of(value: Any) -> Any:
    """Return the text of a number that JSON lacks, and any other as it is. spec: VAL-3"""
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def sealed(header: Header, parts: Iterable[bytes]) -> bytes:
    """Return a block's bytes; ``parts``: what stands behind the header."""
    text = _encode_header(header)
    body = b"".join((bytes((FORMAT,)), len(text).to_bytes(4, "little"), text, *parts))
    return zlib.crc32(body).to_bytes(4, "little") + body


def read(data: bytes | memoryview) -> BlockReader:
    """Return what reads a block. Raises ValueError for bytes that are none, or are damaged."""
    whole = bytes(data)
    if len(whole) < _START or zlib.crc32(memoryview(whole)[4:]) != int.from_bytes(whole[:4], "little"):
        raise ValueError("a damaged block: its checksum doesn't match")
    if whole[4] != FORMAT:
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

    def __init__(self, data: bytes, header: Header, start: int) -> None:
        self._data = data
        self._header = header
        self._kept: dict[str, array[int]] = {}
        self._own: dict[int, bytes] | None = None
        self.count: int = header.count
        """How many events."""
        self._starts: dict[str, tuple[Sequence[int], int]] = {}
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
        described: Sequence[int] | None
        for name, described in (
            ("seqs", header.seqs),
            ("timestamps", header.timestamps),
            ("positions", header.positions),
            ("received", header.received),
            ("steps", header.steps),
            ("epochs", header.epochs),
        ):
            if described is not None:
                self._starts[name] = described, start
                start += integers_size(described, count)
        self._values: list[int] = []
        extremes = 2 * -(-count // EXTREMES_OF) if count >= EXTREMES_FROM else 0
        for column, is_integer in zip(header.values, header.integers, strict=True):
            self._values.append(start)
            start += (integers_size if is_integer else floats_size)(column, count) + extremes
        self._originals = start
        if header.originals is not None:
            own = header.originals
            if not 1 <= own.count <= count:
                raise ValueError("a damaged block: its header contradicts itself")
            start += integers_size(own.places, own.count) + integers_size(own.lengths, own.count) + own.packed
        if start != len(self._data):
            raise ValueError(f"a damaged block: its columns end at {start}, and not at {len(self._data)}")

    def _integers(self, name: str, *, near: Sequence[int] | None = None, keep: bool = True) -> array[int]:
        """Return a column; what the block has are its differences to ``near``, where that is given."""
        column = self._kept.get(name)
        if column is None:
            described, start = self._starts[name]
            column = decode_integers(described, self._data, start, self.count)
            if near is not None:
                try:
                    column = array("q", map(add, column, near))
                except OverflowError as error:
                    raise ValueError("a damaged block: an integer beyond int64") from error
            if keep:
                self._kept[name] = column
        return column

    # -------------------------------------------------------------------------------------- columns

    @property
    def shape(self) -> Shape:
        """What the events have in common."""
        header = self._header
        return Shape(
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
        return self._integers("positions", near=self.seqs if self._header.positions_near else None)

    @property
    def received_at_us(self) -> array[int]:
        """When the events were received: microseconds since the Unix epoch, by the collector's clock."""
        return self._integers("received", near=self.timestamps if self._header.received_near else None)

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
        if self.count < EXTREMES_FROM:
            return extremes_of(self.values(index))
        described, start = self._header.values[index], self._values[index]
        start += (integers_size if self._header.integers[index] else floats_size)(described, self.count)
        found = self._data[start : start + 2 * -(-self.count // EXTREMES_OF)]
        if max(found[-2:]) > (self.count - 1) % EXTREMES_OF:
            raise ValueError("a damaged block: an extreme of values that aren't there")
        return found

    def part(self, index: int, *, place: int = 0, rewind_to: int | None = None) -> Part:
        """Return the points of the metric ``names[index]`` for ``runs.join``. For the rest see ``runs.Part``."""
        header = self._header

        def points() -> Points:  # decoded for the caller alone: all blocks of a series at once would be a lot
            steps = None if header.steps is None else self._integers("steps", keep=False)
            return steps, self.values(index), self._integers("timestamps", keep=False)

        def pick(places: Sequence[int]) -> Points:
            values = self._look_at(index)
            return (
                None if header.steps is None else self._pick("steps", places),
                array("d", [values[place] for place in places]),
                self._pick("timestamps", places),
            )

        return Part(
            self.count,
            points,
            lambda: self.seqs,
            None if header.steps is None else self._ends("steps"),
            self._ends("seqs"),
            header.in_order,
            place,
            rewind_to,
            Glance(self.extremes(index), lambda: self._look_at(index), pick) if self.count >= EXTREMES_FROM else None,
        )

    def _look_at(self, index: int) -> Numbers:
        """Return ``values(index)``, but not decoded where a few can be picked without."""
        if self._header.integers[index]:
            return self.values(index)
        return look_at_floats(self._header.values[index], self._data, self._values[index], self.count)

    def _pick(self, name: str, places: Sequence[int]) -> array[int]:
        """Return some numbers of a column."""
        described, start = self._starts[name]
        return pick_integers(described, self._data, start, self.count, places)

    def _ends(self, name: str) -> tuple[int, int]:
        """Return the least and the greatest of a column, without a look at the others where it is arithmetic."""
        described, _ = self._starts[name]
        if len(described) < 3:
            first, step = described[0], (*described, 0)[1]
            last = first + step * (self.count - 1)
            return min(first, last), max(first, last)
        column = self._integers(name)
        return (column[0], column[-1]) if self._header.in_order else (min(column), max(column))

    # -------------------------------------------------------------------------------------- events

    def find(self, seq: int) -> int | None:
        """Return the place in the block of the event with ``seq``; None where it isn't here."""
        try:
            return self.seqs.index(seq)
        except ValueError:
            return None

    def envelopes(self, places: Sequence[int] | None = None) -> list[Envelope]:
        """Return the events; only those at ``places`` where they are given."""
        wanted = range(self.count) if places is None else places
        return self._events(wanted, [self.values(index).tolist() for index in range(len(self.names))])

    def original(self, place: int) -> bytes:
        """Return the original payload of the event at ``place``, byte for byte."""
        return self.originals((place,))[0]

    def originals(self, places: Sequence[int] | None = None) -> list[bytes]:
        """Return the original payloads, byte for byte; only those of the events at ``places`` where they are given."""
        wanted = range(self.count) if places is None else places
        own = self._kept_as_they_are()
        missing = [place for place in wanted if place not in own] if own else wanted
        columns: list[Sequence[Any]] = []
        for index, is_integer in enumerate(self._header.integers):
            values: Sequence[Any] = self.values(index).tolist()
            if not is_integer and not isfinite(sum(values)):
                values = list(map(text_of, values))
            columns.append(values)
        lines = chain.from_iterable(text.splitlines() for text in written(self._events(missing, columns)))
        if not own:
            return list(lines)
        by_place = dict(zip(missing, lines, strict=True))
        return [own[place] if place in own else by_place[place] for place in wanted]

    def _events(self, places: Sequence[int], columns: Sequence[Sequence[Any]]) -> list[Envelope]:
        """Return the events at ``places`` with values out of ``columns``."""
        if not places:
            return []
        header = self._header
        pick = itemgetter(slice(None)) if places == range(self.count) else picker(places)
        seqs, timestamps = pick(self.seqs), pick(self.timestamps)
        steps = repeat(None) if self.steps is None else pick(self.steps)
        epochs = repeat(None) if self.epochs is None else pick(self.epochs)
        values = zip(*map(pick, columns), strict=True) if columns else repeat(())
        run_id, worker_id, session_id, context = header.run_id, header.worker_id, header.session_id, header.context
        rows = zip(seqs, timestamps, steps, epochs, values)  # noqa: B905 - what repeats has no end
        if header.is_batch:
            return [
                BATCH(
                    1,
                    EventMeta(seq, timestamp_us, worker_id, session_id),
                    MetricBatch(run_id, dict(zip(names, row, strict=True)), step, epoch, context),
                )
                for names in (header.names,)
                for seq, timestamp_us, step, epoch, row in rows
            ]
        return [
            METRIC(
                1,
                EventMeta(seq, timestamp_us, worker_id, session_id),
                Metric(run_id, name, value, step, epoch, context),
            )
            for (name,) in (header.names,)
            for seq, timestamp_us, step, epoch, (value,) in rows
        ]

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
