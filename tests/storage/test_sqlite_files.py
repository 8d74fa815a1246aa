"""The file of a SQLite store: whose it is, what it refuses, what it says."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from xtrack_protocol.errors import (
    ConfigurationError,
    NotAStore,
    StorageError,
    StoreCorrupt,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
    StoreVersionError,
)
from xtrack_protocol.ir import LogEntry, RunStart
from xtrack_protocol.storage import SQLiteStore, open_store, sqlite_schema
from xtrack_protocol.storage.sqlite_check import probe
from xtrack_protocol.storage.sqlite_schema import APPLICATION_ID, MIGRATIONS, Migration
from xtrack_protocol.testing import Worker
from xtrack_protocol.testing.poison import exactly


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_files_are_for_their_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask if umask != 0o777 else 0o277)
    try:
        path = tmp_path / "a" / "b" / "store.db"
        if umask == 0o777:
            path = tmp_path / "store.db"
        with SQLiteStore(path) as store:
            store.append([Worker("r").start()])
            store.backup(tmp_path / "copy.db")
            found = {file.name: mode(file) for file in path.parent.iterdir() if file.name.startswith("store")}
            assert found == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
            assert mode(tmp_path / "copy.db") == 0o600
        if umask != 0o777:
            assert mode(tmp_path / "a") & 0o077 == mode(tmp_path / "a" / "b") & 0o077 == 0
    finally:
        os.umask(before)


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SQLiteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for read_only in (False, True):
        with pytest.raises(StoreVersionError) as caught:
            SQLiteStore(path, read_only=read_only)
        assert (caught.value.found, caught.value.supported) == (99, MIGRATIONS[-1].version)
        assert "pip install -U" in str(caught.value)


def test_other_files_are_no_stores_and_stay_as_they_are(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and they are long enough to be looked at as a header of a database file, or two")
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("PRAGMA application_id = 42")
    connection.commit()
    connection.close()
    for path in (text, other, foreign):
        before = path.read_bytes()
        for read_only in (False, True):
            with pytest.raises(NotAStore) as caught:
                SQLiteStore(path, read_only=read_only)
            assert caught.value.path == str(path)
        assert path.read_bytes() == before
        assert not path.with_name(path.name + "-wal").exists()


def test_a_probe_finds_damage_at_the_root_of_every_table_and_index(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        worker = Worker("r")
        store.append([worker.start(), worker.metric("loss", 1, 1), worker.end()])
        store.probe()
    sound = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        roots = connection.execute("SELECT name, rootpage FROM sqlite_master").fetchall()
        [(size,)] = connection.execute("PRAGMA page_size")
    assert len(roots) > 30
    for name, root in roots:
        content = bytearray(sound)
        content[(root - 1) * size : root * size] = b"\xff" * size
        path.write_bytes(content)
        found = ""
        try:
            with SQLiteStore(path, read_only=True) as store:
                store.probe()
        except StoreCorrupt as error:
            found = str(error)
        assert "malformed" in found, name


def test_a_probe_takes_no_longer_in_a_large_store(tmp_path: Path) -> None:
    steps = []
    for name, count in (("small", 20), ("large", 20_000)):
        with SQLiteStore(tmp_path / f"{name}.db") as store:
            worker = Worker("r")
            store.append(
                [worker.start(), *(worker.say(LogEntry("r", "info", f"line {number}")) for number in range(count))]
            )
            with store._pool.outside_transactions() as connection:
                asked: list[None] = []
                connection.set_progress_handler(lambda asked=asked: asked.append(None), 1)  # type: ignore[misc]
                probe(connection, store.path)
                connection.set_progress_handler(None, 1)
        steps.append(len(asked))
    assert 100 < steps[1] < steps[0] + 100


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreUnavailable, match="can't be made"):
        SQLiteStore(tmp_path / "file" / "below" / "store.db")
    for read_only in (False, True):
        with pytest.raises(StoreUnavailable, match="is a directory"):
            SQLiteStore(tmp_path, read_only=read_only)
    with pytest.raises(StoreUnavailable, match="no such file"):
        SQLiteStore(tmp_path / "absent.db", read_only=True)
    with pytest.raises(StorageError):
        SQLiteStore("/proc/xtrack/store.db")
    assert not (tmp_path / "absent.db").exists()


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    with pytest.raises(NotAStore, match="empty"):
        SQLiteStore(path, read_only=True)
    with SQLiteStore(path) as store:
        assert store.list_runs() == []


def test_a_store_that_another_holds_locked(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    worker = Worker("r")
    with SQLiteStore(path, busy_seconds=0.1) as store:
        start = worker.start()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked) as caught:
            store.append([start])
        assert caught.value.seconds == 0.1
        assert store.list_runs() == []  # reading goes on
        with SQLiteStore(path, busy_seconds=0.1, read_only=True) as reader:
            assert reader.list_runs() == []
        other.execute("ROLLBACK")
        other.close()
        assert len(store.append([start]).stored) == 1


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    """A limit of SQLite's own pages stands in for the disk's."""
    with SQLiteStore(tmp_path / "store.db") as store:
        worker = Worker("r")
        store.append([worker.start()])
        before = exactly(store.get_run("r"))
        with store._pool.outside_transactions() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        batch = [worker.metric(f"key {number}", number, number) for number in range(5000)]
        with pytest.raises(StoreFull):
            store.append(batch)
        assert exactly(store.get_run("r")) == before
        assert store.check() == []
        with store._pool.outside_transactions() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        assert len(store.append(batch).stored) == 5000
        assert store.check() == []


def test_a_read_only_store_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    worker = Worker("r")
    with SQLiteStore(path) as store:
        store.append([worker.start("n"), worker.metric("x", 1, 1)])
    before = path.read_bytes()
    with SQLiteStore(path, read_only=True) as store:
        assert store.get_run("r").name == "n"
        assert len(store.get_metrics("r", "x")) == 1
        assert store.check() == []
        for write in (
            lambda: store.append([worker.metric("x", 2, 2)]),
            lambda: store.annotate("r", name="x"),
            lambda: store.delete_run("r"),
            lambda: store.expect_run("q"),
            lambda: store.create_experiment("e"),
        ):
            with pytest.raises(StoreReadOnly):
                write()
    assert path.read_bytes() == before


def test_a_store_on_a_read_only_medium(tmp_path: Path) -> None:
    """A directory in which nothing can be made: for root only one that is mounted so, such as a chattr +i one."""
    folder = tmp_path / "medium"
    with SQLiteStore(folder / "store.db") as store:
        store.append([Worker("r").start("n")])
    folder.chmod(0o500)
    (folder / "store.db").chmod(0o400)
    immutable = os.geteuid() == 0 and shutil.which("chattr") and os.system(f"chattr +i {folder} 2>/dev/null") == 0
    try:
        if os.geteuid() == 0 and not immutable:
            pytest.skip("root can write everywhere here")
        with SQLiteStore(folder / "store.db", read_only=True) as store:
            assert store.get_run("r").name == "n"
        with pytest.raises((StoreReadOnly, StoreUnavailable)), SQLiteStore(folder / "store.db") as store:
            store.append([Worker("q").start()])
    finally:
        if immutable:
            os.system(f"chattr -i {folder}")
        folder.chmod(0o700)


def test_reading_without_a_log_beside_the_file(tmp_path: Path) -> None:
    """What the read-only fallback opens: the file alone, taken as it is."""
    from xtrack_protocol.storage.sqlite_connections import ConnectionPool

    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        store.append([Worker("r").start("n")])
    pool = ConnectionPool(str(path), read_only=True, on_fork=lambda: None)
    connection = pool._configured("ro&immutable=1")
    assert connection.execute("SELECT name FROM runs").fetchall() == [("n",)]
    connection.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["store.db"]


# ------------------------------------------------------------------------------------------ migrations


def versions(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    found = [version for (version,) in connection.execute("SELECT version FROM migrations ORDER BY version")]
    assert connection.execute("PRAGMA user_version").fetchone()[0] == (found[-1] if found else 0)
    assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
    connection.close()
    return found


def test_a_file_of_ours_without_tables_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.commit()
    connection.close()
    with SQLiteStore(path) as store:
        store.append([Worker("r").start()])
    assert versions(path) == [migration.version for migration in MIGRATIONS]


def test_an_older_file_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        store.append([Worker("r").start("n")])
    newest = MIGRATIONS[-1].version
    steps = (
        Migration(newest + 1, ("ALTER TABLE runs ADD COLUMN colour TEXT", "UPDATE runs SET colour = 'green'")),
        Migration(newest + 2, ("CREATE TABLE extra (x)",)),
    )
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*MIGRATIONS, *steps))
    with pytest.raises(StoreReadOnly, match="older schema"):
        SQLiteStore(path, read_only=True)
    with SQLiteStore(path) as store:
        assert store.get_run("r").name == "n"
    assert versions(path)[-2:] == [newest + 1, newest + 2]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT colour FROM runs").fetchall() == [("green",)]
    connection.close()
    with SQLiteStore(path, read_only=True) as store:
        assert store.check() == []


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    SQLiteStore(path).close()
    newest = MIGRATIONS[-1].version
    step = Migration(newest + 1, ("CREATE TABLE extra (x)", "THIS IS NO SQL"))
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*MIGRATIONS, step))
    with pytest.raises(StorageError):
        SQLiteStore(path)
    monkeypatch.undo()
    assert versions(path)[-1] == newest
    with SQLiteStore(path) as store:
        assert store.list_runs() == []


# ------------------------------------------------------------------------------------------ backup and check


def test_backup_while_others_write(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "store.db") as store:
        worker = Worker("r")
        store.append([worker.start()])
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                store.append([worker.metric("x", worker.seq, worker.seq) for _ in range(10)])

        thread = threading.Thread(target=write)
        thread.start()
        for number in range(5):
            copy = tmp_path / f"copy{number}.db"
            store.backup(copy)
            with SQLiteStore(copy, read_only=True) as kept:
                assert kept.check() == []
                assert (kept.get_run("r").events - 1) % 10 == 0
        done.set()
        thread.join()
        assert store.check() == []


DAMAGE = {
    "a payload": "UPDATE events SET raw = substr(raw, 2) WHERE seq = 3",
    "a payload that says something else": "UPDATE events SET raw = replace(raw, '0.5', '0.6') WHERE seq = 2",
    "a missing event": "DELETE FROM events WHERE seq = 3",
    "a name too much": "INSERT INTO series (run_key, name) SELECT run_key, 'z' FROM runs",
    "a missing name": "DELETE FROM series",
    "the length of the tail": "UPDATE runs SET tail = tail + 1",
    "an orphan": "INSERT INTO events SELECT 99, run_key, 77, 9, NULL, 1, 0, raw FROM events LIMIT 1",
    "a status": "UPDATE runs SET status = 'failed'",
    "a name": "UPDATE runs SET name = 'other'",
    "a time": "UPDATE runs SET updated_at_us = updated_at_us + 1",
    "tags": "DELETE FROM run_tags",
    "a seq": "UPDATE events SET seq = 33 WHERE seq = 3",
    "a kind": "UPDATE events SET kind = 1 WHERE seq = 3",
    "a conflict": "UPDATE conflicts SET raw = x'00'",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE.keys())
def test_check_finds_damage(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "store.db"
    worker = Worker("r")
    with SQLiteStore(path) as store:
        store.append([worker.say(RunStart("r", tags={"k": "v"})), worker.metric("x", 0.5, 1), worker.metric("x", 1, 2)])
        store.append([worker.say(RunStart("r", name="conflict"), seq=1)])
        assert store.check() == []
    connection = sqlite3.connect(path)
    connection.execute(statement.replace("replace(raw,", "replace(CAST(raw AS TEXT),"))
    connection.commit()
    connection.close()
    with SQLiteStore(path, read_only=True) as store:
        assert store.check() != []


def test_check_finds_a_snapshot_of_another_run(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        for name in ("a", "b"):
            worker = Worker(name)
            store.append([worker.start(f"name of {name}"), worker.metric(name, 1, 1)])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE snapshots SET data = (SELECT data FROM snapshots WHERE run_key = 2) WHERE run_key = 1")
    connection.commit()
    connection.close()
    with SQLiteStore(path) as store:
        assert [finding for finding in store.check() if "snapshot" in finding]


def test_an_unreadable_snapshot_costs_time_only(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    worker = Worker("r")
    with SQLiteStore(path) as store:
        store.append([worker.start("n"), worker.metric("x", 1, 1)])
        before = exactly(store.get_run("r"))
    for damage in ("data = x'00'", "format = 0"):
        connection = sqlite3.connect(path)
        connection.execute(f"UPDATE snapshots SET {damage}")
        connection.commit()
        connection.close()
        with SQLiteStore(path) as store:
            assert bool(store.check()) == (damage == "data = x'00'")
            assert exactly(store.get_run("r")) == before


def test_damaged_pages_are_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        worker = Worker("r")
        store.append([worker.start(), *(worker.metric("x", step, step) for step in range(5000))])
    data = bytearray(path.read_bytes())
    for page in range(3, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt), SQLiteStore(path, read_only=True) as store:  # noqa: PT012
        assert store.check() != []
        store.get_metrics("r", "x")


# ------------------------------------------------------------------------------------------ URLs


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///below/a.db") as store:
        assert store.url == f"sqlite:///{tmp_path}/below/a.db"
        store.append([Worker("r").start()])
        with open_store(store.url, read_only=True) as again:
            assert len(again.list_runs()) == 1
    with open_store(f"sqlite:///{tmp_path}/with ?#%20 odd.db") as store:
        store.append([Worker("r").start()])
    assert (tmp_path / "with ?#%20 odd.db").exists()
    with open_store("memory:") as store:
        assert store.url == "memory:"


@pytest.mark.parametrize("url", ["", "a.db", "postgres://x", "sqlite:a.db", "sqlite:///", "sqlite", "memory:x", "://"])
def test_urls_of_no_store(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert caught.value.setting == "store"
    assert "memory:" in str(caught.value) or "sqlite:///" in str(caught.value)
