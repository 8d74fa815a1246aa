"""The tables of a SQLite store, and how older ones become newer ones.

Originals are the truth: ``events`` holds each payload as it came, and ``blocks`` many metric events of a stream at
once, in columns from which each payload is made again byte for byte. ``streams``, ``skips`` and ``losses`` hold what
else goes into the fold. All other tables are derived from these and can be made again: ``series`` and ``block_series``
so that a series is read without looking at other blocks, ``snapshots`` so that a run's state doesn't take all of its
events, the columns of ``runs`` and ``run_tags`` so that runs can be searched.

A metric event is a row of ``events`` as long as there are few: these rows, and blocks of events as they came
(``packed`` 1), are the *tail* of their run.

Foreign keys are declared for ``check``, and not enforced at every insert.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.errors import NotAStore, StorageError, StoreReadOnly, StoreVersionError
from xtrack_protocol.storage.sqlite_rows import has_points

APPLICATION_ID: Final = 0x58547263
"""``XTrc``, in the header of each of our files: tells them from other SQLite databases."""


@attrs.frozen
class Migration:
    """One step of the schema: SQL statements that make version ``version`` out of the one before.

    ``additive``: who only reads can do without it, so that an older file need not be written to be read.
    """

    version: int
    statements: tuple[str, ...]
    additive: bool = False


_VERSION_1: Final = (
    """
    CREATE TABLE migrations (
        version INTEGER PRIMARY KEY, applied_at_us INTEGER NOT NULL
    )""",
    # AUTOINCREMENT: a key is never used again, so that what a process remembers of a deleted run means no other one.
    # version counts the changes of a run: what a process remembers is valid as long as it is the same.
    """
    CREATE TABLE runs (
        run_key INTEGER PRIMARY KEY AUTOINCREMENT,
        run_id TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL DEFAULT 0,
        created_at_us INTEGER NOT NULL,
        expected_name TEXT,
        expected_experiment TEXT,
        status TEXT NOT NULL DEFAULT 'pending',
        name TEXT,
        experiment_id TEXT,
        parent_run_id TEXT,
        started_at_us INTEGER,
        updated_at_us INTEGER
    )""",
    "CREATE INDEX runs_by_start ON runs (coalesce(started_at_us, updated_at_us, created_at_us), run_id)",
    "CREATE INDEX runs_by_name ON runs (name)",
    "CREATE INDEX runs_by_experiment ON runs (experiment_id)",
    """
    CREATE TABLE run_tags (
        run_key INTEGER NOT NULL REFERENCES runs, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run_key, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX run_tags_by_value ON run_tags (key, value)",
    # Apart from runs: a row is written as a whole, and that of a run with every batch.
    """
    CREATE TABLE snapshots (
        run_key INTEGER PRIMARY KEY REFERENCES runs,
        position INTEGER NOT NULL,
        format INTEGER NOT NULL,
        data BLOB NOT NULL
    )""",
    """
    CREATE TABLE streams (
        stream_key INTEGER PRIMARY KEY AUTOINCREMENT,
        run_key INTEGER NOT NULL REFERENCES runs,
        worker_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        end_seq INTEGER,
        UNIQUE (run_key, worker_id, session_id)
    )""",
    # kind is NULL but for events that are asked for by kind, and packed is 1 where raw is compressed with zlib.
    """
    CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        run_key INTEGER NOT NULL REFERENCES runs,
        stream_key INTEGER NOT NULL REFERENCES streams,
        seq INTEGER NOT NULL,
        kind INTEGER,
        received_at_us INTEGER NOT NULL,
        packed INTEGER NOT NULL,
        raw BLOB NOT NULL,
        UNIQUE (stream_key, seq)
    )""",
    "CREATE INDEX events_by_run ON events (run_key)",
    "CREATE INDEX events_by_kind ON events (run_key, kind) WHERE kind IS NOT NULL",
    """
    CREATE TABLE conflicts (
        conflict_key INTEGER PRIMARY KEY,
        run_key INTEGER NOT NULL REFERENCES runs,
        stream_key INTEGER NOT NULL REFERENCES streams,
        seq INTEGER NOT NULL,
        digest BLOB NOT NULL,
        received_at_us INTEGER NOT NULL,
        packed INTEGER NOT NULL,
        raw BLOB NOT NULL,
        UNIQUE (stream_key, seq, digest)
    )""",
    "CREATE INDEX conflicts_by_run ON conflicts (run_key)",
    """
    CREATE TABLE skips (
        stream_key INTEGER NOT NULL REFERENCES streams,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        received_at_us INTEGER NOT NULL,
        raw BLOB NOT NULL,
        PRIMARY KEY (stream_key, first, last)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE losses (
        stream_key INTEGER NOT NULL REFERENCES streams,
        reason TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        after_seq INTEGER NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (stream_key, reason, at_us, after_seq, detail)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE series (
        series_key INTEGER PRIMARY KEY AUTOINCREMENT,
        run_key INTEGER NOT NULL REFERENCES runs,
        name TEXT NOT NULL,
        UNIQUE (run_key, name)
    )""",
    # In the order in which a series is read. A null step is no_step 1 and step 0, because keys hold no NULL. The value
    # has no type, so that SQLite keeps integers and floats as they are, -0.0 included; NaN it turns into NULL, and
    # nothing else of ours is NULL there.
    """
    CREATE TABLE points (
        series_key INTEGER NOT NULL REFERENCES series,
        no_step INTEGER NOT NULL,
        step INTEGER NOT NULL,
        stream_key INTEGER NOT NULL REFERENCES streams,
        seq INTEGER NOT NULL,
        value,
        epoch INTEGER,
        timestamp_us INTEGER NOT NULL,
        context TEXT,
        PRIMARY KEY (series_key, no_step, step, stream_key, seq)
    ) WITHOUT ROWID""",
    """
    CREATE TABLE experiments (
        experiment_id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created_at_us INTEGER NOT NULL,
        tags TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE tombstones (run_id TEXT PRIMARY KEY, deleted_at_us INTEGER NOT NULL) WITHOUT ROWID",
)

# By run id, and not by key: a claim stands before the first event makes the run.
_VERSION_2: Final = (
    "CREATE TABLE access (run_id TEXT PRIMARY KEY, owner TEXT, public INTEGER NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE access_grants (
        run_id TEXT NOT NULL REFERENCES access, name TEXT NOT NULL, writes INTEGER NOT NULL, PRIMARY KEY (run_id, name)
    ) WITHOUT ROWID""",
)

