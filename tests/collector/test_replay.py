"""Captured files, fed to a collector."""

import pytest
from event_builders import T0, a_run, capture, end, metric, start

from xtrack_protocol.collector import Collector
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import StreamWriter, segments
from xtrack_protocol.storage.memory import MemoryStore
from xtrack_protocol.storage.sqlite import SQLiteStore
from xtrack_protocol.wire import encode


@pytest.fixture(params=["memory", "sqlite"])
def collector(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "store.db")
    with store:
        yield Collector(store)


class FakeTime:
    def __init__(self):
        self.now = 100.0
        self.slept = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def write(path, envelopes):
    path.write_bytes(capture(envelopes))
    return path


def test_instant_and_idempotent(collector, tmp_path):
    path = write(tmp_path / "a.bin", a_run(2500))
    first = collector.replay_file(path)
    assert (first.frames, first.stored, first.duplicates, first.runs) == (2502, 2502, 0, ("r",))
    state = collector.get_run("r")
    second = collector.replay_file(path)
    assert (second.frames, second.stored, second.duplicates, second.conflicts) == (2502, 0, 2502, 0)
    assert collector.get_run("r") == state


def test_under_another_run_id(collector, tmp_path):
    path = write(tmp_path / "a.bin", a_run(3))
    assert collector.replay_file(path, run_id="copy").runs == ("copy",)
    assert collector.replay_file(path).stored == 5
    assert collector.get_run("copy").metrics["loss"].count == collector.get_run("r").metrics["loss"].count == 3


def test_another_run_id_for_several_runs_is_refused(collector, tmp_path):
    path = write(tmp_path / "a.bin", a_run(2, "one") + a_run(2, "two"))
    with pytest.raises(ConfigurationError, match="'one' and 'two'"):
        collector.replay_file(path, run_id="copy")
    assert collector.store.list_runs() == []
    assert collector.replay_file(path).runs == ("one", "two")


@pytest.mark.parametrize(("speed", "seconds"), [("realtime", 10.0), (2.0, 5.0), (0.5, 20.0)])
def test_realtime(collector, tmp_path, speed, seconds):
    times = [T0, T0 + 4_000_000, T0 + 3_000_000, T0 + 10_000_000]
    events = [start(ts=times[0]), metric(2, ts=times[1]), metric(3, ts=times[2]), end(4, ts=times[3])]
    fake = FakeTime()
    path = write(tmp_path / "a.bin", events)
    report = collector.replay_file(path, speed=speed, clock=fake.clock, sleep=fake.sleep)
    assert report.stored == 4
    assert sum(fake.slept) == pytest.approx(seconds)
    assert fake.slept == pytest.approx([seconds * 0.4, seconds * 0.6])  # what is late already isn't waited for


def test_realtime_stores_what_is_due_before_it_waits(collector, tmp_path):
    events = [start(ts=T0), metric(2, ts=T0 + 1), end(3, ts=T0 + 5_000_000)]
    counts = []

    def sleep(seconds):
        counts.append(collector.get_run("r").events if seconds > 1 else None)
        fake.now += seconds

    fake = FakeTime()
    collector.replay_file(write(tmp_path / "a.bin", events), speed="realtime", clock=fake.clock, sleep=sleep)
    assert counts[-1] == 2


@pytest.mark.parametrize("speed", ["fast", 0, -1.0, float("nan"), float("inf")])
def test_speeds_that_are_none(collector, tmp_path, speed):
    with pytest.raises(ConfigurationError, match="instant, realtime"):
        collector.replay_file(write(tmp_path / "a.bin", []), speed=speed)


def test_damage_is_told_and_passed_over(collector, tmp_path):
    whole = capture(a_run(50))
    path = tmp_path / "a.bin"
    path.write_bytes(whole[:700] + b"\xff" * 20 + whole[720:-3])
    report = collector.replay_file(path)
    assert report.damaged == len(report.damage) >= 2
    assert report.frames == report.stored + report.damaged
    assert 44 <= report.stored < 52
    assert all(error.length > 0 for error in report.damage)
    assert report.damage[-1].kind == "truncated"


def test_ambiguous_streams_are_told(collector, tmp_path):
    two = [start(), metric(2, 0.1), metric(2, 0.2), metric(3), end(4)]
    path = write(tmp_path / "a.bin", two)
    for stored in (4, 0):
        report = collector.replay_file(path)
        assert (report.stored, report.conflicts) == (stored, 1)
        assert report.ambiguous_streams == (StreamId("r", "", f"legacy-{T0 + 1000}"),)
    assert len(collector.store.conflicts("r")) == 1


def test_a_conflict_with_another_file_is_not_ambiguous(collector, tmp_path):
    collector.replay_file(write(tmp_path / "a.bin", [start(), metric(2, 0.1)]))
    report = collector.replay_file(write(tmp_path / "b.bin", [start(), metric(2, 0.2)]))
    assert (report.conflicts, report.ambiguous_streams) == (1, ())


def test_a_capture_of_a_resumed_run(collector, tmp_path):
    first = [start(ts=T0), *(metric(seq, ts=T0 + seq) for seq in range(2, 6))]
    second = [start(ts=T0 + 900), *(metric(seq, ts=T0 + 900 + seq) for seq in range(2, 4)), end(4, ts=T0 + 950)]
    path = write(tmp_path / "a.bin", first + second)
    assert collector.replay_file(path).stored == 9
    state = collector.get_run("r")
    assert state.status == "completed"
    assert collector.replay_file(path).duplicates == 9
    assert collector.get_run("r") == state


def test_a_segment_knows_its_stream(collector, tmp_path):
    stream = StreamId("launched", "w", "legacy-5")
    writer = StreamWriter(tmp_path / "run", stream, live=False)
    for envelope in a_run(10, "made-up"):
        writer.append(envelope.meta.seq, encode(envelope))
    writer.close()
    (path,) = segments(tmp_path / "run")
    assert collector.replay_file(path).stored == 12
    assert collector.replay_file(path).duplicates == 12
    state = collector.get_run("launched")
    assert (state.status, state.streams[0].stream) == ("completed", stream)
    assert collector.replay_file(path, run_id="copy").runs == ("copy",)


def test_an_absent_file(collector, tmp_path):
    with pytest.raises(FileNotFoundError):
        collector.replay_file(tmp_path / "no")
