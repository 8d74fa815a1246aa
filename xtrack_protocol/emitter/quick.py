"""What every logged number needs, at the least cost: whether this is the process that opened the stream, and whose turn
it is.
"""

from __future__ import annotations

import _thread
import os
from contextlib import suppress
from typing import Final, Protocol

_WIPE_ON_FORK: Final = 18  # MADV_WIPEONFORK of Linux, which Python has no name for


class Mark(Protocol):
    """Tells whether this is still the process in which it was made: ``mark[0]`` is 0 in a forked child."""

    def __getitem__(self, index: int, /) -> int: ...


NOWHERE: Final[Mark] = (0,)
"""The mark of no process."""


class _ByPid:
    """A mark that asks the system each time. Not as cheap: a system call."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _index: int, /) -> int:
        return os.getpid() == self._pid


_page: Mark = NOWHERE


def new_mark() -> Mark:
    """Return a mark of this process.

    On Linux it is a page of memory that the kernel hands to every child as zeros, whoever forks and however: also where
    a library in C does so and tells Python nothing of it, of which ``os.register_at_fork`` would know nothing.
    """
    global _page
    if not _page[0]:
        _page = _wiped_page() or _ByPid()
    return _page


def _wiped_page() -> Mark | None:
    try:
        import mmap

        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
        with suppress(OSError):
            page.madvise(-1)  # nonsense: who takes this takes everything, and does nothing of it (old emulators)
            return None
    except (ImportError, AttributeError, OSError, ValueError, TypeError):
        return None
    page[0] = 1
    return page


class TurnLock(_thread.RLock):  # type: ignore[misc]  # final for type checkers only
    """A re-entrant lock that is taken by ``lock.taken``, and given back by ``lock.release()``::

        lock.taken
        try:
            ...
        finally:
            lock.release()

    As safe as ``with``, and half the price. Signal handlers run when a call has returned: one that raises between
    ``lock.acquire()`` and ``try`` would leave the lock taken for ever. To read a property written in C is no call.
    """

    __slots__ = ()
    taken = property(_thread.RLock.acquire)
