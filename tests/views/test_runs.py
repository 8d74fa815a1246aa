"""Runs as lists and objects."""

import gc
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from xtrack_protocol import Tracker
from xtrack_protocol.errors import ConfigurationError, RunNotFound, StorageError
from xtrack_protocol.storage import LocalStore, MemoryStore, open_store
from xtrack_protocol.testing import Worker
from xtrack_protocol.views import Runs, RunView, SeriesView, open_runs


def test_runs_are_a_list(base, four, failed):
    runs = open_runs()
    assert [run.run_id for run in runs] == ["bad", "four", "base"]
    assert (len(runs), runs[0].run_id, runs[-1].name, runs["base"].status) == (3, "bad", "base", "completed")
    assert isinstance(runs[:2], Runs)
    assert [run.run_id for run in runs[1:]] == ["four", "base"]
    assert runs[0] in runs
    assert runs[0] not in runs[1:]
    assert "bad" not in runs
    assert repr(runs).startswith("<3 runs of local:")
    with pytest.raises(RunNotFound):
        runs["nosuch"]
    with pytest.raises(IndexError):
        runs[3]
    with pytest.raises(TypeError):
        runs[1.5]
    assert not open_runs(name="nosuch")


def test_which_runs(base, four, failed):
    now = datetime.now(timezone.utc)
    assert [run.run_id for run in open_runs(status="failed")] == ["bad"]
    assert len(open_runs(status=["failed", "completed"])) == 3
    assert [run.run_id for run in open_runs(experiment="exp")] == ["base"]
    assert [run.run_id for run in open_runs(tags={"kind": "a"}, name="b*")] == ["base"]
    assert [run.run_id for run in open_runs(limit=1, order="started")] == ["base"]
    assert len(open_runs(started_after=now - timedelta(hours=1), started_before=now + timedelta(hours=1))) == 3
    assert len(open_runs(started_after=datetime.now() + timedelta(hours=1))) == 0  # noqa: DTZ005 - this machine's
    with pytest.raises(TypeError):
        open_runs(statuss="failed")
    with pytest.raises(ConfigurationError, match="status='finished': must be one of pending, running, completed"):
        open_runs(status=["failed", "finished"])
    with pytest.raises(ConfigurationError, match="started_after='2024-05-01': must be a datetime"):
        open_runs(started_after="2024-05-01")
    with pytest.raises(ConfigurationError, match="order='loss': must be one of started, -started"):
        open_runs(order="loss")


def test_where_they_come_from(base, tmp_path, monkeypatch):
    local = LocalStore()
    local.backup(tmp_path / "runs.db")
    for store in (f"local:{tmp_path / 'xd'}", f"sqlite:///{tmp_path / 'runs.db'}", local):
        assert [run.run_id for run in open_runs(store)] == ["base"]
    local.get_run("base")  # it is still open
    local.close()
    monkeypatch.setenv("XTRACK_STORE", f"sqlite:///{tmp_path / 'runs.db'}")
    assert repr(open_runs()).endswith("runs.db>")
    with pytest.raises(ConfigurationError, match=r"a path is no URL\. For a file write 'sqlite:///runs\.db'"):
        open_store(Path("runs.db"))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no known kind of store"):
        open_runs("runs.db")
    with pytest.raises(StorageError):
        open_runs(f"sqlite:///{tmp_path / 'nosuch.db'}")
    assert not (tmp_path / "nosuch.db").exists()


def test_a_store_is_closed_with_its_last_view(base, monkeypatch):
    closed = []
    close = LocalStore.close
    monkeypatch.setattr(LocalStore, "close", lambda self: (closed.append(1), close(self)))
    run = open_runs()[0]
    gc.collect()
    assert (closed, len(run.series("loss"))) == ([], 5)
    del run
    gc.collect()
    assert closed == [1]
    with open_runs() as runs:
        assert len(runs) == 1
    assert closed == [1, 1]
    runs.close()
    assert closed == [1, 1]


def test_a_run(base):
    run = open_runs()["base"]
    assert isinstance(run, RunView)
    assert (run.run_id, run.name, run.status, dict(run.tags)) == ("base", "base", "completed", {"kind": "a"})
    assert run.params == {"lr": 0.1, "layers": [1, 2]}
    assert sorted(run.metrics) == ["count", "loss", "system/gpu"]
    assert repr(run) == "<Run 'base' 'base' completed, 3 metrics>"
    with Tracker.attach("base") as attached:
        attached.set_tag("kind", "b")
    assert (run.tags["kind"], run.refresh().tags["kind"]) == ("a", "b")


def test_a_series(four):
    run = open_runs()["four"]
    loss = run.series("loss")
    assert isinstance(loss, SeriesView)
    assert (len(loss), repr(loss)) == (40, "<Series 'loss' of run 'four'>")
    second = run.series("loss", "2")
    assert list(second.series.values) == [2.0 + step for step in range(10)]
    assert repr(second) == "<Series 'loss' of worker '2' of run 'four'>"
    assert list(run.series("loss", "2", min_step=3, max_step=4).series.steps) == [3, 4]
    with pytest.raises(KeyError, match=r"run 'four' has no metric 'lost'; there are 'loss', \.\.\."):
        run.series("lost")
    with pytest.raises(KeyError, match=r"no worker '7'; there are '0', '1', '2', '3'\"$"):
        run.series("loss", "7")


def test_a_run_without_metrics():
    Tracker.start_run("empty", run_id="empty").end()
    with pytest.raises(KeyError, match="no metric 'loss'; there is none"):
        open_runs()["empty"].series("loss")


def test_a_run_that_has_not_started():
    with open_store("memory:") as store:
        assert isinstance(store, MemoryStore)
        store.expect_run("soon", name="soon")
        worker = Worker("late", "w")
        store.append([worker.metric("loss", 1.0, 1)])
        runs = open_runs(store)
        for run in runs:
            assert run.run_id in run._repr_html_()
        assert "2 runs: 2 pending" in runs._repr_html_()
