"""Curves at the terminal and as pictures."""

import json
import math
import re
import sys

import pytest
from cli_runs import T0, capture, stream
from terminals import ESCAPES, Terminal, look

from xtrack_protocol.ir import Metric, MetricBatch, RunEnd, RunStart

BRAILLE = re.compile("[\u2801-\u28ff]")


@pytest.fixture
def sweep(xtrack, tmp_path):
    """Three runs, the last one with NaN and without a step in between."""
    events = []
    for n in range(3):
        values = [1 / (1 + step * (n + 1)) for step in range(20)]
        payloads = [RunStart(f"run-{n}", name=f"sweep-{n}")]
        for step, value in enumerate(values):
            payloads.append(MetricBatch(f"run-{n}", {"loss/train": value, "val": n}, step=step))
        if n == 2:
            payloads.append(Metric("run-2", "loss/train", math.nan, step=30))
            payloads.append(Metric("run-2", "loss/train", math.inf, step=31))
            payloads.append(Metric("run-2", "loss/train", 0.5))
        events += stream(f"run-{n}", [*payloads, RunEnd(f"run-{n}", "completed")], at=T0 + n * 10**9)
    events += stream("empty", [RunStart("empty", name="empty"), RunEnd("empty", "completed")], at=T0)
    (tmp_path / "sweep.bin").write_bytes(capture(events))
    assert xtrack("replay", "sweep.bin").code == 0


def test_one_run(xtrack, sweep):
    done = xtrack("plot", "sweep-0", "loss/train", "--size", "60x12")
    lines = done.out.splitlines()
    assert lines[0] == "loss/train of sweep-0"
    assert len(lines) == 12
    assert BRAILLE.search(done.out)
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in done.out


def test_each_metric_has_a_chart_where_none_is_named(xtrack, sweep):
    done = xtrack("plot", "sweep-0")
    assert done.out.splitlines()[0].split() == ["loss/train", "val"]
    split = xtrack("plot", "sweep-0", "val", "loss/train", "--split")
    assert split.out.splitlines()[0].split() == ["val", "loss/train"]


def test_several_runs(xtrack, sweep):
    done = xtrack("plot", "sweep-0", "loss/train", "--with", "run-1")
    assert done.out.splitlines()[0] == "loss/train"
    assert done.out.splitlines()[-1].split() == ["*", "sweep-0", "0.05", "+", "sweep-1", "0.025641"]
    assert "* sweep-0 loss/train" in xtrack("plot", "sweep-*", "*").out
    done = xtrack("plot", "sweep-*", "loss/train", "--json")
    assert [curve["name"] for curve in json.loads(done.out)] == ["sweep-0", "sweep-1", "sweep-2"]
    last = json.loads(done.out)[2]
    assert last["not_drawn"] == {"NaN": 1, "+inf": 1, "without a step": 1}
    assert last["points"][0] == [0, 1.0]
    assert last["points"][-2:] == [[30, "NaN"], [31, "Infinity"]]
    assert "not drawn: 1 +inf, 1 NaN, 1 without a step" in xtrack("plot", "run-2", "loss/train").out


def test_axes(xtrack, sweep):
    points = json.loads(xtrack("plot", "run-1", "val", "--x", "time", "--json").out)[0]
    assert points["x"] == "time"
    assert [place for place, _ in points["points"]][:3] == [1, 2, 3]
    points = json.loads(xtrack("plot", "run-1", "val", "--x", "epoch", "--json").out)[0]
    assert points["not_drawn"] == {"without an epoch": 20}
    labels = [line.split("┤")[0].strip() for line in xtrack("plot", "run-0", "loss/train", "--log").out.splitlines()]
    assert "1" in labels
    assert "0.1" in labels
    assert "smoothed 0.5" in xtrack("plot", "run-1", "val", "--smooth", "0.5").out


