"""Line charts for the terminal: axes, several curves in colours, a legend, and what couldn't be drawn in words.

Curves are dots of braille, two by four a cell. Where nothing tells colours apart (a pipe, NO_COLOR), or there is no
Unicode, each curve has a letter instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from xtrack_protocol.decode.text import escape, short_number
from xtrack_protocol.views.cells import (
    CURVES,
    Row,
    Span,
    cell_width,
    cut,
    distinct,
    fill,
    fit_row,
    side_by_side,
)
from xtrack_protocol.views.curves import Curve
from xtrack_protocol.views.scales import Scale, scale_of, tick_texts

LETTERS: Final = "*+xo#@abcdefghijklmnpqrstuvwyzABCDEFGHIJKLMNPQRSTUVWXYZ"
"""Marks of curves where there are no colours, in order, again from the first where there are more."""

WIDTH_MIN: Final = 20
HEIGHT_MIN: Final = 5
_LEGEND_PART: Final = 4
"""At most one of so many rows is a legend's."""

_NAME: Final = 40
_PANEL: Final = 38
"""Cells that one of several charts side by side takes at least."""

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE: Final = 0x2800


@attrs.frozen(kw_only=True)
class Look:
    """How charts are drawn. ``width``, ``height``: in cells, all included. ``log``: the axis of values.

    ``colours``: whether the terminal shows them. ``unicode``: whether it shows braille and lines.
    """

    width: int = 80
    height: int = 20
    log: bool = False
    colours: bool = True
    unicode: bool = True

    def marks(self, count: int) -> bool:
        """Whether curves are told apart by letters."""
        return not self.unicode or (not self.colours and count > 1)


