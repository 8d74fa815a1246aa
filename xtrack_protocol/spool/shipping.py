"""What has been shipped of a spool and to whom, and the removal of what a collector keeps for good. spec: RST-9

A spool that is only a buffer for a collector is trimmed: whole segments go, a day after the collector has committed
all of theirs so that it survives a power loss. What was trimmed stands in the stream's note, so that nobody takes it
for lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir import Durability, Int64, RunEnd, RunStart
from xtrack_protocol.limits import KEEP_ACKED_US, REJECTED_NOTED_MAX
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool.durable import sync_dir
from xtrack_protocol.spool.layout import SERVED, SHIP_SUFFIX, TOMBSTONE, SpoolDir, lock_path, ship_path, write_private
from xtrack_protocol.spool.locks import is_locked
from xtrack_protocol.spool.parts import Part, PartFolder, last_seq_of, records_of
from xtrack_protocol.spool.reader import is_alive
from xtrack_protocol.spool.segment import streams_of
from xtrack_protocol.wire import decode
from xtrack_protocol.wire.records import read_object

_ENDS: Final = (b'"run_start"', b'"run_end"')
_ENDS_MAX: Final = 64 * 1024
"""Bytes of an end that is kept in a note, which is written again and again."""


class ShipNote(msgspec.Struct, omit_defaults=True):
    """What was shipped of a stream: the content of its ``.ship`` file. spec: RST-9

    ``to``: the collector's URL, without a key. ``buffer``: the spool is only a buffer for that collector, and may be
    trimmed. ``acked``: all up to this seq is committed, skipped or rejected there, as ``durability`` says.
    ``unconfirmed``: all up to this seq was sent to a plain peer. ``rejected``: seqs and codes, the first ones of
    ``rejected_count``. ``fenced``: a newer session has taken the stream over, for good. ``marks``: numbers of segments
    that are wholly acked, and since when, in microseconds since the Unix epoch. ``trimmed``: all up to this seq is kept
    there and may be gone from here, but for ``ends``: the envelopes of the run_start and the run_end, which tell what
    the run was.
    """

    to: str
    buffer: bool = False
    acked: Int64 = 0
    durability: Durability = "none"
    unconfirmed: Int64 = 0
    rejected: list[tuple[Int64, str]] = msgspec.field(default_factory=list)
    rejected_count: Int64 = 0
    fenced: bool = False
    marks: list[tuple[Int64, Int64]] = msgspec.field(default_factory=list)
    trimmed: Int64 = 0
    ends: list[str] = msgspec.field(default_factory=list)

    def moved_to(self, to: str) -> ShipNote:
        """Return the note of the same spool for another collector, which has nothing of it yet."""
        return ShipNote(to, self.buffer, trimmed=self.trimmed, ends=self.ends)

    def add_rejected(self, rejected: Iterable[tuple[int, str]]) -> None:
        """Note events that the collector refuses for good; only the first 1,000 by seq, the others are counted."""
        for seq, code in rejected:
            self.rejected_count += 1
            if len(self.rejected) < REJECTED_NOTED_MAX:
                self.rejected.append((seq, code))


class _NoteFile(msgspec.Struct, omit_defaults=True):
    """A note with the stream that it is about, which a file's name doesn't tell. spec: RST-6.1"""

    run_id: str
    session_id: str = msgspec.field(name="sid")
    note: ShipNote
    worker_id: str = msgspec.field(name="wid", default="")


_decode_note = msgspec.json.Decoder(_NoteFile).decode
"""Made once, when this module is imported: msgspec looks into a type when it is decoded first, and a thread or a forked
child that decodes it meanwhile finds it half looked into, and crashes."""


class SpooledStream(NamedTuple):
    """A stream in a spool. ``is_live``: its emitter holds its lock. ``note``: None where nothing was shipped of it."""

    run_dir: Path
    stream: StreamId
    note: ShipNote | None
    is_live: bool


def read_note(run_dir: Path, stream: StreamId) -> ShipNote | None:
    """Return what was shipped of a stream; None where nothing is known, and all is shipped once more. spec: STR-4"""
    path = ship_path(run_dir, stream.session_id)
    found = _read(path)
    return found[1] if found and found[0] == stream else None


def _read(path: Path) -> tuple[StreamId, ShipNote] | None:
    try:
        kept = read_object(_decode_note, path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return StreamId(kept.run_id, kept.worker_id, kept.session_id), kept.note


def write_note(run_dir: Path, stream: StreamId, note: ShipNote, *, durable: bool = False) -> None:
    """Leave word of what was shipped. Raises OSError. ``durable``: so that it survives a power loss."""
    kept = _NoteFile(stream.run_id, stream.session_id, note, stream.worker_id)
    write_private(ship_path(run_dir, stream.session_id), msgspec.json.encode(kept), durable=durable)


def trim(run_dir: Path, stream: StreamId, note: ShipNote, now_us: int, keep_us: int = KEEP_ACKED_US) -> int:
    """Remove the segments that were wholly acked ``keep_us`` ago or longer; return how many. spec: DLV-5, DLV-5.1

    Marks, in ``note``, those that have become so since the last call: call it every minute or so. Only acks of the
    durability ``power`` count, and only where the spool is a buffer, and not a collector's own store, which takes what
    lies in it for what it has. The last segment of a live stream stays. The note is written before anything is removed.
    Raises OSError where that can't be done; what was removed until then is.
    """
    if not note.buffer or (run_dir.parent.parent / SERVED).exists():
        return 0
    if note.durability != "power":
        note.marks = []
        return 0
    folder = PartFolder(run_dir, stream)
    folder.look()
    parts = _acked_parts(folder, run_dir, stream, note.acked)
    since = dict(note.marks)
    marks = {number: min(since.get(number, now_us), now_us) for number in parts}
    note.marks = sorted(marks.items())
    old = [number for number, since_us in note.marks if now_us - since_us >= keep_us]
    if not old:
        return 0
    _keep_ends(note, [parts[number][0] for number in old])
    note.trimmed = max(note.trimmed, *(parts[number][1] for number in old))
    note.marks = [(number, since_us) for number, since_us in note.marks if number not in old]
    write_note(run_dir, stream, note, durable=True)
    for number in old:
        parts[number][0].segment.path.unlink(missing_ok=True)
    sync_dir(run_dir)
    return len(old)


def _keep_ends(note: ShipNote, parts: list[Part]) -> None:
    """Keep the run_start and the run_end of segments that go, without which nobody would know what run it was."""
    for part in parts:
        if part.first > 1 and part.bound is not None:
            continue
        for record in records_of(part):
            payload = record.payload
            if len(payload) > _ENDS_MAX or not any(mark in payload for mark in _ENDS):
                continue
            try:
                text, event = payload.decode(), decode(payload).payload
            except (ValueError, DecodeError):
                continue  # no event: nothing to be known of it
            if isinstance(event, (RunStart, RunEnd)) and text not in note.ends:
                note.ends.append(text)


def _acked_parts(folder: PartFolder, run_dir: Path, stream: StreamId, acked: int) -> dict[int, tuple[Part, int]]:
    """Return the segments that hold nothing above ``acked``, and the last seq that each can hold, by number."""
    found = {}
    is_over = None
    for part in folder.parts:
        if part.first > acked:
            continue
        if part.bound is not None:
            last = part.bound - 1
        else:
            if is_over is None:  # before its end is read
                is_over = is_locked(lock_path(run_dir, stream.session_id)) is False
            if not is_over:
                continue
            last = last_seq_of(part)
        if last <= acked:
            found[part.number] = (part, last)
    return found


def find_streams(spool: SpoolDir) -> list[SpooledStream]:
    """Return the streams of all runs, deleted ones left out, those of which only a note is left included.

    Segments whose header is damaged in both copies are passed over: whoever reads their stream tells of them.
    """
    return [
        SpooledStream(run_dir, stream, read_note(run_dir, stream), is_alive(run_dir, stream))
        for run_dir in spool.run_dirs()
        if not (run_dir / TOMBSTONE).exists()
        for stream in sorted({*streams_of(run_dir), *noted_streams(run_dir)})
    ]


def noted_streams(run_dir: Path) -> dict[StreamId, ShipNote]:
    """Return the notes in a run's folder, by stream. Damaged ones, and those of other names, are passed over."""
    found = {}
    for path in run_dir.glob(f"*{SHIP_SUFFIX}"):
        kept = _read(path)
        if kept is not None and path == ship_path(run_dir, kept[0].session_id):  # spec: RST-9.2
            found[kept[0]] = kept[1]
    return found
