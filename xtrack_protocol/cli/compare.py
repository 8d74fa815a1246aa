"""``xtrack compare``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import (
    brief_json,
    examples,
    find_all,
    metric_json,
    metric_order,
    opened,
    reading,
    run_titles,
    value_kind,
)
from xtrack_protocol.cli._where import Operand, parse_operand, sort_runs, tell_absent
from xtrack_protocol.decode.meant import near_or_some
from xtrack_protocol.decode.text import escape, free_as_json
from xtrack_protocol.runs import RunState
from xtrack_protocol.views.cells import cut, distinct

SECTION = "Look"

_ABSENT = object()
_ROWS_FROM: Final = 5
_TITLE: Final = 40
_KEY: Final = 20


def parse_sort(_: click.Context, __: click.Parameter, text: str | None) -> tuple[Operand, bool] | None:
    """Return what to sort by, and whether downward."""
    if text is None:
        return None
    return parse_operand(text.removeprefix("-")), text.startswith("-")


def differing_params(states: list[RunState]) -> list[str]:
    """Return the params that aren't the same in all runs; 1 and 1.0 are the same, 1 and true are not."""
    names = sorted({name for state in states for name in state.params})
    return [name for name in names if len({_identity(state.params.get(name, _ABSENT)) for state in states}) > 1]


