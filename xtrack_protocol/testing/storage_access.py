"""The contract of stores, third part: who owns runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs
import pytest

from xtrack_protocol.errors import RunDeleted, RunNotFound, StorageError
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.storage import RunAccess, Storage, open_store
from xtrack_protocol.testing.events import Worker
from xtrack_protocol.testing.storage_base import StoreMaker, append

_NAMES = ("ann", "Ärzte & Söhne", "'; DROP TABLE access; --", "名前", "a:write", "x" * 200, "%00")


class KeepsOwners(StoreMaker):
    """Claims, and what is granted. spec: SEC-4"""

    def test_the_first_claim_wins(self, store: Storage) -> None:
        """spec: SEC-4.1."""
        assert store.get_access("r") == RunAccess()
        assert store.claim_run("r", "ann") == RunAccess(owner="ann")
        assert store.claim_run("r", "bob") == RunAccess(owner="ann")
        assert store.claim_run("r", "ann") == RunAccess(owner="ann")
        append(store, Worker("r").start())
        assert store.claim_run("r", "bob") == store.get_access("r") == RunAccess(owner="ann")
        assert store.get_access("q") == RunAccess()

    def test_a_claim_makes_no_run(self, store: Storage) -> None:
        """It is known by its first event."""
        store.claim_run("r", "ann")
        with pytest.raises(RunNotFound):
            store.get_run("r")
        assert store.list_runs() == []
        append(store, Worker("r").start("n"))
        assert store.get_run("r").name == "n"

    def test_what_has_begun_without_owner_is_not_claimed(self, store: Storage) -> None:
        """spec: SEC-4.2."""
        append(store, Worker("begun").start())
        store.append([Worker("skipped").skip(1, 3)])
        store.mark_lost(StreamLost(Worker("lost").stream, 1, "died"))
        for run_id in ("begun", "skipped", "lost"):
            assert store.claim_run(run_id, "ann") == RunAccess(), run_id
        store.expect_run("expected", experiment_id="e")
        assert store.claim_run("expected", "ann") == RunAccess(owner="ann")
        assert store.get_run("expected").status == "pending"

    def test_changes(self, store: Storage) -> None:
        """Of runs that are there, and before they are."""
        append(store, Worker("r").start())
        full = RunAccess(owner="ann", public=True, readers=frozenset({"bob"}), writers=frozenset({"ci", "eve"}))
        for run_id in ("r", "later"):
            store.set_access(run_id, full)
            assert store.get_access(run_id) == full
            assert store.claim_run(run_id, "bob") == full
            changed = store.change_access(run_id, lambda now: attrs.evolve(now, public=False, writers=frozenset()))
            assert changed == store.get_access(run_id) == RunAccess(owner="ann", readers=frozenset({"bob"}))
            store.set_access(run_id, RunAccess())
            assert store.get_access(run_id) == RunAccess()
        assert store.claim_run("later", "bob") == RunAccess(owner="bob")

    def test_grants_without_an_owner_stay_when_it_is_claimed(self, store: Storage) -> None:
        """Whoever prepared the run said so."""
        store.set_access("r", RunAccess(readers=frozenset({"bob"})))
        assert store.claim_run("r", "ann") == RunAccess(owner="ann", readers=frozenset({"bob"}))

    @pytest.mark.parametrize("name", _NAMES)
    def test_names(self, store: Storage, name: str) -> None:
        """Any text that owners can be called. spec: SEC-1."""
        access = RunAccess(owner=name, readers=frozenset({name + "\u00e9" if len(name) < 99 else "r"}))
        store.set_access(name, access)
        assert store.get_access(name) == access
        with pytest.raises(ValueError, match="control characters"):
            store.claim_run("other", "a\nb")

    def test_a_change_that_fails_changes_nothing(self, store: Storage) -> None:
        """And leaves nothing locked."""
        store.claim_run("r", "ann")

        def fail(_: RunAccess) -> RunAccess:
            raise KeyError("in the middle")

        with pytest.raises(KeyError):
            store.change_access("r", fail)
        assert store.claim_run("r", "bob") == RunAccess(owner="ann")

    def test_deleting_a_run_ends_all_that_holds_for_it(self, store: Storage) -> None:
        """And nobody claims it again. spec: SEC-4.6, FLD-9."""
        store.claim_run("r", "ann")
        append(store, Worker("r").start())
        store.delete_run("r")
        assert store.get_access("r") == RunAccess()
        writes: tuple[Callable[[], object], ...] = (
            lambda: store.claim_run("r", "bob"),
            lambda: store.set_access("r", RunAccess(owner="bob")),
            lambda: store.expect_run("r"),
        )
        for write in writes:
            with pytest.raises(RunDeleted) as caught:
                write()
            assert caught.value.run == "r"
        assert store.get_access("r") == RunAccess()

    def test_one_of_many_claims_at_once_wins(self, store: Storage) -> None:
        """And nothing of many changes at once is lost. spec: SEC-4.1."""
        seen: list[RunAccess] = []
        barrier = threading.Barrier(8)

        def claim(number: int) -> None:
            barrier.wait()
            seen.extend(store.claim_run(f"r{run}", f"owner {number}") for run in range(5))
            name = frozenset({f"reader {number}"})
            store.change_access("shared", lambda now: attrs.evolve(now, readers=now.readers | name))

        threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 40
        assert len({access.owner for access in seen}) <= 5
        assert {access.owner for access in seen} == {store.get_access(f"r{run}").owner for run in range(5)}
        assert len(store.get_access("shared").readers) == 8

    def test_owners_are_kept(self, store: Storage, tmp_path: Path) -> None:
        """When the store is opened again, and in a copy."""
        append(store, Worker("begun").start())
        full = RunAccess(owner="ann", public=True, readers=frozenset({"bob"}), writers=frozenset({"ci"}))
        store.set_access("begun", full)
        store.claim_run("claimed", "bob")
        store.backup(tmp_path / "copy.db")
        with open_store(f"sqlite:///{tmp_path / 'copy.db'}", read_only=True) as copy:
            assert copy.get_access("begun") == full
            assert copy.get_access("claimed") == RunAccess(owner="bob")
            assert copy.check() == []
        again = self.reopen(store, tmp_path)
        if again is None:
            pytest.skip("a store that is gone when it is closed")
        with again:
            assert again.get_access("begun") == full
            assert again.claim_run("claimed", "ann") == RunAccess(owner="bob")

    def test_ids_that_no_run_can_have(self, store: Storage) -> None:
        """Refused, or unknown: never taken for another."""
        with suppress(StorageError):
            assert store.get_access("\ud800") == RunAccess()
