"""Two machines and a network that splits, delays and breaks, driven by Hypothesis; and what must hold whatever it does.

Every event that was logged is committed exactly once, in order within its stream; nothing is acked that wasn't
committed; what was lost is known to be lost. The drivers here are the smallest that keep the sessions' rules.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_machines import NOW, event_payload

from xtrack_protocol.errors import RemoteSessionError
from xtrack_protocol.ir import Envelope, Hello
from xtrack_protocol.session import (
    Acked,
    CollectorLimits,
    CollectorSession,
    ConnectionState,
    EmitterSession,
    EventsReceived,
    FrameRefused,
    RangeSet,
    Rejected,
    Rewound,
    SkipDeclared,
    StreamId,
    StreamOpened,
    StreamOpenRequested,
    StreamState,
    Welcomed,
)
from xtrack_protocol.testing.linked import LinkedPair
from xtrack_protocol.wire import decode

STREAMS = (StreamId("run-1", "", "a" * 32), StreamId("run-1", "w1", "b" * 32), StreamId("run-2", "", "c" * 32))


@attrs.define
class Store:
    """What the collector has committed."""

    have: dict[StreamId, RangeSet] = attrs.field(factory=dict)
    events: dict[tuple[StreamId, int], Envelope] = attrs.field(factory=dict)

    def cursor(self, stream: StreamId) -> int:
        return self.have[stream].contiguous_to if stream in self.have else 0

    def copy(self) -> Store:
        return Store({stream: RangeSet(have) for stream, have in self.have.items()}, dict(self.events))

    def commit(self, item: EventsReceived | SkipDeclared) -> None:
        have = self.have.setdefault(item.stream, RangeSet())
        if isinstance(item, SkipDeclared):
            have.add_range(item.first, item.last)
            return
        for frame in item.frames:
            envelope = frame.envelope
            assert envelope is not None
            seq = envelope.meta.seq
            known = self.events.setdefault((item.stream, seq), envelope)
            assert known == envelope
            if seq not in have:
                assert seq == have.contiguous_to + 1, "in order, without holes"
                have.add(seq)


@attrs.define
class Connection:
    link: LinkedPair
    pending: list[EventsReceived | SkipDeclared] = attrs.field(factory=list)
    welcomed: bool = False


@attrs.define
class World:
    window_events: int | None
    window_bytes: int | None
    in_flight: int
    codec: str
    patience: float
    now: float = NOW
    spool: dict[StreamId, dict[int, bytes]] = attrs.field(factory=lambda: {stream: {} for stream in STREAMS})
    last: dict[StreamId, int] = attrs.field(factory=lambda: dict.fromkeys(STREAMS, 0))
    acked: dict[StreamId, int] = attrs.field(factory=lambda: dict.fromkeys(STREAMS, 0))
    store: Store = attrs.field(factory=Store)
    backup: Store = attrs.field(factory=Store)
    ever: Store = attrs.field(factory=Store)
    connections: list[Connection] = attrs.field(factory=list)

    # ------------------------------------------------------------------ the emitter's driver

    def log(self, stream: StreamId, count: int, *, lost: bool = False) -> None:
        for _ in range(count):
            self.last[stream] += 1
            if not lost:
                self.spool[stream][self.last[stream]] = event_payload(self.last[stream], stream, value=0.25)

    def connect(self) -> None:
        limits = CollectorLimits(
            window_events=self.window_events, window_bytes=self.window_bytes, in_flight=self.in_flight
        )
        link = LinkedPair(
            EmitterSession(Hello([1], [self.codec]), output_max=2000, hello_timeout=self.patience),
            CollectorSession(authenticate=lambda auth: "me", durability="power", limits=limits),
            now=self.now,
        )
        self.connections = [*self.connections[-2:], Connection(link)]
        link.connect()
        for stream in STREAMS:
            link.emitter.open_stream(stream, self.now)

    def offer_all(self, connection: Connection, most: int = 1_000_000) -> None:
        session = connection.link.emitter
        for stream in STREAMS:
            for _ in range(most):
                if session.is_over or session.state is ConnectionState.DRAINING:
                    return
                if session.stream_state(stream) is not StreamState.OPEN:
                    break
                seq = session.position(stream) + 1
                if seq > self.last[stream]:
                    break
                payload = self.spool[stream].get(seq)
                if payload is not None:
                    taken = session.offer(stream, seq, payload)
                else:
                    end = seq
                    while end < self.last[stream] and end + 1 not in self.spool[stream]:
                        end += 1
                    taken = session.skip(stream, seq, end, "lost")
                if not taken:
                    break

    def act_on_emitter_news(self, connection: Connection) -> None:
        news, connection.link.emitter_news = connection.link.emitter_news, []
        for item in news:
            match item:
                case Acked(stream=stream, seq=seq):
                    self.check_committed(stream, seq)
                    self.acked[stream] = max(self.acked[stream], seq)
                case StreamOpened(stream=stream, cursor=cursor) if connection.welcomed:
                    self.check_committed(stream, cursor)
                case Welcomed():
                    connection.welcomed = True
                case Rewound():
                    raise AssertionError(item)
                case FrameRefused(error=error):
                    assert error.kind == "truncated", "and that only where the connection broke"
                case _:
                    pass

    def check_committed(self, stream: StreamId, upto: int) -> None:
        assert upto <= self.last[stream]
        assert upto <= self.ever.cursor(stream), "acked before it was committed"

    # ------------------------------------------------------------------ the collector's driver

    def act_on_collector_news(self, connection: Connection) -> None:
        news, connection.link.collector_news = connection.link.collector_news, []
        for item in news:
            match item:
                case StreamOpenRequested(stream=stream):
                    self.take_over(connection, stream)
                case EventsReceived() | SkipDeclared():
                    connection.pending.append(item)
                case FrameRefused(error=error):
                    assert error.kind == "truncated"
                case _:
                    pass

    def take_over(self, connection: Connection, stream: StreamId) -> None:
        """Fence the others, and throw away what they have brought and isn't committed (CTL-13.3)."""
        for other in self.connections:
            if other is not connection:
                other.link.collector.fence(stream)
                other.pending = [item for item in other.pending if item.stream != stream]
        connection.link.collector.accept_stream(stream, self.store.cursor(stream))

    def commit(self, connection: Connection, count: int) -> None:
        batch, connection.pending = connection.pending[:count], connection.pending[count:]
        for item in batch:
            self.store.commit(item)
            self.ever.commit(item)
        collector = connection.link.collector
        for item in batch:
            collector.release(item.size, self.now)
        if collector.state is ConnectionState.PLAIN:
            return
        for stream in dict.fromkeys(item.stream for item in batch):
            collector.ack(stream, self.store.cursor(stream))

    def hold(self, connection: Connection, stream: StreamId) -> None:
        collector = connection.link.collector
        if not collector.is_over and collector.stream_state(stream) is StreamState.OPEN:
            collector.hold_stream(stream, "full")

    def unhold(self, connection: Connection) -> None:
        collector = connection.link.collector
        for stream in STREAMS:
            if not collector.is_over and collector.stream_state(stream) is StreamState.HELD:
                mine = [item for item in connection.pending if item.stream == stream]
                connection.pending = [*mine, *(item for item in connection.pending if item.stream != stream)]
                self.commit(connection, len(mine))
                collector.accept_stream(stream, self.store.cursor(stream))

    def restore(self) -> None:
        """The collector's process dies, and comes back with what the backup had."""
        for connection in self.connections:
            connection.link.cut()
            connection.pending.clear()
        self.connections.clear()
        self.store = self.backup.copy()

    # ------------------------------------------------------------------ the world

    def step(self, what: str, which: int, size: int) -> None:
        stream = STREAMS[which % len(STREAMS)]
        if what == "log":
            self.log(stream, size % 7)
        elif what == "lose":
            self.log(stream, 1 + size % 3, lost=True)
        elif what == "connect":
            self.connect()
        elif what == "backup":
            self.backup = self.store.copy()
        elif what == "restore":
            self.restore()
        elif what in {"tick", "leap"}:
            seconds = size / 40 if what == "tick" else size
            self.now += seconds
            for connection in self.connections:
                connection.link.advance(seconds)
        elif self.connections:
            which = max(0, which - 3)  # mostly the newest
            self.step_in(self.connections[-1 - which % len(self.connections)], what, stream, size)
        for connection in self.connections:
            self.act_on_collector_news(connection)
            self.act_on_emitter_news(connection)
            assert connection.link.errors == []

    def step_in(self, connection: Connection, what: str, stream: StreamId, size: int) -> None:
        link = connection.link
        if what == "flow":
            link.deliver_to_collector()
            self.act_on_collector_news(connection)
            link.deliver_to_emitter()
            self.act_on_emitter_news(connection)
            self.offer_all(connection, 1 + size % 9)
        elif what == "offer":
            self.offer_all(connection, 1 + size % 9)
        elif what == "to_collector":
            link.deliver_to_collector(1 + size * size)
        elif what == "to_emitter":
            link.deliver_to_emitter(1 + size * size)
        elif what == "commit":
            self.commit(connection, 1 + size % 5)
        elif what == "hold":
            self.hold(connection, stream)
        elif what == "unhold":
            self.unhold(connection)
        elif what == "cut":
            link.cut()
        elif what == "drain":
            if link.emitter.state is ConnectionState.ACTIVE:
                link.emitter_news += link.emitter.drain(self.now)
        elif what == "shut":
            link.collector.drain(self.now)
            self.commit(connection, len(connection.pending))
            link.collector.reject("busy", "shutting down", 1)
        else:
            raise AssertionError(what)

    def run_to_the_end(self) -> None:
        """A last connection over a network that works."""
        self.connect()
        connection = self.connections[-1]
        for _ in range(20_000):
            self.offer_all(connection)
            connection.link.deliver_to_collector()
            self.act_on_collector_news(connection)
            self.commit(connection, 1)
            connection.link.deliver_to_emitter()
            self.act_on_emitter_news(connection)
            emitter = connection.link.emitter
            done = all(emitter.position(stream) == self.last[stream] == self.store.cursor(stream) for stream in STREAMS)
            if done and not emitter.unacked_events and not connection.pending:
                break
        connection.link.settle()
        self.act_on_emitter_news(connection)
        for stream in STREAMS:
            assert self.store.cursor(stream) == self.last[stream]
            assert connection.link.emitter.position(stream) == self.last[stream]
            stored = {seq for of, seq in self.store.events if of == stream and seq in self.store.have[stream]}
            assert stored == set(self.spool[stream]), "each event once, and none that wasn't logged"
            for seq, payload in self.spool[stream].items():
                assert self.store.events[stream, seq] == decode(payload)
        assert connection.link.emitter.unacked_events == 0
        assert connection.link.collector.bytes_in_flight == 0
        assert connection.link.errors == []


