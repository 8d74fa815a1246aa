"""Cases, what they measure, and the few statistics that are needed for it."""

from __future__ import annotations

import gc
import importlib
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

MODULES = (
    "emitting",
    "decoding",
    "encoding",
    "ingesting",
    "asking",
    "importing",
    "memory",
    "scaling",
    "limits",
    "overhead",
)
"""Each makes its cases when it is imported."""

MIB = 1024 * 1024


# ------------------------------------------------------------------------------------------ statistics


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest of ``values`` that at least ``part`` (0 to 1) of them don't exceed: the nearest rank."""
    if not values:
        raise ValueError("no values")
    if not 0 <= part <= 1:
        raise ValueError(f"{part} is no part of all")
    ranked = sorted(values)
    rank = -(-len(ranked) * part // 1)  # rounded up
    return ranked[max(0, int(rank) - 1)]


def ratio_of_pairs(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of what was measured by turns: a slow minute slows both of a pair."""
    if not above or len(above) != len(below):
        raise ValueError(f"{len(above)} and {len(below)} measurements are no pairs")
    return median([one / other for one, other in zip(above, below, strict=True)])


def by_turns(repetitions: int, *works: Callable[[], float], warm_up: bool = True) -> list[list[float]]:
    """Call ``works`` by turns, A B A B; return what each returned, by work. One round before them doesn't count."""
    if warm_up:
        for work in works:
            work()
    found: list[list[float]] = [[] for _ in works]
    for _ in range(repetitions):
        for number, work in enumerate(works):
            gc.collect()
            found[number].append(work())
    return found


def seconds_of(work: Callable[[], object]) -> Callable[[], float]:
    """Return what does ``work`` and returns how long that took."""

    def timed() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return timed


class Timed:
    """Does ``work`` and returns how many seconds that took; ``cpu``: the processor time of each, of this process.

    A busy machine makes the seconds more, and the processor time hardly.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.cpu: list[float] = []

    def __call__(self) -> float:
        begin, before = time.perf_counter(), time.process_time()
        self._work()
        self.cpu.append(time.process_time() - before)
        return time.perf_counter() - begin


# ------------------------------------------------------------------------------------------ figures


@attrs.frozen
class Goal:
    """What a figure is to be: at most, or at least, so much."""

    relation: str
    bound: float

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.relation == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"


def at_most(bound: float) -> Goal:
    return Goal("<=", bound)


def at_least(bound: float) -> Goal:
    return Goal(">=", bound)


@attrs.frozen
class Figure:
    """One thing measured. ``value`` None: it can't be measured here, and ``note`` says why."""

    name: str
    value: float | None
    unit: str = ""
    goal: Goal | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        if self.value is None:
            return "not measured"
        return "met" if self.goal.is_met(self.value) else "not met"


@attrs.frozen
class CaseResult:
    """What a case found. ``error``: how it failed, "" where it didn't. ``peak_mib``: of its process's memory."""

    case: str
    figures: list[Figure]
    seconds: float
    peak_mib: float | None = None
    error: str = ""


# ------------------------------------------------------------------------------------------ cases


@attrs.define
class Bench:
    """What a case is given. ``folder``: an empty one, for it alone. ``tracing``: this pass is for memory, not time."""

    folder: Path
    quick: bool = False
    tracing: bool = False

    @property
    def repetitions(self) -> int:
        return 5 if self.quick else 9

    def pick(self, quick: int, full: int) -> int:
        """Return how many: in a quick run, and in a full one."""
        return quick if self.quick else full

    def traced(self, name: str, work: Callable[[], object]) -> Figure:
        """Do ``work`` once; return the greatest size of the Python objects that it held at one time."""
        gc.collect()
        tracemalloc.start()
        try:
            work()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        return Figure(f"{name}: peak of Python's memory (tracemalloc)", peak / MIB, "MiB")

    def compare(
        self,
        name: str,
        events: int,
        ours: Callable[[], object],
        others: Mapping[str, tuple[Callable[[], object], Goal | None]],
    ) -> Iterator[Figure]:
        """Yield how fast ``ours`` is, and how fast against each of ``others``, which do the same work by turns."""
        if self.tracing:
            yield self.traced(name, ours)
            return
        works = [Timed(work) for work in (ours, *(work for work, _ in others.values()))]
        times, *rest = by_turns(self.repetitions, *works)
        cpu, *rest_cpu = (work.cpu[1:] for work in works)
        yield Figure(f"{name}", events / median(times), "events/s")
        for (label, (_, goal)), found, found_cpu in zip(others.items(), rest, rest_cpu, strict=True):
            yield Figure(f"{label}", events / median(found), "events/s")
            note = f"{ratio_of_pairs(found_cpu, cpu):.2f} by processor time"
            yield Figure(f"{name} / {label}", ratio_of_pairs(found, times), "x", goal, note)


@attrs.frozen
class Case:
    """``core``: which core its process is kept to, by number; None: all. ``traced``: has a pass for memory."""

    name: str
    function: Callable[[Bench], Iterator[Figure]]
    core: int | None
    traced: bool
    optional: bool


CASES: dict[str, Case] = {}


def case(
    name: str, *, core: int | None = 0, traced: bool = False, optional: bool = False
) -> Callable[[Callable[[Bench], Iterator[Figure]]], Callable[[Bench], Iterator[Figure]]]:
    """Make a function a case. ``optional``: it runs only where it is asked for by name."""

    def add(function: Callable[[Bench], Iterator[Figure]]) -> Callable[[Bench], Iterator[Figure]]:
        assert name not in CASES, name
        CASES[name] = Case(name, function, core, traced, optional)
        return function

    return add


def load_cases(modules: Sequence[str] = ()) -> dict[str, Case]:
    """Return all cases, those of other modules besides."""
    for module in (*(f"benchmarks.{name}" for name in MODULES), *modules):
        importlib.import_module(module)
    return CASES


def chosen(only: Sequence[str], modules: Sequence[str] = ()) -> list[Case]:
    """Return the cases that ``only`` names, all but the optional ones for nothing: P1, or P1.threads.

    Raises ValueError for a name that means no case.
    """
    cases = load_cases(modules)
    found: dict[str, Case] = {}
    for wanted in only:
        named = {name: one for name, one in cases.items() if name == wanted or name.startswith(f"{wanted}.")}
        if not named:
            raise ValueError(f"no case is called {wanted!r}; there are {', '.join(cases)}")
        found |= named
    return list(found.values()) if only else [one for one in cases.values() if not one.optional]
