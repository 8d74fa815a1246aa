"""Forks in the middle of logging with threads: spec STR-3."""

import os
import random

import pytest
from faults.forks import run_forks, table

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


@pytest.mark.thorough
@pytest.mark.parametrize("repeat", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_hundred_forks(repeat, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**31)))
    outcomes = [run_forks(100, seed + n) for n in range(repeat)]
    figures = table(outcomes)
    with capsys.disabled():
        print(f"\n{figures}")
    assert not [outcome for outcome in outcomes if outcome.problems], figures
