"""What differs between expected and got, part by part."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Final

Part = tuple[bool, str]
"""A piece of a text, and whether it differs."""

TOKENS_MAX: Final = 700
"""Tokens of a text that are compared: the time goes with the square."""

ALIKE: Final = 0.35
"""Texts less alike than this differ as a whole: marks all over help nobody."""

_TOKEN: Final = re.compile(r"\w+|\s+|[^\w\s]")
_SPACING: Final = frozenset({" ", "'", '"'})
"""Tokens that a value's form has and the value hasn't: a frame's JSON has them elsewhere than an event's text."""


def diff(expected: str, got: str) -> tuple[list[Part], list[Part]]:
    """Return both texts as parts. Lists of frames, which ``;`` separates, have a line for each."""
    if "; " in expected or "; " in got:
        return _compare(_lines(expected), _lines(got), alike=0.0)
    return _compare(_TOKEN.findall(expected), _TOKEN.findall(got), alike=ALIKE)


def _compare(one: Sequence[str], other: Sequence[str], alike: float) -> tuple[list[Part], list[Part]]:
    ours, theirs = ([index for index, token in enumerate(side) if token not in _SPACING] for side in (one, other))
    nothing = [(False, "".join(one))], [(False, "".join(other))]
    if max(len(ours), len(theirs)) > TOKENS_MAX:
        return nothing
    matcher = difflib.SequenceMatcher(
        None, [one[index] for index in ours], [other[index] for index in theirs], autojunk=False
    )
    if matcher.ratio() < alike:
        return nothing
    left = {ours[n] for kind, i1, i2, _, _ in matcher.get_opcodes() if kind != "equal" for n in range(i1, i2)}
    right = {theirs[n] for kind, _, _, j1, j2 in matcher.get_opcodes() if kind != "equal" for n in range(j1, j2)}
    return _parts(one, left), _parts(other, right)


def _parts(tokens: Sequence[str], differing: set[int]) -> list[Part]:
    """Return tokens as parts. Spacing differs where what stands on both of its sides does."""
    marks = [index in differing for index in range(len(tokens))]
    for index, token in enumerate(tokens):
        if token in _SPACING:
            after = next((marks[n] for n in range(index + 1, len(tokens)) if tokens[n] not in _SPACING), False)
            marks[index] = index > 0 and marks[index - 1] and after
    groups = groupby(zip(marks, tokens, strict=True), key=lambda entry: entry[0])
    return [(differs, "".join(token for _, token in group)) for differs, group in groups]


def _lines(value: str) -> list[str]:
    return [f"{item}\n" for item in value.split("; ")]
