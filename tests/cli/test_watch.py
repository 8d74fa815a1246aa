"""Watching runs: the page for any run and size, and the real thing at a terminal, in a pipe, and over a collector."""

import math
import os
import signal
import subprocess
import sys
import time

import attrs
import pytest
from cli_runs import T0, capture, crowd_run, stream
from hypothesis import given
from hypothesis import strategies as st
from remote_workers import serving
from terminals import ESCAPES, Terminal, look, resize

from xtrack_protocol.cli._screen import KEYS, _pressed, scrolled
from xtrack_protocol.cli._watch_page import Moment, page, progress_of, trend_of
from xtrack_protocol.decode.text import escape
from xtrack_protocol.ir import Alert, Checkpoint, LogEntry, Metric, MetricBatch, RunEnd, RunStart
from xtrack_protocol.ir.lifecycle import ErrorInfo, Progress, StatusUpdate
from xtrack_protocol.runs import StreamLost, fold
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import MemoryStore
from xtrack_protocol.storage.base import Incoming
from xtrack_protocol.views.cells import cell_width, plain
from xtrack_protocol.wire import encode

NOW = T0 + 60_000_000


def state_of(events):
    run_id = events[0].run_id
    return fold(
        run_id, [(StreamId(run_id, event.meta.worker_id or "", event.meta.session_id), event) for event in events]
    )


def training(keys=2, steps=6, **end):
    payloads = [RunStart("run-1", name="base")]
    for step in range(1, steps + 1):
        payloads.append(MetricBatch("run-1", {f"loss{key}": 1 / (step + key) for key in range(keys)}, step=step))
    payloads += [
        StatusUpdate("run-1", "training", "fold 2 of 5", Progress(steps, 10, "epoch")),
        Checkpoint("run-1", 4, "ckpt/4.bin", is_best=True),
        Checkpoint("run-1", 5, "ckpt/5.bin"),
        Alert("run-1", "loss is low", text="look", level="warning"),
        LogEntry("run-1", "info", "half way\nthere"),
    ]
    return state_of(stream("run-1", [*payloads, *([RunEnd("run-1", **end)] if end else [])]))


def rows(state, width=80, height=24, **more):
    found = page(Moment(state=state, now_us=NOW, **more), width, height)
    return [plain(row) for row in found.rows]


def test_a_page():
    text = rows(training(), left=90.0)
    assert text[0] == "base  running  1m 00s  run-1"
    assert text[1].startswith("training: fold 2 of 5  epoch 6/10  ━━━━")
    assert text[1].endswith(" 60%  1m 30s left")
    assert text[3].split() == ["metric", "last", "trend", "change", "step", "min", "max"]
    assert text[4].split() == ["loss0", "0.166667", "█▄▂▂▁▁", "-0.0333", "6", "0.166667", "1"]
    assert text[5].split()[0] == "loss1"
    assert text[7] == "checkpoints 2, last at step 5, best at step 4: ckpt/4.bin"
    assert text[8].endswith("warning loss is low: look")
    assert text[10].endswith("info    half way\\nthere")


def test_a_failed_run_says_why():
    text = rows(training(status="failed", error=ErrorInfo("ValueError", "diverged\x1b[31m", "")))
    assert text[0].startswith("base  failed")
    assert "ValueError: diverged\\x1b[31m" in text
    assert "left" not in text[1]


def test_a_run_of_which_nothing_is_known():
    assert (
        rows(state_of([*stream("run-1", [LogEntry("run-1", "info", "x")])]), trouble="connecting ...")[-1]
        == "connecting ..."
    )
    assert rows(fold("run-1", [])) == ["run-1  pending"]


def test_two_hundred_metrics_are_scrolled():
    found = page(Moment(state=training(keys=200), now_us=NOW, keys=True), 80, 24)
    text = [plain(row) for row in found.rows]
    assert (len(text), found.listed) == (24, 200)
    assert f"  {200 - found.shown} more metrics" in text
    assert text[4].startswith("loss0 ")
    text = rows(training(keys=200), keys=True, offset=10_000)
    assert any(line.startswith("loss99 ") for line in text)
    assert any(line.endswith(" above, 0 more metrics") for line in text)


