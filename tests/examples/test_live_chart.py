"""The chart's data follows the run, though collector and follower are killed in the middle."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

TRAINING = """
import sys, time
from pathlib import Path
import xtrack_protocol as xtrack
folder = Path(sys.argv[1])
with xtrack.start_run("charted", run_id="run-1") as run:
    for step in range(300):
        run.log_metric("loss", float("nan") if step == 7 else 1 / (step + 1), step=step)
        run.log_metrics({"val_loss": 2 / (step + 1), "accuracy": step / 300}, step=step)
        while step in (100, 200) and not (folder / f"go-{step}").exists():
            time.sleep(0.02)
    run.set_status("finishing", progress=(300, 300))
"""


def wait_for(happened: Callable[[], object]) -> None:
    due = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < due, "30 s"
        time.sleep(0.02)


def environment(folder: Path, **more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("XTRACK_")}
    return {**plain, "XTRACK_DIR": str(folder / "home"), "XTRACK_QUIET": "1", **more}


@contextmanager
def started(*command: str, env: dict[str, str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, *command], env=env, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def training(folder: Path, **env: str) -> Any:
    (folder / "train.py").write_text(TRAINING)
    return started(str(folder / "train.py"), str(folder), env=environment(folder, **env))


def chart(folder: Path, *options: str) -> Any:
    command = [
        str(EXAMPLES / "live_chart.py"),
        "run-1",
        "--out",
        str(folder / "chart.json"),
        "--every",
        "0.05",
        *options,
    ]
    return started(*command, env=environment(folder), stderr=subprocess.PIPE)


def data(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "chart.json").read_text())
    except FileNotFoundError:
        return {"series": {}, "status": "none"}
    return found


def count(folder: Path) -> int:
    series: dict[str, Any] = data(folder)["series"].get("accuracy", {"count": 0})
    return int(series["count"])


def check_whole(folder: Path) -> None:
    found = data(folder)
    assert (found["status"], found["name"], found["progress"]) == ("completed", "charted", [300, 300])
    assert set(found["series"]) == {"loss", "val_loss", "accuracy"}
    for series in found["series"].values():
        assert series["count"] == 300
        assert series["steps"] == list(range(300))
    assert found["series"]["loss"]["values"][7] is None
    assert found["series"]["accuracy"]["values"][150] == 0.5


def test_a_local_run_is_followed_and_a_killed_follower_starts_anew(tmp_path: Path) -> None:
    with chart(tmp_path) as first, training(tmp_path) as trained:
        wait_for(lambda: count(tmp_path) == 101)
        assert data(tmp_path)["status"] == "running"
        first.kill()
        first.wait()
        (tmp_path / "go-100").touch()
        with chart(tmp_path) as second:
            wait_for(lambda: count(tmp_path) == 201)
            (tmp_path / "go-200").touch()
            assert trained.wait(30) == 0
            assert second.wait(30) == 0, second.stderr.read()
    check_whole(tmp_path)


@contextmanager
def serving(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [
        "-m",
        "xtrack_protocol.cli",
        "serve",
        "--tcp",
        f"127.0.0.1:{port}",
        "--store",
        f"sqlite:///{folder}/c.db",
    ]
    with started(
        *command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"listening on \w+://.*:(\d+)", line)
            if found:
                yield process, int(found[1])
                return
        pytest.fail("the collector did not start")


def test_a_remote_run_is_followed_through_the_death_of_its_collector(tmp_path: Path) -> None:
    with serving(tmp_path, 0) as (server, port):
        url = f"tcp://127.0.0.1:{port}"
        with training(tmp_path, XTRACK_TRANSPORT=url) as trained, chart(tmp_path, "--to", url) as follower:
            wait_for(lambda: count(tmp_path) == 101)
            server.kill()
            server.wait()
            (tmp_path / "go-100").touch()
            (tmp_path / "go-200").touch()
            with serving(tmp_path, port):
                assert trained.wait(40) == 0
                assert follower.wait(40) == 0, follower.stderr.read()
            assert "trying again" in follower.stderr.read()
    check_whole(tmp_path)


def test_a_collector_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"tcp://127.0.0.1:{port}"
    for step in (100, 200):
        (tmp_path / f"go-{step}").touch()
    with chart(tmp_path, "--to", url) as follower:
        assert follower.stderr is not None
        assert "trying again" in follower.stderr.readline()
        with serving(tmp_path, port), training(tmp_path, XTRACK_TRANSPORT=url) as trained:
            assert trained.wait(40) == 0
            assert follower.wait(40) == 0
    check_whole(tmp_path)


def test_a_series_stays_bounded_and_whole(tmp_path: Path) -> None:
    for step in (100, 200):
        (tmp_path / f"go-{step}").touch()
    with training(tmp_path) as trained:
        assert trained.wait(30) == 0
    with chart(tmp_path, "--points", "40") as follower:
        assert follower.wait(30) == 0
    series = data(tmp_path)["series"]["accuracy"]
    assert series["count"] == 300
    assert 20 <= len(series["steps"]) <= 41
    assert (series["steps"][0], series["steps"][-1]) == (0, 299)
    gaps = {later - earlier for earlier, later in zip(series["steps"][:-2], series["steps"][1:-1], strict=True)}
    assert gaps == {8}


def test_wrong_usage(tmp_path: Path) -> None:
    for options, status, word in (
        (["--points", "1"], 2, "at least 2"),
        (["--to", "carrier-pigeon://x"], 1, "carrier-pigeon"),
        (["--store", "bogus:x"], 1, "bogus"),
    ):
        with chart(tmp_path, *options) as follower:
            _, told = follower.communicate(timeout=30)
        assert follower.returncode == status, told
        assert word in told
        assert "Traceback" not in told
