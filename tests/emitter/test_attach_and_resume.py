"""Going back to a run: to tag it, to log more, to go on with it. spec: FLD-4, FLD-8"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker, tracker
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.ir import RunStart


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
    monkeypatch.setattr(tracker, "_loaded_ns", 2**62)
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


def test_a_launch_of_several_processes_is_no_resume(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """XTRACK_RUN_ID is the launcher's word, for all of its processes."""
    monkeypatch.setenv("XTRACK_RUN_ID", "r")
    code = "import xtrack_protocol as x, sys; r = x.start_run(); r.end('failed' if sys.argv[1:] else 'completed')"
    subprocess.run([sys.executable, "-c", code, "fail"], check=True)
    subprocess.run([sys.executable, "-c", code], check=True)
    assert spool.state("r").status == "failed"


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
