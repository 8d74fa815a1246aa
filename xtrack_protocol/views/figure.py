"""Charts as pictures, by matplotlib (``pip install 'xtrack-protocol[plot]'``): PNG, SVG and PDF.

Figures are made without pyplot, so that nothing global is touched and no screen is needed.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, Final

import attrs

from xtrack_protocol.decode.text import escape, short_number
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.views.cells import cut, distinct
from xtrack_protocol.views.chart import left_out_text, time_unit
from xtrack_protocol.views.curves import Curve

FORMATS: Final = ("png", "svg", "pdf")

_COLOURS: Final = 10
"""Curves that get colours of their own; more are taken from a range of colours, in order."""
_LEGEND: Final = 25
_BESIDE: Final = 2.5
"""Inches that names beside a chart add to its width."""
_NAME: Final = 44
_REMARKS: Final = 4
_NOTE: Final = 9
"""Points that a line of remarks is high."""
_LETTERS: Final = 9
"""Letters of a title that fit an inch."""
_THOUSANDS_FROM: Final = 10_000
"""From which step on axes are written as 200k."""
_FONTS: Final = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "IPAexGothic", "PingFang SC", "Hiragino Sans", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Noto Emoji",
)  # fmt: skip
"""Of these the installed ones are used, for letters that the first one lacks."""


@attrs.frozen(kw_only=True)
class Picture:
    """How a picture is made. ``width``, ``height``: in inches. ``dots``: an inch, for PNG. ``log``: axis of values."""

    width: float = 8.0
    height: float = 4.5
    dots: int = 120
    log: bool = False


def draw(panels: Sequence[tuple[str, Sequence[Curve]]], picture: Picture, form: str = "png") -> tuple[bytes, list[str]]:
    """Return a file of a chart for each pair of title and curves, and what to tell of it (letters that no font has).

    ``picture.height`` is that of one chart. ``form``: one of FORMATS. Raises ConfigurationError where matplotlib isn't
    installed, and ValueError for another form or a picture too large for it.
    """
    if form not in FORMATS:
        raise ValueError(f"{form!r} is none of {', '.join(FORMATS)}")
    matplotlib = _matplotlib()
    file = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with matplotlib.rc_context(_style(matplotlib)):
            figure(panels, picture).savefig(file, format=form, dpi=picture.dots, metadata=metadata)
    lacking = [str(one.message) for one in caught if "missing from" in str(one.message)]
    told = ["some letters of names are in no font that matplotlib finds; .svg leaves them to the viewer"]
    return file.getvalue(), told if lacking and form != "svg" else []


def figure(panels: Sequence[tuple[str, Sequence[Curve]]], picture: Picture) -> Any:
    """Return the matplotlib Figure of ``draw``, for who goes on with it. Raises as that does."""
    _matplotlib()
    from matplotlib.figure import Figure

    across = 1 if len(panels) == 1 else (2 if len(panels) < 7 else 3)
    down = -(-len(panels) // across)
    size = (
        picture.width * (1 if across == 1 else across * 0.75),
        picture.height * (down if across == 1 else down * 0.8),
    )
    if any(len(curves) > 1 for _, curves in panels):
        size = (size[0] + across * _BESIDE, size[1])
    made = Figure(figsize=size, layout="constrained")
    axes = made.subplots(down, across, squeeze=False)
    flat = [one for row in axes for one in row]
    for (title, curves), one in zip(panels, flat, strict=False):
        _draw_panel(one, title, curves, picture, letters=round(size[0] / across * _LETTERS))
    for one in flat[len(panels) :]:
        one.set_axis_off()
    return made


def _matplotlib() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise ConfigurationError(
            "plot", "png", "needs matplotlib, which isn't installed", "pip install 'xtrack-protocol[plot]'"
        ) from None
    return mpl


def _style(matplotlib: Any) -> dict[str, Any]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return {
        **matplotlib.rcParamsDefault,  # whatever the user's own file says
        "backend": "agg",
        "font.family": [name for name in _FONTS if name in installed] or ["sans-serif"],
        "svg.fonttype": "none",
        "svg.hashsalt": "xtrack",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.formatter.useoffset": False,
        "agg.path.chunksize": 20000,
    }


def _text(text: str, width: int) -> str:
    """Return text in which nothing is taken for a formula."""
    return cut(escape(text), width, middle=True).replace("$", r"\$")


def _draw_panel(axes: Any, title: str, curves: Sequence[Curve], picture: Picture, letters: int) -> None:
    colours = _colours(len(curves))
    axis = curves[0].axis if curves else "step"
    unit, divisor = "", 1.0
    if axis == "time":
        ends = [end for curve in curves if len(curve.places) for end in (min(curve.places), max(curve.places))]
        unit, divisor = time_unit(max(ends) - min(ends)) if ends else ("s", 1.0)
    drawn = False
    names = distinct([curve.name for curve in curves], _NAME)
    for curve, name, colour in zip(curves, names, colours, strict=True):
        drawn = _draw_curve(axes, curve, name, colour, divisor, log=picture.log) or drawn
    if picture.log and drawn:
        axes.set_yscale("log")
    if not drawn:
        axes.text(0.5, 0.5, "no points to draw", transform=axes.transAxes, ha="center", va="center", color="0.5")
    axes.margins(x=0.02)
    axes.set_xlabel(f"{axis} ({unit})" if unit else axis)
    if axis in {"step", "epoch", "point"}:
        axes.xaxis.get_major_locator().set_params(integer=True)
        if max((abs(place) for curve in curves for place in curve.places), default=0) >= _THOUSANDS_FROM:
            from matplotlib.ticker import EngFormatter

            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(curves) > 1:
        _legend(axes, curves)
    remarks = [f"{left_out_text(curve)} of {_text(curve.name, _NAME)}" for curve in curves if left_out_text(curve)]
    if len(curves) == 1:
        remarks = [left_out_text(curve) for curve in curves if left_out_text(curve)]
    if len(remarks) > _REMARKS:
        remarks = [*remarks[: _REMARKS - 1], f"values of {len(remarks) - _REMARKS + 1} more curves"]
    notes = [f"not drawn: {remark}" for remark in remarks]
    if any(curve.raw is not None for curve in curves):
        notes.insert(0, "pale: as logged")
    axes.set_title(_text(title, letters), loc="left", fontsize=11, pad=6 + _NOTE * len(notes))
    if notes:
        axes.annotate(
            "\n".join(notes), (0, 1), xycoords="axes fraction", xytext=(0, 3), textcoords="offset points", ha="left",
            va="bottom", fontsize=7, color="0.4",
        )  # fmt: skip


def _draw_curve(axes: Any, curve: Curve, name: str, colour: Any, divisor: float, *, log: bool) -> bool:
    """Draw one curve; return whether anything of it can be seen."""
    finite = [math.isfinite(value) and (value > 0 or not log) for value in curve.values]
    places, values = [place / divisor for place in curve.places], _gaps(curve.values)
    if curve.band is not None:
        (low_places, low), (high_places, high) = curve.band
        across = [place / divisor for place in (*low_places, *reversed(high_places))]
        edge = _gaps([*low, *reversed(high)])
        kept = [(x, y) for x, y in zip(across, edge, strict=True) if math.isfinite(y) and (y > 0 or not log)]
        if kept:
            axes.fill(*zip(*kept, strict=True), color=colour, alpha=0.15, linewidth=0)
    if curve.raw is not None:
        raw_places, raw = curve.raw
        axes.plot([place / divisor for place in raw_places], _gaps(raw), color=colour, alpha=0.25, linewidth=0.8)
    told = short_number(curve.last) if curve.last is not None else "no points"
    label = f"{_text(name, _NAME)}  {told}"
    if label.startswith("_"):  # which matplotlib takes for a line without a name
        label = f" {label}"
    axes.plot(places, values, color=colour, linewidth=1.3, label=label)
    alone = [
        place
        for place, there in enumerate(finite)
        if there and not any(finite[max(0, place - 1) : place] + finite[place + 1 : place + 2])
    ]
    if alone:  # a line of one point can't be seen
        dots = [places[place] for place in alone], [values[place] for place in alone]
        axes.plot(*dots, color=colour, marker="o", markersize=4, linestyle="none")
    return any(finite)


def _gaps(values: Sequence[float]) -> list[float]:
    """Return values without infinities, which would stretch the axis; and within what matplotlib can reckon with."""
    return [min(max(value, -1e300), 1e300) if math.isfinite(value) else math.nan for value in values]


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    if count <= _COLOURS:
        return [colormaps["tab10"](number) for number in range(count)]
    return [colormaps["turbo"](0.05 + 0.9 * number / (count - 1)) for number in range(count)]


def _legend(axes: Any, curves: Sequence[Curve]) -> None:
    """Put names beside the chart; of many some from all over their range of colours."""
    handles, labels = axes.get_legend_handles_labels()
    title = None
    if len(curves) > _LEGEND:
        title = f"{_LEGEND} of {len(curves)} curves"
        chosen = [round(number * (len(labels) - 1) / (_LEGEND - 1)) for number in range(_LEGEND)]
        handles, labels = [handles[place] for place in chosen], [labels[place] for place in chosen]
    axes.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False,
        fontsize=7, title=title, title_fontsize=7,
    )  # fmt: skip
