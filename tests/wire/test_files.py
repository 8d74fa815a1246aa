"""Files, read lazily: captures of workers in the field, segments, and what is neither."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.errors import NotASegment
from xtrack_protocol.ir import Envelope, Metric, checksum_sha256
from xtrack_protocol.limits import DecodeLimits
from xtrack_protocol.runs import fold
from xtrack_protocol.session import StreamId, StreamResolver
from xtrack_protocol.wire import (
    RECORDS_START,
    Frame,
    SegmentHeader,
    encode,
    encode_frame,
    encode_header,
    encode_record,
    frame_payload,
    read_frames,
    sniff,
    stream_file,
)

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def metric(seq: int) -> Envelope:
    return Envelope.of(Metric("r", "loss", seq / 2), seq=seq, timestamp_us=seq, session_id="s")


def legacy(event: str, seq: int, ts: int, body: dict[str, Any], wid: str | None = "absent") -> bytes:
    """A frame as the first published workers write it: nulls, spaces, bare tokens, non-ASCII escaped."""
    meta: dict[str, Any] = {"seq": seq, "ts": ts}
    if wid != "absent":
        meta["wid"] = wid
    return frame_payload(json.dumps({"v": 1, "t": event, "m": meta, "p": body}).encode())


RUN_START = {
    "run_id": {"id": "r1", "exp_id": None, "parent_id": None},
    "name": None,
    "tags": {},
    "source": {"git_commit": None, "git_branch": None, "git_repo": None, "entrypoint": "t.py", "code_hash": None},
    "env": {
        "python_version": "3.9.1",
        "platform": None,
        "hostname": None,
        "gpu_info": [{"name": "A100", "memory": "80 GB"}],
        "env_vars": {},
    },
}


def capture(path: Path, *frames: bytes) -> Path:
    path.write_bytes(b"".join(frames))
    return path


def state_of(path: Path) -> Any:
    resolver = StreamResolver()
    inputs = []
    for frame in stream_file(path):
        assert frame.error is None, frame.error
        assert frame.envelope is not None
        stream = resolver.resolve(frame.envelope)
        assert stream is not None
        inputs.append((stream, frame.envelope))
    forth, back = fold("r1", inputs), fold("r1", inputs[::-1] + inputs)
    assert repr(forth) == repr(back)
    return forth


def test_capture_of_a_legacy_worker(tmp_path: Path) -> None:
    """Nulls everywhere, both forms of run ids, bare tokens, true as a metric, a bare checksum, threads out of order."""
    path = capture(
        tmp_path / "events.bin",
        legacy("run_start", 1, 1000, RUN_START),
        legacy("status", 2, 1001, {"run_id": "r1", "status": "running", "msg": None, "progress": None}),
        legacy("param", 3, 1002, {"run_id": "r1", "key": "optimizer", "value": 0.1, "nested_key": ["lr"]}),
        legacy("param", 4, 1002, {"run_id": "r1", "key": "seed", "value": None, "nested_key": None}),
        legacy(
            "metric", 7, 1005, {"run_id": "r1", "key": "loss", "value": math.nan, "step": 2, "epoch": None, "ctx": None}
        ),
        legacy("metric", 6, 1004, {"run_id": "r1", "key": "loss", "value": 0.5, "step": 1, "ctx": {"phase": "train"}}),
        legacy("metric", 5, 1003, {"run_id": "r1", "key": "ok", "value": True, "step": None}),
        legacy("metric_batch", 8, 1006, {"run_id": "r1", "metrics": {"a": math.inf, "b": -math.inf, "c": False}}),
        legacy(
            "artifact",
            9,
            1007,
            {
                "run_id": "r1",
                "path": "m.pt",
                "type": None,
                "meta": None,
                "size": 1e3,
                "checksum": DIGEST,
                "upload": None,
            },
        ),
        legacy("log", 10, 1008, {"run_id": "r1", "level": "info", "msg": "caf\u00e9 \U0001f600", "fields": None}),
        legacy("checkpoint", 11, 1009, {"run_id": "r1", "step": 2, "path": "c", "metrics": {"loss": math.nan}}),
        legacy(
            "run_end",
            13,
            2000,
            {"run_id": "r1", "status": "completed", "error": None, "final_metrics": {"loss": 0.5}, "duration_ms": 1},
        ),
    )
    state = state_of(path)
    assert (state.status, state.name, state.experiment_id, state.parent_run_id) == ("completed", None, None, None)
    assert state.params == {"optimizer.lr": 0.1, "seed": None}
    loss = state.metrics["loss"]
    assert (loss.count, loss.nan_count, loss.min, loss.max, loss.last.seq) == (2, 1, 0.5, 0.5, 7)
    assert [point.step for point in loss.tail] == [1, 2]
    assert loss.tail[0].context.phase == "train"
    assert [state.metrics[key].last.value for key in ("ok", "a", "b", "c")] == [1, math.inf, -math.inf, 0]
    artifact = state.artifacts[0].artifact
    assert (artifact.size_bytes, checksum_sha256(artifact.checksum)) == (1000, DIGEST)
    assert state.logs[0].entry.message == "caf\u00e9 \U0001f600"
    assert state.environment.gpu_info[0].memory == "80 GB"
    assert math.isnan(state.checkpoints[0].checkpoint.metrics_snapshot["loss"])
    assert (state.final_metrics, state.duration_ms) == ({"loss": 0.5}, 1)
    (stream,) = state.streams
    assert stream.stream == StreamId("r1", "", "legacy-1000")
    assert (stream.gaps, stream.events, stream.late) == (((12, 12),), 12, 0)
    assert (state.started_at_us, state.ended_at_us) == (1000, 2000)


def test_capture_of_two_workers(tmp_path: Path) -> None:
    """Each counts its own seq from 1; the run is complete when both are."""
    frames = []
    for wid, ts in (("0", 1000), ("1", 1010)):
        frames += [
            legacy("run_start", 1, ts, RUN_START, wid),
            legacy("metric", 2, ts + 1, {"run_id": "r1", "key": "loss", "value": 1, "step": 1}, wid),
            legacy("run_end", 3, ts + 2, {"run_id": "r1", "status": "completed"}, wid),
        ]
    mixed = [frames[0], frames[3], frames[1], frames[4], frames[2]]
    state = state_of(capture(tmp_path / "a", *mixed))
    assert (state.status, state.workers) == ("running", ("0", "1"))
    state = state_of(capture(tmp_path / "b", *mixed, frames[5]))
    assert (state.status, state.metrics["loss"].count, state.events) == ("completed", 2, 6)
    assert state.lost_events == 0


def test_capture_of_a_resumed_run(tmp_path: Path) -> None:
    """The seq begins again at 1 under the same run id, in one file; reading it twice changes nothing."""
    frames = [
        legacy("run_start", 1, 1000, RUN_START),
        legacy("metric", 2, 1001, {"run_id": "r1", "key": "loss", "value": 3, "step": 1}),
        legacy("run_end", 3, 1002, {"run_id": "r1", "status": "failed", "error": {"type": "E", "message": None}}),
        legacy("run_start", 1, 5000, RUN_START),
        legacy("metric", 2, 5001, {"run_id": "r1", "key": "loss", "value": 2, "step": 2}),
        legacy("run_end", 3, 5002, {"run_id": "r1", "status": "completed"}),
    ]
    for path in (capture(tmp_path / "once", *frames), capture(tmp_path / "twice", *frames, *frames)):
        state = state_of(path)
        assert (state.status, state.events, state.metrics["loss"].count) == ("completed", 6, 2)
        assert [stream.stream.session_id for stream in state.streams] == ["legacy-1000", "legacy-5000"]
        assert [stream.superseded for stream in state.streams] == [True, False]
        assert (state.started_at_us, state.ended_at_us, state.error) == (1000, 5002, None)


# ------------------------------------------------------------------------------------------ kinds of files


def test_sniff() -> None:
    head = encode_header(SegmentHeader("r", "s"))
    assert sniff(b"") == "frames"
    assert sniff(encode_frame(metric(1))) == "frames"
    assert sniff(head) == "segment"
    assert sniff(b"\0" * 4096 + head[4096:]) == "segment"
    assert sniff(b"GET / HTTP") == "other"
    assert sniff(b"X") == "other"


def segment(count: int = 3) -> bytes:
    header = SegmentHeader("r", "s", salt="0000002a")
    records = b"".join(encode_record(seq, encode(metric(seq)), 42) for seq in range(1, count + 1))
    return encode_header(header) + records


def test_a_segment_is_read_like_any_file(tmp_path: Path) -> None:
    path = capture(tmp_path / "named.bin", segment())
    found = list(stream_file(path))
    assert [frame.envelope for frame in found] == [metric(1), metric(2), metric(3)]
    assert found[0].offset == RECORDS_START
    assert all(frame.verified for frame in found)


@pytest.mark.parametrize("where", [0, 3, 100, 4096, 4100])
def test_a_segment_with_one_damaged_header_is_still_a_segment(tmp_path: Path, where: int) -> None:
    damaged = bytearray(segment())
    damaged[where] ^= 0x40
    assert [frame.envelope for frame in stream_file(capture(tmp_path / "x", bytes(damaged)))] == [
        metric(1),
        metric(2),
        metric(3),
    ]
    damaged[:4096] = bytes(4096)
    if where < 4096:
        assert len(list(stream_file(capture(tmp_path / "y", bytes(damaged))))) == 3


def test_a_segment_without_a_header_raises(tmp_path: Path) -> None:
    damaged = bytearray(segment())
    damaged[20] ^= 1
    damaged[4096 + 20] ^= 1
    with pytest.raises(NotASegment, match="both copies"):
        list(stream_file(capture(tmp_path / "x", bytes(damaged))))


def test_damage_and_torn_tail_in_a_segment(tmp_path: Path) -> None:
    data = bytearray(segment())
    second = data.index(b"\xf5XR1", RECORDS_START + 1)
    data[second + 30] ^= 1
    found = list(stream_file(capture(tmp_path / "x", bytes(data[:-3]))))
    assert [frame.error and frame.error.kind for frame in found] == [None, "bad_checksum", "truncated"]
    assert found[1].error is not None
    assert "seq 2" in found[1].error.reason
    assert [frame.offset for frame in found] == [RECORDS_START, second, data.index(b"\xf5XR1", second + 1)]


def test_a_bad_payload_in_a_segment_costs_that_record(tmp_path: Path) -> None:
    data = segment(0) + encode_record(1, b"{", 42) + encode_record(2, encode(metric(2)), 42)
    found = list(stream_file(capture(tmp_path / "x", data)))
    assert [frame.error and frame.error.kind for frame in found] == ["bad_json", None]
    assert found[0].raw == b"{"


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    assert list(stream_file(capture(tmp_path / "empty", b""))) == []
    found = list(stream_file(capture(tmp_path / "text", b"hello\n" * 5000)))
    assert [frame.error and frame.error.kind for frame in found] == ["frame_too_large"]
    assert found[0].error is not None
    assert found[0].error.length == 30_000
    with pytest.raises(FileNotFoundError):
        next(stream_file(tmp_path / "absent"))
    with pytest.raises(OSError, match=r"."):
        next(stream_file(tmp_path))


def test_strict_stops_after_the_first_damage(tmp_path: Path) -> None:
    path = capture(tmp_path / "x", encode_frame(metric(1)), frame_payload(b"{"), encode_frame(metric(3)))
    assert len(list(stream_file(path))) == 3
    found = list(stream_file(path, strict=True))
    assert [frame.error is None for frame in found] == [True, False]


def test_limits_and_lenience_reach_the_frames(tmp_path: Path) -> None:
    path = capture(tmp_path / "x", legacy("metric", 1, 1, {"run_id": "r", "key": "k", "value": math.nan}))
    assert next(stream_file(path)).envelope is not None
    assert next(stream_file(path, lenient=False)).error is not None
    error = next(stream_file(path, limits=DecodeLimits(max_frame=20))).error
    assert error is not None
    assert error.kind == "frame_too_large"


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._size) if size >= 0 else self._size
        piece, self._data = self._data[:size], self._data[size:]
        return piece


@pytest.mark.parametrize("size", [1, 5, 4096, 10**6])
def test_pipes_give_what_they_have(size: int) -> None:
    for data in (segment(), encode_frame(metric(1)) * 100, encode_frame(metric(1))[:-1] + b"\xff" * 9000, b""):
        expected: list[Frame] = list(read_frames(io.BytesIO(data)))
        found = list(read_frames(Dribble(data, size)))  # type: ignore[arg-type]
        assert [(frame.offset, repr(frame.envelope), str(frame.error)) for frame in found] == [
            (frame.offset, repr(frame.envelope), str(frame.error)) for frame in expected
        ]


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = capture(tmp_path / "x", encode_frame(metric(1)) * 20_000)
    with path.open("rb") as file:
        frames = read_frames(file)
        next(frames)
        assert file.tell() < path.stat().st_size // 2
        frames.close()  # type: ignore[attr-defined]
