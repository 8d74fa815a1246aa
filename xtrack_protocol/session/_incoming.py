"""A collector's streams within a connection with a session, and what it takes from one peer."""

from __future__ import annotations

from collections import deque

import attrs

from xtrack_protocol.ir import Envelope
from xtrack_protocol.limits import (
    FIRST_FRAME_SECONDS,
    FRAME_MAX_SOCKET,
    FRAME_SECONDS,
    IDLE_SECONDS,
    OUTPUT_MAX,
    PING_SECONDS,
    SESSION_FRAME_MIN,
    STREAMS_MAX,
    WINDOW_BYTES,
    WINDOW_EVENTS,
)
from xtrack_protocol.session._salvage import identity_of
from xtrack_protocol.session._tables import SERVER_STREAM, StreamInput, StreamState
from xtrack_protocol.session.events import FrameRefused
from xtrack_protocol.session.streams import StreamId

_UNPLACED_MAX = 64


@attrs.frozen(kw_only=True)
class CollectorLimits:
    """What a collector takes from one peer.

    ``max_frame``: bytes of a payload. ``first_frame``: the same, for the first frame; smaller where every peer must
    say hello, so that a stranger can't make it keep more. ``window_events``, ``window_bytes``: what may be on its way;
    None: no bound. ``in_flight``: bytes handed on and not released, above which no more is read. ``streams``: of one
    connection. ``output``: bytes kept for a peer that doesn't read. The rest in seconds (spec: CTL-14, CTL-10).
    """

    max_frame: int = attrs.field(default=FRAME_MAX_SOCKET)
    first_frame: int = FRAME_MAX_SOCKET
    window_events: int | None = WINDOW_EVENTS
    window_bytes: int | None = WINDOW_BYTES
    in_flight: int = 2 * WINDOW_BYTES
    streams: int = STREAMS_MAX
    output: int = OUTPUT_MAX
    first_frame_seconds: float = FIRST_FRAME_SECONDS
    frame_seconds: float = FRAME_SECONDS
    ping_seconds: float = PING_SECONDS
    idle_seconds: float = IDLE_SECONDS

    @max_frame.validator
    def _check_max_frame(self, _attribute: object, value: int) -> None:
        if value < SESSION_FRAME_MIN:
            raise ValueError(f"max_frame must be at least {SESSION_FRAME_MIN} bytes, not {value}")


@attrs.define
class Incoming:
    """A stream of this connection."""

    stream: StreamId
    state: StreamState = StreamState.UNOPENED
    acked: int = 0
    highest: int = 0
    """The highest seq that came or was skipped on this connection, or the cursor."""
    interrupted: bool = False
    """Whether events were ignored, so that what comes may have been sent before the peer knew of it."""

    def step(self, what: StreamInput) -> bool:
        """Move by ``what``; return whether it is to be acted on."""
        following = SERVER_STREAM[self.state].get(what)
        if following is None:
            return False
        if self.state is StreamState.OPEN and following is not StreamState.OPEN:
            self.interrupted = True
        self.state = following
        return True

    def goes_on(self, seq: int) -> bool:
        """Whether an event or skip that begins with ``seq`` is to be taken: after an interruption, from the cursor on.

        Otherwise a hole is no reason to ignore what comes behind it (STR-6). spec: CTL-3.15
        """
        if self.interrupted and seq > self.highest + 1:
            return False
        self.interrupted = False
        return True


class IncomingStreams:
    """The streams that were opened on a connection, and the bad frames among their events."""

    def __init__(self) -> None:
        self._streams: dict[StreamId, Incoming] = {}
        self._derived: dict[tuple[str, str], Incoming] = {}
        self._unplaced: deque[FrameRefused] = deque()
        self._latest: Incoming | None = None

    def __len__(self) -> int:
        return len(self._streams)

    def get(self, stream: StreamId) -> Incoming | None:
        """Return a stream that was opened."""
        return self._streams.get(stream)

    def add(self, stream: StreamId) -> Incoming:
        """Note a stream that is being opened."""
        entry = self._streams[stream] = Incoming(stream)
        return entry

    def opened(self, entry: Incoming) -> None:
        """Note that ``entry`` was the last to be opened of its run and worker."""
        if entry.stream.is_derived:
            self._derived[entry.stream.run_id, entry.stream.worker_id] = entry

    def of_event(self, envelope: Envelope) -> Incoming | None:
        """Return the stream of an event. Without ``sid``, it is the derived one that was opened. spec: CTL-8.4"""
        run_id = envelope.run_id
        if run_id is None:
            return None
        meta = envelope.meta
        session_id, worker_id = meta.session_id, meta.worker_id or ""
        if not session_id:
            return self._derived.get((run_id, worker_id))
        latest = self._latest
        if latest is not None:  # events come in rows
            stream = latest.stream
            if stream.session_id == session_id and stream.run_id == run_id and stream.worker_id == worker_id:
                return latest
        entry = self._latest = self._streams.get(StreamId(run_id, worker_id, session_id))
        return entry

    def end(self) -> list[FrameRefused]:
        """End all streams; return the bad frames of which nobody knows what they were to be."""
        for entry in self._streams.values():
            entry.step(StreamInput.END)
        unplaced = list(self._unplaced)
        self._unplaced.clear()
        return unplaced

    # A stream is sent without gaps (spec: CTL-12.1). So a bad frame was the next event of its stream: of the only open
    # one, of the one it names, or of the one that goes on behind a gap.

    def place(self, refused: FrameRefused) -> FrameRefused | None:
        """Return ``refused`` with what it was to be; as it is where that is no event; None: it isn't known yet."""
        found = identity_of(refused.raw)
        if found.is_control:
            return refused
        open_streams = [entry for entry in self._streams.values() if entry.state is StreamState.OPEN]
        entry = next((entry for entry in open_streams if found.matches(entry.stream)), None)
        if entry is None and len(open_streams) == 1 and not found.names_stream:
            entry = open_streams[0]
        if entry is None and (found.names_stream or not open_streams):
            return refused  # of a stream that isn't open
        if entry is not None:
            if entry.interrupted and found.seq is None:
                return refused  # sent before or after it? It will come again
            seq = found.seq or entry.highest + 1
            if not entry.goes_on(seq):
                return refused
            entry.highest = max(entry.highest, seq)
            return attrs.evolve(refused, stream=entry.stream, seq=seq)
        self._unplaced.append(refused)
        return self._unplaced.popleft() if len(self._unplaced) > _UNPLACED_MAX else None

    def place_before(self, entry: Incoming, seq: int) -> list[FrameRefused]:
        """Return the bad frames that were to be the events missing before ``seq``."""
        if not self._unplaced:
            return []
        missing = range(entry.highest + 1, seq)
        if len(missing) > len(self._unplaced):
            return []
        return [attrs.evolve(self._unplaced.popleft(), stream=entry.stream, seq=number) for number in missing]
