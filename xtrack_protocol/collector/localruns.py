"""What a run's folder in the spool tells of its workers: who lives, who ended, who died."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.errors import DecodeError, SpoolError
from xtrack_protocol.ir import Envelope, RunEnd, RunStart
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import Segment, is_alive, is_locked, lock_path, open_segment, read_segment, segments
from xtrack_protocol.spool.layout import lost_path
from xtrack_protocol.wire import Record, decode

LAUNCH_LOCK: Final = ".launch.lock"
"""Held by the launcher of a run, in the run's folder. No session's lock can have this name: a dot would be quoted."""


@attrs.frozen
class LocalStream:
    """One stream of a local run: the segments it has, and what its run_start says, where that can be read."""

    stream: StreamId
    segments: tuple[Segment, ...]
    start: RunStart | None

    @property
    def is_worker(self) -> bool:
        """Whether it is a worker's own: no launcher's, no forked child's, and not of one who only attached."""
        return self.start is not None and not (self.start.observer or self.start.sub)

    @property
    def hostname(self) -> str | None:
        """The machine it runs on, where it says so."""
        return self.start.environment.hostname if self.start and self.start.environment else None


def local_streams(run_dir: Path) -> list[LocalStream]:
    """Return the streams in a run's folder; none where there is no such folder."""
    by_stream: dict[StreamId, list[Segment]] = {}
    for path in segments(run_dir):
        try:
            segment = open_segment(path)
        except SpoolError:
            continue  # whoever reads its events will say so
        if segment:
            by_stream.setdefault(segment.stream, []).append(segment)
    return [LocalStream(stream, tuple(parts), _start_of(parts[0])) for stream, parts in sorted(by_stream.items())]


def live_workers(run_dir: Path) -> list[LocalStream]:
    """Return the streams whose workers live and may take commands."""
    return [local for local in local_streams(run_dir) if local.is_worker and is_alive(run_dir, local.stream)]


def is_running(run_dir: Path) -> bool:
    """Whether a process that may still log to the run as a worker holds its lock.

    Who only watches, or attached to it, and streams that are over (a store may hold them open) don't count. A lock
    whose stream has written nothing yet does: a worker is just starting.
    """
    try:
        with os.scandir(run_dir) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".lock") and entry.name[0] != "."]
    except FileNotFoundError:
        return False
    held = {name for name in names if is_locked(run_dir / name)}
    if not held:
        return False
    known = {lock_path(run_dir, local.stream.session_id).name: local for local in local_streams(run_dir)}
    return any(name not in known or _may_log(run_dir, known[name]) for name in held)


def _may_log(run_dir: Path, local: LocalStream) -> bool:
    if local.start is None and not local.stream.is_derived:
        return False  # attached to it
    if local.start is not None and local.start.observer:
        return False
    return not (lost_path(run_dir, local.stream.session_id).exists() or last_words(local)[0])


def last_words(local: LocalStream) -> tuple[bool, int]:
    """Return whether the stream has ended its run, and its last seq. Reads backwards, a segment at a time."""
    last_seq = 0
    for segment in reversed(local.segments):
        for item, _ in read_segment(segment, finished=False):
            if not isinstance(item, Record):
                continue
            last_seq = max(last_seq, item.seq)
            if b"run_end" in item.payload and isinstance(_payload_of(item), RunEnd):
                return True, last_seq
    return False, last_seq


def _start_of(segment: Segment) -> RunStart | None:
    for item, _ in read_segment(segment, finished=False):
        if isinstance(item, Record):
            payload = _payload_of(item)
            return payload if isinstance(payload, RunStart) else None
    return None


def _payload_of(record: Record) -> object:
    try:
        envelope: Envelope = decode(record.payload)
    except DecodeError:
        return None
    return envelope.payload
