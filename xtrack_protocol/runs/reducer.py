"""The fold: events in, in any order; a run's state out. spec: FLD-1

The reducer collects facts (``runs.facts``) and decides at reading time: which session supersedes which, who votes,
whose value is the last. So the order of arrival can't show, with one exception, which it announces: a resume that
rewinds over points that are counted already asks for a refold (``needs_refold``), because bounded facts can't be
uncounted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar

import attrs
import msgspec

from xtrack_protocol.ir import (
    CONTROL_TYPES,
    ENVELOPES,
    Alert,
    Artifact,
    Checkpoint,
    Envelope,
    ErrorInfo,
    Json,
    LogEntry,
    Metric,
    MetricBatch,
    Param,
    Payload,
    RunEnd,
    RunId,
    RunStart,
    Skip,
    StatusUpdate,
    Summary,
    Tags,
    UnknownEvent,
)
from xtrack_protocol.limits import LOG_TAIL, SERIES_TAIL
from xtrack_protocol.runs.facts import (
    Active,
    Ended,
    Lost,
    Point,
    RunFacts,
    SeriesFacts,
    Started,
    StreamFacts,
    Told,
    ToldAlert,
    ToldArtifact,
    ToldCheckpoint,
    ToldLog,
    Written,
    keep_last,
)
from xtrack_protocol.runs.values import (
    Activity,
    LogRecord,
    LostReason,
    MetricSummary,
    RunState,
    RunStatus,
    SeriesPoint,
    StoredAlert,
    StoredArtifact,
    StoredCheckpoint,
    StreamLost,
    StreamSummary,
)
from xtrack_protocol.session import RangeSet, StreamId

NAME_TAG = "xtrack.name"
"""The tag that renames a run. spec: EVT-TAGS-2"""
NOTE_TAG = "xtrack.note"
"""The tag that is a run's note. spec: EVT-TAGS-2"""

_T = TypeVar("_T")

Input: TypeAlias = tuple[StreamId, Envelope] | StreamLost

_PASSED_OVER = frozenset(ENVELOPES[event_type].__annotations__["payload"] for event_type in CONTROL_TYPES) - {Skip}

_SEVERITY: dict[RunStatus, int] = {"pending": 0, "completed": 1, "running": 2, "lost": 3, "killed": 4, "failed": 5}
"""Of several votes the most severe one is the run's. spec: FLD-5"""

_encode_facts = msgspec.msgpack.Encoder().encode
_decode_facts = msgspec.msgpack.Decoder(RunFacts).decode


def fold(run_id: str, inputs: Iterable[Input]) -> RunState:
    """Return the state that ``inputs`` add up to, whatever their order. Repeated events count once. spec: FLD-1"""
    kept = list(inputs)
    reducer = RunReducer(run_id)
    reducer.apply_all(kept)
    if reducer.needs_refold:
        reducer = reducer.restarted()
        reducer.apply_all(kept)
    return reducer.state()


