"""The collector's end of a connection, driven by hand. Time is in seconds from 100 on."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from session_machines import (
    HELLO,
    NOW,
    OTHER,
    STREAM,
    WID,
    S,
    ack,
    active,
    bad_frame,
    collector_in,
    control,
    event,
    event_frame,
    event_payload,
    nobody,
    open_frame,
    received_seqs,
    said,
    take,
    waiting,
)

from xtrack_protocol.errors import LocalSessionError, RemoteSessionError
from xtrack_protocol.ir import (
    Auth,
    Command,
    CommandResult,
    Hello,
    Metric,
    OpenStream,
    Ping,
    Pong,
    Reject,
    RunStart,
    SessionLimits,
    Skip,
    Subscribe,
    Unsubscribe,
    Welcome,
)
from xtrack_protocol.session import (
    CollectorLimits,
    CommandRequested,
    CommandResultReceived,
    EventsReceived,
    FrameRefused,
    HelloReceived,
    PeerFailed,
    PeerGone,
    PeerRefused,
    PlainPeer,
    SkipDeclared,
    StreamId,
    StreamOpenRequested,
    StreamState,
    SubscribeRequested,
    UnsubscribeRequested,
)
from xtrack_protocol.wire import encode, encode_frame

# ---------------------------------------------------------------------------------------------- hello


def test_hello_and_welcome() -> None:
    asked: list[Auth | None] = []

    def authenticate(auth: Auth | None) -> object:
        asked.append(auth)
        return ("owner", 7)

    session = waiting(authenticate=authenticate, features=["f0", "f1"], durability="process")
    hello = Hello([1, 9], ["cbor", "json"], ["f1", "f9"], "agent 1", Auth("key", "s3cret"))
    [news] = session.receive(control(hello), NOW)
    assert isinstance(news, HelloReceived)
    assert (news.owner, news.agent, news.agreement.features) == (("owner", 7), "agent 1", ("f1",))
    assert "s3cret" not in repr(news)
    assert "s3cret" not in repr(session)
    assert asked == [Auth("key", "s3cret")]
    assert said(session.data_to_send()) == [
        Welcome(1, "json", "process", ["f1"], SessionLimits(1024 * 1024, 10_000, 4 * 1024 * 1024))
    ]


def test_messagepack_applies_behind_the_welcome() -> None:
    session = waiting()
    session.receive(control(Hello([1], ["msgpack"])), NOW)
    [welcome] = said(session.data_to_send())
    assert welcome.codec == "msgpack"
    opened = encode_frame(event(1, RunStart("x")), "msgpack").replace(b"seq\x01", b"seq\x00")  # refused, but decoded
    assert isinstance(session.receive(opened, NOW)[0], FrameRefused)
    assert session.receive(open_frame(), NOW) == [StreamOpenRequested(STREAM)], "JSON is still taken (MSG-2.1)"
    session.accept_stream(STREAM, 0)
    sent = session.data_to_send()
    assert sent[4] & 0xF0 == 0x80
    assert received_seqs(session.receive(encode_frame(event(1, Metric("run-1", "k", 1)), "msgpack"), NOW)) == [1]
    assert session.send_event(event_payload(1))
    assert session.data_to_send()[4] & 0xF0 == 0x80


def test_what_messagepack_cannot_hold_goes_to_a_subscriber_as_json() -> None:
    session = waiting()
    session.receive(control(Hello([1], ["msgpack"])), NOW)
    session.data_to_send()
    payload = event_payload(1)[:-1] + b',"later":123456789012345678901234}'
    assert session.send_event(payload)
    assert session.data_to_send()[4:] == payload


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_a_subscriber_gets_its_codec_whichever_the_event_came_in(codec: str) -> None:
    session = waiting()
    session.receive(control(Hello([1], [codec])), NOW)
    session.data_to_send()
    metric = event(1, Metric("run-1", "k", float("nan")))
    for came_in in ("json", "msgpack"):
        assert session.send_event(encode(metric, came_in))
        assert session.data_to_send()[4:] == encode(metric, codec)


@pytest.mark.parametrize("versions", [[], [2], [0, 2**40]])
def test_no_version_in_common(versions: list[int]) -> None:
    session = waiting()
    [refused] = session.receive(control(Hello(versions)), NOW)
    assert isinstance(refused, PeerRefused)
    assert refused.code == "unsupported_version"
    [reject] = said(session.data_to_send())
    assert reject.code == "unsupported_version"
    assert session.is_over


@pytest.mark.parametrize("first", [control(HELLO), event_frame(1), control(Ping()), open_frame(), bad_frame("{")])
def test_who_is_refused_is_told(first: bytes) -> None:
    session = waiting(authenticate=nobody)
    news = session.receive(first + event_frame(2), NOW)
    assert news == [PeerRefused("unauthorized", "a key is needed")]
    assert said(session.data_to_send()) == [Reject("unauthorized", "a key is needed", 7.0)]
    assert session.state is S.CLOSED
    assert session.receive(event_frame(3), NOW) == []


def test_a_hello_that_cannot_be_read() -> None:
    session = waiting()
    news = session.receive(bad_frame('{"v":1,"t":"hello","m":{"seq":0,"ts":1},"p":{"protocols":"1"}}'), NOW)
    assert [type(item) for item in news] == [FrameRefused, PeerRefused]
    [reject] = said(session.data_to_send())
    assert reject.code == "protocol_error"


def test_a_second_hello_is_ignored() -> None:
    session = active()
    assert session.receive(control(HELLO), NOW) == []
    assert session.data_to_send() == b""


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_the_first_frame_has_five_seconds(cut: int) -> None:
    session = waiting()
    session.receive(control(HELLO)[:cut], NOW + 4)
    assert session.next_timer() == NOW + 5, "absolute, whatever dribbles in"
    [gone] = session.handle_timer(NOW + 5)
    assert isinstance(gone, PeerGone)
    [reject] = said(session.data_to_send())
    assert (reject.code, session.state) == ("timeout", S.CLOSED)


def test_the_first_frame_is_a_frame_that_was_begun_too() -> None:
    session = waiting(limits=CollectorLimits(first_frame_seconds=100))
    session.receive(control(HELLO)[:3], NOW + 1)
    assert session.next_timer() == NOW + 31


def test_a_frame_that_was_begun_has_thirty_seconds() -> None:
    session = active()
    data = event_frame(1) + event_frame(2)
    session.receive(data[:-20], NOW)
    for second in range(1, 30):
        session.receive(data[-20 + second - 1 : -20 + second] if second < 10 else b"", NOW + second)
    assert session.next_timer() == NOW + 29, "a ping, twenty seconds after the last byte"
    session.handle_timer(NOW + 29)
    assert session.next_timer() == NOW + 30
    session.handle_timer(NOW + 30)
    assert session.is_over


def test_each_frame_has_its_own_deadline() -> None:
    session = active()
    data = b"".join(event_frame(seq) for seq in range(1, 7))
    size = len(data) // 6
    for at in range(1, 6):  # a whole frame, and the beginning of the next one, every 19 seconds
        news = session.receive(data[(at - 1) * size + 5 * (at > 1) : at * size + 5], NOW + 19 * at)
        assert received_seqs(news) == [at]
    assert session.handle_timer(NOW + 19 * 5 + 10) == []


def test_plain_connections_have_a_frame_deadline_and_no_other() -> None:
    session = collector_in(S.PLAIN)
    assert session.next_timer() is None
    session.receive(event_frame(2)[:3], NOW + 1000)
    assert session.next_timer() == NOW + 1030
    session.handle_timer(NOW + 1030)
    assert session.is_over
    assert session.data_to_send() == b"", "a plain peer is told nothing (VER-3.5)"


# ---------------------------------------------------------------------------------------------- streams


def test_open_events_ack() -> None:
    session = active()
    news = session.receive(event_frame(1) + event_frame(2) + event_frame(3), NOW)
    [received] = news
    assert isinstance(received, EventsReceived)
    assert (received.stream, received_seqs(news)) == (STREAM, [1, 2, 3])
    assert received.size == 3 * len(event_frame(1)) == session.bytes_in_flight
    assert [frame.raw for frame in received.frames] == [event_payload(seq) for seq in (1, 2, 3)]
    assert session.data_to_send() == b"", "nothing is acked by itself"
    session.release(received.size, NOW)
    session.ack(STREAM, 2)
    session.ack(STREAM, 2)
    session.ack(STREAM, 3, [(3, "seq_conflict")])
    assert said(session.data_to_send()) == [ack(2), ack(3, rejected=[(3, "seq_conflict")])]
    assert session.bytes_in_flight == 0


def test_events_keep_their_order_across_streams() -> None:
    session = active()
    take(session, OTHER)
    skip = control(Skip(OTHER.run_id, OTHER.session_id, 2, 5, "full", OTHER.worker_id))
    data = event_frame(1) + event_frame(1, OTHER) + skip + event_frame(6, OTHER) + event_frame(2)
    news = session.receive(data, NOW)
    assert [(type(item), getattr(item, "stream", None)) for item in news] == [
        (EventsReceived, STREAM),
        (EventsReceived, OTHER),
        (SkipDeclared, OTHER),
        (EventsReceived, OTHER),
        (EventsReceived, STREAM),
    ]
    assert session.bytes_in_flight == len(data)
    session.ack(OTHER, 6)
    assert said(session.data_to_send()) == [ack(6, OTHER)]


def test_no_more_is_acked_than_came() -> None:
    """What is committed through another connection isn't this one's (CTL-3.10)."""
    session = active()
    session.receive(event_frame(1), NOW)
    session.ack(STREAM, 500, [(300, "gap"), (1, "gap")])
    assert said(session.data_to_send()) == [ack(1, rejected=[(1, "gap")])]


def test_an_ack_that_was_overtaken_says_nothing_new() -> None:
    session = active()
    session.receive(event_frame(1) + event_frame(2), NOW)
    session.ack(STREAM, 2)
    session.ack(STREAM, 1)
    session.ack(STREAM, 1, [(1, "seq_conflict")])
    assert said(session.data_to_send()) == [ack(2), ack(2, rejected=[(1, "seq_conflict")])]
    with pytest.raises(LocalSessionError, match="wasn't opened"):
        session.ack(OTHER, 1)


def test_events_of_streams_that_are_not_open_are_ignored() -> None:
    session = active()
    session.receive(open_frame(OTHER), NOW)  # not answered yet
    others = event_frame(1, OTHER) + event_frame(1, WID) + control(Skip("run-2", "zzz", 1, 2))
    assert session.receive(others + control(Skip("run-1", STREAM.session_id, 1, 2, None, "w1")), NOW) == []
    assert session.frames_ignored == 4
    assert session.bytes_in_flight == 0


@pytest.mark.parametrize(("first", "last"), [(3, 2), (0, 2), (-5, -1), (2**63 - 1, 1)])
def test_a_skip_of_nothing_is_ignored(first: int, last: int) -> None:
    session = active()
    assert session.receive(control(Skip("run-1", STREAM.session_id, first, last)), NOW) == []


def test_opening_twice_is_asking_for_the_cursor_again() -> None:
    session = active()
    session.receive(event_frame(1), NOW)
    assert session.receive(open_frame(), NOW) == [StreamOpenRequested(STREAM)]
    assert session.receive(event_frame(2), NOW) == []
    session.accept_stream(STREAM, 1)
    with pytest.raises(LocalSessionError):
        session.accept_stream(STREAM, 1)
    assert received_seqs(session.receive(event_frame(2), NOW)) == [2]


def test_a_relayed_stream_of_a_worker_without_session_ids() -> None:
    """STR-2.7 forbids to write the derived id into the payload; ``open`` names it (CTL-8.4)."""
    session = active()
    first, second = StreamId("run-5", "", "legacy-1000"), StreamId("run-5", "", "legacy-9000")
    without = StreamId("run-5", "", "")
    assert session.receive(event_frame(1, without), NOW) == []
    take(session, first, 3)
    [received] = session.receive(event_frame(4, without), NOW)
    assert received.stream == first  # type: ignore[union-attr]
    take(session, second)
    [received] = session.receive(event_frame(1, without), NOW)
    assert received.stream == second  # type: ignore[union-attr]


def test_hold_and_accept() -> None:
    session = active()
    session.receive(event_frame(1), NOW)
    session.ack(STREAM, 1)
    session.hold_stream(STREAM, "the store is full")
    assert session.receive(event_frame(2), NOW) == []
    session.ack(STREAM, 2)
    assert said(session.data_to_send()) == [ack(1), ack(1, error="the store is full")]
    session.accept_stream(STREAM, 1)
    assert said(session.data_to_send()) == [ack(1)]
    assert received_seqs(session.receive(event_frame(2), NOW)) == [2]


def test_what_was_sent_before_a_hold_was_known_is_ignored_behind_it() -> None:
    session = active()
    session.hold_stream(STREAM, "full")
    session.receive(event_frame(1) + event_frame(2), NOW)
    session.accept_stream(STREAM, 0)
    late_skip = control(Skip("run-1", STREAM.session_id, 4, 5))
    assert session.receive(event_frame(3) + late_skip + bad_frame("{"), NOW) == [
        FrameRefused(error=ANY, raw=b"{"),  # type: ignore[arg-type]
    ]
    assert received_seqs(session.receive(event_frame(1) + event_frame(2) + event_frame(3), NOW)) == [1, 2, 3]
    assert received_seqs(session.receive(event_frame(9), NOW)) == [9], "a hole is the store's to record (STR-6)"


def test_a_refused_stream() -> None:
    session = active()
    session.receive(open_frame(OTHER), NOW)
    session.refuse_stream(OTHER, "forbidden")
    assert said(session.data_to_send()) == [ack(0, OTHER, "forbidden")]
    session.receive(open_frame(), NOW)
    session.refuse_stream(STREAM, "forbidden", "it is somebody else's")
    assert said(session.data_to_send()) == [ack(0, STREAM, "forbidden: it is somebody else's")]
    session.accept_stream(OTHER, 0)
    assert session.receive(event_frame(1, OTHER) + open_frame(OTHER), NOW) == []
    assert session.data_to_send() == b""


def test_fencing_the_only_stream_ends_the_connection() -> None:
    session = active()
    session.fence(STREAM)
    [reject] = said(session.data_to_send())
    assert (reject.code, session.state) == ("fenced", S.CLOSED)
    session.ack(STREAM, 1)
    assert session.data_to_send() == b""


def test_fencing_one_of_several_leaves_the_others() -> None:
    session = active()
    take(session, OTHER)
    session.receive(event_frame(1), NOW)
    session.fence(STREAM)
    session.fence(WID)
    assert said(session.data_to_send()) == [ack(0, error="fenced")]
    session.ack(STREAM, 1)  # the commit was under way
    assert session.data_to_send() == b""
    assert received_seqs(session.receive(event_frame(2) + event_frame(1, OTHER), NOW)) == [1]
    assert session.stream_state(STREAM) is StreamState.FENCED


def test_too_many_streams() -> None:
    session = active(limits=CollectorLimits(streams=3))
    for number in range(2):
        take(session, StreamId("r", "", f"s{number}"))
    assert session.receive(open_frame(OTHER), NOW) == []
    [answer] = said(session.data_to_send())
    assert answer.status == "error"
    assert answer.error_message == "a connection may open 3 streams"


# ---------------------------------------------------------------------------------------------- plain peers


def test_a_worker_of_before() -> None:
    session = waiting()
    bare = StreamId("run-1", "", "")
    start = encode_frame(event(1, RunStart("run-1"), bare))
    news = session.receive(start + event_frame(2, bare) + event_frame(2, OTHER), NOW)
    assert news[0] == PlainPeer("anybody")
    assert [item.stream for item in news[1:]] == [StreamId("run-1", "", "legacy-1"), OTHER]  # type: ignore[union-attr]
    assert received_seqs(news) == [1, 2, 2]
    session.ack(OTHER, 2)
    session.fence(OTHER)
    assert session.data_to_send() == b""
    assert session.send_command(Command("c1", "stop"))
    assert said(session.data_to_send()) == [Command("c1", "stop")]
    assert session.receive(control(Ping()) + open_frame() + control(Subscribe("run-1")), NOW) == []
    assert session.data_to_send() == b""
    assert session.handle_timer(NOW + 1e6) == []


def test_a_plain_peer_that_knows_a_little_more() -> None:
    session = collector_in(S.PLAIN)
    skip = Skip(STREAM.run_id, STREAM.session_id, 2, 3)
    declared, result = session.receive(control(skip) + control(CommandResult("run-1", "c", "ok")), NOW)
    assert isinstance(declared, SkipDeclared)
    assert (declared.stream, declared.first, declared.last) == (STREAM, 2, 3)
    assert result == CommandResultReceived(CommandResult("run-1", "c", "ok"))


def test_a_plain_peer_is_served_to_the_end() -> None:
    session = collector_in(S.PLAIN)
    session.drain(NOW)
    assert received_seqs(session.receive(event_frame(2), NOW)) == [2]
    session.reject("busy")
    assert session.data_to_send() == b""
    assert session.is_over


# ---------------------------------------------------------------------------------------------- the rest of the talk


def test_a_stream_that_is_shipped_for_another() -> None:
    session = active()
    frame = control(OpenStream(OTHER.run_id, OTHER.session_id, OTHER.worker_id, True))
    assert session.receive(frame, NOW) == [StreamOpenRequested(OTHER, passive=True)]


def test_subscribers() -> None:
    session = active()
    assert session.receive(control(Subscribe("run-9", 5)) + control(Unsubscribe("run-9")), NOW) == [
        SubscribeRequested("run-9", 5),
        UnsubscribeRequested("run-9"),
    ]
    assert session.send_event(event_payload(9))
    assert session.data_to_send() == event_frame(9)


def test_a_subscriber_is_told_where_it_is() -> None:
    session = active(features=["follow"])
    assert session.begin_subscription("run-9", 7), "who didn't ask isn't told"
    assert session.end_subscription("run-9", "ended") is False
    assert session.data_to_send() == b""
    session = waiting(features=["follow"])
    session.receive(control(Hello([1], features=["follow"])), NOW)
    session.data_to_send()
    news = session.receive(control(Subscribe("run-9", None, True)), NOW)
    assert news == [SubscribeRequested("run-9", None, True)]
    assert session.begin_subscription("run-9", 7)
    assert session.end_subscription("run-9", "ended", "completed")
    assert session.end_subscription("run-8", "forbidden")
    assert said(session.data_to_send()) == [
        Subscribe("run-9", 7),
        Unsubscribe("run-9", "ended", "completed"),
        Unsubscribe("run-8", "forbidden"),
    ]
    session.close()
    assert session.begin_subscription("run-9", 7) is False
    assert session.end_subscription("run-9", "ended") is False


def test_commands_of_a_client() -> None:
    session = waiting(features=["commands"])
    session.receive(control(Hello([1], features=["commands"])), NOW)
    session.data_to_send()
    command = Command("c1", "stop", {}, "run-9", "w1")
    assert session.receive(control(command), NOW) == [CommandRequested(command)]
    answer = CommandResult("run-9", "c1", "error", "no worker", left=0)
    assert session.send_command_result(answer)
    assert said(session.data_to_send()) == [answer]
    session.drain(NOW)
    assert session.receive(control(command), NOW) == []
    assert session.send_command_result(answer), "of a command that was passed on before"
    session.reject("busy")
    assert session.send_command_result(answer) is False


def test_no_commands_where_they_were_not_agreed_upon() -> None:
    session = active(features=["commands"])
    assert session.receive(control(Command("c1", "stop", {}, "run-9")), NOW) == []
    assert session.frames_ignored == 1


def test_a_peer_that_does_not_read() -> None:
    session = active(limits=CollectorLimits(output=1000))
    sent = 0
    while session.send_event(event_payload(1)):
        sent += 1
    assert 1 < sent < 20
    assert session.state is S.POISONED
    [failed] = session.receive(b"", NOW)
    assert isinstance(failed, PeerFailed)
    [reject] = said(session.data_to_send())
    assert (reject.code, session.bytes_in_flight) == ("protocol_error", 0)
    with pytest.raises(RemoteSessionError):
        session.receive(b"", NOW)


def test_a_flood_of_pings_costs_nothing() -> None:
    session = active()
    session.receive(control(Ping()) * 10_000, NOW)
    assert said(session.data_to_send()) == [Pong()]


def test_a_flood_of_opens_costs_what_is_allowed() -> None:
    session = active(limits=CollectorLimits(streams=5, output=20_000))
    for number in range(1000):
        session.receive(open_frame(StreamId("r", "", str(number))), NOW)
        if session.is_over:
            break
    assert session.is_over
    assert len(session.data_to_send()) < 1000


def test_silence() -> None:
    session = active()
    session.handle_timer(NOW + 20)
    assert said(session.data_to_send()) == [Ping()]
    session.receive(control(Pong()), NOW + 30)
    session.handle_timer(NOW + 50)
    session.handle_timer(NOW + 70)
    session.data_to_send()
    [gone] = session.handle_timer(NOW + 90)
    assert isinstance(gone, PeerGone)
    assert gone.idle
    assert [reject.code for reject in said(session.data_to_send())] == ["timeout"]


def test_drain() -> None:
    session = active()
    [received] = session.receive(event_frame(1), NOW)
    session.drain(NOW)
    assert session.receive(event_frame(2) + open_frame(OTHER), NOW) == []
    assert session.send_command(Command("c", "stop")) is False
    session.release(received.size, NOW)  # type: ignore[union-attr]
    session.ack(STREAM, 1)
    session.reject("busy", "shutting down", 5)
    assert said(session.data_to_send()) == [ack(1), Reject("busy", "shutting down", 5)]
    assert session.is_over


def test_drain_before_the_hello() -> None:
    session = waiting()
    session.drain(NOW, 3)
    assert said(session.data_to_send()) == [Reject("busy", "the collector is shutting down", 3)]
