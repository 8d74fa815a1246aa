"""Mutants of the decoder that read numbers otherwise: how they are spelled, how they are rounded, where they end."""

from __future__ import annotations

import math
import re
import sys
from decimal import Decimal
from typing import Any

from tools import Json, Mutation, always_misreads, decoding, distorts, everywhere, misreads, refuses_text
from tools_slots import Number, coerces, hands_on, in_slots, parse, refuses_in_slots, unparse

from xtrack_conformance.slots import Slot

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
_STRING = r'"(?:[^"\\]|\\.)*"'
_WORD = re.compile(_STRING + r'|[^\s\[\]{}:,"]+', re.DOTALL)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_C_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<hex>0x[0-9a-f]+)|(?P<word>inf(?:inity)?|nan)|(?P<dec>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?))",
    re.IGNORECASE,
)


def _in_words(change: Any) -> Any:
    """Return a function that replaces the numbers and bare words of a text, those in its strings not."""

    def apply(payload: bytes) -> bytes:
        text = payload.decode("utf-8", "surrogateescape")
        text = _WORD.sub(lambda found: found[0] if found[0][0] == '"' else change(found[0]), text)
        return text.encode("utf-8", "surrogateescape")

    return apply


def _numbers_of(payload: bytes) -> list[str]:
    """Return the numbers in a text."""
    words = _WORD.findall(payload.decode("utf-8", "replace"))
    return [word for word in words if _JSON_NUMBER.fullmatch(word)]


def _refuses_number(applies: Any, class_: str = "out_of_range") -> Mutation:
    """Make a mutant that refuses a payload for how one of its numbers is written."""
    return refuses_text(lambda payload: any(applies(number) for number in _numbers_of(payload)), class_)


def _as_json(number: float) -> str:
    if math.isnan(number):
        return '"NaN"'
    if math.isinf(number):
        return '"Infinity"' if number > 0 else '"-Infinity"'
    return repr(number)


def _python(word: str) -> str:
    """Return a bare word as Python's float() reads it."""
    if _JSON_NUMBER.fullmatch(word):
        return word
    try:
        return _as_json(float(word))
    except ValueError:
        return word


def _c(word: str) -> str:
    """Return a bare word as C's strtod() reads its beginning; the rest is skipped."""
    if _JSON_NUMBER.fullmatch(word):
        return word
    found = _C_NUMBER.match(word)
    if not found:
        return "0" if word[0] in "+-" else word
    minus = "-" if found["sign"] == "-" else ""
    if found["hex"]:
        return minus + str(int(found["hex"], 16))
    return _as_json(float(minus + (found["word"] or found["dec"])))


def _overflowing(word: str) -> str:
    """Return a number beyond binary64 as the infinity that a conversion makes of it."""
    return _as_json(float(word)) if _JSON_NUMBER.fullmatch(word) and math.isinf(float(word)) else word


def _is_underflow(number: str) -> bool:
    return float(number) == 0 and re.search(r"[1-9]", re.split("[eE]", number)[0]) is not None


