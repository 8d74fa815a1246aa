"""The contract of stores, first part: events are kept, exactly once each, with all that was said."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from xtrack_protocol.errors import RunNotFound, StorageError
from xtrack_protocol.ir import (
    Artifact,
    Checkpoint,
    Json,
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    Number,
    Param,
    Ping,
    RunEnd,
    RunId,
    RunStart,
    Summary,
    Tags,
    UnknownEvent,
)
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.storage import AppendResult, Incoming, Storage
from xtrack_protocol.testing.events import Worker
from xtrack_protocol.testing.poison import FREE, NUMBERS, TEXTS, exactly
from xtrack_protocol.testing.storage_base import StoreMaker, append
from xtrack_protocol.wire import decode, encode


class KeepsEvents(StoreMaker):
    """Appending: atomic, exactly once, originals kept."""

    def test_gives_back_what_was_stored(self, store: Storage) -> None:
        """spec: FLD-12.1."""
        worker = Worker("r", "w1")
        batch = [worker.start("first"), worker.metric("loss", 0.5, 1), worker.end()]
        result = append(store, *batch)
        assert result == AppendResult(stored=(0, 1, 2), positions=result.positions)
        events = list(store.events("r"))
        assert [event.position for event in events] == list(result.positions)
        assert [event.raw for event in events] == [item.raw for item in batch]
        assert [event.envelope for event in events] == [item.envelope for item in batch]
        assert [event.stream for event in events] == [worker.stream] * 3
        assert [event.received_at_us for event in events] == [item.received_at_us for item in batch]

    def test_an_empty_batch_is_nothing(self, store: Storage) -> None:
        """Nor is it an error."""
        assert store.append([]) == AppendResult()
        assert store.list_runs() == []

    def test_an_event_that_comes_again_changes_nothing(self, store: Storage) -> None:
        """spec: STR-4.1."""
        worker = Worker("r")
        batch = [worker.start(), worker.metric("loss", float("nan"), 1), worker.say(Param("r", "lr", 0.1))]
        append(store, *batch)
        before = exactly(store.get_run("r"))
        assert store.append(batch) == AppendResult(duplicates=3)
        assert exactly(store.get_run("r")) == before
        assert len(list(store.events())) == 3
        assert len(store.get_metrics("r", "loss")) == 1
        assert store.conflicts("r") == []

    def test_an_event_twice_in_one_batch_counts_once(self, store: Storage) -> None:
        """spec: STR-4.1."""
        worker = Worker("r")
        start = worker.start()
        result = store.append([start, start])
        assert (result.stored, result.duplicates) == ((0,), 1)

    def test_other_bytes_that_say_the_same_are_the_same_event(self, store: Storage) -> None:
        """spec: STR-4.2."""
        worker = Worker("r")
        for item in (worker.start(), worker.metric("loss", float("nan"), 1)):
            append(store, item)
            spaced = item.raw.replace(b":", b": ", 1)
            assert store.append([Incoming(item.stream, decode(spaced), spaced, 1)]).duplicates == 1
        assert store.conflicts("r") == []

    def test_a_seq_with_other_content_is_kept_aside(self, store: Storage) -> None:
        """spec: STR-5."""
        worker = Worker("r")
        result = append(store, worker.start(), worker.metric("loss", 1.0, 1))
        other = worker.say(Metric("r", "loss", 2.0, step=1), seq=2)
        third = worker.say(Metric("r", "loss", 3.0, step=1), seq=2)
        assert store.append([other]).conflicts == (0,)
        assert store.append([third, other]).conflicts == (0, 1)
        spaced = other.raw.replace(b":", b": ", 1)
        assert store.append([Incoming(other.stream, decode(spaced), spaced, 1)]).conflicts == (0,), "the same again"
        whole = other.raw.replace(b"2.0", b"2")
        assert whole != other.raw
        assert store.append([Incoming(other.stream, decode(whole), whole, 1)]).conflicts == (0,), "and again"
        assert [point.value for point in store.get_metrics("r", "loss")] == [1.0]
        kept = store.conflicts("r")
        assert [event.raw for event in kept] == [other.raw, third.raw]
        assert [event.position for event in kept] == [result.positions[1]] * 2
        assert kept[0].envelope == other.envelope
        assert kept[0].stream == worker.stream
        assert store.check() == []

    def test_true_is_another_value_than_1(self, store: Storage) -> None:
        """spec: STR-4.2, VAL-4.8"""
        worker = Worker("r")
        append(store, worker.start(), worker.say(Param("r", "p", [1])))
        other = worker.say(Param("r", "p", [True]), seq=2)
        assert store.append([other]).conflicts == (0,)
        assert store.get_run("r").params == {"p": [1]}

    def test_a_conflict_that_no_writer_may_write(self, store: Storage) -> None:
        """A reader takes a bare NaN where there is no form for it. spec: JSN-7, EVT-RUN_START-5.3, STR-5"""
        worker = Worker("r")
        append(store, worker.start())
        raw = b'{"t":"run_start","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","env":{"gpu_info":[{"memory":NaN}]}}}'
        other = Incoming(worker.stream, decode(raw), raw, 1)
        assert store.append([other]).conflicts == (0,)
        assert store.append([other]).conflicts == (0,)
        assert [event.raw for event in store.conflicts("r")] == [raw]

    def test_a_conflict_within_one_batch(self, store: Storage) -> None:
        """spec: STR-5."""
        worker = Worker("r")
        first = worker.metric("loss", 1.0, 1)
        other = worker.say(Metric("r", "loss", 2.0, step=1), seq=1)
        result = store.append([first, other])
        assert (result.stored, result.conflicts) == ((0,), (1,))

    def test_a_failing_batch_leaves_the_store_as_it_was(self, store: Storage) -> None:
        """All or nothing. spec: FLD-12."""
        worker = Worker("r")
        append(store, worker.start("before"))
        before = exactly(store.get_run("r"))
        good = worker.metric("loss", 1.0, 1)

        class Broken(list):  # type: ignore[type-arg]
            def __iter__(self):  # type: ignore[no-untyped-def]
                yield good
                raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            store.append(Broken([good, good]))
        assert exactly(store.get_run("r")) == before
        assert len(list(store.events())) == 1
        assert store.metric_keys("r") == []
        append(store, good)

    def test_control_events_are_passed_over(self, store: Storage) -> None:
        """spec: CTL-1."""
        worker = Worker("r")
        assert store.append([worker.say(Ping(), seq=0)]) == AppendResult()
        assert store.list_runs() == []

    def test_positions_grow(self, store: Storage) -> None:
        """Also after the last run was deleted: a reader's cursor never points at other events."""
        first = append(store, Worker("a").start()).positions
        store.delete_run("a")
        second = append(store, Worker("b").start(), Worker("c").start()).positions
        assert first[0] < second[0] < second[1]

    def test_events_after_a_position(self, store: Storage) -> None:
        """Of one run or of all, in pages."""
        one, two = Worker("one"), Worker("two")
        positions: list[int] = []
        for step in range(20):
            positions += append(store, one.metric("x", step, step), two.metric("x", step, step)).positions
        assert [event.position for event in store.events()] == positions
        assert [event.position for event in store.events("two")] == positions[1::2]
        assert [event.position for event in store.events(after=positions[9])] == positions[10:]
        assert [event.position for event in store.events("one", after=positions[9], limit=3)] == positions[10:16:2]
        assert list(store.events(limit=0)) == []
        with pytest.raises(RunNotFound):
            store.events("three")

    def test_late_events_are_marked(self, store: Storage) -> None:
        """spec: FLD-7."""
        worker = Worker("r")
        append(store, worker.start(), worker.metric("x", 1, 1), worker.end(), worker.metric("x", 2, 2))
        assert [event.late for event in store.events("r")] == [False, False, False, True]
        assert len(store.get_metrics("r", "x")) == 2
        assert store.get_run("r").streams[0].late == 1

    def test_a_capture_can_be_stored_under_another_run(self, store: Storage) -> None:
        """The stream says where an event belongs, not the event."""
        item = Worker("original").metric("x", 1, 1)
        append(store, Incoming(StreamId("copy", "", "s"), item.envelope, item.raw, 1))
        assert [state.run_id for state in store.list_runs()] == ["copy"]
        assert next(iter(store.events("copy"))).raw == item.raw

    def test_unknown_events_are_kept(self, store: Storage) -> None:
        """spec: ENV-5."""
        worker = Worker("r")
        item = worker.say(UnknownEvent("later_version", {"run_id": "r", "x": [2**63 - 1, "\x00"]}))
        append(store, item)
        assert next(iter(store.events("r"))).envelope == item.envelope

    def test_original_bytes_of_any_form(self, store: Storage) -> None:
        """Unknown fields, other orders of members and spellings survive. spec: ENV-6, FLD-12.1."""
        raw = (
            b' {"p":{"key":"x","later":[1,{}],"value":1e0,"run_id":"r"},'
            b'"m":{"ts":7,"seq":1.0},"extra":null,"t":"metric","v":1}'
        )
        big = raw.replace(b"[1,{}]", b'"' + b"x" * 100_000 + b'"').replace(b'"seq":1.0', b'"seq":2')
        for payload in (raw, big):
            append(store, Incoming(StreamId("r", "", "s"), decode(payload), payload, 1))
        assert [event.raw for event in store.events("r")] == [raw, big]
        assert store.check() == []

    def test_messagepack_originals(self, store: Storage) -> None:
        """A stream may come in the other codec. spec: MSG-2."""
        item = Worker("r").metric("x", float("nan"), 1)
        raw = encode(item.envelope, "msgpack")
        append(store, Incoming(item.stream, item.envelope, raw, 1))
        event = next(iter(store.events()))
        assert event.raw == raw
        assert exactly(event.envelope) == exactly(item.envelope)

    def test_threads_write_and_read_at_once(self, store: Storage) -> None:
        """Each event once, and no error."""
        errors: list[BaseException] = []

        def write(number: int) -> None:
            try:
                worker = Worker("r", f"w{number}", f"s{number}")
                for step in range(40):
                    append(store, worker.metric("x", step, step), worker.metric(f"own{number}", step, step))
                    store.get_run("r")
                    store.get_metrics("r", "x")
            except BaseException as error:  # noqa: BLE001 - told below
                errors.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(store.get_metrics("r", "x")) == 240
        assert store.get_run("r").events == 480
        assert store.check() == []

    def test_a_closed_store_says_so(self, store: Storage) -> None:
        """And may be closed again."""
        append(store, Worker("r").start())
        store.close()
        store.close()
        with pytest.raises(StorageError, match="closed"):
            store.list_runs()
        with pytest.raises(StorageError, match="closed"):
            store.append([Worker("r").start()])

    def test_opened_again(self, store: Storage, tmp_path: Path) -> None:
        """What was stored is there."""
        worker = Worker("r")
        append(store, worker.start("n"), worker.metric("x", float("nan"), 1), worker.say(Param("r", "p", {"": [-0.0]})))
        store.mark_lost(StreamLost(worker.stream, 5, "vanished", 1, "by test"))
        store.append([worker.skip(7, 9)])
        before, cursor = exactly(store.get_run("r")), store.cursor(worker.stream)
        again = self.reopen(store, tmp_path)
        if again is None:
            pytest.skip("a store that is gone when it is closed")
        with again:
            assert exactly(again.get_run("r")) == before
            assert again.cursor(worker.stream) == cursor
            assert again.append([worker.skip(7, 9)]) == AppendResult()
            append(again, worker.end())
            assert again.get_run("r").status == "completed"
            assert again.check() == []


