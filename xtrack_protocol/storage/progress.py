"""How far the local index has read the spools: which segments, up to which byte, and which folders are over.

Kept in the index's own file, so that an index that is thrown away takes its progress along. It is written after the
events it stands for are committed: a crash between the two makes the next reader read a little twice, and the store
knows duplicates. Only who holds the index's lock reads or writes it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from xtrack_protocol.storage.sqlite_connections import BUSY_SECONDS, store_error

_TABLES = """
CREATE TABLE IF NOT EXISTS spool_parts (
    folder TEXT NOT NULL, name TEXT NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL, salt TEXT NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spool_folders (
    folder TEXT PRIMARY KEY, changed_ns INTEGER NOT NULL, seen_ns INTEGER NOT NULL, sealed INTEGER NOT NULL,
    sizes INTEGER NOT NULL
) WITHOUT ROWID;
"""


@attrs.frozen
class Part:
    """How far a segment was read: everything before ``offset`` is in the index. ``size``: how large it was then.

    ``salt``: the segment's own; a file that has taken the place of another is read anew.
    """

    offset: int
    size: int
    salt: str


@attrs.frozen
class Rest:
    """A folder whose streams were all over when it was read.

    ``changed_ns``: its time of change then, in nanoseconds. ``seen_ns``: when that was first seen so, by our clock.
    ``sealed``: as long as the time of change stays the same, nothing can have come; but for what was appended to a
    segment, where ``sizes`` says that this can't be excluded.
    """

    changed_ns: int
    seen_ns: int
    sealed: bool
    sizes: bool


class Progress:
    """Progress in memory, for an index in memory."""

    def __init__(self) -> None:
        self._rests: dict[str, Rest] = {}
        self._parts: dict[str, dict[str, Part]] = {}

    @contextmanager
    def opened(self) -> Iterator[Progress]:
        """Make ready for the calls below."""
        yield self

    def rests(self) -> dict[str, Rest]:
        """Return the folders that were over when they were read."""
        return dict(self._rests)

    def folders(self) -> set[str]:
        """Return the names of all folders that something was read of."""
        return {*self._rests, *self._parts}

    def parts(self, folder: str) -> dict[str, Part]:
        """Return how far the segments in a folder have been read, by their names."""
        return dict(self._parts.get(folder, {}))

    def save(self, parts: Mapping[tuple[str, str], Part], rests: Mapping[str, Rest]) -> None:
        """Note how far segments, by folder and name, have been read, and which folders are over."""
        for (folder, name), part in parts.items():
            self._parts.setdefault(folder, {})[name] = part
        self._rests.update(rests)


class ProgressFile(Progress):
    """Progress in the SQLite file at ``path``, which the store has made already. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def opened(self) -> Iterator[Progress]:
        with self._translated(), closing(sqlite3.connect(str(self._path), timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")  # what is lost with the power is read once more
            connection.executescript(_TABLES)
            self._connection = connection
            try:
                yield self
            finally:
                self._connection = None

    def rests(self) -> dict[str, Rest]:
        rows = self._execute("SELECT folder, changed_ns, seen_ns, sealed, sizes FROM spool_folders")
        return {folder: Rest(changed, seen, bool(sealed), bool(sizes)) for folder, changed, seen, sealed, sizes in rows}

    def folders(self) -> set[str]:
        return {
            name for (name,) in self._execute("SELECT folder FROM spool_folders UNION SELECT folder FROM spool_parts")
        }

    def parts(self, folder: str) -> dict[str, Part]:
        rows = self._execute("SELECT name, offset, size, salt FROM spool_parts WHERE folder = ?", (folder,))
        return {name: Part(offset, size, salt) for name, offset, size, salt in rows}

    def save(self, parts: Mapping[tuple[str, str], Part], rests: Mapping[str, Rest]) -> None:
        if not parts and not rests:
            return
        assert self._connection is not None
        with self._translated(), self._connection as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO spool_parts VALUES (?, ?, ?, ?, ?)",
                [(folder, name, part.offset, part.size, part.salt) for (folder, name), part in parts.items()],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO spool_folders VALUES (?, ?, ?, ?, ?)",
                [(name, rest.changed_ns, rest.seen_ns, rest.sealed, rest.sizes) for name, rest in rests.items()],
            )

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        assert self._connection is not None
        with self._translated():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise store_error(error, str(self._path), BUSY_SECONDS) from error


def clear_tables(path: Path) -> None:
    """Empty all tables of the index at ``path`` but the record of its schema. Raises StorageError.

    Where other processes have it open too, to delete the file would leave them with one that nobody else sees. Keys
    are never used again, so that what they remember of the rows before means none of the new ones.
    """
    try:
        with closing(sqlite3.connect(str(path), timeout=BUSY_SECONDS)) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                if name == "migrations" or name.startswith("sqlite_"):
                    continue
                connection.execute(f'DELETE FROM "{name}"')  # noqa: S608 - the names are the schema's
    except sqlite3.Error as error:
        raise store_error(error, str(path), BUSY_SECONDS) from error
