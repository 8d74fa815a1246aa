"""The data and the neural network of `train_iris.py`, in plain Python. Nothing in this file knows of tracking."""

from __future__ import annotations

import csv
import math
import random
from operator import mul
from pathlib import Path
from statistics import fmean, pstdev

DATA = Path(__file__).parent / "data" / "iris.csv"
SPECIES = ("setosa", "versicolor", "virginica")
INPUTS = 5  # four standardised measurements and a constant 1.0, whose weight is the bias

Sample = tuple[list[float], int]  # the inputs, the index of the species


def load_data(seed: int) -> tuple[list[Sample], list[Sample]]:
    """Return samples for training (80 % of each species) and for validation (20 %)."""
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = [(list(map(float, row[:4])), SPECIES.index(row[4])) for row in list(csv.reader(file))[1:]]
    random.Random(seed).shuffle(rows)
    train: list[Sample] = []
    validation: list[Sample] = []
    for label in range(len(SPECIES)):
        members = [row for row in rows if row[1] == label]
        cut = len(members) // 5
        validation += members[:cut]
        train += members[cut:]
    scales = [(fmean(column), pstdev(column)) for column in zip(*(values for values, _ in train), strict=True)]

    def standardise(samples: list[Sample]) -> list[Sample]:
        return [
            ([(x - mean) / deviation for x, (mean, deviation) in zip(values, scales, strict=True)] + [1.0], label)
            for values, label in samples
        ]

    return standardise(train), standardise(validation)


def exp(x: float) -> float:
    """Return e to the power x; too large for a float is infinity, as in numpy, where `math.exp` raises."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def multiply(flat_matrix: list[float], vector: list[float]) -> list[float]:
    """Return matrix times vector; the matrix's rows follow each other in one list."""
    width = len(vector)
    return [sum(map(mul, flat_matrix[i : i + width], vector)) for i in range(0, len(flat_matrix), width)]


class Network:
    """One hidden layer of tanh units, then softmax and cross entropy; gradient descent with momentum."""

    def __init__(self, hidden: int, seed: int, *, guarded: bool = True) -> None:
        rng = random.Random(seed)
        self.guarded = guarded
        self.boundary = hidden * INPUTS  # the hidden layer's weights stand first, then the output layer's
        self.weights = [rng.gauss(0, 0.5) for _ in range(self.boundary + len(SPECIES) * (hidden + 1))]
        self.velocity = [0.0] * len(self.weights)

    def forward(self, sample: Sample) -> tuple[list[float], list[float], float]:
        """Return the hidden layer's outputs (with a 1.0 for the bias), each species' probability, and the loss."""
        inputs, label = sample
        hidden = [*map(math.tanh, multiply(self.weights[: self.boundary], inputs)), 1.0]
        logits = multiply(self.weights[self.boundary :], hidden)
        shift = max(logits) if self.guarded else 0.0  # unguarded, the exponential of a large logit overflows
        exponentials = [exp(logit - shift) for logit in logits]
        total = sum(exponentials)
        return hidden, [e / total for e in exponentials], math.log(total) + shift - logits[label]

    def gradient(self, sample: Sample) -> tuple[float, list[float]]:
        """Return the sample's loss and its derivative for each weight."""
        inputs, label = sample
        hidden, probabilities, loss = self.forward(sample)
        output_errors = [p - (index == label) for index, p in enumerate(probabilities)]
        output_weights = self.weights[self.boundary :]
        hidden_errors = [
            (1 - h * h) * sum(map(mul, output_errors, output_weights[unit :: len(hidden)]))
            for unit, h in enumerate(hidden[:-1])
        ]
        slopes = [error * x for error in hidden_errors for x in inputs]
        slopes += [error * h for error in output_errors for h in hidden]
        return loss, slopes

    def train(self, batch: list[Sample], lr: float, momentum: float) -> float:
        """Make one step down the batch's mean gradient; return the mean loss before it."""
        results = [self.gradient(sample) for sample in batch]
        slopes = [sum(column) / len(batch) for column in zip(*(slopes for _, slopes in results), strict=True)]
        self.velocity = [momentum * v - lr * slope for v, slope in zip(self.velocity, slopes, strict=True)]
        self.weights = [weight + v for weight, v in zip(self.weights, self.velocity, strict=True)]
        return sum(loss for loss, _ in results) / len(batch)

    def predict(self, sample: Sample) -> int:
        _, probabilities, _ = self.forward(sample)
        return probabilities.index(max(probabilities))

    def evaluate(self, samples: list[Sample]) -> dict[str, float]:
        loss = sum(self.forward(sample)[2] for sample in samples)
        correct = sum(self.predict(sample) == sample[1] for sample in samples)
        return {"val_loss": loss / len(samples), "val_accuracy": correct / len(samples)}

    def confusion(self, samples: list[Sample]) -> list[list[int]]:
        """Return how often each species (row) was taken for each species (column)."""
        table = [[0] * len(SPECIES) for _ in SPECIES]
        for sample in samples:
            table[sample[1]][self.predict(sample)] += 1
        return table
