"""Events as workers send them, with seqs, times and sessions in order."""

from __future__ import annotations

import attrs

from xtrack_protocol.ir import Envelope, Metric, MetricContext, Number, Payload, RunEnd, RunStart, Skip
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import Incoming
from xtrack_protocol.wire import encode

START_US = 1_700_000_000_000_000
"""When workers begin unless told otherwise: microseconds since the Unix epoch."""


@attrs.define
class Worker:
    """A worker's session: each ``say`` is its next event, one millisecond after the one before."""

    run_id: str
    worker_id: str = ""
    session_id: str = "session-1"
    start_us: int = START_US
    seq: int = 0

    @property
    def stream(self) -> StreamId:
        """The stream that its events belong to."""
        return StreamId(self.run_id, self.worker_id, self.session_id)

    def say(self, payload: Payload, *, seq: int | None = None, timestamp_us: int | None = None) -> Incoming:
        """Return the next event; with ``seq`` another one than the next, which then isn't taken."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        if timestamp_us is None:
            timestamp_us = self.start_us + 1000 * seq
        envelope = Envelope.of(
            payload,
            seq=seq,
            timestamp_us=timestamp_us,
            worker_id=self.worker_id or None,
            session_id=self.session_id,
        )
        return Incoming(self.stream, envelope, encode(envelope), timestamp_us + 5)

    def start(self, name: str | None = None, *, timestamp_us: int | None = None) -> Incoming:
        """Return a plain run_start; other ones are said."""
        return self.say(RunStart(self.run_id, name=name), timestamp_us=timestamp_us)

    def metric(
        self, key: str, value: Number, step: int | None = None, context: MetricContext | None = None
    ) -> Incoming:
        """Return a metric."""
        return self.say(Metric(self.run_id, key, value, step=step, context=context))

    def end(self) -> Incoming:
        """Return a run_end: completed."""
        return self.say(RunEnd(self.run_id, "completed"))

    def skip(self, first: int, last: int) -> Incoming:
        """Return the declaration that some seqs are lost; it takes no seq."""
        event = Skip(self.run_id, self.session_id, first, last, worker_id=self.worker_id or None)
        return self.say(event, seq=0)
