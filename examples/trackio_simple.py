"""Track with trackio's calls: the import is the only line that differs from a script for trackio.

    python examples/trackio_simple.py
    xtrack show latest

Fits a line through noisy points by gradient descent. Needs only the standard library and `xtrack_protocol`.
"""

from __future__ import annotations

import random
import time

import xtrack_protocol.integrations.trackio as trackio

STEPS = 100


def main() -> None:
    trackio.init(project="fit-a-line", config={"learning_rate": 0.1, "points": 50, "seed": 1})
    source = random.Random(trackio.config["seed"])
    xs = [source.uniform(-1, 1) for _ in range(trackio.config["points"])]
    ys = [3 * x + 2 + source.gauss(0, 0.1) for x in xs]
    slope = intercept = 0.0
    begin = time.process_time()
    for step in range(STEPS):
        errors = [slope * x + intercept - y for x, y in zip(xs, ys, strict=True)]
        slope -= trackio.config["learning_rate"] * sum(e * x for e, x in zip(errors, xs, strict=True)) / len(xs)
        intercept -= trackio.config["learning_rate"] * sum(errors) / len(xs)
        trackio.log({"loss": sum(e * e for e in errors) / len(xs), "line": {"slope": slope, "at_0": intercept}}, step)
        if step % 20 == 0:
            trackio.log_system({"cpu_seconds": time.process_time() - begin})
    trackio.finish()
    print(f"y = {slope:.2f} x + {intercept:.2f}")


if __name__ == "__main__":
    main()
