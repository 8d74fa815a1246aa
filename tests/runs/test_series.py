"""Series as arrays: the points in their order, and fewer of them that look like all."""

from __future__ import annotations

import math
import random
from array import array
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.ir import Envelope, Metric
from xtrack_protocol.runs import Part, Series, downsample, gather, join, join_fewer
from xtrack_protocol.runs.series import EXTREMES_OF, extremes_of, glance_at


def series_of(values: list[float], *, stepless: int = 0, known: bool = False) -> Series:
    count = len(values)
    steps, timestamps = array("q", range(100, 100 + count - stepless)), array("q", range(count))
    series = Series(steps, array("d", values), timestamps)
    if known:
        places = extremes_of(values)
        series.extremes = array("q", [n // 2 * EXTREMES_OF + place for n, place in enumerate(places)])
    return series


# ------------------------------------------------------------------------------------------ joining


@attrs.frozen
class Told:
    """A point, and the stream and the block that it came in."""

    step: int | None
    place: int
    seq: int
    value: float
    timestamp_us: int
    block: int


@st.composite
def tellings(draw: st.DrawFn) -> list[Told]:
    found = []
    orderly = draw(st.booleans())
    for place in range(draw(st.integers(1, 3))):
        seqs = draw(st.lists(st.integers(1, 40), unique=True, max_size=25))
        for n, seq in enumerate(sorted(seqs) if orderly else seqs):
            step = n if orderly else draw(st.none() | st.integers(-1, 6))
            value = draw(st.integers(-5, 5) | st.floats())
            found.append(Told(step, place, seq, value, draw(st.integers(0, 50)), draw(st.integers(0, 2))))
    if orderly:  # blocks of successive events, as they are in a stream that came as it was sent
        found = [attrs.evolve(told, block=told.seq // 10) for told in found]
    return found


def parts_of(told: list[Told], rewinds: dict[int, int]) -> list[Part]:
    parts = []
    for place, block in sorted({(each.place, each.block) for each in told}):
        own = [each for each in told if (each.place, each.block) == (place, block)]
        events = [
            Envelope.of(Metric("r", "x", each.value, each.step), seq=each.seq, timestamp_us=each.timestamp_us)
            for each in own
        ]
        parts += [columns.part(0, place=place, rewind_to=rewinds.get(place)) for columns in gather(events)]
    return parts


LIMITS = st.none() | st.integers(-2, 8)


@given(tellings(), st.dictionaries(st.integers(0, 2), st.integers(-1, 6)), LIMITS, LIMITS, st.randoms(), st.booleans())
def test_points_are_joined_in_the_order_of_the_series(
    told: list[Told], rewinds: dict[int, int], low: int | None, high: int | None, rnd: random.Random, known: bool
) -> None:
    ranged = low is not None or high is not None
    expected = sorted(
        (
            each
            for each in told
            if (
                not ranged
                if each.step is None
                else each.step <= min(rewinds.get(each.place, 99), 99 if high is None else high)
                and each.step >= (-99 if low is None else low)
            )
        ),
        key=lambda each: (each.step is None, each.step or 0, each.place, each.seq),
    )
    parts = parts_of(told, rewinds)
    if known:
        parts = [attrs.evolve(part, glance=glance_at(part.points())) for part in parts]
    rnd.shuffle(parts)
    found = join(parts, min_step=low, max_step=high)
    assert list(found.steps) == [each.step for each in expected if each.step is not None]
    assert found.values.tobytes() == array("d", [each.value for each in expected]).tobytes()
    assert list(found.timestamps_us) == [each.timestamp_us for each in expected]
    assert len(found) == len(expected)
    check_extremes(found)
    for limit in (2, 3, 4, 6, 9):
        assert exactly(join_fewer(parts, limit, min_step=low, max_step=high)) == exactly(downsample(found, limit))


def exactly(series: Series) -> tuple[bytes, ...]:
    return series.steps.tobytes(), series.values.tobytes(), series.timestamps_us.tobytes()


def check_extremes(series: Series) -> None:
    """What is known of extremes covers all points: no number is beyond those of its neighbourhood."""
    assert series.extremes is not None
    places = list(series.extremes)
    assert all(0 <= place < len(series) for place in places)
    assert all(abs(a - b) < EXTREMES_OF for a, b in zip(places[::2], places[1::2], strict=True))
    present = [value for value in series.values if value == value]
    if present:
        known = [series.values[place] for place in places if series.values[place] == series.values[place]]
        assert (min(known), max(known)) == (min(present), max(present))


def test_integers_beyond_the_precision_of_floats_lose_digits() -> None:
    events = [Envelope.of(Metric("r", "x", 2**53 + 1, step=2**53 + 1), seq=1, timestamp_us=0)]
    series = join([gather(events)[0].part(0)])
    assert series.values == array("d", [float(2**53)])
    assert series.steps == array("q", [2**53 + 1])


def test_nothing_joins_to_nothing() -> None:
    assert join([]) == Series(array("q"), array("d"), array("q"))
    assert downsample(join([]), 10) == join([])


# ------------------------------------------------------------------------------------------ fewer points

NUMBERS = st.floats(-5, 5) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])


@given(st.lists(NUMBERS), st.integers(1, 40), st.integers(2, 60), st.booleans(), st.integers(0, 3))
def test_fewer_points_look_like_all(few: list[float], times: int, limit: int, known: bool, stepless: int) -> None:
    values = few * times
    series = series_of(values, known=known, stepless=min(stepless, len(values)))
    found = downsample(series, limit)
    assert len(found) <= limit
    if len(values) <= limit:
        assert found is series
        return
    assert len(found.timestamps_us) == len(found)
    places = list(found.timestamps_us)  # a point's time is its place
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, len(values) - 1)
    assert found.values.tobytes() == array("d", [values[place] for place in places]).tobytes()
    assert list(found.steps) == [100 + place for place in places if place < len(series.steps)]
    present = [value for value in values if value == value]
    if present and limit >= 4:
        kept = [value for value in found.values if value == value]
        assert (min(kept), max(kept)) == (min(present), max(present))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("spike", [1, 255, 256, 31_234, 99_998])
@pytest.mark.parametrize("height", [1e6, -1e6, math.inf])
def test_no_spike_is_lost(known: bool, spike: int, height: float) -> None:
    rnd = random.Random(spike)
    values = [rnd.random() for _ in range(100_000)]
    values[spike] = height
    found = downsample(series_of(values, known=known), 500)
    assert height in found.values
    assert 400 < len(found) <= 500


@pytest.mark.parametrize("known", [False, True])
def test_of_each_bucket_least_and_greatest_are_kept(known: bool) -> None:
    rnd = random.Random(1)
    values = [rnd.gauss(0, 1) for _ in range(EXTREMES_OF * 40)]
    places = list(downsample(series_of(values, known=known), 2 + 2 * 10).timestamps_us)
    size = len(values) // 10
    for start in range(0, len(values), size):
        bucket = values[start : start + size]
        assert start + bucket.index(min(bucket)) in places
        assert start + bucket.index(max(bucket)) in places


@pytest.mark.parametrize("known", [False, True])
def test_where_all_is_nan_some_of_it_is_kept(known: bool) -> None:
    values = [1.0] * 5000 + [math.nan] * 5000 + [2.0] * 5000
    found = downsample(series_of(values, known=known), 32)
    assert [value for value in found.values if value == value].count(2.0) >= 2
    assert sum(math.isnan(value) for value in found.values) >= 4


def test_both_infinities_are_no_nan() -> None:
    found = downsample(series_of([0.0, 1.0, math.inf, 2.0, -math.inf, 3.0, 1.0]), 4)
    assert list(found.values) == [0.0, math.inf, -math.inf, 1.0]


@pytest.mark.parametrize("limit", [1, 0, -1])
def test_a_series_has_two_ends(limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        downsample(series_of([1.0, 2.0, 3.0]), limit)
    assert list(downsample(series_of([1.0, 9.0, 3.0]), 2).values) == [1.0, 3.0]


def test_points_without_a_step_stay_the_last() -> None:
    found = downsample(series_of([float(n) for n in range(1000)], stepless=400), 50)
    assert len(found.steps) < len(found)
    assert list(found.values[: len(found.steps)]) == [step - 100 for step in found.steps]


NUMBER_LISTS: Any = st.lists(NUMBERS | st.just(math.nan), min_size=1, max_size=40) | st.lists(
    st.integers(-(2**63), 2**63 - 1), min_size=1
)


@given(NUMBER_LISTS, st.sampled_from([1, 20, 300]))
def test_extremes_are_those_of_each_256(few: list[float], times: int) -> None:
    numbers = few * times
    found = extremes_of(numbers)
    assert len(found) == 2 * math.ceil(len(numbers) / EXTREMES_OF)
    for n in range(0, len(numbers), EXTREMES_OF):
        part = numbers[n : n + EXTREMES_OF]
        present = [number for number in part if number == number]
        low, high = found[n // 128 : n // 128 + 2]
        if present:
            assert (part[low], part[high]) == (min(present), max(present))
        else:
            assert (low, high) == (0, 0)
