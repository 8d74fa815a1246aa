"""Pictures: there is ink where the data are, and none where they aren't."""

import io
import math
import sys
from collections import Counter

import pytest

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.views.curves import Curve
from xtrack_protocol.views.figure import Picture, draw, figure

pytest.importorskip("matplotlib")
from matplotlib import image

SIZE = Picture(width=4, height=3, dots=100)


def curve(values, name="loss", **more):
    return Curve(name=name, places=range(len(values)), values=values, last=values[-1] if values else None, **more)


def ink(panels, picture=SIZE):
    """Return where a picture is blue, as the first curve is: columns and rows, as parts of its width and height."""
    data, told = draw(panels, picture)
    assert told == []
    pixels = image.imread(io.BytesIO(data))
    height, width = pixels.shape[:2]
    found = []
    for row in range(height):
        for column in range(width):
            red, _, blue = (float(part) for part in pixels[row][column][:3])
            if blue - red > 0.25:
                found.append((column / width, 1 - row / height))
    return found


def test_a_rising_line():
    found = ink([("loss", [curve(list(range(10)))])])
    left = [up for across, up in found if across < 0.4]
    right = [up for across, up in found if across > 0.7]
    assert left
    assert right
    assert max(left) < min(right)


def test_a_gap_has_no_ink():
    values = [1.0] * 30 + [math.nan] * 40 + [1.0] * 30
    found = ink([("loss", [curve(values, left_out=Counter(NaN=40))])])
    across = [place for place, _ in found]
    assert any(place < 0.35 for place in across)
    assert not any(0.48 < place < 0.62 for place in across)
    assert any(place > 0.75 for place in across)


def test_a_single_point_can_be_seen():
    assert len(ink([("loss", [curve([3.0])])])) > 8


def test_infinities_and_the_widest_range_there_is():
    assert ink([("loss", [curve([1.0, math.inf, 2.0, -math.inf, 3.0, 4.0])])])
    assert ink([("loss", [curve([-1.7e308, 1.7e308])])])
    assert ink([("loss", [curve([-1.7e308, math.nan, 1.7e308])])])
    assert ink([("loss", [curve([0.1, 0.0, -1.0, 10.0, 3.0])])], Picture(width=4, height=3, dots=100, log=True))


def test_nothing_to_draw():
    assert ink([("loss", [curve([])])]) == []
    assert ink([("loss", [curve([math.nan])])], Picture(width=4, height=3, dots=100, log=True)) == []
    assert ink([("loss", [])]) == []


def test_names_are_no_formulas_and_no_commands():
    hostile = [curve([1, 2], "$\\frac{$"), curve([2, 1], "a\x1b[31m"), curve([2, 1], "_hidden")]
    data, _ = draw([("$x^$", hostile)], SIZE, "svg")
    text = data.decode()
    assert "\\x1b[31m" in text
    assert "$x^$" in text
    assert "_hidden" in text


def test_fifty_curves():
    curves = [curve([n, n + 1], f"sweep-with-a-long-name-{'x' * 50}-{n:02}") for n in range(50)]
    text = draw([("loss", curves)], SIZE, "svg")[0].decode()
    assert "25 of 50 curves" in text
    assert "…00  1" in text
    assert "…49  50" in text


def test_the_mean_of_workers_has_a_band():
    band = (([0, 1], [0.0, 0.0]), ([0, 1], [10.0, 10.0]))
    one = Curve(name="x", places=[0, 1], values=[5.0, 5.0], band=band, last=5.0)
    axes = figure([("x", [one])], SIZE).axes[0]
    assert axes.dataLim.y0 == 0
    assert axes.dataLim.y1 == 10


def test_what_was_logged_stands_behind_what_was_smoothed():
    one = Curve(name="x", places=[0, 1], values=[1.0, 1.0], raw=([0, 1], [0.0, 2.0]), last=2.0)
    axes = figure([("x", [one])], SIZE).axes[0]
    assert [line.get_alpha() for line in axes.lines] == [0.25, None]
    assert "pale: as logged" in axes.texts[0].get_text()


def test_forms():
    panels = [("loss", [curve([1, 2])])]
    assert draw(panels, SIZE, "png")[0].startswith(b"\x89PNG")
    assert draw(panels, SIZE, "pdf")[0].startswith(b"%PDF")
    assert draw(panels, SIZE, "svg")[0] == draw(panels, SIZE, "svg")[0]  # no date in it
    with pytest.raises(ValueError, match="'gif' is none of png, svg, pdf"):
        draw(panels, SIZE, "gif")


def test_letters_that_no_font_has_are_told():
    data, told = draw([("\ue000", [curve([1, 2])])], SIZE)
    assert data.startswith(b"\x89PNG")
    assert "in no font" in told[0]
    assert draw([("\ue000", [curve([1, 2])])], SIZE, "svg")[1] == []


def test_nothing_global_is_touched():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw([("loss", [curve([1, 2])])], SIZE)
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"needs matplotlib.*pip install 'xtrack-protocol\[plot\]'"):
        draw([("loss", [curve([1, 2])])], SIZE)
