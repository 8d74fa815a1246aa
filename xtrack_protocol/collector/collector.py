"""The collector: takes events from any number of sources, stores each once, and tells those who wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from xtrack_protocol.collector.hub import POLL_SECONDS, AsyncSubscription, Hub, Subscription
from xtrack_protocol.collector.tally import Sheaves, Tally
from xtrack_protocol.errors import ConfigurationError, RunNotFound
from xtrack_protocol.ir import Envelope, RunEnd, RunStart, Skip, run_id_text
from xtrack_protocol.runs import RunState, StreamLost
from xtrack_protocol.session import RangeSet, StreamId, StreamResolver
from xtrack_protocol.session.rows import rows_of
from xtrack_protocol.storage import Incoming, Storage, StreamEvents, StreamResult
from xtrack_protocol.wire import Frame, encode, is_control

if TYPE_CHECKING:
    from xtrack_protocol.collector.replay import ReplayReport, Speed

GapPolicy: TypeAlias = Literal["record", "reject"]
"""What to do with an event that comes above a gap of its stream: take it, or refuse it. spec: STR-6, STR-6.4"""

Outcome: TypeAlias = Literal["stored", "duplicate", "conflict", "gap", "run_deleted", "damaged", "control", "no_run"]
"""What became of an event. spec: STR-4, STR-5, STR-6.4, FLD-9, ERR-4

``control``: it belongs to the session and to no run (a declared loss is taken all the same). ``no_run``: it names no
run, so that nobody knows where to put it.
"""

_MILESTONES: Final = frozenset({RunStart, RunEnd})

_CURSORS_MAX: Final = 4096
"""Streams of which is kept in memory what the store has of them."""

DEFAULT_SOURCE: Final = "here"
"""The source of events that are pushed without saying where they come from."""


@attrs.define
class Pushed:
    """What became of one event: its stream, its position in the store where it was stored, and why it wasn't."""

    outcome: Outcome
    stream: StreamId | None = None
    position: int | None = None
    reason: str = ""
    ambiguous: bool = False
    """Whether its source held another event of the same derived identity before. spec: STR-8"""


@attrs.frozen
class StreamBatch:
    """Frames of one stream on their way into a store.

    ``source``: where they came from, for streams without session ids (spec: STR-2.3); None: that doesn't matter.
    ``milestones``: those of the events that begin or end the run; looked for where whoever makes it doesn't know.
    """

    stream: StreamId
    frames: Sequence[Frame]
    received_at_us: int
    source: Hashable | None = None
    milestones: Sequence[Envelope] = attrs.field(
        default=attrs.Factory(lambda self: _milestones(self.frames), takes_self=True)
    )


@attrs.define
class BatchOutcome:
    """What became of a StreamBatch. ``refused``: seqs with codes. ``ended``: a run_end was in it. spec: CTL-3.9"""

    stored: int = 0
    duplicates: int = 0
    refused: list[tuple[int, str]] = attrs.field(factory=list)
    ended: bool = False


@attrs.define
class _Seen:
    """What one source has told of one stream."""

    seqs: RangeSet = attrs.field(factory=RangeSet)
    last_ts: int = 0
    started: bool = False
    sub: bool = False
    ended: bool = False


@attrs.define
class _Source:
    """What is known of one source: a connection, a pipe or a file."""

    resolver: StreamResolver = attrs.field(factory=StreamResolver)
    streams: dict[StreamId, _Seen] = attrs.field(factory=dict)
    bound_to: str | None = None
    alias: str | None = None
    starts: dict[tuple[str, str], list[StreamId]] = attrs.field(factory=dict)
    """The derived streams of each run and worker, in the order of their run_starts."""

    def target(self, own: str | None) -> str | None:
        """Return the run that an event naming run ``own`` goes to; None for its own."""
        if self.bound_to is None or own is None:
            return None
        if self.alias is None:
            self.alias = own
        return self.bound_to if own == self.alias else None


