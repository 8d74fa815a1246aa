from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

from xtrack_protocol.spool import FileLock, is_locked, locks

HOLD = """
import sys, time
from pathlib import Path
from xtrack_protocol.spool import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
time.sleep(60)
"""


def hold(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def test_who_only_looks_is_waited_for(tmp_path):
    looking, lock = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert looking.acquire()
    began = time.monotonic()
    assert not lock.acquire_soon(0.02)
    assert time.monotonic() >= began + 0.02
    threading.Timer(0.02, looking.release).start()
    assert lock.acquire_soon(10.0)
    lock.release()


def test_a_live_process_holds_its_lock_until_kill_9(tmp_path):
    path = tmp_path / "x.lock"
    assert is_locked(path) is False
    process = hold(path)
    with process:
        assert is_locked(path) is True
        assert FileLock(path).acquire() is False
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert is_locked(path) is False
    lock = FileLock(path)
    assert lock.acquire() is True
    assert is_locked(path) is True  # our own, too
    lock.release()
    assert is_locked(path) is False
    lock.release()


def test_a_lock_is_taken_once(tmp_path):
    lock = FileLock(tmp_path / "x.lock")
    assert lock.acquire()
    assert not lock.acquire()
    lock.release()
    assert lock.acquire()
    lock.release()


def test_one_lock_object_keeps_threads_apart(tmp_path):
    lock = FileLock(tmp_path / "x.lock")
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(50):
            with lock.waiting(30):
                inside += 1
                most = max(most, inside)
                time.sleep(0)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert is_locked(lock.path) is False


def test_a_forked_child_does_not_outlive_its_parents_lock(tmp_path):
    path = tmp_path / "x.lock"
    child_reading, child_writing = os.pipe()
    pid = fork()
    if pid == 0:  # the parent-to-be, which takes the lock, forks and is killed
        try:
            mine = FileLock(path)
            assert mine.acquire()
            grandchild = os.fork()
            if grandchild == 0:
                os.write(child_writing, str(os.getpid()).encode())
                time.sleep(30)
            time.sleep(30)
        finally:
            os._exit(0)
    os.close(child_writing)
    grandchild = int(os.read(child_reading, 100))
    try:
        assert is_locked(path) is True
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert is_locked(path) is False
    finally:
        os.kill(grandchild, signal.SIGKILL)
        os.close(child_reading)


def test_a_childs_release_leaves_the_parent_its_lock(tmp_path):
    lock = FileLock(tmp_path / "x.lock")
    assert lock.acquire()
    pid = fork()
    if pid == 0:
        lock.release()
        os._exit(0)
    os.waitpid(pid, 0)
    assert is_locked(lock.path) is True
    lock.release()


def test_probing_readers_do_not_take_each_other_for_the_owner(tmp_path):
    path = tmp_path / "x.lock"
    path.touch()
    seen: list[bool | None] = []

    def probe():
        seen.extend(is_locked(path) for _ in range(500))

    threads = [threading.Thread(target=probe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {False}


def test_waiting(tmp_path):
    path = tmp_path / "x.lock"
    first = FileLock(path)
    assert first.acquire()
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0\.05 s"), FileLock(path).waiting(0.05):
        pass
    assert time.monotonic() - begin < 5
    threading.Timer(0.05, first.release).start()
    with FileLock(path).waiting(10):
        assert is_locked(path)
    assert is_locked(path) is False


def test_a_file_system_that_can_not_tell(tmp_path, monkeypatch):
    path = tmp_path / "x.lock"
    path.touch()

    def no_locks(_fd, *, shared):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(locks, "_try_lock", no_locks)
    assert is_locked(path) is None
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
        FileLock(path).acquire()
    count = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(10):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)):
            FileLock(path).acquire()
    assert not count or len(os.listdir("/proc/self/fd")) == count


@pytest.mark.skipif(shutil.which("flock") is None, reason="there is no flock program")
def test_other_programs_are_kept_out(tmp_path):
    """The lock is flock's, and not one of fcntl. spec: RST-6.15"""
    import fcntl

    path = tmp_path / "x.lock"
    lock = FileLock(path)
    assert lock.acquire()
    assert subprocess.run(["flock", "-n", str(path), "true"], check=False).returncode == 1
    with path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert is_locked(path) is True
    lock.release()
    with subprocess.Popen(["flock", str(path), "-c", "echo held; read x"], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert is_locked(path) is True
        assert not lock.acquire()
        other.communicate(b"\n")
    assert lock.acquire()
    lock.release()


def test_what_can_not_be_probed(tmp_path):
    (tmp_path / "file").touch()
    assert is_locked(tmp_path / "file" / "x.lock") is False
    assert is_locked(tmp_path) in {None, False}  # a folder
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert is_locked(tmp_path / "loop") is None
