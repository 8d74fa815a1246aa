"""What a writer makes of an event that is odd, and reads back: docs/spec on writers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from strategies import same

from xtrack_protocol.errors import DecodeError, EncodeError
from xtrack_protocol.ir import (
    Ack,
    Artifact,
    Auth,
    Envelope,
    EnvironmentInfo,
    GpuInfo,
    Hello,
    LogEntry,
    Metric,
    Param,
    Ping,
    RunStart,
    Skip,
    Tags,
    UnknownEvent,
)
from xtrack_protocol.wire import decode, encode


def of(payload: Any, seq: int = 1) -> Envelope:
    return Envelope.of(payload, seq=seq, timestamp_us=2)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("payload", [Ping(), Ack(5, "ok", session_id="s"), Hello([1]), Skip("r", "s", 1, 2)])
def test_a_control_event_is_written_with_seq_0_and_without_sid(payload: Any, codec: Any) -> None:
    for seq, sid in ((5, None), (0, "s"), (-1, "s")):
        odd = Envelope.of(payload, seq=seq, timestamp_us=1, worker_id="w", session_id=sid)
        written = decode(encode(odd, codec), codec=codec)
        assert same(written, Envelope.of(payload, seq=0, timestamp_us=1, worker_id="w"))


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("payload", [Metric("r", "k", 1), RunStart("r"), Tags("r", {}), Artifact("r", "p")])
def test_an_event_of_a_run_is_not_written_with_a_seq_below_1(payload: Any, codec: Any) -> None:
    for seq in (0, -1):
        with pytest.raises(EncodeError) as caught:
            encode(of(payload, seq), codec)
        assert caught.value.path == "m.seq"


def test_an_unknown_type_keeps_its_seq() -> None:
    for seq in (0, -1, 5):
        assert decode(encode(of(UnknownEvent("new", {}), seq))).meta.seq == seq


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_the_object_of_a_float_takes_a_level(codec: Any) -> None:
    def inside(levels: int) -> Any:
        value: Any = math.inf
        for _ in range(levels):
            value = [value]
        return value

    payload = encode(of(Param("r", "k", inside(61))), codec)
    assert decode(payload, codec=codec).payload.value == inside(61)
    with pytest.raises(EncodeError, match="64 levels"):
        encode(of(Param("r", "k", inside(62))), codec)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_memory_that_is_no_number_has_no_form(codec: Any) -> None:
    for memory in (math.nan, math.inf, -math.inf):
        start = RunStart("r", environment=EnvironmentInfo(gpu_info=[GpuInfo("A100", memory)]))
        with pytest.raises(EncodeError, match="no form") as caught:
            encode(of(start), codec)
        assert caught.value.path == "p.env.gpu_info[0].memory"


def test_a_map_of_free_slots_is_none_itself() -> None:
    for payload in (LogEntry("r", "info", "m", fields={"$float": "NaN"}), UnknownEvent("new", {"$float": "NaN"})):
        assert same(decode(encode(of(payload))), of(payload))


@pytest.mark.parametrize("digits", ["ab" * 32, "AB" * 32, "sha256:" + "aB" * 32])
def test_a_sha256_has_one_form(digits: str) -> None:
    raw = b'{"t":"artifact","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"r","path":"p","checksum":"%s"}}'
    read = decode(raw % digits.encode())
    assert read.payload == Artifact("r", "p", checksum=digits)
    assert encode(read) == raw % (b"sha256:" + b"ab" * 32)
    for other in ("md5:" + "AB" * 16, "AB" * 31, "SHA256:" + "AB" * 32, ""):
        assert encode(decode(raw % other.encode())) == raw % other.encode()


def test_an_empty_key_is_no_absence() -> None:
    raw = b'{"t":"hello","v":1,"m":{"seq":0,"ts":1},"p":{"protocols":[1],"auth":{"scheme":"key"%s}}}'
    assert decode(raw % b"").payload.auth == Auth("key")
    assert decode(raw % b',"key":""').payload.auth == Auth("key", "")
    assert encode(decode(raw % b',"key":""')) == raw % b',"key":""'


@pytest.mark.parametrize("version", [b"9223372036854775808", b"-9223372036854775809", b"1e400", b"1e30"])
def test_a_version_beyond_int64_is_none(version: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(b'{"t":"ping","v":%s,"m":{"seq":0,"ts":1},"p":{}}' % version)
    assert caught.value.kind == "bad_envelope"
