"""Runs and series as tables of pandas and pyarrow: of many points only buffers are handed over, no object a point."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import chain
from typing import Any, Final, Literal, TypeAlias

from xtrack_protocol.decode.text import free_as_json, json_line
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.limits import INT64_MAX, INT64_MIN
from xtrack_protocol.runs import RunState, Series
from xtrack_protocol.storage import Storage

_Kind: TypeAlias = Literal["int", "bool", "float", "text", "time", "duration", "other"]

_Keyed: TypeAlias = "tuple[str, str, Series]"
"""A metric's name, a worker id, and their points."""


def needed(module: str, extra: str) -> Any:
    """Import a module that isn't a dependency. Raises ConfigurationError, which says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        cure = f"pip install 'xtrack-protocol[{extra}]'"
        raise ConfigurationError(
            "views", module, f"is needed for this, and can't be imported ({error})", cure
        ) from error


# ------------------------------------------------------------------------------------------ points


def _all_series(store: Storage, state: RunState, worker: str | None) -> Iterator[_Keyed]:
    """Yield the series of each metric and worker that have points, sorted by both."""
    workers = state.workers if worker is None else (worker,)
    for key in sorted(state.metrics):
        for one in workers:
            series = store.get_series(state.run_id, key, worker_id=one)
            if len(series):
                yield key, one, series


def series_to_arrow(parts: Sequence[Series]) -> Any:
    """Return ``step``, ``timestamp`` and ``value`` of the points of all ``parts``, one after the other."""
    pa = needed("pyarrow", "arrow")

    def column(kind: Any, numbers: array[int] | array[float]) -> Any:
        return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])

    def steps(series: Series) -> Iterator[Any]:
        yield column(pa.int64(), series.steps)
        if len(series.steps) < len(series):
            yield pa.nulls(len(series) - len(series.steps), pa.int64())

    moment = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "step": pa.chunked_array([*chain.from_iterable(map(steps, parts))], pa.int64()),
            "timestamp": pa.chunked_array([column(moment, part.timestamps_us) for part in parts], moment),
            "value": pa.chunked_array([column(pa.float64(), part.values) for part in parts], pa.float64()),
        }
    )


def series_to_pandas(parts: Sequence[Series]) -> Any:
    """Return ``step``, ``timestamp`` and ``value`` of the points of all ``parts``, one after the other."""
    pd, np = needed("pandas", "pandas"), needed("numpy", "pandas")
    count = sum(map(len, parts))
    steps, timestamps = np.zeros(count, "int64"), np.empty(count, "int64")
    values, no_step = np.empty(count, "float64"), np.ones(count, "bool")
    start = 0
    for part in parts:
        end, stepped = start + len(part), start + len(part.steps)
        steps[start:stepped] = np.frombuffer(part.steps, "int64") if part.steps else 0
        no_step[start:stepped] = False
        timestamps[start:end] = np.frombuffer(part.timestamps_us, "int64") if len(part) else 0
        values[start:end] = np.frombuffer(part.values, "float64") if len(part) else 0
        start = end
    return pd.DataFrame(
        {
            "step": pd.arrays.IntegerArray(steps, no_step),
            "timestamp": pd.Series(timestamps.view("datetime64[us]")).dt.tz_localize("UTC"),
            "value": values,
        }
    )


def points_to_arrow(store: Storage, state: RunState, worker: str | None) -> Any:
    """Return ``key``, ``worker``, ``step``, ``timestamp`` and ``value`` of all points of a run."""
    pa = needed("pyarrow", "arrow")
    parts = [*_all_series(store, state, worker)]
    made = series_to_arrow([series for _, _, series in parts])
    for place in (1, 0):
        texts = [pa.repeat(pa.scalar(part[place], pa.string()), len(part[2])) for part in parts]
        made = made.add_column(0, ("key", "worker")[place], pa.chunked_array(texts, pa.string()))
    return made


def points_to_pandas(store: Storage, state: RunState, worker: str | None) -> Any:
    """Return ``key``, ``worker``, ``step``, ``timestamp`` and ``value`` of all points of a run."""
    np = needed("numpy", "pandas")
    parts = [*_all_series(store, state, worker)]
    made = series_to_pandas([series for _, _, series in parts])
    counts = [len(series) for _, _, series in parts]
    for place in (1, 0):
        texts = np.array([part[place] for part in parts], dtype=object)
        made.insert(0, ("key", "worker")[place], np.repeat(texts, counts))
    return made


def wide_to_pandas(store: Storage, state: RunState, worker: str | None) -> Any:
    """Return a row a step and a column a metric; of several workers the mean."""
    pd, np = needed("pandas", "pandas"), needed("numpy", "pandas")
    columns = {}
    for key in sorted(state.metrics):
        if worker is None and len(state.workers) > 1:
            lines = store.get_metric_aggregate(state.run_id, key)
            steps = np.array([line.step for line in lines], "int64")
            values = np.array([np.nan if line.mean is None else line.mean for line in lines], "float64")
        else:
            series = store.get_series(state.run_id, key, worker_id=worker)
            steps = np.array(series.steps, "int64")
            values = np.array(series.values[: len(steps)], "float64")
        column = pd.Series(values, index=steps, name=key)
        columns[key] = column[~column.index.duplicated(keep="last")]
    made = pd.DataFrame(columns) if columns else pd.DataFrame(index=pd.Index([], dtype="int64"))
    return made.sort_index().rename_axis(index="step")


# ------------------------------------------------------------------------------------------ runs


_FACTS: Final[Mapping[str, tuple[_Kind, Callable[[RunState], Any]]]] = {
    "run_id": ("text", lambda state: state.run_id),
    "name": ("text", lambda state: state.name),
    "status": ("text", lambda state: state.status),
    "experiment": ("text", lambda state: state.experiment_id),
    "parent": ("text", lambda state: state.parent_run_id),
    "started": ("time", lambda state: state.started_at_us),
    "ended": ("time", lambda state: state.ended_at_us),
    "duration": ("duration", lambda state: state.duration_ms),
}


def _columns(states: Sequence[RunState]) -> Iterator[tuple[str, _Kind, list[Any]]]:
    """Yield the name, kind and values of each column of a table of runs; None where a run hasn't any."""
    for name, (kind, get) in _FACTS.items():
        yield name, kind, [get(state) for state in states]
    for prefix, named in (
        ("params", [state.params for state in states]),
        ("tags", [state.tags for state in states]),
        ("summary", [state.summary for state in states]),
        ("metrics", [_metric_values(state) for state in states]),
    ):
        for key in sorted({key for values in named for key in values}):
            column = [values.get(key) for values in named]
            yield f"{prefix}.{key}", _kind_of(column), column


