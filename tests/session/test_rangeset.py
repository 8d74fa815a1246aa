"""RangeSet against a set of integers."""

from __future__ import annotations

import copy
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xtrack_protocol.session import RangeSet

VALUES = st.integers(-3, 30)
RANGES = st.tuples(VALUES, st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def expand(ranges: RangeSet) -> set[int]:
    return {value for first, last in ranges for value in range(first, last + 1)}


class RangeSetMachine(RuleBasedStateMachine):
    """Whatever is added, the set and its model hold the same."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = RangeSet()
        self.model: set[int] = set()

    @rule(value=VALUES)
    def add(self, value: int) -> None:
        assert self.ranges.add(value) == (value not in self.model)
        self.model.add(value)

    @rule()
    def add_next(self) -> None:
        value = max(self.model, default=0) + 1
        assert self.ranges.add(value)
        self.model.add(value)

    @rule(pair=RANGES)
    def add_range(self, pair: tuple[int, int]) -> None:
        self.ranges.add_range(*pair)
        self.model |= set(range(pair[0], pair[1] + 1))

    @rule(pairs=st.lists(RANGES, max_size=4))
    def update(self, pairs: list[tuple[int, int]]) -> None:
        self.ranges.update(RangeSet(pairs))
        for first, last in pairs:
            self.model |= set(range(first, last + 1))

    @rule(pairs=st.lists(RANGES, max_size=4))
    def subtract(self, pairs: list[tuple[int, int]]) -> None:
        other = RangeSet(pairs)
        before = list(self.ranges)
        assert expand(self.ranges - other) == self.model - expand(other)
        assert list(self.ranges) == before
        self.ranges = self.ranges - other
        self.model -= expand(other)

    @invariant()
    def same(self) -> None:
        ranges = list(self.ranges)
        assert expand(self.ranges) == self.model
        assert self.ranges.count == len(self.model)
        assert bool(self.ranges) == bool(self.model)
        assert self.ranges.last == max(self.model, default=None)
        assert all(first <= last for first, last in ranges)
        assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges)), "sorted, disjoint, not adjacent"
        for value in range(-5, 40):
            assert (value in self.ranges) == (value in self.model)
        contiguous = 0
        while contiguous + 1 in self.model:
            contiguous += 1
        assert self.ranges.contiguous_to == contiguous
        missing = {value for first, last in self.ranges.gaps() for value in range(first, last + 1)}
        assert missing == set(range(1, max(self.model, default=0) + 1)) - self.model
        assert RangeSet(self.ranges) == self.ranges
        assert eval(repr(self.ranges)) == self.ranges


TestRangeSet = RangeSetMachine.TestCase
TestRangeSet.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


@given(st.lists(RANGES))
def test_order_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    assert RangeSet(pairs) == RangeSet(reversed(pairs)) == RangeSet(sorted(pairs))


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        RangeSet().add_range(2, 1)


def test_ranges_are_listed_whatever_they_hold() -> None:
    everything = RangeSet([(-(2**63), 2**63 - 1)])
    assert everything.count == 2**64
    assert 0 in everything
    assert list(everything - RangeSet([(0, 0)])) == [(-(2**63), -1), (1, 2**63 - 1)]
    assert everything.gaps() == []


def test_it_is_no_other_type_and_no_key() -> None:
    assert RangeSet([(1, 2)]) != [(1, 2)]
    assert "1" not in RangeSet([(1, 2)])
    with pytest.raises(TypeError):
        hash(RangeSet())
    ranges = RangeSet([(1, 2)])
    other = copy.deepcopy(ranges)
    other.add(5)
    assert ranges != other


def test_a_million_in_order_is_one_range() -> None:
    ranges = RangeSet()
    for value in range(1, 100_001):
        ranges.add(value)
    assert list(ranges) == [(1, 100_000)]
