"""The rules of the fold, one by one."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from xtrack_protocol.ir import (
    Ack,
    Alert,
    Artifact,
    Checkpoint,
    Command,
    Envelope,
    EnvironmentInfo,
    ErrorInfo,
    Hello,
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    OpenStream,
    Param,
    Ping,
    Progress,
    Resume,
    RunEnd,
    RunId,
    RunStart,
    Skip,
    SourceInfo,
    StatusUpdate,
    Summary,
    Tags,
    UnknownEvent,
)
from xtrack_protocol.runs import RunReducer, RunState, StreamLost, fold, is_hidden
from xtrack_protocol.session import StreamId


class Story:
    """Writes inputs down: ``story("w/s", event, ts=..)`` gives each stream its seqs in order."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self._seqs: dict[StreamId, int] = {}

    def __call__(self, name: str, *events: Any, ts: int | None = None, seq: int | None = None) -> Story:
        stream = stream_of(name)
        for event in events:
            place = self._seqs.get(stream, 0) + 1 if seq is None else seq
            self._seqs[stream] = place
            at = len(self.inputs) * 10 if ts is None else ts
            self.inputs.append((stream, Envelope.of(event, seq=place, timestamp_us=at)))
        return self

    def lost(self, name: str, reason: Any, at: int = 500, after_seq: int = 99) -> Story:
        self.inputs.append(StreamLost(stream_of(name), at, reason, after_seq))
        return self

    @property
    def state(self) -> RunState:
        forth, back = fold("r", self.inputs), fold("r", self.inputs[::-1] + self.inputs)
        assert repr(forth) == repr(back)
        return forth


def stream_of(name: str) -> StreamId:
    worker, _, session = name.partition("/")
    return StreamId("r", worker, session)


START = RunStart("r")
DONE, FAILED, KILLED = RunEnd("r", "completed"), RunEnd("r", "failed", ErrorInfo("E", "m")), RunEnd("r", "killed")
SUB, OBSERVER = RunStart("r", sub=True), RunStart("r", observer=True)


def resume(*sessions: str, rewind_to: int | None = None) -> RunStart:
    return RunStart("r", resume=Resume(list(sessions), rewind_to))


def loss(value: float, step: int | None = None) -> Metric:
    return Metric("r", "loss", value, step)


# ------------------------------------------------------------------------------------------ status

