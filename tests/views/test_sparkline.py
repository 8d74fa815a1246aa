"""Sparklines."""

import math

from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.views.cells import cell_width
from xtrack_protocol.views.sparkline import GAP, sparkline


def test_sparklines():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 1], 8) == "▁█"
    assert sparkline([5], 8) == "▄"
    assert sparkline([3, 3, 3], 8) == "▄▄▄"
    assert sparkline([], 8) == ""
    assert sparkline([1, 2], 0) == ""
    assert sparkline([1, 1, 3, 3], 2) == "▁█"
    assert sparkline([1, math.nan, math.inf, 2], 4) == f"▁{GAP}{GAP}█"
    assert sparkline([1, math.nan, 2, 2], 2) == "▁█"
    assert sparkline([math.nan] * 3, 8) == GAP * 3
    assert sparkline([1, math.nan, 2], 8, unicode=False) == "_x#"


@given(st.lists(st.floats()), st.integers(0, 30), st.booleans())
def test_any_values(values, width, unicode):
    text = sparkline(values, width, unicode=unicode)
    assert cell_width(text) == len(text) == min(width, len(values))
