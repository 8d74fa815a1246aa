"""What the tests of the integrations read of the runs in a workshop, and how they train in this process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.runs import RunState
from xtrack_protocol.storage import LocalStore

HELPERS = str(Path(__file__).parent)


def track_here(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of this process go to the workshop's spool."""
    for name in [name for name in os.environ if name.startswith("XTRACK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XTRACK_DIR", str(workshop.spool))
    monkeypatch.setenv("XTRACK_QUIET", "1")


def runs(workshop: Any) -> list[RunState]:
    """Return the runs in the order of their starts."""
    return workshop.runs()[::-1]


def series(workshop: Any, run_id: str, **wanted: Any) -> dict[str, list[Any]]:
    """Return a run's points, by name."""
    with LocalStore(workshop.spool) as store:
        return {key: list(store.get_metrics(run_id, key, **wanted)) for key in store.metric_keys(run_id)}
