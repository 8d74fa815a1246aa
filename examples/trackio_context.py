"""With trackio's calls in a with-block, the run ends with the block: completed, or failed with what was raised.

python examples/trackio_context.py
python examples/trackio_context.py --learning-rate 2   # diverges, and raises: the run has failed
"""

from __future__ import annotations

import argparse

import xtrack_protocol.integrations.trackio as trackio


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the lowest point of a parabola, tracked with trackio's calls.")
    parser.add_argument("--learning-rate", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    with trackio.init(project="parabola", name=f"lr-{options.learning_rate:g}", config=vars(options)) as run:
        x = 5.0
        for _ in range(options.steps):
            x -= options.learning_rate * 2 * (x - 1)
            trackio.log({"x": x, "height": (x - 1) ** 2})  # without a step: 0, 1, 2, ...
            if abs(x) > 1e6:
                raise ArithmeticError(f"x is {x:.3g}: the learning rate is too high")
    print(f"run {run.name}: the lowest point is at x = {x:.3f}")


if __name__ == "__main__":
    main()
