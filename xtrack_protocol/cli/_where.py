"""Conditions on runs: ``val_loss < 0.1 and params.lr = 0.01``.

A condition is NAME OPERATOR VALUE; several are joined by ``and``. NAME is a metric, or, where a run has none of that
name, a param; ``metrics.``, ``params.``, ``tags.`` or ``summary.`` before it leaves no doubt, and ``min(KEY)`` and
``max(KEY)`` are a metric's least and greatest value. ``name``, ``status``, ``experiment``, ``id``, ``note``,
``duration`` (in seconds) and ``events`` are the run's own. A name with spaces or operators in it stands in backticks.

Operators: ``<``, ``<=``, ``>``, ``>=``, ``=``, ``!=``, and ``~``, a pattern with ``*`` and ``?``. A run that has no
such value doesn't match, whatever the operator.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import click

from xtrack_protocol.cli._output import remark, value_text
from xtrack_protocol.decode.meant import did_you_mean, near
from xtrack_protocol.runs import RunState
from xtrack_protocol.storage.answers import name_matches

_NAME: Final = re.compile(
    r"\s*(?:(?P<call>min|max|last)\s*\(\s*)?(?:`(?P<quoted>[^`]+)`|(?P<bare>[^\s<>=!~()'\"`]+)(?:`(?P<rest>[^`]+)`)?)"
)
_OPERATOR: Final = re.compile(r"\s*(<=|>=|!=|==|=|<|>|~)")
_VALUE: Final = re.compile(r"\s*(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<word>[^\s'\"]+))")
_AND: Final = re.compile(r"\s+and(?!\S)", re.IGNORECASE)

_OWN: Final[dict[str, Callable[[RunState], Any]]] = {
    "id": lambda state: state.run_id,
    "name": lambda state: state.name,
    "status": lambda state: state.status,
    "experiment": lambda state: state.experiment_id,
    "duration": lambda state: None if state.duration_ms is None else state.duration_ms / 1000,
    "events": lambda state: state.events,
    "note": lambda state: state.note,
}
"""What a run has by itself."""

_PARTS: Final = ("metrics", "params", "tags", "summary")


@attrs.frozen
class Operand:
    """A value that runs have. ``call``: ``min``, ``max``, or empty. ``part``: one of _PARTS, or empty."""

    text: str
    name: str
    part: str = ""
    call: str = ""

    def of(self, state: RunState) -> Any:
        """Return the run's value; None where it has none."""
        if self.call:
            metric = state.metrics.get(self.name)
            if metric is None:
                return None
            return metric.last.value if self.call == "last" else getattr(metric, self.call)
        if self.part == "metrics" or (not self.part and self.name in state.metrics):
            metric = state.metrics.get(self.name)
            return None if metric is None else metric.last.value
        if not self.part:
            return state.params.get(self.name)
        if self.part == "own":
            return _OWN[self.name](state)
        found: Any = getattr(state, self.part).get(self.name)
        return found


@attrs.frozen
class Condition:
    """What is asked of one value."""

    operand: Operand
    sign: str
    value: str

    def holds(self, state: RunState) -> bool:
        """Whether the run's value is so."""
        found = self.operand.of(state)
        if found is None:
            return False
        if self.sign == "~":
            return name_matches(self.value, found if isinstance(found, str) else value_text(found))
        left, right = _number(found), _number(self.value)
        if left is not None and right is not None:
            if math.isnan(left) and math.isnan(right):  # here, NaN is NaN
                return self.sign == "="
            return bool(_SIGNS[self.sign](left, right))
        if self.sign in {"=", "!="}:
            text = found if isinstance(found, str) else value_text(found)
            return (text == self.value) == (self.sign != "!=")
        return bool(isinstance(found, str) and right is None and _SIGNS[self.sign](found, self.value))


_SIGNS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


