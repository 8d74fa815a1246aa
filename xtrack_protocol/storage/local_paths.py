"""Where the local index belongs, and which file systems are another machine's."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import ConfigurationError

INDEX_NAME: Final = "index.db"

_MOUNTS: Final = Path("/proc/self/mounts")

_NETWORK_TYPES: Final = frozenset(
    (  # noqa: SIM905 - one string is easier to read than thirty
        "9p afs beegfs ceph cifs drvfs fuse.ceph fuse.gcsfuse fuse.glusterfs fuse.juicefs fuse.mount-s3 fuse.rclone "
        "fuse.s3fs fuse.sshfs fuse.vmhgfs-fuse glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs panfs pvfs2 smb3 "
        "smbfs vboxsf virtiofs vmhgfs wekafs"
    ).split()
)


def index_path(root: Path) -> Path:
    """Return where the index of the spools under ``root`` belongs: beside them, or, where that is on a file system of
    another machine, under the cache folder of this one. Raises ConfigurationError where there is none. spec: RST-6.11
    """
    if not is_network_path(root):
        return root / INDEX_NAME
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(cache) if cache and Path(cache).is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        cure = "Set XDG_CACHE_HOME to a folder of this machine"
        raise ConfigurationError("XDG_CACHE_HOME", cache, f"no place for the index: {error}", cure) from error
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    return base / "xtrack" / f"index-{digest}.db"


def is_network_path(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether ``path`` is on a file system of another machine, or of a virtual machine's host, as far as the mount
    table tells (Linux): SQLite's log doesn't work there, and locks may not be seen from the other side.
    """
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    resolved = os.path.realpath(path)
    best, kind = "", ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])  # blanks, and the like
        if (resolved == mount or resolved.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, fields[2]  # the last one of a mount point is on top
    return kind in _NETWORK_TYPES
