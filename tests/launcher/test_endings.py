"""How a run ends is what its process did, whoever tells of it."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from xtrack_protocol.collector import RunManager, localruns
from xtrack_protocol.errors import CommandNotExecutable, CommandNotFound, ConfigurationError, LaunchError, SpoolError
from xtrack_protocol.spool import SpoolDir

TRACKED = """
import os, signal, sys, time
from xtrack_protocol import start_run
run = start_run()
for step in range(20):
    run.log_metric("loss", 1 / (step + 1), step=step)
how = sys.argv[1]
if how == "end": run.end()
if how == "fail": raise RuntimeError("diverged")
if how == "exit": sys.exit(int(sys.argv[2]))
if how == "vanish": os._exit(int(sys.argv[2]))
if how == "kill": os.kill(os.getpid(), int(sys.argv[2]))
"""


def only_worker(state):
    (worker,) = [summary for summary in state.streams if not summary.observer]
    return worker


def observer(state):
    (own,) = [summary for summary in state.streams if summary.observer]
    return own


@pytest.mark.parametrize(
    ("command", "status", "returncode", "exit_code", "name"),
    [
        (["true"], "completed", 0, 0, None),
        (["false"], "failed", 1, 1, None),
        (["bash", "-c", "exit 3"], "failed", 3, 3, None),
        (["bash", "-c", "exit 255"], "failed", 255, 255, None),
        (["bash", "-c", "kill -TERM $$"], "killed", -15, 143, "SIGTERM"),
        (["bash", "-c", "kill -KILL $$"], "killed", -9, 137, "SIGKILL"),
        (["bash", "-c", "bash -c 'kill -KILL $$'; exit $?"], "killed", 137, 137, "SIGKILL"),
    ],
)
def test_commands_that_know_nothing_of_tracking(manager, command, status, returncode, exit_code, name):
    run = manager.start_run(command[0], command[1:], name="a name", tags={"team": "vision"}, experiment_id="e")
    state = run.wait(30)
    assert (state.status, run.returncode, run.exit_code, run.signal) == (status, returncode, exit_code, name)
    assert (state.name, state.tags, state.experiment_id) == ("a name", {"team": "vision"}, "e")
    assert run.problems == []
    assert run.poll() == returncode
    error = observer(state).error
    if status == "failed":
        assert (error.type, error.message) == ("ExitCode", f"exit code {returncode}")
    elif name:
        assert name in error.message


@pytest.mark.parametrize("transport", ["local", "stdio"])
@pytest.mark.parametrize(
    ("args", "status", "worker", "lost"),
    [
        (["end"], "completed", "completed", None),
        (["none"], "completed", "completed", None),
        (["fail"], "failed", "failed", None),
        (["exit", "4"], "failed", "failed", None),
        (["vanish", "0"], "killed", "killed", "exited with code 0, and the worker never ended its run"),
        (["vanish", "5"], "failed", "killed", "exited with code 5, and the worker never ended its run"),
        (["kill", "9"], "killed", "killed", "killed by SIGKILL"),
        (["kill", "11"], "killed", "killed", "killed by SIGSEGV"),
    ],
)
def test_tracked_workers(python, transport, args, status, worker, lost):
    run = python(TRACKED, *args, transport=transport)
    state = run.wait(30)
    assert state.status == status
    assert state.metrics["loss"].count == 20
    summary = only_worker(state)
    assert summary.status == worker
    assert (summary.lost is None) == (lost is None)
    if lost:
        assert lost in summary.lost.detail
        assert summary.lost.reason == "died"
    assert run.problems == []
    if args == ["fail"]:
        assert (state.error.type, state.error.message) == ("RuntimeError", "diverged")


def test_through_a_shell_the_workers_end_counts_too(manager):
    state = manager.start_run("bash", ["-c", f"{sys.executable} -c '{TRACKED}' kill 9; true"]).wait(30)
    assert (observer(state).status, only_worker(state).status, state.status) == ("completed", "killed", "killed")
    assert "exited with code 0" in only_worker(state).lost.detail


GRANDCHILD = """
import os, sys, time
from xtrack_protocol import start_run
run = start_run()
run.log_metric("loss", 1.0, step=0)
open(sys.argv[1], "w").close()
while not os.path.exists(sys.argv[2]): time.sleep(0.01)
run.log_metric("loss", 0.5, step=1)
run.end()
"""


def test_a_grandchild_that_lives_on_keeps_its_stream(manager, tmp_path):
    script, begun, go = tmp_path / "grandchild.py", tmp_path / "begun", tmp_path / "go"
    script.write_text(GRANDCHILD)
    inner = f"{sys.executable} {script} {begun} {go} & while [ ! -e {begun} ]; do sleep 0.02; done; exit 0"
    run = manager.start_run("bash", ["-c", inner])
    state = run.wait(30)
    assert run.returncode == 0
    assert (state.status, only_worker(state).status, observer(state).status) == ("running", "running", "completed")
    with pytest.raises(LaunchError, match="its worker is alive"):
        RunManager(root=manager.root).start_run("true", run_id=run.run_id, resume=True)
    go.touch()
    deadline = time.monotonic() + 20
    while (state := run.state()).status != "completed" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (state.status, state.metrics["loss"].count) == ("completed", 2)


FORKS = """
import os
from xtrack_protocol import start_run
with start_run() as run:
    if os.fork() == 0:
        run.log_metric("child", 1.0)
        os._exit(0)
    os.wait()
