"""The contract of stores, third part: the order of arrival can't show. spec: FLD-1."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from xtrack_protocol.ir import (
    Artifact,
    Checkpoint,
    ErrorInfo,
    LogEntry,
    MetricBatch,
    Param,
    Resume,
    RunEnd,
    RunId,
    RunStart,
    StatusUpdate,
    Summary,
    Tags,
)
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.storage import Incoming, RunQuery, Storage
from xtrack_protocol.testing.events import START_US, Worker
from xtrack_protocol.testing.poison import NUMBERS, exactly
from xtrack_protocol.testing.storage_base import StoreMaker

Input = Incoming | StreamLost


def history() -> list[Input]:
    """Return a run with all that makes order matter: two workers, a crash, a rewind, losses, gaps, equal steps."""
    inputs: list[Input] = []
    for worker_id in ("0", "1"):
        old = Worker("r", worker_id, f"old{worker_id}", START_US + len(inputs))
        inputs.append(old.say(RunStart(RunId("r", f"e{worker_id}"), name="old", tags={"t": worker_id}, world_size=2)))
        for step in range(20):
            inputs.append(old.metric("loss", NUMBERS[step], step))
            inputs.append(old.say(MetricBatch("r", {"acc": step, f"w{worker_id}": 0.5}, step=step // 2)))
            inputs.append(old.metric("free", step))
        inputs += [
            old.say(Param("r", "lr", worker_id)),
            old.say(Param("r", "lr", 0.1)),
            old.say(Checkpoint("r", 15, "c")),
        ]
        inputs += [old.say(LogEntry("r", "info", f"line {step}", step=step)) for step in range(3)]
        inputs += [old.say(Artifact("r", "a")), old.say(StatusUpdate("r", "training")), old.skip(60, 62)]
        inputs.append(StreamLost(old.stream, START_US + 10**7, "died" if worker_id == "0" else "vanished", 70))
        new = Worker("r", worker_id, f"new{worker_id}", START_US + 10**8 + len(inputs))
        inputs.append(
            new.say(RunStart(RunId("r", "e2"), name="new", resume=Resume([old.session_id], 7 + int(worker_id))))
        )
        inputs += [new.metric("loss", step * 1.5, step) for step in range(8, 16)]
        inputs += [new.say(Param("r", "lr", f"new {worker_id}")), new.say(Tags("r", {"t": f"new {worker_id}"}))]
        inputs += [new.say(Checkpoint("r", 15, "d", is_best=True)), new.say(Summary("r", {"best": 1.5}))]
        inputs.append(new.say(RunEnd("r", "failed", error=ErrorInfo("E", worker_id), final_metrics={"f": -0.0})))
        inputs.append(new.metric("loss", 0, 99))  # late
    return inputs


def feed(store: Storage, inputs: Sequence[Input], chooser: random.Random) -> None:
    """Store all of ``inputs`` in batches of random sizes."""
    at = 0
    while at < len(inputs):
        size = chooser.randint(1, 40)
        part = inputs[at : at + size]
        store.append([item for item in part if isinstance(item, Incoming)])
        for item in part:
            if isinstance(item, StreamLost):
                store.mark_lost(item)
        at += size


def answers(store: Storage) -> dict[str, str]:
    """Return all that a store can be asked about the run, as texts."""
    return {
        "state": exactly(store.get_run("r")),
        "found": exactly(store.search_runs(RunQuery(name="new", status=["failed"], tags={"t": "new 1"}))),
        "experiments": exactly([experiment.name for experiment in store.list_experiments()]),
        "params": exactly(store.get_params("r")),
        "artifacts": exactly(store.get_artifacts("r")),
        "checkpoints": exactly(store.get_checkpoints("r", include_hidden=True)),
        "logs": exactly(store.get_logs("r")),
        "late": exactly(sorted((event.stream, event.envelope.meta.seq) for event in store.events() if event.late)),
        **{f"cursor {stream.stream}": exactly(store.cursor(stream.stream)) for stream in store.get_run("r").streams},
        **{
            f"series {key} {hidden}": exactly(store.get_metrics("r", key, include_hidden=hidden))
            for key in store.metric_keys("r")
            for hidden in (False, True)
        },
    }


class ForgetsOrder(StoreMaker):
    """Any order, any batches, any repetition: the same answers."""

    @pytest.mark.parametrize("seed", range(12))
    def test_any_order_gives_the_same_answers(self, store: Storage, seed: int) -> None:
        """As the order in which it happened, in a store that keeps everything in memory."""
        from xtrack_protocol.storage import MemoryStore

        chooser = random.Random(seed)  # noqa: S311 - shuffles cards
        expected = MemoryStore()
        feed(expected, history(), chooser)
        shuffled = history() + chooser.sample(history(), 60)
        if seed:
            chooser.shuffle(shuffled)
        feed(store, shuffled, chooser)
        expected_answers, given = answers(expected), answers(store)
        for question, answer in expected_answers.items():
            assert given[question] == answer, question
        assert given.keys() == expected_answers.keys()
        assert store.check() == []

    def test_backwards(self, store: Storage) -> None:
        """The last event first."""
        from xtrack_protocol.storage import MemoryStore

        expected = MemoryStore()
        feed(expected, history(), random.Random(1))  # noqa: S311
        feed(store, history()[::-1], random.Random(2))  # noqa: S311
        assert answers(store) == answers(expected)
        assert store.check() == []
