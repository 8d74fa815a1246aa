"""What a store is: it keeps events, exactly once each, and answers questions about runs."""

from __future__ import annotations

import abc
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import attrs
from typing_extensions import Self

from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.ir import Durability, Envelope, Json
from xtrack_protocol.runs import (
    Aggregate,
    LogRecord,
    RunState,
    RunStatus,
    Series,
    SeriesPoint,
    StoredArtifact,
    StoredCheckpoint,
    StreamLost,
    aggregate_series,
    downsample,
)
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.storage.access import RunAccess
from xtrack_protocol.wire import Frame, is_control

Order: TypeAlias = Literal["started", "-started", "name", "-name", "status", "updated", "-updated"]
"""What runs are sorted by; a minus turns it round."""


@attrs.frozen
class Incoming:
    """An event on its way into a store: its stream, itself, and its original payload bytes.

    ``stream`` says where it belongs, whatever run the event itself names: a capture may be read under another run id.
    A ``skip`` comes under the stream that it names.
    """

    stream: StreamId
    envelope: Envelope
    raw: bytes
    received_at_us: int
    """When the collector got it: microseconds since the Unix epoch, by the collector's clock."""


@attrs.frozen(kw_only=True)
class AppendResult:
    """What became of a batch. ``stored``: the places in the batch, from 0 on, of the events that were new."""

    stored: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    """Of each event in ``stored`` its position in the store, as in StoredEvent."""
    duplicates: int = 0
    conflicts: tuple[int, ...] = ()
    """Places in the batch of events whose seq is taken by another event: kept aside, the first wins. spec: STR-5"""
    dropped: int = 0
    """Events of deleted runs. spec: FLD-9"""


@attrs.frozen
class StreamEvents:
    """Events of one stream on their way into a store, in the order in which they came: Incoming, many at a time.

    ``frames``: each has an envelope. A ``skip`` among them closes its range; other control events are passed over.
    """

    stream: StreamId
    frames: Sequence[Frame]
    received_at_us: int


@attrs.define
class StreamResult:
    """What became of a StreamEvents. ``last_position``: of the last event that was new, 0 without one. ``conflicts``:
    seqs, as in AppendResult. ``dropped``: whether the run was deleted, so that nothing of it was taken. spec: FLD-9
    """

    stored: int = 0
    last_position: int = 0
    duplicates: int = 0
    conflicts: tuple[int, ...] = ()
    dropped: bool = False


@attrs.frozen
class StoredEvent:
    """An event as it was stored. ``position`` grows with every event a store takes: a cursor for readers.

    ``late``: its seq is above that of its stream's run_end. spec: FLD-7
    """

    position: int
    stream: StreamId
    envelope: Envelope
    raw: bytes
    received_at_us: int
    late: bool = False


@attrs.frozen
class ParamValue:
    """One setting of a param. ``current``: the one that wins; the others are its history."""

    value: Json
    timestamp_us: int
    stream: StreamId
    seq: int
    current: bool


@attrs.frozen
class Experiment:
    """A named group of runs."""

    experiment_id: str
    name: str
    created_at_us: int
    tags: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class RunQuery:
    """Which runs are asked for. Absent conditions don't restrict; ``tags`` must all match.

    ``name``: the whole name, or with ``*`` and ``?`` a pattern. ``experiment``: its id or its name.
    ``started_after_us`` and ``started_before_us``: microseconds since the Unix epoch, [after, before). ``limit`` None:
    all. ``parent``: the parent run's id. In order of start, a run that hasn't started counts by its last event, and one
    without events by when it was first expected; runs that are equal in order are sorted by id.
    """

    status: Sequence[RunStatus] = ()
    experiment: str | None = None
    tags: Mapping[str, str] = attrs.field(factory=dict)
    name: str | None = None
    parent: str | None = None
    started_after_us: int | None = None
    started_before_us: int | None = None
    limit: int | None = None
    offset: int = 0
    order: Order = "-started"