class RunReducer:
    """The fold of one run, an event at a time."""

    def __init__(self, run_id: str, facts: RunFacts | None = None) -> None:
        self._facts = facts or RunFacts(run_id)
        self._streams = {_stream_id(run_id, stream): stream for stream in self._facts.streams}
        self._seqs = {stream_id: RangeSet(stream.seqs) for stream_id, stream in self._streams.items()}
        self.needs_refold = False
        """Whether a rewind came after points it hides: fold all events again, from ``restarted()``. spec: FLD-8"""

    # -------------------------------------------------------------------------------------- snapshots

    @classmethod
    def load(cls, snapshot: bytes) -> RunReducer:
        """Return the reducer that ``snapshot()`` was called on. Raises ValueError for other bytes."""
        facts = _decode_facts(snapshot)
        return cls(facts.run_id, facts)

    def snapshot(self) -> bytes | None:
        """Return everything as bytes; None where a free slot holds an integer that MessagePack has no room for."""
        for stream_id, stream in self._streams.items():
            stream.seqs = list(self._seqs[stream_id])
        try:
            return _encode_facts(self._facts)
        except OverflowError:
            return None

    def restarted(self) -> RunReducer:
        """Return a reducer without events that knows what this one knows beforehand: rewinds and expectations."""
        facts = self._facts
        return RunReducer(
            facts.run_id,
            RunFacts(facts.run_id, facts.expected_name, facts.expected_experiment, rewinds=dict(facts.rewinds)),
        )

    @property
    def series_count(self) -> int:
        """How many series there are, each worker's counted apart: what the size of a snapshot grows with."""
        return sum(len(stream.series) for stream in self._streams.values())

    # -------------------------------------------------------------------------------------- input

    def expect(self, *, name: str | None, experiment_id: str | None) -> None:
        """Know the run before its first event."""
        self._facts.expected_name = self._facts.expected_name or name
        self._facts.expected_experiment = self._facts.expected_experiment or experiment_id

    def apply_all(self, inputs: Iterable[Input]) -> None:
        """Apply several inputs."""
        for item in inputs:
            if isinstance(item, StreamLost):
                self.apply_lost(item)
            else:
                self.apply(*item)

    def apply_lost(self, lost: StreamLost) -> None:
        """Take the knowledge that a worker is gone. Of several, one that died stays, the earliest first; else the one

        that vanished after the most events, for later ones prove that it came back from those before. spec: FLD-6
        """
        stream = self._stream(lost.stream)
        new = Lost(lost.at_us, lost.reason, lost.after_seq, lost.detail)
        if stream.lost is None or _lost_rank(new) < _lost_rank(stream.lost):
            stream.lost = new

    def apply(self, stream_id: StreamId, envelope: Envelope) -> bool:
        """Take one event; return whether it was new. Control events but ``skip`` are passed over. spec: STR-4"""
        payload = envelope.payload
        seq, timestamp_us = envelope.meta.seq, envelope.meta.timestamp_us
        if type(payload) in _PASSED_OVER or (seq < 1 and isinstance(payload, UnknownEvent)):
            return False  # spec: CTL-1, ENV-5
        stream = self._stream(stream_id)
        if isinstance(payload, Skip):
            return self._skip(stream, payload)
        if not self._seqs[stream_id].add(seq):
            return False
        self._facts.events += 1
        if stream.first_ts is None or timestamp_us < stream.first_ts:
            stream.first_ts = timestamp_us
        if stream.last_ts is None or timestamp_us > stream.last_ts:
            stream.last_ts = timestamp_us
        self._take(stream, payload, seq, timestamp_us)
        run_id = getattr(payload, "run_id", None)
        if isinstance(run_id, RunId):
            stream.experiment = _later(stream.experiment, seq, timestamp_us, run_id.experiment_id)
            stream.parent = _later(stream.parent, seq, timestamp_us, run_id.parent_run_id)
        return True

    def _take(self, stream: StreamFacts, payload: Payload, seq: int, timestamp_us: int) -> None:  # noqa: C901, PLR0912
        match payload:
            case Metric():
                point = (payload.value, payload.step, payload.epoch, timestamp_us, seq, payload.context)
                self._add_point(stream, payload.key, point)
            case MetricBatch():
                for key, value in payload.metrics.items():
                    point = (value, payload.step, payload.epoch, timestamp_us, seq, payload.context)
                    self._add_point(stream, key, point)
            case Param():
                _set_later(stream.params, payload.path, seq, timestamp_us, payload.value)
            case LogEntry():
                log = ToldLog(timestamp_us, stream.worker_id, stream.session_id, seq, payload)
                keep_last(self._facts.logs, log, LOG_TAIL, key=Told.place)
            case StatusUpdate():
                if stream.active is None or seq > stream.active.seq:
                    stream.active = Active(seq, timestamp_us, payload)
            case Checkpoint():
                checkpoint = ToldCheckpoint(timestamp_us, stream.worker_id, stream.session_id, seq, payload)
                keep_last(self._facts.checkpoints, checkpoint, LOG_TAIL, key=Told.place)
            case Artifact():
                artifact = ToldArtifact(timestamp_us, stream.worker_id, stream.session_id, seq, payload)
                keep_last(self._facts.artifacts, artifact, LOG_TAIL, key=Told.place)
            case Tags():
                self._set_tags(stream, payload.tags, seq, timestamp_us)
            case Summary():
                for key, value in payload.values.items():
                    _set_later(stream.summary, key, seq, timestamp_us, value)
            case Alert():
                alert = ToldAlert(timestamp_us, stream.worker_id, stream.session_id, seq, payload)
                keep_last(self._facts.alerts, alert, LOG_TAIL, key=Told.place)
            case RunStart():
                self._run_start(stream, payload, seq, timestamp_us)
            case RunEnd():
                if stream.end is None or seq < stream.end.seq:
                    stream.end = Ended(seq, timestamp_us, payload)
            case _:
                pass  # unknown events are stored, and change no state. spec: ENV-5

    def _stream(self, stream_id: StreamId) -> StreamFacts:
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = StreamFacts(stream_id.worker_id, stream_id.session_id)
            self._streams[stream_id] = stream
            self._seqs[stream_id] = RangeSet()
            self._facts.streams.append(stream)
        return stream

    def _skip(self, stream: StreamFacts, skip: Skip) -> bool:
        """Close a range of seqs that are lost for good. spec: STR-7"""
        if not 1 <= skip.first <= skip.last:
            return False  # spec: CTL-9
        known = RangeSet(stream.skipped)
        known.add_range(skip.first, skip.last)
        before, stream.skipped = stream.skipped, list(known)
        return stream.skipped != before

    def _run_start(self, stream: StreamFacts, event: RunStart, seq: int, timestamp_us: int) -> None:
        if stream.start is None or seq < stream.start.seq:
            stream.start = Started(seq, timestamp_us, event)
        self._set_tags(stream, event.tags, seq, timestamp_us)
        if event.resume and event.resume.rewind_to is not None:
            for session_id in event.resume.session_ids:
                if session_id != stream.session_id:
                    self._rewind(session_id, event.resume.rewind_to)

    def _rewind(self, session_id: str, step: int) -> None:
        """Hide what ``session_id`` said of steps after ``step``. spec: FLD-8"""
        known = self._facts.rewinds.get(session_id)
        if known is not None and known <= step:
            return
        self._facts.rewinds[session_id] = step
        self.needs_refold = self.needs_refold or any(
            series.max_step is not None and series.max_step > step
            for stream in self._streams.values()
            if stream.session_id == session_id
            for series in stream.series.values()
        )

    def _add_point(self, stream: StreamFacts, key: str, point: Point) -> None:
        rewinds = self._facts.rewinds
        if rewinds and is_hidden(rewinds, stream.session_id, point[1]):
            return
        series = stream.series.get(key)
        if series is None:
            series = stream.series[key] = SeriesFacts()
        series.add(point, SERIES_TAIL)

    def _set_tags(self, stream: StreamFacts, tags: Mapping[str, str], seq: int, timestamp_us: int) -> None:
        for key, value in tags.items():
            _set_later(stream.tags, key, seq, timestamp_us, value)

    # -------------------------------------------------------------------------------------- output

    @property
    def rewinds(self) -> Mapping[str, int]:
        """The last step that still holds, by session id. spec: FLD-8"""
        return self._facts.rewinds

    def stream_order(self) -> dict[StreamId, int]:
        """Return the place of each stream in session order: after those it resumes, then by start, worker, id."""
        return {stream_id: place for place, stream_id in enumerate(_session_order(self._streams))}

    def seqs(self, stream_id: StreamId) -> RangeSet:
        """Return which seqs of a stream have come or were skipped."""
        known = RangeSet(self._seqs.get(stream_id, ()))
        if stream_id in self._streams:
            known.update(RangeSet(self._streams[stream_id].skipped))
        return known

    def status(self) -> RunStatus:
        """Return the run's status alone. spec: FLD-5"""
        return _run_status(self._stream_summaries(), self._world_size())

    def _world_size(self) -> int | None:
        sizes = (stream.start.event.world_size for stream in self._facts.streams if stream.start)
        return max((size for size in sizes if size is not None and size >= 1), default=None)

    def state(self, *, with_metrics: bool = True) -> RunState:
        """Return the state of what has come so far; without its metrics where only the rest is asked for, because
        that doesn't take longer with every series.
        """
        facts = self._facts
        order = _session_order(self._streams)
        streams = [self._streams[stream_id] for stream_id in order]
        summaries = self._stream_summaries()
        world_size = self._world_size()
        status = _run_status(summaries, world_size)
        voting = [summary for summary in summaries if summary.votes]
        starts = [stream.start for stream in streams if stream.start and not stream.start.event.sub]
        tags = {key: str(written.value) for key, written in _winners(streams, lambda stream: stream.tags).items()}
        started = min((start.timestamp_us for start in starts), default=None)
        ended = None
        if status not in {"running", "pending"}:
            ended = max((summary.ended_at_us for summary in voting if summary.ended_at_us is not None), default=None)
        return RunState(
            run_id=facts.run_id,
            status=status,
            name=tags.pop(NAME_TAG, None) or _last_given(starts, lambda start: start.event.name) or facts.expected_name,
            note=tags.pop(NOTE_TAG, None),
            experiment_id=_last_text(streams, lambda stream: stream.experiment) or facts.expected_experiment,
            parent_run_id=_last_text(streams, lambda stream: stream.parent),
            started_at_us=started,
            ended_at_us=ended,
            updated_at_us=max((stream.last_ts for stream in streams if stream.last_ts is not None), default=None),
            duration_ms=_duration(voting, started, ended),
            activity=_activity(streams),
            params={key: written.value for key, written in _winners(streams, lambda stream: stream.params).items()},
            metrics=_metrics(streams) if with_metrics else {},
            summary={key: written.value for key, written in _winners(streams, lambda stream: stream.summary).items()},
            final_metrics=_final_metrics(streams),
            artifacts=tuple(
                StoredArtifact(told.event, told.timestamp_us, told.worker_id, told.session_id, told.seq)
                for told in facts.artifacts
            ),
            checkpoints=tuple(
                StoredCheckpoint(
                    told.event,
                    told.timestamp_us,
                    told.worker_id,
                    told.session_id,
                    told.seq,
                    is_hidden(facts.rewinds, told.session_id, told.event.step),
                )
                for told in facts.checkpoints
            ),
            logs=tuple(
                LogRecord(told.event, told.timestamp_us, told.worker_id, told.session_id, told.seq)
                for told in facts.logs
            ),
            alerts=tuple(
                StoredAlert(told.event, told.timestamp_us, told.worker_id, told.session_id, told.seq)
                for told in facts.alerts
            ),
            tags=tags,
            source=_last_given(starts, lambda start: start.event.source),
            environment=_last_given(starts, lambda start: start.event.environment),
            error=_error(voting, status),
            world_size=world_size,
            streams=summaries,
            events=facts.events,
        )

    def _stream_summaries(self) -> tuple[StreamSummary, ...]:
        order = _session_order(self._streams)
        superseded = _superseded(self._streams, order)
        summaries = [
            _summarize(stream_id, self._streams[stream_id], self._seqs[stream_id], stream_id in superseded)
            for stream_id in order
        ]
        # An observer's silence counts only where nobody else speaks. spec: FLD-4
        if any(summary.votes and not summary.observer for summary in summaries):
            summaries = [
                attrs.evolve(summary, votes=False) if summary.observer and summary.end_status is None else summary
                for summary in summaries
            ]
        return tuple(summaries)


