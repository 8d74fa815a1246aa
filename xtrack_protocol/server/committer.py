"""The one thread that writes: what all connections bring goes into the store in common transactions.

Whatever waits when a transaction begins goes with it, up to a bound: the more comes, the fewer there are for it. Tasks
stand in the same queue, so that each sees all that was handed in before it. What the store refuses for the moment (it
is full, or locked) is kept and tried again; nothing is thrown away that a peer might take for kept.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from xtrack_protocol.collector import BatchOutcome, Collector, StreamBatch
from xtrack_protocol.errors import (
    StorageError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
)
from xtrack_protocol.ir import Envelope, RunStart, Skip
from xtrack_protocol.session import Refusal, StreamId
from xtrack_protocol.wire import Frame, encode

if TYPE_CHECKING:
    from xtrack_protocol.server.limits import ServerLimits

_PASSING: Final = (StoreFull, StoreLocked, StoreReadOnly, StoreUnavailable)
"""Errors that are about the whole store, and may be over by themselves or when somebody has made room."""
_MOMENT_US: Final = 10_000
"""Microseconds within which what a stream brings is received at one time."""


class Origin(Protocol):
    """Whom the committer asks about a connection."""

    def may_store(self, stream: StreamId, first: Envelope, *, is_start: bool) -> Refusal | None:
        """Whether events of ``stream`` may be stored: ``first`` is the first of them, or a run_start behind it.

        It may ask the store.
        """


@attrs.define(eq=False)
class Work:
    """Events of one stream of one connection. ``upto``: what to ack then; ``rejected``: refused beforehand."""

    origin: Origin
    batch: StreamBatch
    size: int
    upto: int = 0
    rejected: list[tuple[int, str]] = attrs.field(factory=list)
    outcome: BatchOutcome = attrs.field(factory=BatchOutcome)
    refusal: Refusal | None = None
    """Why nothing of it was stored: the peer may not. spec: CTL-7.2"""
    failure: str = ""
    """Why nothing of it was stored: the store can't take this run's events now."""


@attrs.define(eq=False)
class Task:
    """A call that sees everything handed in before it; ``done`` gets its result, or its error, in the loop."""

    call: Callable[[], Any]
    done: Callable[[Any], None]


Report: TypeAlias = Callable[[Callable[[], None]], None]
"""Runs a call in the server's loop."""


