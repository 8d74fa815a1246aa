"""A spool, and a local store on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xtrack_protocol.storage.local import LocalStore


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool that XTRACK_DIR names."""
    for name in list(os.environ):
        if name.startswith("XTRACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("XTRACK_QUIET", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    with LocalStore(root) as store:
        yield store
