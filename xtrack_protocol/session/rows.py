"""Rows: events of one stream whose seqs follow each other. Whoever takes a row decides by its first event for them all.

Workers send rows and hardly anything else, so that what each event of one costs is what a server can take.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from xtrack_protocol.ir import CONTROL_TYPES, ENVELOPES
from xtrack_protocol.wire import Frame

_IN_ROWS: Final = frozenset(
    ENVELOPES[event_type] for event_type in ENVELOPES.keys() - CONTROL_TYPES - {"run_start", "run_end"}
)
"""All that name their run in ``run_id``, and neither begin nor end anything."""


def row_end(frames: Sequence[Frame], begin: int) -> int:
    """Return the index behind the row that begins at index ``begin``, which may be a row of its own: ``begin`` + 1.

    All of a row are events of the same run, worker and session, each with the seq behind the one before it. Control
    events, unknown ones, bad frames, a run's start and its end are rows of their own.
    """
    first = frames[begin].envelope
    kind: type | None = type(first)
    if first is None or kind not in _IN_ROWS:
        return begin + 1
    run_id = first.payload.run_id  # type: ignore[union-attr]  # all of these have one
    meta = first.meta
    worker_id, session_id = meta.worker_id, meta.session_id
    seq = begins_with = meta.seq
    for frame in islice(frames, begin + 1, None):  # nothing here looks at more than it must: it is done for each event
        envelope = frame.envelope
        if type(envelope) is not kind:
            kind = type(envelope)
            if kind not in _IN_ROWS:
                break
        meta = envelope.meta  # type: ignore[union-attr]  # not None, by its type
        if (
            meta.seq != seq + 1
            or meta.session_id != session_id
            or meta.worker_id != worker_id
            or envelope.payload.run_id != run_id  # type: ignore[union-attr]
        ):
            break
        seq += 1
    return begin + 1 + seq - begins_with


def rows_of(frames: Sequence[Frame]) -> list[Sequence[Frame]]:
    """Return ``frames`` as rows, in order."""
    rows = []
    begin = 0
    while begin < len(frames):
        end = row_end(frames, begin)
        rows.append(frames[begin:end])
        begin = end
    return rows
