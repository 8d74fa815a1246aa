"""The few words that the cases are written in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from xtrack_conformance.cases import build
from xtrack_conformance.values import tag

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

Json = dict[str, Any]
Parts = list[Json]


def dump(value: Any) -> str:
    """Return compact JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def event(event_type: str, body: Json, *, seq: int = 2, ts: int = 1, **meta: Any) -> Json:
    """Return an event in the writer's form."""
    return {"t": event_type, "v": 1, "m": {"seq": seq, "ts": ts, **meta}, "p": body}


def metric(value: Any = 0.5, *, seq: int = 2, **more: Any) -> Json:
    """Return a metric."""
    return event("metric", {"run_id": "a", "key": "k", "value": value, **more}, seq=seq)


def log(msg: Any = "x", *, seq: int = 2, **more: Any) -> Json:
    """Return a log line."""
    return event("log", {"run_id": "a", "level": "info", "msg": msg, **more}, seq=seq)


def param(value: Any, **more: Any) -> Json:
    """Return a parameter."""
    return event("param", {"run_id": "a", "key": "k", "value": value, **more})


def raw(of: Json, **texts: str) -> str:
    """Return the JSON text of an event in which the string ``@name`` is replaced by a text, quotes and all."""
    text = dump(of)
    for name, replacement in texts.items():
        assert text.count(f'"@{name}"') == 1, (text, name)
        text = text.replace(f'"@{name}"', replacement)
    return text


def raw_metric(value: str, **more: str) -> str:
    """Return the text of a metric whose value, and further members, are the texts given."""
    marks = {name: f"@{name}" for name in more}
    return raw(metric("@value", **marks), value=value, **more)


def raw_log(msg: str) -> str:
    """Return the text of a log line whose ``msg`` is the text given, quotes and all."""
    return raw(log("@msg"), msg=msg)


def raw_param(value: str) -> str:
    """Return the text of a parameter whose value is the text given."""
    return raw(param("@value"), value=value)


def json_with(of: Any, value: Any) -> Any:
    """Return an event in which the string @x is replaced by a value."""
    if isinstance(of, dict):
        return {name: json_with(item, value) for name, item in of.items()}
    if isinstance(of, list):
        return [json_with(item, value) for item in of]
    return value if of == "@x" else of


def kills_of(killed: Json) -> dict[str, str]:
    """Return mutants by what they kill, given what each kills, separated by spaces."""
    return {name: mutant for mutant, names in killed.items() for name in names.split()}


def as_parts(content: str | bytes | Parts) -> Parts:
    """Return content as parts."""
    if isinstance(content, str):
        return [{"text": content}]
    return [{"hex": content.hex(" ")}] if isinstance(content, bytes) else content


def spliced(text: str, mark: str, data: bytes) -> Parts:
    """Return the parts of a text in which ``mark`` is replaced by bytes that needn't be UTF-8."""
    before, found, after = text.partition(mark)
    assert found, (text, mark)
    return [{"text": before}, {"hex": data.hex(" ")}, {"text": after}]


