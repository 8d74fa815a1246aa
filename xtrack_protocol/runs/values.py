"""What questions about runs are answered with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from xtrack_protocol.ir import (
    ActivityStatus,
    Alert,
    Artifact,
    Checkpoint,
    EndStatus,
    EnvironmentInfo,
    ErrorInfo,
    Json,
    LogEntry,
    MetricContext,
    Progress,
    SourceInfo,
)
from xtrack_protocol.session import StreamId

RunStatus: TypeAlias = Literal["pending", "running", "completed", "failed", "killed", "lost"]
"""What a run's workers add up to. ``pending``: no worker has started yet. spec: FLD-5"""

LostReason: TypeAlias = Literal["died", "vanished"]
"""``died``: its process was seen to end without run_end. ``vanished``: no sign of life any more. spec: FLD-6"""


@attrs.frozen
class StreamLost:
    """A worker is known to be gone without having ended its run: an input to the fold, and no event. spec: FLD-6

    ``at_us``: microseconds since the Unix epoch, by the clock of who saw it. ``after_seq``: the last seq known then;
    a worker that vanished and is heard of again, with a later seq, is not lost. ``detail``: for people.
    """

    stream: StreamId
    at_us: int
    reason: LostReason
    after_seq: int = 0
    detail: str = ""


@attrs.frozen
class SeriesPoint:
    """One point of a series. ``hidden``: a resumed session has rewound over it. spec: FLD-3, FLD-8"""

    value: int | float
    step: int | None
    epoch: int | None
    timestamp_us: int
    worker_id: str
    session_id: str
    seq: int
    context: MetricContext | None = None
    hidden: bool = False


@attrs.frozen
class LogRecord:
    """A log event, its worker and its time in microseconds since the Unix epoch."""

    entry: LogEntry
    timestamp_us: int
    worker_id: str
    session_id: str
    seq: int


@attrs.frozen
class StoredArtifact:
    """An artifact event, its worker and its time in microseconds since the Unix epoch."""

    artifact: Artifact
    timestamp_us: int
    worker_id: str
    session_id: str
    seq: int


@attrs.frozen
class StoredCheckpoint:
    """A checkpoint event, its worker and time. ``hidden``: a resumed session has rewound over it. spec: FLD-8"""

    checkpoint: Checkpoint
    timestamp_us: int
    worker_id: str
    session_id: str
    seq: int
    hidden: bool = False


@attrs.frozen
class StoredAlert:
    """An alert event, its worker and its time in microseconds since the Unix epoch."""

    alert: Alert
    timestamp_us: int
    worker_id: str
    session_id: str
    seq: int


@attrs.frozen
class Aggregate:
    """What values of several workers add up to, one value each. spec: FLD-3.8

    ``count``: of how many workers there is a number, an infinity included; ``nan_count``: of how many NaN. ``mean``,
    ``min`` and ``max`` are of the numbers, and None where there are none; the mean of both infinities is NaN.
    """

    step: int | None
    count: int
    nan_count: int
    mean: float | None
    min: int | float | None
    max: int | float | None


@attrs.frozen(kw_only=True)
class MetricSummary:
    """A metric in short; the store has all of its points. Hidden points don't count.

    ``last``: the last one written (spec: FLD-2). ``min`` and ``max`` leave NaN out and are None where there is nothing
    else. ``tail``: the last points in the order of the series, at most 64. ``workers``: of several workers, the last
    value of each, whatever its step.
    """

    count: int
    nan_count: int
    last: SeriesPoint
    min: int | float | None
    max: int | float | None
    tail: tuple[SeriesPoint, ...]
    workers: Aggregate | None = None


@attrs.frozen(kw_only=True)
class StreamSummary:
    """One stream of a run: a worker's session.

    ``status``: what this stream says of the run (spec: FLD-4). ``votes``: whether that counts. ``gaps``: ranges of
    seqs that never came; ``skipped``: ranges whose loss was declared (spec: STR-6, STR-7). ``late``: events that came
    after run_end (spec: FLD-7). ``shipped``: ranges that are kept no longer here, but by the collector ``shipped_to``
    (spec: RST-9.5).
    """

    stream: StreamId
    status: RunStatus
    votes: bool
    superseded: bool
    sub: bool
    observer: bool
    started_at_us: int | None
    ended_at_us: int | None
    duration_ms: int | None
    end_status: EndStatus | None
    error: ErrorInfo | None
    lost: StreamLost | None
    last_seq: int
    events: int
    gaps: tuple[tuple[int, int], ...]
    skipped: tuple[tuple[int, int], ...]
    late: int
    shipped: tuple[tuple[int, int], ...] = ()
    shipped_to: str = ""


@attrs.frozen(kw_only=True)
class Activity:
    """What a worker last said that it is doing."""

    status: ActivityStatus
    message: str | None
    progress: Progress | None
    timestamp_us: int
    worker_id: str


@attrs.frozen(kw_only=True)
class RunState:
    """All that is known of a run, in bounded size. Times are microseconds since the Unix epoch, workers' clocks.
    spec: FLD-11

    ``params``: flat and dotted, the current values. ``logs``, ``artifacts``, ``checkpoints``, ``alerts``: the last 1000
    of each; the store has all. ``streams``: one entry a worker's session, in session order (spec: FLD-2).
    ``activity``: the last that was said of what a worker is doing; ``activities``: of each worker, by its id.
    """

    run_id: str
    status: RunStatus
    name: str | None = None
    note: str | None = None
    experiment_id: str | None = None
    parent_run_id: str | None = None
    started_at_us: int | None = None
    ended_at_us: int | None = None
    updated_at_us: int | None = None
    duration_ms: int | None = None
    activity: Activity | None = None
    activities: Mapping[str, Activity] = attrs.field(factory=dict)
    params: Mapping[str, Json] = attrs.field(factory=dict)
    metrics: Mapping[str, MetricSummary] = attrs.field(factory=dict)
    summary: Mapping[str, int | float] = attrs.field(factory=dict)
    final_metrics: Mapping[str, int | float] = attrs.field(factory=dict)
    artifacts: tuple[StoredArtifact, ...] = ()
    checkpoints: tuple[StoredCheckpoint, ...] = ()
    logs: tuple[LogRecord, ...] = ()
    alerts: tuple[StoredAlert, ...] = ()
    tags: Mapping[str, str] = attrs.field(factory=dict)
    source: SourceInfo | None = None
    environment: EnvironmentInfo | None = None
    error: ErrorInfo | None = None
    world_size: int | None = None
    streams: tuple[StreamSummary, ...] = ()
    events: int = 0

    @property
    def last_seq(self) -> int:
        """The largest seq of any stream; for a run of one stream, the number of its events."""
        return max((stream.last_seq for stream in self.streams), default=0)

    @property
    def best_checkpoint(self) -> StoredCheckpoint | None:
        """The last checkpoint said to be the best."""
        best = [stored for stored in self.checkpoints if stored.checkpoint.is_best and not stored.hidden]
        return max(best, key=lambda stored: (stored.timestamp_us, stored.seq), default=None)

    @property
    def workers(self) -> tuple[str, ...]:
        """The worker ids, sorted."""
        return tuple(sorted({stream.stream.worker_id for stream in self.streams}))

    @property
    def lost_events(self) -> int:
        """How many events are known to be missing: gaps and declared losses."""
        return sum(last - first + 1 for stream in self.streams for first, last in (*stream.gaps, *stream.skipped))
