"""Runs and experiments said piece by piece, and runs recorded whole. spec: EVT-RUN_START-1, EVT-RUN_END-1, FLD-5.5"""

from __future__ import annotations

import argparse
import datetime as dt
import pickle
from typing import Any

import pytest
from remote_workers import serving, url

from xtrack_protocol.emitter import Tracker, tracker
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import Metric, MetricBatch
from xtrack_protocol.storage import LocalStore, MemoryStore, open_store

START = dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone.utc)
START_US = 1_714_564_800_000_000


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_bound", {})


def test_a_run_piece_by_piece(spool: Any) -> None:
    built = (
        Tracker.build("churn")
        .with_name("baseline")
        .with_user("ann")
        .with_run_id("r")
        .with_parent("sweep")
        .with_param("depth", 3)
        .with_params({"optimizer": {"lr": 0.1}})
        .with_params(argparse.Namespace(seed=1))
        .with_tag("stage", "dev")
        .with_tags({"gpu": True})
        .with_metric("loss", 0.5, step=1)
        .with_metrics({"loss": 0.25, "accuracy": 1}, step=2)
    )
    assert spool.streams() == {}
    with built.start() as run:
        run.log_metric("loss", 0.125, step=3)
    state = spool.state()
    assert (state.run_id, state.name, state.experiment_id, state.parent_run_id) == ("r", "baseline", "churn", "sweep")
    assert state.tags == {"user": "ann", "stage": "dev", "gpu": "True"}
    assert state.params == {"depth": 3, "optimizer.lr": 0.1, "seed": 1}
    assert (state.metrics["loss"].count, state.metrics["accuracy"].last.value) == (3, 1)
    assert state.status == "completed"


def test_one_builder_is_the_base_of_many() -> None:
    base = Tracker.build("ab").with_tag("type", "ab")
    a, b = base.with_tag("variant", "a"), base.with_tag("variant", "b").with_param("lr", 1)
    assert (base.tags, a.tags["variant"], b.tags["variant"]) == ({"type": "ab"}, "a", "b")
    assert (base.params, a.params, b.params) == ({}, {}, {"lr": 1})
    assert pickle.loads(pickle.dumps(b)) == b


