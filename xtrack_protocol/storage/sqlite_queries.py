"""Questions to the tables of a SQLite store, inside a read transaction that the caller holds."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import attrs
import msgspec

from xtrack_protocol.errors import ExperimentNotFound
from xtrack_protocol.ir import Envelope
from xtrack_protocol.runs import Aggregate, SeriesPoint, aggregate
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.answers import experiment_names, in_series_order, pick_run
from xtrack_protocol.storage.base import Experiment, RunQuery, StoredEvent
from xtrack_protocol.storage.sqlite_append import KINDS, decode_context
from xtrack_protocol.storage.sqlite_runs import RunEntry, read_event

_STARTED: Final = "coalesce(started_at_us, updated_at_us, created_at_us)"
_ORDERS: Final[dict[str, str]] = {
    "started": _STARTED,
    "updated": "coalesce(updated_at_us, created_at_us)",
    "name": "coalesce(name, '')",
    "status": "status",
}

EVENTS_PAGE: Final = 1000
"""Events read at a time, so that a slow reader holds no transaction open."""

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


# ------------------------------------------------------------------------------------------ series


@attrs.frozen
class StreamView:
    """What reading a series needs to know of a stream."""

    stream: StreamId
    place: int
    rewind_to: int | None


def stream_views(entry: RunEntry) -> dict[int, StreamView]:
    """Return the streams of a run by key."""
    order, rewinds = entry.reducer.stream_order(), entry.reducer.rewinds
    return {
        key: StreamView(stream, order[stream], rewinds.get(stream.session_id))
        for stream, key in entry.streams.items()
        if stream in order
    }


@attrs.frozen(kw_only=True)
class SeriesQuery:
    """Which points of a series are asked for."""

    key: str
    min_step: int | None
    max_step: int | None
    worker_id: str | None
    limit: int | None
    include_hidden: bool


def series(
    connection: sqlite3.Connection, run_key: int, query: SeriesQuery, streams: Mapping[int, StreamView]
) -> list[SeriesPoint]:
    """Return the points of a series, in its order. spec: FLD-3"""
    names = (run_key, query.key)
    row = connection.execute("SELECT series_key FROM series WHERE run_key = ? AND name = ?", names).fetchone()
    if row is None or (query.limit is not None and query.limit <= 0):
        return []
    text = "SELECT no_step, step, stream_key, seq, value, epoch, timestamp_us, context FROM points WHERE series_key = ?"
    values: list[int] = [row[0]]
    if query.min_step is not None or query.max_step is not None:
        text += " AND no_step = 0"
    for bound, condition in ((query.min_step, " AND step >= ?"), (query.max_step, " AND step <= ?")):
        if bound is not None:
            text += condition
            values.append(bound)
    wanted = {
        key: view
        for key, view in streams.items()
        if query.worker_id is None or view.stream.worker_id == query.worker_id
    }
    if len(wanted) < len(streams):
        text += f" AND stream_key IN ({_marks(wanted)})"
        values.extend(wanted)
    rows = connection.execute(text + " ORDER BY no_step, step, stream_key, seq", values)
    points = _points(rows, wanted, include_hidden=query.include_hidden)
    ordered = in_series_order(points) if len(wanted) > 1 else (point for _, point in points)
    result = []
    for point in ordered:
        result.append(point)
        if len(result) == query.limit:
            break
    return result


def aggregates(
    connection: sqlite3.Connection,
    run_key: int,
    key: str,
    streams: Mapping[int, StreamView],
    *,
    min_step: int | None,
    max_step: int | None,
) -> list[Aggregate]:
    """Return a series over all workers, one value a step, without making its points. spec: FLD-3.7"""
    text = (
        "SELECT step, stream_key, value FROM points JOIN series USING (series_key) "
        "WHERE run_key = ? AND name = ? AND no_step = 0"
    )
    values: list[int | str] = [run_key, key]
    for bound, condition in ((min_step, " AND step >= ?"), (max_step, " AND step <= ?")):
        if bound is not None:
            text += condition
            values.append(bound)
    rows = connection.execute(text + " ORDER BY step, stream_key, seq", values)
    views = {key: (view.stream.worker_id, view.place, view.rewind_to) for key, view in streams.items()}
    result = []
    for step, at_step in groupby(rows, key=itemgetter(0)):
        of_worker: dict[str, tuple[int, int | float]] = {}
        for _, stream_key, value in at_step:
            worker_id, place, rewind_to = views[stream_key]
            if rewind_to is not None and step > rewind_to:
                continue
            known = of_worker.get(worker_id)
            if known is None or place >= known[0]:
                of_worker[worker_id] = place, math.nan if value is None else value
        if of_worker:
            result.append(aggregate(step, [value for _, value in of_worker.values()]))
    return result


def _points(
    rows: sqlite3.Cursor, streams: Mapping[int, StreamView], *, include_hidden: bool
) -> Iterator[tuple[int, SeriesPoint]]:
    names = {
        key: (view.stream.worker_id, view.stream.session_id, view.place, view.rewind_to)
        for key, view in streams.items()
    }
    for no_step, step, stream_key, seq, value, epoch, timestamp_us, context in rows:
        worker_id, session_id, place, rewind_to = names[stream_key]
        hidden = rewind_to is not None and not no_step and step > rewind_to
        if hidden and not include_hidden:
            continue
        yield (
            place,
            SeriesPoint(
                float("nan") if value is None else value,
                None if no_step else step,
                epoch,
                timestamp_us,
                worker_id,
                session_id,
                seq,
                decode_context(context),
                hidden,
            ),
        )


def metric_keys(connection: sqlite3.Connection, run_key: int) -> list[str]:
    """Return the names of a run's metrics, sorted."""
    rows = connection.execute("SELECT name FROM series WHERE run_key = ? ORDER BY name", (run_key,))
    return [name for (name,) in rows]


