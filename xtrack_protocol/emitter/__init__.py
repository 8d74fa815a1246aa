"""Who speaks: the training script's side. ``Tracker.start_run()`` gives a ``Run``."""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.emitter.building import ExperimentBuilder, RunBuilder
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
    from xtrack_protocol.emitter.listening import HeardEvent, Listener, listen
    from xtrack_protocol.emitter.run import Run
    from xtrack_protocol.emitter.stream import RunStats
    from xtrack_protocol.emitter.surroundings import redact_arguments, strip_credentials
    from xtrack_protocol.emitter.tracker import Tracker, new_run_id
    from xtrack_protocol.emitter.tracking import tracked
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "current": (
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
            "building": ("ExperimentBuilder", "RunBuilder"),
            "listening": ("HeardEvent", "Listener", "listen"),
            "run": ("Run",),
            "stream": ("RunStats",),
            "surroundings": (
                "redact_arguments",
                "strip_credentials",
            ),
            "tracker": (
                "Tracker",
                "new_run_id",
            ),
            "tracking": ("tracked",),
        },
    )

__all__ = [
    "ExperimentBuilder",
    "HeardEvent",
    "Listener",
    "Run",
    "RunBuilder",
    "RunStats",
    "Tracker",
    "alert",
    "current_run",
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
    "new_run_id",
    "redact_arguments",
    "set_status",
    "set_tags",
    "start_run",
    "strip_credentials",
    "summary",
    "tracked",
]
