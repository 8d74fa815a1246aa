"""Hypothesis strategies for everything that crosses the wire, the poisonous included.

``payloads()`` makes any event, ``envelopes()`` wraps one, ``frames()`` encodes some. ``json_values()`` and ``texts()``
prefer what breaks parsers; ``mutated(bytes)`` damages what was whole. ``same(a, b)`` compares as the protocol does:
types count, NaN equals NaN, and -0.0 isn't 0.0.
"""

from __future__ import annotations

import math
import struct
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st

from xtrack_protocol.ir import (
    ARTIFACT_TYPES,
    COMMAND_TYPES,
    CONTROL_TYPES,
    ENVELOPES,
    Ack,
    AckStatus,
    ActivityStatus,
    Alert,
    Artifact,
    Auth,
    Checkpoint,
    Command,
    CommandResult,
    Durability,
    EndStatus,
    Envelope,
    EnvironmentInfo,
    ErrorInfo,
    GpuInfo,
    Hello,
    LogEntry,
    LogLevel,
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
    UploadStrategy,
    Welcome,
)
from xtrack_protocol.wire import encode_frame

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

POISON_TEXTS = (
    "",
    "\0",
    "a\0b",
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "$float",
    "a.b/c",
    "../..",
    "emoji \U0001f600",
    "\ufeffbom",
    "e\u0301",
    '"\\',
    "\x7f\x1b[31m",
    "\u2028",
    "\x00\x01\x1f",
    "\uffff",
    "[" * 70,
    "1234567890123456789012",
    "\xf5XR1",
    "XTRKSEG1",
)
"""Strings that somebody, somewhere, has taken for something else."""

POISON_INTS = (0, -1, 1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, INT64_MAX, INT64_MIN, 10**18, 10**18 + 1)
POISON_FLOATS = (
    0.0,
    -0.0,
    1.0,
    1e-300,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    2.0**63,
    -(2.0**63),
    1e22,
    0.1,
    math.nan,
    math.inf,
    -math.inf,
)


def texts(max_size: int = 12) -> st.SearchStrategy[str]:
    """Any text that has a UTF-8 form."""
    return st.sampled_from(POISON_TEXTS) | st.text(st.characters(exclude_categories=("Cs",)), max_size=max_size)


def int64s() -> st.SearchStrategy[int]:
    """What fits an integer slot."""
    return st.sampled_from(POISON_INTS) | st.integers(INT64_MIN, INT64_MAX) | st.integers(-5, 200)


def numbers() -> st.SearchStrategy[int | float]:
    """What fits a number slot, NaN and infinities included."""
    return int64s() | st.sampled_from(POISON_FLOATS) | st.floats()


