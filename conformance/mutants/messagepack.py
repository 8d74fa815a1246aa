"""Mutants of who reads and writes MessagePack: each does one thing otherwise, and leaves JSON elsewhere alone."""

from __future__ import annotations

import base64
import contextlib
import math
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from types import ModuleType
from typing import Any

import msgspec
from tools import Json, Mutation, everywhere, member, refusal

Honest = Callable[[bytes, str], Json]
Reads = Callable[[Honest, bytes, str], Json]

SIZES = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip
"""Bytes of the length behind each head that has one."""

FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""Bytes behind the head of each number."""

STRINGS = frozenset({0xD9, 0xDA, 0xDB})
ARRAYS = frozenset({0xDC, 0xDD})
MAPS = frozenset({0xDE, 0xDF})
ANYTHING: Json = {"event": {"t": "obj", "v": []}}
"""What a mutant answers that takes what it should refuse."""


def _is_map(payload: bytes) -> bool:
    return 0x80 <= payload[0] <= 0x8F or payload[0] in MAPS


def walk(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the head of each value and its place, and at last (-1, end). Raises IndexError where that is not there."""
    at, left = 0, 1
    while left:
        head = data[at]
        yield head, at
        size = SIZES.get(head, 0)
        count = int.from_bytes(data[at + 1 : at + 1 + size], "big")
        at, left = at + 1 + size, left - 1
        if head <= 0x8F and head >= 0x80:
            left += 2 * (head & 0x0F)
        elif 0x90 <= head <= 0x9F:
            left += head & 0x0F
        elif 0xA0 <= head <= 0xBF:
            at += head & 0x1F
        elif head in ARRAYS:
            left += count
        elif head in MAPS:
            left += 2 * count
        elif head in FIXED:
            at += FIXED[head]
        elif 0xD4 <= head <= 0xD8:
            at += 1 + 2 ** (head - 0xD4)
        elif head in SIZES:
            at += count + (0xC7 <= head <= 0xC9)
        if at > len(data):
            raise IndexError(at)
    yield -1, at


def heads(data: bytes) -> list[tuple[int, int]]:
    """Return what :func:`walk` yields, as far as it comes."""
    found, places = [], walk(data)
    with contextlib.suppress(IndexError):
        for place in places:
            found.append(place)  # noqa: PERF402 - what came before the data ended is kept
    return found


def _end(data: bytes) -> int | None:
    """Return where the first value ends; None where it doesn't."""
    places = heads(data)
    return places[-1][1] if places and places[-1][0] == -1 else None


def reheaded(change: Callable[[int, bytes], bytes | None]) -> Callable[[bytes], bytes]:
    """Return a function that rewrites values: ``change`` has the head of one and all from it on, and returns the bytes
    that stand in place of as many.
    """

    def apply(payload: bytes) -> bytes:
        result, done = b"", 0
        for head, at in heads(payload):
            new = change(head, payload[at:]) if head >= 0 else None
            if new is not None:
                result += payload[done:at] + new
                done = at + len(new)
        return result + payload[done:]

    return apply


def _tree(payload: bytes) -> Any:
    """Return what msgspec makes of a payload; None where it refuses it."""
    try:
        return msgspec.msgpack.decode(payload) if _is_map(payload) else None
    except (ValueError, TypeError, RecursionError):
        return None


# ------------------------------------------------------------------------------------------ readers


