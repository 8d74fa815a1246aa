"""Mutants made of the library's source: functions get the code of an edited source while the testee answers, and theirs
back afterwards.

What runs on in between, in threads that wait for their turn, keeps the code it began with. A process of the testee's
own loads the edited source.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tools import Mutation

LIBRARY = Path(str(find_spec("xtrack_protocol").origin)).parent  # and nothing of it is loaded yet
CHILD = Path(__file__).with_name("swapped_child.py")

Edit = tuple[str, str, str]
"""A file below the library's folder, a text that stands in it once, and what stands there then."""


def edited_source(path: Path, edits: tuple[Edit, ...]) -> str:
    """Return the source of a file with its edits."""
    source = path.read_text(encoding="utf-8")
    for file, old, new in edits:
        if path == LIBRARY / file:
            if source.count(old) != 1:
                raise AssertionError(f"{file} holds {old!r} {source.count(old)} times: mend the mutant")
            source = source.replace(old, new)
    return source


def module_name(file: str) -> str:
    """Return the name of the module that a file holds."""
    return f"xtrack_protocol.{file.removesuffix('.py').replace('/', '.')}"


def functions(code: CodeType, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], CodeType]]:
    """Yield the code of each function of a module or class, and where it is found."""
    for item in code.co_consts:
        if isinstance(item, CodeType) and not item.co_name.startswith("<"):
            where = (*path, item.co_name)
            if item.co_flags & 0x1:  # newlocals and optimized: a function; a class body is neither
                yield where, item
            else:
                yield from functions(item, where)


@cache
def replacements(edits: tuple[Edit, ...]) -> list[tuple[FunctionType, CodeType]]:
    """Return the functions that the edits change, each with its new code."""
    found: list[tuple[FunctionType, CodeType]] = []
    for file in dict.fromkeys(file for file, _, _ in edits):
        path = LIBRARY / file
        before = dict(functions(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)))
        after = dict(functions(compile(edited_source(path, edits), str(path), "exec", dont_inherit=True)))
        changed = [where for where, code in after.items() if not alike(code, before[where])]
        assert changed, f"the edits of {file} change no function"
        found += [(resolve(importlib.import_module(module_name(file)), where), after[where]) for where in changed]
    return found


def alike(one: CodeType, other: CodeType) -> bool:
    """Whether two pieces of code do the same, wherever in the file they stand."""
    return _content(one) == _content(other)


def _content(code: CodeType) -> tuple[Any, ...]:
    constants = [_content(item) if isinstance(item, CodeType) else (type(item), repr(item)) for item in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants


def resolve(module: ModuleType, where: tuple[str, ...]) -> FunctionType:
    """Return the function that stands there."""
    found: Any = module
    for name in where:
        found = vars(found)[name]
    if isinstance(found, property):
        found = found.fget
    found = getattr(found, "__func__", found)
    assert isinstance(found, FunctionType), where
    return found


@contextlib.contextmanager
def swapped(edits: tuple[Edit, ...]) -> Iterator[None]:
    """Have the functions that the edits change do so."""
    changed = replacements(edits)
    before = [function.__code__ for function, _ in changed]
    for function, code in changed:
        function.__code__ = code
    try:
        yield
    finally:
        for (function, _), code in zip(changed, before, strict=True):
            function.__code__ = code


def swapping(name: str, edits: tuple[Edit, ...], prefix: str = "emit", part: str = "as_emitter") -> Mutation:
    """Make a mutant of edits: of the part of the testee that answers for ``prefix``."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.__init__

        def begin(self: Any) -> None:
            original(self)
            self.parts[prefix] = Swapped(importlib.import_module(part).Part(), name, edits)

        module.Testee.__init__ = begin

    return mutate


class Swapped:
    """Answers as a part does, with the edits."""

    def __init__(self, part: Any, name: str, edits: tuple[Edit, ...]) -> None:
        self.part = part
        self.name = name
        self.edits = edits

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request."""
        if request["op"].endswith(".process"):
            process = importlib.import_module("as_process")
            child, process.CHILD = process.CHILD, [str(CHILD), self.name]
            try:
                return dict(self.part.answer(request))
            finally:
                process.CHILD = child
        with swapped(self.edits):
            return dict(self.part.answer(request))


# ------------------------------------------------------------------------------------------ a process of its own


class Finder(MetaPathFinder):
    """Finds the edited modules."""

    def __init__(self, edits: tuple[Edit, ...]) -> None:
        self.files = {module_name(file): LIBRARY / file for file, _, _ in edits}
        self.edits = edits

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of an edited module."""
        file = self.files.get(fullname)
        return file and spec_from_file_location(fullname, file, loader=Loader(fullname, str(file), self.edits))


class Loader(SourceFileLoader):
    """Loads a module of edited source, without a cache of its code."""

    def __init__(self, name: str, path: str, edits: tuple[Edit, ...]) -> None:
        super().__init__(name, path)
        self.edits = edits

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the edited source."""
        path = Path(self.path)
        code: CodeType = compile(edited_source(path, self.edits), str(path), "exec", dont_inherit=True)
        return code


def load_edited(edits: tuple[Edit, ...]) -> None:
    """Have the library's modules load edited from now on."""
    sys.meta_path.insert(0, Finder(edits))
