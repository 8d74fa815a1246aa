"""P9: whether an event costs the same in a large run as in a small one, among many names, and among many runs.

The small and the large one are measured by turns, so that what else the machine does falls on both.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count as counter
from itertools import islice

import xtrack_protocol as xtrack
from benchmarks import bare, data
from benchmarks.filling import append, fill, frames_of, payloads
from benchmarks.harness import Bench, Figure, at_most, by_turns, case, median, ratio_of_pairs
from xtrack_protocol import Envelope
from xtrack_protocol.runs import RunReducer
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import Storage, open_store
from xtrack_protocol.storage.base import StreamEvents

FLAT = at_most(1.2)
ONE_NAME = ("train/loss",)


def many_names(count: int) -> list[str]:
    return [f"train/metric_{number}" for number in range(count)]


def _figures(
    bench: Bench, label: str, small: Callable[[], float], large: Callable[[], float], events: int, *, turns: int = 1
) -> Iterator[Figure]:
    """Yield what an event costs in both, and the ratio; ``small`` and ``large`` return the seconds of ``events``."""
    few, many = by_turns(turns * bench.repetitions, small, large)
    yield Figure(f"{label}: small", 1e6 * median(few) / events, "us/event")
    yield Figure(f"{label}: large", 1e6 * median(many) / events, "us/event")
    yield Figure(f"{label}: large / small", ratio_of_pairs(many, few), "x", FLAT)


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# ------------------------------------------------------------------------------------------ emitter


def _log(run: xtrack.Run, count: int, names: Sequence[str] = ONE_NAME) -> None:
    for step in range(count):
        run.log_metric(names[step % len(names)], step / 7, step=step)


@case("P9.emitter_events")
def emitter_events(bench: Bench) -> Iterator[Figure]:
    large_count, some = bench.pick(100_000, 10_000_000), 1000
    with xtrack.start_run("large", quiet=True) as large:
        _log(large, large_count)

        def small() -> float:
            with xtrack.start_run("small", quiet=True) as run:
                _log(run, 1000)
                return _timed(lambda: _log(run, some))

        label = f"log_metric in a run of 1,000 and of {large_count:,} events"
        yield from _figures(bench, label, small, lambda: _timed(lambda: _log(large, some)), some, turns=5)


@case("P9.emitter_names")
def emitter_names(bench: Bench) -> Iterator[Figure]:
    names, some = many_names(10_000), bench.pick(3000, 10_000)
    with xtrack.start_run("one", quiet=True) as one, xtrack.start_run("many", quiet=True) as many:
        _log(many, len(names), names)
        yield from _figures(
            bench,
            "log_metric with 1 and with 10,000 names",
            lambda: _timed(lambda: _log(one, some)),
            lambda: _timed(lambda: _log(many, some, names)),
            some,
            turns=2,
        )


@case("P9.emitter_runs")
def emitter_runs(bench: Bench) -> Iterator[Figure]:
    """A whole short run: start, 100 events, end, in a spool with few and with many runs of the kind."""
    many = bench.pick(100, 10_000)

    def short(home: str) -> None:
        run = xtrack.start_run("short", quiet=True, settings=xtrack_settings(home))
        _log(run, 100)
        run.end()

    few_home, many_home = str(bench.folder / "few"), str(bench.folder / "many")
    for _ in range(many):
        short(many_home)

    homes = counter()

    def in_new_home() -> float:
        home = f"{few_home}-{next(homes)}"
        short(home)
        return _timed(lambda: short(home))

    label = f"a run of 100 events in a spool of 1 and of {many:,} runs"
    yield from _figures(bench, label, in_new_home, lambda: _timed(lambda: short(many_home)), 100, turns=3)


def xtrack_settings(home: str) -> object:
    from xtrack_protocol.settings import load_settings

    return load_settings({"XTRACK_DIR": home})


# ------------------------------------------------------------------------------------------ store

BATCH = 1000


class _Growing:
    """A run in a store, and events that come next."""

    def __init__(self, store: Storage, first: int, count: int, names: Sequence[str] = ONE_NAME) -> None:
        self._store, self._next, self._count, self._names = store, first, count, names

    def append(self) -> float:
        """Store so many events in batches of a thousand; return the seconds of that alone."""
        made = payloads(self._count, first=self._next, names=self._names)
        batches = [frames_of(made, BATCH) for _ in range(self._count // BATCH)]
        self._next += self._count
        gc.collect()

        def work() -> None:
            for batch in batches:
                append(self._store, batch)

        return _timed(work)


@case("P9.store_events")
def store_events(bench: Bench) -> Iterator[Figure]:
    large_count, some = bench.pick(100_000, 10_000_000), bench.pick(4000, 10_000)
    number = counter()
    with open_store(f"sqlite:///{bench.folder / 'large.db'}") as store:
        growing = _Growing(store, fill(store, large_count) + 1, some)

        def small() -> float:
            with open_store(f"sqlite:///{bench.folder / f'small-{next(number)}.db'}") as few:
                return _Growing(few, fill(few, 1000) + 1, some).append()

        label = f"store an event of a run of 1,000 and of {large_count:,}"
        yield from _figures(bench, label, small, growing.append, some)


@case("P9.store_names")
def store_names(bench: Bench) -> Iterator[Figure]:
    """With 10,000 names each transaction of 1,000 events has 1,000 series, with one point each."""
    names, some = many_names(10_000), bench.pick(4000, 10_000)
    with (
        open_store(f"sqlite:///{bench.folder / 'one.db'}") as one,
        open_store(f"sqlite:///{bench.folder / 'many.db'}") as many,
    ):
        few = _Growing(one, fill(one, 20_000) + 1, some)
        lots = _Growing(many, fill(many, 20_000, names=names) + 1, some, names)
        yield from _figures(bench, "store an event of 1 and of 10,000 names", few.append, lots.append, some)


@case("P9.store_runs")
def store_runs(bench: Bench) -> Iterator[Figure]:
    """One run grows, alone in its store and among many others."""
    many, some = bench.pick(1000, 10_000), bench.pick(4000, 10_000)
    with (
        open_store(f"sqlite:///{bench.folder / 'one.db'}") as one,
        open_store(f"sqlite:///{bench.folder / 'many.db'}") as lots,
    ):
        for begin in range(0, many, 500):
            batches = []
            for number in range(begin, min(many, begin + 500)):
                run_id = f"other-{number}"
                made = frames_of(payloads(3, run_id=run_id), 4)
                batches.append(StreamEvents(StreamId(run_id, "", data.SID), made, data.BEGIN_US))
            lots.append_streams(batches)
        few, among = (_Growing(store, fill(store, 1000) + 1, some) for store in (one, lots))
        label = f"store an event in a store of 1 and of {many:,} runs"
        yield from _figures(bench, label, few.append, among.append, some)


# ------------------------------------------------------------------------------------------ fold


class _Fold:
    """A run that is folded, and its next events."""

    def __init__(self, names: Sequence[str] = ONE_NAME, count: int = 1000) -> None:
        self._reducer, self._next, self._names = RunReducer(data.RUN), 1, names
        self._stream = StreamId(data.RUN, "", data.SID)
        while self._next <= count:
            self._apply(min(count, 10_000))

    def _apply(self, count: int) -> float:
        made = data.metrics(count, first=self._next, names=self._names)
        raw = b"".join(map(bare.encode_frame, islice(made, count)))
        envelopes: list[Envelope] = [frame.envelope for frame in xtrack.FrameDecoder().feed(raw)]  # type: ignore[misc]
        self._next += count
        gc.collect()

        def work() -> None:
            apply, stream = self._reducer.apply, self._stream
            for envelope in envelopes:
                apply(stream, envelope)

        return _timed(work)

    def grow(self) -> float:
        return self._apply(10_000)


@case("P9.fold_events")
def fold_events(bench: Bench) -> Iterator[Figure]:
    large_count = bench.pick(100_000, 10_000_000)
    large = _Fold(count=large_count)
    label = f"fold an event of a run of 1,000 and of {large_count:,}"
    yield from _figures(bench, label, lambda: _Fold().grow(), large.grow, 10_000)


@case("P9.fold_names")
def fold_names(bench: Bench) -> Iterator[Figure]:
    one, many = _Fold(count=20_000), _Fold(many_names(10_000), 20_000)
    yield from _figures(bench, "fold an event of 1 and of 10,000 names", one.grow, many.grow, 10_000)
