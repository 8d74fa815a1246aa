"""Keys and private files: where they are read, and what is refused. No text of a key ever stands in an error."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import ConfigurationError

KEY_MAX: Final = 4096
"""Bytes of a key file that are read; keys have some 60."""


def find_key(key: str | None, key_file: Path | None) -> str | None:
    """Return the key that the settings ``key`` and ``key_file`` give; None where neither is set.

    Raises ConfigurationError: both are set, or the file is missing, empty, too long, no single line, or may be read
    by others than its owner.
    """
    if key is not None and key_file is not None:
        raise ConfigurationError(
            "XTRACK_KEY", "***", f"there is a key, and XTRACK_KEY_FILE={str(key_file)!r} too", "Unset one of them"
        )
    if key is not None:
        return _check(key, "XTRACK_KEY", "***")
    if key_file is not None:
        return _check(read_private(key_file, "XTRACK_KEY_FILE"), "XTRACK_KEY_FILE", str(key_file))
    return None


def read_private(path: Path, setting: str) -> str:
    """Return the text of a file that holds a secret. Raises ConfigurationError that names ``setting``."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            check_private(os.fstat(fd), path, setting)
            content = os.read(fd, KEY_MAX + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigurationError(setting, str(path), f"can't be read: {error.strerror or error}") from error
    if len(content) > KEY_MAX:
        raise ConfigurationError(setting, str(path), f"has more than {KEY_MAX} bytes, and holds no key then")
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigurationError(setting, str(path), "holds something else than a key") from None


def check_private(status: os.stat_result, path: Path, setting: str) -> None:
    """Refuse what is no file, or a file of ours that others may read, as ssh does. Raises ConfigurationError."""
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(setting, str(path), "is no file")
    if sys.platform == "win32" or status.st_uid != os.getuid():
        return  # another's file is that other's business: a secret that an administrator shares with a group
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigurationError(
            setting, str(path), f"others may read it (its mode is {mode:04o})", f"Run `chmod 600 {path}`"
        )


def _check(key: str, setting: str, shown: str) -> str:
    if not key:
        raise ConfigurationError(setting, shown, "is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            setting, shown, "holds a space, a line break or another character that no key has", "Copy the key alone"
        )
    if key[0] in "'\"":
        raise ConfigurationError(setting, shown, "the quotation marks are a part of it", "Take them away")
    if len(key) > KEY_MAX:
        raise ConfigurationError(setting, shown, f"has more than {KEY_MAX} characters")
    return key
