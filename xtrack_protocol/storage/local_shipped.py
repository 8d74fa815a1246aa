"""Events that were shipped and are no longer in the spool: nobody is to take them for lost. spec: RST-9.5"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.ir import Envelope, Skip
from xtrack_protocol.runs import RunState, StreamSummary
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.spool.shipping import ShipNote, read_note
from xtrack_protocol.storage.base import Incoming, Storage
from xtrack_protocol.wire import decode, encode


def trimmed_items(index: Storage, stream: StreamId, note: ShipNote, now_us: int) -> Iterator[Incoming]:
    """Yield what an index must hold of a stream's trimmed part and doesn't: its ends, and that the rest won't come."""
    missing = RangeSet([(1, note.trimmed)]) - index.cursor(stream)
    if not missing:
        return
    for text in note.ends:
        raw = text.encode()
        try:
            envelope = decode(raw)
        except DecodeError:
            continue  # a note that somebody else has written
        if envelope.meta.seq in missing:
            yield Incoming(stream, envelope, raw, now_us)
    skip = Skip(stream.run_id, stream.session_id, 1, note.trimmed, f"shipped to {note.to}", stream.worker_id or None)
    envelope = Envelope.of(skip, seq=0, timestamp_us=now_us)
    yield Incoming(stream, envelope, encode(envelope), now_us)


def with_shipped(spool: SpoolDir, state: RunState) -> RunState:
    """Return ``state`` with what a collector has, and what was trimmed here, told apart from what is lost."""
    if not state.lost_events:
        return state
    folder = spool.run_dir(state.run_id)
    streams = tuple(
        _with_shipped(one, read_note(folder, one.stream)) if one.gaps or one.skipped else one for one in state.streams
    )
    return attrs.evolve(state, streams=streams)


def _with_shipped(summary: StreamSummary, note: ShipNote | None) -> StreamSummary:
    if note is None or not note.trimmed:
        return summary
    kept_there = RangeSet([(1, note.trimmed)])
    gaps, skipped = RangeSet(summary.gaps), RangeSet(summary.skipped)
    rest = (gaps - kept_there, skipped - kept_there)
    shipped = gaps - rest[0]
    shipped.update(skipped - rest[1])
    return attrs.evolve(
        summary, gaps=tuple(rest[0]), skipped=tuple(rest[1]), shipped=tuple(shipped), shipped_to=note.to
    )
