"""What a run is: the fold of its events into a state, and the values that questions are answered with. No I/O."""

from xtrack_protocol.runs.reducer import NAME_TAG, NOTE_TAG, Input, RunReducer, fold
from xtrack_protocol.runs.resolve import is_hidden
from xtrack_protocol.runs.values import (
    Activity,
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
    "fold",
    "is_hidden",
]
