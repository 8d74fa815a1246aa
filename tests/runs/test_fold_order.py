"""The fold gives the same state for any order, any repetition, and through any snapshot. spec: FLD-1"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import PAYLOADS, int64s, json_values, numbers, unknown_events

from xtrack_protocol.ir import (
    Alert,
    Artifact,
    Checkpoint,
    Envelope,
    ErrorInfo,
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    Param,
    Progress,
    Resume,
    RunEnd,
    RunId,
    RunStart,
    Skip,
    SourceInfo,
    StatusUpdate,
    Summary,
    Tags,
)
from xtrack_protocol.runs import RunReducer, StreamLost, fold
from xtrack_protocol.session import StreamId

SESSIONS = ["s1", "s2", "s3", "legacy-1", "legacy-20"]
WORKERS = ["", "a"]
RUN_IDS = st.sampled_from(["r", RunId("r", "e1"), RunId("r", "e2", "p"), RunId("r")])
STEPS = st.none() | st.integers(-2, 8)
NAMES = st.sampled_from(["x", "y", "x.y"])
VALUES = st.sampled_from([1, 1.0, 0, 0.0, -0.0, float("nan"), float("inf"), float("-inf"), 2**53 + 1, -5]) | numbers()
TAGS = st.dictionaries(st.sampled_from(["t", "u", "xtrack.name", "xtrack.note"]), st.sampled_from(["1", "2", ""]))

EVENTS = st.one_of(
    st.builds(Metric, RUN_IDS, NAMES, VALUES, STEPS, STEPS, st.none() | st.just(MetricContext("val"))),
    st.builds(Metric, RUN_IDS, NAMES, VALUES, STEPS),
    st.builds(MetricBatch, RUN_IDS, st.dictionaries(NAMES, VALUES, max_size=3), STEPS),
    st.builds(Param, RUN_IDS, st.sampled_from(["x", "x.y"]), json_values(3), st.sampled_from([[], ["y"]])),
    st.builds(Checkpoint, RUN_IDS, st.integers(0, 8), st.just("p"), is_best=st.booleans()),
    st.builds(Artifact, RUN_IDS, st.just("p")),
    st.builds(LogEntry, RUN_IDS, st.just("info"), st.just("m")),
    st.builds(Alert, RUN_IDS, st.just("t")),
    st.builds(StatusUpdate, RUN_IDS, st.sampled_from(["running", "failed"]), progress=st.none() | st.just(Progress(1))),
    st.builds(Tags, RUN_IDS, TAGS),
    st.builds(Summary, RUN_IDS, st.dictionaries(NAMES, VALUES, max_size=2)),
    st.builds(
        RunStart,
        RUN_IDS,
        st.none() | st.sampled_from(["n1", "n2"]),
        TAGS,
        st.none() | st.just(SourceInfo("c")),
        resume=st.none()
        | st.builds(Resume, st.lists(st.sampled_from(SESSIONS), max_size=2), st.none() | st.integers(0, 6)),
        world_size=st.none() | st.integers(-1, 3),
        sub=st.booleans(),
        observer=st.booleans(),
    ),
    st.builds(
        RunEnd,
        RUN_IDS,
        st.sampled_from(["completed", "failed", "killed"]),
        st.none() | st.just(ErrorInfo("E")),
        st.dictionaries(NAMES, VALUES, max_size=2),
        st.none() | st.just(5),
    ),
    unknown_events(),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Any]:
    """Inputs of one run, of which only one has each identity."""
    inputs: list[Any] = []
    streams = draw(
        st.lists(st.tuples(st.sampled_from(WORKERS), st.sampled_from(SESSIONS)), unique=True, min_size=1, max_size=4)
    )
    for worker, session in streams:
        stream = StreamId("r", worker, session)
        for seq in draw(st.lists(st.integers(1, 12), unique=True, max_size=6)):
            timestamp_us = draw(st.integers(0, 30) | int64s())
            inputs.append((stream, Envelope.of(draw(EVENTS), seq=seq, timestamp_us=timestamp_us)))
        for _ in range(draw(st.integers(0, 2))):
            first = draw(st.integers(-1, 14))
            skip = Skip("r", session, first, first + draw(st.integers(-1, 5)))
            inputs.append((stream, Envelope.of(skip, seq=0, timestamp_us=0)))
        inputs += draw(
            st.lists(
                st.builds(
                    StreamLost,
                    st.just(stream),
                    st.integers(0, 30),
                    st.sampled_from(["died", "vanished"]),
                    st.integers(0, 12),
                    st.sampled_from(["", "why"]),
                ),
                max_size=2,
            )
        )
    return inputs


def fold_incrementally(inputs: list[Any], snapshots: set[int]) -> str:
    """As a store does it: an input at a time, with snapshots in between, and a refold where it is asked for."""
    reducer = RunReducer("r")
    for place, item in enumerate(inputs):
        reducer.apply_all([item])
        if reducer.needs_refold:
            reducer = reducer.restarted()
            reducer.apply_all(inputs[: place + 1])
            assert not reducer.needs_refold
        if place in snapshots:
            snapshot = reducer.snapshot()
            assert snapshot is not None
            before = repr(reducer.state())
            reducer = RunReducer.load(snapshot)
            assert repr(reducer.state()) == before
            assert reducer.snapshot() == snapshot
    return repr(reducer.state())


@settings(max_examples=200)
@given(st.data())
def test_any_order_any_repetition_any_snapshot(data: st.DataObject) -> None:
    inputs = data.draw(histories())
    expected = repr(fold("r", inputs))
    shuffled = data.draw(st.permutations(inputs))
    doubled = data.draw(
        st.permutations(inputs + data.draw(st.lists(st.sampled_from(inputs), max_size=5)) if inputs else [])
    )
    snapshots = data.draw(st.sets(st.integers(0, len(inputs))))
    assert repr(fold("r", shuffled)) == expected
    assert repr(fold("r", doubled)) == expected
    assert repr(fold("r", inputs[::-1])) == expected
    assert fold_incrementally(doubled, snapshots) == expected


@settings(max_examples=100)
@given(histories())
def test_state_is_told_consistently(inputs: list[Any]) -> None:
    reducer = RunReducer("r")
    reducer.apply_all(inputs)
    if reducer.needs_refold:
        reducer = reducer.restarted()
        reducer.apply_all(inputs)
    state = reducer.state()
    assert reducer.status() == state.status
    assert [stream.stream for stream in state.streams] == sorted(
        reducer.stream_order(), key=reducer.stream_order().__getitem__
    )
    assert state.events == sum(stream.events for stream in state.streams)
    assert list(state.params) == sorted(state.params)
    assert list(state.metrics) == sorted(state.metrics)
    for metric in state.metrics.values():
        assert metric.count >= max(1, len(metric.tail))
        assert metric.count >= metric.nan_count
        assert (metric.min is None) == (metric.count == metric.nan_count)
        assert metric.min is None or metric.max is None or metric.min <= metric.max
        steps = [(point.step is None, point.step or 0) for point in metric.tail]
        assert steps == sorted(steps)
    for stream in state.streams:
        taken = [seq for first, last in (*stream.gaps, *stream.skipped) for seq in range(first, last + 1)]
        assert len(taken) == len(set(taken)), "a seq is missing or skipped, not both"
    assert state.lost_events >= 0
    assert (state.ended_at_us is None) or state.status not in {"pending", "running"}
    again = reducer.apply_all(inputs)
    assert again is None
    assert repr(reducer.state()) == repr(state)


def test_a_large_run_in_random_order() -> None:
    """More points and log lines than the state holds: which ones stay doesn't depend on the order."""
    chance = random.Random(7)
    inputs: list[Any] = []
    for worker in ("a", "b"):
        stream = StreamId("r", worker, f"s{worker}")
        inputs.append((stream, Envelope.of(RunStart("r"), seq=1, timestamp_us=1)))
        for seq in range(2, 1500):
            event: Any = Metric("r", "loss", chance.random(), step=chance.choice([None, chance.randrange(300)]))
            if seq % 2:
                event = LogEntry("r", "info", str(seq))
            inputs.append((stream, Envelope.of(event, seq=seq, timestamp_us=chance.randrange(1000))))
    expected = repr(fold("r", inputs))
    for _ in range(3):
        chance.shuffle(inputs)
        assert repr(fold("r", inputs)) == expected
    state = fold("r", inputs)
    assert len(state.logs) == 1000
    assert len(state.metrics["loss"].tail) == 64
    logs = sorted(
        (envelope.meta.timestamp_us, stream.worker_id, stream.session_id, envelope.meta.seq)
        for stream, envelope in inputs
        if isinstance(envelope.payload, LogEntry)
    )
    assert [(log.timestamp_us, log.worker_id, log.session_id, log.seq) for log in state.logs] == logs[-1000:]


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
@settings(max_examples=20)
@given(data=st.data())
def test_any_event_is_folded_and_survives_a_snapshot(event_type: str, data: st.DataObject) -> None:
    reducer = RunReducer("r")
    envelope = Envelope.of(data.draw(PAYLOADS[event_type]), seq=1, timestamp_us=data.draw(int64s()))
    reducer.apply(StreamId("r", "", "s"), envelope)
    snapshot = reducer.snapshot()
    assert snapshot is not None
    assert repr(RunReducer.load(snapshot).state()) == repr(reducer.state())


@pytest.mark.parametrize("junk", [b"", b"\xff", b"{}", b"\x80", b"\x91\xa1r", b"\x92\xa1r\x05"])
def test_other_bytes_are_no_snapshot(junk: bytes) -> None:
    if junk == b"\x91\xa1r":
        assert RunReducer.load(junk).state().run_id == "r"
        return
    with pytest.raises(ValueError, match=r"."):
        RunReducer.load(junk)
