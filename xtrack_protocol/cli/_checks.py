"""What ``xtrack doctor`` looks at. A check that fails is a finding, and never an error of ours."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import attrs

from xtrack_protocol import PROTOCOL_VERSION, __version__
from xtrack_protocol.cli._runs import opened, store_url
from xtrack_protocol.errors import XTrackError
from xtrack_protocol.settings import CONFIG_FILE, Settings, load_settings, settings_table
from xtrack_protocol.spool import FileLock, SpoolDir, is_locked

State = Literal["ok", "warning", "error"]

_ROOM_MIN: Final = 0.05
"""The part of a disk that should be free."""

_OTHER_VARIABLES: Final = frozenset({"XTRACK_CONFIG", "XTRACK_DEBUG", "XTRACK_HOST", "XTRACK_PORT"})


@attrs.frozen
class Check:
    """One finding."""

    name: str
    state: State
    finding: str


def run_checks(store: str | None) -> list[Check]:
    """Look at everything; ``store``: the URL that was given, if any."""
    checks = [
        Check("python", "ok", f"{platform.python_version()} at {sys.executable}, {platform.platform()}"),
        Check("version", "ok", f"xtrack-protocol {__version__}, protocol {PROTOCOL_VERSION}"),
        *_extras(),
    ]
    try:
        settings = load_settings()
    except XTrackError as error:
        return [*checks, Check("settings", "error", str(error))]
    checks += _settings(settings)
    checks += _guarded("directory", lambda: _directory(SpoolDir(settings.dir).root))
    checks += _guarded("transport", lambda: _transport(settings))
    checks += _guarded("store", lambda: _store(store))
    return checks


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> list[Check]:
    """Return the findings of a check, and what stopped it."""
    found: list[Check] = []
    try:
        found.extend(check())
    except (XTrackError, OSError, ValueError) as error:
        found.append(Check(name, "error", str(error)))
    return found


def _extras() -> Iterator[Check]:
    try:
        required = metadata.requires("xtrack-protocol") or []
    except metadata.PackageNotFoundError:
        yield Check("extras", "warning", "the package isn't installed, only imported")
        return
    extras: dict[str, list[str]] = {}
    for line in required:
        marker = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if marker and name and marker[1] not in {"test", "dev"}:
            extras.setdefault(marker[1], []).append(name[0])
    for extra, packages in sorted(extras.items()):
        versions, missing = [], []
        for package in packages:
            try:
                versions.append(f"{package} {metadata.version(package)}")
            except metadata.PackageNotFoundError:
                missing.append(package)
        if missing:
            cure = f"not installed: {', '.join(missing)}. `pip install 'xtrack-protocol[{extra}]'` if you need it"
            yield Check(f"extra {extra}", "ok", cure)
        else:
            yield Check(f"extra {extra}", "ok", ", ".join(versions))


def _settings(settings: Settings) -> Iterator[Check]:
    rows = settings_table()
    config = config_file()
    from_file = load_settings({"XTRACK_CONFIG": str(config)} if config else {}, Path("/"))
    yield Check("settings file", "ok", str(config) if config else f"no {CONFIG_FILE} from here upwards")
    for row in rows:
        value = "***" if row.secret else getattr(settings, row.name)
        if os.environ.get(row.variable):
            yield Check("setting", "ok", f"{row.name} = {value} (environment: {row.variable})")
        elif getattr(from_file, row.name) != row.default:
            yield Check("setting", "ok", f"{row.name} = {value} ({config})")
    known = {row.variable for row in rows} | _OTHER_VARIABLES
    for variable in sorted(name for name in os.environ if name.startswith("XTRACK_") and name not in known):
        yield Check("setting", "warning", f"{variable} is set, and no setting of this version")


def config_file() -> Path | None:
    """Return the settings file that is in force."""
    named = os.environ.get("XTRACK_CONFIG")
    if named:
        return Path(named).expanduser()
    here = Path.cwd()
    return next((folder / CONFIG_FILE for folder in (here, *here.parents) if (folder / CONFIG_FILE).is_file()), None)


def _directory(root: Path) -> Iterator[Check]:
    nearest = next(folder for folder in (root, *root.parents) if folder.exists())
    there = nearest == root
    if not there:
        yield Check("directory", "ok", f"{root} isn't there yet; it will be made in {nearest}")
    yield Check("file system", *_file_system(nearest))
    usage = shutil.disk_usage(nearest)
    free = f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f} GiB free"
    yield Check("disk room", "ok" if usage.free >= _ROOM_MIN * usage.total else "warning", free)
    if not os.access(nearest, os.W_OK | os.X_OK):
        cure = "Set XTRACK_DIR to a folder that can be written"
        yield Check("directory", "error", f"{nearest} can't be written. {cure}")
        return
    if there:
        mode = stat.S_IMODE(root.stat().st_mode)
        if mode & 0o077 and os.name == "posix":
            yield Check("directory", "warning", f"{root} is open to other users ({mode:04o}). `chmod 700 {root}`")
        else:
            yield Check("directory", "ok", f"{root} can be written")
        yield from _locks(root)


def _file_system(path: Path) -> tuple[State, str]:
    from xtrack_protocol.storage.local import index_path, is_network_path

    kind = file_system_type(path)
    if is_network_path(path):
        return "warning", f"{kind}, of another machine; the index is kept at {index_path(path)}"
    return "ok", kind or "unknown"


def file_system_type(path: Path) -> str | None:
    """Return the type of the file system that ``path`` is on, where the mount table tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    resolved = os.path.realpath(path)
    best, kind = "", None
    for fields in (line.split(" ") for line in mounts):
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        if (resolved == mount or resolved.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, fields[2]
    return kind


def _locks(root: Path) -> Iterator[Check]:
    """Try what telling a live worker from a dead one depends on."""
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=root) as folder:
        path = Path(folder) / "lock"
        lock = FileLock(path)
        took = lock.acquire()
        seen = is_locked(path)
        lock.release()
        if took and seen and is_locked(path) is False:
            yield Check("locks", "ok", "a held lock is seen, and a released one is free")
        else:
            yield Check(
                "locks", "warning", "locks don't work here: a dead worker can't be told from a live one on this folder"
            )


