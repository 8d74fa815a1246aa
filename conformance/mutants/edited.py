"""Mutants made of the reference's source: a line of it is changed, and what depends on it is loaded anew.

The copies are the mutant's own: what stands in ``sys.modules`` is the same before and after.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tools import TESTEE, Mutation

import xtrack_protocol

HERE = Path(__file__).parent
LIBRARY = Path(xtrack_protocol.__file__).parent

SHARED = ("StreamId",)
"""Classes whose instances are compared with those of modules that are not loaded anew."""

Edit = tuple[str, str, str]
"""A file, below the library's folder or beside the testee; a text that stands in it once; what stands there then."""


class _Loader(SourceFileLoader):
    """Loads a module whose source has been edited, without a cache of its code."""

    def __init__(self, name: str, path: str, edits: list[Edit]) -> None:
        super().__init__(name, path)
        self.edits = edits

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        for _, old, new in self.edits:
            if source.count(old) != 1:
                raise AssertionError(f"{self.path} holds {old!r} {source.count(old)} times: mend the mutant")
            source = source.replace(old, new)
        code: CodeType = compile(source, self.path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run the edited source. What it defines and others use as well stays theirs."""
        super().exec_module(module)
        for name in SHARED:
            if name in vars(module):
                setattr(module, name, getattr(importlib.import_module("xtrack_protocol.runs.values"), name))


class _Finder:
    """Finds the edited modules."""

    def __init__(self, edits: dict[str, list[Edit]]) -> None:
        self.edits = edits

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec of an edited module."""
        if name not in self.edits:
            return None
        file = self.edits[name][0][0]
        found = TESTEE.parent / file if "/" not in file else LIBRARY / file
        loader = _Loader(name, str(found), self.edits[name])
        return importlib.util.spec_from_file_location(name, found, loader=loader)


def read_edits(file: str) -> dict[str, list[Edit]]:
    """Return the edits that make each mutant of ``file``, by its name."""
    found: dict[str, list[Edit]] = {}
    texts: dict[str, list[str]] = {}
    edits: list[Edit] = []
    for line in [*(HERE / f"{file}.edits").read_text(encoding="utf-8").splitlines(), "@ "]:
        mark, rest = line[:1], line[1:]
        if mark in {"*", "@"} and texts:
            edits.append((texts["@"][0], "\n".join(texts["-"]), "\n".join(texts["+"])))
            texts = {}
        if mark == "*":
            found[rest.strip()] = edits = []
        elif mark == "@":
            texts = {"@": [rest.strip()], "-": [], "+": []}
        elif mark in {"-", "+"}:
            texts[mark].append(rest)
        elif mark not in {"", "#"}:
            raise ValueError(f"{file}.edits: a line begins with {mark!r}")
    return found


@contextmanager
def _loaded_anew(names: Iterable[str]) -> Iterator[None]:
    """Forget the modules of these names, and afterwards what has been loaded in their place."""
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    places = [(sys.modules[parent], child) for parent, _, child in map(_divided, kept) if parent in sys.modules]
    attributes = [(parent, child, getattr(parent, child)) for parent, child in places]
    try:
        yield
    finally:
        sys.modules.update(kept)
        for parent, child, value in attributes:
            setattr(parent, child, value)


def _divided(name: str) -> tuple[str, str, str]:
    return name.rpartition(".")


def edited(prefix: str, part: str, dependents: Mapping[str, Sequence[str]], edits: Sequence[Edit]) -> Mutation:
    """Make a mutant whose ``part``, which answers for the ops of ``prefix``, is of edited source.

    ``dependents``: of each file the modules of the library that are loaded anew, in any order, its own included. All
    others are shared with the reference, classes and all.
    """

    def mutate(module: ModuleType) -> None:
        importlib.import_module(part)  # with all that it needs, so that nothing else is loaded below
        by_name: dict[str, list[Edit]] = {}
        anew: dict[str, None] = {}
        for edit in edits:
            name = edit[0].removesuffix(".py").replace("/", ".")
            by_name.setdefault(f"xtrack_protocol.{name}" if "/" in edit[0] else name, []).append(edit)
            anew |= dict.fromkeys(f"xtrack_protocol.{name}" for name in dependents.get(edit[0], ()))
        finder = _Finder(by_name)
        sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
        try:
            with _loaded_anew([*anew, part]):
                answers = importlib.import_module(part)
        finally:
            sys.meta_path.remove(finder)  # type: ignore[arg-type]
        original = module.Testee.__init__

        def begin(self: Any) -> None:
            original(self)
            self.parts[prefix] = answers.Part()

        module.Testee.__init__ = begin

    return mutate