STATUS: list[tuple[str, str, Story]] = [
    ("nothing", "pending", Story()),
    ("a start", "running", Story()("a/1", START)),
    ("only an end", "completed", Story()("a/1", DONE)),
    ("only a metric", "pending", Story()("a/1", loss(1))),
    ("only a metric, legacy", "running", Story()("a/legacy-0", loss(1))),
    ("an annotation", "pending", Story()("x/1", Tags("r", {"a": "b"}))),
    ("an annotation of a finished run", "completed", Story()("a/1", START, DONE)("x/2", Tags("r", {}))),
    ("completed", "completed", Story()("a/1", START, DONE)),
    ("failed", "failed", Story()("a/1", START, FAILED)),
    ("killed", "killed", Story()("a/1", START, KILLED)),
    ("status events decide nothing", "running", Story()("a/1", START, StatusUpdate("r", "completed"))),
    ("two, one done", "running", Story()("a/1", START, DONE)("b/2", START)),
    ("two done", "completed", Story()("a/1", START, DONE)("b/2", START, DONE)),
    ("failed before killed", "failed", Story()("a/1", START, KILLED)("b/2", START, FAILED)),
    ("failed before running", "failed", Story()("a/1", START)("b/2", START, FAILED)),
    ("killed before lost", "killed", Story()("a/1", START).lost("a/1", "vanished")("b/2", START, KILLED)),
    ("lost before running", "lost", Story()("a/1", START).lost("a/1", "vanished")("b/2", START)),
    ("running before completed", "running", Story()("a/1", START)("b/2", START, DONE)),
    ("died", "killed", Story()("a/1", START).lost("a/1", "died")),
    ("vanished", "lost", Story()("a/1", START).lost("a/1", "vanished")),
    ("died and vanished", "killed", Story()("a/1", START).lost("a/1", "vanished", 1).lost("a/1", "died", 9)),
    ("an end outweighs a loss", "completed", Story()("a/1", START, DONE).lost("a/1", "died")),
    ("a loss after the end", "failed", Story()("a/1", START, FAILED).lost("a/1", "vanished")),
    ("vanished, then heard of", "running", Story()("a/1", START, loss(1)).lost("a/1", "vanished", after_seq=1)),
    ("vanished, nothing after", "lost", Story()("a/1", START, loss(1)).lost("a/1", "vanished", after_seq=2)),
    ("died, and late events", "killed", Story()("a/1", START, loss(1)).lost("a/1", "died", after_seq=1)),
    (
        "vanished, heard of, vanished again",
        "lost",
        Story()("a/1", START, loss(1)).lost("a/1", "vanished", 100, 1).lost("a/1", "vanished", 900, 2),
    ),
    ("lost before it began", "pending", Story().lost("a/1", "died")),
    ("the first end counts", "failed", Story()("a/1", START, FAILED, DONE)),
    ("an event after the end", "completed", Story()("a/1", START, DONE, loss(1))),
    ("resumed", "running", Story()("a/1", START, FAILED)("a/2", resume("1"))),
    ("resumed and done", "completed", Story()("a/1", START, FAILED)("a/2", resume("1"), DONE)),
    ("resumed after a loss", "completed", Story()("a/1", START).lost("a/1", "died")("a/2", resume("1"), DONE)),
    ("resumed by another worker", "completed", Story()("a/1", START, FAILED)("b/2", resume("1"), DONE)),
    ("not resumed, only restarted", "failed", Story()("a/1", START, FAILED)("a/2", START, DONE)),
    (
        "resumed twice",
        "completed",
        Story()("a/1", START, FAILED)("a/2", resume("1"), KILLED)("a/3", resume("1", "2"), DONE),
    ),
    ("in a chain", "completed", Story()("a/1", START, FAILED)("a/2", resume("1"), KILLED)("a/3", resume("2"), DONE)),
    ("of two, one resumed", "failed", Story()("a/1", START, FAILED)("b/2", START, FAILED)("a/3", resume("1"), DONE)),
    ("one that names itself", "completed", Story()("a/1", resume("1"), DONE)),
    ("one that names nobody known", "completed", Story()("a/2", resume("nobody"), DONE)),
    ("sub fails", "completed", Story()("a/1", START, DONE)("a/2", SUB, FAILED)),
    ("sub alone", "pending", Story()("a/2", SUB, FAILED)),
    ("sub is killed", "running", Story()("a/1", START)("a/2", SUB).lost("a/2", "died")),
    ("observer is silent", "completed", Story()("a/1", START, DONE)("x/2", OBSERVER)),
    ("observer is lost", "completed", Story()("a/1", START, DONE)("x/2", OBSERVER).lost("x/2", "died")),
    ("observer alone", "running", Story()("x/2", OBSERVER)),
    ("observer alone is lost", "killed", Story()("x/2", OBSERVER).lost("x/2", "died")),
    ("observer says killed", "killed", Story()("a/1", START)("x/2", OBSERVER, KILLED)),
    ("observer says completed", "running", Story()("a/1", START)("x/2", OBSERVER, DONE)),
    ("observer and a sub", "running", Story()("x/1", OBSERVER)("a/2", SUB)),
    ("observer and an annotation", "running", Story()("x/1", OBSERVER)("a/2", Tags("r", {}))),
    ("observer, worker superseded", "completed", Story()("a/1", START)("a/2", resume("1"), DONE)("x/3", OBSERVER)),
    ("one of two of a world", "running", Story()("a/1", RunStart("r", world_size=2), DONE)),
    ("a world of two", "completed", Story()("a/1", RunStart("r", world_size=2), DONE)("b/2", START, DONE)),
    (
        "the greatest world",
        "running",
        Story()("a/1", RunStart("r", world_size=3), DONE)("b/2", RunStart("r", world_size=2), DONE),
    ),
    ("an observer is no worker", "running", Story()("a/1", RunStart("r", world_size=2), DONE)("x/2", OBSERVER, DONE)),
    ("a world and a failure", "failed", Story()("a/1", RunStart("r", world_size=2), FAILED)),
    ("one worker twice is one", "running", Story()("a/1", RunStart("r", world_size=2), DONE)("a/2", START, DONE)),
    ("a world of less than one", "completed", Story()("a/1", RunStart("r", world_size=0), DONE)),
    (
        "a resumed worker counts once",
        "completed",
        Story()("a/1", RunStart("r", world_size=1), FAILED)("a/2", resume("1"), DONE),
    ),
    (
        "a world that has shrunk",
        "completed",
        Story()("a/1", RunStart("r", world_size=2), FAILED)("b/2", RunStart("r", world_size=2), FAILED)(
            "a/3", RunStart("r", resume=Resume(["1", "2"]), world_size=1), DONE
        ),
    ),
    ("legacy, restarted after its end", "completed", Story()("/legacy-1", START, FAILED)("/legacy-9", START, DONE)),
    (
        "legacy, restarted after a loss",
        "completed",
        Story()("/legacy-1", START).lost("/legacy-1", "died")("/legacy-9", START, DONE),
    ),
    ("legacy, two at once", "running", Story()("/legacy-1", START)("/legacy-9", START, DONE)),
    ("legacy, two workers", "failed", Story()("a/legacy-1", START, FAILED)("b/legacy-9", START, DONE)),
    (
        "legacy, the earlier ends last",
        "completed",
        Story()("/legacy-9", START, DONE, ts=9)("/legacy-1", START, FAILED, ts=1),
    ),
    ("legacy, a thread overtook run_start", "completed", Story()("/legacy-0", loss(1))("/legacy-9", START, DONE)),
    ("legacy, the end in another file", "running", Story()("/legacy-9", START)("/legacy-0", DONE)),
    ("legacy, then a metric of nobody", "failed", Story()("/legacy-1", START, FAILED)("/legacy-0", loss(1), ts=99)),
    ("legacy, then one with a session", "failed", Story()("/legacy-1", START, FAILED)("/s", START, DONE)),
]


