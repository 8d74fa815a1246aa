"""Which phase a framework's metric is of, by the name that people give it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from xtrack_protocol.emitter.run import Run

_PHASE: Final = re.compile(r"(train|val|test)(?:id|idation|ing)?[_/]")


def phase_of(key: Any) -> str | None:
    """Return train, val or test, where a name begins so (``val_loss``, ``train/loss``); None for others."""
    found = _PHASE.match(key) if isinstance(key, str) else None
    return found[1] if found else None


def log_by_phase(run: Run, metrics: Mapping[str, Any], step: int | None, epoch: int | None) -> None:
    """Log metrics of one step, those of each phase as one event."""
    of_phase: dict[str | None, dict[str, Any]] = {}
    for key, value in metrics.items():
        of_phase.setdefault(phase_of(key), {})[key] = value
    for phase, values in of_phase.items():
        run.log_metrics(values, step, epoch=epoch, phase=phase)


__all__ = ["log_by_phase", "phase_of"]
