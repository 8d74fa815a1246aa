"""What a server takes on this machine, for the page of limits; asked for by name: ``--only limits``."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import xtrack_protocol as xtrack
from benchmarks import bare, data
from benchmarks.filling import append, fill, frames_of
from benchmarks.harness import Bench, Figure, case, median, percentile
from benchmarks.ingesting import database_size
from benchmarks.memory import raise_limit
from benchmarks.scaling import many_names
from benchmarks.serving import Server, Shipper, control, serving
from xtrack_protocol.storage import open_store

_processes = multiprocessing.get_context("spawn")


def _client(port: int, number: int, count: int, rate: float, ready, results) -> None:
    run, sid = f"{data.RUN}-{number}", f"{number:032x}"
    made = [data.start(run, sid)]
    made += [bare.encode(event) for event in data.metrics(count - 1, first=2, run_id=run, sid=sid)]
    shipper = Shipper(port, run, sid, made)
    ready.wait()
    shipper.ship(rate=rate)
    results.put(shipper.latencies[:: max(1, len(shipper.latencies) // 2000)])


def _ship_at_once(
    server: Server, clients: int, count: int, rate: float = 0.0, beside=None
) -> tuple[float, list[float]]:
    """Let so many processes ship so many events each; return the seconds that took, and latencies of acks."""
    ready, results = _processes.Barrier(clients + 1), _processes.Queue()
    workers = [
        _processes.Process(target=_client, args=(server.port, number, count, rate, ready, results))
        for number in range(clients)
    ]
    for one in workers:
        one.start()
    ready.wait(300)
    begin = time.perf_counter()
    if beside is not None:
        beside.start()
    latencies = [latency for _ in workers for latency in results.get(timeout=600)]
    seconds = time.perf_counter() - begin
    for one in workers:
        one.join()
        assert one.exitcode == 0
    return seconds, latencies


@case("limits.clients", core=None, optional=True)
def clients(bench: Bench) -> Iterator[Figure]:
    """Events a second by number of clients, each a process; nothing is kept to a core."""
    total = bench.pick(40_000, 1_000_000)
    for number in (1, 4, 16, 50):
        with serving(bench.folder / "server", core=None) as server:
            seconds, latencies = _ship_at_once(server, number, total // number)
            peak = server.memory_mib("VmHWM")
        yield Figure(f"{number} clients", total / seconds, "events/s", note=f"{total:,} events")
        yield Figure(f"{number} clients: ack p99, at full speed", 1000 * percentile(latencies, 0.99), "ms")
        yield Figure(f"{number} clients: the server's peak", peak, "MiB")


@case("limits.connections", core=None, optional=True)
def connections(bench: Bench) -> Iterator[Figure]:
    """Connect until the server refuses."""
    raise_limit()
    with serving(bench.folder / "server", core=None) as server, contextlib.ExitStack() as stack:
        refused = ""
        begin = time.perf_counter()
        for taken in range(100_000):
            try:
                one = Shipper(server.port, data.RUN, data.SID, [], address=f"127.0.1.{1 + taken % 200}")
            except (RuntimeError, OSError) as error:
                refused = str(error)
                break
            stack.callback(one.close)
        seconds = time.perf_counter() - begin
        yield Figure("connections at once", taken, "", note=f"then {refused}")
        yield Figure("connections with a hello", taken / seconds, "1/s")
        yield Figure("the server's memory with them", server.memory_mib("VmHWM"), "MiB")


@case("limits.runs", core=None, optional=True)
def runs(bench: Bench) -> Iterator[Figure]:
    """Many runs of a store, of four events each, and a run of many events and many names."""
    many = bench.pick(1000, 10_000)
    database = bench.folder / "runs.db"
    with open_store(f"sqlite:///{database}") as store:
        begin = time.perf_counter()
        for number in range(many):
            run = f"run-{number}"
            events = [data.start(run), *map(bare.encode, data.metrics(2, first=2, run_id=run)), data.end(4, run)]
            append(store, frames_of(iter(events), 4), run)
        yield Figure("runs of 4 events, a transaction each", many / (time.perf_counter() - begin), "runs/s")
        begin = time.perf_counter()
        found = store.list_runs(limit=20)
        yield Figure("the newest 20 runs", 1000 * (time.perf_counter() - begin), "ms", note=f"of {many:,} runs")
        assert len(found) == 20
    yield Figure("disk", database_size(database) / many, "B/run")
    for names, count in ((1, bench.pick(100_000, 10_000_000)), (10_000, bench.pick(50_000, 1_000_000))):
        database = bench.folder / f"names-{names}.db"
        with open_store(f"sqlite:///{database}") as store:
            begin = time.perf_counter()
            fill(store, count, names=many_names(names), ended=True)
            took = time.perf_counter() - begin
            label = f"a run of {count:,} events of {names:,} names"
            yield Figure(f"{label}: stored", count / took, "events/s", note="their making included")
            begin = time.perf_counter()
            assert len(store.get_run(data.RUN).metrics) == names
            yield Figure(f"{label}: its state", 1000 * (time.perf_counter() - begin), "ms")
        yield Figure(f"{label}: disk", database_size(database) / count, "B/event")


@case("limits.frames", core=None, optional=True)
def frames(bench: Bench) -> Iterator[Figure]:
    """A frame of the greatest size that is sent, and of the greatest that is read from a file."""
    for label, size in (
        ("1 MiB, as an emitter sends at most", 1024**2),
        ("16 MiB - 1, as files hold at most", 16 * 1024**2 - 1),
    ):
        empty = len(bare.encode(bare.LogEnvelope(1, bare.Meta(1, 1), bare.Log(data.RUN, "info", ""))))
        text = "x" * (size - empty)
        path = bench.folder / "frame.bin"
        path.write_bytes(bare.encode_frame(bare.LogEnvelope(1, bare.Meta(1, 1), bare.Log(data.RUN, "info", text))))
        took = []
        for _ in range(bench.repetitions):
            begin = time.perf_counter()
            (found,) = xtrack.stream_file(path)
            took.append(time.perf_counter() - begin)
            assert found.error is None
            assert found.length == size
        yield Figure(f"a frame of {label}: read", 1000 * median(took), "ms")


# ------------------------------------------------------------------------------------------ slow peers

KINDS = ("silent", "hello by the byte", "frame by the byte", "half a frame", "almost 1 MiB")
_HELLO = {"protocols": [1], "agent": "benchmark"}


async def _slow_peer(port: int, number: int, seen: list[tuple[str, float]]) -> None:
    """Say nothing; or a hello a byte a second; or a frame that never ends. They come from 200 addresses."""
    kind, begin = KINDS[number % len(KINDS)], time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(f"127.0.1.{1 + number % 200}", 0), limit=4096
        )
    except OSError:
        seen.append((f"{kind}: not accepted", 0.0))
        return
    ended = asyncio.ensure_future(_read_all(reader))
    try:
        if kind == "hello by the byte":
            for byte in control("hello", _HELLO):
                writer.write(bytes([byte]))
                await asyncio.wait({ended}, timeout=1)
                if ended.done():
                    break
        elif kind != "silent":
            writer.write(control("hello", _HELLO))
            await asyncio.sleep(1)
            writer.write((1_000_000).to_bytes(4, "big") + b'{"v":1,')
            if kind == "almost 1 MiB":
                writer.write(b" " * 900_000)
            while not ended.done() and time.perf_counter() - begin < 60:
                if kind == "frame by the byte":
                    writer.write(b" " * 100)
                await asyncio.wait({ended}, timeout=1)
    except OSError:
        pass  # the server has hung up: that is what was waited for
    await asyncio.wait({ended}, timeout=60)
    seen.append((kind if ended.done() else f"{kind}: still there", time.perf_counter() - begin))
    ended.cancel()
    writer.close()


async def _read_all(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass


def _crowd(port: int, count: int, results) -> None:
    async def main() -> None:
        seen: list[tuple[str, float]] = []
        await asyncio.gather(*(_slow_peer(port, number, seen) for number in range(count)))
        results.put(seen)

    raise_limit()
    asyncio.run(main())


@case("limits.slow_peers", core=None, optional=True)
def slow_peers(bench: Bench) -> Iterator[Figure]:
    """Slow and hostile peers beside good workers, which log ten events a second: are they reaped, and who notices?"""
    good, slow, events = bench.pick(5, 50), bench.pick(100, 1000), bench.pick(100, 300)
    raise_limit()
    with serving(Path(bench.folder) / "server", core=None) as server:
        _, alone = _ship_at_once(server, good, events, 10)
        before = server.memory_mib("VmHWM")
    with serving(Path(bench.folder) / "server", core=None) as server:
        results = _processes.Queue()
        crowd = _processes.Process(target=_crowd, args=(server.port, slow, results))
        _, beside = _ship_at_once(server, good, events, 10, crowd)
        seen = results.get(timeout=180)
        crowd.join()
        during = server.memory_mib("VmHWM")
    yield Figure(f"{good} workers: ack p99", 1000 * percentile(alone, 0.99), "ms")
    yield Figure(f"{good} workers beside {slow} slow peers: ack p99", 1000 * percentile(beside, 0.99), "ms")
    yield Figure("the server's peak because of them", during - before, "MiB")
    for kind, number in sorted(Counter(kind for kind, _ in seen).items()):
        longest = max(seconds for name, seconds in seen if name == kind)
        yield Figure(f"{kind}: ended at the latest", longest, "s", note=f"{number} peers")
