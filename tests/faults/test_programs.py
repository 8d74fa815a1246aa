"""Spool, feed, sessions and store do together what a dictionary does: spec STR-4, STR-7, CTL-3, DLV-6."""

import os
import random

import pytest
from faults.programs import run_programs

LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("programs", [100, pytest.param(5000, marks=LONG)])
def test_programs_equal_a_dictionary(programs, capsys):
    seed = int(os.environ.get("XTRACK_TEST_SEED", random.SystemRandom().randrange(2**32)))
    counts = run_programs(programs, seed)
    with capsys.disabled():
        print(f"\nseed {seed}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))
    assert counts["programs"] >= programs