@pytest.mark.parametrize(("what", "status", "story"), STATUS, ids=[row[0] for row in STATUS])
def test_status(what: str, status: str, story: Story) -> None:
    assert story.state.status == status


def test_two_sessions_that_resume_each_other_do_not_hang() -> None:
    story = Story()("a/1", resume("2"), DONE)("a/2", resume("1"), FAILED)
    assert story.state.status == "pending", "both have lost their vote to the other"
    assert [stream.superseded for stream in story.state.streams] == [True, True]


def test_votes_and_what_streams_tell() -> None:
    story = Story()("a/1", START, FAILED)("a/2", resume("1"))("a/3", SUB)("x/4", OBSERVER)("y/5", Tags("r", {}))
    votes = {stream.stream.session_id: stream.votes for stream in story.state.streams}
    assert votes == {"1": False, "2": True, "3": False, "4": False, "5": False}
    told = {stream.stream.session_id: stream for stream in story.state.streams}
    assert (told["1"].status, told["1"].end_status, told["1"].superseded) == ("failed", "failed", True)
    assert told["1"].error == ErrorInfo("E", "m")
    assert (told["3"].sub, told["4"].observer) == (True, True)


def test_pending_before_the_first_event() -> None:
    reducer = RunReducer("r")
    reducer.expect(name="n", experiment_id="e")
    reducer.expect(name="other", experiment_id=None)
    state = reducer.state()
    assert (state.status, state.name, state.experiment_id) == ("pending", "n", "e")
    assert RunReducer.load(reducer.snapshot() or b"").state().name == "n"
    assert reducer.restarted().state().name == "n"
    reducer.apply(stream_of("a/1"), Envelope.of(RunStart(RunId("r", "e2"), "own"), seq=1, timestamp_us=1))
    assert (reducer.state().name, reducer.state().experiment_id) == ("own", "e2")


# ------------------------------------------------------------------------------------------ times and errors


