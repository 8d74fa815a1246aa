"""One stream on its way to a collector: what comes next, and how far the collector has got."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.limits import REJECTED_NOTED_MAX
from xtrack_protocol.session import ConnectionState, EmitterSession, StreamId, StreamState
from xtrack_protocol.spool.feed import Event, Hole, StreamFeed
from xtrack_protocol.spool.layout import safe_name
from xtrack_protocol.spool.locks import FileLock
from xtrack_protocol.spool.shipping import ShipNote, write_note

SHIPPING: Final = ".shipping"
"""The end of the name of the lock that whoever ships a stream holds. spec: DLV-8.4"""


@attrs.define(eq=False)
class Lane:
    """A stream, its feed, and where it stands. All is the shipping thread's but ``spooled``, and reading numbers.

    ``note``: what stands beside the segments, or will; ``unsaved``: whether it is ahead of its file. ``spooled``:
    returns the last seq that its writer, in this process, has put into the spool. ``refused``: seqs that the collector
    refused for good, with codes, and how many of each code. ``fenced``: another sender has the stream. ``forbidden``:
    this connection may not bring it, ``why_not``: because of what, where the collector said so. ``held``: why the
    collector takes none of it for now. ``resend``: send a plain peer all of it once more. ``passive``: its worker is
    another process, or gone.
    """

    stream: StreamId
    run_dir: Path
    feed: StreamFeed
    note: ShipNote
    spooled: Callable[[], int] = int
    refused: dict[int, str] = attrs.field(factory=dict)
    refused_counts: dict[str, int] = attrs.field(factory=dict)
    fenced: bool = False
    forbidden: bool = False
    why_not: str = ""
    held: str = ""
    unsaved: bool = False
    resend: bool = False
    passive: bool = False
    _lock: FileLock | None = None
    _peeked: Event | Hole | None = None
    _next: int = -1
    """The seq that the feed goes on with; -1: unknown."""
    _sent: int = 0
    _plain: deque[tuple[int, int]] = attrs.field(factory=deque)
    """Of a plain connection: at which byte of it events end, and their seqs."""

    @classmethod
    def of(cls, run_dir: Path, stream: StreamId, note: ShipNote | None, url: str, *, buffer: bool) -> Lane:
        """Return a lane that goes on where ``note`` says, as far as that tells of the collector at ``url``.

        ``buffer``: the spool is only a buffer for that collector, where no note says otherwise.
        """
        if note is None or note.to != url:
            note = ShipNote(url, buffer=buffer) if note is None else note.moved_to(url)
        lane = cls(stream, run_dir, StreamFeed(run_dir, stream), note)
        for seq, code in note.rejected:
            lane.refused[seq] = code
            lane.refused_counts[code] = lane.refused_counts.get(code, 0) + 1
        unnamed = note.rejected_count - len(note.rejected)
        if unnamed > 0:
            lane.refused_counts["others"] = unnamed
        return lane

    def take(self) -> bool:
        """Take the right to ship the stream, for this process; return False where another has it. spec: DLV-8.4"""
        lock = FileLock(self.run_dir / f"{safe_name(self.stream.session_id)}{SHIPPING}")
        try:
            if not lock.acquire_soon():
                return False
        except OSError:
            return True  # a file system without locks: there the collector's fence keeps two senders apart
        self._lock = lock
        return True

    def save(self) -> None:
        """Write the note beside the segments, if it has changed. Raises OSError."""
        if self.unsaved:
            self.unsaved = False
            try:
                write_note(self.run_dir, self.stream, self.note)
            except BaseException:
                self.unsaved = True
                raise

    def close(self) -> None:
        """Release the files and the right to ship."""
        self.feed.close()
        if self._lock:
            self._lock.release()

    # ------------------------------------------------------------------------------------------ what is asked

    @property
    def end_seq(self) -> int:
        """The last seq there is, declared losses included."""
        return max(self.spooled(), self.feed.last_seq)

    @property
    def waiting(self) -> int:
        """Events that are neither acked nor sent to a plain peer."""
        return max(0, self.end_seq - max(self.note.acked, self.note.unconfirmed))

    @property
    def committed(self) -> int:
        """Events that the collector has committed, declared losses included."""
        return max(0, self.note.acked - self.note.rejected_count)

    @property
    def unconfirmed(self) -> int:
        """Events that a plain peer was sent, and nobody has acked."""
        return max(0, self.note.unconfirmed - self.note.acked)

    @property
    def plain_cursor(self) -> int:
        """Where a plain connection goes on."""
        return 0 if self.resend else max(self.note.acked, self.note.unconfirmed)

    @property
    def is_read(self) -> bool:
        """Whether all that is in the spool was handed on at the last look at it."""
        return self._next > 0 and self._peeked is None

    @property
    def is_out(self) -> bool:
        """Whether nothing more of it can be sent on this connection."""
        return self.fenced or self.forbidden

    # ------------------------------------------------------------------------------------------ what is sent

    def pump(self, session: EmitterSession, most: int, written: int) -> int:
        """Offer up to ``most`` events; return how many were taken, holes included.

        ``written``: bytes of this connection that ``session`` has given out before.
        """
        if session.stream_state(self.stream) is not StreamState.OPEN:
            return 0
        taken, plain = 0, session.state is ConnectionState.PLAIN
        while taken < most:
            position = session.position(self.stream)
            if not plain and (count := self._put_many(session, position + 1, most - taken)):
                taken += count
                continue
            item = self._item_after(position)
            if item is None or not self._put(session, item, position + 1):
                break
            taken += 1
            if plain:
                self._plain.append((written + session.output_size, session.position(self.stream)))
        return taken

    def _put_many(self, session: EmitterSession, seq: int, most: int) -> int:
        """Offer what is read already and plainly comes next; return how many events were taken."""
        if self._next != seq or self._peeked is not None or self.refused:
            return 0
        try:
            count = session.offer_many(self.stream, seq, self.feed.ahead(most))
        except DecodeError:  # told, and dealt with, one at a time
            count = session.position(self.stream) - seq + 1
        self.feed.pass_by(count)
        self._next += count
        self._sent = max(self._sent, self._next - 1)
        return count

    def _item_after(self, position: int) -> Event | Hole | None:
        """Return the event or hole that holds the seq behind ``position``; None: not there yet."""
        if self._next != position + 1:
            self.feed.seek(position + 1)
            self._next, self._peeked = position + 1, None
        while True:
            item = self._peeked
            if item is None:
                item = self._peeked = self.feed.next()
            if item is None or (item.last if isinstance(item, Hole) else item.seq) > position:
                return item
            self._peeked = None  # of before

    def _put(self, session: EmitterSession, item: Event | Hole, seq: int) -> bool:
        """Offer what is next; return whether it was taken."""
        stream = self.stream
        if isinstance(item, Hole):
            last, sent = item.last, session.skip(stream, seq, item.last, item.reason)
        elif item.seq > seq:  # the feed tells every hole; should it ever not, a gap is still declared
            last, sent = item.seq - 1, session.skip(stream, seq, item.seq - 1, "not in the spool")
        else:
            last, sent = seq, self._put_event(session, item)
        if sent:
            self._next = last + 1
            self._sent = max(self._sent, last)
            if last == (item.last if isinstance(item, Hole) else item.seq):
                self._peeked = None
        return sent

    def _put_event(self, session: EmitterSession, event: Event) -> bool:
        if event.seq in self.refused:  # spec: CTL-3.8
            return session.skip(self.stream, event.seq, event.seq, f"refused before: {self.refused[event.seq]}")
        size = len(event.payload)
        if size > session.max_payload:
            reason = f"{size} bytes, and the collector takes {session.max_payload}"
            sent = session.skip(self.stream, event.seq, event.seq, reason)
            if sent:
                self.refuse(event.seq, "frame_too_large")
            return sent
        try:
            return session.offer(self.stream, event.seq, event.payload)
        except DecodeError as error:  # no event, and so nothing that could stand for it with this peer
            self.refuse(event.seq, error.kind)
            return session.skip(self.stream, event.seq, event.seq, f"no event: {error.kind}")

    def is_exhausted(self, session: EmitterSession) -> bool:
        """Whether all that was in the spool is sent, and only more of it could be done."""
        return self._peeked is None and session.stream_state(self.stream) is StreamState.OPEN

    def has_more(self) -> bool:
        """Whether the spool of an exhausted lane has more now."""
        self._peeked = self.feed.next()
        return self._peeked is not None

    # ------------------------------------------------------------------------------------------ what comes back

    def connected(self) -> None:
        """Begin anew, on a new connection."""
        self.forbidden, self.why_not, self.held = False, "", ""
        self._plain.clear()

    def open_at(self, cursor: int) -> None:
        """Take the cursor that a connection begins with.

        One above all that was ever sent: the collector has it from somewhere else, from this very folder perhaps, which
        may be its store. What could be its only copy is no buffer, and is never trimmed. spec: DLV-8.6
        """
        if cursor > max(self._sent, self.note.acked, self.note.unconfirmed) and self.note.buffer:
            self.note.buffer, self.unsaved = False, True
        self.move_to(cursor)

    def move_to(self, cursor: int) -> None:
        """Take the collector's cursor, which may be lower than before. spec: CTL-3.7, CTL-8.2"""
        self.held = ""
        if cursor != self.note.acked:
            self.note.acked = cursor
            self.unsaved = True

    def refuse(self, seq: int, code: str) -> None:
        """Remember that an event was refused for good."""
        if seq in self.refused:
            return
        self.refused_counts[code] = self.refused_counts.get(code, 0) + 1
        self.note.add_rejected([(seq, code)])
        if len(self.refused) < REJECTED_NOTED_MAX:
            self.refused[seq] = code
        self.unsaved = True

    def settle(self, upto: int) -> None:
        """Count as sent, to a plain peer, what ends at or before byte ``upto`` of the connection. spec: VER-3.3"""
        note = self.note
        while self._plain and self._plain[0][0] <= upto:
            seq = self._plain.popleft()[1]
            if seq > note.unconfirmed:
                note.unconfirmed, self.unsaved = seq, True
