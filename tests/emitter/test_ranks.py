"""Worker ids without configuration, and one run for all ranks of a launch. spec: EMT-7"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker, ranks, tracker
from xtrack_protocol.emitter.ranks import Rank, find_rank
from xtrack_protocol.ir import RunStart
from xtrack_protocol.transport import MemoryTransport

# What launchers really set, each asked for rank 1: torch 2.13, Open MPI 4.1.4, MPICH 4.0.2, Slurm 22.05.
TORCH = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_RUN_ID": "my-job",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_MCA_ess_base_jobid": "1095237633",
    "OMPI_MCA_orte_hnp_uri": "1095237632.0;tcp://192.0.2.2:60341",
    "OMPI_MCA_orte_precondition_transports": "39ba0c5664c9cc25-f9643df2519c0cf8",
    "PMIX_NAMESPACE": "1095237633",
    "PMIX_RANK": "1",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "1"}
SRUN = {
    "SLURM_CLUSTER_NAME": "tiny",
    "SLURM_JOB_ID": "4",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "2",
}
SBATCH = {"SLURM_CLUSTER_NAME": "tiny", "SLURM_JOB_ID": "4", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
MPICH_UNDER_SLURM = {**SRUN, **MPICH, "SLURM_PROCID": "0", "SLURM_STEP_ID": "1", "SLURM_STEP_NUM_TASKS": "1"}
PMI_OF_SRUN = {**SRUN, "PMI_RANK": "1", "PMI_SIZE": "2", "PMI_JOBID": "4.0"}


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had started no run yet, and had warned of nothing."""
    monkeypatch.setattr(tracker, "_bound", {})
    monkeypatch.setattr(tracker, "_warned_of", {})


def set_all(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def start(**options: Any) -> tuple[RunStart, str | None]:
    """Start a run, end it, and return its run_start and worker id."""
    transport = MemoryTransport()
    run = Tracker.start_run(transport=transport, **options)
    run.end()
    event = transport.events[0]
    assert isinstance(event.payload, RunStart)
    return event.payload, event.meta.worker_id


# ------------------------------------------------------------------------------------------ the rank


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (TORCH, Rank(1, 4, "RANK", "torch-my-job")),
        (OPEN_MPI, Rank(1, 2, "OMPI_COMM_WORLD_RANK", "mpi-a0259d185df3")),
        (MPICH, Rank(1, 2, "PMI_RANK")),
        (SRUN, Rank(1, 2, "SLURM_PROCID", "slurm-tiny-4.0")),
        ({**SRUN, "SLURM_CLUSTER_NAME": ""}, Rank(1, 2, "SLURM_PROCID", "slurm-4.0")),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": ""}, Rank(1, 2, "SLURM_PROCID", "slurm-tiny-4.0")),
        (PMI_OF_SRUN, Rank(1, 2, "PMI_RANK", "slurm-tiny-4.0")),
        ({**SRUN, "RANK": "1", "WORLD_SIZE": "2"}, Rank(1, 2, "RANK", "slurm-tiny-4.0")),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}, Rank(1, 2, "RANK")),
        # A batch script's shell is rank 0 of nothing, and so is an interactive one's.
        (SBATCH, None),
        ({**SBATCH, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        # Under mpirun, Slurm's rank is that of a daemon which starts several.
        (MPICH_UNDER_SLURM, Rank(1, 2, "PMI_RANK", "slurm-tiny-4.1")),
        ({**SRUN, **OPEN_MPI, "SLURM_PROCID": "0"}, Rank(1, 2, "OMPI_COMM_WORLD_RANK", "mpi-a0259d185df3")),
        # torchrun on each node, by srun or by mpirun.
        ({**SRUN, **TORCH, "SLURM_PROCID": "0"}, Rank(1, 4, "RANK", "slurm-tiny-4.0-my-job")),
        ({**SRUN, **TORCH, "TORCHELASTIC_RUN_ID": "none"}, Rank(1, 4, "RANK", "slurm-tiny-4.0")),
        ({**SRUN, **TORCH, "SLURM_STEP_NUM_TASKS": "1"}, Rank(1, 4, "RANK", "slurm-tiny-4-my-job")),
        ({**TORCH, "TORCHELASTIC_RUN_ID": "none"}, Rank(1, 4, "RANK")),
        # A world of one says nothing where another launcher knows of more.
        ({**OPEN_MPI, "RANK": "0", "WORLD_SIZE": "1"}, Rank(1, 2, "OMPI_COMM_WORLD_RANK", "mpi-a0259d185df3")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, None),
        # One of the two variables alone is somebody else's.
        ({"RANK": "admiral"}, None),
        ({"RANK": "3"}, None),
        ({"WORLD_SIZE": "3"}, None),
    ],
)
def test_what_launchers_tell(environ: dict[str, str], expected: Rank | None) -> None:
    warnings: list[str] = []
    assert find_rank(environ, warnings.append) == expected
    assert warnings == []


