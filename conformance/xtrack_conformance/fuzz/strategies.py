"""Inputs that Hypothesis makes: events by the tables, spelled in many ways, broken in a few places, and plain bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

from xtrack_conformance.slots import CONTROL, EVENTS, INT64_MAX, INT64_MIN, META, NON_FINITE, Member, Slot
from xtrack_conformance.values import Value

TEXTS: Final = st.one_of(
    st.sampled_from(
        ["", "a", "loss", "val/acc", "a.b", "NaN", "\0", "\n", '"', "\\", "\u2028", "\ufeff", "\U0001f600", "é"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
INTEGERS: Final = st.one_of(
    st.integers(0, 9), st.sampled_from([2**53, 2**53 + 1, INT64_MAX, INT64_MIN, -1]), st.integers(INT64_MIN, INT64_MAX)
)
NUMBERS: Final = st.one_of(
    INTEGERS, st.floats(), st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300, float("nan"), float("inf"), float("-inf")])
)
FREE: Final = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
DIGESTS: Final = st.sampled_from(["sha256:" + "0a" * 32, "md5:00", "", "sha256:x"])


def slot_values(slot: Slot, name: str = "") -> st.SearchStrategy[Any]:
    """Values of a slot that a writer may be given."""
    kind = slot.kind
    if kind == "closed":
        return st.sampled_from(sorted(slot.values))
    if kind == "list" and slot.item:
        return st.lists(slot_values(slot.item), min_size=1, max_size=3)
    if kind == "map" and slot.item:
        names = TEXTS.filter(lambda text: not text.startswith("xtrack.")) if name == "tags" else TEXTS
        return st.dictionaries(names, slot_values(slot.item), min_size=1, max_size=3)
    if kind == "object":
        return bodies(slot.members)
    simple = {
        "integer": INTEGERS, "number": NUMBERS, "boolean": st.booleans(), "string": TEXTS, "free": FREE,
        "id": TEXTS.filter(bool), "checksum": DIGESTS, "run_id": TEXTS.filter(bool), "memory": st.one_of(TEXTS,
        INTEGERS),
        "pair": st.tuples(st.integers(1, 9), TEXTS).map(list),
    }  # fmt: skip
    return simple[kind]


def bodies(members: Mapping[str, Member]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with all required members of a table and some of the others."""
    made = {name: slot_values(member.slot, name) for name, member in members.items()}
    required = {name: made[name] for name, member in members.items() if member.required}
    return st.fixed_dictionaries(
        required, optional={name: value for name, value in made.items() if name not in required}
    )


def _events_of(event_type: str, members: Mapping[str, Member]) -> st.SearchStrategy[dict[str, Value]]:
    is_control = event_type in CONTROL
    seqs = st.just(0) if is_control else st.one_of(st.integers(1, 9), st.integers(1, INT64_MAX))
    meta: dict[str, Any] = {"seq": seqs, "ts": INTEGERS}
    optional: dict[str, Any] = {"wid": slot_values(META.members["wid"].slot)}
    if not is_control:
        optional["sid"] = slot_values(META.members["sid"].slot)
    metas = st.fixed_dictionaries(meta, optional=optional)
    return st.fixed_dictionaries({"t": st.just(event_type), "v": st.just(1), "m": metas, "p": bodies(members)})


UNKNOWN: Final = st.fixed_dictionaries({
    "t": st.sampled_from(["energy", "Metric", "", "t"]),
    "v": st.just(1),
    "m": st.fixed_dictionaries({"seq": st.integers(1, 9), "ts": INTEGERS}),
    "p": st.dictionaries(TEXTS, FREE, max_size=3),
})  # fmt: skip


def weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of several strategies, each as often as its weight says."""
    bag = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(bag) - 1).flatmap(bag.__getitem__)


EVENTS_WRITTEN: Final[st.SearchStrategy[dict[str, Value]]] = weighted(
    *((4 if name == "metric" else 2, _events_of(name, members)) for name, members in EVENTS.items()),
    *((1, _events_of(name, members)) for name, members in CONTROL.items()),
    (3, UNKNOWN),
)
"""Events that every writer must be able to write."""


class Raw(str):
    """Text that stands in JSON as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object of which names may be given twice."""


_INTEGERS: Final = (
    "0", "-1", "2", "1.0", "1e2", "1.5", "-0", "-0.0", "1e-400", "1e400", "01", "+1", "1.", "true", "null",
    '"1"', "NaN", "[]",
    "4294967297", "9007199254740993", "9007199254740993.0", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "9223372036854775807.0", "18446744073709551617", "1" + "0" * 5000,
)  # fmt: skip
_NUMBERS: Final = (
    "0", "-0", "-0.0", "1", "1.0", "0.1", "16777217", "9007199254740993", "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616", "1" + "0" * 309, "1e400", "-1e400", "1e-400", "1e22", ".5", "1e", "true",
    "false", "null", '"1"',
    '"NaN"', '"Infinity"', '"-Infinity"', '"nan"', "NaN", "Infinity", "-Infinity", "-NaN", "nan", '{"$float":"NaN"}',
)  # fmt: skip
_STRINGS: Final = (
    '""', '"x"', '"NaN"', '"completed"', '"Completed"', '"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"',
    '"\\ud83d\\u0041"',
    '"a\\u0000b"', '"\t"', '"\\x"', '" a "', '"e\u0301"', '"\\u0065"', "null", "1", "true", "[]", "{}", '{"id":"a"}',
    '{"id":null}', '{"id":"a","exp_id":"b"}', "'x'",
)  # fmt: skip
_NESTED: Final = (
    "{}", "[]", "null", '""', "1", "[null]", "[1,]", '{"a":1,"a":2}', '{"a":null}', '{"$float":"NaN"}',
    '{"$float":"nan"}',
    '{"$float":"NaN","a":1}', *(opened * "[" + opened * "]" for opened in (60, 61, 62, 63, 64, 70)),
    "[" * 70, "NaN", "",
)  # fmt: skip
RAW: Final = weighted(*((1, st.sampled_from(pool).map(Raw)) for pool in (_INTEGERS, _NUMBERS, _STRINGS, _NESTED)))
"""Values that readers go wrong about."""


def pool_for(value: Any) -> tuple[str, ...]:
    """Return texts to put in the place of this value: those of its kind."""
    if isinstance(value, (bool, int)):
        return _INTEGERS
    if isinstance(value, float):
        return _NUMBERS
    return _NESTED if isinstance(value, list) else _STRINGS


def _raw_for(value: Any) -> st.SearchStrategy[Raw]:
    """Values in place of this one: mostly those of its kind."""
    if isinstance(value, bool) or value is None:
        return RAW
    return weighted((3, st.sampled_from(pool_for(value)).map(Raw)), (1, RAW))


def as_pairs(value: Any) -> Any:
    """Return an event as it crosses the wire, its objects as pairs."""
    if isinstance(value, dict):
        return Pairs((name, as_pairs(item)) for name, item in value.items())
    if isinstance(value, list):
        return [as_pairs(item) for item in value]
    if isinstance(value, float) and value - value != 0.0:
        return next(name for name, known in NON_FINITE.items() if repr(known) == repr(value))
    return value


def spelled(value: Any, space: str = "") -> str:
    """Return a value as JSON text."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{space}{json.dumps(n, ensure_ascii=False)}:{space}{spelled(v)}" for n, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    return json.dumps(value, ensure_ascii=bool(space))


