"""Sets of integers kept as ranges: which seqs of a stream have come. spec: STR-4, STR-6"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """A set of integers as sorted, disjoint, non-adjacent ranges, each with both ends included.

    Adding in ascending order, the usual case, takes constant time; anything else is a binary search.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add_range(first, last)

    def add(self, value: int) -> bool:
        """Add ``value``; return whether it was new."""
        lasts = self._lasts
        if lasts and value == lasts[-1] + 1:
            lasts[-1] = value
            return True
        if value in self:
            return False
        self.add_range(value, value)
        return True

    def add_range(self, first: int, last: int) -> None:
        """Add all of ``first`` to ``last``, merging what touches."""
        if first > last:
            raise ValueError(f"an empty range: {first} to {last}")
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def __sub__(self, other: RangeSet) -> RangeSet:
        """Return what is here and not in ``other``."""
        result = RangeSet()
        theirs = list(other)
        index = 0
        for first, last in self:
            start = first
            while index < len(theirs) and theirs[index][1] < start:
                index += 1
            at = index
            while at < len(theirs) and theirs[at][0] <= last:
                if theirs[at][0] > start:
                    result.add_range(start, theirs[at][0] - 1)
                start = theirs[at][1] + 1
                at += 1
            index = max(index, at - 1)
            if start <= last:
                result.add_range(start, last)
        return result

    def update(self, other: RangeSet) -> None:
        """Add all of ``other``."""
        for first, last in other:
            self.add_range(first, last)

    def gaps(self, first: int = 1) -> list[tuple[int, int]]:
        """Return the ranges missing between ``first`` and the largest value."""
        missing = []
        expected = first
        for low, high in self:
            if low > expected:
                missing.append((expected, low - 1))
            expected = max(expected, high + 1)
        return missing

    @property
    def contiguous_to(self) -> int:
        """The largest n so that all of 1 to n is here; 0 where 1 is missing: the cursor to resume after."""
        index = bisect_right(self._firsts, 1) - 1
        return self._lasts[index] if index >= 0 and self._lasts[index] >= 1 else 0

    @property
    def last(self) -> int | None:
        """The largest value."""
        return self._lasts[-1] if self._lasts else None

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int):
            return False
        index = bisect_left(self._lasts, value)
        return index < len(self._lasts) and self._firsts[index] <= value

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    @property
    def count(self) -> int:
        """How many values there are. There is no ``len()``: ``list()`` would make room for as many ranges."""
        return sum(last - first + 1 for first, last in self)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"RangeSet({list(self)!r})"
