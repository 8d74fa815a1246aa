"""Who may do what with the runs of a SQLite store, inside transactions that the caller holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import attrs

from xtrack_protocol.errors import RunDeleted
from xtrack_protocol.storage.access import NOBODYS, RunAccess
from xtrack_protocol.storage.sqlite_schema import ACCESS_VERSION


def read(connection: sqlite3.Connection, run_id: str) -> RunAccess:
    """Return what holds for a run; of an older store that is only read, nothing is known."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < ACCESS_VERSION:
        return NOBODYS
    row = connection.execute("SELECT owner, public FROM access WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return NOBODYS
    grants = connection.execute("SELECT name, writes FROM access_grants WHERE run_id = ?", (run_id,)).fetchall()
    return RunAccess(
        owner=row[0],
        public=bool(row[1]),
        readers=[name for name, writes in grants if not writes],
        writers=[name for name, writes in grants if writes],
    )


def claim(connection: sqlite3.Connection, run_id: str, owner: str) -> RunAccess:
    """Make ``owner`` the owner of a run without owner and streams. Raises RunDeleted. spec: SEC-4.1"""

    def claimed(known: RunAccess) -> RunAccess:
        is_free = known.owner is None and not _has_streams(connection, run_id)
        return attrs.evolve(known, owner=owner) if is_free else known

    return change(connection, run_id, claimed)


def change(connection: sqlite3.Connection, run_id: str, changed: Callable[[RunAccess], RunAccess]) -> RunAccess:
    """Replace what holds for a run. Raises RunDeleted. spec: FLD-9"""
    if connection.execute("SELECT 1 FROM tombstones WHERE run_id = ?", (run_id,)).fetchone() is not None:
        raise RunDeleted(run_id)
    known = read(connection, run_id)
    access = changed(known)
    if access != known:
        forget(connection, run_id)
        if access != NOBODYS:
            _insert(connection, run_id, access)
    return access


def forget(connection: sqlite3.Connection, run_id: str) -> None:
    """Know nothing of a run any more."""
    connection.execute("DELETE FROM access_grants WHERE run_id = ?", (run_id,))
    connection.execute("DELETE FROM access WHERE run_id = ?", (run_id,))


def _insert(connection: sqlite3.Connection, run_id: str, access: RunAccess) -> None:
    row = (run_id, access.owner, int(access.public))
    connection.execute("INSERT INTO access (run_id, owner, public) VALUES (?, ?, ?)", row)
    grants = [(run_id, name, int(name in access.writers)) for name in sorted(access.readers | access.writers)]
    connection.executemany("INSERT INTO access_grants (run_id, name, writes) VALUES (?, ?, ?)", grants)


def _has_streams(connection: sqlite3.Connection, run_id: str) -> bool:
    found = connection.execute("SELECT 1 FROM streams JOIN runs USING (run_key) WHERE run_id = ? LIMIT 1", (run_id,))
    return found.fetchone() is not None
