"""What a collector does with events: each once, per stream, whatever comes."""

import signal
import subprocess
import sys
import threading

import pytest
from event_builders import T0, a_run, end, event, frames, metric, start

from xtrack_protocol.collector import Collector
from xtrack_protocol.errors import ConfigurationError, RunNotFound, StoreLocked
from xtrack_protocol.ir import Command, Metric, RunStart, Skip, UnknownEvent
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.storage.memory import MemoryStore
from xtrack_protocol.storage.sqlite import SQLiteStore
from xtrack_protocol.wire import FrameDecoder, encode


@pytest.fixture(params=["memory", "sqlite", "local"])
def store(request, tmp_path):
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        opened = SQLiteStore(tmp_path / "store.db")
    else:
        opened = LocalStore(tmp_path / "home")
    with opened:
        yield opened


def test_a_run_is_stored_and_asked_for(store):
    collector = Collector(store, clock=lambda: 42)
    assert [collector.push_event(envelope).outcome for envelope in a_run(3)] == ["stored"] * 5
    state = collector.get_run("r")
    assert (state.status, state.events, state.metrics["loss"].count) == ("completed", 5, 3)
    assert [stored.received_at_us for stored in store.events("r")] == [42] * 5


def test_positions_are_the_stores(store):
    pushed = [Collector(store).push_event(envelope).position for envelope in a_run(3)]
    assert pushed == [stored.position for stored in store.events("r")]


def test_a_duplicate_changes_nothing(store):
    collector = Collector(store)
    for envelope in a_run(3):
        collector.push_event(envelope)
    assert [collector.push_event(envelope).outcome for envelope in a_run(3)] == ["duplicate"] * 5
    assert collector.get_run("r").events == 5


def test_a_batch_has_an_outcome_for_each(store):
    collector = Collector(store)
    collector.push_event(metric(2, sid="s"))
    batch = [
        metric(2, sid="s"),
        metric(3, sid="s"),
        metric(2, 9.0, sid="s"),
        event(Command("c", "stop"), 0),
        event(UnknownEvent("later", {"x": 1}), 4, sid="s"),
        event(UnknownEvent("later", {"run_id": "r"}), 4, sid="s"),
    ]
    outcomes = [result.outcome for result in collector.push_frames(frames(batch))]
    assert outcomes == ["duplicate", "stored", "conflict", "control", "no_run", "stored"]
    assert [stored.envelope.payload.value for stored in store.conflicts("r")] == [9.0]


def test_original_bytes_are_kept(store):
    raw = b'{"v":1, "t":"metric", "m":{"seq":1,"ts":5,"sid":"s"}, "p":{"run_id":"r","key":"k","value":NaN,"odd":[1]}}'
    decoder = FrameDecoder()
    (frame,) = decoder.feed(len(raw).to_bytes(4, "big") + raw)
    assert Collector(store).push_frame(frame).outcome == "stored"
    assert [stored.raw for stored in store.events("r")] == [raw]


def test_a_damaged_frame_costs_itself_alone(store):
    bad = b'{"v":1,"t":"metric"}'
    data = b"".join(len(part).to_bytes(4, "big") + part for part in (encode(metric(1)), bad, encode(metric(2))))
    pushed = Collector(store).push_frames(FrameDecoder().feed(data))
    assert [result.outcome for result in pushed] == ["stored", "damaged", "stored"]
    assert "bad_envelope" in pushed[1].reason


def test_workers_have_streams_of_their_own(store):
    collector = Collector(store)
    for wid in ("0", "1"):
        for envelope in a_run(4, wid=wid):
            assert collector.push_event(envelope, source=wid).outcome == "stored"
    state = collector.get_run("r")
    assert (state.status, state.workers, state.metrics["loss"].count) == ("completed", ("0", "1"), 8)


def test_a_gap_is_recorded_and_filled(store):
    collector = Collector(store)
    for envelope in (start(), metric(2), metric(5), end(6)):
        assert collector.push_event(envelope).outcome == "stored"
    state = collector.get_run("r")
    assert state.status == "completed"
    assert state.streams[0].gaps == ((3, 4),)
    collector.push_frames(frames([metric(4), metric(3)]))
    assert collector.get_run("r").streams[0].gaps == ()


def test_reject_refuses_what_stands_above_a_gap(store):
    collector = Collector(store, gap_policy="reject")
    outcomes = [
        collector.push_event(envelope) for envelope in (start(), metric(2), metric(5), end(6), metric(3), metric(4))
    ]
    assert [result.outcome for result in outcomes] == ["stored", "stored", "gap", "gap", "stored", "stored"]
    assert "3 to 4" in outcomes[2].reason
    assert collector.push_frames(frames([metric(5), end(6)]))[1].outcome == "stored"
    assert Collector(store, gap_policy="reject").push_event(metric(9)).outcome == "gap"


def test_reject_takes_a_declared_gap(store):
    collector = Collector(store, gap_policy="reject")
    collector.push_event(metric(1, sid="s"))
    skip = event(Skip("r", "s", 2, 4, "disk full"), 0)
    assert collector.push_event(skip).outcome == "control"
    assert collector.push_event(metric(5, sid="s")).outcome == "stored"
    summary = collector.get_run("r").streams[0]
    assert (summary.gaps, summary.skipped) == ((), ((2, 4),))


