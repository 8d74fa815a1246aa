"""A strict look at what a writer wrote: every rule that binds writers, and none that doesn't."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from xtrack_conformance import msgpack
from xtrack_conformance.slots import CONTROL, Fault, read_event, written_checksum
from xtrack_conformance.values import Value, shown

PREFIX: Final = 4
DEPTH: Final = 64


@attrs.frozen
class Written:
    """A frame that satisfies the rules. ``codec``: json or msgpack. ``notes``: what a writer SHOULD do otherwise, each
    with its clause.
    """

    event: dict[str, Value]
    payload: bytes
    codec: str = "json"
    notes: tuple[tuple[str, str], ...] = ()


def read_frame(frame: bytes, codec: str = "json") -> Written:
    """Return what stands in one frame, or raise Fault with the clause that it breaks.

    ``codec``: msgpack where that was chosen; a payload may be JSON there, too.
    """
    if len(frame) < PREFIX:
        raise Fault("frame", f"has {len(frame)} bytes, and its length alone takes 4", "FRM-1")
    length, payload = int.from_bytes(frame[:PREFIX], "big"), frame[PREFIX:]
    if length == 0:
        raise Fault("frame", "its length is 0", "FRM-2.1")
    if length != len(payload):
        raise Fault("frame", f"its length says {length} bytes, and {len(payload)} follow", "FRM-1.1")
    packed = codec == "msgpack" and msgpack.is_map(payload)
    written = read_packed(payload) if packed else read_payload(payload)
    _check_written(written.event)
    return written


def read_packed(payload: bytes) -> Written:
    """Return what stands in a MessagePack payload, or raise Fault with the clause that it breaks."""
    tree = msgpack.read_tree(payload)
    return Written(read_event(tree), payload, "msgpack", tuple(_order(tree)))


def read_payload(payload: bytes) -> Written:
    """Return what stands in a payload, or raise Fault with the clause that it breaks."""
    if payload[:1] != b"{" or payload[-1:] != b"}":
        raise Fault("payload", f"begins with {payload[:4]!r} and ends with {payload[-4:]!r}", "FRM-1.4")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault("payload", f"no UTF-8: {error.reason} at byte {error.start}", "JSN-1") from error
    try:
        tree = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_token)
    except RecursionError as error:
        raise Fault("payload", "nested beyond all measure", "JSN-2") from error
    except Fault:
        raise
    except ValueError as error:
        raise Fault("payload", f"no JSON: {error}", "JSN-1") from error
    _check_tree(tree, "payload", 1)
    event = read_event(tree)
    return Written(event, payload, notes=tuple(_notes(tree, text)))


def _check_written(event: dict[str, Any]) -> None:
    """Refuse what readers take, and a store gives back as it came, and no writer writes."""
    meta, body = event["m"], event["p"]
    if event["t"] in CONTROL and (meta["seq"] != 0 or meta.get("sid")):
        raise Fault("m", "a control event has seq 0 and no sid", "CTL-1")
    checksum = body.get("checksum") if event["t"] == "artifact" else None
    if isinstance(checksum, str) and checksum != written_checksum(checksum):
        raise Fault("p.checksum", f"a SHA-256 is written {written_checksum(checksum)}", "VAL-8")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise Fault(name, "stands twice in one object", "JSN-5.3")
        result[name] = value
    return result


def _refuse_token(token: str) -> float:
    raise Fault("payload", f"the bare token {token}", "JSN-7.5")


def _check_tree(value: Any, where: str, level: int) -> None:
    """Refuse what no JSON value of the protocol holds, wherever it stands."""
    if isinstance(value, (dict, list)) and level > DEPTH:
        raise Fault(where, f"more than {DEPTH} arrays and objects are open", "JSN-2")
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Fault(where, f"half of a surrogate pair: {shown(value)}", "JSN-3.1")
    elif isinstance(value, float) and value - value != 0.0:
        raise Fault(where, "a number beyond binary64", "VAL-2")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_tree(name, f"{where}, a name", level + 1)
            _check_tree(item, f"{where}.{name}", level + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_tree(item, f"{where}[{index}]", level + 1)


def _order(tree: dict[str, Any]) -> list[tuple[str, str]]:
    if [name for name in tree if name in {"t", "v", "m", "p"}] == ["t", "v", "m", "p"]:
        return []
    return [("ENV-7", f"the members stand in the order {', '.join(tree)}, not t, v, m, p")]


def _notes(tree: dict[str, Any], text: str) -> list[tuple[str, str]]:
    found = _order(tree)
    if len(text) > len(_compact(text)):
        found.append(("ENV-7", "white space between the tokens"))
    return found


def _compact(text: str) -> str:
    """Return JSON text without the white space that stands outside of its strings."""
    parts = text.split('"')
    result, inside = [], False
    for index, part in enumerate(parts):
        result.append(part if inside else part.translate(_NO_SPACE))
        escaped = inside and (len(part) - len(part.rstrip("\\"))) % 2 == 1
        if index < len(parts) - 1:
            result.append('"')
            inside = inside if escaped else not inside
    return "".join(result)


_NO_SPACE: Final = {ord(letter): None for letter in " \t\n\r"}
