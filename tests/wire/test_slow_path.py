"""The decoder's two halves agree, and nothing but DecodeError comes out of them."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import envelopes, hostile_json, mutated, same

from xtrack_protocol.errors import ERROR_CLASSES, DecodeError
from xtrack_protocol.ir import CONTROL_TYPES, Envelope, EventMeta, Param, UnknownEnvelope
from xtrack_protocol.limits import DEPTH_MAX
from xtrack_protocol.wire import _slow, decode, encode
from xtrack_protocol.wire import codec as codec_module


def slow(payload: bytes, *, lenient: bool = True, codec: Any = "json", max_depth: int = DEPTH_MAX) -> Any:
    """What the slow half makes of it: the envelope, or the error's class."""
    try:
        return _slow.decode(payload, codec=codec, lenient=lenient, max_depth=max_depth)
    except DecodeError as error:
        return error.kind


def whole(payload: bytes, **options: Any) -> Any:
    """What the decoder makes of it."""
    try:
        return decode(payload, **options)
    except DecodeError as caught:
        error = caught
    assert error.kind in ERROR_CLASSES
    assert (error.offset, error.length, error.fatal) == (0, 0, False)
    assert str(error)
    return error.kind


def as_written(envelope: Envelope) -> Envelope:
    """Return an envelope that came with whatever seq as a writer writes it. spec: CTL-1"""
    if envelope.event_type not in CONTROL_TYPES:
        return envelope
    meta = envelope.meta
    return replace(envelope, meta=EventMeta(0, meta.timestamp_us, meta.worker_id))


def check_agreement(payload: bytes) -> None:
    for lenient in (True, False):
        fast, careful = whole(payload, lenient=lenient), slow(payload, lenient=lenient)
        assert same(fast, careful), payload
        if isinstance(careful, Envelope):
            again = encode(careful)
            assert same(whole(again, lenient=False), as_written(careful))
            assert encode(decode(again)) == again
    strict = slow(payload, lenient=False)
    if isinstance(strict, Envelope):
        assert same(slow(payload), strict), "a lenient reader takes what a strict one takes, and as it does"
    for buffer in (bytearray(payload), memoryview(payload)):
        assert same(whole(buffer), whole(payload))


@given(envelopes().map(encode))
def test_agree_on_valid(payload: bytes) -> None:
    assert isinstance(slow(payload, lenient=False), Envelope)
    check_agreement(payload)


@settings(max_examples=400)
@given(envelopes().map(encode).flatmap(mutated))
@example(b'{"t":"subscribe","v":1,"m":{"seq":1,"ts":0,"sid":"s"},"p":{"run_id":""}}')
def test_agree_on_mutated(payload: bytes) -> None:
    check_agreement(payload)


@settings(max_examples=600)
@given(hostile_json())
def test_agree_on_hostile(payload: bytes) -> None:
    check_agreement(payload)


@settings(max_examples=300)
@given(hostile_json().flatmap(mutated))
def test_agree_on_mutated_hostile(payload: bytes) -> None:
    check_agreement(payload)


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_agree_on_noise(payload: bytes) -> None:
    check_agreement(payload)
    assert not isinstance(whole(payload, codec="msgpack"), Envelope)


@settings(max_examples=300)
@given(envelopes().map(lambda envelope: encode(envelope, "msgpack")).flatmap(mutated))
def test_mutated_msgpack(payload: bytes) -> None:
    result = whole(payload, codec="msgpack")
    if payload and (0x80 <= payload[0] <= 0x8F or payload[0] in b"\xde\xdf"):
        assert same(slow(payload, codec="msgpack"), result)
    if isinstance(result, Envelope):
        if (
            not isinstance(result, UnknownEnvelope) and result.event_type in CONTROL_TYPES
        ):  # as it is written. spec: CTL-1
            wid = result.meta.worker_id
            result = Envelope.of(result.payload, seq=0, timestamp_us=result.meta.timestamp_us, worker_id=wid)
        assert same(decode(encode(result, "msgpack"), codec="msgpack"), result)
        assert same(decode(encode(result)), result)


