"""Search for the best settings of the Iris network: a run for the sweep, and below it one for each trial.

    python examples/sweep.py                            # a grid of 3 x 2 trials, as many at once as there are cores
    python examples/sweep.py --lr 0.01 0.02 50 --workers 4   # the one that diverges fails, and the others go on
    python examples/sweep.py --ab                       # variant A against variant B, five seeds each

Each trial is a process of its own, so they really are at the same time, and one that is killed takes no other with it.
The best is found by reading the store, as it would be by anybody, at any time later.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from typing import Any

from iris_model import Network, load_data

from xtrack_protocol import Run, Tracker
from xtrack_protocol.runs import RunState
from xtrack_protocol.storage import RunQuery, open_store

GOAL = "val_loss"  # the smaller, the better
VARIANTS = {"A": {"lr": 0.02, "hidden": 8}, "B": {"lr": 0.02, "hidden": 3}}


def trial(name: str, parent_run_id: str, settings: dict[str, Any], tags: dict[str, str]) -> None:
    """Train once, in a process of its own."""
    builder = Tracker.build("iris-sweep").with_name(name).with_parent(parent_run_id).with_params(settings)
    # An id of its own, whatever XTRACK_RUN_ID says: that one is the sweep's.
    with builder.with_tags(tags).with_run_id(f"{parent_run_id}-{name}").start(quiet=True) as run:
        run.summary(train(run, **settings))


def train(run: Run, *, lr: float, hidden: int, epochs: int, seed: int) -> dict[str, float]:
    """Train the network and return how good it is."""
    train_set, validation_set = load_data(seed)
    network = Network(hidden, seed, guarded=False)
    for epoch in range(1, epochs + 1):
        samples = random.Random(f"{seed}/{epoch}").sample(train_set, len(train_set))
        losses = [network.train(samples[at : at + 12], lr, 0.9) for at in range(0, len(samples), 12)]
        metrics = network.evaluate(validation_set)
        run.log_metrics({"loss": fmean(losses), **metrics}, step=epoch, epoch=epoch)
        if not math.isfinite(metrics[GOAL]):
            raise FloatingPointError(f"the loss is {metrics[GOAL]} in epoch {epoch}")
    return metrics


def run_all(trials: Sequence[tuple[str, str, dict[str, Any], dict[str, str]]], workers: int) -> int:
    """Run all trials, so many at once; return how many went wrong."""
    spawning = multiprocessing.get_context("spawn")  # begins afresh, with none of this process's threads

    def run_one(arguments: tuple[Any, ...]) -> int:
        process = spawning.Process(target=trial, args=arguments)
        process.start()
        process.join()
        print(f"{arguments[0]}: {'done' if process.exitcode == 0 else f'failed ({process.exitcode})'}", flush=True)
        return process.exitcode or 0

    with ThreadPoolExecutor(workers) as threads:  # a thread waits for one process at a time
        return sum(code != 0 for code in threads.map(run_one, trials))


def children(parent_run_id: str) -> list[RunState]:
    """Return the trials that have completed, the best first."""
    with open_store("local:") as store:
        found = store.search_runs(RunQuery(parent=parent_run_id, status=["completed"]))
    return sorted(found, key=lambda state: state.summary[GOAL])


def grid(options: argparse.Namespace, parent: Run) -> None:
    """Try every combination, and say which was the best."""
    trials = [
        (f"lr{lr:g}-h{hidden}", {"lr": lr, "hidden": hidden, "epochs": options.epochs, "seed": options.seed})
        for lr, hidden in itertools.product(options.lr, options.hidden)
    ]
    failed = run_all([(name, parent.run_id, settings, {"kind": "grid"}) for name, settings in trials], options.workers)
    found = children(parent.run_id)
    parent.summary({"trials": len(trials), "failed": failed})
    if not found:
        raise SystemExit("no trial has completed")
    best = found[0]
    parent.summary({f"best_{GOAL}": best.summary[GOAL]})
    parent.set_tag("best", best.run_id)
    for state in found:
        print(f"{state.name:12}  {GOAL} {state.summary[GOAL]:.4f}  val_accuracy {state.summary['val_accuracy']:.3f}")
    print(f"best: {best.run_id}  {best.params}")


def compare_variants(options: argparse.Namespace, parent: Run) -> None:
    """Train each variant with several seeds, and compare their means."""
    trials = [
        (f"{name}-{seed}", parent.run_id, {**settings, "epochs": options.epochs, "seed": seed}, {"variant": name})
        for name, settings in VARIANTS.items()
        for seed in range(options.seed, options.seed + options.seeds)
    ]
    run_all(trials, options.workers)
    found = children(parent.run_id)
    means = {}
    for name in VARIANTS:
        results = [state.summary[GOAL] for state in found if state.tags["variant"] == name]
        if results:
            means[name] = fmean(results)
            print(f"variant {name}: mean {GOAL} {means[name]:.4f} of {len(results)} runs")
    if not means:
        raise SystemExit("no trial has completed")
    winner = min(means, key=lambda name: means[name])
    parent.summary({f"{GOAL}_{name}": mean for name, mean in means.items()})
    parent.set_tag("winner", winner)
    print(f"winner: {winner}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Search for the best settings of the Iris network.")
    parser.add_argument("--lr", type=float, nargs="+", default=[0.005, 0.02, 0.05])
    parser.add_argument("--hidden", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ab", action="store_true", help="compare variants A and B instead")
    parser.add_argument("--seeds", type=int, default=5, help="of each variant")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trials at once")
    options = parser.parse_args()
    experiment = Tracker.experiment("iris-sweep").with_tag("goal", f"least {GOAL}").create()
    with experiment.with_name("ab" if options.ab else "grid").with_params(vars(options)).start() as parent:
        (compare_variants if options.ab else grid)(options, parent)


if __name__ == "__main__":
    main()
