"""P1: a call that logs, on the default path which survives a kill, beside a bare loop with one os.write an event.

Both loops have their values beforehand; each call is timed by itself with the same clock. The bare loop's work stands
in line, without a function's call around it.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import xtrack_protocol as xtrack
from benchmarks import bare, data
from benchmarks.harness import Bench, Figure, Goal, at_most, by_turns, case, median, percentile, ratio_of_pairs
from benchmarks.serving import Server, serving

WARM_UP = 500


def log_each(run: xtrack.Run, values: list[float], took: list[int]) -> None:
    clock, add = time.perf_counter_ns, took.append
    for step, value in enumerate(values):
        begin = clock()
        run.log_metric("train/loss", value, step=step)
        add(clock() - begin)


def log_batches(run: xtrack.Run, batches: list[dict[str, float]], took: list[int]) -> None:
    clock, add = time.perf_counter_ns, took.append
    for step, metrics in enumerate(batches):
        begin = clock()
        run.log_metrics(metrics, step=step)
        add(clock() - begin)


class Bare:
    """A file that bare loops write to, and the seqs that they have used."""

    def __init__(self, folder: Path) -> None:
        self.fd = os.open(folder / "bare.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.seq = 0

    def emit(self, values: list[float], took: list[int]) -> None:
        bare.emit(self.fd, data.RUN, data.SID, self.seq, values, took)
        self.seq += len(values)

    def emit_batches(self, batches: list[dict[str, float]], took: list[int]) -> None:
        bare.emit_batches(self.fd, data.RUN, data.SID, self.seq, batches, took)
        self.seq += len(batches)


class Calls:
    """What the calls of each repetition took, in us."""

    def __init__(self, work: Callable[[list[int]], None]) -> None:
        self._work = work
        self.p50: list[float] = []
        self.p99: list[float] = []

    def __call__(self) -> float:
        took: list[int] = []
        self._work(took)
        self.p50.append(percentile(took, 0.5) / 1000)
        self.p99.append(percentile(took, 0.99) / 1000)
        return self.p50[-1]

    def forget(self) -> None:
        self.p50.clear()
        self.p99.clear()


def _figures(
    bench: Bench,
    name: str,
    ours: Callable[[list[int]], None],
    beside: Callable[[list[int]], None],
    goals: tuple[Goal | None, Goal | None],
) -> Iterator[Figure]:
    one, other = Calls(ours), Calls(beside)
    by_turns(1, one, other, warm_up=False)
    one.forget()
    other.forget()
    by_turns(bench.repetitions, one, other, warm_up=False)
    for label, here, there, goal in (("p50", one.p50, other.p50, goals[0]), ("p99", one.p99, other.p99, goals[1])):
        yield Figure(f"{name}: {label}", median(here), "us")
        yield Figure(f"bare loop: {label}", median(there), "us")
        yield Figure(f"{name} / bare loop: {label}", ratio_of_pairs(here, there), "x", goal)


@case("P1.log_metric", traced=True)
def log_metric(bench: Bench) -> Iterator[Figure]:
    values = list(islice(data.doubles(), bench.pick(10_000, 50_000)))
    with xtrack.start_run("bench", quiet=True) as run:
        if bench.tracing:
            log_each(run, values[:WARM_UP], [])
            took = array("q")
            yield bench.traced("log_metric, 10,000 calls", lambda: log_each(run, values, took))  # type: ignore[arg-type]
            return
        beside = Bare(bench.folder)
        yield from _figures(
            bench,
            "log_metric",
            lambda took: log_each(run, values, took),
            lambda took: beside.emit(values, took),
            (at_most(1.5), at_most(3)),
        )


@case("P1.log_metrics")
def log_metrics(bench: Bench) -> Iterator[Figure]:
    value = data.doubles()
    batches = [{f"train/metric_{name}": next(value) for name in range(10)} for _ in range(bench.pick(3000, 20_000))]
    beside = Bare(bench.folder)
    with xtrack.start_run("bench", quiet=True) as run:
        yield from _figures(
            bench,
            "log_metrics of 10",
            lambda took: log_batches(run, batches, took),
            lambda took: beside.emit_batches(batches, took),
            (at_most(1.5), None),
        )


def _by_threads(number: int, work: Callable[[list[int]], None]) -> Callable[[list[int]], None]:
    """Return what lets so many threads do ``work`` at once, each with times of its own."""

    def all_at_once(took: list[int]) -> None:
        each: list[list[int]] = [[] for _ in range(number)]
        ready = threading.Barrier(number)

        def one(mine: list[int]) -> None:
            ready.wait()
            work(mine)

        threads = [threading.Thread(target=one, args=(mine,)) for mine in each]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for mine in each:
            assert mine, "a thread has failed"
            took += mine

    return all_at_once


@case("P1.threads", core=None)
def threads(bench: Bench) -> Iterator[Figure]:
    """Eight threads log to one run at once; the bare loop's write to one file, and agree on nothing."""
    values = list(islice(data.doubles(), bench.pick(1500, 5000)))
    beside = Bare(bench.folder)
    with xtrack.start_run("bench", quiet=True) as run:
        yield from _figures(
            bench,
            "log_metric in 8 threads",
            _by_threads(8, lambda took: log_each(run, values, took)),
            _by_threads(8, lambda took: beside.emit(values, took)),
            (None, None),
        )
        assert run.stats().dropped == 0


