"""``xtrack metrics``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, find, metric_json, opened, reading
from xtrack_protocol.decode.meant import did_you_mean, near
from xtrack_protocol.runs import RunState, SeriesPoint

if TYPE_CHECKING:
    from xtrack_protocol.storage import Storage

SECTION = "Look"

NAMES = out.columns(
    ("key", "text"),
    ("count", "number"),
    ("last", "number"),
    ("step", "number"),
    ("min", "number"),
    ("max", "number"),
    ("nan", "number"),
)

POINTS = out.columns(
    ("step", "number"),
    ("value", "number"),
    ("epoch", "number"),
    ("time", "time"),
    "worker",
    "phase",
    "session",
    ("seq", "number"),
)

AGGREGATE = out.columns(
    ("step", "number"),
    ("count", "number"),
    ("mean", "number"),
    ("min", "number"),
    ("max", "number"),
    ("nan", "number"),
)


def name_rows(state: RunState) -> list[list[object]]:
    """Return a row for each metric of a run."""
    return [
        [key, metric.count, metric.last.value, metric.last.step, metric.min, metric.max, metric.nan_count]
        for key, metric in state.metrics.items()
    ]


def _point_row(point: SeriesPoint) -> list[object]:
    phase = point.context.phase if point.context else None
    where = [point.worker_id or None, phase, point.session_id, point.seq]
    return [point.step, point.value, point.epoch, point.timestamp_us, *where]


@click.command(
    "metrics",
    epilog=examples(
        "xtrack metrics latest",
        "xtrack metrics latest loss --min-step 100",
        "xtrack metrics latest loss --format csv > loss.csv",
        "xtrack metrics latest loss --aggregate --worker 0",
    ),
)
@click.argument("run")
@click.argument("key", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "jsonl", "csv")),
    default="table",
    show_default=True,
    help="jsonl and csv are exact, at a terminal too.",
)
@click.option("--min-step", type=int, help="Only points from this step on.")
@click.option("--max-step", type=int, help="Only points up to this step.")
@click.option(
    "--worker",
    "workers",
    metavar="ID",
    multiple=True,
    help="Only points of this worker; with --aggregate, a column of its values. May be given several times.",
)
@click.option(
    "--aggregate", "aggregated", is_flag=True, help="A line a step over all workers: count, mean, min, max, and NaNs."
)
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Only the first so many points, or lines.")
@reading
def command(
    run: str,
    key: str | None,
    form: out.Format,
    min_step: int | None,
    max_step: int | None,
    workers: tuple[str, ...],
    aggregated: bool,
    limit: int | None,
    store: str | None,
    as_json: bool,
) -> int:
    """Show a metric's points; without KEY, the names of a run's metrics with count, last, min and max."""
    if key is None and (workers or aggregated or any(option is not None for option in (min_step, max_step, limit))):
        raise click.UsageError("--min-step, --max-step, --worker, --aggregate and --limit go with a KEY.")
    with opened(store) as source:
        if key is None:
            state = find(source, run)
            if as_json:
                out.as_json({name: metric_json(metric) for name, metric in state.metrics.items()})
            elif state.metrics or form != "table" or not out.on_terminal():
                out.records(NAMES, name_rows(state), form)
            else:
                out.remark(f"run {state.run_id} has no metrics")
            return 0
        run_id = source.find_run(run)
        there = source.metric_keys(run_id)
        if key not in there:
            close = near(key, there)
            cure = did_you_mean(close) if close else f"`xtrack metrics {run}` lists its metrics"
            out.remark(f"xtrack: error: run {run_id} has no metric {key!r}. {cure}")
            return 1
        header, rows = (_aggregate if aggregated else _points)(source, run_id, key, min_step, max_step, workers, limit)
    if as_json:
        out.as_json(out.objects(header, rows))
    elif form == "table" and out.on_terminal():
        shown = [place for place, column in enumerate(header) if column.title not in {"session", "seq"}]
        shown = [place for place in shown if any(row[place] is not None for row in rows) or place < 2]
        out.table([header[place] for place in shown], [[row[place] for place in shown] for row in rows])
    else:
        out.records(header, rows, form)
    return 0


def _points(
    source: Storage,
    run_id: str,
    key: str,
    min_step: int | None,
    max_step: int | None,
    workers: Sequence[str],
    limit: int | None,
) -> tuple[list[out.Column], list[list[object]]]:
    only = workers[0] if len(workers) == 1 else None
    points = source.get_metrics(
        run_id,
        key,
        min_step=min_step,
        max_step=max_step,
        worker_id=only,
        limit=None if len(workers) > 1 else limit,
    )
    if len(workers) > 1:
        points = [point for point in points if point.worker_id in workers][:limit]
    return POINTS, [_point_row(point) for point in points]


def _aggregate(
    source: Storage,
    run_id: str,
    key: str,
    min_step: int | None,
    max_step: int | None,
    workers: Sequence[str],
    limit: int | None,
) -> tuple[list[out.Column], list[list[object]]]:
    lines = source.get_metric_aggregate(run_id, key, min_step=min_step, max_step=max_step)[:limit]
    rows: list[list[object]] = [
        [line.step, line.count, line.mean, line.min, line.max, line.nan_count] for line in lines
    ]
    for worker in workers:
        points = source.get_metrics(run_id, key, min_step=min_step, max_step=max_step, worker_id=worker)
        values = {point.step: point.value for point in points}  # of several at one step the last one counts
        for line, row in zip(lines, rows, strict=True):
            row.append(values.get(line.step))
    return [*AGGREGATE, *(out.Column(f"worker {worker}", "number") for worker in workers)], rows
