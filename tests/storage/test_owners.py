"""Owners of runs at rest: files in the spool, tables, older stores, and claims of several processes at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from storage.older import make_old

from xtrack_protocol import Tracker
from xtrack_protocol.errors import RunDeleted, StorageError, StoreCorrupt, StoreReadOnly
from xtrack_protocol.ir import RunId, RunStart
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import LocalStore, RunAccess, SQLiteStore, local_notes, open_store
from xtrack_protocol.storage.access import unfit_name
from xtrack_protocol.testing import Worker

FULL = RunAccess(owner="ann", public=True, readers=frozenset({"bob"}), writers=frozenset({"ci"}))


def access_file(store: LocalStore, run_id: str) -> Path:
    return store.root / "spool" / run_id / "ACCESS"


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" a", "white space"),
        ("a\u3000", "white space"),
        ("a\x00b", "control"),
        ("a\x1b[31m", "control"),
        ("a\u2028b", "control"),
        ("\ud800", "control"),
        ("a\u202eb", "control"),
        ("é" * 101, "202 bytes"),
        ("é" * 100, None),
        ("Ann Müller <ann@example.org>", None),
        ("👩‍🔬", None),
    ],
)
def test_names(name: str, problem: str | None) -> None:
    found = unfit_name(name)
    assert (found is None) if problem is None else (found is not None and problem in found)
    if problem is not None:
        for wrong in ({"owner": name}, {"readers": {name}}, {"writers": {name}}):
            with pytest.raises(ValueError, match="the name"):
                RunAccess(**wrong)  # type: ignore[arg-type]


def test_a_writer_may_read() -> None:
    access = RunAccess(owner="o", readers=frozenset({"a", "b"}), writers=frozenset({"b"}))
    assert access.readers == {"a"}
    assert [access.may_read(name) for name in ("o", "a", "b", "c")] == [True, True, True, False]
    assert [access.may_write(name) for name in ("o", "a", "b", "c")] == [True, False, True, False]
    assert attrs.evolve(access, public=True).may_read("c")
    assert not RunAccess().may_write("")


# ------------------------------------------------------------------------------------------ the spool


def test_the_owner_stands_in_the_run_s_folder(store: LocalStore) -> None:
    """spec: RST-7.8."""
    store.append([Worker("r").start()])
    store.set_access("r", FULL)
    path = access_file(store, "r")
    assert json.loads(path.read_bytes()) == {
        "run_id": "r",
        "owner": "ann",
        "public": True,
        "readers": ["bob"],
        "writers": ["ci"],
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.rebuild()
    store.backup(store.root / "copy.db")
    with SQLiteStore(store.root / "copy.db") as copy:
        assert copy.get_access("r") == FULL
    store.delete_run("r")
    assert [file.name for file in path.parent.iterdir()] == ["DELETED"]
    with pytest.raises(RunDeleted):
        store.claim_run("r", "bob")


def test_another_store_s_word_is_heard(root: Path) -> None:
    with LocalStore(root) as one, LocalStore(root) as other:
        one.append([Worker("r").start()])
        one.refresh()
        other.set_access("r", FULL)
        assert one.get_access("r") == FULL
        one.claim_run("new", "ann")
        assert other.claim_run("new", "bob").owner == "ann"


def test_a_run_that_a_local_worker_has_begun_is_not_claimed(store: LocalStore) -> None:
    """Also one whose first record isn't there yet. spec: SEC-4.2."""
    with Tracker.start_run(run_id="r", settings=Settings(dir=store.root, quiet=True)):
        assert store.claim_run("r", "eve").owner is None
    folder = store.root / "spool" / "begun"
    folder.mkdir(mode=0o700)
    (folder / "s.000001.xseg").touch()
    assert store.claim_run("begun", "eve").owner is None


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b'{"owner": "eve"}', b'{"run_id": "other", "owner": "eve"}', b'{"run_id": "r", "owner": 5}', b'"\xff"'],
)
def test_a_damaged_file_makes_nobody_owner(store: LocalStore, damage: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """It is no run without an owner; who runs the machine says who it is, once more. spec: RST-7.9."""
    store.claim_run("r", "ann")
    access_file(store, "r").write_bytes(damage)
    for ask in (
        lambda: store.get_access("r"),
        lambda: store.claim_run("r", "eve"),
        lambda: store.change_access("r", lambda now: attrs.evolve(now, public=True)),
    ):
        with pytest.raises(StoreCorrupt, match="xtrack access RUN --owner NAME"):
            ask()
    assert any("ACCESS" in problem for problem in store.check())
    store.rebuild()
    assert "ACCESS" in capfd.readouterr().err
    assert store.change_access("r", lambda now: attrs.evolve(now, owner="ann")) == RunAccess(owner="ann")
    assert store.check() == []


def test_members_that_a_later_version_adds_are_ignored(store: LocalStore) -> None:
    """spec: RST-7.7."""
    store.claim_run("r", "ann")
    access_file(store, "r").write_text('{"run_id": "r", "owner": "ann", "later": [1]}')
    assert store.get_access("r") == RunAccess(owner="ann")


def test_a_first_word_of_another_machine_stands(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its index has another lock: between our look and our word it has claimed the run."""
    from xtrack_protocol.storage import local

    def late(folder: Path, run_id: str, access: RunAccess, *, claim: bool = False) -> bool:
        if not (folder / "ACCESS").exists():
            assert local_notes.write_access(folder, run_id, RunAccess(owner="ann"), claim=True)
        return local_notes.write_access(folder, run_id, access, claim=claim)

    monkeypatch.setattr(local, "write_access", late)
    assert store.claim_run("r", "bob").owner == "ann"
    assert [path.name for path in access_file(store, "r").parent.iterdir()] == ["ACCESS"]


def test_a_file_system_without_hard_links(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert store.claim_run("r", "ann").owner == "ann"
    assert store.claim_run("r", "bob").owner == "ann"


def test_ids_that_no_run_can_have(store: LocalStore) -> None:
    with pytest.raises(StorageError, match="no id of a run"):
        store.get_access("\ud800")


# ------------------------------------------------------------------------------------------ SQLite


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of the first schema, which knew no owners, with one run."""
    path = tmp_path / "old.db"
    make_old(path, [Worker("r").start("n")], monkeypatch, version=1)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO tombstones VALUES ('gone', 1)")
    connection.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
    return path


def test_an_older_store_is_read_as_it_is(old: Path) -> None:
    """Its file isn't written for that."""
    before = old.read_bytes()
    with SQLiteStore(old, read_only=True) as store:
        assert store.get_run("r").name == "n"
        assert store.get_access("r") == RunAccess()
        assert store.check() == []
        for write in (lambda: store.claim_run("r", "ann"), lambda: store.set_access("r", FULL)):
            with pytest.raises(StoreReadOnly):
                write()
    assert old.read_bytes() == before


def test_an_older_store_is_brought_up_to_date(old: Path) -> None:
    with SQLiteStore(old) as store:
        assert store.claim_run("r", "ann") == RunAccess()
        store.set_access("r", FULL)
        with pytest.raises(RunDeleted):
            store.claim_run("gone", "ann")
        store.append([Worker("q").start()])
        store.delete_run("q")
    with SQLiteStore(old, read_only=True) as store:
        assert store.get_access("r") == FULL
        assert store.check() == []


def test_deleting_an_experiment_ends_what_holds_for_its_runs(tmp_path: Path) -> None:
    for url in ("memory:", f"sqlite:///{tmp_path / 's.db'}", f"local:{tmp_path / 'home'}"):
        with open_store(url) as store:
            store.append([Worker("r").say(RunStart(RunId("r", "e")))])
            store.set_access("r", FULL)
            store.delete_experiment("e", with_runs=True)
            assert store.get_access("r") == RunAccess()


def test_rows_without_their_run_are_told(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "s.db") as store:
        store.set_access("r", FULL)
        with sqlite3.connect(store.path) as connection:
            connection.execute("DELETE FROM access")
        connection.close()
        assert any("access_grants" in problem for problem in store.check())


# ------------------------------------------------------------------------------------------ processes


def _claim(url: str, owner: str, go: object, results: object) -> None:
    with open_store(url) as store:
        go.wait()  # type: ignore[attr-defined]
        results.put((owner, [store.claim_run(f"r{run}", owner).owner for run in range(20)]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["sqlite", "local"])
def test_of_several_processes_one_wins(tmp_path: Path, kind: str) -> None:
    """And all of them hear who. spec: SEC-4.1."""
    url = f"sqlite:///{tmp_path / 's.db'}" if kind == "sqlite" else f"local:{tmp_path / 'home'}"
    open_store(url).close()
    context = multiprocessing.get_context("spawn")
    go, results = context.Event(), context.Queue()
    processes = [context.Process(target=_claim, args=(url, f"owner {number}", go, results)) for number in range(4)]
    for process in processes:
        process.start()
    go.set()
    told = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    winners = told[0][1]
    assert all(owners == winners for _, owners in told)
    with open_store(url) as store:
        assert [store.get_access(f"r{run}").owner for run in range(20)] == winners