# ------------------------------------------------------------------------------------------ with a collector


def _at_a_pace(run: xtrack.Run, values: list[float], took: list[int], seconds: float) -> None:
    """Log a value every so many seconds, as a training does."""
    clock, due = time.perf_counter_ns, time.perf_counter()
    for step, value in enumerate(values):
        due += seconds
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        begin = clock()
        run.log_metric("train/loss", value, step=step)
        took.append(clock() - begin)


def _connected(run: xtrack.Run) -> None:
    due = time.monotonic() + 20
    while not ((delivery := run.stats().delivery) and delivery.connected):
        if time.monotonic() > due:
            raise TimeoutError("no connection after 20 s")
        time.sleep(0.01)


def _with_collector(bench: Bench, kind: str) -> Iterator[Figure]:
    """``kind``: the collector takes all there is, has been stopped (SIGSTOP), or there is none at its address."""
    values = list(islice(data.doubles(), bench.pick(5000, 20_000)))
    paced = values[: bench.pick(500, 3000)]
    with ExitStack() as stack:
        server: Server | None = None
        if kind != "absent":
            server = stack.enter_context(serving(bench.folder / "server", core=1))
        run = xtrack.start_run("bench", quiet=True, transport=server.url if server else "tcp://127.0.0.1:9")
        try:
            if server:
                _connected(run)
                log_each(run, values[:WARM_UP], [])
                assert run.flush("acked", 60), "nothing was acked"
            if server and kind == "stopped":
                server.stop()

            def ours(took: list[int]) -> None:
                log_each(run, values, took)

            def alone(took: list[int]) -> None:
                if kind == "there":  # the bare loop has the core for itself
                    assert run.flush("acked", 120), "not everything was acked"
                beside.emit(values, took)

            beside = Bare(bench.folder)
            goal = at_most(200) if kind == "stopped" else None
            pair = (at_most(1.5), at_most(3)) if kind != "there" else (None, None)
            name = f"log_metric, collector {kind}"
            yield from _figures(bench, name, ours, alone, pair)
            took: list[int] = []
            _at_a_pace(run, paced, took, 0.001)
            yield Figure(f"{name}, a call a millisecond: p50", percentile(took, 0.5) / 1000, "us")
            yield Figure(f"{name}, a call a millisecond: p99", percentile(took, 0.99) / 1000, "us", goal)
            if server and kind == "stopped":
                server.go_on()
        finally:
            begin = time.perf_counter()
            run.end(timeout=120 if server else 0)
        if server:
            delivery = run.stats().delivery
            assert delivery is not None
            yield Figure(f"{name}: end of the run", time.perf_counter() - begin, "s")
            yield Figure(f"{name}: events not acked at the end", delivery.waiting, "events", at_most(0))


@case("P1.there", core=None)
def there(bench: Bench) -> Iterator[Figure]:
    yield from _with_collector(bench, "there")


@case("P1.stopped", core=None)
def stopped(bench: Bench) -> Iterator[Figure]:
    yield from _with_collector(bench, "stopped")


@case("P1.absent", core=None)
def absent(bench: Bench) -> Iterator[Figure]:
    yield from _with_collector(bench, "absent")
