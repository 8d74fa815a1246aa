"""Our stores keep the contract that third parties' stores are held to."""

from __future__ import annotations

from pathlib import Path

from xtrack_protocol.storage import MemoryStore, SQLiteStore, Storage
from xtrack_protocol.testing import StorageContract


class TestMemoryStore(StorageContract):
    def make_store(self, directory: Path) -> Storage:
        return MemoryStore()


class TestSQLiteStore(StorageContract):
    def make_store(self, directory: Path) -> Storage:
        return SQLiteStore(directory / "store.db")

    def reopen(self, store: Storage, directory: Path) -> Storage:
        store.close()
        return SQLiteStore(directory / "store.db")