def _metric_values(state: RunState) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, metric in state.metrics.items():
        found |= {f"{key}.last": metric.last.value, f"{key}.min": metric.min, f"{key}.max": metric.max}
    return found


def _kind_of(values: Sequence[Any]) -> _Kind:
    """Return of which kind all of ``values`` are that aren't None."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {int, float} and kinds:
        if float in kinds:
            return "float" if not any(type(one) is int and abs(one) > 2**53 for one in values) else "other"
        is_small = all(one is None or INT64_MIN <= one <= INT64_MAX for one in values)
        return "int" if is_small else "other"
    return "bool" if kinds == {bool} else "text" if kinds == {str} else "other"


_PANDAS: Final[Mapping[_Kind, str]] = {"int": "Int64", "bool": "boolean", "float": "float64", "other": "object"}


def runs_to_pandas(states: Sequence[RunState]) -> Any:
    """Return a row a run."""
    pd, np = needed("pandas", "pandas"), needed("numpy", "pandas")
    made = {}
    for name, kind, values in _columns(states):
        if kind == "time":
            moments = np.array([np.datetime64("NaT") if one is None else one for one in values], "datetime64[us]")
            made[name] = pd.Series(moments).dt.tz_localize("UTC")
        elif kind == "duration":
            spans = [np.timedelta64("NaT") if one is None else one for one in values]
            made[name] = pd.Series(np.array(spans, "timedelta64[ms]"))
        else:
            made[name] = pd.Series(values, dtype=_PANDAS.get(kind))
    return pd.DataFrame(made)


def runs_to_arrow(states: Sequence[RunState]) -> Any:
    """Return a row a run."""
    pa = needed("pyarrow", "arrow")
    types = {
        "int": pa.int64(),
        "bool": pa.bool_(),
        "float": pa.float64(),
        "text": pa.string(),
        "time": pa.timestamp("us", "UTC"),
        "duration": pa.duration("ms"),
        "other": pa.string(),
    }
    made = {}
    for name, kind, values in _columns(states):
        cells = values
        if kind == "other":
            cells = [None if one is None else json_line(free_as_json(one)) for one in values]
        made[name] = pa.array(cells, types[kind])
    return pa.table(made)