def test_times_of_a_run() -> None:
    story = Story()("a/1", START, ts=100)("b/2", START, ts=50)("b/3", SUB, ts=10)("a/1", DONE, ts=900)
    state = story.state
    assert (state.started_at_us, state.ended_at_us, state.updated_at_us, state.duration_ms) == (50, None, 900, None)
    state = story("b/2", DONE, ts=700).state
    assert (state.started_at_us, state.ended_at_us, state.duration_ms) == (50, 900, 0)
    alone = Story()("a/1", START, ts=0)("a/1", RunEnd("r", "completed", duration_ms=77), ts=10**9).state
    assert alone.duration_ms == 77
    backwards = Story()("a/1", START, ts=10**9)("a/1", DONE, ts=0).state
    assert backwards.duration_ms == 0
    assert Story()("a/1", START, ts=0).lost("a/1", "died", at=5_000_000).state.ended_at_us == 5_000_000


def test_the_first_of_several_run_starts_counts() -> None:
    state = Story()("a/1", RunStart("r", "first"), RunStart("r", "second", sub=True)).state
    assert (state.name, state.status) == ("first", "running")


def test_error_is_the_workers_own_and_the_first() -> None:
    def end(name: str) -> RunEnd:
        return RunEnd("r", "failed", ErrorInfo(name))

    story = Story()("x/1", OBSERVER)("a/2", START)("b/3", START)("x/1", end("seen"), ts=1)
    assert story.state.error == ErrorInfo("seen")
    story("a/2", end("late"), ts=90)("b/3", end("early"), ts=80)
    assert story.state.error == ErrorInfo("early")
    resumed = Story()("a/1", START, end("old"))("a/2", resume("1"), DONE)
    assert resumed.state.error is None


def test_late_gaps_and_skips() -> None:
    story = Story()("a/1", START, seq=1)("a/1", loss(1), seq=4)("a/1", DONE, seq=6)("a/1", loss(2), seq=9)
    (stream,) = story.state.streams
    assert (stream.gaps, stream.skipped, stream.late, stream.last_seq, stream.events) == (
        ((2, 3), (5, 5), (7, 8)),
        (),
        1,
        9,
        4,
    )
    assert story.state.lost_events == 5
    story("a/1", Skip("r", "1", 2, 5), seq=0)("a/1", Skip("r", "1", 12, 13), seq=0)
    (stream,) = story.state.streams
    assert (stream.gaps, stream.skipped) == (((7, 8), (10, 11)), ((2, 3), (5, 5), (12, 13)))
    assert stream.events == 4
    story("a/1", loss(3), seq=3)
    (stream,) = story.state.streams
    assert stream.skipped == ((2, 2), (5, 5), (12, 13)), "what came in spite of a skip is no loss"
    assert story.state.lost_events == 2 + 2 + 4


@pytest.mark.parametrize("pair", [(3, 2), (0, 5), (-5, 5), (-(2**63), 2**63 - 1)])
def test_skips_of_nothing_are_ignored(pair: tuple[int, int]) -> None:
    reducer = RunReducer("r")
    assert not reducer.apply(stream_of("a/1"), Envelope.of(Skip("r", "1", *pair), seq=0, timestamp_us=1))
    assert reducer.state().streams[0].skipped == ()


def test_a_skip_of_everything() -> None:
    reducer = RunReducer("r")
    skip = Envelope.of(Skip("r", "1", 1, 2**63 - 1), seq=0, timestamp_us=1)
    assert reducer.apply(stream_of("a/1"), skip)
    assert not reducer.apply(stream_of("a/1"), skip)
    assert reducer.apply(stream_of("a/1"), Envelope.of(START, seq=1, timestamp_us=1))
    assert reducer.state().streams[0].skipped == ((2, 2**63 - 1),)
    assert reducer.state().lost_events == 2**63 - 2
    assert repr(RunReducer.load(reducer.snapshot() or b"").state()) == repr(reducer.state())
    assert 5 in reducer.seqs(stream_of("a/1"))
    assert list(reducer.seqs(stream_of("z/9"))) == []


@pytest.mark.parametrize("payload", [Ack(1, "ok"), Hello([1]), Command("c", "stop"), OpenStream("r", "1"), Ping()])
@pytest.mark.parametrize("seq", [0, 5])
def test_control_events_are_passed_over(payload: Any, seq: int) -> None:
    reducer = RunReducer("r")
    assert not reducer.apply(stream_of("a/1"), Envelope.of(payload, seq=seq, timestamp_us=1))
    assert reducer.state() == RunReducer("r").state()