class KeepsCursors(StoreMaker):
    """What is here of each stream. spec: FLD-12.2."""

    def test_cursor_of_a_stream(self, store: Storage) -> None:
        """Gaps stay open until they are filled. spec: STR-6."""
        worker = Worker("r")
        assert store.cursor(worker.stream) == RangeSet()
        append(store, *(worker.say(Metric("r", "x", seq), seq=seq) for seq in (1, 2, 5, 9)))
        assert store.cursor(worker.stream) == RangeSet([(1, 2), (5, 5), (9, 9)])
        assert store.get_run("r").streams[0].gaps == ((3, 4), (6, 8))
        append(store, worker.say(Metric("r", "x", 4), seq=4))
        assert store.cursor(worker.stream) == RangeSet([(1, 2), (4, 5), (9, 9)])
        assert store.cursor(StreamId("r", "other", "session-1")) == RangeSet()

    def test_streams_are_apart(self, store: Storage) -> None:
        """Same seqs, other sessions and workers. spec: STR-1.3."""
        workers = [Worker("r", "0", "a"), Worker("r", "1", "a"), Worker("r", "0", "b"), Worker("q", "0", "a")]
        append(store, *(worker.metric("x", 1, 1) for worker in workers))
        assert len(store.get_metrics("r", "x")) == 3
        assert store.conflicts("r") == []

    def test_a_skip_closes_its_range(self, store: Storage) -> None:
        """Known loss is no gap, and no event. spec: STR-7."""
        worker = Worker("r")
        append(store, worker.start(), worker.say(Metric("r", "x", 1), seq=6))
        assert store.append([worker.skip(2, 4)]).stored == ()
        assert store.cursor(worker.stream) == RangeSet([(1, 4), (6, 6)])
        state = store.get_run("r")
        assert (state.streams[0].gaps, state.streams[0].skipped, state.events) == (((5, 5),), ((2, 4),), 2)
        assert len(list(store.events())) == 2
        store.append([worker.skip(9, 8)])  # says nothing
        assert store.cursor(worker.stream) == RangeSet([(1, 4), (6, 6)])
        append(store, worker.say(Metric("r", "x", 3), seq=3))  # comes in spite of it. spec: STR-7.1
        assert store.check() == []

    def test_extreme_seqs(self, store: Storage) -> None:
        """An int64 is an int64. spec: ENV-4."""
        worker = Worker("r")
        append(store, worker.say(Metric("r", "x", 1), seq=2**63 - 1, timestamp_us=-(2**63)))
        assert store.cursor(worker.stream) == RangeSet([(2**63 - 1, 2**63 - 1)])
        assert store.get_metrics("r", "x")[0].timestamp_us == -(2**63)


