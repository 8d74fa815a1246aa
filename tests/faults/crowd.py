"""Many workers log into one run over TCP, in real processes, to one server that stores in SQLite.

``run_crowd`` does a whole trial and returns what was seen. As a script this module is one of the processes: ``worker``,
or ``server``, a CollectorServer whose store is held back until it is told to go on.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import attrs

from xtrack_protocol.ir import Metric, MetricBatch
from xtrack_protocol.storage import SQLiteStore

RUN = "crowd"
WORKERS = 64
PAGE = os.sysconf("SC_PAGE_SIZE")
SECONDS = 300.0
"""How long anything may take on a machine with much else to do."""


@attrs.frozen(kw_only=True)
class Plan:
    """``events``: how many each worker logs, of ``width`` values each. ``rate``: how many events a second the store
    takes, and ``share`` which part of all, until everything has been logged; None: as fast as it can."""

    processes: int
    events: int
    width: int = 1
    rate: float | None = None
    share: float = 0.1
    every_rank_its_process: bool = False


@attrs.define(kw_only=True)
class Outcome:
    """What was seen. Sizes in MiB; ``grown`` from before the first event to the highest since, ``held`` to the highest
    before the store was let go.
    """

    problems: list[str] = attrs.field(factory=list)
    logged: int = 0
    log_seconds: float = 0.0
    committed_meanwhile: int = 0
    drain_seconds: float = 0.0
    server_mib: float = 0.0
    server_grown_mib: float = 0.0
    server_held_mib: float = 0.0
    worker_mib: float = 0.0
    worker_grown_mib: float = 0.0
    logged_mib: float = 0.0

    def table(self, title: str) -> str:
        """Return the figures for people."""
        rate = self.logged / self.log_seconds
        return "\n".join(
            [
                f"{title}: {WORKERS} workers into one run, over TCP, stored in SQLite",
                f"  logged                     {self.logged:>9,} events, {self.logged_mib:.0f} MiB, {rate:,.0f}/s",
                f"  committed in that time     {self.committed_meanwhile:>9,} events",
                f"  then until all was acked   {self.drain_seconds:>9.1f} s",
                f"  server, highest memory     {self.server_mib:>9.1f} MiB, grown by {self.server_grown_mib:.1f}",
                f"    of that while they logged {self.server_held_mib:>8.1f} MiB",
                f"  worker, highest memory     {self.worker_mib:>9.1f} MiB, grown by {self.worker_grown_mib:.1f}",
                f"  problems                   {'; '.join(self.problems) or 'none'}",
            ]
        )


class Process:
    """A process of the trial: it is told a word a line, and says one."""

    def __init__(self, command: list[str], folder: Path, name: str, **env: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("XTRACK_")}
        self.name = name
        self._log = (folder / f"{name}.log").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**clean, "XTRACK_DIR": str(folder / "home"), "XTRACK_QUIET": "1", **env},
            cwd=folder,
        )
        self.first_mib = 0.0
        self.highest_mib = 0.0

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()

    def hear(self, pattern: str) -> str:
        """Wait for a line with ``pattern``, and return what its group holds."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(pattern, line.decode())
            if found:
                return found[found.re.groups]
        raise AssertionError(f"{self.name} ended with {self._process.wait()}: {self.errors()}")

    def errors(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()[-2000:]

    def look(self) -> None:
        """Note how much memory it has now."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        size = pages * PAGE / 2**20
        self.first_mib = self.first_mib or size
        self.highest_mib = max(self.highest_mib, size)

    def end(self) -> int:
        """Wait for its end; terminate it where it has no reason of its own."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            return self._process.wait(60)
        finally:
            self._log.close()

    def terminate(self) -> int:
        self._process.terminate()
        return self.end()


def value_of(worker: int, step: int) -> float:
    """What a worker logs at a step: exact in binary, and so is the mean."""
    return worker + step / 1024


def run_crowd(plan: Plan, folder: Path) -> Outcome:
    """Let 64 workers log at once, and look at all that was stored."""
    outcome = Outcome(logged=WORKERS * plan.events)
    database = folder / "store.db"
    if plan.rate is None:
        command = ["-m", "xtrack_protocol.cli", "serve", "--tcp", "127.0.0.1:0", "--store", f"sqlite:///{database}"]
    else:
        held = [str(plan.rate), str(int(outcome.logged * plan.share))]
        command = [__file__, "server", str(database), *held]
    server = Process(command, folder, "server")
    processes = [server]
    try:
        port = server.hear(r"listening on tcp://127\.0\.0\.1:([0-9]+)")
        workers = _start_workers(plan, folder, port)
        processes += workers
        for worker in workers:
            worker.hear("(ready)")
        with SQLiteStore(database) as store:
            _let_them_log(plan, outcome, server, workers, store)
            _let_them_end(outcome, workers, store)
            _look_at_what_is_stored(plan, outcome, store)
    finally:
        for process in processes[1:]:
            if process.end():
                outcome.problems.append(f"{process.name}: {process.errors()}")
        server.terminate()
    outcome.server_mib, outcome.server_grown_mib = server.highest_mib, server.highest_mib - server.first_mib
    outcome.worker_mib = max(worker.highest_mib for worker in workers)
    outcome.worker_grown_mib = max(worker.highest_mib - worker.first_mib for worker in workers)
    outcome.logged_mib = sum(path.stat().st_size for path in (folder / "home").rglob("*.xseg")) / 2**20
    return outcome


def _start_workers(plan: Plan, folder: Path, port: str) -> list[Process]:
    each = WORKERS // plan.processes
    common = {"XTRACK_TRANSPORT": f"tcp:127.0.0.1:{port}", "XTRACK_RUN_ID": RUN, "XTRACK_END_TIMEOUT": str(SECONDS)}
    workers = []
    for place in range(plan.processes):
        own = {"RANK": str(place), "WORLD_SIZE": str(WORKERS)} if plan.every_rank_its_process else {}
        arguments = ["worker", str(place * each), str(each), str(plan.events), str(plan.width)]
        workers.append(Process([__file__, *arguments], folder, f"worker-{place}", **common, **own))
    return workers


def _let_them_log(plan: Plan, outcome: Outcome, server: Process, workers: list[Process], store: SQLiteStore) -> None:
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for process in (server, *workers):
                process.look()

    for process in (server, *workers):
        process.look()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        begun = time.monotonic()
        for worker in workers:
            worker.say("go")
        for worker in workers:
            worker.hear("(logged)")
        outcome.log_seconds = time.monotonic() - begun
        outcome.committed_meanwhile = sum(state.events for state in store.list_runs())
        time.sleep(2.0 if plan.rate else 0.0)  # for what would still grow
        outcome.server_held_mib = server.highest_mib - server.first_mib
        if plan.rate:
            server.say("go on")
        begun = time.monotonic()
        for worker in workers:
            worker.say("flush")
        for worker in workers:
            if worker.hear("acked (True|False)") != "True":
                outcome.problems.append(f"{worker.name} has not everything acked: {worker.errors()}")
        outcome.drain_seconds = time.monotonic() - begun
    finally:
        over.set()
        watcher.join()


def _let_them_end(outcome: Outcome, workers: list[Process], store: SQLiteStore) -> None:
    """Every worker but the last ends: the run is still running. Then that one."""
    for worker in workers:
        worker.say("end")
    for worker in workers:
        worker.hear("(ended)")
    ended = sum(summary.end_status == "completed" for summary in store.get_run(RUN).streams)
    status = store.get_run(RUN).status
    if (ended, status) != (WORKERS - 1, "running"):
        outcome.problems.append(f"{ended} of {WORKERS} workers have ended, and the run is {status}")
    workers[-1].say("last")
    workers[-1].hear("(all ended)")


def _look_at_what_is_stored(plan: Plan, outcome: Outcome, store: SQLiteStore) -> None:
    problems = outcome.problems
    states = store.list_runs()
    if [state.run_id for state in states] != [RUN]:
        problems.append(f"runs: {[state.run_id for state in states]}")
        return
    state = states[0]
    if (state.status, state.world_size, len(state.workers), len(state.streams)) != ("completed", WORKERS, 64, 64):
        problems.append(f"{state.status}, {state.world_size}, {len(state.workers)}, {len(state.streams)}")
    told: dict[int, list[tuple[int, Any]]] = {worker: [] for worker in range(WORKERS)}
    for stored in store.events(RUN):
        told[int(stored.stream.worker_id)].append((stored.envelope.meta.seq, stored.envelope.payload))
    for worker, events in told.items():
        if [seq for seq, _ in events] != list(range(1, plan.events + 4)):
            problems.append(f"worker {worker}: {len(events)} events, not each once and in order")
        values = [
            (payload.step, _value(payload)) for _, payload in events if isinstance(payload, (Metric, MetricBatch))
        ]
        if values != [(step, value_of(worker, step)) for step in range(plan.events)]:
            problems.append(f"worker {worker}: other values than were logged")
    lines = store.get_metric_aggregate(RUN, "loss")
    expected = [
        (step, WORKERS, 0, value_of(0, step) + (WORKERS - 1) / 2, value_of(0, step), value_of(WORKERS - 1, step))
        for step in range(plan.events)
    ]
    if [attrs.astuple(line) for line in lines] != expected:
        problems.append("the aggregate is another than that of what was logged")


def _value(payload: Metric | MetricBatch) -> float:
    return payload.value if isinstance(payload, Metric) else payload.metrics["loss"]


# ------------------------------------------------------------------------------------------ the processes


def worker_main(first: int, count: int, events: int, width: int) -> None:
    """Be ``count`` workers from ``first`` on, each with its run, its connection and its thread."""
    from xtrack_protocol.emitter import Tracker

    def start(worker: int) -> Any:
        if "RANK" in os.environ:
            return Tracker.start_run()
        return Tracker.start_run(run_id=RUN, worker_id=str(worker), world_size=WORKERS, resume=False)

    runs = {worker: start(worker) for worker in range(first, first + count)}

    def log(worker: int) -> None:
        run = runs[worker]
        rest = {f"a metric of some length {place}": place / 7 for place in range(width - 1)}
        for step in range(events):
            if width == 1:
                run.log_metric("loss", value_of(worker, step), step)
            else:
                run.log_metrics({"loss": value_of(worker, step), **rest}, step)

    print("ready", flush=True)
    for line in sys.stdin:
        match line.strip():
            case "go":
                threads = [threading.Thread(target=log, args=(worker,)) for worker in runs]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                print("logged", flush=True)
            case "flush":
                print("acked", all(run.flush("acked", SECONDS) for run in runs.values()), flush=True)
            case "end":
                early = [threading.Thread(target=run.end) for worker, run in runs.items() if worker != WORKERS - 1]
                for thread in early:
                    thread.start()
                for thread in early:
                    thread.join()
                print("ended", flush=True)
            case "last":
                runs[WORKERS - 1].end()
                print("all ended", flush=True)


class HeldBack(SQLiteStore):
    """A store that takes ``rate`` events a second, and ``most`` in all, until it may go on."""

    def hold_back(self, rate: float, most: int) -> None:
        self._rate, self._left = rate, most
        self.go_on = threading.Event()

    def append_streams(self, batches: Any) -> Any:
        events = sum(len(batch.frames) for batch in batches)
        self._left -= events
        self.go_on.wait(SECONDS if self._left < 0 else events / self._rate)
        return super().append_streams(batches)


def server_main(database: str, rate: float, most: int) -> None:
    """Serve until standard input is closed."""
    from xtrack_protocol.server import CollectorServer

    with HeldBack(database) as store:
        store.hold_back(rate, most)
        with CollectorServer(store, tcp=("127.0.0.1", 0)).run_in_thread() as server:
            print(f"listening on tcp://127.0.0.1:{server.port}", flush=True)
            sys.stdin.readline()
            store.go_on.set()
            sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker_main(*map(int, sys.argv[2:]))
    else:
        server_main(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
