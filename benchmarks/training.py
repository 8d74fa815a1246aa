"""A small training as people write it, a step of about a millisecond: in PyTorch, or in plain Python where that isn't.

A step is one object's method, which a tracked and an untracked loop call alike; both read the loss as a number.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import xtrack_protocol as xtrack

STEP_SECONDS = 0.001

Step = Callable[[], float]
"""Does one step of training, and returns its loss."""


def torch_step(seconds: float = STEP_SECONDS) -> Step:
    """Return a step of a network of two layers by SGD, its batch chosen so that a step takes about so long here."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    judge = nn.CrossEntropyLoss()

    def step_of(batch: int) -> Step:
        inputs, labels = torch.randn(batch, 64), torch.randint(10, (batch,))

        def step() -> float:
            optimizer.zero_grad()
            loss = judge(model(inputs), labels)
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return step

    batch = 32
    while batch < 65536 and _median(step_of(batch)) < seconds:
        batch = batch * 5 // 4
    return step_of(batch)


def plain_step(seconds: float = STEP_SECONDS) -> Step:
    """Return a step of a linear regression in plain Python that takes about so long here."""
    source = random.Random(1)

    def step_of(size: int) -> Step:
        inputs = [source.random() for _ in range(size)]
        weights = [0.0] * size

        def step() -> float:
            error = sum(weight * value for weight, value in zip(weights, inputs, strict=True)) - 1.0
            weights[:] = [weight - 0.001 * error * value for weight, value in zip(weights, inputs, strict=True)]
            return error * error

        return step

    size = 64
    while size < 2**20 and _median(step_of(size)) < seconds:
        size = size * 5 // 4
    return step_of(size)


def _median(step: Step) -> float:
    took = []
    for _ in range(30):
        begin = time.perf_counter()
        step()
        took.append(time.perf_counter() - begin)
    return sorted(took)[15]


def train(step: Step, steps: int, run: xtrack.Run | None, first: int = 0) -> list[int]:
    """Train; return what each step took, in ns. ``run``: where each logs its loss, as part of the step."""
    clock = time.perf_counter_ns
    took = [0] * steps  # made beforehand, so that both loops keep as many objects
    if run is None:
        for number in range(steps):
            begin = clock()
            step()
            took[number] = clock() - begin
        return took
    for number in range(steps):
        begin = clock()
        run.log_metric("train/loss", step(), step=first + number)
        took[number] = clock() - begin
    return took
