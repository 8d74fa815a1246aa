"""Folders that several sessions of an emitter share: what the suite puts there, and what lies there."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

if sys.platform != "win32":  # where nothing of this is asked
    import fcntl

BRIEFLY = 0.02
"""Seconds."""


class Folders:
    """By name: each is what ``XTRACK_DIR`` names for whoever has it, and has a folder ``work`` for processes."""

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}
        self.held: dict[Path, int] = {}

    def of(self, name: str) -> Path:
        """Return the folder of that name, which is made where there is none."""
        if name not in self.paths:
            self.paths[name] = Path(tempfile.mkdtemp(prefix="xtrack-shared-"))
            (self.paths[name] / "work").mkdir()
        return self.paths[name]

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Put files there, and return all that lies there then."""
        folder = self.of(request["dir"])
        for entry in request.get("put", []):
            self.put(folder / entry["path"], entry)
        found = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith(".part"):
                with contextlib.suppress(FileNotFoundError):  # written under another name first
                    found.append(
                        {
                            "path": path.relative_to(folder).as_posix(),
                            "bytes": base64.b64encode(path.read_bytes()).decode(),
                            "locked": is_held(path),
                        }
                    )
        return {"files": found}

    def put(self, path: Path, entry: dict[str, Any]) -> None:
        """Write a file, or a part of it in its place; take or release its lock."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if "bytes" in entry:
            with path.open("r+b" if "at" in entry else "wb") as file:
                file.seek(entry.get("at", 0))
                file.write(base64.b64decode(entry["bytes"]))
        if "locked" in entry:
            held = self.held.pop(path, None)
            if held is not None:
                os.close(held)
            if entry["locked"]:
                self.hold(path, entry["locked"])

    def hold(self, path: Path, how: bool | str) -> None:
        """Hold a file's lock, where nobody else does: until it is let go of, or ``briefly``; ``shared``, or alone."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if how == "shared" else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return
        if how == "briefly":
            threading.Timer(BRIEFLY, os.close, [fd]).start()
        else:
            self.held[path] = fd

    def forget(self, name: str) -> None:
        """Throw a folder away."""
        folder = self.paths.pop(name, None)
        if folder is None:
            return
        for path in [path for path in self.held if folder in path.parents]:
            os.close(self.held.pop(path))
        shutil.rmtree(folder, ignore_errors=True)


def is_held(path: Path) -> bool:
    """Whether somebody holds an exclusive lock on a file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
