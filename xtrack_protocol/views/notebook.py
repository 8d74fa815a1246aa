"""Runs as HTML for notebooks. All text of runs is escaped; nothing is loaded from anywhere, and there is no script.

Styles stand in the elements, for notebooks that weren't trusted lose their style sheets. Colours work on any ground.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from xtrack_protocol.decode.text import duration_text, free_as_json, json_line, local_time, short_number
from xtrack_protocol.decode.text import escape as on_one_line
from xtrack_protocol.runs import MetricSummary, RunState
from xtrack_protocol.storage import Storage
from xtrack_protocol.views.cells import error_text
from xtrack_protocol.views.curves import curve_of, read_curve
from xtrack_protocol.views.svg import sparkline_svg

METRICS_MAX: Final = 40
"""Metrics of a run that are shown."""
PARAMS_MAX: Final = 60
RUNS_MAX: Final = 100
_COLUMNS_MAX: Final = 6
"""Columns of params, and of metrics, in a table of runs."""
_POINTS: Final = 240
"""Points of a small curve."""
_AGGREGATED_MAX: Final = 20_000
"""Points of several workers whose mean is drawn small; of more, the extremes of all workers."""
_TEXT_MAX: Final = 200

_COLOURS: Final = {
    "completed": "#10b981",
    "running": "#3b82f6",
    "pending": "#6b7280",
    "failed": "#ef4444",
    "killed": "#f59e0b",
    "lost": "#f59e0b",
}
_TABLE: Final = "border-collapse:collapse;font-size:12px;margin:4px 0"
_PLAIN: Final = "padding:2px 10px 2px 0;vertical-align:middle;border:none;background:none;white-space:nowrap"
_CELL: Final = f"{_PLAIN};text-align:left"
_NUMBER: Final = f"{_PLAIN};text-align:right"
_CUT: Final = "display:inline-block;max-width:{}ch;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
_BOX: Final = "font-family:sans-serif;font-size:13px;overflow-x:auto"
_FAINT: Final = "opacity:0.65"
_ID: Final = f"{_FAINT};font-family:monospace"


def run_html(store: Storage, state: RunState) -> str:
    """Return a run: what it is, its error, params and metrics, each metric with a small curve."""
    facts = [
        _status(state.status),
        f"<b>{_text(state.name or state.run_id, 60)}</b>",
        f'<span style="{_ID}">{_text(state.run_id, 60)}</span>' if state.name else "",
        f"experiment {_text(state.experiment_id, 40)}" if state.experiment_id else "",
        escape(local_time(state.started_at_us)) if state.started_at_us is not None else "",
        escape(duration_text(state.duration_ms)) if state.duration_ms is not None else "",
        f"{len(state.workers)} workers" if len(state.workers) > 1 else "",
        f"{state.lost_events} events lost" if state.lost_events else "",
    ]
    parts = [f'<div style="margin-bottom:4px">{" &middot; ".join(filter(None, facts))}</div>']
    if state.note:
        parts.append(f"<div>{_text(state.note, 120)}</div>")
    if state.error is not None:
        parts.append(f'<div style="color:{_COLOURS["failed"]}">{_text(error_text(state.error), 120)}</div>')
    if state.tags:
        chips = " ".join(
            f'<span style="border:1px solid currentColor;border-radius:8px;padding:0 6px;{_FAINT}">'
            f"{_text(f'{key}={value}', 40)}</span>"
            for key, value in sorted(state.tags.items())
        )
        parts.append(f'<div style="font-size:11px;line-height:1.8">{chips}</div>')
    parts += _params(state.params)
    parts += _metrics(store, state)
    return f'<div style="{_BOX}">{"".join(parts)}</div>'


def _params(params: Mapping[str, Any]) -> Iterator[str]:
    if params:
        shown = sorted(params.items())[:PARAMS_MAX]
        rows = [[_cell(_text(key, 40), f"{_CELL};{_FAINT}"), _cell(_value(value))] for key, value in shown]
        is_open = " open" if len(params) <= 12 else ""
        table = _table((), rows, len(params) - len(shown), "params")
        yield f"<details{is_open}><summary>{_counted(len(params), 'param')}</summary>{table}</details>"


def _metrics(store: Storage, state: RunState) -> Iterator[str]:
    if not state.metrics:
        yield f'<div style="{_FAINT}">no metrics</div>'
        return
    shown = sorted(state.metrics.items())[:METRICS_MAX]
    rows = [_metric(store, state, key, metric) for key, metric in shown]
    head = ("metric", "", *map(_Right, ("last", "step", "min", "max", "points")))
    table = _table(head, rows, len(state.metrics) - len(shown), "metrics")
    yield f"<details open><summary>{_counted(len(state.metrics), 'metric')}</summary>{table}</details>"


def _metric(store: Storage, state: RunState, key: str, metric: MetricSummary) -> list[str]:
    if metric.workers is not None and metric.count <= _AGGREGATED_MAX:
        curve = read_curve(store, state, key, key, points=_POINTS)
    else:
        curve = curve_of(store.downsample(state.run_id, key, _POINTS), key)
    count = str(metric.count)
    if metric.nan_count:
        count += f' <span style="color:{_COLOURS["failed"]}">{metric.nan_count} NaN</span>'
    last, of_workers = metric.last.value, metric.workers
    if of_workers is not None:
        last = float("nan") if of_workers.mean is None else of_workers.mean
    step = metric.last.step
    return [
        _cell(_text(key, 40)),
        _cell(sparkline_svg(curve)),
        *(_cell(_number(value), _NUMBER) for value in (last, step, metric.min, metric.max)),
        _cell(count, _NUMBER),
    ]


def runs_html(states: Sequence[RunState]) -> str:
    """Return a table of runs: what they are, the params in which they differ, and the last values of their metrics."""
    if not states:
        return f'<div style="{_BOX};{_FAINT}">no runs</div>'
    shown = states[:RUNS_MAX]
    params = _differing([state.params for state in states])
    metrics = _most_common([state.metrics for state in states])
    head = ["", "run", "id", "started", *map(_Right, ("took", *params, *metrics))]
    rows = []
    for state in shown:
        row = [
            _cell(_status(state.status)),
            _cell(f"<b>{_text(state.name, 30)}</b>" if state.name else ""),
            _cell(f'<span style="{_ID}">{_text(state.run_id, 28)}</span>'),
            _cell("" if state.started_at_us is None else escape(local_time(state.started_at_us))),
            _cell("" if state.duration_ms is None else escape(duration_text(state.duration_ms)), _NUMBER),
        ]
        row += [_cell(_value(state.params[key], 24) if key in state.params else "", _NUMBER) for key in params]
        row += [
            _cell(_number(state.metrics[key].last.value) if key in state.metrics else "", _NUMBER) for key in metrics
        ]
        rows.append(row)
    statuses = _tally(state.status for state in states)
    return (
        f'<div style="{_BOX}"><div>{_counted(len(states), "run")}: {statuses}</div>'
        f"{_table(head, rows, len(states) - len(shown), 'runs')}</div>"
    )


def _differing(named: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the params that aren't the same in all runs, those that more of the runs have first."""
    keys = {key for values in named for key in values}
    if len(named) > 1:
        keys = {key for key in keys if len({repr(values.get(key, _differing)) for values in named}) > 1}
    return _most_common([{key: None for key in values if key in keys} for values in named])