ACCESS_VERSION: Final = 2
"""The first version that knows owners."""

BLOCKS_VERSION: Final = 3
"""The first version that keeps metrics in blocks."""

# The rows of metric events become the tail of their run, whatever their number: who opens the store to write makes
# blocks of them. Keys of blocks are never used again: readers ask for those that are newer than what they have seen.
# chunk is the largest position of the blocks of a run that were made together: chunks of a run never overlap.
_VERSION_3: Final = (
    """
    CREATE TABLE blocks (
        block_key INTEGER PRIMARY KEY AUTOINCREMENT,
        run_key INTEGER NOT NULL REFERENCES runs,
        stream_key INTEGER NOT NULL REFERENCES streams,
        packed INTEGER NOT NULL,
        chunk INTEGER NOT NULL,
        first_position INTEGER NOT NULL,
        last_position INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        count INTEGER NOT NULL,
        data BLOB NOT NULL
    )""",
    "CREATE INDEX blocks_by_run ON blocks (run_key, chunk, first_position)",
    "CREATE INDEX blocks_by_first ON blocks (first_position)",
    "CREATE INDEX blocks_by_last ON blocks (last_position, first_position)",
    "CREATE INDEX blocks_by_seq ON blocks (stream_key, last_seq, first_seq)",
    "CREATE INDEX blocks_of_tails ON blocks (run_key) WHERE packed = 1",
    # The steps are NULL where the events of the block have none.
    """
    CREATE TABLE block_series (
        series_key INTEGER NOT NULL REFERENCES series,
        block_key INTEGER NOT NULL REFERENCES blocks,
        min_step INTEGER,
        max_step INTEGER,
        PRIMARY KEY (series_key, block_key)
    ) WITHOUT ROWID""",
    "ALTER TABLE runs ADD COLUMN tail INTEGER NOT NULL DEFAULT 0",
    "UPDATE events SET kind = 5 WHERE kind IS NULL AND (stream_key, seq) IN (SELECT stream_key, seq FROM points)",
    "UPDATE runs SET tail = (SELECT count(*) FROM points JOIN series USING (series_key) WHERE run_key = runs.run_key)",
    "DROP TABLE points",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, _VERSION_1),
    Migration(2, _VERSION_2, additive=True),
    Migration(3, _VERSION_3, additive=True),
)
"""All steps, in order. What was released is never changed."""


