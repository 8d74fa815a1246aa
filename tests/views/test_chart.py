"""Line charts of the terminal: exact for small cases, and never wider, higher or broken for any."""

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from xtrack_protocol.decode.text import escape
from xtrack_protocol.views.cells import cell_width, coloured, plain
from xtrack_protocol.views.chart import HEIGHT_MIN, WIDTH_MIN, Look, chart, small_multiples, time_unit
from xtrack_protocol.views.curves import Curve

NAN, INF = math.nan, math.inf


def curve(values, name="loss", **more):
    more.setdefault("last", values[-1] if values else None)
    return Curve(name=name, places=range(len(values)), values=values, **more)


def drawn(curves, title="", **look):
    return [plain(row) for row in chart(curves, title, Look(**look))]


def test_a_line():
    assert drawn([curve([0, 1, 2, 3, 4])], "loss", width=30, height=9) == [
        "loss",
        "4 ┤                       ⣀⠤⠒⠉",
        "  │                  ⣀⡠⠤⠒⠉",
        "2 ┤            ⢀⣀⠤⠔⠊⠉",
        "  │        ⢀⡠⠔⠊⠁",
        "  │    ⣀⠤⠒⠊⠁",
        "0 ┤⣀⠤⠒⠉",
        "  └┬─────────────────────────┬",
        "   0          step           4",
    ]


def test_letters_where_there_are_no_colours():
    rows = drawn([curve([0, 4]), curve([4, 0], "val")], width=24, height=10, unicode=False)
    assert rows == [
        "4 +++                 **",
        "  |  +++           ***",
        "  |     ++++   ****",
        "2 +         +++",
        "  |     ****   ++++",
        "  |  ***           +++",
        "0 +**                 ++",
        "  ++-------------------+",
        "   0       step        1",
        "* loss 4  + val 0",
    ]


def test_one_point():
    rows = drawn([curve([7.0])], width=30, height=8)
    assert sum(character != " " for row in rows for character in row if 0x2800 <= ord(character) <= 0x28FF) == 1
    assert "⠛" in "".join(rows) or "⣤" in "".join(rows) or "⠶" in "".join(rows)
    assert rows[-1].split() == ["step", "0"]


def test_a_constant_is_a_line_in_the_middle():
    rows = drawn([curve([3.0] * 10)], width=30, height=9)
    lines = [number for number, row in enumerate(rows) if any(0x2800 < ord(letter) <= 0x28FF for letter in row)]
    assert len(lines) == 1
    assert rows[lines[0]].startswith("3")


def test_nothing_to_draw():
    assert drawn([], "loss") == ["loss", "  no points to draw"]
    nothing = curve([NAN, INF], left_out=Counter({"NaN": 1, "+inf": 1}))
    assert drawn([nothing], "loss") == ["loss", "  no points to draw", "not drawn: 1 +inf, 1 NaN"]


def test_gaps():
    whole = "".join(drawn([curve([1.0] * 40)], width=50, height=8))
    gap = "".join(drawn([curve([1.0] * 10 + [NAN] * 20 + [1.0] * 10)], width=50, height=8))
    dots = [sum(0x2800 < ord(letter) <= 0x28FF for letter in text) for text in (whole, gap)]
    assert dots[1] < 0.6 * dots[0]
    alone = "".join(drawn([curve([1.0, NAN, 1.0, NAN, 1.0])], width=50, height=8))
    assert sum(0x2800 < ord(letter) <= 0x28FF for letter in alone) == 3


def test_what_is_not_drawn_is_named():
    left_out = Counter({"NaN": 2})
    many = [curve([1, 2], f"run {n}", left_out=left_out) for n in range(5)]
    assert drawn(many[:1])[-1] == "not drawn: 2 NaN"
    assert drawn(many[:2])[-2:] == ["not drawn: 2 NaN of run 0", "not drawn: 2 NaN of run 1"]
    assert drawn(many)[-1] == "not drawn: values of 4 more curves"


def test_the_legend_of_fifty():
    rows = drawn([curve([n, n + 1], f"a-name-that-is-much-too-long-for-a-legend-{n:02}") for n in range(50)], width=80)
    assert len(rows) == 20
    assert "━ …00 1" in rows[-5]
    assert "more" in rows[-1]


def test_colours_are_the_curves():
    rows = chart([curve([0, 1]), curve([1, 0], "val")], "", Look(width=40, height=10))
    text = "".join(map(coloured, rows))
    assert "\x1b[36m" in text
    assert "\x1b[33m" in text


def test_hostile_names():
    text = "\n".join(drawn([curve([1, 2], "a\x1b[31m\n"), curve([1], "\u202eb")], "\x1b]0;title\x07"))
    assert "\x1b" not in text
    assert "\\x1b[31m\\n" in text
    assert "\u202e" not in text


def test_logarithmic():
    rows = drawn([curve([10.0**-n for n in range(5)])], width=40, height=17, log=True)
    labels = [row.split("┤")[0].strip() for row in rows if "┤" in row]
    assert labels == ["1", "0.1", "0.01", "0.001", "0.0001"]


def test_time():
    assert [time_unit(seconds) for seconds in (0, 119, 120, 7200, 200_000)] == [
        ("s", 1), ("s", 1), ("min", 60), ("h", 3600), ("d", 86400),
    ]  # fmt: skip
    hours = Curve(name="x", places=[0, 36_000], values=[1, 2], axis="time")
    assert drawn([hours], width=60)[-1].split() == ["0.0h", "time", "2.5h", "5.0h", "7.5h", "10.0h"]


def test_several_charts_side_by_side():
    panels = [(f"m{n}", [curve([n, n + 1])]) for n in range(3)]
    rows = [plain(row) for row in small_multiples(panels, Look(width=80, height=8))]
    assert rows[0].split() == ["m0", "m1"]
    assert rows[9] == "m2"
    assert len(rows) == 17
    assert next(plain(row) for row in small_multiples(panels[:1], Look(width=80, height=8))) == "m0"


NUMBERS = st.floats() | st.sampled_from([0.0, 1.7e308, -1.7e308, 5e-324])
CURVES = st.lists(
    st.builds(
        lambda points, name, axis: Curve(
            name=name, places=sorted(place for place, _ in points), values=[value for _, value in points], axis=axis,
            last=points[-1][1] if points else None, left_out=Counter({"NaN": 1}),
        ),
        st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), NUMBERS), max_size=8),
        st.text(max_size=30),
        st.sampled_from(["step", "time", "epoch", "point"]),
    ),
    max_size=4,
)  # fmt: skip


@settings(max_examples=200)
@given(
    CURVES, st.text(max_size=30), st.integers(1, 120), st.integers(1, 30), st.booleans(), st.booleans(), st.booleans()
)
def test_any_curves_fit(curves, title, width, height, log, colours, unicode):
    look = Look(width=width, height=height, log=log, colours=colours, unicode=unicode)
    for rows in (chart(curves, title, look), small_multiples([(title, curves)] * 2, look)):
        assert all(cell_width(plain(row)) <= max(width, WIDTH_MIN) for row in rows)
        assert all(escape(plain(row)) == plain(row) for row in rows)
    assert len(chart(curves, title, look)) <= max(height, HEIGHT_MIN)
