"""kill -9 of the worker, of the launcher, or of both, while a worker logs as fast as it can.

The worker logs on the default transport under a RunManager, and after each call that has returned it tells so over a
pipe of its own. A victim is killed when the count it has told reaches a number drawn uniformly from all of its events,
plus a few random microseconds. Afterwards everything is read back: every call that returned is there exactly once, in
order, and at most the one under way besides. ``python tests/faults/kill9.py --kills 200 --seed 7`` prints the table;
the seed gives the same victims and the same instants, as closely as the machine allows.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
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

from xtrack_protocol.collector.localruns import local_streams
from xtrack_protocol.ir import LogEntry, Metric, MetricBatch, Param
from xtrack_protocol.spool import SpoolDir, read_segment
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.wire import Record

EVENTS = 12_000
"""Calls that a worker makes."""
INSTANTS = 11_000
"""Victims are killed at up to this many: the last thousand are for the moment it takes to kill."""
VICTIMS = ("worker", "launcher", "both")
RUN_ID = "kill9"

WORKER = """
import os, sys
from xtrack_protocol import start_run
told = os.open(sys.argv[1], os.O_WRONLY)
with start_run() as run:
    os.write(told, str(os.getpid()).encode().ljust(8))
    for call in range(int(sys.argv[2])):
        kind = call % 8
        if kind == 5:
            run.log_metrics({"a": call, "b": 1 / (call + 1)}, step=call)
        elif kind == 6:
            run.log_param(f"p{call}", call)
        elif kind == 7:
            run.log("x" * (call % 500), step=call)
        else:
            run.log_metric("loss", 1 / (call + 1), step=call)
        os.write(told, b".")
"""

LAUNCHER = """
import sys
from xtrack_protocol.collector import RunManager
run = RunManager(root=sys.argv[1]).start_run(
    sys.executable, ["-c", sys.argv[2], sys.argv[3], sys.argv[4]], run_id=sys.argv[5]
)
run.wait()
"""


@dataclass
class Trial:
    """What one kill did."""

    victim: str
    planned: int
    told_at_kill: int = 0
    told: int = 0
    found: int = 0
    lost: int = 0
    twice: int = 0
    disordered: int = 0
    beyond: int = 0
    status: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def moment(self) -> int:
        """How many calls had returned when the kill struck: for a worker's own death, exactly what it has told."""
        return self.told_at_kill if self.victim == "launcher" else self.told


def run_trial(victim: str, planned: int, jitter: float) -> Trial:
    """Start, kill, read back."""
    trial = Trial(victim, planned)
    folder = Path(tempfile.mkdtemp(prefix="xtrack-kill9-"))
    try:
        _kill(trial, folder, jitter)
        _read_back(trial, folder / "root")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return trial


def _kill(trial: Trial, folder: Path, jitter: float) -> None:
    pipe = folder / "told"
    os.mkfifo(pipe)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    arguments = [str(folder / "root"), WORKER, str(pipe), str(EVENTS), RUN_ID]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *arguments], env=environment | {"XTRACK_QUIET": "1"}, stdin=subprocess.DEVNULL
    )
    worker = 0
    try:
        with pipe.open("rb", buffering=0) as told:
            head = told.read(8) or b""
            worker = int(head)
            killed = False
            while True:
                if not killed and trial.told >= trial.planned:
                    _spin(jitter)
                    victims = {"worker": [worker], "launcher": [launcher.pid], "both": [launcher.pid, worker]}
                    for pid in victims[trial.victim]:
                        os.kill(pid, signal.SIGKILL)
                    killed = True
                    trial.told_at_kill = trial.told
                chunk = told.read(65536)
                if not chunk:
                    break
                trial.told += len(chunk)
    except ProcessLookupError:
        trial.told = EVENTS  # gone before the kill: it was through
    finally:
        if trial.victim == "worker":
            launcher.wait(60)  # it records what it saw
        launcher.kill()
        launcher.wait()
        if worker:
            _await_end(worker)


