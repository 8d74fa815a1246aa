"""What the machine, or the container, and this process use: read by psutil, rates from what has changed between."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import psutil

from xtrack_protocol.emitter.values import describe
from xtrack_protocol.integrations._cgroup import ControlGroup
from xtrack_protocol.integrations._nvidia import Warn

_LEAST_SECONDS: Final = 0.05
"""Between two readings for a rate: what the system counts, it counts in hundredths of a second."""

_NOT_A_NETWORK: Final = ("lo", "lo0", "Loopback Pseudo-Interface 1")


class Readings:
    """Reads figures again and again. What can't be read is left out and warned of; nothing here raises.

    ``machine``: also of the whole machine, or of the container where it has limits. ``children``: those of this process
    count with it. ``disk``: a folder on the file system to look at. ``group``: the container's limits.
    """

    def __init__(
        self, *, machine: bool, children: bool, disk: str, warn: Warn, group: ControlGroup | None = None
    ) -> None:
        self._warn = warn
        self._disk = disk
        self._children = children
        self._group = ControlGroup() if group is None else group
        self._process = psutil.Process()
        self._before: dict[str, tuple[float, float]] = {}
        """Of each count, what it was and when."""
        self._processes: dict[tuple[int, float], float] | None = None
        self._parts: list[tuple[str, Callable[[], dict[str, float]]]] = [("process", self._own)]
        if machine:
            self._parts += [
                ("cpu", self._cpu),
                ("memory", self._memory),
                ("disk", self._disk_use),
                ("disk I/O", self._disk_rates),
                ("network", self._network),
            ]

    def read(self) -> dict[str, float]:
        """Return the figures by key. Rates come from the second time on."""
        found: dict[str, float] = {}
        for name, part in self._parts:
            try:
                found |= part()
            except Exception as error:  # noqa: BLE001 - psutil's errors are many, and no training ends by one
                self._warn(f"system {name}", f"the {name} figures can't be read: {describe(error)}")
        return found

    # ------------------------------------------------------------------------------------------ parts

    def _own(self) -> dict[str, float]:
        """Of this process and all that it has started, as far as they are alive."""
        memory, busy = 0, 0.0
        before, seen = self._processes, {}
        children = self._process.children(recursive=True) if self._children else []
        seconds = self._seconds_since("processes")
        for process in (self._process, *children):
            try:
                with process.oneshot():
                    key = (process.pid, process.create_time())
                    times = process.cpu_times()
                    memory += process.memory_info().rss
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue  # it ended between two looks
            seen[key] = times.user + times.system
            if before is not None:  # one that is new has used all of its time since
                busy += max(0.0, seen[key] - before.get(key, 0.0))
        self._processes = seen
        found = {"system/memory/process_rss_bytes": float(memory)}
        if seconds is not None and before is not None:
            found["system/cpu/process_percent"] = 100 * busy / seconds
        return found

    def _cpu(self) -> dict[str, float]:
        used, cores = self._group.cpu_seconds(), self._group.cores
        if used is not None and cores is not None:
            return {key: 100 * rate / cores for key, rate in self._rates({"system/cpu/percent": used}).items()}
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # What a guest uses is counted as the user's as well.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        rates = self._rates({"busy": total - idle, "all": total})
        if not rates.get("all"):
            return {}
        return {"system/cpu/percent": min(100.0, 100 * rates.get("busy", 0.0) / rates["all"])}

    def _memory(self) -> dict[str, float]:
        machine = psutil.virtual_memory()
        limited = self._group.memory()
        used, size = machine.total - machine.available, machine.total
        if limited is not None and limited.limit < size:
            used, size = limited.used, limited.limit
        return {"system/memory/used_bytes": float(used), "system/memory/percent": 100 * used / size}

    def _disk_use(self) -> dict[str, float]:
        use = psutil.disk_usage(self._disk)
        return {
            "system/disk/used_bytes": float(use.used),
            "system/disk/free_bytes": float(use.free),
            "system/disk/percent": float(use.percent),
        }

    def _disk_rates(self) -> dict[str, float]:
        counts = psutil.disk_io_counters()
        if counts is None:  # no disk that the system tells of
            return {}
        return self._rates(
            {
                "system/disk/read_bytes_per_second": counts.read_bytes,
                "system/disk/write_bytes_per_second": counts.write_bytes,
            }
        )

    def _network(self) -> dict[str, float]:
        counts = [one for name, one in psutil.net_io_counters(pernic=True).items() if name not in _NOT_A_NETWORK]
        return self._rates(
            {
                "system/network/received_bytes_per_second": sum(one.bytes_recv for one in counts),
                "system/network/sent_bytes_per_second": sum(one.bytes_sent for one in counts),
            }
        )

    # ------------------------------------------------------------------------------------------ changes

    def _rates(self, counts: dict[str, float]) -> dict[str, float]:
        """Return by how much counts have grown a second; not the first time, nor where one began anew."""
        rates: dict[str, float] = {}
        now = time.monotonic()
        for key, count in counts.items():
            then, before = self._before.get(key, (now, count))
            if count < before or key not in self._before or now - then >= _LEAST_SECONDS:
                self._before[key] = (now, count)
            if count >= before and now - then >= _LEAST_SECONDS:
                rates[key] = (count - before) / (now - then)
        return rates

    def _seconds_since(self, name: str) -> float | None:
        """Return the seconds since this was asked before; None the first time, and for too few."""
        now = time.monotonic()
        then, _ = self._before.get(name, (now, 0.0))
        self._before[name] = (now, 0.0)
        return now - then if now - then >= _LEAST_SECONDS else None


def folder_of(disk: str | os.PathLike[str]) -> str:
    """Return the folder as it is now: a training may change its working directory later."""
    return os.path.abspath(os.fsdecode(disk))  # noqa: PTH100 - a folder that is gone has no Path
