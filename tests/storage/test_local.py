"""The local store: spools are the truth, and the index is made from them by whoever reads. spec: RST-6, RST-7"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.errors import (
    ExperimentExists,
    ExperimentNotFound,
    RunNotFound,
    StorageError,
    StoreLocked,
    StoreVersionError,
)
from xtrack_protocol.ir import Metric, RunEnd, Tags
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import FileLock, SpoolDir, StreamWriter, lock_path, segments, write_lost
from xtrack_protocol.storage import RunQuery
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.storage.local_paths import index_path, is_network_path
from xtrack_protocol.storage.sqlite_schema import MIGRATIONS
from xtrack_protocol.testing import Worker
from xtrack_protocol.transport import LocalTransport
from xtrack_protocol.wire import encode

AGO = 3600
"""Seconds: long enough for a folder's time of change to be relied on, and for a silent worker to be lost."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool that XTRACK_DIR names."""
    for name in list(os.environ):
        if name.startswith("XTRACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("XTRACK_QUIET", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    with LocalStore(root) as store:
        yield store


def log_run(run_id: str, points: int = 3, **options: Any) -> Run:
    """Log a short run, and leave it open."""
    run = Tracker.start_run(run_id=run_id, **options)
    for step in range(points):
        run.log_metric("loss", float(step), step=step)
    return run


def abandon(run: Run) -> None:
    """Let an emitter vanish as kill -9 would: its lock is free, and nothing more is written."""
    transport = run._out.transport
    assert isinstance(transport, LocalTransport)
    assert transport._writer is not None
    transport._writer.forget()
    from xtrack_protocol.emitter import exits

    exits.unwatch(run)


def age(root: Path, run_id: str, seconds: float = AGO) -> None:
    """Make a run's folder, and all in it, look as old as that."""
    folder = SpoolDir(root).run_dir(run_id)
    then = time.time() - seconds
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def told(store: LocalStore, run_id: str) -> list[Any]:
    """Return all of a run's events, in what identifies them."""
    return sorted((event.stream, event.envelope.meta.seq, event.raw) for event in store.events(run_id))


def answers(store: LocalStore) -> Any:
    """Return what a store answers to most questions, but for what belongs to the index alone."""
    runs = store.search_runs(RunQuery(order="name"))
    return (
        runs,
        {run.run_id: told(store, run.run_id) for run in runs},
        {run.run_id: [store.get_metrics(run.run_id, key) for key in store.metric_keys(run.run_id)] for run in runs},
        {run.run_id: store.get_params(run.run_id) for run in runs},
        [(one.experiment_id, one.name, dict(one.tags)) for one in store.list_experiments()],
    )


# ---------------------------------------------------------------------------------------------- reading


def test_what_is_accepted_is_seen_at_once(root: Path, store: LocalStore) -> None:
    assert store.list_runs() == []
    run = log_run("r", 0)
    for step in range(50):
        run.log_metric("loss", float(step), step=step)
        assert [point.step for point in store.get_metrics("r", "loss")] == list(range(step + 1))
    assert store.get_run("r").status == "running"
    run.end()
    assert store.get_run("r").status == "completed"


def test_an_empty_place(tmp_path: Path) -> None:
    with LocalStore(tmp_path / "not" / "there" / "yet") as store:
        assert store.list_runs() == []
        assert store.check() == []


def test_segments_of_a_long_run(root: Path, store: LocalStore) -> None:
    stream = StreamId("r", "", "s")
    writer = StreamWriter(SpoolDir(root).run_dir("r"), stream, segment_max=20_000)
    worker = Worker("r", session_id="s")
    for step in range(500):
        item = worker.metric("loss", float(step), step)
        writer.append(item.envelope.meta.seq, item.raw)
        if step % 100 == 0:
            assert len(store.get_metrics("r", "loss")) == step + 1
    assert len(list(segments(SpoolDir(root).run_dir("r")))) > 3
    assert store.get_run("r").events == 500
    assert store.get_run("r").streams[0].gaps == ()
    writer.close()


def _read_until_done(root: str, results: Any) -> None:
    """A reader process: sees prefixes only, and in the end all."""
    seen, problems = -1, []
    with LocalStore(root) as store:
        while seen < 20_000:
            try:
                steps = [point.step for point in store.get_metrics("r", "loss")]
            except RunNotFound:
                continue
            if steps != list(range(len(steps))) or len(steps) <= seen:
                problems.append((seen, len(steps)))
            seen = max(seen, len(steps))
            if store.get_run("r").status == "completed":
                seen = 20_000
        problems += [] if len(store.get_metrics("r", "loss")) == 20_000 else ["not all"]
        problems += [] if store.get_run("r").events == 20_003 else ["not once"]
    results.put([problem for problem in problems if isinstance(problem, str) or problem[1] < problem[0]])


@pytest.mark.parametrize("readers", [3])
def test_readers_while_a_writer_logs(root: Path, readers: int) -> None:
    """Each sees a prefix at any time, and all of it in the end, every event once."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_read_until_done, args=(str(root), results)) for _ in range(readers)]
    for process in processes:
        process.start()
    run = log_run("r", 20_000)
    run.end()
    assert [results.get(timeout=60) for _ in processes] == [[]] * readers
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_threads_share_a_store(root: Path, store: LocalStore) -> None:
    run = log_run("r")
    problems: list[object] = []

    def ask(number: int) -> None:
        try:
            for turn in range(8):
                assert len(store.get_metrics("r", "loss")) >= 3
                store.annotate("r", tags={f"t{number}": str(turn)})
                store.append([Worker(f"own{number}", session_id=f"s{turn}").start()])
                assert store.get_run(f"own{number}").events == turn + 1
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for step in range(500):
        run.log_metric("loss", 1.0, step=step)
    for thread in threads:
        thread.join()
    run.end()
    assert problems == []
    assert dict(store.get_run("r").tags) == {f"t{number}": "7" for number in range(6)}
    before = answers(store)
    store.rebuild()
    assert answers(store) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_uses_the_store(root: Path, store: LocalStore) -> None:
    log_run("r").end()
    store.append([Worker("w").start()])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            store.append([Worker("w", session_id="child").start()])
            store.annotate("r", tags={"child": "yes"})
            status = 0 if store.get_run("w").events == 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store.append([Worker("w", session_id="parent").start()])
    assert store.get_run("w").events == 3
    assert store.get_run("r").tags == {"child": "yes"}


# ---------------------------------------------------------------------------------------------- the index


def make_all_kinds(store: LocalStore) -> None:
    """Fill a store with everything that a rebuild must bring back."""
    run = log_run("finished", name="f", tags={"a": "1"}, experiment_id="exp", params={"lr": 0.1})
    run.log_checkpoint("x.pt", 2, metrics={"loss": 2.0})
    run.end()
    log_run("failed").end("failed", error="x")
    log_run("resumed").end("failed")
    log_run("resumed", resume=True, rewind_to=1).end()
    abandon(log_run("vanished"))
    age(store.root, "vanished")
    abandon(log_run("killed"))
    store.refresh()
    store.mark_lost(StreamLost(StreamId("killed", "", only_session(store, "killed")), 5, "died", 4, "signal 9"))
    log_run("deleted").end()
    store.delete_run("deleted")
    store.expect_run("expected", name="soon", experiment_id="exp")
    store.annotate("finished", tags={"a": "2", "b": "3"}, name="renamed", note="a note")
    store.annotate("finished", name="renamed again")
    store.create_experiment("made", experiment_id="m1", tags={"x": "y"})
    store.create_experiment("dropped")
    store.delete_experiment("dropped")
    store.tag_experiment("made", {"z": "w"})
    worker = Worker("collected", "w")
    store.append(
        [worker.start(), worker.metric("k", 1.0, 1), worker.skip(5, 6), worker.say(Tags("collected", {}), seq=7)]
    )
    store.append([worker.say(Metric("collected", "k", 2.0), seq=2)])  # another one under a seq that is taken


def only_session(store: LocalStore, run_id: str) -> str:
    (stream,) = store.get_run(run_id).streams
    return stream.stream.session_id


def check_all_kinds(store: LocalStore) -> None:
    """What a rebuild must bring back, in words."""
    statuses = {run.run_id: run.status for run in store.list_runs()}
    assert statuses == {
        "finished": "completed",
        "failed": "failed",
        "resumed": "completed",
        "vanished": "lost",
        "killed": "killed",
        "expected": "pending",
        "collected": "running",
    }
    finished = store.get_run("finished")
    assert (finished.name, finished.note, dict(finished.tags)) == ("renamed again", "a note", {"a": "2", "b": "3"})
    assert store.get_run("expected").name == "soon"
    assert {one.name for one in store.list_experiments()} == {"exp", "made"}
    assert store.get_experiment("m1").tags == {"x": "y", "z": "w"}
    assert [len(store.get_metrics("resumed", "loss")), len(store.conflicts("collected"))] == [5, 1]
    assert store.cursor(Worker("collected", "w").stream) == store.cursor(StreamId("collected", "w", "session-1"))
    assert list(store.cursor(Worker("collected", "w").stream)) == [(1, 2), (5, 7)]
    with pytest.raises(RunNotFound):
        store.get_run("deleted")


def test_a_rebuild_gives_the_same_answers(root: Path, store: LocalStore) -> None:
    make_all_kinds(store)
    check_all_kinds(store)
    before = answers(store)
    store.rebuild()
    check_all_kinds(store)
    assert answers(store) == before
    assert store.check() == []
    # positions go on, so that who reads on from one doesn't miss anything
    assert min(event.position for event in store.events("finished")) > 0


@pytest.mark.parametrize("suffixes", [("", "-wal", "-shm"), ("",)])
def test_a_deleted_index(root: Path, suffixes: tuple[str, ...]) -> None:
    """All of it, or only the file and not its log: by hand, while a reader has it open."""
    with LocalStore(root) as store:
        make_all_kinds(store)
        before = answers(store)
        for suffix in suffixes:
            (root / f"index.db{suffix}").unlink(missing_ok=True)
        assert answers(store) == before
    for suffix in suffixes:
        (root / f"index.db{suffix}").unlink(missing_ok=True)
    with LocalStore(root) as store:
        check_all_kinds(store)
        assert answers(store) == before


def test_a_rebuild_by_another_process(root: Path) -> None:
    """Who has the index open goes on seeing all."""
    with LocalStore(root) as first, LocalStore(root) as second:
        make_all_kinds(first)
        before = answers(second)
        first.rebuild()
        run = log_run("new")
        assert answers(second)[0] != before[0]
        assert second.get_run("new").events == 5
        assert answers(first) == answers(second)
        run.end()
        check_events = [len(told(store, "new")) for store in (first, second)]
        assert check_events == [6, 6]


DAMAGE: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(b"this is no database at all" * 500),
    lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(20_000)),
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    lambda path: path.write_bytes(path.read_bytes()[:100] + os.urandom(path.stat().st_size - 100)),
]


@pytest.mark.parametrize("damage", DAMAGE, ids=["garbage", "zeros", "half", "noise"])
def test_a_damaged_index(root: Path, damage: Callable[[Path], object], capsys: pytest.CaptureFixture[str]) -> None:
    """Set aside, and made anew, whenever it shows."""
    with LocalStore(root) as store:
        make_all_kinds(store)
        before = answers(store)
    damage(root / "index.db")
    with LocalStore(root) as store:
        check_all_kinds(store)
        assert answers(store) == before
    assert (root / "index.db.damaged").exists()
    assert "damaged" in capsys.readouterr().err


def test_an_index_damaged_while_it_is_open(root: Path) -> None:
    with LocalStore(root) as store:
        make_all_kinds(store)
        before = answers(store)
        store._index._store._pool._close_idle()  # type: ignore[union-attr] # no page of it in memory
        (root / "index.db-wal").unlink(missing_ok=True)
        with (root / "index.db").open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(60_000))
        assert answers(store) == before


def test_a_newer_index(root: Path, store: LocalStore) -> None:
    """Is left alone: it may hold what this version doesn't know of."""
    log_run("r").end()
    store.refresh()
    store.close()
    with sqlite3.connect(root / "index.db") as connection:
        connection.execute(f"PRAGMA user_version = {MIGRATIONS[-1].version + 1}")
    connection.close()
    with pytest.raises(StoreVersionError):
        LocalStore(root).list_runs()


def test_a_locked_index(root: Path) -> None:
    """Another process holds the lock: the time-out says so, and names the file."""
    log_run("r").end()
    with LocalStore(root, lock_seconds=0.2) as store:
        store.refresh()
        lock = FileLock(root / "index.db.lock")
        assert lock.acquire()
        begun = time.monotonic()
        with pytest.raises(StoreLocked, match=r"index\.db") as caught:
            store.list_runs()
        assert 0.2 <= time.monotonic() - begun < 5
        assert caught.value.seconds == 0.2
        with pytest.raises(StoreLocked):
            LocalStore(root, lock_seconds=0.05)
        lock.release()
        assert len(store.list_runs()) == 1


@pytest.mark.parametrize("case", ["index folder is a file", "index is a folder", "lock is a folder"])
def test_an_index_that_can_not_be_written(
    root: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything can still be read, and what is written goes to the spool."""
    log_run("r").end()
    index = tmp_path / "elsewhere" / "index.db"
    if case == "index folder is a file":
        index.parent.write_text("")
    elif case == "index is a folder":
        index.mkdir(parents=True)
    else:
        index.with_name("index.db.lock").mkdir(parents=True)
    with LocalStore(root, index=index) as store:
        assert store.index_file is None
        assert store.get_run("r").events == 6
        store.annotate("r", tags={"a": "b"})
        run = log_run("later")
        assert store.get_run("later").events == 5
        run.end()
        assert store.get_run("later").status == "completed"
        store.rebuild()
        assert len(store.list_runs()) == 2
    with LocalStore(root) as store:
        assert store.get_run("r").tags == {"a": "b"}
    assert capsys.readouterr().err.count("index can't be written") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces")
def test_a_read_only_spool(root: Path, tmp_path: Path) -> None:
    """On a read-only mount, with and without an index that was made before."""
    log_run("r").end()
    with LocalStore(root) as store:
        store.refresh()
    code = (
        "import sys; from xtrack_protocol.storage.local import LocalStore\n"
        f"s = LocalStore({str(root)!r}); print(s.index_file, s.get_run('r').status, s.get_run('r').events)\n"
        "try: s.annotate('r', tags={'a': 'b'})\n"
        "except Exception as error: print(type(error).__name__)"
    )
    script = tmp_path / "read.py"
    script.write_text(code)
    inside = (
        f'mount --bind "{root}" "{root}" && mount -o remount,ro,bind "{root}" && exec "{sys.executable}" "{script}"'
    )
    for _ in range(2):
        done = subprocess.run(["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, check=False)
        if "unshare" in done.stderr or "mount:" in done.stderr:
            pytest.skip(f"no mount namespaces here: {done.stderr}")
        assert done.stdout.splitlines() == ["None completed 6", "StoreReadOnly"], done.stderr
        (root / "index.db").unlink(missing_ok=True)


def test_a_run_removed_by_hand(root: Path, store: LocalStore) -> None:
    """The spool is the truth: a folder that is gone takes its run along."""
    log_run("a").end()
    log_run("b").end()
    assert len(store.list_runs()) == 2
    shutil.rmtree(SpoolDir(root).run_dir("a"))
    assert [run.run_id for run in store.list_runs()] == ["b"]
    log_run("a").end()  # and isn't taken for deleted when it comes again
    assert store.get_run("a").events == 6


# ---------------------------------------------------------------------------------------------- damage


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


# ---------------------------------------------------------------------------------------------- liveness


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


# ---------------------------------------------------------------------------------------------- what is left out


def folders_read(store: LocalStore) -> int:
    before = store.folders_read
    store.refresh()
    return store.folders_read - before


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


# ---------------------------------------------------------------------------------------------- writing


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


# ---------------------------------------------------------------------------------------------- where the index is


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
