"""Mutants of what runs in threads of its own: patches of the library, which hold while a server of theirs runs.

They are undone when the last session is forgotten, so that nobody else in the process notices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tools import Json, Mutation

from xtrack_protocol.server import committer
from xtrack_protocol.session import CollectorSession
from xtrack_protocol.session._connection import Connection

sys.path.append(str(Path(__file__).parents[1] / "testees" / "python"))

import as_server

Around = Callable[..., Any]
_INHERITED = object()


class Patches:
    """What was patched, to be put back."""

    def __init__(self) -> None:
        self._saved: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Put ``value`` in place of an attribute."""
        self._saved.append((owner, name, vars(owner).get(name, _INHERITED)))
        setattr(owner, name, value)

    def around(self, owner: Any, name: str, change: Around) -> None:
        """Put ``change`` in place of a function; its first argument is the original."""
        original = getattr(owner, name)
        self.set(owner, name, lambda *args, **more: change(original, *args, **more))

    def undo(self) -> None:
        """Put everything back."""
        for owner, name, value in reversed(self._saved):
            if value is _INHERITED:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        self._saved.clear()


Patch = Callable[[Patches], None]


def one_by_one(p: Patches) -> None:
    """Take, and keep, event by event what is otherwise taken in rows: what is patched sees each then."""
    p.set(CollectorSession, "_take_frames", Connection._take_frames)
    p.set(committer, "merged", list)


def serving(name: str, patch: Patch, main: Path) -> Mutation:
    """Make a mutant of the server. A server in a process of its own is ``main NAME FOLDER OPTIONS``."""

    def mutate(module: ModuleType) -> None:
        class Testee(module.Testee):  # type: ignore[misc,name-defined]
            patches = Patches()
            sessions_open: set[str] = set()  # noqa: RUF012 - of this one class

            def answer(self, request: Json) -> Json:
                if not request["op"].startswith("server."):
                    return dict(super().answer(request))
                if not self.sessions_open:
                    one_by_one(self.patches)
                    patch(self.patches)
                    self.patches.set(as_server, "CHILD", [sys.executable, str(main), name])
                self.sessions_open.add(request["session"])
                found: Json = {}
                try:
                    found = super().answer(request)
                finally:
                    if request["op"] == "server.forget" or "ok" not in found:
                        self.sessions_open.discard(request["session"])
                    if not self.sessions_open:
                        self.patches.undo()
                return found

        module.Testee = Testee  # type: ignore[attr-defined]

    return mutate
