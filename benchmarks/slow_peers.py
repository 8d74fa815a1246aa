"""1,000 slow and hostile peers beside 50 good workers: are they reaped in time, and do the good ones notice?

    python benchmarks/slow_peers.py --slow 1000 --good 50

A fifth of them each: say nothing; send a hello a byte a second; say hello and then dribble a frame; begin a frame and
stop; send almost a whole frame of 1 MiB and stop. They come from 200 addresses of the loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import queue
import resource
import time
from collections import Counter

from server import HELLO, Client, frame, rss_mib, start_server

KINDS = ("silent", "hello by the byte", "frame by the byte", "half a frame", "almost 1 MiB")
DEADLINES = (5, 5, 30, 30, 30)


async def slow_peer(port: int, number: int, seen: list[tuple[str, float]]) -> None:
    kind = KINDS[number % len(KINDS)]
    begun = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(f"127.0.1.{1 + number % 200}", 0), limit=4096
        )
    except OSError:
        seen.append((f"{kind}: not accepted", 0.0))
        return
    ended = asyncio.ensure_future(reader.read(-1) if kind in KINDS[:2] else drain(reader))
    try:
        if kind == "silent":
            await ended
        elif kind == "hello by the byte":
            for byte in frame(HELLO):
                writer.write(bytes([byte]))
                await asyncio.wait({ended}, timeout=1)
                if ended.done():
                    break
        else:
            writer.write(frame(HELLO))
            await asyncio.sleep(1)
            writer.write((1_000_000).to_bytes(4, "big") + b'{"v":1,')
            if kind == "almost 1 MiB":
                writer.write(b" " * 900_000)
            while not ended.done() and time.perf_counter() - begun < 60:
                if kind == "frame by the byte":
                    writer.write(b" " * 100)
                await asyncio.wait({ended}, timeout=1)
    except OSError:
        pass
    await asyncio.wait({ended}, timeout=60)
    seen.append((kind if ended.done() else f"{kind}: still there", time.perf_counter() - begun))
    ended.cancel()
    writer.close()


async def drain(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(4096):
            pass
    except OSError:
        pass


def slow_peers(port: int, count: int, results) -> None:
    async def main() -> None:
        seen: list[tuple[str, float]] = []
        await asyncio.gather(*(slow_peer(port, number, seen) for number in range(count)))
        results.put(seen)

    asyncio.run(main())


def good(port: int, seconds: float, rate: float, begin, results) -> None:
    one = Client(port, int(seconds * rate), rate, 5000)
    begin.wait()
    one.run()
    results.put(one.latencies)


def measure(given: argparse.Namespace, port: int, pid: int, crowd=None) -> tuple[float, float]:
    """Return the p99 of the good ones' acks in ms, and the greatest RSS meanwhile; ``crowd`` comes after them."""
    results, begin, count = multiprocessing.Queue(), multiprocessing.Barrier(given.good + 1), given.good
    arguments = (port, given.seconds, given.rate, begin, results)
    workers = [multiprocessing.Process(target=good, args=arguments) for _ in range(count)]
    for one in workers:
        one.start()
    begin.wait()
    if crowd is not None:
        crowd.start()
    latencies, peak, answers = [], 0.0, 0
    while answers < count:
        peak = max(peak, rss_mib(pid))
        try:
            latencies += results.get(timeout=0.2)
            answers += 1
        except queue.Empty:
            continue
    latencies.sort()
    return 1000 * latencies[len(latencies) * 99 // 100], peak


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--store", default="memory:")
    options.add_argument("--slow", type=int, default=1000)
    options.add_argument("--good", type=int, default=50)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--rate", type=float, default=10)
    given = options.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    server, port = start_server(given.store)
    try:
        alone, before = measure(given, port, server.pid)
        results = multiprocessing.Queue()
        crowd = multiprocessing.Process(target=slow_peers, args=(port, given.slow, results))
        beside, during = measure(given, port, server.pid, crowd)
        seen = results.get(timeout=120)
        crowd.join()
        print(f"good p99 alone {alone:.1f} ms, beside {given.slow} slow peers {beside:.1f} ms ({beside / alone:.2f} x)")
        print(f"RSS {before:.0f} MiB, beside them at most {during:.0f} MiB (+ {during - before:.0f})")
        for kind, count in sorted(Counter(kind for kind, _ in seen).items()):
            times = [seconds for name, seconds in seen if name == kind]
            print(f"{kind}: {count}, ended after {min(times):.1f} to {max(times):.1f} s")
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
