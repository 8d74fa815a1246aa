"""Slow peers are reaped; a collector that stands still costs a training nothing: spec CTL-14, DLV-8."""

import os
import random

import pytest
from faults.slow_peers import run, table

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at memory through /proc")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("slow", "frame_seconds", "calls"),
    [(90, 5.0, 10_000), pytest.param(1000, 30.0, 50_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_slow_peers_cost_little(slow, frame_seconds, calls, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    outcome = run(slow, seed, calls, frame_seconds)
    figures = table(outcome)
    with capsys.disabled():
        print(f"\n{figures}")
    # Times of single answers mean little while other tests run beside this one.
    assert not [problem for problem in outcome.problems if slow == 1000 or "wait" not in problem], figures