METRIC = b'{"t":"metric","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","key":"k","value":%s}}'
PARAM = b'{"t":"param","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","key":"k","value":%s}}'
ANY = b'{"t":"new","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","value":%s}}'
STEP = b'{"t":"metric","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","key":"k","value":1,"step":%s}}'


@settings(max_examples=300)
@given(
    st.from_regex(rb"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?\Z")
    | st.integers().map(lambda n: b"%d" % n)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: repr(x).encode())
    | st.integers(0, 2**1100).map(lambda n: b"%d" % n)
)
@example(b"2.2250738585072011e-308")
@example(b"1.7976931348623158e308")
@example(b"1.7976931348623159e308")
@example(b"9007199254740993.0")
@example(b"0.1e-330")
@example(b"1" + b"0" * 308)
@example(b"-" + b"9" * 309)
@example(b"9223372036854775807")
@example(b"-9223372036854775808")
@example(b"6631236846766476e-316")
@example(b"89255e-22")
def test_numbers_are_read_to_the_nearest(text: bytes) -> None:
    value = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 4000 else math.inf)
    for template in (METRIC, PARAM, ANY):
        check_agreement(template % text)
        result = whole(template % text)
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            expected: Any = value
        else:
            try:
                expected = float(value)
            except OverflowError:
                expected = math.inf
        if math.isinf(expected):
            assert result == "out_of_range"
        else:
            payload = result.payload
            read = payload.payload["value"] if template is ANY else payload.value
            assert same(read, expected)


@pytest.mark.parametrize(
    ("text", "metric", "param", "step"),
    [
        (b"1", 1, 1, 1),
        (b"1.0", 1.0, 1.0, 1),
        (b"1e2", 100.0, 100.0, 100),
        (b"-0", 0, 0, 0),
        (b"-0.0", -0.0, -0.0, 0),
        (b"1.5", 1.5, 1.5, "bad_type"),
        (b"9223372036854775807", 2**63 - 1, 2**63 - 1, 2**63 - 1),
        (b"9223372036854775808", 2.0**63, 2.0**63, "out_of_range"),
        (b"1e400", *["out_of_range"] * 3),
        (b"1" * 400, *["out_of_range"] * 3),
        (b"1" * 5000, *["out_of_range"] * 3),
        (b"1e-400", 0.0, 0.0, 0),
        (b"true", 1, True, "bad_type"),
        (b"false", 0, False, "bad_type"),
        (b"null", "bad_type", None, None),
        (b"NaN", math.nan, math.nan, "bad_type"),
        (b"Infinity", math.inf, math.inf, "bad_type"),
        (b"-Infinity", -math.inf, -math.inf, "bad_type"),
        (b"-NaN", *["bad_json"] * 3),
        (b"nan", *["bad_json"] * 3),
        (b"+1", *["bad_json"] * 3),
        (b"01", *["bad_json"] * 3),
        (b".5", *["bad_json"] * 3),
        (b'"NaN"', math.nan, "NaN", "bad_type"),
        (b'"nan"', "bad_type", "nan", "bad_type"),
        (b'"1"', "bad_type", "1", "bad_type"),
        (b"[]", "bad_type", [], "bad_type"),
        (b'{"$float":"NaN"}', "bad_type", math.nan, "bad_type"),
        (b'{"\\u0024float":"Na\\u004e"}', "bad_type", math.nan, "bad_type"),
        (b'{"$float":"NaN","x":1}', "bad_type", {"$float": "NaN", "x": 1}, "bad_type"),
        (b'{"$float":"nan"}', "bad_type", {"$float": "nan"}, "bad_type"),
        (b'{"$float":NaN}', "bad_type", {"$float": math.nan}, "bad_type"),
        (b'"\\ud83d\\ude00"', "bad_type", "\U0001f600", "bad_type"),
        (b'"\\ud83d"', *["bad_json"] * 3),
        (b'"\\ude00\\ud83d"', *["bad_json"] * 3),
        (b'"\\ud83dx\\ude00"', *["bad_json"] * 3),
        (b'"\\ud83d\\ud83d\\ude00"', *["bad_json"] * 3),
        (b'"\\\\ud83d"', "bad_type", "\\ud83d", "bad_type"),
        (b'"\xff"', *["bad_utf8"] * 3),
        (b'"\xed\xa0\xbd"', *["bad_utf8"] * 3),
        (b'"\xc0\x80"', *["bad_utf8"] * 3),
        (b'"\xf4\x90\x80\x80"', *["bad_utf8"] * 3),
        (b'"\x00"', *["bad_json"] * 3),
        (b'"\\u0000"', "bad_type", "\0", "bad_type"),
        (b"[" * 62 + b"]" * 62, "bad_type", 62, "bad_type"),
        (b"[" * 63 + b"]" * 63, *["too_deep"] * 3),
        (b"[" * 100_000, *["too_deep"] * 3),
    ],
)
def test_slots(text: bytes, metric: Any, param: Any, step: Any) -> None:
    def read(template: bytes, name: str) -> Any:
        check_agreement(template % text)
        result = whole(template % text)
        return result if isinstance(result, str) else getattr(result.payload, name)

    if param == 62:
        param = json.loads(text)
    assert same(read(METRIC, "value"), metric)
    assert same(read(PARAM, "value"), param)
    assert same(read(STEP, "step"), step)


