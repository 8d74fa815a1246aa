"""Fills stores with prepared events, in this process and without timing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from benchmarks import bare, data
from xtrack_protocol import Frame, FrameDecoder
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import Storage
from xtrack_protocol.storage.base import StreamEvents

BATCH = 4096
"""Events of a transaction, as the server's at most."""


def frames_of(payloads: Iterator[bytes], number: int) -> list[Frame]:
    """Return the next frames as a server would have decoded them."""
    decoder = FrameDecoder()
    found = decoder.feed(b"".join(map(data.frame, islice(payloads, number))))
    assert all(frame.error is None for frame in found)
    return found


def append(store: Storage, frames: list[Frame], run_id: str = data.RUN, sid: str = data.SID) -> None:
    """Store frames of one stream in one transaction; all of them must be new."""
    stream = StreamId(run_id, "", sid)
    (result,) = store.append_streams([StreamEvents(stream, frames, data.BEGIN_US)])
    assert result.stored == len(frames), result


def fill(
    store: Storage,
    count: int,
    *,
    names: Sequence[str] = ("train/loss",),
    run_id: str = data.RUN,
    values: str = "losses",
    ended: bool = False,
) -> int:
    """Store a run of so many metrics, its start and perhaps its end besides; return its last seq."""
    made = payloads(count, names=names, run_id=run_id, values=values)
    while some := frames_of(made, BATCH):
        append(store, some, run_id)
    if ended:
        append(store, frames_of(iter([data.end(count + 2, run_id)]), 1), run_id)
    return count + 1 + ended


def payloads(
    count: int,
    *,
    names: Sequence[str] = ("train/loss",),
    run_id: str = data.RUN,
    values: str = "losses",
    first: int = 1,
) -> Iterator[bytes]:
    """Yield the payloads of metrics; before them that of the run's start where ``first`` is 1."""
    if first == 1:
        yield data.start(run_id)
        first = 2
    for event in data.metrics(count, first=first, names=names, run_id=run_id, values=values):
        yield bare.encode(event)
