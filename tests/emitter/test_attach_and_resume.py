"""Going back to a run: to tag it, to log more, to go on with it. spec: FLD-4, FLD-8"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from remote_workers import serving, url

from xtrack_protocol.emitter import Tracker, tracker
from xtrack_protocol.errors import ConfigurationError, RunNotFound
from xtrack_protocol.ir import RunStart
from xtrack_protocol.storage import MemoryStore


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had started no run yet."""
    monkeypatch.setattr(tracker, "_bound", {})


def finished(run_id: str = "r", status: Any = "completed", steps: int = 10, **options: Any) -> str:
    """Make a finished run with a point a step; return its session."""
    run = Tracker.start_run(run_id=run_id, **options)
    for step in range(steps):
        run.log_metric("loss", float(step), step=step)
    run.end(status)
    return run.session_id


def test_an_unknown_run(spool: Any) -> None:
    with pytest.raises(RunNotFound):
        Tracker.attach("nobody")


@pytest.mark.parametrize("status", ["completed", "failed", "killed"])
def test_tagging_a_finished_run(spool: Any, status: Any) -> None:
    finished(status=status)
    run = Tracker.attach("r")
    run.set_tags({"reviewed": "yes"})
    run.log_metric("test", 0.9)
    run.summary({"test": 0.9})
    run.end("failed")
    state = spool.state("r")
    assert state.status == status
    assert state.tags == {"reviewed": "yes"}
    assert state.metrics["test"].last.value == 0.9


def test_attached_from_another_process(spool: Any) -> None:
    run = Tracker.start_run(run_id="r")
    code = "import xtrack_protocol as x; r = x.Tracker.attach('r'); r.log_metric('other', 1.0); raise ValueError"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 1
    run.end()
    state = spool.state("r")
    assert (state.status, state.metrics["other"].count) == ("completed", 1)


def test_resume_is_automatic_where_the_run_is_named(spool: Any) -> None:
    first = finished(status="failed")
    run = Tracker.start_run(run_id="r")
    assert run.resumed
    run.end()
    starts = [events[0].payload for events in spool.streams().values()]
    (resume,) = [start.resume for start in starts if isinstance(start, RunStart) and start.resume]
    assert resume.session_ids == [first]
    assert spool.state("r").status == "completed"


@pytest.mark.parametrize("resume", ["never", "must", "auto", "False"])
def test_a_text_for_resume_is_refused(spool: Any, resume: Any) -> None:
    """As any text is true, "never" would resume."""
    finished()
    with pytest.raises(ConfigurationError, match=f"resume='{resume}': must be True, False or None"):
        Tracker.start_run(run_id="r", resume=resume)


def test_what_numpy_says_of_resume_counts(spool: Any) -> None:
    """As in ``resume=steps_done > 0``."""
    finished()
    for steps_done in (0, 5):
        with Tracker.start_run(run_id="r", resume=np.int64(steps_done) > 0) as run:
            assert run.resumed is (steps_done > 0)


