"""Disks that fail and fill up, descriptors that run out, files that may not grow: and a training that goes on.

A worker logs a few hundred events while one of its system calls fails: the first one, some, every third, or all from
some moment on. It measures each of its calls and tells whether the event was accepted. Nothing may raise; no call may
take 100 ms (calls that wait for a disk by contract, log_checkpoint, flush and end, are told apart); what was accepted
must be in the spool, each once, and nothing else; what was dropped must be counted, and declared there as soon as
something can be written again.

``python tests/faults/failing_calls.py --seed 7`` prints the table. Calls fail by strace; limits, a tmpfs of 1 MiB and
descriptors that really run out need none.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line
from faults.straced import Call, Traced, can_trace, run_traced

from xtrack_protocol.session import RangeSet
from xtrack_protocol.storage.local import LocalStore

STALL_MS = 100.0
TRIES = 3
"""A call that took too long on a busy machine is looked at again; only one that does so each time is a stall."""

WORKER = """
import json, os, resource, socket, sys, time
import xtrack_protocol.transport.local
from xtrack_protocol import start_run
what, argument, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
told = socket.socket(fileno=int(os.environ["TOLD_FD"])) if what == "strace" else None
run = start_run(run_id="r")
run.log_metric("first", 0)
result = {"accepted": [1, 2, 3], "raised": [], "ms": [], "waited_ms": [], "fds": len(os.listdir("/proc/self/fd"))}
if what == "fsize":
    resource.setrlimit(resource.RLIMIT_FSIZE, (argument, resource.RLIM_INFINITY))
held = []
def take_all_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
os.write(2, b"begin\\n")
for call in range(calls):
    if what == "nofile" and call == argument:
        take_all_descriptors()
    if what in ("nofile", "fsize") and call == calls * 3 // 4:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if what == "tmpfs" and call == calls * 3 // 4:
        os.unlink(os.path.join(os.environ["XTRACK_DIR"], "filler"))
    before, seq = run.stats().dropped, run.events_logged
    waits = False
    began = time.perf_counter()
    try:
        if call % 60 == 30:
            waits = True
            run.log_checkpoint("x.pt", call)
        elif call % 60 == 50:
            waits = True
            run.flush("durable")
        elif call % 5 == 1:
            run.log_metrics({"a": call, "b": 1 / (call + 1)}, step=call)
        elif call % 5 == 2:
            run.log_param(f"p{call}", call)
        elif call % 5 == 3:
            run.log("x" * (call * 37 % 4000 + argument * (what == "strace")), step=call)
        else:
            run.log_metric("loss", 1 / (call + 1), step=call)
    except BaseException as error:
        result["raised"].append(f"call {call}: {error!r}")
    (result["waited_ms"] if waits else result["ms"]).append((time.perf_counter() - began) * 1000)
    if run.stats().dropped == before:
        result["accepted"] += range(seq + 1, run.events_logged + 1)
    elif run.events_logged - seq != run.stats().dropped - before:
        result["raised"].append(f"call {call}: counted {run.stats().dropped - before}")
began = time.perf_counter()
before, seq = run.stats().dropped, run.events_logged
try:
    run.end()
except BaseException as error:
    result["raised"].append(f"end: {error!r}")
if run.events_logged - seq > run.stats().dropped - before:  # one that fails is tried again, in room that was kept back
    result["accepted"].append(run.events_logged)
result["end_ms"] = (time.perf_counter() - began) * 1000
result["dropped"], result["logged"] = run.stats().dropped, run.events_logged
result["warnings"] = run.stats().warnings
result["fds"] = len(os.listdir("/proc/self/fd")) - result["fds"] if what != "strace" else 0
text = json.dumps(result).encode()
if told:
    while text:
        text = text[told.send(text):]
else:
    print(text.decode())
"""

ERRORS = {
    "write": ("EIO", "ENOSPC", "EDQUOT"),
    "fdatasync": ("EIO", "ENOSPC", "EDQUOT"),
    "fsync": ("EIO", "ENOSPC"),
    "openat": ("EMFILE", "ENFILE", "ENOSPC", "EIO", "EACCES"),
    "fcntl": ("EMFILE", "ENOLCK"),
    "newfstatat": ("EIO", "EACCES"),
    "close": ("EIO", "ENOSPC"),
    "mkdir": ("ENOSPC", "EDQUOT", "EROFS"),
    "unlink": ("EIO", "EROFS"),
    "getrandom": ("EINTR",),
}
"""By which each call may fail."""


@dataclass(frozen=True)
class Scenario:
    """``how``: strace, fsize, nofile or tmpfs. ``fault``: what strace does; ``{n}`` is the first call after begin."""

    name: str
    how: str
    fault: str = ""
    argument: int = 0
    calls: int = 240

    @property
    def lasts(self) -> bool:
        """Whether the fault lasts to the end, so that a loss can't be declared any more."""
        return self.fault.endswith("+")


