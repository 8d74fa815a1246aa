"""Forked children have streams of their own; parents go on undisturbed. spec: STR-3"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from xtrack_protocol import current_run, log_metric
from xtrack_protocol import start_run as start_current
from xtrack_protocol.emitter import Tracker
from xtrack_protocol.ir import Metric, RunEnd, RunStart
from xtrack_protocol.wire import FrameDecoder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A deadlock ends the test with everybody's stack."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def fork(child: Callable[[], object]) -> int:
    """Run ``child`` in a fork; return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: we fork with threads on purpose
        pid = os.fork()
    if pid:
        return pid
    signal.alarm(30)  # a child that hangs dies of it
    status = 1
    try:
        child()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def wait(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the child failed, or hung"


def streams_by_kind(spool: Any) -> tuple[list[Any], list[list[Any]]]:
    """Return the parent's events, and those of each child."""
    parents, children = [], []
    for events in spool.streams().values():
        start = events[0].payload
        assert isinstance(start, RunStart)
        (children if start.sub else parents).append(events)
    (parent,) = parents
    return parent, children


def seqs(events: list[Any]) -> list[int]:
    return [event.meta.seq for event in events]


def test_a_child_has_its_own_stream(spool: Any) -> None:
    run = Tracker.start_run(strict=True)
    run.log_metric("parent", 1.0)
    sid = run.session_id

    def child() -> None:
        assert run.stats().accepted == 0
        run.log_metric("child", 1.0, step=1)
        run.log_metric("child", 2.0, step=2)
        assert run.session_id != sid
        assert run.stats().accepted == 3

    wait(fork(child))
    run.log_metric("parent", 2.0)
    run.end()
    parent, (child_events,) = streams_by_kind(spool)
    assert seqs(parent) == [1, 2, 3, 4, 5]
    assert seqs(child_events) == [1, 2, 3]
    state = spool.state()
    assert state.status == "completed"
    assert state.metrics["child"].count == 2
    assert {stream.sub for stream in state.streams} == {True, False}


def test_a_child_says_that_it_is_one_over_a_descriptor_too(spool: Any) -> None:
    reading, writing = os.pipe()
    run = Tracker.start_run(transport=f"stdio:{writing}", world_size=2, strict=True)
    wait(fork(lambda: run.log_metric("child", 1.0)))
    run.end()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        frames = FrameDecoder().feed(pipe.read())
    starts = [frame.envelope.payload for frame in frames if frame.envelope and frame.envelope.event_type == "run_start"]
    assert [(start.sub, start.world_size) for start in starts] == [(False, 2), (True, None)]  # type: ignore[union-attr]
    assert spool.streams() == {}


def test_a_silent_child_leaves_no_trace(spool: Any) -> None:
    run = Tracker.start_run(strict=True)

    def child() -> None:
        assert run.flush("durable")
        assert not run.should_stop
        assert list(run.commands()) == []
        run.end()

    wait(fork(child))
    run.end()
    assert len(spool.streams()) == 1
    assert spool.state().status == "completed"


def test_the_end_of_a_child_is_not_the_end_of_the_run(spool: Any) -> None:
    with Tracker.start_run(strict=True) as run:

        def child() -> None:
            with run:
                run.log_metric("child", 1.0)
            assert run.ended

        wait(fork(child))
        run.log_metric("parent", 1.0)
    parent, (child_events,) = streams_by_kind(spool)
    assert isinstance(parent[-1].payload, RunEnd)
    assert not any(isinstance(event.payload, RunEnd) for event in child_events)
    assert spool.state().status == "completed"


def test_a_child_that_leaves_by_exit(script: Any, spool: Any) -> None:
    """Its hooks run at its exit, and must not end the run."""
    done = script(
        """
        import os, sys
        import xtrack_protocol as xtrack
        run = xtrack.start_run()
        pid = os.fork()
        if pid == 0:
            run.log_metric("child", 1.0)
            sys.exit(3)
        os.waitpid(pid, 0)
        run.log_metric("parent", 1.0)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    parent, children = streams_by_kind(spool)
    assert parent[-1].payload.status == "completed"
    assert len(children) == 1


def test_the_child_of_a_child(spool: Any) -> None:
    run = Tracker.start_run(strict=True)

    def grandchild() -> None:
        run.log_metric("grandchild", 1.0)

    def child() -> None:
        run.log_metric("child", 1.0)
        wait(fork(grandchild))
        run.log_metric("child", 2.0)

    def silent_child() -> None:
        wait(fork(grandchild))

    wait(fork(child))
    wait(fork(silent_child))
    run.end()
    parent, children = streams_by_kind(spool)
    assert seqs(parent) == [1, 2, 3]
    assert sorted(seqs(events) for events in children) == [[1, 2], [1, 2], [1, 2, 3]]


@pytest.mark.parametrize("forks", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_forks_in_the_middle_of_logging(spool: Any, forks: int) -> None:
    """Threads hold every lock there is at some fork; no child hangs, and no seq is in two streams."""
    run = start_current(strict=True)
    stop = threading.Event()
    logged = [0, 0, 0]

    def log(name: int) -> None:
        while not stop.is_set():
            log_metric(f"thread {name}", 1.0, step=logged[name])
            logged[name] += 1
            if logged[name] % 50 == 0:
                run.flush("durable")
                run.stats()
                _ = run.should_stop

    threads = [threading.Thread(target=log, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()

    def child() -> None:
        children = [threading.Thread(target=lambda: [log_metric("child", 1.0) for _ in range(20)]) for _ in range(3)]
        for thread in children:
            thread.start()
        for thread in children:
            thread.join()
        run.log("from the child", n=1)
        run.flush("durable")
        assert current_run() is run

    pids = []
    for _ in range(forks):
        pids.append(fork(child))
        time.sleep(0.005)
    for pid in pids:
        wait(pid)
    stop.set()
    for thread in threads:
        thread.join()
    run.end()
    parent, children = streams_by_kind(spool)
    assert seqs(parent) == list(range(1, sum(logged) + 4))
    assert len(children) == forks
    assert all(seqs(events) == list(range(1, 63)) for events in children)
    for name in range(3):
        steps = [event.payload.step for event in parent if getattr(event.payload, "key", "") == f"thread {name}"]
        assert steps == list(range(logged[name]))


def test_a_parent_that_dies_leaves_its_child_logging(spool: Any, script: Any) -> None:
    """The child's stream is its own, lock and all; the parent's is seen to be free."""
    done = script(
        """
        import os, time
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        if os.fork() == 0:
            for step in range(20):
                run.log_metric("child", 1.0, step=step)
                time.sleep(0.01)
        os._exit(0)
        """
    )
    assert done.returncode == 0
    deadline = time.monotonic() + 20
    while True:
        streams = spool.streams()
        if len(streams) == 2 and max(len(events) for events in streams.values()) == 21:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent, (child_events,) = streams_by_kind(spool)
    assert seqs(parent) == [1, 2]
    assert [event.payload.step for event in child_events if isinstance(event.payload, Metric)] == list(range(20))


def test_a_tracker_in_a_child(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child's own first run is bound to XTRACK_RUN_ID as any process's first run."""
    monkeypatch.setenv("XTRACK_RUN_ID", "bound")
    with Tracker.start_run() as run:
        assert run.run_id == "bound"

        def child() -> None:
            with Tracker.start_run(worker_id="1") as mine:
                assert mine.run_id == "bound"

        wait(fork(child))


WORKER = """
import multiprocessing, sys
import xtrack_protocol as xtrack

def work(name):
    with xtrack.start_run(run_id="r", worker_id=name) as run:
        run.log_metric("loss", float(name))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with xtrack.start_run(run_id="r") as run:
        workers = [context.Process(target=work, args=(str(name),)) for name in (1, 2)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(spool: Any, script: Any, method: str) -> None:
    done = script(WORKER, method)
    assert (done.returncode, done.stderr) == (0, "")
    streams = spool.streams()
    assert sorted(stream.worker_id for stream in streams) == ["", "1", "2"]
    assert spool.state().status == "completed"


def test_multiprocessing_with_the_parents_run(spool: Any, script: Any) -> None:
    """A fork inherits the run; a spawned process would need another way, and is told."""
    done = script(
        """
        import multiprocessing
        import xtrack_protocol as xtrack

        def work(name):
            xtrack.log_metric("loss", float(name))

        if __name__ == "__main__":
            with xtrack.start_run(run_id="r") as run:
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    pool.map(work, range(20), chunksize=1)
                    pool.close()
                    pool.join()
                try:
                    multiprocessing.get_context("spawn").Process(target=print, args=(run,)).start()
                except TypeError as error:
                    print(error)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Tracker.attach('r')" in done.stdout
    state = spool.state()
    assert (state.status, state.metrics["loss"].count) == ("completed", 20)
