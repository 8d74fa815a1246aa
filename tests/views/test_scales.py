"""Axes: round numbers, never too many, always in order and within the scale."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.views.scales import Scale, scale_of, tick_texts

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.1, 0.35, 4, [0.1, 0.2, 0.3]),
        (-1, 1, 5, [-1, -0.5, 0, 0.5, 1]),
        (0, 399, 5, [0, 100, 200, 300]),
        (1_000_000, 1_000_010, 3, [1_000_000, 1_000_005, 1_000_010]),
        (3, 3.0000001, 3, [3, 3.00000005, 3.0000001]),
    ],
)
def test_ticks(low, high, most, ticks):
    assert Scale(low, high).ticks(most) == pytest.approx(ticks, rel=1e-12, abs=0)


def test_ticks_of_a_logarithmic_scale():
    assert Scale(0.001, 1, log=True).ticks(5) == [0.001, 0.01, 0.1, 1]
    assert Scale(1e-9, 1, log=True).ticks(4) == [1e-9, 1e-6, 1e-3, 1]
    assert Scale(0.5, 6, log=True).ticks(8) == [0.5, 1, 2, 5]
    assert len(Scale(2, 3, log=True).ticks(4)) >= 2


def test_parts():
    assert Scale(0, 4).part(1) == 0.25
    assert Scale(1, 100, log=True).part(10) == pytest.approx(0.5)
    assert Scale(-1.7e308, 1.7e308).part(0) == 0.5


def test_one_value_stands_in_the_middle():
    for value in (0.0, 5.0, -3.0, 1e300, 1e-300, 1.7e308):
        assert scale_of([value, value]).part(value) == pytest.approx(0.5, abs=0.51 if abs(value) > 1e308 else 1e-6)
    assert scale_of([7.0], log=True).part(7.0) == pytest.approx(0.5)
    assert scale_of([]) == Scale(0, 1)
    assert scale_of([], log=True) == Scale(1, 10, log=True)


@given(st.lists(FINITE, min_size=1, max_size=5), st.integers(1, 12))
def test_any_values_have_a_scale(values, most):
    scale = scale_of(values)
    assert scale.low <= min(values) <= max(values) <= scale.high
    assert all(0 <= scale.part(value) <= 1 for value in values)
    ticks = scale.ticks(most)
    assert len(ticks) <= max(most, 2)
    assert ticks == sorted(ticks)
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    texts = tick_texts(ticks)
    assert len(texts) == len(ticks)
    assert len({*texts}) == len({*ticks})


@given(st.lists(st.floats(min_value=5e-324, allow_infinity=False), min_size=1, max_size=5), st.integers(2, 12))
def test_any_values_above_zero_have_a_logarithmic_scale(values, most):
    scale = scale_of(values, log=True)
    assert all(-1e-9 <= scale.part(value) <= 1 + 1e-9 for value in values)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most
    assert ticks == sorted(ticks)
    assert all(math.isfinite(tick) and tick > 0 for tick in ticks)


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0, 0.2, 0.4], ["0.0", "0.2", "0.4"]),
        ([0, 5, 10], ["0", "5", "10"]),
        ([0, 0.25, 0.5], ["0.00", "0.25", "0.50"]),
        ([1e-7, 2e-7], ["1e-07", "2e-07"]),
        ([0, 500_000, 1_000_000], ["0", "500000", "1000000"]),
        ([-1e308, 0, 1e308], ["-1e+308", "0", "1e+308"]),
        ([100000.5, 100001], ["100000.5", "100001.0"]),
    ],
)
def test_texts(ticks, texts):
    assert tick_texts(ticks) == texts


def test_texts_of_steps():
    assert tick_texts([0, 100, 200], counts=True) == ["0", "100", "200"]
    assert tick_texts([0, 5000, 10000], counts=True) == ["0", "5k", "10k"]
    assert tick_texts([0, 500_000, 1_000_000], counts=True) == ["0", "0.5M", "1M"]
