"""Other trackers: what can't be measured is told, and what is counted after a kill is what was kept."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks" / "peers.py").exists(), reason="the benchmarks aren't here")
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
peers = pytest.importorskip("benchmarks.peers")
report = pytest.importorskip("benchmarks.report")
peer_work = pytest.importorskip("benchmarks.peer_work")

HERE = Path(sys.prefix)
"""An environment that has our own tracker: this one."""


def test_each_has_pinned_versions_and_something_to_do() -> None:
    found = peers.load_peers()
    assert set(found) == set(peer_work.TRACKERS)
    assert next(iter(found)) == "xtrack"
    for name, about in found.items():
        assert all("==" in one or one == "." for one in about["requires"]), name


def test_one_that_cannot_be_installed_says_so(tmp_path: Path) -> None:
    row = peers.measure("trackio", {"requires": ["./no-such-thing"]}, tmp_path / "work", tmp_path / "envs", quick=True)
    assert row["error"].startswith("RuntimeError: can't be installed: ")
    assert "no-such-thing" in row["error"]
    assert not list((tmp_path / "envs").glob("*/complete"))


def test_one_that_cannot_run_says_so_and_keeps_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "environment", lambda *_: HERE)  # where there is no trackio
    row = peers.measure("trackio", {"requires": []}, tmp_path / "work", tmp_path, quick=True)
    assert "calls: exit status 1: ModuleNotFoundError: No module named 'trackio'" in row["error"]
    assert "kill: exit status 1 instead of a kill" in row["error"]
    assert row["distributions"] > 5
    assert "p50_us" not in row


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tracker is called 'mlfow'"):
        peers.run_peers(["mlfow"], tmp_path, tmp_path, quick=True)


def test_the_fastest_other_one_is_named() -> None:
    rows = [
        {"name": "a", "p50_us": 9.0},
        {"name": "xtrack", "p50_us": 2.0},
        {"name": "b", "p50_us": 5.0},
        {"name": "c"},
    ]
    rows = [{"version": "1", "error": "", **row} for row in rows]
    found = report.fastest_peer(rows)
    assert (found.note, found.value, found.verdict) == ("b", 2.5, "not met")
    assert report.fastest_peer(rows[:1]) is None
    assert "(b): 2.50, goal >= 3: not met" in "\n".join(report.peers_table(rows))


def test_ours_is_measured_like_the_others(tmp_path: Path) -> None:
    found = peers._work(HERE, "xtrack", "calls", tmp_path / "calls", 200)
    assert 0 < found["p50_us"] <= found["p99_us"]
    assert found["ten_us"] > 0
    found = peers._rate(HERE, "xtrack", tmp_path, 500)
    assert found["rate"] > 100
    assert 20 < found["bytes"] < 1000
    assert peers._kept(HERE, "xtrack", tmp_path) == {"kept": 200}


def test_records_of_leveldb_logs_are_put_together_again() -> None:
    def record(kind: int, data: bytes) -> bytes:
        return bytes(4) + struct.pack("<HB", len(data), kind) + data

    first = record(1, b"one")
    room = 32768 - 7 - len(first) - 7
    log = first + record(2, b"x" * room) + record(3, b"y" * (32768 - 7)) + record(4, b"z")
    assert peer_work.leveldb_records(log) == [b"one", b"x" * room + b"y" * (32768 - 7) + b"z"]
    assert peer_work.leveldb_records(log[:-1]) == [b"one"]
    fill = record(1, b"f" * (32768 - 7 - 7 - 3))  # three bytes of its block are left, where no head fits
    assert peer_work.leveldb_records(fill + bytes(3) + record(1, b"next"))[1] == b"next"


def test_records_of_tensorboard_are_counted_up_to_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "events"
    records = [struct.pack("<QI", size, 0) + b"x" * size + bytes(4) for size in (10, 0, 300)]
    path.write_bytes(b"".join(records))
    assert peer_work.tf_records(path) == 3
    path.write_bytes(b"".join(records)[:-1])
    assert peer_work.tf_records(path) == 2
