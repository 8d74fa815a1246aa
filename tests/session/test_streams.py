"""Which stream an event belongs to."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import envelopes

from xtrack_protocol.ir import (
    CONTROL_TYPES,
    Ack,
    Command,
    Envelope,
    Metric,
    OpenStream,
    RunId,
    RunStart,
    Skip,
    Subscribe,
    UnknownEvent,
)
from xtrack_protocol.session import LEGACY_PREFIX, StreamId, StreamResolver


def of(payload: Any, ts: int = 1, seq: int = 1, wid: str | None = None, sid: str | None = None) -> Envelope:
    return Envelope.of(payload, seq=seq, timestamp_us=ts, worker_id=wid, session_id=sid)


def sessions(resolver: StreamResolver, *events: Envelope) -> list[str]:
    return [stream.session_id for stream in map(resolver.resolve, events) if stream]


def test_identity_is_run_worker_session() -> None:
    resolver = StreamResolver()
    assert resolver.resolve(of(Metric("r", "k", 1), wid="w", sid="s")) == StreamId("r", "w", "s")
    assert resolver.resolve(of(Metric(RunId("r", "e"), "k", 1), sid="s")) == StreamId("r", "", "s")
    assert resolver.resolve(of(Metric("r", "k", 1), sid="s"), run_id="other") == StreamId("other", "", "s")


def test_derived_sessions() -> None:
    resolver = StreamResolver()
    events = [
        of(Metric("r", "k", 0)),
        of(RunStart("r"), 1000),
        of(Metric("r", "k", 1)),
        of(RunStart("r"), 9000),
        of(Metric("r", "k", 2)),
        of(RunStart(RunId("r", "e")), 1000),
        of(Metric("r", "k", 3)),
    ]
    expected = ["legacy-0", "legacy-1000", "legacy-1000", "legacy-9000", "legacy-9000", "legacy-1000", "legacy-1000"]
    assert sessions(resolver, *events) == expected


def test_workers_runs_and_sources_are_apart() -> None:
    resolver, other = StreamResolver(), StreamResolver()
    sessions(resolver, of(RunStart("r"), 5, wid="a"))
    assert sessions(resolver, of(Metric("r", "k", 1), wid="a")) == ["legacy-5"]
    assert sessions(resolver, of(Metric("r", "k", 1), wid="b"), of(Metric("r2", "k", 1), wid="a")) == ["legacy-0"] * 2
    assert sessions(other, of(Metric("r", "k", 1), wid="a")) == ["legacy-0"]


def test_an_event_with_a_session_id_changes_no_derived_one() -> None:
    resolver = StreamResolver()
    sessions(resolver, of(RunStart("r"), 5))
    assert sessions(resolver, of(RunStart("r"), 6, sid="own"), of(Metric("r", "k", 1))) == ["own", "legacy-5"]


@pytest.mark.parametrize("meta", [{}, {"worker_id": "", "session_id": ""}])
def test_an_empty_id_is_no_id(meta: dict[str, str]) -> None:
    """Also where somebody built the meta data by hand."""
    event = of(RunStart("r"), 5)
    built = type(event)(1, type(event.meta)(1, 5, **meta), event.payload)
    assert StreamResolver().resolve(built) == StreamId("r", "", "legacy-5")


@pytest.mark.parametrize(
    "payload", [Ack(1, "ok", run_id="r"), Command("c", "stop", run_id="r"), Skip("r", "s", 1, 2), OpenStream("r", "s")]
)
def test_control_events_belong_to_no_stream(payload: Any) -> None:
    assert StreamResolver().resolve(of(payload, seq=0)) is None
    assert StreamResolver().resolve(of(payload, seq=5)) is None


def test_unknown_events() -> None:
    resolver = StreamResolver()
    assert resolver.resolve(of(UnknownEvent("x", {"run_id": "r"}), sid="s")) == StreamId("r", "", "s")
    assert resolver.resolve(of(UnknownEvent("x", {"run_id": {"id": "r"}}), sid="s")) == StreamId("r", "", "s")
    for body in ({}, {"run_id": 5}, {"run_id": {}}, {"run_id": None}, {"run_id": {"id": 1}}):
        assert resolver.resolve(of(UnknownEvent("x", body))) is None
    assert resolver.resolve(of(UnknownEvent("x", {"run_id": "r"}), seq=0)) is None, "a control event to come"
    assert resolver.resolve(of(Subscribe("r"), seq=0)) is None


@given(st.lists(envelopes(), max_size=8))
def test_reading_a_source_twice_finds_the_same_streams(events: list[Envelope]) -> None:
    """Where each worker's first event is its run_start, as it is in a whole capture."""
    resolver = StreamResolver()
    begun = [of(RunStart(event.run_id), 7, wid=event.meta.worker_id) for event in events if event.run_id is not None]
    whole = begun + events
    once = [resolver.resolve(event) for event in whole]
    assert [resolver.resolve(event) for event in whole] == once
    for event, stream in zip(whole, once, strict=True):
        if stream is None:
            assert event.run_id is None or event.event_type in CONTROL_TYPES or event.meta.seq < 1
        else:
            assert stream.is_derived == (event.meta.session_id is None) or stream.session_id.startswith(LEGACY_PREFIX)


def test_any_interleaving_of_two_workers_finds_the_same_streams() -> None:
    a = [of(RunStart("r"), 1, wid="a"), of(Metric("r", "k", 1), wid="a"), of(RunStart("r"), 2, wid="a")]
    b = [of(RunStart("r"), 3, wid="b"), of(Metric("r", "k", 1), wid="b")]
    expected = {id(event): stream for events in (a, b) for event, stream in _resolved(events)}
    for places in itertools.combinations(range(5), 3):
        left, right = iter(a), iter(b)
        mixed = [next(left) if at in places else next(right) for at in range(5)]
        assert {id(event): stream for event, stream in _resolved(mixed)} == expected


def _resolved(events: list[Envelope]) -> list[tuple[Envelope, StreamId | None]]:
    resolver = StreamResolver()
    return [(event, resolver.resolve(event)) for event in events]
