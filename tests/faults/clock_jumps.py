"""Clocks that jump by up to 400 days, again and again, in the worker, in its collector and in who reads.

The wall clock of each process is replaced by one that jumps now and then to anywhere within 400 days of the truth.
A run is logged, resumed by a second process, and read while it lives and afterwards: its events must stand in the
order in which they were logged, its series in the order of steps, the last value of a param must win, a live run must
be running and an ended one completed, whatever the reader's clock says; and a connection must not notice.

``python tests/faults/clock_jumps.py --runs 20 --seed 7`` prints the table.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line

from xtrack_protocol.ir import Metric
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.storage import SQLiteStore, Storage
from xtrack_protocol.storage.local import LocalStore

DAYS = 400
STEPS = 150
_DAY_NS = 86_400 * 10**9

WORKER = """
import random, sys, time
true_ns, rng, ahead = time.time_ns, random.Random(sys.argv[1]), [0]
def jumping_ns():
    if rng.random() < 0.05:
        ahead[0] = rng.randrange(-400, 401) * 86_400 * 10**9
    return true_ns() + ahead[0]
time.time_ns, time.time = jumping_ns, lambda: jumping_ns() / 1e9
from xtrack_protocol import start_run
run = start_run(resume=sys.argv[2] != "0" or None)
for step in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
    run.log_metric("loss", 1 / (step + 1), step=step)
    if step % 10 == 0:
        run.log_param("stage", step)
run.flush("acked" if len(sys.argv) > 4 else "durable", 30)
print("logged", flush=True)
sys.stdin.readline()
run.end()
"""


@dataclass
class Outcome:
    """What one run showed."""

    transport: str
    seed: str
    events: int = 0
    connections: int = 0
    problems: list[str] = field(default_factory=list)


class JumpingClock:
    """Microseconds since the epoch, by a clock that jumps."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)
        self._ahead = 0
        self._true_ns = time.time_ns

    def time_ns(self) -> int:
        """Return nanoseconds."""
        if self._rng.random() < 0.05:
            self._ahead = self._rng.randrange(-DAYS, DAYS + 1) * _DAY_NS
        return self._true_ns() + self._ahead

    def __call__(self) -> int:
        return self.time_ns() // 1000


def run_trial(transport: str, seed: str) -> Outcome:
    """Log, resume, read."""
    outcome = Outcome(transport, seed)
    folder = Path(tempfile.mkdtemp(prefix="xtrack-clock-"))
    try:
        if transport == "local":
            _two_sessions(outcome, folder, lambda: LocalStore(folder / "root"), "local")
        else:
            with SQLiteStore(folder / "store.db") as store:
                server = CollectorServer(store, tcp=("127.0.0.1", 0), clock=JumpingClock(f"{seed} server"))
                with server.run_in_thread():
                    host, port = server.addresses[0]  # type: ignore[misc]
                    _two_sessions(outcome, folder, lambda: SQLiteStore(folder / "store.db"), f"tcp://{host}:{port}")
                    outcome.connections = server.counters.accepted
                if outcome.connections != 2:
                    outcome.problems.append(f"{outcome.connections} connections of two sessions")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _two_sessions(outcome: Outcome, folder: Path, open_it: Callable[[], Storage], transport: str) -> None:
    for number, first in enumerate((0, STEPS)):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
        environment |= {
            "XTRACK_DIR": str(folder / "root"),
            "XTRACK_QUIET": "1",
            "XTRACK_TRANSPORT": transport,
            "XTRACK_RESUME_RUN_ID" if number else "XTRACK_RUN_ID": "r",
        }
        extra = [] if transport == "local" else ["acked"]
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, f"{outcome.seed} {number}", str(first), str(STEPS), *extra],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert worker.stdout is not None
        said = worker.stdout.readline()
        if said == "logged\n":
            _read(outcome, open_it, first + STEPS, "running")
        _, stderr = worker.communicate("\n", timeout=90)
        if worker.returncode or said != "logged\n":
            outcome.problems.append(f"the worker ended with {worker.returncode}: {stderr[-500:]}")
            return
        _read(outcome, open_it, first + STEPS, "completed")


def _read(outcome: Outcome, open_it: Callable[[], Storage], steps: int, status: str) -> None:
    """Read with clocks that are right, wrong by 400 days, and jumping."""
    true_ns = time.time_ns
    clocks = {
        "right": true_ns,
        "400 days behind": lambda: true_ns() - DAYS * _DAY_NS,
        "400 days ahead": lambda: true_ns() + DAYS * _DAY_NS,
        "jumping": JumpingClock(f"{outcome.seed} {steps}").time_ns,
    }
    for name, clock in clocks.items():
        in_seconds = mock.patch("time.time", lambda clock=clock: clock() / 1e9)
        with mock.patch("time.time_ns", clock), in_seconds, open_it() as store:
            problems = _look(store, steps, status)
        outcome.problems += [f"{problem} ({status}, the reader's clock {name})" for problem in problems]
    outcome.events = max(outcome.events, steps)


def _look(store: Storage, steps: int, status: str) -> list[str]:
    problems = store.check()
    run = store.get_run("r")
    if run.status != status:
        problems.append(f"the run is {run.status}")
    points = store.get_metrics("r", "loss")
    if [point.step for point in points] != list(range(steps)):
        problems.append(f"the series: {[point.step for point in points][:20]}")
    if run.params.get("stage") != (steps - 1) // 10 * 10:
        problems.append(f"the param's last value is {run.params.get('stage')}, not {(steps - 1) // 10 * 10}")
    if run.metrics["loss"].last.step != steps - 1:
        problems.append(f"the last point is that of step {run.metrics['loss'].last.step}")
    by_stream: dict[object, list[int]] = {}
    for event in store.events("r"):
        by_stream.setdefault(event.stream, []).append(event.envelope.meta.seq)
        assert not isinstance(event.envelope.payload, Metric) or event.envelope.payload.step is not None
    for stream, seqs in by_stream.items():
        if seqs != list(range(1, len(seqs) + 1)):
            problems.append(f"{stream}: {seqs[:20]}")
    return problems


def run_trials(runs: int, seed: int) -> list[Outcome]:
    """Do ``runs`` runs, half of them over tcp."""
    return [run_trial(("local", "tcp")[number % 2], f"{seed} {number}") for number in range(runs)]


def table(outcomes: list[Outcome]) -> str:
    """Return the figures as text."""
    lines = [f"{'transport':>10} {'runs':>5} {'sessions':>9} {'steps':>7} {'unsound':>8}"]
    for transport in dict.fromkeys(outcome.transport for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.transport == transport]
        bad = sum(bool(outcome.problems) for outcome in mine)
        steps = sum(outcome.events for outcome in mine)
        lines.append(f"{transport:>10} {len(mine):>5} {2 * len(mine):>9} {steps:>7} {bad:>8}")
    lines += [f"UNSOUND: {outcome.seed}: {problem}" for outcome in outcomes for problem in outcome.problems]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__, jobs=None)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    outcomes = run_trials(options.runs, options.seed)
    print(f"clocks that jump by up to {DAYS} days, seed {options.seed}\n")
    print(table(outcomes))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
