"""A collector for workers on this machine and others: takes their sessions into a store, and acks what is kept."""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.server.access import AccessControl
    from xtrack_protocol.server.counters import Counters
    from xtrack_protocol.server.embedding import ServerThread
    from xtrack_protocol.server.keys import Keyring, Principal
    from xtrack_protocol.server.limits import ServerLimits
    from xtrack_protocol.server.server import CollectorServer
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "access": ("AccessControl",),
            "counters": ("Counters",),
            "embedding": ("ServerThread",),
            "keys": ("Keyring", "Principal"),
            "limits": ("ServerLimits",),
            "server": ("CollectorServer",),
        },
    )

__all__ = [
    "AccessControl",
    "CollectorServer",
    "Counters",
    "Keyring",
    "Principal",
    "ServerLimits",
    "ServerThread",
]
