"""Where what lies in a spool. spec: RST-6, RST-7

::

    $XTRACK_DIR/                      0700
      spool/<run>/                    one folder a run, its id percent-quoted
        <sid>.000001.xseg             segments of one stream, 8 MiB each
        <sid>.lock                    held while the stream's emitter lives
        <sid>.lost                    who saw the emitter die says so here
        <sid>.ship                    what of the stream a collector has
        attachments/                  the full text of values that were cut
        commands/                     the mailbox of a local run
        DELETED                       the tombstone of a deleted run
      SERVED                          a collector keeps its store here: nothing of it is only a buffer
      index.db                        derived from the spool, rebuilt at will

Names only group files; identity stands in each segment's header. Several hosts may share one folder: a stream has one
writer, and nobody ever changes another's segment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.spool.durable import sync_dir, sync_file

SEGMENT_SUFFIX: Final = ".xseg"
SHIP_SUFFIX: Final = ".ship"
TOMBSTONE: Final = "DELETED"
SERVED: Final = "SERVED"
_NAME_MAX: Final = 120
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+=@")
_NEEDS_DIGEST: Final = re.compile(r"[A-Z]|\A(con|prn|aux|nul|com[0-9]|lpt[0-9])\Z")
"""Names that another would be taken for where case doesn't count, and names that Windows keeps for devices."""


def default_dir() -> Path:
    """Return XTRACK_DIR, or ``~/.xtrack``. Raises ConfigurationError where there is no home directory."""
    return _absolute(os.environ.get("XTRACK_DIR") or "~/.xtrack")


def _absolute(path: str | Path) -> Path:
    """Return ``path`` so that it stays the same when the script changes its working directory."""
    try:
        return Path(path).expanduser().absolute()
    except (OSError, RuntimeError) as error:  # no home directory, or no working directory any more
        raise ConfigurationError("XTRACK_DIR", str(path), str(error), "Set XTRACK_DIR to an absolute path") from error


def safe_name(text: str) -> str:
    """Return a file name for any text, another for every other text, on every file system. spec: RST-6.13, RST-6.14

    What isn't a plain character is quoted. A digest stands in for what is too long, and tells apart what would be
    the same where case doesn't count. Never '.' or '..'. Raises UnicodeEncodeError (a ValueError) for lone surrogates.
    """
    quoted = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode()) or "%00empty"
    if len(quoted) <= _NAME_MAX and not _NEEDS_DIGEST.search(text):
        return quoted
    import hashlib  # few ids need it, and it brings OpenSSL

    return quoted[: _NAME_MAX - 41] + "~" + hashlib.sha256(text.encode()).hexdigest()[:40]


class SpoolDir:
    """The paths below one XTRACK_DIR."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = _absolute(root) if root is not None else default_dir()
        self.runs = self.root / "spool"

    def run_dir(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self.runs / safe_name(run_id)

    def mark_served(self) -> None:
        """Note that a collector keeps its store here, so that nobody takes it for a mere buffer. Raises OSError.

        spec: RST-9.7
        """
        path = self.root / SERVED
        if not path.exists():
            make_private_dir(self.root)
            write_private(
                path, b"A collector keeps its store in this folder: xtrack removes no segments of it.\n", durable=True
            )

    def run_dirs(self) -> list[Path]:
        """Return the folders of all runs, sorted; none where there is no spool yet."""
        try:
            with os.scandir(self.runs) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def tombstone(self, run_id: str) -> Path:
        """Return the file whose being there means that the run was deleted. spec: FLD-9"""
        return self.run_dir(run_id) / TOMBSTONE

    def mailbox(self, run_id: str) -> Path:
        """Return the folder through which commands reach a local run."""
        return self.run_dir(run_id) / "commands"


def segment_path(run_dir: Path, session_id: str, number: int) -> Path:
    """Return the path of a stream's segment; segments count from 1."""
    return run_dir / f"{safe_name(session_id)}.{number:06d}{SEGMENT_SUFFIX}"


def lock_path(run_dir: Path, session_id: str) -> Path:
    """Return the path of the lock that a stream's emitter holds."""
    return run_dir / f"{safe_name(session_id)}.lock"


def lost_path(run_dir: Path, session_id: str) -> Path:
    """Return the path of the note that a stream's emitter was seen to die."""
    return run_dir / f"{safe_name(session_id)}.lost"


def ship_path(run_dir: Path, session_id: str) -> Path:
    """Return the path of the note of what was shipped of a stream."""
    return run_dir / f"{safe_name(session_id)}{SHIP_SUFFIX}"


def segments(run_dir: Path) -> Iterator[Path]:
    """Yield the segments in a run's folder, those of a stream in order."""
    try:
        with os.scandir(run_dir) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SEGMENT_SUFFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in sorted(names, key=_stream_and_number):
        yield run_dir / name


def _stream_and_number(name: str) -> tuple[str, int, str]:
    session, _, number = name[: -len(SEGMENT_SUFFIX)].rpartition(".")
    return session, len(number), number  # the millionth has seven digits


def make_private_dir(path: Path) -> None:
    """Make a folder, and those above it, that only its owner can enter; one that is there stays as it is."""
    missing = []
    current = path
    while not current.exists():
        missing.append(current)
        current = current.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a small file so that a reader sees all of it or nothing. spec: RST-7

    ``durable``: and so that it survives a power loss. Raises OSError.
    """
    temporary = path.with_name(f".{os.urandom(8).hex()}.part")  # short: the name itself may be as long as names can be
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _BINARY, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                sync_file(fd)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_dir(path.parent)


_BINARY: Final = getattr(os, "O_BINARY", 0)
