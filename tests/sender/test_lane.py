"""A stream on its way, by hand: a spool that was written, and a session whose other end is played."""

from __future__ import annotations

from pathlib import Path

import pytest
from session_machines import HELLO, NOW, STREAM, ack_frame, event_payload, welcome_frame

from xtrack_protocol.sender.lane import Lane
from xtrack_protocol.session import EmitterSession
from xtrack_protocol.spool import StreamWriter
from xtrack_protocol.wire import FrameDecoder


@pytest.fixture
def spooled(tmp_path: Path) -> Path:
    """The folder of a run of 100 events, of which the 50th is larger than the session of below takes."""
    writer = StreamWriter(tmp_path, STREAM)
    for seq in range(1, 101):
        writer.append(seq, event_payload(seq) + b" " * (70_000 if seq == 50 else 0))
    writer.close()
    return tmp_path


def connect(lane: Lane, cursor: int) -> EmitterSession:
    session = EmitterSession(HELLO)
    session.start(NOW)
    session.receive(welcome_frame(max_frame=65_536), NOW)
    session.open_stream(STREAM, NOW)
    session.receive(ack_frame(cursor), NOW)
    session.data_to_send()
    lane.open_at(cursor)
    return session


def sent(session: EmitterSession) -> list[int]:
    frames = FrameDecoder().feed(session.data_to_send())
    return [frame.envelope.meta.seq for frame in frames if frame.envelope is not None and frame.envelope.meta.seq]


def lane_of(folder: Path) -> Lane:
    return Lane.of(folder, STREAM, None, "tcp://c:1", buffer=True)


@pytest.mark.parametrize("most", [1, 2, 7, 100, 1000])
def test_all_is_sent_once_and_in_order_whatever_the_slices(spooled: Path, most: int) -> None:
    lane = lane_of(spooled)
    session = connect(lane, 0)
    while count := lane.pump(session, most, 0):
        assert count <= most
    assert sent(session) == [seq for seq in range(1, 101) if seq != 50]
    assert lane.refused == {50: "frame_too_large"}
    assert session.position(STREAM) == 100
    assert lane.is_read


def test_a_cursor_within_what_was_sent_is_no_surprise(spooled: Path) -> None:
    """The acks of the first connection were lost, and the spool is still but a buffer. spec: DLV-8.6"""
    lane = lane_of(spooled)
    lane.pump(connect(lane, 0), 40, 0)
    session = connect(lane, 40)
    assert lane.note.buffer
    lane.pump(session, 1000, 0)
    assert sent(session)[0] == 41
    connect(lane, 100)
    assert lane.note.buffer


def test_a_cursor_beyond_what_was_sent(spooled: Path) -> None:
    lane = lane_of(spooled)
    lane.pump(connect(lane, 0), 40, 0)
    connect(lane, 41)
    assert not lane.note.buffer, "the collector has it from elsewhere: from this folder perhaps"


def test_what_was_refused_is_declared_when_the_collector_begins_anew(spooled: Path) -> None:
    lane = lane_of(spooled)
    session = connect(lane, 0)
    lane.pump(session, 1000, 0)
    lane.refuse(7, "invalid")
    session = connect(lane, 0)
    lane.pump(session, 1000, 0)
    assert sent(session) == [seq for seq in range(1, 101) if seq not in {7, 50}]
