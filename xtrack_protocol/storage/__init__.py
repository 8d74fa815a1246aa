"""Where events rest: the interface of every store, the value types of its questions, and the stores there are."""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.storage.access import OWNER_MAX, RunAccess
    from xtrack_protocol.storage.base import (
        AppendResult,
        Experiment,
        Incoming,
        Order,
        ParamValue,
        RunQuery,
        Storage,
        StoredEvent,
        StreamEvents,
        StreamResult,
    )
    from xtrack_protocol.storage.local import LocalStore
    from xtrack_protocol.storage.memory import MemoryStore
    from xtrack_protocol.storage.open import STORES, open_store
    from xtrack_protocol.storage.sqlite import SQLiteStore
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "access": ("OWNER_MAX", "RunAccess"),
            "base": (
                "AppendResult",
                "Experiment",
                "Incoming",
                "Order",
                "ParamValue",
                "RunQuery",
                "Storage",
                "StoredEvent",
                "StreamEvents",
                "StreamResult",
            ),
            "local": ("LocalStore",),
            "memory": ("MemoryStore",),
            "open": ("STORES", "open_store"),
            "sqlite": ("SQLiteStore",),
        },
    )

__all__ = [
    "OWNER_MAX",
    "STORES",
    "AppendResult",
    "Experiment",
    "Incoming",
    "LocalStore",
    "MemoryStore",
    "Order",
    "ParamValue",
    "RunAccess",
    "RunQuery",
    "SQLiteStore",
    "Storage",
    "StoredEvent",
    "StreamEvents",
    "StreamResult",
    "open_store",
]
