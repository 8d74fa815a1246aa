"""Turns what training scripts pass into what the wire can carry, without importing numpy, torch or JAX."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import os
from collections.abc import Mapping
from typing import Any, Final

from xtrack_protocol.limits import INT64_MAX, INT64_MIN

_ARRAY_MAX: Final = 1000
"""Elements of an array that are written out; a larger one becomes its repr, which names its shape."""

_LEVELS_MAX: Final = 48
"""Levels of nesting written out below a param or field; the protocol has room for 64 in all."""


class NotANumber(TypeError):
    """A metric's value is no single number."""


def to_number(value: Any) -> int | float:
    """Return ``value`` as an int64 or a float. Raises NotANumber.

    Takes Python's numbers, booleans (as 1 and 0), and whatever has a single element or converts itself: scalars of
    numpy, torch and JAX, zero-dimensional and one-element arrays, Decimal, Fraction. A device's value is fetched.
    """
    kind = type(value)
    if kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is bool:
        return _int64_or_float(int(value))
    if isinstance(value, (str, bytes, bytearray)):
        raise NotANumber(f"{value!r} is a text, not a number")
    try:
        item = (
            value.item() if hasattr(value, "item") else value
        )  # numpy, torch, JAX: a Python number, whatever the kind
        if isinstance(item, (bool, int)):
            return _int64_or_float(int(item))
        if isinstance(item, float):
            return float(item)
        if hasattr(item, "__index__"):
            return _int64_or_float(item.__index__())
        return float(item)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise NotANumber(f"{_brief(value)} is no single number ({error})") from error


def _int64_or_float(value: int) -> int | float:
    return value if INT64_MIN <= value <= INT64_MAX else float(value)


def to_int64(value: Any) -> int:
    """Return ``value`` as an int64: integers, integral floats, and scalars of either. Raises NotANumber."""
    if type(value) is int and INT64_MIN <= value <= INT64_MAX:
        return value
    number = to_number(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, float) or not INT64_MIN <= number <= INT64_MAX:
        raise NotANumber(f"{value!r} is no whole number of 64 bits")
    return number


def to_text(value: Any) -> str:
    """Return ``value`` as text that has UTF-8; lone surrogates, which have none, are written as escapes."""
    text = value if isinstance(value, str) else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


class Converter:
    """Turns any value into JSON. ``replaced`` collects what had to become its repr, for the warning."""

    def __init__(self) -> None:
        self.replaced: list[str] = []

    def convert(self, value: Any, level: int = 1) -> Any:
        """Return ``value`` as JSON; what JSON has no form for becomes its repr."""
        if value is None or type(value) in {bool, int, float}:
            return value
        if isinstance(value, str):
            return to_text(value.value if isinstance(value, enum.Enum) else value)
        if level > _LEVELS_MAX:
            return self._repr(value)
        if isinstance(value, Mapping):
            return {to_text(_key(key)): self.convert(item, level + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.convert(item, level + 1) for item in value]
        return self._convert_object(value, level)

    def _convert_object(self, value: Any, level: int) -> Any:
        if isinstance(value, enum.Enum):
            return self.convert(value.value, level + 1)
        if isinstance(value, os.PathLike):
            return to_text(os.fsdecode(value))
        if isinstance(value, (dt.datetime, dt.date, dt.time)):
            return value.isoformat()
        if isinstance(value, (set, frozenset)):
            return self.convert(sorted(value, key=repr), level + 1)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            return {field.name: self.convert(getattr(value, field.name), level + 1) for field in fields}
        if isinstance(value, (int, float)):  # subclasses: numpy.float64, IntEnum's kin
            return float(value) if isinstance(value, float) else int(value)
        return self._convert_array(value, level)

    def _convert_array(self, value: Any, level: int) -> Any:
        """Convert what looks like a scalar or an array of numpy, torch or JAX."""
        to_list = getattr(value, "tolist", None)
        if not callable(to_list) or isinstance(value, type):
            return self._repr(value)
        size = getattr(value, "size", 1)
        if callable(size):  # torch
            size = value.numel() if hasattr(value, "numel") else 1
        if not isinstance(size, int) or size > _ARRAY_MAX:
            return self._repr(value)
        try:
            plain = to_list()
        except (TypeError, ValueError, RuntimeError):
            return self._repr(value)
        return self._repr(value) if plain is value else self.convert(plain, level + 1)

    def _repr(self, value: Any) -> str:
        self.replaced.append(type(value).__name__)
        return _brief(value, 4000)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(key)


def _brief(value: Any, size: int = 200) -> str:
    """Return a repr of at most ``size`` characters, even of objects whose repr fails."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - it's the user's code, and must not stop the training
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return to_text(text if len(text) <= size else text[: size - 3] + "...")


def flatten_params(params: Any) -> list[tuple[str, list[str], Any]]:
    """Return of each leaf of nested params its key, the path below it, and the value. spec: EVT-PARAM-1

    Takes mappings, dataclasses, argparse's namespaces and other objects with attributes. An empty mapping is a leaf.
    Raises TypeError for what has no names.
    """
    if isinstance(params, (str, bytes)):
        raise TypeError(f"log_params takes names with values, not {params!r}. For one: log_param(key, value)")
    if not isinstance(params, Mapping):
        if dataclasses.is_dataclass(params) and not isinstance(params, type):
            params = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
        elif hasattr(params, "__dict__"):
            params = vars(params)
        else:
            raise TypeError(f"log_params takes names with values, not {_brief(params)}")
    leaves: list[tuple[str, list[str], Any]] = []
    for key, value in params.items():
        _flatten(to_text(_key(key)), [], value, leaves)
    return leaves


def _flatten(key: str, below: list[str], value: Any, leaves: list[tuple[str, list[str], Any]]) -> None:
    if isinstance(value, Mapping) and value and len(below) < _LEVELS_MAX:
        for name, item in value.items():
            _flatten(key, [*below, to_text(_key(name))], item, leaves)
    else:
        leaves.append((key, below, value))
