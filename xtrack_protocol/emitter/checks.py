"""Checks what training scripts pass to a run's methods, argument by argument.

A wrong argument is counted and warned of (raised in strict mode), and the event goes on with the best that can be made
of it: a text for a name, nothing for a number that is none. What an event can't do without decides whether it is sent.
spec: EMT-3, EMT-5
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar

from xtrack_protocol.emitter.stream import StreamEmitter
from xtrack_protocol.emitter.values import (
    Converter,
    NotANumber,
    as_mapping,
    brief,
    describe,
    to_int64,
    to_number,
    to_text,
)
from xtrack_protocol.ir.lifecycle import Progress
from xtrack_protocol.ir.values import MetricContext
from xtrack_protocol.limits import INT64_MAX, INT64_MIN

_T = TypeVar("_T", bound=str)

_CONTEXTS_MAX: Final = 256
_NAMES_MAX: Final = 64
_PLAIN: Final = frozenset({str, int, type(None)})


class Guard:
    """Around the body of a call: what comes out of it that shouldn't is counted, warned of, and goes no further.

    A wrong signature is no such thing: it raises where the call is written, as everywhere in Python. spec: EMT-3.1
    """

    __slots__ = ("_call", "_out")

    def __init__(self, out: StreamEmitter, call: str) -> None:
        self._out = out
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        return isinstance(error, Exception) and self._out.failed(self._call, error)


class Checks:
    """Checks arguments on behalf of ``out``, which counts and tells what is wrong."""

    def __init__(self, out: StreamEmitter) -> None:
        self._out = out
        self._names: dict[int, list[str]] = {}
        self._contexts: dict[tuple[str | None, int | None, int | None, str | None], MetricContext] = {}

    def name(self, what: str, value: Any) -> str:
        """Return a text; what is none goes as the text it makes, and counts as wrong."""
        if not isinstance(value, str):
            text = f"{what}={brief(value)} is no text; its text was taken"
            self._out.refuse("type", text, TypeError(text), about=what)
        return to_text(value)

    def wrong(self, text: str) -> None:
        """Count a value that is wrong, and warn of it."""
        self._out.refuse("value", text, TypeError(text))

    def optional_name(self, what: str, value: Any) -> str | None:
        """Return a text, or None for None."""
        return None if value is None else self.name(what, value)

    def whole(self, what: str, value: Any) -> int | None:
        """Return an int64; what is none counts as wrong, and None is returned."""
        if value is None or (type(value) is int and INT64_MIN <= value <= INT64_MAX):
            return value
        try:
            return to_int64(value)
        except NotANumber as error:
            text = f"{what}={brief(value)} is no whole number. The event goes without it"
            self._out.refuse("value", text, error, about=what)
            return None

    def numbers(self, what: str, values: Any) -> dict[str, int | float]:
        """Return numbers by name; what is no number is left out, and counts as wrong."""
        numbers: dict[str, int | float] = {}
        for key, value in self._items(what, values):
            if type(value) is float and type(key) is str and key.isascii():
                numbers[key] = value
                continue
            name = self.name(f"{what}: name", key)
            try:
                numbers[name] = to_number(value)
            except NotANumber as error:
                self._out.refuse("value", f"{what}: {name!r}: {error}. It was left out", error, about=name)
        if numbers:
            if len(self._names) >= _NAMES_MAX:
                self._names.clear()
            self._names[len(numbers)] = [*numbers]  # for finite_floats
        return numbers

    def finite_floats(self, values: Any) -> dict[str, int | float] | None:
        """Return a copy of what is nothing but finite floats under names that were checked before; None for others."""
        if type(values) is not dict:
            return None
        numbers: dict[str, int | float] = values.copy()  # at one moment: another thread may go on filling it
        try:
            if [*numbers] != self._names.get(len(numbers)):
                return None
        except BytesWarning:  # of `python -bb`, for bytes among the names
            return None
        for value in numbers.values():
            if type(value) is not float:
                return None
        return numbers if isfinite(sum(numbers.values())) else None

    def context(self, phase: Any, batch_size: Any, dataset_size: Any, agg: Any) -> MetricContext | None:
        """Return a metric's context; None where there is none."""
        if phase is None and batch_size is None and dataset_size is None and agg is None:
            return None
        key = (phase, batch_size, dataset_size, agg)
        if not {type(part) for part in key} <= _PLAIN:
            return self._new_context(*key)
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) >= _CONTEXTS_MAX:  # a batch size that changes at each step
                self._contexts.clear()
            context = self._new_context(*key)
            if (context.phase, context.batch_size, context.dataset_size, context.agg) == key:  # a wrong one is told of
                self._contexts[key] = context
        return context

    def _new_context(self, phase: Any, batch_size: Any, dataset_size: Any, agg: Any) -> MetricContext:
        return MetricContext(
            self.optional_name("phase", phase),
            self.whole("batch_size", batch_size),
            self.whole("dataset_size", dataset_size),
            self.optional_name("agg", agg),
        )

    def json(self, what: str, value: Any) -> Any:
        """Return ``value`` as JSON; what has no form there goes as its repr, with a warning. spec: EMT-5"""
        converter = Converter()
        converted = converter.convert(value)
        if converter.replaced:
            kinds = ", ".join(sorted(set(converter.replaced))[:5])
            self._out.warn("repr", f"{what}: JSON has no form for {kinds}; its repr was logged")
        return converted

    def mapping(self, what: str, value: Any) -> dict[str, Any]:
        """Return names with JSON values; nothing for None, and for what has no names, which counts as wrong."""
        if value is None:
            return {}
        items = self._items(what, value)
        return {to_text(key): self.json(f"{what} {to_text(key)!r}", item) for key, item in items}

    def tags(self, what: str, value: Any) -> dict[str, str]:
        """Return texts by name, of values of any kind."""
        return {to_text(key): to_text(item) for key, item in self._items(what, value)}

    def _items(self, what: str, value: Any) -> Iterable[tuple[Any, Any]]:
        """Return names with values; none of what has no names, or doesn't give them, which counts as wrong."""
        if type(value) is dict:  # the usual case
            return tuple(value.items())  # at one moment: another thread may go on filling it
        try:
            names = as_mapping(value)
            if names is None:
                raise TypeError(f"{what} takes names with values, not {brief(value)}")
            return tuple(names.items())
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            self._out.refuse("value", f"{what}: {describe(error)}", error, about=what)
            return ()

    def choice(self, what: str, value: Any, known: Iterable[_T], otherwise: _T) -> _T:
        """Return the one of ``known`` that ``value`` is; what is none counts as wrong. spec: VAL-6"""
        found = self.choice_or_none(what, value, known, f"{otherwise} was taken")
        return otherwise if found is None else found

    def choice_or_none(self, what: str, value: Any, known: Iterable[_T], consequence: str) -> _T | None:
        """Return the one of ``known`` that ``value`` is; None for what is none, which counts as wrong."""
        if isinstance(value, str):
            for one in known:
                if one == value:
                    return one
        text = f"{what}={brief(value)} is none of {', '.join(known)}; {consequence}"
        self._out.refuse("value", text, about=what)
        return None

    def progress(self, value: Any) -> Progress | None:
        """Return how far a worker is, of (current, total) or (current, total, unit)."""
        if value is None:
            return None
        if isinstance(value, Progress):
            value = (value.current, value.total, value.unit)
        if not isinstance(value, (tuple, list)) or len(value) not in {2, 3}:
            text = f"progress={brief(value)} is not (current, total) or (current, total, unit)"
            self._out.refuse("value", text, TypeError(text))
            return None
        unit = value[2] if len(value) == 3 else None
        return Progress(
            self.whole("progress", value[0]), self.whole("progress", value[1]), self.optional_name("unit", unit)
        )

    def location(self, path: Any) -> tuple[str, Path | None]:
        """Return a path as it is sent, absolute, and as a file of this machine; None for a URL. Raises TypeError."""
        location = os.fsdecode(path)
        if "://" in location:
            return to_text(location), None
        file = Path(location)
        try:
            file = file.absolute()
        except OSError:  # the working directory is gone
            return to_text(location), file
        return to_text(str(file)), file
