"""Blocks never show: whatever comes in whatever batches, the answers are those of a store that keeps all in memory."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrack_protocol.errors import StoreCorrupt
from xtrack_protocol.ir import (
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    Param,
    Resume,
    RunEnd,
    RunId,
    RunStart,
    UnknownEvent,
)
from xtrack_protocol.runs import Series
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import (
    Incoming,
    MemoryStore,
    SQLiteStore,
    Storage,
    sqlite_append,
    sqlite_events,
    sqlite_tail,
)
from xtrack_protocol.testing import Worker
from xtrack_protocol.testing.events import START_US
from xtrack_protocol.testing.poison import NUMBERS, exactly
from xtrack_protocol.testing.storage_series import stream_events, training
from xtrack_protocol.wire import encode


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are made all the time, and pages are short."""
    monkeypatch.setattr(sqlite_append, "BULK_EVENTS", 3)
    monkeypatch.setattr(sqlite_tail, "PACKED_EVENTS", 4)
    monkeypatch.setattr(sqlite_tail, "DIRECT_EVENTS", 20)
    monkeypatch.setattr(sqlite_tail, "DIRECT_EVENTS_A_SHAPE", 3)
    monkeypatch.setattr(sqlite_tail, "TAIL_POINTS", 25)
    monkeypatch.setattr(sqlite_tail, "TAIL_POINTS_A_SERIES", 2)
    monkeypatch.setattr(sqlite_events, "EVENTS_PAGE", 7)


# ------------------------------------------------------------------------------------------ any history

STREAMS = [("r", "0", "a"), ("r", "1", "b"), ("r", "0", "c"), ("q", "", "a")]


class Say:
    """Makes events, new ones, repeated ones and conflicting ones, by the numbers it is given."""

    def __init__(self) -> None:
        self.workers = [Worker(*stream, START_US + 1000 * n) for n, stream in enumerate(STREAMS)]
        self.said: list[list[Incoming]] = [[] for _ in STREAMS]

    def event(self, stream: int, kind: int, chooser: random.Random) -> Incoming:
        worker, said = self.workers[stream], self.said[stream]
        run = worker.run_id
        step = chooser.choice([None, chooser.randrange(20), worker.seq])
        context = chooser.choice([None, None, MetricContext(phase="val")])
        value = chooser.choice([worker.seq / 3, worker.seq, chooser.choice(NUMBERS)])
        name = chooser.choice(["x", "x", "x", "y"])
        if kind == 1 and said:
            return chooser.choice(said)
        if kind == 2 and said:
            return worker.say(Metric(run, name, -1.0, step), seq=chooser.choice(said).envelope.meta.seq)
        if kind == 3:
            worker.seq += chooser.randrange(3)  # a gap
        if kind == 4:
            item = worker.say(chooser.choice([Param(run, "p", worker.seq), LogEntry(run, "info", "m")]))
        elif kind == 5:
            own: Any = RunId(run, chooser.choice([None, "e", "f"]), chooser.choice([None, "p"]))
            item = worker.say(Metric(own, name, value, step, chooser.choice([None, 3]), context))
        elif kind == 6:
            item = worker.say(MetricBatch(run, {"x": value, "z": worker.seq}, step, context=context))
        elif kind == 7:
            item = worker.say(chooser.choice([UnknownEvent("later", {"a": 1}), MetricBatch(run, {}, step)]))
        else:
            item = worker.say(Metric(run, name, value, step, None, context))
        if kind == 8:  # as another writer spells it
            raw = item.raw.replace(b":", b": ")
            item = Incoming(item.stream, item.envelope, raw, item.received_at_us)
        if kind == 9:
            item = Incoming(item.stream, item.envelope, encode(item.envelope, "msgpack"), item.received_at_us)
        said.append(item)
        return item

    def special(self, stream: int, number: int, chooser: random.Random) -> Incoming:
        worker = self.workers[stream]
        if number == 0:
            return worker.say(RunEnd(worker.run_id, "completed"))
        if number == 1:
            return worker.skip(worker.seq + 1, worker.seq + 3)
        resumed = chooser.choice(STREAMS)[2]
        return worker.say(
            RunStart(worker.run_id, name=str(worker.seq), resume=Resume([resumed], chooser.randrange(15)))
        )


