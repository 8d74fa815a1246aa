"""No secret is stored, logged or shown: spec CTL-5."""

import pytest
from faults.canaries import run, table


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_no_canary_is_found(capsys):
    outcome = run()
    with capsys.disabled():
        print(f"\n{table(outcome)}")
    assert not outcome.problems, table(outcome)
