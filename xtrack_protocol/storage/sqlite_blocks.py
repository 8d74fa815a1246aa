"""Blocks of a SQLite store as it reads them: columns (``storage.blocks``), or, in a run's tail, events as they came.

The latter are *packed*: many events of a stream, of all shapes, so that one row takes them all. They are made when too
few of each shape come to be worth a block, and become proper blocks together.
"""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from xtrack_protocol.errors import DecodeError, StoreCorrupt
from xtrack_protocol.ir import Envelope, MetricContext
from xtrack_protocol.runs import Columns, Part, gather
from xtrack_protocol.storage.answers import decode_stored
from xtrack_protocol.storage.blocks import BlockReader, read
from xtrack_protocol.storage.columnar import decode_integers, encode_integers, integers_size
from xtrack_protocol.storage.sqlite_rows import unpack

_SEQS_AT_ONCE = 500
"""Seqs in one statement; SQLite before 3.32 takes 999 values."""


# ------------------------------------------------------------------------------------------ packed events


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The header of packed events. The columns follow, then the payloads, one after the other."""

    count: int
    checksum: int
    """CRC-32 of all that follows the header."""
    columns: tuple[list[int], list[int], list[int], list[int]]
    """Seqs, positions, times of receipt, and lengths of payloads, as ``columnar`` describes them."""


_encode_packed = msgspec.msgpack.Encoder().encode
_decode_packed = msgspec.msgpack.Decoder(_Packed).decode
_SIZE_BYTES = 4


def pack_events(seqs: Sequence[int], positions: Sequence[int], received: Sequence[int], raws: Sequence[bytes]) -> bytes:
    """Return many events of a stream as one, as they came; at least one."""
    parts: list[bytes] = []
    described: list[list[int]] = []
    for numbers in (seqs, positions, received, [len(raw) for raw in raws]):
        one, data = encode_integers(numbers)
        described.append(one)
        parts.append(data)
    body = b"".join((*parts, *raws))
    seqs_as, positions_as, received_as, lengths_as = described
    header = _encode_packed(_Packed(len(raws), zlib.crc32(body), (seqs_as, positions_as, received_as, lengths_as)))
    return b"".join((len(header).to_bytes(_SIZE_BYTES, "little"), header, body))


class PackedReader:
    """What ``pack_events`` made. Raises ValueError for bytes that are damaged."""

    def __init__(self, data: bytes) -> None:
        end = _SIZE_BYTES + int.from_bytes(data[:_SIZE_BYTES], "little")
        try:
            header = _decode_packed(data[_SIZE_BYTES:end])
        except (msgspec.MsgspecError, ValueError) as error:
            raise ValueError(f"damaged events: {error}") from error
        if zlib.crc32(data[end:]) != header.checksum or header.count < 1:
            raise ValueError("damaged events: their checksum doesn't match")
        columns: list[array[int]] = []
        for described in header.columns:
            size = integers_size(described, header.count)
            columns.append(decode_integers(described, data, end, header.count))
            end += size
        self.count: int = header.count
        self.seqs, self.positions, self.received_at_us, lengths = columns
        ends = list(accumulate(lengths, initial=end))
        if ends[-1] != len(data) or min(lengths) < 0:
            raise ValueError("damaged events: their lengths contradict their size")
        self._raws = [data[begin:stop] for begin, stop in pairwise(ends)]

    def envelopes(self, places: Sequence[int] | None = None) -> list[Envelope]:
        """Return the events, all or those at ``places``."""
        try:
            return [decode_stored(raw) for raw in self.originals(places)]
        except DecodeError as error:
            raise ValueError(f"damaged events: {error}") from error

    def originals(self, places: Sequence[int] | None = None) -> list[bytes]:
        """Return the original payloads, of all or of those at ``places``."""
        return self._raws if places is None else [self._raws[place] for place in places]


# ------------------------------------------------------------------------------------------ blocks of both kinds


class StoredBlock:
    """A block of the store: its reader, and what stands beside it. All methods raise StoreCorrupt for damaged bytes."""

    COLUMNS = "block_key, stream_key, packed, first_position, last_position, data"

    def __init__(self, path: str, row: tuple[int, int, int, int, int, bytes]) -> None:
        self._path = path
        self.key, self.stream_key, packed, self._first, self._last, data = row
        self.is_packed = bool(packed)
        """Whether the events are kept as they came, in the tail of their run."""
        self.size = len(data)
        """Bytes."""
        self.reader: BlockReader | PackedReader
        try:
            self.reader = PackedReader(data) if packed else read(data)
        except ValueError as error:
            raise self._corrupt(error) from error
        self._positions: Sequence[int] | None = None

    @property
    def positions(self) -> Sequence[int]:
        """The events' positions, ascending."""
        if self._positions is None:
            try:
                found: Sequence[int] = self.reader.positions
            except ValueError as error:
                raise self._corrupt(error) from error
            if found[0] != self._first or found[-1] != self._last:
                raise self._corrupt(ValueError("it is filed under other positions than it has"))
            self._positions = found
        return self._positions

    @property
    def seqs(self) -> Sequence[int]:
        """The events' seqs."""
        try:
            return self.reader.seqs
        except ValueError as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error: Exception) -> StoreCorrupt:
        where = f"block {self.key}, events {self._first} to {self._last}"
        return StoreCorrupt(self._path, [f"{where}, can't be read: {error}"])

    def events(self, begin: int = 0, end: int | None = None) -> list[tuple[int, int, bytes, Envelope]]:
        """Return of each event its position, when it was received, its original payload, and what it says."""
        places = range(begin, len(self.positions) if end is None else end)
        try:
            raws, received = self.reader.originals(places), self.reader.received_at_us
            envelopes = self.envelopes(places)
        except ValueError as error:
            raise self._corrupt(error) from error
        return [
            (self.positions[place], received[place], raw, envelope)
            for place, raw, envelope in zip(places, raws, envelopes, strict=True)
        ]

    def envelopes(self, places: Sequence[int] | None = None) -> list[Envelope]:
        """Return what the events say, of all or of those at ``places``."""
        try:
            return self.reader.envelopes(places)
        except ValueError as error:
            raise self._corrupt(error) from error

    def find(self, seqs: set[int]) -> dict[int, tuple[int, bytes]]:
        """Return of those ``seqs`` that are here the positions and the original payloads."""
        places = {seq: place for place, seq in enumerate(self.seqs) if seq in seqs}
        try:
            raws = self.reader.originals(list(places.values()))
        except ValueError as error:
            raise self._corrupt(error) from error
        return {seq: (self.positions[place], raw) for (seq, place), raw in zip(places.items(), raws, strict=True)}

    @property
    def context(self) -> MetricContext | None:
        """What all events of the block have been said to come from; of a proper block."""
        assert isinstance(self.reader, BlockReader)
        return self.reader.shape.context

    def series(
        self, name: str
    ) -> tuple[Sequence[int] | None, Sequence[int], Sequence[int | float], Sequence[int] | None, Sequence[int]]:
        """Return the steps, seqs, values, epochs and time stamps of a metric; of a proper block."""
        reader = self.reader
        assert isinstance(reader, BlockReader)
        try:
            return reader.steps, self.seqs, reader.values(self._index(name)), reader.epochs, reader.timestamps
        except ValueError as error:
            raise self._corrupt(error) from error

    def part(self, name: str, *, place: int, rewind_to: int | None) -> Part:
        """Return the points of a metric for ``runs.join``; of a proper block."""
        assert isinstance(self.reader, BlockReader)
        try:
            return self.reader.part(self._index(name), place=place, rewind_to=rewind_to)
        except ValueError as error:
            raise self._corrupt(error) from error

    def _index(self, name: str) -> int:
        assert isinstance(self.reader, BlockReader)
        try:
            return self.reader.names.index(name)
        except ValueError:
            raise ValueError(f"it is filed under {name!r}, which isn't in it") from None

    def columns(self, after: int = 0) -> list[Columns]:
        """Return the events with a position above ``after`` for the fold."""
        begin = bisect_right(self.positions, after)
        if begin == len(self.positions):
            return []
        if isinstance(self.reader, PackedReader):
            return gather(self.envelopes(range(begin, len(self.positions))))
        try:
            columns = _columns(self.reader)
        except ValueError as error:
            raise self._corrupt(error) from error
        return [columns if begin == 0 else columns.pick(begin, len(columns))]


