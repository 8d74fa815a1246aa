"""Lightning for real: what the store holds is what Lightning's own CSVLogger wrote, on one rank and on two."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.ir import RunEnd, StatusUpdate

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]  # each process imports torch anew
FRAMEWORKS = ("lightning", "pytorch_lightning")

TRAIN = """
import json, os, signal, sys

options = json.loads(sys.argv[1])
if options.get("package") == "pytorch_lightning":
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger
else:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger
import torch
from torch.utils.data import DataLoader, TensorDataset
from xtrack_protocol.collector import send_command
from xtrack_protocol.integrations.lightning import XTrackCallback, XTrackLogger

class Linear(pl.LightningModule):
    def __init__(self, lr=0.05, loss=torch.nn.functional.mse_loss):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def loss_of(self, batch):
        return self.hparams.loss(self.layer(batch[0]), batch[1])

    def training_step(self, batch, index):
        what, rank = options.get("what", ""), options.get("rank", 0)
        if what and what != "test" and self.current_epoch == 1 and index == 1 and self.global_rank == rank:
            if what == "raise":
                raise ValueError(f"rank {rank} has had enough")
            if what == "command":
                (answer,) = send_command(None, tracking.logger.run_id, "stop", timeout=20)
                print("answer:", answer.status, answer.message, flush=True)
                return self.loss_of(batch)
            os.kill(os.getpid(), getattr(signal, what))
        loss = self.loss_of(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", self.loss_of(batch))

    def test_step(self, batch, index):
        self.log("test_loss", self.loss_of(batch))
        if options.get("what") == "test":
            raise ValueError("the test has had enough")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)

torch.manual_seed(0)
x = torch.randn(48, 4)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)
kind = XTrackCallback if options.get("callback") else XTrackLogger
tracking = kind("linear", all_ranks=options.get("all_ranks", False), **options.get("start", {}))
if options.get("early"):
    tracking.experiment.log("before the processes know of each other")
best = ModelCheckpoint(monitor="val_loss", dirpath="saved", save_last=True)
trainer = pl.Trainer(
    max_epochs=3,
    log_every_n_steps=2,
    accelerator="cpu",
    enable_progress_bar=False,
    enable_model_summary=False,
    logger=[CSVLogger("csv"), *([] if options.get("callback") else [tracking])],
    callbacks=[best, *([tracking] if options.get("callback") else [])],
    **options.get("trainer", {}),
)
model = Linear()
if options.get("checkpoint"):
    torch.serialization.add_safe_globals([torch.nn.functional.mse_loss])  # it is among the hyperparameters
trainer.fit(model, data, data, ckpt_path=options.get("checkpoint"))
logger = getattr(tracking, "logger", tracking)
assert not trainer.is_global_zero or logger.run_id
if trainer.is_global_zero:
    with open("said.json", "w") as file:
        json.dump(
            {
                "best": best.best_model_path, "score": best.best_model_score.item(),
                "steps": trainer.global_step, "epochs": trainer.current_epoch,
            },
            file,
        )
