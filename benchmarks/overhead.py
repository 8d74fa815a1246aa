"""What tracking costs a training whose steps take a millisecond, each of which logs a metric.

An untracked and a tracked loop take turns, A B B A, in one process and on one core, with the same model: whatever makes
the machine slower for a while, or one process slower than another, is in both. Rounds in several processes make one
figure; its 95 % interval comes from drawing whole turns again (a bootstrap by blocks, since steps close in time are
alike). The goal is for the interval's upper end. The p99 is that of all steps of a kind.

``overhead.processes.NAME`` does the same with whole processes in place of turns, so that what an open run costs while
it doesn't log is in only one of them; it needs many more of them for an interval as narrow.

Conditions: ``local`` (the default: the spool), ``there`` (a collector takes all), ``stopped`` (it was stopped by
SIGSTOP), ``full`` (the spool's disk is full; a tmpfs, which root alone can mount).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import attrs

import xtrack_protocol as xtrack
from benchmarks import machine
from benchmarks.harness import Bench, Figure, at_most, case
from benchmarks.serving import Server, serving
from benchmarks.training import Step, plain_step, torch_step, train

CONDITIONS = ("local", "there", "stopped", "full")
GOAL = at_most(1.0)
WARM_UP = 200
BLOCK = 250
"""Steps of a turn: a quarter of a second."""
RESAMPLED = 1000
SMALL_DISK = "2m"


class Unmeasurable(Exception):
    """A condition that can't be made here."""


# ------------------------------------------------------------------------------------------ statistics


@attrs.frozen
class Turn:
    """An untracked and a tracked stretch of training that were close in time: what each step took, in ns."""

    bare: Sequence[int]
    tracked: Sequence[int]


@attrs.frozen
class Interval:
    """A ratio as measured, and the 95 % interval that it lies in, as percents above 1."""

    value: float
    low: float
    high: float


class Means:
    """The mean steps of turns drawn again, of sums that are made once."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._sums = [(sum(turn.bare), len(turn.bare), sum(turn.tracked), len(turn.tracked)) for turn in turns]

    def ratio(self, weights: Sequence[int]) -> float:
        """Return the tracked mean by the other, each turn counted as often as its weight says."""
        weighted = ([weight * one for one in sums] for sums, weight in zip(self._sums, weights, strict=True))
        bare, bare_steps, tracked, tracked_steps = map(sum, zip(*weighted, strict=True))
        return (tracked / tracked_steps) / (bare / bare_steps)


class Tail:
    """The longest steps of all turns, sorted once, so that a percentile of turns drawn again is soon found."""

    def __init__(self, stretches: Sequence[Sequence[int]], part: float) -> None:
        self._sizes = [len(stretch) for stretch in stretches]
        self._part = part
        self._ranked = sorted(
            ((step, place) for place, stretch in enumerate(stretches) for step in stretch), reverse=True
        )

    def value(self, weights: Sequence[int]) -> int:
        """Return the percentile, each turn counted as often as its weight says."""
        total = sum(weight * size for weight, size in zip(weights, self._sizes, strict=True))
        left = total * (1 - self._part)
        for step, place in self._ranked:
            left -= weights[place]
            if left < 0:
                return step
        return self._ranked[-1][0]


def intervals(turns: Sequence[Turn], *, resampled: int = RESAMPLED, seed: int = 1) -> dict[str, Interval]:
    """Return by how much the mean and the p99 of the tracked steps exceed the others', in percent."""
    if len(turns) < 2:
        raise ValueError(f"{len(turns)} turns make no interval")
    means = Means(turns)
    bare = Tail([turn.bare for turn in turns], 0.99)
    tracked = Tail([turn.tracked for turn in turns], 0.99)

    def ratios(weights: Sequence[int]) -> tuple[float, float]:
        return means.ratio(weights), tracked.value(weights) / bare.value(weights)

    source = random.Random(seed)
    drawn: list[tuple[float, float]] = []
    for _ in range(resampled):
        weights = [0] * len(turns)
        for place in source.choices(range(len(turns)), k=len(turns)):
            weights[place] += 1
        drawn.append(ratios(weights))
    found = {}
    for place, (name, value) in enumerate(zip(("mean", "p99"), ratios([1] * len(turns)), strict=True)):
        ranked = sorted(one[place] for one in drawn)
        low, high = ranked[int(0.025 * resampled)], ranked[min(resampled - 1, int(0.975 * resampled))]
        found[name] = Interval(*(100 * (one - 1) for one in (value, low, high)))
    return found


# ------------------------------------------------------------------------------------------ conditions


