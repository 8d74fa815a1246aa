"""The words that scripts of the role *server* are written in. docs/reference/testee-server.md has who does what."""

from __future__ import annotations

from typing import Any

from generate.dsl import Json

Stream = list[str]


def stream(run: str = "r", wid: str = "", letter: str = "a") -> Stream:
    """Return a stream; its session id is one letter, 32 times."""
    return [run, wid, letter * 32]


R = stream()
"""The stream of most cases: run r, no worker id."""


def derived(run: str = "r", wid: str = "", ts: int = 1_000_001) -> Stream:
    """Return the stream of events without ``sid`` behind a run_start of ``seqs`` (STR-2.1)."""
    return [run, wid, f"legacy-{ts}"]


# ---------------------------------------------------------------------------------------------- what is sent


def seqs(of: Stream, first: int, last: int | None = None, **more: Any) -> Json:
    """Return events of a stream: its run_start for seq 1, metrics for all others."""
    return {"stream": of, "seqs": [first, last or first], **more}


def nosid(of: Stream, first: int, last: int | None = None) -> Json:
    """Return the same events without ``sid``."""
    return seqs([of[0], of[1], ""], first, last)


def one(event_type: str, body: Json, *, seq: int = 0, of: Stream | None = None, **more: Any) -> Json:
    """Return an event; a control event, unless it has a seq."""
    meta: Json = {"seq": seq, "ts": 1_000_000 + seq}
    if of is not None:
        meta |= ({"wid": of[1]} if of[1] else {}) | ({"sid": of[2]} if of[2] else {})
    return {"event": {"t": event_type, "v": 1, "m": meta, "p": body}, **more}


def event(event_type: str, of: Stream, seq: int, **body: Any) -> Json:
    """Return an event of a stream."""
    return one(event_type, {"run_id": of[0], **body}, seq=seq, of=of)


def end(of: Stream, seq: int, status: str = "completed") -> Json:
    """Return a run_end."""
    return event("run_end", of, seq, status=status)


def hello(**body: Any) -> Json:
    """Return a hello of version 1; a member that is None is left out."""
    members = {"protocols": [1], "codecs": ["json"], **body}
    return one("hello", {name: value for name, value in members.items() if value is not None})


def opens(of: Stream, **more: Any) -> Json:
    """Return an ``open``."""
    return one("open", {"run_id": of[0], "sid": of[2]} | ({"wid": of[1]} if of[1] else {}) | more)


def skip(of: Stream, first: int, last: int) -> Json:
    """Return a ``skip``."""
    body: Json = {"run_id": of[0], "sid": of[2], "from": first, "to": last, "reason": "x"}
    return one("skip", body | ({"wid": of[1]} if of[1] else {}))


def raw(text: str) -> Json:
    """Return a frame with this text as its payload, whatever that is."""
    return {"raw": [{"frame": [{"text": text}]}]}


def octets(digits: str) -> Json:
    """Return bytes, in hexadecimal."""
    return {"raw": [{"hex": digits}]}


def words(text: str) -> Json:
    """Return the bytes of a text, without a frame."""
    return {"raw": [{"text": text}]}


PING = one("ping", {})


# ---------------------------------------------------------------------------------------------- steps


def start(**options: Any) -> Json:
    """Start the server."""
    return {"do": "start", "options": options} if options else {"do": "start"}


def connect(conn: str, **more: Any) -> Json:
    """Connect, and say nothing."""
    return {"do": "connect", "conn": conn, **more}


def join(conn: str, **more: Any) -> Json:
    """Connect, say hello and be welcomed."""
    return {"do": "join", "conn": conn, **more}


def open_(conn: str, of: Stream, cursor: Any = 0, **more: Any) -> Json:
    """Open a stream, whose cursor must be this."""
    return {"do": "open", "conn": conn, "stream": of, "cursor": cursor, **more}


def send(conn: str, *items: Json, **more: Any) -> Json:
    """Send."""
    return {"do": "send", "conn": conn, "items": list(items), **more}


def expect(conn: str, *frames: Json, **more: Any) -> Json:
    """The next frames must be these."""
    return {"do": "expect", "conn": conn, "frames": list(frames), **more}


def frame(event_type: str, **body: Any) -> Json:
    """Return what a control event must be; ``from_`` and ``not_`` stand for names that are Python's."""
    return {"t": event_type, "p": {name.rstrip("_"): value for name, value in body.items()}}


def ack(of: Stream, seq: int, *rejected: list[Any]) -> Json:
    """Return what must be acked of a stream."""
    return {"stream": of, "seq": seq} | ({"rejected": list(rejected)} if rejected else {})


def acked(conn: str, *acks: Json) -> Json:
    """These acks must come, each by one or by many."""
    return {"do": "acked", "conn": conn, "acks": list(acks)}


def published(conn: str, *items: Json, **more: Any) -> Json:
    """These events must come, as they were sent."""
    return {"do": "published", "conn": conn, "items": list(items), **more}


def quiet(*conns: str) -> list[Json]:
    """Nothing may have come."""
    return [{"do": "quiet", "conn": conn} for conn in conns]


def closed(conn: str, *codes: str, **more: Any) -> Json:
    """The server must close, and have said why where codes are given."""
    return {"do": "closed", "conn": conn} | ({"reject": list(codes)} if codes else {}) | more


def held(of: Stream, *items: Json, lost: list[list[int]] | None = None) -> Json:
    """Return what must be stored of a stream."""
    return {"stream": of, "items": list(items)} | ({"lost": lost} if lost else {})


def stored(run: str, *streams: Json, **more: Any) -> Json:
    """This must be stored of a run, and nothing else."""
    return {"do": "stored", "run": run, "streams": list(streams), **more}


def in_time(run: str, *streams: Json, **more: Any) -> Json:
    """This must come to be stored."""
    return stored(run, *streams, wait=True, **more)


STOP: Json = {"do": "stop"}
KILL: Json = {"do": "kill"}


def key(name: str, owner: str, rights: str = "read write", experiment: str | None = None) -> Json:
    """Return a key to make."""
    made: Json = {"name": name, "owner": owner, "rights": rights.split()}
    return made | ({"experiment": experiment} if experiment else {})


def command(run: str, cmd_id: str, **more: Any) -> Json:
    """Return a command of a client."""
    return one("command", {"cmd_id": cmd_id, "type": "pause", "run_id": run, **more})


def result(run: str, cmd_id: str, **more: Any) -> Json:
    """Return a worker's answer."""
    return one("command_result", {"run_id": run, "cmd_id": cmd_id, "status": "ok", **more})


def says(credential: Any, **more: Any) -> Json:
    """Return a hello with this credential."""
    return hello(auth=credential, **more)


def refused(conn: str, of: Stream) -> list[Json]:
    """Return the steps of an open that is refused for good (CTL-3.11)."""
    return [
        send(conn, opens(of)),
        expect(conn, {"t": "ack", "p": {"status": "error", "run_id": of[0], "error": {"$begins": "forbidden"}}}),
    ]


def subscribe(run: str, cursor: int | None = None, **more: Any) -> Json:
    """Return a ``subscribe``."""
    return one("subscribe", {"run_id": run} | ({"from": cursor} if cursor is not None else {}) | more)


def flat(*steps: Json | list[Json]) -> list[Json]:
    """Return steps, of which some come in lists."""
    found: list[Json] = []
    for step in steps:
        found += step if isinstance(step, list) else [step]
    return found
