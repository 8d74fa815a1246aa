"""Where events rest: the interface of every store, and the value types of its questions."""

from xtrack_protocol.storage.base import (
    AppendResult,
    Experiment,
    Incoming,
    Order,
    ParamValue,
    RunQuery,
    Storage,
    StoredEvent,
)

__all__ = ["AppendResult", "Experiment", "Incoming", "Order", "ParamValue", "RunQuery", "Storage", "StoredEvent"]