def test_unknown_events_change_nothing_and_are_counted() -> None:
    before = Story()("a/1", START, loss(1), ts=5)
    after = Story()("a/1", START, loss(1), ts=5)("a/1", UnknownEvent("x", {"run_id": "r", "status": "failed"}), ts=5)
    assert after.state.events == before.state.events + 1
    assert after.state.last_seq == 3
    for name in ("status", "metrics", "params", "logs", "tags", "name"):
        assert getattr(after.state, name) == getattr(before.state, name)
    control = Story()("a/1", START)("a/1", UnknownEvent("x", {"run_id": "r"}), seq=0)
    assert control.state.events == 1


# ------------------------------------------------------------------------------------------ last write wins


def test_within_a_worker_the_later_session_wins_whatever_the_clock_says() -> None:
    story = Story()("a/1", START, Param("r", "k", "old"), ts=9000)("a/2", resume("1"), Param("r", "k", "new"), ts=5)
    assert story.state.params == {"k": "new"}
    assert [stream.stream.session_id for stream in story.state.streams] == ["1", "2"]


def test_within_a_session_the_larger_seq_wins() -> None:
    story = Story()("a/1", START, ts=1)("a/1", Param("r", "k", 1), ts=900)("a/1", Param("r", "k", 2), ts=3)
    assert story.state.params == {"k": 2}


def test_between_workers_the_later_time_wins() -> None:
    story = Story()("a/1", Param("r", "k", "a"), ts=7)("b/2", Param("r", "k", "b"), ts=6)
    assert story.state.params == {"k": "a"}
    assert story("b/2", Param("r", "k", "b2"), ts=7).state.params == {"k": "b2"}, "then the worker id"


def test_a_workers_last_write_counts_not_its_latest() -> None:
    """Worker a's clock went back: its last write is early, and b's later one wins."""
    story = Story()("a/1", Param("r", "k", 1), ts=900)("a/1", Param("r", "k", 2), ts=5)(
        "b/2", Param("r", "k", 3), ts=50
    )
    assert story.state.params == {"k": 3}


def test_session_order() -> None:
    """By the greatest start among what a session reaches, then by how many it reaches. spec: FLD-2.2"""
    story = Story()("a/first", RunStart("r"), ts=1000)("a/later", resume("first"), ts=10)(
        "a/between", RunStart("r"), ts=500
    )("a/last", resume("later", "first"), ts=20)("b/none", loss(1), ts=700)("a/after", RunStart("r"), ts=2000)
    assert [stream.stream.session_id for stream in story.state.streams] == [
        "between",
        "none",
        "first",
        "later",
        "last",
        "after",
    ]


def test_a_thousand_resumes_in_a_chain() -> None:
    story = Story()("a/0", START, FAILED)
    for number in range(1, 1500):
        story(f"a/{number}", RunStart("r", resume=Resume([str(number - 1)])), ts=10**6 - number)
    reducer = RunReducer("r")
    reducer.apply_all(story.inputs)
    begin = time.process_time()
    state = reducer.state()
    assert time.process_time() - begin < 10, "it was the cube of their number once"
    assert [int(stream.stream.session_id) for stream in state.streams] == list(range(1500))
    assert state.status == "running"


def test_params_are_flat_and_keep_every_value() -> None:
    story = Story()(
        "a/1",
        Param("r", "optimizer", 0.1, ["lr"]),
        Param("r", "optimizer.lr", 0.2),
        Param("r", "empty", {}),
        Param("r", "none", None),
        Param("r", "nested", {"a": {"b": [1, math.inf]}}),
        Param("r", "a", 1, ["b.c", "", "d/e"]),
        Param("r", "", "no name"),
    )
    assert story.state.params == {
        "optimizer.lr": 0.2,
        "empty": {},
        "none": None,
        "nested": {"a": {"b": [1, math.inf]}},
        "a.b.c..d/e": 1,
        "": "no name",
    }


def test_tags_name_and_note() -> None:
    story = Story()("a/1", RunStart("r", "given", {"t": "1", "u": "1"}))("x/2", Tags("r", {"t": "2"}), ts=99)
    assert (story.state.name, story.state.tags) == ("given", {"t": "2", "u": "1"})
    story("x/2", Tags("r", {"xtrack.name": "renamed", "xtrack.note": "good"}), ts=100)
    assert (story.state.name, story.state.note, story.state.tags) == ("renamed", "good", {"t": "2", "u": "1"})


