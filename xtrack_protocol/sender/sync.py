"""Ships what lies in a spool and no living sender ships: ``xtrack sync``. spec: DLV-9"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from xtrack_protocol.errors import CollectorRefused, TransportError
from xtrack_protocol.sender.lane import Lane
from xtrack_protocol.sender.shipper import Problem, Shipper
from xtrack_protocol.session import EmitterSession, StreamId
from xtrack_protocol.spool.layout import SpoolDir
from xtrack_protocol.spool.shipping import SpooledStream, find_streams

if TYPE_CHECKING:
    from pathlib import Path

    from xtrack_protocol.net.endpoint import Endpoint

PATIENCE_SECONDS: Final = 30.0
"""Seconds without any progress after which it is given up."""
AT_ONCE: Final = 64
"""Streams that are on their way at the same time."""
_TAIL_SECONDS: Final = 5.0
"""Seconds for the end of a stream to become certain: what was written a moment ago may still be cut off again."""
_PROGRESS_SECONDS: Final = 0.2

State: TypeAlias = Literal[
    "acked", "unconfirmed", "refused", "waiting", "live", "busy", "forbidden", "fenced", "damaged"
]
"""What became of a stream.

``acked``: the collector has all of it. ``unconfirmed``: all was sent to a peer that acks nothing. ``refused``: some of
it was refused for good. ``live``: its own sender is at it. ``busy``: another sync is. ``forbidden``: the key doesn't
cover its run. ``fenced``: another sender has taken it over. ``damaged``: the spool can't be read. ``waiting``: it
didn't come to it.
"""


@attrs.frozen(kw_only=True)
class StreamReport:
    """One stream: how many events it has, and how many of them the collector has committed, refused for good (by code),
    or was sent without confirming them. ``new``: events that were acked by this sync.
    """

    stream: StreamId
    state: State
    events: int = 0
    acked: int = 0
    new: int = 0
    unconfirmed: int = 0
    refused: dict[str, int] = attrs.field(factory=dict)
    problem: str = ""


@attrs.frozen(kw_only=True)
class SyncReport:
    """What became of the streams of ``spool``. ``problem``: why it ended early; empty where it didn't."""

    spool: Path
    address: str
    streams: tuple[StreamReport, ...]
    problem: str = ""
    is_plain: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the collector has acked everything."""
        return not self.problem and all(report.state == "acked" for report in self.streams)

    def remarks(self, new: int) -> list[str]:
        """Say for people what became of it; ``new``: how many events were acked now."""
        count = len(self.streams)
        done = sum(stream.state == "acked" for stream in self.streams)
        if not count:
            return [f"there is nothing in the spool under {self.spool}"]
        said = [f"{done} of {count} streams are acked by {self.address}, {new} events of them now"]
        if self.is_plain and any(stream.unconfirmed for stream in self.streams):
            said.append(
                f"{self.address} speaks plain version 1, which confirms nothing: what was sent stays in the spool as "
                f"sent and unconfirmed, and is only sent again with --again"
            )
        said += [
            f"run {stream.stream.run_id}: refused for good: {code}, {number} events"
            for stream in self.streams
            for code, number in sorted(stream.refused.items())
        ]
        live = sum(stream.state == "live" for stream in self.streams)
        if live:
            said.append(f"{live} streams were left to their own senders, which are alive")
        busy = sum(stream.state == "busy" for stream in self.streams)
        if busy:
            said.append(f"{busy} streams are being shipped by another process")
        if self.problem:
            said.append(f"gave up: {self.problem}. `xtrack sync` goes on from here")
        return said


class Syncer(Shipper):
    """Ships the streams of ``spool``, in the thread that calls ``sync``, a number of them at a time.

    ``again``: offer once more what is acked, or was sent to a plain peer. ``patience``: seconds without progress after
    which it is given up. ``on_progress``: called a few times a second.
    """

    def __init__(
        self,
        spool: SpoolDir,
        endpoint: Endpoint,
        *,
        again: bool = False,
        patience: float = PATIENCE_SECONDS,
        on_progress: Callable[[Syncer], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(endpoint, **options)
        self.total = 0
        self.acked_before = 0
        self._spool = spool
        self._again = again
        self._patience = patience
        self._on_progress = on_progress
        self._progress_due = 0.0
        self._moved_at = 0.0
        self._moved_to = -1
        self._waiting: deque[SpooledStream] = deque()
        self._live: set[StreamId] = set()
        self._targets: dict[StreamId, int] = {}
        self._tails: dict[StreamId, float] = {}
        self._cursors: dict[StreamId, int] = {}
        self._reports: dict[StreamId, StreamReport] = {}
        self._problem = ""

    def sync(self) -> SyncReport:
        """Ship everything; return what became of it.

        Raises CollectorRefused, ConfigurationError or TransportError where no connection came about at all. May be
        interrupted anywhere: what was acked stays acked, and ``report`` tells of it.
        """
        self._moved_at = self._clock()
        self._waiting.extend(find_streams(self._spool))
        self.total = len(self._waiting)
        try:
            self._fill()
            self.run()
        finally:
            for lane in self.lanes.values():
                lane.close()
            self._wake.close()
        return self.report()

    @property
    def done(self) -> int:
        """Streams that nothing more is done with."""
        return len(self._reports)

    @property
    def events_acked(self) -> int:
        """Events that were acked so far, by this sync."""
        under_way = (max(0, lane.note.acked - self._cursors[stream]) for stream, lane in self.lanes.items())
        return sum(report.new for report in self._reports.values()) + sum(under_way)

    def report(self) -> SyncReport:
        """Return what has become of the streams so far."""
        found = dict(self._reports)
        for stream, lane in self.lanes.items():
            found[stream] = self._report_of(lane, "waiting", self._problem)
        for item in self._waiting:
            found[item.stream] = StreamReport(stream=item.stream, state="waiting", problem=self._problem)
        streams = tuple(found[stream] for stream in sorted(found))
        return SyncReport(
            spool=self._spool.root,
            address=self.endpoint.url,
            streams=streams,
            problem=self._problem,
            is_plain=self.is_plain,
        )

    # ------------------------------------------------------------------------------------------ lanes

    def _fill(self) -> None:
        """Have as many streams on their way as may be."""
        while self._waiting and len(self.lanes) < AT_ONCE:
            self._begin(self._waiting.popleft())

    def _begin(self, found: SpooledStream) -> None:
        stream, note = found.stream, found.note
        lane = Lane.of(found.run_dir, stream, note, self.endpoint.url, buffer=False)
        before = lane.note.acked
        if not lane.take():
            lane.feed.seek(before + 1)
            lane.feed.next()
            self._reports[stream] = self._report_of(lane, "live" if found.is_live else "busy")
            lane.close()
            return
        if self._again:
            lane.resend, lane.note.unconfirmed = True, 0
        lane.passive = True
        self._cursors[stream] = before
        if not self._again and before and self._is_all_there(lane, found):
            self._reports[stream] = self._report_of(lane, self._state_of(lane))
            lane.close()
            return
        if found.is_live:
            self._live.add(stream)
        self.add(lane)

    @staticmethod
    def _is_all_there(lane: Lane, found: SpooledStream) -> bool:
        """Whether the note tells that the collector has all there is."""
        feed = lane.feed
        feed.seek(lane.note.acked + 1)
        if feed.next() is not None:
            return False
        return not feed.problem and (feed.is_finished or found.is_live)

    def pumped(self, session: EmitterSession) -> None:
        """Take away the lanes with which nothing more is to be done, and begin others."""
        now = self._clock()
        for stream, lane in list(self.lanes.items()):
            if lane.feed.problem:
                self._end(lane, "damaged", lane.feed.problem)
            elif stream not in self._targets and lane.is_exhausted(session) and self._has_its_tail(lane, now):
                self._targets[stream] = session.position(stream)
        self.progressed()

    def _has_its_tail(self, lane: Lane, now: float) -> bool:
        """Whether all there is was sent: of a living stream what there was, of another one its very end."""
        if lane.stream in self._live or lane.feed.is_finished:
            return True
        return now - self._tails.setdefault(lane.stream, now) >= _TAIL_SECONDS

    def progressed(self) -> None:
        for stream, lane in list(self.lanes.items()):
            target = self._targets.get(stream)
            if lane.is_out:
                self._end(lane, "fenced" if lane.fenced else "forbidden")
            elif target is not None and max(lane.note.acked, lane.note.unconfirmed if self.is_plain else 0) >= target:
                self._end(lane, self._state_of(lane))
        moved = self.done + sum(lane.note.acked + lane.note.unconfirmed for lane in self.lanes.values())
        if moved != self._moved_to:
            self._moved_to, self._moved_at = moved, self._clock()
        self._fill()

    def _end(self, lane: Lane, state: State, problem: str = "") -> None:
        report = self._report_of(lane, state, problem)
        self.lanes.pop(lane.stream, None)
        self._reports[lane.stream] = report
        try:
            lane.save()
        except OSError as error:
            self.complain("note", f"{lane.run_dir}: how far it was shipped can't be kept: {error}")
        lane.close()

    def _state_of(self, lane: Lane) -> State:
        if set(lane.refused_counts) - {"run_deleted"}:
            return "refused"
        return "unconfirmed" if lane.unconfirmed else "acked"

    def _report_of(self, lane: Lane, state: State, problem: str = "") -> StreamReport:
        before = self._cursors.get(lane.stream, lane.note.acked)
        return StreamReport(
            stream=lane.stream,
            state=state,
            events=max(lane.end_seq, lane.note.acked),
            acked=lane.committed,
            new=max(0, lane.note.acked - before),
            unconfirmed=lane.unconfirmed,
            refused=dict(lane.refused_counts),
            problem=problem or lane.held,
        )

    # ------------------------------------------------------------------------------------------ what a shipper asks

    def is_leaving(self) -> bool:
        if not self.lanes and not self._waiting:
            return True
        if self._clock() - self._moved_at > self._patience:
            held = next((lane.held for lane in self.lanes.values() if lane.held), "")
            self._problem = held or self.problem or f"nothing has been acked for {self._patience:g} s"
            return True
        return False

    def is_waited_for(self) -> bool:
        return True

    def failed(self, problem: Problem) -> None:
        """Give up where somebody has to mend something first, or where there never was a connection."""
        if problem.code == "fenced":
            return  # a stream, which is told by itself
        never = not self.connections and not problem.brief
        if problem.slow or never or (problem.retry_after or 0) > self._patience:
            url, after = self.endpoint.url, problem.retry_after
            if problem.code:
                raise CollectorRefused(url, problem.code, problem.reason, problem.cure, retry_after=after)
            raise TransportError(url, problem.reason, problem.cure)

    def tick(self) -> float:
        now = self._clock()
        if self._on_progress and now >= self._progress_due:
            self._progress_due = now + _PROGRESS_SECONDS
            self._on_progress(self)
        return min(super().tick(), _PROGRESS_SECONDS)
