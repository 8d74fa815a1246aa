"""Stores by their URL."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage.base import Storage

_SQLITE: Final = "sqlite:///"


def _open_memory(url: str, read_only: bool) -> Storage:
    from xtrack_protocol.storage.memory import MemoryStore

    if url != "memory:" or read_only:
        raise ConfigurationError("store", url, "a store in memory is new each time", "Write `memory:`")
    return MemoryStore()


def _open_sqlite(url: str, read_only: bool) -> Storage:
    from xtrack_protocol.storage.sqlite import SQLiteStore

    path = url.removeprefix(_SQLITE)
    if path == url or not path:
        raise ConfigurationError(
            "store", url, "no path", "Write sqlite:///relative/path.db, or sqlite:////absolute/path.db"
        )
    return SQLiteStore(path, read_only=read_only)


def _open_local(url: str, read_only: bool) -> Storage:
    from xtrack_protocol.storage.local import LocalStore

    return LocalStore(url.removeprefix("local:") or None, read_only=read_only)


STORES: dict[str, Callable[[str, bool], Storage]] = {
    "local": _open_local,
    "memory": _open_memory,
    "sqlite": _open_sqlite,
}
"""What opens a URL, by its scheme: takes the whole URL, and whether to open it for reading only."""


def default_store_url(settings: Settings) -> str:
    """Return the URL of the store that ``settings`` name: XTRACK_STORE, else the spools under XTRACK_DIR."""
    return settings.store or (f"local:{settings.dir}" if settings.dir else "local:")


def open_store(url: str, *, read_only: bool = False) -> Storage:
    """Open the store at ``url``: ``sqlite:///path`` (relative), ``sqlite:////path`` (absolute), ``memory:``, or
    ``local:`` (the spools under XTRACK_DIR; ``local:/path``: those under another folder).

    The path stands as it is, without quoting. ``read_only``: never write to it; of ``local:`` only the index, which
    is made from the rest, is kept up to date, and a folder that isn't there is empty and isn't made. Raises
    ConfigurationError for a URL of no known kind, and StorageError where the store can't be opened.
    """
    if isinstance(url, os.PathLike):
        raise ConfigurationError("store", url, "a path is no URL", f"For a file write 'sqlite:///{os.fspath(url)}'")
    scheme, colon, _ = url.partition(":")
    opener = STORES.get(scheme)
    if not colon or opener is None:
        known = ", ".join(f"{name}:" for name in sorted(STORES))
        raise ConfigurationError(
            "store",
            url,
            "no known kind of store",
            f"Known are {known}; for a file write sqlite:///{url}" if not colon else f"Known are {known}",
        )
    return opener(url, read_only)