def _columns(reader: BlockReader) -> Columns:
    steps, epochs = reader.steps, reader.epochs
    return Columns(
        reader.shape,
        range(reader.count),
        reader.seqs,
        reader.timestamps,
        steps,
        epochs,
        [reader.values(index) for index in range(len(reader.names))],
    )


def read_block(connection: sqlite3.Connection, path: str, key: int) -> StoredBlock | None:
    """Return a block; None where it isn't there any more. Raises StoreCorrupt."""
    row = connection.execute(
        f"SELECT {StoredBlock.COLUMNS} FROM blocks WHERE block_key = ?",  # noqa: S608 - our own names
        (key,),
    ).fetchone()
    return None if row is None else StoredBlock(path, row)


def blocks_after(connection: sqlite3.Connection, path: str, run_key: int, after: int) -> Iterator[StoredBlock]:
    """Yield the blocks of a run that hold events with a position above ``after``. Raises StoreCorrupt."""
    rows = connection.execute(
        f"SELECT {StoredBlock.COLUMNS} FROM blocks"  # noqa: S608 - our own names
        " WHERE run_key = ? AND chunk > ? AND last_position > ? ORDER BY chunk, first_position",
        (run_key, after, after),
    )
    for row in rows:
        yield StoredBlock(path, row)


# ------------------------------------------------------------------------------------------ by seq


def locate(connection: sqlite3.Connection, path: str, stream_key: int, seqs: set[int]) -> dict[int, tuple[int, bytes]]:
    """Return of each of ``seqs`` that is stored the event's position and its original payload. Raises StoreCorrupt."""
    found: dict[int, tuple[int, bytes]] = {}
    wanted = sorted(seqs)
    for begin in range(0, len(wanted), _SEQS_AT_ONCE):
        some = wanted[begin : begin + _SEQS_AT_ONCE]
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT seq, position, packed, raw FROM events WHERE stream_key = ?"  # noqa: S608
            f" AND seq IN ({', '.join('?' * len(some))})",
            (stream_key, *some),
        ).fetchall()
        for seq, position, packed, data in rows:
            try:
                found[seq] = position, unpack(packed, data)
            except zlib.error as error:
                raise StoreCorrupt(path, [f"event {position} can't be read: {error}"]) from error
    missing = [seq for seq in wanted if seq not in found]
    if missing:
        # In order of their ends, so that where seqs come in order, as usual, no more is looked at than is asked for.
        keys = connection.execute(
            "SELECT block_key, first_seq, last_seq FROM blocks"
            " WHERE stream_key = ? AND last_seq >= ? AND first_seq <= ? ORDER BY last_seq",
            (stream_key, missing[0], missing[-1]),
        )
        left = set(missing)
        for key, first, last in keys:
            if bisect_left(missing, first) < bisect_right(missing, last) and not left.isdisjoint(
                missing[bisect_left(missing, first) : bisect_right(missing, last)]
            ):
                block = read_block(connection, path, key)
                here = {} if block is None else block.find(left)
                found.update(here)
                left.difference_update(here)
                if not left:
                    break
    return found