"""


def test_forked_children_are_not_mourned(python):
    state = python(FORKS).wait(30)
    assert state.status == "completed"
    assert [summary.lost for summary in state.streams] == [None] * 3


def test_wait_times_out_and_the_worker_goes_on(manager):
    run = manager.start_run("sleep", ["30"])
    before = time.monotonic()
    assert run.wait(0.2) is None
    assert time.monotonic() - before < 5
    assert (run.poll(), run.returncode, run.state().status) == (None, None, "running")
    assert manager.wait(run.run_id, 0) is None
    assert run.stop(grace=0).status == "killed"


# ------------------------------------------------------------------------------------------ the worker's surroundings


def test_the_workers_surroundings(manager, root, tmp_path):
    out = tmp_path / "out"
    code = f"env | grep -E '^(XTRACK_|MINE=)' | sort > {out}; pwd >> {out}; ls /proc/self/fd | wc -w >> {out}"
    run = manager.start_run("bash", ["-c", code], env={"MINE": "1", "XTRACK_FD": "9"}, cwd=tmp_path, experiment_id="e")
    run.wait(30)
    lines = out.read_text().split("\n")
    assert lines[:6] == [
        "MINE=1",
        f"XTRACK_DIR={root}",
        "XTRACK_EXPERIMENT=e",
        "XTRACK_QUIET=1",
        f"XTRACK_RUN_ID={run.run_id}",
        "XTRACK_TRANSPORT=local",
    ]
    assert lines[6] == str(tmp_path)
    assert int(lines[7]) <= 5  # standard ones, and what ls itself opens: none of ours


def test_standard_streams_are_left_alone(root, tmp_path):
    import subprocess

    code = (
        "import sys\nfrom xtrack_protocol.collector import RunManager\n"
        "r = RunManager(root=sys.argv[1]).start_run('bash', ['-c', 'read x; echo out $x; echo err >&2'])\n"
        "r.wait(20)\nsys.exit(r.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], input=b"in\n", capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out in\n", b"err\n")


def test_secrets_of_a_command_line_are_not_recorded(manager):
    args = ["-c", "true", "--api-key", "hunter2", "--token=hunter2", "TOKEN=hunter2 https://me:hunter2@host/x run"]
    run = manager.start_run("bash", args)
    state = run.wait(30)
    assert state.source.entrypoint.startswith("bash -c true --api-key '***'")
    stored = b"".join(path.read_bytes() for path in SpoolDir(manager.root).run_dir(run.run_id).glob("*.xseg"))
    assert b"hunter2" not in stored


# ------------------------------------------------------------------------------------------ commands that can't start


def nothing_is_recorded(root: Path) -> bool:
    return list(SpoolDir(root).runs.glob("*")) == []


@pytest.mark.parametrize("transport", ["local", "stdio"])
@pytest.mark.parametrize("command", ["no-such-command-anywhere", "./no/such/file", ""])
def test_command_not_found(manager, command, transport):
    with pytest.raises(CommandNotFound, match="command not found"):
        manager.start_run(command, transport=transport)
    assert nothing_is_recorded(manager.root)


@pytest.mark.parametrize("transport", ["local", "stdio"])
@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("#!/bin/sh\n", 0o600, "no permission"),
        ("#!/no/such/interpreter\n", 0o700, "interpreter"),
        ("echo no first line\n", 0o700, "no program"),
    ],
)
def test_command_not_executable(manager, tmp_path, content, mode, problem, transport):
    script = tmp_path / "script"
    script.write_text(content)
    script.chmod(mode)
    if mode == 0o600 and os.access(script, os.X_OK):
        pytest.skip("this user may execute everything")
    for command in (str(script), "./script"):
        with pytest.raises(CommandNotExecutable, match=problem):
            manager.start_run(command, cwd=tmp_path, transport=transport, run_id="r")
    with pytest.raises(CommandNotExecutable, match="folder"):
        manager.start_run(str(tmp_path), transport=transport)
    with pytest.raises((CommandNotFound, CommandNotExecutable)):
        manager.start_run("script", env={"PATH": str(tmp_path)}, transport=transport)
    assert nothing_is_recorded(manager.root)


def test_other_starts_that_can_not_be(manager, tmp_path):
    with pytest.raises(LaunchError, match="no such folder"):
        manager.start_run("true", cwd=tmp_path / "no")
    with pytest.raises(ConfigurationError, match="Known: local, stdio"):
        manager.start_run("true", transport="file")
    with pytest.raises(ConfigurationError, match="fd or stdout"):
        manager.start_run("true", stdio_frames="stdin")
    for run_id in ("", "x" * 2000, "\ud800"):
        with pytest.raises(ConfigurationError):
            manager.start_run("true", run_id=run_id)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SpoolError, match="can't be written"):
        RunManager(root=blocked).start_run("true")
    assert nothing_is_recorded(manager.root)


# ------------------------------------------------------------------------------------------ never twice


def test_never_twice(manager):
    run = manager.start_run("sleep", ["30"], run_id="r")
    with pytest.raises(LaunchError, match="started here"):
        manager.start_run("true", run_id="r")
    other = RunManager(root=manager.root)
    for resume in (False, True):
        with pytest.raises(LaunchError, match="another launcher"):
            other.start_run("true", run_id="r", resume=resume)
    run.stop(grace=0)
    with pytest.raises(LaunchError, match="is there already"):
        other.start_run("true", run_id="r")
    assert other.start_run("true", run_id="r", resume=True).wait(30).status == "completed"
    other.close()


def test_a_resumed_run_leaves_its_failures_behind(python):
    assert python(TRACKED, "fail", run_id="r").wait(30).status == "failed"
    state = python(TRACKED, "end", run_id="r", resume=True, resume_checkpoint="ckpt.pt").wait(30)
    assert state.status == "completed"
    assert [summary.superseded for summary in state.streams] == [True, True, False, False]
    assert state.metrics["loss"].count == 40


def test_two_launchers_at_the_same_moment(root):
    import subprocess

    code = (
        "import sys, time\nfrom xtrack_protocol.collector import RunManager\n"
        "from xtrack_protocol.errors import LaunchError\n"
        "m = RunManager(root=sys.argv[1])\ntime.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "try:\n    m.start_run('sleep', ['1'], run_id='r').wait()\nexcept LaunchError:\n    sys.exit(7)"
    )
    at = str(time.time() + 1.0)
    started = [subprocess.Popen([sys.executable, "-c", code, str(root), at]) for _ in range(4)]
    assert sorted(process.wait(30) for process in started) == [0, 7, 7, 7]


# ------------------------------------------------------------------------------------------ the launcher dies

LAUNCHER = """
import os, sys, time
from xtrack_protocol.collector import RunManager
run = RunManager(root=sys.argv[1]).start_run(sys.executable, ["-c", sys.argv[2], *sys.argv[3:]], run_id="r")
print(os.getpid(), run.pid, flush=True)
run.wait()
"""

LOGS_ON = """
import os, sys, time
from xtrack_protocol import start_run
with start_run() as run:
    for step in range(300):
        run.log_metric("loss", 1.0, step=step)
        if step == 20: open(sys.argv[1], "w").close()
        time.sleep(0.003)
