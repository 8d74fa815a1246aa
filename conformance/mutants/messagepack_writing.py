"""Mutants of who writes MessagePack, and unusual writers of it that are right."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
from tools import Json, Mutation, everywhere, member
from tools_packed import ARRAYS, SIZES, STRINGS, heads, is_map, is_odd, tree_of

REFUSED = b""
"""What a mutant writes that writes nothing."""

Writes = Callable[[Callable[[Json], Json], Json, Json], bytes | None]


def writing(change: Callable[[bytes, Json], bytes]) -> Mutation:
    """Make a mutant that writes other payloads: ``change`` has the payload and the event."""

    def write(honest: Callable[[Json], Json], request: Json, event: Json) -> bytes | None:
        payload = _asked(honest, request)
        return change(payload, event) if payload else None

    return answering(write)


def answering(write: Writes) -> Mutation:
    """Make a mutant that writes what ``write(honest, request, event)`` returns: a payload, or None for as it should."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.encode

        def encode(self: Any, request: Json) -> Json:
            if "codec" not in request:
                return dict(original(self, request))

            def honest(asked: Json) -> Json:
                return dict(original(self, asked))

            payload = write(honest, request, module.from_tagged(request["event"]))
            if payload is None:
                return honest(request)
            if not payload:
                return {"rejected": {}}
            return {"frame": module.to_base64(len(payload).to_bytes(4, "big") + payload)}

        module.Testee.encode = encode

    return mutate


def _asked(honest: Callable[[Json], Json], request: Json, *without: str) -> bytes:
    """Return the payload that comes where the request lacks these members; none where it is refused."""
    answer = honest({name: value for name, value in request.items() if name not in without})
    return base64.b64decode(answer["frame"])[4:] if "frame" in answer else REFUSED


def _tree_written(change: Callable[[Any], Any]) -> Mutation:
    return writing(lambda payload, _: msgspec.msgpack.encode(change(tree_of(payload))) if is_map(payload) else payload)


def _body(change: Callable[[Json], Json]) -> Mutation:
    return _tree_written(lambda tree: {**tree, "p": change(tree["p"])})


def _as_it_is(applies: Callable[[Json], bool]) -> Mutation:
    """Make a mutant that writes an event to which ``applies`` just as msgspec does."""
    return answering(lambda _, request, event: msgspec.msgpack.encode(event) if applies(event) else None)


def _has_odd(event: Json) -> bool:
    found: list[bool] = []
    everywhere(lambda leaf: found.append(is_odd(leaf)))(event)
    return any(found)


def _deep(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_deep, value), default=0) if isinstance(value, list) else 0


def _surrogates(_honest: Any, _request: Json, event: Json) -> bytes | None:
    marked = everywhere(lambda leaf: "~~~" if leaf == "\ud83d" else leaf)(event)
    return msgspec.msgpack.encode(marked).replace(b"~~~", b"\xed\xa0\xbd") if marked != event else None


def _changing(module: ModuleType) -> None:
    count = 0

    def change(payload: bytes, _event: Json) -> bytes:
        nonlocal count
        count += 1
        tree = tree_of(payload)
        return msgspec.msgpack.encode(dict(sorted(tree.items(), reverse=count % 4 > 1)))

    writing(change)(module)


def _shorter(payload: bytes, count_of: Callable[[int, bytes], int | None]) -> bytes:
    """Return a payload in which the lengths of some strings, arrays and maps are others, in the shortest heads."""
    result, done = b"", 0
    for head, at in heads(payload):
        size = SIZES.get(head, 0)
        count = int.from_bytes(payload[at + 1 : at + 1 + size], "big")
        small = 0xA0 if head in STRINGS else 0x90 if head in ARRAYS else 0x80
        found = count_of(head, payload[at + 1 + size : at + 1 + size + count]) if size else None
        if found is not None:
            result += payload[done:at] + bytes([small | found % (32 if head in STRINGS else 16)])
            done = at + 1 + size
    return result + payload[done:]


def _masked(payload: bytes, _event: Json) -> bytes:
    places = {
        at: int.from_bytes(payload[at + 1 : at + 1 + SIZES[head]], "big")
        for head, at in heads(payload)
        if head in SIZES
    }
    counts = iter(places.values())
    return _shorter(payload, lambda _head, _rest: next(counts))


def _characters(payload: bytes, _event: Json) -> bytes:
    return _shorter(payload, lambda head, rest: len(rest.decode()) if head in STRINGS and not rest.isascii() else None)


def _singles(payload: bytes, _event: Json) -> bytes:
    result, done = b"", 0
    for head, at in heads(payload):
        if head == 0xCB:
            [value] = struct.unpack(">d", payload[at + 1 : at + 9])
            if abs(value) < 1e38:
                result += payload[done:at] + b"\xca" + struct.pack(">f", value)
                done = at + 9
    return result + payload[done:]


def _twice(payload: bytes, _event: Json) -> bytes:
    return payload.replace(b"\xa1p\x83", b"\xa1p\x84").replace(b"\xa5title", b"\xa5level\xa4info\xa5title")


def _numbered(value: Any) -> Any:
    if isinstance(value, dict):
        return {int(name) if name.isdigit() else name: _numbered(item) for name, item in value.items()}
    return value


def _large_refused(honest: Any, request: Json, _event: Json) -> bytes | None:
    too_large = "limit" in request and len(_asked(honest, request, "limit")) > request["limit"]
    return REFUSED if too_large else None


def _any_json(honest: Any, request: Json, _event: Json) -> bytes | None:
    too_large = "limit" in request and len(_asked(honest, request, "limit")) > request["limit"]
    return _asked(honest, request, "limit", "codec") if too_large else None


def _unasked(module: ModuleType) -> None:
    original = module.Testee.encode
    module.Testee.encode = lambda self, request: original(self, {**request, "codec": "msgpack"})


def _ints(change: Callable[[int], Any]) -> Mutation:
    return _body(everywhere(lambda leaf: change(leaf) if type(leaf) is int else leaf))


WRITERS: dict[str, Mutation] = {
    "writes-json": answering(lambda honest, request, _: _asked(honest, request, "codec", "limit")),
    "writes-an-array-around": writing(lambda payload, _: b"\x91" + payload),
    "writes-on-behind": writing(lambda payload, _: payload + b"\xc0"),
    "writes-names-of-python": _body(
        lambda body: {"metrics_snapshot" if name == "metrics" else name: item for name, item in body.items()}
    ),
    "writes-no-last-member": _body(lambda body: dict(list(body.items())[:-1])),
    "writes-no-control-events": answering(lambda _, __, event: REFUSED if event["m"]["seq"] == 0 else None),
    "writes-no-unknown-types": answering(lambda _, __, event: REFUSED if event["t"] == "energy" else None),
    "writes-no-ids": _tree_written(
        lambda tree: {**tree, "m": {name: item for name, item in tree["m"].items() if name in {"seq", "ts"}}}
    ),
    "writes-zero-for-nil": _body(everywhere(lambda leaf: 0 if leaf is None else leaf)),
    "writes-six-digits": _body(everywhere(lambda leaf: float(f"{leaf:.6g}") if isinstance(leaf, float) else leaf)),
    "writes-63-levels": answering(lambda _, __, event: REFUSED if _deep(event) > 63 else None),
    "writes-nil-for-absence": _body(lambda body: body if "step" in body else {**body, "step": None}),
    "writes-number-keys": _tree_written(_numbered),
    "writes-in-changing-order": _changing,
    "writes-a-name-twice": writing(_twice),
    "writes-floats-that-are-no-json": _as_it_is(_has_odd),
    "writes-nil-for-nan": answering(
        lambda _, request, event: (
            msgspec.msgpack.encode(everywhere(lambda leaf: None if is_odd(leaf) else leaf)(event))
            if _has_odd(event)
            else None
        )
    ),
    "writes-whole-floats-as-integers": _body(
        everywhere(lambda leaf: int(leaf) if isinstance(leaf, float) and leaf in (0.0, 1.0, 2.0**53) else leaf)
    ),
    "writes-single-floats": writing(_singles),
    "writes-integers-as-floats": _ints(float),
    "writes-32-bits-of-integers": _ints(lambda leaf: (leaf + 2**31) % 2**32 - 2**31),
    "writes-short-lengths": writing(_masked),
    "counts-characters": writing(_characters),
    "writes-bin-for-strings": _body(lambda body: {**body, "msg": body["msg"].encode()} if "msg" in body else body),
    "writes-any-depth": _as_it_is(lambda event: _deep(event) > 64),
    "writes-surrogates": answering(_surrogates),
    "writes-unsigned-integers": _as_it_is(lambda event: member(event, "p", "value") == [2**63]),
    "cuts-large-integers": answering(
        lambda _, request, event: (
            msgspec.msgpack.encode(everywhere(lambda leaf: leaf % 2**64 if leaf == 2**70 else leaf)(event))
            if member(event, "p", "value") == [2**70]
            else None
        )
    ),
    "writes-fake-forms": _as_it_is(lambda event: member(event, "p", "value") == {"$float": "NaN"}),
    "writes-unasked": _unasked,
    "large-is-refused": answering(_large_refused),
    "large-goes-anyway": answering(lambda honest, request, _: _asked(honest, request, "limit")),
    "json-of-any-size": answering(_any_json),
}
"""What is written."""


# ------------------------------------------------------------------------------------------ legal ones


def _widest(value: Any) -> bytes:
    """Return a value in the longest forms there are."""
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return msgspec.msgpack.encode(value)
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value) if value < 2**63 else struct.pack(">BQ", 0xCF, value)
    if isinstance(value, str):
        data = value.encode()
        return struct.pack(">BI", 0xDB, len(data)) + data
    if isinstance(value, list):
        return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(_widest, value))
    pairs = (_widest(name) + _widest(item) for name, item in value.items())
    return struct.pack(">BI", 0xDF, len(value)) + b"".join(pairs)


def _backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _backwards(item) for name, item in reversed(value.items())}
    return [_backwards(item) for item in value] if isinstance(value, list) else value


def _exact_singles(payload: bytes, _event: Json) -> bytes:
    """Write each float as float 32 where that has the same value."""
    result, done = b"", 0
    for head, at in heads(payload) if is_map(payload) else ():
        if head == 0xCB:
            [value] = struct.unpack(">d", payload[at + 1 : at + 9])
            short = struct.pack(">f", value) if abs(value) < 1e38 else b""
            if short and struct.unpack(">f", short)[0] == value:
                result += payload[done:at] + b"\xca" + short
                done = at + 9
    return result + payload[done:]


VARIANTS: dict[str, Mutation] = {
    "messagepack-in-the-longest-forms": writing(
        lambda payload, _: _widest(tree_of(payload)) if is_map(payload) else payload
    ),
    "messagepack-backwards": _tree_written(_backwards),
    "messagepack-in-single-floats": writing(_exact_singles),
}
"""Writers of forms that nobody expects."""
