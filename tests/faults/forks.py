"""Forks in the middle of logging with threads: nobody shares a seq, nobody waits for ever, nothing is lost.

Threads log as fast as they can while the main thread forks, again and again, at any moment: with locks held, in the
middle of an event. The children log from their own main thread, some from threads of their own, some fork once more,
some log nothing; they end by os._exit, by sys.exit or by kill -9. Each call that returned is told over a pipe. A
watchdog ends it all when nothing is told for a while.

``python tests/faults/forks.py --forks 100 --seed 7`` prints the table.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line

from xtrack_protocol.ir import Metric, RunStart
from xtrack_protocol.storage.local import LocalStore

WATCHDOG_SECONDS = 20.0
THREADS = 4

WORKER = """
import faulthandler, os, random, signal, struct, sys, threading, time
from xtrack_protocol import start_run
told, forks, seed = int(os.environ["TOLD_FD"]), int(sys.argv[1]), int(sys.argv[2])
WATCHDOG, THREADS = int(sys.argv[3]), int(sys.argv[4])
faulthandler.register(signal.SIGALRM, chain=True)  # its own timer would be in the way of forks
rng = random.Random(seed)
run = start_run(run_id="r")
done = threading.Event()
def log(who, count, until=None):
    for call in range(count):
        run.log_metric("m", call, step=call, epoch=who)
        os.write(told, struct.pack("<II", who, call))  # so short that nobody else's gets in between
        if until is not None and until.is_set():
            return
numbers = iter(range(1_000_000))
threads = [threading.Thread(target=log, args=(next(numbers), 1_000_000, done)) for _ in range(THREADS)]
for thread in threads:
    thread.start()
def child(who, what):
    # Numbers of children don't meet: each has a range of its own, its own children too.
    signal.alarm(WATCHDOG)
    if what != "silent":
        log(who, rng.randrange(1, 20))
    if what == "threads":
        more = [threading.Thread(target=log, args=(who + 1 + n, 10)) for n in range(3)]
        for thread in more:
            thread.start()
        for thread in more:
            thread.join()
    if what == "forks":
        pid = os.fork()
        if not pid:
            signal.alarm(WATCHDOG)
            log(who + 10, 5)
            os._exit(0)
        log(who + 20, 5)
        os.waitpid(pid, 0)
    if what == "ends":
        run.end()
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exits":
        done.set()
        sys.exit(0)
    os._exit(0)
pids = []
for fork in range(forks):
    time.sleep(rng.random() * 0.004)
    what = rng.choice(["plain", "threads", "forks", "silent", "ends", "killed", "exits"])
    pid = os.fork()
    if not pid:
        child(1000 + 100 * fork, what)
    pids.append(pid)
stuck = sum(os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGALRM for pid in pids)
done.set()
for thread in threads:
    thread.join()
run.end()
sys.exit(3 if stuck else 0)
"""


@dataclass
class Outcome:
    """What came of it all."""

    forks: int
    seed: int
    seconds: float = 0.0
    told: int = 0
    found: int = 0
    streams: int = 0
    children: int = 0
    status: str = ""
    problems: list[str] = field(default_factory=list)


def run_forks(forks: int, seed: int) -> Outcome:
    """Fork, wait, read back."""
    outcome = Outcome(forks, seed)
    with tempfile.TemporaryDirectory(prefix="xtrack-forks-") as folder:
        began = time.monotonic()
        told = _run(outcome, folder)
        outcome.seconds = time.monotonic() - began
        _read_back(outcome, Path(folder), told)
    return outcome


def _run(outcome: Outcome, folder: str) -> Counter[tuple[int, int]]:
    reading, writing = os.pipe()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    arguments = (outcome.forks, outcome.seed, int(WATCHDOG_SECONDS), THREADS)
    worker = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", WORKER, *map(str, arguments)],
        env=environment | {"XTRACK_DIR": folder, "XTRACK_QUIET": "1", "TOLD_FD": str(writing)},
        pass_fds=[writing],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(writing)
    told = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 65536):
            told.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        worker.wait(3 * WATCHDOG_SECONDS + outcome.forks * 0.5)
    except subprocess.TimeoutExpired:
        outcome.problems.append("a deadlock")
        os.killpg(worker.pid, signal.SIGALRM)  # they say where they are
        time.sleep(1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    stderr = worker.communicate()[1]
    reader.join()
    os.close(reading)
    if worker.returncode:
        outcome.problems.append(f"the worker ended with {worker.returncode}: {stderr[-2000:]}")
    outcome.told = len(told) // 8
    words = memoryview(bytes(told)).cast("I")
    return Counter(zip(words[::2], words[1::2], strict=True))


def _read_back(outcome: Outcome, root: Path, told: Counter[tuple[int, int]]) -> None:
    with LocalStore(root) as store:
        events = list(store.events("r"))
        run = store.get_run("r")
        outcome.status = run.status
        outcome.problems += store.check()
        conflicts = store.conflicts("r")
    if conflicts:
        outcome.problems.append(f"{len(conflicts)} seqs were shared")
    seqs: dict[object, list[int]] = {}
    calls: Counter[tuple[int, int]] = Counter()
    for event in events:
        seqs.setdefault(event.stream, []).append(event.envelope.meta.seq)
        payload = event.envelope.payload
        if isinstance(payload, Metric):
            calls[payload.epoch or 0, payload.step or 0] += 1
        elif isinstance(payload, RunStart):
            outcome.children += bool(payload.sub)
    outcome.found, outcome.streams = calls.total(), len(seqs)
    for stream, numbers in seqs.items():
        if numbers != list(range(1, len(numbers) + 1)):
            outcome.problems.append(f"{stream}: the seqs aren't 1 to {len(numbers)}")
    lost = told - calls
    if lost:
        outcome.problems.append(f"{lost.total()} calls returned and are lost: {list(lost)[:5]}")
    beyond = calls - told
    if beyond.total() > outcome.forks + THREADS:  # under way when their process died
        outcome.problems.append(f"{beyond.total()} calls that never returned are there")
    if twice := [call for call, count in calls.items() if count > 1]:
        outcome.problems.append(f"twice: {twice[:5]}")
    if not outcome.problems and outcome.status != "completed":
        outcome.problems.append(f"status {outcome.status}: a child has voted")


def table(outcomes: list[Outcome]) -> str:
    """Return the figures as text."""
    lines = [f"{'forks':>6} {'streams':>8} {'told':>8} {'found':>8} {'seconds':>8}  status"]
    for one in outcomes:
        figures = f"{one.forks:>6} {one.streams:>8} {one.told:>8} {one.found:>8} {one.seconds:>8.1f}"
        lines.append(f"{figures}  {one.status}, seed {one.seed}")
        lines += [f"UNSOUND: {problem}" for problem in one.problems]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__, jobs=None)
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=1)
    options = parser.parse_args()
    outcomes = [run_forks(options.forks, options.seed + n) for n in range(options.repeat)]
    print(table(outcomes))
    return 1 if any(one.problems for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
