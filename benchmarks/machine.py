"""The machine: which core a process is kept to, how much memory and time it took, and what it all ran on."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

CORES: list[int] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(number: int | None) -> None:
    """Keep this process to one core, by number; None: all that it had. Does nothing where that can't be done."""
    if CORES:
        os.sched_setaffinity(0, set(CORES) if number is None else {CORES[number % len(CORES)]})


@contextlib.contextmanager
def pinned(number: int | None) -> Iterator[None]:
    """Keep this thread, and every process that it starts, to a core for a while."""
    before = os.sched_getaffinity(0) if CORES else set()
    pin(number)
    try:
        yield
    finally:
        if CORES:
            os.sched_setaffinity(0, before)


def memory_mib(field: str, pid: int | str = "self") -> float | None:
    """Return a process's VmRSS or VmHWM (its peak) in MiB; None where the system doesn't tell."""
    try:
        found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def peak_mib() -> float | None:
    """Return the most memory that this process had, in MiB.

    Linux counts a parent's in ru_maxrss of a child, so it is the second choice.
    """
    peak = memory_mib("VmHWM")
    if peak is None and sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return peak


def cpu_seconds(pid: int) -> float | None:
    """Return the processor time that a process has used in all of its threads; None where the system doesn't tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _file_system(folder: Path) -> str:
    best, kind = "", ""
    try:
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, this, *_ = line.split()
            if len(mount) > len(best) and (folder == Path(mount) or Path(mount) in folder.parents):
                best, kind = mount, this
    except OSError:
        return ""
    return kind


def conditions(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Return what the figures were measured on, and with what."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "quick": quick,
        "commit": _commit(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": len(CORES) or os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "file_system": _file_system(folder.resolve()),
        "sqlite": sqlite3.sqlite_version,
        "msgspec": _version("msgspec"),
        "xtrack_protocol": _version("xtrack-protocol"),
    }
