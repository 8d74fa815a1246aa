"""What ``xtrack watch`` shows of several runs: a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs

from xtrack_protocol.cli._output import COLOURS
from xtrack_protocol.cli._runs import LIVE, latest_metrics, run_titles, seconds_between
from xtrack_protocol.cli._watch_page import Page, bar, progress_of, seconds_text
from xtrack_protocol.decode.text import escape, short_number
from xtrack_protocol.runs import RunState
from xtrack_protocol.views.cells import Align, Row, Span, cell_width, distinct, fill, fit_row

_BAR: Final = 10
_METRICS: Final = 3
_GAP: Final = 2
_NAME: Final = 40


@attrs.frozen(kw_only=True)
class Moments:
    """Several runs at one time. ``left``: of each the estimated seconds to its end. Else as in Moment."""

    states: Sequence[RunState]
    now_us: int
    left: Sequence[float | None]
    offset: int = 0
    keys: bool = False
    unicode: bool = True


def counts_text(states: Sequence[RunState]) -> str:
    """Return how many runs there are, of which status."""
    counted = Counter(state.status for state in states)
    return f"{len(states)} runs: " + ", ".join(f"{count} {status}" for status, count in counted.most_common())


def runs_page(moments: Moments, width: int, height: int) -> Page:
    """Return what fits ``width`` columns and ``height`` rows: runs at work first, then the newest."""
    width, height = max(width, 10), max(height, 4)
    order = sorted(
        range(len(moments.states)),
        key=lambda place: (moments.states[place].status not in LIVE, -(moments.states[place].started_at_us or 0)),
    )
    foot: list[Row] = []
    if moments.keys:
        foot.append((Span("q quits; up, down, space scroll the runs. They go on by themselves", "dim"),))
    room = height - 3 - len(foot)
    shown = len(order) if len(order) <= room else max(0, room - 1)
    offset = min(moments.offset, max(0, len(order) - shown))
    rows: list[Row] = [(Span(counts_text(moments.states), "bold"),), ()]
    if shown:
        rows += _table(moments, order[offset : offset + shown], width)
    if shown < len(order):
        above = f"{offset} above, " if offset else ""
        rows.append((Span(f"  {above}{len(order) - shown - offset} more runs", "dim"),))
    rows += [()] * (height - len(foot) - len(rows)) if moments.keys else []
    return Page([fit_row(row, width) for row in (*rows[: height - len(foot)], *foot)], shown, len(order))


def _table(moments: Moments, places: Sequence[int], width: int) -> list[Row]:
    states = [moments.states[place] for place in places]
    names = dict(zip(range(len(moments.states)), run_titles(moments.states), strict=True))
    columns: list[tuple[str, list[Row], Align]] = [
        ("status", [(Span(state.status, COLOURS.get(state.status, "")),) for state in states], "left"),
        ("progress", [_progress(state, unicode=moments.unicode) for state in states], "left"),
        ("left", [(Span(_left(moments.left[place], moments.states[place])),) for place in places], "right"),
        ("time", [(Span(_time(state, moments.now_us)),) for state in states], "right"),
        ("metrics", [(Span(_metrics(state)),) for state in states], "left"),
    ]
    columns = [column for column in columns if any(span.text for row in column[1] for span in row)]
    sizes = [max(len(title), *map(_row_width, cells)) for title, cells, _ in columns]
    sizes[-1] = len(columns[-1][0])  # nothing stands behind it
    told = distinct([names[place] for place in places], max(8, min(_NAME, width // 3)))
    first = max([3, *map(cell_width, told)])
    heading = [Span(fill("run", first), "dim")]
    for (title, _, align), size in zip(columns, sizes, strict=True):
        heading.append(Span(" " * _GAP + fill(title, size, align), "dim"))
    rows: list[Row] = [tuple(heading)]
    for number, name in enumerate(told):
        row = [Span(fill(name, first))]
        for (_, cells, align), size in zip(columns, sizes, strict=True):
            space = Span(" " * max(0, size - _row_width(cells[number])))
            row.append(Span(" " * _GAP))
            row += [space, *cells[number]] if align == "right" else [*cells[number], space]
        rows.append(tuple(row))
    return rows


def _row_width(row: Row) -> int:
    return sum(cell_width(span.text) for span in row)


def _progress(state: RunState, *, unicode: bool) -> Row:
    progress = progress_of(state)
    if progress is None or progress.current is None:
        return ()
    if not progress.total or progress.total <= 0:
        return (Span(str(progress.current)),)
    part = min(1.0, max(0.0, progress.current / progress.total))
    return (*bar(part, _BAR, unicode=unicode), Span(f" {progress.current}/{progress.total}"))


def _left(seconds: float | None, state: RunState) -> str:
    return "" if seconds is None or state.status not in LIVE else seconds_text(seconds)


def _time(state: RunState, now_us: int) -> str:
    seconds = seconds_between(state, now_us)
    return "" if seconds is None else seconds_text(seconds)


def _metrics(state: RunState) -> str:
    """Return the metrics written last, by the alphabet so that they stay in their places."""
    found = sorted((key, metric) for key, metric in latest_metrics(state, len(state.metrics)) if key[:7] != "system/")
    return "  ".join(f"{escape(key)} {short_number(metric.last.value)}" for key, metric in found[:_METRICS])
