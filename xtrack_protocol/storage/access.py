"""Who may do what with a run: its owner, and whom else it was opened to."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

import attrs

OWNER_MAX: Final = 200
"""Bytes of UTF-8 in the name of an owner: it stands in each line of a log that is about them. spec: SEC-1"""

_UNFIT: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS: Final = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the direction of text: with them one name can be made to look like another."""


def unfit_name(name: str, most: int = OWNER_MAX) -> str | None:
    """Return what is wrong with the name of an owner or experiment; None for a good one. spec: SEC-1.1"""
    if not name:
        return "is empty"
    if name != name.strip():
        return "begins or ends with white space"
    if any(unicodedata.category(char) in _UNFIT or char in _TURNS for char in name):
        return "holds control characters"
    if len(name.encode()) > most:
        return f"has {len(name.encode())} bytes of UTF-8, more than {most}"
    return None


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


def _check_names(_instance: object, attribute: attrs.Attribute[frozenset[str]], names: frozenset[str]) -> None:
    for name in names:
        problem = unfit_name(name)
        if problem:
            raise ValueError(f"{attribute.name}: the name {name[:OWNER_MAX]!a} {problem}")


def _check_owner(_instance: object, _attribute: object, name: str | None) -> None:
    problem = None if name is None else unfit_name(name)
    if problem:
        raise ValueError(f"owner: the name {(name or '')[:OWNER_MAX]!a} {problem}")


@attrs.frozen(kw_only=True)
class RunAccess:
    """Who may read and write a run. ``owner`` None: nobody's, made where no keys were asked for. spec: SEC-4

    ``public``: whoever may read at all may read it. ``readers`` and ``writers``: owners that it was opened to; a
    writer may read as well, and isn't named among the readers too. Raises ValueError for names that no owner can have.
    """

    owner: str | None = attrs.field(default=None, validator=_check_owner)
    public: bool = False
    readers: frozenset[str] = attrs.field(default=frozenset(), converter=_names, validator=_check_names)
    writers: frozenset[str] = attrs.field(default=frozenset(), converter=_names, validator=_check_names)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "readers", self.readers - self.writers)

    def may_read(self, owner: str) -> bool:
        """Whether ``owner`` may read the run. spec: SEC-4.3"""
        return self.public or owner == self.owner or owner in self.readers or owner in self.writers

    def may_write(self, owner: str) -> bool:
        """Whether ``owner`` may write to the run. spec: SEC-4.4"""
        return owner == self.owner or owner in self.writers


NOBODYS: Final = RunAccess()
"""What holds for a run that nothing was said about."""
