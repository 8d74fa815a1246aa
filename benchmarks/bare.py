"""Bare loops: what the machine can do with msgspec, SQLite and a system call, without any library around them.

They make and read the protocol's own bytes: a test holds them to that.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct as Layout
from typing import Any

import msgspec

PREFIX = Layout(">I")


class Bare(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    pass


class Meta(Bare, frozen=True):
    seq: int
    ts: int
    wid: str | None = None
    sid: str | None = None


class Metric(Bare, frozen=True):
    run_id: str
    key: str
    value: int | float
    step: int | None = None
    epoch: int | None = None


class MetricBatch(Bare, frozen=True):
    run_id: str
    metrics: dict[str, int | float]
    step: int | None = None
    epoch: int | None = None


class RunStart(Bare, frozen=True):
    run_id: str
    name: str | None = None


class RunEnd(Bare, frozen=True):
    run_id: str
    status: str | None = None


class Param(Bare, frozen=True):
    run_id: str
    key: str
    value: Any


class Log(Bare, frozen=True):
    run_id: str
    level: str
    msg: str


class MetricEnvelope(Bare, frozen=True, tag_field="t", tag="metric"):
    v: int
    m: Meta
    p: Metric


class MetricBatchEnvelope(Bare, frozen=True, tag_field="t", tag="metric_batch"):
    v: int
    m: Meta
    p: MetricBatch


class RunStartEnvelope(Bare, frozen=True, tag_field="t", tag="run_start"):
    v: int
    m: Meta
    p: RunStart


class RunEndEnvelope(Bare, frozen=True, tag_field="t", tag="run_end"):
    v: int
    m: Meta
    p: RunEnd


class ParamEnvelope(Bare, frozen=True, tag_field="t", tag="param"):
    v: int
    m: Meta
    p: Param


class LogEnvelope(Bare, frozen=True, tag_field="t", tag="log"):
    v: int
    m: Meta
    p: Log


Event = MetricEnvelope | MetricBatchEnvelope | RunStartEnvelope | RunEndEnvelope | ParamEnvelope | LogEnvelope

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode
decode_json = msgspec.json.Decoder().decode


def encode_frame(envelope: object) -> bytes:
    """Return the frame of any Struct: the two lines that a function for it has at the least."""
    payload = encode(envelope)
    return PREFIX.pack(len(payload)) + payload


def emit(fd: int, run_id: str, sid: str, seq: int, values: Sequence[float], took: list[int]) -> None:
    """Write a framed metric for each value, one system call each; add what each took, in ns, to ``took``."""
    pack, write, clock, now, add = PREFIX.pack, os.write, time.perf_counter_ns, time.time_ns, took.append
    for step, value in enumerate(values):
        begin = clock()
        seq += 1
        payload = encode(
            MetricEnvelope(1, Meta(seq, now() // 1000, None, sid), Metric(run_id, "train/loss", value, step))
        )
        write(fd, pack(len(payload)) + payload)
        add(clock() - begin)


def emit_batches(
    fd: int, run_id: str, sid: str, seq: int, batches: Sequence[dict[str, float]], took: list[int]
) -> None:
    """Write a framed batch of metrics for each of ``batches``, as :func:`emit`."""
    pack, write, clock, now, add = PREFIX.pack, os.write, time.perf_counter_ns, time.time_ns, took.append
    for step, metrics in enumerate(batches):
        begin = clock()
        seq += 1
        payload = encode(
            MetricBatchEnvelope(1, Meta(seq, now() // 1000, None, sid), MetricBatch(run_id, metrics, step))
        )
        write(fd, pack(len(payload)) + payload)
        add(clock() - begin)


def decode_file(path: Path) -> int:
    """Decode each frame of a file in one pass over its bytes; return how many there were."""
    data = path.read_bytes()
    unpack, read = PREFIX.unpack_from, decode
    position, size, count = 0, len(data), 0
    while position < size:
        (length,) = unpack(data, position)
        position += 4 + length
        read(data[position - length : position])
        count += 1
    return count


def decode_bytes(data: bytes) -> int:
    """Do the same with bytes that are there."""
    unpack, read = PREFIX.unpack_from, decode
    position, size, count = 0, len(data), 0
    while position < size:
        (length,) = unpack(data, position)
        position += 4 + length
        read(data[position - length : position])
        count += 1
    return count


def events_of(data: bytes) -> Iterator[Event]:
    """Yield the events of frames, one after the other."""
    position = 0
    while position < len(data):
        (length,) = PREFIX.unpack_from(data, position)
        position += 4 + length
        yield decode(data[position - length : position])


ROWS = 1000
"""Of one transaction."""


def file_to_rows(path: Path, database: Path) -> int:
    """Decode a file of metrics into SQLite: a row a point, WAL, synchronous=FULL, 1,000 rows a transaction.

    Neither keys nor indexes, no deduplication, no state of the run, no originals. Return how many rows there are.
    """
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE points (run TEXT, key TEXT, step INTEGER, value REAL, ts INTEGER, seq INTEGER)"
        )
        data = path.read_bytes()
        unpack, read, execute, many = PREFIX.unpack_from, decode, connection.execute, connection.executemany
        position, size, count = 0, len(data), 0
        rows: list[tuple[Any, ...]] = []
        while position < size:
            (length,) = unpack(data, position)
            position += 4 + length
            event = read(data[position - length : position])
            if type(event) is MetricEnvelope:
                point, meta = event.p, event.m
                rows.append((point.run_id, point.key, point.step, point.value, meta.ts, meta.seq))
            if len(rows) == ROWS or position == size:
                execute("BEGIN IMMEDIATE")
                many("INSERT INTO points VALUES (?, ?, ?, ?, ?, ?)", rows)
                execute("COMMIT")
                count += len(rows)
                rows.clear()
        return count
    finally:
        connection.close()
