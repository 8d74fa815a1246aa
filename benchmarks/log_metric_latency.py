"""What a call of log_metric costs: to the local spool, and to a collector that is there, stopped, or not there.

    python benchmarks/log_metric_latency.py [--events 20000] [--seconds 5]

Each row is a process of its own. ``flat out``: calls back to back; ``1 kHz``: a call a millisecond, as in a training.
Times are microseconds a call. G16 asks for a p99 below 200 with a collector that is stopped (SIGSTOP).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORK = """
import json, sys, time
import xtrack_protocol as xtrack
events, period = int(sys.argv[1]), float(sys.argv[2])
run = xtrack.start_run("bench", quiet=True)
for step in range(200):
    run.log_metric("warm", 0.5, step=step)
if len(sys.argv) > 3:  # the collector is stopped once a connection is there
    import os, signal
    while not run.stats().delivery.connected:
        time.sleep(0.01)
    os.kill(int(sys.argv[3]), signal.SIGSTOP)
time.sleep(0.3)
took = []
clock = time.perf_counter_ns
due = time.perf_counter()
for step in range(events):
    if period:
        due += period
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
    begin = clock()
    run.log_metric("loss", 0.5, step=step)
    took.append(clock() - begin)
if len(sys.argv) > 3:
    os.kill(int(sys.argv[3]), signal.SIGCONT)
begin = time.perf_counter()
run.end(timeout=60)
delivery = run.stats().delivery
print(json.dumps({"took": took, "end": time.perf_counter() - begin, "waiting": delivery.waiting if delivery else 0}))
"""


def collector(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start ``xtrack serve`` on a free port; return the process and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "xtrack_protocol.cli", "serve", "--tcp", "127.0.0.1:0", "--store", f"sqlite:///{folder}/c.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "listening on" in line:
            return process, line.split()[-1]
    raise SystemExit("the collector didn't start")


def measure(kind: str, events: int, period: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environ = {key: value for key, value in os.environ.items() if not key.startswith("XTRACK_")}
        environ |= {"XTRACK_DIR": str(folder / "home")}
        argv = [sys.executable, "-c", WORK, str(events), str(period)]
        process = None
        if kind in {"there", "stopped"}:
            process, environ["XTRACK_TRANSPORT"] = collector(folder)
            argv += [str(process.pid)] if kind == "stopped" else []
        elif kind == "nobody":
            environ["XTRACK_TRANSPORT"] = "tcp://127.0.0.1:9"
        try:
            done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True, timeout=300)
        finally:
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
        found = json.loads(done.stdout)
        took = sorted(found["took"])
        at = lambda part: took[min(len(took) - 1, int(len(took) * part))] / 1000  # noqa: E731
        return {
            "mean": sum(took) / len(took) / 1000,
            "p50": at(0.5),
            "p90": at(0.9),
            "p99": at(0.99),
            "p99.9": at(0.999),
            "max": took[-1] / 1000,
            "end s": found["end"],
            "left": found["waiting"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    names = ("local", "there", "stopped", "nobody")
    begun = time.time()
    print(
        f"{'collector':10} {'load':9} {'mean':>7} {'p50':>7} {'p90':>7} {'p99':>7} "
        f"{'p99.9':>8} {'max':>8} {'end s':>6} {'left':>6}"
    )
    for load, events, period in (("flat out", arguments.events, 0.0), ("1 kHz", int(arguments.seconds * 1000), 0.001)):
        for name in names:
            row = measure(name, events, period)
            print(
                f"{name:10} {load:9} {row['mean']:7.1f} {row['p50']:7.1f} {row['p90']:7.1f} {row['p99']:7.1f} "
                f"{row['p99.9']:8.1f} {row['max']:8.1f} {row['end s']:6.2f} {row['left']:6.0f}"
            )
    print(f"in {time.time() - begun:.0f} s")


if __name__ == "__main__":
    main()