def test_a_crowd_has_one_line():
    text = rows(state_of(crowd_run()), 100)
    assert text[0].startswith("crowd  failed")
    assert "workers 64 of 64; 63 completed, 1 failed" in text
    events = []
    for worker in range(3):
        payloads = [RunStart("c", world_size=3)]
        payloads += [
            StatusUpdate("c", "training" if worker else "evaluating", None, Progress(10 + worker, 100, "step"))
        ]
        payloads += [Metric("c", "loss", worker + step, step=step) for step in range(5)]
        events += stream("c", payloads, wid=str(worker), sid=f"s{worker}")
    state = state_of(events)
    text = rows(state, 120)
    assert "workers 3 of 3; 3 running; 2 training, 1 evaluating; slowest 0 at 10, fastest 2 at 12" in text
    assert progress_of(state) == Progress(10, 100, "step")
    assert trend_of(state.metrics["loss"]) == [1, 2, 3, 4, 5]
    assert trend_of(state.metrics["loss"], [9, 8, 7, 6, 5.5, 5]) == [9, 8, 7, 6, 5.5, 5]


def test_what_is_not_a_number():
    state = state_of(
        stream("r", [RunStart("r"), Metric("r", "loss", 1.0, step=1), Metric("r", "loss", math.nan, step=2)])
    )
    found = page(Moment(state=state, now_us=NOW), 80, 24)
    row = next(row for row in found.rows if row and row[0].text.startswith("loss"))
    assert [span.style for span in row if "nan" in span.text] == ["red"]
    assert plain(row).split() == ["loss", "nan", "▄\N{MULTIPLICATION SIGN}", "2", "1", "1", "1"]


@given(
    st.integers(1, 250),
    st.integers(1, 60),
    st.integers(0, 30),
    st.integers(0, 500),
    st.booleans(),
    st.text(max_size=30),
    st.lists(st.floats(), max_size=5),
)
def test_any_page_fits(width, height, keys, offset, pressable, text, values):
    text = text or "x"
    payloads = [RunStart("run", name=text), LogEntry("run", "error", text), Alert("run", text, text=text)]
    payloads += [
        Metric("run", f"{text}{key}", value, step=step) for key in range(keys) for step, value in enumerate(values)
    ]
    payloads += [
        StatusUpdate("run", "training", text, Progress(offset, keys, text)),
        Checkpoint("run", 1, text, is_best=True),
    ]
    for more in ([], [RunEnd("run", "failed", error=ErrorInfo(text, text))]):
        state = state_of(stream("run", payloads + more))
        moment = Moment(
            state=state, now_us=NOW, left=1e9, offset=offset, keys=pressable, trouble=text, unicode=pressable
        )
        found = page(moment, width, height)
        assert all(cell_width(plain(row)) <= max(width, 10) for row in found.rows)
        assert all(escape(plain(row)) == plain(row) for row in found.rows)
        assert len(found.rows) <= max(height, 4)


def test_keys():
    assert _pressed(b"\x1b[Aj\x1b[6~x\xe5q") == ["up", "down", "page down", "quit"]
    assert _pressed(b"\x1bOQ\x1b[3~\x1b[1;5Fk\x1b") == ["up"]  # F2, delete, Ctrl-End, k, and escape itself
    assert {"up", "down", "quit"} <= set(KEYS.values())
    assert [scrolled(5, key, 10, 20) for key in ("up", "down", "page up", "page down", "home", "end", "x")] == [
        4, 6, 0, 15, 0, 20, 5,
    ]  # fmt: skip
    assert scrolled(3, "down", 10, -4) == 0


# ------------------------------------------------------------------------------------------ for real

