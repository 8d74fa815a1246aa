"""What a run is: the fold of its events into a state, and the values that questions are answered with. No I/O."""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily
from xtrack_protocol.runs.aggregate import aggregate, aggregate_series

if TYPE_CHECKING:
    from xtrack_protocol.runs.columns import Columns, Shape, gather
    from xtrack_protocol.runs.reducer import NAME_TAG, NOTE_TAG, Input, RunReducer, fold
    from xtrack_protocol.runs.resolve import is_hidden
    from xtrack_protocol.runs.series import Glance, Part, Series, downsample, join, join_fewer, require_points
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
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "columns": ("Columns", "Shape", "gather"),
            "reducer": ("NAME_TAG", "NOTE_TAG", "Input", "RunReducer", "fold"),
            "resolve": ("is_hidden",),
            "series": ("Glance", "Part", "Series", "downsample", "join", "join_fewer", "require_points"),
            "values": (
                "Activity",
                "Aggregate",
                "LogRecord",
                "LostReason",
                "MetricSummary",
                "RunState",
                "RunStatus",
                "SeriesPoint",
                "StoredAlert",
                "StoredArtifact",
                "StoredCheckpoint",
                "StreamLost",
                "StreamSummary",
            ),
        },
    )

__all__ = [
    "NAME_TAG",
    "NOTE_TAG",
    "Activity",
    "Aggregate",
    "Columns",
    "Glance",
    "Input",
    "LogRecord",
    "LostReason",
    "MetricSummary",
    "Part",
    "RunReducer",
    "RunState",
    "RunStatus",
    "Series",
    "SeriesPoint",
    "Shape",
    "StoredAlert",
    "StoredArtifact",
    "StoredCheckpoint",
    "StreamLost",
    "StreamSummary",
    "aggregate",
    "aggregate_series",
    "downsample",
    "fold",
    "gather",
    "is_hidden",
    "join",
    "join_fewer",
    "require_points",
]
