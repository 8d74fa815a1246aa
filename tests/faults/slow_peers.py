"""A thousand slow peers beside fifty good ones, and a collector that stands still.

The slow ones connect and say nothing, or a byte a second, or say hello and stop in the middle of a frame. All must be
gone by their deadline (5 s for the first frame, 30 s for one that was begun), the good ones must hardly notice, and the
server's memory must stay within bounds. Then the server is stopped with SIGSTOP, and a worker logs: no call may wait.

``python tests/faults/slow_peers.py --slow 1000 --seed 7`` prints the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line

from xtrack_protocol.ir import Envelope, Hello, Metric
from xtrack_protocol.session import Acked, EmitterSession, StreamId, StreamOpened
from xtrack_protocol.wire import encode, encode_frame

GOOD = 50
FIRST_SECONDS, FRAME_SECONDS = 5.0, 30.0
SLACK_SECONDS = 3.0
"""For a busy machine; the deadlines are the server's own."""
STOPPED_US = 200.0
KINDS = ("silent", "a byte a second", "half a frame")

SERVER = """
import asyncio, logging, signal, sys
from xtrack_protocol.session import CollectorLimits
from xtrack_protocol.server import CollectorServer, ServerLimits
from xtrack_protocol.storage import SQLiteStore
logging.basicConfig(level=logging.ERROR)
async def main():
    with SQLiteStore(sys.argv[1]) as store:
        limits = ServerLimits(connections=4096, session=CollectorLimits(frame_seconds=float(sys.argv[2])))
        async with CollectorServer(store, tcp=("127.0.0.1", 0), limits=limits) as server:
            print(server.addresses[0][1], flush=True)
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            await stop.wait()
asyncio.run(main())
"""

WORKER = """
import json, os, sys, time
from xtrack_protocol import start_run
run = start_run()
print("begun", flush=True)
sys.stdin.readline()
took = []
for step in range(int(sys.argv[1])):
    began = time.perf_counter()
    run.log_metric("loss", 0.5, step=step)
    took.append(time.perf_counter() - began)
    if step % 100 == 99:
        time.sleep(0.001)  # a training does something between its calls
print(json.dumps(took), flush=True)
sys.stdin.readline()
run.end()
print(json.dumps([run.stats().delivery.acked, run.events_logged]), flush=True)
"""


@dataclass
class Outcome:
    """What was measured."""

    slow: int
    seed: int
    frame_seconds: float = FRAME_SECONDS
    before_ms: list[float] = field(default_factory=list)
    during_ms: list[float] = field(default_factory=list)
    lives: dict[str, list[float]] = field(default_factory=dict)
    """Seconds for which each slow peer was borne, by kind."""
    rss_mib: float = 0.0
    calls_us: list[float] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def quantile(values: list[float], part: float) -> float:
    """Return the value below which ``part`` of them are."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def _rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(slow: int, seed: int, calls: int = 50_000, frame_seconds: float = FRAME_SECONDS) -> Outcome:
    """Measure all of it. ``frame_seconds``: the server's deadline for a frame, if not the usual one."""
    outcome = Outcome(slow, seed, frame_seconds)
    with tempfile.TemporaryDirectory(prefix="xtrack-slow-") as folder:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, f"{folder}/store.db", str(frame_seconds)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            asyncio.run(_measure(outcome, port, server.pid))
            _stopped(outcome, port, server.pid, folder, calls)
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()
            server.wait(30)
            assert server.stdout is not None
            server.stdout.close()
    _judge(outcome)
    return outcome


def _judge(outcome: Outcome) -> None:
    before, during = quantile(outcome.before_ms, 0.99), quantile(outcome.during_ms, 0.99)
    if during > max(2 * before, before + 25):
        outcome.problems.append(f"good peers waited {during:.1f} ms for an ack instead of {before:.1f} (1 in 100)")
    for kind, lives in outcome.lives.items():
        due = outcome.frame_seconds if kind == "half a frame" else FIRST_SECONDS
        if max(lives) > due + SLACK_SECONDS:
            outcome.problems.append(f"{kind}: borne for {max(lives):.1f} s, which is more than {due:g}")
    if sum(map(len, outcome.lives.values())) != outcome.slow:
        outcome.problems.append("not all slow peers are gone")
    if outcome.rss_mib > 100:
        outcome.problems.append(f"the server's memory grew by {outcome.rss_mib:.0f} MiB")
    if quantile(outcome.calls_us, 0.99) > STOPPED_US:
        outcome.problems.append("log_metric waits for a collector that stands still")
    if outcome.delivered and outcome.delivered[0] != outcome.delivered[1]:
        outcome.problems.append(f"acked and logged after the standstill: {outcome.delivered}")