OPS = {
    "log": 4, "lose": 1, "connect": 1.5, "flow": 8, "offer": 3, "to_collector": 5, "to_emitter": 5, "commit": 6,
    "tick": 2, "leap": 0.3, "cut": 0.5, "backup": 0.5, "restore": 0.3, "hold": 1, "unhold": 2,
    "drain": 0.2, "shut": 0.2,
}  # fmt: skip
STEPS = st.tuples(
    st.sampled_from([name for name, weight in OPS.items() for _ in range(round(weight * 10))]),
    st.integers(0, 5),
    st.integers(0, 40),
)
WORLDS = st.builds(
    World,
    st.sampled_from([None, 0, 1, 3, 1000]),
    st.sampled_from([None, 0, 200, 1000]),
    st.sampled_from([1, 500, 100_000]),
    st.sampled_from(["json", "msgpack"]),
    st.sampled_from([2.0, 0.5]),
)


@settings(max_examples=150)
@given(WORLDS, st.lists(STEPS, min_size=20, max_size=100))
def test_exactly_once_in_order_and_acked_after_the_commit(world: World, steps: list[tuple[str, int, int]]) -> None:
    for step in steps:
        world.step(*step)
    world.run_to_the_end()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=3_000)
@given(WORLDS, st.lists(STEPS, min_size=100, max_size=300))
def test_exactly_once_at_length(world: World, steps: list[tuple[str, int, int]]) -> None:
    for step in steps:
        world.step(*step)
    world.run_to_the_end()


