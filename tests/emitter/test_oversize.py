"""Events too large for a frame: split, or cut and marked, with the full text in a file. spec: FRM-3.8 to FRM-3.15"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.emitter.shrink import CUT_MARK, TEXT_MAX
from xtrack_protocol.ir import Artifact, MetricBatch, MetricContext, RunEnd, RunStart
from xtrack_protocol.limits import FRAME_MAX_EMIT

LONG = 3 * FRAME_MAX_EMIT
NASTY = '\x00é🚀\\"' * (LONG // 5)
"""JSON writes these with one to six bytes each."""


def check(memory: Any) -> None:
    """Every payload fits, and seqs are without a gap."""
    payloads = memory.transport.payloads
    assert all(len(payload) <= FRAME_MAX_EMIT for payload in payloads)
    assert [event.meta.seq for event in memory.transport.events] == list(range(1, len(payloads) + 1))


def full_texts(memory: Any) -> list[str]:
    """Return the texts that were kept as files, which are artifacts of the run. spec: FRM-3.13"""
    artifacts = [event.payload for event in memory.sent if isinstance(event.payload, Artifact)]
    artifacts = [artifact for artifact in artifacts if "xtrack.full_text" in artifact.metadata]
    return [Path(artifact.path).read_text(encoding="utf-8") for artifact in artifacts]


def test_a_batch_is_split(memory: Any) -> None:
    metrics = {f"some/rather/long/name/of/a/metric/{number}": float(number) for number in range(60_000)}
    memory.run.log_metrics(metrics, step=7, epoch=1, phase="val", timestamp_us=5)
    check(memory)
    parts = [event.payload for event in memory.sent]
    assert len(parts) > 2
    joined: dict[str, Any] = {}
    for part in parts:
        assert isinstance(part, MetricBatch)
        assert (part.step, part.epoch, part.context) == (7, 1, MetricContext("val"))
        assert not joined.keys() & part.metrics.keys()
        joined |= part.metrics
    assert joined == metrics
    assert {event.meta.timestamp_us for event in memory.sent} == {5}


def test_a_batch_of_one_that_is_too_large(memory: Any) -> None:
    memory.run.log_metrics({"k" * LONG: 1.0, "good": 2.0})
    check(memory)
    assert memory.last == MetricBatch("r", {"good": 2.0})
    assert memory.run.stats().refused == 1


@pytest.mark.parametrize("text", ["x" * LONG, NASTY], ids=["plain", "nasty"])
@pytest.mark.parametrize(
    ("call", "slot"),
    [
        (lambda run, text: run.log_param("p", text), lambda event: event.value),
        (lambda run, text: run.log(text), lambda event: event.message),
        (lambda run, text: run.log("m", f=text), lambda event: event.fields["f"]),
        (lambda run, text: run.set_tag("k", text), lambda event: event.tags["k"]),
        (lambda run, text: run.set_status("training", text), lambda event: event.message),
        (lambda run, text: run.alert("title", text), lambda event: event.text),
        (lambda run, text: run.alert(text), lambda event: event.title),
        (lambda run, text: run.log_artifact("s3://x", metadata={"m": text}), lambda event: event.metadata["m"]),
        (lambda run, text: run.log_checkpoint("s3://x", 1, metadata={"m": text}), lambda event: event.metadata["m"]),
        (lambda run, text: run.end("failed", error=text), lambda event: event.error.message),
    ],
    ids=["param", "log", "field", "tag", "status", "alert", "title", "artifact", "checkpoint", "end"],
)
def test_a_text_is_cut_and_marked(memory: Any, call: Any, slot: Any, text: str) -> None:
    call(memory.run, text)
    check(memory)
    shown = slot(memory.last)
    assert shown.startswith(text[:100])
    assert str(len(text)) in shown[-300:]
    assert shown.endswith("]")  # spec: FRM-3.12
    assert any(
        text == kept or msgspec.json.decode(kept) == {"k": text} for kept in map(_text_or_json, full_texts(memory))
    )
    assert memory.run.stats().cut == 1


def _text_or_json(kept: str) -> str:
    try:
        inside = msgspec.json.decode(kept)
    except msgspec.DecodeError:
        return kept
    (value,) = inside.values()
    return str(value)


def test_a_value_that_is_no_text(memory: Any) -> None:
    value = [{"n": number, "nan": float("nan")} for number in range(60_000)]
    memory.run.log_param("p", value)
    check(memory)
    assert memory.last.value.startswith('[{"n"')
    (kept,) = full_texts(memory)
    assert kept.count("NaN") == 60_000


def test_many_long_fields_have_files_of_their_own_or_one_for_all(memory: Any) -> None:
    memory.run.log("x" * LONG, a="a" * LONG, b="b" * LONG)
    check(memory)
    kept = "".join(full_texts(memory))
    assert all(letter * LONG in kept for letter in "xab")
    assert memory.last.fields["a"][:TEXT_MAX] == "a" * TEXT_MAX


def test_entries_that_are_left_out_are_counted(memory: Any) -> None:
    """FRM-3.15."""
    memory.run.set_tags({f"tag {number}": "x" * 30 for number in range(50_000)})
    memory.run.log("m", **{f"field {number}": number for number in range(90_000)})
    memory.run.summary({f"value {number}": number for number in range(90_000)})
    memory.run.log_checkpoint("s3://x", 1, metrics={f"value {number}": number for number in range(90_000)})
    check(memory)
    tags, log, summary, checkpoint = [event.payload for event in memory.sent if not isinstance(event.payload, Artifact)]
    assert "of 50000 entries left out" in tags.tags[CUT_MARK]
    assert tags.tags["tag 0"] == "x" * 30
    assert "of 90000 entries left out" in log.fields[CUT_MARK]
    assert log.message == "m"
    assert summary.values[CUT_MARK] == 90_001 - len(summary.values)
    assert checkpoint.metrics_snapshot[CUT_MARK] == 90_001 - len(checkpoint.metrics_snapshot)


def test_what_is_short_stays_as_it_is(memory: Any) -> None:
    """FRM-3.11: a long traceback is no reason to lose the final metrics."""
    try:
        raise ValueError("x" * LONG)
    except ValueError as error:
        memory.run.end("failed", error=error, final_metrics={"acc": 0.5})
    check(memory)
    assert isinstance(memory.last, RunEnd)
    assert memory.last.final_metrics == {"acc": 0.5}
    assert memory.last.error.type == "ValueError"
    assert "cut:" in memory.last.error.traceback


def test_a_long_start(spool: Any) -> None:
    from xtrack_protocol.transport import MemoryTransport

    transport = MemoryTransport()
    run = Tracker.start_run("n" * LONG, tags={"t": "x" * LONG}, transport=transport)
    starts = [event.payload for event in transport.events if isinstance(event.payload, RunStart)]
    assert starts[0].name.startswith("nnn")
    assert "cut:" in starts[0].name
    run.end()


def test_what_can_not_be_cut_is_refused_and_takes_no_seq(memory: Any) -> None:
    memory.run.log_metric("k" * LONG, 1.0)
    memory.run.log_param("k" * LONG, 1.0)
    memory.run.log_artifact("s3://" + "k" * LONG)
    memory.run.log_metric("k", 1.0)
    check(memory)
    assert len(memory.sent) == 1
    assert memory.run.stats().refused == 3


def test_no_room_for_the_full_text(memory: Any, spool: Any) -> None:
    """The event is sent all the same, and says that the rest is lost."""
    spool.root.parent.joinpath("home").write_text("a file is where the folder should be")
    memory.run.log("x" * LONG)
    check(memory)
    assert memory.last.message.endswith("the rest is lost]")
    assert memory.run.stats().warnings.keys() == {"cut", "attachment"}
