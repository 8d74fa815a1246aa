"""Files that are there when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xtrack_protocol.errors import StorageError, XTrackError


@contextmanager
def replaced(name: str | Path, *, force: bool = False, cure: str = "remove it first") -> Iterator[Path]:
    """Give a path to write to, which becomes ``name`` only when all went well.

    Raises StorageError where ``name`` is there already, unless ``force``; ``cure``: what else to do then. Raises it too
    where ``name`` can't be written, or is something else than a file, which is never replaced.
    """
    path = Path(name)
    if path.is_dir():
        raise StorageError(f"{name or '.'}: is a folder. Name a file in it")
    if path.exists() and not path.is_file():  # a device, a pipe: others need it as it is
        raise StorageError(f"{name}: is no file that can be replaced. Choose another name")
    if path.exists() and not force:
        raise StorageError(f"{name}: is there already. Choose another name, or {cure}")
    if not path.parent.is_dir():
        raise StorageError(f"{name}: there is no folder {path.parent}")
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        try:
            temporary.touch()
            yield temporary
            temporary.replace(path)
        except XTrackError:  # of a spool, say: it names what couldn't be read
            raise
        except OSError as error:  # its file name, if any, is the temporary one
            raise StorageError(f"{name}: can't be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
