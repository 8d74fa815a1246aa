"""Scripts of the role *server*: the testee's server listens, and the suite is its peer, over real sockets.

A conversation asks the testee to start a server, and does the rest itself: it connects, sends, and looks at what
comes. What must come has ``peer.SECONDS``. What mustn't come is shown by a sentinel that must be the next thing: the
pong of a ping, the next event of a stream, the end of the connection.

Texts of a step may hold ``@NAME@``: a key's text by its name, or what a step has bound.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import attrs

from xtrack_conformance import msgpack
from xtrack_conformance.cases import Case, build
from xtrack_conformance.judgement import Judgement
from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts import Conversation, peer
from xtrack_conformance.scripts.matching import fits, substitute
from xtrack_conformance.scripts.peer import Frame, Json, Mismatch, Peer, Stream, control_event, framed, numbered
from xtrack_conformance.scripts.storing import Stored, compare, read_stored
from xtrack_conformance.slots import CONTROL
from xtrack_conformance.values import difference, shown

Ask = Generator[Json, Json, Json]
"""Yields a request, is sent its ``ok``, and returns it."""

DURABILITIES: Final = ("none", "process", "power")
_POLL_SECONDS: Final = 0.02
_SECRET_LETTERS: Final = 43
_LEFT: Final = Mismatch("nothing is left to do")


def runs(case: Case, capabilities: frozenset[str]) -> list[tuple[str, Callable[[], Conversation]]]:  # noqa: ARG001
    """Return the one way in which a case is asked."""
    return [("", lambda: _converse(case))]


def _converse(case: Case) -> Conversation:
    script = _Script(case.id)
    judgement = Judgement("pass")
    try:
        for number, step in enumerate(case.script, 1):
            try:
                yield from script.do(step)
            except Mismatch as error:
                about = " ".join(str(step[name]) for name in ("do", "conn", "run") if name in step)
                if error is _LEFT:
                    break
                message = f"step {number} ({about}): {error.message}"
                judgement = Judgement("fail", message, error.expected, error.got)
                break
    finally:
        for one in script.peers.values():
            one.close()
    yield script.request("forget")
    return judgement


@attrs.define
class _Script:
    """A case under way. ``names``: what ``@NAME@`` stands for. ``ignored``: frames that the step passes over.

    ``until``: when the next thing must have come that isn't passed over; ``patience``: seconds, where it has more.
    """

    session: str
    names: dict[str, str] = attrs.field(factory=dict)
    peers: dict[str, Peer] = attrs.field(factory=dict)
    server: Json = attrs.field(factory=dict)
    ignored: list[Json] = attrs.field(factory=list)
    patience: float = 0.0
    until: float = 0.0

    def do(self, step: Json) -> Generator[Json, Json, None]:
        """Do a step."""
        step = substitute(step, self.names)
        name, self.ignored, self.patience = step["do"], step.get("ignore", []), step.get("patience", 0.0)
        self.go_on()
        if name in _ASKING:
            yield from _ASKING[name](self, step)
        else:
            STEPS_HERE[name](self, step)

    def request(self, op: str, **members: Any) -> Json:
        """Return a request about this script's server."""
        return {"op": f"server.{op}", "session": self.session, **members}

    # ------------------------------------------------------------------------------------------ what the testee does

    def start(self, step: Json) -> Generator[Json, Json, None]:
        """``options``; ``refused``: it mustn't start with them; ``may_refuse``: or it may, and that was all."""
        options = dict(step.get("options", {}))
        if "worker" in options:
            (run, wid, sid), items = options["worker"]["stream"], options["worker"]["items"]
            payloads = [base64.b64encode(payload or b"").decode() for _, payload in self._items(items)]
            options["worker"] = {"run_id": run, "wid": wid, "sid": sid, "payloads": payloads}
        found = yield self.request("start", options=options)
        if "refused" in found:
            if step.get("may_refuse"):
                raise _LEFT
            if not step.get("refused"):
                raise Mismatch("the server won't start", got=shown(found["refused"]))
            return
        self.server = found
        if type(found.get("port")) is not int or not isinstance(found.get("host"), str):
            raise BadAnswer(f"server.start answers with host and port, not {shown(found)}")
        if found.get("durability") not in DURABILITIES:
            raise BadAnswer(f"durability is one of {', '.join(DURABILITIES)}, not {shown(found.get('durability'))}")
        wanted = [key["name"] for key in step.get("options", {}).get("keys", ())]
        keys = found.get("keys", {})
        if not isinstance(keys, dict) or not all(isinstance(keys.get(key), str) for key in wanted):
            raise BadAnswer(f"server.start tells the texts of the keys {', '.join(wanted)}")
        for key, text in keys.items():
            self._name_key(key, text)
        if step.get("refused"):
            raise Mismatch("the server has started", expected="that it refuses to")

    def _name_key(self, name: str, text: str) -> None:
        """Have ``@NAME@`` stand for a key, ``@NAME:id@`` for it without its secret, ``@NAME:cut@`` without its end."""
        self.names |= {name: text, f"{name}:id": text[:-_SECRET_LETTERS], f"{name}:cut": text[:-1]}

    def stop(self, step: Json) -> Generator[Json, Json, None]:
        """Have it stopped, killed or its store refuse: what takes no further look at the answer."""
        members = {name: value for name, value in step.items() if name not in {"do", "clause"}}
        yield self.request(step["do"], **members)

    def keys(self, step: Json) -> Generator[Json, Json, None]:
        """``change``; ``bind``: the name of the key that is made; ``refused``: it mustn't be; ``digest_of``: what is
        kept must hold the SHA-256 of this key (SEC-2.1) and nothing of its secret.
        """
        change = step["change"]
        found = yield self.request("keys", change=change)
        if "add" in change or "replace" in change:
            is_refused = "refused" in found
            if is_refused != bool(step.get("refused")):
                wanted = "that it refuses to" if step.get("refused") else "a key"
                raise Mismatch("the server has made a key" if step.get("refused") else "no key", expected=wanted)
            if not is_refused:
                self._name_key(step["bind"], _text(found, "key"))
        if "show" in change:
            kept = _bytes(found, "kept")
            for secret in step["hides"]:
                _check_hidden(secret, kept.decode("utf-8", "replace"), "what is kept of keys")

    def counts(self, step: Json) -> Generator[Json, Json, None]:
        """``refused``, ``frames``: matchers, in time; ``hides``: keys of which the log must have nothing."""
        waited = 0.0
        while True:
            found = yield self.request("counts")
            log = _text(found, "log")
            refused = found.get("refused")
            if not isinstance(refused, dict) or type(found.get("frames")) is not int:
                raise BadAnswer(f"server.counts tells refused, frames and log, not {shown(found)}")
            wrong = fits(found, {name: step[name] for name in ("refused", "frames") if name in step}, {})
            if not wrong or waited >= peer.SECONDS:
                break
            waited += _pause()
        if wrong:
            raise Mismatch(f"other counts: {wrong}", got=shown({"refused": refused, "frames": found["frames"]}))
        for secret in step.get("hides", ()):
            _check_hidden(secret, log, "the log")

    def stored(self, step: Json) -> Generator[Json, Json, None]:
        """``run``, ``streams``: all that must be stored. ``wait``: in time; otherwise it must be there now."""
        waited, seconds = 0.0, peer.SECONDS if step.get("wait") else 0.0
        wanted = [self._stored(one) for one in step.get("streams", [])]
        while True:
            found = yield self.request("events", run_id=step["run"])
            problem = compare(wanted, read_stored(found), step)
            if problem is None or waited >= seconds:
                break
            waited += _pause()
        if problem is not None:
            raise problem

    def _stored(self, wanted: Json) -> Stored:
        _, wid, sid = wanted["stream"]
        payloads = [raw[4:] for raw, _ in self._items(wanted.get("items", ()))]
        lost = wanted.get("lost", [])
        return Stored(wid, sid, payloads, None if lost == "any" else [tuple(pair) for pair in lost])

    # ------------------------------------------------------------------------------------------ connections

    def connect(self, step: Json) -> None:
        """``conn``: the connection's name; ``tls``."""
        self.peers[step["conn"]] = Peer(step["conn"], self.server["host"], self.server["port"], tls="tls" in step)

    def join(self, step: Json) -> None:
        """Connect, say hello and be welcomed. ``key``, ``features``; ``tls``."""
        self.connect(step)
        body: Json = {"protocols": [1], "codecs": ["json"], "features": step.get("features", [])}
        if "key" in step:
            body["auth"] = {"scheme": "key", "key": step["key"]}
        conn = self.peers[step["conn"]]
        conn.send(framed(json.dumps(control_event("hello", body)).encode()))
        frame = self._next(conn)
        if frame is None or frame.type != "welcome":
            raise Mismatch("no welcome", expected="welcome", got=_told(frame))
        agreed = set(step.get("features", ())) & set(self.server.get("features", ()))
        told = {"protocol": 1, "codec": "json", "durability": self.server["durability"]}
        wrong = fits(frame.body, told, self.names)
        if wrong or set(frame.body.get("features", ())) != agreed:
            raise Mismatch("another welcome", expected=f"{told}, features {sorted(agreed)}", got=frame.told())

    def open(self, step: Json) -> None:
        """Open a stream. ``cursor``: what the ack must name; ``passive``."""
        conn = self.peers[step["conn"]]
        run, wid, sid = step["stream"]
        body: Json = {"run_id": run, "sid": sid} | ({"wid": wid} if wid else {})
        tree = control_event("open", body | ({"passive": True} if step.get("passive") else {}))
        conn.note_sent(tree)
        conn.send(framed(json.dumps(tree).encode()))
        while True:
            frame = self._next(conn)
            if frame is not None and frame.type == "ack" and conn.stream_of(frame) == (run, wid, sid):
                break
            if frame is None or not self._may_ignore(conn, frame):
                raise Mismatch("the open isn't answered", expected="an ack", got=_told(frame), clause="CTL-8.1")
        wanted = {"status": "ok", "seq": step.get("cursor", 0)}
        if fits(frame.body, wanted, self.names):
            raise Mismatch("another cursor", expected=shown(wanted), got=frame.told(), clause="CTL-8.1")
        conn.note_acked(frame)

    def send(self, step: Json) -> None:
        """``items``: what is sent. ``pieces``: bytes at a time; ``cut``: only so many, the others with ``rest``."""
        conn = self.peers[step["conn"]]
        if step.get("rest"):
            conn.send(conn.rest)
            conn.rest = b""
            return
        data = b""
        for raw, payload in self._items(step["items"], conn):
            data += raw
            if payload is None:
                conn.note_sent(None)
            else:
                conn.note_sent(json.loads(payload))
        size = step.get("cut", len(data))
        conn.send(data[:size], step.get("pieces"))
        conn.rest = data[size:]

    def _items(self, items: Any, conn: Peer | None = None) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the bytes of each item, and the payload where they are a frame with an event.

        ``pad``: so many bytes more or less than ``max_frame``, by what stands in place of ``%pad%``.
        """
        for item in items:
            if "raw" in item:
                yield build(item["raw"]), None
                continue
            for tree in [item["event"]] if "event" in item else numbered(item, conn):
                text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
                if "pad" in item and conn is not None:
                    text = text.replace("%pad%", "x" * (conn.max_frame + item["pad"] - len(text.encode()) + 5))
                payload = text.encode()
                yield framed(payload), payload

    def expect(self, step: Json) -> None:
        """``frames``: the next ones, in this order; with ``any_order``, in any."""
        conn, waiting = self.peers[step["conn"]], list(step["frames"])
        while waiting:
            frame = self._next(conn)
            tried = waiting if step.get("any_order") else waiting[:1]
            wrong = [fits(frame.tree, wanted, self.names) if frame else "" for wanted in tried]
            if frame is not None and "" in wrong:
                del waiting[wrong.index("")]
                conn.note_acked(frame)
                self.go_on()
            elif frame is None or not self._may_ignore(conn, frame):
                text = f"another frame: {wrong[0]}" if frame else "the connection has ended"
                raise Mismatch(text, expected=shown(tried[0], 300), got=_told(frame))

    def acked(self, step: Json) -> None:
        """``acks``: of each ``stream`` the ``seq`` that is acked in the end, by one ack or by many, and what was
        ``rejected``: pairs, of which null stands for any code.
        """
        conn = self.peers[step["conn"]]
        waiting: dict[Stream, Json] = {(a["stream"][0], a["stream"][1], a["stream"][2]): a for a in step["acks"]}
        named: dict[Stream, dict[int, str]] = {stream: {} for stream in waiting}
        while waiting:
            frame = self._next(conn)
            stream = conn.stream_of(frame) if frame and frame.type == "ack" else None
            if frame is not None and stream in waiting and frame.body["status"] == "ok":
                if self._take_ack(frame, waiting[stream], named[stream], again=conn.is_repetition(frame)):
                    del waiting[stream]
                conn.note_acked(frame)
                self.go_on()
            elif frame is None or not self._may_ignore(conn, frame):
                raise Mismatch("no ack", expected=shown([*waiting.values()], 300), got=_told(frame))

    def _take_ack(self, frame: Frame, wanted: Json, named: dict[int, str], *, again: bool) -> bool:
        """Take an ack on the way to the one that is wanted; return whether it is that. ``again``: of no new seq."""
        seq, told = frame.body["seq"], dict(map(tuple, frame.body.get("rejected", [])))
        if seq > wanted["seq"]:
            raise Mismatch(f"an ack above seq {wanted['seq']}", expected=shown(wanted), got=frame.told())
        due = {one: code for one, code in wanted.get("rejected", []) if one <= seq}
        for one, code in told.items():
            if one not in due or due[one] not in (None, code):
                raise Mismatch(f"seq {one} in rejected", expected=shown(wanted, 300), got=frame.told())
        named.update(told)
        missing = due.keys() - named.keys()
        if missing and again and not told:
            return False  # it may have been said before what was refused came
        if missing:
            text = f"the first ack that covers seq {min(missing)} doesn't name it as refused"
            raise Mismatch(text, expected=shown(wanted, 300), got=frame.told(), clause="CTL-3.5")
        return bool(seq == wanted["seq"])

    def published(self, step: Json) -> None:
        """``items``: the events that must come, as they were sent, in this order. ``or_closed``: or the connection ends
        on the way.
        """
        conn = self.peers[step["conn"]]
        for raw, sent in self._items(step["items"]):
            payload = raw[4:] if sent is None else sent
            self.go_on()
            frame = self._next(conn)
            while frame is not None and not _is_event(frame, payload) and self._may_ignore(conn, frame):
                frame = self._next(conn)
            if step.get("or_closed") and (frame is None or frame.type == "reject"):
                return
            if frame is None or not _is_event(frame, payload):
                raise Mismatch("another event", expected=shown(payload.decode(), 300), got=_told(frame))

    def quiet(self, step: Json) -> None:
        """Send a ping: its pong must be the next thing that comes."""
        conn = self.peers[step["conn"]]
        conn.send(framed(json.dumps(control_event("ping", {})).encode()))
        while True:
            frame = self._next(conn)
            if frame is not None and frame.type == "pong":
                return
            if frame is None or not self._may_ignore(conn, frame):
                raise Mismatch("no pong next", expected="a pong, and nothing before it", got=_told(frame))

    def closed(self, step: Json) -> None:
        """The server closes. ``reject``: codes of which it must have named one; ``may_reject``: or may. ``acks``: and
        others may come before. ``answer``: it may have said anything; what it says begins with this. ``never``: nor
        with that; ``lacks``: nor holds this text.
        """
        conn = self.peers[step["conn"]]
        if step.keys() & {"answer", "never", "lacks"}:
            said = conn.rest_of_it()
            if "lacks" in step and step["lacks"].encode() in said:
                raise Mismatch("another answer", expected=f"nothing with {step['lacks']}", got=shown(said, 300))
            start, never = build(step.get("answer", [])), build(step.get("never", []))
            if not said.startswith(start) or (never and said.startswith(never)):
                wanted = f"what begins with {start!r}" if start else f"nothing that begins with {never!r}"
                raise Mismatch("another answer", expected=wanted, got=shown(said[:60]))
            return
        codes: list[str] = list(step.get("reject") or step.get("may_reject") or [])
        rejected: Frame | None = None
        while (frame := self._next(conn)) is not None:
            if rejected is not None:
                raise Mismatch("a frame behind the reject", got=frame.told(), clause="CTL-7")
            if frame.type == "reject":
                rejected = frame
                if not codes or (frame.body["code"] not in codes and "*" not in codes):
                    wanted = f"reject with {' or '.join(codes)}" if codes else "no reject"
                    raise Mismatch("a reject", expected=wanted, got=frame.told())
                wrong = fits(frame.body, step.get("body", {}), self.names)
                if wrong:
                    raise Mismatch(f"another reject: {wrong}", got=frame.told())
            elif not self._may_ignore(conn, frame) and not (step.get("acks") and frame.type == "ack"):
                raise Mismatch("a frame before the end", expected="the end of the connection", got=frame.told())
        if "reject" in step and rejected is None:
            raise Mismatch("closed without a word", expected=f"reject with {' or '.join(codes)}")

    def end(self, step: Json) -> None:
        """Close the socket, half of it, or break it."""
        conn = self.peers[step["conn"]]
        {"close": conn.close, "half_close": conn.half_close, "reset": conn.reset}[step["do"]]()

    def look(self, step: Json) -> None:
        """``text``, a key, has the form of ``pattern``, or isn't ``not``."""
        right = re.fullmatch(step["pattern"], step["text"]) if "pattern" in step else step["text"] != step["not"]
        if not right:
            raise Mismatch("a key of another form", expected=step.get("pattern", "another one"), got="(not shown)")

    def race(self, step: Json) -> None:
        """``conns``: each has asked for the same; one gets it, and the other is refused."""
        acks = [self._next(self.peers[name]) for name in step["conns"]]
        told = sorted(
            str(frame.body.get("status")) if frame and frame.type == "ack" else _told(frame) for frame in acks
        )
        if told != ["error", "ok"]:
            raise Mismatch("not exactly one of them got it", expected="one ack ok, one error", got=shown(told, 300))

    def wait(self, step: Json) -> None:
        """Let some time pass, for a deadline that mustn't hold."""
        time.sleep(step["seconds"])

    def _next(self, conn: Peer) -> Frame | None:
        return conn.frame(self.until)

    def go_on(self) -> None:
        """Something has come that was waited for, and the next thing has its time."""
        self.until = time.monotonic() + max(peer.SECONDS, self.patience)

    def _may_ignore(self, conn: Peer, frame: Frame) -> bool:
        """Whether a frame says nothing to anybody: a ping, an ack once more, a control event of a later version."""
        if any(not fits(frame.tree, one, {}) for one in self.ignored):
            return True
        if not conn.welcomed:
            return False
        if frame.type == "ack":
            return conn.is_repetition(frame)
        meta = frame.tree.get("m")
        seq = meta.get("seq", 0) if isinstance(meta, dict) else 0
        return frame.type == "ping" or (frame.type not in CONTROL and isinstance(seq, int) and seq < 1)