@pytest.mark.parametrize("rank", ["x", "-1", "1.0", "²", " 1", "4", "10000000000000000000000", "\udcff"])
def test_values_that_are_no_ranks(rank: str) -> None:
    """EMT-7.1: passed over, with a warning that names the variable; another launcher's word counts."""
    warnings: list[str] = []
    environ = {**SRUN, "RANK": rank, "WORLD_SIZE": "4"}
    assert find_rank(environ, warnings.append) == Rank(1, 2, "SLURM_PROCID", "slurm-tiny-4.0")
    (warning,) = warnings
    assert warning.startswith("RANK=")
    assert find_rank({"RANK": "0", "WORLD_SIZE": "many"}, warnings.append) is None
    assert "WORLD_SIZE='many' is no whole number" in warnings[1]


@pytest.mark.parametrize("name", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_launch_that_begins_again(name: str) -> None:
    for count, is_again in (("0", False), ("2", True), ("", False), ("x", False)):
        rank = find_rank({**TORCH, name: count})
        assert rank is not None
        assert (rank.is_again, rank.job) == (is_again, "torch-my-job")


def test_other_jobs_have_other_ids() -> None:
    """The same port a day later is another job."""

    def job(environ: dict[str, str]) -> str | None:
        rank = find_rank(environ)
        assert rank is not None
        return rank.job

    for name in ("OMPI_MCA_orte_precondition_transports", "PMIX_NAMESPACE", "OMPI_MCA_orte_hnp_uri"):
        assert job({**OPEN_MPI, name: "other"}) != job(OPEN_MPI)
    assert job({**OPEN_MPI, "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"}) == job(OPEN_MPI)
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_CLUSTER_NAME"):
        assert job({**SRUN, name: "7"}) != job(SRUN)
    assert job({**TORCH, "MASTER_PORT": "29501", "MASTER_ADDR": "node1"}) == job(TORCH)  # another round of one job


def test_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """EMT-7.5: by its state, if the script has initialised it; without starting a backend."""
    state = SimpleNamespace(client=None, process_id=3, num_processes=8)
    monkeypatch.setitem(sys.modules, "jax._src.distributed", SimpleNamespace(global_state=state))
    assert find_rank({}) is None
    state.client = object()
    assert find_rank({}) == Rank(3, 8, "jax.distributed")
    assert find_rank(SRUN) == Rank(1, 2, "SLURM_PROCID", "slurm-tiny-4.0")
    state.process_id = None
    assert find_rank({}) is None


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system doesn't tell of a process's ancestors, the ranks of one host have nothing in common."""
    environ = {**TORCH, "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "1"}
    rank = find_rank(environ)
    assert rank is not None
    assert str(rank.job).startswith(f"torch-{os.uname().nodename.split('.')[0]}-")
    monkeypatch.setattr(ranks, "_stat", lambda pid: int("no such file"))
    assert find_rank(environ) == Rank(1, 4, "RANK", "torch-my-job")
    assert find_rank({**MPICH, "MPI_LOCALNRANKS": "2"}) == Rank(1, 2, "PMI_RANK")


# ------------------------------------------------------------------------------------------ the run


def test_a_rank_of_a_launch(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SRUN)
    event, worker = start()
    assert (event.run_id, worker, event.world_size) == ("slurm-tiny-4.0", "1", 2)


def test_rank_0_leaves_the_size_to_the_others(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMT-7.3: so that a script which logs on rank 0 alone is complete when that has ended."""
    set_all(monkeypatch, {**SRUN, "SLURM_PROCID": "0"})
    run = Tracker.start_run()
    run.end()
    assert (run.run_id, run.worker_id) == ("slurm-tiny-4.0", "0")
    assert spool.state("slurm-tiny-4.0").status == "completed"
    monkeypatch.setattr(tracker, "_bound", {})
    monkeypatch.setenv("SLURM_PROCID", "1")
    other = Tracker.start_run()
    assert spool.state("slurm-tiny-4.0").status == "running"
    other.end()
    state = spool.state("slurm-tiny-4.0")
    assert (state.status, state.world_size, state.workers) == ("completed", 2, ("0", "1"))


def test_what_is_given_wins(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMT-1.1, EMT-7."""
    set_all(monkeypatch, SRUN)
    event, worker = start(run_id="mine", worker_id="gpu-7", world_size=3)
    assert (event.run_id, worker, event.world_size) == ("mine", "gpu-7", 3)
    monkeypatch.setenv("XTRACK_WORKER_ID", "from-environment")
    assert start(run_id="a")[1] == "from-environment"
    assert start(run_id="a")[0].world_size is None  # the launcher counts ranks, and this is none
    monkeypatch.delenv("XTRACK_WORKER_ID")
    monkeypatch.setenv("XTRACK_WORLD_SIZE", "5")
    assert start(run_id="b")[0].world_size == 5
    monkeypatch.setenv("XTRACK_RUN_ID", "bound")
    event, worker = start()
    assert (event.run_id, worker, event.world_size) == ("bound", "1", 5)
    # A run id that all ranks pass is one run of theirs.
    monkeypatch.delenv("XTRACK_WORLD_SIZE")
    assert start(run_id="c")[0].world_size == 2


def test_a_second_run_is_a_child(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its own, on each rank: which of their later runs belong together nobody tells."""
    set_all(monkeypatch, SRUN)
    start()
    event, worker = start()
    assert event.run_id.parent_run_id == "slurm-tiny-4.0"  # type: ignore[union-attr]
    assert (worker, event.world_size) == ("1", None)


def test_ranks_that_share_nothing(
    spool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """EMT-7.2: each has a run of its own, complete by itself; rank 0 says what to do."""
    ids = set()
    for rank in ("0", "1", "0"):
        set_all(monkeypatch, {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
        event, worker = start()
        ids.add(event.run_id)
        assert (worker, event.world_size) == (rank, None)
    assert len(ids) == 3
    err = capsys.readouterr().err
    assert err.count("warning") == 1
    assert "worker 0 of 2" in err
    assert "set XTRACK_RUN_ID" in err
    monkeypatch.setenv("XTRACK_RUN_ID", "joined")
    assert start()[0].run_id == "joined"
    assert capsys.readouterr().err == ""


def test_a_rank_that_is_none_is_told(
    spool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, {"RANK": "first", "WORLD_SIZE": "2"})
    event, worker = start()
    assert (worker, event.world_size) == (None, None)
    assert "RANK='first' is no whole number" in capsys.readouterr().err


def test_attached(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start_of = Tracker.start_run(run_id="r")
    set_all(monkeypatch, SRUN)
    run = Tracker.attach("r")
    assert run.worker_id == "1"
    run.end()
    start_of.end()


# ------------------------------------------------------------------------------------------ again


def test_a_worker_that_failed_goes_on(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMT-7.4, EMT-7.2: whether or not the launcher counts its attempts."""
    set_all(monkeypatch, SRUN)
    first = Tracker.start_run()
    first.end("failed")
    monkeypatch.setattr(tracker, "_bound", {})
    second = Tracker.start_run()
    assert (second.run_id, second.resumed) == (first.run_id, True)
    second.end()


def test_a_second_training_of_a_step(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMT-7.4: what has been completed isn't gone on with; every rank comes to the same next run."""
    for expected in ("slurm-tiny-4.0", "slurm-tiny-4.0-2", "slurm-tiny-4.0-3"):
        for rank in ("0", "1"):
            monkeypatch.setattr(tracker, "_bound", {})
            set_all(monkeypatch, {**SRUN, "SLURM_PROCID": rank})
            run = Tracker.start_run()
            assert (run.run_id, run.resumed) == (expected, False)
            run.log_metric("loss", 1.0, 1)
            run.end()
        assert spool.state(expected).status == "completed"
        assert spool.state(expected).metrics["loss"].count == 2


def test_a_requeued_job(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 had completed what rank 1 had not: both go on with the same run."""
    for rank, status in (("0", "completed"), ("1", "failed")):
        monkeypatch.setattr(tracker, "_bound", {})
        set_all(monkeypatch, {**SRUN, "SLURM_PROCID": rank})
        Tracker.start_run().end(status)  # type: ignore[arg-type]
    assert spool.state("slurm-tiny-4.0").status == "failed"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    for rank in ("0", "1"):
        monkeypatch.setattr(tracker, "_bound", {})
        set_all(monkeypatch, {**SRUN, "SLURM_PROCID": rank})
        run = Tracker.start_run()
        assert (run.run_id, run.resumed) == ("slurm-tiny-4.0", True)
        run.end()
    assert spool.state("slurm-tiny-4.0").status == "completed"


def test_a_restart_with_fewer_workers(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An elastic launch that lost a node: nobody waits for the worker that was on it. spec: FLD-5.3."""
    for rank in ("0", "1", "2"):
        monkeypatch.setattr(tracker, "_bound", {})
        set_all(monkeypatch, {**TORCH, "RANK": rank, "WORLD_SIZE": "3"})
        Tracker.start_run().end("failed")
    assert spool.state("torch-my-job").world_size == 3
    began = time.time_ns()
    monkeypatch.setattr(tracker, "began_ns", lambda: began)  # as a process that begins now has it
    time.sleep(0.05)  # file times are coarser
    for rank in ("0", "1"):
        monkeypatch.setattr(tracker, "_bound", {})
        set_all(monkeypatch, {**TORCH, "RANK": rank, "WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "1"})
        Tracker.start_run().end()
    state = spool.state("torch-my-job")
    assert (state.status, state.world_size) == ("completed", 2)


def test_a_quicker_rank_is_not_resumed(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 has failed before rank 1 even began: no earlier attempt, so its word counts."""
    monkeypatch.setattr(tracker, "began_ns", lambda: 2**62)
    for rank, status in (("0", "failed"), ("1", "completed")):
        monkeypatch.setattr(tracker, "_bound", {})
        set_all(monkeypatch, {**SRUN, "SLURM_PROCID": rank})
        run = Tracker.start_run()
        assert not run.resumed
        run.end(status)  # type: ignore[arg-type]
    assert spool.state("slurm-tiny-4.0").status == "failed"


def test_a_forked_childs_end_is_not_the_workers(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that died, with a child that had logged: it goes on with its run."""
    set_all(monkeypatch, SRUN)
    code = """
        import os
        import xtrack_protocol as x
        run = x.start_run()
        child = os.fork()
        run.log_metric("k", 1.0)
        if child == 0:
            run.end()
            os._exit(0)
        os.waitpid(child, 0)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    run = Tracker.start_run()
    assert (run.run_id, run.resumed) == ("slurm-tiny-4.0", True)
    run.end()


@pytest.mark.skipif(sys.platform != "linux", reason="when a process began")
def test_a_rank_that_imports_for_long_does_not_hide_the_failure_of_another(spool: Any) -> None:
    """Of a job that begins again: rank 0 has failed while rank 1 is still importing something else."""
    end = "input(); import sys, xtrack_protocol as x; x.start_run().end(sys.argv[1])"

    def start(rank: str, status: str, attempt: str) -> subprocess.Popen[str]:
        env = {**os.environ, **SRUN, "SLURM_PROCID": rank, "SLURM_RESTART_COUNT": attempt}
        return subprocess.Popen([sys.executable, "-c", end, status], stdin=subprocess.PIPE, text=True, env=env)

    def go_on(worker: subprocess.Popen[str]) -> None:
        worker.communicate("\n", timeout=60)
        assert worker.returncode == 0

    for rank in ("0", "1"):
        go_on(start(rank, "failed", "0"))
    late = start("1", "completed", "1")
    time.sleep(0.1)  # when a process began is known to a hundredth of a second
    go_on(start("0", "failed", "1"))
    go_on(late)
    state = spool.state("slurm-tiny-4.0")
    assert (state.status, [summary.superseded for summary in state.streams].count(True)) == ("failed", 2)


# ------------------------------------------------------------------------------------------ real processes

WORKER = """
import os
import xtrack_protocol as x
run = x.start_run()
run.log_metric("loss", 1.0, 1)
run.end()
os.write(1, f"{run.run_id} {run.worker_id}\\n".encode())  # at once, for all write to one pipe
"""


def launched(command: list[str], env: dict[str, str] | None = None) -> list[str]:
    """Run a launcher; return the lines its workers wrote, sorted."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


def check_one_run(spool: Any, lines: list[str], size: int) -> str:
    """All workers were in one run, under ids of their own, and it is complete. Return its id."""
    (run_id,) = {line.split()[0] for line in lines}
    assert [line.split()[1] for line in lines] == [str(rank) for rank in range(size)]
    state = spool.state(run_id)
    assert (state.status, state.world_size, state.metrics["loss"].count) == ("completed", size, size)
    return run_id


def test_ranks_of_one_process(spool: Any, tmp_path: Path) -> None:
    """A launcher on one host that names no job: its own process does, through shells in between as well."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        textwrap.dedent(
            """
            import os, subprocess, sys
            def start(rank):
                env = {"RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}
                return subprocess.Popen(["sh", "-c", f"{sys.executable} {sys.argv[1]}; :"], env={**os.environ, **env})
            sys.exit(any([worker.wait() for worker in [start(rank) for rank in range(3)]]))
            """
        )
    )
    command = [sys.executable, str(launcher), str(worker)]
    first = check_one_run(spool, launched(command), 3)
    second = check_one_run(spool, launched(command), 3)
    assert first != second
    assert first.startswith("ranks-")


@pytest.mark.skipif(shutil.which("mpirun.openmpi") is None, reason="no Open MPI here")
def test_open_mpi(spool: Any, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    command = ["mpirun.openmpi", "--oversubscribe", "-np", "3", "sh", "-c", f"{sys.executable} {worker}; :"]
    env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    first = check_one_run(spool, launched(command, env), 3)
    second = check_one_run(spool, launched(command, env), 3)
    assert first != second
    assert first.startswith("mpi-")


@pytest.mark.skipif(shutil.which("mpirun.mpich") is None, reason="no MPICH here")
def test_mpich(spool: Any, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    command = ["mpirun.mpich", "-np", "3", "sh", "-c", f"{sys.executable} {worker}; :"]
    first = check_one_run(spool, launched(command), 3)
    second = check_one_run(spool, launched(command), 3)
    assert first != second
    assert first.startswith("mpi-")