def places(value: Any) -> list[tuple[Any, int]]:
    """Return each place of a tree where a value stands: what holds it, and its index there."""
    found: list[tuple[Any, int]] = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            found.append((value, index))
            found += places(item[1] if isinstance(value, Pairs) else item)
    return found


_BEFORE: Final = (b"",) * 12 + (b" ", b"\r\n", b"\xef\xbb\xbf")
_BEHIND: Final = (b"",) * 20 + (b" \n", b" {}", b"\0", b",")


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Payloads: events as they should be, and with a few things changed in tree, text or bytes."""
    kind = draw(st.integers(0, 19))
    if kind == 19:
        return draw(st.binary(max_size=40))
    tree = as_pairs(draw(EVENTS_WRITTEN))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2]))):
        _edit(draw, tree)
    data = spelled(tree, draw(st.sampled_from(["", "", " ", "\t"]))).encode("utf-8", "surrogatepass")
    if kind >= 17:
        data = _with_bytes_changed(draw, data)
    before: bytes = draw(st.sampled_from(_BEFORE))
    behind: bytes = draw(st.sampled_from(_BEHIND))
    return before + data + behind


_EDITS: Final = ("replace",) * 6 + ("drop", "twice", "unknown", "first")


def _edit(draw: st.DrawFn, tree: Pairs) -> None:
    found = places(tree)
    meta = [place for pair in tree if pair[0] == "m" for place in places(pair[1])]
    if meta and draw(st.integers(0, 3)) == 3:
        found = meta
    if not found:
        return
    holder, index = found[draw(st.integers(0, len(found) - 1))]
    how = draw(st.sampled_from(_EDITS))
    is_object = isinstance(holder, Pairs)
    name, value = holder[index] if is_object else ("", holder[index])
    if how == "drop":
        del holder[index]
    elif how == "first":
        holder.insert(0, holder.pop(index))
    elif how == "replace" or not is_object:
        raw = draw(_raw_for(value))
        holder[index] = (name, raw) if is_object else raw
    else:
        holder.insert(index, (name if how == "twice" else draw(TEXTS), draw(RAW)))


_BYTES: Final = st.sampled_from(
    [b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"{", b'"']
)


def _with_bytes_changed(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, max(0, len(data) - 1)))
    how = draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    if how == "flip" and data:
        return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
    if how == "cut":
        return data[:at]
    return data[:at] + (draw(_BYTES) if how == "insert" else b"") + data[at + (how == "drop") :]


_SMALL: Final = b'{"t":"ping","v":1,"m":{"seq":0,"ts":0},"p":{}}'


def framed(payload: bytes) -> bytes:
    """Return a frame."""
    return len(payload).to_bytes(4, "big") + payload


_LENGTHS: Final = (0, 1, 40, 200, 2**20, 2**20 + 1, 2**24 - 1, 2**24, 2**32 - 1)
_STRANGE: Final = (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\n", b"{", bytes(1), bytes(4), bytes(9))
_BAD: Final = (
    b"[1]",
    b"{",
    b" ",
    b"{}",
    b"\xff",
    _SMALL + b"\0",
    _SMALL.replace(b"1", b"2"),
    b"{" * 70,
    _SMALL[:20] + framed(_SMALL),
)
PIECES: Final = weighted(
    (6, st.just(framed(_SMALL))),
    (4, st.sampled_from(_BAD).map(framed)),
    (3, payloads().map(framed)),
    (1, st.just(framed(_SMALL)[:-3])),
    (2, st.sampled_from(_LENGTHS).map(lambda size: size.to_bytes(4, "big") + _SMALL)),
    (1, st.sampled_from(_STRANGE)),
    (1, st.binary(max_size=9)),
)
"""Pieces of a stream."""


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[int]]:
    """Bytes of a connection or a recording, and where to cut them."""
    data = b"".join(draw(st.lists(PIECES, max_size=5)))
    if data and draw(st.integers(0, 4)) == 4:
        data = _with_bytes_changed(draw, data)
    return data, sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
