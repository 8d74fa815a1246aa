"""Writes one stream's segments: one system call an event, in the calling thread. spec: RST-3, RST-6

When ``append`` returns, the record is in the kernel and survives kill -9 of the process. Power loss is what ``sync``
is for. A write that fails half-way is cut off again, and if even that fails, the segment is left with its torn tail and
a new one begun: nothing is ever written after bytes that may be broken (spec: RST-5.11).

After a sync that failed, the kernel may have dropped what it couldn't write, and the next sync would say nothing of it.
So that segment is not written to again, and nothing counts as durable until the records in doubt have been written once
more, to a segment of their own, by a later sync. Readers know them for the same events by their seqs. spec: DLV-2.1
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from pathlib import Path
from typing import Final

from xtrack_protocol.errors import SpoolError
from xtrack_protocol.limits import FRAME_HARD_MAX, SEGMENT_MAX
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.spool.durable import sync_dir, sync_file
from xtrack_protocol.spool.layout import lock_path, make_private_dir, segment_path
from xtrack_protocol.spool.locks import FileLock
from xtrack_protocol.spool.pen import Pen
from xtrack_protocol.wire.records import (
    Record,
    RecordDecoder,
    SegmentHeader,
    encode_header,
    encode_record,
)

_FLAGS: Final = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | os.O_APPEND
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_CURE: Final = "Make room or set XTRACK_DIR to a folder that can be written"
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""File systems without locks, as Lustre is often mounted. Readers can't tell there who lives. spec: RST-6.5"""
_UNSYNCED_MAX: Final = 64
"""Segments that wait for a sync in the background, each with a descriptor: half a GiB, at which the kernel itself has
long made writers wait. Those beyond are written once more by the sync."""
_APPEND_SECONDS: Final = 1.0


