"""Words for cases of what lies at rest: segments put together from pieces, each of which says what comes of it."""

from __future__ import annotations

from typing import Any

from generate.dsl import Group, Json, Parts, as_parts, log
from xtrack_conformance.scripts.store_common import make
from xtrack_conformance.segments import START

SALT = "5eed0001"
OTHER_SALT = "0badcafe"
STREAM: Json = {"run_id": "a", "wid": "", "sid": "s"}
HEADER: Json = {**STREAM, "number": 1, "first_seq": 1, "created": 1703123456000000, "salt": SALT}


def header(**changes: Any) -> Json:
    """Return the body of a header; members that are None are left out."""
    return {name: value for name, value in {**HEADER, **changes}.items() if value is not None}


def head(body: Json | Parts | None = None, second: Json | Parts | None = None) -> Parts:
    """Return both blocks of a header."""
    first = HEADER if body is None else body
    return [{"block": first}, {"block": first if second is None else second}]


def changed(parts: Parts, *xor: tuple[int, int], to: int | None = None) -> Parts:
    """Return parts with bits turned, and cut off."""
    part: Json = {"of": parts}
    if xor:
        part["xor"] = [list(pair) for pair in xor]
    if to is not None:
        part["to"] = to
    return [part]


def rec(seq: int, payload: Json | Parts | str | None = None, *, salt: str = SALT, length: int | None = None) -> Parts:
    """Return a record: of a log line with that seq, unless a payload is given."""
    content = log(seq=seq) if payload is None else payload
    parts = [{"event": content}] if isinstance(content, dict) else as_parts(content)
    told: Json = {"seq": seq, "payload": parts}
    if salt:
        told["salt"] = salt
    if length is not None:
        told["length"] = length
    return [{"record": told}]


class Bit:
    """Some bytes of a segment behind its header, and what a reader tells of them: None for nothing of their own."""

    def __init__(self, parts: Parts, says: Json | None) -> None:
        self.parts = parts
        self.says = says


def good(seq: int, payload: Json | None = None, **more: Any) -> Bit:
    """Return a record that is read."""
    return Bit(rec(seq, payload, **more), {"seq": seq, "t": (payload or log())["t"]})


def unreadable(seq: int, payload: Parts | str, class_: str) -> Bit:
    """Return a valid record whose payload can't be decoded."""
    return Bit(rec(seq, payload), {"seq": seq, "error": class_})


def damage(*parts: Parts, seq: int | None = None) -> Bit:
    """Return bytes that are one place of damage."""
    return Bit([part for some in parts for part in some], {"damage": True, "seq": seq})


def torn(parts: Parts) -> Bit:
    """Return bytes that are a torn tail."""
    return Bit(parts, {"torn": True})


def zeros(times: int) -> Parts:
    """Return zero bytes."""
    return [{"hex": f"00*{times}"}]


def hexed(text: str) -> Parts:
    """Return bytes given in hexadecimal."""
    return [{"hex": text}]


def items(bits: tuple[Bit, ...]) -> list[Json]:
    """Return what a reader tells of what stands behind the header."""
    found, offset = [], START
    for bit in bits:
        size = len(make(bit.parts))
        if bit.says is not None:
            found.append({"offset": offset, "length": size, **bit.says})
        offset += size
    return found


def segment(*bits: Bit, front: Parts | None = None) -> Parts:
    """Return a segment."""
    return [*(head() if front is None else front), *(part for bit in bits for part in bit.parts)]


def events_of(*seqs: int, **changes: Any) -> Parts:
    """Return a segment with log lines of these seqs. ``changes``: of its header."""
    body = header(**{"first_seq": seqs[0] if seqs else 1, **changes})
    salt = body.get("salt", "")
    return [*head(body), *(part for seq in seqs for part in rec(seq, salt=salt))]


class Resting(Group):
    """Cases of stores, whose mutants have a common beginning."""

    def script(self, case_id: str, role: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        """Add a case."""
        kills = " ".join(f"store-{name}" for name in more.pop("kills", "").split())
        super().script(case_id, role, clauses, why, *steps, **more, kills=kills)


class Files(Resting):
    """Cases of files."""

    def read(self, case_id: str, clauses: str, why: str, *bits: Bit, **more: Any) -> None:
        """Add a segment that is read. ``front``: its header; ``told``: what is judged of that."""
        front, told = more.pop("front", None), more.pop("told", None)
        expected: Json = {"kind": "segment"} | ({"header": told} if told else {}) | {"items": items(bits)}
        self.file(case_id, clauses, why, segment(*bits, front=front), expected, **more)

    def file(self, case_id: str, clauses: str, why: str, content: Parts, expected: Json, **more: Any) -> None:
        """Add a file that is read. ``name``: what it is called."""
        step: Json = {"do": "file_read", "bytes": content, "is": expected}
        if "name" in more:
            step["name"] = more.pop("name")
        needs = more.pop("needs", ["recording"] if expected["kind"] == "plain" else ["segments"])
        self.script(case_id, "store", clauses, why, step, needs=needs, **more)

    def follow(self, case_id: str, clauses: str, why: str, at: list[int], *bits: Bit, **more: Any) -> None:
        """Add a segment that grows: it ends at each of ``at``, from the records' beginning on, in turn."""
        step: Json = {"do": "file_follow", "bytes": segment(*bits), "at": [START + place for place in at]}
        step["is"] = [item for item in items(bits) if "t" in item]
        self.script(case_id, "store", clauses, why, step, needs=["segments"], **more)

    def write(self, case_id: str, clauses: str, why: str, form: str = "segment", **more: Any) -> None:
        """Add a file that is written."""
        step: Json = {"do": "file_write", "form": form}
        for name in ("run_id", "wid", "sid", "events", "payloads", "refused", "times", "exact"):
            if name in more:
                step[name] = more.pop(name)
        needs = ["recording"] if form == "plain" else ["segments"]
        self.script(case_id, "store", clauses, why, step, needs=needs, **more)
