"""Aggregates over workers against a model that knows nothing of how a store keeps its points. spec: FLD-3.7, FLD-3.8"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrack_protocol.ir import Metric, MetricBatch, Resume, RunStart
from xtrack_protocol.runs import Aggregate
from xtrack_protocol.storage import Incoming, MemoryStore, SQLiteStore, Storage
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.testing.events import START_US, Worker
from xtrack_protocol.testing.poison import exactly

NUMBERS = st.one_of(
    st.sampled_from(
        [0, 0.0, -0.0, 1, 1.0, math.nan, math.inf, -math.inf, 2**63 - 1, -(2**63), 1.7e308, -1.7e308, 5e-324]
    ),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
)
STEPS = st.one_of(st.none(), st.integers(-2, 3), st.sampled_from([-(2**63), 2**63 - 1]))


@attrs.frozen
class Session:
    """A worker's session: when it began, what it logged, and up to where it let the one before it stand."""

    worker_id: str
    points: list[tuple[int | None, Any, bool]]
    resumes: bool
    rewind_to: int | None


SESSIONS = st.lists(
    st.builds(
        Session,
        st.sampled_from(["", "0", "1", "10"]),
        st.lists(st.tuples(STEPS, NUMBERS, st.booleans()), max_size=6),
        st.booleans(),
        st.none() | st.integers(-3, 3),
    ),
    min_size=1,
    max_size=6,
)


def events_of(sessions: list[Session]) -> list[Incoming]:
    """Return the events of sessions that began one after the other; their ids are sorted the other way round."""
    told: list[Incoming] = []
    for place, session in enumerate(sessions):
        worker = Worker("r", session.worker_id, f"s{99 - place}", start_us=START_US + 10**9 * place)
        before = [f"s{99 - earlier}" for earlier in range(place) if sessions[earlier].worker_id == session.worker_id]
        resume = Resume(before[-1:], session.rewind_to) if session.resumes and before else None
        told.append(worker.say(RunStart("r", resume=resume)))
        for step, value, in_batch in session.points:
            alone, together = Metric("r", "x", value, step), MetricBatch("r", {"a": 1.0, "x": value}, step)
            told.append(worker.say(together if in_batch else alone))
    return told


def expected(sessions: list[Session], low: int | None, high: int | None) -> list[Aggregate]:
    """The model: a dict of what each worker said last at each step, and exact arithmetic."""
    last: dict[int, dict[str, Any]] = {}
    for place, session in enumerate(sessions):
        later = [other for other in range(place + 1, len(sessions)) if sessions[other].worker_id == session.worker_id]
        rewind = None
        if later and sessions[later[0]].resumes:
            rewind = sessions[later[0]].rewind_to
        for step, value, _ in session.points:
            if step is None or (rewind is not None and step > rewind):
                continue
            if (low is None or step >= low) and (high is None or step <= high):
                last.setdefault(step, {})[session.worker_id] = value
    return [of_values(step, list(last[step].values())) for step in sorted(last)]


def of_values(step: int, values: list[Any]) -> Aggregate:
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return Aggregate(step, 0, len(values), None, None, None)
    order = sorted(numbers)
    least = min((value for value in numbers if value == order[0]), key=repr)
    greatest = min((value for value in numbers if value == order[-1]), key=repr)
    return Aggregate(step, len(numbers), len(values) - len(numbers), mean_of(numbers), least, greatest)


def mean_of(numbers: list[Any]) -> float:
    infinities = {value for value in numbers if math.isinf(value)}
    if infinities:
        return infinities.pop() if len(infinities) == 1 else math.nan
    total = sum(Fraction(float(value)) for value in numbers)
    try:
        return float(total) / len(numbers)
    except OverflowError:
        return float(sum(Fraction(float(value) / len(numbers)) for value in numbers))


def check(store: Storage, sessions: list[Session], events: list[Incoming], low: int | None, high: int | None) -> None:
    store.append(events)
    found = store.get_metric_aggregate("r", "x", min_step=low, max_step=high)
    assert exactly(found) == exactly(expected(sessions, low, high))
    assert exactly(found) == exactly(Storage.get_metric_aggregate(store, "r", "x", min_step=low, max_step=high))


@settings(max_examples=200, deadline=None)
@given(SESSIONS, st.none() | st.integers(-3, 3), st.none() | st.integers(-3, 3), st.randoms(use_true_random=False))
def test_aggregates(sessions: list[Session], low: int | None, high: int | None, random: Any) -> None:
    """Whatever the order in which events come."""
    events = events_of(sessions)
    random.shuffle(events)
    with MemoryStore() as memory:
        check(memory, sessions, events, low, high)
    with TemporaryDirectory() as folder, SQLiteStore(Path(folder) / "store.db") as sqlite:
        check(sqlite, sessions, events, low, high)


@settings(max_examples=20, deadline=None)
@given(SESSIONS)
def test_aggregates_of_the_local_store(sessions: list[Session]) -> None:
    with TemporaryDirectory() as folder, LocalStore(Path(folder) / "home") as store:
        check(store, sessions, events_of(sessions), None, None)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), NUMBERS), min_size=1, max_size=8))
def test_the_last_values_of_workers(told: list[tuple[str, Any]]) -> None:
    """What a run's state tells of a metric of several workers: the last value of each, whatever its step."""
    workers = {name: Worker("r", name, name) for name in "abc"}
    last: dict[str, Any] = {}
    with MemoryStore() as store:
        for place, (name, value) in enumerate(told):
            store.append([workers[name].metric("x", value, len(told) - place)])
            last[name] = value
        found = store.get_run("r").metrics["x"].workers
    if len(last) == 1:
        assert found is None
    else:
        assert exactly(found) == exactly(attrs.evolve(of_values(0, list(last.values())), step=None))
