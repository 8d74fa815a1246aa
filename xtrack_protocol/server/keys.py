"""Keys: who a peer is. A file of digests, which ``xtrack keys`` changes under the eyes of a running server.

A key is ``xtk_<id>_<secret>``: the id names it in lists, the secret has 256 random bits and stands in no file, so that
who reads the file can't use it. The digest needs no salt and no slow hash: nobody guesses 256 bits. spec: SEC-2
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import msgspec

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import Auth
from xtrack_protocol.limits import RUN_ID_MAX
from xtrack_protocol.session import Refusal
from xtrack_protocol.spool import FileLock, default_dir, make_private_dir
from xtrack_protocol.spool.durable import sync_dir, sync_file
from xtrack_protocol.storage.access import unfit_name

SCHEME: Final = "key"
"""What ``auth.scheme`` of a hello must say. spec: SEC-2.3"""

KEYS_FILE: Final = "keys.json"

_FORMAT: Final = 1
_KEY: Final = re.compile(r"xtk_([0-9a-z]{1,32})_([A-Za-z0-9_-]{43})", re.ASCII)
_KEY_MAX: Final = 256  # characters that are looked at: what is longer is no key of ours
_SECRET_BYTES: Final = 32
_LOCK_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 5.0

Rights: TypeAlias = Literal["read", "write", "read,write"]


@attrs.frozen(kw_only=True)
class Principal:
    """Who a peer is, and what its key is good for. ``owner`` "": anybody, where no keys are asked for. spec: SEC-3

    ``experiment``: the only one whose runs the key covers; None: all. ``version``: which secret of the key it showed.
    """

    owner: str = ""
    experiment: str | None = None
    may_read: bool = True
    may_write: bool = True
    key_id: str = ""
    version: int = 0


ANYBODY: Final = Principal()


class _Retired(msgspec.Struct, frozen=True):
    """A secret that was replaced and holds until ``until_us``."""

    sha256: str
    version: int
    until_us: int


class _Entry(msgspec.Struct, frozen=True):
    id: str
    owner: str
    rights: Rights
    created_us: int
    sha256: str
    experiment: str | None = None
    version: int = 1
    retired: list[_Retired] = msgspec.field(default_factory=list)


class _Content(msgspec.Struct, frozen=True):
    format: int
    keys: list[_Entry]


_decode_content = msgspec.json.Decoder(_Content).decode  # once, at the import: see spool.shipping


@attrs.frozen(kw_only=True)
class KeyInfo:
    """What may be told of a key. ``grace_until_us``: until when a replaced secret of it still holds; None: none does.

    Times are microseconds since the Unix epoch.
    """

    key_id: str
    owner: str
    experiment: str | None
    may_read: bool
    may_write: bool
    created_us: int
    grace_until_us: int | None = None


def default_keys_file() -> Path:
    """Return ``keys.json`` under XTRACK_DIR."""
    return default_dir() / KEYS_FILE


def id_of(text: str) -> str:
    """Return the id of a key, of which the whole may be given: what names a key must not show it."""
    match = re.match(r"xtk_([0-9a-z]{1,32})(_|\Z)", text, re.ASCII)
    return match[1] if match else text


class Keyring:
    """The keys in the file at ``path``. Thread-safe; what another process changes holds from the next question on.

    The file is read when it has changed. One that is missing, damaged, a symbolic link, or open to others raises
    ConfigurationError, and never counts as "no keys"; when that happens to a running server, new connections are told
    to come again later, and those it has stay. ``new``: a missing file is an empty one, which ``add`` makes. ``clock``:
    microseconds since the Unix epoch.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, new: bool = False, clock: Callable[[], int] | None = None
    ) -> None:
        self.path = Path(path).expanduser().absolute() if path is not None else default_keys_file()
        self._clock = clock or (lambda: time.time_ns() // 1000)
        self._mutex = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._seen: tuple[int, ...] | None = None
        self._problem: ConfigurationError | None = None
        self._no_entry = hashlib.sha256(secrets.token_bytes(_SECRET_BYTES)).hexdigest()
        self._lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            self._load()
        except FileNotFoundError:
            if not new:
                raise _missing(self.path) from None

    def __repr__(self) -> str:
        return f"Keyring({os.fspath(self.path)!r})"

    # ------------------------------------------------------------------------------------------ asking

    @property
    def problem(self) -> ConfigurationError | None:
        """Why the file can't be read now; None where it can. For a server's log."""
        with self._mutex:
            self._refresh()
            return self._problem

    def keys(self) -> list[KeyInfo]:
        """Return all keys, the oldest first. Raises ConfigurationError."""
        with self._mutex:
            self._refresh()
            if self._problem is not None:
                raise self._problem
            now_us = self._clock()
            return sorted(
                (_info(entry, now_us) for entry in self._entries.values()), key=lambda key: (key.created_us, key.key_id)
            )

    def authenticate(self, auth: Auth | None) -> Principal | Refusal:
        """Return who shows this credential, or why nobody is taken for anybody. Never raises.

        It takes the same steps for an unknown id as for a wrong secret, compares in constant time, and says the same
        of both (spec: CTL-5.3, SEC-2.5).
        """
        if auth is None:
            return Refusal(
                "unauthorized",
                "this collector wants a key: `xtrack keys add --owner NAME` on its machine makes one for XTRACK_KEY",
            )
        if auth.scheme != SCHEME:
            return Refusal("unauthorized", f"the scheme of auth must be {SCHEME!r} here")
        with self._mutex:
            self._refresh()
            if self._problem is not None:
                return Refusal("busy", "the collector can't read its keys now; its log says why", _RETRY_SECONDS)
            return self._find(auth.key or "") or _WRONG_KEY

    def is_still_valid(self, principal: Principal) -> bool:
        """Whether the key that ``principal`` has shown still holds, and is good for the same. Never raises.

        A file that can't be read at the moment ends nobody's session.
        """
        with self._mutex:
            self._refresh()
            entry = self._entries.get(principal.key_id)
            if entry is None:
                return False
            versions = {entry.version, *(old.version for old in _holding(entry, self._clock()))}
            return principal.version in versions and _principal(entry, principal.version) == principal

    def _find(self, key: str) -> Principal | None:
        match = _KEY.fullmatch(key) if len(key) <= _KEY_MAX else None
        shown = hashlib.sha256(match[0].encode() if match else b"").hexdigest()
        entry = self._entries.get(match[1]) if match else None
        found = None
        if hmac.compare_digest(shown, entry.sha256 if entry else self._no_entry) and entry:
            found = entry.version
        for old in _holding(entry, self._clock()) if entry else ():
            if hmac.compare_digest(shown, old.sha256):
                found = old.version
        return None if entry is None or found is None else _principal(entry, found)

    # ------------------------------------------------------------------------------------------ changing

    def add(
        self, owner: str, *, experiment: str | None = None, may_read: bool = True, may_write: bool = True
    ) -> tuple[KeyInfo, str]:
        """Make a key; return what it is, and the key itself, which is kept nowhere.

        Raises ConfigurationError, as all changes do: for a name that no owner can have, and a file that can't be
        changed.
        """
        _check("owner", owner)
        if experiment is not None:
            _check("experiment", experiment, RUN_ID_MAX)
        if not (may_read or may_write):
            raise ConfigurationError("rights", "none", "a key that may do nothing", "Let it read, write, or both")
        with self._changing(new=True) as entries:
            key_id = secrets.token_hex(5)
            while key_id in entries:
                key_id = secrets.token_hex(5)
            key, digest = _new_key(key_id)
            rights: Rights = "read,write" if may_read and may_write else "read" if may_read else "write"
            now_us = self._clock()
            entries[key_id] = entry = _Entry(key_id, owner, rights, now_us, digest, experiment)
        return _info(entry, now_us), key

    def remove(self, key_id: str) -> KeyInfo:
        """Take a key away: it holds no longer. Returns what it was."""
        with self._changing() as entries:
            entry = self._entry(entries, key_id)
            del entries[key_id]
        return _info(entry, self._clock())

    def rotate(self, key_id: str, *, grace_seconds: float = 0.0) -> tuple[KeyInfo, str]:
        """Give a key a new secret; return the new key, which is kept nowhere.

        The old one holds for ``grace_seconds`` more. With 0 it ends at once, and so does what is in its grace still.
        """
        if not 0 <= grace_seconds <= 10**9:
            raise ConfigurationError("grace", grace_seconds, "must be a number of seconds, 0 or more")
        with self._changing() as entries:
            entry = self._entry(entries, key_id)
            key, digest = _new_key(key_id)
            now_us = self._clock()
            retired: list[_Retired] = []
            if grace_seconds > 0:
                until_us = now_us + int(grace_seconds * 1e6)
                retired = [*_holding(entry, now_us), _Retired(entry.sha256, entry.version, until_us)]
            entry = msgspec.structs.replace(entry, sha256=digest, version=entry.version + 1, retired=retired)
            entries[key_id] = entry
        return _info(entry, now_us), key

    def _entry(self, entries: dict[str, _Entry], key_id: str) -> _Entry:
        try:
            return entries[key_id]
        except KeyError:
            raise ConfigurationError(
                "key", key_id, f"no key of this id is in {self.path}", "`xtrack keys ls` lists those there are"
            ) from None

    @contextmanager
    def _changing(self, *, new: bool = False) -> Iterator[dict[str, _Entry]]:
        """Lend the keys as they are now, and write what became of them, while no other process changes them."""
        try:
            if new:
                make_private_dir(self.path.parent)
            if self._lock.path.is_symlink():
                raise _unsafe(self._lock.path, "is a symbolic link", "Remove the link")
            with self._mutex, self._lock.waiting(_LOCK_SECONDS):
                try:
                    self._load()
                except FileNotFoundError:
                    if not new:
                        raise _missing(self.path) from None
                    self._entries = {}
                entries = dict(self._entries)
                yield entries
                self._write(list(entries.values()))
                self._entries = entries
                self._load()
        except OSError as error:  # TimeoutError included
            if isinstance(error, FileNotFoundError) and not new:
                raise _missing(self.path) from None
            problem = f"can't be changed: {error.strerror or error}"
            raise ConfigurationError(
                "keys", os.fspath(self.path), problem, "Look at its folder's permissions"
            ) from error

    def _write(self, entries: Sequence[_Entry]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_Content(_FORMAT, list(entries))), indent=1) + b"\n"
        temporary = self.path.with_name(f".{secrets.token_hex(8)}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                sync_file(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_dir(self.path.parent)

    # ------------------------------------------------------------------------------------------ the file

    def _refresh(self) -> None:
        """Read the file again where it has changed, or could not be read last time."""
        try:
            seen = _signature(self.path.stat(follow_symlinks=False))
            if seen != self._seen or self._problem is not None:
                self._load()
        except FileNotFoundError:
            self._problem = _missing(self.path)
        except OSError as error:
            self._problem = _unreadable(self.path, error)
        except ConfigurationError as error:
            self._problem = error

    def _load(self) -> None:
        """Read the file. Raises ConfigurationError, and FileNotFoundError."""
        try:
            fd = os.open(self.path, _READ_FLAGS)
        except FileNotFoundError:
            raise
        except OSError as error:
            if self.path.is_symlink():
                raise _unsafe(
                    self.path, "is a symbolic link, which is not followed", "Name the file that it points to"
                ) from error
            raise _unreadable(self.path, error) from error
        try:
            status = os.fstat(fd)
            _check_file(self.path, status)
            with os.fdopen(os.dup(fd), "rb") as file:
                data = file.read()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        finally:
            os.close(fd)
        self._entries = _parse(self.path, data)
        self._seen = _signature(status)
        self._problem = None


_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_READ_FLAGS: Final = (  # a pipe in its place must not make us wait for a writer
    os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)

_WRONG_KEY: Final = Refusal(
    "unauthorized",
    "this key isn't known here, or no longer: `xtrack keys ls` on the collector's machine lists those that are",
)


def _new_key(key_id: str) -> tuple[str, str]:
    """Return a key and its digest."""
    key = f"xtk_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


def _check(setting: str, name: str, most: int | None = None) -> None:
    problem = unfit_name(name) if most is None else unfit_name(name, most)
    if problem:
        raise ConfigurationError(setting, name[:RUN_ID_MAX], problem, "Choose another name")


def _holding(entry: _Entry, now_us: int) -> list[_Retired]:
    """Return the replaced secrets that still hold."""
    return [old for old in entry.retired if old.until_us > now_us]


def _principal(entry: _Entry, version: int) -> Principal:
    return Principal(
        owner=entry.owner,
        experiment=entry.experiment,
        may_read="read" in entry.rights,
        may_write="write" in entry.rights,
        key_id=entry.id,
        version=version,
    )


def _info(entry: _Entry, now_us: int) -> KeyInfo:
    return KeyInfo(
        key_id=entry.id,
        owner=entry.owner,
        experiment=entry.experiment,
        may_read="read" in entry.rights,
        may_write="write" in entry.rights,
        created_us=entry.created_us,
        grace_until_us=max((old.until_us for old in _holding(entry, now_us)), default=None),
    )


def _signature(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes whenever the file does: each change of ours makes another file."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_mode


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unsafe(path, "is no file", "Name another file")
    if os.name != "posix":
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise _unsafe(path, f"is open to other users (mode {mode:04o})", f"`chmod 600 {path}` closes it")
    if os.geteuid() not in {0, status.st_uid} and status.st_uid != 0:
        raise _unsafe(path, f"belongs to another user (uid {status.st_uid})", "Name a file of your own")


def _parse(path: Path, data: bytes) -> dict[str, _Entry]:
    try:
        content = _decode_content(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if content.format != _FORMAT:
        raise ConfigurationError(
            "keys",
            os.fspath(path),
            f"is of format {content.format}, this version knows {_FORMAT}",
            "Upgrade with `pip install -U xtrack-protocol`",
        )
    entries: dict[str, _Entry] = {}
    for number, entry in enumerate(content.keys, 1):
        problem = unfit_name(entry.owner)
        digests = [entry.sha256, *(old.sha256 for old in entry.retired)]
        if problem or entry.id in entries or not all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests):
            raise _damaged(path, f"key {number} in it is none")
        entries[entry.id] = entry
    return entries


def _missing(path: Path) -> ConfigurationError:
    return ConfigurationError(
        "keys", os.fspath(path), "there is no such file", "`xtrack keys add --owner NAME` makes it, with a first key"
    )


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError("keys", os.fspath(path), f"can't be read: {error.strerror or error}")


def _unsafe(path: Path, problem: str, cure: str) -> ConfigurationError:
    return ConfigurationError("keys", os.fspath(path), problem, cure)


def _damaged(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(
        "keys",
        os.fspath(path),
        f"is damaged: {problem}",
        "Restore it from a backup; or move it away, and give out new keys with `xtrack keys add`",
    )
