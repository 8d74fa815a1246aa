"""The contract of stores, second part: what runs hold, and finding them again."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from xtrack_protocol.errors import AmbiguousRun, ExperimentExists, ExperimentNotFound, RunNotFound, StorageError
from xtrack_protocol.ir import (
    Artifact,
    Checkpoint,
    LogEntry,
    MetricBatch,
    MetricContext,
    Param,
    Resume,
    RunEnd,
    RunId,
    RunStart,
)
from xtrack_protocol.runs import Aggregate, StreamLost
from xtrack_protocol.storage import AppendResult, Order, RunQuery, Storage, open_store
from xtrack_protocol.testing.events import START_US, Worker
from xtrack_protocol.testing.poison import exactly
from xtrack_protocol.testing.storage_base import StoreMaker, append, values


class AnswersAboutRuns(StoreMaker):
    """Series, params, artifacts, checkpoints and logs of a run."""

    def test_unknown_runs(self, store: Storage) -> None:
        """Each question about one raises RunNotFound."""
        questions = (
            store.get_run,
            store.find_run,
            store.metric_keys,
            lambda run: store.get_metrics(run, "x"),
            lambda run: store.get_metric_aggregate(run, "x"),
            store.get_params,
            store.get_artifacts,
            store.get_checkpoints,
            store.get_logs,
            store.conflicts,
            store.delete_run,
            lambda run: store.annotate(run, name="x"),
        )
        for question in questions:
            with pytest.raises(RunNotFound) as caught:
                question("absent")
            assert caught.value.run == "absent"
            with pytest.raises(StorageError):
                question("\ud800")  # no text that could be stored

    def test_series_in_order(self, store: Storage) -> None:
        """By step, session, seq; null steps last, repeats kept. spec: FLD-3."""
        late = Worker("r", "", "b", start_us=START_US + 10**9)
        early = Worker("r", "", "a")
        append(store, late.metric("x", 10, 2), late.metric("x", 11, 1), late.metric("x", 12), late.metric("x", 13, 1))
        append(store, early.metric("x", 1, 1), early.metric("x", 2, 2), early.metric("x", 3), early.metric("x", 4, 2))
        assert values(store.get_metrics("r", "x")) == [1, 11, 13, 2, 4, 10, 3, 12]
        assert values(store.get_metrics("r", "x", limit=3)) == [1, 11, 13]
        assert store.get_metrics("r", "x", limit=0) == []
        assert values(store.get_metrics("r", "x", min_step=2)) == [2, 4, 10]
        assert values(store.get_metrics("r", "x", max_step=1)) == [1, 11, 13]
        assert values(store.get_metrics("r", "x", min_step=1, max_step=1, limit=2)) == [1, 11]
        assert store.get_metrics("r", "absent") == []

    def test_a_point_has_all_that_was_said(self, store: Storage) -> None:
        """spec: FLD-1.1."""
        worker = Worker("r", "w", "s")
        context = MetricContext(phase="val", batch_size=2, dataset_size=3, agg="mean")
        item = worker.say(MetricBatch("r", {"a": 1, "b": 2.5}, step=3, epoch=4, context=context))
        append(store, item)
        (point,) = store.get_metrics("r", "b")
        assert (point.value, point.step, point.epoch, point.context) == (2.5, 3, 4, context)
        assert (point.timestamp_us, point.worker_id, point.session_id, point.seq) == (
            item.envelope.meta.timestamp_us,
            "w",
            "s",
            1,
        )
        assert store.metric_keys("r") == ["a", "b"]

    def test_series_of_one_worker(self, store: Storage) -> None:
        """By its exact id; the empty one is the worker without."""
        workers = [Worker("r", wid, "s") for wid in ("", "0", "00")]
        append(store, *(worker.metric("x", index, index) for index, worker in enumerate(workers)))
        assert values(store.get_metrics("r", "x")) == [0, 1, 2]
        for index, worker in enumerate(workers):
            assert values(store.get_metrics("r", "x", worker_id=worker.worker_id)) == [index]
        assert store.get_metrics("r", "x", worker_id="1") == []

    def test_an_aggregate_over_workers(self, store: Storage) -> None:
        """Of each worker a step's last value, the last session's; points without a step left out. spec: FLD-3.7."""
        first, second = Worker("r", "0", "a"), Worker("r", "1", "b")
        again = Worker("r", "0", "A", start_us=START_US + 10**9)  # sorted before the session that it follows
        append(store, again.start(), again.metric("x", 7, 2))
        append(store, first.start(), first.metric("x", 1, 1), first.metric("x", 2, 1), first.metric("x", 3, 2))
        append(store, second.start(), second.metric("x", 4, 1), second.metric("x", 0.5, 2), second.metric("x", 9))
        append(store, second.metric("x", 6, -5), second.metric("other", 100, 1))
        assert store.get_metric_aggregate("r", "x") == [
            Aggregate(-5, 1, 0, 6.0, 6, 6),
            Aggregate(1, 2, 0, 3.0, 2, 4),
            Aggregate(2, 2, 0, 3.75, 0.5, 7),
        ]
        steps = [found.step for found in store.get_metric_aggregate("r", "x", min_step=-5, max_step=1)]
        assert steps == [-5, 1]
        assert [found.step for found in store.get_metric_aggregate("r", "x", min_step=2)] == [2]
        assert store.get_metric_aggregate("r", "absent") == []

    def test_an_aggregate_of_no_numbers(self, store: Storage) -> None:
        """NaN is counted by itself; infinities are numbers. spec: FLD-3.8."""
        nan, inf = float("nan"), float("inf")
        told = [[nan, nan, nan], [nan, 1, 2], [inf, 1, 2], [inf, -inf, nan], [1.5e308, 1.7e308, 1.6e308], [1, 1.0, 1]]
        workers = [Worker("r", str(index), f"s{index}") for index in range(3)]
        for step, numbers in enumerate(told):
            append(store, *(worker.metric("x", value, step) for worker, value in zip(workers, numbers, strict=True)))
        found = [attrs.astuple(aggregate) for aggregate in store.get_metric_aggregate("r", "x")]
        assert exactly(found) == exactly(
            [
                (0, 0, 3, None, None, None),
                (1, 2, 1, 1.5, 1, 2),
                (2, 3, 0, inf, 1, inf),
                (3, 2, 1, nan, -inf, inf),
                (4, 3, 0, 1.6e308, 1.5e308, 1.7e308),
                (5, 3, 0, 1.0, 1, 1),
            ]
        )

    def test_an_aggregate_leaves_out_what_is_hidden(self, store: Storage) -> None:
        """spec: FLD-3.7, FLD-8.1."""
        old, other = Worker("r", "0", "old"), Worker("r", "1", "other")
        append(store, old.start(), *(old.metric("x", 10, step) for step in range(4)))
        append(store, other.start(), *(other.metric("x", 20, step) for step in range(3)))
        new = Worker("r", "0", "new", start_us=START_US + 10**9)
        append(store, new.say(RunStart("r", resume=Resume(["old"], rewind_to=1))), new.metric("x", 12, 2))
        found = store.get_metric_aggregate("r", "x")
        assert [(aggregate.step, aggregate.count, aggregate.mean) for aggregate in found] == [
            (0, 2, 15.0),
            (1, 2, 15.0),
            (2, 2, 16.0),
        ]

    @pytest.mark.parametrize("resume_first", [False, True])
    def test_a_rewind_hides_and_keeps(self, store: Storage, resume_first: bool) -> None:
        """Whichever comes first. spec: FLD-8."""
        old = Worker("r", "", "old")
        before = [old.start(), *(old.metric("x", step, step) for step in range(10)), old.metric("x", 99)]
        before += [old.say(Checkpoint("r", step, f"c{step}")) for step in (3, 7)]
        new = Worker("r", "", "new", start_us=START_US + 10**9)
        after = [new.say(RunStart("r", resume=Resume(["old"], rewind_to=4))), new.metric("x", 50, 5)]
        after += [new.say(Checkpoint("r", 7, "again"))]
        for batch in (after, before) if resume_first else (before, after):
            append(store, *batch)
        assert values(store.get_metrics("r", "x")) == [0, 1, 2, 3, 4, 50, 99]
        everything = store.get_metrics("r", "x", include_hidden=True)
        assert values(everything) == [0, 1, 2, 3, 4, 5, 50, 6, 7, 8, 9, 99]
        assert values(point for point in everything if point.hidden) == [5, 6, 7, 8, 9]
        assert [stored.checkpoint.path for stored in store.get_checkpoints("r")] == ["c3", "again"]
        hidden = store.get_checkpoints("r", include_hidden=True)
        assert [(stored.checkpoint.path, stored.hidden) for stored in hidden] == [
            ("c3", False),
            ("c7", True),
            ("again", False),
        ]
        state = store.get_run("r")
        assert (state.metrics["x"].count, state.status) == (7, "running")
        assert store.check() == []

    def test_params_with_history(self, store: Storage) -> None:
        """spec: FLD-2.9, FLD-10."""
        first, second = Worker("r", "0", "a"), Worker("r", "1", "b", start_us=START_US + 500)
        append(store, first.say(Param("r", "lr", 0.1)), first.say(Param("r", "optimizer", 0.2, ["lr"])))
        append(store, second.say(Param("r", "lr", 0.3)), first.say(Param("r", "lr", 0.05), timestamp_us=START_US - 1))
        append(store, first.say(Param("r", "optimizer.lr", {"x": None})))
        params = store.get_params("r")
        assert list(params) == ["lr", "optimizer.lr"]
        assert [(value.value, value.current) for value in params["lr"]] == [(0.05, False), (0.1, False), (0.3, True)]
        assert [(value.value, value.current) for value in params["optimizer.lr"]] == [(0.2, False), ({"x": None}, True)]
        assert params["lr"][2].stream == second.stream
        state = store.get_run("r").params
        assert state == {"lr": 0.3, "optimizer.lr": {"x": None}}

    def test_current_params_are_those_of_the_state(self, store: Storage) -> None:
        """Within a worker the last session's, whatever its clock says. spec: FLD-2."""
        old, new = Worker("r", "", "old"), Worker("r", "", "new", start_us=START_US + 1000)
        append(store, new.start(), new.say(Param("r", "p", "new"), timestamp_us=START_US - 10**9))
        append(
            store, old.start(timestamp_us=START_US - 10), old.say(Param("r", "p", "old"), timestamp_us=START_US + 10**9)
        )
        (current,) = [value.value for value in store.get_params("r")["p"] if value.current]
        assert current == store.get_run("r").params["p"]

    def test_artifacts_and_logs_by_time(self, store: Storage) -> None:
        """Of several workers, in the order of their clocks."""
        one, two = Worker("r", "1", "a"), Worker("r", "2", "b", start_us=START_US + 500)
        for index in range(4):
            append(store, two.say(LogEntry("r", "info", f"two {index}")), two.say(Artifact("r", f"two {index}")))
            append(store, one.say(LogEntry("r", "info", f"one {index}")), one.say(Artifact("r", f"one {index}")))
        expected = [f"{name} {index}" for index in range(4) for name in ("one", "two")]
        assert [record.entry.message for record in store.get_logs("r")] == expected
        assert [record.entry.message for record in store.get_logs("r", limit=3)] == expected[-3:]
        assert store.get_logs("r", limit=0) == []
        assert [stored.artifact.path for stored in store.get_artifacts("r")] == expected

    def test_more_logs_than_a_state_holds(self, store: Storage) -> None:
        """spec: FLD-3.6."""
        worker = Worker("r")
        append(store, *(worker.say(LogEntry("r", "info", str(index))) for index in range(1500)))
        assert [record.entry.message for record in store.get_logs("r")] == [str(index) for index in range(1500)]
        assert len(store.get_logs("r", limit=1200)) == 1200
        assert len(store.get_run("r").logs) == 1000

    def test_lost_workers(self, store: Storage) -> None:
        """Told once or twice, before or after the events. spec: FLD-6."""
        worker = Worker("r")
        lost = StreamLost(worker.stream, START_US + 10**7, "died", 1, "exit code -9")
        store.mark_lost(lost)
        assert store.get_run("r").status == "pending"
        append(store, worker.start())
        assert store.get_run("r").status == "killed"
        before = exactly(store.get_run("r"))
        store.mark_lost(lost)
        assert exactly(store.get_run("r")) == before
        append(store, worker.end())
        assert store.get_run("r").status == "completed"
        assert store.check() == []

    def test_a_worker_that_vanished_is_heard_of_again(self, store: Storage) -> None:
        """spec: FLD-6.6."""
        worker = Worker("r")
        append(store, worker.start())
        store.mark_lost(StreamLost(worker.stream, START_US, "vanished", 1))
        assert [state.run_id for state in store.search_runs(RunQuery(status=["lost"]))] == ["r"]
        append(store, worker.metric("x", 1, 1))
        assert [state.run_id for state in store.search_runs(RunQuery(status=["running"]))] == ["r"]

    def test_annotations(self, store: Storage) -> None:
        """Of a finished run, whose status stays; the last one wins. spec: EVT-TAGS-2, FLD-5.9."""
        worker = Worker("r", start_us=4_000_000_000_000_000)  # its clock is far ahead of ours
        append(store, worker.say(RunStart("r", name="given", tags={"a": "1", "b": "2"})), worker.end())
        assert store.annotate("r") == store.get_run("r")
        state = store.annotate("r", tags={"a": "changed", "c": "3"}, name="renamed", note="a note")
        assert exactly(state) == exactly(store.get_run("r"))
        assert (state.name, state.note, state.tags) == ("renamed", "a note", {"a": "changed", "b": "2", "c": "3"})
        assert state.status == "completed"
        other = Worker("r", "", "another session of no worker", start_us=4_100_000_000_000_000)
        append(store, other.say(RunStart("r", tags={"a": "resumed"})))
        assert store.get_run("r").tags["a"] == "resumed"
        state = store.annotate("r", tags={"a": "again"}, name="renamed again")
        assert (state.tags["a"], state.name) == ("again", "renamed again")
        assert [found.run_id for found in store.search_runs(RunQuery(tags={"a": "again"}))] == ["r"]
        assert len(list(store.events("r"))) == 5
        assert store.check() == []

    def test_deleted_runs(self, store: Storage) -> None:
        """Gone, and stay gone. spec: FLD-9."""
        worker, other = Worker("r"), Worker("other")
        batch = [worker.start("n"), worker.metric("x", 1, 1), worker.say(Param("r", "p", 1)), worker.skip(9, 9)]
        store.append(batch)
        store.append([worker.say(Param("r", "p", 2), seq=3)])
        store.mark_lost(StreamLost(worker.stream, 5, "died"))
        append(store, other.start("other"))
        store.delete_run("r")
        with pytest.raises(RunNotFound):
            store.get_run("r")
        with pytest.raises(RunNotFound):
            store.delete_run("r")
        result = store.append([worker.metric("x", 2, 2), other.metric("x", 3, 3)])
        assert (result.dropped, result.stored) == (1, (1,))
        store.mark_lost(StreamLost(worker.stream, 6, "died"))
        with pytest.raises(StorageError, match="deleted"):
            store.expect_run("r")
        assert [state.run_id for state in store.list_runs()] == ["other"]
        assert {event.stream.run_id for event in store.events()} == {"other"}
        assert not store.cursor(worker.stream)
        assert store.check() == []

    def test_expected_runs(self, store: Storage) -> None:
        """Pending until they begin; what workers say counts more. spec: FLD-5.8."""
        state = store.expect_run("r", name="planned", experiment_id="e")
        assert (state.status, state.name, state.experiment_id, state.events) == ("pending", "planned", "e", 0)
        assert store.get_experiment("e").experiment_id == "e"
        assert store.find_run("planned") == "r"
        assert [found.run_id for found in store.search_runs(RunQuery(status=["pending"], experiment="e"))] == ["r"]
        worker = Worker("r")
        append(store, worker.start("given"))
        state = store.expect_run("r", name="too late", experiment_id="other")
        assert (state.status, state.name, state.experiment_id) == ("running", "given", "e")
        assert store.check() == []


