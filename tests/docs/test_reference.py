"""The reference names what the package has, no more and no less.

Lists between ``<!-- generated: NAME -->`` and ``<!-- end -->`` are made from the package; write them again with

    python tests/docs/test_reference.py
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import xtrack_protocol
from xtrack_protocol import Run, Tracker, errors

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

MODULES = (
    "ir",
    "wire",
    "session",
    "runs",
    "errors",
    "limits",
    "settings",
    "net",
    "spool",
    "sender",
    "client",
    "transport",
    "storage",
    "emitter",
    "collector",
    "server",
    "views",
    "integrations.trackio",
    "testing",
)

_GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def public_names(module_name: str) -> list[str]:
    """Return what a module offers: ``__all__``, else what it defines itself, public."""
    module = importlib.import_module(f"xtrack_protocol.{module_name}" if module_name else "xtrack_protocol")
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    source = inspect.getsource(module)
    defined = re.findall(r"^(?:class|def) (\w+)|^([A-Za-z]\w*)(?:: .+)? = ", source, re.MULTILINE)
    return sorted({name for pair in defined for name in pair if name and not name.startswith("_")})


def modules_table() -> str:
    lines = ["| Module | Names |", "|---|---|"]
    for name in ("", *MODULES):
        title = f"xtrack_protocol.{name}" if name else "xtrack_protocol"
        lines.append(f"| `{title}` | {', '.join(f'`{item}`' for item in public_names(name))} |")
    return "\n".join(lines)


def error_tree() -> str:
    """Return the tree in the docstring of the errors' module, which a test compares with the classes."""
    doc = inspect.getdoc(errors) or ""
    tree = doc.partition("::\n\n")[2].partition("\n\nEvery")[0]
    return f"```text\n{inspect.cleandoc(tree)}\n```"


GENERATED: dict[str, Callable[[], str]] = {"modules": modules_table, "errors": error_tree}


def regenerate(text: str) -> str:
    return _GENERATED.sub(lambda match: f"{match[1]}{GENERATED[match[2]]()}\n{match[3]}", text)


@pytest.mark.parametrize("page", ["modules.md", "errors.md"])
def test_generated_lists_are_up_to_date(page: str) -> None:
    text = (REFERENCE / page).read_text(encoding="utf-8")
    assert _GENERATED.search(text)
    assert regenerate(text) == text, "write it again: this module's docstring says how"


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    lines = error_tree().splitlines()[1:-1]
    path: list[str] = []
    parents: dict[str, str | None] = {}
    for line in lines:
        match = re.match(r"^([│├└─ ]*)(\w+)", line)
        assert match, line
        level = len(match[1]) // 4
        path[level:] = [match[2]]
        parents[match[2]] = path[level - 1] if level else None
    classes = {
        name: cls
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and issubclass(cls, errors.XTrackError) and not name.startswith("_")
    }
    assert set(parents) == set(classes)
    for name, parent in parents.items():
        if parent is not None:
            assert issubclass(classes[name], classes[parent]), f"{name} is no {parent}"


def test_every_public_module_is_listed() -> None:
    folder = Path(xtrack_protocol.__file__).parent
    found = {path.stem for path in folder.iterdir() if not path.name.startswith("_") and path.suffix in {"", ".py"}}
    commands = {"cli", "decode"}  # programs, not libraries
    assert found - commands == {name.partition(".")[0] for name in MODULES}


def members(cls: type) -> dict[str, Any]:
    found = {name: item for base in reversed(cls.__mro__[:-1]) for name, item in vars(base).items()}
    return {name: item for name, item in found.items() if not name.startswith("_")}


HOOKS = {"end_at_exit", "end_at_signal", "hear_signal", "leave_at_signal"}
"""Methods that the process's hooks call."""


@pytest.mark.parametrize("cls", [Tracker, Run])
def test_the_emitters_page_names_each_method_and_argument(cls: type) -> None:
    text = (REFERENCE / "emitter.md").read_text(encoding="utf-8")
    for name, item in members(cls).items():
        if name in HOOKS:
            continue
        function = item.__func__ if isinstance(item, staticmethod) else item
        if not inspect.isfunction(function):
            assert f"`{name}`" in text, name
            continue
        section = re.search(rf"^### [^\n]*\b{name}\(.*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, f"no section on {cls.__name__}.{name}"
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name != "self":
                assert f"`{parameter.name}`" in section[0] or f"`**{parameter.name}`" in section[0], (
                    f"{name}({parameter.name})"
                )


def test_the_emitters_page_names_nothing_else() -> None:
    text = (REFERENCE / "emitter.md").read_text(encoding="utf-8")
    known = {*members(Tracker), *members(Run), *xtrack_protocol.__all__}
    for signature in re.findall(r"^### (.+)$", text, re.MULTILINE):
        for name in re.findall(r"(\w+)\(", signature):
            assert name in known, name


if __name__ == "__main__":
    for path in sorted(REFERENCE.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = regenerate(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"written: {path}")
