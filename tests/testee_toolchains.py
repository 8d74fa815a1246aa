"""The compilers and interpreters of testees in other languages, which not every machine has."""

from __future__ import annotations

import os
import shutil

import pytest


def require(tool: str) -> str:
    """Where ``tool`` is. A test is skipped without it, unless ``XTRACK_TESTEES=all`` says that all are installed."""
    path = shutil.which(tool)
    if path is not None:
        return path
    if os.environ.get("XTRACK_TESTEES") == "all":
        pytest.fail(f"XTRACK_TESTEES=all, and there is no {tool}", pytrace=False)
    pytest.skip(f"there is no {tool}")
