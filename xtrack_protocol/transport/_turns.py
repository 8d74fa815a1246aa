"""Who may write the next frame to a descriptor that several writers share: one thread of one process at a time."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Final
from zlib import crc32

_FIRST_PAUSE: Final = 0.0002
_LONGEST_PAUSE: Final = 0.005


class Turns:
    """Turns among the threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the turn; return whether it is ours."""
        return self._lock.acquire(timeout=timeout)

    def give(self) -> None:
        """End the turn."""
        self._lock.release()


if sys.platform == "win32":
    SharedTurns = Turns

else:
    import fcntl

    _FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

    class SharedTurns(Turns):
        """Turns among all processes of a user that write to one pipe or socket.

        A record lock on one byte of a file in the temporary folder, which byte being told by the pipe. Such a lock
        belongs to a process, so that a forked child holds none of its parent's, and ends with it. The file is opened
        once and never closed: closing any descriptor of it would let go of all the process's locks.
        """

        def __init__(self, channel: str) -> None:
            super().__init__()
            self._byte = crc32(channel.encode())
            self._fd = _lock_file()

        def take(self, timeout: float) -> bool:
            """Wait at most ``timeout`` seconds for the turn; return whether it is ours."""
            if not super().take(timeout):
                return False
            if self._fd is None or self._try():
                return True
            deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
            try:
                while (left := deadline - time.monotonic()) > 0:
                    time.sleep(min(pause, left))
                    if self._try():
                        return True
                    pause = min(2 * pause, _LONGEST_PAUSE)
            except BaseException:  # KeyboardInterrupt
                super().give()
                raise
            super().give()
            return False

        def give(self) -> None:
            """End the turn."""
            try:
                if self._fd is not None:
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._byte)
            finally:
                super().give()

        def _try(self) -> bool:
            assert self._fd is not None
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._byte)
            except (BlockingIOError, PermissionError):
                return False
            except OSError:
                self._fd = None  # a temporary folder without locks: as where there is none
            return True

    _file: int | None = None

    def _lock_file() -> int | None:
        """Return the descriptor of the file with the locks; None where there can't be one.

        Then nothing keeps several processes apart; one alone, the usual case, needs no turns.
        """
        global _file
        if _file is None:
            try:
                import tempfile

                path = Path(tempfile.gettempdir()) / f"xtrack-{os.getuid()}.lock"
                fd = os.open(path, _FLAGS, 0o600)
            except OSError:
                return None
            status = os.fstat(fd)
            if status.st_uid != os.getuid() or not stat.S_ISREG(status.st_mode):  # another user's trap
                os.close(fd)
                return None
            _file = fd
        return _file


_shared: dict[tuple[int, int, int], Turns] = {}


def shared_turns(fd: int) -> Turns:
    """Return the turns for the pipe or socket ``fd``: the same for all who write to it."""
    status = os.fstat(fd)
    # With the pid, because in a forked child a thread that doesn't exist there may hold the parent's.
    key = (os.getpid(), status.st_dev, status.st_ino)
    return _shared.setdefault(key, SharedTurns(f"{status.st_dev}:{status.st_ino}"))