@pytest.mark.parametrize("event", [b'"unknown":%s', b'"gpu":{"x":[%s]}'])
def test_unknown_members_are_read_too(event: bytes) -> None:
    """What is dropped is checked as JSON, and no number in it is too large. spec: ENV-6"""
    template = b'{"t":"metric","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","key":"k","value":1},' + event + b"}"
    for good in (b"1e999", b"1" * 5000, b"null", b"NaN", b'{"$float":"x"}', b'"\\ud83d\\ude00"'):
        assert isinstance(whole(template % good), Envelope)
    for bad, kind in {b'"\xff"': "bad_utf8", b'"\\ud83d"': "bad_json", b"[" * 70 + b"]" * 70: "too_deep"}.items():
        assert whole(template % bad) == kind
    assert whole(template % b"NaN", lenient=False) == "bad_json"


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", "bad_json"),
        (b"\xff{", "bad_utf8"),
        (b"[]", "bad_envelope"),
        (b"null", "bad_envelope"),
        (b"1", "bad_envelope"),
        (b"{}", "bad_envelope"),
        (b'{"v":1,"t":"metric","m":{},"p":[]}', "bad_envelope"),
        (b'{"v":1,"t":"metric","m":null,"p":{}}', "bad_envelope"),
        (b'{"v":"1","t":"metric","m":{},"p":{}}', "bad_envelope"),
        (b'{"v":true,"t":"metric","m":{},"p":{}}', "bad_envelope"),
        (b'{"v":1.5,"t":"metric","m":{},"p":{}}', "bad_envelope"),
        (b'{"v":NaN,"t":"metric","m":{},"p":{}}', "bad_envelope"),
        (b'{"v":1e999,"t":"metric","m":{},"p":{}}', "bad_envelope"),
        (b'{"v":1,"t":7,"m":{},"p":{}}', "bad_envelope"),
        (b'{"v":2,"t":7,"m":{},"p":{}}', "bad_envelope"),
        (b'{"v":2,"t":"metric","m":{},"p":{}}', "unsupported_version"),
        (b'{"v":0,"t":"new","m":{},"p":{}}', "unsupported_version"),
        (b'{"v":1,"t":"metric","m":{},"p":{}}', "missing_field"),
        (b'{"v":1,"t":"metric","m":{"seq":1,"ts":1},"p":{"run_id":1,"key":"k"}}', "missing_field"),
        (b'{"v":1,"t":"status","m":{"seq":0,"ts":1},"p":{"run_id":"r","status":"x","msg":1}}', "bad_type"),
        (b'{"v":1,"t":"status","m":{"seq":0,"ts":1},"p":{"run_id":"r","status":"x"}}', "bad_value"),
        (b'{"v":1,"t":"status","m":{"seq":0,"ts":1},"p":{"run_id":"r","status":"running"}}', "out_of_range"),
        (b'{"v":1,"t":"ping","m":{"seq":true,"ts":1},"p":{}}', "bad_type"),
        (b'{"v":1,"t":"ack","m":{"seq":0,"ts":1},"p":{"seq":1,"status":"ok","rejected":[[1]]}}', "bad_type"),
        (b'{"v":1,"t":"ack","m":{"seq":0,"ts":1},"p":{"seq":1,"status":"ok","rejected":[[1,2]]}}', "bad_type"),
        (b'{"v":1,"t":"tags","m":{"seq":1,"ts":1},"p":{"run_id":"r","tags":{"a":null}}}', "bad_type"),
        (b'{"v":1,"t":"tags","m":{"seq":1,"ts":1},"p":{"run_id":"r","tags":null}}', "bad_type"),
        (b'{"v":1,"t":"run_start","m":{"seq":1,"ts":1},"p":{"run_id":{"exp_id":"e"}}}', "missing_field"),
    ],
)
def test_classes_and_their_precedence(payload: bytes, kind: str) -> None:
    assert whole(payload) == kind
    assert slow(payload) == kind


