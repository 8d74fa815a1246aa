"""What all parts of the contract suite of stores use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from xtrack_protocol.storage import AppendResult, Incoming, Storage


class StoreMaker:
    """Gives each test a fresh store."""

    def make_store(self, directory: Path) -> Storage:
        """Return a new, empty store; what it keeps on disk goes into ``directory``. Called once a test."""
        raise NotImplementedError(f"{type(self).__name__} needs make_store(self, directory)")

    def reopen(self, store: Storage, directory: Path) -> Storage | None:
        """Close ``store`` and open it again; None, the default, where a store is gone when it is closed."""
        del store, directory
        return None

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Storage]:
        """Lend a fresh store."""
        store = self.make_store(tmp_path)
        yield store
        store.close()


def append(store: Storage, *items: Incoming) -> AppendResult:
    """Append a batch, all of which must be new."""
    result = store.append(items)
    assert len(result.stored) == len(items), result
    return result


def values(points: Iterable[object]) -> list[object]:
    """Return the values of points."""
    return [getattr(point, "value") for point in points]  # noqa: B009 - points of any store
