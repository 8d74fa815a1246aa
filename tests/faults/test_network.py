"""Cuts at every byte, lost acks, silence, dribble and partitions: spec DLV-6, CTL-8, STR-4."""

import os
import random

import pytest
from faults.network import run_trials, table

LONG = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.thorough
@pytest.mark.parametrize("every", [200, pytest.param(1, marks=LONG)])
def test_a_network_that_breaks_loses_and_doubles_nothing(every, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    found = run_trials(every, seed, jobs=2 if every > 1 else 8)
    figures = table(found)
    with capsys.disabled():
        print(f"\ncut at one byte in {every}, seed {seed}\n{figures}")
    assert not [one for one in found if one.problems], figures
