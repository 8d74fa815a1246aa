"""Subscribers get every event once, whatever they do and whenever they come."""

import asyncio
import threading
import time

import pytest
from event_builders import a_run, end, frames, metric, start

from xtrack_protocol.collector import Collector
from xtrack_protocol.collector.hub import BATCH
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.storage.memory import MemoryStore
from xtrack_protocol.storage.sqlite import SQLiteStore


@pytest.fixture(params=["memory", "sqlite"])
def collector(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "store.db")
    with store:
        yield Collector(store)


def push_slowly(collector, envelopes, pause=0.0):
    def run():
        for envelope in envelopes:
            collector.push_event(envelope)
            time.sleep(pause)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_history_then_live_each_once(collector):
    events = a_run(300)
    collector.push_frames(frames(events[:100]))
    thread = push_slowly(collector, events[100:])
    with collector.subscribe("r", until_end=True, timeout=30) as subscription:
        seqs = [stored.envelope.meta.seq for stored in subscription]
    thread.join()
    assert seqs == list(range(1, 303))
    assert not subscription.timed_out


def test_from_a_cursor(collector):
    collector.push_frames(frames(a_run(20)))
    with collector.subscribe("r", until_end=True) as subscription:
        first = [next(subscription) for _ in range(7)]
        position = subscription.position
        assert subscription.behind
    assert position == first[-1].position
    rest = list(collector.subscribe("r", after=position, until_end=True))
    assert [stored.envelope.meta.seq for stored in first + rest] == list(range(1, 23))


def test_only_from_now(collector):
    collector.push_frames(frames([start(), metric(2)]))
    with collector.subscribe("r", after=None, timeout=5) as subscription:
        collector.push_event(metric(3))
        assert next(subscription).envelope.meta.seq == 3


def test_a_run_that_is_not_there_yet(collector):
    with collector.subscribe("r", until_end=True, timeout=20) as subscription:
        thread = push_slowly(collector, a_run(5), 0.01)
        assert len(list(subscription)) == 7
        thread.join()


def test_duplicates_are_not_told_again(collector):
    events = a_run(10)
    collector.push_frames(frames(events))
    with collector.subscribe("r", timeout=0.2, poll=0.05) as subscription:
        assert len(list(subscription)) == 12
        collector.push_frames(frames(events))
        assert list(subscription) == []
        assert subscription.timed_out


def test_time_out(collector):
    before = time.monotonic()
    with collector.subscribe("r", timeout=0.1) as subscription:
        assert list(subscription) == []
    assert subscription.timed_out
    assert time.monotonic() - before < 2


def test_a_subscription_that_timed_out_can_be_asked_again(collector):
    with collector.subscribe("r", until_end=True, timeout=0.05, poll=0.01) as subscription:
        assert list(subscription) == []
        assert subscription.timed_out
        collector.push_event(start())
        assert next(subscription).envelope.meta.seq == 1
        assert not subscription.timed_out, "it tells how the last wait went"
        assert list(subscription) == []
        assert subscription.timed_out
        collector.push_frames(frames(a_run(1)[1:]))
        assert [stored.envelope.meta.seq for stored in subscription] == [2, 3]
        assert not subscription.timed_out, "the run's end ended it"


def test_an_async_one_that_timed_out_can_be_asked_again(collector):
    async def main():
        async with collector.subscribe_async("r", timeout=0.05, poll=0.01) as subscription:
            assert [stored async for stored in subscription] == []
            assert subscription.timed_out
            collector.push_event(start())
            assert (await subscription.__anext__()).envelope.meta.seq == 1
            return subscription

    assert not asyncio.run(main()).timed_out


def test_closing_from_another_thread_ends_it(collector):
    subscription = collector.subscribe("r")
    threading.Timer(0.1, subscription.close).start()
    assert list(subscription) == []
    assert not subscription.timed_out


def test_a_deleted_run_ends_it(collector):
    collector.push_frames(frames([start(), metric(2)]))
    with collector.subscribe("r", timeout=20, poll=0.02) as subscription:
        assert len([next(subscription), next(subscription)]) == 2
        collector.store.delete_run("r")
        assert list(subscription) == []
    assert not subscription.timed_out


