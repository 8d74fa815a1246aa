"""P7: memory: of decoding files, of a server with idle connections, and of ten million events."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import bare, data
from benchmarks.harness import Bench, Figure, at_most, case
from benchmarks.serving import Shipper, serving

FRAME_MAX = 64 * 1024
MANY = 10_000_000
"""Events over which memory is to stay as it is; after a tenth of so many all caches and buffers are full."""

PEAK = """
def peak_mib():  # without any import, for that would be part of Python's start
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        from benchmarks.machine import peak_mib
        return peak_mib()
before = peak_mib()
"""

LIBRARY = """
import json, sys
from xtrack_protocol.wire import stream_file
marks = {int(mark): None for mark in sys.argv[2:]}
count = 0
for frame in stream_file(sys.argv[1]):
    count += frame.error is None
    if count in marks:
        marks[count] = peak_mib()
print(json.dumps({"count": count, "before": before, "after": peak_mib(), "marks": list(marks.values())}))
"""

COMMAND = """
import json, os, sys
from xtrack_protocol.decode.__main__ import main
with open(os.devnull, "w") as nowhere:
    sys.argv[0], sys.stdout = "decode", nowhere
    status = main()
print(json.dumps({"status": status, "before": before, "after": peak_mib()}), file=sys.__stdout__)
"""


def _told(script: str, *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PEAK + script, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return json.loads(done.stdout.splitlines()[-1])


def _write(path: Path, payloads: Iterator[bytes]) -> int:
    count = 0
    with path.open("wb") as file:
        for payload in payloads:
            assert len(payload) <= FRAME_MAX
            file.write(data.frame(payload))
            count += 1
    return count


def _logs(count: int, size: Callable[[], int]) -> Iterator[bytes]:
    """Yield payloads of log events that are ``size()`` bytes long."""
    for seq in range(1, count + 1):
        meta = bare.Meta(seq, data.BEGIN_US + seq, None, data.SID)
        empty = len(bare.encode(bare.LogEnvelope(1, meta, bare.Log(data.RUN, "info", ""))))
        text = "x" * (size() - empty)
        yield bare.encode(bare.LogEnvelope(1, meta, bare.Log(data.RUN, "info", text)))


def _batches(count: int) -> Iterator[bytes]:
    """Yield payloads of batches of as many values as 64 KiB hold."""
    rng = random.Random(3)
    for seq in range(1, count + 1):
        values = {f"layer_{number}/gradient_norm": rng.random() for number in range(1250)}
        meta = bare.Meta(seq, data.BEGIN_US + seq, None, data.SID)
        yield bare.encode(bare.MetricBatchEnvelope(1, meta, bare.MetricBatch(data.RUN, values, seq)))


@case("P7.decode")
def decoding(bench: Bench) -> Iterator[Figure]:
    """What a process has at most, over what it had when Python had started: the imports count."""
    rng, path = random.Random(4), bench.folder / "frames.bin"
    kinds: dict[str, Callable[[], Iterator[bytes]]] = {
        "small frames": lambda: map(bare.encode, data.metrics(bench.pick(50_000, 1_000_000))),
        "frames of 64 KiB": lambda: _logs(bench.pick(300, 3000), lambda: FRAME_MAX),
        "frames of 200 B to 64 KiB": lambda: _logs(bench.pick(600, 6000), lambda: rng.randint(200, FRAME_MAX)),
        "batches of 1,250 values": lambda: _batches(bench.pick(200, 2000)),
    }
    for name, make in kinds.items():
        count = _write(path, make())
        found = _told(LIBRARY, str(path))
        assert found["count"] == count, found
        yield Figure(f"stream_file, {name}", found["after"] - found["before"], "MiB", at_most(16))
        found = _told(COMMAND, "--format", "jsonl", str(path))
        assert found["status"] in {0, None}, found
        yield Figure(f"xtrack decode, {name}", found["after"] - found["before"], "MiB", at_most(16))


@case("P7.decode_flat")
def decoding_is_flat(bench: Bench) -> Iterator[Figure]:
    count = bench.pick(300_000, MANY)
    path = bench.folder / "frames.bin"
    data.write_metrics(path, count)
    found = _told(LIBRARY, str(path), str(count // 10))
    assert found["count"] == count
    (early,) = found["marks"]
    yield Figure("peak after a tenth of the events", early, "MiB", note=f"{count:,} events")
    yield Figure("peak after all / after a tenth of them", found["after"] / early, "x", at_most(1.1))


@case("P7.idle", core=1)
def idle(bench: Bench) -> Iterator[Figure]:
    """Connections that have said hello, been welcomed, and say no more."""
    raise_limit()
    count = 1000
    with serving(bench.folder / "server") as server, contextlib.ExitStack() as stack:
        stack.callback(Shipper(server.port, data.RUN, data.SID, []).close)
        before = server.memory_mib()
        for number in range(count):
            one = Shipper(server.port, data.RUN, data.SID, [], address=f"127.0.1.{1 + number % 200}")
            stack.callback(one.close)
        peak = server.memory_mib("VmHWM")
        yield Figure("a server without connections", before, "MiB")
        yield Figure(f"{count:,} idle connections more", peak - before, "MiB", at_most(32))


def raise_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@case("P7.ingest_flat", core=1)
def ingesting_is_flat(bench: Bench) -> Iterator[Figure]:
    """One run, shipped by a connection a tenth of it: what the server's process had at most."""
    count = bench.pick(300_000, MANY)
    peaks: list[float] = []
    with serving(bench.folder / "server") as server:
        for part in range(10):
            first = 1 + part * (count // 10)
            made = [bare.encode(event) for event in data.metrics(count // 10, first=first)]
            shipper = Shipper(server.port, data.RUN, data.SID, made, first=first)
            shipper.ship()
            shipper.close()
            peaks.append(server.memory_mib("VmHWM"))
    yield Figure("the server's peak after a tenth of the events", peaks[0], "MiB", note=f"{count:,} events of one run")
    goal = at_most(1.1) if count == MANY else None
    yield Figure("the server's peak after all / after a tenth of them", peaks[-1] / peaks[0], "x", goal)
