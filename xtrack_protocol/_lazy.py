"""Names of a package that are imported when they are asked for first, as PEP 562 has it.

A training imports the package at every start, and needs a part of it. Type checkers read the imports that a package
has below ``if TYPE_CHECKING``; a test holds its table to them.

A process that forks while another thread imports leaves its child waiting for that thread, which doesn't exist there.
So a fork waits for what is being imported here. Threads of ours must come to no name first: see tests/test_imports.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_under_way: Final[list[str]] = []
"""Modules that are being imported for a name of theirs, each by a thread. Each step on the list is atomic by itself."""


def lazily(
    module: str, names: Mapping[str, Iterable[str]], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package, or a module.

    ``names``: by module, what comes from there; modules are named from the package on, as in ``"wire.codec"``.
    ``modules``: more of them that are the package's attributes without anybody's import of them.
    A name is looked up once and then stands in the module.
    """
    package = module if hasattr(sys.modules[module], "__path__") else module.rpartition(".")[0]
    where = {name: place for place, members in names.items() for name in members}
    below = {place for place in (*names, *modules) if package == module and "." not in place}

    def getattribute(name: str) -> Any:
        if name in where:
            value = getattr(imported(f"{package}.{where[name]}"), name)
        elif name in below:
            value = imported(f"{package}.{name}")
        else:
            raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules[module])
        setattr(sys.modules[module], name, value)
        return value

    def directory() -> list[str]:
        return sorted({*vars(sys.modules[module]), *where, *below})

    return getattribute, directory


def imported(name: str) -> ModuleType:
    """Return a module, imported where it isn't yet; a fork in another thread waits for it."""
    _under_way.append(name)
    try:
        return import_module(name)
    finally:
        _under_way.remove(name)


def _wait_for_imports() -> None:
    """Wait until no other thread is importing: to import the same is to wait for it."""
    for name in tuple(_under_way):
        import_module(name)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_imports)