def test_a_start_in_the_past(spool: Any) -> None:
    run = Tracker.build().with_start_time(START).with_param("a", 1).with_metric("m", 1.0).start()
    run.end()
    times = [event.meta.timestamp_us for event in spool.events()]
    assert times[:3] == [START_US] * 3
    assert all(when > START_US + 10**12 for when in times[3:])
    state = spool.state()
    assert state.started_at_us == START_US
    assert abs(state.duration_ms - (times[-1] - START_US) // 1000) < 10_000  # of years


def test_a_whole_run_of_the_past(spool: Any) -> None:
    run = (
        Tracker.build("imported")
        .with_start_time(START.timestamp())
        .with_param("lr", 0.1)
        .with_metric("loss", 0.5, 1, timestamp_us=START_US + 5)
        .with_metric("loss", 0.25, 2)
        .with_metric("accuracy", 0.9, 2)
        .record("FAILED", duration=60, error="out of memory")
    )
    assert run.ended
    state = spool.state()
    assert (state.status, state.error.message) == ("failed", "out of memory")
    assert (state.started_at_us, state.ended_at_us, state.duration_ms) == (START_US, START_US + 60_000_000, 60_000)
    times = [event.meta.timestamp_us for event in spool.events()]
    assert times == [START_US] * 3 + [START_US + 5, START_US + 60_000_000, START_US + 60_000_000]


@pytest.mark.parametrize(
    ("start", "given", "seconds"),
    [
        (START, {"end_time": START + dt.timedelta(seconds=90)}, 90),
        (None, {"end_time": START, "duration": 30}, 30),
        (None, {"end_time": START}, 0),
        (START, {"end_time": START + dt.timedelta(seconds=10), "duration": 10.4}, 10),
        (None, {"duration": 5}, 5),
        (None, {}, 0),
    ],
)
def test_times_of_a_whole_run(spool: Any, start: Any, given: Any, seconds: float) -> None:
    builder = Tracker.build() if start is None else Tracker.build().with_start_time(start)
    builder.record(**given)
    state = spool.state()
    assert (state.ended_at_us - state.started_at_us) / 1e6 == seconds
    assert state.duration_ms == seconds * 1000


def test_a_whole_run_at_a_collector(spool: Any) -> None:
    with MemoryStore() as store, serving(store) as server:
        builder = Tracker.build("imported").with_run_id("r").with_start_time(START).with_metric("loss", 0.25, 2)
        run = builder.record(duration=60, transport=url(server))
        assert run.flush("acked")
        state = store.get_run("r")
    assert (state.status, state.started_at_us, state.duration_ms) == ("completed", START_US, 60_000)
    assert state.metrics["loss"].last.timestamp_us == START_US + 60_000_000


def test_a_local_time() -> None:
    naive = dt.datetime(2024, 5, 1, 12)  # noqa: DTZ001 - that is the point
    assert Tracker.build().with_start_time(naive).start_time_us == round(naive.timestamp() * 1e6)


WRONG = [
    ("with_name", (5,), "with_name: name"),
    ("with_name", ("",), "with_name: name"),
    ("with_user", (None,), "with_user: 'user'"),
    ("with_parent", (5,), "with_parent: parent"),
    ("with_experiment", ("",), "with_experiment: experiment"),
    ("with_run_id", ("a" * 2000,), "with_run_id: run_id"),
    ("with_start_time", ("yesterday",), "with_start_time: moment"),
    ("with_start_time", (True,), "with_start_time: moment"),
    ("with_start_time", (1_714_564_800_000,), "with_start_time: moment"),  # milliseconds
    ("with_start_time", (float("nan"),), "with_start_time: moment"),
    ("with_param", (5, 1), "with_param: key"),
    ("with_params", ([1],), "with_params: params"),
    ("with_tag", (5, 1), "with_tag: key"),
    ("with_tags", ("a",), "with_tags: tags"),
    ("with_metric", ("loss", "high"), "with_metric: loss"),
    ("with_metric", (5, 1.0), "with_metric: key"),
    ("with_metric", ("loss", 1.0, 1.5), "with_metric: step"),
    ("with_metrics", (5,), "with_metrics: metrics"),
    ("with_metrics", ({"loss": None},), "with_metrics: loss"),
]


@pytest.mark.parametrize(("method", "arguments", "named"), WRONG)
def test_a_wrong_piece_is_told_of_where_it_is_given(method: str, arguments: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        getattr(Tracker.build(), method)(*arguments)
    assert caught.value.setting == named


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"status": "RUNNING"}, "record: status"),
        ({"end_time": "now"}, "record: end_time"),
        ({"end_time": START - dt.timedelta(1)}, "record: end_time"),
        ({"duration": -1}, "record: duration"),
        ({"duration": "1 h"}, "record: duration"),
        ({"duration": 10, "end_time": START + dt.timedelta(hours=1)}, "record: duration"),
        ({"name": "again"}, "name"),
        ({"tags": {"a": "b"}}, "tags"),
    ],
)
def test_a_record_that_makes_no_sense_is_no_run(spool: Any, arguments: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Tracker.build().with_tag("a", "b").with_start_time(START).record(**arguments)
    assert caught.value.setting == named
    assert spool.streams() == {}


def test_an_end_before_the_start_is_now(memory: Any) -> None:
    memory.run.end(end_time_us=5)
    assert memory.sent[-1].meta.timestamp_us > 5
    assert memory.run.stats().refused == 1


# ------------------------------------------------------------------------------------------ experiments


def test_an_experiment_is_made_by_its_first_run(spool: Any) -> None:
    Tracker.build("new").start().end()
    with LocalStore(spool.root) as store:
        assert store.get_experiment("new").tags == {}


def test_an_experiment_with_tags(spool: Any) -> None:
    builder = Tracker.experiment("ab").with_tag("type", "ab_test").with_tags({"variants": "a,b"})
    builder.create().with_name("a").record()
    runs = builder.with_tag("owner", "ann").create()  # it is there already
    runs.with_name("b").record()
    with LocalStore(spool.root) as store:
        found = store.get_experiment("ab")
        assert found.tags == {"type": "ab_test", "variants": "a,b", "owner": "ann"}
        assert {run.name for run in store.list_runs()} == {"a", "b"}
        assert {run.experiment_id for run in store.list_runs()} == {"ab"}


def test_an_experiment_of_runs_that_are_there(spool: Any) -> None:
    Tracker.build("ab").record()
    Tracker.experiment("ab").with_tag("type", "ab_test").create()
    with LocalStore(spool.root) as store:
        assert store.get_experiment("ab").tags == {"type": "ab_test"}


def test_an_experiment_of_a_collector(spool: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACK_TRANSPORT", "tcp")
    assert Tracker.experiment("ab").create().experiment == "ab"  # nothing but its name, which runs bring along
    with pytest.raises(ConfigurationError, match="its tags can't go to tcp"):
        Tracker.experiment("ab").with_tag("type", "ab_test").create()
    url = f"sqlite:///{tmp_path}/collector.db"
    Tracker.experiment("ab").with_tag("type", "ab_test").create(store=url)
    with open_store(url) as store:
        assert store.get_experiment("ab").tags == {"type": "ab_test"}


def test_a_wrong_experiment() -> None:
    with pytest.raises(ConfigurationError, match="experiment"):
        Tracker.experiment("")
    with pytest.raises(ConfigurationError, match="with_tag: key"):
        Tracker.experiment("a").with_tag(5, "b")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ batches and ends


class Point:
    """As MLflow's entity."""

    def __init__(self, key: str, value: float, timestamp: int, step: int) -> None:
        self.key, self.value, self.timestamp, self.step = key, value, timestamp, step


def test_a_batch_is_few_events(strict: Any) -> None:
    points = [{"key": key, "value": step + 0.5, "step": step} for key in ("loss", "accuracy") for step in (1, 2, 3)]
    strict.run.log_batch(metrics=points, params={"a": {"b": 1}, "c": 2}, tags={"t": 1, "u": 2})
    types = [event.event_type for event in strict.sent]
    assert types == ["param", "param", "tags", "metric_batch", "metric_batch", "metric_batch"]
    assert strict.last == MetricBatch("r", {"loss": 3.5, "accuracy": 3.5}, 3)


def test_a_batch_in_mlflows_forms(strict: Any) -> None:
    strict.run.log_batch(
        metrics=[Point("loss", 0.5, 1_714_564_800_000, 1), {"key": "loss", "value": 0.25, "timestamp_us": 7}],
        params=[{"key": "lr", "value": "0.1"}],
        tags=[{"key": "done", "value": "true"}],
    )
    assert [event.meta.timestamp_us for event in strict.sent[2:]] == [START_US, 7]
    assert strict.sent[2].payload.step == 1
    assert strict.sent[1].payload.tags == {"done": "true"}


def test_a_batch_of_a_mapping(strict: Any) -> None:
    strict.run.log_batch({"loss": 0.5, "accuracy": float("nan")})
    assert [*strict.last.metrics] == ["loss", "accuracy"]
    strict.run.log_batch()
    assert len(strict.sent) == 1


def test_a_series_keeps_its_order_in_a_batch(strict: Any) -> None:
    values = [("a", 1, 1), ("b", 1, 1), ("a", 2, 2), ("a", 3, 1), ("b", 2, 1), ("a", 4, 1)]
    strict.run.log_batch([{"key": key, "value": value, "step": step} for key, value, step in values])
    seen: dict[str, list[tuple[float, int | None]]] = {}
    for event in strict.sent:
        for key, value in event.payload.metrics.items():
            seen.setdefault(key, []).append((value, event.payload.step))
    assert seen == {"a": [(1, 1), (2, 2), (3, 1), (4, 1)], "b": [(1, 1), (2, 1)]}
    assert len(strict.sent) == 4


def test_what_is_wrong_in_a_batch_costs_only_itself(memory: Any) -> None:
    memory.run.log_batch(
        metrics=[{"key": "a", "value": "x"}, {"value": 1}, 5, {"key": "b", "value": 1, "step": "x"}],
        params=[("a", 1), {"key": "p", "value": 1}],
        tags=5,
    )
    assert memory.run.stats().refused == 6
    assert [event.event_type for event in memory.sent] == ["param", "metric_batch"]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("FINISHED", "completed"),
        ("finished", "completed"),
        ("FAILED", "failed"),
        ("killed", "killed"),
        (None, "completed"),
    ],
)
def test_set_terminated(memory: Any, given: Any, status: str) -> None:
    if given is None:
        memory.run.set_terminated()
    else:
        memory.run.set_terminated(given)
    assert memory.last.status == status
    assert memory.run.ended


@pytest.mark.parametrize("given", ["RUNNING", "SCHEDULED", "", 5, None, b"FAILED"])
def test_a_status_that_ends_nothing(memory: Any, given: Any) -> None:
    memory.run.set_terminated(given)
    assert not memory.run.ended
    assert memory.run.stats().refused == 1
    memory.run.log_metric("a", 1.0)
    assert isinstance(memory.last, Metric)


def test_who_is_attached_ends_nothing(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Tracker.start_run(run_id="r").end()
    run = Tracker.attach("r")
    run.set_terminated("FAILED")
    assert "only who started a run" in capsys.readouterr().err
    run.end()
    assert spool.state().status == "completed"
