"""kill -9 of workers and of their collector, while they talk over TCP, and everything that was promised is there.

A collector (``xtrack serve`` with a SQLite store) serves one worker after the other, each of which logs over tcp, and
waits a moment for acks now and then. The collector is killed when the worker has told that a number of its calls have
returned, drawn uniformly from all of them, and started again; the worker is killed at another such moment. Whenever the
collector has died, its store must hold every event that the worker knew to be acked. In the end ``xtrack sync`` ships
what is left in the spools, twice, and then the store must hold, of every worker, each call that returned, once and in
order, and at most the one under way besides.

``python tests/faults/kill9_network.py --kills 2000 --seed 7`` prints the table; half the kills are of collectors.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line

from xtrack_protocol.ir import Metric
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import open_store

EVENTS = 12_000
INSTANTS = 11_000
WORKERS = 10
"""Of one campaign: a store, a collector and its workers, each of which means two kills."""

WORKER = """
import os, struct
from xtrack_protocol import start_run
calls, acks, count = int(os.environ["CALLS_FD"]), int(os.environ["ACKS_FD"]), int(os.environ["COUNT"])
run = start_run()
os.write(acks, struct.pack("<Q", os.getpid()))
session = run.session_id.encode()
os.write(acks, session)
for call in range(count):
    run.log_metric("loss", 1 / (call + 1), step=call)
    os.write(calls, b".")
    if call % 400 == 399:
        run.flush("acked", 0.5)  # or it would be through before the collector has begun
    if call % 50 == 49:
        os.write(acks, struct.pack("<Q", run.stats().delivery.acked))
run.end()
"""


@dataclass
class Trial:
    """One worker: what was killed when, and what was found."""

    run_id: str
    worker_at: int
    collector_at: int
    told: int = 0
    told_at_collector: int = 0
    acked: int = 0
    found: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    beyond: int = 0
    problems: list[str] = field(default_factory=list)


def free_port() -> int:
    """Return a port that nobody uses, nor is given to somebody who connects while the collector is down."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Collector:
    """A process of ``xtrack serve`` that comes back on the same port."""

    def __init__(self, folder: Path, store: str) -> None:
        self.url = store.format(folder=folder)
        self._log = (folder / "serve.log").open("ab")
        self.port = free_port()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = ["serve", "--tcp", f"127.0.0.1:{self.port}", "--store", self.url]
        return subprocess.Popen(
            [sys.executable, "-m", "xtrack_protocol.cli", *command],
            stdout=self._log,
            stderr=self._log,
            env=_environment(),
        )

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again."""
        assert self.process.returncode is not None
        self.process = self._start()

    def wait(self) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError(f"the collector doesn't listen: {_tail(Path(self._log.name))}")

    def stop(self) -> int:
        """Stop it as one should; return how it ended."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._log.close()


def _environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    return {**kept, "XTRACK_QUIET": "1", **changes}


def run_campaign(number: int, seed: int, workers: int, store: str) -> list[Trial]:
    """Kill a collector and its workers, one after the other, and read back."""
    rng = random.Random(f"{seed} {number}")
    folder = Path(tempfile.mkdtemp(prefix="xtrack-killnet-"))
    trials = [Trial(f"r{number}-{n}", rng.randrange(INSTANTS), rng.randrange(INSTANTS)) for n in range(workers)]
    try:
        collector = Collector(folder, store)
        try:
            for trial in trials:
                if rng.random() < 0.7:
                    collector.wait()
                _run_worker(trial, collector, folder / "root", rng)
            collector.wait()
            for _ in range(2):  # the second time there is nothing to do, and no harm done
                _sync(trials[-1], collector, folder / "root")
        finally:
            code = collector.stop()
        if code:
            trials[-1].problems.append(f"xtrack serve ended with {code}: {_tail(folder / 'serve.log')}")
        _read_back(trials, collector.url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return trials


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1500:]


def _run_worker(trial: Trial, collector: Collector, root: Path, rng: random.Random) -> None:
    calls, acks = os.pipe(), os.pipe()
    environment = _environment(
        XTRACK_DIR=str(root),
        XTRACK_RUN_ID=trial.run_id,
        XTRACK_TRANSPORT=f"tcp://127.0.0.1:{collector.port}",
        CALLS_FD=str(calls[1]),
        ACKS_FD=str(acks[1]),
        COUNT=str(EVENTS),
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], env=environment, pass_fds=[calls[1], acks[1]], stderr=subprocess.PIPE
    )
    os.close(calls[1])
    os.close(acks[1])
    told_acks = bytearray()
    moments = sorted([(trial.worker_at, "worker"), (trial.collector_at, "collector")])
    try:
        while True:
            while moments and trial.told >= moments[0][0]:
                _spin(rng.random() * 50e-6)
                if moments.pop(0)[1] == "worker":
                    worker.kill()
                else:
                    trial.told_at_collector = trial.told
                    _kill_collector(trial, collector, acks[0], told_acks)
            readable = select.select([calls[0], acks[0]], [], [], 60)[0]
            if not readable:
                trial.problems.append("nothing was told for a minute: the training stands still")
                break
            if acks[0] in readable:
                told_acks += os.read(acks[0], 65536)
            if calls[0] in readable:
                chunk = os.read(calls[0], 1 if moments and trial.told + 64 > moments[0][0] else 64)
                if not chunk:
                    break
                trial.told += len(chunk)
    finally:
        worker.kill()
        stderr = worker.communicate()[1]
        os.close(calls[0])
        os.close(acks[0])
    if b"Traceback" in stderr:
        trial.problems.append(stderr.decode()[-800:])
    if any(moment == "collector" for _, moment in moments):  # the worker went first
        trial.told_at_collector = trial.told
        collector.kill()
        _check_acked(trial, collector, told_acks)
        collector.restart()