"""


@pytest.mark.parametrize("victims", ["launcher", "worker", "both"])
def test_kill_9(root, tmp_path, victims):
    import subprocess

    from xtrack_protocol.storage.local import LocalStore

    begun = tmp_path / "begun"
    arguments = [sys.executable, "-c", LAUNCHER, str(root), LOGS_ON, str(begun)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as launcher:
        _, worker = map(int, launcher.stdout.readline().split())
        while not begun.exists():
            time.sleep(0.01)
        for pid in {"launcher": [launcher.pid], "worker": [worker], "both": [launcher.pid, worker]}[victims]:
            os.kill(pid, signal.SIGKILL)
    with LocalStore(root) as store:
        if victims == "launcher":
            deadline = time.monotonic() + 30
            while store.get_run("r").status == "running" and time.monotonic() < deadline:
                time.sleep(0.05)
        state = store.get_run("r")
        steps = [point.step for point in store.get_metrics("r", "loss")]
    assert steps == list(range(len(steps)))
    assert len(steps) > 20
    if victims == "launcher":
        assert (state.status, len(steps), observer(state).votes) == ("completed", 300, False)
    elif victims == "worker":
        assert (state.status, only_worker(state).lost.detail) == ("killed", "killed by SIGKILL")
    else:
        assert (state.status, only_worker(state).lost) == ("running", None)  # nobody saw it: five minutes will tell
        with LocalStore(root) as later:
            folder = SpoolDir(root).run_dir("r")
            for path in folder.glob("*.xseg"):
                os.utime(path, (time.time() - 400, time.time() - 400))
            state = later.get_run("r")
        assert (state.status, only_worker(state).lost.reason) == ("lost", "vanished")


def test_what_is_known_of_streams(python, root):
    run = python(TRACKED, "end")
    run.wait(30)
    by_role = {local.is_worker: local for local in localruns.local_streams(SpoolDir(root).run_dir(run.run_id))}
    assert localruns.last_words(by_role[True]) == (True, 23)
    assert localruns.live_workers(SpoolDir(root).run_dir(run.run_id)) == []
    assert localruns.local_streams(root / "nowhere") == []