def _most_common(named: Sequence[Mapping[str, Any]]) -> list[str]:
    counts: dict[str, int] = {}
    for values in named:
        for key in values:
            counts[key] = counts.get(key, 0) + 1
    return sorted(sorted(counts, key=lambda key: (-counts[key], key))[:_COLUMNS_MAX])


def _tally(statuses: Iterable[str]) -> str:
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


# ------------------------------------------------------------------------------------------ pieces


class _Right(str):
    """A title above numbers."""

    __slots__ = ()


def _status(status: str) -> str:
    return f'<span style="color:{_COLOURS[status]};white-space:nowrap">&#9679; {status}</span>'


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _text(text: str, width: int) -> str:
    """Return a text on one line, cut to ``width`` letters by the eye; all of it, up to a limit, under the pointer."""
    plain = on_one_line(text[:_TEXT_MAX]) + ("…" if len(text) > _TEXT_MAX else "")
    safe = escape(plain)
    if len(plain) <= width:
        return safe
    return f'<span title="{safe}" style="{_CUT.format(width)};vertical-align:bottom">{safe}</span>'


def _value(value: Any, width: int = 60) -> str:
    if isinstance(value, bool) or value is None or not isinstance(value, (str, int, float)):
        return _text(json_line(free_as_json(value)), width)
    return _text(value, width) if isinstance(value, str) else _number(value)


def _number(value: float | None) -> str:
    return "" if value is None else _text(short_number(value), 24)


def _cell(inner: str, style: str = _CELL) -> str:
    return f'<td style="{style}">{inner}</td>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left_out: int, what: str) -> str:
    titles = "".join(
        f'<th style="{_NUMBER if isinstance(title, _Right) else _CELL};{_FAINT};font-weight:normal">'
        f"{_text(title, 20)}</th>"
        for title in head
    )
    top = f"<thead><tr>{titles}</tr></thead>" if head else ""
    body = "".join(f'<tr style="background:none">{"".join(row)}</tr>' for row in rows)
    more = f'<div style="{_FAINT}">and {left_out} {what} more</div>' if left_out else ""
    return f'<table style="{_TABLE}">{top}<tbody>{body}</tbody></table>{more}'
