"""Runs in a spool, in all states that a local store meets."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.ir import Metric, Tags
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.storage import RunQuery
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.testing import Worker
from xtrack_protocol.transport import LocalTransport

AGO = 3600
"""Seconds: long enough for a folder's time of change to be relied on, and for a silent worker to be lost."""


def log_run(run_id: str, points: int = 3, **options: Any) -> Run:
    """Log a short run, and leave it open."""
    run = Tracker.start_run(run_id=run_id, **options)
    for step in range(points):
        run.log_metric("loss", float(step), step=step)
    return run


def abandon(run: Run) -> None:
    """Let an emitter vanish as kill -9 would: its lock is free, and nothing more is written."""
    transport = run._out.transport
    assert isinstance(transport, LocalTransport)
    assert transport._writer is not None
    transport._writer.forget()
    from xtrack_protocol.emitter import exits

    exits.unwatch(run)


def age(root: Path, run_id: str, seconds: float = AGO) -> None:
    """Make a run's folder, and all in it, look as old as that."""
    folder = SpoolDir(root).run_dir(run_id)
    then = time.time() - seconds
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def told(store: LocalStore, run_id: str) -> list[Any]:
    """Return all of a run's events, in what identifies them."""
    return sorted((event.stream, event.envelope.meta.seq, event.raw) for event in store.events(run_id))


def answers(store: LocalStore) -> Any:
    """Return what a store answers to most questions, but for what belongs to the index alone."""
    runs = store.search_runs(RunQuery(order="name"))
    return (
        runs,
        {run.run_id: told(store, run.run_id) for run in runs},
        {run.run_id: [store.get_metrics(run.run_id, key) for key in store.metric_keys(run.run_id)] for run in runs},
        {run.run_id: store.get_params(run.run_id) for run in runs},
        [(one.experiment_id, one.name, dict(one.tags)) for one in store.list_experiments()],
    )


def make_all_kinds(store: LocalStore) -> None:
    """Fill a store with everything that a rebuild must bring back."""
    run = log_run("finished", name="f", tags={"a": "1"}, experiment_id="exp", params={"lr": 0.1})
    run.log_checkpoint("x.pt", 2, metrics={"loss": 2.0})
    run.end()
    log_run("failed").end("failed", error="x")
    log_run("resumed").end("failed")
    log_run("resumed", resume=True, rewind_to=1).end()
    abandon(log_run("vanished"))
    age(store.root, "vanished")
    abandon(log_run("killed"))
    store.refresh()
    store.mark_lost(StreamLost(StreamId("killed", "", only_session(store, "killed")), 5, "died", 4, "signal 9"))
    log_run("deleted").end()
    store.delete_run("deleted")
    store.expect_run("expected", name="soon", experiment_id="exp")
    store.annotate("finished", tags={"a": "2", "b": "3"}, name="renamed", note="a note")
    store.annotate("finished", name="renamed again")
    store.create_experiment("made", experiment_id="m1", tags={"x": "y"})
    store.create_experiment("dropped")
    store.delete_experiment("dropped")
    store.tag_experiment("made", {"z": "w"})
    worker = Worker("collected", "w")
    store.append(
        [worker.start(), worker.metric("k", 1.0, 1), worker.skip(5, 6), worker.say(Tags("collected", {}), seq=7)]
    )
    store.append([worker.say(Metric("collected", "k", 2.0), seq=2)])  # another one under a seq that is taken


def only_session(store: LocalStore, run_id: str) -> str:
    (stream,) = store.get_run(run_id).streams
    return stream.stream.session_id


def check_all_kinds(store: LocalStore) -> None:
    """What a rebuild must bring back, in words."""
    statuses = {run.run_id: run.status for run in store.list_runs()}
    assert statuses == {
        "finished": "completed",
        "failed": "failed",
        "resumed": "completed",
        "vanished": "lost",
        "killed": "killed",
        "expected": "pending",
        "collected": "running",
    }
    finished = store.get_run("finished")
    assert (finished.name, finished.note, dict(finished.tags)) == ("renamed again", "a note", {"a": "2", "b": "3"})
    assert store.get_run("expected").name == "soon"
    assert {one.name for one in store.list_experiments()} == {"exp", "made"}
    assert store.get_experiment("m1").tags == {"x": "y", "z": "w"}
    assert [len(store.get_metrics("resumed", "loss")), len(store.conflicts("collected"))] == [5, 1]
    assert store.cursor(Worker("collected", "w").stream) == store.cursor(StreamId("collected", "w", "session-1"))
    assert list(store.cursor(Worker("collected", "w").stream)) == [(1, 2), (5, 7)]
    with pytest.raises(RunNotFound):
        store.get_run("deleted")


def folders_read(store: LocalStore) -> int:
    before = store.folders_read
    store.refresh()
    return store.folders_read - before
