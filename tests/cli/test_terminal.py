"""What people see: at a terminal of known size, with one run, fifty runs, NaN and long names."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from cli_runs import T0, capture, stream
from terminals import Terminal, look

from xtrack_protocol import Tracker
from xtrack_protocol.cli._live import Estimate
from xtrack_protocol.cli._output import fit
from xtrack_protocol.decode.text import duration_text
from xtrack_protocol.ir import Metric, Param, RunEnd, RunStart
from xtrack_protocol.ir.lifecycle import Progress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pty")


@pytest.fixture
def fifty(xtrack, tmp_path):
    events = []
    for n in range(50):
        run = f"20240501-1015{n:02}-1f2e3d4c"
        name = f"run {n} with a name that goes on and on for longer than anybody's terminal is wide, surely"
        values = [Metric(run, "loss/train", float("nan"), step=1), Metric(run, "accuracy", n / 3, step=1)]
        payloads = [RunStart(run, name=name), Param(run, "text", "x" * 500), *values, RunEnd(run, "completed")]
        events += stream(run, payloads, at=T0 + n * 1_000_000)
    (tmp_path / "fifty.bin").write_bytes(capture(events))
    assert xtrack("replay", "fifty.bin").code == 0


@pytest.mark.parametrize("columns", [200, 100, 80, 50])
def test_ls_of_fifty_runs(fifty, columns):
    text = look("ls", "--all", columns=columns)
    lines = [line for line in text.splitlines() if line.startswith(" 2024")]
    assert len(lines) == 50
    assert all(len(line) <= columns for line in text.splitlines() if "fit here" not in line)
    assert lines[0].startswith(" 20240501-101549-1f2e3d4c ")
    assert "…" in lines[0]
    if columns >= 60:
        assert "completed" in lines[0]
    if columns == 200:
        assert "accuracy=16.3333 loss/train=nan" in lines[0]


def test_ls_of_one_run_and_of_none(xtrack, tmp_path):
    assert f"no runs yet in local:{tmp_path / 'xd'}. `xtrack run" in look("ls", columns=300)
    (tmp_path / "a.bin").write_bytes(capture(stream("only", [RunStart("only")])))
    xtrack("replay", "a.bin")
    text = look("ls")
    assert "only" in text
    assert "running" in text
    assert "no runs match" in look("ls", "--status", "failed")


def test_runs_that_do_not_fit_are_told_of(local):
    assert "bad-1" not in look("compare", "good-1", "bad-1", columns=30).splitlines()[1]
    assert "1 more run doesn't fit here. --rows writes a line a run" in look("compare", "good-1", "bad-1", columns=30)
    assert "fit here" not in look("compare", "good-1", "bad-1", columns=100)


@pytest.mark.parametrize(
    ("columns", "left_out"), [(200, None), (100, "1 more column doesn't"), (80, "3 more columns don't")]
)
def test_columns_that_do_not_fit_are_told_of(fifty, columns, left_out):
    lines = look("ls", "--all", columns=columns).splitlines()
    header = lines[1].split()
    told = [f"{left_out} fit here. --column chooses, --json has them all"] if left_out else []
    assert [line for line in lines if "fit here" in line] == told
    wanted = ["run_id", "name", "status", "started", "duration", "events", "metrics"]
    assert header == wanted[: len(wanted) - int((left_out or "0").split()[0])]


def test_elsewhere_all_columns_are_there_and_nothing_is_told(fifty, process):
    done = process("ls", "-n", "1", COLUMNS="40")
    assert done.out.startswith("run_id\tname\tstatus\texperiment\tstarted\tduration_ms\tevents\tlost\tmetrics\n")
    assert done.err == "only the first 1 runs; --all shows all\n"


def test_every_table_tells_of_columns_that_do_not_fit(fifty):
    lines = look("metrics", "latest", columns=44).splitlines()
    assert lines[-1] == "3 more columns don't fit here. --json has them all"
    assert "fit here" not in look("metrics", "latest", columns=80)
    text = look("stats", "fifty.bin", columns=60)
    assert text.count("fit here") == 3  # of types, runs and streams; that of files does fit


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyboardInterrupt(), "KeyboardInterrupt"), ("out of luck", "out of luck"), (KeyError("a"), "KeyError: 'a'")],
)
def test_an_error_without_a_kind_or_a_text(error, told):
    with Tracker.start_run("e", run_id="e", quiet=True) as run:
        run.end("failed", error=error)
    assert f"Error: {told}" in [line.rstrip() for line in look("show", "e").splitlines()]
    assert told in [line.rstrip() for line in look("watch", "e", "--once").splitlines()]


def test_show_metrics_compare_doctor(fifty):
    text = look("show", "latest")
    assert "x" * 20 in text
    assert "…" in text
    assert re.search(r"loss/train +1 +nan +1 +1 *\n", text)
    assert re.search(r"accuracy +1 +16.3333 +1 +16.3333 +16.3333 +0 *\n", text)
    text = look("metrics", "latest", "accuracy")
    assert re.search(r"\n +1 +16.3333 +20\d\d-", text)
    text = look("compare", "20240501-101500", "20240501-101501", "20240501-101502")
    assert re.search(r"accuracy last +0 +0.333333 +0.666667 \* *\n", text)
    text = look("doctor")
    assert re.search(r"locks +ok +a held lock", text)


def test_nothing_of_the_data_reaches_the_terminal_as_a_control(local):
    terminal = Terminal("show", "bad-1")
    terminal.end()
    assert "\x1b[31m" not in terminal.text
    assert "\\x1b[31m" in terminal.text
    assert "\u202e" not in terminal.text


def test_csv_has_escapes_at_a_terminal(xtrack, tmp_path):
    (tmp_path / "a.bin").write_bytes(capture(stream("r", [RunStart("r"), Metric("r", "a\x1b[31m\u2066", 1)])))
    xtrack("replay", "a.bin")
    assert "\na\\x1b[31m\\u2066," in look("metrics", "r", "--format", "csv")


def test_decode_cuts_lines(captured):
    text = look("decode", captured, columns=60)
    assert max(len(line) for line in text.splitlines()) <= 60
    assert "2023-11-1" in text


def test_rm_asks(local):
    terminal = Terminal("rm", "good-1")
    terminal.read("for good? [y/N]")
    terminal.press(b"n\n")
    assert terminal.end() == 130
    terminal = Terminal("rm", "good-1")
    terminal.read("for good? [y/N]")
    terminal.press(b"y\n")
    assert terminal.end() == 0


WORKER = """
import time, xtrack_protocol as xtrack
with xtrack.start_run("job", quiet=True) as run:
    for step in range(1, 1000):
        run.log_metric("loss", 1 / step, step=step)
        run.set_status("training", progress=(step, 1000, "steps"))
        time.sleep(0.02)
