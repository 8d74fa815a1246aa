"""What a notebook shows: well-formed, with nothing of a run's text as markup, and the points where they belong."""

import math
import random
import re
import xml.etree.ElementTree as ET
from array import array
from html.parser import HTMLParser

import pytest

from xtrack_protocol import Tracker
from xtrack_protocol.runs import Series
from xtrack_protocol.views import notebook, open_runs
from xtrack_protocol.views.curves import Curve, curve_of
from xtrack_protocol.views.svg import chart_svg, sparkline_svg

VOID = {"br", "hr", "img", "input", "meta"}


class Page(HTMLParser):
    """What a browser makes of HTML: elements with their attributes, and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


KNOWN = {
    "div", "span", "b", "code", "details", "summary", "table", "thead", "tbody", "tr", "th", "td",
    "svg", "path", "line", "text", "title",
}  # fmt: skip


def safe(html):
    """Parse HTML that must do nothing but show."""
    page = Page(html)
    assert set(page.tags) <= KNOWN
    assert {name for name, _ in page.attributes} <= {
        "style", "title", "open", "xmlns", "width", "height", "viewbox", "font-family", "font-size", "font-weight",
        "text-anchor", "opacity", "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity",
        "stroke-linejoin", "stroke-linecap", "d", "x", "y", "x1", "x2", "y1", "y2",
    }  # fmt: skip
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html)
    return page


def test_a_run(base):
    page = safe(open_runs()["base"]._repr_html_())
    for word in ("completed", "base", "experiment exp", "kind=a", "2 params", "lr", "0.1", "[1,2]", "3 metrics"):
        assert word in page.text
    assert "9007199254740993" in page.text, "an integer has all of its digits"
    assert "1 NaN" in page.text
    assert page.tags.count("svg") == 2, "a metric of which nothing can be drawn has no curve"


def test_hostile_names_are_only_text(failed):
    run = open_runs()["bad"]
    page = safe(run._repr_html_())
    assert "</td><script>alert(1)</script>" in page.text
    assert "<img src=x>" in page.text
    assert "ValueError: <b>no</b>" in page.text
    assert '"><svg onload=alert(2)>\\u202e\\x1b[31m' in page.text
    safe(open_runs()._repr_html_())
    (key,) = run.metrics
    svg = run.series(key).svg()
    safe(svg)
    assert '"><svg onload=alert(2)>\\u202e\\x1b[31m' in "".join(ET.fromstring(svg).itertext())


def test_names_and_values_that_are_too_long():
    run = Tracker.start_run("n" * 5000, run_id="long", params={"p" * 5000: "v" * 50_000}, tags={"t" * 999: "u" * 999})
    run.log_metric("m" * 5000, 1.0, 1)
    run.end("failed", error="e" * 50_000)
    view = open_runs()["long"]
    html = view._repr_html_()
    safe(html)
    assert len(html) < 8000
    assert "text-overflow:ellipsis" in html
    safe(view.series("m" * 5000).svg())
    assert len(open_runs()._repr_html_()) < 8000


def test_a_run_with_nothing_in_it():
    Tracker.start_run(run_id="empty").end()
    page = safe(open_runs()["empty"]._repr_html_())
    assert "no metrics" in page.text
    assert "no runs" in safe(open_runs(name="nosuch")._repr_html_()).text


def test_many_metrics_and_many_runs(monkeypatch):
    monkeypatch.setattr(notebook, "RUNS_MAX", 10)
    with Tracker.start_run(run_id="many") as run:
        run.log_metrics({f"m{number}": number for number in range(50)}, step=1)
        run.log_params({f"p{number}": number for number in range(70)})
    page = safe(open_runs()["many"]._repr_html_())
    assert "and 10 metrics more" in page.text
    assert "and 10 params more" in page.text
    for number in range(14):
        Tracker.start_run(f"r{number}", params={"same": 1, "lr": number}).end()
    page = safe(open_runs()._repr_html_())
    assert "15 runs: 15 completed" in page.text
    assert "and 5 runs more" in page.text
    assert page.tags.count("tr") == 11


def test_a_table_of_runs_shows_the_params_that_differ():
    for number in range(3):
        Tracker.start_run(params={"same": 1, "lr": number, "seed": 1} | ({"extra": "x"} if number == 1 else {})).end()
    titles = re.findall(r"<th [^>]*>([^<]*)</th>", open_runs()._repr_html_())
    assert titles == ["", "run", "id", "started", "took", "extra", "lr"]
    assert "seed" in open_runs()[:1]._repr_html_(), "of a single run all are shown"


def test_several_workers(four):
    run = open_runs()["four"]
    page = safe(run._repr_html_())
    assert "4 workers" in page.text
    assert "10.5" in page.text, "the last value is the mean of the workers'"
    svg = run.series("loss").svg()
    assert svg.count("<path") == 2, "the mean, and the range"
    assert run.series("loss", "1").svg().count("<path") == 1
    (part,) = drawn(run.series("loss", min_step=2, max_step=4).svg())
    assert len(part) == 3, "of a range, the mean"


# ------------------------------------------------------------------------------------------ charts


def curve(values, steps=None):
    steps = list(range(len(values))) if steps is None else steps
    return curve_of(Series(array("q", steps), array("d", values), array("q", range(len(values)))), "k")


def drawn(svg):
    """The points of a chart's curves, a list for each stretch without a gap."""
    paths = [path.get("d") for path in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")]
    pieces = [piece for path in paths for piece in path.split("M")[1:]]
    return [
        [tuple(map(float, point.split())) for point in piece.removesuffix("h0").removesuffix("z").split("L")]
        for piece in pieces
    ]


def test_points_stand_where_they_should():
    (points,) = drawn(chart_svg([curve([0.0, 1.0, 0.5])], "k", 400, 200))
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0, y1) == (200 - 36, 30), "y grows downwards"
    assert y2 == pytest.approx((y0 + y1) / 2, abs=0.2)
    assert x2 == 400 - 14


