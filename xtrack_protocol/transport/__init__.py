"""How an emitter's events move: one small module a transport, and the interface they share."""

from xtrack_protocol.transport.base import Promise, StreamInfo, Transport

__all__ = ["Promise", "StreamInfo", "Transport"]
