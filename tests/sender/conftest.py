"""What the tests of senders use: a spool of their own, runs with a collector, scripts in their own processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import Script, scripts_in
from small_collector import SmallCollector

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that XTRACK_DIR names; no other variable of ours is set, and the folder is nobody's repository."""
    for name in list(os.environ):
        if name.startswith("XTRACK_"):
            monkeypatch.delenv(name)
    root = tmp_path / "home"
    monkeypatch.setenv("XTRACK_DIR", str(root))
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture
def collector() -> Iterator[SmallCollector]:
    with SmallCollector() as found:
        yield found


StartRun = Callable[..., Run]


@pytest.fixture
def start(home: Path) -> Iterator[StartRun]:
    """Start a run that is shipped to a collector; it is ended without waiting where a test didn't."""
    runs: list[Run] = []

    def start_run(spec: str, run_id: str = "r", **options: Any) -> Run:
        changes = {name: options.pop(name) for name in list(options) if name in Settings.__slots__}
        settings = Settings(**{"dir": home, "quiet": True, **changes})
        run = Tracker.start_run(run_id=run_id, transport=spec, settings=settings, **options)
        runs.append(run)
        return run

    yield start_run
    for run in runs:
        run.end(timeout=0)


@pytest.fixture
def script(home: Path, tmp_path: Path) -> Script:
    """Run Python code in a process of its own, as a script; it may take 60 s."""
    return scripts_in(tmp_path)