def _transport(settings: Settings) -> Iterator[Check]:
    from xtrack_protocol.transport import open_transport

    name, _, argument = settings.transport.partition(":")
    transport = open_transport(settings.transport, settings)  # raises for an unknown one; opens nothing
    if name in {"tcp", "tls", "unix"}:
        yield _collector(settings)
    elif name == "file":
        folder = Path(argument or settings.file).expanduser().absolute().parent
        good = os.access(folder, os.W_OK)
        problem = "" if good else f": {folder} can't be written. Set XTRACK_FILE to another path"
        yield Check("transport", "ok" if good else "error", f"file: {transport.address}{problem}")
    elif name == "stdio":
        yield Check("transport", "ok", "stdio: frames go to a descriptor that a launcher hands down")
    else:
        yield Check("transport", "ok", f"{name}: {transport.address}")


def _collector(settings: Settings) -> Check:
    from xtrack_protocol.net.connect import connect
    from xtrack_protocol.net.endpoint import parse_endpoint

    endpoint = parse_endpoint(settings.transport, settings)
    try:
        connect(endpoint, 5.0).close()
    except XTrackError as error:
        return Check("transport", "error", str(error))
    trusted = ", with a certificate that is trusted" if endpoint.tls else ""
    return Check("transport", "ok", f"somebody listens at {endpoint.url}{trusted}")


def _store(store: str | None) -> Iterator[Check]:
    url = store_url(store)
    begun = time.monotonic()
    with opened(store) as source:
        runs = len(source.list_runs())
        seconds = time.monotonic() - begun
        yield Check("store", "ok", f"{source.url}: {runs} runs, read in {seconds:.2f} s")
        if url.startswith("local:"):
            from xtrack_protocol.storage.local import LocalStore

            assert isinstance(source, LocalStore)
            index = source.index_file
            if index is None:
                yield Check(
                    "index", "warning", "can't be written; every reader makes its own in memory, which takes longer"
                )
            else:
                yield Check("index", "ok", f"{index}, up to date")
