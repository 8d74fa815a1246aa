"""System metrics: what the machine and the training's processes use, logged every few seconds beside the training.

::

    with xtrack.start_run("train") as run:
        track_system(run)

Needs psutil; GPUs are those of NVIDIA, by nvidia-ml-py (``pip install 'xtrack-protocol[system]'`` brings both).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final

from typing_extensions import Self

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations._run import guard, run_or_current, warn

EVERY_SECONDS: Final = 10.0
"""Seconds between two samples by default."""

LEAST_SECONDS: Final = 0.1
"""Seconds between two samples at the least: a sample costs milliseconds."""

_STOP_SECONDS: Final = 2.0
"""Seconds that the end of a run waits for a sample that is being taken: a dead network disk may hold one for ever."""

KEYS: Final = (
    "system/cpu/percent",
    "system/cpu/process_percent",
    "system/memory/used_bytes",
    "system/memory/percent",
    "system/memory/process_rss_bytes",
    "system/disk/used_bytes",
    "system/disk/free_bytes",
    "system/disk/percent",
    "system/disk/read_bytes_per_second",
    "system/disk/write_bytes_per_second",
    "system/network/received_bytes_per_second",
    "system/network/sent_bytes_per_second",
)
"""The series of a machine. Percents are of 100, but for process_percent, where 100 is one core."""

GPU_KEYS: Final = ("utilization_percent", "memory_used_bytes", "memory_percent", "power_watts", "temperature_celsius")
"""The series of a GPU, behind ``system/gpu.INDEX/``; INDEX as nvidia-smi counts."""


class SystemMetrics:
    """Logs system metrics to a run, as ``system/...`` series without steps, from ``start()`` to ``stop()``.

    As a context manager it starts and stops with the block; the run's end stops it too, with a last sample. A daemon
    thread takes a sample at once, which has no rates yet, and then one every ``every`` seconds. Each worker of a run
    has one of its own. ``run``: by default the current one.

    ``machine``: False leaves the machine to another worker, and logs only this process and its GPUs. ``children``:
    False counts this process alone; to find them, all processes of the machine are looked at. ``disk``: a folder on
    the file system whose use is logged. ``gpus``: indexes as of nvidia-smi; None: those of
    CUDA_VISIBLE_DEVICES, else all. Where a container has limits (control groups, version 2), its percents of processor
    and memory are of them.

    Raises ConfigurationError where psutil is missing, for arguments that are wrong, and without a run. After that
    nothing raises: what can't be read is left out, and warned of once. A forked child logs none: it may start its own.
    """

    def __init__(
        self,
        run: Run | None = None,
        every: float = EVERY_SECONDS,
        *,
        machine: bool = True,
        children: bool = True,
        disk: str | os.PathLike[str] = ".",
        gpus: Sequence[int] | None = None,
    ) -> None:
        if not _is_every(every):
            raise ConfigurationError("every", every, f"must be a number of seconds, {LEAST_SECONDS} or more")
        if not all(map(_is_index, gpus or ())):
            raise ConfigurationError("gpus", gpus, "must be indexes, as nvidia-smi counts them")
        try:
            from xtrack_protocol.integrations import _machine
        except ImportError as error:
            raise ConfigurationError(
                "xtrack_protocol.integrations.system",
                "psutil",
                f"it needs psutil, which can't be imported: {error}",
                "pip install 'xtrack-protocol[system]'",
            ) from error
        self._run = run_or_current(run)
        self._every = float(every)
        self._gpus = None if gpus is None else tuple(gpus)
        self._machine = machine
        self._children = children
        self._disk = _machine.folder_of(disk)
        self._told: set[str] = set()
        self._sampler: _Sampler | None = None
        self._tells = 0
        """The process in which the run tells of its end."""

    def start(self) -> Self:
        """Begin, where it hasn't begun in this process. A run that has ended gets nothing."""
        if not self._is_here() and not self._run.ended:
            self._sampler = _Sampler(self)
            if self._tells != os.getpid():
                self._tells = os.getpid()
                self._run.call_at_end(self.stop)
        return self

    def stop(self) -> None:
        """Log a last sample and stop. It waits for that, though not for long, and may be called again."""
        if self._is_here():
            assert self._sampler is not None
            self._sampler.stop()
        self._sampler = None

    def _is_here(self) -> bool:
        """Whether this process takes samples: a forked child has its parent's object, and not its thread."""
        return self._sampler is not None and self._sampler.pid == os.getpid()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            warn(self._run, kind, f"system metrics: {text}. They go on without")

    def _sample(self, sampler: _Sampler) -> None:
        """Take samples until ``sampler`` is stopped: what its thread does."""
        from xtrack_protocol.integrations._machine import Readings
        from xtrack_protocol.integrations._nvidia import open_gpus

        run = self._run
        with guard(run, "system metrics"):
            readings = Readings(machine=self._machine, children=self._children, disk=self._disk, warn=self._warn_once)
            gpus = open_gpus(self._gpus, self._warn_once)
            try:
                is_over = False
                while not sampler.has_given_up():
                    begun = time.monotonic()
                    values = readings.read()
                    if gpus is not None:
                        values |= gpus.read()
                    if values and not (sampler.has_given_up() or run.ended):
                        run.log_metrics(values)
                    if is_over:
                        break
                    is_over = sampler.is_stopped(max(0.0, self._every - (time.monotonic() - begun)))
            finally:
                if gpus is not None:
                    gpus.close()


def _is_every(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and LEAST_SECONDS <= value <= threading.TIMEOUT_MAX
    )


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class _Sampler:
    """The thread of one process."""

    def __init__(self, metrics: SystemMetrics) -> None:
        # What the thread needs is imported before it begins: a child that is forked while it imports waits for ever.
        from xtrack_protocol.integrations import _machine, _nvidia  # noqa: F401

        with suppress(ImportError):  # then there are no figures of GPUs
            import pynvml  # noqa: F401
        self.pid = os.getpid()
        self._has_given_up = False
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=metrics._sample,  # noqa: SLF001 - of this module
            args=(self,),
            name="xtrack-system",
            daemon=True,
        )
        self._thread.start()

    def is_stopped(self, seconds: float) -> bool:
        """Wait so long, at most until it is stopped; return whether it is."""
        return self._stop.wait(seconds)

    def has_given_up(self) -> bool:
        """Whether nobody waits for a sample any longer, so that none may be logged."""
        return self._has_given_up

    def stop(self) -> None:
        """Ask for a last sample, and wait for it, a little."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(_STOP_SECONDS)
        self._has_given_up = True


def track_system(
    run: Run | None = None,
    every: float = EVERY_SECONDS,
    *,
    machine: bool = True,
    children: bool = True,
    disk: str | os.PathLike[str] = ".",
    gpus: Sequence[int] | None = None,
) -> SystemMetrics:
    """Log system metrics from now to the run's end: :class:`SystemMetrics`, started."""
    return SystemMetrics(run, every, machine=machine, children=children, disk=disk, gpus=gpus).start()


__all__ = ["EVERY_SECONDS", "GPU_KEYS", "KEYS", "LEAST_SECONDS", "SystemMetrics", "track_system"]
