"""What an input adds up to: frames, damage, and which seqs of which streams are missing."""

from __future__ import annotations

from typing import Final

import attrs

from xtrack_protocol.decode.source import Batch, Input
from xtrack_protocol.decode.text import escape, ranges_text
from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir import Skip, run_id_text
from xtrack_protocol.session import RangeSet, StreamId, StreamResolver

_KEPT: Final = 1000
"""Damaged ranges that are remembered one by one; more are counted."""

_CURRENT: Final = "\ud800"
"""Stands for the session id that was current where a part of an input begins. No event can bring it."""


def stream_text(stream: StreamId) -> str:
    """Return a stream's identity for people."""
    worker = f" worker {stream.worker_id}" if stream.worker_id else ""
    return escape(f"run {stream.run_id}{worker} session {stream.session_id}")


@attrs.define
class _Tally:
    """One stream: which seqs came, which are declared lost, and the last one that is known to have been there."""

    seqs: RangeSet = attrs.field(factory=RangeSet)
    skipped: RangeSet = attrs.field(factory=RangeSet)
    first: int | None = None
    last_lost: int = 0
    after_damage: bool = False
    """Whether an input was damaged before the first event of the stream."""

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges of seqs that are missing between the first and the last one known of."""
        known = RangeSet(self.seqs)
        known.update(self.skipped)
        first = self.first if self.first is not None else next((low for low, _ in self.seqs), 1)
        gaps = known.gaps(first)
        last = max(known.last or 0, first - 1)
        if self.last_lost > last:
            gaps.append((last + 1, self.last_lost))
        return gaps


class Report:
    """Counts over any number of inputs. Memory: a range set for each stream, and at most 1000 damaged ranges.

    ``is_part``: it begins somewhere in an input, and is for the :meth:`take_part` of another one. ``sought``: types of
    events of which it is to be told whether there are any.
    """

    def __init__(self, *, is_part: bool = False, sought: frozenset[str] = frozenset()) -> None:
        self.absent = set(sought)
        """Those of them that no event was of so far."""
        self._before = (_CURRENT,) if is_part else ()
        self.frames = 0
        self.bad = 0
        self.unverified = 0
        self.torn = 0
        self.damage: list[tuple[str, DecodeError]] = []
        """The name of the input, and what is wrong there."""
        self.damaged_bytes = 0
        self._streams: dict[StreamId, _Tally] = {}
        self._input: Input | None = None
        self._damaged_before = False
        self._resolver = StreamResolver(*self._before)

    def _begin(self, source: Input) -> None:
        if source is self._input:
            return
        self._input = source
        self._damaged_before = False
        self._resolver = StreamResolver(*self._before)  # each file is a source of its own. spec: STR-2.3
        if source.header is not None and source.stream is not None:
            tally = self._tally(source.stream)
            first = source.header.first_seq
            tally.first = first if tally.first is None else min(tally.first, first)

    def detached(self) -> Report:
        """Return the report without its input, so that it can be sent to another process."""
        self._input = None
        return self

    def take_part(self, source: Input, part: Report) -> None:
        """Count what another report has counted of the part of an input that comes next."""
        self._begin(source)
        self.frames += part.frames
        self.bad += part.bad
        self.unverified += part.unverified
        self.torn += part.torn
        self.damaged_bytes += part.damaged_bytes
        self.damage += part.damage[: _KEPT - len(self.damage)]
        self.absent &= part.absent
        for stream, theirs in part._streams.items():
            if stream.session_id == _CURRENT:
                current = self._resolver.current(stream.run_id, stream.worker_id)
                stream = StreamId(stream.run_id, stream.worker_id, current)  # noqa: PLW2901
            tally = self._tally(stream)
            if theirs.seqs and not tally.seqs and (self._damaged_before or theirs.after_damage):
                tally.first = 1
            tally.seqs.update(theirs.seqs)
            tally.skipped.update(theirs.skipped)
            tally.last_lost = max(tally.last_lost, theirs.last_lost)
        self._resolver.go_on(part._resolver)
        self._damaged_before = self._damaged_before or part._damaged_before

    def take(self, batch: Batch) -> list[StreamId | None]:
        """Count a batch; return the stream of each frame."""
        self._begin(batch.input)
        if self.absent:
            self.absent -= {frame.envelope.event_type for frame in batch.frames if frame.envelope is not None}
        own = batch.input.stream
        streams: list[StreamId | None] = []
        for frame in batch.frames:
            self.frames += 1
            self.unverified += not frame.verified
            envelope = frame.envelope
            if frame.error is not None:
                self._note_damage(batch.input, frame.error)
            if envelope is None:
                streams.append(None)
                continue
            stream = self._resolver.resolve(envelope)
            if stream is not None:
                stream = own or stream
                tally = self._tally(stream)
                if not tally.seqs and self._damaged_before:
                    tally.first = 1  # its first events may be what is damaged
                    tally.after_damage = True
                tally.seqs.add(envelope.meta.seq)
            elif isinstance(envelope.payload, Skip):
                skip = envelope.payload
                stream = own or StreamId(run_id_text(skip.run_id), skip.worker_id or "", skip.session_id)
                if 1 <= skip.first <= skip.last:
                    self._tally(stream).skipped.add_range(skip.first, skip.last)
            streams.append(stream)
        if own is not None:
            for _, seq in batch.lost:
                tally = self._tally(own)
                tally.last_lost = max(tally.last_lost, seq)
        return streams

    def _tally(self, stream: StreamId) -> _Tally:
        tally = self._streams.get(stream)
        if tally is None:
            tally = self._streams[stream] = _Tally()
        return tally

    def _note_damage(self, source: Input, error: DecodeError) -> None:
        self.bad += 1
        self._damaged_before = True
        self.damaged_bytes += error.length
        self.torn += source.torn and error.kind == "truncated"
        if len(self.damage) < _KEPT:
            self.damage.append((source.name, error))

    def missing(self) -> dict[StreamId, list[tuple[int, int]]]:
        """Return the ranges of seqs that are missing, by stream; streams that miss none are left out."""
        gaps = {stream: tally.missing() for stream, tally in sorted(self._streams.items())}
        return {stream: ranges for stream, ranges in gaps.items() if ranges}

    def skipped(self) -> dict[StreamId, list[tuple[int, int]]]:
        """Return the ranges of seqs whose loss their emitter declared, by stream. spec: STR-7"""
        return {
            stream: list(tally.skipped - tally.seqs) for stream, tally in sorted(self._streams.items()) if tally.skipped
        }

    @property
    def streams(self) -> list[StreamId]:
        """The streams that were seen."""
        return sorted(self._streams)

    def lines(self, *, most: int = 20) -> list[str]:
        """Return the summary for people, the total first."""
        total = f"{self.frames} frames, {self.bad} bad"
        if self.unverified:
            total += f", {self.unverified} unverified (recovered behind damage)"
        lines = [total]
        for name, error in self.damage[:most]:
            last = error.offset + max(error.length, 1) - 1
            where = f"bytes {error.offset}-{last} ({error.length} bytes)"
            member = f" at {error.path}" if error.path else ""
            lines.append(f"  {escape(name)}: {where} lost: {error.kind}{escape(member)}: {escape(error.reason)}")
        if self.bad > most:
            lines.append(f"  and {self.bad - min(most, len(self.damage))} more bad frames")
        missing = self.missing()
        lines += [
            f"  {stream_text(stream)}: missing seqs {ranges_text(missing[stream])}" for stream in list(missing)[:most]
        ]
        if len(missing) > most:
            lines.append(f"  and {len(missing) - most} more streams with missing seqs")
        for stream, ranges in list(self.skipped().items())[:most]:
            lines.append(f"  {stream_text(stream)}: its emitter declared lost: seqs {ranges_text(ranges)}")
        return lines
