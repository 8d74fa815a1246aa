"""Train a small neural network on Fisher's Iris data and track the run with XTrack.

    python examples/train_iris.py                       # 40 epochs, less than a second
    python examples/train_iris.py --crash-at-step 250   # fails on the way ...
    python examples/train_iris.py --resume              # ... and continues from its last checkpoint
    python examples/train_iris.py --diverge             # the loss becomes infinite, then NaN

Needs only the standard library and `xtrack_protocol`. The lines with `run.` in them are the whole of the tracking.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from iris_model import SPECIES, Network, Sample, load_data

from xtrack_protocol import Run, Tracker

CHECKPOINT_EVERY = 5  # epochs
DIVERGING_LR = 50.0
SETTINGS = ("name", "epochs", "lr", "momentum", "hidden", "batch_size", "seed")  # kept in checkpoints
ADJUSTABLE = {"lr": float, "momentum": float}  # by commands, while the training runs


class Trainer:
    """The training loop. All that it changes is in its checkpoints, so a resumed run makes the very same steps."""

    def __init__(self, run: Run, options: argparse.Namespace, checkpoint: dict[str, Any] | None) -> None:
        self.run = run
        self.options = options
        self.folder = options.out / quote(run.run_id, safe="")  # a run id may hold a slash
        self.folder.mkdir(parents=True, exist_ok=True)
        self.train_set, self.validation_set = load_data(options.seed)
        self.steps_per_epoch: int = math.ceil(len(self.train_set) / options.batch_size)
        self.network = Network(options.hidden, options.seed, guarded=not options.diverge)
        self.step = 0
        self.best_loss = math.inf
        if checkpoint is not None:
            self.step = checkpoint["step"]
            self.best_loss = checkpoint["best_loss"]
            self.network.weights = checkpoint["weights"]
            self.network.velocity = checkpoint["velocity"]
        self.saved_step = self.step

    @property
    def epoch(self) -> int:
        """The epoch of the latest step; both count from 1."""
        return math.ceil(self.step / self.steps_per_epoch)

    def train(self) -> None:
        options, run = self.options, self.run
        run.log_params(
            {
                "optimizer": {"lr": options.lr, "momentum": options.momentum},
                "model": {"hidden": options.hidden, "activation": "tanh", "weights": len(self.network.weights)},
                "data": {"name": "iris", "train": len(self.train_set), "validation": len(self.validation_set)},
                "epochs": options.epochs,
                "batch_size": options.batch_size,
                "seed": options.seed,
            }
        )
        while self.step < options.epochs * self.steps_per_epoch and not run.should_stop:
            batch = self.next_batch()
            loss = self.network.train(batch, options.lr, options.momentum)
            self.step += 1
            run.log_metric("loss", loss, step=self.step, epoch=self.epoch, phase="train", batch_size=len(batch))
            if self.step == options.crash_at_step:
                raise RuntimeError(f"crashed at step {self.step}, as --crash-at-step asked")
            if self.step % self.steps_per_epoch == 0:
                self.end_epoch(loss)
            time.sleep(options.slow)
            self.obey_commands()
        self.finish()

    def next_batch(self) -> list[Sample]:
        """Shuffle each epoch by seed and epoch alone, so that it can be entered at any step."""
        epoch, index = divmod(self.step, self.steps_per_epoch)
        order = random.Random(f"{self.options.seed}/{epoch}").sample(self.train_set, len(self.train_set))
        size = self.options.batch_size
        return order[index * size : (index + 1) * size]

    def end_epoch(self, loss: float) -> None:
        metrics = self.network.evaluate(self.validation_set)
        self.run.log_metrics(metrics, step=self.step, epoch=self.epoch, phase="val")
        self.run.set_status("training", progress=(self.epoch, self.options.epochs, "epochs"))
        values = "  ".join(f"{key} {value:.4f}" for key, value in {"loss": loss, **metrics}.items())
        print(f"epoch {self.epoch:2}/{self.options.epochs}  {values}", flush=True)
        if self.epoch % CHECKPOINT_EVERY == 0:
            self.save_checkpoint(metrics)

    def save_checkpoint(self, metrics: dict[str, float]) -> None:
        is_best = metrics["val_loss"] < self.best_loss  # never true of NaN
        self.best_loss = metrics["val_loss"] if is_best else self.best_loss
        self.saved_step = self.step
        state = {
            "run_id": self.run.run_id,
            "step": self.step,
            "best_loss": self.best_loss,
            "settings": {key: getattr(self.options, key) for key in SETTINGS},
            "weights": self.network.weights,
            "velocity": self.network.velocity,
        }
        path = self.folder / f"checkpoint-{self.step:06}.json"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(state), encoding="utf-8")
        unfinished.replace(path)  # whoever reads it finds all of it or nothing
        self.run.log_checkpoint(
            path, step=self.step, epoch=self.epoch, metrics=metrics, is_best=is_best, best_key="val_loss"
        )

    def obey_commands(self) -> None:
        """Do what was asked of the run since the last step, as `xtrack command RUN adjust_lr lr=0.01` does."""
        for command in self.run.commands():
            if command.type == "stop":
                self.run.set_status("finishing", message=f"asked to stop after step {self.step}")
            elif command.type == "checkpoint_now":
                self.save_checkpoint(self.network.evaluate(self.validation_set))
            elif command.type in {"adjust_lr", "update_params"}:
                self.change_settings(command.payload)
            else:
                self.run.log(f"this script has no {command.type} command", level="warning")

    def change_settings(self, changes: dict[str, Any]) -> None:
        try:
            settings = {key: ADJUSTABLE[key](value) for key, value in changes.items()}
        except (KeyError, TypeError, ValueError) as error:
            self.run.log(f"can't change {changes}: {error!r}", level="warning")
            return
        vars(self.options).update(settings)
        self.run.log_params({"optimizer": settings})

    def finish(self) -> None:
        metrics = self.network.evaluate(self.validation_set)
        if self.step > self.saved_step:
            self.save_checkpoint(metrics)
        path = self.folder / "confusion_matrix.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["species", *(f"predicted {species}" for species in SPECIES)])
            for species, counts in zip(SPECIES, self.network.confusion(self.validation_set), strict=True):
                writer.writerow([species, *counts])
        self.run.log_artifact(path, type="data", name="confusion_matrix")
        self.run.summary({**metrics, "best_val_loss": self.best_loss, "steps": self.step})


def load_checkpoint(out: Path, run_id: str) -> dict[str, Any] | None:
    """The newest checkpoint of the run, or of any run if `run_id` is empty."""
    folder = quote(run_id, safe="") if run_id else "*"
    paths = sorted(out.glob(f"{folder}/checkpoint-*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    return json.loads(paths[-1].read_text(encoding="utf-8")) if paths else None


def parse_options() -> tuple[argparse.Namespace, dict[str, Any] | None]:
    parser = argparse.ArgumentParser(description="Train a small neural network on the Iris data, tracked with XTrack.")
    parser.add_argument("--name", default="iris", help="name of the run")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--hidden", type=int, default=8, help="units in the hidden layer")
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("iris-runs"), metavar="DIR", help="where checkpoints go")
    parser.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="sleep this long after each step")
    parser.add_argument("--diverge", action="store_true", help=f"learn at a rate of {DIVERGING_LR:g}, without guards")
    parser.add_argument("--crash-at-step", type=int, metavar="N", help="raise an exception at this step")
    parser.add_argument("--resume", nargs="?", const="", metavar="RUN_ID", help="continue this run, or the newest")
    options = parser.parse_args()
    checkpoint = None
    if options.resume is not None:
        checkpoint = load_checkpoint(options.out, options.resume)
        if checkpoint is None:
            parser.error(f"{options.out} has no checkpoint of {options.resume or 'any run'} to resume from")
        parser.set_defaults(**checkpoint["settings"])  # the run's own settings, unless they are given anew
        options = parser.parse_args()
        options.hidden = checkpoint["settings"]["hidden"]  # the saved weights fit no other size
    if options.diverge:
        options.lr = DIVERGING_LR
    return options, checkpoint


def main() -> None:
    options, checkpoint = parse_options()
    with Tracker.start_run(
        name=options.name,
        run_id=checkpoint["run_id"] if checkpoint else None,
        experiment_id="iris",
        tags={"dataset": "iris", "model": "mlp"},
        resume=checkpoint is not None,
        rewind_to=checkpoint["step"] if checkpoint else None,
    ) as run:
        Trainer(run, options, checkpoint).train()


if __name__ == "__main__":
    main()
