"""Tests on real frameworks. A module that needs some says so: ``FRAMEWORKS = ("torch", "lightning")``.

Where one is missing its tests are skipped. With XTRACK_FRAMEWORKS=all, as in CI, whatever is skipped here fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Generator, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import xtrack_protocol as xtrack
from xtrack_protocol.runs import RunState
from xtrack_protocol.storage import LocalStore
from xtrack_protocol.transport import MemoryTransport

DISTRIBUTIONS = ("torch", "lightning", "pytorch-lightning", "transformers", "accelerate", "keras")
IS_ALL_NEEDED = os.environ.get("XTRACK_FRAMEWORKS") == "all"
OF_LAUNCHERS = ("XTRACK_", "SLURM_", "OMPI_", "PMI", "TORCHELASTIC_", "PYTEST_")
OF_RANKS = {"RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
SECONDS = 100


def pytest_report_header() -> str:
    return f"frameworks: {', '.join(f'{name} {version_of(name)}' for name in DISTRIBUTIONS)}"


def version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in getattr(getattr(item, "module", None), "FRAMEWORKS", ()):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return fail_if_skipped((yield))


def fail_if_skipped(report: Any) -> Any:
    if IS_ALL_NEEDED and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"XTRACK_FRAMEWORKS=all allows no skip: {why}"
    return report


class Workshop:
    """A folder with a spool of its own, where scripts are run and their runs looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OF_LAUNCHERS) and k not in OF_RANKS}
        self.environ = {
            **kept,
            "XTRACK_DIR": str(self.spool),
            "PYTHONPATH": "",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def write(self, code: str, name: str = "script.py") -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return path

    def python(self, *arguments: str | Path, status: int | None = 0, **variables: str) -> str:
        """Run Python with ``arguments``; return both streams. ``status`` is what it must exit with; None: anything."""
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env={**self.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert status is None or done.returncode == status, done.stdout
        return done.stdout

    def torchrun(self, *arguments: str | Path, status: int | None = 0, **variables: str) -> str:
        """Run a script as two ranks."""
        command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments)
        return self.python(*command, status=status, **variables)

    def together(self, script: Path, *environs: dict[str, str]) -> list[str]:
        """Run a script once for each environment, all at the same time; return what each printed on stdout."""
        running = [
            subprocess.Popen(
                [sys.executable, str(script)],
                cwd=self.folder,
                env={**self.environ, **environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for environ in environs
        ]
        try:
            spoken = [process.communicate(timeout=SECONDS) for process in running]
        finally:
            for process in running:
                process.kill()
        assert [process.returncode for process in running] == [0] * len(running), spoken
        return [out for out, _ in spoken]

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def runs(self) -> list[RunState]:
        with LocalStore(self.spool) as store:
            return list(store.list_runs())

    def state(self) -> RunState:
        (state,) = self.runs()
        return state

    def points(self, key: str, **wanted: Any) -> list[Any]:
        with LocalStore(self.spool) as store:
            return list(store.get_metrics(self.state().run_id, key, **wanted))

    def series(self, key: str, **wanted: Any) -> list[tuple[int | None, float]]:
        return [(point.step, point.value) for point in self.points(key, **wanted)]

    def events(self) -> list[Any]:
        with LocalStore(self.spool) as store:
            return [stored.envelope for stored in store.events(self.state().run_id)]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture
def memory() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def run(memory: MemoryTransport) -> Iterator[xtrack.Run]:
    with xtrack.Tracker.start_run(transport=memory, quiet=True) as run:
        yield run
