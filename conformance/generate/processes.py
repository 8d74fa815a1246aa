"""The words for cases of whole processes."""

from __future__ import annotations

from typing import Any

from generate.dsl import Json
from generate.emitting import Emitting, call

STDIO = {"XTRACK_TRANSPORT": "stdio"}


def plain_calls(*steps: Json) -> list[Json]:
    """Return calls as a process is given them."""
    return [{name: value for name, value in step.items() if name != "do"} for step in steps]


def begin(**options: Any) -> Json:
    """Start a run in the process."""
    return call("start", **options)


def process(*calls: Json, env: Json | None = None, descriptors: Json | None = None, ending: str = "return",
            read: list[str] | None = None, **checks: Any) -> Json:  # fmt: skip
    """Run a process on descriptor 3, or on what is given."""
    request: Json = {"env": STDIO if env is None else env, "calls": plain_calls(*calls), "ending": ending}
    request["descriptors"] = {"3": "pipe"} if descriptors is None else descriptors
    if read:
        request["read"] = read
    return {"do": "process", "request": request, **checks}


def add(g: Emitting, case_id: str, clauses: str, why: str, *steps: Json, needs: str = "", **more: Any) -> None:
    """Add a case that needs processes."""
    g.one(case_id, clauses, why, *steps, needs=["processes", *needs.split()], **more)
