"""Clocks that jump by 400 days change no order, no status and no connection: spec FLD-2, FLD-3, FLD-6, CTL-10."""

import os
import random

import pytest
from faults.clock_jumps import run_trials, table


@pytest.mark.parametrize("runs", [2, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_clocks_that_jump_change_nothing(runs, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    outcomes = run_trials(runs, seed)
    figures = table(outcomes)
    with capsys.disabled():
        print(f"\n{figures}")
    assert not [outcome for outcome in outcomes if outcome.problems], figures
