"""``xtrack store``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from xtrack_protocol.cli import _output as out
from xtrack_protocol.cli._runs import examples, local_root, opened, reading
from xtrack_protocol.storage.base import Storage

SECTION = "Upkeep"


@click.group("store", epilog=examples("xtrack store info", "xtrack store backup runs-backup.db", "xtrack store check"))
def command() -> None:
    """Look after a store: what it holds, a copy of it, a check."""


def _size_of(path: Path) -> int:
    """Return the bytes of a file with those beside it that belong to it, or of all files in a folder."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())
    beside = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))
    return sum(file.stat().st_size for file in beside if file.exists())


def store_facts(source: Storage) -> dict[str, Any]:
    """Return what there is to say of a store."""
    states = source.list_runs()
    statuses: dict[str, int] = {}
    for state in states:
        statuses[state.status] = statuses.get(state.status, 0) + 1
    facts: dict[str, Any] = {
        "url": source.url,
        "durability": source.durability,
        "runs": len(states),
        **{f"runs_{name}": count for name, count in sorted(statuses.items())},
        "experiments": len(source.list_experiments()),
        "events": sum(state.events for state in states),
        "lost_events": sum(state.lost_events for state in states),
    }
    root = local_root(source)
    if root is not None:
        from xtrack_protocol.storage.local import LocalStore

        assert isinstance(source, LocalStore)
        index = source.index_file
        facts["spool_bytes"] = _size_of(root / "spool") if (root / "spool").exists() else 0
        facts["index"] = "in memory" if index is None else os.fspath(index)
        facts["index_bytes"] = 0 if index is None else _size_of(index)
    elif source.url.startswith("sqlite:///"):
        facts["bytes"] = _size_of(Path(source.url.removeprefix("sqlite:///")))
    return facts


@command.command("info", epilog=examples("xtrack store info", "xtrack store info --store sqlite:///runs.db --json"))
@reading
def info(store: str | None, as_json: bool) -> None:
    """Show where a store is and what it holds. Sizes are in bytes."""
    with opened(store) as source:
        facts = store_facts(source)
    if as_json:
        out.as_json(facts)
    else:
        out.table(out.columns("what", ("value", "json")), list(facts.items()))


@command.command("backup", epilog=examples("xtrack store backup runs-2024-05-01.db"))
@click.argument("path", type=click.Path(dir_okay=False))
@reading
def backup(path: str, store: str | None, as_json: bool) -> None:
    """Write a consistent copy of a store to PATH, a new SQLite file, while others go on writing.

    `xtrack ls --store sqlite:///PATH` reads it.
    """
    with opened(store) as source:
        source.backup(path)
    url = f"sqlite:///{path}"
    if as_json:
        out.as_json({"path": path, "url": url, "bytes": Path(path).stat().st_size})
    else:
        out.remark(f"written: {path}, {Path(path).stat().st_size} bytes. Read it with --store {url}")


@command.command("check", epilog=examples("xtrack store check", "xtrack store check --store sqlite:///runs.db"))
@reading
def check(store: str | None, as_json: bool) -> int:
    """Check a store, of a local one every checksum. Exit status 1 where something is damaged."""
    with opened(store) as source:
        problems = source.check()
    if as_json:
        out.as_json({"sound": not problems, "problems": problems})
    else:
        out.table(
            out.columns(("result", "status"), "problem"), [["error", text] for text in problems] or [["ok", None]]
        )
    return int(bool(problems))
