"""The local store's index: made from the spools by whoever reads, and no reason not to answer. spec: RST-6.9"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_spools import (
    answers,
    check_all_kinds,
    log_run,
    make_all_kinds,
    told,
)

from xtrack_protocol.errors import (
    RunNotFound,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
    StoreVersionError,
)
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import FileLock, SpoolDir, StreamWriter, segments
from xtrack_protocol.storage import open_store
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.storage.sqlite_schema import MIGRATIONS
from xtrack_protocol.testing import Worker


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


def test_a_place_that_is_only_read_is_not_made(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    with open_store(f"local:{root}", read_only=True) as store:
        assert (store.list_runs(), store.check()) == ([], [])
        with pytest.raises(RunNotFound):
            store.get_run("r")
        for write in (lambda: store.create_experiment("e"), lambda: store.expect_run("r")):
            with pytest.raises(StoreReadOnly):
                write()
        assert not root.exists()
        log_run("r").end()  # whoever makes the folder is seen by who has opened it before
        assert store.get_run("r").events == 6
        with pytest.raises(StoreReadOnly):
            store.annotate("r", tags={"a": "b"})
        assert isinstance(store, LocalStore)
        assert store.index_file is not None
        store.rebuild()
        assert [run.run_id for run in store.list_runs()] == ["r"]


def test_a_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for read_only in (False, True):
        with pytest.raises(StoreUnavailable, match="is a file, not the folder"):
            open_store(f"local:{tmp_path / 'notes'}", read_only=read_only)


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
