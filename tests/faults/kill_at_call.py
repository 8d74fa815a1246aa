"""kill -9 at every single call by which a worker or a collector changes a disk, and reading back each time.

One run is traced to see which calls there are. Then, for each of them, a process like it is killed as it enters that
call: each write, fsync, truncation, creation, rename and removal, and each word that tells us that a call has returned.
What was told must be there, once and in order; at most the one call under way may be there besides; the store
opens, says it is sound, and takes more.

``python tests/faults/kill_at_call.py --every 1 --seed 7`` prints the table.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line
from faults.straced import CHANGING, Traced, can_trace, points, run_traced

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.ir import Metric
from xtrack_protocol.settings import load_settings
from xtrack_protocol.storage import SQLiteStore, Storage
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.testing import Worker
from xtrack_protocol.transport import LocalTransport

EVENTS = 24
"""That a collector appends, in batches of BATCH."""
BATCH = 4

WORKER = """
import os
from xtrack_protocol import start_run
import xtrack_protocol.transport.local
told = int(os.environ["TOLD_FD"])
os.write(told, b"begin\\n")
with start_run(run_id="r") as run:
    os.write(told, b"%d\\n" % run.events_logged)
    for step in range(10):
        run.log_metric("loss", step, step=step)
        os.write(told, b"%d\\n" % run.events_logged)
        if step == 4:
            run.log_checkpoint("x.pt", step)
            os.write(told, b"%d\\n" % run.events_logged)
        if step == 7:
            run.flush("durable")
run = None
os.write(told, b"end\\n")
"""

LONG_WORKER = """
import os
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter
from xtrack_protocol.testing import Worker
from pathlib import Path
told = int(os.environ["TOLD_FD"])
root = Path(os.environ["XTRACK_DIR"])
worker = Worker("r")
events = [worker.start()] + [worker.metric("loss", step, step) for step in range(30)]
os.write(told, b"begin\\n")
writer = StreamWriter(root / "spool" / "r", worker.stream, segment_max=9_000)
for event in events:
    writer.append(event.envelope.meta.seq, event.raw)
    os.write(told, b"%d\\n" % event.envelope.meta.seq)
    if event.envelope.meta.seq % 10 == 0:
        writer.sync()
writer.close()
os.write(told, b"end\\n")
"""

COLLECTOR = """
import os, sys
from xtrack_protocol.storage import open_store
from xtrack_protocol.testing import Worker
told = int(os.environ["TOLD_FD"])
worker = Worker("r")
events = [worker.start()] + [worker.metric("loss", step, step) for step in range(int(sys.argv[2]) - 1)]
os.write(told, b"begin\\n")
store = open_store(sys.argv[1])
for first in range(0, len(events), int(sys.argv[3])):
    store.append(events[first : first + int(sys.argv[3])])
    os.write(told, b"%d\\n" % (first + int(sys.argv[3])))
