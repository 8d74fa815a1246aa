"""A training that a scheduler may end at any moment and begin again: by Slurm, Kubernetes, SageMaker, or by hand.

    XTRACK_RUN_ID=job-1 XTRACK_RESUME=auto XTRACK_SIGNALS=TERM=end python examples/train_resumable.py --pause 0.1

The same command, given again, goes on behind the last checkpoint, with the same run. Needs only the standard library
and `xtrack_protocol`; nothing in it knows of a scheduler.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path

import xtrack_protocol as xtrack


def load(path: Path) -> dict[str, float]:
    return json.loads(path.read_text()) if path.exists() else {"step": 0, "slope": 0.0, "offset": 0.0}


def save(path: Path, state: dict[str, float]) -> None:
    """Whole or not at all: the end may come in the middle of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(state))
    part.replace(path)


def train(state: dict[str, float], lr: float) -> float:
    """Make one step of fitting y = 3x - 1 to noisy points; return the loss."""
    dice = random.Random(state["step"])
    x = [dice.uniform(-1, 1) for _ in range(32)]
    errors = [state["slope"] * value + state["offset"] - (3 * value - 1 + dice.gauss(0, 0.1)) for value in x]
    state["slope"] -= lr * sum(error * value for error, value in zip(errors, x, strict=True)) / len(x)
    state["offset"] -= lr * sum(errors) / len(x)
    state["step"] += 1
    return sum(error * error for error in errors) / len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.json"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=50, help="steps between two checkpoints")
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds a step, to have time to end it")
    options = parser.parse_args()

    state = load(options.checkpoint)
    begin = int(state["step"])
    # What an earlier attempt has logged beyond its checkpoint is made again: all of it, where there is no checkpoint.
    with xtrack.start_run("resumable", rewind_to=begin, params={"lr": options.lr}) as run:
        saves = run.worker_id in {None, "0"}  # of several workers, one
        saved = begin
        while state["step"] < options.steps and not run.should_stop:
            loss = train(state, options.lr)
            step = int(state["step"])
            run.log_metric("loss", loss, step=step)
            is_asked = any(command.type == "checkpoint_now" for command in run.commands())
            if saves and (is_asked or step % options.every == 0):
                save(options.checkpoint, state)
                run.log_checkpoint(options.checkpoint, step, metrics={"loss": loss})
                saved = step
            time.sleep(options.pause)
        if saves and saved < state["step"]:
            save(options.checkpoint, state)
            run.log_checkpoint(options.checkpoint, int(state["step"]))
        run.summary({"slope": state["slope"], "offset": state["offset"]})


if __name__ == "__main__":
    main()
