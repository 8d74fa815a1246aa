"""How an emitter's events move: one small module a transport, and the interface they share."""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.transport.base import Delivery, Promise, StreamInfo, Transport
    from xtrack_protocol.transport.file import FileTransport
    from xtrack_protocol.transport.local import LocalTransport
    from xtrack_protocol.transport.memory import MemoryTransport
    from xtrack_protocol.transport.null import NullTransport
    from xtrack_protocol.transport.open import TRANSPORTS, open_transport
    from xtrack_protocol.transport.stdio import StdioTransport
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ("Delivery", "Promise", "StreamInfo", "Transport"),
            "file": ("FileTransport",),
            "local": ("LocalTransport",),
            "memory": ("MemoryTransport",),
            "null": ("NullTransport",),
            "open": ("TRANSPORTS", "open_transport"),
            "stdio": ("StdioTransport",),
        },
    )

__all__ = [
    "TRANSPORTS",
    "Delivery",
    "FileTransport",
    "LocalTransport",
    "MemoryTransport",
    "NullTransport",
    "Promise",
    "StdioTransport",
    "StreamInfo",
    "Transport",
    "open_transport",
]