def test_error_names_the_field() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(b'{"t":"param","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","key":"k","value":[{"a":[0,1e400]}]}}')
    assert caught.value.path == "p.value[0].a[1]"
    assert "p.value[0].a[1]" in str(caught.value)


def test_messages_stay_short() -> None:
    """Neither a long name nor a long value of a payload makes its error long."""
    for payload in (
        b'{"t":"metric_batch","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","metrics":{"%s":"x"}}}' % (b"k" * 100_000),
        b'{"t":"log","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","level":"%s","msg":""}}' % (b"l" * 100_000),
        STEP % (b"9" * 300),
        b'{"v":%s,"t":"x","m":{},"p":{}}' % (b"9" * 300),
    ):
        with pytest.raises(DecodeError) as caught:
            decode(payload)
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("max_depth", range(1, 12))
def test_max_depth_holds_for_typed_events_too(max_depth: int) -> None:
    """A run_start with an accelerator is five levels deep."""
    raw = b'{"t":"run_start","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","env":{"gpu_info":[{"name":"x"}]}}}'
    result = whole(raw, max_depth=max_depth)
    assert isinstance(result, Envelope) if max_depth >= 5 else result == "too_deep"
    assert same(result, slow(raw, max_depth=max_depth))


def test_usual_payloads_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise AssertionError("the slow half was asked")

    monkeypatch.setattr(_slow, "decode", fail)
    for text in (b"0.5", b"1", b"-0.0"):
        decode(METRIC % text)
    for text in (b"null", b'"adam"', b'{"lr":[0.1,{}]}', b'"\\u00e9\\u4e2d"', b"123456789012345678"):
        decode(PARAM % text)
    decode(b'{"t":"ack","v":1,"m":{"seq":0,"ts":2},"p":{"seq":5,"status":"ok"}}')
    assert codec_module.decode is decode


