"""What importing brings along, seen in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xtrack_protocol

BASE = {"_lazy", "_terminal", "_value", "_decode_limits"}  # below all layers, or a part of one
CORE = ["errors", "limits", "ir", "wire", "session", "runs"]
SCRIPT = """
import sys
import attrs, msgspec, msgspec.json, msgspec.msgpack, msgspec.inspect, typing_extensions  # bring their own
import json, zlib, pathlib, struct, types
package = types.ModuleType("xtrack_protocol")  # without what the package's own __init__ brings
package.__path__ = [{path!r}]
sys.modules["xtrack_protocol"] = package
before = set(sys.modules)
import {module}
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def brought_by(module: str) -> set[str]:
    """The modules that ``import module`` alone adds to what our own dependencies bring."""
    script = SCRIPT.format(module=module, path=str(Path(xtrack_protocol.__file__).parent))
    result = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return set(result.stdout.split())


def all_modules_of(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )


def test_the_package_brings_nothing_heavy() -> None:
    heavy = {"sqlite3", "asyncio", "ssl", "cattrs", "http", "multiprocessing", "concurrent.futures", "xml", "email"}
    heavy |= {f"xtrack_protocol.{name}" for name in ("collector", "storage", "cli", "testing")}
    assert not heavy & all_modules_of("xtrack_protocol")


@pytest.mark.parametrize("name", CORE)
def test_the_core_does_no_io(name: str) -> None:
    brought = brought_by(f"xtrack_protocol.{name}")
    impure = {"socket", "_socket", "select", "selectors", "threading", "asyncio", "sqlite3", "ssl", "subprocess"}
    impure |= {"signal", "tempfile", "multiprocessing", "cattrs", "fcntl", "logging", "random"}
    assert not impure & brought, impure & brought


@pytest.mark.parametrize("name", CORE)
def test_a_layer_brings_no_layer_above_it(name: str) -> None:
    ours = {
        module.split(".")[1]
        for module in brought_by(f"xtrack_protocol.{name}")
        if module.startswith("xtrack_protocol.")
    }
    assert ours - BASE <= set(CORE[: CORE.index(name) + 1])


@pytest.mark.parametrize("name", ["emitter", "transport", "spool"])
def test_what_an_emitter_needs_brings_no_cattrs_and_no_store(name: str) -> None:
    assert not {"cattrs", "sqlite3", "asyncio", "ssl", "xtrack_protocol.storage"} & all_modules_of(
        f"xtrack_protocol.{name}"
    )


def test_the_slow_half_of_the_codec_is_imported_when_it_is_needed() -> None:
    assert "xtrack_protocol.wire._slow" not in all_modules_of("xtrack_protocol.wire")


def test_types_are_looked_into_when_modules_are_imported() -> None:
    """msgspec looks into a type when it is decoded first; a thread, or a forked child, in the middle of it crashes."""
    for path in Path(xtrack_protocol.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "msgspec.json.decode",
                "msgspec.msgpack.decode",
            }:
                typed = [keyword.arg for keyword in node.keywords]
                assert "type" not in typed, f"{path}:{node.lineno}: make a Decoder of it, beside the type"