def is_hidden(rewinds: Mapping[str, int], session_id: str, step: int | None) -> bool:
    """Whether a later session rewound over ``step`` of ``session_id``. spec: FLD-8"""
    rewind_to = rewinds.get(session_id)
    return rewind_to is not None and step is not None and step > rewind_to


# ------------------------------------------------------------------------------------------ order and votes


def _session_order(streams: Mapping[StreamId, StreamFacts]) -> list[StreamId]:
    """Return the streams in session order: by start, but none before those that it resumes. spec: FLD-2"""
    by_session: dict[str, list[StreamId]] = {}
    for stream_id in streams:
        by_session.setdefault(stream_id.session_id, []).append(stream_id)
    start: dict[StreamId, int] = {}
    for stream_id, stream in streams.items():
        start[stream_id] = stream.start.timestamp_us if stream.start else stream.first_ts or 0
    resumed = {
        stream_id: [other for session_id in _resumed(stream) for other in by_session.get(session_id, ())]
        for stream_id, stream in streams.items()
    }
    own = {stream_id: 1 << place for place, stream_id in enumerate(streams)}
    reached = dict.fromkeys(streams, 0)  # as bits: chains of a thousand sessions are to be expected
    changed = any(resumed.values())
    while changed:  # twice, or a few times more where sessions name each other in a circle
        changed = False
        for stream_id in _resumed_first(resumed):
            for other in resumed[stream_id]:
                bits = reached[stream_id] | own[other] | reached[other]
                if bits != reached[stream_id] or start[other] > start[stream_id]:
                    reached[stream_id] = bits
                    start[stream_id] = max(start[stream_id], start[other])
                    changed = True

    def place(stream_id: StreamId) -> tuple[int, int, str, str]:
        others = reached[stream_id] & ~own[stream_id]
        return start[stream_id], others.bit_count(), stream_id.worker_id, stream_id.session_id

    return sorted(streams, key=place)