async def _measure(outcome: Outcome, port: int, pid: int) -> None:
    rng = random.Random(outcome.seed)
    sink: list[list[float]] = [outcome.before_ms]
    good = [asyncio.create_task(_good(port, number, sink)) for number in range(GOOD)]
    await asyncio.sleep(2)
    outcome.before_ms.clear()  # the first ones were connecting
    await asyncio.sleep(3)
    rss = _rss_mib(pid)
    sink[0] = outcome.during_ms
    slow = [asyncio.create_task(_slow(outcome, port, number, rng.choice(KINDS))) for number in range(outcome.slow)]
    pending = set(slow)
    until = time.monotonic() + max(outcome.frame_seconds, FIRST_SECONDS) + SLACK_SECONDS + 10
    while pending and time.monotonic() < until:
        _, pending = await asyncio.wait(pending, timeout=0.5)
        outcome.rss_mib = max(outcome.rss_mib, _rss_mib(pid) - rss)
    for task in good:
        task.cancel()
    ended = await asyncio.gather(*good, return_exceptions=True)
    outcome.problems += [f"a good peer: {one!r}" for one in ended if not isinstance(one, asyncio.CancelledError)]
    for task in pending:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def _good(port: int, number: int, sink: list[list[float]]) -> None:
    """Send an event, wait for its ack, and so on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _chat(reader, writer, number, sink)
    finally:
        await _close(writer)


async def _chat(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, sink: list[list[float]]
) -> None:
    session, stream = EmitterSession(Hello([1])), StreamId(f"good-{number}", "", f"{number:032x}")
    writer.write(session.start(time.monotonic()))
    session.open_stream(stream, time.monotonic())
    sent_at, seq = 0.0, 0
    while True:
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("the server has closed")
        for news in session.receive(data, time.monotonic()):
            if isinstance(news, Acked | StreamOpened):
                if isinstance(news, Acked):
                    sink[0].append((time.perf_counter() - sent_at) * 1000)
                await asyncio.sleep(0.02)
                seq = session.position(stream) + 1
                event = Metric(stream.run_id, "loss", 0.5, step=seq)
                envelope = Envelope.of(event, seq=seq, timestamp_us=seq, session_id=stream.session_id)
                assert session.offer(stream, seq, encode(envelope))
                sent_at = time.perf_counter()
        writer.write(session.data_to_send())


async def _slow(outcome: Outcome, port: int, number: int, kind: str) -> None:
    """Be slow until the server has had enough."""
    # From twenty addresses, as of twenty machines: of one, only so many strangers are let in.
    await asyncio.sleep(random.random())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.1.{1 + number % 20}", 0))
    began = time.monotonic()
    hello = encode_frame(Envelope.of(Hello([1]), seq=0, timestamp_us=1))
    if kind == "half a frame":
        writer.write(hello + b"\x00\x0f\x00\x00" + b"{" * 1000)
    try:
        at = 0
        while True:
            if kind == "a byte a second" and at < len(hello) - 1:
                writer.write(hello[at : at + 1])
                at += 1
            try:
                if not await asyncio.wait_for(reader.read(65536), 1.0):
                    break
            except asyncio.TimeoutError:
                continue
    except OSError:
        pass
    finally:
        outcome.lives.setdefault(kind, []).append(time.monotonic() - began)
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _stopped(outcome: Outcome, port: int, pid: int, folder: str, calls: int) -> None:
    """Log while the collector stands still; then let it go on, and see that all comes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    environment |= {
        "XTRACK_DIR": f"{folder}/root",
        "XTRACK_TRANSPORT": f"tcp://127.0.0.1:{port}",
        "XTRACK_QUIET": "1",
        "XTRACK_END_TIMEOUT": "100",
    }
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(calls)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdout.readline()
        time.sleep(0.5)  # connected, and streaming
        os.kill(pid, signal.SIGSTOP)
        worker.stdin.write("go\n")
        worker.stdin.flush()
        outcome.calls_us = [seconds * 1e6 for seconds in json.loads(worker.stdout.readline())]
        os.kill(pid, signal.SIGCONT)
        worker.stdin.write("end\n")
        worker.stdin.flush()
        outcome.delivered = json.loads(worker.stdout.readline())
    finally:
        os.kill(pid, signal.SIGCONT)
        worker.kill()
        worker.communicate()


def table(outcome: Outcome) -> str:
    """Return the figures as text."""
    lines = [f"{outcome.slow} slow peers, {GOOD} good ones, seed {outcome.seed}", ""]
    for name, values in (("before", outcome.before_ms), ("beside slow peers", outcome.during_ms)):
        shown = ", ".join(f"{part:g}: {quantile(values, part):.2f}" for part in (0.5, 0.9, 0.99, 1))
        lines.append(f"{'ack after ms, ' + name:>32}  {shown}  ({len(values)})")
    for kind, lives in sorted(outcome.lives.items()):
        lines.append(f"{kind:>32}  {len(lives)} borne for {min(lives):.1f} to {max(lives):.1f} s")
    lines.append(f"{'memory of the server':>32}  + {outcome.rss_mib:.1f} MiB")
    shown = ", ".join(f"{part:g}: {quantile(outcome.calls_us, part):.1f}" for part in (0.5, 0.9, 0.99, 0.999, 1))
    lines.append(f"{'log_metric us, collector stopped':>32}  {shown}  ({len(outcome.calls_us)})")
    lines.append(f"{'then acked, of':>32}  {outcome.delivered}")
    return "\n".join([*lines, *(f"UNSOUND: {problem}" for problem in outcome.problems)])


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__, jobs=None)
    parser.add_argument("--slow", type=int, default=1000)
    options = parser.parse_args()
    outcome = run(options.slow, options.seed)
    print(table(outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
