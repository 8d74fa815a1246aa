"""Reads what is new in the spools into an index. Only who holds the index's lock does that.

Nothing that was accepted may be passed over, so a folder is left out of a reading only when that is proven:

- every lock in it was free before its segments were read to their ends, so that no emitter can append any more;
- a new emitter, or an importer, makes a file, which changes the folder's time; that time is relied on only when it has
  been the same for longer than the coarsest clock of a file system, for two changes may have the same time;
- who appends without a lock of its own (``LocalStore``) changes the folder's time afterwards;
- on file systems of other machines, where a lock may be held and not be seen, the sizes of segments are looked at as
  well.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.errors import DecodeError, RunDeleted, RunNotFound, SpoolError, StorageError
from xtrack_protocol.ir import Envelope
from xtrack_protocol.runs import RunState, StreamSummary
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import (
    TOMBSTONE,
    Segment,
    SpoolDir,
    find_lost,
    is_locked,
    lock_path,
    open_segment,
    read_segment,
    segments,
    streams_of,
)
from xtrack_protocol.spool.layout import lost_path, ship_path
from xtrack_protocol.spool.shipping import ShipNote, noted_streams
from xtrack_protocol.storage.base import Storage, StreamEvents
from xtrack_protocol.storage.local_notes import read_access, read_expected
from xtrack_protocol.storage.local_shipped import trimmed_items
from xtrack_protocol.storage.progress import Part, Progress, Rest
from xtrack_protocol.wire import Damage, Frame, Record, decode

_BATCH: Final = 5_000
_FOLDERS: Final = 256
"""Folders of which events are committed together."""
_GRAIN_NS: Final = 2_500_000_000
"""A folder's time of change may stay the same for this long though files come: the coarsest in use has two seconds."""


@attrs.define
class _Found:
    """A stream in a folder. ``alive``: whether its lock is held; None where the file system can't tell."""

    stream: StreamId
    alive: bool | None
    parts: list[tuple[Segment, int]] = attrs.field(factory=list)
    """With their sizes."""
    last_write_ns: int = 0
    note: ShipNote | None = None


class SpoolReader:
    """Reads the spools under one XTRACK_DIR. ``is_remote``: they are on a file system of another machine."""

    def __init__(self, spool: SpoolDir, *, is_remote: bool, clock: Callable[[], int]) -> None:
        self._spool = spool
        self._is_remote = is_remote
        self._clock = clock
        self._said: set[str] = set()
        self._headers: dict[tuple[Path, int, int], Segment] = {}
        self.folders_read = 0
        """How many folders were looked into so far, those left out not counted."""

    def read(self, index: Storage, progress: Progress) -> bool:
        """Bring ``index`` up to date. Raises StorageError where it can't be.

        Returns False, having read nothing, where the folder of a run that is in the index is gone: somebody has removed
        it by hand, and the index has to be made anew without it.
        """
        with progress.opened():
            rests = progress.rests()
            folders = self._folders()
            if not progress.folders() <= folders.keys():
                return False
            batch = _Batch(index, self._clock)
            readings: list[_FolderReading] = []
            for name, changed_ns in folders.items():
                rest = rests.get(name)
                if self._is_at_rest(name, changed_ns, rest, progress):
                    continue
                self.folders_read += 1
                reading = _FolderReading(self, self._spool.runs / name, changed_ns, index, progress)
                reading.read(batch, rest)
                readings.append(reading)
                if len(readings) >= _FOLDERS:
                    _conclude(readings, batch, progress)
            _conclude(readings, batch, progress)
        return True

    @property
    def spool(self) -> SpoolDir:
        """Where the spools are."""
        return self._spool

    @property
    def is_remote(self) -> bool:
        """Whether they are on a file system of another machine."""
        return self._is_remote

    def now_us(self) -> int:
        """Return the time that events are received at."""
        return self._clock()

    def complain(self, text: str) -> None:
        """Say on stderr, once, what of a spool can't be read; the rest is."""
        if text not in self._said and sys.stderr is not None:
            self._said.add(text)
            sys.stderr.write(f"xtrack: warning: {text}\n")

    def open(self, path: Path) -> tuple[Segment, int, int] | None:
        """Return a segment, its size and its time of change; None where it isn't readable (yet)."""
        try:
            status = path.stat()
            key = (path, status.st_dev, status.st_ino)
            segment = self._headers.get(key) or open_segment(path)
        except FileNotFoundError:
            return None
        except SpoolError as error:
            self.complain(str(error))
            return None
        except OSError as error:
            self.complain(f"{path}: can't be read: {error.strerror or error}")
            return None
        if segment is None:
            return None
        self._headers[key] = segment  # a header never changes
        return segment, status.st_size, status.st_mtime_ns

    def _folders(self) -> dict[str, int]:
        """Return the folders of runs, sorted by name, and when each was changed last."""
        found = {}
        try:
            with os.scandir(self._spool.runs) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):  # spec: RST-6.8
                        with suppress(FileNotFoundError):  # removed at this moment
                            found[entry.name] = entry.stat(follow_symlinks=False).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):  # nobody has logged yet
            return {}
        return dict(sorted(found.items()))

    def _is_at_rest(self, name: str, changed_ns: int, rest: Rest | None, progress: Progress) -> bool:
        if rest is None or not rest.sealed or rest.changed_ns != changed_ns:
            return False
        return not rest.sizes or all(
            _size(self._spool.runs / name / part_name) == part.size for part_name, part in progress.parts(name).items()
        )