class StreamWriter:
    """Appends records to a stream's segments. One writer a stream; callers serialise their calls.

    Only ``sync`` may be called while another thread is in ``append``, so that waiting for a disk stops nobody.
    Raises SpoolError, naming the path and the cure, where the spool can't be written. ``live`` takes the lock that
    tells readers that the emitter lives; who only files away events of another emitter doesn't. ``background``: another
    thread calls ``sync`` all along, so that ``append`` never waits for the disk, also where a segment is full.
    ``lock``: a re-entrant lock that is held by whoever writes; who uses the ``pen`` gives it.
    """

    def __init__(
        self,
        run_dir: Path,
        stream: StreamId,
        *,
        live: bool = True,
        background: bool = False,
        lock: threading.RLock | None = None,
        segment_max: int = SEGMENT_MAX,
        number: int = 1,
    ) -> None:
        self._run_dir = run_dir
        self._stream = stream
        self._background = background
        self._segment_max = segment_max
        self._number = number - 1
        self._path = run_dir
        self._current: Pen | None = None
        self._last_seq = 0
        self._closed = False
        self._unsynced: list[Pen] = []  # complete
        self._doubtful: list[Pen] = []  # those of which a sync has failed
        self._unsynced_dirs: tuple[Path, ...] = ()
        self._syncing = threading.RLock()  # held while waiting for a disk
        self._changing = threading.RLock()  # held while it changes which segments there are
        self._appending = lock or threading.RLock()  # held for the write of a record; taken before the one above
        try:
            encode_header(self._header(1, 1))
        except ValueError as error:
            raise SpoolError(run_dir, f"can't hold this stream: {error}", "Choose a shorter id") from error
        self._lock = FileLock(lock_path(run_dir, stream.session_id)) if live else None
        try:
            self._prepare_dir()
            if self._lock:
                self._take_lock(self._lock)
        except OSError as error:
            raise self._failure(error, run_dir) from error

    def _prepare_dir(self) -> None:
        if self._run_dir.is_symlink():  # readers pass over it, too. spec: RST-6.8
            raise SpoolError(self._run_dir, "is a symbolic link, and the spool follows none", "Remove it")
        missing = [folder for folder in self._run_dir.parents if not folder.exists()]
        make_private_dir(self._run_dir)
        ours = self._run_dir.parents[: max(2, len(missing) + 1)]  # perhaps made by another process a moment ago
        self._unsynced_dirs = (self._run_dir, *ours)

    def _take_lock(self, lock: FileLock) -> None:
        """Take the stream's lock, which only a reader that is just probing it can hold for a moment."""
        try:
            for _ in range(100):
                if lock.acquire():
                    return
                time.sleep(0.001)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self._lock = None
            return
        raise SpoolError(
            lock.path, "another process writes this stream", "Give this one a session id, or a worker id, of its own"
        )

    @property
    def path(self) -> Path:
        """The segment being written; the run's folder before the first event."""
        return self._path

    @property
    def last_seq(self) -> int:
        """The greatest seq that was appended; 0 before the first. May be asked from any thread."""
        current = self._current  # before the other, which a thread that takes it away has set before
        return max(current.last_seq if current else 0, self._last_seq)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be appended any more."""
        return self._closed

    # ------------------------------------------------------------------------------------------ appending

    def append(self, seq: int, payload: bytes) -> None:
        """Write one record. When this returns the event is accepted: it survives the end of this process."""
        if not 0 < len(payload) <= FRAME_HARD_MAX:  # spec: RST-3.4
            raise SpoolError(self._path, f"no record can hold {len(payload)} bytes")
        pen = self._current
        if pen is not None and pen.end >= pen.limit and not self._background:
            self._sync_full_segment()
        with self._appending:
            while True:
                pen = self._current
                if pen is None or pen.end >= pen.limit:
                    with self._changing:
                        pen = self._begin_segment(seq)
                try:
                    pen.write(encode_record(seq, payload, pen.salt))
                except OSError as error:
                    if pen.fd < 0 and not self._closed:
                        continue  # a sync has failed in the meantime, and withdrawn the segment
                    raise self._failure(error, pen.path) from error
                pen.last_seq = max(pen.last_seq, seq)
                return

    def pen(self) -> Pen | None:
        """Return the segment being written, for those who write to it themselves (``Pen.put``), if there is one."""
        return self._current

    def _sync_full_segment(self) -> None:
        with self._changing:
            self._retire()
        with contextlib.suppress(SpoolError):  # remembered as in doubt; it doesn't stop this event
            self.sync()

    def _begin_segment(self, seq: int) -> Pen:
        if self._closed:
            raise SpoolError(self._run_dir, "the writer is closed")
        self._retire()
        # A declared loss has no seq: what follows it is later than all there was. spec: RST-2
        self._current = current = self._create(seq or self._last_seq + 1)
        self._path = current.path
        return current

    def _retire(self) -> None:
        """Write no more to the present segment. It stays open until it is synced."""
        current = self._current
        if current is None:
            return
        self._last_seq = max(self._last_seq, current.last_seq)
        self._current = None
        if len(self._unsynced) < _UNSYNCED_MAX:
            self._unsynced.append(current)
        else:
            self._doubtful.append(current)
            current.close()

    def _header(self, number: int, first_seq: int) -> SegmentHeader:
        return SegmentHeader(
            run_id=self._stream.run_id,
            session_id=self._stream.session_id,
            worker_id=self._stream.worker_id,
            number=number,
            first_seq=first_seq,
            created_us=time.time_ns() // 1000,
            salt=os.urandom(4).hex(),
        )

    def _create(self, first_seq: int) -> Pen:
        """Create the next segment with its header, or nothing. Two threads may do so at once."""
        number = self._number
        while True:
            number += 1
            header = self._header(number, first_seq)
            path = segment_path(self._run_dir, self._stream.session_id, number)
            try:
                fd = os.open(path, _FLAGS, 0o600)
            except FileExistsError:
                continue  # an earlier writer's of this stream: never touched again
            except OSError as error:
                raise self._failure(error, path) from error
            try:
                head = encode_header(header)
                if os.write(fd, head) != len(head):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except BaseException as error:
                os.close(fd)
                path.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise self._failure(error, path) from error
                raise
            with self._changing:
                self._number = max(self._number, number)
                self._unsynced_dirs = (self._run_dir, *self._unsynced_dirs[1:])
            return Pen(fd, path, header.salt_value, self._segment_max)

    # ------------------------------------------------------------------------------------------ syncing

    def sync(self) -> None:
        """Wait until what was appended survives a power loss. Raises SpoolError where that is not known.

        What an earlier call has left in doubt is written once more.
        """
        with self._syncing:
            self._rescue_all()
            while True:
                with self._changing:
                    segment = self._unsynced[0] if self._unsynced else self._current
                if segment is None:
                    return
                self._sync_segment(segment, segment.end)
                with self._changing:
                    if segment not in self._unsynced:  # the present one; or forgotten meanwhile
                        return
                    if segment.end > segment.synced:  # it was the present one when the sync began
                        continue
                    self._unsynced.remove(segment)
                segment.close()

    def _sync_segment(self, segment: Pen, end: int) -> None:
        try:
            if end > segment.synced or self._unsynced_dirs:
                self._wait_for_disk(segment.fd)
        except OSError as error:
            with self._changing:
                if segment is self._current:
                    segment.withdraw()  # another thread may be writing to it
                    self._last_seq = max(self._last_seq, segment.last_seq)
                    self._current = None
                    self._doubtful.append(segment)
                elif segment in self._unsynced:
                    self._unsynced.remove(segment)
                    self._doubtful.append(segment)
            raise SpoolError(segment.path, f"can't be made durable: {error.strerror or error}", _CURE) from error
        segment.synced = end

    def _wait_for_disk(self, fd: int) -> None:
        dirs = self._unsynced_dirs
        sync_file(fd)
        for folder in dirs:
            sync_dir(folder)
        with self._changing:
            if self._unsynced_dirs is dirs:  # no segment has come in the meantime
                self._unsynced_dirs = ()

    def _rescue_all(self) -> None:
        """Write once more what failed syncs have left in doubt."""
        for segment in list(self._doubtful):
            self._await_append(segment)
            try:
                records = _records(segment)
                if records:
                    self._rescue(records)
            except FileNotFoundError:
                pass  # removed since: a collector has acked all of it, or the run was deleted
            except OSError as error:
                problem = error.problem if isinstance(error, SpoolError) else error.strerror or error
                raise SpoolError(segment.path, f"can't be made durable: {problem}", _CURE) from error
            self._doubtful.remove(segment)

    def _await_append(self, segment: Pen) -> None:
        """Close a segment in doubt when nobody writes to it any more; a call may have begun before the sync failed.

        Raises SpoolError where that takes long, as on a disk that doesn't answer, or would take for ever: in a signal
        handler that has interrupted the call.
        """
        lock = self._appending
        if lock._is_owned() and not self._closed:  # type: ignore[attr-defined]  # noqa: SLF001 - as threading does
            raise SpoolError(segment.path, "can't be made durable in the middle of a call that writes", _CURE)
        if not lock.acquire(timeout=_APPEND_SECONDS):
            raise SpoolError(segment.path, "can't be made durable while an event is being written", _CURE)
        try:
            segment.close()
            self._last_seq = max(self._last_seq, segment.last_seq)
        finally:
            lock.release()

    def _rescue(self, records: list[Record]) -> None:
        segment = self._create(next((record.seq for record in records if record.seq), 1))
        try:
            for record in records:
                data = encode_record(record.seq, record.payload, segment.salt)
                if os.write(segment.fd, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._wait_for_disk(segment.fd)
        except BaseException:
            segment.close()
            segment.path.unlink(missing_ok=True)  # it holds nothing that isn't elsewhere; the next sync begins again
            raise
        segment.close()

    # ------------------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """Sync, close and let go of the lock. Raises SpoolError where the sync fails; all is closed then, too."""
        with self._syncing:
            with self._changing:
                self._closed = True
                self._retire()
            try:
                try:
                    self.sync()
                except SpoolError:
                    self.sync()  # what was in doubt, written once more
            finally:
                self._release()

    def forget(self) -> None:
        """Close everything as it is, and write nothing: for a forked child, whose parent goes on writing."""
        # A thread that doesn't exist in this child may hold them.
        self._changing, self._syncing, self._appending = threading.RLock(), threading.RLock(), threading.RLock()
        self._closed = True
        self._retire()
        self._release()

    def _release(self) -> None:
        unsynced, self._unsynced, self._doubtful = [*self._unsynced, *self._doubtful], [], []
        for segment in unsynced:
            segment.close()
        if self._lock:
            self._lock.release()

    @staticmethod
    def _failure(error: OSError, path: Path) -> SpoolError:
        if isinstance(error, SpoolError):
            return error
        return SpoolError(path, f"can't be written: {error.strerror or error}", _CURE)


def _records(segment: Pen) -> list[Record]:
    """Return the records in doubt that can still be read, from the kernel's memory as a rule."""
    decoder = RecordDecoder(segment.salt, segment.synced)
    with segment.path.open("rb") as file:
        file.seek(segment.synced)
        return [item for item in decoder.feed(file.read()) if isinstance(item, Record)]
