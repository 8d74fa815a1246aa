"""Programs made up by Hypothesis: log, lose, flush, kill, fork, corrupt, replay, lose acks; and a dictionary.

Real spools (in memory, where the machine has such a place), their feeds, both sessions and a store, joined by the
smallest drivers that keep the rules, with a network and a clock of their own (``LinkedPair``). The model is a
dictionary of what was accepted. Whatever a program did: once a last connection has settled, the store holds each event
that was accepted, once, with its original bytes, and its series are those of the model; it holds nothing else; what was
dropped is declared; and only events in whose record a bit was flipped before they were shipped may be missing.

``python tests/faults/programs.py --programs 50000 --seed 7`` prints how many ran, and the shortest one that fails.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import command_line
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from xtrack_protocol.ir import Hello, Metric, RunStart
from xtrack_protocol.session import (
    Acked,
    CollectorLimits,
    CollectorSession,
    ConnectionState,
    EmitterSession,
    EventsReceived,
    SkipDeclared,
    StreamId,
    StreamOpened,
    StreamOpenRequested,
    StreamState,
)
from xtrack_protocol.spool import StreamWriter, open_segment, read_segment, segments
from xtrack_protocol.spool.feed import Event, StreamFeed
from xtrack_protocol.storage import Incoming, MemoryStore
from xtrack_protocol.testing import Worker
from xtrack_protocol.testing.linked import LinkedPair
from xtrack_protocol.wire import Record, encode_record

RUN_ID = "r"
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
COUNTS: Counter[str] = Counter()
"""How often each thing was done, in this process."""


@dataclass
class Emitter:
    """A process, and what it has been promised."""

    worker: Worker
    writer: StreamWriter
    feed: StreamFeed
    accepted: dict[int, bytes] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    undeclared: tuple[int, int] | None = None
    corrupted: set[int] = field(default_factory=set)
    pending: object = None
    """What the feed gave and the session hasn't taken yet."""
    alive: bool = True

    @property
    def stream(self) -> StreamId:
        """Its stream."""
        return self.worker.stream


@dataclass
class Connection:
    """A connection, and what its collector hasn't committed yet."""

    link: LinkedPair
    pending: list[EventsReceived | SkipDeclared] = field(default_factory=list)