def _kill_collector(trial: Trial, collector: Collector, acks: int, told_acks: bytearray) -> None:
    collector.kill()
    time.sleep(0.02)  # what it sent before its death may still be on its way to the worker, and then to us
    while select.select([acks], [], [], 0)[0]:
        chunk = os.read(acks, 65536)
        if not chunk:
            break
        told_acks += chunk
    _check_acked(trial, collector, told_acks)
    collector.restart()


def _check_acked(trial: Trial, collector: Collector, told_acks: bytearray) -> None:
    """What the worker knows to be acked must be in the store that its collector left behind."""
    numbers = memoryview(bytes(told_acks[40 : len(told_acks) // 8 * 8])).cast("Q")
    trial.acked = max(numbers, default=0)
    session = bytes(told_acks[8:40]).decode()
    with open_store(collector.url) as store:
        kept = store.cursor(StreamId(trial.run_id, "", session)).contiguous_to
        problems = store.check()
    if kept < trial.acked:
        trial.problems.append(f"{trial.acked} acked, {kept} in the store")
    trial.problems += problems


def _sync(trial: Trial, collector: Collector, root: Path) -> None:
    command = ["sync", str(root), "--to", f"tcp://127.0.0.1:{collector.port}"]
    done = subprocess.run(
        [sys.executable, "-m", "xtrack_protocol.cli", *command],
        capture_output=True,
        text=True,
        timeout=120,
        env=_environment(),
        check=False,
    )
    if done.returncode:
        trial.problems.append(f"xtrack sync ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")


def _spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _read_back(trials: list[Trial], url: str) -> None:
    with open_store(url) as store:
        trials[-1].problems += store.check()
        known = {run.run_id for run in store.list_runs()}
        for trial in trials:
            events = list(store.events(trial.run_id)) if trial.run_id in known else []
            payloads = [event.envelope.payload for event in events]
            calls = [payload.step or 0 for payload in payloads if isinstance(payload, Metric)]
            seqs = [event.envelope.meta.seq for event in events]
            trial.found = len(calls)
            trial.lost = len(set(range(trial.told)) - set(calls))
            trial.twice = len(calls) - len(set(calls))
            trial.disordered = sum(later <= earlier for earlier, later in pairwise(calls))
            trial.beyond = len(set(calls) - set(range(trial.told)))
            if seqs != list(range(1, len(seqs) + 1)):
                trial.problems.append("the seqs have gaps")
            if trial.run_id in known and store.conflicts(trial.run_id):
                trial.problems.append("conflicts")


def is_sound(trial: Trial) -> bool:
    """Whether nothing was lost, doubled, disordered or untrue. One call may have been under way."""
    return not (trial.lost or trial.twice or trial.disordered or trial.problems) and trial.beyond <= 1


def run_trials(kills: int, seed: int, jobs: int = 2, store: str = "sqlite:///{folder}/store.db") -> list[Trial]:
    """Kill ``kills`` times, half of them collectors."""
    workers = kills // 2
    sizes = [min(WORKERS, workers - first) for first in range(0, workers, WORKERS)]
    with ThreadPoolExecutor(jobs) as pool:
        campaigns = pool.map(lambda plan: run_campaign(plan[0], seed, plan[1], store), enumerate(sizes))
        return [trial for campaign in campaigns for trial in campaign]


def table(trials: list[Trial], seed: int) -> str:
    """Return the figures as text."""
    width = EVENTS // 12
    lines = [f"{2 * len(trials)} kills, seed {seed}, {EVENTS} calls a worker", ""]
    lines.append(f"{'killed at call':>16} {'workers':>8} {'collectors':>10}")
    by_worker = Counter(min(trial.told, EVENTS - 1) // width for trial in trials)
    by_collector = Counter(min(trial.told_at_collector, EVENTS - 1) // width for trial in trials)
    for place in range(12):
        first = place * width
        lines.append(f"{first:>7} - {first + width - 1:<6} {by_worker[place]:>8} {by_collector[place]:>10}")
    lines.append(
        f"\n{sum(trial.acked > 0 for trial in trials)} collectors had acked events of their worker when they died"
    )
    for name in ("told", "found", "acked", "beyond", "lost", "twice", "disordered"):
        lines.append(f"{name:>12} {sum(getattr(trial, name) for trial in trials):>10}")
    lines += [f"UNSOUND: {trial}" for trial in trials if not is_sound(trial)]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--store", default="sqlite:///{folder}/store.db", help="of the collector")
    options = parser.parse_args()
    trials = run_trials(options.kills, options.seed, options.jobs, options.store)
    print(table(trials, options.seed))
    return 0 if all(map(is_sound, trials)) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
