"""Watching several runs: a line each."""

import subprocess
import sys

import pytest
from cli_runs import T0, capture, stream
from hypothesis import given
from hypothesis import strategies as st
from terminals import Terminal, look

from xtrack_protocol.cli._watch_runs import Moments, runs_page
from xtrack_protocol.decode.text import escape
from xtrack_protocol.ir import Metric, RunEnd, RunStart
from xtrack_protocol.ir.lifecycle import Progress, StatusUpdate
from xtrack_protocol.runs import fold
from xtrack_protocol.session import StreamId
from xtrack_protocol.views.cells import cell_width, plain

NOW = T0 + 60_000_000


def events_of(run, *, name=None, steps=4, status=None, at=T0, key="loss"):
    payloads = [RunStart(run, name=name or run)]
    payloads += [Metric(run, key, 1 / step, step=step) for step in range(1, steps + 1)]
    payloads.append(StatusUpdate(run, "training", None, Progress(steps, 8, "epoch")))
    return stream(run, [*payloads, *([RunEnd(run, status)] if status else [])], at=at)


def state_of(*args, **more):
    events = events_of(*args, **more)
    return fold(events[0].run_id, [(StreamId(one.run_id, "", one.meta.session_id), one) for one in events])


def rows(states, width=80, height=24, **more):
    found = runs_page(Moments(states=states, now_us=NOW, left=[30.0] * len(states), **more), width, height)
    return [plain(row) for row in found.rows]


def test_a_page():
    states = [
        state_of("one", status="completed"),
        state_of("two", at=T0 + 5_000_000),
        state_of("three", status="failed"),
    ]
    assert rows(states) == [
        "3 runs: 1 completed, 1 running, 1 failed",
        "",
        "run    status     progress        left  time  metrics",
        "two    running    ━━━━━───── 4/8   30s   55s  loss 0.25",
        "one    completed  ━━━━━───── 4/8          6s  loss 0.25",
        "three  failed     ━━━━━───── 4/8          6s  loss 0.25",
    ]
    assert rows([]) == ["0 runs:", ""]


def test_many_are_scrolled():
    states = [state_of(f"run-{n:02}", at=T0 - n) for n in range(50)]
    text = rows(states, 60, 12, keys=True)
    assert len(text) == 12
    assert text[3].startswith("run-00 ")
    assert text[-2] == "  43 more runs"
    text = rows(states, 60, 12, keys=True, offset=999)
    assert text[-2] == "  43 above, 0 more runs"
    assert text[-3].startswith("run-49 ")


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 20), st.text(max_size=40), st.booleans())
def test_any_page_fits(width, height, count, text, keys):
    states = [
        state_of(f"{n}", name=f"{text}{n}", key=text or "x", status=(None, "failed")[n % 2]) for n in range(count)
    ]
    moments = Moments(states=states, now_us=NOW, left=[1e9] * count, offset=height, keys=keys, unicode=keys)
    found = runs_page(moments, width, height)
    assert all(cell_width(plain(row)) <= max(width, 10) for row in found.rows)
    assert all(escape(plain(row)) == plain(row) for row in found.rows)
    assert len(found.rows) <= max(height, 4)


@pytest.fixture
def sweep(xtrack, tmp_path):
    events = [event for n in range(3) for event in events_of(f"sweep-{n}", status="failed" if n == 2 else "completed")]
    (tmp_path / "sweep.bin").write_bytes(capture(events))
    assert xtrack("replay", "sweep.bin").code == 0


def test_off_a_terminal(xtrack, sweep):
    done = xtrack("watch", "sweep-*")
    assert (done.code, done.out) == (0, "xtrack: 3 runs: 2 completed, 1 failed\n")
    assert xtrack("watch", "sweep-*", "--exit-status").code == 1
    assert xtrack("watch", "sweep-0", "sweep-1", "--exit-status").code == 0
    done = xtrack("watch", "sweep-*", "--once")
    assert done.out.splitlines()[2].split() == ["run", "status", "progress", "time", "metrics"]
    assert len(done.out.splitlines()) == 6
    assert xtrack("watch", "nosuch-*").code == 1
    assert xtrack("watch", "a", "b", "--to", "tcp://127.0.0.1:1").code == 2


WORKER = """
import sys
import xtrack_protocol as xtrack
with xtrack.start_run("sweep-9", run_id="sweep-9", quiet=True) as run:
    run.log_metric("loss", 0.125, step=1)
    run.flush()
    print("begun", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pty")
def test_at_a_terminal(xtrack, sweep):
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "begun\n"
        terminal = Terminal("watch", "sweep-*")
        terminal.read("loss 0.125")
        assert "4 runs: 2 completed, 1 failed, 1 running" in terminal.text
        job.stdin.close()
        assert job.wait(20) == 0
        assert terminal.end() == 0
    assert "xtrack: 4 runs: 3 completed, 1 failed" in terminal.text.split("\x1b[?1049l")[1]
    assert "xtrack: 4 runs: 3 completed, 1 failed" in look("watch", "sweep-*")
