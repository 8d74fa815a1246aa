"""``xtrack plot``."""

from __future__ import annotations

import fnmatch
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import attrs
import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, find_all, metric_order, opened, reading, run_titles
from xtrack_protocol.decode.meant import near_or_some
from xtrack_protocol.runs import RunState
from xtrack_protocol.views.chart import Look, chart, small_multiples
from xtrack_protocol.views.curves import POINTS, Axis, Curve, read_curve

if TYPE_CHECKING:
    from xtrack_protocol.storage import Storage

SECTION = "Look"

_PANELS: Final = 24
"""Charts at most where no KEY is named."""
_HEIGHT: Final = 24
_PANEL_HEIGHT: Final = 11
_LISTED: Final = 5
_CELLS_MAX: Final = 1000
_DOTS: Final = 120
_PIXELS: Final = (100, 10_000)


def parse_weight(_: click.Context, __: click.Parameter, weight: float) -> float:
    """Return the weight of the past. Raises BadParameter."""
    if not 0 <= weight < 1:
        raise click.BadParameter(f"{weight:g} is not from 0 to below 1. 0.6 smooths a little, 0.95 a lot")
    return weight


def parse_size(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Return width and height. Raises BadParameter."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found or "0" in found.groups():
        raise click.BadParameter(f"{text!r} is no size: write WIDTHxHEIGHT, as 100x30")
    return int(found[1]), int(found[2])


@attrs.frozen(kw_only=True)
class _Asked:
    """What is to be drawn, and how."""

    axis: Axis
    weight: float
    log: bool
    workers: Sequence[str]
    points: int = POINTS


@click.command(
    "plot",
    epilog=examples(
        "xtrack plot latest",
        "xtrack plot latest loss val_loss --smooth 0.6",
        "xtrack plot baseline loss --with wide --with 'sweep-*' --png loss.png",
        "xtrack plot latest 'train/*' --split --x time --log",
    ),
)
@click.argument("run")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option(
    "--with",
    "others",
    multiple=True,
    metavar="RUN",
    help="Also this run, on the same chart. May be given several times.",
)
@click.option(
    "--png", "-o", "--output", "picture", metavar="FILE",
    help="Write a picture instead: .png, .svg or .pdf; - is a PNG on standard output.",
)  # fmt: skip
@click.option(
    "--smooth", "weight", type=float, default=0.0, callback=parse_weight, metavar="X",
    help="Smooth by a moving average, as TensorBoard does: from 0, not at all, to below 1.",
)  # fmt: skip
@click.option(
    "--x", "axis", type=click.Choice(get_args(Axis)), default="step", show_default=True,
    help="What the points stand over; time is that since the run's start.",
)  # fmt: skip
@click.option("--log", is_flag=True, help="A logarithmic axis of values.")
@click.option(
    "--worker", "workers", multiple=True, metavar="ID",
    help="This worker's points, and not the mean of all. May be given several times.",
)  # fmt: skip
@click.option("--split", is_flag=True, help="A chart for each KEY, as without KEY.")
@click.option(
    "--size", callback=parse_size, metavar="WxH", help="Of a chart: in characters, of a picture in pixels."
)  # fmt: skip
@reading
def command(
    run: str, keys: tuple[str, ...], others: tuple[str, ...], picture: str | None, weight: float, axis: Axis, log: bool,
    workers: tuple[str, ...], split: bool, size: tuple[int, int] | None, store: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Draw metrics as curves, at the terminal or as a picture.

    KEY is a metric's name, in which * stands for any text; without one, each metric has a chart of its own. RUN may be
    a pattern of names (quote it), which means all runs so named.

    Where several workers log a metric, the curve is their mean; a picture shows the lowest and the highest value too.
    NaN, infinities and points without a step can't be drawn: they are gaps, and counted. --json writes the points that
    would be drawn.
    """
    form = _form(picture)
    if picture is not None and as_json:
        raise click.UsageError("--png and --json exclude each other")
    width, height = size or _own_size(several=split or not keys)
    points = POINTS if picture is not None or as_json else min(POINTS, max(200, 4 * min(width, _CELLS_MAX)))
    asked = _Asked(axis=axis, weight=weight, log=log, workers=workers, points=points)
    with opened(store) as source:
        states = find_all(source, [run, *others])
        names, problem = _names(states, keys)
        problem = problem or _no_worker(states, workers)
        if problem is not None:
            out.remark(problem)
            return 1
        more = len(names) - _PANELS if not keys and not as_json else 0
        drawn = names[:_PANELS] if more > 0 else names
        split = split or not keys
        panels = _panels(source, states, drawn, asked, split=split)
    if as_json:
        out.as_json([_json(curve, state, key) for _, found in panels for state, key, curve in found])
    else:
        shown = [(title, [curve for _, _, curve in found]) for title, found in panels]
        if picture is not None:
            _write_picture(shown, picture, form, asked, size)
        else:
            look = Look(
                width=min(width, _CELLS_MAX), height=min(height, _CELLS_MAX), log=log, colours=out.shows_colours(),
                unicode=out.shows_unicode(),
            )  # fmt: skip
            out.picture_rows(chart(shown[0][1], shown[0][0], look) if len(shown) == 1 else small_multiples(shown, look))
    if more > 0:
        out.remark(f"only the first {_PANELS} of {len(names)} metrics. Name those you want; '*' is any text")
    return 0


def _form(picture: str | None) -> str:
    from xtrack_protocol.views.figure import FORMATS

    if picture is None or picture == "-":
        return "png"
    suffix = Path(picture).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise click.UsageError(f"{picture!r} ends in none of .png, .svg and .pdf, which say what is written.")
    return suffix


def _own_size(*, several: bool) -> tuple[int, int]:
    terminal = shutil.get_terminal_size((80, _HEIGHT))
    return terminal.columns, _PANEL_HEIGHT if several else max(8, min(terminal.lines - 2, 40))


# ------------------------------------------------------------------------------------------ which metrics


def _names(states: Sequence[RunState], keys: Sequence[str]) -> tuple[list[str], str | None]:
    """Return which metrics to draw, each once, and why there are none."""
    there = metric_order(name for state in states for name in state.metrics)
    whose = f"run {states[0].run_id} has" if len(states) == 1 else f"none of the {len(states)} runs has"
    if not there:
        return [], f"xtrack: error: {whose} {'no' if len(states) == 1 else 'any'} metrics"
    found: dict[str, None] = {}
    for key in keys:
        matching = [key] if key in there else [name for name in there if fnmatch.fnmatchcase(name, key)]
        if not matching:
            what = f"{'no' if len(states) == 1 else 'a'} metric {key!r}"
            return [], f"xtrack: error: {whose} {what}. {near_or_some(key, there)}"
        found.update(dict.fromkeys(matching))
    return [*found] if keys else there, None


def _no_worker(states: Sequence[RunState], workers: Sequence[str]) -> str | None:
    """Return what is wrong with the workers asked for; None for nothing."""
    there = sorted({worker for state in states for worker in state.workers})
    for worker in workers:
        if worker not in there:
            if there == [""]:
                return f"xtrack: error: no worker {worker!r}. There is one, without an id: leave out --worker"
            known = ", ".join(repr(name) for name in there[:_LISTED]) + (", ..." if len(there) > _LISTED else "")
            return f"xtrack: error: no worker {worker!r}. There are {known}"
    return None


_Found = tuple[RunState, str, Curve]


def _panels(
    source: Storage, states: Sequence[RunState], names: Sequence[str], asked: _Asked, *, split: bool
) -> list[tuple[str, list[_Found]]]:
    """Return the charts: titles, and curves with what they are of."""
    titles = run_titles(states)
    workers: Sequence[str | None] = asked.workers or [None]
    groups = [[name] for name in names] if split else [[*names]]
    panels = []
    for group in groups:
        of_one = len(group) == 1
        found: list[_Found] = []
        for state, title in zip(states, titles, strict=True):
            for key in group:
                if key not in state.metrics:
                    continue
                named = title if of_one else (key if len(states) == 1 else f"{title} {key}")
                for worker in workers:
                    own = named if worker is None else f"{named} worker {worker}"
                    curve = read_curve(
                        source, state, key, own, axis=asked.axis, worker_id=worker, weight=asked.weight, log=asked.log,
                        points=asked.points,
                    )  # fmt: skip
                    found.append((state, key, curve))
        subject = group[0] if of_one else ("" if len(states) > 1 else titles[0])
        if of_one and len(states) == 1 and not split:
            subject = f"{subject} of {titles[0]}"
        panels.append((_with_manner(subject, [state for state, _, _ in found], group, asked), found))
    return panels


def _with_manner(subject: str, states: Sequence[RunState], keys: Sequence[str], asked: _Asked) -> str:
    """Return a title that says how its curves were made."""
    counts = set()
    for state in states:
        for key in keys:
            workers = state.metrics[key].workers if key in state.metrics else None
            counts.add(workers.count + workers.nan_count if workers else 1)
    manner = []
    if not asked.workers and counts and max(counts) > 1:
        manner.append(f"mean of {max(counts)} workers")
    if asked.weight:
        manner.append(f"smoothed {asked.weight:g}")
    return ", ".join(filter(None, [subject, *manner]))


# ------------------------------------------------------------------------------------------ what comes of it


def _write_picture(
    panels: Sequence[tuple[str, Sequence[Curve]]], name: str, form: str, asked: _Asked, size: tuple[int, int] | None
) -> None:
    from xtrack_protocol.views.figure import Picture, draw

    how = Picture(log=asked.log, dots=_DOTS)
    if size is not None:
        low, high = _PIXELS
        if not all(low <= side <= high for side in size):
            raise click.UsageError(f"--size of a picture is in pixels, {low} to {high} each way.")
        how = attrs.evolve(how, width=size[0] / _DOTS, height=size[1] / _DOTS)
    data, told = draw(panels, how, form)
    if name == "-":
        sys.stdout.buffer.write(data)
        return
    Path(name).write_bytes(data)
    for text in told:
        out.remark(f"xtrack: {text}")
    count = sum(len(curves) for _, curves in panels)
    out.remark(f"xtrack: {name}: {count} curve{'s' if count != 1 else ''}, {len(data)} bytes")


def _json(curve: Curve, state: RunState, key: str) -> dict[str, Any]:
    return {
        "run_id": state.run_id,
        "name": state.name,
        "key": key,
        "label": curve.name,
        "x": curve.axis,
        "points": [
            [place, out.cell_json(value, "number")] for place, value in zip(curve.places, curve.values, strict=True)
        ],
        "last": out.cell_json(curve.last, "number"),
        "not_drawn": dict(+curve.left_out),
    }
