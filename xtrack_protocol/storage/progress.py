"""How far the local index has read each spool: which segments, up to which byte.

Kept in the index's own file, so that an index that is thrown away takes its progress along. It is written after the
events it stands for are committed: a crash between the two makes the next reader read a little twice, and the store
knows duplicates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs

_TABLES = """
CREATE TABLE IF NOT EXISTS spool_segments (
    path TEXT PRIMARY KEY, offset INTEGER NOT NULL, identity TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spool_runs (
    folder TEXT PRIMARY KEY, changed_ns INTEGER NOT NULL
) WITHOUT ROWID;
"""


@attrs.define
class Progress:
    """What has been read: by segment its offset and identity (a file that replaces another is read anew), and the
    folders of which nothing more can come, with the time of their last change in nanoseconds.
    """

    offsets: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    finished: dict[str, int] = attrs.field(factory=dict)


class ProgressFile:
    """Progress in the SQLite file at ``path``, which the store has made already; None keeps it in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory = Progress()

    def load(self) -> Progress:
        """Return what has been read so far."""
        if self._path is None:
            return self._memory
        with self._connection() as connection:
            segments = connection.execute("SELECT path, offset, identity FROM spool_segments")
            offsets = {path: (offset, identity) for path, offset, identity in segments}
            return Progress(offsets, dict(connection.execute("SELECT folder, changed_ns FROM spool_runs")))

    def save(self, offsets: dict[str, tuple[int, str]], finished: dict[str, int]) -> None:
        """Note what has been read since."""
        if self._path is None:
            self._memory.offsets.update(offsets)
            self._memory.finished.update(finished)
            return
        if not offsets and not finished:
            return
        with self._connection() as connection, connection:
            connection.executemany(
                "INSERT OR REPLACE INTO spool_segments VALUES (?, ?, ?)",
                [(path, offset, identity) for path, (offset, identity) in offsets.items()],
            )
            connection.executemany("INSERT OR REPLACE INTO spool_runs VALUES (?, ?)", finished.items())

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(str(self._path), timeout=10)) as connection:
            connection.executescript(_TABLES)
            yield connection
