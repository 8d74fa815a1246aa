"""What is held against the answers of a collector: the state of a run, the points of a series, an aggregate.

Only what a case names is compared. An integer and a float of one value are the same; of a member that is optional,
absence, null, ``false`` and the empty list or object are. Everything that an answer may leave open passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from xtrack_conformance.protocol import BadAnswer
from xtrack_conformance.slots import NON_FINITE
from xtrack_conformance.values import float_bits, shown

Json = dict[str, Any]

ABSENT: Final[tuple[object, ...]] = (None, False, [], {})

MAPS: Final = ("params", "tags", "summary", "final")
LISTS: Final = ("logs", "artifacts", "checkpoints")
OBJECTS: Final = ("error", "source", "env")


def difference_of_run(expected: Json, got: Json) -> str | None:
    """Say where the state of a run isn't as expected; None where it is."""
    for name, wanted in expected.items():
        found = got.get(name)
        if name in MAPS:
            problem = _map(wanted, _without_reserved(found, wanted) if name == "tags" else found, name)
        elif name == "series":
            problem = _series(wanted, found)
        elif name == "workers":
            problem = _each(wanted, found, name)
        elif name in LISTS:
            problem = _unordered(wanted, found, name)
        elif name == "streams":
            problem = _streams(wanted, found)
        else:
            problem = member(wanted, found, name)
        if problem:
            return problem
    return None


def difference_of_list(expected: Sequence[Json], got: Sequence[Json], what: str) -> str | None:
    """Say where a list in a certain order isn't as expected."""
    if len(expected) != len(got):
        return f"expected {len(expected)} {what}s, got {len(got)}"
    for number, (wanted, found) in enumerate(zip(expected, got, strict=True), 1):
        if problem := member(wanted, found, f"{what} {number}"):
            return problem
    return None


def difference_of_set(expected: Sequence[Json], got: Sequence[Json], what: str) -> str | None:
    """Say where a list in any order isn't as expected."""
    return _unordered(list(expected), list(got), what)


# ------------------------------------------------------------------------------------------ members


def member(expected: Any, got: Any, where: str) -> str | None:
    """Say where an optional member isn't as expected. Of an object only the members that are expected count."""
    if _is_absent(expected) and _is_absent(got):
        return None
    if isinstance(expected, dict) and (choice := _choice(expected)) is not None:
        return None if any(member(one, got, where) is None for one in choice) else _told(where, expected, got)
    if isinstance(expected, dict) and "at_least" in expected:
        is_number = isinstance(got, (int, float)) and not isinstance(got, bool)
        return None if is_number and got >= expected["at_least"] else _told(where, expected, got)
    if isinstance(expected, dict) and not _is_float_form(expected):
        if not isinstance(got, dict):
            return _told(where, expected, got)
        pairs = ((value, got.get(name), f"{where}.{name}") for name, value in expected.items())
        return next((problem for one, other, inside in pairs if (problem := member(one, other, inside))), None)
    return None if same(expected, got) else _told(where, expected, got)


def same(expected: Any, got: Any) -> bool:
    """Whether a value, given in the writer's form, is the one that was told. Every not-a-number is the same."""
    if isinstance(expected, dict):
        if _is_float_form(expected):
            return isinstance(got, float) and float_bits(got) == float_bits(NON_FINITE[expected["$float"]])
        if not isinstance(got, dict) or expected.keys() != got.keys():
            return False
        return all(same(value, got[name]) for name, value in expected.items())
    if isinstance(expected, list):
        if not isinstance(got, list) or len(expected) != len(got):
            return False
        return all(same(one, other) for one, other in zip(expected, got, strict=True))
    if isinstance(expected, bool) or isinstance(got, bool) or expected is None:
        return expected is got
    if isinstance(expected, (int, float)):
        return isinstance(got, (int, float)) and expected == got
    return type(expected) is type(got) and bool(expected == got)


def _is_float_form(value: Json) -> bool:
    return value.keys() == {"$float"} and value["$float"] in NON_FINITE


def _choice(value: Json) -> list[Any] | None:
    return value["one_of"] if value.keys() == {"one_of"} else None


def _is_absent(value: Any) -> bool:
    return any(value is absent or (value == absent and type(value) is type(absent)) for absent in ABSENT)


