"""run: real processes, exit statuses, signals."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

XTRACK = [sys.executable, "-m", "xtrack_protocol.cli"]

TRAIN = """
import xtrack_protocol as xtrack
with xtrack.start_run("in the script", params={"lr": 0.1}) as run:
    for step in range(5):
        run.log_metric("loss", 1 / (step + 1), step=step)
"""


@pytest.fixture(autouse=True)
def _quiet_workers(monkeypatch, tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)


def run_json(xtrack, ref="latest"):
    return json.loads(xtrack("show", ref, "--json").out)


def test_a_tracked_script(process, xtrack):
    done = process("run", "--name", "mine", "--experiment", "e", "--tag", "a=b", "--", sys.executable, "train.py")
    assert (done.code, done.out) == (0, "")
    assert "xtrack: run mine completed in " in done.err
    assert "params       lr=0.1" in done.err
    assert "loss  last 0.2 at step 4, min 0.2, max 1" in done.err
    state = run_json(xtrack, "mine")
    assert f"xtrack show {state['run_id']}" in done.err
    assert (state["status"], state["experiment_id"], state["tags"]) == ("completed", "e", {"a": "b"})
    assert state["metrics"]["loss"]["count"] == 5


def test_the_commands_streams_are_its_own(process):
    code = "import sys; print(sys.stdin.read().upper()); print('err', file=sys.stderr)"
    done = process("run", "--quiet", sys.executable, "-c", code, input=b"abc")
    assert (done.code, done.out, done.err) == (0, "ABC\n", "err\n")


@pytest.mark.parametrize(
    ("command", "code", "status"),
    [
        (["true"], 0, "completed"),
        (["bash", "-c", "exit 7"], 7, "failed"),
        (["bash", "-c", "kill -KILL $$"], 137, "killed"),
        (["bash", "-c", "kill -TERM $$"], 143, "killed"),
        (["bash", "-c", f"{sys.executable} train.py; exit 3"], 3, "failed"),
        (["bash", "-c", f"{sys.executable} train.py && true"], 0, "completed"),
        (["bash", "-c", f"bash -c '{sys.executable} train.py'; true"], 0, "completed"),
        ([sys.executable, "-c", "raise SystemExit(125)"], 125, "failed"),
    ],
)
def test_exit_statuses(process, xtrack, command, code, status):
    assert process("run", "--run-id", "r", "--", *command).code == code
    assert run_json(xtrack, "r")["status"] == status


def test_grandchildren_log_to_the_run(process, xtrack):
    code = f"import subprocess, sys; sys.exit(subprocess.call([{sys.executable!r}, 'train.py']))"
    assert process("run", "--run-id", "r", "--", sys.executable, "-c", code).code == 0
    assert run_json(xtrack, "r")["metrics"]["loss"]["count"] == 5


def test_commands_that_can_not_be_started(process, xtrack, tmp_path):
    (tmp_path / "plain").write_text("no program")
    for command, code in (["no-such-command"], 127), (["./absent"], 127), (["./plain"], 126), ([str(tmp_path)], 126):
        done = process("run", "--", *command)
        assert (done.code, done.out) == (code, "")
        assert done.err.startswith("xtrack: error: ")
        assert done.err.count("\n") == 1
    assert json.loads(xtrack("ls", "--json").out) == []


def test_failures_of_our_own(process, tmp_path):
    assert process("run").code == 125
    assert process("run", "--bogus", "true").code == 125
    assert process("run", "--tag", "x", "true").code == 125
    assert process("run", "--resume", "true").code == 125
    assert process("run", "true", XTRACK_FD="x").code == 125
    (tmp_path / "file").touch()
    done = process("run", "true", XTRACK_DIR=str(tmp_path / "file" / "x"))
    assert (done.code, done.err.count("\n")) == (125, 1)


def test_an_id_that_is_taken(process):
    assert process("run", "--run-id", "r", "true").code == 0
    done = process("run", "--run-id", "r", "true")
    assert done.code == 125
    assert "Resume it" in done.err


def test_resume(process, xtrack):
    assert process("run", "--run-id", "r-1", sys.executable, "-c", f"{TRAIN}\n    raise SystemExit(1)").code == 1
    assert run_json(xtrack, "r-1")["status"] == "failed"
    assert process("run", "--run-id", "r-", "--resume", sys.executable, "train.py").code == 0
    state = run_json(xtrack, "r-1")
    assert (state["status"], state["metrics"]["loss"]["count"]) == ("completed", 10)


def test_timeout(process, xtrack):
    begun = time.monotonic()
    done = process("run", "--run-id", "r", "--timeout", "0.5", "--", "sleep", "60")
    assert done.code == 124
    assert time.monotonic() - begun < 20
    assert "time-out" in done.err
    assert run_json(xtrack, "r")["status"] == "killed"


def test_stdio_transport(process, xtrack):
    code = (
        "import json, os, struct\n"
        "for seq, (kind, p) in enumerate([('run_start', {}), ('metric', {'key': 'x', 'value': 3}),"
        " ('run_end', {'status': 'completed'})], 1):\n"
        "    e = json.dumps({'v': 1, 't': kind, 'm': {'seq': seq, 'ts': seq}, 'p': {'run_id': 'own', **p}}).encode()\n"
        "    os.write(3, struct.pack('>I', len(e)) + e)\n"
    )
    assert process("run", "--run-id", "r", "--transport", "stdio", sys.executable, "-c", code).code == 0
    assert run_json(xtrack, "r")["metrics"]["x"]["last"] == 3


def start(*command, **options):
    return subprocess.Popen([*XTRACK, "run", "--run-id", "r", "--", *command], stdin=subprocess.DEVNULL, **options)


def wait_for(path, seconds=20):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


SLEEPER = """
import pathlib, time, xtrack_protocol as xtrack
with xtrack.start_run() as run:
    run.log_metric("x", 1, step=1)
    pathlib.Path("up").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_are_passed_on(xtrack, tmp_path, number, code):
    with start(sys.executable, "-c", SLEEPER, stderr=subprocess.DEVNULL) as done:
        wait_for(tmp_path / "up")
        done.send_signal(number)
        assert done.wait(20) == code
    assert run_json(xtrack, "r")["status"] == "killed"


