"""A small Keras model on made-up data, on whatever backend; torch where nothing is said."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from tiny_scripts import failing, interrupting, say  # noqa: F401 - for the tests

from xtrack_protocol.integrations.keras import XTrackCallback  # noqa: F401 - for the tests

STEPS = 3
"""Batches an epoch: three quarters of the rows, 16 at once."""


def tiny_model(lr=0.5, **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    chosen = {"loss": "binary_crossentropy", "metrics": ["accuracy"], **options}
    model.compile(optimizer=keras.optimizers.SGD(lr, momentum=0.9), **chosen)
    return model


def tiny_data():
    x = np.random.default_rng(0).random((64, 4), dtype="float32")
    return x, (x.sum(1) > 2).astype("float32")


def fit(model, *callbacks, epochs=4, **options):
    return model.fit(
        *tiny_data(),
        epochs=epochs,
        batch_size=16,
        verbose=0,
        callbacks=list(callbacks),
        **{"validation_split": 0.25, **options},
    )


class AtEpoch(keras.callbacks.Callback):
    """Does something after an epoch, counted from 1."""

    def __init__(self, epoch, action):
        super().__init__()
        self.epoch, self.action = epoch, action

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            self.action()