class _Batch:
    """Events on their way into the index: of many folders in one transaction, for each costs a sync."""

    def __init__(self, index: Storage, clock: Callable[[], int]) -> None:
        self._index = index
        self._clock = clock
        self._streams: dict[StreamId, list[Frame]] = {}
        self._count = 0

    def add(self, stream: StreamId, envelope: Envelope, raw: bytes) -> None:
        """Put in one event."""
        frames = self._streams.get(stream)
        if frames is None:
            frames = self._streams[stream] = []
        frames.append(Frame(envelope, None, 0, len(raw), raw))
        self._count += 1
        if self._count >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Commit what has been put in."""
        if self._streams:
            now_us = self._clock()
            self._index.append_streams(
                [StreamEvents(stream, frames, now_us) for stream, frames in self._streams.items()]
            )
            self._streams, self._count = {}, 0


def _conclude(readings: list[_FolderReading], batch: _Batch, progress: Progress) -> None:
    """Commit what was read in folders; then find out who lives, and note how far it went."""
    batch.flush()
    for reading in readings:
        reading.find_lost()
    progress.save(
        {(reading.folder.name, name): part for reading in readings for name, part in reading.parts.items()},
        {reading.folder.name: reading.rest for reading in readings if reading.rest},
    )
    readings.clear()


class _FolderReading:
    """One reading of a run's folder. ``parts`` and ``rest`` are what it found out, to be noted."""

    def __init__(self, reader: SpoolReader, folder: Path, changed_ns: int, index: Storage, progress: Progress) -> None:
        self.folder = folder
        self.parts: dict[str, Part] = {}
        self.rest: Rest | None = None
        self._reader = reader
        self._changed_ns = changed_ns
        self._index = index
        self._progress = progress
        self._before: Rest | None = None
        self._found: list[_Found] = []

    def read(self, batch: _Batch, before: Rest | None) -> None:
        """Read what is new into ``batch``. ``before``: what was noted when the folder was over last time."""
        self._before = before
        if (self.folder / TOMBSTONE).exists():
            bury(self._index, self.folder, self._reader)
            self.rest = self._new_rest(sizes=False)
            return
        self._read_access()
        expected = read_expected(self.folder, self._reader.complain)
        if expected is not None and _state_of(self._index, expected.run_id) is None:
            self._index.expect_run(expected.run_id, name=expected.name, experiment_id=expected.experiment_id)
        self._found = self._find_streams()
        known = self._progress.parts(self.folder.name)
        for one in self._found:
            if one.note is not None and one.note.trimmed:
                for item in trimmed_items(self._index, one.stream, one.note, self._reader.now_us()):
                    batch.add(item.stream, item.envelope, item.raw)
            for segment, size in one.parts:
                self._read_part(batch, segment, size, known.get(segment.path.name), finished=one.alive is False)

    def _read_access(self) -> None:
        """Make the index, and so its backups, know who owns the run. spec: RST-7.8"""
        try:
            known = read_access(self.folder)
        except StorageError as error:  # what the index knows of it stays
            self._reader.complain(str(error))
            return
        if known is not None and self._index.get_access(known.run_id) != known.access:
            self._index.set_access(known.run_id, known.access)

    def find_lost(self) -> None:
        """Find out which streams are lost, once all that was read is in the index, and whether more can come."""
        if self._found and self._are_over(self._found):
            self.rest = self._new_rest(sizes=self._reader.is_remote)

    def _find_streams(self) -> list[_Found]:
        """Return the streams in the folder; who lives is looked at now, before anything is read."""
        found: dict[StreamId, _Found] = {}
        for path in segments(self.folder):
            opened = self._reader.open(path)
            if opened is None:
                continue
            segment, size, changed_ns = opened
            one = found.get(segment.stream)
            if one is None:
                alive = is_locked(lock_path(self.folder, segment.stream.session_id))
                one = found[segment.stream] = _Found(segment.stream, alive)
            one.parts.append((segment, size))
            one.last_write_ns = max(one.last_write_ns, changed_ns)
        for stream, note in noted_streams(self.folder).items():
            one = found.get(stream)
            if one is None:  # all else was trimmed
                alive = is_locked(lock_path(self.folder, stream.session_id))
                one = found[stream] = _Found(stream, alive)
                with suppress(OSError):
                    one.last_write_ns = ship_path(self.folder, stream.session_id).stat().st_mtime_ns
            one.note = note
        return list(found.values())

    def _read_part(self, batch: _Batch, segment: Segment, size: int, known: Part | None, *, finished: bool) -> None:
        """Read what is new in a segment."""
        offset = 0
        if known is not None and known.salt == segment.header.salt:
            if known.offset >= size or (known.size == size and not finished):
                return
            offset = known.offset
        reached, count = offset, 0
        try:
            for item, after in read_segment(segment, offset, finished=finished):
                if isinstance(item, Record):
                    self._take(segment, item, batch)
                    count += 1
                elif isinstance(item, Damage):
                    self._reader.complain(
                        f"{segment.path}: {item.size} bytes from byte {item.offset} on are damaged: {item.reason}"
                    )
                else:  # a torn tail held no accepted event; nothing follows it, so there is nothing to pass over
                    continue
                reached = after
        except SpoolError as error:  # gone, or unreadable from here on
            self._reader.complain(str(error))
        part = Part(reached, max(size, reached), segment.header.salt)
        self.parts[segment.path.name] = part
        if count >= _BATCH:  # who is interrupted in a long reading goes on from here
            batch.flush()
            self._progress.save({(self.folder.name, segment.path.name): part}, {})

    def _take(self, segment: Segment, record: Record, batch: _Batch) -> None:
        try:
            envelope = decode(record.payload)
        except DecodeError as error:  # a sound record of something that is no event: another program's
            self._reader.complain(f"{segment.path}: the record at byte {record.offset} is no event: {error}")
            return
        batch.add(segment.stream, envelope, record.payload)

    def _are_over(self, found: list[_Found]) -> bool:
        """Find out which streams are lost; return whether nothing more can come of any."""
        over = True
        states: dict[str, RunState | None] = {}
        for one in found:
            has_note = lost_path(self.folder, one.stream.session_id).exists()
            if one.alive is not False:
                over = False
                if not has_note:
                    continue
            run_id = one.stream.run_id
            if run_id not in states:
                states[run_id] = _state_of(self._index, run_id)
            over = self._is_over(one, states[run_id], has_note=has_note) and over
        return over

    def _is_over(self, one: _Found, state: RunState | None, *, has_note: bool) -> bool:
        summary = _summary_of(state, one.stream)
        if summary is None:
            return True  # it never came to its first event
        has_word = summary.end_status is not None or not summary.votes or summary.lost is not None
        if has_word and not has_note:
            return True
        lost = find_lost(self.folder, one.stream, summary.last_seq, one.last_write_ns // 1000)
        if lost is None:
            return has_word
        if lost != summary.lost:
            self._index.mark_lost(lost)
        return True

    def _new_rest(self, *, sizes: bool) -> Rest:
        """Return the note that the folder is over; sealed when its time of change can be relied on."""
        now_ns, before = time.time_ns(), self._before
        seen_ns = before.seen_ns if before is not None and before.changed_ns == self._changed_ns else now_ns
        is_settled = now_ns - seen_ns > _GRAIN_NS
        if not self._reader.is_remote:  # the same clock
            is_settled = is_settled or now_ns - self._changed_ns > _GRAIN_NS
        return Rest(self._changed_ns, seen_ns, sealed=is_settled, sizes=sizes)


def bury(index: Storage, folder: Path, reader: SpoolReader) -> None:
    """Make the index know that the run of a folder was deleted, whether it has known the run or not. spec: FLD-9"""
    run_ids = {stream.run_id for stream in (*streams_of(folder), *noted_streams(folder))}
    try:
        run_ids.add((folder / TOMBSTONE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reader.complain(f"{folder / TOMBSTONE}: can't be read: {error}")
    mine = [run_id for run_id in sorted(run_ids) if reader.spool.run_dir(run_id) == folder]
    if not mine:
        reader.complain(f"{folder / TOMBSTONE}: doesn't name the run of its folder")
    for run_id in mine:
        _bury(index, run_id)


def _bury(index: Storage, run_id: str) -> None:
    try:
        index.delete_run(run_id)
    except RunNotFound:
        try:
            index.expect_run(run_id)
        except RunDeleted:
            pass  # it is buried already
        else:
            index.delete_run(run_id)


def _state_of(index: Storage, run_id: str) -> RunState | None:
    try:
        return index.get_run(run_id)
    except RunNotFound:
        return None


def _summary_of(state: RunState | None, stream: StreamId) -> StreamSummary | None:
    return None if state is None else next((one for one in state.streams if one.stream == stream), None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
