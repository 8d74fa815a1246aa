"""What scripts expect of JSON: a value, or what one may be."""

from __future__ import annotations

import re
from typing import Any

from xtrack_conformance.values import shown

Json = dict[str, Any]


def fits(found: Any, wanted: Any, names: dict[str, str], where: str = "") -> str:
    """Say where ``found`` isn't what is wanted; "" where it is. Members that aren't wanted may be there.

    In place of a value may stand one or more of ``{"$bind": NAME}``: any text, kept under the name;
    ``{"$in": [...]}``; ``{"$not": value}``; ``{"$is": value}``, names with ``$`` in it; ``{"$min": N}``;
    ``{"$max": N}``; ``{"$re": "..."}``, found anywhere in a text; ``{"$lacks": TEXT}``, nowhere in it;
    ``{"$has": ITEM}``, of a list; ``{"$begins": TEXT}``; ``{"$any": true}``; ``{"$absent": true}``;
    ``{"$optional": value}``: absent, or that.
    """
    bound: dict[str, str] = {}
    problem = _fits(found, wanted, bound, where or "it")
    if not problem:
        names |= bound
    return problem


def _fits(found: Any, wanted: Any, bound: dict[str, str], where: str) -> str:
    if isinstance(wanted, dict):
        specials = [name for name in wanted if name.startswith("$")]
        if specials:
            return next((p for name in specials if (p := _special(found, name, wanted[name], bound, where))), "")
        if not isinstance(found, dict):
            return f"{where} is {shown(found)}"
        for name, value in wanted.items():
            inner = f"{where}.{name}"
            if name not in found:
                if isinstance(value, dict) and ("$absent" in value or "$optional" in value):
                    continue
                return f"{inner} is missing"
            if problem := _fits(found[name], value, bound, inner):
                return problem
        return ""
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(found, wanted, strict=True))
        return next((p for i, (one, other) in pairs if (p := _fits(one, other, bound, f"{where}[{i}]"))), "")
    if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
        return f"{where} is {shown(found)}, not {shown(wanted)}"
    return ""


def _special(found: Any, special: str, wanted: Any, bound: dict[str, str], where: str) -> str:
    if special == "$bind":
        if not isinstance(found, str):
            return f"{where} is {shown(found)}, no text"
        bound[wanted] = found
        return ""
    if special == "$optional":
        return _fits(found, wanted, bound, where)
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    if special == "$in":
        right = found in wanted
    elif special == "$not":
        right = found != wanted
    elif special == "$begins":
        right = isinstance(found, str) and found.startswith(wanted)
    elif special == "$min":
        right = is_number and found >= wanted
    elif special == "$lacks":
        right = wanted not in str(found)
    elif special == "$has":
        right = isinstance(found, list) and wanted in found
    elif special == "$is":
        right = found == wanted
    elif special == "$max":
        right = is_number and found <= wanted
    elif special == "$re":
        right = isinstance(found, str) and re.search(wanted, found, re.DOTALL) is not None
    else:
        right = special == "$any"
    return "" if right else f"{where} is {shown(found)}, and must be {special[1:]} {shown(wanted)}"


def substitute(value: Any, names: dict[str, str]) -> Any:
    """Return ``value`` with ``@NAME@`` in its texts replaced by what the names stand for."""
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"@{name}@", text)
        return value
    if isinstance(value, dict):
        return {name: substitute(item, names) for name, item in value.items()}
    return [substitute(item, names) for item in value] if isinstance(value, list) else value
