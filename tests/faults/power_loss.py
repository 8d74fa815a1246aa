"""The power goes at any moment, and the disk keeps what it was asked to keep and no more.

Each subject runs once under strace, which records what it asked of the disk, and what it told us was durable or acked.
From that record the disks are made on which its files may be found after a power loss at any moment (see
``disk_model``); each is opened with the readers of this package. All that was told must be there, nothing may be there
that was never written, and the store must open, be sound, and take more.

``python tests/faults/power_loss.py --states 2000 --seed 7`` prints the table.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line
from faults.disk_model import MODES, RECORDED, Disk, Mode, lay_out
from faults.straced import Call, can_trace, run_traced

from xtrack_protocol.storage import open_store
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.testing import Worker

WORKER = """
import os, sys
from xtrack_protocol import start_run
told = int(os.environ["TOLD_FD"])
os.write(told, b"begin\\n")
run = start_run(run_id="r")
for step in range(40):
    run.log_metric("loss", step, step=step)
    if step % 7 == 6:
        run.log("x" * 900, step=step)
    if step % 9 == 8:
        logged = run.events_logged
        if run.flush("durable"):
            os.write(told, b"%d\\n" % logged)
run.end()
os.write(told, b"%d\\n" % run.events_logged)
"""

SEGMENTS = """
import os, sys
from pathlib import Path
from xtrack_protocol.spool import StreamWriter
from xtrack_protocol.testing import Worker
told = int(os.environ["TOLD_FD"])
worker = Worker("r")
events = [worker.start()] + [worker.metric("loss", step, step) for step in range(60)]
os.write(told, b"begin\\n")
writer = StreamWriter(Path(os.environ["XTRACK_DIR"]) / "spool" / "r", worker.stream, segment_max=9_500)
for event in events:
    writer.append(event.envelope.meta.seq, event.raw)
    if event.envelope.meta.seq % 8 == 0:
        writer.sync()
        os.write(told, b"%d\\n" % event.envelope.meta.seq)
writer.close()
os.write(told, b"%d\\n" % len(events))
"""

COLLECTOR = """
import os, sys
from xtrack_protocol.storage import open_store
from xtrack_protocol.testing import Worker
told = int(os.environ["TOLD_FD"])
worker = Worker("r")
events = [worker.start()] + [worker.metric("loss", step, step) for step in range(59)]
os.write(told, b"begin\\n")
store = open_store(sys.argv[1])
for first in range(0, 60, 6):
    store.append(events[first : first + 6])
    os.write(told, b"%d\\n" % (first + 6))
    if first == 30:
        store.close()
        store = open_store(sys.argv[1])
store.close()
"""


@dataclass(frozen=True)
class Subject:
    """Whose disk it is. ``url``: of the store that a collector writes, and that is read; a worker's is its spool."""

    name: str
    script: str
    url: str = ""


SUBJECTS = (
    Subject("worker", WORKER),
    Subject("worker, many segments", SEGMENTS),
    Subject("SQLite collector", COLLECTOR, "sqlite:///{root}/store.db"),
    Subject("local collector", COLLECTOR, "local:{root}"),
)


@dataclass(frozen=True)
class Recording:
    """What a subject did, and the events that it wrote."""

    subject: Subject
    root: Path
    calls: list[Call]
    steps: list[int]
    """Places in ``calls`` of those that changed something."""
    events: dict[int, bytes]


@dataclass
class Outcome:
    """What was found on one disk."""

    subject: str
    mode: str
    after: int
    promised: int = 0
    found: int = 0
    damaged: int = 0
    problems: list[str] = field(default_factory=list)