# ------------------------------------------------------------------------------------ some that must not be missed


def world(**changes: Any) -> World:
    return World(
        **{"window_events": None, "window_bytes": None, "in_flight": 10**6, "codec": "json", "patience": 2.0, **changes}
    )


def deliver(w: World, connection: Connection) -> None:
    for _ in range(6):
        connection.link.settle()
        w.act_on_collector_news(connection)
        w.act_on_emitter_news(connection)


def test_every_cut_of_a_session() -> None:
    """The connection breaks after each byte of what the emitter sends, then of what the collector answers."""
    for backwards in (False, True):
        at = 0
        while True:
            w = world(window_events=3)
            for stream in STREAMS[:2]:
                w.log(stream, 4)
                w.log(stream, 2, lost=True)
                w.log(stream, 1)
            w.connect()
            [connection] = w.connections
            passed, done = 0, False
            while not done:
                done = True
                for way in (connection.link.deliver_to_collector, connection.link.deliver_to_emitter):
                    counted = (way == connection.link.deliver_to_emitter) is backwards
                    moved = way(at - passed if counted else None)
                    passed += moved if counted else 0
                    done &= not moved or (counted and passed >= at)
                    w.act_on_collector_news(connection)
                    w.act_on_emitter_news(connection)
                    w.commit(connection, 2)
                    w.offer_all(connection)
                if passed >= at:
                    break
            connection.link.cut()
            connection.link.settle()
            w.act_on_collector_news(connection)
            w.act_on_emitter_news(connection)
            w.run_to_the_end()
            if passed < at:
                break
            at += 1 if at < 200 else 37
        assert at > 400


