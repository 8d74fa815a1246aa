"""Events to measure with, made the same way each time.

Times grow by 900 to 1,100 us an event. ``doubles``: values are random in all of their bits, the worst there is.
``losses``: a noisy, falling loss as a training on float32 logs it, ``tensor.item()``: float32 widened to a double.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from benchmarks import bare

RUN = "bench-20240501-093015-4f1c"
SID = "0123456789abcdef0123456789abcdef"
BEGIN_US = 1_714_550_000_000_000

_FLOAT32 = struct.Struct("<f")


def doubles(seed: int = 1) -> Iterator[float]:
    rng = random.Random(seed)
    while True:
        yield rng.random()


def losses(seed: int = 1) -> Iterator[float]:
    rng, step = random.Random(seed), 0
    while True:
        step += 1
        yield _FLOAT32.unpack(_FLOAT32.pack(2.3 / (1 + step / 500) + rng.gauss(0.0, 0.05)))[0]


VALUES = {"doubles": doubles, "losses": losses}


def metrics(
    count: int,
    *,
    first: int = 1,
    values: str = "losses",
    names: Sequence[str] = ("train/loss",),
    run_id: str = RUN,
    sid: str = SID,
) -> Iterator[bare.MetricEnvelope]:
    """Yield so many metrics with seqs from ``first`` on, of one name after the other."""
    rng, value, ts = random.Random(first), VALUES[values](first), BEGIN_US + 1000 * first
    for seq in range(first, first + count):
        ts += rng.randint(900, 1100)
        name = names[seq % len(names)]
        yield bare.MetricEnvelope(
            1, bare.Meta(seq, ts, None, sid), bare.Metric(run_id, name, next(value), seq // len(names))
        )


def canonical(event: object) -> bytes:
    """Return an event's payload as our own emitter writes it: t, v, m, p, without spaces."""
    return bare.encode(event)


def other_form(event: bare.MetricEnvelope) -> bytes:
    """Return the payload as ``json.dumps`` of a dict would make it: v, t, m, p, with spaces."""
    made = bare.decode_json(bare.encode(event))
    return json.dumps({"v": made["v"], "t": made["t"], "m": made["m"], "p": made["p"]}).encode()


FORMS = {"canonical": canonical, "other": other_form}


def start(run_id: str = RUN, sid: str = SID) -> bytes:
    """Return the payload of a stream's first event."""
    return bare.encode(bare.RunStartEnvelope(1, bare.Meta(1, BEGIN_US, None, sid), bare.RunStart(run_id, "bench")))


def end(seq: int, run_id: str = RUN, sid: str = SID) -> bytes:
    """Return the payload of a stream's last event."""
    meta = bare.Meta(seq, BEGIN_US + 1200 * seq, None, sid)
    return bare.encode(bare.RunEndEnvelope(1, meta, bare.RunEnd(run_id, "completed")))


def frame(payload: bytes) -> bytes:
    return bare.PREFIX.pack(len(payload)) + payload


def write_metrics(path: Path, count: int, **options: object) -> int:
    """Write a file of framed metrics; return its size in bytes."""
    made = metrics(count, **options)  # type: ignore[arg-type]
    with path.open("wb") as file:
        while some := list(islice(made, 10_000)):
            file.write(b"".join(map(bare.encode_frame, some)))
    return path.stat().st_size


def mixed(count: int) -> Iterator[bytes]:
    """Yield payloads of a run as trainings log them: of 20 events 16 metrics, 2 batches of 10, a log and a param."""
    rng = random.Random(2)
    value = losses(2)
    for event in metrics(count, values="losses"):
        place = event.m.seq % 20
        if place in {3, 13}:
            batch = {f"train/metric_{number}": next(value) for number in range(10)}
            yield bare.encode(bare.MetricBatchEnvelope(1, event.m, bare.MetricBatch(RUN, batch, event.m.seq)))
        elif place == 5:
            text = "epoch finished; " + "x" * rng.randint(0, 200)
            yield bare.encode(bare.LogEnvelope(1, event.m, bare.Log(RUN, "info", text)))
        elif place == 7:
            yield bare.encode(bare.ParamEnvelope(1, event.m, bare.Param(RUN, f"model.layer_{event.m.seq}", {"n": 3})))
        else:
            yield bare.encode(event)
