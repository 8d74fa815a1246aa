"""The spool: events at rest on this machine, the default way to log and the truth that the local index is made from.

The emitter appends to one stream's segments and opens no database; readers come whenever they like.
"""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.spool.layout import (
        TOMBSTONE,
        SpoolDir,
        default_dir,
        lock_path,
        make_private_dir,
        safe_name,
        segments,
        write_private,
    )
    from xtrack_protocol.spool.locks import FileLock, is_locked
    from xtrack_protocol.spool.reader import find_lost, is_alive, write_lost
    from xtrack_protocol.spool.segment import Segment, open_segment, read_segment, streams_of
    from xtrack_protocol.spool.writer import StreamWriter
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "layout": (
                "TOMBSTONE",
                "SpoolDir",
                "default_dir",
                "lock_path",
                "make_private_dir",
                "safe_name",
                "segments",
                "write_private",
            ),
            "locks": ("FileLock", "is_locked"),
            "reader": ("find_lost", "is_alive", "write_lost"),
            "segment": ("Segment", "open_segment", "read_segment", "streams_of"),
            "writer": ("StreamWriter",),
        },
    )

__all__ = [
    "TOMBSTONE",
    "FileLock",
    "Segment",
    "SpoolDir",
    "StreamWriter",
    "default_dir",
    "find_lost",
    "is_alive",
    "is_locked",
    "lock_path",
    "make_private_dir",
    "open_segment",
    "read_segment",
    "safe_name",
    "segments",
    "streams_of",
    "write_lost",
    "write_private",
]
