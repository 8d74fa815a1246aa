"""A store in this process's memory: for tests, notebooks, and collectors that only pass events on."""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, ClassVar

import attrs

from xtrack_protocol.errors import ExperimentExists, ExperimentNotFound, RunDeleted, RunNotFound, StorageError
from xtrack_protocol.ir import Artifact, Checkpoint, Durability, LogEntry, Metric, MetricBatch, Param, RunEnd, Skip
from xtrack_protocol.runs import (
    LogRecord,
    RunReducer,
    RunState,
    SeriesPoint,
    StoredArtifact,
    StoredCheckpoint,
    StreamLost,
    is_hidden,
)
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.storage import answers
from xtrack_protocol.storage.access import NOBODYS, RunAccess
from xtrack_protocol.storage.base import (
    AppendResult,
    Experiment,
    Incoming,
    ParamValue,
    RunQuery,
    Storage,
    StoredEvent,
)


def _wall_clock_us() -> int:
    return time.time_ns() // 1000


@attrs.define(eq=False)
class _Run:
    """All that is kept of a run."""

    created_at_us: int
    reducer: RunReducer
    expected: tuple[str | None, str | None] | None = None
    events: list[tuple[int, Incoming]] = attrs.field(factory=list)
    """With their positions, in order."""
    places: dict[tuple[StreamId, int], int] = attrs.field(factory=dict)
    """Of each stream and seq the index in ``events``."""
    kinds: dict[type, list[int]] = attrs.field(factory=dict)
    """Of each payload type that is asked for, the indexes in ``events``."""
    series: dict[str, list[tuple[Incoming, int | float]]] = attrs.field(factory=dict)
    conflicts: list[tuple[int, Incoming]] = attrs.field(factory=list)
    conflicting: set[tuple[int, bytes]] = attrs.field(factory=set)
    skips: list[Incoming] = attrs.field(factory=list)
    losses: list[StreamLost] = attrs.field(factory=list)
    ends: dict[StreamId, int] = attrs.field(factory=dict)
    """Of each stream the lowest seq of a run_end. spec: FLD-7"""

    def refolded(self) -> RunReducer:
        """Return the fold of everything, with the rewinds known beforehand. spec: FLD-8"""
        reducer = self.reducer.restarted()
        for _, item in self.events:
            reducer.apply(item.stream, item.envelope)
        for item in self.skips:
            reducer.apply(item.stream, item.envelope)
        reducer.apply_all(self.losses)
        return reducer

    def told(self, payload: type) -> list[answers.Told]:
        """Return the events of one payload type."""
        return [(self.events[index][1].stream, self.events[index][1].envelope) for index in self.kinds.get(payload, ())]

    def stored(self, position: int, item: Incoming) -> StoredEvent:
        """Return an event as an answer."""
        end = self.ends.get(item.stream)
        late = end is not None and item.envelope.meta.seq > end
        return StoredEvent(position, item.stream, item.envelope, item.raw, item.received_at_us, late)


