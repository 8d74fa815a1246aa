"""A store that raises, or waits, where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import AppendResult, Incoming, MemoryStore


class Fault(Exception):
    """No error of the store's own."""


class FaultyStore(MemoryStore):
    """``errors``: what a method raises instead of doing its work; ``slow``: append waits for that.

    ``bad_run``: nothing of it can be appended; ``poison``: nor can an event that holds it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, Exception | None] = {}
        self.bad_run: str | None = None
        self.poison: bytes | None = None
        self.slow = threading.Event()
        self.slow.set()

    def _maybe(self, what: str) -> None:
        error = self.errors.get(what)
        if error is not None:
            raise error

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        self.slow.wait(60)
        self._maybe("append")
        if any(item.stream.run_id == self.bad_run for item in batch):
            raise Fault("bad run")
        if self.poison is not None and any(self.poison in item.raw for item in batch):
            raise Fault("can't be put into a row")
        return super().append(batch)

    def cursor(self, stream: StreamId) -> Any:
        self._maybe("cursor")
        return super().cursor(stream)

    def mark_lost(self, lost: Any) -> None:
        self._maybe("mark_lost")
        super().mark_lost(lost)

    def get_run(self, run_id: str) -> Any:
        self._maybe("get_run")
        return super().get_run(run_id)

    def claim_run(self, run_id: str, owner: str) -> Any:
        self._maybe("claim_run")
        return super().claim_run(run_id, owner)

    def get_experiment(self, experiment: str) -> Any:
        self._maybe("get_experiment")
        return super().get_experiment(experiment)