def _resumed_first(resumed: Mapping[StreamId, list[StreamId]]) -> list[StreamId]:
    """Return all streams, each after those that it resumes, apart from circles. Chains may be long: no recursion."""
    result: dict[StreamId, None] = {}
    entered: set[StreamId] = set()
    for root in resumed:
        stack = [root]
        while stack:
            stream_id = stack[-1]
            if stream_id in entered:
                result.setdefault(stack.pop())
            else:
                entered.add(stream_id)
                stack += [other for other in resumed[stream_id] if other not in entered]
    return list(result)


def _resumed(stream: StreamFacts) -> list[str]:
    return stream.start.event.resume.session_ids if stream.start and stream.start.event.resume else []


def _superseded(streams: Mapping[StreamId, StreamFacts], order: list[StreamId]) -> set[StreamId]:
    """Return the streams whose vote another session has taken over. spec: FLD-4"""
    named = {
        session_id
        for stream in streams.values()
        for session_id in _resumed(stream)
        if session_id != stream.session_id  # one that names itself doesn't lose its vote
    }
    result = {stream_id for stream_id in streams if stream_id.session_id in named}
    later_legacy: set[str] = set()
    for stream_id in reversed(order):
        if not stream_id.is_derived:
            continue
        stream = streams[stream_id]
        if stream_id.worker_id in later_legacy and (stream.end or stream.lost):
            result.add(stream_id)
        if stream.start:
            later_legacy.add(stream_id.worker_id)
    return result