def _await_end(pid: int) -> None:
    """Wait for a process that isn't our child: its pipe is closed, but it may not have let go of its lock yet."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if stat.rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.005)


def _spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _call_of(payload: object) -> int | None:
    """Return which call of the worker an event is."""
    match payload:
        case Metric(step=step) | MetricBatch(step=step):
            return step
        case Param(value=int(call)):
            return call
        case LogEntry(step=step):
            return step
    return None


def _read_back(trial: Trial, root: Path) -> None:
    with LocalStore(root) as store:
        trial.status = store.get_run(RUN_ID).status
        stored = [event for event in store.events(RUN_ID) if event.stream.worker_id != "launcher"]
        problems = store.check()
    calls = [call for event in stored if (call := _call_of(event.envelope.payload)) is not None]
    seqs = [event.envelope.meta.seq for event in stored]
    trial.found = len(calls)
    trial.lost = len(set(range(trial.told)) - set(calls))
    trial.twice = len(calls) - len(set(calls))
    trial.disordered = sum(later <= earlier for earlier, later in pairwise(calls))
    trial.beyond = len(set(calls) - set(range(trial.told)))
    if seqs != list(range(1, len(seqs) + 1)):
        trial.problems.append("the seqs have gaps")
    # The store leaves out what comes twice, so the spool itself is counted too.
    run_dir = SpoolDir(root).run_dir(RUN_ID)
    records = [
        item.seq
        for local in local_streams(run_dir)
        if local.stream.worker_id != "launcher"
        for segment in local.segments
        for item, _ in read_segment(segment, finished=True)
        if isinstance(item, Record)
    ]
    if records != seqs:
        trial.problems.append(f"the spool has {len(records)} records, the store {len(seqs)} events")
    trial.problems += [problem for problem in problems if "torn" not in problem.lower()]
    expected = {"worker": {"killed"}, "launcher": {"completed"}, "both": {"running"}}[trial.victim]
    if trial.moment >= EVENTS:
        expected.add("completed")  # the machine was busy: the worker was through before the kill struck
    if not trial.problems and trial.status not in expected:
        trial.problems.append(f"status {trial.status}")


def is_sound(trial: Trial) -> bool:
    """Whether nothing was lost, doubled, disordered or untrue. One call may have been under way."""
    return not (trial.lost or trial.twice or trial.disordered or trial.problems) and trial.beyond <= 1


def run_trials(kills: int, seed: int, jobs: int = 2) -> list[Trial]:
    """Do ``kills`` trials, the victims in turn, the instants uniform."""
    rng = random.Random(seed)
    plans = [(VICTIMS[n % len(VICTIMS)], rng.randrange(INSTANTS), rng.random() * 50e-6) for n in range(kills)]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda plan: run_trial(*plan), plans))


def table(trials: list[Trial], seed: int) -> str:
    """Return the figures as text."""
    width = EVENTS // 12
    lines = [f"{len(trials)} kills, seed {seed}, {EVENTS} calls a worker", ""]
    lines.append(f"{'killed at call':>16} {'kills':>6}  " + " ".join(f"{victim:>9}" for victim in VICTIMS))
    for first in range(0, EVENTS, width):
        here = [trial for trial in trials if first <= trial.moment < first + width]
        by = Counter(trial.victim for trial in here)
        counts = " ".join(f"{by[victim]:>9}" for victim in VICTIMS)
        lines.append(f"{first:>7} - {first + width - 1:<6} {len(here):>6}  {counts}")
    late = sum(trial.moment >= EVENTS for trial in trials)
    lines += [f"{'after the last':>16} {late:>6}", ""]
    for name in ("told", "found", "beyond", "lost", "twice", "disordered"):
        lines.append(f"{name:>12} {sum(getattr(trial, name) for trial in trials):>10}")
    statuses = Counter((trial.victim, trial.status) for trial in trials)
    lines += [
        "",
        *(f"{victim:>12} killed: run {status} {count}x" for (victim, status), count in sorted(statuses.items())),
    ]
    for trial in trials:
        if not is_sound(trial):
            lines.append(f"UNSOUND: {trial}")
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args()
    trials = run_trials(options.kills, options.seed, options.jobs)
    print(table(trials, options.seed))
    return 0 if all(map(is_sound, trials)) else 1


if __name__ == "__main__":
    sys.exit(main())
