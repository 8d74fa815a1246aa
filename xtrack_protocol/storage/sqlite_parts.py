"""What a batch holds, by stream and by run, on its way into the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import attrs

from xtrack_protocol.ir import Envelope, Payload, RunId, RunStart, Skip, Tags
from xtrack_protocol.runs import Columns, Shape
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.sqlite_runs import RunEntry
from xtrack_protocol.storage.sqlite_tail import ensure_series
from xtrack_protocol.wire import is_control


@attrs.define(eq=False)
class Part:
    """What a batch holds of one stream. Places are those in its own lists, but for ``places``: in the batch."""

    run: RunInBatch
    stream: StreamId
    places: Sequence[int]
    envelopes: Sequence[Envelope]
    raws: Sequence[bytes]
    stream_key: int = 0
    new: Sequence[int] = ()
    """In order."""
    columns: list[Columns] = attrs.field(factory=list)
    """New metric events, where they were taken together."""
    rows: Sequence[int] = ()
    """All other new events."""
    repeated: Sequence[int] = ()
    """Events whose seq was known."""


def has_use(envelope: Envelope) -> bool:
    """Whether an envelope is an event of a run, or closes a range of a stream. spec: CTL-1"""
    return isinstance(envelope.payload, Skip) or not is_control(envelope)


def pick(
    which: Sequence[int], places: Sequence[int], envelopes: Sequence[Envelope], raws: Sequence[bytes]
) -> tuple[list[int], list[Envelope], list[bytes]]:
    """Return the entries at ``which`` of all three."""
    return [places[n] for n in which], [envelopes[n] for n in which], [raws[n] for n in which]


def grouped(streams: Sequence[StreamId]) -> dict[StreamId, Sequence[int]]:
    """Return the places of each stream."""
    found: dict[StreamId, list[int]] = {}
    for place, stream in enumerate(streams):
        found.setdefault(stream, []).append(place)
    return dict(found)


def count_tail(connection: sqlite3.Connection, entry: RunEntry, names: Sequence[str], events: int) -> None:
    """Count what comes to the tail, and make its series known."""
    entry.tail += events * len(names)
    for name in names:
        if name not in entry.tail_names:
            entry.tail_names.add(name)
            ensure_series(connection, entry, name)


class RunInBatch:
    """What a batch does to one run."""

    def __init__(self, entry: RunEntry) -> None:
        self.entry = entry
        self.skips: list[tuple[int, Skip, Part, int]] = []
        self.events = 0
        self.rows = 0
        """How many of the events were taken one by one."""
        self.identity = False
        """Whether name, experiment, parent, start or tags may be others now."""
        self.latest_ts: int | None = None
        self.grew = False
        """Whether it has more series now."""

    def note(self, stream: StreamId, said: Payload | Shape, first_ts: int, last_ts: int) -> None:
        """Note what events may change in the columns that runs are searched by."""
        if self.latest_ts is None or last_ts > self.latest_ts:
            self.latest_ts = last_ts
        lowest = self.entry.lowest_ts
        if first_ts < lowest.get(stream, first_ts + 1):
            lowest[stream] = first_ts
            self.identity = True
        if isinstance(said, (RunStart, Tags)):
            self.identity = True
        run_id = getattr(said, "run_id", None)
        if isinstance(run_id, RunId):
            # As long as all events name the same experiment and parent, which of them is the last makes no difference.
            identities, own = self.entry.identities, (run_id.experiment_id, run_id.parent_run_id)
            self.identity = self.identity or own not in identities or len(identities) > 1
            identities.add(own)
