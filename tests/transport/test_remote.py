"""The transports to a collector elsewhere, seen from their own side. spec: DLV-8"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small_collector import SmallCollector

from xtrack_protocol.errors import TransportClosed
from xtrack_protocol.ir import Envelope, LogEntry
from xtrack_protocol.net.endpoint import Endpoint
from xtrack_protocol.sender.sync import Syncer
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir, segments
from xtrack_protocol.spool.shipping import read_note, write_note
from xtrack_protocol.transport import StreamInfo, remote
from xtrack_protocol.transport.remote import TcpTransport, UnixTransport
from xtrack_protocol.wire import encode

STREAM = StreamId("r", "", "5e55")
NOBODY = Endpoint(scheme="tcp", host="127.0.0.1", port=9)
DAY_US = 24 * 3600 * 1_000_000


@pytest.fixture
def collector():
    with SmallCollector() as found:
        yield found


def info(warnings: list[str] | None = None, stream: StreamId = STREAM) -> StreamInfo:
    return StreamInfo(stream=stream, warn=lambda kind, text: None if warnings is None else warnings.append(kind))


def events(count: int, size: int = 0, stream: StreamId = STREAM) -> list[bytes]:
    return [
        encode(
            Envelope.of(
                LogEntry(stream.run_id, "info", "x" * size),
                seq=seq,
                timestamp_us=seq,
                session_id=stream.session_id,
            )
        )
        for seq in range(1, count + 1)
    ]


def test_what_it_says_of_itself(tmp_path):
    transport = TcpTransport(NOBODY, tmp_path / "my home")
    assert (transport.name, transport.promise, transport.address) == ("tcp", "accepted", "tcp://127.0.0.1:9")
    assert transport.ship_command == f"xtrack sync '{tmp_path}/my home' --to tcp://127.0.0.1:9"
    delivery = transport.delivery()
    assert delivery is not None
    assert (delivery.connected, delivery.waiting, delivery.ship_with) == (False, 0, transport.ship_command)
    default = TcpTransport(NOBODY, Path("~/.xtrack"))
    assert default.ship_command == "xtrack sync --to tcp://127.0.0.1:9"
    unix = UnixTransport(Endpoint(scheme="unix", path=tmp_path / "s"), tmp_path)
    assert unix.address == f"unix:{tmp_path}/s"


def test_no_thread_and_no_connection_before_the_first_event(tmp_path, collector):
    transport = TcpTransport(collector.endpoint, tmp_path)
    transport.open(info())
    time.sleep(0.1)
    assert collector.accepted == 0
    transport.close()
    assert collector.accepted == 0
    with pytest.raises(TransportClosed):
        transport.send(1, b"{}")


def test_a_note_says_at_once_where_it_goes(tmp_path):
    """So that it is known for a buffer though the process is killed a moment later."""
    transport = TcpTransport(NOBODY, tmp_path)
    transport.open(info())
    note = read_note(SpoolDir(tmp_path).run_dir("r"), STREAM)
    assert note is not None
    assert (note.to, note.buffer, note.acked) == ("tcp://127.0.0.1:9", True, 0)
    transport.close()


def test_a_note_that_can_not_be_written_stops_nothing(tmp_path, collector, monkeypatch):
    from xtrack_protocol.sender import lane

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lane, "write_note", fail)
    warnings: list[str] = []
    transport = TcpTransport(collector.endpoint, tmp_path)
    transport.open(info(warnings))
    for seq, payload in enumerate(events(5), 1):
        transport.send(seq, payload)
    assert transport.flush("acked", 20)
    transport.close()
    assert set(warnings) == {"note"}
    assert collector.seqs() == [1, 2, 3, 4, 5]


def test_what_is_no_event_is_declared_and_not_sent_for_ever(tmp_path, collector):
    transport = TcpTransport(collector.endpoint, tmp_path)
    transport.open(info())
    good = events(2)
    transport.send(1, good[0])
    transport.send(2, b"not json")
    transport.send(3, b"\xff\xfe")
    transport.send(4, good[1].replace(b'"seq":2', b'"seq":4'))
    assert not transport.flush("acked", 20)
    assert transport.delivery().rejected == {"bad_json": 1, "bad_utf8": 1}
    assert transport.delivery().waiting == 0
    transport.close()
    assert collector.seqs() == [1, 4]


def test_acked_segments_go_after_a_day(tmp_path, collector, monkeypatch):
    transport = TcpTransport(collector.endpoint, tmp_path)
    transport.open(info())
    sent = events(60, 200_000)  # one segment and a half
    for seq, payload in enumerate(sent, 1):
        transport.send(seq, payload)
    assert transport.flush("acked", 30)
    run_dir = SpoolDir(tmp_path).run_dir("r")
    assert len(list(segments(run_dir))) == 2
    lane = transport._lane
    assert lane is not None

    def trim_at(days: float) -> int:
        now = time.time_ns()
        with monkeypatch.context() as patch:
            patch.setattr(remote.time, "time_ns", lambda: now + int(days * DAY_US * 1000))
            remote._trim_all(SpoolDir(tmp_path), lane, info())
        return len(list(segments(run_dir)))

    assert trim_at(0) == 2
    assert trim_at(0.9) == 2
    assert trim_at(1.1) == 1
    transport.send(61, events(61)[-1])
    assert transport.flush("acked", 20)
    transport.close()
    assert collector.seqs() == list(range(1, 62))
    report = Syncer(SpoolDir(tmp_path), collector.endpoint, again=True).sync()
    assert report.is_complete
    assert not collector.skipped


def test_what_nobody_ships_any_more_is_trimmed_by_the_next_run(tmp_path, collector):
    first = TcpTransport(collector.endpoint, tmp_path)
    first.open(info())
    for seq, payload in enumerate(events(5), 1):
        first.send(seq, payload)
    assert first.flush("acked", 20)
    first.close()
    run_dir = SpoolDir(tmp_path).run_dir("r")
    note = read_note(run_dir, STREAM)
    assert note is not None
    note.marks = [(1, time.time_ns() // 1000 - 2 * DAY_US)]
    write_note(run_dir, STREAM, note)
    second = TcpTransport(collector.endpoint, tmp_path)
    other = StreamId("other", "", "5e56")
    second.open(info(stream=other))
    second.send(1, events(1, stream=other)[0])
    deadline = time.monotonic() + 20
    while list(segments(run_dir)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(segments(run_dir)) == []
    second.close()


def test_for_child_shares_nothing_but_the_address(tmp_path, collector):
    transport = TcpTransport(collector.endpoint, tmp_path)
    child = transport.for_child()
    assert type(child) is TcpTransport
    assert (child.address, child.root) == (transport.address, transport.root)
