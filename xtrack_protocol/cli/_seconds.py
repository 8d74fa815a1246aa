"""The type of options that take a number of seconds."""

from __future__ import annotations

import math
from typing import Any, Final

import click

_MOST: Final = 1e9
"""Some thirty years: as good as for ever, and what every clock and wait of the system can still count."""


class Seconds(click.FloatRange):
    """A number of seconds, from ``least`` on, or, with ``above``, only above it. NaN is none, nor is an infinity."""

    def __init__(self, least: float = 0.0, *, above: bool = False) -> None:
        super().__init__(min=least, max=_MOST, min_open=above)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Raises BadParameter."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):  # it is below no limit and above none
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds
