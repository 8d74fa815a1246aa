"""Whose process, and whose turn: what is asked for each number."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker, quick
from xtrack_protocol.emitter.quick import NOWHERE, TurnLock, new_mark

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks by the C library")


def told_by_a_child(fork: Any, tell: Any) -> bytes:
    """Return what a forked child tells."""
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            os.write(writing, tell())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()


@linux
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("fork", [os.fork, lambda: ctypes.PyDLL(None).fork()], ids=["python", "c"])
@pytest.mark.parametrize("by_pid", [False, True])
def test_a_mark_is_not_its_childs(monkeypatch: pytest.MonkeyPatch, fork: Any, by_pid: bool) -> None:
    """Also where nobody tells Python of the fork."""
    monkeypatch.setattr(quick, "_page", NOWHERE)
    if by_pid:
        monkeypatch.setattr(quick, "_wiped_page", lambda: None)
    mark = new_mark()
    assert new_mark() is mark

    def tell() -> bytes:
        own = new_mark()
        return bytes([mark[0], own[0], own is mark])

    assert mark[0]
    assert told_by_a_child(fork, tell) == bytes([0, 1, 0])
    assert mark[0]
    assert not NOWHERE[0]


@linux
def test_what_takes_any_advice_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    import mmap

    class Yes:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def madvise(self, _advice: int) -> None:
            pass

    monkeypatch.setattr(mmap, "mmap", Yes)
    monkeypatch.setattr(quick, "_page", NOWHERE)
    mark = new_mark()
    assert mark[0]
    assert not isinstance(mark, Yes)


def test_the_lock_excludes_others_and_lets_its_own_thread_in() -> None:
    lock = TurnLock()
    assert lock.taken
    assert lock.taken
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert got == [False]
    lock.release()
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it strikes callbacks, too
@pytest.mark.parametrize("batch", [False, True])
def test_ctrl_c_anywhere_leaves_the_turn_to_others(spool: Any, batch: bool) -> None:
    """However often a handler raises in the middle of a call: another thread's calls go on."""
    run = Tracker.start_run()
    stop = threading.Event()
    logged = [0]

    def log() -> None:
        while not stop.is_set():
            run.log_metric("other", 0.5, step=logged[0])
            logged[0] += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=log)
    thread.start()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    raised = 0
    deadline = time.monotonic() + 30
    try:
        while raised < 200 and time.monotonic() < deadline:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.0003 * ((raised * 7919) % 101) / 101)
                for step in range(1000):
                    if batch:
                        run.log_metrics({"a": 0.5, "b": 1.5}, step=step)
                    else:
                        run.log_metric("a", 0.5, step=step)
            except KeyboardInterrupt:
                raised += 1
    except KeyboardInterrupt:
        raised += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert raised >= 200
    count = logged[0]
    time.sleep(0.2)
    assert logged[0] > count, "the lock was left taken"
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    run.end()
