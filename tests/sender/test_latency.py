"""What a call that logs costs while its collector is stopped, or busy. spec: DLV-8, EMT-3"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGSTOP")
@pytest.mark.skipif(not (ROOT / "benchmarks" / "emitting.py").exists(), reason="the benchmarks aren't here")
@pytest.mark.timeout(600)
def test_log_metric_does_not_wait_for_a_stopped_collector(tmp_path: Path) -> None:
    """The best of several: other programs on the machine may make any one of them slow, but not the code fast."""
    written = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks", "--only", "P1.stopped", "--json", str(written)]
    rows = []
    for _ in range(5):
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=110)
        (case,) = json.loads(written.read_text())["cases"]
        rows.append({one["name"]: one["value"] for one in case["figures"]})
        assert (
            rows[-1]["log_metric, collector stopped: events not acked at the end"] == 0
        )  # all arrived when it went on
        tails = {
            name: value
            for name, value in rows[-1].items()
            if "p99" in name and name.startswith("log_metric,") and "/" not in name
        }
        if all(value < 200 for value in tails.values()):
            break
    assert len(tails) == 2
    assert all(value < 200 for value in tails.values()), rows
