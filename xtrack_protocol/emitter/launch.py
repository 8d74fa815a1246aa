"""Which run a process of a launch belongs to: a job may run several trainings one after the other. spec: EMT-7.4"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path

from xtrack_protocol.errors import DecodeError, SpoolError
from xtrack_protocol.ir.envelope import Envelope
from xtrack_protocol.ir.lifecycle import RunEnd, RunStart
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.spool.layout import SpoolDir, safe_name, segments
from xtrack_protocol.spool.segment import open_segment, read_segment, streams_of
from xtrack_protocol.wire.codec import decode
from xtrack_protocol.wire.records import Record


def launch_run_id(job: str, worker: str, spool: SpoolDir | None, *, is_again: bool) -> str:
    """Return the run of this process: ``job``, or ``job-2`` where this worker has completed that one, and so on.

    A worker that failed or died goes on with its run. So does every worker of a launch that begins again
    (``is_again``), for some may have completed what the others have not. Without a spool nothing is known of earlier
    trainings.
    """
    if spool is None:
        return job
    numbered = (job if number == 1 else f"{job}-{number}" for number in count(1))
    if is_again:
        begun = list(takewhile(lambda run_id: streams_of(spool.run_dir(run_id)), numbered))
        return begun[-1] if begun else job
    return next(run_id for run_id in numbered if not _has_completed(spool.run_dir(run_id), worker))


def _has_completed(run_dir: Path, worker: str) -> bool:
    """Whether the last session of a worker has completed the run."""
    sessions = [_session(run_dir, stream) for stream in streams_of(run_dir) if stream.worker_id == worker]
    own = [session for session in sessions if session is not None]
    return bool(own) and max(own)[1]


def _session(run_dir: Path, stream: StreamId) -> tuple[int, bool] | None:
    """Return when a session began, in microseconds since the Unix epoch, and whether it has completed the run.

    None for one that has no say: of a forked child, or one that can't be read.
    """
    paths = [path for path in segments(run_dir) if path.name.startswith(f"{safe_name(stream.session_id)}.")]
    if not paths:
        return None
    try:
        first = next(events_of(paths[0], b""), None)
        ends = list(events_of(paths[-1], b'"run_end"'))
    except (SpoolError, DecodeError):
        return None  # whoever reads its events will say so
    if first is None or (isinstance(first.payload, RunStart) and first.payload.sub):
        return None
    is_completed = any(isinstance(end.payload, RunEnd) and end.payload.status == "completed" for end in ends)
    return first.meta.timestamp_us, is_completed


def events_of(path: Path, part: bytes) -> Iterator[Envelope]:
    """Yield the events of a segment whose payload has ``part`` in it."""
    segment = open_segment(path)
    if segment is None:
        return
    for item, _ in read_segment(segment, finished=False):
        if isinstance(item, Record) and part in item.payload:
            yield decode(item.payload)
