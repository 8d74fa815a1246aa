"""What is known of a stream's emitter: whether it lives, and what was seen of its death."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from xtrack_protocol.ir._slots import Int64
from xtrack_protocol.limits import LIVENESS_LOST_US
from xtrack_protocol.runs.values import LostReason, StreamLost
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.spool.layout import lock_path, lost_path, write_private
from xtrack_protocol.spool.locks import is_locked
from xtrack_protocol.wire.records import read_object


class _LostNote(msgspec.Struct, omit_defaults=True):
    """The content of a .lost file. spec: RST-7"""

    at_us: Int64 = msgspec.field(name="at")
    reason: LostReason
    after_seq: Int64 | None = None
    detail: str = ""


_decode_lost = msgspec.json.Decoder(_LostNote).decode  # once, at the import: see spool.shipping


def write_lost(run_dir: Path, lost: StreamLost) -> None:
    """Leave word that a stream's emitter was seen to die. Raises OSError."""
    note = _LostNote(lost.at_us, lost.reason, lost.after_seq or None, lost.detail)
    write_private(lost_path(run_dir, lost.stream.session_id), msgspec.json.encode(note))


def find_lost(run_dir: Path, stream: StreamId, last_seq: int, last_write_us: int) -> StreamLost | None:
    """Return what is known of the loss of a stream that hasn't ended its run. spec: FLD-6

    Somebody who saw it die has left word; or its lock is free and nothing was written for five minutes. A lock that
    is held, or that the file system can't tell of, says nothing.
    """
    try:
        note = read_object(_decode_lost, lost_path(run_dir, stream.session_id).read_bytes())
    except (OSError, ValueError, RecursionError):
        pass  # none was left, or it is damaged: the lock tells in time
    else:
        after_seq = last_seq if note.after_seq is None else note.after_seq  # spec: FLD-6.7
        return StreamLost(stream, note.at_us, note.reason, after_seq, note.detail)
    if is_locked(lock_path(run_dir, stream.session_id)) is not False:
        return None
    if time.time_ns() // 1000 - last_write_us < LIVENESS_LOST_US:
        return None
    return StreamLost(stream, last_write_us, "vanished", last_seq, "its process is gone and never ended the run")


def is_alive(run_dir: Path, stream: StreamId) -> bool:
    """Whether a process holds the stream's lock."""
    return is_locked(lock_path(run_dir, stream.session_id)) is True