def test_ctrl_c_three_times_ends_a_worker_that_will_not(xtrack, tmp_path):
    code = "import pathlib, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); pathlib.Path('up').touch();"
    with start(sys.executable, "-c", f"{code} time.sleep(60)", stderr=subprocess.DEVNULL) as done:
        wait_for(tmp_path / "up")
        for _ in range(3):
            done.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert done.wait(20) == 137


def test_kill_of_the_launcher_leaves_the_worker_alone(xtrack, tmp_path):
    code = f"{TRAIN}\nimport pathlib, time; pathlib.Path('up').touch(); time.sleep(1); pathlib.Path('end').touch()"
    with start(sys.executable, "-c", code, stderr=subprocess.DEVNULL) as done:
        wait_for(tmp_path / "up")
        done.kill()
    wait_for(tmp_path / "end")
    assert run_json(xtrack, "r")["metrics"]["loss"]["count"] == 5


def test_a_watcher_that_fails_does_not_stop_the_worker(process, tmp_path):
    code = "import shutil, time, os; os.chdir('/'); shutil.rmtree(os.environ['XTRACK_DIR']); time.sleep(0.5)"
    code += f"; open({str(tmp_path / 'end')!r}, 'w')"
    done = process("run", "--", sys.executable, "-c", code)
    assert done.code == 0
    assert (tmp_path / "end").exists()
    assert "Traceback" not in done.err


def test_uses_of_a_script_in_another_language(process, xtrack, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nexit 4\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    assert process("run", "--run-id", "r", "./job.sh").code == 4
    assert os.fspath(script.name) in run_json(xtrack, "r")["source"]["entrypoint"]
