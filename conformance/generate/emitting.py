"""The words that scripts of an emitter are written in."""

from __future__ import annotations

from typing import Any

from generate.dsl import Group, Json


def start(**options: Any) -> Json:
    """Start an emitter."""
    return {"do": "start", "options": options} if options else {"do": "start"}


def call(name: str, **arguments: Any) -> Json:
    """Make a call of the training's."""
    return {"do": "call", "call": name} | ({"arguments": arguments} if arguments else {})


def metric(key: str = "k", value: Any = 0.5, **more: Any) -> Json:
    """Log a metric."""
    return call("metric", key=key, value=value, **more)


def log(msg: str = "x", **more: Any) -> Json:
    """Log a line."""
    return call("log", msg=msg, **more)


def do(name: str, **members: Any) -> Json:
    """Do a step."""
    return {"do": name, **members}


def session(cursor: int = 0, **welcome: Any) -> Json:
    """Connect, as far as the ack of the stream's open."""
    return {"do": "session", "cursor": cursor} | ({"welcome": welcome} if welcome else {})


def ack(seq: int | str, **more: Any) -> Json:
    """Ack."""
    return {"do": "ack", "seq": seq} | ({"more": more} if more else {})


def send(*events: Json) -> Json:
    """Send control events of the collector."""
    return {"do": "send", "events": list(events)}


def control(t: str, **body: Any) -> Json:
    """Return a control event."""
    return {"t": t, "p": body}


def command(cmd_id: str, kind: str = "pause", **body: Any) -> Json:
    """Return a command."""
    return control("command", cmd_id=cmd_id, type=kind, **body)


def saw(t: str, seq: int | None = None, **body: Any) -> Json:
    """Return what an event of the emitter must fit."""
    found: Json = {"t": t}
    if seq is not None:
        found["m"] = {"seq": seq}
    return found | ({"p": body} if body else {})


def expect(*events: Json) -> Json:
    """See these come."""
    return {"do": "expect", "events": list(events)}


def never(*events: Json, ms: int = 0) -> Json:
    """See that none of these comes."""
    return {"do": "never", "events": list(events)} | ({"ms": ms} if ms else {})


def tick(ms: int, every: int = 0) -> Json:
    """Let time pass."""
    return {"do": "tick", "ms": ms} | ({"every": every} if every else {})


def connection(*states: str, within: int = 0) -> Json:
    """See how the connection is."""
    return {"do": "connection", "is": list(states)} | ({"within": within} if within else {})


CONNECT: Json = {"do": "connect"}
HELLO: Json = {"do": "hello"}
PLAIN: Json = {"do": "plain"}
DISCONNECT: Json = {"do": "disconnect"}
CLOSED: Json = connection("none", "wanted", within=1000)
OPEN: Json = connection("open")


class Emitting(Group):
    """The cases of one file, all of an emitter."""

    def one(self, case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        """Add a case. Where the first step is none that starts an emitter, one is started first."""
        first = () if steps[0]["do"] in {"start", "process", "files"} else (start(),)
        self.script(f"{self.name}-{case_id}", "emitter", clauses, why, *first, *steps, **more)

    def twice(self, case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        """Add a case that is also asked with what the collector sends in single bytes."""
        self.one(case_id, clauses, why, *steps, axes=["chunking"], **more)