def found_version(connection: sqlite3.Connection, path: object) -> int:
    """Return the schema's version; 0 for an empty database. Raises NotAStore and StoreVersionError."""
    application_id = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application_id != APPLICATION_ID:
        objects = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application_id or version or objects:
            raise NotAStore(
                path, "is a SQLite database, but no store of XTrack. Give the path of a store, or of a new file"
            )
        return 0
    newest = MIGRATIONS[-1].version
    if version > newest:
        raise StoreVersionError(path, version, newest)
    return version


def migrate(connection: sqlite3.Connection, path: object, now_us: int) -> int:
    """Bring the schema to the newest version; return which it was. Each step and its record are one transaction. The
    caller's connection is in no transaction.
    """
    before = found_version(connection, path)
    for migration in MIGRATIONS:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if found_version(connection, path) < migration.version:  # another process may have been faster
                for statement in migration.statements:
                    connection.execute(statement)
                record = (migration.version, now_us)
                connection.execute("INSERT INTO migrations (version, applied_at_us) VALUES (?, ?)", record)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {migration.version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return before


def is_outdated(path: str) -> bool:
    """Whether the file at ``path`` is a store with an older schema. What can't be told is for who opens it to say."""
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return 0 < found_version(connection, path) < MIGRATIONS[-1].version
    except (sqlite3.Error, StorageError):
        return False


_READ_AS_BLOCKS: Final = (
    "PRAGMA temp_store = MEMORY",
    (
        "CREATE TEMP VIEW blocks AS SELECT 0 AS block_key, 0 AS run_key, 0 AS stream_key, 0 AS packed, 0 AS chunk,"
        " 0 AS first_position, 0 AS last_position, 0 AS first_seq, 0 AS last_seq, 0 AS count, x'' AS data WHERE 0"
    ),
    (
        "CREATE TEMP VIEW block_series AS"
        " SELECT 0 AS series_key, 0 AS block_key, NULL AS min_step, NULL AS max_step WHERE 0"
    ),
    (
        "CREATE TEMP VIEW runs AS SELECT *, (SELECT count(*) FROM main.points JOIN main.series USING (series_key)"
        " WHERE run_key = main.runs.run_key) AS tail FROM main.runs"
    ),
    (
        "CREATE TEMP VIEW events AS SELECT position, run_key, stream_key, seq, CASE WHEN kind IS NULL AND"
        " has_points(packed, raw) THEN 5 ELSE kind END AS kind, received_at_us, packed, raw FROM main.events"
    ),
)


def read_as_newest(connection: sqlite3.Connection) -> bool:
    """Make an older store look like a new one to a connection that may not change it, by views that go with it.

    All metrics are in tails then: slower to read. Return whether it is an older one. Its schema may be brought up to
    date by others at any time, which such a connection wouldn't see.
    """
    is_old = 0 < _pragma(connection, "user_version") < BLOCKS_VERSION
    if is_old:
        connection.create_function("has_points", 2, has_points, deterministic=True)
        for statement in _READ_AS_BLOCKS:
            connection.execute(statement)
    return is_old


def is_up_to_date(connection: sqlite3.Connection) -> bool:
    """Whether the file is of the schema that needs no views."""
    return _pragma(connection, "user_version") >= BLOCKS_VERSION


def require_readable(connection: sqlite3.Connection, path: object) -> None:
    """Raise where the schema, which may not be changed, is too old to be read. Raises as ``found_version`` does."""
    version = found_version(connection, path)
    if version == 0:
        raise NotAStore(path, "is empty")
    if any(step.version > version and not step.additive for step in MIGRATIONS):
        newest = MIGRATIONS[-1].version
        raise StoreReadOnly(
            path, f"has the older schema {version}; open it once for writing, which brings it to {newest}"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