def test_reject_counts_nothing_that_was_not_stored():
    class Locked(MemoryStore):
        refuses = False

        def append(self, batch):
            if self.refuses:
                raise StoreLocked("x", 1)
            return super().append(batch)

    store = Locked()
    collector = Collector(store, gap_policy="reject")
    collector.push_event(metric(1))
    store.refuses = True
    with pytest.raises(StoreLocked):
        collector.push_event(metric(2))
    store.refuses = False
    assert collector.push_event(metric(3)).outcome == "gap"
    assert collector.push_event(metric(2)).outcome == "stored"


def test_unknown_gap_policy():
    with pytest.raises(ConfigurationError, match="Known: record, reject"):
        Collector(MemoryStore(), gap_policy="drop")  # type: ignore[arg-type]


def test_an_expected_run_is_pending(store):
    collector = Collector(store)
    assert collector.start_collector("r", name="slurm job", experiment_id="e").status == "pending"
    collector.push_event(start())
    state = collector.get_run("r")
    assert (state.status, state.name, state.experiment_id) == ("running", "slurm job", "e")


def test_events_of_a_deleted_run_are_dropped(store):
    collector = Collector(store)
    for envelope in a_run(2):
        collector.push_event(envelope)
    store.delete_run("r")
    collector.push_event(start("other", sid="o"))
    batch = [start(sid="new"), start("other", sid="o"), metric(2, run="other", sid="o")]
    assert [result.outcome for result in collector.push_frames(frames(batch))] == ["run_deleted", "duplicate", "stored"]
    with pytest.raises(RunNotFound):
        collector.get_run("r")


def test_a_resumed_worker_without_session_ids(store):
    collector = Collector(store)
    first = [start(ts=T0), *(metric(seq, ts=T0 + seq) for seq in range(2, 6))]
    second = [start(ts=T0 + 900), *(metric(seq, ts=T0 + 900 + seq) for seq in range(2, 4)), end(4, ts=T0 + 950)]
    assert {result.outcome for result in collector.push_frames(frames(first + second), source="file")} == {"stored"}
    assert collector.get_run("r").status == "running"  # nothing tells yet that the first session is over
    assert collector.close_source("file") == [StreamId("r", "", f"legacy-{T0}")]
    state = collector.get_run("r")
    assert (state.status, state.metrics["loss"].count) == ("completed", 6)


def test_a_bound_source_goes_to_its_run(store):
    collector = Collector(store)
    collector.bind_source("pipe", "launched")
    for envelope in (start("made-up"), metric(2, run="made-up"), start("child", sid="c"), end(3, run="made-up")):
        collector.push_event(envelope, source="pipe")
    assert collector.get_run("launched").status == "completed"
    assert collector.get_run("child").status == "running"
    with pytest.raises(RunNotFound):
        collector.get_run("made-up")


def test_a_new_collector_goes_on_with_a_source(store):
    Collector(store).push_frames(frames([start(), metric(2)]))
    collector = Collector(store)
    collector.resume_source("tcp", "r")
    collector.resume_source("tcp", "no such run")
    for envelope in (metric(3), end(4)):
        collector.push_event(envelope, source="tcp")
    state = collector.get_run("r")
    assert state.status == "completed"
    assert [summary.stream.session_id for summary in state.streams] == [f"legacy-{T0 + 1000}"]


def test_threads_push_at_once(store):
    collector = Collector(store)

    def push(wid: str) -> None:
        for envelope in a_run(50, wid=wid):
            collector.push_event(envelope, source=wid)

    threads = [threading.Thread(target=push, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = collector.get_run("r")
    assert (state.status, state.events, state.metrics["loss"].count) == ("completed", 4 * 52, 200)


PUSHER = """
import sys
from xtrack_protocol.collector import Collector
from xtrack_protocol.ir import Envelope, Metric
from xtrack_protocol.storage.sqlite import SQLiteStore
collector = Collector(SQLiteStore(sys.argv[1]))
for seq in range(1, 100000):
    collector.push_event(Envelope.of(Metric("r", "loss", 1.0, step=seq), seq=seq, timestamp_us=seq, session_id="s"))
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()
"""


def test_a_killed_collector_has_lost_nothing_it_acknowledged(tmp_path):
    path = tmp_path / "store.db"
    with subprocess.Popen([sys.executable, "-c", PUSHER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        told = 0
        for line in process.stdout:
            told = int(line) if line.endswith("\n") else told
            if told == 60:
                process.send_signal(signal.SIGKILL)
    assert told >= 60
    with SQLiteStore(path) as store:
        collector = Collector(store)
        before = store.cursor(StreamId("r", "", "s"))
        assert before.contiguous_to == before.last >= told
        batch = [event(Metric("r", "loss", 1.0, step=seq), seq, ts=seq, sid="s") for seq in range(1, before.last + 11)]
        outcomes = [result.outcome for result in collector.push_frames(frames(batch))]
        assert outcomes == ["duplicate"] * before.last + ["stored"] * 10
        assert collector.get_run("r").metrics["loss"].count == before.last + 10


def test_run_start_of_a_forked_child_is_not_left_unended(store):
    collector = Collector(store)
    collector.push_event(event(RunStart("r"), 1, sid="a"), source="x")
    collector.push_event(event(RunStart("r", sub=True), 1, sid="b"), source="x")
    collector.push_event(end(2, sid="c"), source="x")
    assert collector.close_source("x") == [StreamId("r", "", "a")]
    assert collector.close_source("x") == []
