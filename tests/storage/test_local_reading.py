"""What a local store makes of spools: damage, liveness, and what it may leave out. spec: RST-5, RST-7, FLD-6"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from local_spools import (
    AGO,
    abandon,
    age,
    check_all_kinds,
    folders_read,
    log_run,
    make_all_kinds,
)

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir, StreamWriter, lock_path, segments, write_lost
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.testing import Worker


def test_a_torn_tail(root: Path, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    """No accepted event was there; nothing is reported, and what came before is read."""
    run = log_run("r")
    (path,) = segments(SpoolDir(root).run_dir("r"))
    whole = path.read_bytes()
    abandon(run)
    path.write_bytes(whole[:-10])
    assert store.get_run("r").events == 4
    # It was only half-way there, on a file system that shows it so: the rest comes, and is read.
    path.write_bytes(whole)
    os.utime(path.parent)
    assert store.get_run("r").events == 5
    assert capsys.readouterr().err == ""
    assert store.check() == []


def test_a_damaged_record(root: Path, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    """One event is lost, which one is known, and it is reported once."""
    run = log_run("r", 10)
    (path,) = segments(SpoolDir(root).run_dir("r"))
    data = bytearray(path.read_bytes())
    place = data.index(b'"value":4.0')
    data[place + 8] ^= 1
    path.write_bytes(data)
    state = store.get_run("r")
    assert (state.events, state.streams[0].gaps) == (11, ((7, 7),))
    run.end()
    store.refresh()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert str(path) in err
    (problem,) = store.check()
    assert str(path) in problem


def test_a_damaged_header(root: Path, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    """In both copies: that segment is left out, and the others are read."""
    log_run("bad").end()
    log_run("good").end()
    (path,) = segments(SpoolDir(root).run_dir("bad"))
    path.write_bytes(bytes(9000))
    assert [run.run_id for run in store.list_runs()] == ["good"]
    store.refresh()
    assert capsys.readouterr().err.count("\n") == 1
    assert len(store.check()) == 1


def test_a_record_that_is_no_event(root: Path, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Another program's, perhaps of a later version: passed over, its neighbours are read."""
    worker = Worker("r", session_id="s")
    writer = StreamWriter(SpoolDir(root).run_dir("r"), worker.stream)
    first, second = worker.start(), worker.end()
    writer.append(1, first.raw)
    writer.append(7, b"\xff\xfe no json")
    writer.append(2, second.raw)
    writer.close()
    assert (store.get_run("r").status, store.get_run("r").events) == ("completed", 2)
    store.refresh()
    assert "is no event" in capsys.readouterr().err
    (problem,) = store.check()
    assert "is no event" in problem


