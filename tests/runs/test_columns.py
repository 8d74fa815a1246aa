"""Metrics in bulk: gathered as columns, and folded as if they had come one by one."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from metric_histories import Came, streams
from strategies import same

from xtrack_protocol.ir import Envelope, Metric, MetricBatch, MetricContext, Payload, Resume, RunId, RunStart
from xtrack_protocol.runs import Columns, RunReducer, gather
from xtrack_protocol.runs.columns import seq_ranges
from xtrack_protocol.session import RangeSet, StreamId

STREAM = StreamId("r", "w", "s")


def of(*payloads: Payload, first: int = 1) -> list[Envelope]:
    return [Envelope.of(each, seq=first + n, timestamp_us=10 * n) for n, each in enumerate(payloads)]


def events_of(columns: Columns) -> list[tuple[int, Any, int, int]]:
    """The events that columns stand for, with their places."""
    shape, found = columns.shape, []
    for index, place in enumerate(columns.places):
        step = None if columns.steps is None else columns.steps[index]
        epoch = None if columns.epochs is None else columns.epochs[index]
        values = [column[index] for column in columns.values]
        payload: Any
        if shape.is_batch:
            metrics = dict(zip(shape.names, values, strict=True))
            payload = MetricBatch(shape.run_id, metrics, step, epoch, shape.context)
        else:
            payload = Metric(shape.run_id, *shape.names, *values, step, epoch, shape.context)
        found.append((place, payload, columns.seqs[index], columns.timestamps[index]))
    return found


# ------------------------------------------------------------------------------------------ gathering


@given(streams())
def test_all_metrics_are_gathered_and_nothing_else(came: list[Came]) -> None:
    envelopes = [each.envelope for each in came]
    gathered = gather(envelopes)
    assert len({columns.shape for columns in gathered}) == len(gathered)
    assert [columns.places[0] for columns in gathered] == sorted(columns.places[0] for columns in gathered)
    found = {}
    for columns in gathered:
        shape = columns.shape
        assert len(shape.integers) == len(shape.names) == len(columns.values)
        assert list(columns.places) == sorted(columns.places)
        for values, is_integer in zip(columns.values, shape.integers, strict=True):
            assert set(map(type, values)) == {int if is_integer else float}
        for place, payload, seq, timestamp_us in events_of(columns):
            ids = {"worker_id": shape.worker_id, "session_id": shape.session_id}
            found[place] = Envelope.of(payload, seq=seq, timestamp_us=timestamp_us, **ids)
    metrics = {n: each for n, each in enumerate(envelopes) if isinstance(each.payload, (Metric, MetricBatch))}
    assert same({n: found[n] for n in metrics}, metrics)
    assert found.keys() == metrics.keys()


def test_of_one_shape_there_are_columns_once_however_they_alternate() -> None:
    events = of(*(Metric("r", ("a", "b", "a", "c")[n % 4], n / 2, step=n) for n in range(20)))
    a, b, c = gather(events)
    assert (a.shape.names, b.shape.names, c.shape.names) == (("a",), ("b",), ("c",))
    assert list(a.places) == list(range(0, 20, 2))
    assert list(b.places) == list(range(1, 20, 4))
    assert list(b.seqs) == [2, 6, 10, 14, 18]
    assert list(b.values[0]) == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert b.steps is not None
    assert list(b.steps) == [1, 5, 9, 13, 17]


@pytest.mark.parametrize(
    ("other", "same_names"),
    [
        (Metric("r", "b", 1.0, 1), False),
        (Metric("r", "a", 1, 1), True),
        (Metric("r", "a", 1.0), True),
        (Metric("r", "a", 1.0, 1, 1), True),
        (Metric("r", "a", 1.0, 1, context=MetricContext()), True),
        (Metric(RunId("r"), "a", 1.0, 1), True),
        (Metric("r2", "a", 1.0, 1), True),
        (MetricBatch("r", {"a": 1.0}, 1), True),
        (MetricBatch("r", {}, 1), False),
    ],
)
def test_what_differs_in_anything_but_numbers_has_another_shape(other: Payload, same_names: bool) -> None:
    first, second = gather(of(Metric("r", "a", 1.0, 1), other))
    assert first.shape != second.shape
    assert (first.shape.names == second.shape.names) is same_names


def test_the_order_of_names_is_part_of_the_shape() -> None:
    assert len(gather(of(MetricBatch("r", {"a": 1, "b": 2}), MetricBatch("r", {"b": 1, "a": 2})))) == 2


def test_ids_as_sent_are_part_of_the_shape() -> None:
    metric = Metric("r", "a", 1.0)
    events = [
        Envelope.of(metric, seq=n, timestamp_us=0, worker_id=worker, session_id=session)
        for n, (worker, session) in enumerate([(None, None), ("w", None), (None, "s"), ("w", "s"), ("w", "s")], 1)
    ]
    assert [list(columns.seqs) for columns in gather(events)] == [[1], [2], [3], [4, 5]]


def test_numbers_that_no_frame_decodes_to_are_left_to_others() -> None:
    events = of(
        Metric("r", "a", True),
        Metric("r", "a", 1),
        Metric("r", "a", 1.0, step=True),
        Metric("r", "a", 1.0, epoch=2.0),  # type: ignore[arg-type]
        MetricBatch("r", {"a": 1.0, "b": False}),
    )
    assert [list(columns.places) for columns in gather(events)] == [[1]]


def test_nothing_gathers_to_nothing() -> None:
    assert gather([]) == []


# ------------------------------------------------------------------------------------------ folding


def facts(reducer: RunReducer) -> str:
    """All that a reducer remembers, whatever the order in which it met the names of series."""
    snapshot = reducer.snapshot()
    assert snapshot is not None
    tree = msgspec.msgpack.decode(snapshot)

    def sort(node: Any) -> Any:
        if isinstance(node, dict):
            return [(key, sort(node[key])) for key in sorted(node)]
        return list(map(sort, node)) if isinstance(node, list) else node

    return repr(sort(tree))


STARTS = st.builds(
    RunStart, st.just("r"), resume=st.builds(Resume, st.just(["s", "s2"]), st.none() | st.integers(-1, 6))
)


@given(streams(), st.lists(st.integers(0, 30)), st.lists(st.tuples(st.integers(0, 30), STARTS), max_size=2))
def test_columns_count_as_their_events_do(came: list[Came], cuts: list[int], starts: list[Any]) -> None:
    """In any split, with rewinds before, between and after."""
    one_by_one, in_bulk = RunReducer("r"), RunReducer("r")
    other = StreamId("r", "w", "s3")
    bounds = sorted({0, len(came), *(cut for cut in (*cuts, *(at for at, _ in starts)) if cut < len(came))})
    for number, (begin, end) in enumerate(zip(bounds, [*bounds[1:], len(came)], strict=True)):
        for at, start in starts:
            if at == begin:
                envelope = Envelope.of(start, seq=number + 1, timestamp_us=5)
                assert one_by_one.apply(other, envelope) is in_bulk.apply(other, envelope)
        events = [each.envelope for each in came[begin:end]]
        gathered = gather(events)
        in_columns = {place for columns in gathered for place in columns.places}
        in_bulk.apply_columns(STREAM, gathered)
        for place, envelope in enumerate(events):
            one_by_one.apply(STREAM, envelope)
            if place not in in_columns:
                assert in_bulk.apply(STREAM, envelope)
        assert facts(in_bulk) == facts(one_by_one)
        assert in_bulk.needs_refold is one_by_one.needs_refold
        if not starts:
            assert in_bulk.seqs(STREAM) == one_by_one.seqs(STREAM)
            assert repr(in_bulk.state()) == repr(one_by_one.state())


ZEROS = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.nan, 0, 1, -1, math.inf, -math.inf])


@given(st.lists(st.lists(ZEROS, min_size=1), min_size=1, max_size=3))
@example([[0.0, -0.0]])
@example([[-0.0, 0.0]])
@example([[0.0, -0.0, -1.0], [0]])
@example([[0.0, -0.0, 1.0], [0]])
@example([[math.inf, -math.inf]])
@example([[math.nan]])
def test_extremes_are_the_same_of_equal_numbers_spelled_differently(batches: list[list[float]]) -> None:
    one_by_one, in_bulk = RunReducer("r"), RunReducer("r")
    first = 1
    for values in batches:
        events = of(*(Metric("r", "x", value) for value in values), first=first)
        first += len(values)
        for event in events:
            one_by_one.apply(STREAM, event)
        in_bulk.apply_columns(STREAM, gather(events))
    assert facts(in_bulk) == facts(one_by_one)


@given(st.lists(st.tuples(st.none() | st.integers(0, 90), st.integers(1, 500)), max_size=200, unique_by=lambda p: p[1]))
def test_the_tail_holds_the_same_points(points: list[tuple[int | None, int]]) -> None:
    one_by_one, in_bulk = RunReducer("r"), RunReducer("r")
    events = [Envelope.of(Metric("r", "x", 1.0, step), seq=seq, timestamp_us=seq) for step, seq in points]
    for event in events:
        one_by_one.apply(STREAM, event)
    in_bulk.apply_columns(STREAM, gather(events[:120]))
    in_bulk.apply_columns(STREAM, gather(events[120:]))
    assert facts(in_bulk) == facts(one_by_one)


def test_no_columns_make_no_stream() -> None:
    reducer = RunReducer("r")
    reducer.apply_columns(STREAM, [])
    assert not reducer.state().streams


def test_who_sent_an_experiment_last_is_known_by_seq() -> None:
    reducer = RunReducer("r")
    events = [
        Envelope.of(Metric(RunId("r", experiment), "x", 1.0), seq=seq, timestamp_us=7 * seq)
        for seq, experiment in ((5, "late"), (3, "early"), (4, "early"))
    ]
    reducer.apply_columns(STREAM, gather(events))
    assert reducer.state().experiment_id == "late"


# ------------------------------------------------------------------------------------------ seqs


@given(st.lists(st.integers(1, 12)), st.lists(st.integers(1, 25)))
def test_new_places_are_those_that_apply_takes(known: list[int], seqs: list[int]) -> None:
    reducer, other = RunReducer("r"), RunReducer("r")
    for each in (reducer, other):
        for seq in known:
            each.apply(STREAM, Envelope.of(Metric("r", "x", 1.0), seq=seq, timestamp_us=0))
    expected = [
        place
        for place, seq in enumerate(seqs)
        if other.apply(STREAM, Envelope.of(Metric("r", "x", 1.0), seq=seq, timestamp_us=0))
    ]
    before = reducer.snapshot()
    assert list(reducer.new_places(STREAM, seqs)) == expected
    assert reducer.snapshot() == before
    assert list(reducer.new_places(StreamId("r", "other", "s"), [3, 4, 3])) == [0, 1]


def test_a_declared_loss_that_came_after_all_is_new() -> None:
    from xtrack_protocol.ir import Skip

    reducer = RunReducer("r")
    reducer.apply(STREAM, Envelope.of(Skip("r", "s", 1, 5), seq=0, timestamp_us=0))
    assert list(reducer.new_places(STREAM, [3, 4])) == [0, 1]


@given(st.lists(st.integers(1, 60), unique=True), st.integers(1, 4))
def test_seq_ranges_are_what_the_seqs_add_up_to(seqs: list[int], kinds: int) -> None:
    events = [Envelope.of(Metric("r", f"x{seq % kinds}", 1.0), seq=seq, timestamp_us=0) for seq in seqs]
    expected = RangeSet()
    for seq in seqs:
        expected.add(seq)
    assert seq_ranges(gather(events)) == list(expected)
