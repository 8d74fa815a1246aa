"""Reads one stream's spool in the order of seqs, behind its writer or without one: what is shipped is read here.

Segments overlap where a failed sync was made good, records are damaged, a disk was full for a while, segments that were
shipped are removed: whatever lies in the spool, each seq comes once, either as the event or within a hole. A hole is
given only when it is certain: its loss was declared, what stood there is damaged, its segment is gone, or nothing more
will come of the stream. Anything else that is missing is waited for.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir import Skip
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool.layout import lock_path
from xtrack_protocol.spool.locks import is_locked
from xtrack_protocol.spool.parts import Part, PartFolder, find_strays, read_stray
from xtrack_protocol.spool.shipping import read_note
from xtrack_protocol.wire import Damage, Record, decode

_LOOK_SECONDS: Final = 1.0
"""How often the folder is looked at for what a writer doesn't leave as a rule: a number left out, a rescue."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event as it was accepted. ``payload``: the bytes of its envelope, unchanged."""

    seq: int
    payload: bytes


class Hole(msgspec.Struct, frozen=True, gc=False):
    """The seqs ``first`` to ``last``, which will never come from this spool. ``reason``: for people."""

    first: int
    last: int
    reason: str


class StreamFeed:
    """One stream in the order of its seqs, while its writer, which may be any process, goes on.

    Reading forward takes constant time an event; a look when nothing has come costs two stats. Nothing raises for what
    lies in the spool: where a file can't be read at the moment, ``next`` returns None and ``problem`` says why. Not
    thread-safe; a forked child makes its own.
    """

    def __init__(self, run_dir: Path, stream: StreamId) -> None:
        self._run_dir = run_dir
        self._stream = stream
        self._folder = PartFolder(run_dir, stream)
        self._next = 1
        self._active: list[Part] = []  # being read
        self._only: Part | None = None  # the one that is, where it is but one
        self._waiting: list[Part] = []  # not begun; that with the lowest first seq stands last
        self._declared: list[tuple[int, int, str]] = []
        self._strays: dict[int, tuple[Part, Record]] | None = None
        self._trimmed: Hole | None = None  # what was removed of a stream of which nothing else is left
        self._over = False
        self._last = 0
        self._looked = float("-inf")
        self._looked_for = 0  # the gap for which the folder was looked at out of turn
        self._problem = ""

    @property
    def stream(self) -> StreamId:
        """The stream that is read."""
        return self._stream

    @property
    def position(self) -> int:
        """The seq at which ``next`` goes on."""
        return self._next

    @property
    def last_seq(self) -> int:
        """The highest seq known so far; 0 at first."""
        return self._last

    @property
    def problem(self) -> str:
        """Why nothing can be read at the moment, for people; empty where all is well."""
        return self._problem

    @property
    def is_finished(self) -> bool:
        """Whether all was given and nobody writes the stream. Never where locks can't be seen. spec: RST-6.6"""
        if self._find() is not None or self._problem:
            return False
        return self._over or (self._is_over() and self._find() is None and not self._problem)

    def seek(self, seq: int) -> None:
        """Go on at ``seq``, before or behind: ``next`` gives what has this seq, or the hole that begins there."""
        if seq < 1:
            raise ValueError(f"a seq is 1 or more, not {seq}")
        if seq < self._next:
            self._next = seq
            self._restart()
        elif seq > self._next:
            self._next = seq
            self._active = [part for part in self._active if not self._is_passed(part)]
            self._only = self._active[0] if len(self._active) == 1 else None

    def next(self) -> Event | Hole | None:
        """Return what comes next; None where it hasn't come yet, or nothing more will (``is_finished``)."""
        part = self._only
        if part is not None and part.index < len(part.items):
            item, seq = part.items[part.index], self._next
            if type(item) is Record and item.seq == seq:
                part.index += 1
                part.damage = None
                self._next = seq + 1
                return Event(seq, item.payload)
        found = self._find()
        if isinstance(found, Event):
            self._next = found.seq + 1
            part = self._only
            if part is not None and part.index < len(part.items):
                head = part.items[part.index]
                if type(head) is Record and head.seq == found.seq:  # no stray: the next call finds what follows at once
                    part.index += 1
                    part.damage = None
        elif found is not None:
            self._next = found.last + 1
        return found

    def ahead(self, most: int) -> list[bytes]:
        """Return the payloads of up to ``most`` events that are read already, from ``position`` on; stay before them.

        None at all: what comes next isn't at hand, or no event; ``next`` finds it.
        """
        part, seq = self._only, self._next
        found: list[bytes] = []
        if part is not None:
            for item in part.items[part.index : part.index + most]:
                if type(item) is not Record or item.seq != seq:
                    break
                found.append(item.payload)
                seq += 1
        return found

    def pass_by(self, count: int) -> None:
        """Go on behind as many of the events that ``ahead`` has returned."""
        part = self._only
        if part is not None and count:
            part.index += count
            part.damage = None
            self._next += count

    def close(self) -> None:
        """Release the files. Whoever goes on all the same opens them again."""
        self._restart()

    # ------------------------------------------------------------------------------------------ finding

    def _find(self) -> Event | Hole | None:
        """Return what comes next, and stay before it."""
        try:
            try:
                found = self._search()
            except FileNotFoundError:  # removed since the folder was looked at
                self._look()
                found = self._search()
        except OSError as error:  # a SpoolError, too
            self._problem = str(error)
            return None
        self._problem = ""
        return found

    def _search(self) -> Event | Hole | None:
        while True:
            part = self._least()
            if part is None:
                if self._begin_parts(None) or self._look_if_due():
                    continue
                limit = 0
            else:
                head = part.items[part.index]
                assert type(head) is Record
                if head.seq == self._next:
                    return Event(head.seq, head.payload)
                limit = head.seq - 1
                if self._begin_parts(limit):
                    continue
            declared = self._first_declared()
            if declared > self._next:
                limit = min(limit or declared, declared - 1)
            found = self._stray() or self._declared_hole(limit)
            if found is not None:
                return found
            if limit < self._next:
                return self._hole_at_end()
            if self._look_for_gap():
                continue
            found = self._explained_hole(part, limit)
            if found is not None:
                return found
            if not self._over:
                if not self._is_over():
                    return None  # who files away what others have sent may still get it
            elif self._strays is None:
                self._strays = find_strays(self._folder.parts)
            else:
                return Hole(self._next, limit, "it is not in the spool")

    def _least(self) -> Part | None:
        """Return the part with the lowest seq that hasn't been given; None where all that is being read is used up."""
        least: Part | None = None
        least_seq = 0
        for part in tuple(self._active):
            head = self._head(part)
            if head is None:
                if part.ended and (part.damage is None or self._is_passed(part)):
                    self._active.remove(part)
            elif least is None or head.seq < least_seq:
                least, least_seq = part, head.seq
        self._only = self._active[0] if len(self._active) == 1 else None
        return least

    def _head(self, part: Part) -> Record | None:
        """Return the next record of a part that hasn't been given; None where none has come yet."""
        while True:
            while part.index < len(part.items):
                item = part.items[part.index]
                if type(item) is Record:
                    if item.seq >= self._next:
                        return item
                    if item.seq < 1:
                        self._take_skip(item)
                    else:
                        part.damage = None
                elif type(item) is Damage:
                    part.damage = item
                part.index += 1
            if not part.read(complete=self._over or part.bound is not None):
                return None
            last = part.items[-1].seq if type(part.items[-1]) is Record else 0
            self._last = max(self._last, last)

    def _take_skip(self, record: Record) -> None:
        try:
            skip = decode(record.payload).payload
        except DecodeError:
            return  # a control event of another program: it has no seq that could be missed
        if isinstance(skip, Skip) and skip.last >= self._next:
            self._declared.append((skip.first, skip.last, skip.reason or "its loss was declared"))
            self._last = max(self._last, skip.last)

    # ------------------------------------------------------------------------------------------ holes

    def _first_declared(self) -> int:
        """Return where the next hole begins that the writer has declared; 0 where none is known."""
        self._declared = [one for one in self._declared if one[1] >= self._next]
        return min((first for first, _, _ in self._declared), default=0)

    def _declared_hole(self, limit: int) -> Hole | None:
        """Return the hole that begins here and that the writer has declared. spec: STR-7"""
        for first, last, reason in self._declared:
            if first <= self._next <= last:
                return Hole(self._next, last if limit < self._next else min(last, limit), reason)
        return None

    def _explained_hole(self, part: Part | None, limit: int) -> Hole | None:
        """Return the hole before the next record, in ``part``, where something tells that nothing fills it."""
        for other in self._active:
            if other.damage is not None:
                if self._is_rescuing(part, other):
                    return None
                return Hole(self._next, limit, f"damaged in the spool: {other.damage.reason}")
        removed = self._removed_hole(limit)
        if removed is not None:
            return removed
        reason = self._folder.fault_before(part, self._next)
        return Hole(self._next, limit, reason) if reason else None

    def _is_rescuing(self, part: Part | None, damaged: Part) -> bool:
        """Whether a segment is being written at this moment that may hold what is damaged elsewhere."""
        return any(
            other is not part and other.number > damaged.number and not other.ended and other.is_being_written()
            for other in self._active
        )

    def _removed_hole(self, limit: int | None) -> Hole | None:
        """Return the hole that begins here where trimming has left it."""
        note = read_note(self._run_dir, self._stream)
        if note is None or note.trimmed < self._next:
            return None
        last = note.trimmed if limit is None else min(note.trimmed, limit)
        return Hole(self._next, last, f"shipped to {note.to}, and no longer kept here")

    def _hole_at_end(self) -> Hole | None:
        """Return the hole that begins here, where no record is known behind it."""
        if not self._folder.has_parts:
            return self._trimmed if self._trimmed and self._trimmed.first == self._next else self._renewed_trimmed()
        if not self._over:
            return None
        ends = [part.damage for part in self._active if part.damage and (part.damage.seq or 0) >= self._next]
        last = max((damage.seq or 0 for damage in ends), default=0)
        return Hole(self._next, last, f"damaged in the spool: {ends[0].reason}") if ends else None

    def _renewed_trimmed(self) -> Hole | None:
        if self._looked_for != self._next:
            self._looked_for = self._next
            self._trimmed = self._removed_hole(None)
            return self._trimmed
        return None

    def _stray(self) -> Event | None:
        """Return the event that is next, where it stands behind others of higher seqs."""
        if not self._strays or self._next not in self._strays:
            return None
        payload = read_stray(*self._strays[self._next])
        return None if payload is None else Event(self._next, payload)

    # ------------------------------------------------------------------------------------------ segments

    def _begin_parts(self, limit: int | None) -> bool:
        """Begin to read the segments that may hold the next seq, or else what follows it; return whether any was."""
        waiting = self._waiting
        begun = False
        while waiting and (waiting[-1].first <= self._next or (not begun and _is_within(waiting[-1].first, limit))):
            part = waiting.pop()
            if not self._is_passed(part):
                self._active.append(part)
                begun = True
        return begun

    def _is_passed(self, part: Part) -> bool:
        return part.bound is not None and part.bound <= self._next

    def _look_if_due(self) -> bool:
        """Look for new segments where there may be some; return whether there are."""
        now = time.monotonic()
        if self._folder.next_is_there():
            return self._look()
        if now - self._looked < _LOOK_SECONDS:
            return False
        if not self._folder.may_have_changed():
            self._looked = now
            return False
        return self._look()

    def _look_for_gap(self) -> bool:
        """Look for new segments because a seq is missing, at once the first time; return whether there are."""
        if self._looked_for == self._next:
            return self._look_if_due()
        self._looked_for = self._next
        return self._look()

    def _look(self) -> bool:
        self._looked = time.monotonic()
        if not self._folder.look():
            return False
        parts = self._folder.parts
        self._active = [part for part in self._active if part in parts]
        self._only = None
        self._waiting = sorted(
            (part for part in parts if part not in self._active and not part.ended and not self._is_passed(part)),
            key=lambda part: (part.first, part.number),
            reverse=True,
        )
        self._over = False  # whoever has written them may live
        self._strays = None
        self._last = max([self._last, *(part.first - 1 for part in parts)])
        return True

    def _is_over(self) -> bool:
        """Find out whether nobody writes the stream any more; then everything that came before is there to be read."""
        if is_locked(lock_path(self._run_dir, self._stream.session_id)) is not False:
            return False
        self._look()
        self._over = True
        return True

    def _restart(self) -> None:
        """Let go of all segments, and begin again with those that may hold the next seq."""
        for part in self._folder.parts:
            part.rewind()
        self._active, self._only, self._declared, self._looked_for = [], None, [], 0
        self._waiting = sorted(
            (part for part in self._folder.parts if not self._is_passed(part)),
            key=lambda part: (part.first, part.number),
            reverse=True,
        )


def _is_within(first: int, limit: int | None) -> bool:
    return limit is None or first <= limit
