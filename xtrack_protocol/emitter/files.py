"""Size and checksum of a file that a run points at."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from xtrack_protocol._value import Value

CHECKSUM_MAX: Final = 256 * 1024 * 1024
"""Bytes of a file up to which its checksum is made unasked: about a quarter of a second."""


class FileFacts(Value, frozen=True):
    """What could be found out: ``size`` in bytes, ``checksum``, and why there is no more."""

    size: int | None = None
    checksum: str | None = None
    problem: str = ""


def measure(path: Path, *, checksum: bool | None) -> FileFacts:
    """Look at a file. ``checksum``: True makes one whatever the size, False none, None one of files of a usual size.

    A folder has neither size nor checksum. Raises nothing.
    """
    size = None
    try:
        if not path.is_file():
            return FileFacts(problem="" if path.exists() else "is not there (yet)")
        size = path.stat().st_size
        if checksum is True or (checksum is None and size <= CHECKSUM_MAX):
            return FileFacts(size, sha256(path))
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return FileFacts(size, problem=f"can't be read ({error})")
    return FileFacts(size)


def sha256(path: Path) -> str:
    """Return a file's checksum. Raises OSError. spec: VAL-8"""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
