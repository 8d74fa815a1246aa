"""Two runs with everything in them that the command line shows."""

from xtrack_protocol.ir import (
    Alert,
    Artifact,
    Checkpoint,
    Envelope,
    LogEntry,
    Metric,
    MetricBatch,
    MetricContext,
    Param,
    RunEnd,
    RunId,
    RunStart,
    Summary,
)
from xtrack_protocol.ir.lifecycle import ErrorInfo
from xtrack_protocol.wire import encode_frame

T0 = 1_700_000_000_000_000  # 2023-11-14T22:13:20Z


def stream(run_id: str, payloads: list, *, at: int = T0, wid: str | None = None, sid: str | None = None):
    """Envelopes a second apart, with seqs from 1 on."""
    sid = sid or f"sid-{run_id}"
    return [
        Envelope.of(payload, seq=seq, timestamp_us=at + (seq - 1) * 1_000_000, worker_id=wid, session_id=sid)
        for seq, payload in enumerate(payloads, 1)
    ]


def good_run(run_id: str = "good-1") -> list[Envelope]:
    """A run with one of everything."""
    train = MetricContext(phase="train")
    return stream(
        run_id,
        [
            RunStart(RunId(run_id, "exp"), name="base", tags={"seed": "1"}),
            Param(run_id, "lr", 0.1),
            Param(run_id, "model", "mlp", nested_key=["kind"]),
            Metric(run_id, "loss", 0.75, step=1, context=train),
            MetricBatch(run_id, {"loss": 0.5, "acc": 1}, step=2, epoch=1),
            Checkpoint(run_id, 2, "ckpt-2.bin", epoch=1, metrics_snapshot={"loss": 0.5}, is_best=True),
            Artifact(run_id, "plot.png", artifact_type="plot", size_bytes=12),
            LogEntry(run_id, "info", "half way"),
            Alert(run_id, "look", text="here"),
            Summary(run_id, {"best": 0.5}),
            RunEnd(run_id, "completed", duration_ms=9000),
        ],
    )


def bad_run(run_id: str = "bad-1") -> list[Envelope]:
    """A run that diverged and failed, with hostile names, a minute later."""
    return stream(
        run_id,
        [
            RunStart(run_id, name="=cmd|' /C calc'!A0\x1b[31m\tred"),
            Param(run_id, "lr", 10),
            Metric(run_id, "loss", float("nan"), step=1),
            Metric(run_id, "loss", float("inf"), step=2),
            LogEntry(run_id, "error", "line one\nline two\u202e"),
            RunEnd(run_id, "failed", error=ErrorInfo("ValueError", "diverged", "Traceback:\n  boom"), duration_ms=5000),
        ],
        at=T0 + 60_000_000,
    )


CROWD = 64


def crowd_run() -> list[Envelope]:
    """A run of 64 workers, 3 steps each. Worker 1 logs NaN at step 2, 5 fails, and of each one event is missing."""
    events = []
    for worker in range(CROWD):
        payloads = [RunStart("crowd", name="crowd", world_size=CROWD)]
        payloads += [Metric("crowd", "loss", worker + step / 4, step=step) for step in range(3)]
        if worker == 1:
            payloads[3] = Metric("crowd", "loss", float("nan"), step=2)
        payloads.append(RunEnd("crowd", "failed" if worker == 5 else "completed"))
        events += stream("crowd", payloads, wid=str(worker), sid=f"sid-{worker:02}", at=T0 + worker)
    return [event for event in events if event.meta.seq != 3]


def capture(envelopes: list[Envelope]) -> bytes:
    return b"".join(encode_frame(envelope) for envelope in envelopes)
