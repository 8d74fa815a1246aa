"""What the facts add up to: the order of sessions, who votes, whose value is the last. Pure functions of facts.

The reducer calls these when it is asked for a run's state, never while events come in. spec: FLD-2 to FLD-6
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import attrs

from xtrack_protocol.ir import ErrorInfo
from xtrack_protocol.limits import SERIES_TAIL
from xtrack_protocol.runs.aggregate import aggregate
from xtrack_protocol.runs.facts import Active, Lost, Point, SeriesFacts, Started, StreamFacts, Written
from xtrack_protocol.runs.values import (
    Activity,
    LostReason,
    MetricSummary,
    RunStatus,
    SeriesPoint,
    StreamLost,
    StreamSummary,
)
from xtrack_protocol.session import RangeSet, StreamId

_T = TypeVar("_T")

_SEVERITY: dict[RunStatus, int] = {"pending": 0, "completed": 1, "running": 2, "lost": 3, "killed": 4, "failed": 5}
"""Of several votes the most severe one is the run's. spec: FLD-5"""


def is_hidden(rewinds: Mapping[str, int], session_id: str, step: int | None) -> bool:
    """Whether a later session rewound over ``step`` of ``session_id``. spec: FLD-8"""
    rewind_to = rewinds.get(session_id)
    return rewind_to is not None and step is not None and step > rewind_to


def summarize(streams: Mapping[StreamId, StreamFacts], seqs: Mapping[StreamId, RangeSet]) -> tuple[StreamSummary, ...]:
    """Return what each stream says of the run, in session order. spec: FLD-4"""
    order = session_order(streams)
    superseded = _superseded(streams, order, seqs)
    summaries = [
        _summary(stream_id, streams[stream_id], seqs[stream_id], stream_id in superseded) for stream_id in order
    ]
    # An observer's silence counts only where nobody else speaks. spec: FLD-6.5
    if any(summary.votes and not summary.observer for summary in summaries):
        summaries = [
            attrs.evolve(summary, votes=False) if summary.observer and summary.end_status is None else summary
            for summary in summaries
        ]
    return tuple(summaries)


# ------------------------------------------------------------------------------------------ order and votes


def session_order(streams: Mapping[StreamId, StreamFacts]) -> list[StreamId]:
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


def _superseded(
    streams: Mapping[StreamId, StreamFacts], order: list[StreamId], seqs: Mapping[StreamId, RangeSet]
) -> set[StreamId]:
    """Return the streams whose vote another session has taken over. spec: FLD-4"""
    named = {
        session_id
        for stream in streams.values()
        for session_id in _resumed(stream)
        if session_id != stream.session_id  # one that names itself doesn't lose its vote
    }
    result = {stream_id for stream_id in streams if stream_id.session_id in named}
    with_start = {stream_id.worker_id for stream_id, stream in streams.items() if stream_id.is_derived and stream.start}
    later_legacy: set[str] = set()
    for stream_id in reversed(order):
        if not stream_id.is_derived:
            continue
        stream = streams[stream_id]
        if stream_id.worker_id in later_legacy and (stream.end or _lost(stream, seqs[stream_id])):
            result.add(stream_id)
        # What a legacy worker's threads sent before its run_start is no session of its own. spec: FLD-4.5
        if not stream.start and not stream.end and stream_id.worker_id in with_start:
            result.add(stream_id)
        if stream.start:
            later_legacy.add(stream_id.worker_id)
    return result


def _lost(stream: StreamFacts, seqs: RangeSet) -> Lost | None:
    """Return the loss that counts: a worker that vanished may have been heard of again. spec: FLD-6.6"""
    lost = stream.lost
    if lost and lost.reason == "vanished" and (seqs.last or 0) > lost.after_seq:
        return None
    return lost


def _summary(stream_id: StreamId, stream: StreamFacts, seqs: RangeSet, superseded: bool) -> StreamSummary:
    start, end = stream.start, stream.end
    sub = bool(start and start.event.sub)
    observer = bool(start and start.event.observer)
    known = RangeSet(seqs)
    known.update(RangeSet(stream.skipped))
    last_seq = seqs.last or 0
    lost = _lost(stream, seqs)
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


def run_status(summaries: Iterable[StreamSummary], world_size: int | None) -> RunStatus:
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


def winners(streams: list[StreamFacts], of: Callable[[StreamFacts], Mapping[str, Written]]) -> dict[str, Written]:
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


def last_text(streams: list[StreamFacts], of: Callable[[StreamFacts], Written | None]) -> str | None:
    """Return the text that wins, of one that each stream may have. spec: FLD-2"""

    def as_mapping(stream: StreamFacts) -> Mapping[str, Written]:
        written = of(stream)
        return {} if written is None else {"": written}

    winner = winners(streams, as_mapping).get("")
    return None if winner is None else str(winner.value)


def last_given(starts: list[Started], of: Callable[[Started], _T | None]) -> _T | None:
    """Return the last value that a run_start gives; an observer's only where no worker gives one."""
    for observer in (False, True):
        given = [value for start in starts if start.event.observer is observer and (value := of(start)) is not None]
        if given:
            return given[-1]
    return None


def metrics(streams: list[StreamFacts]) -> dict[str, MetricSummary]:
    """Return every metric in short, all workers' series of one name together. spec: FLD-3"""
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
        workers=aggregate(None, [point.value for point in by_worker.values()]) if len(by_worker) > 1 else None,
    )


def _point(stream: StreamFacts, point: Point) -> SeriesPoint:
    value, step, epoch, timestamp_us, seq, context = point
    return SeriesPoint(value, step, epoch, timestamp_us, stream.worker_id, stream.session_id, seq, context)


def final_metrics(streams: list[StreamFacts]) -> dict[str, int | float]:
    """Return what run_end events say of metrics; of each name the one that ended last. spec: EVT-RUN_END-1"""
    ends = sorted(
        (stream.end.timestamp_us, stream.worker_id, stream.session_id, stream.end.event)
        for stream in streams
        if stream.end
    )
    return {key: value for *_, event in ends for key, value in event.final_metrics.items()}


def activities(streams: list[StreamFacts]) -> dict[str, Activity]:
    """Return of each worker what it said last that it is doing, that of its last session. spec: FLD-11"""
    found: dict[str, Activity] = {}
    for stream in streams:  # in session order: a later session of the worker takes the place of an earlier one
        if stream.active is not None:
            event = stream.active.event
            found[stream.worker_id] = Activity(
                status=event.status,
                message=event.message,
                progress=event.progress,
                timestamp_us=stream.active.timestamp_us,
                worker_id=stream.worker_id,
            )
    return dict(sorted(found.items()))


def activity(streams: list[StreamFacts]) -> Activity | None:
    """Return what was said last of what a worker is doing. spec: EVT-STATUS-1"""
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


def error_of(voting: list[StreamSummary], status: RunStatus) -> ErrorInfo | None:
    """Return the error that explains the status: a worker's own before what an observer saw."""
    given = [summary for summary in voting if summary.error and summary.status == status]
    given.sort(key=lambda summary: (summary.observer, summary.ended_at_us or 0, summary.stream))
    return given[0].error if given else None


def duration_ms(summaries: Iterable[StreamSummary], started: int | None, ended: int | None) -> int | None:
    """Return milliseconds: a single session's own monotonic measure, else from first start to last end."""
    workers = [
        summary
        for summary in summaries
        if summary.started_at_us is not None and not summary.observer and not summary.sub
    ]
    if ended is not None and len(workers) == 1 and workers[0].duration_ms is not None:
        return workers[0].duration_ms
    return None if started is None or ended is None else max(0, ended - started) // 1000