store.close()
os.write(told, b"end\\n")
"""


@dataclass
class Trial:
    """What one kill did."""

    subject: str
    call: str
    number: int
    killed: bool = False
    told: int = 0
    found: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """Who is killed."""

    name: str
    script: str
    url: str = ""

    def run(self, folder: Path, **options: tuple[str, ...]) -> Traced:
        """Run it in ``folder``."""
        arguments = [self.url.format(folder=folder), str(EVENTS), str(BATCH)] if self.url else []
        return run_traced(self.script, *arguments, environment={"XTRACK_DIR": str(folder / "root")}, **options)


SUBJECTS = (
    Subject("worker", WORKER),
    Subject("worker, many segments", LONG_WORKER),
    Subject("SQLite collector", COLLECTOR, "sqlite:///{folder}/store.db"),
    Subject("local collector", COLLECTOR, "local:{folder}/root"),
)


def run_trial(subject: Subject, call: str, number: int) -> Trial:
    """Kill at one call, and read back."""
    trial = Trial(subject.name, call, number)
    folder = Path(tempfile.mkdtemp(prefix="xtrack-kill-"))
    try:
        traced = subject.run(folder, inject=(f"{call}:signal=KILL:when={number}",))
        trial.killed = traced.killed
        if not traced.killed and "end" not in traced.told:
            trial.problems.append(f"it ended by itself with {traced.returncode}: {traced.stderr[-300:]}")
        trial.told = max((int(line) for line in traced.told if line.isdigit()), default=0)
        check = _check_collector if subject.url else _check_worker
        check(trial, subject, folder)
    except Exception as error:
        trial.problems.append(f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return trial


def _check_worker(trial: Trial, subject: Subject, folder: Path) -> None:
    root = folder / "root"
    with LocalStore(root) as store:
        if not store.list_runs():
            if trial.told:
                trial.problems.append(f"{trial.told} lost: there is no run")
            return
        _check_events(trial, store, beyond=2)  # start_run logs two events
        trial.problems += [problem for problem in store.check() if "torn" not in problem]
    with Tracker.start_run(
        run_id="r", resume=True, transport=LocalTransport(root), settings=load_settings({"XTRACK_QUIET": "1"})
    ) as run:
        run.log_metric("after", 1.0, step=0)
    with LocalStore(root) as store:
        if len(store.get_metrics("r", "after")) != 1 or store.get_run("r").status != "completed":
            trial.problems.append("the run can't be gone on with")
        if store.check():
            trial.problems.append("not sound after it was gone on with")


def _check_collector(trial: Trial, subject: Subject, folder: Path) -> None:
    from xtrack_protocol.storage import open_store

    worker = Worker("r")
    events = [worker.start()] + [worker.metric("loss", step, step) for step in range(EVENTS - 1)]
    with open_store(subject.url.format(folder=folder)) as store:
        if store.list_runs():
            _check_events(trial, store, beyond=BATCH)
            if isinstance(store, SQLiteStore) and trial.found % BATCH:
                trial.problems.append("half a batch")
        elif trial.told:
            trial.problems.append(f"{trial.told} lost: there is no run")
        result = store.append(events)  # what a worker does that got no ack
        if result.duplicates != trial.found or len(result.stored) != EVENTS - trial.found or result.conflicts:
            trial.problems.append(f"sent again: {result}")
        if [event.raw for event in store.events("r")] != [event.raw for event in events]:
            trial.problems.append("sent again, the events aren't what was sent")
        trial.problems += store.check()


def _check_events(trial: Trial, store: Storage, beyond: int) -> None:
    events = list(store.events("r"))
    seqs = [event.envelope.meta.seq for event in events]
    trial.found = len(seqs)
    if seqs != list(range(1, len(seqs) + 1)):
        trial.problems.append(f"not each once and in order: {seqs}")
    if not trial.told <= len(seqs) <= trial.told + beyond:
        trial.problems.append(f"{trial.told} told, {len(seqs)} found")
    steps = [event.envelope.payload.step for event in events if isinstance(event.envelope.payload, Metric)]
    if steps != list(range(len(steps))):
        trial.problems.append(f"steps {steps}")


def find_points(subject: Subject) -> list[tuple[str, int]]:
    """Return the calls of a whole run."""
    folder = Path(tempfile.mkdtemp(prefix="xtrack-kill-"))
    try:
        traced = subject.run(folder, trace=CHANGING)
        assert traced.returncode == 0, traced.stderr
        return points(traced.calls, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_trials(every: int, seed: int, jobs: int = 2, subjects: tuple[Subject, ...] = SUBJECTS) -> list[Trial]:
    """Kill at every call, or at a random choice of one in ``every``."""
    rng = random.Random(seed)
    plans = []
    for subject in subjects:
        found = find_points(subject)
        chosen = found if every == 1 else rng.sample(found, max(1, len(found) // every))
        plans += [(subject, call, number) for call, number in chosen]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda plan: run_trial(*plan), plans))


def table(trials: list[Trial]) -> str:
    """Return the figures as text."""
    lines = []
    for subject in dict.fromkeys(trial.subject for trial in trials):
        mine = [trial for trial in trials if trial.subject == subject]
        calls = Counter(trial.call for trial in mine if trial.killed)
        lines.append(f"{subject}: {sum(calls.values())} kills, {sum(not trial.killed for trial in mine)} survived")
        lines.append("    " + ", ".join(f"{call} {count}" for call, count in calls.most_common()))
        told, found = sum(trial.told for trial in mine), sum(trial.found for trial in mine)
        bad = [trial for trial in mine if trial.problems]
        lines.append(f"    {told} told, {found} found, {len(bad)} unsound")
        lines += [f"UNSOUND: {trial}" for trial in bad]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--every", type=int, default=1, help="1: kill at every call; N: at one in N")
    options = parser.parse_args()
    if not can_trace():
        print("strace isn't installed, or may not trace here")
        return 2
    trials = run_trials(options.every, options.seed, options.jobs)
    print(f"one call in {options.every}, seed {options.seed}\n")
    print(table(trials))
    return 1 if any(trial.problems for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