"""


def test_the_live_line_and_ctrl_c():
    terminal = Terminal("run", "--", sys.executable, "-c", WORKER, rows=20)
    terminal.read("left |")
    assert "\x1b[1;19r" in terminal.text  # all rows but the last one scroll
    assert re.search(
        r"\x1b\[20;1H\x1b\[2K\x1b\[7mjob \| training \| step \d+ \| loss [01][.\d]* \| steps \d+/1000 \|", terminal.text
    )
    terminal.press(b"\x03")
    assert terminal.end() == 130
    assert "\x1b[r" in terminal.text  # the row is given back
    assert "xtrack: run job killed in" in terminal.text


def test_no_live_line_off_a_terminal(process):
    assert "\x1b" not in process("run", sys.executable, "-c", "import time; time.sleep(1)").err


def test_estimates():
    estimate = Estimate()
    assert estimate.left(Progress(10, 100), 5.0) == 45.0
    assert estimate.left(Progress(20, 100), 15.0) == 80.0  # by how fast it goes now
    assert estimate.left(Progress(5, 100), 20.0) == 380.0  # it began again
    assert estimate.left(Progress(0, None), 20.0) is None
    assert estimate.left(Progress(None, 5), 20.0) is None


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0ms"), (999, "999ms"), (1500, "1.5s"), (61_000, "1m 01s"), (3_700_000, "1h 01m"), (90_000_000, "1d 01h")],
)
def test_durations(milliseconds, text):
    assert duration_text(milliseconds) == text


def test_columns_are_fitted():
    kinds = ["id", "text", "status", "time", "text"]
    assert fit(kinds, [24, 10, 9, 19, 10], 200) == [24, 10, 9, 19, 10]
    assert fit(kinds, [24, 100, 9, 19, 100], 100) == [24, 17, 9, 19, 17]
    assert fit(kinds, [24, 100, 9, 19, 100], 80) == [24, 17, 9, 19]
    assert fit(kinds, [24, 100, 9, 19, 100], 30) == [24, 1]


def test_broken_pipes_are_silent(fifty):
    for args in (["ls", "--all"], ["show", "latest"], ["metrics", "latest"], ["export", "latest", "--jsonl", "-"]):
        command = [sys.executable, "-m", "xtrack_protocol.cli", *args]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
            done.stdout.close()
            assert done.stderr.read() == b""
            assert done.wait(20) == 141


def test_ctrl_c_while_reading(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-m", "xtrack_protocol.cli", "decode", "pipe"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as done, (tmp_path / "pipe").open("wb"):
        time.sleep(0.5)
        done.send_signal(signal.SIGINT)
        assert done.wait(20) == 130
        assert b"Traceback" not in done.stderr.read()


@pytest.mark.parametrize("module", ["xtrack_protocol.cli", "xtrack_protocol.decode"])
def test_output_that_can_not_be_written(captured, module):
    args = [sys.executable, "-m", module, *(["stats"] if module.endswith("cli") else []), str(captured)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(args, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode in {1, 2}
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *args], stderr=subprocess.PIPE, check=False)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0


def test_a_crowd_fits_a_screen(crowd):
    """However many workers have something to tell."""
    text = look("show", "crowd", "--store", crowd, columns=120)
    assert "64 of 64: 63 completed, 1 failed" in text
    assert "and 44 more workers like these" in text
    assert "last of each worker" in text
    assert len(text.splitlines()) < 60
