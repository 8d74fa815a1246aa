"""``xtrack ls``."""

from __future__ import annotations

import time
from typing import get_args

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import age_ms, brief_json, examples, latest_metrics, opened, parse_pairs, reading
from xtrack_protocol.runs import RunState, RunStatus
from xtrack_protocol.storage.base import Order, RunQuery

SECTION = "Look"

COLUMNS = out.columns(
    ("run_id", "id"),
    "name",
    ("status", "status"),
    "experiment",
    ("started", "time"),
    ("duration", "duration"),
    ("events", "number"),
    ("lost", "number"),
    "metrics",
)
_ALWAYS = {"run_id", "status", "started"}


def _row(state: RunState, now_us: int) -> list[object]:
    metrics = latest_metrics(state)
    exact = not out.on_terminal()
    return [
        state.run_id,
        state.name,
        state.status,
        state.experiment_id,
        state.started_at_us,
        age_ms(state, now_us),
        state.events,
        state.lost_events,
        " ".join(f"{key}={out.cell_text(metric.last.value, 'number', exact=exact)}" for key, metric in metrics),
    ]


@click.command(
    "ls",
    epilog=examples(
        "xtrack ls",
        "xtrack ls --status running --status failed",
        "xtrack ls --experiment mnist --tag lr=0.1 --name 'base*'",
        "xtrack ls --all --json | jq -r '.[].run_id'",
    ),
)
@click.option("--status", multiple=True, type=click.Choice(get_args(RunStatus)), help="Only runs of this status.")
@click.option("--experiment", metavar="NAME", help="Only runs of this experiment: its name or id.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="Only runs with this tag. Several must all match.")
@click.option("--name", metavar="PATTERN", help="Only runs of this name; * is any text, ? any character.")
@click.option("--parent", metavar="RUN", help="Only children of this run.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many runs.")
@click.option("--all", "show_all", is_flag=True, help="All runs, however many.")
@click.option("--order", type=click.Choice(get_args(Order)), default="-started", show_default=True, help="Sort by.")
@reading
def command(
    status: tuple[RunStatus, ...],
    experiment: str | None,
    tags: tuple[str, ...],
    name: str | None,
    parent: str | None,
    limit: int,
    show_all: bool,
    order: Order,
    store: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    asked = parse_pairs(tags, "tag")
    with opened(store) as source:
        query = RunQuery(
            status=status,
            experiment=experiment,
            tags=asked,
            name=name,
            parent=source.find_run(parent) if parent is not None else None,
            limit=None if show_all else limit + 1,
            order=order,
        )
        states = source.search_runs(query)
    more = not show_all and len(states) > limit
    states = states if show_all else states[:limit]
    if as_json:
        out.as_json([_json(state) for state in states])
    elif not states and out.on_terminal():
        filtered = bool(status or experiment or asked or name or parent)
        out.remark("no runs match" if filtered else "no runs yet. `xtrack run -- python train.py` tracks one")
    else:
        now_us = time.time_ns() // 1000
        out.table(*_without_empty([_row(state, now_us) for state in states]))
    if more:
        out.remark(f"only the first {limit} runs; --all shows all")


def _without_empty(rows: list[list[object]]) -> tuple[list[out.Column], list[list[object]]]:
    """Leave out, at a terminal, columns that say nothing."""
    shown = list(range(len(COLUMNS)))
    if out.on_terminal():
        shown = [place for place in shown if COLUMNS[place].title in _ALWAYS or any(row[place] for row in rows)]
    return [COLUMNS[place] for place in shown], [[row[place] for place in shown] for row in rows]


def _json(state: RunState) -> dict[str, object]:
    last = {key: out.cell_json(metric.last.value, "number") for key, metric in state.metrics.items()}
    return {**brief_json(state), "metrics": last}
