"""Runs and series for the eyes and for analysis: charts, notebooks, data frames. They read stores and track nothing."""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.views.parquet import POINTS_SCHEMA
    from xtrack_protocol.views.runs import Runs, RunView, SeriesView, open_runs
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {"parquet": ("POINTS_SCHEMA",), "runs": ("RunView", "Runs", "SeriesView", "open_runs")},
    )

__all__ = ["POINTS_SCHEMA", "RunView", "Runs", "SeriesView", "open_runs"]
