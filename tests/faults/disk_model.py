"""What a disk may hold after the power went: made of the calls that a real process was seen to do.

A file's content is certain up to its last fsync or fdatasync; each write since then may be there, be missing, or be
there in some of its sectors, whatever became of earlier and later ones; its length may be there without its content,
which is zeros then. A name is certain once its directory was synced. Nothing is assumed that POSIX doesn't promise:
syncing a file says nothing of its name, and calls on different files are in no order.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from faults.straced import Call

RECORDED = (
    *("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "openat", "lseek", "mkdir", "rename", "unlink", "rmdir"),
    *("link", "renameat2", "unlinkat", "writev", "pwritev", "fallocate", "mknod", "symlink", "copy_file_range"),
)
_UNKNOWN = {"link", "renameat2", "unlinkat", "writev", "pwritev", "fallocate", "symlink", "copy_file_range"}

Mode = Literal["nothing", "random", "prefix", "lengths", "names", "killed"]
MODES: tuple[Mode, ...] = ("nothing", "random", "random", "random", "prefix", "lengths", "names", "killed")
"""How a state is made. What wasn't synced is all lost; or each call by itself is lost, kept or torn; or the first ones
are kept; or lengths without their content; or names and no content. ``killed`` is the death of the process alone:
everything is kept, but of the last write only a part.
"""


@dataclass(frozen=True)
class Write:
    """Bytes at a place of a file."""

    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        """Do it."""
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True)
class Truncate:
    """A file's new length."""

    size: int

    def apply(self, content: bytearray) -> None:
        """Do it."""
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


@dataclass
class File:
    """An inode: what is certain of it, and what isn't."""

    certain: bytes = b""
    pending: list[Write | Truncate] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True)
class Naming:
    """A change of a directory: ``target`` is the File or "folder" that appears, None where a name goes."""

    name: str
    target: File | str | None
    old_name: str | None = None


