"""Who listens: the collector, which feeds a store, and the launcher, which starts workers and watches them."""

from xtrack_protocol.collector.channel import CollectorTransport
from xtrack_protocol.collector.collector import Collector, GapPolicy, Outcome, Pushed
from xtrack_protocol.collector.commands import send_command
from xtrack_protocol.collector.hub import AsyncSubscription, Missed, Subscription
from xtrack_protocol.collector.launched import LaunchedRun
from xtrack_protocol.collector.launcher import RunManager, describe_command
from xtrack_protocol.collector.replay import ReplayReport, Speed

__all__ = [
    "AsyncSubscription",
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
    "Subscription",
    "describe_command",
    "send_command",
]