@attrs.define
class _Item:
    """An event on its way to the store, and its place in what was pushed."""

    envelope: Envelope
    raw: bytes
    stream: StreamId
    place: int
    ambiguous: bool


class Collector:
    """Feeds a store. Thread-safe; holds no state of runs itself, so that a new one goes on where another was killed.

    ``gap_policy``: "record" (the default) takes events above a gap, which the run's state shows and a late event
    fills; "reject" is what the published original does. ``clock``: microseconds since the Unix epoch, for the time of
    receipt.

    A source is a connection, a pipe or a file: events of workers that send no session id are told apart by it
    (spec: STR-2.3). Call :meth:`close_source` when one has ended.
    """

    def __init__(
        self,
        store: Storage,
        *,
        gap_policy: GapPolicy = "record",
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        if gap_policy not in {"record", "reject"}:
            raise ConfigurationError("gap_policy", gap_policy, "no such policy", "Known: record, reject")
        self.store = store
        self.hub = Hub()
        self._gap_policy: GapPolicy = gap_policy
        self._clock = clock
        self._lock = threading.RLock()
        self._sources: dict[Hashable, _Source] = {}
        self._cursors: dict[StreamId, RangeSet] = {}

    # ------------------------------------------------------------------------------------------ feeding

    def push_event(
        self,
        envelope: Envelope,
        *,
        raw: bytes | None = None,
        source: Hashable = DEFAULT_SOURCE,
        run_id: str | None = None,
        received_at_us: int | None = None,
    ) -> Pushed:
        """Take one event. When this returns "stored" it is kept as ``store.durability`` says.

        ``raw``: its original payload, without a length; encoded here where it isn't given. ``run_id``: the run it
        goes to, in place of its own. Raises StorageError where the store refuses; the event isn't taken then.
        """
        frame = Frame(envelope, None, 0, 0, encode(envelope) if raw is None else raw)
        return self.push_frames([frame], source=source, run_id=run_id, received_at_us=received_at_us)[0]

    def push_frame(self, frame: Frame, *, source: Hashable = DEFAULT_SOURCE, run_id: str | None = None) -> Pushed:
        """Take the event of a decoded frame; a damaged one is answered with the outcome "damaged". spec: ERR-4"""
        return self.push_frames([frame], source=source, run_id=run_id)[0]

    def push_frames(
        self,
        frames: Sequence[Frame],
        *,
        source: Hashable = DEFAULT_SOURCE,
        run_id: str | None = None,
        received_at_us: int | None = None,
    ) -> list[Pushed]:
        """Take a batch of frames of one source in one step, all or nothing, and return what became of each."""
        received = self._clock() if received_at_us is None else received_at_us
        with self._lock:
            self._forget_cursors()
            pushed, items = self._sort(frames, self._sources.setdefault(source, _Source()), run_id)
            stored = self._append(items, received, pushed)
        self.hub.notify(stored)
        return pushed

    def push_rows(
        self, frames: Sequence[Frame], *, source: Hashable = DEFAULT_SOURCE, run_id: str | None = None
    ) -> Tally:
        """Do what :meth:`push_frames` does, for whoever wants the numbers only: faster where events come in rows."""
        tally = Tally()
        rows = rows_of(frames)
        if self._gap_policy == "record" and not any(_is_derived(row[0].envelope) for row in rows):
            with self._lock:
                sheaves = Sheaves(self._clock())
                self._gather(rows, self._sources.setdefault(source, _Source()), run_id, sheaves, tally)
                positions = self._append_streams(sheaves.events(), tally)
            self.hub.notify(positions)
            return tally
        for pushed in self.push_frames(frames, source=source, run_id=run_id):
            tally.note(pushed.outcome, pushed.reason, pushed.stream, ambiguous=pushed.ambiguous)
        return tally

    def push_records(self, stream: StreamId, frames: Sequence[Frame]) -> Tally:
        """Take frames whose stream is known from elsewhere, such as the header of a segment. spec: RST-6.1"""
        tally = Tally()
        with self._lock:
            for frame in frames:
                if frame.envelope is None:
                    tally.note("damaged", str(frame.error))
            taken = [frame for frame in frames if frame.envelope is not None]
            if self._gap_policy == "reject":
                positions = self._append_above_no_gap(stream, taken, tally)
            else:
                positions = self._append_streams([StreamEvents(stream, taken, self._clock())] if taken else [], tally)
        self.hub.notify(positions)
        return tally

    def push_batches(self, batches: Sequence[StreamBatch]) -> list[BatchOutcome]:
        """Take frames of many streams in one transaction of the store, all or nothing; say what became of each batch.

        For who receives from many peers at once. Damaged frames and those of no stream are no part of a batch.
        """
        with self._lock:
            outcomes = [BatchOutcome() for _ in batches]
            self._forget_cursors()
            taken = [self._take_batch(batch, outcome) for batch, outcome in zip(batches, outcomes, strict=True)]
            try:
                results = self.store.append_streams(taken)
            except BaseException:
                self._cursors.clear()  # they count what was not stored after all
                raise
            for events, outcome, result in zip(taken, outcomes, results, strict=True):
                _settle(events, outcome, result)
        self.hub.notify(
            (events.stream.run_id, result.last_position)
            for events, result in zip(taken, results, strict=True)
            if result.stored
        )
        return outcomes

    def bind_source(self, source: Hashable, run_id: str) -> None:
        """Say that ``source`` was started for ``run_id``: the first run that it names is taken for that one.

        Workers of the published protocol make up a run id of their own, whatever they were told.
        """
        with self._lock:
            self._sources.setdefault(source, _Source()).bound_to = run_id

    def resume_source(self, source: Hashable, run_id: str) -> None:
        """Go on with the derived sessions of ``run_id`` that the store has open, as if this source had begun them.

        For a source that outlives its collector: by itself, a source is new to a new collector (spec: STR-2.3).
        """
        try:
            streams = self.store.get_run(run_id).streams
        except RunNotFound:
            return
        with self._lock:
            resolver = self._sources.setdefault(source, _Source()).resolver
            for summary in streams:
                if summary.stream.is_derived and summary.started_at_us is not None and summary.end_status is None:
                    start = Envelope.of(
                        RunStart(run_id),
                        seq=1,
                        timestamp_us=summary.started_at_us,
                        worker_id=summary.stream.worker_id or None,
                    )
                    resolver.resolve(start)

    def close_source(self, source: Hashable) -> list[StreamId]:
        """Forget a source that has ended; return its streams that have a vote and didn't end their run.

        A worker without session ids that began anew in the same source has left its earlier session, which is told to
        the store, so that the later one can take over its vote. What became of the others is for whoever watched the
        worker to say. Raises StorageError; the source is to be closed again then. spec: FLD-4.2, FLD-5.4
        """
        with self._lock:
            known = self._sources.get(source)
        if known is None:
            return []
        for streams in known.starts.values():
            for stream in streams[:-1]:
                seen = known.streams[stream]
                if not seen.ended:
                    detail = "the same worker began another session in the same source"
                    self.store.mark_lost(StreamLost(stream, seen.last_ts, "vanished", seen.seqs.last or 0, detail))
        with self._lock:
            self._sources.pop(source, None)
        return [
            stream
            for stream, seen in known.streams.items()
            if not (seen.ended or seen.sub) and (seen.started or stream.is_derived)  # spec: FLD-4
        ]

    # ------------------------------------------------------------------------------------------ asking

    def start_collector(self, run_id: str, *, name: str | None = None, experiment_id: str | None = None) -> RunState:
        """Expect a run: it is known, and pending, before its first event. spec: FLD-5.8"""
        return self.store.expect_run(run_id, name=name, experiment_id=experiment_id)

    def get_run(self, run_id: str) -> RunState:
        """Return a run's state. Raises RunNotFound."""
        return self.store.get_run(run_id)

    def subscribe(
        self,
        run_id: str,
        *,
        after: int | None = 0,
        timeout: float | None = None,
        until_end: bool = False,
        poll: float = POLL_SECONDS,
    ) -> Subscription:
        """Return an iterator over the run's events from position ``after`` on (None: from now), each of them once.

        Also for a run that isn't there yet. ``timeout``: seconds without an event after which the iteration ends.
        """
        return Subscription(self.store, self.hub, run_id, after=after, timeout=timeout, until_end=until_end, poll=poll)

    def subscribe_async(
        self,
        run_id: str,
        *,
        after: int = 0,
        timeout: float | None = None,
        until_end: bool = False,
        poll: float = POLL_SECONDS,
    ) -> AsyncSubscription:
        """As :meth:`subscribe`, for ``async for``."""
        return AsyncSubscription(
            self.store, self.hub, run_id, after=after, timeout=timeout, until_end=until_end, poll=poll
        )

    def replay_file(
        self,
        path: str | Path,
        *,
        run_id: str | None = None,
        speed: Speed = "instant",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> ReplayReport:
        """Feed the events of a captured file, plain frames or a segment; a second time changes nothing.

        ``run_id``: the run that they go to, in place of their own. ``speed``: "instant", "realtime" (as far apart as
        their time stamps) or a factor (2.0: twice as fast). ``clock`` and ``sleep``: seconds, for tests. Raises OSError
        where the file can't be read, NotASegment for a segment without an intact header, ConfigurationError for a
        ``run_id`` with a file of several runs or a speed that is none.
        """
        from xtrack_protocol.collector.replay import replay

        return replay(self, Path(path), run_id=run_id, speed=speed, clock=clock, sleep=sleep)

    # ------------------------------------------------------------------------------------------ inside

    @staticmethod
    def _sort(frames: Sequence[Frame], source: _Source, run_id: str | None) -> tuple[list[Pushed], list[_Item]]:
        """Find the stream of each event. What has none gets its outcome at once."""
        pushed: list[Pushed] = []
        items: list[_Item] = []
        for place, frame in enumerate(frames):
            envelope = frame.envelope
            if envelope is None:
                pushed.append(_without_stream(frame))
                continue
            target = run_id
            if target is None and source.bound_to is not None:
                target = source.target(envelope.run_id)
            if isinstance(envelope.payload, Skip):
                items.append(_Item(envelope, frame.raw, _lossy(envelope.payload, target), place, False))
                pushed.append(_UNDECIDED)
                continue
            resolved = source.resolver.resolve(envelope, target)
            if resolved is None:
                pushed.append(_without_stream(frame))
                continue
            items.append(_Item(envelope, frame.raw, resolved, place, _note(source, resolved, envelope)))
            pushed.append(_UNDECIDED)
        return pushed, items

    @staticmethod
    def _gather(
        rows: Iterable[Sequence[Frame]], source: _Source, run_id: str | None, sheaves: Sheaves, tally: Tally
    ) -> None:
        """Do what _sort does, by rows. All of the events have session ids."""
        for row in rows:
            envelope = row[0].envelope
            stream = None
            if envelope is not None:
                target = run_id
                if target is None and source.bound_to is not None:
                    target = source.target(envelope.run_id)
                if isinstance(envelope.payload, Skip):
                    stream = _lossy(envelope.payload, target)
                else:
                    stream = source.resolver.resolve(envelope, target)
            if stream is None:
                pushed = _without_stream(row[0])
                tally.note(pushed.outcome, pushed.reason)
                continue
            _note_row(source, stream, row)
            sheaves.add(stream, row)

    def _append_streams(self, batches: Sequence[StreamEvents], tally: Tally) -> list[tuple[str, int]]:
        """Store what may be stored and count the outcomes; return runs and positions of what was new."""
        results = self.store.append_streams(batches) if batches else []
        for events, result in zip(batches, results, strict=True):
            tally.count(events, result)
        return [
            (events.stream.run_id, result.last_position)
            for events, result in zip(batches, results, strict=True)
            if result.stored
        ]

    def _append_above_no_gap(self, stream: StreamId, frames: Sequence[Frame], tally: Tally) -> list[tuple[str, int]]:
        """The same, event by event, refusing what stands above a gap."""
        pushed = [_UNDECIDED] * len(frames)
        items = [
            _Item(frame.envelope, frame.raw, stream, place, False)
            for place, frame in enumerate(frames)
            if frame.envelope
        ]
        positions = self._append(items, self._clock(), pushed)
        for one in pushed:
            tally.note(one.outcome, one.reason, one.stream)
        return positions

    def _append(self, items: list[_Item], received_at_us: int, pushed: list[Pushed]) -> list[tuple[str, int]]:
        """Store what may be stored and fill in the outcomes; return runs and positions of what was new."""
        if self._gap_policy == "reject":
            items = self._without_gaps(items, pushed)
        if not items:
            return []
        try:
            result = self.store.append(
                [Incoming(item.stream, item.envelope, item.raw, received_at_us) for item in items]
            )
        except BaseException:
            self._cursors.clear()  # they count what was not stored after all
            raise
        positions = dict(zip(result.stored, result.positions, strict=True))
        conflicts = set(result.conflicts)
        stored: list[tuple[str, int]] = []
        deleted: dict[str, bool] = {}
        for place, item in enumerate(items):
            if isinstance(item.envelope.payload, Skip):
                outcome = Pushed("control", item.stream)
            elif place in positions:
                outcome = Pushed("stored", item.stream, positions[place])
                stored.append((item.stream.run_id, positions[place]))
            elif place in conflicts:
                reason = f"seq {item.envelope.meta.seq} of this stream is another event, which came first"
                outcome = Pushed("conflict", item.stream, reason=reason, ambiguous=item.ambiguous)
            elif result.dropped and (not result.duplicates or self._is_deleted(item.stream.run_id, deleted)):
                outcome = Pushed("run_deleted", item.stream, reason=f"run {item.stream.run_id!r} was deleted")
            else:
                outcome = Pushed("duplicate", item.stream)
            pushed[item.place] = outcome
        return stored

    def _take_batch(self, batch: StreamBatch, outcome: BatchOutcome) -> StreamEvents:
        """Return what of ``batch`` may be stored."""
        stream, frames, milestones = batch.stream, batch.frames, batch.milestones
        if self._gap_policy == "reject":
            items = [_Item(frame.envelope, frame.raw, stream, 0, False) for frame in frames if frame.envelope]
            kept = {id(item.envelope) for item in self._without_gaps(items, [_UNDECIDED])}
            outcome.refused += [(item.envelope.meta.seq, "gap") for item in items if id(item.envelope) not in kept]
            frames = [frame for frame in frames if id(frame.envelope) in kept]
            milestones = _milestones(frames)
        if batch.source is not None:
            source = self._sources.setdefault(batch.source, _Source())
            for row in rows_of(frames):
                _note_row(source, stream, row)
        outcome.ended = any(isinstance(envelope.payload, RunEnd) for envelope in milestones)
        return StreamEvents(stream, frames, batch.received_at_us)

    def _is_deleted(self, run_id: str, known: dict[str, bool]) -> bool:
        if run_id not in known:
            try:
                self.store.get_run(run_id)
            except RunNotFound:
                known[run_id] = True
            else:
                known[run_id] = False
        return known[run_id]

    def _forget_cursors(self) -> None:
        """Have no more of them than a bound; the store has them all, once what they count is in it."""
        if len(self._cursors) > _CURSORS_MAX:
            self._cursors.clear()

    def _without_gaps(self, items: Iterable[_Item], pushed: list[Pushed]) -> list[_Item]:
        """Refuse what stands above a gap of its stream. spec: STR-6.4"""
        taken = []
        for item in items:
            cursor = self._cursors.get(item.stream)
            if cursor is None:
                cursor = self._cursors[item.stream] = self.store.cursor(item.stream)
            payload, seq = item.envelope.payload, item.envelope.meta.seq
            if isinstance(payload, Skip):
                if payload.first <= payload.last:
                    cursor.add_range(payload.first, payload.last)
            elif seq > cursor.contiguous_to + 1:
                gap = f"{cursor.contiguous_to + 1} to {seq - 1}"
                pushed[item.place] = Pushed("gap", item.stream, reason=f"refused: seqs {gap} are missing before it")
                continue
            else:
                cursor.add(seq)
            taken.append(item)
        return taken


_UNDECIDED: Final = Pushed("control")
"""Holds the place of an outcome that the store is yet to decide."""


def _is_derived(envelope: Envelope | None) -> bool:
    """Whether the stream of an event has a derived id, of which it is told, event by event, what came before."""
    return envelope is not None and not envelope.meta.session_id and not is_control(envelope)


def _milestones(frames: Sequence[Frame]) -> list[Envelope]:
    """Return the events that begin or end a run."""
    return [frame.envelope for frame in frames if frame.envelope and type(frame.envelope.payload) in _MILESTONES]


def _settle(events: StreamEvents, outcome: BatchOutcome, result: StreamResult) -> None:
    """Say what became of a batch of which ``events`` went to the store."""
    outcome.stored, outcome.duplicates = result.stored, result.duplicates
    if result.conflicts:
        outcome.refused += [(seq, "seq_conflict") for seq in result.conflicts]
    if result.dropped:
        outcome.refused += [
            (frame.envelope.meta.seq, "run_deleted")
            for frame in events.frames
            if frame.envelope and not isinstance(frame.envelope.payload, Skip)
        ]


def _lossy(skip: Skip, run_id: str | None) -> StreamId:
    """Return the stream whose loss is declared, under ``run_id`` where that stands in for its own."""
    return StreamId(run_id or run_id_text(skip.run_id), skip.worker_id or "", skip.session_id)


def _without_stream(frame: Frame) -> Pushed:
    """Return the outcome of a frame that belongs to no stream."""
    if frame.error is not None:
        return Pushed("damaged", reason=str(frame.error))
    if frame.envelope is not None and frame.envelope.run_id is None and not is_control(frame.envelope):
        return Pushed("no_run", reason=f"an event of type {frame.envelope.event_type!r} that names no run")
    return Pushed("control")


def _note_row(source: _Source, stream: StreamId, row: Sequence[Frame]) -> None:
    """Remember what a source has told of one stream in a row of events."""
    envelope = row[0].envelope
    if envelope is None or isinstance(envelope.payload, Skip):
        return
    _note(source, stream, envelope)
    if len(row) > 1:
        metas = [frame.envelope.meta for frame in row if frame.envelope]
        seen = source.streams[stream]
        seen.seqs.add_range(metas[0].seq, metas[-1].seq)
        latest = max(meta.timestamp_us for meta in metas)
        seen.last_ts = max(seen.last_ts, latest)


def _note(source: _Source, stream: StreamId, envelope: Envelope) -> bool:
    """Remember what a source has told; return whether it has told of this identity before."""
    seen = source.streams.get(stream)
    if seen is None:
        seen = source.streams[stream] = _Seen()
    again = not seen.seqs.add(envelope.meta.seq)
    seen.last_ts = max(seen.last_ts, envelope.meta.timestamp_us)
    if isinstance(envelope.payload, RunEnd):
        seen.ended = True
    elif isinstance(envelope.payload, RunStart):
        seen.started, seen.sub = True, envelope.payload.sub
        if stream.is_derived:
            starts = source.starts.setdefault((stream.run_id, stream.worker_id), [])
            if stream in starts:
                starts.remove(stream)
            starts.append(stream)
    return again and stream.is_derived
