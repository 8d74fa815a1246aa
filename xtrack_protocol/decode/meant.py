"""Which names may have been meant by one that isn't there."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

_LISTED: Final = 5


def near(asked: str, there: Sequence[str]) -> list[str]:
    """Return which names may have been meant, three at most."""
    by_part = [name for name in there if asked and asked.lower() in name.lower()]
    return [*dict.fromkeys([*get_close_matches(asked, there, n=3), *by_part])][:3]


def did_you_mean(names: Sequence[str]) -> str:
    """Ask whether one of ``names`` was meant."""
    return f"Did you mean {' or '.join(map(repr, names))}?"


def near_or_some(asked: str, there: Sequence[str]) -> str:
    """Say which names may have been meant, or else some that there are."""
    found = near(asked, there)
    if found:
        return did_you_mean(found)
    shown = ", ".join(map(repr, there[:_LISTED]))
    more = f" and {len(there) - _LISTED} more" if there[_LISTED:] else ""
    return f"There {'is' if len(there) == 1 else 'are'} {shown}{more}"
