"""Tagged values, also those that stand for what has no form in JSON."""

from __future__ import annotations

import struct
from typing import Any


class Opaque:
    """Something that no JSON can hold."""


class Broken:
    """Something of which not even a text can be made."""

    def __repr__(self) -> str:
        raise ValueError("no text can be made of this")


class Scalar:
    """As scalars of array libraries are: no number of Python's, which has one."""

    dtype, shape, ndim, size = "float64", (), 0, 1

    def __init__(self, number: float) -> None:
        self.number = number

    def item(self) -> float:
        """Return the number."""
        return self.number


def untagged(tagged: dict[str, Any]) -> Any:
    """Return the value of a tagged one."""
    held: Any = tagged.get("v")
    match tagged["t"]:
        case "int":
            return int(held)
        case "float":
            return struct.unpack(">d", bytes.fromhex(held))[0]
        case "utf16":
            return bytes.fromhex(held).decode("utf-16-be", "surrogatepass")
        case "list":
            return [untagged(item) for item in held]
        case "obj":
            return {name: untagged(item) for name, item in held}
        case "scalar":
            return Scalar(untagged(held))
        case "opaque":
            return Broken() if held == "broken" else Opaque()
    return held


def to_tagged(value: Any) -> dict[str, Any]:
    """Return a value with its type."""
    if value is None:
        return {"t": "null"}
    if isinstance(value, bool):
        return {"t": "bool", "v": value}
    if isinstance(value, int):
        return {"t": "int", "v": str(value)}
    if isinstance(value, float):
        return {"t": "float", "v": struct.pack(">d", value).hex()}
    if isinstance(value, str):
        return {"t": "str", "v": value}
    if isinstance(value, dict):
        return {"t": "obj", "v": [[name, to_tagged(item)] for name, item in value.items()]}
    return {"t": "list", "v": [to_tagged(item) for item in value]}
