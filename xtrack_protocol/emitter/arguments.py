"""A function's arguments as params: what is large as a short text, what is secret not at all."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time
from enum import Enum
from typing import Any, Final

from xtrack_protocol.emitter.surroundings import is_secret, without_user
from xtrack_protocol.emitter.values import as_mapping, brief, to_text

_HIDDEN: Final = "***"
_ITEMS_MAX: Final = 50
_LEVELS_MAX: Final = 5
_TEXT_MAX: Final = 1000
_LOOKED_AT_MAX: Final = 2 * _TEXT_MAX
"""Characters of a text in which secrets are looked for: those that are shown, and what may have begun in them."""
_REPR_MAX: Final = 200
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def params_of(
    bound: inspect.BoundArguments, wanted: Collection[str] | None, left_out: Collection[str]
) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included; what ``**names`` took under its own names.

    ``wanted``: only these; None: all. A first argument called ``self`` or ``cls`` is left out. Large values become a
    short text that has no address in it, so that runs can be compared; names and texts that look like a secret ``***``.
    """
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for position, (name, parameter) in enumerate(bound.signature.parameters.items()):
        value = bound.arguments[name]
        if position == 0 and name in {"self", "cls"}:
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found.update({key: item for key, item in value.items() if key not in found})
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL or value:  # an array has no truth to be asked
            found[name] = value
    return {
        name: shown(name, value)
        for name, value in found.items()
        if name not in left_out and (wanted is None or name in wanted)
    }


def shown(name: str, value: Any, level: int = 0) -> Any:
    """Return a value that JSON has a form for, small, and without secrets; never asks a device for its data.

    Never raises: of what can't be looked at, its class is told.
    """
    try:
        return _shown(name, value, level)
    except Exception:  # noqa: BLE001 - the user's code, whatever it raises: the call goes on
        return _class_of(value)


def _shown(name: str, value: Any, level: int) -> Any:
    if isinstance(value, str):
        return _shown_text(name, value)
    if is_secret(name):
        return _HIDDEN
    if value is None or isinstance(value, (bool, int, float, Enum, os.PathLike, date, time)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    names = None if hasattr(value, "shape") else as_mapping(value)
    if names is not None:
        return _shown_mapping(names, level)
    if isinstance(value, (AbstractSet, Sequence)):
        if len(value) > _ITEMS_MAX or level >= _LEVELS_MAX:
            return f"{type(value).__name__} of {len(value)}"
        return [shown("", item, level + 1) for item in value]
    return _described(name, value, level)


def _shown_text(name: str, value: str) -> str:
    # A long one is not looked through: what may be in it can be anywhere, and the search takes the square of its size.
    text = value[:_LOOKED_AT_MAX]
    if is_secret(name, text):
        return _HIDDEN
    text = without_user(text)
    return text if len(value) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}... ({len(value)} characters)"


def _shown_mapping(names: Mapping[Any, Any], level: int) -> Any:
    if len(names) > _ITEMS_MAX or level >= _LEVELS_MAX:
        return f"{type(names).__name__} of {len(names)}"
    return {to_text(key): shown(to_text(key), item, level + 1) for key, item in names.items()}


def _described(name: str, value: Any, level: int) -> Any:
    kind = type(value)
    shape = getattr(value, "shape", None)
    if shape is not None:
        if kind.__module__ == "numpy" and shape == ():
            item = value.item()  # in this process's memory
            if type(item) is not kind:
                return shown(name, item, level)
        dtype = getattr(value, "dtype", None)
        return _short(f"{kind.__qualname__} of shape {shape}" + ("" if dtype is None else f", {dtype}"))
    qualified = getattr(value, "__qualname__", None)
    if isinstance(qualified, str):
        return f"{getattr(value, '__module__', '')}.{qualified}"
    if kind.__repr__ is object.__repr__:  # type: ignore[comparison-overlap]  # seen as unbound and bound
        return _class_of(value)
    text = _ADDRESS.sub("", brief(value, _REPR_MAX))
    return _HIDDEN if is_secret("", text) else text


def _class_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _short(text: str) -> str:
    return text if len(text) <= _REPR_MAX else f"{text[: _REPR_MAX - 3]}..."