class Storage(abc.ABC):
    """Keeps runs. Thread-safe. ``xtrack_protocol.testing`` holds the contract suite for every store.

    Promises:

    - ``append`` takes a whole batch or nothing: when it returns, each event that was new is kept as ``durability``
      says, together with the run's state; when it raises, the store is as it was before. An event is known by its
      stream and seq; one that comes again changes nothing (spec: STR-4).
    - Original payload bytes are kept and given back unchanged. NaN and infinities come back as they were.
    - State and answers depend on what was stored, not on the order in which it came (spec: FLD-1).
    - Several processes may write and read at once where the store is on disk.
    - Errors are StorageError; a full or read-only disk says so and loses nothing that was there.
    """

    durability: ClassVar[Durability]
    """What holds for events when ``append`` returns."""

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """What ``open_store`` takes to open it again."""

    # ------------------------------------------------------------------------------------------ writing

    @abc.abstractmethod
    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        """Store the new ones of ``batch``, atomically, and bring the states of their runs up to date.

        A ``skip`` closes its range in the stream's cursor and is no event of the run; other control events are passed
        over (spec: STR-7, CTL-1). An experiment that an event names is made where there is none of that id or name.
        """

    def append_streams(self, batches: Sequence[StreamEvents]) -> list[StreamResult]:
        """Do what :meth:`append` does, for whoever has many events of few streams; return what became of each batch.

        All of them are taken or none. A store that keeps many events at once better than one by one does so here.
        """
        items = [
            Incoming(batch.stream, frame.envelope, frame.raw, batch.received_at_us)
            for batch in batches
            for frame in batch.frames
            if frame.envelope is not None  # for the type checker
        ]
        result = self.append(items)
        found: list[StreamResult] = []
        begin = low = low_conflict = 0
        for batch in batches:
            end = begin + len(batch.frames)
            high = bisect_left(result.stored, end, low)
            high_conflict = bisect_left(result.conflicts, end, low_conflict)
            conflicts = tuple(items[place].envelope.meta.seq for place in result.conflicts[low_conflict:high_conflict])
            one = StreamResult(high - low, result.positions[high - 1] if high > low else 0, conflicts=conflicts)
            if one.stored + len(conflicts) < end - begin:
                events = sum(not is_control(item.envelope) for item in items[begin:end])
                others = events - one.stored - len(conflicts)
                one.dropped = bool(others and result.dropped) and not self._has_run(batch.stream.run_id)
                one.duplicates = 0 if one.dropped else others
            found.append(one)
            begin, low, low_conflict = end, high, high_conflict
        return found

    def _has_run(self, run_id: str) -> bool:
        try:
            self.get_run(run_id)
        except RunNotFound:
            return False
        return True

    @abc.abstractmethod
    def expect_run(self, run_id: str, *, name: str | None = None, experiment_id: str | None = None) -> RunState:
        """Make a run known before its first event; its status is pending until then. A known one stays as it is.

        Raises StorageError for a deleted run. spec: FLD-5.8
        """

    @abc.abstractmethod
    def mark_lost(self, lost: StreamLost) -> None:
        """Record that a worker is known to be gone without having ended its run; a run not known yet becomes known.

        The same loss told again changes nothing, and one of a deleted run is dropped. spec: FLD-6, FLD-9
        """

    @abc.abstractmethod
    def annotate(
        self, run_id: str, *, tags: Mapping[str, str] | None = None, name: str | None = None, note: str | None = None
    ) -> RunState:
        """Tag, rename or note a run, finished or not; its status stays. Raises RunNotFound. spec: EVT-TAGS-3"""

    @abc.abstractmethod
    def delete_run(self, run_id: str) -> None:
        """Delete a run for good and leave a tombstone: later events are dropped. Raises RunNotFound. spec: FLD-9"""

    # ------------------------------------------------------------------------------------------ asking

    @abc.abstractmethod
    def cursor(self, stream: StreamId) -> RangeSet:
        """Return which seqs of ``stream`` are here, the declared losses included. Empty for an unknown stream."""

    @abc.abstractmethod
    def get_run(self, run_id: str) -> RunState:
        """Return a run's state. Raises RunNotFound."""

    @abc.abstractmethod
    def find_run(self, ref: str) -> str:
        """Return the id of the run that ``ref`` means: an id, a unique prefix of one, a name (the newest so named), or
        ``latest``. Raises RunNotFound or AmbiguousRun.
        """

    @abc.abstractmethod
    def search_runs(self, query: RunQuery = RunQuery()) -> list[RunState]:
        """Return the states of the runs that match."""

    def list_runs(self, limit: int | None = None) -> list[RunState]:
        """Return the newest runs, newest first."""
        return self.search_runs(RunQuery(limit=limit))

    @abc.abstractmethod
    def metric_keys(self, run_id: str) -> list[str]:
        """Return the names of a run's metrics, sorted, those included all of whose points are hidden.

        Raises RunNotFound.
        """

    @abc.abstractmethod
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
        """Return a series in its order (step, session, seq; null steps last), both ends of the range included.

        Points that a resumed session rewound over are left out, or marked where ``include_hidden`` asks for them
        (spec: FLD-3, FLD-8). A range leaves out points without a step. ``limit``: at most so many points, the first
        ones. An unknown key is an empty series; an unknown run raises RunNotFound.
        """

    def get_metric_aggregate(
        self, run_id: str, key: str, *, min_step: int | None = None, max_step: int | None = None
    ) -> list[Aggregate]:
        """Return a series over all workers, one value a step, both ends of the range included. spec: FLD-3.7, FLD-3.8

        Of each worker the last point of a step counts, that of its last session; points without a step, and hidden
        ones, don't. An unknown key is an empty list; an unknown run raises RunNotFound.
        """
        return aggregate_series(self.get_metrics(run_id, key, min_step=min_step, max_step=max_step))

    def get_series(
        self,
        run_id: str,
        key: str,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        worker_id: str | None = None,
        include_hidden: bool = False,
    ) -> Series:
        """Return what ``get_metrics`` does as arrays: for whoever draws or computes with many points.

        An unknown key is an empty series; an unknown run raises RunNotFound.
        """
        points = self.get_metrics(
            run_id, key, min_step=min_step, max_step=max_step, worker_id=worker_id, include_hidden=include_hidden
        )
        return Series(
            array("q", [point.step for point in points if point.step is not None]),
            array("d", [float(point.value) for point in points]),
            array("q", [point.timestamp_us for point in points]),
        )

    def downsample(
        self,
        run_id: str,
        key: str,
        points: int = 2000,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
        worker_id: str | None = None,
    ) -> Series:
        """Return at most ``points`` points of a series that look like all of it: the first, the last, and between them
        the extremes, so that no spike is lost. All of them where there are no more. Which others is up to the store.

        Raises RunNotFound, and ValueError for less than 2 points.
        """
        return downsample(
            self.get_series(run_id, key, min_step=min_step, max_step=max_step, worker_id=worker_id), points
        )

    @abc.abstractmethod
    def get_params(self, run_id: str) -> dict[str, list[ParamValue]]:
        """Return each param by its dotted name with its history, oldest first; one of each is current.

        Raises RunNotFound. spec: FLD-2, FLD-2.9
        """

    @abc.abstractmethod
    def get_artifacts(self, run_id: str) -> list[StoredArtifact]:
        """Return all artifacts in the order of their time stamps."""

    @abc.abstractmethod
    def get_checkpoints(self, run_id: str, *, include_hidden: bool = False) -> list[StoredCheckpoint]:
        """Return all checkpoints in the order of steps; rewound ones only where asked for. spec: FLD-8"""

    @abc.abstractmethod
    def get_logs(self, run_id: str, *, limit: int | None = None) -> list[LogRecord]:
        """Return all log events, or the last ``limit``, in the order of their time stamps."""

    @abc.abstractmethod
    def events(self, run_id: str | None = None, *, after: int = 0, limit: int | None = None) -> Iterator[StoredEvent]:
        """Yield stored events with a position above ``after``, in order of position: for replay and subscribers.

        Of one run, or of all. What is stored while the iterator is read may or may not come, but nothing before it is
        left out. Raises RunNotFound at the call.
        """

    @abc.abstractmethod
    def conflicts(self, run_id: str) -> list[StoredEvent]:
        """Return the events that came under a seq already taken by another one, each content once, as they came.

        Their position is that of the event which stands. Raises RunNotFound. spec: STR-5
        """

    # ------------------------------------------------------------------------------------------ experiments

    @abc.abstractmethod
    def create_experiment(
        self, name: str, *, experiment_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """Make an experiment; its id is its name unless given. Runs make theirs by use.

        Ids and names are one name space, so that either finds an experiment. Raises ExperimentExists.
        """

    @abc.abstractmethod
    def get_experiment(self, name_or_id: str) -> Experiment:
        """Return an experiment by its id or its name. Raises ExperimentNotFound."""

    @abc.abstractmethod
    def list_experiments(self) -> list[Experiment]:
        """Return all experiments, sorted by name."""

    @abc.abstractmethod
    def tag_experiment(self, name_or_id: str, tags: Mapping[str, str]) -> Experiment:
        """Set tags of an experiment; others stay. Raises ExperimentNotFound."""

    @abc.abstractmethod
    def delete_experiment(self, name_or_id: str, *, with_runs: bool = False) -> None:
        """Delete an experiment; one that has runs only with them, where asked. Raises StorageError otherwise."""

    # ------------------------------------------------------------------------------------------ owners

    @abc.abstractmethod
    def claim_run(self, run_id: str, owner: str) -> RunAccess:
        """Make ``owner`` the owner of a run that nobody has written to yet; return what holds for the run then.

        The first claim wins, also among processes, and is kept as ``durability`` says when this returns. A run with
        an owner, and one without that has events, stay as they are: the caller compares the owner. Raises RunDeleted,
        and ValueError for a name that no owner can have. spec: SEC-4.1, SEC-4.2
        """

    @abc.abstractmethod
    def get_access(self, run_id: str) -> RunAccess:
        """Return who may do what with a run; of one that isn't known, or was deleted, nobody owns anything."""

    @abc.abstractmethod
    def change_access(self, run_id: str, change: Callable[[RunAccess], RunAccess]) -> RunAccess:
        """Replace what holds for a run by what ``change`` makes of it, and return that. Two at once lose nothing.

        The run need not be known yet. ``change`` asks the store nothing. Raises RunDeleted.
        """

    def set_access(self, run_id: str, access: RunAccess) -> None:
        """Set what holds for a run, whatever held before. Raises RunDeleted."""
        self.change_access(run_id, lambda _: access)

    # ------------------------------------------------------------------------------------------ upkeep

    @abc.abstractmethod
    def backup(self, path: str | Path) -> None:
        """Write a consistent copy of the whole store to ``path``, a SQLite file, while others go on writing.

        Raises StorageError where ``path`` exists.
        """

    @abc.abstractmethod
    def check(self) -> list[str]:
        """Return what is damaged, one line each; an empty list for a sound store."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release everything; the store can't be used after it. May be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
