"""XTrack: a wire protocol for machine-learning experiment tracking, and its reference implementation.

What a training script needs is here::

    import xtrack_protocol as xtrack

    with xtrack.start_run("my run") as run:
        run.log_params({"lr": 0.1})
        run.log_metric("loss", 0.5, step=1)

and so are the events, the codec and the errors. The rest has modules of its own: ``xtrack_protocol.storage``,
``.collector``, ``.transport``, ``.runs``, ``.spool``, ``.testing``.
"""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily
from xtrack_protocol.emitter import exits as _exits  # noqa: F401 - asks to be told of the process's end before the script does

if TYPE_CHECKING:
    from xtrack_protocol.emitter.current import (
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
    from xtrack_protocol.emitter.listening import listen
    from xtrack_protocol.emitter.run import Run
    from xtrack_protocol.emitter.tracker import Tracker
    from xtrack_protocol.emitter.tracking import tracked
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
    from xtrack_protocol.wire.files import stream_file
    from xtrack_protocol.wire.framing import Frame, FrameDecoder, decode_frame, encode_frame
    from xtrack_protocol.wire.versioning import PROTOCOL_VERSION
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "emitter.current": (
                "alert",
                "current_run",
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
                "summary",
            ),
            "emitter.listening": ("listen",),
            "emitter.run": ("Run",),
            "emitter.tracker": ("Tracker",),
            "emitter.tracking": ("tracked",),
            "errors": ("DecodeError", "EncodeError", "XTrackError"),
            "ir": (
                "Ack",
                "Alert",
                "Artifact",
                "Checkpoint",
                "Command",
                "Envelope",
                "EventMeta",
                "LogEntry",
                "Metric",
                "MetricBatch",
                "Param",
                "RunEnd",
                "RunId",
                "RunStart",
                "StatusUpdate",
                "Summary",
                "Tags",
                "UnknownEvent",
            ),
            "limits": ("DecodeLimits",),
            "wire.files": ("stream_file",),
            "wire.framing": ("Frame", "FrameDecoder", "decode_frame", "encode_frame"),
            "wire.versioning": ("PROTOCOL_VERSION",),
        },
        modules=("runs", "session", "settings", "spool", "transport", "wire"),
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
    "listen",
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
    "tracked",
]