def test_what_isnt_finite_is_a_gap():
    svg = chart_svg([curve([1.0, 2.0, math.nan, 3.0, math.inf, 4.0, 5.0, -math.inf])], "k", 400, 200)
    assert [len(piece) for piece in drawn(svg)] == [2, 2, 1]
    text = "".join(ET.fromstring(svg).itertext())
    assert "1 +inf, 1 -inf, 1 NaN" in text


@pytest.mark.parametrize(
    "values",
    [
        [],
        [math.nan],
        [5.0],
        [5.0] * 3,
        [0.0, -0.0],
        [1.7e308, -1.7e308],
        [5e-324, 1e-323],
        [1e300, 1.0],
        [math.inf, -math.inf],
    ],
)
def test_whatever_the_values(values):
    for svg in (
        chart_svg([curve(values)], "k", 640, 240),
        chart_svg(
            [curve(values, [2**63 - 1 - number for range_ in [range(len(values))] for number in range_][::-1])],
            "k",
            300,
            100,
        ),
    ):
        ET.fromstring(svg)
        for piece in drawn(svg):
            assert all(0 <= x <= 640 and 0 <= y <= 240 for x, y in piece)
        assert "nan" not in svg.replace("NaN", "")
    assert ("nothing to draw" in svg) == (not any(map(math.isfinite, values)))
    small = sparkline_svg(curve(values))
    assert bool(small) == any(map(math.isfinite, values))
    if small:
        ET.fromstring(small)


def test_of_many_points_few_are_drawn():
    source = random.Random(1)
    with Tracker.start_run(run_id="large") as run:
        for step in range(5000):
            run.log_metric("loss", 100.0 if step == 3210 else source.random(), step)
    series = open_runs()["large"].series("loss")
    svg = series.svg(400, 200)
    assert sum(map(len, drawn(svg))) <= 800
    assert min(y for piece in drawn(svg) for _, y in piece) == 30, "the spike is there"
    assert len(series._repr_html_()) < 40_000
    assert series._repr_svg_() == series.svg()


def test_points_without_steps_are_numbered(base):
    svg = chart_svg([Curve(name="k", places=[0, 1], values=[1.0, 2.0], axis="point")], "k", 400, 200)
    assert "point" in "".join(ET.fromstring(svg).itertext())
