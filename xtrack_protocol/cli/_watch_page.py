"""What ``xtrack watch`` shows of a run: rows that fit a terminal of any size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from xtrack_protocol.cli._output import COLOURS
from xtrack_protocol.cli._runs import LIVE, metric_order, seconds_between
from xtrack_protocol.decode.text import duration_text, escape, local_time, short_number
from xtrack_protocol.ir import Progress
from xtrack_protocol.runs import Activity, MetricSummary, RunState, aggregate_series
from xtrack_protocol.views.cells import Align, Row, Span, cell_width, cut, error_text, fill, fit_row
from xtrack_protocol.views.sparkline import sparkline

_TREND: Final = ((100, 24), (60, 16), (0, 8))
"""From which width on trends are how wide."""
_GAP: Final = 2
_NUMBER: Final = 10
_STEADY_FROM: Final = 70
_NAME_MIN: Final = 8
_BAR: Final = 30
_SLOWEST_FROM: Final = 2
_LEVELS: Final = {"error": "red", "warning": "yellow", "debug": "dim"}


@attrs.frozen(kw_only=True)
class Moment:
    """A run at one time. ``left``: estimated seconds to its end. ``trends``: values of metrics that several workers
    log, as they were seen. ``offset``: metrics scrolled away. ``trouble``: why the run can't be followed now.
    ``keys``: whether any can be pressed.
    """

    state: RunState
    now_us: int
    left: float | None = None
    trends: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    offset: int = 0
    trouble: str = ""
    keys: bool = False
    unicode: bool = True


@attrs.frozen
class Page:
    """Rows to show; how many of the list in it (of metrics, or runs) fitted, and how many there are."""

    rows: list[Row]
    shown: int
    listed: int


def progress_of(state: RunState) -> Progress | None:
    """Return how far a run is: of several workers at work, the one that has come least far in the unit of the last."""
    told = [activity.progress for activity in state.activities.values()]
    known = [progress for progress in told if progress is not None and progress.current is not None]
    last = state.activity.progress if state.activity is not None else None
    if last is not None and last.current is not None:
        known = [one for one in known if (one.unit, one.total) == (last.unit, last.total)] or [last]
    return min(known, key=lambda progress: progress.current or 0, default=None)


def page(moment: Moment, width: int, height: int) -> Page:
    """Return what fits ``width`` columns and ``height`` rows."""
    state = moment.state
    width, height = max(width, 10), max(height, 4)
    head = _head(moment, width)
    foot = _foot(moment)
    body = max(0, height - len(head) - len(foot))
    keys = metric_order(state.metrics)
    notes = _notes(state, max((body - 6) // 3, 1 if state.error else 0), width)
    logs = _logs(state, width)
    heading = 2 if keys else 0
    spare = body - len(notes) - heading
    shown = min(len(keys), max(0, spare - min(len(logs), max(0, spare // 3))))
    logs_shown = max(0, spare - shown)
    if shown < len(keys) and shown > 0:
        shown -= 1  # for the line that tells of the others
        logs_shown = max(0, spare - shown - 1)
    offset = min(moment.offset, max(0, len(keys) - shown))
    rows = [*head]
    if shown:
        rows += _metrics(moment, keys[offset : offset + shown], width)
        if shown < len(keys):
            above = f"{offset} above, " if offset else ""
            rows.append((Span(f"  {above}{len(keys) - shown - offset} more metrics", "dim"),))
    rows += notes
    if logs and logs_shown > 1:
        rows.append(())
        rows += logs[-(logs_shown - 1) :]
    rows = rows[: height - len(foot)]
    rows += [()] * (height - len(foot) - len(rows)) if moment.keys else []
    return Page([fit_row(row, width) for row in (*rows, *foot)], shown, len(keys))


# ------------------------------------------------------------------------------------------ above


def _head(moment: Moment, width: int) -> list[Row]:
    state = moment.state
    seconds = seconds_between(state, moment.now_us)
    took = "" if seconds is None else f"  {seconds_text(seconds)}"
    status = f"  {state.status}"
    name = cut(escape(state.name or state.run_id), max(4, width - len(status) - len(took)), middle=True)
    used = cell_width(name) + len(status) + len(took)
    own_id = f"  {escape(state.run_id)}" if state.name else ""
    rows: list[Row] = [
        (
            Span(name, "bold"),
            Span(status, COLOURS.get(state.status, "bold")),
            Span(took),
            Span(own_id if used + cell_width(own_id) <= width else "", "dim"),
        )
    ]
    rows += _doing(moment, width)
    workers = _workers(state)
    if workers:
        rows.append((Span(workers),))
    if state.lost_events:
        rows.append((Span(f"{state.lost_events} events LOST", "red"),))
    return rows


def _doing(moment: Moment, width: int) -> list[Row]:
    """Return what the run is doing and how far it is, in one row or two."""
    state = moment.state
    activity = state.activity
    rows: list[Row] = []
    told = ""
    if activity is not None and state.status in LIVE:
        told = activity.status + (f": {escape(activity.message)}" if activity.message else "")
    progress = progress_of(state)
    if progress is None or progress.current is None:
        return [(Span(told),)] if told else []
    count = f"{escape(progress.unit or 'done')} {progress.current}"
    if not progress.total or progress.total <= 0:
        return [(Span("  ".join(filter(None, [told, count]))),)]
    part = min(1.0, max(0.0, progress.current / progress.total))
    count += f"/{progress.total}"
    behind = f" {math.floor(part * 100)}%"
    if moment.left is not None and state.status in LIVE and part < 1:
        behind += f"  {seconds_text(moment.left)} left"
    if told and cell_width(told) + len(count) + len(behind) + 4 + _BAR // 2 > width:
        rows.append((Span(told),))
        told = ""
    before = "  ".join(filter(None, [told, count])) + "  "
    room = min(_BAR, width - cell_width(before) - len(behind))
    drawn = bar(part, room, unicode=moment.unicode) if room >= 4 else ()
    rows.append((Span(before), *drawn, Span(behind)))
    return rows


def seconds_text(seconds: float) -> str:
    """Return a time that is told again every second, without parts of one."""
    return f"{seconds:.0f}s" if seconds < 59.5 else duration_text(round(seconds) * 1000)


def bar(part: float, width: int, *, unicode: bool) -> tuple[Span, ...]:
    """Return a bar that is full to this part."""
    done = math.floor(part * width)
    full, empty = "━─" if unicode else "#-"
    return Span(full * done, "cyan"), Span(empty * (width - done), "dim")


def _workers(state: RunState) -> str:
    """Return what several workers are at, in one line; empty for one."""
    workers = [stream for stream in state.streams if stream.votes and not stream.observer]
    if len(workers) < _SLOWEST_FROM and not state.world_size:
        return ""
    size = f" of {state.world_size}" if state.world_size else ""
    parts = [f"workers {len({stream.stream.worker_id for stream in workers})}{size}"]
    statuses = Counter(stream.status for stream in workers)
    parts.append(", ".join(f"{count} {status}" for status, count in statuses.most_common()))
    if state.status in LIVE:
        doing = Counter(told.status for told in state.activities.values())
        if len(doing) > 1:
            parts.append(", ".join(f"{count} {status}" for status, count in doing.most_common()))
        slowest = _slowest(state.activities)
        if slowest:
            parts.append(slowest)
    return "; ".join(parts)


def _slowest(activities: Mapping[str, Activity]) -> str:
    known = [
        (told.progress.current, name)
        for name, told in activities.items()
        if told.progress and told.progress.current is not None
    ]
    if len(known) < _SLOWEST_FROM:
        return ""
    least, most = min(known), max(known)
    if least[0] == most[0]:
        return ""
    return f"slowest {escape(least[1])} at {least[0]}, fastest {escape(most[1])} at {most[0]}"


def _foot(moment: Moment) -> list[Row]:
    rows: list[Row] = []
    if moment.trouble:
        rows.append((Span(escape(moment.trouble), "yellow"),))
    if moment.keys:
        rows.append((Span("q quits; up, down, space scroll the metrics. The run goes on by itself", "dim"),))
    return rows


# ------------------------------------------------------------------------------------------ metrics


def _metrics(moment: Moment, keys: Sequence[str], width: int) -> list[Row]:
    """Return a table of metrics: names, last values, and of the rest as many columns as there is room for."""
    found = [moment.state.metrics[key] for key in keys]
    trends = [trend_of(metric, moment.trends.get(key, ())) for key, metric in zip(keys, found, strict=True)]
    lasts = [
        metric.last.value if metric.workers is None else trend[-1] for metric, trend in zip(found, trends, strict=True)
    ]
    names = [escape(key) for key in keys]
    cells = next(cells for least, cells in _TREND if width >= least)
    columns: list[tuple[str, list[str], Align]] = [
        ("last", [short_number(last) for last in lasts], "right"),
        ("trend", [sparkline(trend, cells, unicode=moment.unicode) for trend in trends], "left"),
        ("change", [_change(trend) for trend in trends], "right"),
        ("step", ["" if metric.last.step is None else str(metric.last.step) for metric in found], "right"),
        ("nan", [str(metric.nan_count) if metric.nan_count else "" for metric in found], "right"),
        ("min", [_short(metric.min) for metric in found], "right"),
        ("max", [_short(metric.max) for metric in found], "right"),
    ]
    columns = [column for column in columns if any(column[1])]
    steady = _NUMBER if width >= _STEADY_FROM else 0  # so that columns don't move with every new value
    least_sizes = [
        max(len(title), steady if title in {"last", "change", "min", "max"} else 0) for title, _, _ in columns
    ]
    sizes = [max(size, *map(cell_width, texts)) for size, (_, texts, _) in zip(least_sizes, columns, strict=True)]
    longest = max(cell_width("metric"), *map(cell_width, names))
    least = min(longest, max(_NAME_MIN, width // 4))
    while len(columns) > 1 and least + sum(size + _GAP for size in sizes) > width:
        columns.pop()
        sizes.pop()
    room = max(1, min(longest, width - sum(size + _GAP for size in sizes)))
    rows: list[Row] = [()]
    titles = [fill(title, size, align) for (title, _, align), size in zip(columns, sizes, strict=True)]
    rows.append((Span((" " * _GAP).join([fill("metric", room), *titles]), "dim"),))
    for number, name in enumerate(names):
        row = [Span(fill(name, room, middle=True))]
        for (title, texts, align), size in zip(columns, sizes, strict=True):
            style = {"last": "bold", "trend": "cyan"}.get(title, "")
            if title == "last" and not math.isfinite(lasts[number]):
                style = "red"
            row += [Span(" " * _GAP), Span(fill(texts[number], size, align), style)]
        rows.append(tuple(row))
    return rows


def trend_of(metric: MetricSummary, seen: Sequence[float] = ()) -> list[float]:
    """Return the last values of a metric; of one that several workers log the last means, or what was ``seen``."""
    if metric.workers is None:
        return [float(point.value) for point in metric.tail]
    size = metric.workers.count + metric.workers.nan_count
    # Where workers drift apart, a step's values are of some of them only: that mean is no point of the trend.
    whole = [line for line in aggregate_series(metric.tail) if line.count + line.nan_count == size]
    means = [math.nan if line.mean is None else line.mean for line in whole]
    kept = [*(means if len(means) > len(seen) else seen)]
    mean = metric.workers.mean
    now = math.nan if mean is None else mean
    return [*kept, now] if not kept or kept[-1] != now else kept


def _change(trend: Sequence[float]) -> str:
    if len(trend) < 2 or not math.isfinite(trend[-1] - trend[-2]):
        return ""
    change = trend[-1] - trend[-2]
    return f"{change:+.3g}" if change else "="


def _short(value: float | None) -> str:
    return "" if value is None else short_number(value)


# ------------------------------------------------------------------------------------------ below


def _notes(state: RunState, room: int, width: int) -> list[Row]:
    """Return the error, checkpoints and alerts, the most important ones where ``room`` is less than their rows."""
    rows: list[Row] = []
    if state.error is not None:
        rows.append((Span(escape(error_text(state.error)), "red"),))
    if state.checkpoints:
        last = max(
            (stored for stored in state.checkpoints if not stored.hidden),
            key=lambda stored: (stored.checkpoint.step, stored.timestamp_us),
            default=None,
        )
        best = state.best_checkpoint
        text = f"checkpoints {len(state.checkpoints)}"
        if last is not None:
            text += f", last at step {last.checkpoint.step}"
        if best is not None:
            text += f", best at step {best.checkpoint.step}: "
            text += cut(escape(best.checkpoint.path), max(8, width - len(text)), middle=True)
        rows.append((Span(text),))
    for alert in state.alerts[-2:]:
        words = escape(alert.alert.title) + (f": {escape(alert.alert.text)}" if alert.alert.text else "")
        level = alert.alert.level
        told = Span(f"{escape(level):<8}{words}", _LEVELS.get(level, ""))
        rows.append((Span(f"{_clock(alert.timestamp_us)}  ", "dim"), told))
    rows = rows[:room]
    return [(), *rows] if rows else []


def _logs(state: RunState, width: int) -> list[Row]:
    """Return a row for each of the last log events."""
    rows: list[Row] = []
    several = len(state.workers) > 1
    for record in state.logs[-100:]:
        level = record.entry.level
        who = f"{escape(record.worker_id)}  " if several and record.worker_id else ""
        text = cut(escape(record.entry.message.rstrip()), width)
        rows.append(
            (
                Span(f"{_clock(record.timestamp_us)}  {who}", "dim"),
                Span(f"{escape(level):<8}", _LEVELS.get(level, "")),
                Span(text),
            )
        )
    return rows


def _clock(timestamp_us: int) -> str:
    return local_time(timestamp_us)[-8:]
