"""What was accepted or acked is there after kill -9 at any call: spec DLV-1, DLV-3."""

import os
import random

import pytest
from faults.kill_at_call import run_trials, table
from faults.straced import needs_strace

pytestmark = needs_strace()


@pytest.mark.thorough
@pytest.mark.parametrize("every", [60, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_no_call_is_a_bad_moment_to_die(every, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    trials = run_trials(every, seed)
    figures = table(trials)
    with capsys.disabled():
        print(f"\nkilled at one call in {every}, seed {seed}\n{figures}")
    assert not [trial for trial in trials if trial.problems], figures
    assert sum(trial.killed for trial in trials) > len(trials) // 2, figures
