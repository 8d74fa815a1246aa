"""Ends of processes, forks, threads: what is logged arrives, and nothing hangs. spec: DLV-8, STR-3, EMT-4"""

from __future__ import annotations

import os
import re
import sys

import pytest
from small_collector import until

from xtrack_protocol.ir import RunEnd, RunStart
from xtrack_protocol.wire import decode

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

NOBODY = "tcp://127.0.0.1:9"


def payloads(collector, of):
    return [
        payload
        for events in collector.events.values()
        for payload in (decode(raw).payload for _, raw in sorted(events.items()))
        if isinstance(payload, of)
    ]


def test_exit_without_end(script, collector):
    done = script(
        """
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        for step in range(5000):
            run.log_metric("loss", float(step), step=step)
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.returncode == 0
    assert collector.seqs() == list(range(1, 5004))
    assert [end.status for end in payloads(collector, RunEnd)] == ["completed"]
    assert f"5003 events, all acked by {collector.spec}." in done.stderr


def test_an_exception_that_nobody_catches(script, collector):
    done = script(
        """
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=True)
        raise ValueError("boom")
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.returncode == 1
    assert [(end.status, end.error.message) for end in payloads(collector, RunEnd)] == [("failed", "boom")]
    assert "boom" in done.stderr
    assert "Fatal" not in done.stderr


