"""Train a small network on Fisher's Iris data with PyTorch, tracked with XTrack.

    python examples/train_torch.py
    torchrun --standalone --nproc-per-node 2 examples/train_torch.py                # two processes, one run
    torchrun --standalone --nproc-per-node 2 examples/train_torch.py --all-ranks    # each with its own metrics

Needs `pip install torch`. The lines with `run` or `callback` in them are the whole of the tracking.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from iris_model import INPUTS, SPECIES, Sample, load_data
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from xtrack_protocol import Run, Tracker
from xtrack_protocol.integrations.torch import PyTorchCallback


def as_dataset(samples: list[Sample]) -> TensorDataset:
    return TensorDataset(torch.tensor([inputs for inputs, _ in samples]), torch.tensor([label for _, label in samples]))


def validate(model: nn.Module, data: TensorDataset) -> dict[str, torch.Tensor]:
    inputs, labels = data.tensors
    with torch.no_grad():
        outputs = model(inputs)
    return {
        "val_loss": nn.functional.cross_entropy(outputs, labels),
        "val_accuracy": (outputs.argmax(1) == labels).float().mean(),
    }


def train(run: Run, options: argparse.Namespace) -> None:
    is_distributed = dist.is_initialized()
    is_main = not is_distributed or dist.get_rank() == 0
    train_set, validation_set = map(as_dataset, load_data(options.seed))
    torch.manual_seed(options.seed)
    network = nn.Sequential(nn.Linear(INPUTS, options.hidden), nn.Tanh(), nn.Linear(options.hidden, len(SPECIES)))
    model: nn.Module = DistributedDataParallel(network) if is_distributed else network
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
    sampler = DistributedSampler(train_set, seed=options.seed) if is_distributed else None
    loader = DataLoader(train_set, options.batch_size, shuffle=sampler is None, sampler=sampler)
    folder = options.out / run.run_id
    folder.mkdir(parents=True, exist_ok=True)

    callback = PyTorchCallback(run, log_every_n_steps=5, all_ranks=options.all_ranks, monitor="val_loss")
    for epoch in range(options.epochs):
        if sampler is not None:
            sampler.set_epoch(epoch)
        callback.on_epoch_start(epoch, total_epochs=options.epochs)
        for step, (inputs, labels) in enumerate(loader):
            loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            callback.on_step_end(step, {"loss": loss}, batch_size=len(labels))
        metrics = validate(network, validation_set)
        callback.on_epoch_end(epoch, metrics)
        if is_main:
            path = folder / f"epoch-{epoch}.pt"
            torch.save(network.state_dict(), path)
            callback.on_checkpoint(path)
            print(f"epoch {epoch}  val_loss {metrics['val_loss']:.4f}  val_accuracy {metrics['val_accuracy']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small network on the Iris data with PyTorch and XTrack.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate")
    parser.add_argument("--hidden", type=int, default=8, help="units in the hidden layer")
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("iris-runs"), metavar="DIR", help="where checkpoints go")
    parser.add_argument("--all-ranks", action="store_true", help="log the metrics of every process, not only of rank 0")
    options = parser.parse_args()
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    # Every process starts the run, as a worker of it: so one that fails makes the run fail.
    with Tracker.start_run("iris-torch", experiment_id="iris", params=options) as run:
        train(run, options)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
