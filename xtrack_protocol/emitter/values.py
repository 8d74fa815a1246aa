"""Turns what training scripts pass into what the wire can carry, without importing numpy, torch or JAX.

All of it is the user's: any method of any value may raise, return nonsense, or never come to an end. Nothing here
raises but what it says, and everything is bounded.
"""

from __future__ import annotations

import datetime as dt
import enum
import os
import reprlib
import sys
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from xtrack_protocol.ir.lifecycle import ErrorInfo
from xtrack_protocol.limits import INT64_MAX, INT64_MIN

_ARRAY_MAX: Final = 1000
"""Elements of an array that are written out; a larger one becomes its repr, which names its shape."""

_LEVELS_MAX: Final = 48
"""Levels of nesting written out below a param or field; the protocol has room for 64 in all."""

_NODES_MAX: Final = 300_000
"""Values written out in all below a param or field: a list may hold another one twice, and that one a third one twice,
and so on; it is small in memory and endless on paper."""

_LEAVES_MAX: Final = 10_000
"""Params that one call makes of nested ones; what lies below that many is logged as values."""

_DIGITS_MAX_BITS: Final = 14_000
"""Bits up to which an integer is written in digits: Python refuses to print more than 4,300 of them."""


class NotANumber(TypeError):
    """A metric's value is no single number."""


def to_number(value: Any) -> int | float:
    """Return ``value`` as an int64 or a float. Raises NotANumber.

    Takes Python's numbers, booleans (as 1 and 0), and whatever has a single element or converts itself: scalars of
    numpy, torch and JAX, zero-dimensional and one-element arrays, Decimal, Fraction. A device's value is fetched.
    Integers beyond int64 become floats, those beyond floats are refused. spec: VAL-2, VAL-5
    """
    if type(value) is float:
        return value
    number = _number(value)
    if isinstance(number, float) or INT64_MIN <= number <= INT64_MAX:
        return number
    try:
        return float(number)
    except OverflowError as error:
        raise NotANumber(f"{brief(value)} is beyond all floats") from error


def to_int64(value: Any) -> int:
    """Return ``value`` as an int64: integers, integral floats, and scalars of either. Raises NotANumber. spec: VAL-1"""
    number = value if type(value) is int else _number(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, float) or not INT64_MIN <= number <= INT64_MAX:
        raise NotANumber(f"{brief(value)} is no whole number of 64 bits")
    return number


def _number(value: Any) -> int | float:
    """Return the number that ``value`` is or holds, as Python's own. Raises NotANumber."""
    try:
        if isinstance(value, (str, bytes, bytearray)):
            raise TypeError("a text")
        item = value.item() if hasattr(value, "item") else value  # numpy, torch, JAX: Python's own, whatever the kind
        if isinstance(item, (str, bytes)):
            raise TypeError("a text")
        if isinstance(item, float):
            return float(item)
        if hasattr(item, "__index__"):
            return int(item.__index__())
        return float(item)
    except Exception as error:  # whatever the user's code raises
        raise NotANumber(f"{brief(value)} is no single number ({describe(error)})") from error


def to_text(value: Any) -> str:
    """Return ``value`` as text that has UTF-8; lone surrogates, which have none, are written as escapes. spec: JSN-3"""
    if isinstance(value, str):
        text = str.__str__(value)  # of a subclass, as of numpy's, the plain text, and not what its __str__ makes of it
    else:
        try:
            text = str.__str__(str(value))
        except Exception:  # noqa: BLE001 - the user's code
            text = brief(value)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """Return the names and values of a mapping, dataclass, attrs class, named tuple or namespace; None for others."""
    kind = type(value)
    if kind is dict or isinstance(value, Mapping):
        mapping: Mapping[Any, Any] = value
        return mapping
    if isinstance(value, type):
        return None
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
    elif isinstance(value, types.SimpleNamespace) or _is_argparse_namespace(value):
        namespace: dict[str, Any] = vars(value)
        return namespace
    else:
        return None
    return {name: getattr(value, name) for name in names if hasattr(value, name)}  # a field may not be set yet


def _is_argparse_namespace(value: Any) -> bool:
    argparse = sys.modules.get("argparse")  # not imported: then there is none of its namespaces either
    return argparse is not None and isinstance(value, argparse.Namespace)


