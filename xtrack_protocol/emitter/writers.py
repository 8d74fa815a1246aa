"""Who else logs to a run as the same worker: two processes that were started under one id, which nobody declared.

Their sessions are two streams, so nothing is lost; but the points of both stand in the same series, and both vote on
the run's status. Nothing here is imported unless somebody else's session of the run is alive when one starts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from xtrack_protocol._value import Value
from xtrack_protocol.emitter.launch import events_of
from xtrack_protocol.emitter.ranks import parent_of
from xtrack_protocol.errors import DecodeError, SpoolError
from xtrack_protocol.ir.lifecycle import RunEnd, RunStart
from xtrack_protocol.spool.layout import segments
from xtrack_protocol.spool.segment import open_segment

_LOCKS: Final = Path("/proc/locks")
"""Where Linux tells which process holds which lock."""


class _Session(Value, frozen=True):
    worker_id: str
    start: RunStart
    has_ended: bool


def is_written_twice(run_dir: Path, worker: str, held: Sequence[Path]) -> bool:
    """Whether one of the sessions whose locks are ``held`` logs to the run as ``worker``, and is not meant to do so.

    Those of a launch are: their launcher watches the run, or one of the processes has started the other. So are forked
    children, and who only attached to the run. A session that has said its last word logs no more.
    """
    sessions = [session for session in (_session(run_dir, lock) for lock in held) if session is not None]
    if any(session.start.observer for session in sessions):
        return False
    others = [session for session in sessions if session.worker_id == worker and not session.start.sub]
    return any(not session.has_ended for session in others) and not _is_held_by_kin(held)


def _session(run_dir: Path, lock: Path) -> _Session | None:
    """Return the session that a lock is of; None where it has no run_start, or none that can be read yet."""
    paths = [path for path in segments(run_dir) if path.name.startswith(f"{lock.stem}.")]
    if not paths:
        return None  # it is just starting: it looks when it has begun, and sees us
    try:
        segment = open_segment(paths[0])
        first = next(events_of(paths[0], b""), None)
        ends = list(events_of(paths[-1], b'"run_end"'))
    except (SpoolError, DecodeError):
        return None  # whoever reads its events will say so
    if segment is None or first is None or not isinstance(first.payload, RunStart):
        return None
    has_ended = any(isinstance(end.payload, RunEnd) for end in ends)
    return _Session(segment.stream.worker_id, first.payload, has_ended)


def _is_held_by_kin(locks: Sequence[Path]) -> bool:
    """Whether this process, one that it descends from or one that descends from it holds one of the locks, as far as
    the system tells.

    A script that starts processes of its own hands its environment down to them, XTRACK_RUN_ID included.
    """
    try:
        inodes = {lock.stat().st_ino for lock in locks}
        # As in "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF". The device isn't looked at: file systems that lie on
        # others don't tell the same one here as there.
        rows = [line.split() for line in _LOCKS.read_text(encoding="ascii").splitlines()]
        holders = {int(row[4]) for row in rows if row[1] == "FLOCK" and int(row[5].rpartition(":")[2]) in inodes}
        here = os.getpid()
        lineage = _lineage(here)
        return any(holder in lineage or here in _lineage(holder) for holder in holders)
    except (OSError, ValueError, IndexError):  # another system, or one of the processes has just ended
        return False


def _lineage(pid: int) -> list[int]:
    """Return a process and those that it descends from. Raises as ``parent_of``."""
    pids = []
    while pid > 0:
        pids.append(pid)
        pid = parent_of(pid)
    return pids
