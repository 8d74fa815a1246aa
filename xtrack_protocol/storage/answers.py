"""What the answers of every store have in common, kept apart from how it keeps its data. No I/O.

For who writes a store: each promise of :class:`~xtrack_protocol.storage.base.Storage` that needs more than putting
away and finding again is a function here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

import attrs
import msgspec

from xtrack_protocol.errors import AmbiguousRun, DecodeError, EncodeError, RunNotFound
from xtrack_protocol.ir import (
    CONTROL_TYPES,
    ENVELOPES,
    Artifact,
    Checkpoint,
    Envelope,
    LogEntry,
    Metric,
    MetricBatch,
    Number,
    Param,
    Payload,
    RunId,
    Skip,
    Tags,
)
from xtrack_protocol.runs import (
    NAME_TAG,
    NOTE_TAG,
    LogRecord,
    RunReducer,
    RunState,
    RunStatus,
    SeriesPoint,
    StoredArtifact,
    StoredCheckpoint,
    is_hidden,
)
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.base import Experiment, Incoming, ParamValue, RunQuery
from xtrack_protocol.wire import Codec, decode, encode

Told = tuple[StreamId, Envelope]
"""An event and the stream it belongs to."""

CONTROL_PAYLOADS: Final[frozenset[type]] = frozenset(
    ENVELOPES[event_type].__annotations__["payload"] for event_type in CONTROL_TYPES
)
"""Payload types that are no events of a run. spec: CTL-1"""

PASSED_OVER: Final = CONTROL_PAYLOADS - {Skip}
"""Control events that a store has no use for."""

LIVE: Final[frozenset[RunStatus]] = frozenset({"pending", "running"})
"""Statuses of a run that is still to end."""

_MSGPACK_MAPS: Final = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})


def decode_stored(raw: bytes) -> Envelope:
    """Return the event that original payload bytes hold, in the codec that their first byte tells. spec: MSG-2"""
    codec: Codec = "msgpack" if raw and raw[0] in _MSGPACK_MAPS else "json"
    return decode(raw, codec=codec)


def same_content(raw: bytes, other: bytes) -> bool:
    """Whether two payloads are the same event: the same bytes, or equal once decoded. spec: STR-4.2"""
    return raw == other or _content(raw) == _content(other)


def content_digest(raw: bytes) -> bytes:
    """Return what two payloads have in common when, and only when, they are the same event. spec: STR-4.4"""
    return hashlib.sha256(_content(raw)).digest()


def _content(raw: bytes) -> bytes:
    """Return an event in a form that is the same for equal events: in any order of members, ``true`` apart from 1."""
    try:
        event = decode_stored(raw)
    except DecodeError:
        return raw
    try:
        told = msgspec.json.decode(encode(event))  # as written, because a run id has two forms
    except EncodeError:
        told = msgspec.to_builtins(event)  # what readers take although no writer may write it
    return json.dumps(_plain(told), sort_keys=True).encode()


def _plain(value: object) -> object:
    """Return a JSON value with one form for equal numbers."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def points_of(payload: Payload) -> Iterable[tuple[str, Number]]:
    """Return the values of series that an event carries, with their names."""
    if isinstance(payload, Metric):
        return ((payload.key, payload.value),)
    if isinstance(payload, MetricBatch):
        return payload.metrics.items()
    return ()


def experiment_of(payload: Payload) -> str | None:
    """Return the experiment that an event names. spec: EVT-RUN_START-1"""
    run_id = getattr(payload, "run_id", None)
    return run_id.experiment_id if isinstance(run_id, RunId) else None


# ------------------------------------------------------------------------------------------ runs


def run_places(state: RunState, created_at_us: int) -> dict[str, str | int]:
    """Return what runs are sorted by, by the order's name without its minus."""
    updated = state.updated_at_us if state.updated_at_us is not None else created_at_us
    return {
        "started": state.started_at_us if state.started_at_us is not None else updated,
        "updated": updated,
        "name": state.name or "",
        "status": state.status,
    }


def matches(state: RunState, query: RunQuery, experiments: Sequence[str]) -> bool:
    """Whether a run is asked for. ``experiments``: the id and the name of the experiment asked for."""
    started = state.started_at_us
    return (
        (not query.status or state.status in query.status)
        and (query.experiment is None or state.experiment_id in experiments)
        and (query.parent is None or state.parent_run_id == query.parent)
        and (query.name is None or name_matches(query.name, state.name))
        and (query.started_after_us is None or (started is not None and started >= query.started_after_us))
        and (query.started_before_us is None or (started is not None and started < query.started_before_us))
        and all(state.tags.get(key) == value for key, value in query.tags.items())
    )


def name_matches(pattern: str, name: str | None) -> bool:
    """Whether a run's name is ``pattern``, in which ``*`` is any text and ``?`` any character."""
    return name is not None and _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(letter) or re.escape(letter) for letter in pattern), re.DOTALL)


def pick_run(
    ref: str,
    *,
    exists: Callable[[str], bool],
    newest_named: Callable[[str], str | None],
    newest: Callable[[], str | None],
    starting_with: Callable[[str], Sequence[str]],
) -> str:
    """Return the id of the run that ``ref`` means: an id, else a name, else ``latest``, else the start of one id.

    Raises RunNotFound or AmbiguousRun. The empty text means no run.
    """
    if exists(ref):
        return ref
    if not ref:
        raise RunNotFound(ref)
    found = newest_named(ref) or (newest() if ref == "latest" else None)
    if found is not None:
        return found
    candidates = starting_with(ref)
    if len(candidates) > 1:
        raise AmbiguousRun(ref, candidates)
    if not candidates:
        raise RunNotFound(ref)
    return candidates[0]


