"""What a run is: the fold of its events into a state, and the values that questions are answered with. No I/O."""

from xtrack_protocol.runs.aggregate import aggregate, aggregate_series
from xtrack_protocol.runs.reducer import NAME_TAG, NOTE_TAG, Input, RunReducer, fold
from xtrack_protocol.runs.resolve import is_hidden
from xtrack_protocol.runs.values import (
    Activity,
    Aggregate,
    LogRecord,
    LostReason,
    MetricSummary,
    RunState,
    RunStatus,
    SeriesPoint,
    StoredAlert,
    StoredArtifact,
    StoredCheckpoint,
    StreamLost,
    StreamSummary,
)

__all__ = [
    "NAME_TAG",
    "NOTE_TAG",
    "Activity",
    "Aggregate",
    "Input",
    "LogRecord",
    "LostReason",
    "MetricSummary",
    "RunReducer",
    "RunState",
    "RunStatus",
    "SeriesPoint",
    "StoredAlert",
    "StoredArtifact",
    "StoredCheckpoint",
    "StreamLost",
    "StreamSummary",
    "aggregate",
    "aggregate_series",
    "fold",
    "is_hidden",
]
