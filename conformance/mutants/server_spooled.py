"""Mutants of a server whose store is the spool of a folder."""

from __future__ import annotations

from patching import Patch

from xtrack_protocol.storage import LocalStore

PATCHES: dict[str, Patch] = {
    "acks-what-isnt-forced": lambda p: p.set(LocalStore, "_sync_others", lambda self, streams: None),
}
