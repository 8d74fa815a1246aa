"""The batch script under bash, with the variables and signals of Slurm.

There is no Slurm here: ``srun`` and ``scontrol`` are scripts that start real processes with the variables of tasks,
pass signals on, and end the job, as their manuals say.
"""

from __future__ import annotations

import os
import shlex
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

pytestmark = pytest.mark.skipif(sys.platform == "win32" or not shutil.which("bash"), reason="needs bash")

EXAMPLES = Path(__file__).parents[2] / "examples"

SRUN = """#!/bin/bash
echo $$ > srun.pid
tasks=()
for rank in 0 1 2 3; do
    SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=4 SLURM_PROCID=$rank "$@" & tasks+=($!)
done
trap 'kill -USR1 "${tasks[@]}"' USR1
trap 'kill -TERM "${tasks[@]}"' TERM
worst=0
for task in "${tasks[@]}"; do
    while :; do
        wait "$task"; status=$?
        kill -0 "$task" 2>/dev/null || break
    done
    [ "$status" -le "$worst" ] || worst=$status
done
exit "$worst"
"""

SCONTROL = """#!/bin/bash
echo "$@" >> scontrol.log
kill -TERM "$(cat srun.pid)"
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """Programs and variables of a job that Slurm has started in ``tmp_path``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    ours = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m xtrack_protocol.cli "$@"\n'
    python = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "xtrack": ours, "python": python}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    shutil.copy(EXAMPLES / "train_resumable.py", tmp_path)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "SLURM_CLUSTER_NAME": "alpha",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOBID": "4711",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "4",
    }


def start(cluster: dict[str, str], *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(EXAMPLES / "slurm" / "train.sbatch"), *arguments],
        cwd=cluster["HOME"],
        env=cluster | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def state_of(store: Any, run_id: str = "alpha-4711") -> Any:
    try:
        return store.get_run(run_id)
    except XTrackError:
        return None


def test_a_job_that_is_requeued(cluster: dict[str, str], tmp_path: Path) -> None:
    """Near the time limit: a checkpoint, the queue, and the same run in the same job, which then completes."""
    with open_store(f"local:{tmp_path}/.xtrack") as store:
        job = start(cluster, "--pause", "0.01", "--steps", "300", "--every", "1000", XTRACK_CHECKPOINT_SECONDS="1")
        eventually(lambda: (state := state_of(store)) and len(state.streams) == 4 and state.metrics["loss"].count > 40)
        job.send_signal(signal.SIGUSR1)
        said, _ = job.communicate(timeout=SECONDS)
        assert job.returncode == 128 + signal.SIGTERM, said
        assert (tmp_path / "scontrol.log").read_text() == "requeue 4711\n"
        state = state_of(store)
        assert (state.status, state.error.type, state.world_size) == ("killed", "Preempted", 4)
        (saved,) = [stored.checkpoint.step for stored in state.checkpoints]

        again = start(cluster, "--steps", "300", "--every", "1000", SLURM_RESTART_COUNT="1")
        said, _ = again.communicate(timeout=SECONDS)
        assert again.returncode == 0, said
        assert "tracking run alpha-4711 (resumable)" in said
        assert ", resumed" in said
        state = state_of(store)
        assert (state.status, state.world_size) == ("completed", 4)
        assert [point.step for point in store.get_metrics("alpha-4711", "loss", worker_id="0")] == list(range(1, 301))
        assert [stored.checkpoint.step for stored in state.checkpoints] == [saved, 300]
        for rank in "123":
            steps = [point.step for point in store.get_metrics("alpha-4711", "loss", worker_id=rank)]
            assert len(set(steps)) == len(steps)
        superseded = [summary.superseded for summary in state.streams]
        assert sorted(superseded) == [False] * 4 + [True] * 4


def test_a_job_that_ends_by_itself_near_its_limit_is_not_requeued(cluster: dict[str, str], tmp_path: Path) -> None:
    with open_store(f"local:{tmp_path}/.xtrack") as store:
        job = start(cluster, "--pause", "0.02", "--steps", "60")
        eventually(lambda: (state := state_of(store)) and len(state.streams) == 4 and state.metrics["loss"].count > 20)
        job.send_signal(signal.SIGUSR1)
        said, _ = job.communicate(timeout=SECONDS)
        assert job.returncode == 0, said
        assert not (tmp_path / "scontrol.log").exists()
        assert state_of(store).status == "completed"


def test_a_training_that_fails(cluster: dict[str, str], tmp_path: Path) -> None:
    """The script's status is the training's."""
    job = start(cluster, "--nosuch")
    said, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 2, said


def test_outside_of_a_job(cluster: dict[str, str], tmp_path: Path) -> None:
    del cluster["SLURM_JOB_ID"]
    job = start(cluster)
    said, _ = job.communicate(timeout=SECONDS)
    assert job.returncode != 0
    assert "SLURM_JOB_ID: this is no job of Slurm" in said
