"""How two peers talk: streams and their sequence numbers. No I/O; time is an argument."""

from xtrack_protocol.session.rangeset import RangeSet
from xtrack_protocol.session.streams import LEGACY_PREFIX, StreamId, StreamResolver

__all__ = ["LEGACY_PREFIX", "RangeSet", "StreamId", "StreamResolver"]
