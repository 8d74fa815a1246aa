"""What a type checker makes of the package's names. Checked by mypy in test_typing.py, never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from typing_extensions import assert_never, assert_type

from xtrack_protocol.emitter import HeardEvent, Listener, Run, RunBuilder, Tracker, listen, tracked
from xtrack_protocol.errors import DecodeError, ErrorClass
from xtrack_protocol.ir import (
    Ack,
    Artifact,
    Envelope,
    EventMeta,
    LogEntry,
    Metric,
    MetricContext,
    Param,
    Payload,
    RunEnd,
    RunId,
    RunStart,
    UnknownEvent,
    checksum_sha256,
    run_id_text,
)
from xtrack_protocol.runs import MetricSummary, RunState, RunStatus, fold
from xtrack_protocol.session import RangeSet, StreamId, StreamResolver
from xtrack_protocol.wire import (
    Agreement,
    Damage,
    Decoded,
    Disagreement,
    Frame,
    FrameDecoder,
    Item,
    NeedMore,
    Record,
    TornTail,
    decode,
    decode_frame,
    encode,
    encode_frame,
    negotiate,
    stream_file,
)


def envelopes(metric: Metric, raw: bytes) -> None:
    envelope = Envelope.of(metric, seq=1, timestamp_us=2)
    assert_type(envelope, Envelope)
    assert_type(envelope.payload, Payload)
    assert_type(envelope.meta, EventMeta)
    assert_type(envelope.version, Literal[1])
    assert_type(envelope.event_type, str)
    assert_type(envelope.run_id, str | None)
    assert_type(decode(raw), Envelope)
    assert_type(encode(envelope), bytes)
    assert_type(encode_frame(envelope, "msgpack"), bytes)
    Envelope.of("metric", seq=1, timestamp_us=2)  # type: ignore[arg-type]
    Envelope.of(RunId("r"), seq=1, timestamp_us=2)  # type: ignore[arg-type]
    Envelope.of(metric, 1, 2)  # type: ignore[call-arg]
    metric.value = 5  # type: ignore[misc]


def matching(envelope: Envelope) -> None:
    match envelope:
        case Envelope(payload=Metric(key=key, value=value, step=step, context=context)):
            assert_type(key, str)
            assert_type(value, int | float)
            assert_type(step, int | None)
            assert_type(context, MetricContext | None)
        case Envelope(payload=UnknownEvent(event_type=kind)):
            assert_type(kind, str)
        case Envelope(payload=RunStart(run_id=run_id)):
            assert_type(run_id, str | RunId)
            assert_type(run_id_text(run_id), str)
        case Envelope(payload=RunEnd(status=status)):
            assert_type(status, Literal["completed", "failed", "killed"])
        case Envelope(payload=LogEntry(level=level, fields=fields)):
            assert_type(level, Literal["debug", "info", "warning", "error"])
            assert_type(fields, dict[str, Any])
        case Envelope(payload=Ack(rejected=rejected)):
            assert_type(rejected, list[tuple[int, str]])
        case Envelope(payload=Artifact(checksum=checksum)):
            assert_type(checksum, str | None)
            assert_type(checksum_sha256(checksum or ""), str | None)
        case Envelope(payload=Param() as param):
            assert_type(param.path, str)


def frames(buffer: bytearray, path: str) -> None:
    result = decode_frame(buffer)
    match result:
        case NeedMore(missing=missing):
            assert_type(missing, int)
        case Decoded(frame=frame, consumed=consumed):
            assert_type(frame, Frame)
            assert_type(consumed, int)
        case _:
            assert_never(result)
    assert_type(FrameDecoder().feed(memoryview(buffer)), list[Frame])
    assert_type(stream_file(path), Iterator[Frame])
    for frame in stream_file(path, strict=True):
        assert_type(frame.envelope, Envelope | None)
        assert_type(frame.error, DecodeError | None)
        if frame.error is not None:
            kind: ErrorClass = frame.error.kind
            assert_type(kind, ErrorClass)


def items(item: Item) -> int:
    match item:
        case Record(seq=seq):
            return seq
        case Damage(seq=maybe):
            return maybe or 0
        case TornTail():
            return 0
        case _:
            assert_never(item)


def rest(envelope: Envelope, seqs: RangeSet) -> None:
    stream = StreamResolver().resolve(envelope)
    assert_type(stream, StreamId | None)
    state = fold("r", [(StreamId("r", "", "s"), envelope)])
    assert_type(state, RunState)
    assert_type(state.status, RunStatus)
    assert_type(state.metrics["loss"], MetricSummary)
    assert_type(list(seqs), list[tuple[int, int]])
    assert_type(seqs - seqs, RangeSet)
    from xtrack_protocol.ir import Hello

    assert_type(negotiate(Hello([1])), Agreement | Disagreement)


@tracked
def train(lr: float, *, epochs: int = 3) -> dict[str, float]:
    return {"loss": lr * epochs}


@tracked("job", experiment="jobs")
async def job(number: int) -> str:
    return str(number)


def on_end(event: HeardEvent) -> None:
    assert_type(event.status, Literal["completed", "failed", "killed"] | None)
    assert_type(event.step, int | None)


async def tracked_functions_stay_what_they_are() -> None:
    assert_type(train(0.1, epochs=2), dict[str, float])
    assert_type(await job(1), str)
    train("fast")  # type: ignore[arg-type]
    assert_type(listen(on_end=on_end), Listener)
    assert_type(Tracker.build("e").with_name("n").with_metric("loss", 0.5), RunBuilder)
    assert_type(Tracker.experiment("e").with_tag("a", 1).create().start(), Run)
