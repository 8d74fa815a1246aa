"""command and tail: over a collector, and on this machine."""

import json
import os
import subprocess
import sys
import time

import pytest
from remote_workers import serving, working

from xtrack_protocol.ir import LogEntry, RunEnd
from xtrack_protocol.storage import MemoryStore

TRAINING = """
import sys, time
import xtrack_protocol as xtrack

with xtrack.start_run("training", run_id="far-1") as run:
    run.on_command(lambda command: f"lr is {float(command.payload['lr'])} now", "adjust_lr")
    step = 0
    while not run.should_stop:
        run.log_metric("loss", 1 / (step + 1), step=step)
        for command in run.commands():
            if command.type != "stop":
                run.log(f"polled {command.type} {command.payload}")
        step += 1
        time.sleep(0.01)
"""
PATIENCE = 60


@pytest.fixture
def server():
    with serving(MemoryStore()) as one:
        yield one


@pytest.fixture
def to(server):
    return f"tcp://127.0.0.1:{server.port}"


@pytest.fixture
def training(server, tmp_path):
    """A training in a process of its own, whose spool is not ours: as on another machine."""
    env = {
        **os.environ,
        "XTRACK_TRANSPORT": f"tcp://127.0.0.1:{server.port}",
        "XTRACK_DIR": str(tmp_path / "far"),
        "XTRACK_QUIET": "1",
    }
    with subprocess.Popen([sys.executable, "-c", TRAINING], env=env) as process:
        deadline = time.monotonic() + PATIENCE
        while server.router.workers("far-1") != [""]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
        if process.poll() is None:
            process.kill()


def test_a_training_on_another_machine(xtrack, server, training, to):
    done = xtrack("command", "far-1", "adjust_lr", "lr=0.5", "--to", to, "--timeout", PATIENCE)
    assert (done.code, done.out, done.err) == (0, "worker\tstatus\tmessage\n\tok\tlr is 0.5 now\n", "")
    done = xtrack("command", "far-1", "adjust_lr", "lr=fast", "--to", to, "--timeout", PATIENCE, "--json")
    assert done.code == 1
    [answer] = json.loads(done.out)
    assert (answer["status"], answer["worker"]) == ("error", None)
    assert answer["message"].startswith("ValueError: could not convert string to float")
    assert xtrack("command", "far-1", "pause", "why=lunch", "--to", to, "--timeout", PATIENCE).code == 0
    assert xtrack("command", "far-1", "stop", "--to", to, "--timeout", PATIENCE).code == 0
    assert training.wait(PATIENCE) == 0
    lines = xtrack("tail", "far-1", "--to", to, "--timeout", PATIENCE).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(number) for number in range(1, len(lines) + 1)]
    types = [line.split("\t")[4] for line in lines]
    assert types[0] == "run_start"
    assert types[-1] == "run_end"
    assert any("polled pause {'why': 'lunch'}" in line for line in lines)
    done = xtrack("command", "far-1", "stop", "--to", to)
    assert done.code == 1
    assert done.out.endswith("error\tno worker of run 'far-1' is connected to this collector to take a command\n")


def test_the_collector_of_the_settings(xtrack, server, training, monkeypatch):
    """Without --to: nobody here takes commands, so the collector is asked."""
    monkeypatch.setenv("XTRACK_PORT", str(server.port))
    assert xtrack("command", "far-1", "pause").code == 1, "no collector is named: a port alone says nothing"
    monkeypatch.setenv("XTRACK_TRANSPORT", "tcp")
    assert xtrack("command", "far-1", "pause", "--timeout", PATIENCE).code == 0
    monkeypatch.delenv("XTRACK_TRANSPORT")
    monkeypatch.setenv("XTRACK_HOST", "localhost")
    assert xtrack("command", "far-1", "stop", "--timeout", PATIENCE).code == 0
    assert training.wait(PATIENCE) == 0
    done = xtrack("tail", "far-1", "--from", "1", "--json", "--timeout", PATIENCE)
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["position"] for event in events] == list(range(2, len(events) + 2))
    assert events[-1]["event"]["p"]["status"] == "completed"


def test_a_worker_here_is_asked_first(xtrack, server, tmp_path, monkeypatch):
    """It logs to a collector that is far and not reached; the mailbox in its spool is near."""
    env = {**os.environ, "XTRACK_TRANSPORT": "tcp", "XTRACK_PORT": "1", "XTRACK_QUIET": "1"}
    monkeypatch.setenv("XTRACK_TRANSPORT", "tcp")
    monkeypatch.setenv("XTRACK_PORT", "1")
    monkeypatch.setenv("XTRACK_END_TIMEOUT", "0.1")
    with subprocess.Popen([sys.executable, "-c", TRAINING], env={**env, "XTRACK_END_TIMEOUT": "0.1"}) as process:
        deadline = time.monotonic() + PATIENCE
        while xtrack("ls").out.count("\n") < 2:
            assert time.monotonic() < deadline
        done = xtrack("command", "far-1", "adjust_lr", "lr=1", "--timeout", PATIENCE)
        assert (done.code, done.out) == (0, "worker\tstatus\tmessage\n\tok\tlr is 1.0 now\n")
        assert xtrack("command", "training", "stop", "--timeout", PATIENCE).code == 0
        process.wait(PATIENCE)


