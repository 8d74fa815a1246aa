"""A disk that fails or fills up, and descriptors that run out, never stop or stall a training: spec DLV-7."""

import os
import random

import pytest
from faults.failing_calls import run_trials, table

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="Linux has these limits")


@pytest.mark.thorough
@pytest.mark.parametrize("faults", [8, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_nothing_raises_or_stalls_and_what_was_dropped_is_declared(faults, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    trials = run_trials(faults, seed)
    figures = table(trials)
    with capsys.disabled():
        print(f"\nseed {seed}\n{figures}")
    assert not [trial for trial in trials if trial.problems], figures