def test_name_source_and_environment_come_from_workers_first() -> None:
    observer = RunStart("r", "seen", source=SourceInfo("seen"), environment=EnvironmentInfo("seen"), observer=True)
    story = Story()("x/1", observer, ts=900)
    assert (story.state.name, story.state.source) == ("seen", SourceInfo("seen"))
    story("a/2", RunStart("r", "own", source=SourceInfo("own", "main")), ts=5)
    story("a/3", RunStart("r", source=SourceInfo("newer")), ts=6)
    assert (story.state.name, story.state.source) == ("own", SourceInfo("newer")), "taken as a whole"
    assert story.state.environment == EnvironmentInfo("seen")


def test_experiment_and_parent_from_any_event() -> None:
    story = Story()("a/1", START, Metric(RunId("r", "e1", "p"), "k", 1))
    assert (story.state.experiment_id, story.state.parent_run_id) == ("e1", "p")
    story("a/1", Metric(RunId("r", "e2"), "k", 1), Metric(RunId("r"), "k", 1))
    assert (story.state.experiment_id, story.state.parent_run_id) == ("e2", "p")


def test_summary_and_final_metrics_are_apart() -> None:
    end = RunEnd("r", "completed", final_metrics={"loss": 1, "acc": 2})
    story = Story()("a/1", START, Summary("r", {"loss": 5, "best": math.nan}), Summary("r", {"loss": 6}), end, ts=9)
    story("b/2", START, RunEnd("r", "completed", final_metrics={"loss": 7}), ts=8)
    state = story.state
    assert state.summary["loss"] == 6
    assert math.isnan(state.summary["best"])
    assert state.final_metrics == {"loss": 1, "acc": 2}
    assert state.metrics == {}


def test_activity_is_the_latest() -> None:
    story = Story()("a/1", START, StatusUpdate("r", "training", "m", Progress(1, 2, "epoch")), ts=50)
    story("b/2", START, StatusUpdate("r", "evaluating"), ts=40)
    activity = story.state.activity
    assert activity is not None
    assert (activity.status, activity.message, activity.progress, activity.timestamp_us, activity.worker_id) == (
        "training",
        "m",
        Progress(1, 2, "epoch"),
        50,
        "a",
    )


def test_activities_are_those_of_each_worker() -> None:
    story = Story()("a/1", RunStart("r"), StatusUpdate("r", "training"), ts=900)
    story("a/2", RunStart("r"), StatusUpdate("r", "resuming"), StatusUpdate("r", "evaluating"), ts=1000)
    story("b/3", RunStart("r"), StatusUpdate("r", "paused"), ts=40)
    assert {worker: one.status for worker, one in story.state.activities.items()} == {"a": "evaluating", "b": "paused"}


def test_a_forked_child_gives_a_name_like_any_other() -> None:
    story = Story()("a/1", RunStart("r", "x"), ts=10)
    story("a/2", RunStart("r", "y", source=SourceInfo("c"), sub=True), ts=20)
    assert (story.state.name, story.state.source, story.state.started_at_us) == ("y", SourceInfo("c"), 10)


def test_an_empty_name_is_one() -> None:
    story = Story()("a/1", RunStart(RunId("r", ""), "x"), Tags("r", {"xtrack.name": ""}))
    assert (story.state.name, story.state.experiment_id) == ("", "")


def test_a_loss_without_effect_supersedes_nobody() -> None:
    story = Story()("/legacy-1", RunStart("r"), *[Metric("r", "k", 1)] * 3, ts=1)
    story("/legacy-9", RunStart("r"), RunEnd("r", "completed"), ts=9)
    story.lost("/legacy-1", "vanished", after_seq=3)
    assert story.state.status == "running"
    story.lost("/legacy-1", "vanished", after_seq=4)
    assert story.state.status == "completed"


# ------------------------------------------------------------------------------------------ series


