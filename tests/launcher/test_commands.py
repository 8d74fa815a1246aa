"""Commands reach the training loop, by polling and by callback, and are answered; stopping always stops."""

import time

import pytest

from xtrack_protocol.collector import send_command
from xtrack_protocol.errors import LaunchError
from xtrack_protocol.spool import SpoolDir

POLLS = """
import time
from xtrack_protocol import start_run
with start_run() as run:
    stop = False
    while not stop:
        for command in run.commands():
            run.log("command", type=command.type, payload=command.payload)
            stop = command.type == "stop"
        time.sleep(0.02)
"""

CALLS_BACK = """
import time
from xtrack_protocol import start_run
with start_run() as run:
    def lr(command):
        return f"lr is {command.payload['lr']}"
    run.on_command(lr, "adjust_lr")
    run.on_command(lambda command: None, "stop")
    while not run.should_stop:
        time.sleep(0.02)
"""

DEAF = """
import signal, time
from xtrack_protocol import start_run
run = start_run()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
run.log("deaf")
time.sleep(60)
"""


def until_it_logs(run, root, count=2):
    """Wait until the worker's stream is there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        streams = [summary for summary in run.state().streams if not summary.observer]
        if streams and streams[0].events >= count:
            return
        time.sleep(0.02)
    raise AssertionError("the worker has logged nothing")


@pytest.mark.parametrize("transport", ["local", "stdio"])
@pytest.mark.parametrize(("code", "message"), [(POLLS, None), (CALLS_BACK, "lr is 0.1")])
def test_commands_are_answered(python, root, transport, code, message):
    run = python(code, transport=transport)
    until_it_logs(run, root)
    (answer,) = run.send_command("adjust_lr", {"lr": 0.1}, timeout=20)
    assert (answer.status, answer.message) == ("ok", message)
    state = run.stop(grace=20)
    assert (state.status, run.returncode, run.signal) == ("completed", 0, None)
    if code is POLLS:
        told = [(log.entry.fields["type"], log.entry.fields["payload"]) for log in state.logs]
        assert told == [("adjust_lr", {"lr": 0.1}), ("stop", {})]


def test_a_callback_that_fails_answers_so(python, root):
    run = python(CALLS_BACK)
    until_it_logs(run, root)
    (answer,) = run.send_command("adjust_lr", {}, timeout=20)
    assert answer.status == "error"
    assert "KeyError" in answer.message


def test_any_process_may_command_a_local_run(python, root):
    run = python(POLLS, env={"XTRACK_WORKER_ID": "w"})
    until_it_logs(run, root)
    (answer,) = send_command(root, run.run_id, "custom", {"x": [1, None]}, worker_id="w", timeout=20)
    assert (answer.status, answer.worker_id) == ("ok", "w")
    with pytest.raises(LaunchError, match="no worker 'v'"):
        send_command(root, run.run_id, "pause", worker_id="v")
    send_command(root, run.run_id, "stop", timeout=20)
    assert run.wait(20).status == "completed"
    assert list(SpoolDir(root).mailbox(run.run_id).iterdir()) == []


def test_nobody_to_command(manager, root):
    with pytest.raises(LaunchError, match="no worker of run 'nowhere' is alive"):
        send_command(root, "nowhere", "pause")
    run = manager.start_run("sleep", ["20"])
    with pytest.raises(LaunchError, match="is alive"):
        run.send_command("pause")


def test_nobody_listens(python, root):
    run = python(DEAF)
    until_it_logs(run, root)
    with pytest.raises(LaunchError, match=r"run\.commands\(\)"):
        run.send_command("pause", timeout=0.3)
    assert list(SpoolDir(root).mailbox(run.run_id).iterdir()) == []


@pytest.mark.parametrize("transport", ["local", "stdio"])
def test_stopping_one_that_ignores_everything(python, root, transport):
    run = python(DEAF, transport=transport)
    until_it_logs(run, root)
    before = time.monotonic()
    state = run.stop(grace=0.4)
    assert 0.8 <= time.monotonic() - before < 10
    assert (state.status, run.signal, run.exit_code) == ("killed", "SIGKILL", 137)
    assert "SIGKILL" in next(summary for summary in state.streams if not summary.observer).lost.detail


def test_stopping_reaches_what_the_command_has_started(manager, root):
    run = manager.start_run("bash", ["-c", "sleep 50 & sleep 50; true"])
    before = time.monotonic()
    assert manager.stop_run(run.run_id, grace=5).status == "killed"
    assert time.monotonic() - before < 5
    assert run.signal == "SIGTERM"


def test_stopping_gives_a_grandchild_its_grace(manager, root, tmp_path):
    script, begun = tmp_path / "slow.py", tmp_path / "begun"
    script.write_text(
        "import signal, sys, time\nfrom xtrack_protocol import start_run\nrun = start_run()\n"
        "def finish(*_):\n    time.sleep(0.5)\n    run.log_metric('saved', 1.0)\n    run.end()\n    sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, finish)\nopen({str(begun)!r}, 'w').close()\ntime.sleep(60)\n"
    )
    import sys

    run = manager.start_run("bash", ["-c", f"{sys.executable} {script}; true"])
    while not begun.exists():
        time.sleep(0.02)
    state = run.stop(grace=3)
    worker = next(summary for summary in state.streams if not summary.observer)
    assert (run.signal, worker.status, state.metrics["saved"].count) == ("SIGTERM", "completed", 1)


def test_stopping_what_has_ended_changes_nothing(manager):
    run = manager.start_run("true")
    run.wait(20)
    assert run.stop().status == "completed"
    with pytest.raises(LaunchError, match="not started by this launcher"):
        manager.stop_run("another")
