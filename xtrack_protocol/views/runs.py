"""Runs of a store, to look at in a notebook and to compute with: lists of runs, a run, a series.

What is read is what the store holds when it is asked: a run's state when its list is made, its points when they are
asked for.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from math import nan
from typing import TYPE_CHECKING, Any, get_args, overload

from typing_extensions import Self

from xtrack_protocol.decode.text import escape
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.runs import MetricSummary, RunState, RunStatus, Series
from xtrack_protocol.settings import load_settings
from xtrack_protocol.storage import Order, RunQuery, Storage, open_store
from xtrack_protocol.storage.open import default_store_url

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from xtrack_protocol.views.curves import Curve


def open_runs(
    store: str | Storage | None = None,
    *,
    status: RunStatus | Sequence[RunStatus] = (),
    experiment: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    limit: int | None = None,
    order: Order = "-started",
) -> Runs:
    """Return the runs of a store that match, the newest first, to read them only.

    ``store``: its URL (``local:``, ``sqlite:///runs.db``), or a store that is open and stays so; default XTRACK_STORE,
    else the spools under XTRACK_DIR. ``name``: with ``*`` and ``?`` a pattern. ``tags`` must all match. Times: from
    ``started_after`` on, up to and without ``started_before``; without a time zone they are this machine's.
    Raises ConfigurationError for a status or an order that there isn't and a time that is none, and like StorageError
    for a store that can't be opened.
    """
    statuses = (status,) if isinstance(status, str) else tuple(status)
    for setting, value, known in (*(("status", one, RunStatus) for one in statuses), ("order", order, Order)):
        if value not in get_args(known):
            raise ConfigurationError(setting, value, f"must be one of {', '.join(get_args(known))}")
    query = RunQuery(
        status=statuses,
        experiment=experiment,
        name=name,
        tags=tags or {},
        parent=parent,
        started_after_us=_microseconds("started_after", started_after),
        started_before_us=_microseconds("started_before", started_before),
        limit=limit,
        order=order,
    )
    source = _Source(store)
    return Runs(source, source.store.search_runs(query))


def _microseconds(setting: str, moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise ConfigurationError(setting, moment, "must be a datetime", "Of a text: datetime.fromisoformat(text)")
    return round(moment.timestamp() * 1_000_000)


class _Source:
    """A store, closed with the last view of it, if it was opened here."""

    _close: weakref.finalize[[], _Source] | None

    def __init__(self, store: str | Storage | None) -> None:
        if isinstance(store, Storage):
            self.store, self._close = store, None
        else:
            self.store = open_store(store or default_store_url(load_settings()), read_only=True)
            self._close = weakref.finalize(self, self.store.close)

    def close(self) -> None:
        if self._close is not None:
            self._close()


class Runs(Sequence["RunView"]):
    """Some runs of a store, in an order: made by :func:`open_runs`.

    ``runs[0]`` is the first, ``runs[:3]`` are the first three, and ``runs["baseline"]`` is the run of that name, id or
    unique beginning of an id, also where it isn't among these. A notebook shows them as a table.
    """

    def __init__(self, source: _Source, states: Sequence[RunState]) -> None:
        self._source = source
        self.states: Sequence[RunState] = states
        """What is known of each run."""

    def __len__(self) -> int:
        return len(self.states)

    @overload
    def __getitem__(self, place: int | str) -> RunView: ...
    @overload
    def __getitem__(self, place: slice) -> Runs: ...
    def __getitem__(self, place: int | str | slice) -> RunView | Runs:
        if isinstance(place, slice):
            return Runs(self._source, self.states[place])
        if isinstance(place, str):
            store = self._source.store
            return RunView(self._source, store.get_run(store.find_run(place)))
        return RunView(self._source, self.states[place])

    def __iter__(self) -> Iterator[RunView]:
        return (RunView(self._source, state) for state in self.states)

    def __contains__(self, run: object) -> bool:
        return isinstance(run, RunView) and run.state in self.states

    def __repr__(self) -> str:
        return f"<{len(self)} runs of {self._source.store.url}>"

    def _repr_html_(self) -> str:
        from xtrack_protocol.views.notebook import runs_html

        return runs_html(self.states)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row a run: ``run_id``, ``name``, ``status``, ``experiment``, ``parent``, ``started`` and ``ended``
        (UTC), ``duration``, and where any run has them ``params.NAME``, ``tags.NAME``, ``summary.NAME`` and
        ``metrics.NAME.last``, ``.min``, ``.max``. Whole numbers that some runs lack are Int64.

        Raises ConfigurationError without pandas.
        """
        from xtrack_protocol.views.frames import runs_to_pandas

        return runs_to_pandas(self.states)

    def to_arrow(self) -> pa.Table:
        """Return the same as ``to_pandas``. A param that isn't of one type in all runs is its JSON text.

        Raises ConfigurationError without pyarrow.
        """
        from xtrack_protocol.views.frames import runs_to_arrow

        return runs_to_arrow(self.states)

    def to_parquet(self, path: str | Path) -> int:
        """Write all points of these runs' metrics to a file, which mustn't be there; return how many.

        Its columns are those of :data:`xtrack_protocol.views.POINTS_SCHEMA`. Raises StorageError, and
        ConfigurationError without pyarrow.
        """
        from xtrack_protocol.views.files import replaced
        from xtrack_protocol.views.parquet import write_parquet

        with replaced(path) as temporary:
            return write_parquet(self._source.store, [state.run_id for state in self.states], temporary)

    def close(self) -> None:
        """Close the store, if it was opened here; without this call that happens with the last view of it."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunView:
    """A run as it was when it was looked up. A notebook shows its facts, params and metrics."""

    def __init__(self, source: _Source, state: RunState) -> None:
        self._source = source
        self.state = state
        """All that is known of the run, in bounded size."""

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.state.run_id

    @property
    def name(self) -> str | None:
        """The run's name."""
        return self.state.name

    @property
    def status(self) -> RunStatus:
        """What the run's workers add up to."""
        return self.state.status

    @property
    def params(self) -> Mapping[str, Any]:
        """The params, flat and dotted."""
        return self.state.params

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags."""
        return self.state.tags

    @property
    def metrics(self) -> Mapping[str, MetricSummary]:
        """The metrics in short, by name."""
        return self.state.metrics

    def __repr__(self) -> str:
        name = f" {escape(self.name)!r}" if self.name else ""
        return f"<Run {self.run_id!r}{name} {self.status}, {len(self.metrics)} metrics>"

    def _repr_html_(self) -> str:
        from xtrack_protocol.views.notebook import run_html

        return run_html(self._source.store, self.state)

    def refresh(self) -> RunView:
        """Return the run as it is now."""
        return RunView(self._source, self._source.store.get_run(self.run_id))

    def series(
        self, key: str, worker: str | None = None, *, min_step: int | None = None, max_step: int | None = None
    ) -> SeriesView:
        """Return a metric's points: of one worker or of all, both ends of the range of steps included.

        Raises KeyError for a metric or worker that the run hasn't.
        """
        _require(key, self.metrics, "metric", self)
        if worker is not None:
            _require(worker, self.state.workers, "worker", self)
        return SeriesView(self, key, worker, min_step, max_step)

    def to_pandas(self, *, wide: bool = False, worker: str | None = None) -> pd.DataFrame:
        """Return all points of all metrics: ``key``, ``worker``, ``step`` (Int64), ``timestamp`` (UTC), ``value``.

        By key and worker, each series in its order. ``wide``: a row a step instead and a column a metric; of several
        values of a step the last one, of several workers their mean; points without a step are left out, and what is
        missing looks like NaN. ``worker``: of this one alone. Raises KeyError for a worker that the run hasn't, and
        ConfigurationError without pandas.
        """
        from xtrack_protocol.views import frames

        if worker is not None:
            _require(worker, self.state.workers, "worker", self)
        make = frames.wide_to_pandas if wide else frames.points_to_pandas
        return make(self._source.store, self.state, worker)

    def to_arrow(self, *, worker: str | None = None) -> pa.Table:
        """Return all points of all metrics, as ``to_pandas`` does. Raises ConfigurationError without pyarrow."""
        from xtrack_protocol.views.frames import points_to_arrow

        if worker is not None:
            _require(worker, self.state.workers, "worker", self)
        return points_to_arrow(self._source.store, self.state, worker)


def _require(name: str, names: Sequence[str] | Mapping[str, Any], what: str, run: RunView) -> None:
    """Raise KeyError for a name that isn't among ``names``; it tells what they are."""
    if name in names:
        return
    near = get_close_matches(str(name), names, n=5) or sorted(names)[:5]
    more = ", ..." if len(near) < len(names) else ""
    known = f"there are {', '.join(map(repr, near))}{more}" if names else "there is none"
    raise KeyError(f"run {run.run_id!r} has no {what} {name!r}; {known}")


class SeriesView:
    """A metric's points. A notebook shows them as a chart; of several workers the mean, and their range if
    all steps are asked for.

    They are read when they are asked for first.
    """

    def __init__(
        self,
        run: RunView,
        key: str,
        worker: str | None = None,
        min_step: int | None = None,
        max_step: int | None = None,
    ) -> None:
        self.run = run
        self.key = key
        self.worker = worker
        self._range = min_step, max_step
        self._series: Series | None = None

    @property
    def series(self) -> Series:
        """The points as arrays, in their order: by step, then as they were logged; those without a step last."""
        if self._series is None:
            store, (low, high) = self.run._source.store, self._range  # noqa: SLF001 - ours
            self._series = store.get_series(
                self.run.run_id, self.key, worker_id=self.worker, min_step=low, max_step=high
            )
        return self._series

    def __len__(self) -> int:
        return len(self.series)

    def __repr__(self) -> str:
        of_worker = "" if self.worker is None else f" of worker {self.worker!r}"
        return f"<Series {self.key!r}{of_worker} of run {self.run.run_id!r}>"

    def svg(self, width: int = 640, height: int = 240) -> str:
        """Return the chart as an SVG document, width and height in pixels. Of many points, what the eye can see."""
        from xtrack_protocol.views.svg import chart_svg

        return chart_svg([self._curve(2 * width)], escape(self.key), width, height)

    def _curve(self, points: int) -> Curve:
        from xtrack_protocol.views.curves import curve_of, read_curve

        store, state, (low, high) = self.run._source.store, self.run.state, self._range  # noqa: SLF001 - ours
        if self.worker is not None or len(state.workers) < 2:
            return curve_of(self.series, self.key, points=points)
        if (low, high) == (None, None):
            return read_curve(store, state, self.key, self.key, points=points)
        lines = store.get_metric_aggregate(self.run.run_id, self.key, min_step=low, max_step=high)
        means = Series(
            array("q", [line.step for line in lines if line.step is not None]),
            array("d", [nan if line.mean is None else line.mean for line in lines]),
            array("q", bytes(8 * len(lines))),
        )
        return curve_of(means, self.key, points=points)

    def _repr_html_(self) -> str:
        return self.svg()

    def _repr_svg_(self) -> str:
        return self.svg()

    def to_pandas(self) -> pd.DataFrame:
        """Return ``step`` (Int64), ``timestamp`` (UTC) and ``value``. Raises ConfigurationError without pandas."""
        from xtrack_protocol.views.frames import series_to_pandas

        return series_to_pandas([self.series])

    def to_arrow(self) -> pa.Table:
        """Return ``step``, ``timestamp`` and ``value``. Raises ConfigurationError without pyarrow."""
        from xtrack_protocol.views.frames import series_to_arrow

        return series_to_arrow([self.series])
