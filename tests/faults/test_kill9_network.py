"""What was accepted or acked is there after kill -9 of workers and collectors: spec DLV-1, DLV-3, DLV-6."""

import os
import random

import pytest
from faults.kill9_network import is_sound, run_trials, table

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="kills as Linux does")

LONG = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.thorough
@pytest.mark.parametrize("kills", [4, pytest.param(2000, marks=LONG)])
def test_nothing_is_lost_or_doubled_between_a_worker_and_its_collector(kills, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    trials = run_trials(kills, seed)
    figures = table(trials, seed)
    with capsys.disabled():
        print(f"\n{figures}")
    assert all(map(is_sound, trials)), figures