trainer.validate(model, data, verbose=False)
trainer.test(model, data, verbose=False)
"""

DDP = {"strategy": "ddp", "devices": 2}


def train(workshop: Any, status: int | None = 0, **options: Any) -> str:
    printed: str = workshop.python(workshop.write(TRAIN), json.dumps(options), status=status)
    return printed


def by_lightning(workshop: Any) -> dict[str, list[tuple[int, int, float]]]:
    """Return of each metric what CSVLogger wrote: step, epoch, value."""
    found: dict[str, list[tuple[int, int, float]]] = {}
    for path in sorted(Path(workshop.folder, "csv").rglob("metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                step, epoch = int(row.pop("step")), int(row.pop("epoch"))
                for key, text in row.items():
                    if text:
                        found.setdefault(key, []).append((step, epoch, float(text)))
    return {key: sorted(points) for key, points in found.items()}


def by_us(workshop: Any, **wanted: Any) -> dict[str, list[tuple[int, int, float]]]:
    keys = workshop.state().metrics
    return {
        key: sorted((point.step, point.epoch, point.value) for point in workshop.points(key, **wanted)) for key in keys
    }


def ends(workshop: Any) -> list[tuple[str, str | None]]:
    payloads = [event.payload for event in workshop.events() if isinstance(event.payload, RunEnd)]
    return [(end.status, end.error and end.error.type) for end in payloads]


@pytest.mark.parametrize("callback", [False, True])
@pytest.mark.parametrize("package", ["lightning", "pytorch_lightning"])
def test_a_training(workshop: Any, package: str, callback: bool) -> None:
    printed = train(workshop, package=package, callback=callback)
    state = workshop.state()
    assert (state.status, state.name, state.lost_events) == ("completed", "linear", 0)
    ours = by_us(workshop)
    assert ours == by_lightning(workshop)
    assert sorted(ours) == ["test_loss", "train_loss_epoch", "train_loss_step", "val_loss"]
    assert len(ours["train_loss_step"]) == 18
    assert len(ours["val_loss"]) == 4  # three epochs and validate(); no sanity check
    phases = {key: {point.context.phase for point in workshop.points(key)} for key in ours}
    assert phases == {
        "test_loss": {"test"},
        "train_loss_epoch": {"train"},
        "train_loss_step": {"train"},
        "val_loss": {"val"},
    }
    assert state.params == {"lr": 0.05, "loss": "torch.nn.functional.mse_loss"}
    assert ends(workshop) == [("completed", None)] * 3
    assert printed.count("tracking run") == 3  # fit, validate, test; rank 0 alone says so
    assert "warning" not in printed

    best, said = state.best_checkpoint.checkpoint, workshop.json("said.json")
    assert best.path == said["best"]
    assert (best.best_metric_key, best.metrics_snapshot) == ("val_loss", {"val_loss": said["score"]})
    assert f"epoch={best.epoch}-step={best.step + 1}" in best.path
    lasts = [stored.checkpoint for stored in state.checkpoints if stored.checkpoint.path.endswith("last.ckpt")]
    assert [(last.step, last.epoch, last.is_best) for last in lasts] == [(11, 0, False), (23, 1, False), (35, 2, False)]

    told = [event.payload for event in workshop.events() if isinstance(event.payload, StatusUpdate)]
    progress = [(one.progress.current, one.progress.total) for one in told if one.progress]
    assert progress == ([(0, 3), (0, 3), (1, 3), (1, 3), (2, 3), (2, 3), (3, 3)] if callback else [])
    evaluated = sorted(one.message for one in told if one.status == "evaluating")  # of three sessions
    assert evaluated == (["test"] + ["validation"] * 4 if callback else [])


@pytest.mark.parametrize("callback", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("what", "status", "error"),
    [
        ("raise", "failed", "ValueError"),
        ("SIGINT", "killed", "KeyboardInterrupt"),
        ("SIGTERM", "killed", "SIGTERMException"),
    ],
)
def test_a_training_that_does_not_end_well(workshop: Any, what: str, status: str, error: str, callback: bool) -> None:
    train(workshop, status=None, what=what, callback=callback)
    state = workshop.state()
    assert (state.status, state.error.type) == (status, error)
    assert ends(workshop) == [(status, error)]
    assert by_us(workshop) == by_lightning(workshop)
    assert state.best_checkpoint.checkpoint.epoch == 0


def test_a_killed_training_goes_on(workshop: Any) -> None:
    train(workshop, status=-9, what="SIGKILL", start={"run_id": "r"})
    best = workshop.state().best_checkpoint.checkpoint
    resume = {"run_id": "r", "resume": True, "rewind_to": best.step}
    train(workshop, start=resume, checkpoint=best.path)
    resumed, resumed_metrics = workshop.state(), by_us(workshop)
    assert (resumed.status, resumed.params["lr"]) == ("completed", 0.05)
    assert resumed.best_checkpoint.checkpoint.path == workshop.json("said.json")["best"]

    whole = type(workshop)(workshop.folder / "whole")
    whole.folder.mkdir()
    train(whole)
    assert resumed_metrics == by_us(whole)


def test_a_stop_command_ends_the_training(workshop: Any) -> None:
    """After the batch in which it came, as an early stop: the second one of the second epoch's twelve."""
    printed = train(workshop, callback=True, what="command")
    assert "answer: ok the training ends after this batch\n" in printed
    said = json.loads(workshop.folder.joinpath("said.json").read_text())
    assert said["steps"] == 12 + 2
    assert (workshop.state().status, workshop.state().error) == ("completed", None)


def test_a_stop_command_outside_of_a_training(workshop: Any) -> None:
    """To a run that the script has started: before ``fit``, and after one that an exception has ended."""
    outside = """
answers = []
def ask():
    (answer,) = send_command(None, run.run_id, "stop", timeout=20)
    print("answer:", answer.status, answer.message, flush=True)
class Failing(pl.Callback):
    def setup(self, trainer, module, stage):
        ask()
    def on_train_batch_end(self, *_):
        raise ValueError("had enough")
import xtrack_protocol
with xtrack_protocol.start_run(run_id="given") as run:
    callbacks = [XTrackCallback(run=run), Failing()]
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=callbacks)
    try:
        trainer.fit(Linear(), data)
    except ValueError:
        ask()
"""
    head, _, _ = TRAIN.partition("kind = XTrackCallback")
    printed = workshop.python(workshop.write(head + outside), "{}")
    assert printed.count("answer: error RuntimeError: nothing is being trained now\n") == 2


def test_a_stop_command_where_several_processes_train(workshop: Any) -> None:
    """It reaches one of them, which would stop alone while the others wait for it."""
    printed = train(workshop, callback=True, what="command", trainer=DDP)
    assert "answer: error RuntimeError: 2 processes train here" in printed
    said = json.loads(workshop.folder.joinpath("said.json").read_text())
    assert said["steps"] == 3 * 6
    assert workshop.state().status == "completed"


