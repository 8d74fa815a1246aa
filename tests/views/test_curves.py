"""Curves: smoothed as TensorBoard does, thinned, and with what can't be drawn counted."""

import math
from array import array

import pytest
from cli_runs import T0, crowd_run, stream
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.ir import Metric, RunStart
from xtrack_protocol.runs import Series
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import MemoryStore
from xtrack_protocol.storage.base import Incoming
from xtrack_protocol.views.curves import curve_of, read_curve, smooth
from xtrack_protocol.wire import encode

NAN, INF = math.nan, math.inf


def series(values, steps=None):
    steps = range(len(values)) if steps is None else steps
    return Series(array("q", steps), array("d", values), array("q", (T0 + 1_000_000 * n for n in range(len(values)))))


def test_smoothing_is_tensorboards():
    """Worked out by hand: the average of what there is, each older value weighing half as much."""
    assert list(smooth([1, 2, 4], 0.5)) == pytest.approx([1, (1 + 2 * 2) / 3, (1 + 2 * 2 + 4 * 4) / 7])
    assert list(smooth([1, 2], 0)) == [1, 2]
    assert list(smooth([], 0.9)) == []
    assert list(smooth([3, 3, 3], 0.9)) == [3, 3, 3]
    found = smooth([1, NAN, 3, INF, 3], 0.5)
    assert list(found[:1]) + list(found[2:]) == pytest.approx([1, (1 + 2 * 3) / 3, INF, (1 + 6 + 4 * 3) / 7])
    assert math.isnan(found[1])


@pytest.mark.parametrize("weight", [-0.1, 1, 2, NAN])
def test_weights(weight):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        smooth([1], weight)


@given(st.lists(st.floats(-1e100, 1e100), min_size=1), st.floats(0, 0.999))
def test_smoothed_values_stay_within_those_before(values, weight):
    found = smooth(values, weight)
    for place, value in enumerate(found):
        low, high = min(values[: place + 1]), max(values[: place + 1])
        room = 1e-9 * max(abs(low), abs(high), 1e-300)
        assert low - room <= value <= high + room


def test_what_cant_be_drawn_is_counted():
    curve = curve_of(series([1, NAN, INF, -INF, 0, -1]), "x")
    assert curve.left_out == {"NaN": 1, "+inf": 1, "-inf": 1}
    assert list(curve.places) == [0, 1, 2, 3, 4, 5]
    assert curve.last == -1
    whole = series([1, NAN, 0, -1])
    curve = curve_of(whole, "x", log=True)
    assert list(whole.values)[2:] == [0, -1]
    assert curve.left_out == {"NaN": 1, "not above 0": 2}
    assert curve.values[0] == 1
    assert all(map(math.isnan, curve.values[1:]))


def test_points_without_a_step():
    curve = curve_of(series([1, 2, 3], steps=[]), "x")
    assert (curve.axis, list(curve.places)) == ("point", [0, 1, 2])
    curve = curve_of(series([1, 2, 3], steps=[10, 20]), "x")
    assert (curve.axis, list(curve.places), list(curve.values)) == ("step", [10, 20], [1, 2])
    assert curve.left_out == {"without a step": 1}
    curve = curve_of(series([], steps=[]), "x")
    assert (len(curve.places), curve.last) == (0, None)


def test_time_is_counted_from_the_start_and_goes_forward():
    one = series([1, 2, 3])
    one.timestamps_us[:] = array("q", [T0 + 5_000_000, T0 + 1_000_000, T0 + 9_000_000])
    curve = curve_of(one, "x", axis="time", start_us=T0)
    assert list(curve.places) == [1, 5, 9]
    assert list(curve.values) == [2, 1, 3]
    assert list(curve_of(one, "x", axis="time").places) == [0, 4, 8]


def test_a_million_points_become_few_and_keep_their_spike():
    values = array("d", (0.0,)) * 1_000_000
    values[123_456] = 99.0
    values[500_000] = NAN
    long = Series(array("q", range(len(values))), values, array("q", range(len(values))))
    curve = curve_of(long, "x", points=500)
    assert len(curve.places) <= 500
    assert max(curve.values) == 99
    assert curve.left_out == {"NaN": 1}


def test_smoothing_keeps_what_was_logged():
    curve = curve_of(series([0, 1] * 50), "x", weight=0.9)
    assert curve.raw is not None
    assert list(curve.raw[1]) == [0, 1] * 50
    assert max(curve.values[50:]) < 0.6


def kept(events) -> MemoryStore:
    store = MemoryStore()
    found = [
        Incoming(StreamId(event.run_id, event.meta.worker_id or "", event.meta.session_id), event, encode(event), T0)
        for event in events
    ]
    store.append(found)
    return store


def test_several_workers_are_a_mean_with_a_band():
    store = kept(crowd_run())  # at step 1 nothing came: seq 3 is missing
    state = store.get_run("crowd")
    curve = read_curve(store, state, "loss", "loss")
    assert list(curve.places) == [0, 2]
    assert list(curve.values) == pytest.approx([31.5, sum(n + 0.5 for n in range(64) if n != 1) / 63])
    assert curve.left_out == {"NaN": 1}
    assert curve.band is not None
    assert [list(end[1]) for end in curve.band] == [[0, 0.5], [63, 63.5]]
    assert list(read_curve(store, state, "loss", "loss", worker_id="3").values) == [3, 3.5]
    by_time = read_curve(store, state, "loss", "loss", axis="time")
    assert len(by_time.places) == 2
    assert list(read_curve(store, state, "none", "none").values) == []


def test_epochs():
    payloads = [
        RunStart("r"),
        *(Metric("r", "loss", 1 / (n + 1), step=n, epoch=n // 2 if n else None) for n in range(6)),
    ]
    store = kept(stream("r", payloads))
    curve = read_curve(store, store.get_run("r"), "loss", "loss", axis="epoch")
    assert (curve.axis, list(curve.places)) == ("epoch", [0, 1, 1, 2, 2])
    assert curve.left_out == {"without an epoch": 1}
