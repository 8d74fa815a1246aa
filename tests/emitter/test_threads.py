"""Threads, signal handlers and finalizers in the middle of logging: one seq an event, in the order of the file."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.ir import LogEntry, Metric, RunEnd
from xtrack_protocol.transport import MemoryTransport
from xtrack_protocol.wire import decode

THREADS, EACH = 8, 5_000


def test_eight_threads(spool: Any) -> None:
    """The file's order is the order of seqs, without a gap, and every thread's events are in its own order."""
    run = Tracker.start_run(strict=True)

    def log(name: int) -> None:
        for step in range(EACH):
            run.log_metric(f"thread {name}", float(step), step=step)

    threads = [threading.Thread(target=log, args=(name,)) for name in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.end()
    events = spool.events()
    assert [event.meta.seq for event in events] == list(range(1, THREADS * EACH + 4))
    for name in range(THREADS):
        steps = [event.payload.step for event in events if getattr(event.payload, "key", "") == f"thread {name}"]
        assert steps == list(range(EACH))
    assert run.stats().accepted == THREADS * EACH + 3


def test_all_kinds_at_once(spool: Any) -> None:
    run = Tracker.start_run(strict=True)
    stop = threading.Event()

    def busy(call: Any) -> None:
        while not stop.is_set():
            call()

    calls = [
        lambda: run.log_metrics({"a": 1.0, "b": 2.0}, step=1, phase="train"),
        lambda: run.log("message", field=1),
        lambda: run.log_params({"p": {"q": 1}}),
        lambda: run.flush("durable"),
        lambda: run.stats(),
        lambda: run.should_stop,
        lambda: list(run.commands()),
    ]
    threads = [threading.Thread(target=busy, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    run.end()
    seqs = [event.meta.seq for event in spool.events()]
    assert seqs == list(range(1, len(seqs) + 1))


def test_nothing_comes_after_the_end(spool: Any) -> None:
    """EVT-RUN_END-2.1: threads that go on logging are told, and run_end is the last event."""
    run = Tracker.start_run()
    stop = threading.Event()

    def log() -> None:
        while not stop.is_set():
            run.log_metric("k", 1.0)

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    ends = [threading.Thread(target=run.end) for _ in range(4)]
    for thread in ends:
        thread.start()
    for thread in ends:
        thread.join()
    stop.set()
    for thread in threads:
        thread.join()
    events = spool.events()
    assert isinstance(events[-1].payload, RunEnd)
    assert sum(isinstance(event.payload, RunEnd) for event in events) == 1
    assert run.stats().dropped == 0


class Interrupting(MemoryTransport):
    """Calls something while an event is on its way: before it is taken, or after."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Any = None
        self.after: Any = None

    def send(self, seq: int, payload: bytes) -> None:
        call, self.before = self.before, None
        if call:
            call()
        super().send(seq, payload)
        call, self.after = self.after, None
        if call:
            call()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_handler_that_logs(spool: Any, moment: str) -> None:
    """As a signal handler or a finalizer does: its event comes after the one it interrupted."""
    transport = Interrupting()
    run = Tracker.start_run(transport=transport, strict=True)
    setattr(transport, moment, lambda: run.log("from the handler"))
    run.log_metric("k", 1.0)
    run.log_metric("k", 2.0)
    events = transport.events[2:]
    assert [event.meta.seq for event in events] == [3, 4, 5]
    assert [type(event.payload) for event in events] == [Metric, LogEntry, Metric]
    run.end()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_inside_of_an_event(spool: Any, moment: str) -> None:
    """Whether the event was out can't be known: its seq is never used again, and its loss is declared."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    transport = Interrupting()
    run = Tracker.start_run(transport=transport)
    setattr(transport, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.log_metric("k", 1.0)
    run.log_metric("k", 2.0)
    run.end()
    seqs = [event.meta.seq for event in transport.events]
    assert seqs == [1, 2, *([] if moment == "before" else [3]), 0, 4, 5]
    skip = next(event.payload for event in transport.events if event.event_type == "skip")
    assert (skip.first, skip.last) == (3, 3)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_handler_that_ends_the_run(spool: Any, moment: str) -> None:
    transport = Interrupting()
    run = Tracker.start_run(transport=transport)
    setattr(transport, moment, lambda: run.end("killed"))
    run.log_metric("k", 1.0)
    run.log_metric("k", 2.0)
    events = [event for event in transport.events if event.meta.seq]
    assert len({event.meta.seq for event in events}) == len(events)
    assert isinstance(events[-1].payload, RunEnd)


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timer")
def test_a_storm_of_signals(spool: Any) -> None:
    """A handler that logs, a thousand times a second, while the script logs."""
    run = Tracker.start_run(strict=True)
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        run.log("signal", number=handled)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for step in range(20_000):
            run.log_metric("k", 1.0, step=step)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    run.end()
    events = spool.events()
    assert [event.meta.seq for event in events] == list(range(1, len(events) + 1))
    assert sum(isinstance(event.payload, LogEntry) for event in events) == handled > 10
    assert [event.payload.step for event in events if isinstance(event.payload, Metric)] == list(range(20_000))


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timer")
def test_a_storm_of_ctrl_c(spool: Any) -> None:
    """Every event that is there is there once; what may be missing is declared."""
    run = Tracker.start_run()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupts = returned = 0
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        for step in range(20_000):
            try:
                run.log_metric("k", 1.0, step=step)
                returned += 1
            except KeyboardInterrupt:
                interrupts += 1
    except KeyboardInterrupt:  # between two calls
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    run.log_metric("after", 1.0)
    run.end()
    events = [event for event in spool.events() if event.meta.seq]
    seqs = [event.meta.seq for event in events]
    assert len(set(seqs)) == len(seqs)
    assert isinstance(events[-1].payload, RunEnd)
    assert sum(isinstance(event.payload, Metric) for event in events) >= returned
    state = spool.state()
    assert state.streams[0].gaps == ()
    assert state.status == "completed"


def test_a_transport_that_breaks_its_promises(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(MemoryTransport):
        fails = False

        def send(self, seq: int, payload: bytes) -> None:
            if self.fails:
                raise ZeroDivisionError("a bug")
            super().send(seq, payload)

        def receive(self) -> list[bytes]:
            raise ZeroDivisionError("a bug")

    transport = Broken()
    run = Tracker.start_run(transport=transport)
    transport.fails = True
    run.log_metric("k", 1.0)
    assert not run.should_stop
    transport.fails = False
    run.log_metric("k", 2.0)
    run.end()
    assert run.stats().dropped == 1
    assert [decode(payload).meta.seq for payload in transport.payloads] == [1, 2, 0, 4, 5]
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err
