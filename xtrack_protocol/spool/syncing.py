"""Makes spools durable in the background: one thread a process, as long as any of its spools is open. spec: DLV-2

Every second it syncs what was appended since, so that a power loss costs a second at most, and no thread that logs
ever waits for a disk. What fails is told once and tried again, at growing distances: each attempt writes what is in
doubt once more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from xtrack_protocol.limits import SYNC_RETRY_SECONDS_MAX, SYNC_SECONDS
from xtrack_protocol.spool.writer import StreamWriter

Warn = Callable[[str, str], None]


class _Watched(msgspec.Struct, eq=False):
    writer: StreamWriter
    warn: Warn
    failures: int = 0
    due: float = 0.0  # on the monotonic clock

    def sync(self) -> None:
        now = time.monotonic()
        if now < self.due:
            return
        try:
            self.writer.sync()
        except OSError as error:
            self.failures += 1
            self.due = now + min(SYNC_SECONDS * 2**self.failures, SYNC_RETRY_SECONDS_MAX)
            if self.failures == 1:
                self.warn("sync", f"what was logged would not survive a power loss now, which is tried again: {error}")
        else:
            self.failures = 0


class _Syncer:
    """The thread of one process, and what it syncs."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: list[_Watched] = []
        self._thread: threading.Thread | None = None

    def watch(self, writer: StreamWriter, warn: Warn) -> None:
        with self._changed:
            self._watched.append(_Watched(writer, warn))
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="xtrack-sync", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter ends
                self._watched.clear()
                warn("sync", f"what is logged is not synced every second, but at the run's end: {error}")
            else:
                self._thread = thread

    def unwatch(self, writer: StreamWriter) -> None:
        with self._changed:
            self._watched = [one for one in self._watched if one.writer is not writer]
            if not self._watched:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(SYNC_SECONDS)
                self._watched = [one for one in self._watched if not one.writer.is_closed]
                if not self._watched:
                    self._thread = None
                    return
                watched = tuple(self._watched)
            for one in watched:
                one.sync()


_syncers: Final[dict[int, _Syncer]] = {}
"""By process: a forked child has no thread, and its parent's lock may be held for ever in it."""


def _syncer() -> _Syncer:
    pid = os.getpid()
    syncer = _syncers.get(pid)
    if syncer is None:
        _syncers.clear()
        syncer = _syncers.setdefault(pid, _Syncer())  # atomic: another thread may be here, too
    return syncer


def watch(writer: StreamWriter, warn: Warn) -> None:
    """Sync what ``writer`` appends, from now on, every second. ``warn`` takes a kind and a text, and never raises."""
    _syncer().watch(writer, warn)


def unwatch(writer: StreamWriter) -> None:
    """Leave ``writer`` to whoever closes it. A sync that is under way is not waited for."""
    _syncer().unwatch(writer)
