"""What the fold remembers of a run: facts that can be joined in any order, and be stored as a snapshot.

Each of these is a maximum, a minimum, a union or a bounded "top k" over what has come, so that the order of arrival
can't show (spec: FLD-1). Nothing here decides anything: that is the business of ``runs.reducer``, at reading time.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from itertools import repeat
from math import copysign
from typing import Any, TypeVar

import msgspec

from xtrack_protocol.ir import (
    Alert,
    Artifact,
    Checkpoint,
    Json,
    LogEntry,
    MetricContext,
    RunEnd,
    RunStart,
    StatusUpdate,
)

_T = TypeVar("_T")

Point = tuple[int | float, int | None, int | None, int, int, MetricContext | None]
"""value, step, epoch, timestamp_us, seq, context"""


class _Facts(msgspec.Struct, array_like=True, omit_defaults=True):
    pass


class SeriesFacts(_Facts):
    """One metric in one stream, hidden points left out."""

    count: int = 0
    nan_count: int = 0
    min: int | float | None = None
    max: int | float | None = None
    last: Point | None = None
    tail: list[Point] = msgspec.field(default_factory=list)
    max_step: int | None = None

    def add(self, point: Point, tail_size: int) -> None:
        """Take one point."""
        value, step = point[0], point[1]
        self.count += 1
        if value == value:  # noqa: PLR0124 - NaN is not
            if self.min is None or _before(value, self.min):
                self.min = value
            if self.max is None or _before(self.max, value):
                self.max = value
        else:
            self.nan_count += 1
        if self.last is None or point[4] > self.last[4]:
            self.last = point
        if step is not None and (self.max_step is None or step > self.max_step):
            self.max_step = step
        keep_last(self.tail, point, tail_size, key=series_key)

    def extend(
        self, values: Sequence[int | float], last: Point, tail: list[Point], max_step: int | None, tail_size: int
    ) -> None:
        """Take many points at once, of which there is at least one. ``values``: all integers or all floats; ``last``:
        the point with the largest seq; ``tail``: the last ``tail_size`` points in the order of the series, or all.
        """
        self.count += len(values)
        numbers = values
        total = sum(values)
        if total != total:  # noqa: PLR0124 - a NaN is among them, or both infinities
            numbers = [value for value in values if value == value]  # noqa: PLR0124
            self.nan_count += len(values) - len(numbers)
        if numbers:
            low, high = extremes(numbers)
            if self.min is None or _before(low, self.min):
                self.min = low
            if self.max is None or _before(self.max, high):
                self.max = high
        if self.last is None or last[4] > self.last[4]:
            self.last = last
        if max_step is not None and (self.max_step is None or max_step > self.max_step):
            self.max_step = max_step
        known = self.tail
        in_order = not known or series_key(known[-1]) <= series_key(tail[0])
        known += tail
        if not in_order:
            known.sort(key=series_key)
        if len(known) > tail_size:
            del known[: len(known) - tail_size]


def extremes(numbers: Sequence[int | float]) -> tuple[int | float, int | float]:
    """Return the least and the greatest of ``numbers``, all integers or all floats, of which none is NaN.

    Of zeros the negative one is the less, as in ``_before``; ``min`` and ``max`` return the first they meet.
    """
    low, high = min(numbers), max(numbers)
    if low == 0 and type(low) is float and min(map(copysign, repeat(1.0), numbers)) < 0:
        low = -0.0
    if high == 0 and type(high) is float and max(map(copysign, repeat(1.0), numbers)) > 0:
        high = 0.0
    return low, high


def _before(a: float, b: float) -> bool:
    """Whether ``a`` is less; of equal numbers spelled differently (1 and 1.0, 0.0 and -0.0) one is, in any order."""
    return a < b or (a == b and repr(a) < repr(b))


def series_key(point: Point) -> tuple[bool, int, int]:
    """Return the place of a point in its stream's series: by step, then seq, null steps last. spec: FLD-3"""
    step = point[1]
    return step is None, step or 0, point[4]


def keep_last(items: list[_T], item: _T, size: int, *, key: Any) -> None:
    """Put ``item`` in its place of the sorted list and drop the first ones beyond ``size``."""
    if not items or key(items[-1]) <= key(item):
        items.append(item)
    else:
        insort(items, item, key=key)
    if len(items) > size:
        del items[: len(items) - size]


class Written(_Facts):
    """A value and when it was written."""

    seq: int
    timestamp_us: int
    value: Json


class Started(_Facts):
    """A stream's run_start."""

    seq: int
    timestamp_us: int
    event: RunStart


class Ended(_Facts):
    """A stream's run_end."""

    seq: int
    timestamp_us: int
    event: RunEnd


class Active(_Facts):
    """A stream's last status event."""

    seq: int
    timestamp_us: int
    event: StatusUpdate


class Lost(_Facts):
    """What is known of a stream's loss."""

    at_us: int
    reason: str
    after_seq: int
    detail: str


class StreamFacts(_Facts):
    """One stream."""

    worker_id: str
    session_id: str
    seqs: list[tuple[int, int]] = msgspec.field(default_factory=list)
    skipped: list[tuple[int, int]] = msgspec.field(default_factory=list)
    first_ts: int | None = None
    last_ts: int | None = None
    start: Started | None = None
    end: Ended | None = None
    active: Active | None = None
    lost: Lost | None = None
    experiment: Written | None = None
    parent: Written | None = None
    params: dict[str, Written] = msgspec.field(default_factory=dict)
    tags: dict[str, Written] = msgspec.field(default_factory=dict)
    summary: dict[str, Written] = msgspec.field(default_factory=dict)
    series: dict[str, SeriesFacts] = msgspec.field(default_factory=dict)


class Told(_Facts):
    """An event that is kept as a whole: when, by whom, and what."""

    timestamp_us: int
    worker_id: str
    session_id: str
    seq: int
    event: LogEntry | Artifact | Checkpoint | Alert

    def place(self) -> tuple[int, str, str, int]:
        """The place among events of several workers. spec: FLD-2"""
        return self.timestamp_us, self.worker_id, self.session_id, self.seq


class ToldLog(Told):
    """A log event."""

    event: LogEntry


class ToldArtifact(Told):
    """An artifact event."""

    event: Artifact


class ToldCheckpoint(Told):
    """A checkpoint event."""

    event: Checkpoint


class ToldAlert(Told):
    """An alert event."""

    event: Alert


class RunFacts(_Facts):
    """All that is remembered of a run."""

    run_id: str
    expected_name: str | None = None
    expected_experiment: str | None = None
    streams: list[StreamFacts] = msgspec.field(default_factory=list)
    logs: list[ToldLog] = msgspec.field(default_factory=list)
    artifacts: list[ToldArtifact] = msgspec.field(default_factory=list)
    checkpoints: list[ToldCheckpoint] = msgspec.field(default_factory=list)
    alerts: list[ToldAlert] = msgspec.field(default_factory=list)
    rewinds: dict[str, int] = msgspec.field(default_factory=dict)
    events: int = 0