def answers(store: Storage) -> dict[str, str]:
    """Return all that a store can be asked, as texts."""
    told: dict[str, Any] = {"runs": store.list_runs(), "experiments": [one.name for one in store.list_experiments()]}
    for run in sorted(state.run_id for state in store.list_runs()):
        told[f"state {run}"] = store.get_run(run)
        told[f"events {run}"] = list(store.events(run))
        told[f"conflicts {run}"] = store.conflicts(run)
        told[f"params {run}"] = store.get_params(run)
        told[f"logs {run}"] = store.get_logs(run)
        for key in [*store.metric_keys(run), "absent"]:
            told[f"aggregate {run} {key}"] = store.get_metric_aggregate(run, key, min_step=1)
            told[f"few {run} {key}"] = looks_alike(store.get_series(run, key), store.downsample(run, key, 6))
            for options in (
                {},
                {"include_hidden": True},
                {"min_step": 3, "max_step": 12},
                {"worker_id": "0"},
                {"max_step": 10, "worker_id": "1"},
            ):
                told[f"series {run} {key} {options}"] = store.get_series(run, key, **options)
                told[f"points {run} {key} {options}"] = store.get_metrics(run, key, **options)
                told[f"first {run} {key} {options}"] = store.get_metrics(run, key, limit=5, **options)
    for stream in STREAMS:
        told[f"cursor {stream}"] = store.cursor(StreamId(*stream))
    told["all"] = [(event.position, event.raw, event.stream, event.late) for event in store.events()]
    told["after"] = [event.position for event in islice(store.events(after=len(told["all"]) // 2), 30)]
    return {question: exactly(answer) for question, answer in told.items()}


def compare(given: dict[str, str], told: dict[str, str]) -> None:
    assert given.keys() == told.keys()
    for question, answer in told.items():
        assert given[question] == answer, question


def looks_alike(whole: Series, few: Series) -> bool:
    """Whether few points have the ends and the extremes of all, and nothing else. Which others is up to the store."""
    if len(whole) <= 6:
        return exactly(few) == exactly(whole)
    numbers = [value for value in whole.values if value == value]
    kept = [value for value in few.values if value == value]
    rest = iter(zip(map(exactly, whole.values), whole.timestamps_us, strict=True))
    return (
        len(few) <= 6
        and (few.timestamps_us[0], few.timestamps_us[-1]) == (whole.timestamps_us[0], whole.timestamps_us[-1])
        and all(point in rest for point in zip(map(exactly, few.values), few.timestamps_us, strict=True))
        and (not numbers or (min(kept), max(kept)) == (min(numbers), max(numbers)))
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "streams", "streams", "special", "reopen", "other", "ask"]),
        st.integers(0, 3),
        st.integers(1, 45),
        st.integers(0, 2**16),
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.usefixtures("small")
@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_any_history(steps: list[tuple[str, int, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_history(Path(folder) / "store.db", steps)


def run_history(path: Path, steps: Sequence[tuple[str, int, int, int]]) -> None:
    say, expected = Say(), MemoryStore()
    store, other = SQLiteStore(path), SQLiteStore(path)
    try:
        for what, stream, count, seed in steps:
            chooser = random.Random(seed)
            if what == "reopen":
                store.close()
                store = SQLiteStore(path)
            elif what == "other":
                store, other = other, store
            elif what == "ask":
                compare(answers(store), answers(expected))
            elif what == "special":
                items = [say.special(stream, seed % 3, chooser)]
                assert store.append(items) == expected.append(items)
            elif what == "append":
                streams = [stream] if seed % 2 else range(4)
                items = [say.event(chooser.choice(streams), chooser.randrange(12), chooser) for _ in range(count)]
                assert store.append(items) == expected.append(items)
            else:
                parts = []
                for _ in range(1 + seed % 3):
                    one = chooser.randrange(4) if seed % 2 else stream
                    kinds = [0] if seed % 5 == 0 else range(12)
                    parts.append([say.event(one, chooser.choice(kinds), chooser) for _ in range(count)])
                batches = [stream_events(part) for part in parts]
                assert store.append_streams(batches) == expected.append_streams(batches)
        told = answers(expected)
        compare(answers(store), told)
        assert store.check() == []
        compare(answers(other), told)
    finally:
        store.close()
        other.close()


# ------------------------------------------------------------------------------------------ readers in the middle


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(2, 20))])
@pytest.mark.parametrize("run", ["r", None])
def test_a_reader_in_the_middle_of_what_becomes_blocks(tmp_path: Path, seed: int, run: str | None) -> None:
    """Each event comes once, in order, though rows turn into blocks between two pages."""
    chooser = random.Random(seed)
    with SQLiteStore(tmp_path / "store.db") as store, SQLiteStore(tmp_path / "store.db", read_only=True) as reader:
        workers = [Worker("r", "0", "a"), Worker("r", "1", "b"), Worker("q")]
        readers: list[tuple[Iterator[Any], list[int]]] = []
        for _ in range(60):
            items = []
            for _ in range(chooser.randrange(1, 30)):
                worker = chooser.choice(workers)
                items.append(
                    worker.say(LogEntry(worker.run_id, "info", "m"))
                    if chooser.random() < 0.1
                    else worker.metric(chooser.choice("xy"), worker.seq, worker.seq)
                )
            store.append(items)
            if chooser.random() < 0.3:
                after = chooser.randrange(200)
                readers.append((chooser.choice([store, reader]).events(run, after=after), []))
                readers[-1][1].append(after)
            for events, seen in readers:
                seen += [event.position for event in islice(events, chooser.randrange(12))]
        whole = [event.position for event in store.events(run)]
        for events, (after, *seen) in readers:
            seen += [event.position for event in events]
            assert seen == [position for position in whole if position > after][: len(seen)]
            # What came after an iterator had found the end isn't its business.
            assert seen or after >= whole[0]
        assert [event.position for event in reader.events(run)] == whole
        assert store.check() == []
        keys = store._pool
        with keys.reading() as connection:
            assert connection.execute("SELECT count(*) FROM blocks").fetchone()[0] > 10
            rows = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        assert rows < len(list(store.events()))


def test_a_run_that_is_deleted_under_a_reader(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "store.db") as store:
        one, two = Worker("one"), Worker("two")
        for worker in (one, two):
            store.append_streams([stream_events(training(worker, 2000))])
        events = store.events()
        first = list(islice(events, 1500))
        assert {event.stream.run_id for event in first} == {"one"}
        store.delete_run("one")
        rest = list(events)
        assert {event.stream.run_id for event in rest[1000:]} == {"two"}
        assert [event.raw for event in rest if event.stream.run_id == "two"] == [e.raw for e in store.events()]
        assert store.check() == []


# ------------------------------------------------------------------------------------------ what is where


def counts(path: Path) -> dict[str, int]:
    connection = sqlite3.connect(path)
    found = {
        "rows": connection.execute("SELECT count(*) FROM events WHERE kind = 5").fetchone()[0],
        "packed": connection.execute("SELECT count(*) FROM blocks WHERE packed = 1").fetchone()[0],
        "blocks": connection.execute("SELECT count(*) FROM blocks WHERE packed = 0").fetchone()[0],
        "tail": connection.execute("SELECT sum(tail) FROM runs").fetchone()[0],
    }
    connection.close()
    return found


def test_what_becomes_a_block_and_when(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    worker = Worker("r")
    with SQLiteStore(path) as store:
        store.append([worker.start(), *(worker.metric("x", step, step) for step in range(10))])
        assert counts(path) == {"rows": 10, "packed": 0, "blocks": 0, "tail": 10}
        store.append([worker.metric("x", step, step) for step in range(10, 110)])
        assert counts(path) == {"rows": 10, "packed": 1, "blocks": 0, "tail": 110}
        store.append([worker.metric("x", step, step) for step in range(110, 1000)])
        assert counts(path) == {"rows": 0, "packed": 0, "blocks": 1, "tail": 0}
        for _ in range(63):
            store.append([worker.metric(f"key {number}", 1) for number in range(100)])
        assert counts(path) == {"rows": 0, "packed": 63, "blocks": 1, "tail": 6300}
        store.append([worker.metric(f"key {number}", 1) for number in range(100)])
        assert counts(path) == {"rows": 0, "packed": 0, "blocks": 101, "tail": 0}
        store.append([worker.metric("x", step, step) for step in range(1000, 1008)])
        store.append([worker.end()])
        assert counts(path) == {"rows": 0, "packed": 0, "blocks": 102, "tail": 0}
        assert [point.value for point in store.get_metrics("r", "x")] == list(range(1008))
        assert store.check() == []


def test_bytes_on_disk(tmp_path: Path) -> None:
    """What our own emitter writes takes at most 25 bytes a scalar, all indexes included; what others write 60."""
    for name, respelled, most in (("own", False, 25), ("others", True, 60)):
        path = tmp_path / f"{name}.db"
        chooser = random.Random(1)
        worker = Worker("falcon-run-1234", "0", "a" * 32)
        with SQLiteStore(path) as store:
            for _ in range(30):
                items = [worker.metric("train/loss", chooser.random(), worker.seq) for _ in range(2000)]
                if respelled:
                    items = [
                        Incoming(i.stream, i.envelope, i.raw.replace(b":", b": "), i.received_at_us) for i in items
                    ]
                store.append(items)
        size = path.stat().st_size / worker.seq
        assert size <= most, (name, size)


# ------------------------------------------------------------------------------------------ damage

DAMAGE = {
    "a byte of a block": "UPDATE blocks SET data = CAST(substr(data, 1, 40) || x'ff' || substr(data, 42) AS BLOB)",
    "the end of a block": "UPDATE blocks SET data = substr(data, 1, length(data) - 1)",
    "an empty block": "UPDATE blocks SET data = x''",
    "a missing block": "DELETE FROM blocks WHERE block_key = (SELECT max(block_key) FROM blocks)",
    "a block twice": (
        "INSERT INTO blocks SELECT 99, run_key, stream_key, packed, chunk, first_position, last_position, first_seq,"
        " last_seq, count, data FROM blocks LIMIT 1"
    ),
    "other positions": "UPDATE blocks SET first_position = first_position + 1",
    "another chunk": "UPDATE blocks SET chunk = chunk - 1",
    "other seqs": "UPDATE blocks SET last_seq = last_seq + 1",
    "another count": "UPDATE blocks SET count = count + 1",
    "another stream": "UPDATE blocks SET stream_key = 77",
    "a missing series": "DELETE FROM block_series WHERE series_key = (SELECT min(series_key) FROM block_series)",
    "other steps": "UPDATE block_series SET max_step = max_step - 1",
    "another series": "UPDATE series SET name = name || '.' WHERE series_key = 1",
    "a row before it": (
        "INSERT INTO events SELECT 3, run_key, stream_key, 99999, 5, 1, 0, raw FROM events WHERE kind IS NULL LIMIT 1"
    ),
    "positions given again": "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'events'",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_check_finds_damage(tmp_path: Path, damage: str, packed: bool) -> None:
    if packed and damage in {"a missing series", "other steps", "another series", "a row before it"}:
        pytest.skip("what is packed is filed under no series")
    path = tmp_path / "store.db"
    worker = Worker("r")
    with SQLiteStore(path) as store:
        store.append([worker.start(), worker.say(LogEntry("r", "info", "m"))])
        names = [f"key {number}" for number in range(300)] if packed else ["x"]
        store.append([worker.metric(names[step % len(names)], step, step) for step in range(600)])
        assert counts(path)["packed"] == packed
        assert store.check() == []
    connection = sqlite3.connect(path)
    connection.execute(DAMAGE[damage])
    connection.commit()
    connection.close()
    with SQLiteStore(path, read_only=True) as store:
        assert store.check() != []


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_block_is_named(tmp_path: Path, packed: bool) -> None:
    """By the positions of its events; the others are still read."""
    path = tmp_path / "store.db"
    worker = Worker("r")
    with SQLiteStore(path) as store:
        names = [f"key {number}" for number in range(300)] if packed else ["x"]
        store.append([worker.metric(names[step % len(names)], step, step) for step in range(600)])
    connection = sqlite3.connect(path)
    connection.execute(DAMAGE["the end of a block"])
    connection.execute("DELETE FROM snapshots")
    connection.commit()
    connection.close()
    with SQLiteStore(path, read_only=True) as store:
        for question in (
            lambda: store.get_run("r"),
            lambda: list(store.events("r")),
            lambda: list(store.events()),
            lambda: store.get_metrics("r", names[0]),
            lambda: store.get_series("r", names[0]),
        ):
            with pytest.raises(StoreCorrupt, match="events 1 to 600"):
                question()
        assert [finding for finding in store.check() if "events 1 to 600" in finding]
