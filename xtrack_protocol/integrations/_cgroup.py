"""What a container may use, by version 2 of Linux's control groups: a limit of memory and of processors.

A limit stands in the process's own group or in one above it. Where the files can't be read, or there is version 1 only,
there is no limit that is known of, and the machine's figures are taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from xtrack_protocol._value import Value

ROOT: Final = Path("/sys/fs/cgroup")
"""Where systems mount version 2."""

SELF: Final = Path("/proc/self/cgroup")


class MemoryUse(Value, frozen=True):
    """Bytes that a group uses, without what the system would give up first, and may use."""

    used: int
    limit: int


class ControlGroup:
    """The group of this process as it was at the start. Nothing here raises."""

    def __init__(self, root: Path = ROOT, own: Path = SELF) -> None:
        groups = _groups(root, own)
        limits = [(limit, group) for group in groups if (limit := _number(group / "memory.max")) is not None]
        self._memory = min(limits, key=lambda pair: pair[0], default=None)
        cores = [(share, group) for group in groups if (share := _cores(group / "cpu.max")) is not None]
        self._cpu = min(cores, key=lambda pair: pair[0], default=None)

    @property
    def cores(self) -> float | None:
        """How many processors' time it may use; None: no limit."""
        return self._cpu[0] if self._cpu else None

    def cpu_seconds(self) -> float | None:
        """Return the processor time that the limited group has used so far."""
        if self._cpu is None:
            return None
        used = _field(self._cpu[1] / "cpu.stat", "usage_usec")
        return None if used is None else used / 1e6

    def memory(self) -> MemoryUse | None:
        """Return what the limited group uses of its memory; None: no limit."""
        if self._memory is None:
            return None
        limit, group = self._memory
        used = _number(group / "memory.current")
        if used is None:
            return None
        # Pages of files that nobody has touched for long go first: they are no need of memory.
        cached = _field(group / "memory.stat", "inactive_file") or 0
        return MemoryUse(max(0, used - cached), limit)


def _groups(root: Path, own: Path) -> list[Path]:
    """Return the folders of this process's group and of those above it, as far as they are to be seen here."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        return []
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None or ".." in path:  # a group outside of what this container sees
        return []
    folder = root / path.lstrip("/")
    return [one for one in (folder, *folder.parents) if one == root or root in one.parents]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _number(path: Path) -> int | None:
    """Return the number in a file; None for "max", and where there is none."""
    text = _text(path).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _cores(path: Path) -> float | None:
    """Return quota by period: how many processors. None for "max"."""
    parts = _text(path).split()
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts) or int(parts[1]) == 0:
        return None
    return int(parts[0]) / int(parts[1]) or None


def _field(path: Path, name: str) -> int | None:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isascii() and value.isdigit():
            return int(value)
    return None
