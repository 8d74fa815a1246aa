"""How an emitter's events move: one small module a transport, and the interface they share."""

from xtrack_protocol.transport.base import Delivery, Promise, StreamInfo, Transport
from xtrack_protocol.transport.file import FileTransport
from xtrack_protocol.transport.local import LocalTransport
from xtrack_protocol.transport.memory import MemoryTransport
from xtrack_protocol.transport.null import NullTransport
from xtrack_protocol.transport.open import TRANSPORTS, open_transport
from xtrack_protocol.transport.stdio import StdioTransport

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
