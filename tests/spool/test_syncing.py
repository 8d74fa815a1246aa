"""Spools are made durable every second by a thread that nobody waits for."""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings

import pytest

from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter, segments, syncing
from xtrack_protocol.spool import writer as writer_module
from xtrack_protocol.wire import RECORDS_START

STREAM = StreamId("r", "w", "5e55")
SECONDS = 20


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def sync_threads():
    return [thread for thread in threading.enumerate() if thread.name == "xtrack-sync" and thread not in OTHERS]


OTHERS = []
"""Threads that sync runs of other tests, which some of them leave open."""


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(syncing, "SYNC_SECONDS", 0.01)
    monkeypatch.setattr(syncing, "_syncers", {})
    OTHERS[:] = threading.enumerate()
    yield
    until(lambda: not sync_threads())


@pytest.fixture
def synced(monkeypatch):
    """The files that were synced, by inode; ``failing`` says whether syncs fail."""
    real = writer_module.sync_file

    class Syncs(list):
        failing = False

    syncs = Syncs()

    def sync_file(fd):
        if syncs.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)
        syncs.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(writer_module, "sync_file", sync_file)
    return syncs


def test_what_was_appended_is_synced_before_long_and_nothing_twice(tmp_path, synced):
    writer = StreamWriter(tmp_path, STREAM, background=True, segment_max=10_000)
    told = []
    syncing.watch(writer, lambda *what: told.append(what))
    for seq in range(1, 501):
        writer.append(seq, b"x" * 100)
    inodes = {path.stat().st_ino for path in segments(tmp_path)}
    until(lambda: set(synced) >= inodes)
    time.sleep(0.1)
    count = len(synced)
    time.sleep(0.1)
    assert len(synced) == count  # nothing new: the disk is left alone
    assert len(sync_threads()) == 1
    syncing.unwatch(writer)
    until(lambda: not sync_threads())  # it ends when nothing is open
    writer.close()
    assert told == []


def test_a_sync_that_fails_is_told_once_and_made_good_when_it_can_be(tmp_path, synced):
    writer = StreamWriter(tmp_path, STREAM, background=True)
    told = []
    syncing.watch(writer, lambda *what: told.append(what))
    synced.failing = True
    writer.append(1, b"1")
    until(lambda: told)
    writer.append(2, b"2")
    time.sleep(0.2)
    ((kind, text),) = told
    assert kind == "sync"
    assert "would not survive a power loss" in text
    assert str(tmp_path) in text
    assert synced == []
    synced.failing = False
    last = list(segments(tmp_path))[-1].stat().st_ino
    until(lambda: last in synced)
    assert len(list(segments(tmp_path))) >= 3  # what was in doubt stands in a segment of its own
    synced.failing = True
    writer.append(3, b"3")
    until(lambda: len(told) == 2)  # another fault is news again
    synced.failing = False
    syncing.unwatch(writer)
    writer.close()


def test_attempts_that_go_on_failing_become_rare(tmp_path, synced, monkeypatch):
    monkeypatch.setattr(syncing, "SYNC_SECONDS", 0.005)
    writer = StreamWriter(tmp_path, STREAM, background=True)
    attempts = []
    real = writer.sync
    monkeypatch.setattr(writer, "sync", lambda: attempts.append(time.monotonic()) or real())
    synced.failing = True
    writer.append(1, b"1")
    syncing.watch(writer, lambda *_: None)
    until(lambda: len(attempts) >= 6)
    assert attempts[5] - attempts[4] > 0.1
    synced.failing = False
    syncing.unwatch(writer)
    monkeypatch.undo()
    writer.close()


def test_one_thread_for_all_and_a_new_one_after_it_has_ended(tmp_path, synced):
    for _ in range(3):
        writers = [StreamWriter(tmp_path / str(n), STREAM, background=True) for n in range(5)]
        for writer in writers:
            writer.append(1, b"1")
            syncing.watch(writer, lambda *_: None)
        assert len(sync_threads()) <= 1
        wanted = {path.stat().st_ino for n in range(5) for path in segments(tmp_path / str(n))}
        until(lambda wanted=wanted: set(synced) >= wanted or None)
        for writer in writers:
            syncing.unwatch(writer)
            writer.close()
        until(lambda: not sync_threads())
        for n in range(5):
            for path in segments(tmp_path / str(n)):
                path.unlink()


def test_a_writer_that_was_forgotten_is_not_watched_for_ever(tmp_path):
    writer = StreamWriter(tmp_path, STREAM, background=True)
    syncing.watch(writer, lambda *_: None)
    writer.forget()
    until(lambda: not sync_threads())


def test_without_a_thread_it_is_told_and_logging_goes_on(tmp_path, monkeypatch):
    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    told = []
    writer = StreamWriter(tmp_path, STREAM, background=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        syncing.watch(writer, lambda *what: told.append(what))
    assert "can't start new thread" in told[0][1]
    writer.append(1, b"1")
    syncing.unwatch(writer)
    writer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_a_thread_of_its_own(tmp_path):
    writer = StreamWriter(tmp_path / "parent", STREAM, background=True)
    syncing.watch(writer, lambda *_: None)
    for number in range(5):
        writer.append(number + 1, b"1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                writer.forget()
                own = StreamWriter(tmp_path / "child", StreamId("r", "w", f"c{number}"), background=True)
                own.append(1, b"1")
                syncing.watch(own, lambda *_: None)
                until(lambda own=own: own._current.synced > RECORDS_START)
                code = 0
                syncing.unwatch(own)
                own.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(sync_threads()) == 1
    syncing.unwatch(writer)
    writer.close()