def test_series() -> None:
    story = Story()("a/1", START, loss(3, 2), loss(1, 1), loss(2), loss(5, 1), MetricBatch("r", {"loss": 0, "x": 1}, 3))
    metric = story.state.metrics["loss"]
    assert [(point.value, point.step) for point in metric.tail] == [(1, 1), (5, 1), (3, 2), (0, 3), (2, None)]
    assert (metric.count, metric.nan_count, metric.min, metric.max) == (5, 0, 0, 5)
    assert (metric.last.value, metric.last.seq) == (0, 6), "the last one written"
    assert list(story.state.metrics) == ["loss", "x"]


@pytest.mark.parametrize(
    ("values", "low", "high", "nans"),
    [
        ([math.nan], None, None, 1),
        ([math.nan, 1, math.nan, 2], 1, 2, 2),
        ([math.inf, math.nan, -math.inf], -math.inf, math.inf, 1),
        ([-0.0], -0.0, -0.0, 0),
        ([2**53, 2**53 + 1, float(2**53)], 2**53, 2**53 + 1, 0),
        ([2**63 - 1, 2.0**63], 2**63 - 1, 2.0**63, 0),
    ],
)
def test_least_and_greatest(values: list[float], low: float | None, high: float | None, nans: int) -> None:
    metric = Story()("a/1", *[loss(value, step) for step, value in enumerate(values)]).state.metrics["loss"]
    assert (metric.min, metric.max, metric.nan_count, metric.count) == (low, high, nans, len(values))
    assert math.copysign(1, metric.min or 1) == math.copysign(1, low or 1)


def test_everything_of_a_point_is_kept() -> None:
    event = Metric("r", "k", 0.5, 3, 1, MetricContext("val", 32, 1000, "mean"))
    point = Story()("a/1", event, ts=123).state.metrics["k"].last
    assert (point.value, point.step, point.epoch, point.timestamp_us, point.seq) == (0.5, 3, 1, 123, 1)
    assert (point.worker_id, point.session_id, point.context, point.hidden) == ("a", "1", event.context, False)


def test_points_of_two_workers() -> None:
    story = Story()("a/1", START, loss(1, 1), loss(2, 2), ts=5)("b/2", START, loss(3, 1), loss(4, 2), ts=4)
    metric = story.state.metrics["loss"]
    assert [(point.step, point.worker_id) for point in metric.tail] == [(1, "b"), (1, "a"), (2, "b"), (2, "a")]
    assert (metric.last.value, metric.count) == (2, 4)


# ------------------------------------------------------------------------------------------ resume and rewind


def rewound() -> Story:
    story = Story()("a/1", START, *[loss(step, step) for step in range(1, 6)], loss(99))
    story("a/1", Checkpoint("r", 2, "c2"), Checkpoint("r", 4, "c4", is_best=True), FAILED)
    return story("a/2", resume("1", rewind_to=3), loss(40, 4), Checkpoint("r", 4, "new"))


def test_rewind_hides_points_and_checkpoints() -> None:
    state = rewound().state
    metric = state.metrics["loss"]
    assert [(point.step, point.value) for point in metric.tail] == [(1, 1), (2, 2), (3, 3), (4, 40), (None, 99)]
    assert (metric.count, metric.max, metric.min) == (5, 99, 1)
    assert [(stored.checkpoint.path, stored.hidden) for stored in state.checkpoints] == [
        ("c2", False),
        ("c4", True),
        ("new", False),
    ]
    assert state.best_checkpoint is None
    assert state.streams[0].events == 10, "nothing is deleted"


def test_rewind_asks_for_a_refold_only_when_it_came_too_late() -> None:
    inputs = rewound().inputs
    late, early = RunReducer("r"), RunReducer("r")
    late.apply_all(inputs)
    assert late.needs_refold
    again = late.restarted()
    again.apply_all(inputs)
    assert not again.needs_refold
    early.apply_all(sorted(inputs, key=lambda item: item[0].session_id != "2"))
    assert not early.needs_refold
    assert repr(early.state()) == repr(again.state()) == repr(rewound().state)
    assert dict(early.rewinds) == {"1": 3}


