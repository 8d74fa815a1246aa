"""XTrack: a wire protocol for machine-learning experiment tracking, and its reference implementation.

What a training script needs is here::

    import xtrack_protocol as xtrack

    with xtrack.start_run("my run") as run:
        run.log_params({"lr": 0.1})
        run.log_metric("loss", 0.5, step=1)

and so are the events, the codec and the errors. The rest has modules of its own: ``xtrack_protocol.storage``,
``.collector``, ``.transport``, ``.runs``, ``.spool``, ``.testing``.
"""

from xtrack_protocol.emitter import (
    Run,
    Tracker,
    alert,
    current_run,
    end,
    flush,
    log,
    log_artifact,
    log_checkpoint,
    log_metric,
    log_metrics,
    log_param,
    log_params,
    set_status,
    set_tags,
    start_run,
    summary,
)
from xtrack_protocol.errors import DecodeError, EncodeError, XTrackError
from xtrack_protocol.ir import (
    Ack,
    Alert,
    Artifact,
    Checkpoint,
    Command,
    Envelope,
    EventMeta,
    LogEntry,
    Metric,
    MetricBatch,
    Param,
    RunEnd,
    RunId,
    RunStart,
    StatusUpdate,
    Summary,
    Tags,
    UnknownEvent,
)
from xtrack_protocol.limits import DecodeLimits
from xtrack_protocol.wire import (
    PROTOCOL_VERSION,
    Frame,
    FrameDecoder,
    decode_frame,
    encode_frame,
    stream_file,
)

__version__ = "0.1.0"

__all__ = [
    "PROTOCOL_VERSION",
    "Ack",
    "Alert",
    "Artifact",
    "Checkpoint",
    "Command",
    "DecodeError",
    "DecodeLimits",
    "EncodeError",
    "Envelope",
    "EventMeta",
    "Frame",
    "FrameDecoder",
    "LogEntry",
    "Metric",
    "MetricBatch",
    "Param",
    "Run",
    "RunEnd",
    "RunId",
    "RunStart",
    "StatusUpdate",
    "Summary",
    "Tags",
    "Tracker",
    "UnknownEvent",
    "XTrackError",
    "alert",
    "current_run",
    "decode_frame",
    "encode_frame",
    "end",
    "flush",
    "log",
    "log_artifact",
    "log_checkpoint",
    "log_metric",
    "log_metrics",
    "log_param",
    "log_params",
    "set_status",
    "set_tags",
    "start_run",
    "stream_file",
    "summary",
]
