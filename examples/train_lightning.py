"""Train a small network on Fisher's Iris data with Lightning, tracked with XTrack.

    python examples/train_lightning.py
    python examples/train_lightning.py --devices 2                # two processes, one run
    python examples/train_lightning.py --devices 2 --all-ranks    # each with its own metrics

Needs `pip install lightning`. The lines with `XTrack` in them are the whole of the tracking.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightning.pytorch as pl
import torch
from iris_model import INPUTS, SPECIES, Sample, load_data
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from xtrack_protocol.integrations.lightning import XTrackCallback


class Classifier(pl.LightningModule):
    def __init__(self, hidden: int, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.network = nn.Sequential(nn.Linear(INPUTS, hidden), nn.Tanh(), nn.Linear(hidden, len(SPECIES)))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self.network(inputs), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        inputs, labels = batch
        outputs = self.network(inputs)
        self.log("val_loss", nn.functional.cross_entropy(outputs, labels), sync_dist=True)
        self.log("val_accuracy", (outputs.argmax(1) == labels).float().mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def as_loader(samples: list[Sample], batch_size: int, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    inputs, labels = zip(*samples, strict=True)
    return DataLoader(TensorDataset(torch.tensor(inputs), torch.tensor(labels)), batch_size, shuffle=shuffle)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small network on the Iris data with Lightning and XTrack.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate")
    parser.add_argument("--hidden", type=int, default=8, help="units in the hidden layer")
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=1, help="processes to train in")
    parser.add_argument("--all-ranks", action="store_true", help="log the metrics of every process, not only of rank 0")
    parser.add_argument("--out", type=Path, default=Path("iris-runs"), metavar="DIR", help="where checkpoints go")
    options = parser.parse_args()
    pl.seed_everything(options.seed)
    train_set, validation_set = load_data(options.seed)
    best = ModelCheckpoint(monitor="val_loss")
    trainer = pl.Trainer(
        max_epochs=options.epochs,
        accelerator="cpu",
        strategy="ddp" if options.devices > 1 else "auto",
        devices=options.devices,
        log_every_n_steps=5,
        logger=False,
        enable_progress_bar=False,
        default_root_dir=options.out,
        callbacks=[best, XTrackCallback("iris-lightning", experiment_id="iris", all_ranks=options.all_ranks)],
    )
    trainer.fit(
        Classifier(options.hidden, options.lr),
        as_loader(train_set, options.batch_size, shuffle=True),
        as_loader(validation_set, len(validation_set), shuffle=False),
    )
    if trainer.is_global_zero:
        print(f"best val_loss {best.best_model_score:.4f} in {best.best_model_path}")


if __name__ == "__main__":
    main()
