"""Small files beside the segments that the index is made from too: expected runs, owners, and experiments."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import attrs
import msgspec

from xtrack_protocol.errors import StoreCorrupt
from xtrack_protocol.spool import make_private_dir, safe_name, write_private
from xtrack_protocol.spool.durable import sync_dir, sync_file
from xtrack_protocol.storage.access import NOBODYS, RunAccess
from xtrack_protocol.storage.base import Experiment
from xtrack_protocol.wire.records import read_object

EXPECTED: Final = "EXPECTED"
"""In a run's folder: somebody waits for its first event."""

ACCESS: Final = "ACCESS"
"""In a run's folder: its owner, and whom it was opened to. spec: RST-7.8"""

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


class _Access(msgspec.Struct, omit_defaults=True):
    run_id: str
    owner: str | None = None
    public: bool = False
    readers: list[str] = msgspec.field(default_factory=list)
    writers: list[str] = msgspec.field(default_factory=list)


_decode_expected = msgspec.json.Decoder(Expected).decode  # once, at the import: see spool.shipping
_decode_experiment = msgspec.json.Decoder(_Experiment).decode
_decode_access = msgspec.json.Decoder(_Access).decode


@attrs.frozen
class KnownAccess:
    """What stands in a folder: which run is meant, and what holds for it."""

    run_id: str
    access: RunAccess


_T = TypeVar("_T", Expected, _Experiment)


def write_expected(folder: Path, expected: Expected) -> None:
    """Leave word that a run is expected. Raises OSError."""
    make_private_dir(folder)
    write_private(folder / EXPECTED, msgspec.json.encode(expected))


def read_expected(folder: Path, complain: Complain) -> Expected | None:
    """Return what is said of an expected run in its folder, if anything is."""
    return _read(folder / EXPECTED, _decode_expected, complain)


def read_access(folder: Path) -> KnownAccess | None:
    """Return what is said of a run's owner in its folder; None where nothing is.

    Raises StoreCorrupt where that can't be read: it must not be taken for nobody's. spec: RST-7.9
    """
    path = folder / ACCESS
    try:
        kept = read_object(_decode_access, path.read_bytes())
        if safe_name(kept.run_id) != folder.name:
            raise ValueError(f"it is about run {kept.run_id!r}")
        access = RunAccess(owner=kept.owner, public=kept.public, readers=kept.readers, writers=kept.writers)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreCorrupt(
            path, [f"it can't be read ({error}). `xtrack access RUN --owner NAME` writes it anew"]
        ) from error
    return KnownAccess(kept.run_id, access)


def write_access(folder: Path, run_id: str, access: RunAccess, *, claim: bool = False) -> bool:
    """Keep who owns a run, so that it survives a power loss. Raises OSError.

    ``claim``: only where nothing is said yet, also from other machines; returns whether it was kept. spec: SEC-4.1
    """
    made = not folder.exists()
    make_private_dir(folder)
    if access == NOBODYS:
        (folder / ACCESS).unlink(missing_ok=True)
    else:
        kept = _Access(run_id, access.owner, access.public, sorted(access.readers), sorted(access.writers))
        if not _write(folder, kept, claim=claim):
            return False
    sync_dir(folder)
    if made:
        sync_dir(folder.parent)
    return True


def _write(folder: Path, kept: _Access, *, claim: bool) -> bool:
    temporary = folder / f".{os.urandom(8).hex()}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            sync_file(file.fileno())
        if not (claim and _linked(temporary, folder / ACCESS)):
            temporary.replace(folder / ACCESS)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file its name, which unlike a renaming never replaces another; False where there are no hard links."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False  # the index's lock keeps the processes of one machine apart all the same
        raise
    return True


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
            kept = _read(path, _decode_experiment, complain)
            if kept is not None:
                found.append(Experiment(kept.experiment_id, kept.name, kept.created_at_us, kept.tags))
        return found

    def _path(self, experiment_id: str) -> Path:
        return self._folder / f"{safe_name(experiment_id)}.json"


def _read(path: Path, decode: Callable[[bytes], _T], complain: Complain) -> _T | None:
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        complain(f"{path}: can't be read: {error}")
        return None