class Committer:
    """Writes what it is given, in order. ``report`` brings what came of it into the server's loop.

    ``committed``: called there with the works of a transaction; ``trouble``: with the text of an error of the store
    that keeps everything waiting, and with "" when that is over; ``complain``: with a line for the log.
    """

    def __init__(
        self,
        collector: Collector,
        limits: ServerLimits,
        *,
        report: Report,
        committed: Callable[[Sequence[Work]], None],
        trouble: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self._collector = collector
        self._limits = limits
        self._report = report
        self._committed = committed
        self._trouble = trouble
        self._complain = complain
        self._queue: deque[Work | Task] = deque()
        self._waiting_events = 0
        self._worth_waking = 0
        """Events that must wait before the thread, which lingers, is to be woken."""
        self._ready = threading.Condition()
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xtrack-committer", daemon=True)

    # ------------------------------------------------------------------------------------------ from the loop

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, item: Work | Task) -> None:
        """Hand in something."""
        with self._ready:
            self._queue.append(item)
            if isinstance(item, Work):
                self._waiting_events += len(item.batch.frames)
                if self._waiting_events < self._worth_waking:
                    return
            self._ready.notify()

    def stop(self) -> None:
        """Write what is left, and end. What a store goes on refusing is left when ``abandon`` is called."""
        self._stopping.set()
        with self._ready:
            self._ready.notify()

    def abandon(self) -> None:
        """Try no more."""
        self._abandoned.set()
        self.stop()

    @property
    def left(self) -> list[Work]:
        """What was not written; all of it when the thread has ended."""
        with self._ready:
            return [item for item in self._queue if isinstance(item, Work)]

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while True:
            works = self._next()
            if works:
                if not self._commit_stubbornly(works):
                    return
                continue
            with self._ready:
                task = self._queue.popleft() if self._queue else None
            if isinstance(task, Task):
                self._perform(task)
            elif task is None and self._stopping.is_set():
                return

    def _next(self) -> list[Work]:
        """Wait for something; return the works at the queue's head that fit into a transaction."""
        limits = self._limits
        with self._ready:
            while not self._queue:
                if self._stopping.is_set():
                    return []
                self._ready.wait()
            if isinstance(self._queue[0], Work) and 0 < self._waiting_events < limits.linger_bulk:
                self._linger()
            works: list[Work] = []
            events = size = 0
            while self._queue and isinstance(self._queue[0], Work):
                work = self._queue[0]
                events += len(work.batch.frames)
                size += work.size
                if works and (events > limits.batch_events or size > limits.batch_bytes):
                    break
                works.append(work)
                self._queue.popleft()
                self._waiting_events -= len(work.batch.frames)
        return works

    def _linger(self) -> None:
        """Wait a moment for more, but not when somebody waits for a task."""
        limits = self._limits
        deadline = time.monotonic() + limits.linger_seconds
        while self._waiting_events < limits.linger_bulk and not self._stopping.is_set():
            left = deadline - time.monotonic()
            if left <= 0 or not isinstance(self._queue[-1], Work):
                break
            before = self._waiting_events
            is_bulk = before >= limits.linger_events
            self._worth_waking = limits.linger_bulk if is_bulk else limits.linger_events
            self._ready.wait(min(left, limits.linger_seconds / 4) if is_bulk else left)
            if is_bulk and self._waiting_events == before:
                break  # nothing more comes just now
        self._worth_waking = 0

    def _commit_stubbornly(self, works: list[Work]) -> bool:
        """Write ``works``, however long it takes; return False when it was given up because the server ends."""
        works = merged(works)
        self._check_rights(works)
        shortest, longest = self._limits.retry_seconds
        wait, troubled = shortest, ""
        while True:
            try:
                self._commit(works)
                break
            except _PASSING as error:
                if str(error) != troubled:
                    troubled = str(error)
                    self._report(lambda text=troubled: self._trouble(text))  # type: ignore[misc]
                if self._abandoned.wait(wait):
                    with self._ready:
                        self._queue.extendleft(reversed(works))
                    return False
                wait = min(2 * wait, longest)
        self._report(lambda: self._committed(works))
        if troubled:
            self._report(lambda: self._trouble(""))
        return True

    def _check_rights(self, works: Sequence[Work]) -> None:
        for work in works:
            batch = work.batch
            first = batch.frames[0].envelope
            assert first is not None
            try:
                # A run is made by its first event, whatever that is; a run_start behind it doesn't make up for it.
                work.refusal = work.origin.may_store(batch.stream, first, is_start=_is_start(first))
                for start in batch.milestones:
                    if work.refusal is None and start is not first and _is_start(start):
                        work.refusal = work.origin.may_store(batch.stream, start, is_start=True)
            except Exception as error:  # noqa: BLE001 - nobody's rights are known: it waits, as for a damaged run
                self._fail(work, error)

    def _commit(self, works: Sequence[Work]) -> None:
        """Write ``works`` in one transaction; or, where that fails because of one of them, each by itself."""
        works = [work for work in works if work.refusal is None and not work.failure]
        if not works:
            return
        try:
            self._push(works)
        except _PASSING:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one event does to the store, the others are stored
            self._complain_later(f"a transaction of {len(works)} batches failed: {type(error).__name__}: {error}")
            for work in works:
                self._commit_alone(work)

    def _push(self, works: Sequence[Work]) -> None:
        for work, outcome in zip(works, self._collector.push_batches([work.batch for work in works]), strict=True):
            work.outcome = outcome

    def _commit_alone(self, work: Work) -> None:
        """Write what one batch brings; an event that the store can't keep is set aside. spec: FLD-12.3, CTL-17.7"""
        try:
            self._push([work])
        except _PASSING:
            raise
        except StorageError as error:  # of this run: its data are damaged, say
            self._fail(work, error)
        except Exception:  # noqa: BLE001 - as above
            work.outcome = total = BatchOutcome()
            try:
                for frame in work.batch.frames:
                    self._commit_frame(work, frame, total)
            except _PASSING:
                raise
            except Exception as error:  # noqa: BLE001 - not even a note that it is lost can be stored
                self._fail(work, error)

    def _fail(self, work: Work, error: Exception) -> None:
        """Have the peer wait, and send it again."""
        work.failure = str(error) if isinstance(error, StorageError) else f"{type(error).__name__}: {error}"
        self._complain_later(f"run {work.batch.stream.run_id!r} can't be written: {work.failure}")

    def _commit_frame(self, work: Work, frame: Frame, total: BatchOutcome) -> None:
        try:
            outcome = self._collector.push_batches([_with_frame(work.batch, frame)])[0]
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            assert frame.envelope is not None
            seq = frame.envelope.meta.seq
            stream = work.batch.stream
            problem = f"{type(error).__name__}: {error}"
            self._complain_later(f"event {seq} of run {stream.run_id!r} can't be stored, and is set aside: {problem}")
            aside = skip_frame(stream, seq, seq, "bad_value", work.batch.received_at_us)
            self._collector.push_batches([_with_frame(work.batch, aside)])
            total.refused.append((seq, "bad_value"))
        else:
            total.stored += outcome.stored
            total.duplicates += outcome.duplicates
            total.refused += outcome.refused
            total.ended = total.ended or outcome.ended

    def _complain_later(self, text: str) -> None:
        self._report(lambda: self._complain(text))

    def _perform(self, task: Task) -> None:
        result: Any
        try:
            result = task.call()
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            result = error
        self._report(lambda: task.done(result))


