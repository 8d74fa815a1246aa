"""NVIDIA's graphics processors, by the ``pynvml`` module of the nvidia-ml-py package, where there are any.

A machine without the package, without a driver or without a GPU has no figures of them, and that is no error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from xtrack_protocol.emitter.values import describe

Warn = Callable[[str, str], None]
"""Takes a kind of warning and its text."""


class Gpus:
    """The GPUs that are looked at. ``nvml``: the ``pynvml`` module, initialised. Nothing here raises."""

    def __init__(self, nvml: Any, handles: dict[int, Any], warn: Warn) -> None:
        self._nvml = nvml
        self._handles = handles
        self._warn = warn

    def read(self) -> dict[str, float]:
        """Return what they tell now. One that has failed is asked again the next time, and may come back."""
        found: dict[str, float] = {}
        for index, handle in self._handles.items():
            try:
                found |= read_gpu(self._nvml, index, handle)
            except Exception as error:  # noqa: BLE001 - NVML's own, and whatever a broken driver makes of it
                self._warn(f"gpu {index}", f"GPU {index} can't be read: {describe(error)}")
        return found

    def close(self) -> None:
        """Let go of the driver."""
        with suppress(Exception):  # it is gone already
            self._nvml.nvmlShutdown()


def open_gpus(chosen: Sequence[int] | None, warn: Warn) -> Gpus | None:
    """Return the GPUs with the indexes ``chosen``; None: those of CUDA_VISIBLE_DEVICES, else all. None where none is.

    That NVML isn't installed, or finds no driver, is told only to who has named indexes.
    """
    try:
        import pynvml
    except ImportError:
        if chosen:
            warn("gpu", "GPUs can't be read: pynvml is not installed. pip install 'xtrack-protocol[system]'")
        return None
    try:
        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - as in read
        absent = (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded)
        if chosen or not isinstance(error, absent):
            warn("gpu", f"GPUs can't be read: {describe(error)}")
        return None
    gpus = Gpus(pynvml, find_handles(pynvml, chosen, warn), warn)
    if gpus.read():
        return gpus
    gpus.close()
    return None


def find_handles(nvml: Any, chosen: Sequence[int] | None, warn: Warn) -> dict[int, Any]:
    """Return the handles of GPUs by NVML's index, which is that of ``nvidia-smi``."""
    handles: dict[int, Any] = {}
    wanted = _visible() if chosen is None else [str(index) for index in chosen]
    try:
        if wanted is None:
            wanted = [str(index) for index in range(nvml.nvmlDeviceGetCount())]
        for name in wanted:
            if name.isascii() and name.isdigit():
                handle = nvml.nvmlDeviceGetHandleByIndex(int(name))
            else:  # GPU-... or MIG-...
                handle = nvml.nvmlDeviceGetHandleByUUID(name)
            handles[nvml.nvmlDeviceGetIndex(handle)] = handle
    except Exception as error:  # noqa: BLE001 - as in read
        warn("gpu", f"a GPU can't be found ({', '.join(wanted or ())}): {describe(error)}")
    return handles


def _visible() -> list[str] | None:
    """Return what CUDA_VISIBLE_DEVICES lists; None where it isn't set. As for CUDA, the first wrong entry ends it."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return None
    found: list[str] = []
    for entry in (part.strip() for part in listed.split(",")):
        if not (entry.isascii() and entry.isdigit()) and not entry.startswith(("GPU-", "MIG-")):
            break
        found.append(entry)
    return found


def read_gpu(nvml: Any, index: int, handle: Any) -> dict[str, float]:
    """Return one GPU's figures, those that its kind has. Raises NVMLError where it doesn't answer at all."""
    found: dict[str, float] = {}

    def add(name: str, read: Callable[[], float]) -> None:
        with suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):  # not every kind has every sensor
            found[f"system/gpu.{index}/{name}"] = float(read())

    with suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found[f"system/gpu.{index}/memory_used_bytes"] = float(memory.used)
        if memory.total:
            found[f"system/gpu.{index}/memory_percent"] = 100.0 * memory.used / memory.total
    add("utilization_percent", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    add("power_watts", lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)  # it tells milliwatts
    add("temperature_celsius", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return found
