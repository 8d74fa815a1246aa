"""Events to payloads and back."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import PAYLOADS, envelopes, json_values, numbers, same, texts, unknown_events

from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import (
    CONTROL_TYPES,
    ENVELOPES,
    Ack,
    Alert,
    Artifact,
    Auth,
    Checkpoint,
    Command,
    CommandResult,
    Envelope,
    EnvironmentInfo,
    ErrorInfo,
    GpuInfo,
    Hello,
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    OpenStream,
    Param,
    Ping,
    Pong,
    Progress,
    Reject,
    Resume,
    RunEnd,
    RunId,
    RunStart,
    SessionLimits,
    Skip,
    SourceInfo,
    StatusUpdate,
    Subscribe,
    Summary,
    Tags,
    UnknownEvent,
    Unsubscribe,
    Welcome,
)
from xtrack_protocol.wire import decode, decode_frame, encode, encode_frame, is_control

PUBLISHED = b'{"v":1,"t":"metric","m":{"seq":1,"ts":1703123456789000},"p":{"run_id":"abc","key":"loss","value":0.5}}'
LOSS = Envelope.of(Metric("abc", "loss", 0.5), seq=1, timestamp_us=1703123456789000)


def of(payload: Any, seq: int = 1) -> Envelope:
    return Envelope.of(payload, seq=seq, timestamp_us=2)


def test_published_example_is_102_bytes() -> None:
    assert len(PUBLISHED) == 102
    assert decode(PUBLISHED) == LOSS
    frame = encode_frame(LOSS)
    assert frame[:4] == b"\0\0\0\x66"
    assert frame[4:] == (
        b'{"t":"metric","v":1,"m":{"seq":1,"ts":1703123456789000},"p":{"run_id":"abc","key":"loss","value":0.5}}'
    )
    assert len(frame) == 106
    assert decode_frame(frame).frame.envelope == LOSS  # type: ignore[union-attr]


FULL = RunId("r", "e", "q")
GOLDEN: dict[str, list[tuple[Any, bytes]]] = {
    "run_start": [
        (RunStart("r"), b'{"run_id":"r"}'),
        (
            RunStart(
                FULL,
                "n",
                {"a": "b"},
                SourceInfo("c", "b", "u", "t.py", "sha256:0"),
                EnvironmentInfo("3.11", "linux", "h", [GpuInfo("A100", 80), GpuInfo(memory="80 GB")], {"X": "1"}),
                Resume(["s"], 7),
                2,
                True,
                True,
            ),
            (
                b'{"run_id":{"id":"r","exp_id":"e","parent_id":"q"},"name":"n","tags":{"a":"b"},"source":{"git_commit":"c",'
                b'"git_branch":"b","git_repo":"u","entrypoint":"t.py","code_hash":"sha256:0"},"env":{"python_version":"3.11",'
                b'"platform":"linux","hostname":"h","gpu_info":[{"name":"A100","memory":80},{"memory":"80 GB"}],'
                b'"env_vars":{"X":"1"}},"resume":{"sids":["s"],"rewind_to":7},"world_size":2,"sub":true,"observer":true}'
            ),
        ),
    ],
    "run_end": [
        (RunEnd("r", "completed"), b'{"run_id":"r","status":"completed"}'),
        (
            RunEnd("r", "failed", ErrorInfo("E", "m", "tb"), {"loss": math.nan}, 5),
            (
                b'{"run_id":"r","status":"failed","error":{"type":"E","message":"m","traceback":"tb"},'
                b'"final_metrics":{"loss":"NaN"},"duration_ms":5}'
            ),
        ),
    ],
    "param": [
        (Param("r", "k", None), b'{"run_id":"r","key":"k","value":null}'),
        (Param("r", "k", {}, ["a", "b"]), b'{"run_id":"r","key":"k","value":{},"nested_key":["a","b"]}'),
        (Param("r", "k", -math.inf), b'{"run_id":"r","key":"k","value":{"$float":"-Infinity"}}'),
    ],
    "metric": [
        (
            Metric("r", "k", 2**53 + 1, 1, 2, MetricContext("train", 3, 4, "mean")),
            (
                b'{"run_id":"r","key":"k","value":9007199254740993,"step":1,"epoch":2,'
                b'"ctx":{"phase":"train","batch_size":3,"dataset_size":4,"agg":"mean"}}'
            ),
        ),
        (Metric("r", "k", -0.0, 0), b'{"run_id":"r","key":"k","value":-0.0,"step":0}'),
        (Metric("r", "k", math.inf), b'{"run_id":"r","key":"k","value":"Infinity"}'),
    ],
    "metric_batch": [
        (
            MetricBatch("r", {"b": 1, "a": 1e-300}, 1, 2, MetricContext("val")),
            b'{"run_id":"r","metrics":{"b":1,"a":1e-300},"step":1,"epoch":2,"ctx":{"phase":"val"}}',
        ),
        (MetricBatch("r", {}), b'{"run_id":"r","metrics":{}}'),
    ],
    "artifact": [
        (Artifact("r", "p"), b'{"run_id":"r","path":"p"}'),
        (
            Artifact("r", "p", "model", "n", {"a": math.nan}, 9, "sha256:0", "reference"),
            (
                b'{"run_id":"r","path":"p","type":"model","name":"n","meta":{"a":{"$float":"NaN"}},"size":9,'
                b'"checksum":"sha256:0","upload":"reference"}'
            ),
        ),
    ],
    "checkpoint": [
        (Checkpoint("r", 0, "p"), b'{"run_id":"r","step":0,"path":"p"}'),
        (
            Checkpoint("r", 1, "p", 2, {"l": 1.5}, True, "l", {"x": [1]}),
            (
                b'{"run_id":"r","step":1,"path":"p","epoch":2,"metrics":{"l":1.5},"is_best":true,"best_key":"l",'
                b'"meta":{"x":[1]}}'
            ),
        ),
    ],
    "status": [
        (
            StatusUpdate("r", "training", "m", Progress(0, 2, "epoch")),
            b'{"run_id":"r","status":"training","msg":"m","progress":{"cur":0,"total":2,"unit":"epoch"}}',
        )
    ],
    "log": [
        (LogEntry("r", "info", "m"), b'{"run_id":"r","level":"info","msg":"m"}'),
        (
            LogEntry("r", "error", "m", "lg", 3, {"a": None}),
            b'{"run_id":"r","level":"error","msg":"m","logger":"lg","step":3,"fields":{"a":null}}',
        ),
    ],
    "tags": [(Tags("r", {"a": "b"}), b'{"run_id":"r","tags":{"a":"b"}}')],
    "alert": [
        (Alert("r", "t"), b'{"run_id":"r","title":"t"}'),
        (Alert("r", "t", "x", "error", "k"), b'{"run_id":"r","title":"t","text":"x","level":"error","key":"k"}'),
    ],
    "summary": [(Summary("r", {"a": 1}), b'{"run_id":"r","values":{"a":1}}')],
    "command": [
        (
            Command("c", "pause", {"a": 1}, "r", "w"),
            b'{"cmd_id":"c","type":"pause","payload":{"a":1},"run_id":"r","wid":"w"}',
        ),
        (Command("c", "stop"), b'{"cmd_id":"c","type":"stop"}'),
    ],
    "command_result": [
        (
            CommandResult("r", "c", "ok", "m", "w"),
            b'{"run_id":"r","cmd_id":"c","status":"ok","msg":"m","wid":"w"}',
        ),
        (
            CommandResult("r", "c", "error", None, None, 2),
            b'{"run_id":"r","cmd_id":"c","status":"error","left":2}',
        ),
    ],
    "ack": [
        (Ack(0, "ok"), b'{"seq":0,"status":"ok"}'),
        (
            Ack(5, "error", "m", "r", "w", "s", [(3, "gap")]),
            b'{"seq":5,"status":"error","error":"m","run_id":"r","wid":"w","sid":"s","rejected":[[3,"gap"]]}',
        ),
    ],
    "hello": [
        (
            Hello([1], ["json"], ["acks"], "a/1", Auth("key", "k")),
            b'{"protocols":[1],"codecs":["json"],"features":["acks"],"agent":"a/1","auth":{"scheme":"key","key":"k"}}',
        )
    ],
    "welcome": [
        (
            Welcome(1, "json", "power", ["acks"], SessionLimits(1, 2, 3)),
            (
                b'{"protocol":1,"codec":"json","durability":"power","features":["acks"],'
                b'"limits":{"max_frame":1,"window_events":2,"window_bytes":3}}'
            ),
        )
    ],
    "reject": [(Reject("c", "m", 1.5), b'{"code":"c","msg":"m","retry_after":1.5}')],
    "open": [
        (OpenStream("r", "s", "w"), b'{"run_id":"r","sid":"s","wid":"w"}'),
        (OpenStream("r", "s", None, True), b'{"run_id":"r","sid":"s","passive":true}'),
    ],
    "skip": [(Skip("r", "s", 1, 2, "disk full"), b'{"run_id":"r","sid":"s","from":1,"to":2,"reason":"disk full"}')],
    "ping": [(Ping(), b"{}")],
    "pong": [(Pong(), b"{}")],
    "subscribe": [
        (Subscribe("r", 4), b'{"run_id":"r","from":4}'),
        (Subscribe("r", None, True), b'{"run_id":"r","until_end":true}'),
    ],
    "unsubscribe": [
        (Unsubscribe("r"), b'{"run_id":"r"}'),
        (Unsubscribe("r", "ended", "m"), b'{"run_id":"r","code":"ended","msg":"m"}'),
    ],
}


def test_golden_bytes_name_every_type() -> None:
    assert GOLDEN.keys() == ENVELOPES.keys()


@pytest.mark.parametrize(
    ("event_type", "payload", "body"), [(name, *case) for name, cases in GOLDEN.items() for case in cases]
)
def test_golden_bytes(event_type: str, payload: Any, body: bytes) -> None:
    seq, sid, more = (0, None, b"") if event_type in CONTROL_TYPES else (7, "s", b',"sid":"s"')
    envelope = Envelope.of(payload, seq=seq, timestamp_us=8, worker_id="w", session_id=sid)
    expected = b'{"t":"%s","v":1,"m":{"seq":%d,"ts":8,"wid":"w"%s},"p":%s}' % (event_type.encode(), seq, more, body)
    assert encode(envelope) == expected
    assert same(decode(expected), envelope)
    assert envelope.event_type == event_type


def test_absent_ids_are_left_out() -> None:
    assert encode(Envelope.of(Ping(), seq=0, timestamp_us=0, worker_id="", session_id="")) == (
        b'{"t":"ping","v":1,"m":{"seq":0,"ts":0},"p":{}}'
    )


def test_unknown_event_keeps_type_and_body() -> None:
    event = UnknownEvent("energy", {"run_id": "r", "joules": math.nan})
    raw = b'{"t":"energy","v":1,"m":{"seq":7,"ts":2},"p":{"run_id":"r","joules":{"$float":"NaN"}}}'
    assert encode(of(event, 7)) == raw
    assert same(decode(raw), of(event, 7))
    assert decode(raw).run_id == "r"
    assert decode(raw).event_type == "energy"


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("event_type", [*PAYLOADS, "unknown"])
@settings(max_examples=40)
@given(data=st.data())
def test_round_trip(codec: Any, event_type: str, data: st.DataObject) -> None:
    envelope = data.draw(envelopes(PAYLOADS[event_type] if event_type in PAYLOADS else unknown_events()))
    payload = encode(envelope, codec)
    decoded = decode(payload, codec=codec)
    assert same(decoded, envelope)
    assert encode(decoded, codec) == payload
    assert same(decode(payload, codec=codec, lenient=False), envelope)
    if codec == "json":
        json.loads(payload, parse_constant=pytest.fail)  # a legal JSON text, without bare tokens
        assert b"\0" not in payload


@given(numbers())
def test_numbers_survive(value: float) -> None:
    for codec in ("json", "msgpack"):
        decoded = decode(encode(of(Metric("r", "k", value)), codec), codec=codec)  # type: ignore[arg-type]
        assert same(decoded.payload, Metric("r", "k", value))


@given(json_values(20), texts())
@example({"a.b": {"c/d": [math.nan, None, -0.0, 2**53 + 1, "\0", "\U0001f600"]}}, "x.y/z")
@example([{"$float": "nan"}, {"$float": "NaN", "b": 1}, {"$float": math.nan}, ["NaN"]], "")
def test_free_slots_survive(value: Any, key: str) -> None:
    for codec in ("json", "msgpack"):
        decoded = decode(encode(of(Param("r", key, value)), codec), codec=codec)  # type: ignore[arg-type]
        assert same(decoded.payload, Param("r", key, value))


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_depth_64_is_written_and_65_is_not(codec: Any) -> None:
    payload = encode(of(Param("r", "k", nested(62))), codec)
    assert decode(payload, codec=codec).payload.value == nested(62)
    with pytest.raises(EncodeError, match="64 levels"):
        encode(of(Param("r", "k", nested(63))), codec)
    with pytest.raises(EncodeError):
        encode(of(Param("r", "k", nested(100_000))), codec)


@pytest.mark.parametrize(
    "value",
    [
        *(b"x", {1: 2}, {None: 1}, object(), 1j, {1, 2}, "\ud800", {"\udfff": 1}, [b""], 2**63, -(2**63) - 1, 10**400),
        *({"$float": "NaN"}, {"a": [{"$float": "-Infinity"}]}, msgspec.UNSET, float),
    ],
)
@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_what_is_no_json_is_refused(value: Any, codec: Any) -> None:
    for payload in (Param("r", "k", value), LogEntry("r", "info", "m", fields={"f": value})):
        with pytest.raises(EncodeError) as caught:
            encode(of(payload), codec)
        if not isinstance(value, str) and value != {"\udfff": 1}:
            assert caught.value.path.startswith("p.")
            assert caught.value.path in str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [
        Metric("r", "\ud800", math.nan),
        MetricBatch("r", {"a": "b", "c": math.nan}),  # type: ignore[dict-item]
        MetricBatch("r", {1: math.nan}),  # type: ignore[dict-item]
        MetricBatch("r", [math.nan]),  # type: ignore[arg-type]
        Metric("r", "k", math.nan, context="train"),  # type: ignore[arg-type]
        Metric("r", "k", math.nan, step=1.5),  # type: ignore[arg-type]
        Metric("r", "k", None),  # type: ignore[arg-type]
        Metric(5, "k", math.nan),  # type: ignore[arg-type]
        RunEnd("r", None),  # type: ignore[arg-type]
        RunEnd("r", "done", final_metrics={"a": math.nan}),  # type: ignore[arg-type]
        Tags("r", {"a": None}),  # type: ignore[dict-item]
        UnknownEvent("x", None),
        UnknownEvent("x", [1]),
        Checkpoint("r", 1, "p", metrics_snapshot={"a": math.nan}, is_best="yes"),  # type: ignore[arg-type]
        Ack(1, "ok", None, rejected=[(1, None)]),  # type: ignore[list-item]
    ],
)
def test_wrong_types_on_the_slow_way_are_encode_errors(payload: Any) -> None:
    for codec in ("json", "msgpack"):
        with pytest.raises(EncodeError):
            encode(of(payload), codec)  # type: ignore[arg-type]


def test_envelope_of_refuses_what_is_no_payload() -> None:
    with pytest.raises(TypeError, match="RunId is no event"):
        Envelope.of(RunId("r"), seq=1, timestamp_us=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("event_type", sorted(ENVELOPES))
def test_seq_below_one_is_for_control_events(event_type: str) -> None:
    body = GOLDEN[event_type][0][1]
    for seq in (0, -1, -(2**63)):
        raw = b'{"t":"%s","v":1,"m":{"seq":%d,"ts":1},"p":%s}' % (event_type.encode(), seq, body)
        if is_control(of(GOLDEN[event_type][0][0])):
            assert decode(raw).meta.seq == seq
        else:
            with pytest.raises(DecodeError) as caught:
                decode(raw)
            assert (caught.value.kind, caught.value.path) == ("out_of_range", "m.seq")
    unknown = decode(b'{"t":"new","v":1,"m":{"seq":0,"ts":1},"p":{}}')
    assert unknown.meta.seq == 0
    assert is_control(unknown)
    assert not is_control(decode(b'{"t":"new","v":1,"m":{"seq":1,"ts":1},"p":{}}'))


def test_msgpack_reader_takes_json_too() -> None:
    assert decode(PUBLISHED, codec="msgpack") == LOSS
    packed = encode(LOSS, "msgpack")
    assert packed[0] == 0x84
    assert decode(packed, codec="msgpack") == LOSS
    with pytest.raises(DecodeError):
        decode(packed)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({b"run_id": "r"}, "bad_json"),
        ({"run_id": "r", "key": "k", "value": b"x"}, "bad_json"),
        ({"run_id": "r", "key": "k", "value": msgspec.msgpack.Ext(5, b"x")}, "bad_json"),
        ({"run_id": "r", "key": "k", "value": msgspec.msgpack.Ext(-1, b"\0\0\0\0")}, "bad_json"),
        ({"run_id": "r", "key": "k", "value": {1: 2}}, "bad_json"),
        ({"run_id": "r", "key": "k", "value": nested(63)}, "too_deep"),
        ({"run_id": "r", "key": "k"}, "missing_field"),
        ({"run_id": "r", "key": "k", "value": 1, "nested_key": "x"}, "bad_type"),
    ],
)
def test_msgpack_that_is_no_json_is_refused(body: Any, kind: str) -> None:
    raw = msgspec.msgpack.encode({"t": "param", "v": 1, "m": {"seq": 1, "ts": 1}, "p": body})
    with pytest.raises(DecodeError) as caught:
        decode(raw, codec="msgpack")
    assert caught.value.kind == kind


@pytest.mark.parametrize("end", range(1, 30))
def test_msgpack_cut_short_or_too_long(end: int) -> None:
    raw = encode(LOSS, "msgpack")
    for bad in (raw[:-end], raw + b"\0" * end):
        with pytest.raises(DecodeError) as caught:
            decode(bad, codec="msgpack")
        assert caught.value.kind == "bad_json"


def test_msgpack_integers_beyond_int64_read_as_binary64() -> None:
    raw = msgspec.msgpack.encode(
        {"t": "metric", "v": 1, "m": {"seq": 1, "ts": 1}, "p": {"run_id": "r", "key": "k", "value": 2**64 - 1}}
    )
    assert same(decode(raw, codec="msgpack").payload.value, 2.0**64)


def test_auth_key_is_not_shown() -> None:
    assert "secret" not in repr(of(Hello([1], auth=Auth("key", "secret"))))
