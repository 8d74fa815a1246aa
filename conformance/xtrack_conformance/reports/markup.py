"""HTML that can't be broken by what it shows: every text is escaped unless it was made here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

VOID: Final = frozenset({"meta", "input", "br"})


class Markup(str):
    """A text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Markup:
    """Return an element. ``class_`` is class, ``data_x`` data-x; an attribute that is None or False is left out."""
    told = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        told.append(f" {attribute}" if value is True else f' {attribute}="{text(value)}"')
    opening = f"<{name}{''.join(told)}>"
    return Markup(opening if name in VOID else f"{opening}{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Return children one after the other."""
    found = []
    for child in children:
        if child is None:
            continue
        found.append(text(child) if isinstance(child, str) else join(child))
    return Markup("".join(found))


def text(value: str) -> Markup:
    """Return a text as HTML. What a reader couldn't see, or would see as something else, is written as an escape."""
    return value if isinstance(value, Markup) else Markup(html.escape(visible(value)))


def visible(value: str) -> str:
    """Return a text without controls, halves of surrogate pairs and marks that turn the direction of writing."""
    if value.isprintable():
        return value
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in value)


def prose(value: str) -> Markup:
    """Return a clause's text: code in backticks stays code, a link its words, emphasis is dropped."""
    plain = re.sub(r"\[([^\[\]]*)\]\([^()\s]*\)", r"\1", value)
    pieces = plain.split("`")
    return join(
        tag("code", piece) if number % 2 and number < len(pieces) - 1 else re.sub(r"\*+(\w[^*]*)\*+", r"\1", piece)
        for number, piece in enumerate(pieces)
    )
