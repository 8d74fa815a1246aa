"""Short ways to write events in tests."""

from xtrack_protocol.ir import Envelope, Metric, Payload, RunEnd, RunStart
from xtrack_protocol.wire import Frame, encode, encode_frame

T0 = 1_700_000_000_000_000


def event(
    payload: Payload, seq: int, *, ts: int | None = None, wid: str | None = None, sid: str | None = None
) -> Envelope:
    """Wrap ``payload``; its time is ``seq`` milliseconds after T0 unless given."""
    return Envelope.of(
        payload, seq=seq, timestamp_us=T0 + seq * 1000 if ts is None else ts, worker_id=wid, session_id=sid
    )


def start(run: str = "r", seq: int = 1, **meta) -> Envelope:
    return event(RunStart(run), seq, **meta)


def metric(seq: int, value: float = 0.5, run: str = "r", key: str = "loss", **meta) -> Envelope:
    return event(Metric(run, key, value, step=seq), seq, **meta)


def end(seq: int, run: str = "r", status: str = "completed", **meta) -> Envelope:
    return event(RunEnd(run, status), seq, **meta)  # type: ignore[arg-type]


def a_run(count: int = 5, run: str = "r", **meta) -> list[Envelope]:
    """A whole run: start, ``count`` metrics, end."""
    return [
        start(run, **meta),
        *(metric(seq, 1 / seq, run, **meta) for seq in range(2, count + 2)),
        end(count + 2, run, **meta),
    ]


def frames(envelopes: list[Envelope]) -> list[Frame]:
    return [Frame(envelope, None, 0, 0, encode(envelope)) for envelope in envelopes]


def capture(envelopes: list[Envelope]) -> bytes:
    return b"".join(encode_frame(envelope) for envelope in envelopes)