_ASKING: Final[dict[str, Callable[[_Script, Json], Generator[Json, Json, None]]]] = {
    "start": _Script.start,
    "keys": _Script.keys,
    "counts": _Script.counts,
    "stored": _Script.stored,
    **dict.fromkeys(("stop", "kill", "access", "delete", "trouble"), _Script.stop),
}

STEPS_HERE: Final[dict[str, Callable[[_Script, Json], None]]] = {
    "connect": _Script.connect,
    "join": _Script.join,
    "open": _Script.open,
    "send": _Script.send,
    "expect": _Script.expect,
    "acked": _Script.acked,
    "published": _Script.published,
    "quiet": _Script.quiet,
    "closed": _Script.closed,
    "look": _Script.look,
    "race": _Script.race,
    "wait": _Script.wait,
    **dict.fromkeys(("close", "half_close", "reset"), _Script.end),
}

STEPS: Final = frozenset({*_ASKING, *STEPS_HERE})
"""The names of all steps."""


# ------------------------------------------------------------------------------------------ frames


def _pause() -> float:
    """Wait before asking again, and return how long. Time in which other conversations are under way doesn't count."""
    time.sleep(_POLL_SECONDS)
    return _POLL_SECONDS


def _is_event(frame: Frame, payload: bytes) -> bool:
    """Whether a frame is an event as it was sent: its bytes, or all that they say where they are MessagePack."""
    if not msgpack.is_map(frame.payload):
        return frame.payload == payload
    return difference(json.loads(payload), frame.tree) is None


def _told(frame: Frame | None) -> str:
    return "the end of the connection" if frame is None else frame.told()


def _text(found: Json, name: str) -> str:
    if not isinstance(found.get(name), str):
        raise BadAnswer(f"{name} must be a text, not {shown(found.get(name))}")
    return str(found[name])


def _bytes(found: Json, name: str) -> bytes:
    try:
        return base64.b64decode(_text(found, name), validate=True)
    except binascii.Error as error:
        raise BadAnswer(f"{name} is no base64: {error}") from error


def _check_hidden(key: str, text: str, where: str) -> None:
    """Refuse a text that holds a key or a part of its secret. spec: SEC-5.1"""
    secret = key[-_SECRET_LETTERS:]
    if any(secret[start : start + 12] in text for start in range(max(1, len(secret) - 11))):
        raise Mismatch(f"a key, or a part of its secret, stands in {where}", got="(not shown)", clause="SEC-5.1")
