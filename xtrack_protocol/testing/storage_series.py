"""The contract of stores, fourth part: many events at once, and series as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.ir import (
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    Param,
    Ping,
    Resume,
    RunEnd,
    RunId,
    RunStart,
)
from xtrack_protocol.runs import Series
from xtrack_protocol.session import RangeSet
from xtrack_protocol.storage import Incoming, MemoryStore, RunQuery, Storage, StreamEvents, StreamResult
from xtrack_protocol.testing.events import START_US, Worker
from xtrack_protocol.testing.poison import NUMBERS, exactly
from xtrack_protocol.testing.storage_base import StoreMaker, append
from xtrack_protocol.wire import Frame, decode


def stream_events(items: Sequence[Incoming], received_at_us: int = 7) -> StreamEvents:
    """Return events of one stream as a connection brings them."""
    frames = [Frame(item.envelope, None, 0, len(item.raw), item.raw) for item in items]
    return StreamEvents(items[0].stream, frames, received_at_us)


def training(worker: Worker, steps: int) -> list[Incoming]:
    """Return what a training says: metrics of all shapes, and in between what is none."""
    said = [worker.start("n")]
    for step in range(steps):
        said.append(worker.metric("loss", 1 / (step + 1), step))
        said.append(worker.metric("count", step, step, MetricContext(phase="train")))
        if step % 3 == 0:
            said.append(
                worker.say(MetricBatch(worker.run_id, {"acc": step / 7, "n": step}, step=step, epoch=step // 9))
            )
        if step % 50 == 0:
            said.append(worker.say(LogEntry(worker.run_id, "info", f"step {step}")))
            said.append(worker.metric("free", step))
    return said


class KeepsMany(StoreMaker):
    """Many events at once: the same as one by one."""

    def test_many_events_at_once(self, store: Storage) -> None:
        """All of them come back as they were, in their order. spec: FLD-12.1."""
        worker = Worker("r", "w")
        said = training(worker, 700)
        (result,) = store.append_streams([stream_events(said)])
        events = list(store.events("r"))
        assert [event.raw for event in events] == [item.raw for item in said]
        assert [event.envelope for event in events] == [item.envelope for item in said]
        assert [event.stream for event in events] == [worker.stream] * len(said)
        assert {event.received_at_us for event in events} == {7}
        positions = [event.position for event in events]
        assert positions == sorted(set(positions))
        assert result == StreamResult(stored=len(said), last_position=positions[-1])
        assert [event.position for event in store.events(after=positions[1000], limit=7)] == positions[1001:1008]
        assert [point.value for point in store.get_metrics("r", "count")] == list(range(700))
        assert store.metric_keys("r") == ["acc", "count", "free", "loss", "n"]
        assert store.cursor(worker.stream) == RangeSet([(1, len(said))])
        assert store.get_run("r").metrics["acc"].count == 234
        assert store.check() == []

    def test_events_that_come_again_with_many_others(self, store: Storage) -> None:
        """spec: STR-4.1, STR-5."""
        worker = Worker("r")
        said = training(worker, 300)
        late = said.pop(400)
        store.append_streams([stream_events(said)])
        other = worker.say(Metric("r", "loss", -1.0, step=1), seq=2)
        again = [*said[100:600], other, late, *training(worker, 200)[1:]]
        spaced = said[50].raw.replace(b":", b": ", 1)
        again.append(Incoming(worker.stream, decode(spaced), spaced, 1))
        results = store.append_streams([stream_events(again), stream_events([other, worker.say(Param("r", "p", 1))])])
        assert [(one.duplicates, one.conflicts) for one in results] == [(501, (2,)), (0, (2,))]
        assert sum(one.stored for one in results) == worker.seq - len(said) - 1
        events = list(store.events("r"))
        assert results[1].last_position == events[-1].position
        assert [event.raw for event in store.conflicts("r")] == [other.raw]
        assert store.conflicts("r")[0].position == next(e.position for e in events if e.envelope.meta.seq == 2)
        assert store.cursor(worker.stream) == RangeSet(
            [(1, len(said) + 1), (len(said) + 3, worker.seq)]  # the run_start that was left out has no place
        )
        assert store.check() == []

    def test_streams_by_turns(self, store: Storage) -> None:
        """Of several runs, the same stream twice, one of them deleted; positions in the order in which they came."""
        one, two, gone = Worker("one", "0"), Worker("two", "1"), Worker("gone")
        append(store, gone.start())
        store.delete_run("gone")
        parts = [training(worker, 120) for worker in (one, two, gone, one)]
        parts[3] = parts[3][1:]  # not a second run_start
        parts.append([gone.say(Ping(), seq=0)])
        results = store.append_streams([stream_events(part) for part in parts])
        assert [one.dropped for one in results] == [False, False, True, False, False]
        assert [one.stored for one in results] == [len(parts[0]), len(parts[1]), 0, len(parts[3]), 0]
        came = [item.raw for part in (parts[0], parts[1], parts[3]) for item in part]
        assert [event.raw for event in store.events()] == came
        assert [event.raw for event in islice(store.events("one"), len(parts[0]), None)] == [i.raw for i in parts[3]]
        assert store.append_streams([]) == []
        assert store.check() == []

    def test_what_ends_a_run_comes_with_many_others(self, store: Storage) -> None:
        """Late events, a rewind, a skip, another experiment: all is seen. spec: FLD-7, FLD-8, STR-7."""
        expected = MemoryStore()
        for target in (store, expected):
            old, new = Worker("r", "0", "old"), Worker("r", "0", "new", START_US + 10**9)
            said = training(old, 300)
            said += [old.say(RunEnd("r", "failed")), old.metric("loss", 9, 9), old.skip(5000, 5010)]
            target.append_streams([stream_events(said)])
            resumed = [new.say(RunStart(RunId("r", "e", "p"), resume=Resume(["old"], 100)))]
            resumed += [new.say(Metric(RunId("r", "f"), "loss", NUMBERS[step % 20], step)) for step in range(101, 400)]
            target.append_streams([stream_events(resumed)])
        assert exactly(store.get_run("r")) == exactly(expected.get_run("r"))
        assert store.cursor(old.stream) == expected.cursor(old.stream)
        assert [event.late for event in store.events("r")] == [event.late for event in expected.events("r")]
        for hidden in (False, True):
            for key in ("loss", "acc", "free"):
                found, told = (one.get_metrics("r", key, include_hidden=hidden) for one in (store, expected))
                assert exactly(found) == exactly(told)
        assert {one.name for one in store.list_experiments()} == {"e", "f"}
        assert store.check() == []

    def test_an_experiment_that_is_named_later(self, store: Storage) -> None:
        """Whatever event names it. spec: EVT-RUN_START-1"""
        worker = Worker("r")
        append(store, worker.start(), worker.metric("x", 1, 1))
        append(store, worker.say(Metric(RunId("r", "e", "p"), "x", 2, 2)))
        assert [state.run_id for state in store.search_runs(RunQuery(experiment="e", parent="p"))] == ["r"]
        assert store.check() == []

    def test_many_events_are_kept(self, store: Storage, tmp_path: Path) -> None:
        """When the store is opened again."""
        worker = Worker("r")
        said = training(worker, 500)
        store.append_streams([stream_events(said[:900])])
        store.append(said[900:])
        before = exactly(store.get_run("r"))
        again = self.reopen(store, tmp_path)
        if again is None:
            pytest.skip("a store that is gone when it is closed")
        with again:
            assert exactly(again.get_run("r")) == before
            assert [event.raw for event in again.events("r")] == [item.raw for item in said]
            assert again.append(said[800:1000]).duplicates == len(said[800:1000])
            assert again.check() == []


class ReadsSeries(StoreMaker):
    """Series as arrays: the same points as in ``get_metrics``."""

    def test_a_series_as_arrays(self, store: Storage) -> None:
        """Of several workers, with hidden points, with and without steps. spec: FLD-3, FLD-8."""
        first, second = Worker("r", "0", "a"), Worker("r", "1", "b")
        resumed = Worker("r", "0", "c", START_US + 10**9)
        for worker in (first, second):
            append(store, worker.start(), *(worker.metric("x", step / 3, step % 40) for step in range(100)))
            append(store, *(worker.metric("x", float("nan"), step) for step in range(0, 90, 7)))
            append(store, *(worker.metric("x", 2**53 + step) for step in range(5)))
        append(store, resumed.say(RunStart("r", resume=Resume(["a"], 30))), resumed.metric("x", 5, 31))
        for options in (
            {},
            {"min_step": 10},
            {"max_step": 29},
            {"min_step": 5, "max_step": 5},
            {"worker_id": "0"},
            {"worker_id": "1", "min_step": 39},
            {"include_hidden": True},
            {"worker_id": "none"},
        ):
            points = store.get_metrics("r", "x", **options)
            series = store.get_series("r", "x", **options)
            assert exactly(series.values.tolist()) == exactly([float(point.value) for point in points])
            assert series.steps.tolist() == [point.step for point in points if point.step is not None]
            assert series.timestamps_us.tolist() == [point.timestamp_us for point in points]
            assert len(series) == len(points)
        assert len(store.get_series("r", "absent")) == 0
        assert len(store.downsample("r", "absent")) == 0
        for question in (store.get_series, store.downsample):
            with pytest.raises(RunNotFound):
                question("absent", "x")

    def test_a_long_series_in_few_points(self, store: Storage) -> None:
        """The ends and the extremes are there, in order, and nothing that isn't in the series."""
        worker = Worker("r")
        numbers = [math.sin(step / 200) for step in range(4000)]
        numbers[1234], numbers[3456], numbers[77] = 50.0, -50.0, float("nan")
        store.append_streams([stream_events([worker.metric("x", each, step) for step, each in enumerate(numbers)])])
        whole = store.get_series("r", "x")
        assert whole.values.tolist()[:77] == numbers[:77]
        for most in (2, 3, 4, 10, 500, 3999):
            few = store.downsample("r", "x", most)
            steps = few.steps.tolist()
            assert len(few) <= most
            assert steps == sorted(set(steps))
            assert (steps[0], steps[-1]) == (0, 3999)
            assert exactly(few.values.tolist()) == exactly([numbers[step] for step in steps])
            assert few.timestamps_us.tolist() == [whole.timestamps_us[step] for step in steps]
            if most >= 10:
                assert {1234, 3456} <= set(steps)
        assert exactly(store.downsample("r", "x", 4000).values.tolist()) == exactly(numbers)
        part = store.downsample("r", "x", 10, min_step=1000, max_step=2000)
        assert (part.steps[0], part.steps[-1], max(part.values)) == (1000, 2000, 50.0)
        assert isinstance(part, Series)
        with pytest.raises(ValueError, match="limit of 1"):
            store.downsample("r", "x", 1)