def test_the_deepest_rewind_counts_and_nothing_else_is_hidden() -> None:
    story = rewound()("a/3", resume("1", "2", rewind_to=1))("b/9", START, loss(7, 8))
    assert [(point.step, point.value) for point in story.state.metrics["loss"].tail] == [(1, 1), (8, 7), (None, 99)]
    plain = Story()("a/1", START, loss(1, 5), FAILED)("a/2", resume("1"))
    assert plain.state.metrics["loss"].count == 1


def test_a_later_run_start_of_a_session_resumes_nothing() -> None:
    """spec: FLD-2.4, FLD-8.1"""
    story = Story()("a/1", START, loss(1, 5), FAILED)("a/2", START, loss(2, 6))
    story("a/2", RunStart("r", tags={"late": "1"}, resume=Resume(["1"], 0)), seq=7)
    assert (story.state.metrics["loss"].count, story.state.status) == (2, "failed")
    assert story.state.tags == {"late": "1"}
    for inputs in (story.inputs, story.inputs[::-1]):
        reducer = RunReducer("r")
        reducer.apply_all(inputs)
        if reducer.needs_refold:
            reducer = reducer.restarted()
            reducer.apply_all(inputs)
        assert not reducer.needs_refold
        assert not reducer.rewinds


def test_a_session_that_names_itself_hides_nothing() -> None:
    assert Story()("a/1", resume("1", rewind_to=0), loss(1, 5)).state.metrics["loss"].count == 1


def test_a_series_that_is_hidden_as_a_whole_is_gone() -> None:
    state = Story()("a/1", START, loss(1, 5), FAILED)("a/2", resume("1", rewind_to=0)).state
    assert state.metrics == {}


def test_is_hidden() -> None:
    assert is_hidden({"s": 3}, "s", 4)
    assert not is_hidden({"s": 3}, "s", 3)
    assert not is_hidden({"s": 3}, "s", None)
    assert not is_hidden({"s": 3}, "t", 4)


# ------------------------------------------------------------------------------------------ bounded lists


def test_lists_hold_the_last_thousand() -> None:
    reducer = RunReducer("r")
    stream = stream_of("a/1")
    makers = [
        lambda n: LogEntry("r", "info", str(n)),
        lambda n: Artifact("r", str(n)),
        lambda n: Checkpoint("r", n, "p"),
        lambda n: Alert("r", str(n)),
    ]
    seq = 0
    for number in range(1100):
        for make in makers:
            seq += 1
            reducer.apply(stream, Envelope.of(make(number), seq=seq, timestamp_us=number))
    state = reducer.state()
    assert [log.entry.message for log in state.logs] == [str(n) for n in range(100, 1100)]
    assert [stored.artifact.path for stored in state.artifacts] == [str(n) for n in range(100, 1100)]
    assert [stored.checkpoint.step for stored in state.checkpoints] == list(range(100, 1100))
    assert [stored.alert.title for stored in state.alerts] == [str(n) for n in range(100, 1100)]
    assert state.events == 4400


def test_best_checkpoint_is_the_last_said_to_be() -> None:
    story = Story()(
        "a/1", Checkpoint("r", 1, "x", is_best=True), Checkpoint("r", 2, "y", is_best=True), Checkpoint("r", 3, "z")
    )
    best = story.state.best_checkpoint
    assert best is not None
    assert best.checkpoint.path == "y"


def test_apply_tells_what_is_new() -> None:
    reducer = RunReducer("r")
    event = Envelope.of(START, seq=1, timestamp_us=1)
    assert reducer.apply(stream_of("a/1"), event)
    assert not reducer.apply(stream_of("a/1"), event)
    assert reducer.apply(stream_of("a/2"), event)
    assert reducer.series_count == 0
    reducer.apply(stream_of("a/1"), Envelope.of(loss(1), seq=2, timestamp_us=1))
    reducer.apply(stream_of("a/2"), Envelope.of(loss(1), seq=2, timestamp_us=1))
    assert reducer.series_count == 2
    assert reducer.state().last_seq == 2
    assert reducer.state(with_metrics=False).metrics == {}


def test_a_snapshot_needs_integers_that_fit() -> None:
    reducer = RunReducer("r")
    reducer.apply(stream_of("a/1"), Envelope.of(Param("r", "k", 2**70), seq=1, timestamp_us=1))
    assert reducer.snapshot() is None
    assert reducer.state().params == {"k": 2**70}
