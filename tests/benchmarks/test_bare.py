"""The bare loops do the same work as the library: the same bytes, the same events, all rows."""

from __future__ import annotations

import os
import sqlite3
import sys
from itertools import islice
from pathlib import Path

import pytest

import xtrack_protocol as xtrack
from xtrack_protocol import FrameDecoder, encode_frame, stream_file
from xtrack_protocol.storage import open_store
from xtrack_protocol.wire import sniff

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks" / "bare.py").exists(), reason="the benchmarks aren't here")
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
bare = pytest.importorskip("benchmarks.bare")
data = pytest.importorskip("benchmarks.data")


def kinds() -> list[bytes]:
    return [
        data.start(),
        *map(data.canonical, data.metrics(50, first=2, values="doubles")),
        *map(data.canonical, data.metrics(50, first=52, values="losses", names=["a", "b"])),
        *data.mixed(60),
        data.end(200),
    ]


def test_frames_are_byte_for_byte_the_librarys() -> None:
    payloads = kinds()
    frames = FrameDecoder().feed(b"".join(map(data.frame, payloads)))
    assert [frame.error for frame in frames] == [None] * len(payloads)
    assert {frame.envelope.event_type for frame in frames} == {
        "run_start", "run_end", "metric", "metric_batch", "log", "param",
    }  # fmt: skip
    for payload, frame in zip(payloads, frames, strict=True):
        assert encode_frame(frame.envelope) == data.frame(payload) == bare.encode_frame(bare.decode(payload))


def test_frames_of_another_form_hold_the_same_events() -> None:
    for event in data.metrics(20, values="doubles"):
        canonical, other = data.canonical(event), data.other_form(event)
        one, two = (FrameDecoder().feed(data.frame(payload))[0].envelope for payload in (canonical, other))
        assert canonical != other
        assert one == two


def test_the_bare_loop_reads_each_event_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "frames.bin"
    path.write_bytes(b"".join(map(data.frame, kinds())))
    ours = [frame.envelope for frame in stream_file(path)]
    assert bare.decode_file(path) == bare.decode_bytes(path.read_bytes()) == len(ours)
    for event, envelope in zip(bare.events_of(path.read_bytes()), ours, strict=True):
        assert bare.encode(event) == encode_frame(envelope)[4:]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="truncated"):
        bare.decode_file(path)


@pytest.mark.parametrize("batches", [False, True])
def test_the_bare_emitter_writes_what_a_run_writes(tmp_path: Path, batches: bool) -> None:
    path = tmp_path / "bare.bin"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    took: list[int] = []
    values = list(islice(data.doubles(), 30))
    run = xtrack.Tracker.start_run("bare", run_id=data.RUN, transport=f"file:{tmp_path / 'ours.bin'}", quiet=True)
    if batches:
        rows = [{"a": value, "b": -value} for value in values]
        bare.emit_batches(fd, data.RUN, run.session_id, 0, rows, took)
        for step, row in enumerate(rows):
            run.log_metrics(row, step=step)
    else:
        bare.emit(fd, data.RUN, run.session_id, 0, values, took)
        for step, value in enumerate(values):
            run.log_metric("train/loss", value, step=step)
    os.close(fd)
    run.end()
    assert len(took) == 30
    assert sniff(path.read_bytes()) == "frames"
    kind = "metric_batch" if batches else "metric"
    ours = [frame.envelope for frame in stream_file(tmp_path / "ours.bin") if frame.envelope.event_type == kind]
    theirs = [frame.envelope for frame in stream_file(path)]
    assert [one.payload for one in theirs] == [one.payload for one in ours]
    assert [one.meta.seq for one in theirs] == list(range(1, 31))
    assert {one.meta.session_id for one in theirs} == {one.meta.session_id for one in ours}
    assert [one.meta.timestamp_us for one in theirs] == sorted(one.meta.timestamp_us for one in theirs)
    for envelope in theirs:
        assert encode_frame(envelope) in path.read_bytes()


def test_the_bare_store_has_each_point(tmp_path: Path) -> None:
    path, database = tmp_path / "frames.bin", tmp_path / "rows.db"
    events = list(data.metrics(2345, values="doubles", first=2))
    path.write_bytes(b"".join(map(data.frame, [data.start(), *map(data.canonical, events), data.end(2347)])))
    assert bare.file_to_rows(path, database) == len(events)
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT run, key, step, value, ts, seq FROM points ORDER BY seq").fetchall()
    connection.close()
    assert rows == [(one.p.run_id, one.p.key, one.p.step, one.p.value, one.m.ts, one.m.seq) for one in events]


def test_an_original_that_comes_back_other_than_it_was_is_counted(tmp_path: Path) -> None:
    filling = pytest.importorskip("benchmarks.filling")
    ingesting = pytest.importorskip("benchmarks.ingesting")
    payloads = ingesting.payloads_of(40, form="other")
    database = tmp_path / "store.db"
    with open_store(f"sqlite:///{database}") as store:
        filling.append(store, filling.frames_of(iter(payloads), 100))
    assert ingesting.differing(database, payloads) == 0
    assert ingesting.differing(database, [*payloads[:5], b"{}", *payloads[6:]]) == 1
    assert ingesting.differing(database, payloads[:-2]) == 2
    assert ingesting.differing(database, [*payloads, b"{}"]) == 1
    assert ingesting.database_size(database) > 4096
