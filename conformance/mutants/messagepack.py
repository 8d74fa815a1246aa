"""Mutants of who reads MessagePack: each reads one thing otherwise, and leaves JSON elsewhere alone."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from datetime import datetime
from types import ModuleType
from typing import Any

import messagepack_writing
import msgspec
from tools import Json, Mutation, everywhere, member, refusal
from tools_packed import ARRAYS, MAPS, STRINGS, end_of, heads, is_map, is_odd, reheaded, tree_of

Honest = Callable[[bytes, str], Json]
Reads = Callable[[Honest, bytes, str], Json]

ANYTHING: Json = {"event": {"t": "obj", "v": []}}
"""What a mutant answers that takes what it should refuse."""


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
        answer, tree = honest(payload, reader), tree_of(payload)
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
    end = end_of(payload) if is_map(payload) else None
    return honest(payload if end is None else payload[:end], reader)


def _has_head(*wanted: int) -> Callable[[bytes], bool]:
    return lambda payload: is_map(payload) and any(head in wanted for head, _ in heads(payload))


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
    return is_map(payload) and end_of(payload) == len(payload)


def _without_names(name: str) -> Callable[[Json], None]:
    def change(event: Json) -> None:
        if event["t"] == "tags":
            event["p"]["tags"].pop(name, None)

    return change


def _without_unknown(honest: Honest, payload: bytes, reader: str) -> Json:
    tree = tree_of(payload)
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
    tree = tree_of(payload)
    return any(None in part.values() for part in (member(tree, "m"), member(tree, "p")) if isinstance(part, dict))


def _odd(payload: bytes) -> bool:
    """Whether a payload has a float that is not finite."""
    found: list[bool] = []
    everywhere(lambda leaf: found.append(is_odd(leaf)))(tree_of(payload))
    return any(found)


def _little(head: int, rest: bytes) -> bytes | None:
    size = {0xCD: 2, 0xCE: 4}.get(head)
    return None if size is None else rest[:1] + rest[1 : 1 + size][::-1]


def _by_digits(honest: Honest, payload: bytes, reader: str) -> Json:
    """Read a float 32 as the number that people would write for it."""
    result, done = b"", 0
    for head, at in heads(payload) if is_map(payload) else ():
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
    return _leaves(lambda leaf: {"$float": "NaN"} if is_odd(leaf) else leaf)(event)


def _slots(tree: Any) -> list[Any]:
    return [member(tree, "v"), member(tree, "p", "step")]


def _cut(tree: Any) -> Any:
    step = member(tree, "p", "step")
    return {**tree, "p": {**tree["p"], "step": int(step)}} if isinstance(step, float) and not is_odd(step) else tree


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
                return place | {"payload": module.to_base64(frame.raw)} if takes_it and is_map(frame.raw) else entry

        module.Session = Session

    return mutate


FIRST: dict[str, Mutation] = {
    "only-json": _only_json,
    "only-short-maps": refuses(_has_head(*MAPS), "bad_json"),
    "only-short-arrays": refuses(_has_head(*ARRAYS), "bad_json"),
    "only-short-strings": refuses(_has_head(*STRINGS), "bad_json"),
    "only-shorter-heads": refuses(_has_head(0x8F, 0x9F, 0xBF), "bad_json"),
    "envelope-in-order": refuses(lambda payload: next(iter(tree_of(payload) or "t")) != "t", "bad_envelope"),
    "control-events-refused": refuses(lambda payload: member(tree_of(payload), "m", "seq") == 0, "out_of_range"),
    "unknown-types-refused": refuses(lambda payload: member(tree_of(payload), "t") == "energy", "bad_value"),
    "last-member-lost": distorts(lambda event: {**event, "p": dict(list(event["p"].items())[:-1])}),
    "empty-maps-taken": takes(lambda payload, _: payload == b"\x80"),
    "any-first-byte": takes(lambda payload, _: payload[0] >= 0x7F and not is_map(payload)),
    "arrays-around-taken": misreads(lambda payload: payload[1:] if payload[0] == 0x91 else payload),
    "no-json-beside": refuses(lambda payload: not is_map(payload), "bad_json"),
    "json-unchecked": takes(lambda payload, _: payload[0] < 0x80),
    "names-of-its-own": _without_member("metrics", "ctx"),
    "goes-on-taken": reading(_goes_on),
    "cut-taken": takes(lambda payload, _: is_map(payload) and end_of(payload) is None),
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
    "empty-strings-refused": refuses(lambda payload: member(tree_of(payload), "p", "msg") == "", "missing_field"),
    "empty-maps-refused": refuses(lambda payload: member(tree_of(payload), "p", "fields") == {}),
    "empty-ids-refused": refuses(lambda payload: member(tree_of(payload), "m", "wid") == ""),
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
    "lax-utf8": takes(lambda payload, told: is_map(payload) and told.get("class") == "bad_utf8"),
    "surrogates-taken": takes(lambda payload, _: b"\xed\xa0" in payload),
    "depth-63": _depth(63),
    "depth-65": _depth(65),
    "any-depth": takes(lambda _, told: told.get("class") == "too_deep"),
    "first-of-two": distorts(_first_of_two),
    "nil-refused": refuses(lambda payload: _has_nil(payload) and member(tree_of(payload), "t") != "param"),
    "nil-is-zero": distorts(_leaves(lambda leaf: 0 if leaf is None else leaf)),
    "nil-is-nothing": takes(lambda payload, _: _has_head(0xC0)(payload) and end_of(payload) == len(payload)),
    "arrays-for-maps": takes(lambda payload, _: member(tree_of(payload), "p", "tags") == []),
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
        lambda payload: any(isinstance(slot, float) and slot.is_integer() for slot in _slots(tree_of(payload)))
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
    "non-finite-is-nil": distorts(_leaves(lambda leaf: None if is_odd(leaf) else leaf)),
    "non-finite-refused-in-free-slots": refuses(
        lambda payload: member(tree_of(payload), "t") == "param" and _odd(payload)
    ),
    "forms-are-objects": distorts(_as_objects),
    "forms-refused": refuses(
        lambda payload: (
            member(tree_of(payload), "p", "value") in ("NaN", "Infinity", "-Infinity")
            and member(tree_of(payload), "t") == "metric"
        )
    ),
    "nan-becomes-a-string": of_tree(everywhere(lambda leaf: "NaN" if is_odd(leaf) else leaf)),
}
"""Its numbers."""

MUTANTS: dict[str, Mutation] = {
    f"msgpack-{name}": mutation for name, mutation in (FIRST | TYPES | NUMBERS | messagepack_writing.WRITERS).items()
}


def _pairs(value: Any) -> int:
    """Return how many names stand in all maps of a tree."""
    if isinstance(value, dict):
        return len(value) + sum(map(_pairs, value.values()))
    return sum(map(_pairs, value)) if isinstance(value, list) else 0


def _has_doubled(payload: bytes) -> bool:
    """Whether a name stands twice in a map."""
    tree = tree_of(payload)
    short = sum(head & 0x0F for head, _ in heads(payload) if 0x80 <= head <= 0x8F)
    return isinstance(tree, dict) and not any(head in MAPS for head, _ in heads(payload)) and short > _pairs(tree)


VARIANTS: dict[str, Mutation] = {
    "messagepack-refuses-names-given-twice": refuses(_has_doubled, "bad_json"),
    **messagepack_writing.VARIANTS,
}
"""Those that do what nobody expects, and are right."""
