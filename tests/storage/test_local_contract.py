"""The local store keeps the contract of all stores, on a spool of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from xtrack_protocol.errors import StorageError
from xtrack_protocol.limits import RUN_ID_MAX
from xtrack_protocol.storage import Storage
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.testing import StorageContract, Worker
from xtrack_protocol.testing.poison import TEXTS


class TestLocalStore(StorageContract):
    def make_store(self, directory: Path) -> Storage:
        return LocalStore(directory / "home")

    def reopen(self, store: Storage, directory: Path) -> Storage:
        store.close()
        return LocalStore(directory / "home")

    @pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
    def test_texts(self, store: Storage, text: str) -> None:
        """Ids longer than a segment's header can hold are refused, and say why."""
        if len(f"r{text}".encode()) <= RUN_ID_MAX:
            super().test_texts(store, text)
            return
        with pytest.raises(StorageError, match="1024 bytes"):
            store.append([Worker(f"r{text}").start()])
        assert store.list_runs() == []


class TestLocalStoreWithoutIndex(StorageContract):
    """The same, where the index can't be written and every reader makes its own."""

    def make_store(self, directory: Path) -> Storage:
        (directory / "not-a-folder").write_text("in the way")
        store = LocalStore(directory / "home", index=directory / "not-a-folder" / "index.db")
        assert store.index_file is None
        return store

    def reopen(self, store: Storage, directory: Path) -> Storage:
        store.close()
        return LocalStore(directory / "home", index=directory / "not-a-folder" / "index.db")

    @pytest.mark.parametrize("text", [text for text in TEXTS if len(text.encode()) < RUN_ID_MAX])
    def test_texts(self, store: Storage, text: str) -> None:
        super().test_texts(store, text)
