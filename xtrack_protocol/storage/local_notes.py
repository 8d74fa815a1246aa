"""Small files beside the segments that the index is made from too: expected runs, and experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from xtrack_protocol.spool import make_private_dir, safe_name, write_private
from xtrack_protocol.storage.base import Experiment

EXPECTED: Final = "EXPECTED"
"""In a run's folder: somebody waits for its first event."""

Complain = Callable[[str], None]


class Expected(msgspec.Struct, omit_defaults=True):
    """An expected run, which has no events yet."""

    run_id: str
    name: str | None = None
    experiment_id: str | None = None


class _Experiment(msgspec.Struct, omit_defaults=True):
    experiment_id: str
    name: str
    created_at_us: int = 0
    tags: dict[str, str] = msgspec.field(default_factory=dict)


_T = TypeVar("_T", Expected, _Experiment)


def write_expected(folder: Path, expected: Expected) -> None:
    """Leave word that a run is expected. Raises OSError."""
    make_private_dir(folder)
    write_private(folder / EXPECTED, msgspec.json.encode(expected))


def read_expected(folder: Path, complain: Complain) -> Expected | None:
    """Return what is said of an expected run in its folder, if anything is."""
    return _read(folder / EXPECTED, Expected, complain)


class ExperimentFolder:
    """Experiments that were made by name, each in a small file; the others are made by the runs that name them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, experiment: Experiment) -> None:
        """Keep an experiment. Raises OSError."""
        kept = _Experiment(experiment.experiment_id, experiment.name, experiment.created_at_us, dict(experiment.tags))
        make_private_dir(self._folder)
        write_private(self._path(experiment.experiment_id), msgspec.json.encode(kept))

    def remove(self, experiment_id: str) -> None:
        """Keep it no longer. Raises OSError."""
        self._path(experiment_id).unlink(missing_ok=True)

    def read(self, complain: Complain) -> list[Experiment]:
        """Return all of them."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            kept = _read(path, _Experiment, complain)
            if kept is not None:
                found.append(Experiment(kept.experiment_id, kept.name, kept.created_at_us, kept.tags))
        return found

    def _path(self, experiment_id: str) -> Path:
        return self._folder / f"{safe_name(experiment_id)}.json"


def _read(path: Path, kind: type[_T], complain: Complain) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        complain(f"{path}: can't be read: {error}")
        return None