def _summarize(stream_id: StreamId, stream: StreamFacts, seqs: RangeSet, superseded: bool) -> StreamSummary:
    start, end = stream.start, stream.end
    sub = bool(start and start.event.sub)
    observer = bool(start and start.event.observer)
    known = RangeSet(seqs)
    known.update(RangeSet(stream.skipped))
    last_seq = seqs.last or 0
    lost = stream.lost
    if lost and lost.reason == "vanished" and last_seq > lost.after_seq:
        lost = None  # it was heard of again
    status: RunStatus
    ended: int | None = None
    if end:
        status, ended = end.event.status, end.timestamp_us
    elif lost:
        status, ended = ("killed" if lost.reason == "died" else "lost"), lost.at_us
    else:
        status = "running"
    return StreamSummary(
        stream=stream_id,
        status=status,
        votes=not superseded and not sub and bool(start or end or (stream_id.is_derived and seqs)),
        superseded=superseded,
        sub=sub,
        observer=observer,
        started_at_us=start.timestamp_us if start else None,
        ended_at_us=ended,
        duration_ms=end.event.duration_ms if end else None,
        end_status=end.event.status if end else None,
        error=end.event.error if end else None,
        lost=None if lost is None else StreamLost(stream_id, lost.at_us, _reason(lost), lost.after_seq, lost.detail),
        last_seq=last_seq,
        events=seqs.count,
        gaps=tuple(known.gaps()),
        skipped=tuple(RangeSet(stream.skipped) - seqs),  # what came in spite of a skip is no loss. spec: STR-7
        late=sum(max(0, last - max(first, end.seq + 1) + 1) for first, last in seqs) if end else 0,
    )


