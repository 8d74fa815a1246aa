"""A store with known runs, and three ways to call the command: in this process, in another, at a terminal."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from cli_runs import bad_run, capture, crowd_run, good_run
from click.testing import CliRunner

from xtrack_protocol.collector import Collector
from xtrack_protocol.storage import open_store


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("XTRACK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "xd"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def captured(tmp_path) -> Path:
    """A file of plain frames that holds both runs."""
    path = tmp_path / "runs.bin"
    path.write_bytes(capture(good_run() + bad_run()))
    return path


@pytest.fixture
def store(tmp_path, captured) -> str:
    """The URL of a store that holds both runs."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    with open_store(url) as opened:
        Collector(opened).replay_file(captured)
    return url


@pytest.fixture
def crowd(tmp_path) -> str:
    """The URL of a store with a run of 64 workers."""
    path = tmp_path / "crowd.bin"
    path.write_bytes(capture(crowd_run()))
    url = f"sqlite:///{tmp_path / 'crowd.db'}"
    with open_store(url) as opened:
        Collector(opened).replay_file(path)
    return url


@pytest.fixture
def local(captured) -> None:
    """Both runs in the local store."""
    with open_store("local:") as opened:
        Collector(opened).replay_file(captured)


SEPARATELY = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}  # click 8.1


@attrs.frozen
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def xtrack():
    """Call the command in this process."""
    from xtrack_protocol.cli._app import app

    def call(*args: str, input: str | None = None) -> Result:
        done = CliRunner(**SEPARATELY).invoke(app, [str(arg) for arg in args], input=input)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Result(done.exit_code, done.stdout, done.stderr)

    return call


COMMAND = [sys.executable, "-m", "xtrack_protocol.cli"]


@pytest.fixture
def process():
    """Call the command in a process of its own."""

    def call(*args: str, input: bytes | None = None, timeout: float = 30, **env: str) -> Result:
        done = subprocess.run(
            [*COMMAND, *[str(arg) for arg in args]],
            input=input,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **env},
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call