def merged(works: Iterable[Work]) -> list[Work]:
    """Return the works of a transaction, with those put together that bring one stream of one connection.

    The order within each run stays. What is put together counts as received when the first of it was, a moment before.
    What starts a run stays by itself, for it may be refused when what came before it isn't.
    """
    groups: list[list[Work]] = []
    latest: dict[str, list[Work]] = {}
    for work in works:
        run_id = work.batch.stream.run_id
        group = latest.get(run_id)
        if group is not None and _goes_on(group[0], work):
            group.append(work)
        else:
            latest[run_id] = group = [work]
            groups.append(group)
    return [group[0] if len(group) == 1 else _merge(group) for group in groups]


def _goes_on(first: Work, work: Work) -> bool:
    """Whether ``work`` can be put together with ``first``."""
    one, other = first.batch, work.batch
    return (
        first.origin is work.origin
        and one.stream == other.stream
        and 0 <= other.received_at_us - one.received_at_us <= _MOMENT_US
        and not any(map(_is_start, other.milestones))
    )


def _merge(works: Sequence[Work]) -> Work:
    first = works[0]
    batch = StreamBatch(
        first.batch.stream,
        list(chain.from_iterable(work.batch.frames for work in works)),
        first.batch.received_at_us,
        first.batch.source,
        [envelope for work in works for envelope in work.batch.milestones],
    )
    rejected = [refused for work in works for refused in work.rejected]
    return Work(first.origin, batch, sum(work.size for work in works), max(work.upto for work in works), rejected)


def _with_frame(batch: StreamBatch, frame: Frame) -> StreamBatch:
    return StreamBatch(batch.stream, (frame,), batch.received_at_us, batch.source)


def _is_start(envelope: Envelope) -> bool:
    return type(envelope.payload) is RunStart


def skip_frame(stream: StreamId, first: int, last: int, reason: str, timestamp_us: int) -> Frame:
    """Return a declared loss, to be stored in place of events that were refused. spec: STR-7, CTL-3.9"""
    skip = Skip(stream.run_id, stream.session_id, first, last, reason, stream.worker_id or None)
    envelope = Envelope.of(skip, seq=0, timestamp_us=timestamp_us)
    return Frame(envelope, None, 0, 0, encode(envelope))
