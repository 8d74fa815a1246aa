"""Questions to the tables of a SQLite store, inside a read transaction that the caller holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from xtrack_protocol.errors import ExperimentNotFound
from xtrack_protocol.storage.answers import experiment_names, pick_run
from xtrack_protocol.storage.base import Experiment, RunQuery

_STARTED: Final = "coalesce(started_at_us, updated_at_us, created_at_us)"
_ORDERS: Final[dict[str, str]] = {
    "started": _STARTED,
    "updated": "coalesce(updated_at_us, created_at_us)",
    "name": "coalesce(name, '')",
    "status": "status",
}

RunRow = tuple[int, str, int]
"""A run's key, id and version."""


# ------------------------------------------------------------------------------------------ runs


def search_rows(connection: sqlite3.Connection, query: RunQuery) -> list[RunRow]:
    """Return the rows of the runs that match, in the order asked for."""
    conditions: list[str] = []
    values: list[Any] = []

    def where(condition: str, *given: Any) -> None:
        conditions.append(condition)
        values.extend(given)

    if query.status:
        where(f"status IN ({_marks(query.status)})", *query.status)
    if query.experiment is not None:
        names = experiment_names(find_experiment(connection, query.experiment), query.experiment)
        where(f"experiment_id IN ({_marks(names)})", *names)
    if query.parent is not None:
        where("parent_run_id = ?", query.parent)
    if query.name is not None:
        is_pattern = "*" in query.name or "?" in query.name
        where("name_matches(?, name)" if is_pattern else "name = ?", query.name)
    if query.started_after_us is not None:
        where("started_at_us >= ?", query.started_after_us)
    if query.started_before_us is not None:
        where("started_at_us < ?", query.started_before_us)
    for key, value in query.tags.items():
        where("run_key IN (SELECT run_key FROM run_tags WHERE key = ? AND value = ?)", key, value)
    direction = "DESC" if query.order.startswith("-") else "ASC"
    text = (
        "SELECT run_key, run_id, version FROM runs"  # noqa: S608 - all parts are constants of this module
        + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
        + f" ORDER BY {_ORDERS[query.order.lstrip('-')]} {direction}, run_id {direction} LIMIT ? OFFSET ?"
    )
    limit = -1 if query.limit is None else query.limit
    return connection.execute(text, (*values, limit, query.offset)).fetchall()


def _marks(items: Any) -> str:
    return ", ".join("?" * len(items))


def find_run(connection: sqlite3.Connection, ref: str) -> str:
    """Return the id of the run that ``ref`` means. Raises RunNotFound or AmbiguousRun."""

    def newest(condition: str, *values: Any) -> str | None:
        row = connection.execute(
            f"SELECT run_id FROM runs {condition} ORDER BY {_STARTED} DESC, run_id DESC LIMIT 1",  # noqa: S608
            values,
        ).fetchone()
        return None if row is None else str(row[0])

    def starting_with(prefix: str) -> list[str]:
        # The ids that begin with it stand together in the index; SQLite's LIKE and GLOB would read its characters.
        rows = connection.execute("SELECT run_id FROM runs WHERE run_id >= ? ORDER BY run_id", (prefix,))
        found = []
        for (run_id,) in rows:
            if not run_id.startswith(prefix):
                break
            found.append(run_id)
        return found

    return pick_run(
        ref,
        exists=lambda run_id: newest("WHERE run_id = ?", run_id) is not None,
        newest_named=lambda name: newest("WHERE name = ?", name),
        newest=lambda: newest(""),
        starting_with=starting_with,
    )


def metric_keys(connection: sqlite3.Connection, run_key: int) -> list[str]:
    """Return the names of a run's metrics, sorted."""
    rows = connection.execute("SELECT name FROM series WHERE run_key = ? ORDER BY name", (run_key,))
    return [name for (name,) in rows]


# ------------------------------------------------------------------------------------------ experiments

_encode_tags = msgspec.json.Encoder(order="sorted").encode
_decode_tags = msgspec.json.Decoder(dict[str, str]).decode


def tags_text(tags: Mapping[str, str]) -> str:
    """Return an experiment's tags as they are stored."""
    return _encode_tags(dict(tags)).decode()


def insert_experiment(connection: sqlite3.Connection, made: Experiment) -> None:
    """Make an experiment, whose id and name are free."""
    connection.execute(
        "INSERT INTO experiments (experiment_id, name, created_at_us, tags) VALUES (?, ?, ?, ?)",
        (made.experiment_id, made.name, made.created_at_us, tags_text(made.tags)),
    )


def find_experiment(connection: sqlite3.Connection, name_or_id: str) -> Experiment | None:
    """Return an experiment by its id or its name."""
    row = connection.execute(
        "SELECT experiment_id, name, created_at_us, tags FROM experiments WHERE experiment_id = ? OR name = ?",
        (name_or_id, name_or_id),
    ).fetchone()
    return None if row is None else _experiment(row)


def get_experiment(connection: sqlite3.Connection, name_or_id: str) -> Experiment:
    """Return an experiment by its id or its name. Raises ExperimentNotFound."""
    found = find_experiment(connection, name_or_id)
    if found is None:
        raise ExperimentNotFound(name_or_id)
    return found


def list_experiments(connection: sqlite3.Connection) -> list[Experiment]:
    """Return all experiments, sorted by name."""
    rows = connection.execute("SELECT experiment_id, name, created_at_us, tags FROM experiments ORDER BY name")
    return [_experiment(row) for row in rows]


def runs_of_experiment(connection: sqlite3.Connection, experiment: Experiment) -> list[RunRow]:
    """Return the rows of the runs that belong to an experiment."""
    return connection.execute(
        "SELECT run_key, run_id, version FROM runs WHERE experiment_id IN (?, ?) ORDER BY run_id",
        (experiment.experiment_id, experiment.name),
    ).fetchall()


def _experiment(row: tuple[str, str, int, str]) -> Experiment:
    return Experiment(row[0], row[1], row[2], _decode_tags(row[3]))