class Converter:
    """Turns any value into JSON. ``replaced`` names the types of what had to become its repr, for the warning."""

    def __init__(self) -> None:
        self.replaced: list[str] = []
        self._nodes = 0
        self._above: set[int] = set()

    def convert(self, value: Any, level: int = 1) -> Any:
        """Return ``value`` as JSON; what JSON has no form for becomes its repr. Raises nothing."""
        if value is None or type(value) in {bool, float}:
            return value
        try:
            return self._convert(value, level)
        except Exception:  # noqa: BLE001 - the user's code: its repr is tried, and the warning names its type
            return self._repr(value)

    def _convert(self, value: Any, level: int) -> Any:
        self._nodes += 1
        if isinstance(value, enum.Enum):
            return self.convert(value.value, level + 1) if level <= _LEVELS_MAX else self._repr(value)
        if isinstance(value, str):
            return to_text(value)
        if isinstance(value, int):
            return int(value) if value.bit_length() <= _DIGITS_MAX_BITS else self._repr(value)
        if isinstance(value, float):  # numpy's float64
            return float(value)
        if level > _LEVELS_MAX or self._nodes > _NODES_MAX or id(value) in self._above:
            return self._repr(value, " (too deep, too many, or inside itself)")
        self._above.add(id(value))
        try:
            return self._convert_object(value, level)
        finally:
            self._above.discard(id(value))

    def _convert_object(self, value: Any, level: int) -> Any:
        mapping = as_mapping(value)
        if mapping is not None:
            return {to_text(key): self.convert(item, level + 1) for key, item in mapping.items()}
        if isinstance(value, os.PathLike):
            return to_text(os.fsdecode(value))
        if isinstance(value, (dt.datetime, dt.date, dt.time)):
            return value.isoformat()
        if isinstance(value, AbstractSet):
            return [self.convert(item, level + 1) for item in sorted(value, key=brief)]
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
            return [self.convert(item, level + 1) for item in value]
        return self._convert_array(value, level)

    def _convert_array(self, value: Any, level: int) -> Any:
        """Convert what looks like a scalar or an array of numpy, torch or JAX."""
        to_list = getattr(value, "tolist", None)
        if not callable(to_list) or isinstance(value, (type, memoryview)):
            return self._repr(value)
        size = getattr(value, "size", 1)
        if callable(size):  # torch
            size = value.numel() if hasattr(value, "numel") else 1
        if not isinstance(size, int) or size > _ARRAY_MAX:
            return self._repr(value)
        plain = to_list()
        return self._repr(value) if plain is value else self.convert(plain, level + 1)

    def _repr(self, value: Any, why: str = "") -> str:
        self.replaced.append(type(value).__name__ + why)
        return brief(value, 4000)


def brief(value: Any, size: int = 200) -> str:
    """Return a repr of about ``size`` characters, of any object; its type where its repr fails."""
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = shortened.maxlong = size
    try:
        text = shortened.repr(value)
    except Exception:  # noqa: BLE001 - the user's code: reprlib catches most of what it raises, but not all
        text = f"<{type(value).__name__} whose repr fails>"
    return to_text(text if len(text) <= size else text[: size - 3] + "...")


class _Shown(str):
    """A short repr, which isn't put into quotes once more."""

    __slots__ = ()
    __repr__ = str.__str__


def shown_in_error(value: Any) -> Any:
    """Return what an error shows of a wrong argument: itself where that is small, else a short text."""
    is_small = value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 100)
    return value if is_small else _Shown(brief(value))


def describe(error: BaseException) -> str:
    """Return an error's kind and what it says, even where saying it fails."""
    said = to_text(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def error_info(error: Any) -> ErrorInfo | None:
    """Return what a run_end says of an error: an exception, or whatever the script gives for one."""
    if error is None:
        return None
    if isinstance(error, ErrorInfo):
        return ErrorInfo(to_text(error.type), to_text(error.message), error.traceback and to_text(error.traceback))
    if not isinstance(error, BaseException):
        return ErrorInfo("", to_text(error))
    import traceback as tracebacks

    try:
        lines = "".join(tracebacks.format_exception(type(error), error, error.__traceback__))
    except Exception as problem:  # noqa: BLE001 - an exception class of the user's own
        lines = f"the traceback can't be shown: {describe(problem)}"
    return ErrorInfo(type(error).__name__, to_text(error), to_text(lines))


def flatten_params(params: Any) -> list[tuple[str, list[str], Any]]:
    """Return of each leaf of nested params its key, the path below it, and the value. spec: EVT-PARAM-2

    Takes mappings, dataclasses, attrs classes, named tuples, argparse's namespaces, and other objects with attributes;
    all but the last also inside of each other. An empty mapping is a leaf (spec: EVT-PARAM-2.1), and so is one that
    contains itself. Raises TypeError for what has no names.
    """
    names = as_mapping(params)
    if names is None and not isinstance(params, type) and type(params).__module__ != "builtins":
        names = getattr(params, "__dict__", None)
    if names is None:
        raise TypeError(f"log_params takes names with values, not {brief(params)}. For one: log_param(key, value)")
    leaves: list[tuple[str, list[str], Any]] = []
    for key, value in names.items():
        _flatten(to_text(key), [], value, leaves, {id(params)})
    return leaves


def _flatten(key: str, below: list[str], value: Any, leaves: list[tuple[str, list[str], Any]], above: set[int]) -> None:
    names = as_mapping(value)
    if not names or len(below) >= _LEVELS_MAX or len(leaves) >= _LEAVES_MAX or id(value) in above:
        leaves.append((key, below, value))
        return
    above.add(id(value))
    for name, item in names.items():
        _flatten(key, [*below, to_text(name)], item, leaves, above)
    above.discard(id(value))
