"""What is written to a local store, and where its index is. spec: RST-6, FLD-9"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from local_spools import (
    abandon,
    answers,
    log_run,
)

from xtrack_protocol.errors import (
    ExperimentExists,
    ExperimentNotFound,
    RunNotFound,
    StorageError,
)
from xtrack_protocol.ir import Metric, RunEnd, Tags
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.storage.local_paths import index_path, is_network_path
from xtrack_protocol.testing import Worker
from xtrack_protocol.wire import encode


def test_a_deleted_run_stays_deleted(root: Path, store: LocalStore) -> None:
    """Whatever comes later, and in an index made anew too. spec: FLD-9"""
    run = log_run("r")
    store.delete_run("r")
    run.log_metric("late", 1.0)
    run.end()
    for _ in range(2):
        assert store.list_runs() == []
        result = store.append([Worker("r").start()])
        assert (result.dropped, result.stored) == (1, ())
        store.mark_lost(StreamLost(StreamId("r", "", "s"), 5, "died"))
        with pytest.raises(StorageError):
            store.expect_run("r")
        with pytest.raises(RunNotFound):
            store.annotate("r", tags={"a": "b"})
        assert [path.name for path in SpoolDir(root).run_dir("r").iterdir()] == ["DELETED"]
        store.rebuild()


def test_appended_events_survive_a_rebuild(root: Path, store: LocalStore) -> None:
    """From many streams at once: more than are kept open."""
    workers = [Worker(f"run{number}", session_id=f"s{number}") for number in range(40)]
    batch = [item for worker in workers for item in (worker.start(), worker.metric("k", 1.0, 1))]
    assert len(store.append(batch[::2] + batch[1::2]).stored) == 80
    result = store.append(batch)
    assert (result.duplicates, result.stored) == (80, ())
    store.append([worker.end() for worker in workers])
    before = answers(store)
    store.rebuild()
    assert answers(store) == before
    assert {run.events for run in store.list_runs()} == {3}


def test_an_event_that_comes_in_spite_of_a_skip(root: Path, store: LocalStore) -> None:
    """STR-7: it is no loss then, in an index made anew either."""
    worker = Worker("r")
    store.append([worker.start(), worker.skip(2, 3)])
    late = worker.say(Metric("r", "k", 1.0), seq=2)
    assert store.append([late]).stored == (0,)
    store.rebuild()
    assert store.get_run("r").metrics["k"].count == 1
    assert store.get_run("r").streams[0].skipped == ((3, 3),)


def test_another_reader_takes_nothing_away_from_append(root: Path, store: LocalStore) -> None:
    """Who appends is told what was new, though others bring the same index up to date all the time."""
    stop = threading.Event()

    def read() -> None:
        with LocalStore(root) as other:
            while not stop.is_set():
                other.refresh()

    thread = threading.Thread(target=read)
    thread.start()
    worker = Worker("r")
    try:
        for number in range(100):
            assert store.append([worker.metric("k", float(number))]).stored == (0,)
    finally:
        stop.set()
        thread.join()


def test_an_annotation_wins_over_clocks(root: Path, store: LocalStore) -> None:
    run = log_run("r")
    run.set_tag("a", "by the run")
    ahead = time.time_ns() // 1000 + 10**12
    worker = Worker("r", session_id="ahead", start_us=ahead)
    store.append([worker.start(), worker.say(Tags("r", {"a": "from the future"}))])
    assert store.annotate("r", tags={"a": "annotated"}).tags["a"] == "annotated"
    assert store.annotate("r", tags={"a": "again"}).tags["a"] == "again"
    store.rebuild()
    assert store.get_run("r").tags["a"] == "again"
    assert store.annotate("r").tags["a"] == "again"
    run.end()


def test_expected_runs(root: Path, store: LocalStore) -> None:
    assert store.expect_run("r", name="first").status == "pending"
    assert store.expect_run("r", name="second").name == "first"
    log_run("r", name="own name").end()
    store.rebuild()
    assert store.get_run("r").name == "own name"
    assert store.expect_run("r", name="third").name == "own name"


def test_a_loss_of_a_run_that_is_not_here(root: Path, store: LocalStore) -> None:
    store.mark_lost(StreamLost(StreamId("r", "", "s"), 5, "died"))
    assert store.get_run("r").run_id == "r"


def test_experiments(root: Path, store: LocalStore) -> None:
    made = store.create_experiment("e", tags={"a": "b"})
    with pytest.raises(ExperimentExists):
        store.create_experiment("e")
    log_run("r", experiment_id="e").end()
    with pytest.raises(StorageError, match="1 runs"):
        store.delete_experiment("e")
    store.rebuild()
    assert store.get_experiment("e") == made
    store.delete_experiment("e", with_runs=True)
    for _ in range(2):
        assert store.list_runs() == []
        with pytest.raises(ExperimentNotFound):
            store.get_experiment("e")
        store.rebuild()


def test_the_end_of_a_stream_that_another_process_writes(root: Path, store: LocalStore) -> None:
    """A live emitter's stream can be filed away too, in segments of its own."""
    run = log_run("r", 0)
    stream = StreamId("r", "", run.session_id)
    from xtrack_protocol.ir import Envelope
    from xtrack_protocol.storage import Incoming

    envelope = Envelope.of(RunEnd("r", "completed"), seq=3, timestamp_us=5, session_id=run.session_id)
    assert store.append([Incoming(stream, envelope, encode(envelope), 5)]).stored == (0,)
    assert store.get_run("r").streams[0].end_status == "completed"
    abandon(run)


MOUNTS = r"""
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/fast tmpfs rw 0 0
//server/share /mnt/with\040blank cifs rw 0 0
none /proc proc rw 0 0
overlay /mnt/top nfs rw 0 0
/dev/sdb1 /mnt/top ext4 rw 0 0
s3fs /mnt/bucket fuse.s3fs rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/data", False),
        ("/home/me/.xtrack", True),
        ("/home", True),
        ("/homeless", False),
        ("/home/me/fast/x", False),
        ("/mnt/with blank/x", True),
        ("/mnt/top/x", False),
        ("/mnt/bucket/a/b", True),
    ],
)
def test_network_paths(tmp_path: Path, path: str, expected: bool) -> None:
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    assert is_network_path(Path(path), table) is expected


def test_without_a_mount_table(tmp_path: Path) -> None:
    assert not is_network_path(tmp_path, tmp_path / "no such file")


def test_where_the_index_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RST-6.11."""
    assert index_path(tmp_path) == tmp_path / "index.db"
    monkeypatch.setattr("xtrack_protocol.storage.local_paths.is_network_path", lambda _path: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remote = index_path(tmp_path)
    assert remote.parent == tmp_path / "cache" / "xtrack"
    assert remote != index_path(tmp_path / "other")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert index_path(tmp_path).parent == tmp_path / "me" / ".cache" / "xtrack"
