"""Segments that a collector has, and that were removed here, are told from loss. spec: RST-9"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from xtrack_protocol.cli import main
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.ir import Envelope, Metric, RunEnd, RunStart
from xtrack_protocol.limits import KEEP_ACKED_US
from xtrack_protocol.runs import StreamLost
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir, StreamWriter, segments, write_lost
from xtrack_protocol.spool.layout import ship_path
from xtrack_protocol.spool.shipping import ShipNote, find_streams, trim
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.wire import RECORDS_START, encode

STREAM = StreamId("r", "", "5e55")
URL = "tls://collector:9999"


def spooled(root: Path, count: int = 30, *, ended: bool = True) -> Path:
    """Write a run of which three events, as a rule, fill a segment."""
    folder = SpoolDir(root).run_dir("r")
    writer = StreamWriter(folder, STREAM, segment_max=RECORDS_START + 660)
    for seq in range(1, count + 1):
        event = Metric("r", "loss", float(seq), step=seq)
        if seq == 1:
            event = RunStart("r", name="named", tags={"a": "1"})
        elif seq == count and ended:
            event = RunEnd("r", "completed", final_metrics={"loss": 0.5})
        raw = encode(Envelope.of(event, seq=seq, timestamp_us=seq, session_id="5e55"))
        writer.append(seq, raw.ljust(200))
    writer.close()
    return folder


def trimmed(folder: Path, acked: int) -> ShipNote:
    """Remove what is acked, as if a day had gone by."""
    note = ShipNote(URL, buffer=True, acked=acked, durability="power")
    trim(folder, STREAM, note, 1)
    assert trim(folder, STREAM, note, 1 + KEEP_ACKED_US) > 0
    return note


def test_an_index_that_was_there_keeps_everything(root: Path, store: LocalStore) -> None:
    folder = spooled(root)
    before = store.get_run("r")
    trimmed(folder, 20)
    assert store.get_run("r") == before
    assert len(store.get_metrics("r", "loss")) == 28
    assert store.check() == []


@pytest.mark.parametrize("acked", [3, 20, 29])
def test_a_rebuilt_index_tells_what_only_the_collector_keeps(
    root: Path, store: LocalStore, capsys: pytest.CaptureFixture[str], acked: int
) -> None:
    folder = spooled(root)
    note = trimmed(folder, acked)
    store.rebuild()
    for _ in range(2):
        state = store.get_run("r")
        (summary,) = state.streams
        assert (state.name, state.status, state.tags["a"]) == ("named", "completed", "1")
        assert (summary.gaps, summary.skipped, state.lost_events) == ((), (), 0)
        assert (summary.shipped, summary.shipped_to) == (((2, note.trimmed),), URL)
        assert state.final_metrics == {"loss": 0.5}
        assert [point.step for point in store.get_metrics("r", "loss")] == list(range(note.trimmed + 1, 30))
        store.refresh()
    (listed,) = store.search_runs()
    assert listed.lost_events == 0
    assert store.check() == []
    assert capsys.readouterr().err == ""


def test_all_of_a_run_may_be_gone(root: Path, store: LocalStore) -> None:
    folder = spooled(root)
    trimmed(folder, 30)
    assert list(segments(folder)) == []
    store.rebuild()
    state = store.get_run("r")
    assert (state.name, state.status, state.events, state.lost_events) == ("named", "completed", 2, 0)
    assert (state.streams[0].shipped, state.streams[0].last_seq) == (((2, 29),), 30)
    assert store.check() == []
    (found,) = find_streams(SpoolDir(root))
    assert found.stream == STREAM


def test_what_is_lost_besides_is_still_lost(root: Path, store: LocalStore) -> None:
    folder = spooled(root)
    note = trimmed(folder, 20)
    path = list(segments(folder))[1]
    data = bytearray(path.read_bytes())
    data[RECORDS_START + 100] ^= 1
    path.write_bytes(data)
    store.rebuild()
    state = store.get_run("r")
    assert state.lost_events == 1
    ((first, last),) = state.streams[0].gaps
    assert first == last > note.trimmed
    assert state.streams[0].shipped == ((2, note.trimmed),)


def test_a_run_that_died_and_of_which_all_is_gone(root: Path, store: LocalStore) -> None:
    folder = spooled(root, ended=False)
    write_lost(folder, StreamLost(STREAM, 5, "died", 30, "killed by signal 9"))
    trimmed(folder, 30)
    store.rebuild()
    state = store.get_run("r")
    assert (state.status, state.name) == ("killed", "named")
    assert state.streams[0].shipped == ((2, 30),)


def test_the_events_that_come_back_are_taken(root: Path, store: LocalStore) -> None:
    """From the collector, by a replay, say."""
    folder = spooled(root)
    kept = {path.name: path.read_bytes() for path in segments(folder)}
    trimmed(folder, 30)
    store.rebuild()
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    state = store.get_run("r")
    assert (state.events, state.lost_events, state.streams[0].shipped) == (30, 0, ())


def test_show_and_verify_call_it_no_damage(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = spooled(root)
    note = trimmed(folder, 20)
    store.rebuild()
    monkeypatch.setenv("XTRACK_DIR", str(root))
    assert main(["show", "r"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "LOST" not in text
    assert "missing" not in text
    assert f"kept by {URL} alone: 2-{note.trimmed}" in text
    assert main(["show", "r", "--json"]) == 0
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert (stream["gaps"], stream["skipped"]) == ([], [])
    assert (stream["shipped"], stream["shipped_to"]) == ([[2, note.trimmed]], URL)
    assert main(["verify", "--json", *(str(path) for path in segments(folder))]) == 0
    assert {row["result"] for row in json.loads(capsys.readouterr().out)} == {"ok"}


def test_deleting_a_run_removes_its_notes(root: Path, store: LocalStore) -> None:
    folder = spooled(root)
    trimmed(folder, 20)
    assert store.get_run("r").events == 13
    store.delete_run("r")
    assert not ship_path(folder, "5e55").exists()
    assert [path.name for path in folder.iterdir()] == ["DELETED"]
    with pytest.raises(RunNotFound):
        store.get_run("r")
    assert find_streams(SpoolDir(root)) == []


def test_a_note_from_elsewhere_in_a_copied_folder(root: Path, store: LocalStore) -> None:
    """A damaged note, one that names another run, and one whose ends are rubbish stop nobody."""
    folder = spooled(root)
    trimmed(folder, 20)
    note = json.loads(ship_path(folder, "5e55").read_bytes())
    note["note"]["ends"] = ["rubbish", '{"t":"metric"}']
    ship_path(folder, "5e55").write_text(json.dumps(note))
    store.rebuild()
    assert store.get_run("r").lost_events == 0
    ship_path(folder, "5e55").write_bytes(b"{")
    store.rebuild()
    assert store.get_run("r").lost_events > 0
    shutil.rmtree(folder)