@dataclass
class Trial:
    """What became of one run under one fault."""

    scenario: Scenario
    logged: int = 0
    accepted: int = 0
    dropped: int = 0
    median_ms: float = 0.0
    worst_ms: float = 0.0
    worst_waited_ms: float = 0.0
    warnings: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def scenarios(rng: random.Random, size: int) -> list[Scenario]:
    """Return ``size`` faults of calls, at calls of chance, and those that need no strace."""
    spans = {"once": "{n}", "five": "{n}..{n5}", "every third": "{n}+3", "from then on": "{n}+"}
    every = [
        Scenario(f"{call} {error} {span}", "strace", f"{call}:error={error}:when={when}")
        for call, names in ERRORS.items()
        for error in names
        for span, when in spans.items()
    ]
    chosen = every if size >= len(every) else rng.sample(every, size)
    slow = Scenario("disk of 300 ms", "strace", "fdatasync:delay_enter=300000:when={n}+1")
    rolls = Scenario("disk of 300 ms, segments fill", "strace", slow.fault, 200_000)
    return [
        *chosen,
        *([slow, rolls] if size else []),
        Scenario("files may not grow", "fsize", argument=20_000 + rng.randrange(10_000)),
        Scenario("files may not grow at all", "fsize", argument=9_000),
        Scenario("no descriptor left", "nofile", argument=40),
        Scenario("tmpfs of 1 MiB", "tmpfs", calls=2400),
    ]


class Impossible(Exception):
    """This machine doesn't allow the fault."""


