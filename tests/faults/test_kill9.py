"""What was logged is there after kill -9: spec DLV-1."""

import os
import random

import pytest
from faults.kill9 import is_sound, run_trials, table

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes through /proc")


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_every_call_that_returned_is_there_once_and_in_order(kills, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    trials = run_trials(kills, seed)
    figures = table(trials, seed)
    with capsys.disabled():
        print(f"\n{figures}")
    assert all(map(is_sound, trials)), figures