def test_a_slow_subscriber_holds_up_nobody_and_misses_nothing(collector):
    with collector.subscribe("r", until_end=True, timeout=30) as slow:
        collector.push_event(start())
        assert next(slow).envelope.meta.seq == 1
        for first in range(2, 5 * BATCH, 100):  # nobody reads meanwhile
            collector.push_frames(frames([metric(seq) for seq in range(first, first + 100)]))
        assert slow.behind
        assert len(slow._buffer) <= BATCH
        last = first + 100
        collector.push_event(end(last))
        assert [stored.envelope.meta.seq for stored in slow] == list(range(2, last + 1))


def test_a_subscriber_may_skip_and_is_told_what(collector):
    with collector.subscribe("r", timeout=5) as subscription:
        collector.push_event(start())
        at = next(subscription).position
        assert subscription.skip_to_latest() is None
        collector.push_frames(frames([metric(seq) for seq in range(2, 1000)]))
        missed = subscription.skip_to_latest()
        assert missed is not None
        assert missed.after == at
        collector.push_event(metric(1000))
        assert next(subscription).envelope.meta.seq == 1000
        caught_up = [
            stored for stored in collector.store.events("r", after=missed.after) if stored.position <= missed.through
        ]
        assert [stored.envelope.meta.seq for stored in caught_up] == list(range(2, 1000))


def test_events_that_others_store_are_found(tmp_path):
    path = tmp_path / "s.db"
    with (
        SQLiteStore(path) as ours,
        SQLiteStore(path) as theirs,
        Collector(ours).subscribe("r", until_end=True, timeout=20, poll=0.02) as subscription,
    ):
        thread = push_slowly(Collector(theirs), a_run(5), 0.02)
        assert len(list(subscription)) == 7
        thread.join()


def test_the_local_store_while_it_is_written(tmp_path):
    with LocalStore(tmp_path) as store:
        collector = Collector(store)
        thread = push_slowly(collector, a_run(40), 0.001)
        with collector.subscribe("r", until_end=True, timeout=20, poll=0.01) as subscription:
            assert [stored.envelope.meta.seq for stored in subscription] == list(range(1, 43))
        thread.join()


def test_many_subscribers_at_once(collector):
    results: list[list[int]] = []

    def read():
        with collector.subscribe("r", until_end=True, timeout=30) as subscription:
            results.append([stored.envelope.meta.seq for stored in subscription])

    readers = [threading.Thread(target=read) for _ in range(5)]
    for reader in readers:
        reader.start()
    collector.push_frames(frames(a_run(500)))
    for reader in readers:
        reader.join()
    assert results == [list(range(1, 503))] * 5


def test_async_iterator(collector):
    async def main():
        events = a_run(300)
        collector.push_frames(frames(events[:50]))
        thread = push_slowly(collector, events[50:])
        seqs = []
        async with collector.subscribe_async("r", until_end=True, timeout=30) as subscription:
            async for stored in subscription:
                seqs.append(stored.envelope.meta.seq)
        thread.join()
        rest = [s.envelope.meta.seq async for s in collector.subscribe_async("r", after=250, until_end=True)]
        return seqs, rest

    seqs, rest = asyncio.run(main())
    assert seqs == list(range(1, 303))
    assert rest == list(range(251, 303))


def test_async_leaves_the_loop_free_and_can_be_closed(collector):
    async def main():
        subscription = collector.subscribe_async("r")
        ticks = 0

        async def tick():
            nonlocal ticks
            for _ in range(20):
                await asyncio.sleep(0.01)
                ticks += 1
            subscription.close()

        ticking = asyncio.create_task(tick())
        got = [stored async for stored in subscription]
        await ticking
        return got, ticks, subscription

    got, ticks, subscription = asyncio.run(main())
    assert (got, ticks) == ([], 20)
    assert not subscription.timed_out


def test_a_dead_event_loop_does_not_disturb_the_collector(collector):
    async def main():
        subscription = collector.subscribe_async("r", timeout=0.05)
        assert [stored async for stored in subscription] == []
        assert subscription.timed_out
        return subscription

    asyncio.run(main())  # never closed
    assert collector.push_event(start()).outcome == "stored"
