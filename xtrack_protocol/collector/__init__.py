"""Who listens: the collector, which feeds a store, and the launcher, which starts workers and watches them."""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.collector.channel import CollectorTransport
    from xtrack_protocol.collector.collector import BatchOutcome, Collector, GapPolicy, Outcome, Pushed, StreamBatch
    from xtrack_protocol.collector.commands import send_command
    from xtrack_protocol.collector.hub import AsyncSubscription, Missed, Subscription
    from xtrack_protocol.collector.launched import LaunchedRun
    from xtrack_protocol.collector.launcher import RunManager, describe_command
    from xtrack_protocol.collector.replay import ReplayReport, Speed
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "channel": ("CollectorTransport",),
            "collector": ("BatchOutcome", "Collector", "GapPolicy", "Outcome", "Pushed", "StreamBatch"),
            "commands": ("send_command",),
            "hub": ("AsyncSubscription", "Missed", "Subscription"),
            "launched": ("LaunchedRun",),
            "launcher": ("RunManager", "describe_command"),
            "replay": ("ReplayReport", "Speed"),
        },
    )

__all__ = [
    "AsyncSubscription",
    "BatchOutcome",
    "Collector",
    "CollectorTransport",
    "GapPolicy",
    "LaunchedRun",
    "Missed",
    "Outcome",
    "Pushed",
    "ReplayReport",
    "RunManager",
    "Speed",
    "StreamBatch",
    "Subscription",
    "describe_command",
    "send_command",
]
