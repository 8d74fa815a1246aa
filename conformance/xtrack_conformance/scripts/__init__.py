"""Cases of the roles that have a memory: steps that are done one after the other, each seeing what came before.

Each role has a module here, whose ``runs`` makes a script into conversations with a testee.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from xtrack_conformance.judgement import Judgement

if TYPE_CHECKING:
    from xtrack_conformance.cases import Case

Conversation = Generator[dict[str, Any], dict[str, Any], Judgement]
"""Yields requests, at least one, is sent the ``ok`` of each answer, and returns what it thinks of them. Raises
BadAnswer for an answer that has not the shape that the testee protocol asks for."""

Begin = Callable[[], Conversation]

ROLES: Final = ("collector", "store", "emitter", "server")


def runs(case: Case, capabilities: frozenset[str]) -> list[tuple[str, Begin]]:
    """Return the name of each variant of a case, and how its conversation begins."""
    found: list[tuple[str, Begin]] = import_module(f"xtrack_conformance.scripts.{case.role}").runs(case, capabilities)
    return found