def _is_float_form(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["$float"] and value["$float"] in ("NaN", "Infinity", "-Infinity")


def json_values(max_leaves: int = 8) -> st.SearchStrategy[Any]:
    """Any value of a free slot that a writer may write."""
    leaves = st.none() | st.booleans() | numbers() | texts()
    trees = st.recursive(
        leaves,
        lambda children: st.lists(children, max_size=4) | st.dictionaries(texts(), children, max_size=4),
        max_leaves=max_leaves,
    )
    return trees.filter(lambda value: not _holds_float_form(value))


def _holds_float_form(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_float_form(value) or any(map(_holds_float_form, value.values()))
    return isinstance(value, list) and any(map(_holds_float_form, value))


def _objects() -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(texts(), json_values(4), max_size=3)


def _number_maps() -> st.SearchStrategy[dict[str, int | float]]:
    return st.dictionaries(texts(), numbers(), max_size=4)


def _text_maps() -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(texts(), texts(), max_size=3)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _one_of(literal: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(literal))


def ids() -> st.SearchStrategy[str]:
    """Worker and session ids: "" is no id."""
    return texts().filter(bool)


def run_ids() -> st.SearchStrategy[str | RunId]:
    """Both forms of a run id."""
    return texts() | st.builds(RunId, texts(), _maybe(texts()), _maybe(texts()))


_CONTEXTS = _maybe(st.builds(MetricContext, _maybe(texts()), _maybe(int64s()), _maybe(int64s()), _maybe(texts())))
_GPUS = st.builds(
    GpuInfo, _maybe(texts()), _maybe(int64s() | st.floats(allow_nan=False, allow_infinity=False) | texts())
)
_ENVIRONMENTS = st.builds(
    EnvironmentInfo, _maybe(texts()), _maybe(texts()), _maybe(texts()), st.lists(_GPUS, max_size=2), _text_maps()
)

PAYLOADS: dict[str, st.SearchStrategy[Any]] = {
    "run_start": st.builds(
        RunStart,
        run_ids(),
        _maybe(texts()),
        _text_maps(),
        _maybe(st.builds(SourceInfo, *[_maybe(texts())] * 5)),
        _maybe(_ENVIRONMENTS),
        _maybe(st.builds(Resume, st.lists(texts(), max_size=2), _maybe(int64s()))),
        _maybe(int64s()),
        st.booleans(),
        st.booleans(),
    ),
    "run_end": st.builds(
        RunEnd,
        run_ids(),
        _one_of(EndStatus),
        _maybe(st.builds(ErrorInfo, texts(), texts(), _maybe(texts()))),
        _number_maps(),
        _maybe(int64s()),
    ),
    "param": st.builds(Param, run_ids(), texts(), json_values(), st.lists(texts(), max_size=2)),
    "metric": st.builds(Metric, run_ids(), texts(), numbers(), _maybe(int64s()), _maybe(int64s()), _CONTEXTS),
    "metric_batch": st.builds(MetricBatch, run_ids(), _number_maps(), _maybe(int64s()), _maybe(int64s()), _CONTEXTS),
    "artifact": st.builds(
        Artifact,
        run_ids(),
        texts(),
        _maybe(st.sampled_from(ARTIFACT_TYPES) | texts()),
        _maybe(texts()),
        _objects(),
        _maybe(int64s()),
        _maybe(texts()),
        _maybe(_one_of(UploadStrategy)),
    ),
    "checkpoint": st.builds(
        Checkpoint,
        run_ids(),
        int64s(),
        texts(),
        _maybe(int64s()),
        _number_maps(),
        st.booleans(),
        _maybe(texts()),
        _objects(),
    ),
    "status": st.builds(
        StatusUpdate,
        run_ids(),
        _one_of(ActivityStatus),
        _maybe(texts()),
        _maybe(st.builds(Progress, _maybe(int64s()), _maybe(int64s()), _maybe(texts()))),
    ),
    "log": st.builds(LogEntry, run_ids(), _one_of(LogLevel), texts(), _maybe(texts()), _maybe(int64s()), _objects()),
    "tags": st.builds(Tags, run_ids(), _text_maps()),
    "alert": st.builds(Alert, run_ids(), texts(), _maybe(texts()), _one_of(LogLevel), _maybe(texts())),
    "summary": st.builds(Summary, run_ids(), _number_maps()),
    "command": st.builds(
        Command, texts(), st.sampled_from(COMMAND_TYPES) | texts(), _objects(), _maybe(run_ids()), _maybe(ids())
    ),
    "command_result": st.builds(
        CommandResult, run_ids(), texts(), _one_of(AckStatus), _maybe(texts()), _maybe(ids()), _maybe(int64s())
    ),
    "ack": st.builds(
        Ack,
        int64s(),
        _one_of(AckStatus),
        _maybe(texts()),
        _maybe(run_ids()),
        _maybe(ids()),
        _maybe(ids()),
        st.lists(st.tuples(int64s(), texts()), max_size=2),
    ),
    "hello": st.builds(
        Hello,
        st.lists(int64s(), max_size=2),
        st.lists(texts(), max_size=2),
        st.lists(texts(), max_size=2),
        _maybe(texts()),
        _maybe(st.builds(Auth, texts(), texts())),
    ),
    "welcome": st.builds(
        Welcome,
        int64s(),
        texts(),
        _one_of(Durability),
        st.lists(texts(), max_size=2),
        _maybe(st.builds(SessionLimits, _maybe(int64s()), _maybe(int64s()), _maybe(int64s()))),
    ),
    "reject": st.builds(Reject, texts(), _maybe(texts()), _maybe(numbers())),
    "open": st.builds(OpenStream, run_ids(), texts(), _maybe(ids()), st.booleans()),
    "skip": st.builds(Skip, run_ids(), texts(), int64s(), int64s(), _maybe(texts()), _maybe(ids())),
    "ping": st.builds(Ping),
    "pong": st.builds(Pong),
    "subscribe": st.builds(Subscribe, run_ids(), _maybe(int64s()), st.booleans()),
    "unsubscribe": st.builds(Unsubscribe, run_ids(), _maybe(texts()), _maybe(texts())),
}
"""A strategy for the payload of each wire type."""

assert PAYLOADS.keys() == ENVELOPES.keys()


def unknown_events() -> st.SearchStrategy[UnknownEvent]:
    """Events of types that don't exist yet."""
    return st.builds(UnknownEvent, texts().filter(lambda text: text not in ENVELOPES), _objects())


def payloads() -> st.SearchStrategy[Any]:
    """Any event."""
    return st.one_of(*PAYLOADS.values(), unknown_events())


@st.composite
def envelopes(draw: st.DrawFn, payload: st.SearchStrategy[Any] | None = None) -> Envelope:
    """Any envelope that a writer may write, or one around what ``payload`` draws."""
    inner = draw(payloads() if payload is None else payload)
    is_control = any(isinstance(inner, _PAYLOAD_TYPES[event_type]) for event_type in CONTROL_TYPES)
    seqs = int64s() if isinstance(inner, UnknownEvent) else st.integers(1, INT64_MAX) | st.integers(1, 50)
    return Envelope.of(
        inner,
        seq=0 if is_control else draw(seqs),
        timestamp_us=draw(int64s()),
        worker_id=draw(_maybe(ids())),
        session_id=None if is_control else draw(_maybe(ids())),
    )


_PAYLOAD_TYPES: dict[str, type] = {event_type: cls.__annotations__["payload"] for event_type, cls in ENVELOPES.items()}


def frames(max_size: int = 5) -> st.SearchStrategy[list[bytes]]:
    """Several whole frames."""
    return st.lists(envelopes().map(encode_frame), max_size=max_size)


def hostile_json() -> st.SearchStrategy[bytes]:
    """Payloads that are near an envelope, and wrong in ways that parsers disagree about."""
    numbers_ = st.sampled_from(
        [
            b"1.0",
            b"1e2",
            b"-0",
            b"-0.0",
            b"1e400",
            b"1e-400",
            b"01",
            b"1.",
            b"+1",
            b"NaN",
            b"-NaN",
            b"Infinity",
            b"nan",
            b"9223372036854775807",
            b"9223372036854775808",
            b"18446744073709551616",
            b"1" * 400,
            b"0." + b"1" * 400,
            b"1e19",
            b"9007199254740993.0",
            b"true",
            b"null",
            b'"NaN"',
            b'"1"',
            b"{}",
            b"[]",
            b'{"$float":"NaN"}',
            b'{"\\u0024float":"NaN"}',
            b'{"$float":"N\\u0061N"}',
            b'{"$float":"NaN","$float":1}',
            b'{"$float":1}',
            b'"\\ud800"',
            b'"\\ud83d\\ude00"',
            b'"\\ude00\\ud83d"',
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b'"\\u0000"',
            b'"\x01"',
            b"[" * 65 + b"]" * 65,
            b"[" * 62 + b"]" * 62,
            b"[[1,2",
            b'{"a":1,"a":2}',
            b'"\\x"',
            b"1 2",
            b"-",
            b"1_0",
        ]
    )
    slots = st.sampled_from(["v", "t", "seq", "ts", "wid", "run_id", "key", "value", "step", "unknown", "ctx", "dup"])

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        parts = {
            "v": b"1",
            "t": draw(st.sampled_from([b'"metric"', b'"param"', b'"new"', b'"run\\u005fstart"', b'"status"'])),
            "seq": b"1",
            "ts": b"1",
            "run_id": draw(
                st.sampled_from([b'"r"', b'{"id":"r"}', b'{"id":"r","exp_id":null,"x":[1]}', b"null", b"1"])
            ),
            "key": b'"k"',
            "value": b"0.5",
        }
        for slot in draw(st.lists(slots, max_size=2)):
            parts[slot] = draw(numbers_)
        dup = b'"p":{"run_id":"first","key":1},' if "dup" in parts else b""
        meta = b",".join(b'"%s":%s' % (name.encode(), parts[name]) for name in ("seq", "ts", "wid") if name in parts)
        body = b",".join(
            b'"%s":%s' % (name.encode(), parts[name])
            for name in ("run_id", "key", "value", "step", "ctx", "unknown")
            if name in parts
        )
        return b'%s{"v":%s,"t":%s,"m":{%s},%s"p":{%s}}%s' % (
            draw(st.sampled_from([b"", b"", b" \n", b"\xef\xbb\xbf", b"\x0b"])),
            parts["v"],
            parts["t"],
            meta,
            dup,
            body,
            draw(st.sampled_from([b"", b"", b"", b" \r\n", b"\0", b"{}", b","])),
        )

    return build()


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Return ``data`` with a few bytes flipped, changed, removed, doubled or put in."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        if not result:
            break
        at = draw(st.integers(0, len(result) - 1))
        match draw(st.sampled_from(["flip", "set", "cut", "insert", "end", "double"])):
            case "flip":
                result[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                result[at] = draw(st.sampled_from(b'\0"\\{}[],:01-.eE\x80\xff\xed\xf5 tnf') | st.integers(0, 255))
            case "cut":
                del result[at : at + draw(st.integers(1, 9))]
            case "insert":
                result[at:at] = draw(st.binary(min_size=1, max_size=6))
            case "end":
                del result[at:]
            case _:
                result[at:at] = result[at : at + draw(st.integers(1, 40))]
    return bytes(result)


@st.composite
def chunked(draw: st.DrawFn, data: bytes, max_cuts: int = 12) -> list[bytes]:
    """Return ``data`` in pieces, empty ones among them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=max_cuts)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same to the protocol: in type, in sign of zero, and NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack(">d", a) == struct.pack(">d", b) or (a != a and b != b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, msgspec.Struct):
        return all(same(getattr(a, name), getattr(b, name)) for name in a.__struct_fields__)
    return bool(a == b)
