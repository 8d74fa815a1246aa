"""A collector under pressure: bad frames, floods, bytes that are no frames, misuse. Time is in seconds from 100 on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_machines import (
    HELLO,
    NOW,
    OTHER,
    PEER_BYTES,
    STREAM,
    S,
    ack,
    active,
    anybody,
    bad_frame,
    collector_in,
    control,
    event,
    event_frame,
    event_payload,
    open_frame,
    received_seqs,
    said,
    take,
    waiting,
)

from xtrack_protocol.errors import LocalSessionError, RemoteSessionError
from xtrack_protocol.ir import (
    Command,
    Ping,
    Reject,
    Tags,
)
from xtrack_protocol.session import (
    CollectorLimits,
    EventsReceived,
    FrameRefused,
    PeerFailed,
    PeerGone,
    Refusal,
    StreamState,
)
from xtrack_protocol.wire import encode_frame

# ---------------------------------------------------------------------------------------------- bad frames


def test_a_bad_frame_that_says_which_event_it_was() -> None:
    session = active()
    sid = STREAM.session_id
    text = f'{{"v":1,"t":"metric","m":{{"seq":2,"ts":1,"sid":"{sid}"}},"p":{{"run_id":"run-1","key":"k","value":"x"}}}}'
    news = session.receive(event_frame(1) + bad_frame(text) + event_frame(3), NOW)
    assert [type(item) for item in news] == [EventsReceived, FrameRefused, EventsReceived]
    refused = news[1]
    assert isinstance(refused, FrameRefused)
    assert (refused.stream, refused.seq, refused.error.kind) == (STREAM, 2, "bad_type")
    session.ack(STREAM, 3, [(2, refused.error.kind)])
    assert said(session.data_to_send()) == [ack(3, rejected=[(2, "bad_type")])]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"v":1,"t":"metric","m":{},"p":{}}', "[" * 100, "\x00", "9" * 5000])
def test_a_bad_frame_of_the_only_stream_is_its_next_event(text: str) -> None:
    session = active()
    news = session.receive(event_frame(1) + bad_frame(text) + event_frame(3), NOW)
    refused = news[1]
    assert isinstance(refused, FrameRefused)
    assert (refused.stream, refused.seq) == (STREAM, 2)


def test_a_bad_frame_of_one_of_several_streams_is_told_by_the_gap() -> None:
    session = active()
    take(session, OTHER)
    news = session.receive(event_frame(1) + event_frame(1, OTHER) + bad_frame("{") + event_frame(2, OTHER), NOW)
    assert [type(item) for item in news] == [EventsReceived] * 3
    refused, received = session.receive(event_frame(3), NOW)
    assert isinstance(refused, FrameRefused)
    assert (refused.stream, refused.seq) == (STREAM, 2)
    assert isinstance(received, EventsReceived)


def test_a_bad_frame_that_nobody_can_place_is_told_at_the_end() -> None:
    session = active()
    take(session, OTHER)
    assert session.receive(bad_frame("{") * 65, NOW)[0].stream is None  # type: ignore[union-attr]
    news = session.receive_eof(NOW)
    assert [type(item) for item in news] == [FrameRefused] * 64 + [PeerGone]
    assert session.frames_refused == 65


def test_a_bad_control_frame_takes_no_seq() -> None:
    session = active()
    [refused] = session.receive(bad_frame('{"v":1,"t":"skip","m":{"seq":0,"ts":1},"p":{}}'), NOW)
    assert refused.stream is None  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------- backpressure


def test_reading_stops_and_starts_with_the_bytes_in_flight() -> None:
    size = len(event_frame(1))
    session = active(limits=CollectorLimits(in_flight=2 * size))
    assert session.wants_data
    session.receive(event_frame(1), NOW)
    assert session.wants_data
    session.receive(event_frame(2), NOW)
    assert not session.wants_data
    session.release(size, NOW)
    assert session.wants_data
    with pytest.raises(LocalSessionError):
        session.release(size + 1, NOW)
    with pytest.raises(LocalSessionError):
        session.release(-1, NOW)


def test_who_is_not_read_is_neither_late_nor_idle() -> None:
    session = active()
    session.receive(event_frame(1)[:10], NOW + 1)
    session.hold_back(True, NOW + 11)
    assert not session.wants_data
    for second in (21, 41, 61, 81, 101):
        assert session.next_timer() == NOW + second
        assert session.handle_timer(NOW + second) == []
        assert said(session.data_to_send()) == [Ping()], "or the peer would take us for idle"
    session.hold_back(False, NOW + 111)
    assert session.wants_data
    assert session.next_timer() == NOW + 121
    session.handle_timer(NOW + 130.9)
    assert not session.is_over
    session.handle_timer(NOW + 131)
    assert session.is_over, "thirty seconds of reading"


# ---------------------------------------------------------------------------------------------- hostile peers


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "frame_too_large"),
        (b"\x16\x03\x01\x02\x00", "frame_too_large"),
        (b"SSH-2.0-x", "frame_too_large"),
        (b"*1\r\n", "frame_too_large"),
        (b"\xff", "frame_too_large"),
        (b"\x00\x10\x00\x01", "frame_too_large"),
        (b"\x00\xff\xff\xff", "frame_too_large"),
        (b"\x00\x00\x00\x00", "empty_frame"),
        (b"\x00" * 1000, "empty_frame"),
    ],
)
@pytest.mark.parametrize("state", [S.HELLO_WAIT, S.ACTIVE, S.PLAIN, S.DRAINING])
def test_bytes_that_are_no_frames(state: S, data: bytes, code: str) -> None:
    session = collector_in(state)
    news = session.receive(data, NOW)
    [failed] = [item for item in news if isinstance(item, PeerFailed)]
    assert news[-1] is failed
    assert failed.error.code == code
    told = said(session.data_to_send())
    assert told == ([] if state is S.PLAIN else [Reject(code, failed.error.reason)])
    for _ in range(2):
        with pytest.raises(RemoteSessionError):
            session.receive(data, NOW)
    session.ack(STREAM, 1)
    session.release(0, NOW)
    session.hold_back(True, NOW)
    session.reject("busy")
    assert session.send_command(Command("c", "stop")) is False
    assert session.receive_eof(NOW) == []
    assert session.data_to_send() == b""


def test_a_first_frame_may_be_held_shorter() -> None:
    session = waiting(limits=CollectorLimits(first_frame=1000))
    news = session.receive((1001).to_bytes(4, "big"), NOW)
    assert isinstance(news[-1], PeerFailed)
    session = waiting(limits=CollectorLimits(first_frame=1000))
    session.receive(control(HELLO) + open_frame(), NOW)
    session.accept_stream(STREAM, 0)
    big = encode_frame(event(1, Tags("run-1", {"k": "x" * 5000})))
    assert received_seqs(session.receive(big, NOW)) == [1]


def test_limits_that_no_client_would_take() -> None:
    with pytest.raises(ValueError, match="65536"):
        CollectorLimits(max_frame=65_535)


def test_misuse_of_streams() -> None:
    session = active()
    for call in (
        lambda: session.accept_stream(OTHER, 0),
        lambda: session.hold_stream(OTHER, "x"),
        lambda: session.refuse_stream(OTHER),
        lambda: session.accept_stream(STREAM, -1),
    ):
        with pytest.raises(LocalSessionError):
            call()
    assert waiting().stream_state(STREAM) is StreamState.UNOPENED


def test_commits_outlive_connections() -> None:
    session = active()
    [received] = session.receive(event_frame(1), NOW)
    session.receive(open_frame(OTHER), NOW)
    session.receive_eof(NOW)
    session.release(received.size, NOW)  # type: ignore[union-attr]
    session.ack(STREAM, 1)
    session.accept_stream(OTHER, 0)
    session.refuse_stream(OTHER)
    session.hold_stream(STREAM, "x")
    session.fence(STREAM)
    session.drain(NOW)
    assert session.send_event(event_payload(1)) is False
    assert session.data_to_send() == b""
    assert not session.wants_data


@given(st.lists(st.sampled_from(sorted(PEER_BYTES, key=lambda what: what.value)), max_size=12), st.data())
def test_any_frames_in_any_pieces(inputs: list[Any], data: st.DataObject) -> None:
    """The same events, in the same order, however the bytes are divided."""
    stream = b"".join(PEER_BYTES[what] for what in inputs)
    state = data.draw(st.sampled_from([S.HELLO_WAIT, S.ACTIVE, S.PLAIN, S.DRAINING]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    whole, pieces = collector_in(state), collector_in(state)
    expected = whole.receive(stream, NOW)
    news: list[Any] = []
    for start, end in itertools.pairwise([0, *cuts, len(stream)]):
        if pieces.is_over:
            break
        news += pieces.receive(stream[start:end], NOW)
    assert flat(news) == flat(expected)
    assert pieces.state is whole.state
    assert pieces.bytes_in_flight == whole.bytes_in_flight
    assert pieces.data_to_send() == whole.data_to_send()


def flat(news: list[Any]) -> list[str]:
    """Return the news with one item for each event: how many come at once depends on the pieces."""
    return [
        text
        for item in news
        for text in (
            [f"{item.stream} {frame}" for frame in item.frames] if isinstance(item, EventsReceived) else [repr(item)]
        )
    ]


@given(st.lists(st.binary(max_size=40) | st.sampled_from(list(PEER_BYTES.values())), max_size=8))
def test_any_bytes(chunks: list[bytes]) -> None:
    for state in (S.HELLO_WAIT, S.ACTIVE, S.PLAIN, S.DRAINING):
        session = collector_in(state, authenticate=lambda auth: Refusal() if auth else anybody(auth))
        for number, chunk in enumerate(chunks):
            if session.is_over:
                break
            session.receive(chunk, NOW + number)
            session.handle_timer(NOW + number)
            due = session.next_timer()
            assert due is None or due > NOW + number
        assert session.output_size < 10_000