@contextmanager
def _folder() -> Iterator[Path]:
    """Lend a folder in memory, where there is such a place: no disk is needed to read a disk that was made up."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="xtrack-power-", dir=memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def record(subject: Subject) -> Recording:
    """Run a subject once."""
    with _folder() as folder:
        root = folder / "root"
        root.mkdir()
        arguments = [subject.url.format(root=root)] if subject.url else []
        traced = run_traced(subject.script, *arguments, trace=RECORDED, environment={"XTRACK_DIR": str(root)})
        assert traced.returncode == 0, traced.stderr
        with open_store(subject.url.format(root=root) or f"local:{root}") as store:
            events = {event.envelope.meta.seq: event.raw for event in store.events("r")}
        disk = Disk(root)
        steps = [place for place, call in enumerate(traced.calls) if disk.do(call)]
        assert disk.told[-1] == str(max(events)), disk.told
        return Recording(subject, root, traced.calls, steps, events)


def check_state(recording: Recording, after: int, mode: Mode, seed: str) -> Outcome:
    """Make the disk as it may be ``after`` so many calls, and read it."""
    disk = Disk(recording.root)
    for call in recording.calls[: recording.steps[after - 1] + 1] if after else []:
        disk.do(call)
    promised = max((int(word) for word in disk.told if word.isdigit()), default=0)
    outcome = Outcome(recording.subject.name, mode, after, promised)
    with _folder() as folder:
        root = folder / "root"
        lay_out(disk.left(random.Random(seed), mode), recording.root, root)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # readers warn of what is torn
                _read(recording, root, outcome)
        except Exception as error:  # a store that doesn't open is a finding
            outcome.problems.append(f"{type(error).__name__}: {error}")
    return outcome


def _read(recording: Recording, root: Path, outcome: Outcome) -> None:
    subject = recording.subject
    if not root.exists():
        root.mkdir()
    with open_store(subject.url.format(root=root) or f"local:{root}") as store:
        events = list(store.events("r")) if any(run.run_id == "r" for run in store.list_runs()) else []
        seqs = [event.envelope.meta.seq for event in events]
        outcome.found = len(seqs)
        missing = sorted(set(range(1, outcome.promised + 1)) - set(seqs))
        if missing:
            outcome.problems.append(f"of {outcome.promised} promised, lost: {missing}")
        if len(set(seqs)) != len(seqs):
            outcome.problems.append("an event twice")
        wrong = [
            event.envelope.meta.seq for event in events if recording.events.get(event.envelope.meta.seq) != event.raw
        ]
        if wrong:
            outcome.problems.append(f"never written: {wrong}")
        problems = store.check()
        if isinstance(store, LocalStore):
            spool = [problem for problem in problems if ".xseg" in problem]  # of what was never promised
            outcome.damaged = len(spool)
            problems = [problem for problem in problems if problem not in spool]
        outcome.problems += problems
    if not subject.url:
        return
    worker = Worker("r")
    again = [worker.start()] + [worker.metric("loss", step, step) for step in range(59)]
    with open_store(subject.url.format(root=root)) as store:  # whose worker got no ack sends all of it again
        result = store.append(again)
        stored = [(event.envelope.meta.seq, event.raw) for event in store.events("r")]
        if result.conflicts or sorted(stored) != sorted(recording.events.items()):
            outcome.problems.append(f"sent again: {result}")


def run_states(states: int, seed: int, jobs: int = 2) -> list[Outcome]:
    """Make and read ``states`` disks, the same number of each subject."""
    rng = random.Random(seed)
    plans = []
    for subject in SUBJECTS:
        recording = record(subject)
        every = [(after, mode) for after in range(len(recording.steps) + 1) for mode in dict.fromkeys(MODES)]
        share = states // len(SUBJECTS)
        chosen = rng.sample(every, min(share, len(every)))
        while len(chosen) < share:
            chosen.append((rng.randrange(len(recording.steps) + 1), rng.choice(MODES)))
        plans += [(recording, after, mode, f"{seed} {number}") for number, (after, mode) in enumerate(chosen)]
    if jobs == 1:
        return [check_state(*plan) for plan in plans]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(check_state, *zip(*plans, strict=True), chunksize=20))


def table(outcomes: list[Outcome]) -> str:
    """Return the figures as text."""
    lines = [f"{'':>24} {'states':>7} {'promised':>9} {'found':>9} {'torn':>6} {'unsound':>8}"]
    for name in dict.fromkeys(outcome.subject for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.subject == name]
        promised, found = sum(outcome.promised for outcome in mine), sum(outcome.found for outcome in mine)
        torn, bad = sum(outcome.damaged > 0 for outcome in mine), sum(bool(outcome.problems) for outcome in mine)
        lines.append(f"{name:>24} {len(mine):>7} {promised:>9} {found:>9} {torn:>6} {bad:>8}")
    modes = Counter(outcome.mode for outcome in outcomes)
    lines.append("\nkept of what wasn't synced: " + ", ".join(f"{mode} {count}x" for mode, count in modes.items()))
    lines += [f"UNSOUND: {outcome}" for outcome in outcomes if outcome.problems]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--states", type=int, default=2000)
    options = parser.parse_args()
    if not can_trace():
        print("strace isn't installed, or may not trace here")
        return 2
    outcomes = run_states(options.states, options.seed, options.jobs)
    print(f"{len(outcomes)} power losses, seed {options.seed}\n")
    print(table(outcomes))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