def reading(change: Reads) -> Mutation:
    """Make a mutant whose answer to a payload, and to each frame, is ``change(honest, payload, reader)``."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.decode

        def read(payload: bytes, reader: str) -> Json:
            def honest(data: bytes, how: str) -> Json:
                text = base64.b64encode(data).decode()
                return dict(original(None, {"payload": text, "reader": how, "codec": "msgpack"}))

            return change(honest, payload, reader)

        def decode(self: Any, request: Json) -> Json:
            if "codec" not in request:
                return dict(original(self, request))
            return read(base64.b64decode(request["payload"]), request["reader"])

        class Session(module.Session):  # type: ignore[misc,name-defined]
            def __init__(self, request: Json) -> None:
                super().__init__(request)
                self.reader = request["reader"] if "codec" in request else ""

            def told(self, frame: Any) -> Json:
                entry: Json = super().told(frame)
                if not self.reader or not frame.raw:
                    return entry
                answer = read(frame.raw, self.reader)
                place: Json = {"offset": entry["offset"], "length": 4 + len(frame.raw)}
                if "rejected" in answer:
                    return place | {"rejected": answer["rejected"]}
                return place | {"payload": module.to_base64(frame.raw)}

        module.Testee.decode = decode
        module.Session = Session

    return mutate


def misreads(change: Callable[[bytes], bytes]) -> Mutation:
    """Make a mutant that reads other bytes than came."""
    return reading(lambda honest, payload, reader: honest(change(payload), reader))


def takes(applies: Callable[[bytes, Json], Any]) -> Mutation:
    """Make a mutant that takes what it should refuse: ``applies`` has the payload and the refusal."""

    def read(honest: Honest, payload: bytes, reader: str) -> Json:
        answer = honest(payload, reader)
        return ANYTHING if "rejected" in answer and applies(payload, answer["rejected"]) else answer

    return reading(read)


def refuses(applies: Callable[[bytes], Any], class_: str = "bad_type") -> Mutation:
    """Make a mutant that refuses payloads to which ``applies``."""
    return reading(lambda honest, payload, reader: refusal(class_) if applies(payload) else honest(payload, reader))


def of_tree(change: Callable[[Any], Any]) -> Mutation:
    """Make a mutant that reads another tree in place of one that it should refuse."""

    def read(honest: Honest, payload: bytes, reader: str) -> Json:
        answer, tree = honest(payload, reader), _tree(payload)
        if "rejected" not in answer or tree is None:
            return answer
        return honest(msgspec.msgpack.encode(change(tree)), reader)

    return reading(read)


def distorts(change: Callable[[Json], Any]) -> Mutation:
    """Make a mutant that hands on another event than it read; ``change`` works in place, or returns the event."""

    def mutate(module: ModuleType) -> None:
        def read(honest: Honest, payload: bytes, reader: str) -> Json:
            answer = honest(payload, reader)
            if "event" not in answer:
                return answer
            event = module.from_tagged(answer["event"])
            changed = change(event)
            return {"event": module.to_tagged(event if changed is None else changed)}

        reading(read)(module)

    return mutate


def _leaves(change: Callable[[Any], Any]) -> Callable[[Json], Json]:
    walked = everywhere(change)
    return lambda event: {**event, "p": walked(event["p"])}


def _texts(change: Callable[[str], str]) -> Mutation:
    return distorts(_leaves(lambda leaf: change(leaf) if isinstance(leaf, str) else leaf))


def _depth(limit: int) -> Mutation:
    def mutate(module: ModuleType) -> None:
        def read(honest: Honest, payload: bytes, reader: str) -> Json:
            try:
                module.decode(payload, codec="msgpack", lenient=reader == "lenient", max_depth=limit)
            except module.DecodeError:
                answer = honest(payload, reader)
                return refusal("too_deep") if "event" in answer else answer
            return ANYTHING if limit > 64 and "rejected" in honest(payload, reader) else honest(payload, reader)

        reading(read)(module)

    return mutate


def _only_json(module: ModuleType) -> None:
    original = module.Testee.decode
    reading(lambda _, payload, reader: dict(original(None, {"payload": base64.b64encode(payload), "reader": reader})))(
        module
    )


def _goes_on(honest: Honest, payload: bytes, reader: str) -> Json:
    end = _end(payload) if _is_map(payload) else None
    return honest(payload if end is None else payload[:end], reader)


def _has_head(*wanted: int) -> Callable[[bytes], bool]:
    return lambda payload: _is_map(payload) and any(head in wanted for head, _ in heads(payload))


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.decode() if isinstance(key, bytes) else str(key): _keys(item) for key, item in value.items()}
    return [_keys(item) for item in value] if isinstance(value, list) else value


def _becomes(kind: type, change: Callable[[Any], Any]) -> Mutation:
    return of_tree(everywhere(lambda leaf: change(leaf) if isinstance(leaf, kind) else leaf))


FOREIGN = frozenset({*range(0xC4, 0xCA), *range(0xD4, 0xD9), 0xC1})


def _foreign(payload: bytes) -> bool:
    """Whether a payload holds what stands for no JSON."""
    return any(head in FOREIGN for head, _ in heads(payload))


def _is_complete(payload: bytes) -> bool:
    return _is_map(payload) and _end(payload) == len(payload)


def _without_names(name: str) -> Callable[[Json], None]:
    def change(event: Json) -> None:
        if event["t"] == "tags":
            event["p"]["tags"].pop(name, None)

    return change


def _without_unknown(honest: Honest, payload: bytes, reader: str) -> Json:
    tree = _tree(payload)
    if not isinstance(member(tree, "p"), dict) or "unknown" not in tree["p"]:
        return honest(payload, reader)
    del tree["p"]["unknown"]
    return honest(msgspec.msgpack.encode(tree), reader)


def _first_of_two(event: Json) -> None:
    if member(event, "p", "msg") == "last":
        event["p"]["msg"] = "first"
    if member(event, "p", "value", "a") == 2:
        event["p"]["value"] = {"a": 1}


def _has_nil(payload: bytes) -> bool:
    tree = _tree(payload)
    return any(None in part.values() for part in (member(tree, "m"), member(tree, "p")) if isinstance(part, dict))


def _is_odd(leaf: Any) -> bool:
    return isinstance(leaf, float) and not math.isfinite(leaf)


def _odd(payload: bytes) -> bool:
    """Whether a payload has a float that is not finite."""
    found: list[bool] = []
    everywhere(lambda leaf: found.append(_is_odd(leaf)))(_tree(payload))
    return any(found)


def _little(head: int, rest: bytes) -> bytes | None:
    size = {0xCD: 2, 0xCE: 4}.get(head)
    return None if size is None else rest[:1] + rest[1 : 1 + size][::-1]


def _by_digits(honest: Honest, payload: bytes, reader: str) -> Json:
    """Read a float 32 as the number that people would write for it."""
    result, done = b"", 0
    for head, at in heads(payload) if _is_map(payload) else ():
        if head == 0xCA:
            [value] = struct.unpack(">f", payload[at + 1 : at + 5])
            texts = (f"{value:.{digits}g}" for digits in range(1, 10))
            text = next(text for text in texts if struct.pack(">f", float(text)) == payload[at + 1 : at + 5])
            result += payload[done:at] + b"\xcb" + struct.pack(">d", float(text))
            done = at + 5
    return honest(result + payload[done:], reader)


def _as_objects(event: Json) -> Json | None:
    if event["t"] != "param":
        return None
    return _leaves(lambda leaf: {"$float": "NaN"} if _is_odd(leaf) else leaf)(event)


def _slots(tree: Any) -> list[Any]:
    return [member(tree, "v"), member(tree, "p", "step")]


def _cut(tree: Any) -> Any:
    step = member(tree, "p", "step")
    return {**tree, "p": {**tree["p"], "step": int(step)}} if isinstance(step, float) and not _is_odd(step) else tree


def _without_member(*names: str) -> Mutation:
    return distorts(lambda event: {**event, "p": {name: v for name, v in event["p"].items() if name not in names}})


def _recordings(takes_it: bool) -> Mutation:
    """Make a mutant that takes MessagePack in recordings, or nothing there but ASCII."""

    def mutate(module: ModuleType) -> None:
        class Session(module.Session):  # type: ignore[misc,name-defined]
            def told(self, frame: Any) -> Json:
                entry: Json = super().told(frame)
                if not self.is_recording or not frame.raw:
                    return entry
                place: Json = {"offset": entry["offset"], "length": 4 + len(frame.raw)}
                if not takes_it and not frame.raw.isascii():
                    return place | {"rejected": {"class": "bad_utf8", "fatal": False}}
                return place | {"payload": module.to_base64(frame.raw)} if takes_it and _is_map(frame.raw) else entry

        module.Session = Session

    return mutate


FIRST: dict[str, Mutation] = {
    "only-json": _only_json,
    "only-short-maps": refuses(_has_head(*MAPS), "bad_json"),
    "only-short-arrays": refuses(_has_head(*ARRAYS), "bad_json"),
    "only-short-strings": refuses(_has_head(*STRINGS), "bad_json"),
    "only-shorter-heads": refuses(_has_head(0x8F, 0x9F, 0xBF), "bad_json"),
    "envelope-in-order": refuses(lambda payload: next(iter(_tree(payload) or "t")) != "t", "bad_envelope"),
    "control-events-refused": refuses(lambda payload: member(_tree(payload), "m", "seq") == 0, "out_of_range"),
    "unknown-types-refused": refuses(lambda payload: member(_tree(payload), "t") == "energy", "bad_value"),
    "last-member-lost": distorts(lambda event: {**event, "p": dict(list(event["p"].items())[:-1])}),
    "empty-maps-taken": takes(lambda payload, _: payload == b"\x80"),
    "any-first-byte": takes(lambda payload, _: payload[0] >= 0x7F and not _is_map(payload)),
    "arrays-around-taken": misreads(lambda payload: payload[1:] if payload[0] == 0x91 else payload),
    "no-json-beside": refuses(lambda payload: not _is_map(payload), "bad_json"),
    "json-unchecked": takes(lambda payload, _: payload[0] < 0x80),
    "names-of-its-own": _without_member("metrics", "ctx"),
    "goes-on-taken": reading(_goes_on),
    "cut-taken": takes(lambda payload, _: _is_map(payload) and _end(payload) is None),
    "bodies-in-arrays": of_tree(
        lambda tree: {**tree, "p": dict(zip(("run_id", "level", "msg"), tree["p"], strict=False))}
    ),
    "recordings-of-messagepack": _recordings(True),
    "recordings-of-ascii": _recordings(False),
    "zeros-are-damage": refuses(lambda payload: 0 in payload, "bad_json"),
}
"""What is MessagePack, and where it ends."""

TYPES: dict[str, Mutation] = {
    "keys-become-strings": of_tree(_keys),
    "keys-of-any-type": takes(
        lambda payload, told: told.get("class") == "bad_json" and _is_complete(payload) and not _foreign(payload)
    ),
    "foreign-types-taken": takes(lambda payload, _: _is_complete(payload) and _foreign(payload)),
    "empty-names-dropped": distorts(_without_names("")),
    "names-of-digits-dropped": distorts(_without_names("0")),
    "strings-of-one-byte": _texts(lambda text: text.encode("utf-8").decode("latin-1")),
    "controls-dropped": _texts(lambda text: "".join(letter for letter in text if letter >= " ")),
    "empty-strings-refused": refuses(lambda payload: member(_tree(payload), "p", "msg") == "", "missing_field"),
    "empty-maps-refused": refuses(lambda payload: member(_tree(payload), "p", "fields") == {}),
    "empty-ids-refused": refuses(lambda payload: member(_tree(payload), "m", "wid") == ""),
    "bytes-become-strings": _becomes(bytes, lambda leaf: leaf.decode("latin-1")),
    "times-become-strings": _becomes(datetime, lambda leaf: leaf.isoformat()),
    "times-become-integers": _becomes(datetime, lambda leaf: int(leaf.timestamp() * 1e6)),
    "ext-becomes-nil": _becomes(msgspec.msgpack.Ext, lambda _: None),
    "unknown-unchecked": reading(_without_unknown),
    "unused-type-is-nil": misreads(reheaded(lambda head, _: b"\xc0" if head == 0xC1 else None)),
    "strings-of-three-bytes": _texts(lambda text: "".join(min(letter, "\uffff") for letter in text)),
    "escapes-resolved": _texts(lambda text: text.replace("\\u0041", "A")),
    "mark-dropped": _texts(lambda text: text.removeprefix("\ufeff")),
    "strings-end-at-zero": _texts(lambda text: text.partition("\0")[0]),
    "lax-utf8": takes(lambda payload, told: _is_map(payload) and told.get("class") == "bad_utf8"),
    "surrogates-taken": takes(lambda payload, _: b"\xed\xa0" in payload),
    "depth-63": _depth(63),
    "depth-65": _depth(65),
    "any-depth": takes(lambda _, told: told.get("class") == "too_deep"),
    "first-of-two": distorts(_first_of_two),
    "nil-refused": refuses(lambda payload: _has_nil(payload) and member(_tree(payload), "t") != "param"),
    "nil-is-zero": distorts(_leaves(lambda leaf: 0 if leaf is None else leaf)),
    "nil-is-nothing": takes(lambda payload, _: _has_head(0xC0)(payload) and _end(payload) == len(payload)),
    "arrays-for-maps": takes(lambda payload, _: member(_tree(payload), "p", "tags") == []),
    "always-lenient": reading(lambda honest, payload, _: honest(payload, "lenient")),
    "always-strict": reading(lambda honest, payload, _: honest(payload, "strict")),
}
"""What stands in it."""


def _texted(tree: Any) -> Any:
    msg = member(tree, "p", "msg")
    return {**tree, "p": {**tree["p"], "msg": str(msg)}} if isinstance(msg, (int, float)) else tree


def _saturated(tree: Any) -> Any:
    step = member(tree, "p", "step")
    if not isinstance(step, float):
        return tree
    return {**tree, "p": {**tree["p"], "step": 0 if math.isnan(step) else 2**63 - 1}}


WIDTHS = ("uint-8", "uint-16", "uint-32", "uint-64", "int-8", "int-16", "int-32", "int-64")

NUMBERS: dict[str, Mutation] = {
    **{f"{name}-refused": refuses(_has_head(code)) for code, name in enumerate(WIDTHS, 0xCC)},
    "short-integers-unsigned": misreads(reheaded(lambda head, _: bytes([head & 0x1F]) if head >= 0xE0 else None)),
    "short-integers-of-six-bits": misreads(
        reheaded(lambda head, _: bytes([head & 0x3F]) if 0 <= head <= 0x7F else None)
    ),
    "numbers-become-strings": of_tree(_texted),
    "floats-saturate": of_tree(_saturated),
    "numbers-are-booleans": of_tree(
        lambda tree: {
            **tree,
            "p": {name: item == item if name == "is_best" else item for name, item in tree["p"].items()},
        }
    ),
    "strings-become-numbers-in-free-slots": distorts(
        lambda event: (
            {**event, "p": {**event["p"], "value": math.nan}} if member(event, "p", "value") == "NaN" else None
        )
    ),
    "bytes-unsigned": misreads(reheaded(lambda head, _: {0xD0: b"\xcc", 0xD1: b"\xcd"}.get(head))),
    "little-endian": misreads(reheaded(_little)),
    "integers-by-way-of-binary64": distorts(_leaves(lambda leaf: int(float(leaf)) if type(leaf) is int else leaf)),
    "wraps-around": misreads(reheaded(lambda head, _: b"\xd3" if head == 0xCF else None)),
    "single-floats-refused": refuses(_has_head(0xCA)),
    "single-floats-by-digits": reading(_by_digits),
    "whole-floats-refused": refuses(
        lambda payload: any(isinstance(slot, float) and slot.is_integer() for slot in _slots(_tree(payload)))
    ),
    "floats-are-cut": of_tree(_cut),
    "whole-floats-are-integers": distorts(
        _leaves(lambda leaf: int(leaf) if isinstance(leaf, float) and leaf.is_integer() else leaf)
    ),
    "strict-refuses-nan": reading(
        lambda honest, payload, reader: (
            refusal("bad_type") if reader == "strict" and _odd(payload) else honest(payload, reader)
        )
    ),
    "non-finite-is-nil": distorts(_leaves(lambda leaf: None if _is_odd(leaf) else leaf)),
    "non-finite-refused-in-free-slots": refuses(
        lambda payload: member(_tree(payload), "t") == "param" and _odd(payload)
    ),
    "forms-are-objects": distorts(_as_objects),
    "forms-refused": refuses(
        lambda payload: (
            member(_tree(payload), "p", "value") in ("NaN", "Infinity", "-Infinity")
            and member(_tree(payload), "t") == "metric"
        )
    ),
    "nan-becomes-a-string": of_tree(everywhere(lambda leaf: "NaN" if _is_odd(leaf) else leaf)),
}
"""Its numbers."""

# ------------------------------------------------------------------------------------------ writers

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
    return writing(lambda payload, _: msgspec.msgpack.encode(change(_tree(payload))) if _is_map(payload) else payload)


def _body(change: Callable[[Json], Json]) -> Mutation:
    return _tree_written(lambda tree: {**tree, "p": change(tree["p"])})


def _as_it_is(applies: Callable[[Json], bool]) -> Mutation:
    """Make a mutant that writes an event to which ``applies`` just as msgspec does."""
    return answering(lambda _, request, event: msgspec.msgpack.encode(event) if applies(event) else None)


def _has_odd(event: Json) -> bool:
    found: list[bool] = []
    everywhere(lambda leaf: found.append(_is_odd(leaf)))(event)
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
        tree = _tree(payload)
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
            msgspec.msgpack.encode(everywhere(lambda leaf: None if _is_odd(leaf) else leaf)(event))
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

MUTANTS: dict[str, Mutation] = {
    f"msgpack-{name}": mutation for name, mutation in (FIRST | TYPES | NUMBERS | WRITERS).items()
}
