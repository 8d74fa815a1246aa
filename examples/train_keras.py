"""Train a small network on Fisher's Iris data with Keras 3, tracked with XTrack.

    python examples/train_keras.py
    python examples/train_keras.py --epochs 20 --run-id my-run    # then, to go on where it ended:
    python examples/train_keras.py --epochs 40 --run-id my-run --resume

Needs `pip install keras` and a backend; without KERAS_BACKEND it takes torch. The lines with `XTrack` or `tracking` in
them are the whole of the tracking.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from iris_model import INPUTS, SPECIES, Sample, load_data

from xtrack_protocol.integrations.keras import XTrackCallback


def build_model(hidden: int, lr: float) -> keras.Model:
    model = keras.Sequential(
        [
            keras.layers.Input((INPUTS,)),
            keras.layers.Dense(hidden, activation="tanh"),
            keras.layers.Dense(len(SPECIES), activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(lr, momentum=0.9), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def as_arrays(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray]:
    inputs, labels = zip(*samples, strict=True)
    return np.array(inputs, "float32"), np.array(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small network on the Iris data with Keras and XTrack.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate")
    parser.add_argument("--hidden", type=int, default=8, help="units in the hidden layer")
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run-id", help="the run's id; a new one by default")
    parser.add_argument("--resume", action="store_true", help="go on with the last checkpoint, up to --epochs")
    parser.add_argument("--out", type=Path, default=Path("iris-runs"), metavar="DIR", help="where checkpoints go")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    train_set, validation_set = map(as_arrays, load_data(options.seed))
    last, best = options.out / "last.keras", options.out / "best.keras"
    model = keras.saving.load_model(last) if options.resume else build_model(options.hidden, options.lr)
    steps = len(train_set[0]) // options.batch_size
    tracking = XTrackCallback("iris-keras", run_id=options.run_id, experiment_id="iris")
    history = model.fit(
        *train_set,
        validation_data=validation_set,
        epochs=options.epochs,
        initial_epoch=int(model.optimizer.iterations) // steps if options.resume else 0,
        batch_size=options.batch_size,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(last),
            keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
            tracking,
        ],
    )
    for epoch, (loss, accuracy) in enumerate(
        zip(history.history["val_loss"], history.history["val_accuracy"], strict=True), history.epoch[0] + 1
    ):
        print(f"epoch {epoch}  val_loss {loss:.4f}  val_accuracy {accuracy:.4f}")
    tested = model.evaluate(*validation_set, verbose=0, callbacks=[tracking], return_dict=True)
    print(f"afterwards  loss {tested['loss']:.4f}")


if __name__ == "__main__":
    main()