class Group:
    """The cases of one file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: list[Json] = []

    def add(self, case_id: str, role: str, clauses: str, why: str, **members: Any) -> None:
        """Add a case. ``clauses``: separated by spaces."""
        head = {"id": case_id, "since": 1, "role": role, "level": members.pop("level", "MUST")}
        head |= {"kind": members.pop("kind"), "why": why, "clauses": list(dict.fromkeys(clauses.split()))}
        kills = members.pop("kills", "").split()
        given = {name: value for name, value in members.items() if value not in (None, [], ())}
        self.cases.append(head | given | ({"kills": kills} if kills else {}))

    def script(self, case_id: str, role: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        """Add a case of a role that has a memory: its steps, one after the other."""
        self.add(case_id, role, clauses, why, script=list(steps), **{"kind": "valid", **more})

    # ------------------------------------------------------------------------------------------ decoder

    def accept(self, case_id: str, clauses: str, why: str, content: Any, reads_as: Json, **more: Any) -> None:
        """Add a payload that must be accepted as an event. ``or_event``, ``or_refused``: what is allowed beside it."""
        allowed: list[Json] = [{"event": other} for other in more.pop("or_event", [])]
        if more.pop("or_refused", False):
            allowed.append({"rejected": {}})
        self._decoder(case_id, clauses, why, content, {"event": reads_as}, allowed, {"kind": "valid", **more})

    def refuse(self, case_id: str, clauses: str, why: str, content: Any, class_: str, **more: Any) -> None:
        """Add a payload that must be refused. ``or_class``: further classes that are as good."""
        allowed = [{"rejected": {"class": other}} for other in more.pop("or_class", [])]
        allowed += [{"event": other} for other in more.pop("or_event", [])]
        expect = {"rejected": {"class": class_}}
        self._decoder(case_id, clauses, why, content, expect, allowed, {"kind": "invalid", **more})

    def _decoder(
        self, case_id: str, clauses: str, why: str, content: Any, expect: Json, allowed: Sequence[Json], more: Json
    ) -> None:
        reader = more.pop("reader", None)
        given: Json = {"payload": as_parts(content)} | ({"reader": reader} if reader else {})
        axes = [] if reader else ["reader"]
        self.add(
            case_id, "decoder", clauses, why, axes=axes, input=given, expect=expect, also_allowed=list(allowed), **more
        )

    # ------------------------------------------------------------------------------------------ encoder

    def encode(self, case_id: str, clauses: str, why: str, given: Json, **more: Any) -> None:
        """Add an event that a writer must be able to write."""
        members = {"kind": "valid", "axes": ["again"], **more}
        self.add(case_id, "encoder", clauses, why, input={"event": given}, expect={"event": given}, **members)

    def encode_value(self, case_id: str, clauses: str, why: str, value: Any, expect: Json, **more: Any) -> None:
        """Add a value that has no writer's form, or not only one."""
        members = {"kind": "invalid", **more}
        self.add(case_id, "encoder", clauses, why, input={"value": tag(value)}, expect=expect, **members)

    # ------------------------------------------------------------------------------------------ framer

    def feed(self, case_id: str, clauses: str, why: str, pieces: Sequence[Piece], **more: Any) -> None:
        """Add bytes on a connection, and what must come of them."""
        self._framer(case_id, clauses, why, pieces, "connection", more)

    def recording(self, case_id: str, clauses: str, why: str, pieces: Sequence[Piece], **more: Any) -> None:
        """Add a file, and what must come of it."""
        self._framer(case_id, clauses, why, pieces, "recording", more)

    def _framer(self, case_id: str, clauses: str, why: str, pieces: Sequence[Piece], source: str, more: Json) -> None:
        given: Json = {"feed": [part for piece in pieces for part in piece.parts]}
        if source != "connection":
            given["source"] = source
        for name in ("limit", "stop_at_damage", "follow", "codec"):
            if name in more:
                given[name] = more.pop(name)
        variants = [_items(changed, source) for changed in [pieces, *more.pop("or_pieces", [])]]
        members = {"kind": "valid", "axes": ["chunking"], **more}
        expect, *allowed = [{"frames": items} for items in variants]
        self.add(case_id, "framer", clauses, why, input=given, expect=expect, also_allowed=allowed, **members)


class Piece:
    """Some bytes of a framer's input, and what they give: nothing, where ``says`` is None."""

    def __init__(self, parts: Parts, says: Json | None, *, due: int | None = -1) -> None:
        self.parts = parts
        self.says = says
        self.size = len(build(parts))
        self.due = self.size if due == -1 else due


def good(of: Json | str | Parts | None = None, *, verified: bool = True) -> Piece:
    """Return a frame that is accepted, once its last byte is there."""
    content = dump(log() if of is None else of) if of is None or isinstance(of, dict) else of
    return Piece([{"frame": as_parts(content)}], {} if verified else {"verified": False})


def bad(content: str | bytes | Parts, class_: str) -> Piece:
    """Return a frame whose payload is refused."""
    return Piece([{"frame": as_parts(content)}], {"rejected": class_})


def fatal(data: str, class_: str, *, due: int | None = 4) -> Piece:
    """Return bytes in hexadecimal that end a connection."""
    return Piece([{"hex": data}], {"rejected": class_, "fatal": True}, due=due)


def cut(content: str | Parts, class_: str = "truncated") -> Piece:
    """Return bytes, given in hexadecimal or as parts, that are one error, in a recording or at the input's end."""
    return Piece([{"hex": content}] if isinstance(content, str) else content, {"rejected": class_}, due=None)


def silent(content: str | Parts) -> Piece:
    """Return bytes that nothing comes of: behind a fatal error, or of a frame that isn't complete."""
    return Piece([{"hex": content}] if isinstance(content, str) else content, None)


def joined(*pieces: Piece, class_: str) -> Piece:
    """Return several pieces of a recording that are one error together."""
    return Piece([part for piece in pieces for part in piece.parts], {"rejected": class_}, due=None)


def _items(pieces: Sequence[Piece], source: str) -> list[Json]:
    items, offset = [], 0
    for piece in pieces:
        if piece.says is not None:
            item: Json = {"offset": offset}
            if not piece.says.get("fatal"):
                item["length"] = piece.size
            item |= piece.says
            if source == "connection" and piece.due is not None:
                item["due"] = offset + piece.due
            items.append(item)
        offset += piece.size
    return items
