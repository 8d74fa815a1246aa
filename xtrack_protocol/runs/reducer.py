"""The fold: events in, in any order; a run's state out. spec: FLD-1

The reducer collects facts (``runs.facts``) and decides at reading time: which session supersedes which, who votes,
whose value is the last. So the order of arrival can't show, with one exception, which it announces: a resume that
rewinds over points that are counted already asks for a refold (``needs_refold``), because bounded facts can't be
uncounted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, repeat
from operator import lt
from typing import TypeAlias

import msgspec

from xtrack_protocol.ir import (
    CONTROL_TYPES,
    ENVELOPES,
    Alert,
    Artifact,
    Checkpoint,
    Envelope,
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
from xtrack_protocol.runs.columns import Columns, seq_ranges, tail_picker
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
from xtrack_protocol.runs.resolve import (
    activities,
    activity,
    duration_ms,
    error_of,
    final_metrics,
    is_hidden,
    last_given,
    last_text,
    metrics,
    run_status,
    session_order,
    summarize,
    winners,
)
from xtrack_protocol.runs.values import (
    LogRecord,
    RunState,
    RunStatus,
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

Input: TypeAlias = tuple[StreamId, Envelope] | StreamLost

_PASSED_OVER = frozenset(ENVELOPES[event_type].__annotations__["payload"] for event_type in CONTROL_TYPES) - {Skip}

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
        """Return a reducer without events that knows the rest beforehand: run_starts, rewinds and expectations."""
        facts = self._facts
        streams = [StreamFacts(one.worker_id, one.session_id, start=one.start) for one in facts.streams if one.start]
        expected = facts.expected_name, facts.expected_experiment
        return RunReducer(facts.run_id, RunFacts(facts.run_id, *expected, streams, rewinds=dict(facts.rewinds)))

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

    def new_places(self, stream_id: StreamId, seqs: Sequence[int]) -> range | list[int]:
        """Return the indexes of those ``seqs`` that ``apply`` would take as new, in order: of a seq that
        stands there twice the first. Where they ascend from the largest known on, as in a stream that comes as it was
        sent, that takes a few nanoseconds a seq.
        """
        known = self._seqs.get(stream_id) or RangeSet()
        if not seqs:
            return range(0)
        if seqs[0] > (known.last or 0) and all(map(lt, seqs, islice(seqs, 1, None))):
            return range(len(seqs))
        known = RangeSet(known)
        return [place for place, seq in enumerate(seqs) if known.add(seq)]

    def apply_columns(self, stream_id: StreamId, columns: Iterable[Columns]) -> None:
        """Take the events of ``columns``, as ``gather`` returned them of one stream, as ``apply`` takes each.

        All of them are new: no seq is known yet (see ``new_places``), and none stands there twice. That is for the
        caller to see to.
        """
        given = [one for one in columns if len(one)]
        if not given:
            return
        stream = self._stream(stream_id)
        for one in given:
            self._facts.events += len(one)
            first_ts, last_ts = one.timestamp_ends
            if stream.first_ts is None or first_ts < stream.first_ts:
                stream.first_ts = first_ts
            if stream.last_ts is None or last_ts > stream.last_ts:
                stream.last_ts = last_ts
            self._add_columns(stream, one)
            sent = one.shape.run_id
            if not isinstance(sent, str):
                seq = one.seq_ends[1]
                timestamp_us = one.timestamps[one.seqs.index(seq)]
                stream.experiment = _later(stream.experiment, seq, timestamp_us, sent.experiment_id)
                stream.parent = _later(stream.parent, seq, timestamp_us, sent.parent_run_id)
        seqs = self._seqs[stream_id]
        for first, last in seq_ranges(given):
            seqs.add_range(first, last)

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
        known = stream.start
        if known is None or seq < known.seq:
            stream.start = Started(seq, timestamp_us, event)
            if known is not None and known.event.resume:
                self._find_rewinds()
            self._take_rewinds(stream.session_id, event)
        self._set_tags(stream, event.tags, seq, timestamp_us)

    def _find_rewinds(self) -> None:
        """Find all rewinds anew: a run_start that named some was not the first of its session. spec: FLD-2.4"""
        before = dict(self._facts.rewinds)
        self._facts.rewinds.clear()
        for stream in self._streams.values():
            if stream.start:
                self._take_rewinds(stream.session_id, stream.start.event)
        self.needs_refold = self.needs_refold or self._facts.rewinds != before

    def _take_rewinds(self, own_id: str, event: RunStart) -> None:
        if event.resume and event.resume.rewind_to is not None:
            for session_id in event.resume.session_ids:
                if session_id != own_id:
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

    def _add_columns(self, stream: StreamFacts, columns: Columns) -> None:
        """Add the points of events of one shape to their series, hidden ones left out."""
        rewind_to = self._facts.rewinds.get(stream.session_id)
        if rewind_to is not None and columns.steps is not None and max(columns.steps) > rewind_to:
            columns = columns.only([step <= rewind_to for step in columns.steps])
            if not len(columns):
                return
        pick = tail_picker(columns, SERIES_TAIL)
        rest = (
            repeat(None) if columns.steps is None else pick(columns.steps),
            repeat(None) if columns.epochs is None else pick(columns.epochs),
            pick(columns.timestamps),
            pick(columns.seqs),
            repeat(columns.shape.context),
        )
        last = columns.seqs.index(columns.seq_ends[1]) if not columns.seqs_ascend else len(columns) - 1
        max_step = None if columns.step_ends is None else columns.step_ends[1]
        for key, values in zip(columns.shape.names, columns.values, strict=True):
            series = stream.series.get(key)
            if series is None:
                series = stream.series[key] = SeriesFacts()
            tail: list[Point] = list(zip(pick(values), *rest))  # noqa: B905 - what repeats has no end
            series.extend(values, columns.point(last, values), tail, max_step, SERIES_TAIL)

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
        return {stream_id: place for place, stream_id in enumerate(session_order(self._streams))}

    def seqs(self, stream_id: StreamId) -> RangeSet:
        """Return which seqs of a stream have come or were skipped."""
        known = RangeSet(self._seqs.get(stream_id, ()))
        if stream_id in self._streams:
            known.update(RangeSet(self._streams[stream_id].skipped))
        return known

    def status(self) -> RunStatus:
        """Return the run's status alone. spec: FLD-5"""
        summaries = summarize(self._streams, self._seqs)
        return run_status(summaries, self._world_size(summaries))

    def _world_size(self, summaries: Iterable[StreamSummary]) -> int | None:
        """Return how many workers the run needs; a launch that was begun again may have fewer. spec: FLD-5.3"""
        starts = (self._streams[summary.stream].start for summary in summaries if not summary.superseded)
        sizes = (start.event.world_size for start in starts if start)
        return max((size for size in sizes if size is not None and size >= 1), default=None)

    def state(self, *, with_metrics: bool = True) -> RunState:
        """Return the state of what has come so far; without its metrics where only the rest is asked for, because
        that doesn't take longer with every series.
        """
        facts = self._facts
        order = session_order(self._streams)
        streams = [self._streams[stream_id] for stream_id in order]
        summaries = summarize(self._streams, self._seqs)
        world_size = self._world_size(summaries)
        status = run_status(summaries, world_size)
        voting = [summary for summary in summaries if summary.votes]
        starts = [stream.start for stream in streams if stream.start]
        tags = {key: str(written.value) for key, written in winners(streams, lambda stream: stream.tags).items()}
        started = min((start.timestamp_us for start in starts if not start.event.sub), default=None)
        ended = None
        if status not in {"running", "pending"}:
            ended = max((summary.ended_at_us for summary in voting if summary.ended_at_us is not None), default=None)
        return RunState(
            run_id=facts.run_id,
            status=status,
            name=_first_given(
                tags.pop(NAME_TAG, None), last_given(starts, lambda start: start.event.name), facts.expected_name
            ),
            note=tags.pop(NOTE_TAG, None),
            experiment_id=_first_given(last_text(streams, lambda stream: stream.experiment), facts.expected_experiment),
            parent_run_id=last_text(streams, lambda stream: stream.parent),
            started_at_us=started,
            ended_at_us=ended,
            updated_at_us=max((stream.last_ts for stream in streams if stream.last_ts is not None), default=None),
            duration_ms=duration_ms(summaries, started, ended),
            activity=activity(streams),
            activities=activities(streams),
            params={key: written.value for key, written in winners(streams, lambda stream: stream.params).items()},
            metrics=metrics(streams) if with_metrics else {},
            summary={key: written.value for key, written in winners(streams, lambda stream: stream.summary).items()},
            final_metrics=final_metrics(streams),
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
            source=last_given(starts, lambda start: start.event.source),
            environment=last_given(starts, lambda start: start.event.environment),
            error=error_of(voting, status),
            world_size=world_size,
            streams=summaries,
            events=facts.events,
        )


def _first_given(*texts: str | None) -> str | None:
    """Return the first that is there; an empty one is."""
    return next((text for text in texts if text is not None), None)


def _later(known: Written | None, seq: int, timestamp_us: int, value: Json) -> Written | None:
    if value is None or (known is not None and known.seq > seq):
        return known
    return Written(seq, timestamp_us, value)


def _set_later(known: dict[str, Written], key: str, seq: int, timestamp_us: int, value: Json) -> None:
    """Within a stream the larger seq wins. spec: FLD-2"""
    written = known.get(key)
    if written is None or seq > written.seq:
        known[key] = Written(seq, timestamp_us, value)


def _lost_rank(lost: Lost) -> tuple[bool, int, int, int, str]:
    died = lost.reason == "died"
    return not died, 0 if died else -lost.after_seq, lost.at_us, lost.after_seq, lost.detail


def _stream_id(run_id: str, stream: StreamFacts) -> StreamId:
    return StreamId(run_id, stream.worker_id, stream.session_id)
