"""Runs as a Parquet file: a row a point of a metric, exact, and what else is known of the runs in its metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from xtrack_protocol.decode.text import free_as_json, iso_utc, number_as_json
from xtrack_protocol.ir import MetricContext
from xtrack_protocol.runs import RunState, SeriesPoint
from xtrack_protocol.storage import Storage
from xtrack_protocol.views.frames import needed

if TYPE_CHECKING:
    from pathlib import Path

POINTS_SCHEMA: Final[Mapping[str, str]] = {
    "run_id": "string",
    "key": "string",
    "worker": "string",
    "session": "string",
    "seq": "int64",
    "step": "int64",
    "epoch": "int64",
    "timestamp": "timestamp[us, UTC]",
    "value": "double",
    "integer": "int64",
    "phase": "string",
    "batch_size": "int64",
    "dataset_size": "int64",
    "agg": "string",
}
"""The columns of the file, and their types. ``worker`` is empty in a run of one. ``value``: the nearest double;
``integer``: the value itself where it was logged as an integer. ``step``, ``epoch``, ``integer`` and the last four may
be null."""

RUNS: Final = "xtrack.runs"
"""The name in the file's metadata of the runs, an array of JSON objects as ``run_json`` returns them."""

ROWS: Final = 1 << 15
"""Rows in a row group, about. So many points are in memory at once, and not those of the whole file."""

_MAY_BE_NULL: Final = frozenset({"step", "epoch", "integer", "phase", "batch_size", "dataset_size", "agg"})

_NO_CONTEXT: Final = MetricContext()

_Piece = tuple[str, str, list[SeriesPoint]]
"""A run's id, a metric's name, and successive points of it."""


def write_parquet(store: Storage, run_ids: Sequence[str], path: Path) -> int:
    """Write all points of the runs' metrics to ``path``, without those rewound over; return how many.

    Runs come in the order given, metrics sorted by name, the points of each by step. A metric whose points have no
    steps is in memory as a whole while it is written. Raises RunNotFound, StorageError, OSError, and
    ConfigurationError without pyarrow.
    """
    pa, pq = needed("pyarrow", "arrow"), needed("pyarrow.parquet", "arrow")
    states = [store.get_run(run_id) for run_id in run_ids]
    types = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64()}
    fields = [
        pa.field(name, types.get(kind, pa.timestamp("us", "UTC")), nullable=name in _MAY_BE_NULL)
        for name, kind in POINTS_SCHEMA.items()
    ]
    schema = pa.schema(fields, {RUNS: msgspec.json.encode([run_json(state) for state in states])})
    texts = [name for name, kind in POINTS_SCHEMA.items() if kind == "string"]
    count = 0
    with pq.ParquetWriter(path, schema, use_dictionary=texts) as writer:
        for group in _groups(store, states):
            table = pa.table(_columns(group), schema=schema)
            writer.write_table(table)
            count += len(table)
    return count


def _groups(store: Storage, states: Sequence[RunState]) -> Iterator[list[_Piece]]:
    """Yield pieces that have about ROWS points together."""
    group: list[_Piece] = []
    size = 0
    for state in states:
        for key, metric in sorted(state.metrics.items()):
            for points in _pieces(store, state.run_id, key, metric.count):
                group.append((state.run_id, key, points))
                size += len(points)
                if size >= ROWS:
                    yield group
                    group, size = [], 0
    if group:
        yield group


def _pieces(store: Storage, run_id: str, key: str, count: int) -> Iterator[list[SeriesPoint]]:
    """Yield the points of a series, a few of many at a time."""
    edges: list[int | None] = [None, None]
    if count > ROWS:
        # The few stand about as far from one another as so many do that show all of the series.
        few = store.downsample(run_id, key, 2 * -(-count // ROWS) + 2)
        if len(few.steps) == len(few):  # points without a step can't be asked for a part at a time
            edges[1:] = sorted({*few.steps})  # of which the last one is the series' last
    for low, high in pairwise(edges):
        after = None if low is None else low + 1
        points = store.get_metrics(run_id, key, min_step=after, max_step=high)
        if points:
            yield points


def _columns(group: Sequence[_Piece]) -> dict[str, list[Any]]:
    points = [point for _, _, points in group for point in points]
    contexts = [point.context or _NO_CONTEXT for point in points]
    return {
        "run_id": [run_id for run_id, _, own in group for _ in own],
        "key": [key for _, key, own in group for _ in own],
        "worker": [point.worker_id for point in points],
        "session": [point.session_id for point in points],
        "seq": [point.seq for point in points],
        "step": [point.step for point in points],
        "epoch": [point.epoch for point in points],
        "timestamp": [point.timestamp_us for point in points],
        "value": [float(point.value) for point in points],
        "integer": [point.value if isinstance(point.value, int) else None for point in points],
        "phase": [context.phase for context in contexts],
        "batch_size": [context.batch_size for context in contexts],
        "dataset_size": [context.dataset_size for context in contexts],
        "agg": [context.agg for context in contexts],
    }


def run_json(state: RunState) -> dict[str, Any]:
    """Return what a file tells of a run besides its points, as JSON."""
    error = state.error
    return {
        "run_id": state.run_id,
        "name": state.name,
        "status": state.status,
        "experiment": state.experiment_id,
        "parent": state.parent_run_id,
        "note": state.note,
        "started_at": None if state.started_at_us is None else iso_utc(state.started_at_us),
        "ended_at": None if state.ended_at_us is None else iso_utc(state.ended_at_us),
        "duration_ms": state.duration_ms,
        "error": None if error is None else {"type": error.type, "message": error.message},
        "workers": list(state.workers),
        "tags": dict(state.tags),
        "params": {key: free_as_json(value) for key, value in state.params.items()},
        "summary": {key: number_as_json(value) for key, value in state.summary.items()},
    }
