"""Asks a collector on another machine: a run's events as they come, and commands for its workers.

::

    with CollectorClient("tcp://collector:9999") as client:
        for event in client.subscribe("run-1", until_end=True):
            print(event.position, event.envelope)
        answers = client.send_command("run-1", "adjust_lr", {"lr": 0.01})
"""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.client.client import CollectorClient
    from xtrack_protocol.client.subscription import PublishedEvent, RemoteSubscription
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "client": ("CollectorClient",),
            "subscription": ("PublishedEvent", "RemoteSubscription"),
        },
    )

__all__ = ["CollectorClient", "PublishedEvent", "RemoteSubscription"]