class KeepsValues(StoreMaker):
    """Poison: everything a reader accepts comes back as it was, and its neighbours too. spec: FLD-12.3."""

    @pytest.mark.parametrize("value", NUMBERS, ids=repr)
    def test_numbers(self, store: Storage, value: Number) -> None:
        """spec: VAL-2, VAL-3."""
        worker = Worker("r")
        append(
            store,
            worker.metric("before", 1, 1),
            worker.metric("x", value, 1),
            worker.say(MetricBatch("r", {"y": value, "z": 2}, step=2)),
            worker.say(Summary("r", {"s": value})),
            worker.say(Checkpoint("r", 1, "p", metrics_snapshot={"c": value})),
            worker.say(RunEnd("r", "completed", final_metrics={"f": value})),
        )
        for key, expected in (("before", 1), ("x", value), ("y", value), ("z", 2)):
            assert [exactly(point.value) for point in store.get_metrics("r", key)] == [exactly(expected)]
        state = store.get_run("r")
        assert exactly(state.metrics["x"].last.value) == exactly(value)
        assert exactly(state.summary["s"]) == exactly(value)
        assert exactly(state.final_metrics["f"]) == exactly(value)
        assert exactly(store.get_checkpoints("r")[0].checkpoint.metrics_snapshot["c"]) == exactly(value)
        assert store.check() == []

    @pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
    def test_texts(self, store: Storage, text: str) -> None:
        """As ids, names, keys, tags and messages."""
        run_id = f"r{text}"
        worker = Worker(run_id, f"w{text}", f"s{text}")
        context = MetricContext(phase=text)
        append(
            store,
            worker.say(RunStart(RunId(run_id, f"e{text}", f"p{text}"), name=f"n{text}", tags={text: text})),
            worker.metric(text, 1, 1, context),
            worker.metric("neighbour", 2, 1),
            worker.say(Param(run_id, text, text)),
            worker.say(LogEntry(run_id, "info", text, fields={text: text})),
            worker.say(Artifact(run_id, text, artifact_type=text, name=text)),
        )
        assert store.find_run(run_id) == run_id
        assert store.find_run(f"n{text}") == run_id
        state = store.get_run(run_id)
        assert (state.name, state.tags, state.params) == (f"n{text}", {text: text}, {text: text})
        assert store.metric_keys(run_id) == sorted([text, "neighbour"])
        assert store.get_metrics(run_id, text)[0].context == context
        assert store.get_metrics(run_id, text, worker_id=f"w{text}")[0].session_id == f"s{text}"
        assert store.get_params(run_id)[text][0].value == text
        assert store.get_logs(run_id)[0].entry.fields == {text: text}
        assert store.get_artifacts(run_id)[0].artifact.path == text
        assert store.get_experiment(f"e{text}").name == f"e{text}"
        assert store.cursor(worker.stream).contiguous_to == 6
        store.annotate(run_id, tags={"k": text}, note=text)
        assert (store.get_run(run_id).tags["k"], store.get_run(run_id).note) == (text, text)
        assert store.check() == []

    def test_texts_that_are_alike_are_not_the_same(self, store: Storage) -> None:
        """No folding of case, no normal forms, no end at U+0000."""
        worker = Worker("r")
        append(store, *(worker.metric(text, index, 1) for index, text in enumerate(TEXTS)))
        append(store, *(worker.metric(text.swapcase(), -1, 2) for text in TEXTS if text.swapcase() not in TEXTS))
        for index, text in enumerate(TEXTS):
            assert [point.value for point in store.get_metrics("r", text)] == [index], ascii(text)

    @pytest.mark.parametrize("value", FREE, ids=lambda value: ascii(value)[:30])
    def test_free_slots(self, store: Storage, value: Json) -> None:
        """spec: VAL-4."""
        worker = Worker("r")
        append(
            store,
            worker.say(Param("r", "p", value)),
            worker.say(LogEntry("r", "info", "m", fields={"f": value})),
            worker.say(Artifact("r", "a", metadata={"f": value})),
            worker.say(Param("r", "q", 1)),
        )
        assert exactly(store.get_run("r").params) == exactly({"p": value, "q": 1})
        assert exactly(store.get_params("r")["p"][0].value) == exactly(value)
        assert exactly(store.get_logs("r")[0].entry.fields["f"]) == exactly(value)
        assert exactly(store.get_artifacts("r")[0].artifact.metadata["f"]) == exactly(value)
        assert store.check() == []

    def test_integers_beyond_int64(self, store: Storage) -> None:
        """Workers of before sent them; they read as floats, and the original says what was sent. spec: VAL-2.3."""
        raw = b'{"v":1,"t":"param","m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":[1180591620717411303424]}}'
        append(store, Incoming(StreamId("r", "", "s"), decode(raw), raw, 1))
        assert exactly(store.get_run("r").params) == "{'k': [1.1805916207174113e+21]}"
        assert next(iter(store.events())).raw == raw
        assert store.check() == []

    def test_extreme_steps_and_times(self, store: Storage) -> None:
        """Integer slots are int64. spec: VAL-1."""
        worker = Worker("r")
        steps = [2**63 - 1, -(2**63), 0, -1, 2**53 + 1]
        append(store, *(worker.say(Metric("r", "x", 1, step=step, epoch=step)) for step in steps))
        points = store.get_metrics("r", "x")
        assert [point.step for point in points] == sorted(steps)
        assert [point.epoch for point in points] == sorted(steps)

    def test_a_reserved_tag_of_a_user(self, store: Storage) -> None:
        """It names the run like any other. spec: EVT-TAGS-2."""
        worker = Worker("r")
        append(store, worker.start("given"), worker.say(Tags("r", {"xtrack.name": "tagged", "k": "v"})))
        assert store.get_run("r").name == "tagged"
        assert store.find_run("tagged") == "r"