def _reason(lost: Lost) -> LostReason:
    return "died" if lost.reason == "died" else "vanished"


def _lost_rank(lost: Lost) -> tuple[bool, int, int, int, str]:
    died = lost.reason == "died"
    return not died, 0 if died else -lost.after_seq, lost.at_us, lost.after_seq, lost.detail


def _run_status(summaries: Iterable[StreamSummary], world_size: int | None) -> RunStatus:
    """Return what the votes add up to. spec: FLD-5"""
    voting = [summary for summary in summaries if summary.votes]
    if not voting:
        return "pending"
    status = max((summary.status for summary in voting), key=_SEVERITY.__getitem__)
    started = len({summary.stream.worker_id for summary in voting if not summary.observer})
    if status == "completed" and world_size is not None and started < world_size:
        return "running"  # some workers haven't even started
    return status


# ------------------------------------------------------------------------------------------ winners


def _later(known: Written | None, seq: int, timestamp_us: int, value: Json) -> Written | None:
    if value is None or (known is not None and known.seq > seq):
        return known
    return Written(seq, timestamp_us, value)


def _set_later(known: dict[str, Written], key: str, seq: int, timestamp_us: int, value: Json) -> None:
    """Within a stream the larger seq wins. spec: FLD-2"""
    written = known.get(key)
    if written is None or seq > written.seq:
        known[key] = Written(seq, timestamp_us, value)


def _winners(streams: list[StreamFacts], of: Callable[[StreamFacts], Mapping[str, Written]]) -> dict[str, Written]:
    """Return of each name the value that wins, by name.

    Within a worker the last session that wrote it, between workers the latest time. spec: FLD-2
    """
    candidates: dict[str, dict[str, tuple[tuple[int, str, str, int], Written]]] = {}
    for stream in streams:  # in session order: a later session of the worker takes the place of an earlier one
        for key, written in of(stream).items():
            place = (written.timestamp_us, stream.worker_id, stream.session_id, written.seq)
            candidates.setdefault(key, {})[stream.worker_id] = (place, written)
    return {
        key: max(by_worker.values(), key=lambda candidate: candidate[0])[1]
        for key, by_worker in sorted(candidates.items())
    }


def _last_text(streams: list[StreamFacts], of: Callable[[StreamFacts], Written | None]) -> str | None:
    def as_mapping(stream: StreamFacts) -> Mapping[str, Written]:
        written = of(stream)
        return {} if written is None else {"": written}

    winner = _winners(streams, as_mapping).get("")
    return None if winner is None else str(winner.value)


