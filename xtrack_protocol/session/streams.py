"""Which stream an event belongs to. spec: STR-1, STR-2"""

from __future__ import annotations

from typing import Final

from xtrack_protocol._value import Value
from xtrack_protocol.ir.envelope import CONTROL_TYPES, Envelope, UnknownEnvelope
from xtrack_protocol.ir.lifecycle import RunStart

LEGACY_PREFIX: Final = "legacy-"
"""What a derived session id begins with. spec: STR-2"""


class StreamId(Value, frozen=True, order=True):
    """The identity of a stream: within it, and nowhere else, seqs tell order, duplicates and gaps. spec: STR-1

    ``worker_id`` is "" where the worker has none.
    """

    run_id: str
    worker_id: str
    session_id: str

    @property
    def is_derived(self) -> bool:
        """Whether the session id was derived, because the worker sends none. spec: STR-2"""
        return self.session_id.startswith(LEGACY_PREFIX)


class StreamResolver:
    """Finds the stream of each event of one source: a connection, a pipe, or a file.

    Workers of the published protocol send no session id and begin again at seq 1 when a run is resumed. Theirs is
    derived from the time of run_start: ``legacy-<ts>``, for each run and worker of this source; before any run_start
    it is ``legacy-0``. A run_start seen before makes its session current again, so that reading a file twice finds
    the same streams. spec: STR-2

    ``before``: the session that is current before any run_start, where a source is read from its middle on.
    """

    def __init__(self, before: str = f"{LEGACY_PREFIX}0") -> None:
        self._current: dict[tuple[str, str], str] = {}
        self._before = before

    def current(self, run_id: str, worker_id: str) -> str:
        """Return the session id of the next event of a run and a worker that brings none."""
        return self._current.get((run_id, worker_id), self._before)

    def go_on(self, later: StreamResolver) -> None:
        """Stand where ``later`` does, which has read the source on from where this one stands."""
        self._current.update(later._current)

    def resolve(self, envelope: Envelope, run_id: str | None = None) -> StreamId | None:
        """Return the stream of ``envelope``; None for what belongs to no stream: control events, and no run id.

        ``run_id`` stands in for the event's own, where a reader wants a capture under another run.
        """
        if envelope.event_type in CONTROL_TYPES:
            return None
        if envelope.meta.seq < 1 and isinstance(envelope, UnknownEnvelope):
            return None  # a control event of a later version. spec: ENV-5
        own = envelope.run_id
        if own is None:
            return None
        worker_id = envelope.meta.worker_id or ""
        session_id = envelope.meta.session_id
        if not session_id:
            key = (own, worker_id)
            if isinstance(envelope.payload, RunStart):
                self._current[key] = f"{LEGACY_PREFIX}{envelope.meta.timestamp_us}"
            session_id = self._current.get(key, self._before)
        return StreamId(own if run_id is None else run_id, worker_id, session_id)
