"""What mutation begins with: valid bytes of every kind, what readers fall for, and words to put into them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from xtrack_protocol import ir
from xtrack_protocol.ir import Envelope, Payload
from xtrack_protocol.session import StreamId
from xtrack_protocol.wire import Codec, SegmentHeader, encode, encode_frame, encode_header, encode_record, frame_payload

STREAM = StreamId("run-1", "", "a" * 32)
OTHER = StreamId("run-1", "w1", "b" * 32)
SALT = 0x1234ABCD

EVENTS: Sequence[Payload] = (
    ir.RunStart("run-1", "a name", {"team": "x"}, ir.SourceInfo(), ir.EnvironmentInfo()),
    ir.RunStart(ir.RunId("run-1", "exp", "parent"), resume=ir.Resume(["c" * 32], 5), world_size=4, sub=True),
    ir.StatusUpdate("run-1", "running", "on its way", ir.Progress(3, 10, "steps")),
    ir.Param("run-1", "optimizer", {"lr": 0.1, "betas": [0.9, 0.999]}, ["inner", "more"]),
    ir.Param("run-1", "nan", float("nan")),
    ir.Metric("run-1", "loss", 0.5, step=1, epoch=0, context=ir.MetricContext("train", 32, 50_000, "mean")),
    ir.Metric("run-1", "loss", float("inf"), step=2),
    ir.Metric("run-1", "count", 2**63 - 1),
    ir.MetricBatch("run-1", {"a": 1.0, "b": -0.0, "c": float("nan")}, step=3),
    ir.Artifact("run-1", "model.pt", "model", "the model", {"a": 1}, 12, "sha256:" + "0" * 64, "reference"),
    ir.Checkpoint("run-1", 7, "ckpt.pt", 1, {"loss": 0.25}, True, "loss", {"k": [None]}),
    ir.LogEntry("run-1", "info", 'text with "quotes", \\ and \u00e9 \U0001f680', "logger", 3, {"f": {"g": [1, 2.5]}}),
    ir.Tags("run-1", {"a": "b"}),
    ir.Alert("run-1", "title", "text", "error", "key"),
    ir.Summary("run-1", {"best": 0.125}),
    ir.UnknownEvent("later_version", {"run_id": "run-1", "x": [2**63 - 1, "\x00"]}),
    ir.RunEnd("run-1", "failed", ir.ErrorInfo("ValueError", "text", "trace"), {"loss": 0.1}, 1234),
)
"""One event of every kind, and a few more."""

CONTROLS: Sequence[Payload] = (
    ir.Hello([1], ["json", "msgpack"], ["x"], "fuzz/1", ir.Auth("key", "xtk_" + "k" * 40)),
    ir.Welcome(1, "json", "power", [], ir.SessionLimits(1 << 20, 100, 1 << 20)),
    ir.Welcome(1, "msgpack", "process"),
    ir.Reject("busy", "come again", 2.5),
    ir.Reject("fenced"),
    ir.OpenStream("run-1", STREAM.session_id),
    ir.OpenStream(ir.RunId("run-1"), OTHER.session_id, "w1"),
    ir.Ack(0, "ok", None, "run-1", None, STREAM.session_id),
    ir.Ack(3, "ok", None, "run-1", None, STREAM.session_id, [(2, "bad_value")]),
    ir.Ack(1, "error", "full", "run-1", "w1", OTHER.session_id),
    ir.Ack(2, "ok"),
    ir.Skip("run-1", STREAM.session_id, 3, 9, "a full disk"),
    ir.Ping(),
    ir.Pong(),
    ir.Command("c1", "adjust_lr", {"lr": 0.01}, "run-1", "w1"),
    ir.CommandResult("run-1", "c1", "ok", "done", "w1"),
    ir.Subscribe("run-1", 5),
    ir.Unsubscribe("run-1"),
)
"""One control event of every kind, and a few more."""

WORDS: Sequence[bytes] = (
    b"NaN", b"Infinity", b"-Infinity", b'"NaN"', b'{"$float":"NaN"}', b"null", b"true", b"false", b"1e999",
    b"-1e999", b"1e-999", b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"1.0",
    b"1e2", b"-0", b"-0.0", b"00", b"1.", b".5", b"0x1", b"+1", b"1" * 5000, b"0." + b"0" * 400 + b"1",
    b"1" + b"0" * 400, b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b"\xed\xa0\x80", b"\xc0\x80", b"\xff",
    b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\x00", b"\x00\x00\x00\x00", b"\x00\x00\x00\x01{",
    b"\x00\x10\x00\x00", b"\x00\x10\x00\x01", b"\x00\xff\xff\xff", b"\xff\xff\xff\xff", b"{", b"}", b"[", b"]",
    b",", b":", b'"', b"\\", b'\\"', b"[" * 70, b'{"a":' * 70, b"/**/", b"\t\n\r ", b"\x0c", b'"v":1', b'"v":2',
    b'"v":1.0', b'"v":"1"', b'"t":"metric"', b'"t":"hello"', b'"t":"ack"', b'"t":1', b'"m":{}', b'"m":null',
    b'"seq":0', b'"seq":-1', b'"seq":9223372036854775807', b'"ts":-1', b'"wid":null', b'"wid":""', b'"sid":""',
    b'"p":{}', b'"p":[]', b'"run_id":""', b'"run_id":{"id":"x"}', b'"run_id":{}', b'"from":0',
    b'"to":9223372036854775807', b'"rejected":[[1,"x"]]', b"\x82\xa1v\x01", b"\xc1", b"\xc7\x00\x00",
    b"\xd4\x00\x00", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xc4\x01a", b"\xc0",
    b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"SSH-2.0-", b"*1\r\n",
)  # fmt: skip
"""What to put into the middle of things."""


def envelope(payload: Payload, seq: int, stream: StreamId = STREAM) -> Envelope:
    """Wrap an event or a control event (seq 0)."""
    own = (stream.worker_id or None, stream.session_id) if seq else (None, None)
    return Envelope.of(payload, seq=seq, timestamp_us=1_700_000_000_000_000 + seq, worker_id=own[0], session_id=own[1])


def payloads(codec: Codec = "json") -> list[bytes]:
    """Return the payload of every kind of event, and what JSON readers fall for."""
    valid = [encode(envelope(event, n), codec) for n, event in enumerate(EVENTS, 1)]
    valid += [encode(envelope(event, 0), codec) for event in CONTROLS]
    return valid + (bombs() if codec == "json" else [])


def bombs() -> list[bytes]:
    """Return small texts that cost their readers much, if these let them."""
    head = b'{"v":1,"t":"param","m":{"seq":1,"ts":1},"p":{"run_id":"r","key":"k","value":'
    return [
        head + b"[" * 60 + b"]" * 60 + b"}}",
        head + b"[" * 20_000 + b"]" * 20_000 + b"}}",
        head + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}}",
        head + b"[" + b"[]," * 5_000 + b"0]}}",
        head + b"{" + b",".join(b'"k%d":0' % n for n in range(2_000)) + b"}}}",
        head + b"1" * 20_000 + b"}}",
        head + b'"' + b"\\u0041" * 3_000 + b'"}}',
        head + b'"' + b"\\" * 3_000 + b'"}}',
        head + b" " * 20_000 + b"1}}",
        b" " * 20_000 + head + b"1}}",
        head + b'1}},"x":' + b'{"a":[' * 1_000,
        head.replace(b'"ts":1', b'"ts":1e18') + b"1}}",
    ]


def frames(codec: Codec = "json") -> list[bytes]:
    """Return streams of frames: one, several, all."""
    single = [frame_payload(payload) for payload in payloads(codec)]
    return [*single, b"".join(single[:5]), b"".join(single[: len(EVENTS)]), single[0] * 20, b""]


def segments() -> list[bytes]:
    """Return what follows the header in a segment of checked records."""
    made = [encode_record(n, payload, SALT) for n, payload in enumerate(payloads(), 1) if len(payload) < 2_000]
    other = encode_record(1, payloads()[0], SALT + 1)
    quoted = encode_record(1, b'{"x":"' + made[0] + b'"}', SALT)
    return [
        *made[:8],
        b"".join(made[:6]),
        b"".join(made),
        made[0] + other + made[1],
        quoted,
        made[0] + b"\0" * 600,
        b"",
    ]


def headers() -> list[bytes]:
    """Return heads of segments."""
    ids = [("r", "s", ""), ("run/\u00e9 \x00", "s" * 32, "w" * 200)]
    made = [encode_header(SegmentHeader(run, sid, wid, 3, 17, 5, "1234abcd")) for run, sid, wid in ids]
    return [*made, made[0][:4096] + made[1][4096:], bytes(4096) + made[0][4096:], made[0][:5000]]


def collector_conversations() -> list[bytes]:
    """Return what an emitter says to a collector in a whole connection, of a session and of plain version 1."""
    hello, opened, other = (encode_frame(envelope(CONTROLS[n], 0)) for n in (0, 5, 6))
    events = [encode_frame(envelope(event, n)) for n, event in enumerate(EVENTS, 1)]
    others = [encode_frame(envelope(event, n, OTHER)) for n, event in enumerate(EVENTS, 1)]
    skip = encode_frame(envelope(ir.Skip("run-1", STREAM.session_id, len(EVENTS) + 1, 99), 0))
    rest = b"".join(encode_frame(envelope(event, 0)) for event in CONTROLS[12:])
    packed = encode_frame(envelope(ir.Hello([1], ["msgpack"]), 0))
    in_msgpack = b"".join(
        frame_payload(encode(item, "msgpack"))
        for item in [envelope(CONTROLS[5], 0), *(envelope(event, n) for n, event in enumerate(EVENTS, 1))]
    )
    legacy = b"".join(
        encode_frame(Envelope.of(event, seq=n, timestamp_us=1_700_000_000_000_000 + n))
        for n, event in enumerate(EVENTS, 1)
    )
    return [
        hello + opened + b"".join(events) + skip + rest,
        hello + opened + other + b"".join(a + b for a, b in zip(events, others, strict=True)),
        hello + opened + events[0] + frame_payload(b'{"v":1,') + events[1] + opened + events[2],
        packed + in_msgpack,
        legacy,
        rest + legacy,
        hello + hello,
        opened + hello,
    ]


def emitter_conversations() -> list[bytes]:
    """Return what a collector says to an emitter in a whole connection."""
    by = [encode_frame(envelope(event, 0)) for event in CONTROLS]
    ack_other = encode_frame(envelope(ir.Ack(0, "ok", None, "run-1", "w1", OTHER.session_id), 0))
    acks = b"".join(
        encode_frame(envelope(ir.Ack(n, "ok", None, "run-1", None, STREAM.session_id), 0)) for n in (0, 1, 3, 2, 0, 5)
    )
    published = b"".join(encode_frame(envelope(event, n)) for n, event in enumerate(EVENTS, 1))
    return [
        by[1] + acks + ack_other + by[9] + by[12] + by[14] + published,
        by[2] + b"".join(frame_payload(encode(envelope(event, 0), "msgpack")) for event in CONTROLS[7:]),
        by[3],
        by[4],
        by[1] + by[7] + by[8] + by[10] + by[4],
        by[14] + by[12] + by[1],
        published,
    ]


def environments() -> list[bytes]:
    """Return settings as NAME=value lines."""
    return [
        b"XTRACK_TRANSPORT=tcp\nXTRACK_HOST=example.org\nXTRACK_PORT=9999\nXTRACK_KEY=secret",
        b"XTRACK_TRANSPORT=tls://[::1]:99\nXTRACK_TLS_FINGERPRINT=" + b"ab:" * 31 + b"ab",
        b"XTRACK_TRANSPORT=unix:/tmp/x.sock\nXTRACK_TLS=1\nXTRACK_INSECURE=yes",
        b"XTRACK_TRANSPORT=tcp:host:0\nXTRACK_FD=3\nXTRACK_WORLD_SIZE=-1\nXTRACK_END_TIMEOUT=nan",
        b"XTRACK_TRANSPORT=local\nXTRACK_DIR=~/x\nXTRACK_ON_FULL=block\nXTRACK_ENV_VARS=A,B*,*",
        b"XTRACK_TRANSPORT=file\nXTRACK_FILE=x\x01y\nXTRACK_QUIET=0\nXTRACK_RUN_ID=" + b"r" * 2000,
    ]


def length(size: int) -> bytes:
    """Return a frame's length."""
    return struct.pack(">I", size & 0xFFFFFFFF)