def _last_given(starts: list[Started], of: Callable[[Started], _T | None]) -> _T | None:
    """Return the last value that a run_start gives; an observer's only where no worker gives one."""
    for observer in (False, True):
        given = [value for start in starts if start.event.observer is observer and (value := of(start)) is not None]
        if given:
            return given[-1]
    return None


def _metrics(streams: list[StreamFacts]) -> dict[str, MetricSummary]:
    collected: dict[str, list[tuple[int, StreamFacts, SeriesFacts]]] = {}
    for place, stream in enumerate(streams):
        for key, series in stream.series.items():
            collected.setdefault(key, []).append((place, stream, series))
    return {key: _metric_summary(parts) for key, parts in sorted(collected.items())}


def _metric_summary(parts: list[tuple[int, StreamFacts, SeriesFacts]]) -> MetricSummary:
    by_worker: dict[str, SeriesPoint] = {}
    for _, stream, series in parts:
        if series.last is not None:
            by_worker[stream.worker_id] = _point(stream, series.last)
    tail = sorted(
        ((place, stream, point) for place, stream, series in parts for point in series.tail),
        key=lambda item: (item[2][1] is None, item[2][1] or 0, item[0], item[2][4]),
    )
    lows = [series.min for _, _, series in parts if series.min is not None]
    highs = [series.max for _, _, series in parts if series.max is not None]
    return MetricSummary(
        count=sum(series.count for _, _, series in parts),
        nan_count=sum(series.nan_count for _, _, series in parts),
        last=max(by_worker.values(), key=lambda p: (p.timestamp_us, p.worker_id, p.session_id, p.seq)),
        min=min(lows, key=lambda value: (value, repr(value)), default=None),
        max=max(highs, key=lambda value: (value, repr(value)), default=None),
        tail=tuple(_point(stream, point) for _, stream, point in tail[-SERIES_TAIL:]),
    )


def _point(stream: StreamFacts, point: Point) -> SeriesPoint:
    value, step, epoch, timestamp_us, seq, context = point
    return SeriesPoint(value, step, epoch, timestamp_us, stream.worker_id, stream.session_id, seq, context)


def _final_metrics(streams: list[StreamFacts]) -> dict[str, int | float]:
    ends = sorted(
        (stream.end.timestamp_us, stream.worker_id, stream.session_id, stream.end.event)
        for stream in streams
        if stream.end
    )
    return {key: value for *_, event in ends for key, value in event.final_metrics.items()}


def _activity(streams: list[StreamFacts]) -> Activity | None:
    latest: Active | None = None
    worker_id = ""
    best: tuple[int, str, str, int] | None = None
    for stream in streams:
        if stream.active is None:
            continue
        place = (stream.active.timestamp_us, stream.worker_id, stream.session_id, stream.active.seq)
        if best is None or place > best:
            best, latest, worker_id = place, stream.active, stream.worker_id
    if latest is None:
        return None
    event = latest.event
    return Activity(
        status=event.status,
        message=event.message,
        progress=event.progress,
        timestamp_us=latest.timestamp_us,
        worker_id=worker_id,
    )


def _error(voting: list[StreamSummary], status: RunStatus) -> ErrorInfo | None:
    """Return the error that explains the status: a worker's own before what an observer saw."""
    given = [summary for summary in voting if summary.error and summary.status == status]
    given.sort(key=lambda summary: (summary.observer, summary.ended_at_us or 0, summary.stream))
    return given[0].error if given else None


def _duration(voting: list[StreamSummary], started: int | None, ended: int | None) -> int | None:
    """Return milliseconds: a single session's own monotonic measure, else from first start to last end."""
    workers = [summary for summary in voting if not summary.observer]
    if ended is not None and len(workers) == 1 and workers[0].duration_ms is not None:
        return workers[0].duration_ms
    return None if started is None or ended is None else max(0, ended - started) // 1000


def _stream_id(run_id: str, stream: StreamFacts) -> StreamId:
    return StreamId(run_id, stream.worker_id, stream.session_id)