class Programs(RuleBasedStateMachine):
    """Rules are what may happen; ``teardown`` is what must hold."""

    @initialize(segment_max=st.sampled_from([9_000, 12_000, 100_000]), window=st.sampled_from([None, 1, 5]))
    def begin(self, segment_max: int, window: int | None) -> None:
        """An empty spool, an empty store, one worker."""
        self.folder = Path(tempfile.mkdtemp(prefix="xtrack-program-", dir=_MEMORY))
        self.run_dir = self.folder / "spool" / RUN_ID
        self.segment_max, self.window = segment_max, window
        self.store = MemoryStore()
        self.emitters: list[Emitter] = []
        self.connection: Connection | None = None
        self.now = 0.0
        self.seen: list[Incoming] = []
        self.acked: dict[StreamId, int] = {}
        self.numbers = itertools.count()
        self._add(sub=False)

    # ------------------------------------------------------------------------------------------ workers

    def _add(self, *, sub: bool) -> None:
        worker = Worker(RUN_ID, "", f"{next(self.numbers):032x}")
        writer = StreamWriter(self.run_dir, worker.stream, segment_max=self.segment_max)
        emitter = Emitter(worker, writer, StreamFeed(self.run_dir, worker.stream))
        self.emitters.append(emitter)
        self._append(emitter, worker.say(RunStart(RUN_ID, sub=sub or None)))
        if self.connection and not self.connection.link.emitter.is_over:
            self.connection.link.emitter.open_stream(worker.stream, self.now)

    def _append(self, emitter: Emitter, event: Incoming) -> None:
        if emitter.undeclared:
            skip = emitter.worker.skip(*emitter.undeclared)
            emitter.writer.append(0, skip.raw)
            emitter.undeclared = None
        seq = event.envelope.meta.seq
        emitter.writer.append(seq, event.raw)
        emitter.accepted[seq] = event.raw

    def _alive(self, which: int) -> Emitter | None:
        alive = [emitter for emitter in self.emitters if emitter.alive]
        return alive[which % len(alive)] if alive else None

    @rule(which=st.integers(0, 5), count=st.integers(1, 12), size=st.sampled_from([0, 0, 0, 700]))
    def log(self, which: int, count: int, size: int) -> None:
        """Log some metrics."""
        COUNTS["log"] += 1
        emitter = self._alive(which)
        for _ in range(count if emitter else 0):
            assert emitter is not None
            step = next(self.numbers)
            self._append(emitter, emitter.worker.say(Metric(RUN_ID, "loss" + "s" * size, step / 8, step=step)))

    @rule(which=st.integers(0, 5), count=st.integers(1, 3))
    def lose(self, which: int, count: int) -> None:
        """The disk is full for some events."""
        COUNTS["lose"] += 1
        emitter = self._alive(which)
        if emitter:
            first = emitter.worker.seq + 1
            emitter.worker.seq += count
            emitter.dropped.update(range(first, first + count))
            emitter.undeclared = ((emitter.undeclared or (first, 0))[0], first + count - 1)

    @rule(which=st.integers(0, 5))
    def flush(self, which: int) -> None:
        """Wait for the disk."""
        COUNTS["flush"] += 1
        emitter = self._alive(which)
        if emitter:
            emitter.writer.sync()

    @rule(which=st.integers(0, 5), part=st.none() | st.floats(0, 1))
    def kill(self, which: int, part: float | None) -> None:
        """Kill a process, perhaps in the middle of a write; another one begins."""
        emitter = self._alive(which)
        if not emitter:
            return
        COUNTS["kill"] += 1
        emitter.alive = False
        emitter.writer.forget()
        paths = [path for path in segments(self.run_dir) if path.name.startswith(emitter.stream.session_id)]
        segment = open_segment(paths[-1]) if part is not None and paths else None
        if segment:
            event = emitter.worker.say(Metric(RUN_ID, "under way", 1.0))
            record = encode_record(event.envelope.meta.seq, event.raw, segment.header.salt_value)
            with segment.path.open("ab") as file:
                file.write(record[: int(len(record) * (part or 0) * 0.99)])
        self._add(sub=False)

    @rule(which=st.integers(0, 5))
    @precondition(lambda self: len(self.emitters) < 6)
    def fork(self, which: int) -> None:
        """A child begins a stream of its own."""
        COUNTS["fork"] += 1
        self._add(sub=True)

    @rule(which=st.integers(0, 5), place=st.floats(0, 1), bit=st.integers(0, 2**32))
    def corrupt(self, which: int, place: float, bit: int) -> None:
        """Flip a bit of a record that nobody writes any more."""
        dead = [emitter for emitter in self.emitters if not emitter.alive and not emitter.corrupted]
        if not dead:
            return
        emitter = dead[which % len(dead)]
        records = [
            (segment.path, item)
            for path in segments(self.run_dir)
            if (segment := open_segment(path)) and segment.stream == emitter.stream
            for item, _ in read_segment(segment, finished=True)
            if isinstance(item, Record) and item.seq
        ]
        if not records:
            return
        COUNTS["corrupt"] += 1
        path, record = records[min(len(records) - 1, int(place * len(records)))]
        with path.open("r+b") as file:
            at = record.offset + bit // 8 % record.size
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << bit % 8]))
        emitter.corrupted.add(record.seq)

    # ------------------------------------------------------------------------------------------ the network

    @rule()
    def connect(self) -> None:
        """A new connection; an older one breaks."""
        COUNTS["connect"] += 1
        old = self.connection
        limits = CollectorLimits(window_events=self.window)
        link = LinkedPair(
            EmitterSession(Hello([1])),
            CollectorSession(authenticate=lambda _auth: "me", durability="power", limits=limits),
            now=self.now,
        )
        if old:
            old.link.cut()
        self.connection = Connection(link)
        link.connect()
        for emitter in self.emitters:
            emitter.pending = None
            link.emitter.open_stream(emitter.stream, self.now)

    @rule(up=st.integers(0, 3000), down=st.integers(0, 1500))
    def flow(self, up: int, down: int) -> None:
        """Bytes move, in both directions."""
        if self.connection:
            self._offer()
            self.connection.link.deliver_to_collector(up)
            self._act()
            self.connection.link.deliver_to_emitter(down)
            self._act()

    @rule(turns=st.integers(1, 5), commits=st.integers(0, 5))
    def talk(self, turns: int, commits: int) -> None:
        """Everything arrives, on both sides, and some of it is committed."""
        if self.connection:
            COUNTS["talk"] += 1
            for _ in range(turns):
                self._offer()
                self.connection.link.deliver_to_collector()
                self._act()
                self._commit(commits)
                self.connection.link.deliver_to_emitter()
                self._act()

    @rule(count=st.integers(1, 10))
    def commit(self, count: int) -> None:
        """The collector commits some of what it has, and acks it."""
        if self.connection:
            self._commit(count)

    @rule()
    def lose_acks(self) -> None:
        """Everything arrives and is committed; the answers never do."""
        if self.connection:
            COUNTS["lose acks"] += 1
            self._offer()
            self.connection.link.deliver_to_collector()
            self._act()
            self._commit(1000)
            self.connection.link.cut()
            self._act()

    @rule()
    def cut(self) -> None:
        """The connection breaks."""
        if self.connection:
            COUNTS["cut"] += 1
            self.connection.link.cut()
            self.connection.pending.clear()

    @rule(seconds=st.sampled_from([0.1, 3.0, 25.0, 90.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        if self.connection:
            self.connection.link.advance(seconds)
            self._act()

    @rule(first=st.integers(0, 200), count=st.integers(1, 30))
    def replay(self, first: int, count: int) -> None:
        """What was stored is stored again."""
        batch = self.seen[first % max(1, len(self.seen)) :][:count]
        if batch:
            COUNTS["replay"] += 1
            result = self.store.append(batch)
            assert (len(result.stored), len(result.conflicts)) == (0, 0), "an event was taken twice"

    # ------------------------------------------------------------------------------------------ drivers

    def _offer(self) -> None:
        assert self.connection is not None
        session = self.connection.link.emitter
        for emitter in self.emitters:
            while not session.is_over and session.stream_state(emitter.stream) is StreamState.OPEN:
                position = session.position(emitter.stream)
                found = emitter.pending
                if found is None:
                    emitter.feed.seek(position + 1)
                    found = emitter.feed.next()
                if found is None:
                    break
                emitter.pending = found
                first = found.seq if isinstance(found, Event) else max(found.first, position + 1)  # type: ignore[attr-defined]
                if first != position + 1:  # the collector has moved on, or back
                    emitter.pending = None
                    continue
                if isinstance(found, Event):
                    taken = session.offer(emitter.stream, first, found.payload)
                else:
                    taken = session.skip(emitter.stream, first, found.last, found.reason)  # type: ignore[attr-defined]
                if not taken:
                    break
                emitter.pending = None

    def _act(self) -> None:
        assert self.connection is not None
        link = self.connection.link
        news, link.collector_news = link.collector_news, []
        for item in news:
            if isinstance(item, StreamOpenRequested):
                self.connection.pending = [one for one in self.connection.pending if one.stream != item.stream]
                link.collector.accept_stream(item.stream, self.store.cursor(item.stream).contiguous_to)
            elif isinstance(item, EventsReceived | SkipDeclared):
                self.connection.pending.append(item)
        told, link.emitter_news = link.emitter_news, []
        for item in told:
            if isinstance(item, Acked | StreamOpened):
                upto = item.seq if isinstance(item, Acked) else item.cursor
                assert upto <= self.store.cursor(item.stream).contiguous_to, "acked before it was committed"
                self.acked[item.stream] = max(self.acked.get(item.stream, 0), upto)
        assert link.errors == []

    def _commit(self, count: int) -> None:
        assert self.connection is not None
        batch, self.connection.pending = self.connection.pending[:count], self.connection.pending[count:]
        collector = self.connection.link.collector
        for item in batch:
            frames = (item.frame,) if isinstance(item, SkipDeclared) else item.frames
            events = [Incoming(item.stream, frame.envelope, frame.raw, 1) for frame in frames if frame.envelope]
            self.store.append(events)
            self.seen += events
            collector.release(item.size, self.now)
        if collector.state is ConnectionState.ACTIVE:
            for stream in dict.fromkeys(item.stream for item in batch):
                collector.ack(stream, self.store.cursor(stream).contiguous_to)

    # ------------------------------------------------------------------------------------------ what must hold

    def teardown(self) -> None:
        """End all processes, ship all that is left, and compare."""
        if not hasattr(self, "folder"):
            return
        try:
            COUNTS["programs"] += 1
            for emitter in self.emitters:
                if emitter.alive:
                    emitter.alive = False
                    if emitter.undeclared:
                        emitter.writer.append(0, emitter.worker.skip(*emitter.undeclared).raw)
                    emitter.writer.close()
            self._ship_the_rest()
            self._compare()
        finally:
            for emitter in self.emitters:
                emitter.feed.close()
                emitter.writer.forget()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _ship_the_rest(self) -> None:
        for emitter in self.emitters:
            emitter.feed.close()
            emitter.feed = StreamFeed(self.run_dir, emitter.stream)
        self.connect()
        assert self.connection is not None
        for _ in range(10_000):
            self._offer()
            moved = self.connection.link.deliver_to_collector()
            self._act()
            self._commit(3)
            moved += self.connection.link.deliver_to_emitter()
            self._act()
            if not moved and not self.connection.pending and not self.connection.link.emitter.unacked_events:
                break
        assert not self.connection.link.emitter.unacked_events

    def _compare(self) -> None:
        stored: dict[tuple[StreamId, int], bytes] = {}
        for event in self.store.events(RUN_ID):
            key = (event.stream, event.envelope.meta.seq)
            assert key not in stored, f"twice: {key}"
            stored[key] = event.raw
        expected = {(emitter.stream, seq): raw for emitter in self.emitters for seq, raw in emitter.accepted.items()}
        wrong = [key for key, raw in stored.items() if expected.get(key) != raw]
        assert not wrong, f"never accepted so: {wrong}"
        may_miss = {(emitter.stream, seq) for emitter in self.emitters for seq in emitter.corrupted}
        missing = set(expected) - set(stored) - may_miss
        assert not missing, f"accepted and lost: {sorted(missing)}"
        for emitter in self.emitters:
            upto = self.store.cursor(emitter.stream).contiguous_to
            last = max((seq for seq in emitter.accepted if (emitter.stream, seq) in stored), default=0)
            assert upto >= last, f"{emitter.stream}: a gap after {upto} that nobody declared"
            assert not emitter.dropped & {seq for stream, seq in stored if stream == emitter.stream}
        self._compare_series()
        assert self.store.conflicts(RUN_ID) == []

    def _compare_series(self) -> None:
        model: dict[str, dict[int, float]] = {}
        for event in self.store.events(RUN_ID):
            payload = event.envelope.payload
            if isinstance(payload, Metric):
                model.setdefault(payload.key, {})[payload.step or 0] = payload.value
        state = self.store.get_run(RUN_ID)
        assert set(state.metrics) == set(model)
        for key, points in model.items():
            found = {point.step or 0: point.value for point in self.store.get_metrics(RUN_ID, key)}
            assert found == points
            summary = state.metrics[key]
            assert (summary.count, summary.min, summary.max) == (
                len(points),
                min(points.values()),
                max(points.values()),
            )


def run_programs(programs: int, number: int, steps: int = 40) -> Counter[str]:
    """Run so many programs; raise for the shortest one that fails."""
    COUNTS.clear()
    profile = settings(
        max_examples=programs,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        phases=[Phase.generate, Phase.shrink],
        verbosity=Verbosity.normal,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(Programs), settings=profile)  # type: ignore[no-untyped-call]
    return Counter(COUNTS)


def main() -> int:
    """Run from the command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--programs", type=int, default=2000)
    options = parser.parse_args()
    began = time.monotonic()
    size = min(500, max(1, options.programs // options.jobs))
    shares = [min(size, options.programs - first) for first in range(0, options.programs, size)]
    print(f"{options.programs} programs, seed {options.seed}", flush=True)
    with ProcessPoolExecutor(options.jobs) as pool:
        counts = sum(pool.map(run_programs, shares, range(options.seed, options.seed + len(shares))), Counter())
    print(", ".join(f"{name} {count}" for name, count in counts.most_common()))
    print(f"{time.monotonic() - began:.0f} s: all equal the model")
    return 0


if __name__ == "__main__":
    sys.exit(main())