def test_exit_with_nobody_there(script, collector):
    collector.stop()
    done = script(
        """
        import time
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=True)
        begin = time.monotonic()
        import atexit
        @atexit.register  # called after ours, which were registered before
        def before(): pass
        """,
        XTRACK_TRANSPORT=collector.spec,
        XTRACK_END_TIMEOUT="0",
    )
    assert done.returncode == 0
    assert "3 events of r have not reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_started_at_the_very_end(script, collector):
    """No thread can be started any more, on some versions; nothing is lost, and nothing raises."""
    done = script(
        """
        import atexit
        import xtrack_protocol as xtrack
        @atexit.register
        def late():
            run = xtrack.start_run(run_id="r")
            run.log_metric("loss", 0.5)
            run.end(timeout=2)
            print(run.stats().accepted)
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.returncode == 0
    assert done.stdout == "4\n"
    assert "Traceback" not in done.stderr


FORKS = """
import os, sys, threading
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # os.fork with threads, from 3.12 on
import xtrack_protocol as xtrack
run = xtrack.start_run(run_id="r", quiet=True)
stop = threading.Event()
def work():
    step = 0
    while not stop.wait(0.0002):  # no faster, or the small collector is busy with these for minutes
        run.log_metric("threads", float(step), step=step)
        step += 1
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
pids = []
for number in range(8):
    run.log_metric("parent", float(number))
    pid = os.fork()
    if pid == 0:
        for step in range(50):
            run.log_metric("child", float(step), step=step)
        run.end(timeout=30)
        delivery = run.stats().delivery
        os._exit(0 if (delivery.acked, delivery.waiting) == (51, 0) else 3)
    pids.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
stop.set()
for thread in threads: thread.join()
run.end(timeout=30)
print(codes, run.stats().delivery.waiting)
"""


@posix
def test_forks_in_the_middle(script, collector):
    """Some while the sender begins, which is when it would import and prepare what it needs."""
    done = script(FORKS, XTRACK_TRANSPORT=collector.spec, timeout=100)
    assert done.stdout == f"{[0] * 8} 0\n", done.stderr
    starts = payloads(collector, RunStart)
    assert sorted(start.sub for start in starts) == [False] + [True] * 8
    for events in collector.events.values():
        assert sorted(events) == list(range(1, len(events) + 1))
    assert len(collector.events) == 9


IMPORTS = """
import sys, threading, time
seen = []
def hook(event, arguments):
    if event == "import" and threading.current_thread() is not threading.main_thread():
        seen.append(arguments[0])
sys.addaudithook(hook)
import xtrack_protocol as xtrack
run = xtrack.start_run(run_id="r", quiet=True)
run.log_metric("loss", 0.5)
acked = run.flush("acked", timeout=20)
run.end(timeout=20)
print(acked, seen)
"""


@posix
def test_threads_import_nothing(script, collector):
    """Or a child that is forked in the middle of it waits for ever for the module."""
    assert script(IMPORTS, XTRACK_TRANSPORT=collector.spec).stdout == "True []\n"


@posix
def test_a_child_does_not_keep_its_parents_connection(script, collector):
    """Or the collector wouldn't see that the parent is gone as long as a child lives."""
    done = script(
        """
        import os, sys, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=True)
        assert run.flush("acked")
        if os.fork() == 0:
            os.close(1); os.close(2)
            time.sleep(20)
            os._exit(0)
        os._exit(0)
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.returncode == 0, done.stderr
    until(lambda: not collector.connections, 10)


@posix
def test_a_child_that_logs_nothing_changes_nothing(script, collector):
    done = script(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=True)
        for number in range(20):
            run.log_metric("loss", float(number))
            pid = os.fork()
            if pid == 0:
                raise SystemExit(0)
            os.waitpid(pid, 0)
        run.end()
        print(run.stats().delivery.acked, run.stats().delivery.connections)
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.stdout == "23 1\n", done.stderr
    assert collector.seqs() == list(range(1, 24))


@pytest.mark.parametrize("quiet", ["", "1"])
def test_an_interrupt_while_the_end_is_waited_for(script, collector, quiet):
    """It stops the waiting, as was said, and not the script; where nothing was said, it is one as any other."""
    collector.acks = False
    done = script(
        """
        import os, signal, threading, time
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        threading.Timer(2.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        try:
            run.end()
        except KeyboardInterrupt:
            print("interrupted")
        assert time.monotonic() - begin < 20
        """,
        XTRACK_TRANSPORT=collector.spec,
        XTRACK_QUIET=quiet,
    )
    assert done.stdout == ("interrupted\n" if quiet else ""), done.stderr
    assert quiet or re.search(r"waiting up to 28 s for .*: 3 events to go.*\n.*not waiting any longer", done.stderr)
    assert "3 events of r have not reached" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_nothing_is_left_open(script, collector):
    done = script(
        """
        import os, threading, time
        import xtrack_protocol as xtrack
        def count(): return len(os.listdir("/proc/self/fd"))
        def one(number):
            with xtrack.start_run(run_id=f"r{number}", quiet=True) as run:
                run.log_metric("loss", 0.5)
        one(0)
        before = count()
        for number in range(1, 10): one(number)
        print(count() - before, [thread.name for thread in threading.enumerate() if "sender" in thread.name])
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.stdout == "0 []\n", done.stderr


def test_memory_is_bounded_when_the_collector_takes_nothing(script, collector):
    """No queue but the spool: 400,000 events wait, and the process has grown by little."""
    collector.is_deaf = True
    done = script(
        """
        import resource
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=True)
        run.log_metric("loss", 0.5)
        for step in range(20_000):
            run.log_metric("loss", 0.5, step=step)
        def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        for step in range(400_000):
            run.log_metric("loss", 0.5, step=step)
        print(peak() - before)
        run.end(timeout=0)
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16 * 1024, "KiB"


@posix
@pytest.mark.parametrize("reached", [True, False])
def test_what_a_child_leaves_behind_is_shipped_by_its_parent(script, collector, reached):
    """Children of multiprocessing end without any clearing up, and so do those that are killed."""
    if not reached:
        collector.is_deaf = True
    done = script(
        """
        import os, signal, sys, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=True)
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                for step in range(3000):
                    run.log_metric("child", float(step), step=step)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
        print("ready", flush=True)
        sys.stdin.readline()
        run.end(timeout=30)
        """
        if reached
        else """
        import os, signal, sys, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r", quiet=True)
        run.log_metric("loss", 0.5)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    if reached:
        assert done.returncode == 0, done.stderr
        assert sorted(len(events) for events in collector.events.values()) == [3, 3001, 3001, 3001]
        return
    assert done.returncode == -9
    assert not collector.events
    collector.is_deaf = False  # the run is resumed; its new session ships what the killed one has left
    done = script(
        """
        import xtrack_protocol as xtrack
        xtrack.start_run(run_id="r", resume=True, quiet=True).end(timeout=30)
        """,
        XTRACK_TRANSPORT=collector.spec,
    )
    assert done.returncode == 0, done.stderr
    assert [len(events) for events in collector.events.values()] == [3, 3]
