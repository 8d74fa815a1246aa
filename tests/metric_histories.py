"""Hypothesis strategies for the metric events of one stream, in all the forms in which they may have been written."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
from hypothesis import strategies as st
from strategies import int64s, numbers, texts

from xtrack_protocol.ir import Envelope, LogEntry, Metric, MetricBatch, MetricContext, RunId
from xtrack_protocol.wire import decode, encode

RUN_IDS = st.sampled_from(["r", "r2", RunId("r", "e1"), RunId("r", "e2", "p"), RunId("r")])
CONTEXTS = st.sampled_from([None, None, MetricContext(), MetricContext("val"), MetricContext("val", 2, 2**53 + 1, "m")])
VALUES = st.sampled_from([1, 1.0, 0, 0.0, -0.0, math.nan, math.inf, -math.inf, 2**53 + 1, 0.5]) | numbers()
STEPS = st.none() | st.integers(-2, 8) | int64s()
NAMES = st.sampled_from(["x", "y", "", "null", "x.y"]) | texts()
IDS = st.sampled_from([None, "w", "null"])

METRICS = st.builds(Metric, RUN_IDS, NAMES, VALUES, STEPS, st.none() | int64s(), CONTEXTS)
BATCHES = st.builds(MetricBatch, RUN_IDS, st.dictionaries(NAMES, VALUES, max_size=3), STEPS, STEPS, CONTEXTS)
OTHERS = st.builds(LogEntry, RUN_IDS, st.just("info"), texts())


@attrs.frozen
class Came:
    """An event as it came: its original payload, and what that was read as."""

    envelope: Envelope
    raw: bytes


def _spaced(envelope: Envelope) -> bytes:
    """JSON in another order and with spaces, as an emitter of another make writes it."""
    tree = json.loads(encode(envelope))
    return json.dumps({name: tree[name] for name in ("v", "t", "m", "p")}).encode()


def _with_more(envelope: Envelope) -> bytes:
    tree = json.loads(encode(envelope))
    tree["p"]["unknown"] = [None]
    return json.dumps(tree, separators=(",", ":")).encode()


def _legacy(envelope: Envelope) -> bytes:
    """JSON with the bare tokens and booleans of legacy workers."""
    tree: dict[str, Any] = json.loads(encode(envelope))
    tokens = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, 0: False, 1: True}
    body = tree["p"]
    for owner in (body, body.get("metrics", {})):
        for name, value in owner.items():
            if (owner is not body or name == "value") and isinstance(value, (str, int)) and value in tokens:
                owner[name] = tokens[value]
    return json.dumps(tree).encode()


FORMS = st.sampled_from([encode, encode, encode, _spaced, _with_more, _legacy, lambda event: encode(event, "msgpack")])


@st.composite
def streams(draw: st.DrawFn, *, max_size: int = 16, others: bool = True, uniform: bool | None = None) -> list[Came]:
    """Events of one stream, each with a seq of its own; metrics but for a few where ``others`` may be among them."""
    seqs = draw(
        st.lists(st.integers(1, 60) | st.integers(1, 2**63 - 1), unique=True, max_size=max_size)
        | st.builds(lambda first, count: list(range(first, first + count)), st.integers(1, 9), st.integers(0, max_size))
    )
    if uniform if uniform is not None else draw(st.booleans()):  # few shapes, many of one
        templates = draw(st.lists(METRICS | BATCHES, min_size=1, max_size=2))
        payloads = st.sampled_from(templates)
    else:
        payloads = METRICS | BATCHES | OTHERS if others else METRICS | BATCHES
    worker, session = draw(st.sampled_from([(None, None), ("w", "s"), (None, "s")]))
    found = []
    for seq in seqs:
        payload = draw(payloads)
        if isinstance(payload, Metric) and draw(st.booleans()):
            payload = Metric(payload.run_id, payload.key, draw(VALUES), draw(STEPS), payload.epoch, payload.context)
        envelope = Envelope.of(
            payload,
            seq=seq,
            timestamp_us=draw(st.integers(0, 2000) | int64s()),
            worker_id=worker if draw(st.integers(0, 9)) else "another",
            session_id=session,
        )
        raw = draw(FORMS)(envelope)
        found.append(Came(decode(raw, codec="msgpack" if raw[0] >= 0x80 else "json"), raw))
    return found
