"""A launcher of its own for each test, and the workers it starts."""

import os
import sys

import pytest

from xtrack_protocol.collector import RunManager


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("XTRACK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XTRACK_QUIET", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "xtrack"


@pytest.fixture
def manager(root):
    """A launcher whose workers are gone when the test is."""
    manager = RunManager(root=root)
    yield manager
    for run in manager.runs():
        if run.poll() is None:
            run.stop(grace=0)
    manager.close()


@pytest.fixture
def python(manager):
    """Start a Python script as a worker."""

    def start(code: str, *args: str, **options):
        return manager.start_run(sys.executable, ["-c", code, *args], **options)

    return start
