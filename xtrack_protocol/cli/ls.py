"""``xtrack ls``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, get_args

import attrs
import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import (
    age_ms,
    brief_json,
    examples,
    latest_metrics,
    opened,
    parse_pairs,
    reading,
    value_kind,
)
from xtrack_protocol.cli._where import Condition, Operand, parse_conditions, parse_operand, sort_runs, tell_absent
from xtrack_protocol.decode.text import free_as_json, parse_since
from xtrack_protocol.runs import RunState, RunStatus
from xtrack_protocol.storage.base import Order, RunQuery
from xtrack_protocol.views.cells import distinct

if TYPE_CHECKING:
    from xtrack_protocol.storage import Storage

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
_ALWAYS: Final = {"run_id", "status", "started"}
_NAME: Final = 24
_ORDERS: Final[tuple[Order, ...]] = get_args(Order)


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


def parse_times(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    """Return a time in microseconds since the Unix epoch. Raises BadParameter."""
    try:
        return None if text is None else parse_since(text, time.time())
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is neither a time, as 2024-05-01T10:00, nor an age, as 90s, 2h or 7d"
        ) from None


def parse_where(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[Condition]:
    """Return all conditions."""
    return parse_conditions(texts)


def parse_names(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[Operand]:
    """Return what columns are of."""
    return [parse_operand(text) for text in texts]


def parse_order(_: click.Context, __: click.Parameter, text: str) -> tuple[Order, Operand | None, bool]:
    """Return the order to ask the store for, what to sort by then, and whether downward."""
    for order in _ORDERS:
        if text == order:
            return order, None, False
    downward = text.startswith("-")
    return "-started", parse_operand(text[1:] if downward else text), downward


@click.command(
    "ls",
    epilog=examples(
        "xtrack ls",
        "xtrack ls --status running --status failed",
        "xtrack ls --experiment mnist --tag lr=0.1 --name 'base*' --since 7d",
        "xtrack ls --where 'val_loss < 0.1 and optimizer = adam' --order val_loss",
        "xtrack ls --column params.lr --column 'max(accuracy)' --order '-max(accuracy)'",
        "xtrack compare $(xtrack ls -q --param lr=0.1)",
        "xtrack ls --all --json | jq -r '.[].run_id'",
    ),
)
@click.option("--status", multiple=True, type=click.Choice(get_args(RunStatus)), help="Only runs of this status.")
@click.option("--experiment", metavar="NAME", help="Only runs of this experiment: its name or id.")
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="Only runs with this tag. Several must all match.")
@click.option(
    "--param", "params", multiple=True, metavar="K=V", help="Only runs with this param. Several must all match."
)
@click.option("--name", metavar="PATTERN", help="Only runs of this name; * is any text, ? any character.")
@click.option("--parent", metavar="RUN", help="Only children of this run.")
@click.option(
    "--since",
    callback=parse_times,
    metavar="WHEN",
    help="Only runs that started then or later: a time, or 90s, 2h, 7d ago.",
)
@click.option("--until", callback=parse_times, metavar="WHEN", help="Only runs that started before.")
@click.option(
    "--where", multiple=True, callback=parse_where, metavar="CONDITION",
    help="Only runs of which this holds: NAME, one of < <= > >= = != ~, and a value. Several must all hold.",
)  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many runs.")
@click.option("--all", "show_all", is_flag=True, help="All runs, however many.")
@click.option(
    "--order", default="-started", callback=parse_order, show_default=True, metavar="NAME",
    help="Sort by started, updated, name, status, or a NAME as in --where; a minus turns it round.",
)  # fmt: skip
@click.option(
    "--column", "shown", multiple=True, callback=parse_names, metavar="NAME",
    help="Show this value of each run, a NAME as in --where. May be given several times.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Write the ids alone.")
@reading
def command(
    status: tuple[RunStatus, ...],
    experiment: str | None,
    tags: tuple[str, ...],
    params: tuple[str, ...],
    name: str | None,
    parent: str | None,
    since: int | None,
    until: int | None,
    where: list[Condition],
    limit: int,
    show_all: bool,
    order: tuple[Order, Operand | None, bool],
    shown: list[Operand],
    quiet: bool,
    store: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first.

    NAME in --where, --order and --column is a metric, or where a run has none of that name, a param. metrics.NAME,
    params.NAME, tags.NAME and summary.NAME leave no doubt; min(NAME) and max(NAME) are a metric's least and greatest
    value; name, status, experiment, id, note, duration (seconds) and events are the run's own. A NAME with
    spaces or operators stands in backticks. The operator ~ takes a pattern, with * and ?. A run without the value
    doesn't match. Conditions are joined by `and`.
    """
    asked = parse_pairs(tags, "tag")
    equals = [Condition(Operand(key, key, "params"), "=", value) for key, value in parse_pairs(params, "param").items()]
    conditions = [*where, *equals]
    with opened(store) as source:
        query = RunQuery(
            status=status,
            experiment=experiment,
            tags=asked,
            name=name,
            parent=source.find_run(parent) if parent is not None else None,
            started_after_us=since,
            started_before_us=until,
            order=order[0],
        )
        states = _found(source, query, conditions, order, None if show_all else limit + 1)
        url = source.url
    tell_absent(states, shown)
    more = not show_all and len(states) > limit
    states = states if show_all else states[:limit]
    if as_json:
        out.as_json([_json(state, shown) for state in states])
    elif quiet:
        out.write("".join(f"{out.value_text(state.run_id)}\n" for state in states))
    elif not states and out.on_terminal():
        filtered = bool(status or experiment or asked or name or parent or since or until or conditions)
        none = f"no runs yet in {url}. `xtrack run -- python train.py` tracks one"
        out.remark("no runs match" if filtered else none)
    else:
        out.table(*_table(states, shown), cure="--column chooses, --json has them all")
    if more:
        out.remark(f"only the first {limit} runs; --all shows all")


