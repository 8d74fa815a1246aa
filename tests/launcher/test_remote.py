"""Launched runs whose collector is elsewhere: the worker ships its spool, and the launcher its word on how it ended."""

import signal
import socket
import sys
import time
from contextlib import closing

import pytest

from xtrack_protocol.collector import RunManager
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.storage import SQLiteStore

LOGS = """
import os, sys
from xtrack_protocol import start_run
run = start_run(quiet=True)
for step in range(50):
    run.log_metric("loss", 1 / (step + 1), step=step)
if sys.argv[1] == "die":
    os.kill(os.getpid(), 9)
run.end()
"""


@pytest.fixture
def served(tmp_path):
    with SQLiteStore(tmp_path / "served.db") as store:
        server = CollectorServer(store, tcp=("127.0.0.1", 0))
        with server.run_in_thread():
            yield store, f"tcp://127.0.0.1:{server.port}"


@pytest.mark.parametrize("how", ["asked", "configured"])
def test_the_worker_and_the_launcher_ship_what_they_have(tmp_path, monkeypatch, served, how):
    store, url = served
    monkeypatch.setenv("XTRACK_TRANSPORT", url if how == "configured" else "local")
    with closing(RunManager(root=tmp_path / "root")) as manager:
        launched = manager.start_run(
            sys.executable, ["-c", LOGS, "end"], run_id="r", transport=url if how == "asked" else None
        )
        assert launched.wait(60).status == "completed"
    assert launched.problems == []
    state = store.get_run("r")
    assert state.status == "completed"
    assert state.metrics["loss"].count == 50
    assert {summary.stream.worker_id for summary in state.streams} == {"", "launcher"}


def test_what_a_killed_worker_has_left_is_shipped_and_the_run_is_killed(tmp_path, served):
    store, url = served
    with closing(RunManager(root=tmp_path / "root")) as manager:
        launched = manager.start_run(sys.executable, ["-c", LOGS, "die"], run_id="r", transport=url)
        assert launched.wait(60).status == "killed"
        assert launched.returncode == -signal.SIGKILL
    state = store.get_run("r")
    assert state.status == "killed"
    assert state.metrics["loss"].count == 50


def test_a_collector_that_is_away_is_told_with_the_cure(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XTRACK_END_TIMEOUT", "0.2")
    with closing(RunManager(root=tmp_path / "root")) as manager:
        launched = manager.start_run(sys.executable, ["-c", "pass"], run_id="r", transport="tcp://127.0.0.1:1")
        assert launched.wait(60).status == "completed"
    (problem,) = launched.problems
    assert "xtrack sync" in problem
    assert problem in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
def test_an_interrupt_stops_the_waiting_for_a_collector(tmp_path, capfd):
    """One that is there, and acks nothing."""
    with socket.create_server(("127.0.0.1", 0)) as deaf, closing(RunManager(root=tmp_path / "root")) as manager:
        url = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        launched = manager.start_run(sys.executable, ["-c", "pass"], run_id="r", transport=url)
        begun = time.monotonic()
        while launched.wait(0.1) is None:
            if launched.returncode is not None:
                launched.pass_on(signal.SIGINT)
            assert time.monotonic() - begun < 20
        assert launched.returncode == 0
    assert "have not reached" in capfd.readouterr().err


def test_nobody_is_waited_for_who_was_not_there_in_the_whole_run(tmp_path, capfd):
    with closing(RunManager(root=tmp_path / "root")) as manager:
        url = "tcp://127.0.0.1:1"
        launched = manager.start_run(sys.executable, ["-c", LOGS, "end"], run_id="r", transport=url)
        assert launched.wait(60).status == "completed"
    told = capfd.readouterr().err
    assert told.count("nobody listens there (connection refused). Start the collector") == 1  # by the worker
    (problem,) = launched.problems
    assert "2 events of r have not reached" in problem
