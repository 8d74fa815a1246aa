"""What is taken in rows is what would have been taken event by event."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from event_builders import capture, end, frames, metric, start
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrack_protocol.collector import Collector, GapPolicy, StreamBatch
from xtrack_protocol.ir import Envelope, Metric, Ping, RunId, Skip, UnknownEvent
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import MemoryStore, StoredEvent
from xtrack_protocol.wire import Frame, FrameDecoder, frame_payload

SIDS = ("a" * 32, "b" * 32)


@st.composite
def captures(draw: st.DrawFn, *, derived: bool = True) -> list[Frame]:
    """Frames of a file or a pipe: runs of rows, with all that may stand between them."""
    found: list[bytes] = []
    for _ in range(draw(st.integers(1, 8))):
        run = draw(st.sampled_from(("r", "r", "gone", "s")))
        sid = draw(st.sampled_from((*SIDS, None) if derived else SIDS))
        wid = draw(st.sampled_from((None, "w1")))
        first = draw(st.integers(1, 12))
        what = draw(st.sampled_from(("row", "row", "row", "start", "end", "other")))
        if what == "row":
            value = draw(st.sampled_from((0.5, 0.5, 0.25)))
            rows = [metric(seq, value, run, wid=wid, sid=sid) for seq in range(first, first + draw(st.integers(1, 9)))]
            found.append(capture(rows))
        elif what == "start":
            found.append(capture([start(run, first, wid=wid, sid=sid)]))
        elif what == "end":
            found.append(capture([end(first, run, wid=wid, sid=sid)]))
        else:
            found.append(draw(st.sampled_from(others(run, sid or SIDS[0], first))))
    return FrameDecoder().feed(b"".join(found))


def others(run: str, sid: str, seq: int) -> list[bytes]:
    def control(payload: Any) -> bytes:
        return capture([Envelope.of(payload, seq=0, timestamp_us=1)])

    def event(payload: Any) -> bytes:
        return capture([Envelope.of(payload, seq=seq, timestamp_us=1, session_id=sid)])

    return [
        control(Ping()),
        control(Skip(run, sid, seq, seq + 3)),
        control(UnknownEvent("later_control", {"run_id": run})),
        event(UnknownEvent("later", {"run_id": run})),
        event(UnknownEvent("of_no_run", {})),
        event(Metric(RunId(run, "e1"), "loss", 0.5)),
        frame_payload(b"{"),
    ]


def kept(store: MemoryStore) -> list[tuple[Any, ...]]:
    def fact(one: StoredEvent) -> tuple[Any, ...]:
        return one.stream, one.raw, one.late

    runs = sorted({one.stream.run_id for one in store.events()})
    states = [(state.status, state.events, state.streams) for state in map(store.get_run, runs)]
    conflicts = [(one.stream, one.raw) for run in runs for one in store.conflicts(run)]
    return [*([fact(one) for one in store.events(run)] for run in runs), states, conflicts]


def with_a_deleted_run(policy: GapPolicy) -> tuple[MemoryStore, Collector]:
    store = MemoryStore()
    collector = Collector(store, gap_policy=policy, clock=lambda: 7)
    collector.push_event(metric(1, run="gone", sid=SIDS[0]))
    store.delete_run("gone")
    return store, collector


@settings(max_examples=200, deadline=None)
@given(
    captures(),
    st.lists(st.integers(0, 80), max_size=3),
    st.sampled_from(("record", "record", "reject")),
    st.sampled_from((None, None, "other")),
)
def test_the_numbers_are_those_of_each_event(
    taken: list[Frame], cuts: list[int], policy: GapPolicy, run_id: str | None
) -> None:
    (store, collector), (other_store, other) = with_a_deleted_run(policy), with_a_deleted_run(policy)
    ends = sorted({min(cut, len(taken)) for cut in cuts} | {len(taken)})
    for begin, until in zip([0, *ends], ends, strict=False):
        piece = taken[begin:until]
        tally = collector.push_rows(piece, source="s", run_id=run_id)
        pushed = other.push_frames(piece, source="s", run_id=run_id)
        assert tally.outcomes == Counter(one.outcome for one in pushed)
        assert set(tally.streams) == {one.stream for one in pushed if one.stream}
        assert set(tally.ambiguous) == {one.stream for one in pushed if one.stream and one.ambiguous}
        assert tally.damage == next((one.reason for one in pushed if one.outcome == "damaged"), "")
    assert kept(store) == kept(other_store)
    assert collector.close_source("s") == other.close_source("s")


@settings(max_examples=100, deadline=None)
@given(captures(derived=False), st.sampled_from(("record", "reject")))
def test_batches_are_what_their_events_are(taken: list[Frame], policy: GapPolicy) -> None:
    """A batch at a time, and the same one event after the other, from a plain peer."""
    (store, collector), (other_store, other) = with_a_deleted_run(policy), with_a_deleted_run(policy)
    stream = StreamId("r", "", SIDS[0])
    mine = [
        frame
        for frame in taken
        if frame.envelope
        and (isinstance(frame.envelope.payload, Skip) or frame.envelope.meta.seq >= 1)
        and frame.envelope.run_id == "r"
        and (frame.envelope.meta.session_id or SIDS[0]) == SIDS[0]
        and not frame.envelope.meta.worker_id
    ]
    for target in (stream, StreamId("gone", "", SIDS[0])):
        [whole] = collector.push_batches([StreamBatch(target, mine, 7, "s")])
        parts = [other.push_batches([StreamBatch(target, [frame], 7, "s")])[0] for frame in mine]
        assert whole.stored == sum(part.stored for part in parts)
        assert whole.duplicates == sum(part.duplicates for part in parts)
        assert sorted(whole.refused) == sorted(refused for part in parts for refused in part.refused)
        assert whole.ended == any(part.ended for part in parts)
    assert kept(store) == kept(other_store)
    assert collector.close_source("s") == other.close_source("s")


@pytest.mark.parametrize("policy", ["record", "reject"])
def test_the_hub_is_told_of_rows(policy: GapPolicy) -> None:
    store, collector = with_a_deleted_run(policy)
    row = frames([metric(seq, sid=SIDS[0]) for seq in range(1, 50)])
    collector.push_rows(row)
    last = [one.position for one in store.events("r")][-1]
    assert collector.hub.last_position("r") == last