def _number(value: Any) -> float | None:
    """Return a value as a number; text too, for params that were given as text."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value) if isinstance(value, str) and "_" not in value else None
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------ reading


class _Bad(ValueError):
    """What is wrong with a text, and at which place."""

    def __init__(self, problem: str, place: int) -> None:
        super().__init__(problem)
        self.place = place


def parse_operand(text: str) -> Operand:
    """Return what a name means. Raises BadParameter."""
    try:
        operand, end = _operand(text, 0)
        if text[end:].strip():
            raise _Bad("a name ends here", end)
    except _Bad as bad:
        raise _complaint(text, bad) from None
    return operand


def parse_conditions(texts: Sequence[str]) -> list[Condition]:
    """Return all conditions of ``texts``. Raises BadParameter, which tells the place."""
    found = []
    for text in texts:
        try:
            found += _conditions(text)
        except _Bad as bad:
            raise _complaint(text, bad) from None
    return found


def _complaint(text: str, bad: _Bad) -> click.BadParameter:
    begin = len(text) - len(text[bad.place :].lstrip())
    before, after = text[:begin], text[begin:]
    where = f"at the end of {text!r}" if not after else f"at {after!r}" + (f" behind {before!r}" if before else "")
    return click.BadParameter(f"{bad} {where} (character {begin + 1})")


def _conditions(text: str) -> list[Condition]:
    found: list[Condition] = []
    place = 0
    while True:
        operand, place = _operand(text, place)
        sign = _OPERATOR.match(text, place)
        if sign is None:
            raise _Bad("expected one of < <= > >= = != ~", place)
        place = sign.end()
        value = _VALUE.match(text, place)
        if value is None or (value["word"] is not None and value["word"][0] in "<>=!~"):
            raise _Bad("expected a number or a text", place)
        told = next(part for part in (value["single"], value["double"], value["word"]) if part is not None)
        found.append(Condition(operand, "=" if sign[1] == "==" else sign[1], told))
        place = value.end()
        if not text[place:].strip():
            return found
        joined = _AND.match(text, place)
        if joined is None:
            raise _Bad("expected 'and', or the end: there is no other way to join conditions,", place)
        place = joined.end()


def _operand(text: str, place: int) -> tuple[Operand, int]:
    match = _NAME.match(text, place)
    if match is None:
        raise _Bad("expected the name of a metric or a param", place)
    end = match.end()
    if match["call"]:
        closing = re.compile(r"\s*\)").match(text, end)
        if closing is None:
            raise _Bad("expected ')'", end)
        end = closing.end()
    name = match["quoted"] or (match["bare"] + (match["rest"] or ""))
    part, dot, rest = name.partition(".")
    told = text[place:end].strip()
    if match["call"]:
        return Operand(told, rest if part == "metrics" and dot and rest else name, "metrics", match["call"]), end
    if match["quoted"] is None and dot and rest and part in _PARTS:
        return Operand(told, rest, part), end
    if match["quoted"] is None and name in _OWN:
        return Operand(told, name, "own"), end
    return Operand(told, name), end


def tell_absent(states: Sequence[RunState], operands: Sequence[Operand]) -> None:
    """Remark on each name that no run has a value of: it may be misspelt, and would change nothing, unnoticed."""
    for operand in dict.fromkeys(operands):
        if states and operand.part != "own" and all(operand.of(state) is None for state in states):
            there = {name for state in states for name in (*state.metrics, *state.params)}
            close = near(operand.name, sorted(there))
            cure = f". {did_you_mean(close)}" if close else ""
            remark(f"xtrack: none of these runs has {operand.text!r}{cure}")


def sort_runs(states: Sequence[RunState], operand: Operand, *, downward: bool) -> list[RunState]:
    """Return runs by a value: numbers, then texts, then NaN and those without one."""
    numbers, texts, without = [], [], []
    for state in states:
        value = operand.of(state)
        number = _number(value)
        if number is not None and not math.isnan(number):
            numbers.append((number, state))
        elif value is not None:
            texts.append((value_text(value), state))
        else:
            without.append(state)
    numbers.sort(key=lambda item: item[0], reverse=downward)
    texts.sort(key=lambda item: item[0], reverse=downward)
    return [state for _, state in (*numbers, *texts)] + without