def test_resume_without_a_run_id_is_told(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    finished()
    run = Tracker.start_run("baseline", resume=True)
    assert not run.resumed
    told = f"warning: resume: no run_id says which run to go on with; {run.run_id} starts anew"
    assert told in capsys.readouterr().err
    run.end()


def test_no_resume(spool: Any) -> None:
    finished(status="failed")
    run = Tracker.start_run(run_id="r", resume=False)
    assert not run.resumed
    run.end()
    assert spool.state("r").status == "failed"


def test_rewind(spool: Any) -> None:
    finished(status="failed")
    run = Tracker.start_run(run_id="r", resume=True, rewind_to=4)
    run.log_metric("loss", 50.0, step=5)
    run.end()
    from xtrack_protocol.storage.local import LocalStore

    with LocalStore(spool.root) as store:
        assert [point.step for point in store.get_metrics("r", "loss")] == [0, 1, 2, 3, 4, 5]
        assert len(store.get_metrics("r", "loss", include_hidden=True)) == 11


def test_a_live_session_is_not_resumed(spool: Any) -> None:
    first = Tracker.start_run(run_id="r", worker_id="0")
    second = Tracker.start_run(run_id="r", worker_id="1")
    third = Tracker.start_run(run_id="r", worker_id="2", resume=True)
    assert not second.resumed
    assert not third.resumed
    for run in (first, second, third):
        run.end()
    assert spool.state("r").status == "completed"


def test_a_quicker_worker_of_the_same_launch_is_not_resumed(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 has failed before rank 1 got to its start: that is no earlier session, and its word counts."""
    finished(worker_id="0", status="failed")
    rank1 = Tracker.start_run(run_id="r", worker_id="1")
    assert not rank1.resumed
    rank1.end()
    assert spool.state("r").status == "failed"
    # In a process that begins later it is one.
    monkeypatch.setattr(tracker, "began_ns", lambda: 2**62)
    again = Tracker.start_run(run_id="r", worker_id="1")
    assert again.resumed
    again.end()
    assert spool.state("r").status == "completed"


def test_resume_by_environment(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = finished(status="failed")
    monkeypatch.setenv("XTRACK_RESUME_RUN_ID", "r")
    monkeypatch.setenv("XTRACK_RUN_ID", "ignored")
    run = Tracker.start_run()
    assert (run.run_id, run.resumed) == ("r", True)
    other = Tracker.start_run()
    assert other.run_id not in {"r", "ignored"}
    other.end()
    run.end()
    assert first in {stream.session_id for stream in spool.streams()}
    assert spool.state("r").status == "completed"
    assert spool.state(other.run_id).parent_run_id == "r"


def test_nothing_to_resume_is_told(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = Tracker.start_run(run_id="new", resume=True)
    assert not run.resumed
    assert "nothing of run new here to resume" in capsys.readouterr().err
    run.end()


def test_what_is_alive_is_not_resumed(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = Tracker.start_run(run_id="r", worker_id="0")
    beside = Tracker.start_run(run_id="r", worker_id="0", resume=True)
    err = capsys.readouterr().err
    assert "run r hasn't ended: a session of this worker is open still, and the new one goes beside it" in err
    assert "nothing of run" not in err
    another = Tracker.start_run(run_id="r", worker_id="1", resume=True)
    assert [beside.resumed, another.resumed] == [False, False]
    assert "warning" not in capsys.readouterr().err, "another worker of a run that has begun"
    for run in (first, beside, another):
        run.end()
    assert spool.state("r").status == "completed"


def test_a_launch_of_several_processes_is_no_resume(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """XTRACK_RUN_ID is the launcher's word, for all of its processes."""
    monkeypatch.setenv("XTRACK_RUN_ID", "r")
    code = "import xtrack_protocol as x, sys; r = x.start_run(); r.end('failed' if sys.argv[1:] else 'completed')"
    subprocess.run([sys.executable, "-c", code, "fail"], check=True)
    subprocess.run([sys.executable, "-c", code], check=True)
    assert spool.state("r").status == "failed"


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACK_RUN_ID", "r")
    monkeypatch.setenv("XTRACK_RESUME", "auto")


RETRIED = (
    "import sys, xtrack_protocol as x; r = x.start_run(); print(r.run_id, r.resumed, flush=True); "
    "r.log_metric('k', 1.0); input(); r.end(sys.argv[1])"
)


def retried_at_once(status: str, *workers: dict[str, str]) -> list[str]:
    """Start the job's processes, and end them when all have begun; return of each its run id and whether it resumed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RETRIED, status],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **worker},
        )
        for worker in workers
    ]
    said = [process.stdout.readline().strip() for process in processes if process.stdout]
    for process in processes:
        process.communicate("\n", timeout=30)
        assert process.returncode == 0
    return said


def retried(status: str = "completed", **variables: str) -> str:
    (said,) = retried_at_once(status, variables)
    return said


def test_a_job_that_is_tried_again(spool: Any, auto: None) -> None:
    """XTRACK_RESUME=auto: the same variables each time, and what there is of the run decides."""
    assert retried("failed") == "r False"
    assert retried("failed") == "r True"
    assert spool.state("r").status == "failed"
    assert retried() == "r True"
    state = spool.state("r")
    assert (state.status, state.metrics["k"].count) == ("completed", 3)
    assert [summary.superseded for summary in state.streams].count(True) == 2


def test_workers_that_are_tried_again_one_by_one(spool: Any, auto: None) -> None:
    """As those of an indexed job: another worker's end stays, whenever it was."""
    assert retried("failed", XTRACK_WORKER_ID="0", XTRACK_WORLD_SIZE="2") == "r False"
    assert retried("completed", XTRACK_WORKER_ID="1", XTRACK_WORLD_SIZE="2") == "r False"
    assert spool.state("r").status == "failed"
    assert retried("completed", XTRACK_WORKER_ID="0", XTRACK_WORLD_SIZE="2") == "r True"
    assert spool.state("r").status == "completed"


def test_a_requeued_job_with_fewer_workers(spool: Any, auto: None) -> None:
    """There the launcher says that all of it begins again."""
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    three = [{**step, "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": rank} for rank in "012"]
    assert retried_at_once("killed", *three) == ["r False"] * 3
    again = {**step, "SLURM_STEP_NUM_TASKS": "2", "SLURM_RESTART_COUNT": "1"}
    assert retried_at_once("completed", *({**again, "SLURM_PROCID": rank} for rank in "01")) == ["r True"] * 2
    assert spool.state("r").status == "completed"


def test_what_auto_does_not_touch(spool: Any, auto: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is alive; a run that the script names; and resume=False."""
    with Tracker.start_run() as alive:
        assert retried() == "r False"
        assert not alive.resumed
    assert retried() == "r True"
    code = "import xtrack_protocol as x; r = x.start_run(resume=False); print(r.resumed); r.end()"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
    with Tracker.start_run() as child:
        assert (child.run_id != "r", child.resumed) == (True, False)
    monkeypatch.setenv("XTRACK_RESUME", "always")
    with pytest.raises(ConfigurationError, match="XTRACK_RESUME='always': must be one of: never, auto"):
        Tracker.start_run()


def test_a_retry_where_files_can_not_be_locked(spool: Any, auto: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on many clusters' file systems: who asks to go on says that the earlier one is gone."""
    assert retried("failed") == "r False"
    monkeypatch.setattr(tracker, "is_locked", lambda path: None)
    run = Tracker.start_run()
    assert run.resumed
    run.end()
    assert spool.state("r").status == "completed"


def test_a_deleted_run_is_not_gone_on_with(spool: Any) -> None:
    from xtrack_protocol.errors import TransportError
    from xtrack_protocol.storage.local import LocalStore

    finished()
    with LocalStore(spool.root) as store:
        store.delete_run("r")
    with pytest.raises(TransportError, match="deleted"):
        Tracker.start_run(run_id="r")
    with pytest.raises(RunNotFound):
        Tracker.attach("r")


def test_spools_are_private(spool: Any) -> None:
    finished()
    assert os.stat(spool.root).st_mode & 0o777 == 0o700
    files = [path for path in Path(spool.root).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_tags_during_a_run_and_after_it_at_a_collector(spool: Any) -> None:
    with MemoryStore() as store, serving(store) as server:
        run = Tracker.start_run(run_id="r", transport=url(server))
        run.set_tag("stage", "training")
        run.end()
        later = Tracker.attach("r", transport=url(server))
        later.set_tags({"stage": "reviewed", "reviewer": "ann"})
        later.log_batch(metrics={"test": 0.9}, params={"threshold": 0.5})
        later.end()
        assert later.flush("acked")
        state = store.get_run("r")
        assert (state.status, state.tags) == ("completed", {"stage": "reviewed", "reviewer": "ann"})
        assert (state.params, state.metrics["test"].last.value) == ({"threshold": 0.5}, 0.9)
