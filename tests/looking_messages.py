"""Provokes the rows of the troubleshooting page on looking at runs. See ``docs/test_troubleshooting.py``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from reaching import command

_RUN = """
import xtrack_protocol as xtrack
with xtrack.start_run("base", run_id="run-1", quiet=True) as run:
    run.log_metric("val/loss", float("nan"), step=1)
    run.log_metric("val/loss", 0.5, step=2)
"""

_WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from xtrack_protocol.cli import main
main(["plot", "base", "val/loss", "--png", "loss.png"])
"""


def _said(folder: Path, *args: str) -> str:
    command(folder, sys.executable, "-c", _RUN)
    return command(folder, "xtrack", *args)


def _without_matplotlib(folder: Path) -> str:
    command(folder, sys.executable, "-c", _RUN)
    return command(folder, sys.executable, "-c", _WITHOUT_MATPLOTLIB)


LOOKING: dict[str, Callable[[Path], str]] = {
    "xtrack: error: run ... has no metric '...'. ...": lambda folder: _said(folder, "plot", "base", "loss"),
    "xtrack: error: none of the ... runs has a metric '...'. ...": lambda folder: _said(
        folder, "plot", "base", "loss", "--with", "base"
    ),
    "xtrack: error: run ... has no metrics": lambda folder: (
        command(folder, sys.executable, "-c", "import xtrack_protocol\nxtrack_protocol.start_run('none')")
        + command(folder, "xtrack", "plot", "none")
    ),
    "not drawn: ... NaN": lambda folder: _said(folder, "plot", "base", "val/loss"),
    "Invalid value for '--where': expected ... (character ...)": lambda folder: _said(
        folder, "ls", "--where", "val/loss << 1"
    ),
    "plot='png': needs matplotlib, which isn't installed. ...": _without_matplotlib,
    "latest: a collector isn't asked for its runs. ...": lambda folder: _said(
        folder, "watch", "--to", "tcp://127.0.0.1:1"
    ),
}
