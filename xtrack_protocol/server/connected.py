"""Which workers are connected, kept beside a SQLite store: a server that is killed knows of them when it is back.

Without it, a worker that dies while its collector is away would count as running for ever: silence alone says nothing
(spec: FLD-5.4), and nobody would remember that it had a connection (spec: CTL-17.10).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import write_private
from xtrack_protocol.storage import Storage
from xtrack_protocol.storage.sqlite import SQLiteStore

SUFFIX = ".connected"


class ConnectedNote:
    """The note of a store; nothing where the store is no file. Belongs to the committer's thread."""

    def __init__(self, store: Storage, complain: Callable[[str], None]) -> None:
        self._path = Path(f"{store.path}{SUFFIX}") if isinstance(store, SQLiteStore) else None
        self._complain = complain

    @property
    def is_kept(self) -> bool:
        """Whether there is a place for it."""
        return self._path is not None

    def read(self) -> list[StreamId]:
        """Return the streams whose workers had a connection when the last server ended, and hadn't ended their run."""
        if self._path is None:
            return []
        try:
            streams = [StreamId(*entry) for entry in json.loads(self._path.read_bytes())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            self._complain(f"{self._path}: can't be read, so that lost workers may count as running: {error}")
            return []
        return [
            one for one in streams if all(isinstance(part, str) for part in (one.run_id, one.worker_id, one.session_id))
        ]

    def write(self, streams: Iterable[StreamId]) -> None:
        """Keep ``streams`` for the next server."""
        if self._path is None:
            return
        listed = sorted([one.run_id, one.worker_id, one.session_id] for one in streams)
        try:
            write_private(self._path, json.dumps(listed).encode())
        except OSError as error:
            self._complain(f"{self._path}: can't be written: {error}")