def experiment_names(found: Experiment | None, asked: str) -> tuple[str, ...]:
    """Return all that a run can call the experiment it belongs to."""
    return (asked,) if found is None else (found.experiment_id, found.name)


# ------------------------------------------------------------------------------------------ events of a run


def in_series_order(points: Iterable[tuple[int, SeriesPoint]]) -> Iterator[SeriesPoint]:
    """Put points that are sorted by step, null steps last, into the order of the series. spec: FLD-3

    Each comes with its stream's place in session order.
    """
    for _, equals in groupby(points, key=lambda item: item[1].step):
        group = list(equals)
        if len(group) > 1:
            group.sort(key=lambda item: (item[0], item[1].seq))
        for _, point in group:
            yield point


def param_history(told: Iterable[Told], order: Mapping[StreamId, int]) -> dict[str, list[ParamValue]]:
    """Return all settings of each param, oldest first, and which one is current. spec: FLD-2, FLD-2.9"""
    by_name: dict[str, list[tuple[StreamId, Envelope]]] = {}
    for stream, envelope in told:
        assert isinstance(envelope.payload, Param)
        by_name.setdefault(envelope.payload.path, []).append((stream, envelope))
    return {name: _with_current(by_name[name], order) for name in sorted(by_name)}


def _with_current(told: list[Told], order: Mapping[StreamId, int]) -> list[ParamValue]:
    last_of_worker: dict[str, Told] = {}
    for item in sorted(told, key=lambda item: (order[item[0]], item[1].meta.seq)):
        last_of_worker[item[0].worker_id] = item
    stream, envelope = max(last_of_worker.values(), key=_place)
    current = stream, envelope.meta.seq
    values = []
    for stream, envelope in sorted(told, key=_place):
        assert isinstance(envelope.payload, Param)
        seq = envelope.meta.seq
        timestamp_us, value = envelope.meta.timestamp_us, envelope.payload.value
        values.append(ParamValue(value, timestamp_us, stream, seq, (stream, seq) == current))
    return values


def artifacts_of(told: Iterable[Told]) -> list[StoredArtifact]:
    """Return artifacts in the order of their time stamps."""
    result = []
    for stream, envelope in sorted(told, key=_place):
        assert isinstance(envelope.payload, Artifact)
        meta = envelope.meta
        result.append(
            StoredArtifact(envelope.payload, meta.timestamp_us, stream.worker_id, stream.session_id, meta.seq)
        )
    return result


def logs_of(told: Iterable[Told]) -> list[LogRecord]:
    """Return log events in the order of their time stamps."""
    result = []
    for stream, envelope in sorted(told, key=_place):
        assert isinstance(envelope.payload, LogEntry)
        meta = envelope.meta
        result.append(LogRecord(envelope.payload, meta.timestamp_us, stream.worker_id, stream.session_id, meta.seq))
    return result


def checkpoints_of(
    told: Iterable[Told], order: Mapping[StreamId, int], rewinds: Mapping[str, int], *, include_hidden: bool
) -> list[StoredCheckpoint]:
    """Return checkpoints in the order of step, session and seq; rewound ones only where asked for. spec: FLD-8"""
    result = []
    for stream, envelope in told:
        assert isinstance(envelope.payload, Checkpoint)
        meta, session = envelope.meta, stream.session_id
        hidden = is_hidden(rewinds, session, envelope.payload.step)
        if include_hidden or not hidden:
            stored = StoredCheckpoint(envelope.payload, meta.timestamp_us, stream.worker_id, session, meta.seq, hidden)
            result.append((envelope.payload.step, order[stream], meta.seq, stored))
    result.sort(key=lambda item: item[:3])
    return [item[3] for item in result]


def _place(told: Told) -> tuple[int, str, str, int]:
    stream, envelope = told
    return envelope.meta.timestamp_us, stream.worker_id, stream.session_id, envelope.meta.seq


# ------------------------------------------------------------------------------------------ annotations


@attrs.frozen
class Annotator:
    """Makes the events by which a store's user tags, renames and notes runs. spec: EVT-TAGS-2

    They are ordinary ``tags`` events in a stream without run_start, which therefore has no vote (spec: FLD-5.9).
    ``session_id``: 128 random bits in hexadecimal.
    """

    session_id: str
    new_session: Callable[[], str]

    def annotation(self, reducer: RunReducer, run_id: str, now_us: int, tags: Mapping[str, str]) -> Incoming:
        """Return the event that sets ``tags`` so that they win over all that is stored, whatever the clocks say."""
        order = reducer.stream_order()
        own = StreamId(run_id, "", self.session_id)
        # Within a worker the last session wins: where another one began after ours, ours is history. spec: FLD-2
        if own in order and any(order[other] > order[own] for other in order if other.worker_id == ""):
            own = StreamId(run_id, "", self.new_session())
        updated = reducer.state(with_metrics=False).updated_at_us
        timestamp_us = now_us if updated is None else max(now_us, updated + 1)
        seq = (reducer.seqs(own).last or 0) + 1
        event = Tags(run_id, dict(tags))
        envelope = Envelope.of(event, seq=seq, timestamp_us=timestamp_us, session_id=own.session_id)
        return Incoming(own, envelope, encode(envelope), now_us)


def annotation_tags(tags: Mapping[str, str] | None, name: str | None, note: str | None) -> dict[str, str]:
    """Return the tags that say all of an annotation. spec: EVT-TAGS-2"""
    result = dict(tags or {})
    if name is not None:
        result[NAME_TAG] = name
    if note is not None:
        result[NOTE_TAG] = note
    return result


def experiment_in_use(experiment: Experiment, runs: int) -> str:
    """Return why an experiment isn't deleted."""
    return (
        f"experiment {experiment.name!r} has {runs} runs. Delete it with its runs (with_runs=True), or move them first"
    )
