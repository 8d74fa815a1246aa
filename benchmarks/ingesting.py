"""P4: events over TCP into a SQLite store with synchronous=FULL, acked; beside a bare loop from a file into rows.

The server has one core for itself, and the bare loop the same one; the client, which sends prepared frames and reads
acks, has the other.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from benchmarks import bare, data
from benchmarks.harness import Bench, Figure, at_least, at_most, by_turns, case, median, percentile, ratio_of_pairs
from benchmarks.machine import pin, pinned
from benchmarks.serving import Shipper, serving
from xtrack_protocol.storage import open_store


def payloads_of(count: int, *, values: str = "losses", form: str = "canonical", per_batch: int = 1) -> list[bytes]:
    """Return a whole run's events: its start, so many scalars, its end. ``per_batch``: scalars of one event."""
    written = data.FORMS[form]
    made = [data.start()]
    if per_batch == 1:
        made += [written(event) for event in data.metrics(count, first=2, values=values)]
    else:
        value = data.VALUES[values]()
        for event in data.metrics(count // per_batch, first=2):
            batch = {f"train/metric_{name}": next(value) for name in range(per_batch)}
            made.append(written(bare.MetricBatchEnvelope(1, event.m, bare.MetricBatch(data.RUN, batch, event.m.seq))))
    made.append(data.end(len(made) + 1))
    return made


@case("P4.ingest", core=1)
def ingest(bench: Bench) -> Iterator[Figure]:
    payloads = payloads_of(bench.pick(40_000, 1_000_000))
    path = bench.folder / "frames.bin"
    path.write_bytes(b"".join(map(data.frame, payloads)))
    count = len(payloads)
    databases = iter(range(1000))
    cpu: list[float] = []
    bare_cpu: list[float] = []

    def ours() -> float:
        with serving(bench.folder / f"server-{next(databases)}") as server:
            shipper = Shipper(server.port, data.RUN, data.SID, payloads)
            before = server.cpu_seconds()
            seconds = shipper.ship()
            after = server.cpu_seconds()
            if before is not None and after is not None:
                cpu.append(after - before)
            shipper.close()
        server.database.unlink()
        return seconds

    def alone() -> float:
        database = bench.folder / f"bare-{next(databases)}.db"
        with pinned(0):
            begin, before = time.perf_counter(), time.process_time()
            rows = bare.file_to_rows(path, database)
            seconds = time.perf_counter() - begin
            bare_cpu.append(time.process_time() - before)
        assert rows == count - 2
        database.unlink()
        return seconds

    times, beside = by_turns(bench.repetitions, ours, alone)
    yield Figure("TCP to acked SQLite, one core", count / median(times), "events/s")
    yield Figure("file -> decode -> SQLite rows, bare, the same core", count / median(beside), "events/s")
    yield Figure("TCP to acked SQLite / bare rows", ratio_of_pairs(beside, times), "x", at_least(1.0))
    if not cpu:
        yield Figure("the server's processor time", None, "us/event", note="this system doesn't tell")
        return
    yield Figure("the server's processor time", 1e6 * median(cpu[1:]) / count, "us/event")
    yield Figure("the bare loop's processor time", 1e6 * median(bare_cpu[1:]) / count, "us/event")
    yield Figure("processor time: the server / the bare loop", ratio_of_pairs(cpu[1:], bare_cpu[1:]), "x")


@case("P4.ack", core=1)
def acks(bench: Bench) -> Iterator[Figure]:
    """How long an event waits for its ack while a training logs 1,000 a second."""
    payloads = payloads_of(bench.pick(1500, 10_000))
    with serving(bench.folder / "server") as server:
        shipper = Shipper(server.port, data.RUN, data.SID, payloads)
        shipper.ship(100, rate=1000)
        shipper.latencies.clear()
        shipper.ship(rate=1000)
        shipper.close()
    yield Figure("ack at 1,000 events/s: p50", 1000 * percentile(shipper.latencies, 0.5), "ms")
    yield Figure("ack at 1,000 events/s: p99", 1000 * percentile(shipper.latencies, 0.99), "ms")


def database_size(path: Path) -> int:
    """Return a store's size in bytes after a checkpoint, its WAL included."""
    connection = sqlite3.connect(path)
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy
    finally:
        connection.close()
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))


FORMS = (
    ("own frames, float32 losses", {"values": "losses"}, 25),
    ("own frames, random doubles", {"values": "doubles"}, 25),
    ("own frames of 10 values, float32 losses", {"values": "losses", "per_batch": 10}, 25),
    ("other frames (v, t, m, p, with spaces), float32 losses", {"values": "losses", "form": "other"}, 60),
    ("other frames (v, t, m, p, with spaces), random doubles", {"values": "doubles", "form": "other"}, 60),
)


@case("P4.size", core=1)
def size(bench: Bench) -> Iterator[Figure]:
    """What a store of one ended run takes, shipped over TCP, beyond an empty store; all originals are read again."""
    count = bench.pick(20_000, 1_000_000)
    with serving(bench.folder / "empty", core=0) as server:
        pass
    empty = database_size(server.database)
    yield Figure("an empty store", empty / 1024, "KiB")
    for name, options, bound in FORMS:
        payloads = payloads_of(count, **options)  # type: ignore[arg-type]
        with serving(bench.folder / "server", core=0) as server:
            shipper = Shipper(server.port, data.RUN, data.SID, payloads)
            shipper.ship()
            shipper.close()
        taken = database_size(server.database) - empty
        sent = sum(map(len, payloads)) / count
        note = f"{count:,} scalars, {sent:.0f} bytes each on the wire"
        yield Figure(f"{name}: disk", taken / count, "B/scalar", at_most(bound), note)
        yield Figure(
            f"{name}: originals that came back other than they were",
            differing(server.database, payloads),
            "",
            at_most(0),
        )
        server.database.unlink()


def differing(database: Path, payloads: list[bytes]) -> int:
    """Return how many of a store's events aren't, byte for byte, what was sent; missing ones and further ones count."""
    pin(None)
    right = others = 0
    with open_store(f"sqlite:///{database}", read_only=True) as store:
        for stored, payload in zip_longest(store.events(data.RUN), payloads):
            if stored is not None and payload is not None and stored.raw == payload:
                right += 1
            else:
                others += 1
    pin(1)
    assert right + others >= len(payloads)
    return others