def test_a_test_that_fails(workshop: Any) -> None:
    train(workshop, status=1, what="test")
    assert workshop.state().status == "failed"
    assert sorted(map(str, ends(workshop))) == ["('completed', None)"] * 2 + ["('failed', 'ValueError')"]


@pytest.mark.parametrize("callback", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_ranks(workshop: Any, callback: bool) -> None:
    printed = train(workshop, trainer=DDP, callback=callback, early=not callback)
    state = workshop.state()
    assert (state.status, len(state.streams)) == ("completed", 3)
    assert by_us(workshop) == by_lightning(workshop)
    assert state.best_checkpoint.checkpoint.path == workshop.json("said.json")["best"]
    assert printed.count("tracking run") == 3  # fit, validate, test; rank 0 alone says so


def test_all_ranks(workshop: Any) -> None:
    train(workshop, trainer=DDP, all_ranks=True)
    state = workshop.state()
    assert (state.status, state.world_size, state.workers) == ("completed", 2, ("0", "1"))
    zero, one = (by_us(workshop, worker_id=worker) for worker in state.workers)
    assert zero == by_lightning(workshop)
    steps = {key: [point[:2] for point in points] for key, points in zero.items()}
    assert steps == {key: [point[:2] for point in points] for key, points in one.items()}
    assert zero["train_loss_step"] != one["train_loss_step"]


@pytest.mark.slow
def test_all_ranks_asked_too_early(workshop: Any) -> None:
    printed = train(workshop, status=None, trainer=DDP, all_ranks=True, early=True)
    assert "ConfigurationError" in printed
    assert "XTRACK_RUN_ID" in printed
    assert len(workshop.runs()) == 1  # of rank 0, whom nobody told of another; the other one has none


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_one_of_two_ranks_fails(workshop: Any, rank: int) -> None:
    train(workshop, status=None, trainer=DDP, all_ranks=True, what="raise", rank=rank)
    assert workshop.state().status == "failed"
    assert ("failed", "ValueError") in ends(workshop)


def test_ranks_of_torchrun(workshop: Any) -> None:
    workshop.torchrun(workshop.write(TRAIN), json.dumps({"trainer": DDP, "all_ranks": True}))
    state = workshop.state()
    assert (state.status, state.workers) == ("completed", ("0", "1"))
    assert by_us(workshop, worker_id="0") == by_lightning(workshop)


CALLS = """
import pickle, sys
import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from xtrack_protocol import Tracker
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations.lightning import XTrackCallback, XTrackLogger

def trainer(**options):
    return pl.Trainer(
        limit_train_batches=2, limit_val_batches=1, max_epochs=1, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, **options
    )

# The script's own run is the script's to end.
with Tracker.start_run("own") as run:
    logger = XTrackLogger(run=run)
    assert logger.experiment is run
    trainer(logger=logger).fit(BoringModel())
    assert not run.ended
    run.log("after the training")
    assert logger.run_id == run.run_id
    for wrong in ({"name": "x"}, {"tags": {}}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            XTrackLogger(run=run, **wrong)
with pytest.raises(TypeError, match="XTrackLogger.*tagz"):
    XTrackCallback("x", tagz={})
with pytest.raises(ConfigurationError, match="must be a Run"):
    XTrackLogger(run="own")

# Folders, and a second fit of the same logger; both at once track one run.
logger, callback = XTrackLogger("two", tags={"a": 1}), XTrackCallback("three")
assert (logger.name, logger.version, logger.save_dir, logger.log_dir) == ("two", None, None, None)
for _ in range(2):
    with_both = trainer(logger=logger, callbacks=[callback], default_root_dir="root")
    with_both.fit(BoringModel())
assert callback.logger is logger
assert with_both.checkpoint_callback.dirpath.endswith(f"root/two/{logger.version}/checkpoints")
placed = XTrackLogger("four", save_dir="place")
assert (placed.save_dir, placed.root_dir, placed.log_dir) == ("place", "place/four", None)

# In another process it goes on with the run.
again = pickle.loads(pickle.dumps(logger))
assert again.run_id == logger.run_id
again.log_metrics({"epoch": 0.5, "loss": 1.0}, step=5)
again.log_metrics({"epoch": 3.0}, step=6)
again.log_hyperparams(5)
again.finalize("success")
again.finalize("success")
"""


def test_calls(workshop: Any) -> None:
    printed = workshop.python(workshop.write(CALLS))
    runs = {state.name: state for state in workshop.runs()}
    assert sorted(runs) == ["own", "two"]
    assert {state.status for state in runs.values()} == {"completed"}
    assert len(runs["own"].streams) == 1
    assert len(runs["own"].logs) == 1
    assert len(runs["two"].streams) == 3
    assert runs["two"].metrics["epoch"].count == 2
    assert "log_params takes names with values" in printed
