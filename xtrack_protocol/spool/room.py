"""Room on a disk: whether an error says that there is none, what a spool leaves to others, and keeps for its end."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.limits import LAST_WORDS_ROOM, SPOOL_RESERVE, SPOOL_RESERVE_MAX

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_CHECK_SECONDS: Final = 1.0


def is_full(error: SpoolError) -> bool:
    """Whether a write failed for want of room, so that it may succeed later."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL


def has_room(folder: Path) -> bool:
    """Whether a disk that was full has a block to give to this user; True where that can't be told, as of quotas."""
    try:
        disk = os.statvfs(folder)
        return (disk.f_bavail if os.geteuid() else disk.f_bfree) > 0
    except (AttributeError, OSError):  # Windows; the write itself will say what is wrong
        return True


class Reserve:
    """What a spool that is only a buffer for a collector leaves free of its disk: 5 %, and 1 GiB at most.

    ``folder``: anywhere on that disk. The disk is asked at most once a second.
    """

    def __init__(self, folder: Path) -> None:
        import shutil  # here, where the stream opens, and not in a thread; a spool that is no buffer needs none of it

        self._shutil = shutil
        self._folder = folder
        self.due = float("-inf")
        """When the disk is asked next, by the monotonic clock."""
        self._lack = 0

    @property
    def has_room(self) -> bool:
        """Whether there was that much room when the disk was asked last."""
        return not self._lack

    def check(self) -> None:
        """Raise SpoolError where the disk has less room than that; where it can't be asked, all is well."""
        now = time.monotonic()
        if now >= self.due:
            self.due = now + _CHECK_SECONDS
            self._lack = self._find_lack()
        if self._lack:
            raise SpoolError(
                self._folder,
                f"less than {_size(self._lack)} of the disk is free, which a spool that only waits for its collector "
                "leaves to others",
                "Make room, or see to it that the collector takes what waits",
            ) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _find_lack(self) -> int:
        try:
            usage = self._shutil.disk_usage(self._folder)
        except OSError:
            return 0  # the write itself will say what is wrong
        reserve = min(int(usage.total * SPOOL_RESERVE), SPOOL_RESERVE_MAX)
        return reserve if usage.free < reserve else 0


class Ballast:
    """Room that is kept back for a stream's last words: a file without a name, which goes with the process.

    ``folder``: on the stream's disk. Without room to keep, there is none; the stream's own events will say so.
    """

    def __init__(self, folder: Path, size: int = LAST_WORDS_ROOM) -> None:
        self._fd = -1
        try:
            self._fd = _nameless_file(folder)
            os.write(self._fd, os.urandom(size))  # which no file system packs
        except OSError:
            self.drop()

    def drop(self) -> bool:
        """Give the room up; return whether there was any."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return False
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)  # at once, also where a forked child still has it open
        os.close(fd)
        return True

    def forget(self) -> None:
        """In a forked child: let go of what is its parent's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _nameless_file(folder: Path) -> int:
    """Return a descriptor of a file that vanishes when it is closed. Raises OSError."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    if hasattr(os, "O_TMPFILE"):
        with contextlib.suppress(OSError):  # not every file system has such files
            return os.open(folder, flags | os.O_TMPFILE, 0o600)
    path = folder / f".{os.urandom(8).hex()}.part"
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | getattr(os, "O_TEMPORARY", 0), 0o600)
    with contextlib.suppress(PermissionError):  # Windows removes it by itself
        path.unlink()
    return fd


def _size(count: int) -> str:
    return f"{count / 2**20:.3g} MiB"
