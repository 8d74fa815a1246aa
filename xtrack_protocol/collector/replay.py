"""Feeds captured files to a collector. spec: FLD-13, RST-8, STR-8"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from xtrack_protocol.errors import ConfigurationError, DecodeError
from xtrack_protocol.ir import Envelope
from xtrack_protocol.limits import FILE_LIMITS
from xtrack_protocol.session import StreamId
from xtrack_protocol.wire import RECORDS_START, Frame, decode_header, read_items, sniff, stream_file
from xtrack_protocol.wire.files import item_frame

if TYPE_CHECKING:
    from xtrack_protocol.collector.collector import Collector
    from xtrack_protocol.collector.tally import Tally

Speed: TypeAlias = Literal["instant", "realtime"] | float
"""How fast a file is replayed: at once, as it was, or so many times as fast."""

_BATCH: Final = 4096


@attrs.frozen(kw_only=True)
class ReplayReport:
    """What a replay did.

    ``frames``: all frames, damaged ones included. ``stored``, ``duplicates``, ``conflicts``, ``dropped`` (of deleted
    runs), ``refused`` (above a gap, where the policy says so), ``control`` and ``no_run`` (events of no run) and
    ``damaged`` add up to it. ``damage``: what is wrong, with offset and length in bytes. ``ambiguous_streams``: streams
    of which the file holds two different events of one seq. spec: STR-8. ``runs``: the ids the events went to.
    """

    path: str
    frames: int
    stored: int
    duplicates: int
    conflicts: int
    dropped: int
    refused: int
    control: int
    no_run: int
    damaged: int
    unverified: int
    damage: tuple[DecodeError, ...]
    ambiguous_streams: tuple[StreamId, ...]
    runs: tuple[str, ...]


def replay(
    collector: Collector,
    path: Path,
    *,
    run_id: str | None,
    speed: Speed,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> ReplayReport:
    """Feed the file at ``path``; see :meth:`Collector.replay_file`."""
    factor = _factor(speed)
    with path.open("rb") as file:
        head = file.read(RECORDS_START)
    header = decode_header(head, path) if sniff(head) == "segment" else None
    if run_id is not None and header is None:
        _check_single_run(path)
    counter = _Counter()
    source = object()  # a reading of a file is a source of its own
    try:
        for batch in _batches(_frames(path), factor, clock, sleep):
            if header is None:
                counter.count(batch, collector.push_rows(batch, source=source, run_id=run_id))
            else:
                stream = StreamId(run_id or header.run_id, header.worker_id, header.session_id)
                counter.count(batch, collector.push_records(stream, batch))
    finally:
        collector.close_source(source)
    return counter.report(path)


def _frames(path: Path) -> Iterator[Frame]:
    with path.open("rb") as file:
        head = file.read(RECORDS_START)
        if sniff(head) == "segment":
            for item in read_items(file, decode_header(head, path)):
                yield item_frame(item, FILE_LIMITS, lenient=True)
            return
    yield from stream_file(path)


def _factor(speed: Speed) -> float | None:
    """Return how many times as fast as it was; None for at once."""
    if speed == "instant":
        return None
    factor: object = 1.0 if speed == "realtime" else speed
    if isinstance(factor, (int, float)) and 0 < factor < float("inf"):
        return factor
    raise ConfigurationError("speed", speed, "must be instant, realtime, or a number above 0")


def _check_single_run(path: Path) -> None:
    runs: set[str] = set()
    for frame in stream_file(path):
        found = frame.envelope.run_id if frame.envelope else None
        if found is not None:
            runs.add(found)
        if len(runs) > 1:
            raise ConfigurationError(
                "run_id",
                str(path),
                f"the file holds several runs, {' and '.join(repr(run) for run in sorted(runs))} among them",
                "Replay it without a run id: each of its runs keeps its own",
            )


def _batches(
    frames: Iterator[Frame], factor: float | None, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[list[Frame]]:
    """Group frames; with a ``factor``, hold each back until it is due, and never wait with frames in hand."""
    if factor is None:
        while batch := list(islice(frames, _BATCH)):
            yield batch
        return
    batch = []
    begun: float | None = None
    first_us = 0
    for frame in frames:
        if frame.envelope is not None:
            timestamp_us = _time_of(frame.envelope)
            if timestamp_us is not None:
                if begun is None:
                    begun, first_us = clock(), timestamp_us
                left = begun + (timestamp_us - first_us) / 1e6 / factor - clock()
                if left > 0:
                    if batch:
                        yield batch
                        batch = []
                        left = begun + (timestamp_us - first_us) / 1e6 / factor - clock()
                    if left > 0:
                        sleep(left)
        batch.append(frame)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _time_of(envelope: Envelope) -> int | None:
    """Return an event's time; None for control events, which may carry any."""
    return envelope.meta.timestamp_us if envelope.meta.seq > 0 else None


class _Counter:
    """Counts outcomes."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._frames = 0
        self._unverified = 0
        self._damage: list[DecodeError] = []
        self._ambiguous: dict[StreamId, None] = {}
        self._runs: dict[str, None] = {}

    def count(self, frames: list[Frame], tally: Tally) -> None:
        """Take what became of a batch."""
        self._frames += len(frames)
        self._outcomes.update(tally.outcomes)
        self._ambiguous.update(tally.ambiguous)
        self._runs.update(dict.fromkeys(stream.run_id for stream in tally.streams))
        for frame in frames:
            if frame.error is not None or not frame.verified:
                self._unverified += not frame.verified
                if frame.error is not None:
                    self._damage.append(frame.error)

    def report(self, path: Path) -> ReplayReport:
        """Return the sums."""
        of = self._outcomes.get
        return ReplayReport(
            path=str(path),
            frames=self._frames,
            stored=of("stored", 0),
            duplicates=of("duplicate", 0),
            conflicts=of("conflict", 0),
            dropped=of("run_deleted", 0),
            refused=of("gap", 0),
            control=of("control", 0),
            no_run=of("no_run", 0),
            damaged=of("damaged", 0),
            unverified=self._unverified,
            damage=tuple(self._damage),
            ambiguous_streams=tuple(self._ambiguous),
            runs=tuple(self._runs),
        )
