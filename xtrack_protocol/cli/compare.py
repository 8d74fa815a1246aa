"""``xtrack compare``."""

from __future__ import annotations

from typing import Any

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import brief_json, examples, find, metric_json, opened, reading
from xtrack_protocol.decode.text import free_as_json
from xtrack_protocol.runs import RunState

SECTION = "Look"

_ABSENT = object()


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
    epilog=examples("xtrack compare baseline latest", "xtrack compare a b c --metric loss --json"),
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--metric", "keys", multiple=True, metavar="KEY", help="Only this metric. May be given several times.")
@click.option("--all-params", is_flag=True, help="Also the params that are the same in all runs.")
@reading
def command(runs: tuple[str, ...], keys: tuple[str, ...], all_params: bool, store: str | None, as_json: bool) -> None:
    """Put runs side by side: the params that differ, and each metric's last, lowest and highest value."""
    if len(runs) < 2:
        raise click.UsageError("it takes two runs to compare.")
    with opened(store) as source:
        states = [find(source, run) for run in runs]
    names = sorted({name for state in states for name in state.params}) if all_params else differing_params(states)
    metrics = sorted({key for state in states for key in state.metrics if not keys or key in keys})
    if as_json:
        out.as_json(_json(states, names, metrics))
        return
    titles = _titles(states)
    header = [out.Column("", "id"), *(out.Column(title, "json") for title in titles)]
    rows: list[list[Any]] = [
        ["run_id", *(state.run_id for state in states)],
        ["status", *(state.status for state in states)],
    ]
    rows += [[f"param {name}", *(state.params.get(name, "-") for state in states)] for name in names]
    for key in metrics:
        found = [state.metrics.get(key) for state in states]
        rows.append([f"{key} last", *("-" if metric is None else metric.last.value for metric in found)])
        rows.append([f"{key} min", *("-" if metric is None or metric.min is None else metric.min for metric in found)])
        rows.append([f"{key} max", *("-" if metric is None or metric.max is None else metric.max for metric in found)])
        means = [None if metric is None or metric.workers is None else metric.workers.mean for metric in found]
        if any(mean is not None for mean in means):
            rows.append([f"{key} mean of workers' last", *("-" if mean is None else mean for mean in means)])
    out.table(header, rows)


def _titles(states: list[RunState]) -> list[str]:
    names = [state.name or state.run_id for state in states]
    return [name if names.count(name) == 1 else state.run_id for name, state in zip(names, states, strict=True)]


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