# ------------------------------------------------------------------------------------------ events


def told(connection: sqlite3.Connection, path: str, entry: RunEntry, payload: type) -> list[tuple[StreamId, Envelope]]:
    """Return a run's events of one payload type, with their streams."""
    streams = {key: stream for stream, key in entry.streams.items()}
    rows = connection.execute(
        "SELECT position, stream_key, packed, raw FROM events WHERE run_key = ? AND kind = ?",
        (entry.run_key, KINDS[payload]),
    )
    return [
        (streams[stream_key], read_event(path, position, packed, data)[1])
        for position, stream_key, packed, data in rows
    ]


_EVENT_COLUMNS: Final = "run_id, worker_id, session_id, seq, received_at_us, packed, raw, end_seq"


def events_page(
    connection: sqlite3.Connection, path: str, run_key: int | None, after: int, limit: int
) -> list[StoredEvent]:
    """Return the next events after a position."""
    run = "" if run_key is None else "events.run_key = :run AND "
    rows = connection.execute(
        f"SELECT position, {_EVENT_COLUMNS} FROM events JOIN streams USING (stream_key)"  # noqa: S608
        f" JOIN runs ON runs.run_key = events.run_key WHERE {run}position > :after ORDER BY position LIMIT :limit",
        {"after": after, "limit": limit, "run": run_key},
    )
    return [_stored_event(path, row) for row in rows]


def conflicts(connection: sqlite3.Connection, path: str, run_key: int) -> list[StoredEvent]:
    """Return the events that came under a seq already taken. spec: STR-5"""
    rows = connection.execute(
        "SELECT (SELECT position FROM events WHERE events.stream_key = conflicts.stream_key"  # noqa: S608
        f" AND events.seq = conflicts.seq), {_EVENT_COLUMNS} FROM conflicts JOIN streams USING (stream_key)"
        " JOIN runs ON runs.run_key = conflicts.run_key WHERE conflicts.run_key = ? ORDER BY conflict_key",
        (run_key,),
    )
    return [_stored_event(path, row) for row in rows]


def _stored_event(path: str, row: tuple[Any, ...]) -> StoredEvent:
    position, run_id, worker_id, session_id, seq, received_at_us, packed, data, end_seq = row
    raw, envelope = read_event(path, position, packed, data)
    late = end_seq is not None and seq > end_seq
    return StoredEvent(position, StreamId(run_id, worker_id, session_id), envelope, raw, received_at_us, late)


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