def _traps(size: int) -> dict[str, bytes]:
    """Payloads of ``size`` bytes or so that cost a careless reader the square of it."""
    third = size // 3
    return {
        "digits": METRIC % (b"1" * size),
        "digits in a free slot": PARAM % (b"1" * size),
        "digits of an unknown member": STEP % (b'1,"x":' + b"1" * size),
        "fraction": METRIC % (b"0." + b"1" * size),
        "zeros": METRIC % (b"0." + b"0" * size + b"1"),
        "exponent": METRIC % (b"1e" + b"1" * size),
        "open": PARAM % (b"[" * size),
        "open objects": PARAM % (b'{"a":' * (size // 5)),
        "flat": PARAM % (b"[" + b"[]," * third + b"1]"),
        "brackets in a text": PARAM % (b'"' + b"[{" * (size // 2) + b'"'),
        "escapes": PARAM % (b'"' + b"\\\\" * (size // 2) + b'"'),
        "unclosed escapes": PARAM % (b'["' + b'\\"[' * third),
        "quotes": PARAM % (b'"' * size),
        "pairs": PARAM % (b'"' + b"\\ud83d\\ude00" * (size // 12) + b'"'),
        "halves": PARAM % (b'"' + b"\\ud83d" * (size // 6) + b'"'),
        "same names": METRIC % (b'1,"x":{' + b'"a":1,' * (size // 6) + b'"a":1}'),
        "names": METRIC % (b'1,"x":{' + b",".join(b'"%x":1' % n for n in range(size // 10)) + b"}"),
        "faults under a long name": b'{"t":"metric_batch","v":1,"m":{"seq":1,"ts":2},"p":{"run_id":"r","metrics":{%s}}}'
        % b",".join(b'"%x":"x"' % n for n in range(size // 12)),
        "values under a long name": PARAM
        % (b'{"' + b"k" * (size // 2) + b'":[' + b"1e999," * (size // 12) + b'{"$float":"NaN"}]}'),
        "texts": PARAM % (b"[" + b'"' + b'$float","' * (size // 9) + b'"]'),
        "bad utf-8 at the end": PARAM % (b'"' + b"\xc3\xa9" * (size // 2) + b"\xff" + b'"'),
        "white": METRIC % (b" " * size + b"1"),
        "nulls": b"\0" * size,
    }


@pytest.mark.parametrize("name", sorted(_traps(12)))
def test_no_quadratic_traps(name: str) -> None:
    """Four times the bytes take about four times as long; sixteen would be the square."""

    def cost(size: int) -> float:
        payload = _traps(size)[name]
        best = math.inf
        gc.disable()  # its passes over all that the test run holds would be counted
        try:
            for _ in range(4):
                begin = time.process_time()
                whole(payload)
                best = min(best, time.process_time() - begin)
        finally:
            gc.enable()
        return best

    small, large = cost(60_000), cost(240_000)
    assert large < 10 * small + 0.2, f"{name}: {small:.4f} s, then {large:.4f} s"


@pytest.mark.parametrize("brackets", [b"[]," * 300_000, b'{"[":"]"},' * 50_000, b"[" * 60 + b"1" + b"]" * 60 + b","])
def test_many_brackets_need_no_second_reading(monkeypatch: pytest.MonkeyPatch, brackets: bytes) -> None:
    """1 MiB of them took half a second of a collector's time when it was read again in Python."""
    head = b'{"v":1,"t":"param","m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":['
    monkeypatch.setattr(_slow, "decode", None)
    payload = decode(head + brackets + b"0]}}").payload
    assert isinstance(payload, Param)
    assert payload.value[-1] == 0  # type: ignore[index]


@pytest.mark.parametrize("depth", range(1, 70))
@pytest.mark.parametrize("level", [b"[]", b"{}"])
def test_depth_among_many_brackets(depth: int, level: bytes) -> None:
    """spec: JSN-2."""
    opening = (b'{"a":' if level == b"{}" else b"[") * depth
    value = b"[" + b"[]," * 70 + opening + b'"]}"' + level[1:] * depth + b"]"
    payload = b'{"v":1,"t":"param","m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":' + value + b"}}"
    if depth + 3 <= DEPTH_MAX:
        assert isinstance(decode(payload).payload, Param)
    else:
        with pytest.raises(DecodeError, match="too_deep"):
            decode(payload)


def test_names_of_bytes_beside_the_same_text_are_refused() -> None:
    """Under ``python -bb`` Python itself complains when it compares them."""
    payload = b"\x84\xa1t\xa6metric\xa1v\x01\xa1m\x82\xa3seq\x02\xa2ts\x01\xa1p\x82\xa1a\x01\xc4\x01a\x02"
    code = (
        "from xtrack_protocol.errors import DecodeError\nfrom xtrack_protocol.wire import decode\n"
        f"try:\n    decode({payload!r}, codec='msgpack')\nexcept DecodeError as error:\n    print(error.kind)\n"
    )
    done = subprocess.run([sys.executable, "-bb", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "bad_json\n", done.stderr