@contextlib.contextmanager
def condition(name: str, folder: Path, core: int | None = 1) -> Iterator[xtrack.Run]:
    """Yield a run under a condition that holds for as long as the block; ``folder``: for all that is written.

    Raises Unmeasurable where the condition can't be made.
    """
    with ExitStack() as stack:
        server: Server | None = None
        if name in {"there", "stopped"}:
            server = stack.enter_context(serving(folder / "server", core=core))
        if name == "full":
            stack.enter_context(_small_disk(folder / "disk"))
        settings = xtrack.settings.load_settings(
            {"XTRACK_DIR": str(folder / ("disk/home" if name == "full" else "home")), "XTRACK_QUIET": "1"}
        )
        run = xtrack.Tracker.start_run("bench", settings=settings, transport=server.url if server else None)
        stack.callback(lambda: run.end(timeout=30 if name == "there" else 0))
        if server:
            _wait_for_connection(run)
        if server and name == "stopped":
            server.stop()
            stack.callback(server.go_on)
        if name == "full":
            _fill(folder / "disk")
        yield run
        if name == "full":
            assert run.stats().dropped > 0, "the disk wasn't full"
        else:
            assert run.stats().dropped == 0
        assert run.stats().refused == 0


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "none", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unmeasurable(f"no tmpfs here: {error}") from error
    if done.returncode:
        raise Unmeasurable(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def _wait_for_connection(run: xtrack.Run) -> None:
    due = time.monotonic() + 20
    while not ((delivery := run.stats().delivery) and delivery.connected):
        if time.monotonic() > due:
            raise TimeoutError("no connection after 20 s")
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------ measuring


def take_turns(step: Step, run: xtrack.Run, turns: int, block: int = BLOCK) -> list[Turn]:
    """Train by turns, A B B A, and return what each step took."""
    done = 0
    train(step, WARM_UP, None)
    train(step, WARM_UP, run)
    found = []
    for _ in range(turns):
        stretches: dict[bool, list[int]] = {False: [], True: []}
        for is_tracked in (False, True, True, False):
            stretches[is_tracked] += train(step, block, run if is_tracked else None, done)
            done += block
        found.append(Turn(stretches[False], stretches[True]))
    return found


def one_process(name: str, folder: Path, turns: int, *, plain: bool = False) -> list[Turn]:
    """Measure in this process."""
    step = plain_step() if plain else torch_step()
    with condition(name, folder) as run:
        return take_turns(step, run, turns)


def whole_process(name: str, folder: Path, steps: int, *, plain: bool = False) -> list[int]:
    """Train in this process alone; ``name``: a condition, or "" for an untracked training."""
    step = plain_step() if plain else torch_step()
    if not name:
        train(step, WARM_UP, None)
        return train(step, steps, None)
    with condition(name, folder) as run:
        train(step, WARM_UP, run)
        return train(step, steps, run)


def _elsewhere(bench: Bench, *arguments: str) -> list[list[int]]:
    """Run this module as a program, in a folder of its own; return the rows of steps that it prints."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.overhead", *arguments, "--dir", folder],
            cwd=machine.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 77:
        raise Unmeasurable(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:] or f"exit status {done.returncode}")
    rows: list[list[int]] = json.loads(done.stdout)
    return rows


def _figures(name: str, turns: Sequence[Turn], what: str) -> Iterator[Figure]:
    steps = sum(len(turn.tracked) for turn in turns)
    bare = sum(map(sum, (turn.bare for turn in turns))) / sum(len(turn.bare) for turn in turns)
    note = f"{len(turns)} {what}, {steps} steps of each kind"
    yield Figure(f"untracked step, {name}: mean", bare / 1e6, "ms", note=note)
    for figure, found in intervals(turns).items():
        yield Figure(f"overhead, {name}: {figure}", found.value, "%", note=f"from {found.low:.2f} to {found.high:.2f}")
        yield Figure(f"overhead, {name}: {figure}, upper end of the 95 % interval", found.high, "%", GOAL)


def _without_torch() -> str:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        return f"no PyTorch here: {error}"
    return ""


def _by_turns(bench: Bench, name: str) -> Iterator[Figure]:
    """Several processes, each with as many turns."""
    problem = _without_torch()
    turns: list[Turn] = []
    try:
        for _ in range(0 if problem else bench.pick(2, 6)):
            rows = _elsewhere(bench, "turns", name, str(bench.pick(10, 60)))
            turns += [Turn(bare, tracked) for bare, tracked in zip(rows[::2], rows[1::2], strict=True)]
    except Unmeasurable as error:
        problem = str(error)
    if problem:
        yield Figure(f"overhead, {name}", None, "%", GOAL, problem)
        return
    yield from _figures(name, turns, "turns")


def _by_processes(bench: Bench, name: str) -> Iterator[Figure]:
    """Whole processes: untracked, tracked, tracked, untracked."""
    problem = _without_torch()
    turns: list[Turn] = []
    try:
        for _ in range(0 if problem else bench.pick(3, 30)):
            stretches: dict[bool, list[int]] = {False: [], True: []}
            for is_tracked in (False, True, True, False):
                steps = str(bench.pick(1000, 5000))
                (row,) = _elsewhere(bench, "process", name if is_tracked else "", steps)
                stretches[is_tracked] += row
            turns.append(Turn(stretches[False], stretches[True]))
    except Unmeasurable as error:
        problem = str(error)
    if problem:
        yield Figure(f"overhead, {name}, whole processes", None, "%", GOAL, problem)
        return
    yield from _figures(f"{name}, whole processes", turns, "times four processes")


for _name in CONDITIONS:
    case(f"overhead.{_name}", optional=True)(partial(_by_turns, name=_name))
    case(f"overhead.processes.{_name}", optional=True)(partial(_by_processes, name=_name))


def main(arguments: list[str] | None = None) -> int:
    """Measure in this process, and print rows of steps in ns as JSON: of turns, untracked and tracked by turns."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    options.add_argument("what", choices=("turns", "process"))
    options.add_argument("condition", choices=(*CONDITIONS, ""))
    options.add_argument("count", type=int, help="turns, or steps")
    options.add_argument("--plain", action="store_true", help="a training in plain Python, in place of PyTorch's")
    options.add_argument("--dir", type=Path, required=True, help="an empty folder")
    given = options.parse_args(arguments)
    machine.pin(0)
    try:
        if given.what == "turns":
            turns = one_process(given.condition, given.dir, given.count, plain=given.plain)
            rows = [row for turn in turns for row in (turn.bare, turn.tracked)]
        else:
            rows = [whole_process(given.condition, given.dir, given.count, plain=given.plain)]
    except Unmeasurable as error:
        print(error, file=sys.stderr)
        return 77
    json.dump(rows, sys.stdout)
    return 0


if __name__ == "__main__":
    for variable in [one for one in os.environ if one.startswith("XTRACK_")]:
        del os.environ[variable]
    sys.exit(main())