def _found(
    source: Storage,
    query: RunQuery,
    conditions: Sequence[Condition],
    order: tuple[Order, Operand | None, bool],
    most: int | None,
) -> list[RunState]:
    """Return the runs asked for, at most so many. What the store can't judge by itself is judged here."""
    _, sort_by, downward = order
    if not conditions and sort_by is None:
        return source.search_runs(attrs.evolve(query, limit=most))
    states = source.search_runs(query)
    tell_absent(states, [*(one.operand for one in conditions), *([] if sort_by is None else [sort_by])])
    states = [state for state in states if all(one.holds(state) for one in conditions)]
    if sort_by is not None:
        states = sort_runs(states, sort_by, downward=downward)
    return states[:most]


def _table(states: Sequence[RunState], shown: Sequence[Operand]) -> tuple[list[out.Column], list[list[object]]]:
    """Return header and rows; at a terminal without columns that say nothing."""
    now_us = time.time_ns() // 1000
    rows = [_row(state, now_us) for state in states]
    columns = [(column, [row[place] for row in rows]) for place, column in enumerate(COLUMNS)]
    if out.on_terminal():
        names = distinct([state.name or "" for state in states], max(_NAME, out.terminal_width() // 4))
        columns = [(column, [*names] if column.title == "name" else values) for column, values in columns]
        columns = [(column, values) for column, values in columns if column.title in _ALWAYS or any(values)]
    if shown:
        columns = [(column, values) for column, values in columns if column.title != "metrics"]
        status = next(place for place, (column, _) in enumerate(columns) if column.title == "status")
        asked = [(one, ["" if value is None else value for value in map(one.of, states)]) for one in shown]
        columns[status + 1 : status + 1] = [(out.Column(one.text, value_kind(values)), values) for one, values in asked]
    return [column for column, _ in columns], [[values[row] for _, values in columns] for row in range(len(states))]


def _json(state: RunState, shown: Sequence[Operand]) -> dict[str, object]:
    last = {key: out.cell_json(metric.last.value, "number") for key, metric in state.metrics.items()}
    made: dict[str, object] = {**brief_json(state), "metrics": last}
    if shown:
        made["columns"] = {operand.text: free_as_json(operand.of(state)) for operand in shown}
    return made