def _told(where: str, expected: Any, got: Any) -> str:
    return f"{where}: expected {shown(expected)}, got {'nothing' if got is None else shown(got)}"


# ------------------------------------------------------------------------------------------ what holds several


def _map(expected: Json, got: Any, where: str) -> str | None:
    """Compare a map, all of it: its values may be null or empty."""
    found = _object(got, where)
    for name in [*expected, *(name for name in found if name not in expected)]:
        inside = f"{where}.{name}"
        if name not in found:
            return f"{inside}: expected {shown(expected[name])}, got nothing"
        if name not in expected:
            return f"{inside}: expected nothing, got {shown(found[name])}"
        choice = _choice(expected[name]) if isinstance(expected[name], dict) else None
        if not any(same(one, found[name]) for one in choice or [expected[name]]):
            return _told(inside, expected[name], found[name])
    return None


def _each(expected: Json, got: Any, where: str) -> str | None:
    """Compare objects by name, all of them."""
    found = _object(got, where)
    if problem := _names(expected, found, where):
        return problem
    pairs = ((value, found[name], f"{where}.{name}") for name, value in expected.items())
    return next((problem for one, other, inside in pairs if (problem := member(one, other, inside))), None)


def _series(expected: Json, got: Any) -> str | None:
    """Compare the series in short; one whose points are all hidden may be told or not."""
    found = {
        name: value
        for name, value in _object(got, "series").items()
        if name in expected or not (isinstance(value, dict) and value.get("count") == 0)
    }
    wanted = {name: value for name, value in expected.items() if name in found or value.get("count") != 0}
    return _each(wanted, found, "series")


def _names(expected: Json, found: Json, where: str) -> str | None:
    if expected.keys() == found.keys():
        return None
    return f"{where}: expected {_listed(expected)}, got {_listed(found)}"


def _listed(names: Any) -> str:
    return ", ".join(map(ascii, sorted(names))) or "none"


def _without_reserved(got: Any, expected: Json) -> Any:
    """Leave out the tags that tell a run's name and note: they may stand among the others, or not."""
    if not isinstance(got, dict):
        return got
    return {name: value for name, value in got.items() if name in expected or not name.startswith("xtrack.")}


def _unordered(expected: Any, got: Any, where: str) -> str | None:
    """Compare lists in any order. ``{"includes": [...]}``: these, among others perhaps."""
    includes = isinstance(expected, dict)
    wanted = list(expected["includes"] if includes else expected)
    left = list(_list(got, where))
    for one in wanted:
        index = next((i for i, other in enumerate(left) if member(one, other, where) is None), None)
        if index is None:
            return f"{where}: expected {shown(one, 400)}, got {shown(left, 800)}"
        del left[index]
    return f"{where}: expected nothing more, got {shown(left, 400)}" if left and not includes else None


def _streams(expected: Sequence[Json], got: Any) -> str | None:
    """Compare streams, all of them, in any order."""
    found: dict[tuple[str, str], Json] = {}
    for stream in _list(got, "streams"):
        place = (stream.get("wid") or "", stream.get("sid") or "") if isinstance(stream, dict) else ("", "")
        if not (isinstance(stream, dict) and all(isinstance(name, str) for name in place)):
            raise BadAnswer(f"a stream has the texts wid and sid: {shown(stream)}")
        if place in found:
            raise BadAnswer(f"a stream is told twice: {shown(place)}")
        found[place] = stream
    wanted = {(stream.get("wid", ""), stream["sid"]): stream for stream in expected}
    if wanted.keys() != found.keys():
        return f"streams: expected {_listed(wanted)}, got {_listed(found)}"
    for place, stream in wanted.items():
        inner = {name: value for name, value in stream.items() if name not in {"wid", "sid"}}
        if problem := member(inner, found[place], f"stream {place!a}") if inner else None:
            return problem
    return None


def _object(got: Any, where: str) -> Json:
    if got is None:
        return {}
    if not isinstance(got, dict):
        raise BadAnswer(f"{where} must be an object, not {shown(got)}")
    return got


def _list(got: Any, where: str) -> list[Any]:
    if got is None:
        return []
    if not isinstance(got, list):
        raise BadAnswer(f"{where} must be a list, not {shown(got)}")
    return got