def run_trial(scenario: Scenario, offset: int, counts: dict[str, int]) -> Trial:
    """Run the worker under a fault, and read back."""
    trial = Trial(scenario)
    for _ in range(TRIES):
        trial = Trial(scenario)
        folder = Path(tempfile.mkdtemp(prefix="xtrack-failing-"))
        try:
            _run_once(trial, folder, offset, counts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if trial.problems or trial.worst_ms <= STALL_MS:
            break
    else:
        trial.problems.append(f"a call took {trial.worst_ms:.0f} ms")
    return trial


def _run_once(trial: Trial, folder: Path, offset: int, counts: dict[str, int]) -> None:
    scenario, root = trial.scenario, folder / "root"
    if scenario.how == "strace":
        traced = _strace(scenario, root, offset, counts)
        text, stderr, code = "".join(traced.told), traced.stderr, traced.returncode
    else:
        text, stderr, code = _without_strace(scenario, folder)
    if code or not text:
        trial.problems.append(f"the worker ended with {code}: {stderr[-400:]}")
        return
    result = json.loads(text)
    trial.logged, trial.accepted, trial.dropped = result["logged"], len(result["accepted"]), result["dropped"]
    times = sorted(result["ms"])
    trial.median_ms, trial.worst_ms = times[len(times) // 2], times[-1]
    trial.worst_waited_ms = max([*result["waited_ms"], result["end_ms"]])
    trial.warnings = result["warnings"]
    trial.problems += result["raised"]
    if result["fds"] > 1:
        trial.problems.append(f"{result['fds']} descriptors leaked")
    _read_back(trial, root, set(result["accepted"]), stderr)


def _strace(scenario: Scenario, root: Path, offset: int, counts: dict[str, int]) -> Traced:
    call = scenario.fault.partition(":")[0]
    first = counts.get(call, 0) + 1 + offset
    fault = scenario.fault.replace("{n}", str(first)).replace("{n5}", str(first + 4))
    return run_traced(
        WORKER,
        "strace",
        str(scenario.argument),
        str(scenario.calls),
        inject=(fault,),
        environment={"XTRACK_DIR": str(root)},
        socket=True,
    )


def _without_strace(scenario: Scenario, folder: Path) -> tuple[str, str, int]:
    import os

    root = folder / "root"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    environment |= {"XTRACK_DIR": str(root), "XTRACK_QUIET": "1"}
    command = [sys.executable, "-c", WORKER, scenario.how, str(scenario.argument), str(scenario.calls)]
    if scenario.how == "tmpfs":
        disk = folder / "disk"
        disk.mkdir()
        root.mkdir()
        environment["XTRACK_DIR"] = str(disk)
        script = (
            'disk=$1; root=$2; shift 2; mount -t tmpfs -o size=1m tmpfs "$disk" || exit 77; '
            'head -c 500000 /dev/zero > "$disk/filler"; "$@"; code=$?; cp -a "$disk/." "$root"; exit $code'
        )
        command = ["unshare", "-m", "sh", "-c", script, "sh", str(disk), str(root), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        raise Impossible(f"no private tmpfs can be mounted here: {done.stderr.strip()}")
    return done.stdout, done.stderr, done.returncode


def _read_back(trial: Trial, root: Path, accepted: set[int], stderr: str) -> None:
    with LocalStore(root) as store:
        events = list(store.events("r"))
        run = store.get_run("r")
        problems = store.check()
    seqs = [event.envelope.meta.seq for event in events]
    if len(set(seqs)) != len(seqs) or seqs != sorted(seqs):
        trial.problems.append("an event twice, or out of order")
    if set(seqs) != accepted:
        lost, more = sorted(accepted - set(seqs)), sorted(set(seqs) - accepted)
        trial.problems.append(f"accepted and lost: {lost[:9]}; there, though not accepted: {more[:9]}")
    if len(accepted) + trial.dropped != trial.logged:
        trial.problems.append(f"{trial.logged} logged, {len(accepted)} accepted, {trial.dropped} dropped")
    declared = RangeSet(run.streams[0].skipped)
    missing = [seq for seq in range(1, max(seqs) + 1) if seq not in declared and seq not in accepted]
    if missing:  # what comes after the last event that could be written, nobody can declare
        trial.problems.append(f"dropped and not declared: {missing[:9]}")
    if trial.dropped and "write" not in trial.scenario.fault and "were lost" not in stderr:
        trial.problems.append(f"the end says nothing of what was lost: {stderr[-300:]}")
    trial.problems += [problem for problem in problems if "torn" not in problem]


def count_calls() -> tuple[dict[str, int], dict[str, int]]:
    """Return how often each call is made before ``begin`` by the first thread, and after it."""
    folder = Path(tempfile.mkdtemp(prefix="xtrack-failing-"))
    try:
        traced = run_traced(
            *(WORKER, "strace", "0", "240"),
            trace=(
                "write",
                "fdatasync",
                "fsync",
                "openat",
                "fcntl",
                "newfstatat",
                "close",
                "mkdir",
                "unlink",
                "getrandom",
            ),
            environment={"XTRACK_DIR": str(folder / "root")},
            socket=True,
        )
        assert traced.returncode == 0, traced.stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    main = traced.calls[0].thread
    place = next(place for place, call in enumerate(traced.calls) if _begins(call))
    before = Counter(call.name for call in traced.calls[: place + 1] if call.thread == main)
    after = Counter(call.name for call in traced.calls[place + 1 :] if call.thread == main)
    return dict(before), dict(after)


def _begins(call: Call) -> bool:
    return call.name == "write" and call.texts[:1] == (b"begin\n",)


def run_trials(size: int, seed: int, jobs: int = 2) -> list[Trial]:
    """Try ``size`` faults of calls, and the others."""
    rng = random.Random(seed)
    before, after = count_calls() if can_trace() else ({}, {})
    plans = []
    for scenario in scenarios(rng, size if before else 0):
        made = after.get(scenario.fault.partition(":")[0], 0)
        plans.append((scenario, rng.randrange(max(1, made * 2 // 3)), before))

    def attempt(plan: tuple[Scenario, int, dict[str, int]]) -> Trial | None:
        try:
            return run_trial(*plan)
        except Impossible as reason:
            print(f"left out: {plan[0].name}: {reason}")
            return None

    with ThreadPoolExecutor(jobs) as pool:
        return [trial for trial in pool.map(attempt, plans) if trial]


def table(trials: list[Trial]) -> str:
    """Return the figures as text."""
    lines = [
        f"{'fault':>34} {'logged':>7} {'dropped':>7} {'median ms':>9} {'worst ms':>8} {'waited ms':>9} {'unsound':>7}",
    ]
    for trial in trials:
        lines.append(
            f"{trial.scenario.name:>34} {trial.logged:>7} {trial.dropped:>7} {trial.median_ms:>9.3f}"
            f" {trial.worst_ms:>8.1f} {trial.worst_waited_ms:>9.1f} {len(trial.problems):>7}"
        )
    lines.append(
        f"{'all ' + str(len(trials)):>34} {sum(trial.logged for trial in trials):>7}"
        f" {sum(trial.dropped for trial in trials):>7} {'':>9} {max(trial.worst_ms for trial in trials):>8.1f}"
    )
    lines += [f"UNSOUND: {trial.scenario.name}: {trial.problems}" for trial in trials if trial.problems]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="of calls, at most; there are about a hundred")
    options = parser.parse_args()
    trials = run_trials(options.faults, options.seed, options.jobs)
    print(f"seed {options.seed}\n")
    print(table(trials))
    return 1 if any(trial.problems for trial in trials) else 0


if __name__ == "__main__":
    sys.exit(main())
