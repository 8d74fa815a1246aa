"""Two processes that start a run under one id: the second one says so, unless that is what was meant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker, tracker

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
linux = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system doesn't tell who holds a lock")

SAID = (
    "xtrack: warning: run r: another process is logging to it, too, and the points of both are mixed. Give one another "
    "run id; or each a worker id (XTRACK_WORKER_ID), where they are workers of one run\n"
)
LOGGING = "run.log_metric('loss', 0.5, step=1); print('logging', flush=True); input(); run.log_metric('loss', 0.25)"
STARTED = f"import xtrack_protocol as x; run = x.start_run(run_id='r'); {LOGGING}"


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had started no run yet."""
    monkeypatch.setattr(tracker, "_bound", {})


class Training:
    """A process that logs to a run until it is told to end."""

    def __init__(self, code: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )

    def is_logging(self) -> Training:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "logging\n", (line, self.process.communicate(timeout=30))
        return self

    def end(self) -> str:
        """End it well, and return what it said on stderr."""
        _, said = self.process.communicate("\n", timeout=30)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def training(code: str = STARTED, **variables: str) -> Iterator[Training]:
    started = Training(code, **variables)
    try:
        yield started.is_logging()
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate(timeout=30)


def test_the_second_one_says_so_once(spool: Any) -> None:
    with training() as first, training() as second:
        assert second.end() == SAID
        assert first.end() == ""
    assert spool.state("r").metrics["loss"].count == 4


def test_as_the_environment_says(spool: Any) -> None:
    by_variable = STARTED.replace("run_id='r'", "")
    with training(by_variable, XTRACK_RUN_ID="r") as first, training(by_variable, XTRACK_RUN_ID="r") as second:
        assert (first.end(), second.end()) == ("", SAID)


def test_two_with_the_same_worker_id(spool: Any) -> None:
    with training(XTRACK_WORKER_ID="3"), training(XTRACK_WORKER_ID="3") as second:
        assert second.end() == SAID.replace("logging to it,", "logging to it as worker 3,")


@pytest.mark.parametrize("turn", range(3))
def test_two_that_start_at_the_same_moment(spool: Any, turn: int) -> None:
    """One of them finds the other, or each does."""
    code = f"import xtrack_protocol as x; print('logging', flush=True); input(); {STARTED.partition('; ')[2]}"
    with training(code) as first, training(code) as second:
        for each in (first, second):
            assert each.process.stdin is not None
            each.process.stdin.write("\n")
            each.process.stdin.flush()
        said = [each.is_logging() and each for each in (first, second)]
        assert "".join(each.end() for each in said) in {SAID, SAID + SAID}


@pytest.mark.parametrize("names", [("XTRACK_WORKER_ID",), ("RANK", "LOCAL_RANK")])
def test_workers_are_meant_to(spool: Any, names: tuple[str, ...]) -> None:
    size = {"WORLD_SIZE": "2", "XTRACK_RUN_ID": "r"}
    with training(**size, **dict.fromkeys(names, "0")) as zero, training(**size, **dict.fromkeys(names, "1")) as one:
        assert (zero.end(), one.end()) == ("", "")


@pytest.mark.parametrize("resume", [None, True])
def test_the_first_one_was_killed(spool: Any, resume: bool | None) -> None:
    with training() as first:
        first.process.kill()
        first.process.communicate(timeout=30)
        with training(STARTED.replace("'r'", f"'r', resume={resume}")) as second:
            assert second.end() == ""
    assert spool.state("r").status == "completed"


@posix
def test_a_forked_child_has_outlived_the_first_one(spool: Any) -> None:
    code = f"""
import os, signal, xtrack_protocol as x
run = x.start_run(run_id='r')
if os.fork():
    os.wait()
{LOGGING.replace("print(", "os.kill(os.getppid(), signal.SIGKILL); print(", 1)}
"""
    with training(code) as orphan:
        assert orphan.process.wait(30) == -9
        with training() as second:
            assert second.end() == ""
        orphan.process.communicate("\n", timeout=30)


def test_the_first_one_has_ended_its_run(spool: Any) -> None:
    """And its process waits for a collector, say: it logs no more."""
    ended = STARTED.replace("print(", "run._out.finish(run._run_end('completed', None, None)); print(", 1)
    with training(ended), training() as second:
        assert second.end() == ""


def test_who_attaches_is_meant_to(spool: Any) -> None:
    attached = STARTED.replace("start_run(run_id='r')", "Tracker.attach('r')")
    with training() as first, training(attached) as second:
        with training(attached) as third:
            assert third.end() == ""
        assert (first.end(), second.end()) == ("", "")


def test_one_starts_while_another_is_attached(spool: Any) -> None:
    with training() as first:
        first.end()
    with training(STARTED.replace("start_run(run_id='r')", "Tracker.attach('r')")), training() as second:
        assert second.end() == ""


