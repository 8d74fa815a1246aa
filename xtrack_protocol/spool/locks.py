"""Advisory locks on files, which tell a live process from a dead one and serialise the index.

A lock goes away with its process, however that ends. A forked child inherits the open file, and would hold its
parent's lock after the parent's death, so children close theirs (``os.register_at_fork``); programs that fork without
running Python's hooks and then go on in Python are rare enough to live with, and the only harm is a run that is held
for running a while longer.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from typing_extensions import Self

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int, *, shared: bool) -> bool:  # noqa: ARG001 - Windows has exclusive locks only
        os.lseek(fd, 2**31 - 2, os.SEEK_SET)  # beyond the content: locks are mandatory here
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import errno
    import fcntl

    def _try_lock(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}:
                return False
            raise
        return True


_FLAGS = getattr(os, "O_CLOEXEC", 0)
LOOK_SECONDS: Final = 0.1
"""How long somebody may hold a lock who only looks whether another does."""


class FileLock:
    """An exclusive lock on a file of its own, held from ``acquire`` to ``release`` or the process's end.

    It keeps threads apart as well as processes: while one holds it, ``acquire`` returns False to the others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Try to take the lock, creating the file; return whether it is ours. Raises OSError where that can't work."""
        if self._fd is not None:
            return False
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        taken = False
        _held.add(self)  # before it is taken, so that a fork finds it as soon as it is
        try:
            taken = _try_lock(fd, shared=False)
        finally:
            if taken:
                self._fd = fd
            else:
                os.close(fd)
        return taken

    def acquire_soon(self, seconds: float = LOOK_SECONDS) -> bool:
        """Try for a moment to take the lock: somebody may only have looked. Raises OSError as above. spec: RST-6.17"""
        deadline = time.monotonic() + seconds
        while not self.acquire():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)
        return True

    @contextmanager
    def waiting(self, timeout: float = 10.0) -> Iterator[None]:
        """Hold the lock for a block, waiting for it. Raises TimeoutError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not self.acquire():
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self.path} has been locked for more than {timeout:g} s")
            time.sleep(0.001)
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes hold locks on two files of one name."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def is_locked(path: Path) -> bool | None:
    """Whether a live process holds the lock on ``path``; None where the file system can't tell."""
    try:
        fd = _open_to_probe(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    try:
        # Shared, so that several readers probing at the same moment never take each other for the owner.
        return not _try_lock(fd, shared=True)
    except OSError:
        return None
    finally:
        os.close(fd)


def _open_to_probe(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | _FLAGS)  # network file systems want that for a lock
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        return os.open(path, os.O_RDONLY | _FLAGS)  # a read-only mount, or another user's spool


def _close_in_child() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
