"""Waits until what was written survives a power loss."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Final

if sys.platform == "darwin":
    import fcntl

    def sync_file(fd: int) -> None:
        """Wait until the content of ``fd`` is on the disk: fsync stops at the drive's cache there. Raises OSError."""
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError:  # not every file system knows it
            os.fsync(fd)

else:
    sync_file = getattr(os, "fdatasync", os.fsync)


_NOT_FOR_FOLDERS: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS, errno.EACCES})
"""Network and FUSE file systems that write names through; a folder above ours that we may enter and not read."""


def sync_dir(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system has such a call. Raises OSError."""
    if sys.platform == "win32":
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
