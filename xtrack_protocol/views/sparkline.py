"""A series in a few cells of one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = "_.-=*#"
GAP: Final = "\N{MULTIPLICATION SIGN}"


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> str:
    """Return ``values`` in at most ``width`` cells, lowest to highest; of more than that the mean of neighbours.

    A value that isn't finite is a cross; so is a cell in which nothing is finite. Values that are all the same stand
    in the middle. ``unicode``: whether block characters can be shown.
    """
    if width < 1 or not values:
        return ""
    cells = min(width, len(values))
    marks, gap = (_BLOCKS, GAP) if unicode else (_ASCII, "x")
    means = []
    for cell in range(cells):
        part = values[cell * len(values) // cells : (cell + 1) * len(values) // cells]
        finite = [value / len(part) for value in part if math.isfinite(value)]
        means.append(math.fsum(finite) * (len(part) / len(finite)) if finite else math.nan)
    known = [mean for mean in means if math.isfinite(mean)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    half = high / 2 - low / 2
    text = ""
    for mean in means:
        if not math.isfinite(mean):
            text += gap
        elif half <= 0:
            text += marks[len(marks) // 2 - 1]
        else:
            text += marks[round((mean / 2 - low / 2) / half * (len(marks) - 1))]
    return text