def test_unreadable_notes(root: Path, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Broken small files beside the segments hide nothing else."""
    log_run("r").end()
    folder = SpoolDir(root).run_dir("r")
    (folder / "EXPECTED").write_bytes(b"\xff")
    (root / "experiments").mkdir()
    (root / "experiments" / "x.json").write_text("[")
    (root / "experiments" / "y.json").write_text("[" * 100_000)
    broken = SpoolDir(root).run_dir("broken")
    broken.mkdir()
    (broken / "DELETED").write_text("another run")
    for _ in range(2):
        assert [run.run_id for run in store.list_runs()] == ["r"]
    assert capsys.readouterr().err.count("\n") == 4


@pytest.mark.parametrize("content", [b"", b"another run", b"\xff"])
def test_a_tombstone_counts_whatever_it_holds(root: Path, store: LocalStore, content: bytes) -> None:
    """spec: RST-7.6"""
    log_run("r").end()
    assert [run.run_id for run in store.list_runs()] == ["r"]
    (SpoolDir(root).run_dir("r") / "DELETED").write_bytes(content)
    assert store.list_runs() == []


def test_liveness(root: Path, store: LocalStore) -> None:
    """A held lock is life, however long the silence; a free one is a loss after five minutes. spec: FLD-6"""
    run = log_run("r")
    age(root, "r")
    assert store.get_run("r").status == "running"
    run.log_metric("loss", 1.0)
    abandon(run)
    assert store.get_run("r").status == "running"
    age(root, "r", 4 * 60)
    assert store.get_run("r").status == "running"
    age(root, "r", 6 * 60)
    state = store.get_run("r")
    assert state.status == "lost"
    lost = state.streams[0].lost
    assert lost is not None
    assert (lost.reason, lost.after_seq) == ("vanished", 6)
    assert abs(lost.at_us / 1e6 - (time.time() - 6 * 60)) < 5


def test_somebody_saw_it_die(root: Path, store: LocalStore) -> None:
    run = log_run("r")
    stream = StreamId("r", "", run.session_id)
    abandon(run)
    assert store.get_run("r").status == "running"
    write_lost(SpoolDir(root).run_dir("r"), StreamLost(stream, 5, "died", 5, "signal 9"))
    state = store.get_run("r")
    assert state.status == "killed"
    assert state.streams[0].lost == StreamLost(stream, 5, "died", 5, "signal 9")


def test_word_of_a_death_after_it_was_taken_for_lost(root: Path, store: LocalStore) -> None:
    """What is known better counts, and an index made anew says the same."""
    run = log_run("r")
    abandon(run)
    age(root, "r")
    assert store.get_run("r").status == "lost"
    write_lost(SpoolDir(root).run_dir("r"), StreamLost(StreamId("r", "", run.session_id), 5, "died", 5, "signal 9"))
    state = store.get_run("r")
    assert state.status == "killed"
    store.rebuild()
    assert store.get_run("r").status == "killed"


def test_a_run_that_has_ended_is_not_lost(root: Path, store: LocalStore) -> None:
    log_run("r").end()
    age(root, "r")
    assert store.get_run("r").status == "completed"
    assert store.get_run("r").streams[0].lost is None


def test_forked_and_attached_streams_are_not_missed(root: Path, store: LocalStore) -> None:
    log_run("r").end()
    attached = Tracker.attach("r")
    attached.log("x")
    abandon(attached)
    age(root, "r")
    assert store.get_run("r").status == "completed"


def test_nothing_is_read_where_nothing_can_have_come(root: Path, store: LocalStore) -> None:
    """A thousand runs that are over cost a look at each folder's time of change, and no more."""
    worker_runs = 1000
    for number in range(worker_runs):
        worker = Worker(f"run-{number:04}")
        writer = StreamWriter(SpoolDir(root).run_dir(worker.run_id), worker.stream)
        for item in (worker.start(), worker.metric("loss", 1.0, 1), worker.end()):
            writer.append(item.envelope.meta.seq, item.raw)
        writer.forget()
        age(root, worker.run_id)
    assert folders_read(store) == worker_runs
    assert folders_read(store) == 0
    live = log_run("live")
    assert folders_read(store) == 1
    assert folders_read(store) == 1
    live.end()
    age(root, "live")
    assert folders_read(store) == 1
    assert folders_read(store) == 0
    opened: list[str] = []
    sys.addaudithook(lambda event, data: opened.append(str(data[0])) if event == "open" else None)
    store.refresh()
    assert [path for path in opened if "run-" in path] == []
    opened.clear()
    assert len(store.list_runs()) == worker_runs + 1
    with LocalStore(root) as other:
        assert folders_read(other) == 0


def test_a_fresh_change_is_not_relied_on(root: Path, store: LocalStore) -> None:
    """Two changes of a folder may have the same time: it is looked into until that time is past."""
    log_run("r").end()
    folder = SpoolDir(root).run_dir("r")
    assert folders_read(store) == 1
    then = folder.stat()
    attached = Tracker.attach("r")
    attached.log_metric("late", 1.0)
    attached.end()
    os.utime(folder, ns=(then.st_atime_ns, then.st_mtime_ns))  # as on a file system with a coarse clock
    assert store.get_run("r").metrics["late"].count == 1


def test_a_stream_that_is_kept_open(root: Path, store: LocalStore) -> None:
    """An importer's lock says that more may come, run_end or not."""
    with LocalStore(root) as importer:
        worker = Worker("r")
        importer.append([worker.start(), worker.end()])
        age(root, "r")
        assert store.get_run("r").status == "completed"
        importer.append([worker.metric("late", 1.0)])
        age(root, "r")
        assert store.get_run("r").metrics["late"].count == 1
    age(root, "r")
    assert folders_read(store) == 1
    assert folders_read(store) == 0


def test_who_appends_without_a_lock(root: Path, store: LocalStore, tmp_path: Path) -> None:
    """Two importers of one stream: the second has no lock of its own, and is heard all the same."""
    worker = Worker("r")
    with LocalStore(root) as second:
        with LocalStore(root) as first:
            first.append([worker.start()])
            second.append([worker.metric("k", 1.0)])
        age(root, "r")
        with LocalStore(root, index=tmp_path / "other" / "index.db") as other_host:
            assert other_host.get_run("r").events == 2
            age(root, "r")
            other_host.refresh()
            second.append([worker.metric("k", 2.0), worker.end()])
            assert other_host.get_run("r").events == 4


def test_a_lock_that_can_not_be_probed(root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is taken for over, or for lost, and everything is read."""
    monkeypatch.setattr("xtrack_protocol.storage.local_reader.is_locked", lambda _path: None)
    monkeypatch.setattr("xtrack_protocol.spool.reader.is_locked", lambda _path: None)
    run = log_run("r")
    age(root, "r")
    assert store.get_run("r").status == "running"
    assert folders_read(store) == 1
    run.log_metric("more", 1.0)
    age(root, "r")
    assert store.get_run("r").metrics["more"].count == 1
    run.end()
    age(root, "r")
    assert store.get_run("r").status == "completed"


def test_a_worker_on_another_machine(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock isn't seen from here, so it is taken for lost after a long silence; then it goes on, and is heard."""
    monkeypatch.setattr("xtrack_protocol.storage.local_index.is_network_path", lambda _path: True)
    monkeypatch.setattr("xtrack_protocol.storage.local_reader._GRAIN_NS", 0)
    run = log_run("r")
    lock = lock_path(SpoolDir(root).run_dir("r"), run.session_id)
    lock.unlink()  # as seen by who can't see the lock
    with LocalStore(root, index=tmp_path / "index.db") as store:
        age(root, "r")
        assert store.get_run("r").status == "lost"
        assert folders_read(store) <= 1
        assert folders_read(store) == 0
        run.log_metric("more", 1.0)
        age(root, "r", 10)
        then = time.time() - AGO
        os.utime(SpoolDir(root).run_dir("r"), (then, then))
        assert store.get_run("r").metrics["more"].count == 1
        run.end()
        assert store.get_run("r").status == "completed"


def test_two_hosts_share_a_spool(root: Path, tmp_path: Path) -> None:
    """Each with an index of its own."""
    with LocalStore(root, index=tmp_path / "a.db") as a, LocalStore(root, index=tmp_path / "b.db") as b:
        make_all_kinds(a)
        check_all_kinds(b)
        b.annotate("failed", tags={"from": "b"})
        assert a.get_run("failed").tags == {"from": "b"}
        b.delete_run("failed")
        with pytest.raises(RunNotFound):
            a.get_run("failed")
        b.create_experiment("from b")
        assert a.get_experiment("from b").name == "from b"
