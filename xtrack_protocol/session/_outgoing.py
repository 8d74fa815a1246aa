"""An emitter's streams within a connection, and the window they share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import attrs

from xtrack_protocol.ir import Ack
from xtrack_protocol.session._tables import CLIENT_STREAM, StreamInput, StreamState
from xtrack_protocol.session.rangeset import RangeSet
from xtrack_protocol.session.streams import StreamId


@attrs.define
class Outgoing:
    """A stream of this connection."""

    stream: StreamId
    plain_cursor: int
    passive: bool = False
    state: StreamState = StreamState.UNOPENED
    acked: int = 0
    sent: int = 0
    """The last seq that was sent or skipped, from the cursor on."""
    highest: int = 0
    """The highest seq that this connection has ever sent, skipped, or had named as cursor."""
    on_their_way: deque[tuple[int, Sequence[int]]] = attrs.field(factory=deque)
    """The events that are sent and not acked, as they were sent together: the first one's seq, and their sizes."""
    refused: RangeSet = attrs.field(factory=RangeSet)
    told_cursor: bool = False
    """Whether the peer has named the cursor: until then it may be any."""

    def step(self, what: StreamInput) -> bool:
        """Move by ``what``; return whether it is to be acted on."""
        following = CLIENT_STREAM[self.state].get(what)
        if following is not None:
            self.state = following
        return following is not None

    def moved_to(self, seq: int) -> None:
        """Note that everything up to ``seq`` is sent or skipped."""
        self.sent = seq
        self.highest = max(self.highest, seq)

    def fault_of(self, ack: Ack) -> str | None:
        """Return why ``ack`` can't be: it claims what was never sent, and a spool would be trimmed for it."""
        if ack.seq < 0:
            return f"an ack of seq {ack.seq}"
        if not self.told_cursor or self.state not in {StreamState.OPEN, StreamState.HELD}:
            return None
        if ack.seq > self.highest:  # spec: CTL-3.10
            return f"an ack of seq {ack.seq}, when {self.highest} is the highest that was sent"
        wrong = [seq for seq, _ in ack.rejected if not 1 <= seq <= self.highest]
        return f"seq {wrong[0]} is refused, which was never sent" if wrong else None


@attrs.define
class Window:
    """What may be on its way on a connection, all its streams together; None: no bound. spec: CTL-6.3"""

    max_events: int | None = None
    max_bytes: int | None = None
    events: int = 0
    bytes: int = 0

    def has_room(self, size: int, events: int = 1) -> bool:
        """Whether that many more events of ``size`` bytes in all may be sent; one may always be on its way."""
        if not self.events and events == 1:
            return True
        return (self.max_events is None or self.events + events <= self.max_events) and (
            self.max_bytes is None or self.bytes + size <= self.max_bytes
        )

    def add(self, entry: Outgoing, first: int, sizes: Sequence[int]) -> None:
        """Take in events that are sent, from the seq ``first`` on."""
        entry.on_their_way.append((first, sizes))
        self.events += len(sizes)
        self.bytes += sum(sizes)

    def forget(self, entry: Outgoing, upto: float = math.inf) -> None:
        """Take out the events of a stream up to the seq ``upto``."""
        waiting = entry.on_their_way
        while waiting and waiting[0][0] <= upto:
            first, sizes = waiting.popleft()
            gone = sizes if first + len(sizes) - 1 <= upto else sizes[: int(upto) - first + 1]
            if gone is not sizes:
                waiting.appendleft((first + len(gone), sizes[len(gone) :]))
            self.events -= len(gone)
            self.bytes -= sum(gone)
