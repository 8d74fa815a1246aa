"""A network that cuts at every byte, loses acks, falls silent, dribbles and splits; and nothing is lost or doubled.

A worker logs a short run over tcp, through a proxy that cuts its first connection after so many bytes in one direction
(``proxy.py``), for every such number; later connections pass. The run must end with everything acked, and the store
must hold each event once. Then longer runs with cuts at random, again and again, in pieces of a few bytes, and with
partitions in which nobody listens.

``python tests/faults/network.py --every 1 --seed 7`` prints the table.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line
from faults.proxy import Plan, Proxy

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.ir import Metric
from xtrack_protocol.net.endpoint import parse_endpoint
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.settings import load_settings
from xtrack_protocol.storage import SQLiteStore
from xtrack_protocol.transport.remote import TcpTransport

QUIET = load_settings({"XTRACK_QUIET": "1"})


@dataclass
class Figures:
    """What became of one kind of trial."""

    name: str
    runs: int = 0
    events: int = 0
    connections: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Seconds between a cut and the next connection."""
    problems: list[str] = field(default_factory=list)


class Bench:
    """A server with its store, and a proxy before it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.store = SQLiteStore(folder / "store.db")
        self.server = CollectorServer(self.store, tcp=("127.0.0.1", 0))
        self.thread = self.server.run_in_thread()
        self.thread.start()
        address = self.server.addresses[0]
        assert isinstance(address, tuple)
        self.proxy = Proxy(("127.0.0.1", address[1]))
        self.endpoint = parse_endpoint(f"tcp://127.0.0.1:{self.proxy.port}", QUIET)

    def close(self) -> None:
        """Stop all of it."""
        self.proxy.close()
        self.thread.stop()
        self.store.close()

    def run(self, figures: Figures, run_id: str, events: int, plans: list[Plan], *, pause: float = 0.0) -> None:
        """Log one run, and see that it came."""
        began = time.monotonic()
        first_link = len(self.proxy.links)
        duplicates = self.server.counters.duplicates
        self.proxy.plans.extend(plans)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            run = Tracker.start_run(
                run_id=run_id, transport=TcpTransport(self.endpoint, self.root), settings=QUIET, strict=True
            )
            for step in range(events):
                run.log_metric("loss", 1 / (step + 1), step=step)
                if pause:
                    time.sleep(pause)
            run.end()
        self.proxy.plans.clear()
        delivery = run.stats().delivery
        figures.runs += 1
        figures.seconds += time.monotonic() - began
        figures.connections += len(self.proxy.links) - first_link
        links = self.proxy.links[first_link:]
        figures.waits += [later.opened_at - one.opened_at for one, later in pairwise(links)]
        figures.duplicates += self.server.counters.duplicates - duplicates
        logged = run.events_logged
        if delivery is None or delivery.acked != logged or delivery.waiting:
            figures.problems.append(f"{run_id}: {logged} logged; {delivery}; {said.getvalue()[-300:]}")
        stored = list(self.store.events(run_id)) if delivery and delivery.acked else []
        seqs = [event.envelope.meta.seq for event in stored]
        steps = [event.envelope.payload.step for event in stored if isinstance(event.envelope.payload, Metric)]
        figures.events += len(stored)
        if seqs != list(range(1, logged + 1)) or steps != list(range(events)):
            figures.problems.append(f"{run_id}: {plans[:1]}: not each event once and in order: {seqs[:30]}")
        if self.store.conflicts(run_id):
            figures.problems.append(f"{run_id}: conflicts")


def cuts_at_every_byte(
    bench: Bench, every: int, rng: random.Random, job: int, jobs: int, events: int = 6
) -> list[Figures]:
    """Cut the first connection after each number of bytes, in both directions and in each way."""
    whole = Figures("uncut")
    bench.run(whole, "uncut", events, [])
    up, down = (bench.proxy.links[-1].passed[one] for one in (True, False))
    found = [whole]
    for end in ("rst", "fin", "silence"):
        for upwards, size in ((True, up), (False, down)):
            way = "up" if upwards else "down"
            figures = Figures(f"{end} after N of {size} bytes {way}")
            places = list(range(size))
            if every > 1:
                places = sorted(rng.sample(places, max(1, size // every)))
            for place in places[job::jobs]:
                plan = Plan(**{way: place}, end=end, silent_seconds=0.05)  # type: ignore[arg-type]
                bench.run(figures, f"{end}-{way}-{place}", events, [plan])
            found.append(figures)
    return found


def cuts_again_and_again(bench: Bench, runs: int, rng: random.Random) -> Figures:
    """Cut each of a run's first connections at random: some in hello, some long after."""
    figures = Figures("cut 10 times at random")
    for number in range(runs):
        plans = [
            Plan(
                up=rng.randrange(1, 20_000) if rng.random() < 0.6 else None,
                down=rng.randrange(1, 3_000) if rng.random() < 0.6 else None,
                end=rng.choice(("rst", "fin", "silence")),
                silent_seconds=0.1,
            )
            for _ in range(10)
        ]
        bench.run(figures, f"again-{number}", 600, plans, pause=0.0005)
    return figures