def test_what_does_not_go_together(xtrack, store, to):
    for verb in (["command", "r", "stop"], ["tail", "r"]):
        assert xtrack(*verb, "--to", to, "--store", store).code == 2
        done = xtrack(*verb, "--to", "http://collector:80")
        assert done.code == 2
        assert "--to='http://collector:80': is no address of a collector" in done.err
    assert xtrack("tail", "r", "--from", "-1", "--to", to).code == 2
    assert xtrack("tail", "r", "-n", "-1").code == 2
    done = xtrack("tail", "r", "-n", "5", "--from", "0")
    assert (done.code, "--last and --from exclude each other" in done.err) == (2, True)
    done = xtrack("tail", "r", "-n", "5", "--to", to)
    assert (done.code, "--last is for runs of this machine" in done.err) == (2, True)
    assert "neither a number of events nor 'now'" in xtrack("tail", "r", "--from", "yesterday", "--to", to).err


def test_a_collector_is_not_asked_for_the_latest(xtrack, to, monkeypatch):
    for verb in (("tail", "latest"), ("command", "latest", "stop")):
        done = xtrack(*verb, "--to", to)
        assert done.code == 2
        assert "Give the run's whole id" in done.err
        monkeypatch.setenv("XTRACK_TRANSPORT", to)
        assert xtrack(*verb).code == 2
        monkeypatch.delenv("XTRACK_TRANSPORT")


def test_tail_escapes_what_a_terminal_would_obey(xtrack, server, to):
    with working(server, "run-1", "w\x1b[2J") as worker:
        worker.log(LogEntry("run-1", "info", "\x1b]0;title\x07\n\u202eevil"), RunEnd("run-1", "completed"))
        text = xtrack("tail", "run-1", "--to", to, "--timeout", PATIENCE).out
        lines = xtrack("tail", "run-1", "--to", to, "--timeout", PATIENCE, "--json").out
    assert not set(text + lines) & set("\x1b\x07\u202e\r")
    assert "w\\x1b[2J" in text
    assert json.loads(lines.splitlines()[1])["event"]["p"]["msg"] == "\x1b]0;title\x07\n\u202eevil"


def test_tail_gives_up(xtrack, to):
    done = xtrack("tail", "nobody", "--to", to, "--timeout", "0.3")
    assert (done.code, done.out, done.err) == (1, "", "xtrack: nothing has come for 0.3 s\n")


def test_tail_of_a_run_here(xtrack, local, store):
    lines = xtrack("tail", "base").out.splitlines()
    assert len(lines) == 11
    first = lines[0].split("\t")
    assert first[:5] == ["1", "2023-11-14T22:13:20.000000Z", "-", "#1", "run_start"]
    assert xtrack("tail", "good-1", "--from", "9").out.splitlines() == lines[9:]
    assert xtrack("tail", "good-1", "--store", store).out.splitlines() == lines
    assert xtrack("tail", "good-1", "--from", "now").out == ""
    assert xtrack("tail", "good-1", "-n", "2").out.splitlines() == lines[9:]
    assert xtrack("tail", "good-1", "--last", "99", "--store", store).out.splitlines() == lines
    assert xtrack("tail", "good-1", "-n", "0").out == ""
    done = xtrack("tail", "nobody")
    assert done.code == 1
    assert "no run 'nobody'" in done.err


def test_tail_shows_a_live_run_at_once(xtrack):
    """Each event is written when it has come, not when a pipe's buffer is full; the run's end is the end."""
    argv = [sys.executable, "-m", "xtrack_protocol.cli", "tail", "far-1", "--from", "now"]
    quiet = {**os.environ, "XTRACK_QUIET": "1"}
    with subprocess.Popen([sys.executable, "-c", TRAINING], env=quiet) as training:
        deadline = time.monotonic() + PATIENCE
        while xtrack("ls").out.count("\n") < 2:
            assert time.monotonic() < deadline
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tail:
            first = [tail.stdout.readline().decode().split("\t") for _ in range(2)]
            assert training.poll() is None
            assert xtrack("command", "far-1", "stop", "--timeout", PATIENCE).code == 0
            rest, errors = tail.communicate(timeout=PATIENCE)
    assert [fields[4] for fields in first] == ["metric", "metric"]
    assert int(first[1][0]) == int(first[0][0]) + 1
    assert rest.decode().splitlines()[-1].split("\t")[4] == "run_end"
    assert errors == b""
    assert tail.returncode == 0
