"""A training that something ends: its status is the truth, it goes on under its own id, and then completes.

Alone, under ``xtrack run``, and with a collector elsewhere, as a job that a scheduler requeues: the same command again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_peers import ServeProcess, eventually

from xtrack_protocol.runs import RunState
from xtrack_protocol.storage import open_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")

TRAINING = """
import json, os, signal, sys, time
from pathlib import Path
import xtrack_protocol as xtrack

death = sys.argv[1]
checkpoint = Path("checkpoint.json")
begin = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else 0
with xtrack.start_run("killed", rewind_to=begin or None) as run:
    assert run.resumed == bool(begin)
    for step in range(begin + 1, 31):
        run.log_metric("loss", 1 / step, step=step)
        if step % 10 == 0:
            checkpoint.write_text(json.dumps({"step": step}))
            run.log_checkpoint(checkpoint, step)
        if step == 15 and not begin:
            if death == "exception":
                raise RuntimeError("out of memory")
            if death == "full disk":
                Path("big.pt").write_bytes(bytes(4 << 20))
            os.kill(os.getpid(), getattr(signal, death))
            time.sleep(20)
"""

DEATHS = {
    "SIGTERM, asked for": ("SIGTERM", "TERM=end", -signal.SIGTERM, "killed", "Preempted"),
    "SIGTERM": ("SIGTERM", "", -signal.SIGTERM, None, None),
    "SIGKILL": ("SIGKILL", "TERM=end", -signal.SIGKILL, None, None),
    "exception": ("exception", "TERM=end", 1, "failed", "RuntimeError"),
    "Ctrl-C": ("SIGINT", "TERM=end", -signal.SIGINT, "killed", "KeyboardInterrupt"),
}
"""Of each: what ends it, XTRACK_SIGNALS, the exit status, and what it can say of its end itself."""


@pytest.fixture
def training(spool: Any, tmp_path: Path) -> list[str]:
    path = tmp_path / "train.py"
    path.write_text(TRAINING)
    return [sys.executable, "-W", "error", str(path)]


def run(command: list[str], signals: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"XTRACK_RUN_ID": "job-1", "XTRACK_RESUME": "auto", "XTRACK_SIGNALS": signals}
    return subprocess.run(command, env=environ | variables, capture_output=True, text=True, timeout=60, check=False)


def check_history(store: Any, state: RunState, lost: int = 0) -> None:
    """All steps are there once, in order; what the first attempt did beyond its checkpoint is kept, hidden."""
    assert (state.status, state.error, state.lost_events) == ("completed", None, lost)
    assert [point.step for point in store.get_metrics("job-1", "loss")] == list(range(1, 31))
    every = store.get_metrics("job-1", "loss", include_hidden=True)
    assert sorted(point.step for point in every if point.hidden) == [11, 12, 13, 14, 15]
    assert [stored.checkpoint.step for stored in state.checkpoints if not stored.hidden] == [10, 20, 30]
    workers = [summary for summary in state.streams if not summary.observer]
    assert sorted(summary.superseded for summary in workers) == [False, True]


@pytest.mark.parametrize(("death", "signals", "returncode", "status", "error"), DEATHS.values(), ids=DEATHS)
def test_alone(
    spool: Any, training: list[str], death: str, signals: str, returncode: int, status: str | None, error: str | None
) -> None:
    done = run([*training, death], signals)
    assert done.returncode == returncode, done.stderr
    state = spool.state("job-1")
    if status is None:  # nobody saw it: what is gone for five minutes is lost
        assert state.status == "running"
        earlier = time.time() - 400
        for path in spool.root.rglob("*.xseg"):
            os.utime(path, (earlier, earlier))
        assert spool.state("job-1").status == "lost"
    else:
        assert (state.status, state.error.type) == (status, error)
    assert run([*training, death], signals).returncode == 0
    with open_store(f"local:{spool.root}") as store:
        check_history(store, store.get_run("job-1"))


@pytest.mark.parametrize(("death", "signals", "returncode", "status", "error"), DEATHS.values(), ids=DEATHS)
def test_under_the_launcher(
    spool: Any, training: list[str], death: str, signals: str, returncode: int, status: str | None, error: str | None
) -> None:
    launch = [sys.executable, "-m", "xtrack_protocol.cli", "run", "-q", "--run-id", "job-1"]
    done = run([*launch, "--", *training, death], signals)
    assert done.returncode == (returncode if returncode > 0 else 128 - returncode), done.stderr
    state = spool.state("job-1")
    assert state.status == (status or "killed")
    if error:
        assert state.error.type == error
    assert run([*launch, "--resume", "--", *training, death], signals).returncode == 0
    with open_store(f"local:{spool.root}") as store:
        check_history(store, store.get_run("job-1"))


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[ServeProcess]:
    folder = tmp_path / "collector"
    folder.mkdir()
    with ServeProcess("--tcp", "127.0.0.1:0", "--store", f"sqlite:///{folder}/s.db", folder=folder) as server:
        yield server


def where(server: ServeProcess) -> str:
    host, port = server.address
    return f"tcp://{host}:{port}"


@pytest.mark.parametrize(("death", "signals", "returncode", "status", "error"), DEATHS.values(), ids=DEATHS)
def test_with_a_collector(
    spool: Any,
    training: list[str],
    collector: ServeProcess,
    death: str,
    signals: str,
    returncode: int,
    status: str | None,
    error: str | None,
) -> None:
    done = run([*training, death], signals, XTRACK_TRANSPORT=where(collector))
    assert done.returncode == returncode, done.stderr
    with open_store(f"sqlite:///{collector.folder}/s.db") as store:
        if status is not None:
            state = store.get_run("job-1")
            assert (state.status, state.error.type) == (status, error)
        assert run([*training, death], signals, XTRACK_TRANSPORT=where(collector)).returncode == 0
        eventually(lambda: store.get_run("job-1").status == "completed")
        check_history(store, store.get_run("job-1"))
        positions = [event.position for event in store.events("job-1")]
        assert positions == sorted(positions)


@pytest.mark.parametrize("patience", ["0.5", pytest.param("30", marks=pytest.mark.thorough)])
def test_a_collector_that_takes_nothing(spool: Any, tmp_path: Path, collector: ServeProcess, patience: str) -> None:
    """Stopped in its tracks, with the training connected: run_end is in the spool, and the process ends in time."""
    path = tmp_path / "hot.py"
    path.write_text(
        "import threading, time, xtrack_protocol as xtrack\nrun = xtrack.start_run(run_id='job-1')\n"
        "run.log_metric('k', 0.0)\nassert run.flush('acked', 30)\nprint('up', flush=True)\n"
        "def log():\n    while True: run.log_metric('k', 1.0); time.sleep(0.0005)\n"
        "for _ in range(7): threading.Thread(target=log, daemon=True).start()\nlog()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(path)],
        env=os.environ
        | {"XTRACK_TRANSPORT": where(collector), "XTRACK_SIGNALS": "TERM=end", "XTRACK_END_TIMEOUT": patience},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    collector.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        collector.process.send_signal(signal.SIGCONT)
    assert process.returncode in {-signal.SIGTERM, 143}  # by itself, or where that took longer than five seconds
    assert "ship them with: xtrack sync" in errors or process.returncode == 143
    state = spool.state("job-1")
    assert (state.status, state.error.type, state.lost_events) == ("killed", "Preempted", 0)
    shipped = subprocess.run(
        [sys.executable, "-m", "xtrack_protocol.cli", "sync", "--to", where(collector)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shipped.returncode == 0, shipped.stderr
    with open_store(f"sqlite:///{collector.folder}/s.db") as store:
        assert store.get_run("job-1").status == "killed"
        assert store.get_run("job-1").events == state.events


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces")
def test_a_full_disk(spool: Any, training: list[str], tmp_path: Path) -> None:
    """A checkpoint that doesn't fit ends the training, and the events that would say so have room all the same."""
    mount, copies = tmp_path / "small", tmp_path / "copies"
    mount.mkdir()
    copies.mkdir()
    command = " ".join(f"'{part}'" for part in [*training, "full disk"])
    inside = (
        f"mount -t tmpfs -o size=2M none '{mount}' && cd '{mount}' && {{ {command}; echo $?; cp -r home '{copies}/1'; "
        f"rm -f big.pt; {command}; echo $?; cp -r home '{copies}/2'; }}"
    )
    done = run(["unshare", "-rm", "sh", "-c", inside], "TERM=end", XTRACK_DIR=f"{mount}/home")
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr}")
    assert done.stdout.split() == ["1", "0"], done.stderr
    with open_store(f"local:{copies}/1") as store:
        state = store.get_run("job-1")
        assert (state.status, state.error.type, state.error.message[:10]) == ("failed", "OSError", "[Errno 28]")
    with open_store(f"local:{copies}/2") as store:
        check_history(store, store.get_run("job-1"), lost=1)  # run_end at its first try, before it had room
