"""What a call that logs costs while its collector is stopped, or busy. spec: DLV-8, EMT-3"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "log_metric_latency.py"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGSTOP")
@pytest.mark.skipif(not BENCHMARK.exists(), reason="the benchmarks aren't here")
@pytest.mark.timeout(600)
def test_log_metric_does_not_wait_for_a_stopped_collector() -> None:
    """The best of several: other programs on the machine may make any one of them slow, but not the code fast."""
    spec = importlib.util.spec_from_file_location("log_metric_latency", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for events, period in ((20_000, 0.0), (3000, 0.001)):
        rows = []
        for _ in range(5):
            rows.append(module.measure("stopped", events, period))
            if rows[-1]["p99"] < 200:
                break
        best = min(rows, key=lambda row: row["p99"])
        assert best["p99"] < 200, rows
        assert best["left"] == 0  # and all of it arrived when the collector went on
