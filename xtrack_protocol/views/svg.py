"""Charts as SVG, without any library: for notebooks. Ink takes the colour of the page's text, be it dark or light."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import chain
from math import isfinite
from typing import Final

from xtrack_protocol.views.chart import left_out_text
from xtrack_protocol.views.curves import Curve
from xtrack_protocol.views.scales import Scale, scale_of, tick_texts

COLOURS: Final = ("#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#06b6d4")
"""Seen on white and on black."""

_LETTER: Final = 6.2
"""Pixels of a letter, about."""

_Point = tuple[float, float]


def sparkline_svg(curve: Curve, width: int = 120, height: int = 24) -> str:
    """Return a curve without axes, to stand in a line of text; nothing for a curve that has nothing to draw."""
    frame = _Frame([curve], 2, 2, width - 2, height - 2)
    drawn = "".join(_stroke(frame, curve, COLOURS[0]))
    return f"{_opening(width, height)}{drawn}</svg>" if drawn else ""


def chart_svg(curves: Sequence[Curve], title: str, width: int, height: int) -> str:
    """Return curves with axes and a title. What can't be drawn is counted beside the title."""
    room = _Frame(curves, 0, 0, 1, 1)
    if not room.points:
        return _empty(curves, title, width, height)
    levels = room.up.ticks(max(2, height // 45))
    level_texts = tick_texts(levels)
    left = 14 + max(map(len, level_texts)) * _LETTER
    frame = _Frame(curves, left, 30, width - 14, height - 36)
    parts = [_opening(width, height), *_head(curves, title, left, width)]
    for level, text in zip(levels, level_texts, strict=True):
        y = frame.y(level)
        parts.append(_line(left, y, frame.right, y))
        parts.append(_text(left - 6, y + 4, text, 'text-anchor="end"'))
    places = frame.across.ticks(max(2, width // 90))
    for place, text in zip(places, tick_texts(places, counts=True), strict=True):
        x = frame.x(place)
        parts.append(_line(x, frame.bottom, x, frame.bottom + 4, 0.6))
        parts.append(_text(x, frame.bottom + 17, text, 'text-anchor="middle"'))
    parts.append(_text(frame.right, frame.bottom + 31, curves[0].axis, 'text-anchor="end" opacity="0.7"'))
    for number, curve in enumerate(curves):
        parts += _stroke(frame, curve, COLOURS[number % len(COLOURS)])
    return "".join([*parts, "</svg>"])


def _empty(curves: Sequence[Curve], title: str, width: int, height: int) -> str:
    """Return the picture of curves without a point that can be drawn."""
    words = _text(width / 2, height / 2, "nothing to draw", 'text-anchor="middle" opacity="0.7"')
    return "".join([_opening(width, height), *_head(curves, title, 14, width), words, "</svg>"])


def _head(curves: Sequence[Curve], title: str, left: float, width: int) -> Iterator[str]:
    remarks = ", ".join(text for curve in curves if (text := left_out_text(curve)))
    room = width - left - 14 - len(remarks) * _LETTER
    yield _text(left, 16, _cut(title, room / _LETTER / 1.1), 'font-weight="bold"', title)
    if remarks:
        yield _text(width - 14, 16, remarks, 'text-anchor="end" opacity="0.7"')


class _Frame:
    """Where the points of curves stand in a picture: its edges in pixels, y from the top down."""

    def __init__(self, curves: Sequence[Curve], left: float, top: float, right: float, bottom: float) -> None:
        self.left, self.top, self.right, self.bottom = left, top, right, bottom
        lines = [*chain.from_iterable(map(_lines, curves))]
        seen = [point for line in lines for point in line]
        self.points = len(seen)
        self.across: Scale = scale_of(place for place, _ in seen)
        self.up: Scale = scale_of(value for _, value in seen)

    def x(self, place: float) -> float:
        return self.left + (self.right - self.left) * self.across.part(place)

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * self.up.part(value)


def _lines(curve: Curve) -> Iterator[list[_Point]]:
    """Yield the points of a curve, and of its band, that can be drawn."""
    for places, values in ((curve.places, curve.values), *(curve.band or ())):
        yield [(place, value) for place, value in zip(places, values, strict=True) if isfinite(value)]


def _stroke(frame: _Frame, curve: Curve, colour: str) -> Iterator[str]:
    """Yield the elements of a curve; a value that isn't finite is a gap."""
    if curve.band is not None:
        low, high = ([(x, y) for x, y in zip(*end, strict=True) if isfinite(y)] for end in curve.band)
        if low and high:
            outline = _path(frame, [*low, *reversed(high)])
            yield f'<path d="{outline}z" fill="{colour}" fill-opacity="0.18"/>'
    lines = dots = ""
    piece: list[_Point] = []
    for place, value in chain(zip(curve.places, curve.values, strict=True), [(0.0, float("nan"))]):
        if isfinite(value):
            piece.append((place, value))
        elif piece:
            if len(piece) == 1:
                dots += f"{_path(frame, piece)}h0"
            else:
                lines += _path(frame, piece)
            piece = []
    for path, width in ((lines, 1.5), (dots, 4)):
        if path:
            yield (
                f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round" '
                'stroke-linecap="round"/>'
            )


def _path(frame: _Frame, points: Sequence[_Point]) -> str:
    return "M" + "L".join(f"{frame.x(place):.1f} {frame.y(value):.1f}" for place, value in points)


def _opening(width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" style="max-width:100%">'
    )


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float = 0.15) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" '
        f'stroke-opacity="{opacity}"/>'
    )


def _text(x: float, y: float, text: str, more: str, whole: str = "") -> str:
    title = f"<title>{escape(whole)}</title>" if whole else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="currentColor" {more}>{title}{escape(text)}</text>'


def _cut(text: str, letters: float) -> str:
    """Return as much of a name as there is room for; its end tells more than its middle."""
    most = max(8, int(letters))
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - most // 2 + 1 :]}"