WORKER = """
import sys, time
import xtrack_protocol as xtrack
with xtrack.start_run("job", run_id=sys.argv[1], quiet=True) as run:
    step = 0
    while not sys.stdin.closed and step < 10_000:
        step += 1
        run.log_metrics({f"loss{n:03}": 1 / (step + n) for n in range(60)}, step=step)
        run.set_status("training", progress=(step, 10_000, "steps"))
        import select
        if select.select([sys.stdin], [], [], 0.02)[0]:
            word = sys.stdin.readline().strip()
            if word == "fail":
                raise RuntimeError("diverged")
            break
"""


@attrs.define
class Job:
    """A training that goes on until it is told otherwise."""

    process: subprocess.Popen

    def say(self, word):
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()


@pytest.fixture
def job():
    """A training on this machine."""
    command = [sys.executable, "-c", WORKER, "job-1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield Job(process)
        if process.poll() is None:
            process.kill()


def known(xtrack, run="job-1"):
    deadline = time.monotonic() + 30
    while xtrack("show", run).code:
        assert time.monotonic() < deadline
        time.sleep(0.05)


posix = pytest.mark.skipif(sys.platform == "win32", reason="no pty")


@posix
def test_at_a_terminal_until_its_end(xtrack, job):
    known(xtrack)
    terminal = Terminal("watch", rows=20, columns=90)
    terminal.read("left")
    assert "\x1b[?1049h\x1b[?25l" in terminal.text
    assert "loss000" in terminal.text
    assert "loss059" not in terminal.text
    terminal.press(b"G")
    terminal.read("loss059")
    resize(terminal.fd, 8, 40)
    terminal.read("\x1b[2Ksteps ")  # which has a row of its own now
    job.say("end")
    assert terminal.end() == 0
    shown, after = terminal.text.split("\x1b[?25h\x1b[?1049l")
    assert "xtrack: run job completed in" in after
    assert "more metrics" in shown


@posix
def test_its_exit_status_tells_if_asked_to(xtrack, job):
    known(xtrack)
    terminal = Terminal("watch", "job", "--exit-status")
    terminal.read("loss000")
    job.say("fail")
    assert terminal.end() == 1
    assert "RuntimeError: diverged" in terminal.text
    assert look("watch", "job")


@posix
def test_quitting_leaves_the_run_alone(xtrack, job):
    known(xtrack)
    for key, code in ((b"q", 0), (b"\x03", 130)):
        terminal = Terminal("watch", "job-1")
        terminal.read("loss000")
        terminal.press(key)
        assert terminal.end() == code
        assert terminal.text.count("\x1b[?1049h") == terminal.text.count("\x1b[?1049l") == 1
    assert job.process.poll() is None


@posix
def test_signals_give_the_terminal_back(xtrack, job):
    known(xtrack)
    terminal = Terminal("watch", "job-1")
    terminal.read("loss000")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.end() == 128 + signal.SIGTERM
    assert terminal.text.endswith("\x1b[?25h\x1b[?1049l")


def test_in_a_pipe(xtrack, job):
    known(xtrack)
    command = [sys.executable, "-m", "xtrack_protocol.cli", "watch", "job-1", "--interval", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        first = watching.stdout.readline()
        assert first.startswith("job | training | step ")
        assert " left | " in first
        job.say("end")
        rest = watching.stdout.read()
        assert watching.wait(20) == 0
    assert "xtrack: run job completed in" in rest
    assert "\x1b" not in first + rest


def test_a_snapshot(xtrack, store):
    done = xtrack("watch", "--once", "--store", store)
    assert done.code == 0
    assert done.out.startswith("=cmd|' /C calc'!A0\\x1b[31m\\tred  failed")
    assert "ValueError: diverged" in done.out
    assert xtrack("watch", "good-1", "--once", "--exit-status", "--store", store).code == 0
    assert xtrack("watch", "bad-1", "--once", "--exit-status", "--store", store).code == 1
    done = xtrack("watch", "nosuch", "--store", store)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert xtrack("watch", "good-1", "--to", "tcp://127.0.0.1:1", "--store", store).code == 2
    assert xtrack("watch").code == 1


# ------------------------------------------------------------------------------------------ over a collector


@pytest.fixture
def server():
    with serving(MemoryStore()) as one:
        yield one


@pytest.fixture
def far(server, tmp_path):
    """A training in a process whose spool is not ours: as on another machine."""
    env = {**os.environ, "XTRACK_TRANSPORT": f"tcp://127.0.0.1:{server.port}", "XTRACK_DIR": str(tmp_path / "far")}
    command = [sys.executable, "-c", WORKER, "far-1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as process:
        yield Job(process)
        if process.poll() is None:
            process.kill()


@posix
def test_a_run_elsewhere(xtrack, server, far):
    to = f"tcp://127.0.0.1:{server.port}"
    terminal = Terminal("watch", "far-1", "--to", to, "--exit-status")
    terminal.read("left")
    text = ESCAPES.sub("", terminal.text)
    assert "job  running" in text
    far.say("fail")
    assert terminal.end() == 1
    assert "xtrack: run job failed in" in terminal.text
    done = xtrack("watch", "far-1", "--to", to, "--once")
    assert done.code == 0
    assert done.out.startswith("job  failed")
    assert "loss059" in done.out


def test_a_run_elsewhere_by_the_settings(xtrack, server, far, monkeypatch):
    monkeypatch.setenv("XTRACK_TRANSPORT", f"tcp://127.0.0.1:{server.port}")
    far.say("end")
    far.process.wait(30)
    done = xtrack("watch", "far-1", "--exit-status")
    assert done.code == 0
    assert "xtrack: run job completed in" in done.out
    done = xtrack("watch")
    assert done.code == 2
    assert "a collector isn't asked for its runs" in done.err


def test_a_rewound_run_elsewhere(xtrack, server):
    from xtrack_protocol.collector import Collector
    from xtrack_protocol.ir.lifecycle import Resume

    first = stream("r", [RunStart("r"), *(Metric("r", "loss", n, step=n) for n in range(9))], sid="one")
    second = [RunStart("r", resume=Resume(["one"], 3)), Metric("r", "loss", 33, step=4), RunEnd("r", "completed")]
    second = stream("r", second, sid="two", at=T0 + 60_000_000)
    path = os.path.abspath("r.bin")
    with open(path, "wb") as file:
        file.write(capture(first + second))
    Collector(server.store).replay_file(path)
    done = xtrack("watch", "r", "--to", f"tcp://127.0.0.1:{server.port}", "--once")
    line = next(line for line in done.out.splitlines() if line.startswith("loss"))
    assert line.split()[1] == "33"
    assert line.split()[-2:] == ["0", "33"]


def test_a_run_elsewhere_whose_worker_is_gone(xtrack, server):
    """That is no event: the collector alone knows it."""
    events = stream("gone", [RunStart("gone"), Metric("gone", "loss", 1.0, step=1)])
    stream_id = StreamId("gone", "", events[0].meta.session_id)
    server.store.append([Incoming(stream_id, event, encode(event), T0) for event in events])
    server.store.mark_lost(StreamLost(stream_id, NOW, "died", 2, "killed by SIGKILL"))
    done = xtrack("watch", "gone", "--to", f"tcp://127.0.0.1:{server.port}", "--once", "--exit-status")
    assert done.code == 1
    assert done.out.startswith("gone  lost")


@posix
def test_a_collector_that_goes_away_and_comes_back():
    store = MemoryStore()
    events = stream("r", [RunStart("r"), Metric("r", "loss", 1.0, step=1), RunEnd("r", "completed")])
    incoming = [Incoming(StreamId("r", "", event.meta.session_id), event, encode(event), T0) for event in events]
    store.append(incoming[:2])
    with serving(store) as first:
        port = first.port
        terminal = Terminal("watch", "r", "--to", f"tcp://127.0.0.1:{port}", columns=160)
        terminal.read("loss")
    terminal.read("connecting again: ")
    store.append(incoming[2:])
    with serving(store, port):
        assert terminal.end() == 0
    assert "xtrack: run completed" in terminal.text


def test_nobody_there(xtrack):
    done = xtrack("watch", "far-1", "--to", "tcp://127.0.0.1:1", "--once")
    assert done.code == 1
    assert done.err.count("\n") == 1