def test_workers(xtrack, crowd):
    done = xtrack("plot", "crowd", "loss", "--store", crowd)
    assert done.out.startswith("loss of crowd, mean of 64 workers\n")
    assert "no worker '64'. There are '0', '1'" in xtrack("plot", "crowd", "--worker", "64", "--store", crowd).err
    done = xtrack("plot", "crowd", "loss", "--worker", "3", "--worker", "4", "--json", "--store", crowd)
    assert [curve["label"] for curve in json.loads(done.out)] == ["crowd worker 3", "crowd worker 4"]
    assert [curve["points"] for curve in json.loads(done.out)] == [[[0, 3], [2, 3.5]], [[0, 4], [2, 4.5]]]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["run-0", "los/train"], 1, "run run-0 has no metric 'los/train'. Did you mean 'loss/train'?"),
        (["run-0", "TRAIN"], 1, "Did you mean 'loss/train'?"),
        (["run-0", "xyz"], 1, "There are 'loss/train', 'val'"),
        (["sweep-*", "xyz"], 1, "none of the 3 runs has a metric 'xyz'"),
        (["empty"], 1, "run empty has no metrics"),
        (["run-0", "val", "--worker", "9"], 1, "no worker '9'. There is one, without an id"),
        (["nosuch", "val"], 1, "no run 'nosuch'"),
        (["run-0", "val", "--with", "x*"], 1, "no run 'x*'"),
        (["run-0", "val", "--smooth", "1"], 2, "1 is not from 0 to below 1"),
        (["run-0", "val", "--smooth", "nan"], 2, "is not from 0 to below 1"),
        (["run-0", "val", "--size", "big"], 2, "'big' is no size: write WIDTHxHEIGHT"),
        (["run-0", "val", "--size", "0x10"], 2, "is no size"),
        (["run-0", "val", "--png", "a.gif"], 2, "'a.gif' ends in none of .png, .svg and .pdf"),
        (["run-0", "val", "--png", "a.png", "--json"], 2, "--png and --json exclude each other"),
        (["run-0", "val", "--png", "a.png", "--size", "20x20"], 2, "--size of a picture is in pixels"),
        (["run-0", "val", "--png", "none/a.png"], 1, "none/a.png: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said(xtrack, sweep, args, code, said):
    done = xtrack("plot", *args)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_pictures(xtrack, sweep, tmp_path, name, start):
    pytest.importorskip("matplotlib")
    done = xtrack("plot", "sweep-*", "loss/train", "--smooth", "0.9", "--png", name, "--size", "400x300")
    assert (done.code, done.out) == (0, "")
    assert re.fullmatch(rf"xtrack: {name}: 3 curves, \d+ bytes\n", done.err)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_picture_in_pixels_on_standard_output(sweep, tmp_path):
    pytest.importorskip("matplotlib")
    import subprocess

    from matplotlib import image

    command = [sys.executable, "-m", "xtrack_protocol.cli", "plot", "run-0", "val", "--png", "-", "--size", "400x300"]
    (tmp_path / "a.png").write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    assert image.imread(tmp_path / "a.png").shape[:2] == (300, 400)


def test_without_matplotlib(xtrack, sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = xtrack("plot", "run-0", "val", "--png", "a.png")
    assert done.code == 2
    assert "pip install 'xtrack-protocol[plot]'" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
@pytest.mark.parametrize("size", [(200, 50), (80, 24), (40, 10)])
def test_at_a_terminal(sweep, size):
    columns, rows = size
    text = look("plot", "sweep-*", "loss/train", columns=columns, rows=rows)
    lines = text.splitlines()
    assert len(lines) <= max(rows, 8)
    assert max(map(len, lines)) <= columns
    assert BRAILLE.search(text) or columns == 40 or "*" in text


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
def test_colours_unless_nobody_wants_them(sweep, monkeypatch):
    monkeypatch.delenv("NO_COLOR")
    terminal = Terminal("plot", "sweep-*", "val")
    assert terminal.end() == 0
    assert "\x1b[36m" in terminal.text
    assert "━ sweep-1 1" in ESCAPES.sub("", terminal.text)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "+ sweep-1 1" in look("plot", "sweep-*", "val")


def test_a_terminal_without_unicode(process, sweep):
    done = process("plot", "run-0", "val", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert done.out.isascii()
    assert "****" in done.out


def test_many_metrics(xtrack, tmp_path):
    values = {f"layer{n:02}": n for n in range(30)}
    events = stream("many", [RunStart("many"), MetricBatch("many", values, step=1)])
    (tmp_path / "many.bin").write_bytes(capture(events))
    xtrack("replay", "many.bin")
    done = xtrack("plot", "many")
    assert "layer23" in done.out
    assert "layer24" not in done.out
    assert "only the first 24 of 30 metrics" in done.err
    assert "layer29" in xtrack("plot", "many", "layer2*", "--split").out