class MemoryStore(Storage):
    """A store that is gone with its process; its acks promise nothing, so no spool is trimmed because of them.

    ``clock``: the time in microseconds since the Unix epoch, for what the store itself says. A forked child has a copy
    of its own.
    """

    durability: ClassVar[Durability] = "none"

    def __init__(self, *, clock: Callable[[], int] = _wall_clock_us) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._runs: dict[str, _Run] = {}
        self._log: list[tuple[int, _Run, Incoming]] = []
        self._position = 0
        self._deleted: dict[str, int] = {}
        self._experiments: dict[str, Experiment] = {}
        self._access: dict[str, RunAccess] = {}
        self._closed = False
        self._new_session()

    @property
    def url(self) -> str:
        """``memory:``, which opens another one: this one can't be opened again."""
        return "memory:"

    def _new_session(self) -> str:
        session_id = secrets.token_hex(16)
        self._annotator = answers.Annotator(session_id, self._new_session)
        return session_id

    def _run(self, run_id: str) -> _Run:
        self._check_open()
        try:
            return self._runs[run_id]
        except KeyError:
            raise RunNotFound(run_id) from None

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("memory: the store is closed")

    # -------------------------------------------------------------------------------------- writing

    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        """Store the new ones of ``batch``."""
        items = list(batch)  # whatever can fail in it fails before anything is stored
        stored: list[int] = []
        positions: list[int] = []
        conflicts: list[int] = []
        duplicates = dropped = 0
        with self._lock:
            self._check_open()
            for index, item in enumerate(items):
                payload = item.envelope.payload
                if type(payload) in answers.PASSED_OVER:
                    continue
                run_id = item.stream.run_id
                if run_id in self._deleted:
                    dropped += 1
                    continue
                run = self._runs.get(run_id) or self._make(run_id)
                if isinstance(payload, Skip):
                    if payload.first <= payload.last and run.reducer.apply(item.stream, item.envelope):
                        run.skips.append(item)
                elif run.reducer.apply(item.stream, item.envelope):
                    stored.append(index)
                    positions.append(self._store(run, item))
                elif _is_conflict(run, item):
                    conflicts.append(index)
                else:
                    duplicates += 1
                if run.reducer.needs_refold:
                    run.reducer = run.refolded()
        return AppendResult(
            stored=tuple(stored),
            positions=tuple(positions),
            duplicates=duplicates,
            conflicts=tuple(conflicts),
            dropped=dropped,
        )

    def _make(self, run_id: str) -> _Run:
        run = self._runs[run_id] = _Run(self._clock(), RunReducer(run_id))
        return run

    def _store(self, run: _Run, item: Incoming) -> int:
        payload, seq = item.envelope.payload, item.envelope.meta.seq
        self._position += 1
        index = len(run.events)
        run.events.append((self._position, item))
        run.places[item.stream, seq] = index
        self._log.append((self._position, run, item))
        if isinstance(payload, Metric):
            run.series.setdefault(payload.key, []).append((item, payload.value))
        elif isinstance(payload, MetricBatch):
            for key, value in payload.metrics.items():
                run.series.setdefault(key, []).append((item, value))
        elif isinstance(payload, (Param, LogEntry, Artifact, Checkpoint)):
            run.kinds.setdefault(type(payload), []).append(index)
        elif isinstance(payload, RunEnd):
            run.ends[item.stream] = min(seq, run.ends.get(item.stream, seq))
        experiment = answers.experiment_of(payload)
        if experiment is not None:
            self._use_experiment(experiment)
        return self._position

    def _use_experiment(self, experiment: str) -> None:
        if self._find_experiment(experiment) is None:
            self._experiments[experiment] = Experiment(experiment, experiment, self._clock())

    def expect_run(self, run_id: str, *, name: str | None = None, experiment_id: str | None = None) -> RunState:
        """Make a run known before its first event. spec: FLD-5.8"""
        with self._lock:
            self._check_open()
            if run_id not in self._runs:
                if run_id in self._deleted:
                    raise RunDeleted(run_id)
                run = self._make(run_id)
                run.expected = name, experiment_id
                run.reducer.expect(name=name, experiment_id=experiment_id)
                if experiment_id is not None:
                    self._use_experiment(experiment_id)
            return self._runs[run_id].reducer.state()

    def mark_lost(self, lost: StreamLost) -> None:
        """Record that a worker is known to be gone. spec: FLD-6"""
        with self._lock:
            self._check_open()
            run_id = lost.stream.run_id
            if run_id not in self._deleted:
                run = self._runs.get(run_id) or self._make(run_id)
                if lost not in run.losses:
                    run.losses.append(lost)
                    run.reducer.apply_lost(lost)

    def annotate(
        self, run_id: str, *, tags: Mapping[str, str] | None = None, name: str | None = None, note: str | None = None
    ) -> RunState:
        """Tag, rename or note a run. spec: EVT-TAGS-2"""
        said = answers.annotation_tags(tags, name, note)
        with self._lock:
            run = self._run(run_id)
            if said:
                self.append([self._annotator.annotation(run.reducer, run_id, self._clock(), said)])
            return run.reducer.state()

    def delete_run(self, run_id: str) -> None:
        """Delete a run for good and leave a tombstone. spec: FLD-9"""
        with self._lock:
            self._run(run_id)
            self._delete({run_id})

    def _delete(self, run_ids: set[str]) -> None:
        now_us = self._clock()
        gone = {id(self._runs.pop(run_id)) for run_id in run_ids}
        self._deleted.update(dict.fromkeys(run_ids, now_us))
        for run_id in run_ids:
            self._access.pop(run_id, None)
        self._log = [entry for entry in self._log if id(entry[1]) not in gone]

    # -------------------------------------------------------------------------------------- runs

    def cursor(self, stream: StreamId) -> RangeSet:
        """Return which seqs of ``stream`` are here. spec: FLD-12.2"""
        with self._lock:
            self._check_open()
            run = self._runs.get(stream.run_id)
            return RangeSet() if run is None else run.reducer.seqs(stream)

    def get_run(self, run_id: str) -> RunState:
        """Return a run's state. Raises RunNotFound."""
        with self._lock:
            return self._run(run_id).reducer.state()

    def find_run(self, ref: str) -> str:
        """Return the id of the run that ``ref`` means. Raises RunNotFound or AmbiguousRun."""
        with self._lock:
            self._check_open()

            def newest(name: str | None = None) -> str | None:
                in_order = self._matching(RunQuery())
                return next((run_id for run_id, state in in_order if name is None or state.name == name), None)

            return answers.pick_run(
                ref,
                exists=self._runs.__contains__,
                newest_named=newest,
                newest=newest,
                starting_with=lambda prefix: sorted(run_id for run_id in self._runs if run_id.startswith(prefix)),
            )

    def search_runs(self, query: RunQuery = RunQuery()) -> list[RunState]:  # noqa: B008 - frozen
        """Return the states of the runs that match."""
        with self._lock:
            self._check_open()
            end = None if query.limit is None else query.offset + query.limit
            found = self._matching(query)[query.offset : end]
            return [self._runs[run_id].reducer.state() for run_id, _ in found]

    def _matching(self, query: RunQuery) -> list[tuple[str, RunState]]:
        """Return all runs that match, without their metrics, in the order asked for."""
        names: tuple[str, ...] = ()
        if query.experiment is not None:
            names = answers.experiment_names(self._find_experiment(query.experiment), query.experiment)
        found = []
        for run_id, run in self._runs.items():
            state = run.reducer.state(with_metrics=False)
            if answers.matches(state, query, names):
                place = answers.run_places(state, run.created_at_us)[query.order.lstrip("-")]
                found.append((place, run_id, state))
        found.sort(key=lambda item: item[:2], reverse=query.order.startswith("-"))
        return [(run_id, state) for _, run_id, state in found]

    # -------------------------------------------------------------------------------------- what a run holds

    def metric_keys(self, run_id: str) -> list[str]:
        """Return the names of a run's metrics, sorted. Raises RunNotFound."""
        with self._lock:
            return sorted(self._run(run_id).series)

    def get_metrics(
        self,
        run_id: str,
        key: str,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        worker_id: str | None = None,
        limit: int | None = None,
        include_hidden: bool = False,
    ) -> list[SeriesPoint]:
        """Return a series in its order. spec: FLD-3, FLD-8"""
        with self._lock:
            run = self._run(run_id)
            rewinds, order = run.reducer.rewinds, run.reducer.stream_order()
            found = []
            for item, value in run.series.get(key, ()):
                point = _point(item, value, rewinds)
                step = point.step
                if (
                    (include_hidden or not point.hidden)
                    and (worker_id is None or point.worker_id == worker_id)
                    and (min_step is None or (step is not None and step >= min_step))
                    and (max_step is None or (step is not None and step <= max_step))
                ):
                    found.append((order[item.stream], point))
        found.sort(key=lambda item: (item[1].step is None, item[1].step or 0, item[0], item[1].seq))
        return [point for _, point in found[: None if limit is None else max(limit, 0)]]

    def get_params(self, run_id: str) -> dict[str, list[ParamValue]]:
        """Return each param with its history. spec: FLD-2.9"""
        with self._lock:
            run = self._run(run_id)
            return answers.param_history(run.told(Param), run.reducer.stream_order())

    def get_artifacts(self, run_id: str) -> list[StoredArtifact]:
        """Return all artifacts in the order of their time stamps."""
        with self._lock:
            return answers.artifacts_of(self._run(run_id).told(Artifact))

    def get_checkpoints(self, run_id: str, *, include_hidden: bool = False) -> list[StoredCheckpoint]:
        """Return all checkpoints in the order of steps. spec: FLD-8"""
        with self._lock:
            run = self._run(run_id)
            order, rewinds = run.reducer.stream_order(), run.reducer.rewinds
            return answers.checkpoints_of(run.told(Checkpoint), order, rewinds, include_hidden=include_hidden)

    def get_logs(self, run_id: str, *, limit: int | None = None) -> list[LogRecord]:
        """Return all log events, or the last ``limit``, in the order of their time stamps."""
        with self._lock:
            logs = answers.logs_of(self._run(run_id).told(LogEntry))
        return logs if limit is None else logs[max(0, len(logs) - max(limit, 0)) :]

    def events(self, run_id: str | None = None, *, after: int = 0, limit: int | None = None) -> Iterator[StoredEvent]:
        """Yield stored events in order of position, as they are at the call."""
        with self._lock:
            self._check_open()
            if run_id is None:
                log = self._log[_following(self._log, after, limit)]
                found = [run.stored(position, item) for position, run, item in log]
            else:
                run = self._run(run_id)
                events = run.events[_following(run.events, after, limit)]
                found = [run.stored(position, item) for position, item in events]
        return iter(found)

    def conflicts(self, run_id: str) -> list[StoredEvent]:
        """Return the events that came under a seq already taken. spec: STR-5"""
        with self._lock:
            run = self._run(run_id)
            return [run.stored(position, item) for position, item in run.conflicts]

    # -------------------------------------------------------------------------------------- experiments

    def _find_experiment(self, name_or_id: str) -> Experiment | None:
        found = self._experiments.get(name_or_id)
        if found is None:
            found = next((one for one in self._experiments.values() if one.name == name_or_id), None)
        return found

    def create_experiment(
        self, name: str, *, experiment_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Make an experiment. Raises ExperimentExists."""
        made = Experiment(name if experiment_id is None else experiment_id, name, self._clock(), dict(tags or {}))
        with self._lock:
            self._check_open()
            for taken in (made.name, made.experiment_id):
                if self._find_experiment(taken) is not None:
                    raise ExperimentExists(taken)
            self._experiments[made.experiment_id] = made
        return made

    def get_experiment(self, name_or_id: str) -> Experiment:
        """Return an experiment by its id or its name. Raises ExperimentNotFound."""
        with self._lock:
            self._check_open()
            found = self._find_experiment(name_or_id)
            if found is None:
                raise ExperimentNotFound(name_or_id)
            return found

    def list_experiments(self) -> list[Experiment]:
        """Return all experiments, sorted by name."""
        with self._lock:
            self._check_open()
            return sorted(self._experiments.values(), key=attrgetter("name"))

    def tag_experiment(self, name_or_id: str, tags: Mapping[str, str]) -> Experiment:
        """Set tags of an experiment. Raises ExperimentNotFound."""
        with self._lock:
            found = self.get_experiment(name_or_id)
            tagged = attrs.evolve(found, tags={**found.tags, **tags})
            self._experiments[found.experiment_id] = tagged
            return tagged

    def delete_experiment(self, name_or_id: str, *, with_runs: bool = False) -> None:
        """Delete an experiment, with its runs where asked. Raises ExperimentNotFound, StorageError."""
        with self._lock:
            found = self.get_experiment(name_or_id)
            runs = {run_id for run_id, _ in self._matching(RunQuery(experiment=found.experiment_id))}
            if runs and not with_runs:
                raise StorageError(answers.experiment_in_use(found, len(runs)))
            self._delete(runs)
            del self._experiments[found.experiment_id]

    # -------------------------------------------------------------------------------------- owners

    def claim_run(self, run_id: str, owner: str) -> RunAccess:
        """Make ``owner`` the owner of a run that nobody has written to yet. spec: SEC-4.1"""

        def claim(known: RunAccess) -> RunAccess:
            run = self._runs.get(run_id)
            is_free = known.owner is None and not (run and (run.events or run.skips or run.losses))
            return attrs.evolve(known, owner=owner) if is_free else known

        return self.change_access(run_id, claim)

    def get_access(self, run_id: str) -> RunAccess:
        """Return who may do what with a run."""
        with self._lock:
            self._check_open()
            return self._access.get(run_id, NOBODYS)

    def change_access(self, run_id: str, change: Callable[[RunAccess], RunAccess]) -> RunAccess:
        """Replace what holds for a run by what ``change`` makes of it. Raises RunDeleted."""
        with self._lock:
            self._check_open()
            if run_id in self._deleted:
                raise RunDeleted(run_id)
            self._access[run_id] = changed = change(self._access.get(run_id, NOBODYS))
            if changed == NOBODYS:
                del self._access[run_id]
            return changed

    # -------------------------------------------------------------------------------------- upkeep

    def backup(self, path: str | Path) -> None:
        """Write a copy of the whole store to ``path``, a SQLite file. Positions are given anew."""
        from xtrack_protocol.storage.sqlite import SQLiteStore

        with self._lock:
            self._check_open()
            with SQLiteStore.create(path, clock=self._clock) as copy:
                for experiment in self._experiments.values():
                    copy.restore_experiment(experiment)
                for run_id, deleted_at_us in self._deleted.items():
                    copy.restore_tombstone(run_id, deleted_at_us)
                for run_id, access in self._access.items():
                    copy.set_access(run_id, access)
                for run_id, run in self._runs.items():
                    if run.expected is not None:
                        name, experiment_id = run.expected
                        copy.expect_run(run_id, name=name, experiment_id=experiment_id)
                copy.append([item for _, _, item in self._log])
                for run in self._runs.values():
                    copy.append([item for _, item in run.conflicts])
                    copy.append(run.skips)
                    for lost in run.losses:
                        copy.mark_lost(lost)

    def check(self) -> list[str]:
        """Return what is damaged: where a state isn't the fold of its events."""
        with self._lock:
            self._check_open()
            return [
                f"run {run_id!r}: its state isn't the fold of its events"
                for run_id, run in self._runs.items()
                if repr(run.refolded().state()) != repr(run.reducer.state())
            ]

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            self._runs.clear()
            self._access.clear()
            self._log.clear()


def _is_conflict(run: _Run, item: Incoming) -> bool:
    """Whether an event that came before is here with other content, which is kept aside then. spec: STR-5"""
    position, first = run.events[run.places[item.stream, item.envelope.meta.seq]]
    if answers.same_content(first.raw, item.raw):
        return False
    content = position, answers.content_digest(item.raw)
    if content not in run.conflicting:
        run.conflicting.add(content)
        run.conflicts.append((position, item))
    return True


def _point(item: Incoming, value: float, rewinds: Mapping[str, int]) -> SeriesPoint:
    payload, meta, stream = item.envelope.payload, item.envelope.meta, item.stream
    assert isinstance(payload, (Metric, MetricBatch))
    return SeriesPoint(
        value,
        payload.step,
        payload.epoch,
        meta.timestamp_us,
        stream.worker_id,
        stream.session_id,
        meta.seq,
        payload.context,
        is_hidden(rewinds, stream.session_id, payload.step),
    )


def _following(entries: Sequence[tuple[Any, ...]], after: int, limit: int | None) -> slice:
    """Return where the entries with a position above ``after`` stand, at most ``limit`` of them."""
    first = bisect_right(entries, after, key=itemgetter(0))
    return slice(first, None if limit is None else first + max(limit, 0))
