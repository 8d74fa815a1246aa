"""The examples train for real, and the store holds what they print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]  # each process imports torch anew
FRAMEWORKS = ("torch", "lightning")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("processes", [1, 2])
def test_train_torch(workshop: Any, processes: int) -> None:
    launch = workshop.python if processes == 1 else workshop.torchrun
    printed = launch(EXAMPLES / "train_torch.py", "--epochs", "4", "--batch-size", "5")
    state = workshop.state()
    assert (state.status, state.name, len(state.workers)) == ("completed", "iris-torch", processes)
    said = re.findall(r"^epoch (\d+)  val_loss ([\d.]+)  val_accuracy ([\d.]+)$", printed, re.MULTILINE)
    losses, accuracies = workshop.points("val_loss"), workshop.points("val_accuracy")
    assert said == [
        (str(loss.epoch), f"{loss.value:.4f}", f"{accuracy.value:.4f}")
        for loss, accuracy in zip(losses, accuracies, strict=True)
    ]
    per_epoch = 24 // processes
    assert [point.step for point in workshop.points("loss")] == list(range(0, 4 * per_epoch, 5))
    best = min(losses, key=lambda point: point.value)
    assert state.best_checkpoint.checkpoint.epoch == best.epoch
    assert Path(state.best_checkpoint.checkpoint.path).is_file()
    assert state.params["epochs"] == 4


@pytest.mark.parametrize("devices", [1, 2])
def test_train_lightning(workshop: Any, devices: int) -> None:
    printed = workshop.python(
        EXAMPLES / "train_lightning.py", "--epochs", "4", "--devices", str(devices), "--all-ranks"
    )
    state = workshop.state()
    assert (state.status, state.name, len(state.workers)) == ("completed", "iris-lightning", devices)
    score, path = re.findall(r"^best val_loss ([\d.]+) in (.+)$", printed, re.MULTILINE)[0]
    best = state.best_checkpoint.checkpoint
    assert f"{best.metrics_snapshot['val_loss']:.4f}" == score
    assert Path(best.path) == workshop.folder / path
    assert f"{min(point.value for point in workshop.points('val_loss')):.4f}" == score
    assert state.params["hidden"] == 8