@dataclass
class Disk:
    """A disk while calls are done to it."""

    root: Path
    names: dict[str, File] = field(default_factory=dict)
    """As processes see them."""
    certain: list[Naming] = field(default_factory=list)
    pending: dict[str, list[Naming]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    _positions: dict[int, int] = field(default_factory=dict)
    _appending: set[int] = field(default_factory=set)
    _last_write: tuple[File, Write] | None = None

    def do(self, call: Call) -> bool:
        """Do what a call did; return whether it changed anything."""
        self._last_write, before = None, self._last_write
        changed = self._do(call)
        if not changed:
            self._last_write = before
        return changed

    def _do(self, call: Call) -> bool:
        if call.result < 0:
            return False
        if call.name == "openat":
            return self._open(call)
        if call.name in {"mkdir", "rename", "unlink", "rmdir"}:
            return self._rename(call)
        path = call.paths[0].removesuffix(" (deleted)") if call.paths else ""
        if call.name == "write" and path.startswith("pipe:"):
            self.told += call.texts[0].decode().split("\n")[:-1]
            return True
        if not self._is_ours(path):
            return False
        if call.name in _UNKNOWN:
            raise AssertionError(f"the model knows nothing of {call}")
        return self._change(call, path)

    def _is_ours(self, path: str) -> bool:
        return path == str(self.root) or path.startswith(f"{self.root}{os.sep}")

    def _open(self, call: Call) -> bool:
        path = call.texts[0].decode()
        if not self._is_ours(path):
            return False
        fd = call.result
        self._positions[fd] = 0
        (self._appending.add if "O_APPEND" in call.arguments else self._appending.discard)(fd)
        if "O_CREAT" in call.arguments and path not in self.names:
            file = self.names[path] = File()
            self._name(path, Naming(path, file))
            return True
        if "O_TRUNC" in call.arguments and path in self.names:
            self._add(self.names[path], Truncate(0))
            return True
        return False

    def _rename(self, call: Call) -> bool:
        paths = [text.decode() for text in call.texts]
        if not self._is_ours(paths[0]):
            return False
        if call.name == "mkdir":
            self._name(paths[0], Naming(paths[0], "folder"))
        elif call.name == "rename":
            file = self.names[paths[1]] = self.names.pop(paths[0])
            assert os.path.dirname(paths[0]) == os.path.dirname(paths[1])
            self._name(paths[1], Naming(paths[1], file, paths[0]))
        else:
            self.names.pop(paths[0], None)
            self._name(paths[0], Naming(paths[0], None))
        return True

    def _name(self, path: str, naming: Naming) -> None:
        self.pending.setdefault(os.path.dirname(path), []).append(naming)

    def _change(self, call: Call, path: str) -> bool:
        fd = int(call.arguments.split("<", 1)[0].split(",", 1)[0])
        file = self.names.get(path)
        if call.name in {"fsync", "fdatasync"}:
            if file is None:
                self.certain += self.pending.pop(path, [])
            else:
                file.certain = bytes(_applied(file, file.pending))
                file.pending = []
            return True
        if file is None:
            return False  # it has no name any more
        if call.name == "lseek":
            self._positions[fd] = call.result
            return False
        if call.name == "ftruncate":
            self._add(file, Truncate(int(call.arguments.rsplit(",", 1)[1])))
            return True
        if call.name == "pwrite64":
            offset = int(call.arguments.rsplit(",", 1)[1])
        else:
            offset = file.size if fd in self._appending else self._positions.get(fd, 0)
            self._positions[fd] = offset + call.result
        self._add(file, Write(offset, call.texts[0][: call.result]))
        return True

    def _add(self, file: File, change: Write | Truncate) -> None:
        file.pending.append(change)
        if isinstance(change, Write):
            file.size = max(file.size, change.offset + len(change.data))
            self._last_write = (file, change)
        else:
            file.size = change.size

    # ------------------------------------------------------------------------------------------ what is left

    def left(self, rng: random.Random, mode: Mode) -> dict[str, bytes | None]:
        """Return what may be there after the power went: files with their content, folders with None."""
        names: dict[str, File | str] = {str(self.root): "folder"}
        for naming in self.certain:
            _apply_naming(names, naming)
        for namings in self.pending.values():
            kept = {
                "nothing": 0,
                "random": rng.randrange(len(namings) + 1),
                "prefix": rng.randrange(len(namings) + 1),
            }.get(mode, len(namings))
            for naming in namings[:kept]:
                _apply_naming(names, naming)
        left: dict[str, bytes | None] = {}
        for name, target in sorted(names.items()):  # folders come before what is in them
            parent = os.path.dirname(name)
            if name != str(self.root) and (parent not in left or left[parent] is not None):
                continue
            left[name] = None if isinstance(target, str) else bytes(self._content(target, rng, mode))
        return left

    def _content(self, file: File, rng: random.Random, mode: Mode) -> bytearray:
        pending = file.pending
        if mode in {"nothing", "names"}:
            pending = []
        elif mode == "prefix":
            pending = pending[: rng.randrange(len(pending) + 1)]
        elif mode == "lengths":
            pending = [Truncate(file.size)] if pending and file.size > len(file.certain) else []
        elif mode == "random":
            pending = [part for change in pending for part in _torn(change, rng)]
            if file.size > len(file.certain) and rng.random() < 0.3:
                pending = [Truncate(file.size), *pending]
        elif mode == "killed" and self._last_write is not None and self._last_write[0] is file:
            write = self._last_write[1]
            pending = [*pending[:-1], Write(write.offset, write.data[: rng.randrange(len(write.data) + 1)])]
        return _applied(file, pending)


def _applied(file: File, changes: list[Write | Truncate]) -> bytearray:
    content = bytearray(file.certain)
    for change in changes:
        change.apply(content)
    return content


def _torn(change: Write | Truncate, rng: random.Random) -> list[Write | Truncate]:
    """Return what is left of one call: all of it, nothing, or some of its sectors."""
    fate = rng.randrange(3)
    if fate == 0:
        return []
    if fate == 1 or isinstance(change, Truncate):
        return [change]
    sector = rng.choice((512, 4096))
    parts: list[Write | Truncate] = []
    at = change.offset
    end = at + len(change.data)
    while at < end:
        upto = min(end, (at // sector + 1) * sector)
        if rng.random() < 0.5:
            parts.append(Write(at, change.data[at - change.offset : upto - change.offset]))
        at = upto
    return parts


def _apply_naming(names: dict[str, File | str], naming: Naming) -> None:
    if naming.old_name is not None:
        if naming.old_name not in names:
            return
        del names[naming.old_name]
    if naming.target is None:
        names.pop(naming.name, None)
    else:
        names[naming.name] = naming.target


def lay_out(left: dict[str, bytes | None], was: Path, now: Path) -> None:
    """Write a state below ``now``, which was below ``was``."""
    for name, content in left.items():
        path = now / os.path.relpath(name, was)
        if content is None:
            path.mkdir(mode=0o700, exist_ok=True)
        else:
            path.write_bytes(content)
            path.chmod(0o600)
