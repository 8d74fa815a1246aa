"""Where the store is the local one, readers tell by a lock who is connected: the server holds it for its peers."""

from __future__ import annotations

from collections.abc import Callable

from xtrack_protocol.collector.channel import root_of_local
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import FileLock, SpoolDir, lock_path, make_private_dir
from xtrack_protocol.storage import Storage


class StreamLocks:
    """The locks of the streams whose workers are connected; none for stores that are not local.

    Belongs to the committer's thread.
    """

    def __init__(self, store: Storage, complain: Callable[[str], None]) -> None:
        root = root_of_local(store)
        self._spool = None if root is None else SpoolDir(root)
        self._complain = complain
        self._held: dict[StreamId, FileLock] = {}
        self._most = _files() // 3
        self._without: dict[StreamId, None] = {}
        """Those that wait for one, in their order."""

    @property
    def runs(self) -> frozenset[str]:
        """Runs with workers that are connected, and hold no lock of their own. May be asked by any thread."""
        return frozenset(stream.run_id for stream in list(self._held))

    def hold(self, stream: StreamId) -> None:
        """Show that the worker is there."""
        if self._spool is None or stream in self._held:
            return
        if len(self._held) >= self._most:
            self._without[stream] = None
            self._complain(
                f"more workers are connected than locks can be held ({self._most}), and count as lost to readers of "
                "the store when they are silent for 5 minutes. Raise `ulimit -n`"
            )
            return
        if self._spool.tombstone(stream.run_id).exists():
            return
        folder = self._spool.run_dir(stream.run_id)
        lock = FileLock(lock_path(folder, stream.session_id))
        try:
            make_private_dir(folder)
            if lock.acquire():  # else somebody shows it already
                self._held[stream] = lock
        except OSError as error:
            self._complain(f"the lock of a stream can't be held: {error}")

    def let_go(self, stream: StreamId) -> None:
        """Show that it isn't any more."""
        self._without.pop(stream, None)
        lock = self._held.pop(stream, None)
        if lock is not None:
            lock.release()
            if self._without:
                following = next(iter(self._without))
                del self._without[following]
                self.hold(following)

    def release(self) -> None:
        """Let go of all."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()
        self._without.clear()


def _files() -> int:
    """Return how many files this process may have open: each lock takes one, each connection, and the store some."""
    try:
        import resource
    except ImportError:  # Windows, where there are always more
        return 8192
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else int(soft)
