"""PyTorch for real: what the store holds is what the script itself recorded, on one rank and on two."""

from __future__ import annotations

from typing import Any

import pytest

from xtrack_protocol.ir import RunEnd, StatusUpdate

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]  # each process imports torch anew
FRAMEWORKS = ("torch",)

GROUP = """
import json, sys
import torch.distributed as dist
import torch.multiprocessing as mp
from xtrack_protocol.integrations import _ranks
from xtrack_protocol.integrations.torch import start_run

def work(rank, folder, all_ranks):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    assert _ranks.find_place() == (rank, 2)
    assert _ranks.is_main_process() == (rank == 0)
    run = start_run("group", all_ranks=all_ranks)
    dist.barrier()
    if run is not None:
        run.log_metric("loss", float(rank), step=1)
        run.end()
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1], sys.argv[2] == "all"), nprocs=2)
"""


@pytest.mark.parametrize(
    ("ranks", "variables", "workers", "run_id"),
    [
        ("all", {}, ("0", "1"), None),
        ("all", {"TORCHELASTIC_RUN_ID": "none"}, ("0", "1"), None),
        ("all", {"TORCHELASTIC_RUN_ID": "theirs"}, ("0", "1"), "torch-theirs"),
        ("all", {"XTRACK_RUN_ID": "mine", "TORCHELASTIC_RUN_ID": "theirs"}, ("0", "1"), "mine"),
        # The group is another one than the launcher's, whose job its ranks may not share.
        ("all", {"RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "theirs"}, ("0", "1"), "torch-theirs"),
        ("one", {}, (), None),
    ],
)
def test_a_process_group(workshop: Any, ranks: str, variables: dict[str, str], workers: Any, run_id: str) -> None:
    printed = workshop.python(workshop.write(GROUP), workshop.folder, ranks, **variables)
    state = workshop.state()
    assert (state.status, state.name) == ("completed", "group")
    assert tuple(filter(None, state.workers)) == workers
    assert run_id in {None, state.run_id}
    assert "warning" not in printed
    assert len(workshop.points("loss")) == max(1, len(workers))


# ------------------------------------------------------------------------------------------ trainings

TRAIN = """
import json, os, signal, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from xtrack_protocol import Tracker
from xtrack_protocol.integrations.torch import PyTorchCallback

def main(every="1", what="", all_ranks=""):
    rank = int(os.environ.get("RANK", "0"))
    is_group = "RANK" in os.environ
    if is_group:
        dist.init_process_group("gloo")
    torch.manual_seed(rank)
    model = torch.nn.Linear(3, 1)
    if is_group:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    steps, epochs, step = [], [], 0
    with Tracker.start_run("linear") as run:
        callback = PyTorchCallback(run, int(every), all_ranks=bool(all_ranks), monitor="val_loss")
        try:
            for epoch in range(3):
                callback.on_epoch_start(epoch, total_epochs=3)
                for index in range(7):
                    x = torch.randn(8, 3)
                    loss = torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    callback.on_step_end(index, {"loss": loss, "lr": lambda: optimizer.param_groups[0]["lr"]})
                    steps.append((step, loss.item()))
                    step += 1
                    if what and epoch == 1 and index == 3 and rank == int(what[-1]):
                        if what.startswith("raise"):
                            raise ValueError(f"rank {rank} has had enough")
                        os.kill(os.getpid(), signal.SIGINT)
                metrics = {"val_loss": [0.5, 0.25, 0.75][epoch], "weight": next(model.parameters()).sum()}
                epochs.append([step - 1, metrics["val_loss"]])
                callback.on_epoch_end(epoch, metrics)
                path = f"epoch-{epoch}.pt"
                if rank == 0:
                    torch.save(model.state_dict(), path)
                callback.on_checkpoint(path)
        finally:
            with open(f"history-{rank}.json", "w") as file:
                json.dump({"steps": steps, "epochs": epochs}, file)
    if is_group:
        dist.destroy_process_group()

main(*sys.argv[1:])
"""


def recorded(workshop: Any, rank: int, of: str = "steps") -> list[tuple[int, float]]:
    return [tuple(pair) for pair in workshop.json(f"history-{rank}.json")[of]]


def test_a_training(workshop: Any) -> None:
    printed = workshop.python("-W", "error", workshop.write(TRAIN))
    state = workshop.state()
    assert (state.status, state.name, state.lost_events) == ("completed", "linear", 0)
    assert workshop.series("loss") == recorded(workshop, 0)
    assert [step for step, _ in workshop.series("loss")] == list(range(21))
    assert {(point.epoch, point.context.phase) for point in workshop.points("loss")} == {
        (epoch, "train") for epoch in range(3)
    }
    assert {value for _, value in workshop.series("lr")} == {0.05}
    assert workshop.series("val_loss") == recorded(workshop, 0, "epochs")
    assert {point.context.phase for point in workshop.points("val_loss")} == {"val"}
    assert [point.epoch for point in workshop.points("weight")] == [0, 1, 2]
    checkpoints = [stored.checkpoint for stored in state.checkpoints]
    assert [(saved.step, saved.epoch, saved.is_best) for saved in checkpoints] == [
        (6, 0, True),
        (13, 1, True),
        (20, 2, False),
    ]
    assert state.best_checkpoint.checkpoint.path == str(workshop.folder / "epoch-1.pt")
    assert state.best_checkpoint.checkpoint.best_metric_key == "val_loss"
    assert state.best_checkpoint.checkpoint.metrics_snapshot["val_loss"] == 0.25
    assert (state.activity.status, state.activity.progress.current, state.activity.progress.total) == (
        "training",
        3,
        3,
    )
    assert "warning" not in printed


def test_every_nth_step(workshop: Any) -> None:
    workshop.python(workshop.write(TRAIN), "5")
    assert workshop.series("loss") == recorded(workshop, 0)[::5]
    assert len(workshop.series("val_loss")) == 3


@pytest.mark.parametrize(
    ("what", "status", "error"), [("raise0", "failed", "ValueError"), ("stop0", "killed", "KeyboardInterrupt")]
)
def test_a_training_that_does_not_end_well(workshop: Any, what: str, status: str, error: str) -> None:
    workshop.python(workshop.write(TRAIN), "1", what, status=None)
    state = workshop.state()
    assert (state.status, state.error.type) == (status, error)
    assert workshop.series("loss") == recorded(workshop, 0)
    assert len(workshop.series("loss")) == 11


def test_two_ranks(workshop: Any) -> None:
    printed = workshop.torchrun(workshop.write(TRAIN))
    state = workshop.state()
    assert (state.status, state.workers) == ("completed", ("0", "1"))
    assert workshop.series("loss") == recorded(workshop, 0)
    assert recorded(workshop, 1) != recorded(workshop, 0)
    assert len(state.checkpoints) == 3
    assert printed.count("tracking run") == 1


def test_all_ranks(workshop: Any) -> None:
    workshop.torchrun(workshop.write(TRAIN), "1", "", "all")
    state = workshop.state()
    assert (state.status, state.workers, state.world_size) == ("completed", ("0", "1"), 2)
    for rank in range(2):
        assert workshop.series("loss", worker_id=str(rank)) == recorded(workshop, rank)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_of_two_ranks_fails(workshop: Any, rank: int) -> None:
    workshop.torchrun(workshop.write(TRAIN), "1", f"raise{rank}", status=1)
    state = workshop.state()
    assert state.status == "failed"
    said = [event.payload.error for event in workshop.events() if isinstance(event.payload, RunEnd)]
    assert f"rank {rank} has had enough" in {error.message for error in said if error is not None}


RESUME = """
import os, signal, sys
import torch
from xtrack_protocol import Tracker
from xtrack_protocol.integrations.torch import PyTorchCallback

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
saved = torch.load("last.pt") if os.path.exists("last.pt") else {"epoch": -1, "step": -1, "best": None}
if "model" in saved:
    model.load_state_dict(saved["model"])
resume = {"resume": True, "rewind_to": saved["step"]} if saved["epoch"] >= 0 else {}
with Tracker.start_run("resumed", run_id="r", **resume) as run:
    callback = PyTorchCallback(run, 2, monitor="val_loss")
    callback.best = saved["best"]
    for epoch in range(saved["epoch"] + 1, 4):
        callback.on_epoch_start(epoch, total_epochs=4)
        for step in range(epoch * 6, epoch * 6 + 6):
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            callback.on_step_end(step, {"loss": loss})
            if step == 15 and "kill" in sys.argv:
                os.kill(os.getpid(), signal.SIGKILL)
        callback.on_epoch_end(epoch, {"val_loss": [3, 1, 2, 4][epoch]})
        callback.on_checkpoint("last.pt")
        torch.save({"model": model.state_dict(), "epoch": epoch, "step": step, "best": callback.best}, "last.pt")
"""


def test_a_killed_training_goes_on(workshop: Any) -> None:
    script = workshop.write(RESUME)
    workshop.python(script, "kill", status=-9)
    assert workshop.series("loss")[-1][0] == 14
    workshop.python(script)
    resumed = workshop.state()
    assert resumed.status == "completed"
    assert [(saved.checkpoint.step, saved.checkpoint.is_best) for saved in resumed.checkpoints] == [
        (5, True),
        (11, True),
        (17, False),
        (23, False),
    ]
    whole = type(workshop)(workshop.folder / "whole")
    whole.folder.mkdir()
    whole.python(script)
    assert workshop.series("loss") == whole.series("loss")
    assert [step for step, _ in whole.series("loss")] == list(range(0, 24, 2))
    assert workshop.series("val_loss") == whole.series("val_loss")


# ------------------------------------------------------------------------------------------ calls

CALLS = """
import json, sys
import torch
from xtrack_protocol import Tracker
from xtrack_protocol.integrations.torch import PyTorchCallback, start_run

class Untouchable:
    def __getattr__(self, name):
        raise AssertionError(f"{name} was read")

def untouchable():
    raise AssertionError("was called")

with start_run("calls") as run:
    callback = PyTorchCallback(run, 10)
    callback.on_step_end(1, {"loss": torch.tensor(0.5)})
    for step in range(2, 10):
        callback.on_step_end(step, {"loss": Untouchable(), "other": untouchable})
    callback.on_step_end(10, untouchable)
    assert run.stats().refused == 0

    # What is wrong is told of and left out, and the rest is logged.
    callback = PyTorchCallback(run, 1, monitor="accuracy", mode="max")
    callback.on_step_end(20, {"good": 1, "text": "no number", "raises": untouchable, "pair": torch.zeros(2)})
    callback.on_step_end(21, untouchable)
    callback.on_step_end(22, 5)
    callback.on_step_end(23, lambda: {"good": torch.tensor([2])})
    callback.on_epoch_start("first")
    callback.on_epoch_end({"val_loss": 0.5})
    assert run.stats().refused == 7, run.stats()

    # The best by a monitor; not-a-number never is; where it is missing nothing is.
    for accuracy in (0.1, float("nan"), 0.3, 0.2, torch.tensor(0.4)):
        callback.on_checkpoint("a.pt", {"accuracy": accuracy}, step=30)
    callback.on_checkpoint("b.pt", {"loss": 1})
    callback.on_checkpoint("c.pt", {"accuracy": 0.0}, is_best=True, epoch=4)
    assert abs(callback.best - 0.4) < 1e-6

    # Epochs from 1, and steps that count on by themselves.
    callback = PyTorchCallback(run, 1)
    for epoch in (1, 2):
        callback.on_epoch_start(epoch, 2)
        for step in (1, 2, 3):
            callback.on_step_end(100 + step + 3 * (epoch - 1), {"global": epoch})
        callback.on_epoch_end(epoch)
    callback.on_checkpoint("d.pt")
    callback = PyTorchCallback(run, 1)
    for epoch in (1, 2):
        callback.on_epoch_start(epoch)
        for step in (1, 2, 3):
            callback.on_step_end(step, {"local": epoch})

nothing = PyTorchCallback(None)
nothing.on_epoch_start(0)
nothing.on_step_end(0, untouchable)
nothing.on_epoch_end(0, untouchable)
nothing.on_checkpoint("x")
for wrong in ({"log_every_n_steps": 0}, {"log_every_n_steps": 1.5}, {"mode": "best"}, {"run": "calls"}):
    try:
        PyTorchCallback(**{"run": None, **wrong})
    except ValueError as error:
        assert next(iter(wrong)) in str(error)
    else:
        raise AssertionError(wrong)
"""


def test_calls(workshop: Any) -> None:
    printed = workshop.python("-W", "error", workshop.write(CALLS))
    state = workshop.state()
    assert workshop.series("loss") == [(1, 0.5)]
    assert workshop.series("good") == [(20, 1), (23, 2)]
    saved = [stored.checkpoint for stored in state.checkpoints]
    assert [one.is_best for one in saved] == [True, False, True, False, True, False, True, False]
    assert [(one.step, one.epoch) for one in saved[-3:]] == [(23, None), (23, 4), (106, 2)]
    assert [step for step, _ in workshop.series("global")] == list(range(101, 107))
    assert [step for step, _ in workshop.series("local")] == list(range(1, 7))
    progress = [
        (event.payload.progress.current, event.payload.progress.total)
        for event in workshop.events()
        if isinstance(event.payload, StatusUpdate) and event.payload.progress
    ]
    assert progress == [(0, 2), (1, 2), (1, 2), (2, 2)]
    assert "no 'accuracy' to tell the best by" in printed