def _identity(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int_or_none(value):
        return f"value {int_or_none(value)}"
    return f"value {out.value_text(value)!r} {type(value).__name__}"


def int_or_none(value: float) -> int | None:
    """Return a number as an integer, where it is one."""
    return int(value) if isinstance(value, int) or (value - value == 0 and value.is_integer()) else None


@click.command(
    "compare",
    epilog=examples(
        "xtrack compare baseline latest",
        "xtrack compare a b c --metric loss --json",
        "xtrack compare 'sweep-*' --sort val_loss --metric 'val*'",
        "xtrack compare $(xtrack ls -q --all --where 'val_loss < 0.1')",
    ),
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--metric",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only this metric; * is any text. May be given several times.",
)
@click.option("--all-params", is_flag=True, help="Also the params that are the same in all runs.")
@click.option(
    "--sort", "order", metavar="NAME", callback=parse_sort,
    help="Sort runs by a metric or a param, as `xtrack ls --order`; a minus turns it round.",
)  # fmt: skip
@click.option("--low", multiple=True, metavar="KEY", help="Lower is better for this metric.")
@click.option("--high", multiple=True, metavar="KEY", help="Higher is better for this metric.")
@click.option(
    "--rows/--columns", "as_rows", default=None,
    help="A line a run, or a column. Default: at a terminal a line from 5 runs on; elsewhere a column.",
)  # fmt: skip
@reading
def command(
    runs: tuple[str, ...], keys: tuple[str, ...], all_params: bool, order: tuple[Operand, bool] | None,
    low: tuple[str, ...], high: tuple[str, ...], as_rows: bool | None, store: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Put runs side by side: the params that differ, and each metric's last, lowest and highest value.

    RUN may be a pattern of names (quote it), which means all runs so named. At a terminal the best last value of a
    metric has a star: the lowest of a loss or an error, the highest of an accuracy or a score, by its name; of others
    --low and --high tell.
    """
    with opened(store) as source:
        states = find_all(source, runs)
    if len(states) < 2:
        raise click.UsageError("it takes two runs to compare.")
    if order is not None:
        states = sort_runs(states, order[0], downward=order[1])
    names = sorted({name for state in states for name in state.params}) if all_params else differing_params(states)
    there = metric_order(key for state in states for key in state.metrics)
    metrics = [key for key in there if not keys or any(key == asked or fnmatchcase(key, asked) for asked in keys)]
    missing = [key for key in keys if not any(key == one or fnmatchcase(one, key) for one in there)]
    missing += [key for key in (*low, *high) if key not in there]
    if missing:
        cure = near_or_some(missing[0], there) if there else "They have no metrics"
        out.remark(f"xtrack: error: none of the runs has a metric {missing[0]!r}. {cure}")
        return 1
    if order is not None:
        tell_absent(states, [order[0]])
    best = best_runs(states, metrics, low, high)
    if as_json:
        out.as_json({**_json(states, names, metrics), "best": best})
    elif as_rows or (as_rows is None and out.on_terminal() and len(states) >= _ROWS_FROM):
        _by_run(states, names, metrics, best)
    else:
        _by_value(states, names, metrics, best)
    return 0


def _by_value(states: list[RunState], names: list[str], metrics: list[str], best: dict[str, str]) -> None:
    """Write a column a run."""
    header = [out.Column("", "id"), *(out.Column(title, "json") for title in run_titles(states))]
    rows: list[list[Any]] = [
        ["run_id", *(state.run_id for state in states)],
        ["status", *(state.status for state in states)],
    ]
    marked = set()
    rows += [[f"param {name}", *(state.params.get(name, "-") for state in states)] for name in names]
    for key in metrics:
        found = [state.metrics.get(key) for state in states]
        rows.append([f"{key} last", *("-" if metric is None else metric.last.value for metric in found)])
        rows.append([f"{key} min", *("-" if metric is None or metric.min is None else metric.min for metric in found)])
        rows.append([f"{key} max", *("-" if metric is None or metric.max is None else metric.max for metric in found)])
        means = [None if metric is None or metric.workers is None else metric.workers.mean for metric in found]
        if any(mean is not None for mean in means):
            rows.append([f"{key} mean of workers' last", *("-" if mean is None else mean for mean in means)])
        judged = len(rows) - (1 if any(mean is not None for mean in means) else 3)
        marked |= {(judged, place) for place, state in enumerate(states, 1) if best.get(key) == state.run_id}
    out.table(header, rows, marked=marked, column="run", cure="--rows writes a line a run")


def _by_run(states: list[RunState], names: list[str], metrics: list[str], best: dict[str, str]) -> None:
    """Write a line a run: its metrics' last values, then the params."""
    titles = run_titles(states)
    lasts = [(key, [_last(state, key) for state in states]) for key in metrics]
    values: list[tuple[str, list[Any]]] = [
        (key, ["" if value is None else value for value in found]) for key, found in lasts
    ]
    params = [(name, [state.params.get(name, "") for state in states]) for name in names]
    last = next((place for place, key in enumerate(metrics) if key.startswith("system/")), len(metrics))
    values[last:last] = params
    header = [out.Column("run", "id"), out.Column("status", "status")]
    header += [out.Column(title, value_kind(found)) for title, found in values]
    rows = [
        [title, state.status, *(found[number] for _, found in values)]
        for number, (title, state) in enumerate(zip(titles, states, strict=True))
    ]
    if not out.on_terminal():
        header.insert(0, out.Column("run_id", "id"))
        rows = [[state.run_id, *row] for state, row in zip(states, rows, strict=True)]
        out.table(header, rows)
        return
    # Cut in the middle: names, and metrics, often differ in their ends only.
    header = [out.Column(cut(escape(column.title), _KEY, middle=True), column.kind) for column in header]
    short = distinct(titles, max(_TITLE // 2, min(_TITLE, out.terminal_width() // 4)))
    rows = [[title, *row[1:]] for title, row in zip(short, rows, strict=True)]
    marked = {
        (number, place)
        for place, key in enumerate([*metrics[:last], *[""] * len(params), *metrics[last:]], 2)
        for number, state in enumerate(states)
        if best.get(key) == state.run_id
    }
    out.table(header, rows, marked=marked, cure="--metric chooses, --json has them all")


# ------------------------------------------------------------------------------------------ which is the best

_LOW: Final = re.compile(
    r"(loss|err(or)?s?|(^|[^a-z])(perplexity|ppl|mae|mse|rmse|mape|wer|cer|fid|nll|bpb|bpc|latency))([^a-z]|$)",
    re.IGNORECASE,
)
_HIGH: Final = re.compile(
    r"(accuracy|auc|precision|iou|score|reward|(^|[^a-z])(acc|f1|recall|bleu|rouge\w*|map|dice|return|r2|psnr|ssim|"
    r"throughput))([^a-z]|$)",
    re.IGNORECASE,
)


def best_runs(
    states: Sequence[RunState], metrics: Sequence[str], low: Sequence[str] = (), high: Sequence[str] = ()
) -> dict[str, str]:
    """Return the run with the best last value of each metric of which it is known what is better.

    None is the best of those that are all the same, and NaN and infinities never are.
    """
    found: dict[str, str] = {}
    for key in metrics:
        lower = key in low or (key not in high and bool(_LOW.search(key)))
        if not lower and key not in high and not _HIGH.search(key):
            continue
        values = [(_last(state, key), state.run_id) for state in states]
        known = [(value, run_id) for value, run_id in values if value is not None and math.isfinite(value)]
        ends = {value for value, _ in known}
        if len(ends) > 1:
            wanted = min(ends) if lower else max(ends)
            found[key] = next(run_id for value, run_id in known if value == wanted)
    return found


def _last(state: RunState, key: str) -> float | None:
    """Return a metric's last value; of several workers the mean of theirs."""
    metric = state.metrics.get(key)
    if metric is None:
        return None
    return metric.workers.mean if metric.workers is not None else metric.last.value


def _json(states: list[RunState], names: list[str], metrics: list[str]) -> dict[str, Any]:
    return {
        "runs": [brief_json(state) for state in states],
        "params": {
            name: {state.run_id: free_as_json(state.params[name]) for state in states if name in state.params}
            for name in names
        },
        "metrics": {
            key: {state.run_id: metric_json(state.metrics[key]) for state in states if key in state.metrics}
            for key in metrics
        },
    }