@posix
@pytest.mark.parametrize("child", ["run.log_metric('of the child', 1.0)", "x.start_run(run_id='r', resume=False)"])
def test_forked_children_are_meant_to(spool: Any, child: str) -> None:
    code = f"""
import os, xtrack_protocol as x
run = x.start_run(run_id='r')
pid = os.fork()
if pid == 0:
    {child}
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
{LOGGING}
"""
    if "start_run" in child and not Path("/proc/locks").exists():
        pytest.skip("the system doesn't tell who holds a lock")
    with training(code) as parent:
        assert parent.end() == ""


@linux
def test_what_a_training_starts_is_meant_to(spool: Any) -> None:
    """Its environment names the run; and so it does through a shell."""
    child = "import xtrack_protocol as x; x.start_run().log_metric('of the child', 1.0)"
    code = f"""
import subprocess, sys, xtrack_protocol as x
run = x.start_run()
for _ in range(2):
    subprocess.run(["sh", "-c", '"$0" -c "$1"; true', sys.executable, {child!r}], check=True)
{LOGGING}
"""
    with training(code, XTRACK_RUN_ID="r") as parent:
        assert parent.end() == ""
    assert spool.state("r").metrics["of the child"].count == 2


@linux
def test_who_starts_trainings_is_meant_to(spool: Any) -> None:
    code = f"""
import subprocess, sys, xtrack_protocol as x
child = subprocess.Popen([sys.executable, "-c", {STARTED!r}], stdin=-1, stdout=-1, text=True)
assert child.stdout.readline() == "logging\\n"
run = x.start_run(run_id="r")
{LOGGING}
child.communicate("\\n")
"""
    with training(code) as parent:
        assert parent.end() == ""
    assert spool.state("r").metrics["loss"].count == 4


@pytest.mark.parametrize("told", [True, False])
def test_what_a_launcher_starts_is_meant_to(spool: Any, tmp_path: Path, told: bool) -> None:
    """Whoever has told a launcher to watch a run, has told which processes are its own."""
    trainings = tmp_path / "trainings.py"
    trainings.write_text(
        "import os, subprocess, sys\n"
        f"os.environ['LOCKS'] = '{'/proc/locks' if told else '/nowhere'}'\n"
        f"code = {LOCKS_OF_ENVIRONMENT + STARTED.replace(repr('r'), 'None')!r}\n"
        "both = [subprocess.Popen([sys.executable, '-c', code], stdin=-1, stdout=-1, text=True) for _ in '12']\n"
        "assert [one.stdout.readline() for one in both] == ['logging\\n'] * 2\n"
        "for one in both: one.communicate('\\n')\n"
        "assert [one.returncode for one in both] == [0, 0]\n"
    )
    launch = [sys.executable, "-m", "xtrack_protocol.cli", "run", "--run-id", "r", "--", sys.executable, str(trainings)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "another process" not in done.stderr
    assert spool.state("r").metrics["loss"].count == 4


LOCKS_OF_ENVIRONMENT = (
    "import os, pathlib, xtrack_protocol.emitter.writers as w; w._LOCKS = pathlib.Path(os.environ['LOCKS']); "
)


def test_where_the_system_does_not_tell_who_holds_a_lock(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with training(), training(LOCKS_OF_ENVIRONMENT + STARTED, LOCKS="/nowhere") as second:
        assert second.end() == SAID


def test_where_files_can_not_be_locked(spool: Any) -> None:
    """Nobody knows who lives there."""
    unknown = "import xtrack_protocol.emitter.tracker as t; t.is_locked = lambda path: None; "
    with training(), training(unknown + STARTED) as second:
        assert second.end() == ""


def test_strict_mode_refuses_and_leaves_no_trace(spool: Any) -> None:
    with training() as first:
        code = "import xtrack_protocol as x; x.start_run(run_id='r', strict=True)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        refused = f"ConfigurationError: run_id='r': {SAID.partition('run r: ')[2]}"
        assert done.stderr.endswith(refused)
        assert first.end() == ""
    state = spool.state("r")
    assert (state.status, len(state.streams)) == ("completed", 1)
    Tracker.start_run(run_id="r", strict=True).end()


def test_a_folder_that_can_not_be_read_is_told_of(
    spool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the training goes on."""

    def refuse(path: Path) -> bool:
        raise OSError("the server is away")

    with training():
        monkeypatch.setattr(tracker, "is_locked", refuse)
        run = Tracker.start_run(run_id="r", resume=False)
        assert run.log_metric("loss", 1.0) is None
        run.end()
    assert "warning: start_run failed: OSError: the server is away" in capsys.readouterr().err
    assert run.stats().refused == 1