def test_a_fenced_emitter_stops() -> None:
    w = world()
    w.log(STREAMS[0], 3)
    w.connect()
    [old] = w.connections
    deliver(w, old)
    w.offer_all(old)
    w.connect()
    new = w.connections[-1]
    deliver(w, new)
    deliver(w, old)
    assert all(old.link.emitter.stream_state(stream) is StreamState.FENCED for stream in STREAMS[:2])
    w.offer_all(old)
    deliver(w, old)
    assert not any(isinstance(item, EventsReceived) for item in old.pending)
    w.run_to_the_end()


def test_a_collector_restored_from_a_backup() -> None:
    w = world()
    w.log(STREAMS[0], 5)
    w.run_to_the_end()
    w.backup = w.store.copy()
    w.log(STREAMS[0], 5)
    w.run_to_the_end()
    assert w.acked[STREAMS[0]] == 10
    w.restore()
    assert w.store.cursor(STREAMS[0]) == 5
    w.run_to_the_end()


def test_a_slow_answer_and_what_was_sent_before_it() -> None:
    w = world()
    w.log(STREAMS[0], 3)
    w.connect()
    [connection] = w.connections
    connection.link.advance(2.5)
    assert connection.link.emitter.state is ConnectionState.PLAIN
    w.act_on_emitter_news(connection)
    w.offer_all(connection)
    deliver(w, connection)
    assert connection.link.emitter.state is ConnectionState.ACTIVE
    assert connection.pending == [], "what came before the streams were opened is ignored (CTL-8.3)"
    w.offer_all(connection)
    deliver(w, connection)
    w.commit(connection, 10)
    assert w.store.cursor(STREAMS[0]) == 3


def test_a_graceful_shutdown_acks_what_it_took() -> None:
    w = world()
    w.log(STREAMS[0], 3)
    w.connect()
    [connection] = w.connections
    deliver(w, connection)
    w.offer_all(connection)
    connection.link.deliver_to_collector()
    w.act_on_collector_news(connection)
    w.step("shut", 0, 0)
    while connection.link.deliver_to_emitter():
        pass
    news = connection.link.emitter_news
    assert [type(item) for item in news] == [Acked, Rejected]
    w.act_on_emitter_news(connection)
    assert w.acked[STREAMS[0]] == 3
    w.run_to_the_end()


def test_two_idle_sessions_keep_each_other_alive() -> None:
    w = world()
    w.connect()
    [connection] = w.connections
    deliver(w, connection)
    for _ in range(400):
        connection.link.advance(5)
        connection.link.settle()
    assert not connection.link.emitter.is_over
    assert not connection.link.collector.is_over
    connection.link.advance(61)
    assert connection.link.is_over


def test_a_collector_under_pressure_is_not_taken_for_dead() -> None:
    """It doesn't read for ten minutes, because its store is slow; the emitter waits, and nothing is sent twice."""
    w = world(in_flight=1)
    w.log(STREAMS[0], 50)
    w.connect()
    [connection] = w.connections
    deliver(w, connection)
    for _ in range(120):
        w.offer_all(connection)
        connection.link.advance(5)
        connection.link.settle()
        w.act_on_collector_news(connection)
    assert not connection.link.is_over
    assert connection.link.collector.bytes_in_flight > 0
    assert len(connection.link.to_collector) < 10_000
    w.commit(connection, 100)
    w.run_to_the_end()


def test_errors_are_told_once() -> None:
    w = world()
    w.connect()
    [connection] = w.connections
    connection.link.to_collector[:0] = b"GET /"
    connection.link.settle()
    assert [error.code for error in connection.link.errors] == ["frame_too_large"]
    assert isinstance(connection.link.errors[0], RemoteSessionError)
    assert connection.link.is_over
