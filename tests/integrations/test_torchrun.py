"""A job under torchrun that is told to end, and is begun again: what `xtrack env torchrun` and the how-to promise."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from server_peers import SECONDS, eventually

from xtrack_protocol.errors import XTrackError
from xtrack_protocol.storage import open_store

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(sys.platform == "win32" or not shutil.which("bash"), reason="needs bash"),
]

TRAINING = Path(__file__).parents[2] / "examples" / "train_resumable.py"

JOB = """
set -eu
eval "$("$PYTHON" -m xtrack_protocol.cli env torchrun)"
export XTRACK_RUN_ID=job-1 XTRACK_RESUME=auto
exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node 2 "$TRAINING" --steps 100 "$@"
"""


@pytest.fixture
def launcher() -> str:
    if os.environ.get("XTRACK_FRAMEWORKS") != "all":
        pytest.importorskip("torch")
    return sys.executable


def count(store: Any) -> int:
    try:
        state = store.get_run("job-1")
    except XTrackError:
        return 0
    return state.metrics["loss"].count if len(state.streams) == 2 and "loss" in state.metrics else 0


def test_a_launch_that_is_ended_and_begun_again(launcher: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    environ |= {"PYTHON": launcher, "TRAINING": str(TRAINING), "HOME": str(tmp_path)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", JOB, "job", *arguments],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with open_store(f"local:{tmp_path}/.xtrack") as store:
        first = start("--pause", "0.05", "--every", "10")
        eventually(lambda: count(store) > 30, 60)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=SECONDS)
        assert first.returncode != 0
        state = store.get_run("job-1")
        assert (state.status, state.error.type, state.world_size) == ("killed", "Preempted", 2), said
        assert {summary.status for summary in state.streams} == {"killed"}

        again = start("--every", "10")
        said, _ = again.communicate(timeout=60)
        assert again.returncode == 0, said
        state = store.get_run("job-1")
        assert state.status == "completed"
        assert [point.step for point in store.get_metrics("job-1", "loss", worker_id="0")] == list(range(1, 101))