def dribbles(bench: Bench, runs: int, rng: random.Random) -> Figures:
    """Everything comes in pieces of a few bytes."""
    figures = Figures("pieces of 1 to 40 bytes")
    for number in range(runs):
        bench.run(figures, f"dribble-{number}", 30, [Plan(piece=rng.randrange(1, 41), pause=0.0002)])
    return figures


def partitions(bench: Bench, runs: int, rng: random.Random) -> Figures:
    """Nobody can connect for a while, again and again, and what is connected is cut."""
    figures = Figures("partitions")
    for number in range(runs):
        stop = threading.Event()

        def split(stop: threading.Event = stop, seed: int = rng.randrange(2**32)) -> None:
            own = random.Random(seed)
            while not stop.wait(own.random() * 0.4):
                bench.proxy.refusing = True
                bench.proxy.cut_all()
                stop.wait(own.random() * 0.4)
                bench.proxy.refusing = False
            bench.proxy.refusing = False

        splitter = threading.Thread(target=split)
        splitter.start()
        timer = threading.Timer(4.0, stop.set)
        timer.start()
        try:
            bench.run(figures, f"partition-{number}", 2000, [], pause=0.001)
        finally:
            stop.set()
            timer.cancel()
            splitter.join()
    return figures


def _share(every: int, seed: int, job: int, jobs: int) -> list[Figures]:
    folder = Path(tempfile.mkdtemp(prefix="xtrack-network-"))
    bench = Bench(folder)
    try:
        found = cuts_at_every_byte(bench, every, random.Random(seed), job, jobs)
        own, runs = random.Random(f"{seed} {job}"), max(1, 100 // every // jobs)
        found.append(cuts_again_and_again(bench, runs, own))
        found.append(dribbles(bench, runs, own))
        found.append(partitions(bench, max(1, runs // 5), own))
        found[0].problems += bench.store.check()
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    return found


def run_trials(every: int, seed: int, jobs: int = 8) -> list[Figures]:
    """Do all of it; ``every``: cut at one byte in so many. Most of it is waiting, so ``jobs`` may be many."""
    with ProcessPoolExecutor(jobs) as pool:
        shares = list(pool.map(_share, *zip(*[(every, seed, job, jobs) for job in range(jobs)], strict=True)))
    found = shares[0]
    for share in shares[1:]:
        for one, other in zip(found, share, strict=True):
            for name in ("runs", "events", "connections", "duplicates", "seconds", "waits", "problems"):
                setattr(one, name, getattr(one, name) + getattr(other, name))
    return found


def table(found: list[Figures]) -> str:
    """Return the figures as text."""
    lines = [f"{'':>32} {'runs':>6} {'events':>8} {'connections':>11} {'sent twice':>10} {'seconds':>8} {'unsound':>8}"]
    for one in found:
        lines.append(
            f"{one.name:>32} {one.runs:>6} {one.events:>8} {one.connections:>11} {one.duplicates:>10}"
            f" {one.seconds:>8.1f} {len(one.problems):>8}"
        )
    waits = sorted(wait for one in found for wait in one.waits)
    if len(waits) > 1:
        middle, late = statistics.median(waits), waits[len(waits) * 99 // 100]
        lines.append(
            f"\n{len(waits)} reconnections, seconds from one connection to the next:"
            f" median {middle:.3f}, 1 in 100 above {late:.3f}"
        )
    lines += [f"UNSOUND: {one.name}: {problem}" for one in found for problem in one.problems]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__, jobs=8)
    parser.add_argument("--every", type=int, default=1, help="1: cut at every byte; N: at one in N")
    options = parser.parse_args()
    found = run_trials(options.every, options.seed, options.jobs)
    print(f"one byte in {options.every}, seed {options.seed}\n")
    print(table(found))
    return 1 if any(one.problems for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
