"""P5: what a store answers, and how soon: a series of a million points, and a run of ten million events."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks import data
from benchmarks.filling import fill
from benchmarks.harness import Bench, Figure, Timed, at_most, by_turns, case, median, seconds_of
from xtrack_protocol.storage import open_store

POINTS = 1_000_000
BUCKETS = 2000


@case("P5.series", traced=True)
def series(bench: Bench) -> Iterator[Figure]:
    """One series into arrays of steps, values and times; the store is open, and its pages are in the system's cache."""
    url = f"sqlite:///{bench.folder / 'store.db'}"
    count = 20_000 if bench.tracing else bench.pick(200_000, POINTS)
    with open_store(url) as store:
        fill(store, count, ended=True)
    with open_store(url, read_only=True) as store:

        def read() -> int:
            found = store.get_series(data.RUN, "train/loss")
            return min(map(len, (found.steps, found.values, found.timestamps_us)))

        def whole() -> None:
            assert read() == count

        if bench.tracing:
            yield bench.traced(f"a series of {count:,} points into arrays", whole)
            return
        timed = Timed(whole)
        (times,) = by_turns(bench.repetitions, timed)
        yield _milliseconds("a series into arrays", count, median(times), 50, _processor(timed))
        name = f"a series downsampled to {BUCKETS:,} points"

        def downsampled() -> None:
            found = len(store.downsample(data.RUN, "train/loss", points=BUCKETS))
            assert 0 < found <= BUCKETS, found

        timed = Timed(downsampled)
        (times,) = by_turns(bench.repetitions, timed)
        yield _milliseconds(name, count, median(times), 20, _processor(timed))


def _processor(timed: Timed) -> str:
    return f"{1000 * median(timed.cpu[1:]):.1f} ms of processor time"


def _milliseconds(name: str, count: int, seconds: float, bound: float, note: str) -> Figure:
    """Return a figure; only of a million points it has its goal, and of fewer it says how many there were."""
    told = f"{count:,} points" + (f"; {note}" if note else "")
    return Figure(name, 1000 * seconds, "ms", at_most(bound) if count == POINTS else None, told)


def _process(arguments: list[str]) -> Callable[[], float]:
    def run() -> None:
        subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True, env={**os.environ, "NO_COLOR": "1"})

    return seconds_of(run)


@case("P5.show")
def show(bench: Bench) -> Iterator[Figure]:
    """The whole command, beside Python that starts and ends."""
    count = bench.pick(200_000, 10_000_000)
    names = [f"train/metric_{number}" for number in range(10)]
    url = f"sqlite:///{bench.folder / 'store.db'}"
    with open_store(url) as store:
        fill(store, count, names=names, ended=True)
    command = [sys.executable, "-m", "xtrack_protocol.cli", "show", data.RUN, "--store", url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert names[0] in told
    assert "completed" in told
    times, empty = by_turns(bench.repetitions, _process(command), _process([sys.executable, "-c", "pass"]))
    goal = at_most(0.3) if count == 10_000_000 else None
    yield Figure("xtrack show of a run, the whole process", median(times), "s", goal, f"{count:,} events, 10 series")
    yield Figure("of these, Python that does nothing", median(empty), "s")
