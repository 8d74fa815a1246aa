"""What a server under test has stored of a run, against what it must have."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import attrs

from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.scripts.matching import Json, fits
from xtrack_conformance.scripts.peer import Mismatch
from xtrack_conformance.slots import normal
from xtrack_conformance.values import difference, shown


@attrs.define
class Stored:
    """What is stored of a stream: the payloads in the order of their commits, and ranges of lost seqs.

    ``lost``: None where the specification leaves it open.
    """

    wid: str
    sid: str
    payloads: list[bytes] = attrs.field(factory=list)
    lost: list[tuple[int, ...]] | None = attrs.field(factory=list)


@attrs.frozen
class Told:
    """What the testee has told of a run."""

    streams: dict[tuple[str, str], Stored]
    status: str


def read_stored(found: Json) -> Told:
    """Return what an answer to ``server.events`` says. Raises BadAnswer."""
    streams: dict[tuple[str, str], Stored] = {}
    for entry in _list(found, "streams"):
        one = _stream(streams, entry)
        one.lost = [tuple(pair) for pair in _list(entry, "lost")]
        if any(len(pair) != 2 or not all(type(seq) is int for seq in pair) for pair in one.lost):
            raise BadAnswer(f"lost must be a list of pairs of seqs, not {shown(entry['lost'])}")
    for entry in _list(found, "events"):
        try:
            payload = base64.b64decode(entry["payload"], validate=True)
            json.loads(payload)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise BadAnswer(f"an event of server.events has a payload in base64: {error!r}") from error
        _stream(streams, entry).payloads.append(payload)
    status = found.get("status")
    if not isinstance(status, str):
        raise BadAnswer(f"status must be a text, not {shown(status)}")
    return Told(streams, status)


def _list(found: Any, name: str) -> list[Any]:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, list):
        raise BadAnswer(f"{name} must be a list, not {shown(value)}")
    return value


def _stream(streams: dict[tuple[str, str], Stored], entry: Any) -> Stored:
    wid, sid = (entry.get(name) if isinstance(entry, dict) else None for name in ("wid", "sid"))
    if not isinstance(wid, str) or not isinstance(sid, str):
        raise BadAnswer(f"an event or stream has wid and sid: {shown(entry)}")
    return streams.setdefault((wid, sid), Stored(wid, sid))


def compare(wanted: Sequence[Stored], told: Told, step: Json) -> Mismatch | None:
    """Return how what is stored isn't what it must be. ``status``: of the run, a matcher.

    A stream that isn't named must hold nothing.
    """
    names = {(one.wid, one.sid) for one in wanted}
    for (wid, sid), found in told.streams.items():
        if (wid, sid) not in names and (found.payloads or found.lost):
            return Mismatch(f"events or losses of stream ({wid!r}, {sid!r}), of which nothing may be stored")
    for one in wanted:
        found = told.streams.get((one.wid, one.sid), Stored(one.wid, one.sid))
        if problem := _compare(one, found):
            return problem
    wrong = fits(told.status, step["status"], {}, "the run's status") if "status" in step else ""
    return Mismatch(wrong) if wrong else None


def _compare(wanted: Stored, found: Stored) -> Mismatch | None:
    where = f"stream ({wanted.wid!r}, {wanted.sid!r})"
    seqs, others = [_seq(payload) for payload in wanted.payloads], [_seq(payload) for payload in found.payloads]
    if seqs != others:
        return Mismatch(f"other events are stored of {where}", expected=_listed(seqs), got=_listed(others))
    for one, other in zip(wanted.payloads, found.payloads, strict=True):
        if one == other:
            continue
        unlike = difference(normal(json.loads(one)), normal(json.loads(other)))
        if unlike:
            return Mismatch(f"another event is stored of {where}: {unlike}", expected=shown(one), got=shown(other))
    if wanted.lost is not None and wanted.lost != found.lost:
        return Mismatch(f"other losses of {where}", expected=shown(wanted.lost), got=shown(found.lost))
    return None


def _seq(payload: bytes) -> Any:
    tree = json.loads(payload)
    return tree.get("m", {}).get("seq") if isinstance(tree, dict) and isinstance(tree.get("m"), dict) else None


def _listed(seqs: Sequence[Any]) -> str:
    """Return seqs for people, runs of them as ranges."""
    parts: list[list[Any]] = []
    for seq in seqs:
        if parts and isinstance(seq, int) and isinstance(parts[-1][1], int) and seq == parts[-1][1] + 1:
            parts[-1][1] = seq
        else:
            parts.append([seq, seq])
    return "seqs " + (", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) or "none")
