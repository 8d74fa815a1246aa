"""What a transaction brings is put together by streams, and nothing is lost, moved or allowed by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import attrs
from event_builders import end, frames, metric, start
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrack_protocol.collector import Collector, StreamBatch
from xtrack_protocol.ir import Envelope, RunStart
from xtrack_protocol.server import ServerLimits
from xtrack_protocol.server.committer import Committer, Work, merged
from xtrack_protocol.session import Refusal, StreamId
from xtrack_protocol.storage import MemoryStore, StreamEvents, StreamResult

STREAMS = tuple(StreamId(run, wid, "a" * 32) for run in ("r", "s") for wid in ("", "w1"))


class Origin:
    """A connection that may store anything, or no run that it starts."""

    def __init__(self, *, refuses_starts: bool = False) -> None:
        self.asked: list[tuple[StreamId, Envelope, bool]] = []
        self._refuses_starts = refuses_starts

    def may_store(self, stream: StreamId, first: Envelope, *, is_start: bool) -> Refusal | None:
        self.asked.append((stream, first, is_start))
        return Refusal("forbidden", "no") if is_start and self._refuses_starts else None


ORIGINS = (Origin(), Origin())


def work_of(origin: Origin, stream: StreamId, events: Sequence[Envelope], at: int = 0, upto: int = 0) -> Work:
    batch = StreamBatch(stream, tuple(frames(list(events))), at)
    return Work(origin, batch, 100 * len(events), upto, [(upto, "bad_value")] if upto % 3 == 1 else [])


@st.composite
def queues(draw: st.DrawFn) -> list[Work]:
    works = []
    at = 0
    for number in range(1, draw(st.integers(1, 12))):
        stream = draw(st.sampled_from(STREAMS))
        at += draw(st.sampled_from((0, 100, 4_000, 11_000, -50)))
        kind = draw(st.sampled_from(("metrics", "metrics", "metrics", "start", "end")))
        named: dict[str, Any] = {"run": stream.run_id, "wid": stream.worker_id or None, "sid": stream.session_id}
        events = [metric(seq, **named) for seq in range(10 * number, 10 * number + draw(st.integers(1, 5)))]
        if kind == "start":
            events.insert(draw(st.integers(0, len(events))), start(seq=1000 + number, **named))
        elif kind == "end":
            events.append(end(2000 + number, **named))
        works.append(work_of(draw(st.sampled_from(ORIGINS)), stream, events, at, number))
    return works


@settings(max_examples=300, deadline=None)
@given(queues())
def test_what_is_put_together_holds_what_there_was(works: list[Work]) -> None:
    found = merged(works)
    for run in ("r", "s"):  # the order within each run stays
        assert _events(found, run) == _events(works, run)
    for origin in ORIGINS:
        for stream in STREAMS:
            mine, before = _of(found, origin, stream), _of(works, origin, stream)
            assert sum(work.size for work in mine) == sum(work.size for work in before)
            assert [one for work in mine for one in work.rejected] == [one for work in before for one in work.rejected]
            assert max((work.upto for work in mine), default=0) == max((work.upto for work in before), default=0)
    for work in found:
        envelopes = [frame.envelope for frame in work.batch.frames if frame.envelope]
        assert attrs.evolve(work.batch).milestones == work.batch.milestones
        assert list(work.batch.milestones) == list(StreamBatch(work.batch.stream, work.batch.frames, 0).milestones)
        begins = [one.batch for one in works if one.batch.frames[0] is work.batch.frames[0]]
        assert begins[0].received_at_us == work.batch.received_at_us
        parts = [one for one in works if any(one.batch.frames[0] is frame for frame in work.batch.frames)]
        assert all(0 <= one.batch.received_at_us - work.batch.received_at_us <= 10_000 for one in parts)
        if len(parts) > 1:  # what starts a run behind something else isn't among them
            behind = envelopes[len(parts[0].batch.frames) :]
            assert not any(isinstance(envelope.payload, RunStart) for envelope in behind)


def _events(works: list[Work], run: str) -> list[tuple[Any, StreamId, bytes]]:
    return [
        (work.origin, work.batch.stream, frame.raw)
        for work in works
        if work.batch.stream.run_id == run
        for frame in work.batch.frames
    ]


def _of(works: list[Work], origin: Origin, stream: StreamId) -> list[Work]:
    return [work for work in works if work.origin is origin and work.batch.stream == stream]


class Watched(MemoryStore):
    """A store that tells what it is given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[list[tuple[StreamId, int]]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def append_streams(self, batches: Sequence[StreamEvents]) -> list[StreamResult]:
        self.given.append([(batch.stream, len(batch.frames)) for batch in batches])
        self.may_go_on.wait(30)
        return super().append_streams(batches)


def committing(store: MemoryStore, committed: list[Work], **limits: Any) -> Committer:
    committer = Committer(
        Collector(store),
        ServerLimits(**limits),
        report=lambda call: call(),
        committed=committed.extend,
        trouble=lambda text: None,
        complain=lambda text: None,
    )
    committer.start()
    return committer


def finish(committer: Committer) -> None:
    committer.stop()
    deadline = time.monotonic() + 30
    while not committer.is_over:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_transaction_hands_the_store_few_batches() -> None:
    store, committed, origin = Watched(), [], Origin()
    store.may_go_on.clear()
    committer = committing(store, committed)
    named = {"sid": "a" * 32}
    committer.put(work_of(origin, STREAMS[0], [metric(1, **named)], upto=1))
    while not store.given:
        time.sleep(0.005)
    for first in range(2, 102, 10):  # meanwhile
        events = [metric(seq, **named) for seq in range(first, first + 10)]
        committer.put(work_of(origin, STREAMS[0], events, upto=first + 9))
    store.may_go_on.set()
    finish(committer)
    assert store.given == [[(STREAMS[0], 1)], [(STREAMS[0], 100)]]
    assert [work.upto for work in committed] == [1, 101]
    assert sum(work.outcome.stored for work in committed) == 101


def test_every_start_of_a_run_is_asked_about() -> None:
    """Also a second one in what came at a time, and with what came before it being stored."""
    store, committed, origin = Watched(), [], Origin(refuses_starts=True)
    committer = committing(store, committed)
    named = {"sid": "a" * 32}
    committer.put(work_of(origin, STREAMS[0], [metric(1, **named)]))
    committer.put(work_of(origin, STREAMS[0], [metric(2, **named), start(seq=3, **named), start(seq=4, **named)]))
    finish(committer)
    assert [work.refusal is not None for work in committed] == [False, True]
    assert [envelope.meta.seq for _, envelope, is_start in origin.asked if is_start] == [3]
    assert [one.envelope.meta.seq for one in store.events("r")] == [1]


def test_a_trickle_waits_for_no_more_than_a_moment() -> None:
    store, committed, origin = Watched(), [], Origin()
    committer = committing(store, committed, linger_seconds=5.0)
    named = {"sid": "a" * 32}
    begun = time.monotonic()
    committer.put(work_of(origin, STREAMS[0], [metric(seq, **named) for seq in range(1, 101)]))
    while not store.given:
        assert time.monotonic() - begun < 4.0  # of 64 events on, only as long as more keep coming
        time.sleep(0.005)
    finish(committer)


def test_enough_for_a_transaction_waits_for_nothing() -> None:
    store, committed, origin = Watched(), [], Origin()
    committer = committing(store, committed, linger_seconds=60.0)
    named = {"sid": "a" * 32}
    for first in range(1, 2001, 20):  # while it lingers
        committer.put(work_of(origin, STREAMS[0], [metric(seq, **named) for seq in range(first, first + 20)]))
    deadline = time.monotonic() + 10
    while not store.given:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    finish(committer)
    assert sum(work.outcome.stored for work in committed) == 2000