def _digits(number: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", number) is not None


def _rounded(change: Any) -> Mutation:
    """Make a mutant that reads the numbers in number slots as ``change`` rounds their exact values."""

    def fit(_slot: Slot, value: Any) -> Any:
        if not isinstance(value, Number) or not math.isfinite(float(value.text)) or _digits(value.text):
            return value
        if len(re.split("[eE]", value.text)[-1]) > 5 and re.search("[eE]", value.text):
            return value  # an exponent of many digits, which a Decimal has no room for
        return Number(repr(change(Decimal(value.text), float(value.text))))

    return always_misreads(lambda payload: _changed(payload, "number", fit))


def _changed(payload: bytes, kind: str, fit: Any) -> bytes:
    try:
        tree = parse(payload)
    except ValueError:
        return payload
    return unparse(in_slots(lambda slot, value: fit(slot, value) if slot.kind == kind else value, tree))


def _down(exact: Decimal, nearest: float) -> float:
    """Cut off what binary64 has no room for."""
    return math.nextafter(nearest, 0.0) if abs(Decimal(nearest)) > abs(exact) else nearest


def _ties_up(exact: Decimal, nearest: float) -> float:
    """Round a tie away from zero."""
    further = math.nextafter(nearest, math.copysign(math.inf, nearest))
    return further if Decimal(further) - exact == exact - Decimal(nearest) else nearest


def _beyond_largest(number: str) -> bool:
    """Say whether a number is more than the largest, before it is rounded to it."""
    largest = Decimal(2**1024 - 2**971)
    return math.isfinite(float(number)) and abs(float(number)) > 1e308 and abs(Decimal(number)) > largest


def _saturated(_slot: Slot, value: Any) -> Any:
    """Return an integer, or the end of int64 that lies nearest to it."""
    if not isinstance(value, Number) or math.isnan(float(value.text)):
        return value
    number = value.value
    return Number(str(max(INT64_MIN, min(INT64_MAX, number)))) if not INT64_MIN <= number <= INT64_MAX else value


def _kept_exactly(honest: Any, payload: bytes, reader: str, module: Any) -> Json:
    """Keep an integer beyond int64, as Python has integers of any size."""
    answer: Json = honest(payload, reader)
    big = {
        float(number): int(number) for number in _numbers_of(payload) if _digits(number) and abs(int(number)) >= 2**63
    }
    if "event" not in answer or not big:
        return answer
    keep = everywhere(lambda leaf: big.get(leaf, leaf) if isinstance(leaf, float) else leaf)
    return {"event": module.to_tagged(keep(module.from_tagged(answer["event"])))}


def _seconds(event: Json) -> None:
    """Take a time of ten digits for seconds."""
    if 10**9 <= event["m"]["ts"] < 10**10:
        event["m"]["ts"] *= 10**6


def _in_32_bits(value: Any) -> Any:
    return (value + 2**31) % 2**32 - 2**31 if type(value) is int else value


def _memory(change: Any) -> Mutation:
    """Make a mutant that hands on another memory of an accelerator."""
    return hands_on("memory", change)


SPELLED: dict[str, Mutation] = {
    "numbers-by-python": misreads(_in_words(_python)),
    "numbers-by-c": misreads(_in_words(_c)),
    "exponents-refused": _refuses_number(lambda number: "e" in number.lower(), "bad_json"),
    "capital-exponents-refused": _refuses_number(lambda number: "E" in number, "bad_json"),
    "numbers-of-40-characters": _refuses_number(lambda number: len(number) > 40, "bad_json"),
    "integers-in-digits-only": refuses_in_slots(
        "integer", lambda _, value: isinstance(value, Number) and not _digits(value.text)
    ),
    "version-in-digits-only": refuses_text(lambda data: re.search(rb'"v":1[.eE]', data) is not None, "bad_envelope"),
    "strings-of-numbers-by-python": coerces(
        "number", lambda _, value: Number(_python(value)) if isinstance(value, str) else value
    ),
}
"""How numbers are spelled."""

ROUNDED: dict[str, Mutation] = {
    "floats-rounded-down": _rounded(_down),
    "ties-away-from-zero": _rounded(_ties_up),
    "subnormals-are-zero": hands_on(
        "number", lambda value: 0.0 if isinstance(value, float) and abs(value) < 2.0**-1022 else value
    ),
    "fractions-dropped": hands_on(
        "number", lambda value: int(value) if isinstance(value, float) and math.isfinite(value) else value
    ),
    "beyond-largest-refused-unrounded": _refuses_number(_beyond_largest),
    "exponents-below-308": _refuses_number(lambda number: 1e308 <= abs(float(number)) < math.inf),
    "overflow-is-infinity": misreads(_in_words(_overflowing)),
    "underflow-refused": _refuses_number(_is_underflow),
    "infinities-are-the-largest": distorts(
        everywhere(lambda leaf: math.copysign(sys.float_info.max, leaf) if leaf in {math.inf, -math.inf} else leaf)
    ),
    "integers-saturate": coerces("integer", _saturated),
    "integers-of-any-size": decoding(_kept_exactly),
    "integers-in-32-bits": hands_on("integer", _in_32_bits),
    "integers-unsigned": refuses_in_slots(
        "integer", lambda _, value: isinstance(value, Number) and float(value.text) < 0, "out_of_range"
    ),
    "least-integer-refused": _refuses_number(lambda number: _digits(number) and int(number) == INT64_MIN),
    "seconds-guessed": distorts(_seconds),
    "memory-becomes-text": _memory(str),
    "memory-in-whole-bytes": _memory(lambda value: int(value) if isinstance(value, float) else value),
    "memory-of-nan-is-a-number": _memory(lambda value: math.nan if value == "NaN" else value),
}
"""What numbers become."""

MUTANTS: dict[str, Mutation] = SPELLED | ROUNDED
