"""Hostile bytes for everything that reads bytes: a few seconds here, a minute in CI, an hour by command."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.thorough
@pytest.mark.parametrize("seconds", [2, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_hostile_bytes_surprise_nobody(seconds, capsys):
    seed = random.SystemRandom().randrange(2**32)
    command = [sys.executable, "-bb", "-m", "fuzz", "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=2 * seconds + 60, check=False)
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
