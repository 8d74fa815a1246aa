"""Values that cross the line to a testee and lose nothing: each carries its type, and numbers are texts.

In here a value is None, a bool, an int, a float, a str (lone surrogates allowed), a list or a dict of such. Python's
``==`` takes 1, 1.0 and True for the same and NaN for nothing; :func:`difference` doesn't.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any, Final, TypeAlias

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
Tagged: TypeAlias = dict[str, Any]

DEPTH_MAX: Final = 400
"""Levels of a tagged value that are read: a testee that has gone mad mustn't take the runner along."""

_INT: Final = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_FLOAT: Final = re.compile(r"[0-9a-f]{16}\Z")
_UNITS: Final = re.compile(r"(?:[0-9a-f]{4})*\Z")
_DIGITS_MAX: Final = 400


class BadValue(ValueError):
    """No tagged value: says what is wrong with it, and where."""


def tag(value: Value) -> Tagged:
    """Return the tagged form of ``value``. Strings that are no Unicode go as UTF-16 code units."""
    if value is None:
        return {"t": "null"}
    if isinstance(value, bool):
        return {"t": "bool", "v": value}
    if isinstance(value, int):
        return {"t": "int", "v": str(value)}
    if isinstance(value, float):
        return {"t": "float", "v": float_bits(value)}
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return {"t": "utf16", "v": value.encode("utf-16-be", "surrogatepass").hex()}
        return {"t": "str", "v": value}
    if isinstance(value, list):
        return {"t": "list", "v": [tag(item) for item in value]}
    return {"t": "obj", "v": [[name, tag(item)] for name, item in value.items()]}


def untag(tagged: Any, where: str = "value", level: int = 1) -> Value:
    """Return the value of a tagged form, or raise BadValue."""
    if not isinstance(tagged, dict) or not isinstance(tagged.get("t"), str):
        raise BadValue(f'{where} must be an object like {{"t":"int","v":"1"}}')
    if level > DEPTH_MAX:
        raise BadValue(f"{where} is nested more than {DEPTH_MAX} deep")
    kind, held = tagged["t"], tagged.get("v")
    if tagged.keys() - {"t", "v"}:
        raise BadValue(f"{where} has members beside t and v: {', '.join(sorted(tagged.keys() - {'t', 'v'}))}")
    if kind == "null" and held is None:
        return None
    if kind == "bool" and isinstance(held, bool):
        return held
    if kind == "int" and isinstance(held, str) and _INT.match(held) and len(held) <= _DIGITS_MAX:
        return int(held)
    if kind == "float" and isinstance(held, str) and _FLOAT.match(held):
        return float(struct.unpack(">d", bytes.fromhex(held))[0])
    if kind == "str" and isinstance(held, str):
        return held
    if kind == "utf16" and isinstance(held, str) and _UNITS.match(held):
        return bytes.fromhex(held).decode("utf-16-be", "surrogatepass")
    if kind == "list" and isinstance(held, list):
        return [untag(item, f"{where}[{index}]", level + 1) for index, item in enumerate(held)]
    if kind == "obj" and isinstance(held, list):
        return _untag_object(held, where, level)
    raise BadValue(f"{where} is no {kind} as the testee protocol writes it: {shown(tagged)}")


def _untag_object(pairs: list[Any], where: str, level: int) -> dict[str, Value]:
    result: dict[str, Value] = {}
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise BadValue(f"{where} must hold pairs of a name and a value, not {shown(pair)}")
        if pair[0] in result:
            raise BadValue(f"{where} has the name {pair[0]!r} twice")
        result[pair[0]] = untag(pair[1], f"{where}.{pair[0]}", level + 1)
    return result


def float_bits(value: float) -> str:
    """Return the 64 bits as 16 hexadecimal digits, the sign first; every NaN is written as one."""
    return struct.pack(">d", math.nan if math.isnan(value) else value).hex()


def difference(expected: Value, got: Value, where: str = "") -> str | None:
    """Say where ``got`` differs from ``expected``, or return None. Every NaN is the same NaN. spec: VAL-3.4"""
    if type(expected) is not type(got):
        return f"{where or 'the event'}: expected {shown(expected)}, got {shown(got)}"
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in [*expected, *(name for name in got if name not in expected)]:
            inside = f"{where}.{name}" if where else name
            if name not in got:
                return f"{inside}: expected {shown(expected[name])}, got nothing"
            if name not in expected:
                return f"{inside}: expected nothing, got {shown(got[name])}"
            if found := difference(expected[name], got[name], inside):
                return found
        return None
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return f"{where}: expected {len(expected)} elements, got {len(got)}"
        pairs = enumerate(zip(expected, got, strict=True))
        return next((found for n, (one, other) in pairs if (found := difference(one, other, f"{where}[{n}]"))), None)
    same = (
        float_bits(expected) == float_bits(got)
        if isinstance(expected, float) and isinstance(got, float)
        else (expected == got)
    )
    return None if same else f"{where or 'the event'}: expected {shown(expected)}, got {shown(got)}"


def shown(value: object, limit: int = 160) -> str:
    """Return a short text of a value for a message, its type plain to see, its controls escaped."""
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    elif isinstance(value, int):
        text = f"the integer {value}"
    elif isinstance(value, float):
        text = f"the float {value!r}"
    else:
        text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
