"""The words for cases of what an emitter keeps in a folder, and of what is shipped from there."""

from __future__ import annotations

from typing import Any

from generate.dsl import Json
from generate.emitting import Emitting, control, do, send, start

WELCOME = do("welcome")


def is_(what: str, **more: Any) -> Json:
    """See what became of the last call."""
    return do("call_is", **{"is": what, **more})


def begin(**options: Any) -> Json:
    """Start an emitter in the folder."""
    return {**start(**options), "dir": "d"}


def of(name: str, *steps: Json) -> list[Json]:
    """Return steps of an emitter with a name."""
    return [{**step, "of": name} for step in steps]


def ship(**more: Any) -> Json:
    """Ship the folder."""
    return do("ship", dir="d", **more)


def spool(*events: Json, **more: Any) -> Json:
    """Look into its spool."""
    return do("spool", dir="d", events=list(events), **more)


def see(*seen: Json) -> Json:
    """Look at its files."""
    return do("files", dir="d", see=list(seen))


def put(*entries: Json) -> Json:
    """Put files there."""
    return do("files", dir="d", put=list(entries))


def noted(**members: Any) -> Json:
    """See what the stream's note says."""
    return see({"path": "spool/a/@sid@.ship", "json": {"run_id": "a", "sid": "@sid@", "note": members}})


def held(end: str, locked: bool = True) -> Json:
    """See whether a lock of the stream is held."""
    return see({"path": f"spool/a/@sid@.{end}", "locked": locked})


def acked(name: str, seq: int, **more: Any) -> Json:
    """Ack a stream whose session id is kept under a name."""
    return send(control("ack", seq=seq, status="ok", run_id="a", sid=f"@{name}@", **more))


SUCCESS = is_("returned", value=True, within=20_000)
DONE = is_("returned", within=20_000)
NO_SUCCESS = do("no_success", within=40_000)
FORGET = do("forget")
LOCAL: Json = {"collector": False}
SIDS = spool({"t": "run_start", "m": {"sid": {"$bind": "sid"}}})
"""Keeps the session id of a run under the name that the last stream has."""


def add(g: Emitting, case_id: str, clauses: str, why: str, *steps: Json, needs: str = "", **more: Any) -> None:
    """Add a case that needs a folder."""
    g.one(case_id, clauses, why, *steps, needs=["folders", *needs.split()], **more)