def chart(curves: Sequence[Curve], title: str, look: Look) -> list[Row]:
    """Return a chart of ``curves``: at most ``look.height`` rows (and never less than HEIGHT_MIN) of ``look.width``
    cells (or WIDTH_MIN).
    """
    width, height = max(look.width, WIDTH_MIN), max(look.height, HEIGHT_MIN)
    rows = [(Span(cut(escape(title), width), "bold"),)] if title else []
    ending = _remarks(curves, width)
    if len(curves) > 1:
        room = max(1, min(height // _LEGEND_PART, height - len(rows) - len(ending) - HEIGHT_MIN + 1))
        ending = [*_legend(curves, width, room, look), *ending]
    ending = ending[: max(0, height - len(rows) - 4)]
    seen = [point for curve in curves for point in _points(curve, log=look.log)]
    if not seen:
        rows.append((Span("  no points to draw", "dim"),))
        return [fit_row(row, width) for row in (*rows, *ending)]
    plot = height - len(rows) - len(ending) - 2
    body = _body(curves, seen, width, plot, look)
    return [fit_row(row, width) for row in (*rows, *body, *ending)]


def small_multiples(panels: Sequence[tuple[str, Sequence[Curve]]], look: Look) -> list[Row]:
    """Return a chart for each pair of title and curves, as many side by side as there is room for.

    ``look.height`` is that of one.
    """
    gap = 2
    across = max(1, min(len(panels), (look.width + gap) // (_PANEL + gap)))
    one = attrs.evolve(look, width=(look.width - gap * (across - 1)) // across)
    rows: list[Row] = []
    for start in range(0, len(panels), across):
        beside = [chart(curves, title, one) for title, curves in panels[start : start + across]]
        for number in range(max(map(len, beside))):
            row: list[Span] = []
            for place, drawn in enumerate(beside):
                own = drawn[number] if number < len(drawn) else ()
                row += own
                if place + 1 < len(beside):
                    row.append(Span(" " * (one.width - sum(cell_width(span.text) for span in own) + gap)))
            rows.append(tuple(row))
        rows.append(())
    return rows[:-1]


def style_of(number: int) -> str:
    """Return the style of the curve of this number, from 0 on."""
    return CURVES[number % len(CURVES)]


def _points(curve: Curve, *, log: bool) -> Iterator[tuple[float, float]]:
    for place, value in zip(curve.places, curve.values, strict=True):
        if math.isfinite(value) and (value > 0 or not log):
            yield place, value


# ------------------------------------------------------------------------------------------ around the curves


def _legend(curves: Sequence[Curve], width: int, rows: int, look: Look) -> list[Row]:
    """Return the curves' names, marks and last values. The names are cut, and not the values."""
    values = ["" if curve.last is None else f" {short_number(curve.last)}" for curve in curves]
    room = min(_NAME, width - 4 - max(map(len, values)))
    cells = []
    for number, name in enumerate(distinct([curve.name for curve in curves], max(4, room))):
        mark = LETTERS[number % len(LETTERS)] if look.marks(len(curves)) else ("━" if look.unicode else "-")
        cells.append(Span(cut(f"{mark} {name}{values[number]}", max(1, width - 2)), style_of(number)))
    return side_by_side(cells, width, rows)


def left_out_text(curve: Curve) -> str:
    """Return what of a curve couldn't be drawn, in words; empty for nothing."""
    return ", ".join(f"{count} {what}" for what, count in sorted(curve.left_out.items()) if count)


def _remarks(curves: Sequence[Curve], width: int) -> list[Row]:
    """Return what couldn't be drawn, in at most two rows."""
    told = [(curve.name, left_out_text(curve)) for curve in curves]
    told = [(name, text) for name, text in told if text]
    if not told:
        return []
    if len(curves) == 1:
        return [(Span(cut(f"not drawn: {told[0][1]}", width), "yellow"),)]
    rows: list[Row] = []
    for name, text in told[:2]:
        room = max(4, width - len(text) - len("not drawn:  of "))
        rows.append((Span(f"not drawn: {text} of {cut(escape(name), room, middle=True)}", "yellow"),))
    if len(told) > 2:
        rows[1] = (Span(f"not drawn: values of {len(told) - 1} more curves", "yellow"),)
    return rows


def _body(
    curves: Sequence[Curve], seen: Sequence[tuple[float, float]], width: int, height: int, look: Look
) -> list[Row]:
    """Return the curves with their axes: ``height`` rows, and two for the axis below."""
    across = scale_of([place for place, _ in seen])
    first, last = min(place for place, _ in seen), max(place for place, _ in seen)
    if first < last:
        across = Scale(first, last)
    upward = scale_of((value for _, value in seen), log=look.log)
    values = upward.ticks(max(3, min(height // 3 + 1, 8)))
    texts = [f"{value:g}" for value in values] if look.log else tick_texts(values)
    margin = min(max(map(len, texts)), width // 3)
    columns = width - margin - 2
    cells = _Cells(columns, height, letters=look.marks(len(curves)))
    for number, curve in enumerate(curves):
        cells.draw(number, _strokes(curve, across, upward, log=look.log))
    labels = {_row_of(upward.part(value), height): text for value, text in zip(values, texts, strict=True)}
    tick, side = ("┤", "│") if look.unicode else ("+", "|")
    rows = []
    for number, row in enumerate(cells.rows()):
        label = fill(labels.get(number, ""), margin, "right")
        rows.append((Span(f"{label} ", "dim"), Span(tick if number in labels else side, "dim"), *row))
    only = first if first == last else None
    return [*rows, *_axis(curves[0].axis, across, only, columns, margin, "└─┬" if look.unicode else "+-+")]


def _row_of(part: float, height: int) -> int:
    return height - 1 - min(height - 1, max(0, math.floor(part * (height * 4 - 1) + 0.5) // 4))


def _axis(axis: str, across: Scale, only: float | None, columns: int, margin: int, lines: str) -> list[Row]:
    """Return the line below the curves and what stands under it. ``only``: where all points stand."""
    corner, bottom, notch = lines[0], lines[1], lines[2]
    unit, divisor = time_unit(across.high - across.low) if axis == "time" else ("", 1.0)
    scale = Scale(across.low / divisor, across.high / divisor)
    places: dict[int, str] = {}
    for most in range(max(2, columns // 10), 0, -1):
        ticks = scale.ticks(most) if only is None else [only / divisor]
        if axis != "time" and only is None:  # whole numbers, then
            whole = [tick for tick in ticks if tick == round(tick)]
            ticks = whole if len(whole) > 1 or most == 1 else [across.low, across.high]
        texts = [text + unit for text in tick_texts(ticks, counts=True)]
        at = [min(columns - 1, max(0, round(scale.part(tick) * (columns - 1)))) for tick in ticks]
        ends = [place - len(text) // 2 + len(text) for place, text in zip(at, texts, strict=True)]
        begins = [place - len(text) // 2 for place, text in zip(at, texts, strict=True)]
        places = dict(zip(at, texts, strict=True))
        if all(end + 1 < begin for end, begin in zip(ends, begins[1:], strict=False)):
            break
    line = "".join(notch if column in places else bottom for column in range(columns))
    under = [" "] * (margin + 2 + columns)
    for place, text in places.items():
        begin = min(max(0, margin + 2 + place - len(text) // 2), len(under) - len(text))
        under[begin : begin + len(text)] = text
    label = _named("".join(under), axis)
    return [(Span(" " * (margin + 1) + corner + line, "dim"),), (Span(label, "dim"),)]


def _named(label: str, axis: str) -> str:
    """Put an axis's name beside its numbers: on the left, on the right, or else between two of them."""
    gaps = [gap.span() for gap in re.finditer(" +", label)]
    for begin, end in sorted(gaps, key=lambda gap: (gap[0] > 0, gap[1] < len(label), gap[0] - gap[1])):
        room = end - begin - 1 - (begin > 0 and end < len(label))
        if room >= len(axis):
            place = 0 if begin == 0 else (end - len(axis) if end == len(label) else (begin + end - len(axis)) // 2)
            return label[:place] + axis + label[place + len(axis) :]
    return label


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit that so long a time is told in, and its seconds."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return unit, size
    return "s", 1.0


# ------------------------------------------------------------------------------------------ the curves


def _strokes(
    curve: Curve, across: Scale, upward: Scale, *, log: bool
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Yield pairs of points to be joined, as parts of the scales; a point between gaps is joined to itself."""
    before: tuple[float, float] | None = None
    alone = False
    for place, value in zip(curve.places, curve.values, strict=True):
        if not math.isfinite(value) or (log and value <= 0):
            if before is not None and alone:
                yield before, before
            before, alone = None, False
            continue
        point = across.part(place), upward.part(value)
        if before is None:
            alone = True
        else:
            yield before, point
            alone = False
        before = point
    if before is not None and alone:
        yield before, before


class _Cells:
    """A grid of cells with dots in them, or letters. The curve drawn last in a cell gives its colour."""

    def __init__(self, columns: int, rows: int, *, letters: bool) -> None:
        self._columns, self._rows, self._letters = columns, rows, letters
        self._across, self._down = (1, 1) if letters else (2, 4)
        self._dots = [[0] * columns for _ in range(rows)]
        self._owner = [[0] * columns for _ in range(rows)]

    def draw(self, number: int, strokes: Iterable[tuple[tuple[float, float], tuple[float, float]]]) -> None:
        """Draw a curve."""
        right, top = self._columns * self._across - 1, self._rows * self._down - 1
        for (x0, y0), (x1, y1) in strokes:
            begin = round(x0 * right), top - round(y0 * top)
            self._line(number, *begin, round(x1 * right), top - round(y1 * top))
            if (x0, y0) == (x1, y1) and not self._letters:  # by itself: one dot is easily overlooked
                self._line(number, begin[0] ^ 1, begin[1], begin[0], begin[1] ^ 1)
                self._dot(number, begin[0] ^ 1, begin[1] ^ 1)

    def _line(self, number: int, x: int, y: int, to_x: int, to_y: int) -> None:
        steps = max(abs(to_x - x), abs(to_y - y))
        for step in range(steps + 1):
            part = step / steps if steps else 0.0
            self._dot(number, round(x + (to_x - x) * part), round(y + (to_y - y) * part))

    def _dot(self, number: int, x: int, y: int) -> None:
        column, row = x // self._across, y // self._down
        if self._letters:
            self._dots[row][column] = ord(LETTERS[number % len(LETTERS)])
        else:
            self._dots[row][column] |= _DOTS[y % 4][x % 2]
        self._owner[row][column] = number

    def rows(self) -> Iterator[Row]:
        """Yield the rows from the top, neighbours of one colour together."""
        base = 0 if self._letters else _BRAILLE
        for dots, owners in zip(self._dots, self._owner, strict=True):
            spans: list[Span] = []
            text, style = "", ""
            for dot, owner in zip(dots, owners, strict=True):
                own = style_of(owner) if dot else style
                if own != style and text:
                    spans.append(Span(text, style))
                    text = ""
                style = own
                text += chr(base + dot) if dot else " "
            yield (*spans, Span(text, style)) if text else tuple(spans)
