"""An emitter under test as the suite knows it, and how it is asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator
from typing import Any, Final

import attrs

from xtrack_conformance.cases import Step
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts.following import Broken, Follower, Written
from xtrack_conformance.scripts.matching import substitute
from xtrack_conformance.values import BadValue, shown, untag

Json = dict[str, Any]
Talk = Generator[Json, Json, None]

PATIENCE: Final = (0, 20, 80, 400, 1500, 3000)
"""Milliseconds, one after the other, that what must come may take: five seconds in all."""

OWN: Final = "me"
"""The name of the emitter, where a script has one."""


@attrs.define
class Emitter:
    """One emitter of the testee, as far as the suite knows it."""

    session: str
    follower: Follower
    now: int = 0
    connection: str = "none"
    unread: list[Written] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)
    commands: list[str] = attrs.field(factory=list)
    counts: Json = attrs.field(factory=dict)
    call: str = ""
    value: Any = None
    error: str = ""
    secure: bool = False
    key: str = ""
    closings: int = 0
    forced: int = 0
    welcomed: bool = False


class Script:
    """A script under way."""

    def __init__(self, case_id: str, variant: str) -> None:
        self.name = f"{case_id} {variant}".strip()
        self.variant = variant
        self.emitters: dict[str, Emitter] = {}
        self.names: dict[str, str] = {}
        self.processes = 0
        self.folders: dict[str, str] = {}
        self.places: set[tuple[str, int]] = set()
        """Which event stood in which file when the spool was looked at."""

    def of(self, step: Step) -> Emitter:
        """Return the emitter that a step is about."""
        return self.emitters[step.get("of", OWN)]

    def folder(self, step: Step) -> str:
        """Return the name that no other script has for the folder ``dir`` of a step."""
        return self.folders.setdefault(step["dir"], f"{self.name} in {step['dir']}")

    # ------------------------------------------------------------------------------------------ requests

    def ask(self, emitter: Emitter, op: str, **members: Any) -> Talk:
        """Ask, and take in the facts of the answer."""
        ok = yield {"op": f"emit.{op}", "session": emitter.session, **members}
        facts = read_facts(ok)
        was_open = emitter.connection == "open"
        emitter.connection = facts.connection
        emitter.unread += emitter.follower.take(facts.written, emitter.now) if facts.written else []
        emitter.told += facts.told
        emitter.commands += facts.commands
        emitter.counts = facts.counts
        emitter.forced += facts.forced
        if facts.call:
            emitter.call, emitter.value, emitter.error = facts.call, facts.value, facts.error
        if emitter.follower.stream:
            self.names["run"], self.names["wid"], self.names["sid"] = emitter.follower.stream
        if was_open and emitter.connection != "open":
            emitter.follower.line = None

    def tick(self, emitter: Emitter, milliseconds: int) -> Talk:
        """Let time pass."""
        emitter.now += milliseconds
        yield from self.ask(emitter, "tick", now=emitter.now)

    def until(self, emitter: Emitter, come: Callable[[], bool], patience: tuple[int, ...] = PATIENCE) -> Talk:
        """Let time pass until ``come()``, as long as there is patience."""
        for milliseconds in patience:
            if come():
                return
            yield from self.tick(emitter, milliseconds)

    def send(self, emitter: Emitter, data: bytes) -> Talk:
        """Send bytes of the collector, in pieces where the variant says so."""
        pieces = [data]
        if self.variant == "bytes" and len(data) <= 1000:
            pieces = [data[i : i + 1] for i in range(len(data))]
        for piece in pieces:
            if emitter.connection != "open":
                return
            yield from self.ask(emitter, "receive", bytes=base64.b64encode(piece).decode())

    def send_events(self, emitter: Emitter, trees: list[Json]) -> Talk:
        """Send control events of the collector."""
        for tree in trees:
            whole = {"t": tree["t"], "v": 1, "m": {"seq": 0, "ts": 1700000000000000}, "p": {}, **tree}
            whole = substitute(whole, self.names)
            if emitter.connection != "open" or emitter.follower.line is None:
                raise Broken(f"there is no connection on which {tree['t']} could be sent", "", got=emitter.connection)
            emitter.follower.sent(whole)
            emitter.welcomed |= tree["t"] == "welcome"
            payload = json.dumps(whole, separators=(",", ":")).encode()
            yield from self.send(emitter, len(payload).to_bytes(4, "big") + payload)


def steps_of(milliseconds: int) -> tuple[int, ...]:
    """Return a time in pieces, the last of which is empty."""
    piece = max(1, milliseconds // 8)
    return (*([piece] * (milliseconds // piece)), milliseconds % piece, 0)


@attrs.frozen
class Facts:
    """An answer that was read."""

    written: bytes
    connection: str
    commands: list[str]
    told: list[str]
    call: str
    value: Any
    error: str
    counts: Json
    forced: int


def read_facts(ok: Json) -> Facts:
    """Return the facts of an answer. Raises BadAnswer."""
    try:
        written = base64.b64decode(ok["written"], validate=True)
        connection = ok["connection"]
        commands = [_text(command["cmd_id"]) for command in ok["commands"]]
        told = [_text(line) for line in ok["told"]]
        value = untag(ok["value"]) if ok.get("value") is not None else None
        counts = ok.get("counts", {})
        forced = int(ok.get("forced", 0))
    except BadValue as error:
        raise BadAnswer(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"the facts lack something, or hold what they mustn't: {shown(error)}") from error
    if connection not in {"none", "wanted", "open"}:
        raise BadAnswer(f"connection must be none, wanted or open, not {shown(connection)}")
    call = ok.get("call", "")
    if call not in {"", "returned", "raised", "waits"}:
        raise BadAnswer(f"call must be returned, raised or waits, not {shown(call)}")
    return Facts(written, connection, commands, told, call, value, str(ok.get("error", "")), counts, forced)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadAnswer(f"must be a text: {shown(value)}")
    return value
