"""What became of many events, as numbers: for whoever takes whole files and pipes, and asks about no single one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from xtrack_protocol.ir import Skip
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import StreamEvents, StreamResult
from xtrack_protocol.wire import Frame


@attrs.define(eq=False)
class Tally:
    """How many events had which outcome, as in :class:`Pushed`; ``streams``: theirs, in the order in which they came.

    ``ambiguous``: streams whose source held two events of one derived identity (spec: STR-8). ``damage``: what is wrong
    with the first damaged frame.
    """

    outcomes: Counter[str] = attrs.field(factory=Counter)
    streams: dict[StreamId, None] = attrs.field(factory=dict)
    ambiguous: dict[StreamId, None] = attrs.field(factory=dict)
    damage: str = ""

    def count(self, events: StreamEvents, result: StreamResult) -> None:
        """Add what became of events that went to the store."""
        self.streams[events.stream] = None
        rest = len(events.frames) - result.stored - len(result.conflicts)
        skips = 0
        if rest:
            skips = sum(isinstance(frame.envelope.payload, Skip) for frame in events.frames if frame.envelope)
        named = {
            "stored": result.stored,
            "conflict": len(result.conflicts),
            "control": skips,
            "run_deleted" if result.dropped else "duplicate": rest - skips,
        }
        for outcome, count in named.items():
            if count:
                self.outcomes[outcome] += count

    def note(self, outcome: str, reason: str = "", stream: StreamId | None = None, *, ambiguous: bool = False) -> None:
        """Add what became of one event."""
        self.outcomes[outcome] += 1
        if outcome == "damaged":
            self.damage = self.damage or reason
        if stream is not None:
            self.streams[stream] = None
            if ambiguous:
                self.ambiguous[stream] = None


class Sheaves:
    """Gathers events of many streams into few StreamEvents. The order within each run stays."""

    def __init__(self, received_at_us: int) -> None:
        self._received_at_us = received_at_us
        self._gathered: list[tuple[StreamId, list[Frame]]] = []
        self._latest: dict[str, tuple[StreamId, list[Frame]]] = {}

    def add(self, stream: StreamId, frames: Iterable[Frame]) -> None:
        """Add events of ``stream``."""
        latest = self._latest.get(stream.run_id)
        if latest is None or latest[0] != stream:
            latest = self._latest[stream.run_id] = (stream, [])
            self._gathered.append(latest)
        latest[1].extend(frames)

    def events(self) -> Sequence[StreamEvents]:
        """Return what was gathered."""
        return [StreamEvents(stream, frames, self._received_at_us) for stream, frames in self._gathered]