class FindsRuns(StoreMaker):
    """Search, references, experiments."""

    def test_references(self, store: Storage) -> None:
        """An id, a name (the newest), latest, or the start of one id."""
        for index, (run_id, name) in enumerate([("abc1", "same"), ("abd2", "same"), ("abd2-x", "abc1"), ("zzz", None)]):
            append(store, Worker(run_id, start_us=START_US + index).start(name))
        assert store.find_run("abc1") == "abc1"  # though it is also a name
        assert store.find_run("abd2") == "abd2"  # though it is also the start of another
        assert store.find_run("same") == "abd2"
        assert store.find_run("latest") == "zzz"
        assert store.find_run("abc") == "abc1"
        assert store.find_run("abd2-") == "abd2-x"
        with pytest.raises(AmbiguousRun) as caught:
            store.find_run("ab")
        assert caught.value.matches == ("abc1", "abd2", "abd2-x")
        for absent in ("ABC", "", "%", "abc*", "abc1 "):
            with pytest.raises(RunNotFound):
                store.find_run(absent)

    def test_latest_of_none(self, store: Storage) -> None:
        """Is no run."""
        with pytest.raises(RunNotFound):
            store.find_run("latest")

    def test_search(self, store: Storage) -> None:
        """Each condition by itself, and together."""
        for index in range(6):
            worker = Worker(f"run{index}", start_us=START_US + index * 10**6)
            tags = {"parity": "even" if index % 2 == 0 else "odd", "index": str(index)}
            run_id = RunId(worker.run_id, f"e{index % 3}", "parent" if index > 3 else None)
            append(store, worker.say(RunStart(run_id, name=f"name {index}", tags=tags), timestamp_us=worker.start_us))
            if index < 3:
                append(store, worker.say(RunEnd(worker.run_id, "failed" if index else "completed")))

        def found(query: RunQuery) -> list[str]:
            return [state.run_id.removeprefix("run") for state in store.search_runs(query)]

        assert found(RunQuery()) == ["5", "4", "3", "2", "1", "0"]
        assert found(RunQuery(status=["failed"])) == ["2", "1"]
        assert found(RunQuery(status=["completed", "running"])) == ["5", "4", "3", "0"]
        assert found(RunQuery(experiment="e1")) == ["4", "1"]
        assert found(RunQuery(tags={"parity": "odd"})) == ["5", "3", "1"]
        assert found(RunQuery(tags={"parity": "odd", "index": "3"})) == ["3"]
        assert found(RunQuery(tags={"parity": "3"})) == []
        assert found(RunQuery(name="name 2")) == ["2"]
        assert found(RunQuery(name="name*")) == ["5", "4", "3", "2", "1", "0"]
        assert found(RunQuery(name="*?3")) == ["3"]
        assert found(RunQuery(name="name [23]")) == []
        assert found(RunQuery(name="NAME*")) == []
        assert found(RunQuery(parent="parent")) == ["5", "4"]
        assert found(RunQuery(started_after_us=START_US + 2 * 10**6)) == ["5", "4", "3", "2"]
        assert found(RunQuery(started_before_us=START_US + 2 * 10**6)) == ["1", "0"]
        assert found(RunQuery(started_after_us=START_US + 10**6, started_before_us=START_US + 2 * 10**6)) == ["1"]
        assert found(RunQuery(limit=2, offset=1)) == ["4", "3"]
        assert found(RunQuery(limit=0)) == []
        assert found(RunQuery(offset=4)) == ["1", "0"]
        assert found(RunQuery(status=["failed"], experiment="e1", tags={"parity": "odd"}, name="n*")) == ["1"]
        assert [state.run_id for state in store.list_runs(limit=1)] == ["run5"]

    def test_orders(self, store: Storage) -> None:
        """A minus turns an order round; equals are sorted by id."""
        names = {"a": "x", "b": "y", "c": "x", "d": None}
        for index, (run_id, name) in enumerate(names.items()):
            worker = Worker(run_id, start_us=START_US - index * 10**6)
            append(store, worker.start(name), worker.say(Param(run_id, "p", 1), timestamp_us=START_US + index))
        append(store, Worker("b", "2", "other").say(RunEnd("b", "failed"), timestamp_us=START_US - 1))
        expected: dict[Order, str] = {
            "started": "dcba",
            "-started": "abcd",
            "name": "dacb",
            "-name": "bcad",
            "updated": "bcda",
            "-updated": "adcb",
            "status": "bacd",
        }
        for order, ids in expected.items():
            assert "".join(state.run_id for state in store.search_runs(RunQuery(order=order))) == ids, order

    def test_pages_are_stable(self, store: Storage) -> None:
        """Runs that are equal in order come once each."""
        append(store, *(Worker(f"{index:02}").start("same") for index in range(25)))
        pages = [store.search_runs(RunQuery(limit=10, offset=offset, order="name")) for offset in (0, 10, 20)]
        assert [state.run_id for page in pages for state in page] == [f"{index:02}" for index in range(25)]

    def test_what_is_searched_is_what_is_now(self, store: Storage) -> None:
        """Columns follow the state."""
        worker = Worker("r")
        append(store, worker.say(RunStart(RunId("r", "e1"), name="one", tags={"k": "1"})))
        append(
            store, Worker("r", "", "s2", START_US + 10**9).say(RunStart(RunId("r", "e2"), name="two", tags={"k": "2"}))
        )
        assert store.search_runs(RunQuery(name="one")) == []
        assert store.search_runs(RunQuery(tags={"k": "1"})) == []
        assert store.search_runs(RunQuery(experiment="e1")) == []
        assert len(store.search_runs(RunQuery(name="two", tags={"k": "2"}, experiment="e2"))) == 1
        assert [experiment.name for experiment in store.list_experiments()] == ["e1", "e2"]

    def test_experiments(self, store: Storage) -> None:
        """Made, found by either name, tagged, listed."""
        made = store.create_experiment("Vision", experiment_id="exp-1", tags={"team": "a"})
        assert (made.experiment_id, made.name, made.tags) == ("exp-1", "Vision", {"team": "a"})
        assert made.created_at_us > 0
        assert store.get_experiment("Vision") == store.get_experiment("exp-1") == made
        assert store.create_experiment("plain").experiment_id == "plain"
        for name, experiment_id in (("Vision", None), ("exp-1", None), ("new", "exp-1"), ("new", "Vision")):
            with pytest.raises(ExperimentExists):
                store.create_experiment(name, experiment_id=experiment_id)
        assert store.tag_experiment("exp-1", {"team": "b", "x": "y"}).tags == {"team": "b", "x": "y"}
        assert store.get_experiment("Vision").tags == {"team": "b", "x": "y"}
        assert [experiment.name for experiment in store.list_experiments()] == ["Vision", "plain"]
        for call in (store.get_experiment, store.delete_experiment, lambda name: store.tag_experiment(name, {})):
            with pytest.raises(ExperimentNotFound):
                call("absent")

    def test_runs_make_their_experiment(self, store: Storage) -> None:
        """By use, once; one that is there, by id or name, stays as it is."""
        store.create_experiment("Vision", experiment_id="exp-1")
        for run_id, experiment in (("a", "by-use"), ("b", "by-use"), ("c", "exp-1"), ("d", "Vision")):
            append(store, Worker(run_id).say(RunStart(RunId(run_id, experiment))))
        assert [experiment.name for experiment in store.list_experiments()] == ["Vision", "by-use"]
        for asked in ("Vision", "exp-1"):
            assert [state.run_id for state in store.search_runs(RunQuery(experiment=asked))] == ["d", "c"]
        assert store.search_runs(RunQuery(experiment="absent")) == []

    def test_deleting_experiments(self, store: Storage) -> None:
        """One that has runs only with them, where asked."""
        append(store, Worker("r").say(RunStart(RunId("r", "e"))), Worker("q").start())
        store.create_experiment("empty")
        store.delete_experiment("empty")
        with pytest.raises(StorageError, match="1 runs"):
            store.delete_experiment("e")
        assert store.get_run("r").experiment_id == "e"
        store.delete_experiment("e", with_runs=True)
        assert store.list_experiments() == []
        assert [state.run_id for state in store.list_runs()] == ["q"]
        assert store.append([Worker("r").start()]) == AppendResult(dropped=1)

    def test_backup(self, store: Storage, tmp_path: Path) -> None:
        """The whole store, as a SQLite file that never replaces another."""
        worker = Worker("r", "0")
        append(store, worker.say(RunStart(RunId("r", "e"), name="n")), worker.metric("x", float("nan"), 1))
        append(store, worker.say(Param("r", "p", [None])), Worker("gone").start())
        store.append([worker.say(Param("r", "p", 3), seq=3), worker.skip(7, 8)])
        store.mark_lost(StreamLost(worker.stream, 5, "vanished", 3))
        store.expect_run("planned", name="later")
        store.create_experiment("extra", tags={"k": "v"})
        store.delete_run("gone")
        path = tmp_path / "backup.db"
        store.backup(path)
        with pytest.raises(StorageError):
            store.backup(path)
        with open_store(f"sqlite:///{path}") as copy:
            assert exactly(sorted(copy.list_runs(), key=lambda state: state.run_id)) == exactly(
                sorted(store.list_runs(), key=lambda state: state.run_id)
            )
            assert [event.raw for event in copy.events()] == [event.raw for event in store.events()]
            assert [event.raw for event in copy.conflicts("r")] == [event.raw for event in store.conflicts("r")]
            assert copy.list_experiments() == store.list_experiments()
            assert copy.cursor(worker.stream) == store.cursor(worker.stream)
            assert copy.append([Worker("gone").start()]).dropped == 1
            assert copy.check() == []
