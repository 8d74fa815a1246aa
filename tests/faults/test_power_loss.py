"""What was promised survives a power loss at any moment: spec DLV-2, DLV-3, RST-6."""

import os
import random

import pytest
from faults.power_loss import run_states, table
from faults.straced import needs_strace

pytestmark = needs_strace()


@pytest.mark.thorough
@pytest.mark.parametrize("states", [60, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_what_was_promised_is_there(states, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    outcomes = run_states(states, seed, jobs=1 if states < 100 else 2)
    figures = table(outcomes)
    with capsys.disabled():
        print(f"\n{len(outcomes)} power losses, seed {seed}\n{figures}")
    assert not [outcome for outcome in outcomes if outcome.problems], figures
