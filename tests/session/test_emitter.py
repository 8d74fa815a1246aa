"""The emitter's end of a connection, driven by hand. Time is in seconds from 100 on."""

from __future__ import annotations

import itertools

import msgspec
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
    ack_frame,
    control,
    emitter_in,
    event_frame,
    event_payload,
    said,
    welcome_frame,
)

from xtrack_protocol.errors import LocalSessionError, RemoteSessionError
from xtrack_protocol.ir import (
    Auth,
    Command,
    CommandResult,
    Envelope,
    Hello,
    OpenStream,
    Ping,
    Pong,
    Reject,
    RunId,
    Skip,
    Subscribe,
    Unsubscribe,
)
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.session import (
    Acked,
    CommandReceived,
    CommandResultReceived,
    Drained,
    EmitterSession,
    EventPublished,
    FellBack,
    FrameRefused,
    PeerFailed,
    PeerGone,
    Rejected,
    Rewound,
    StreamHeld,
    StreamOpened,
    StreamRefused,
    StreamState,
    SubscriptionEnded,
    SubscriptionStarted,
    Welcomed,
    WindowOpened,
)
from xtrack_protocol.wire import FrameDecoder, decode, encode, encode_frame, frame_payload


def seqs(data: bytes) -> list[int]:
    return [
        frame.envelope.meta.seq for frame in FrameDecoder().feed(data) if frame.envelope and frame.envelope.meta.seq
    ]


def opened(
    cursor: int = 0, *, events: int | None = None, size: int | None = None, max_frame: int | None = None
) -> EmitterSession:
    """Return a session with STREAM open."""
    session = EmitterSession(HELLO)
    session.start(NOW)
    session.receive(welcome_frame(events, size, max_frame), NOW)
    session.open_stream(STREAM, NOW)
    assert session.receive(ack_frame(cursor), NOW) == [StreamOpened(STREAM, cursor)]
    session.data_to_send()
    return session


def offer(session: EmitterSession, *numbers: int) -> list[bool]:
    return [session.offer(STREAM, seq, event_payload(seq)) for seq in numbers]


# ---------------------------------------------------------------------------------------------- hello


def test_hello_comes_first_and_alone() -> None:
    session = EmitterSession(Hello([1], auth=Auth("key", "s3cret")), epoch_us=5_000_000)
    data = session.start(NOW)
    [frame] = FrameDecoder().feed(data)
    assert frame.envelope == Envelope.of(Hello([1], auth=Auth("key", "s3cret")), seq=0, timestamp_us=105_000_000)
    session.open_stream(STREAM, NOW)
    assert session.offer(STREAM, 1, event_payload(1)) is False
    assert session.data_to_send() == b""
    assert "s3cret" not in repr(session)
    with pytest.raises(LocalSessionError):
        session.start(NOW)


def test_welcome_opens_the_streams_that_wait() -> None:
    session = emitter_in(S.HELLO_SENT)
    session.open_stream(OTHER, NOW)
    [welcomed] = session.receive(welcome_frame(10, 2000, features=["f1", "f2"]), NOW)
    assert isinstance(welcomed, Welcomed)
    assert welcomed.agreement.features == ("f1",), "what both named (VER-2.4)"
    assert (welcomed.durability, welcomed.window_events, welcomed.window_bytes) == ("power", 10, 2000)
    assert said(session.data_to_send()) == [
        OpenStream("run-1", STREAM.session_id),
        OpenStream("run-2", OTHER.session_id, "w1"),
    ]
    assert session.receive(ack_frame(3, OTHER), NOW) == [StreamOpened(OTHER, 3)]
    assert session.position(OTHER) == 3
    assert session.stream_state(STREAM) is StreamState.OPENING


def test_no_answer_is_a_plain_peer() -> None:
    session = EmitterSession(HELLO)
    session.start(NOW)
    session.open_stream(STREAM, NOW, plain_cursor=4)
    assert session.next_timer() == NOW + 2
    assert session.handle_timer(NOW + 1.9) == []
    assert session.handle_timer(NOW + 2) == [FellBack(), StreamOpened(STREAM, 4)]
    assert session.open_stream(OTHER, NOW + 2) == [StreamOpened(OTHER, 0)]
    assert offer(session, 5) == [True]
    assert session.data_to_send() == event_frame(5), "no open, and the bytes as they are"
    assert session.next_timer() is None, "a plain connection has no idle limit"


def test_no_fallback_with_a_key() -> None:
    session = emitter_in(S.HELLO_SENT, require_session=True)
    assert session.receive(control(Command("c1", "stop")), NOW) == [], "nobody knows who says it"
    [gone] = session.handle_timer(NOW + 2)
    assert isinstance(gone, PeerGone)
    assert "no fallback" in gone.reason
    assert session.is_over


def test_a_plain_peers_command_before_the_fallback() -> None:
    session = emitter_in(S.HELLO_SENT)
    assert session.receive(control(Command("c1", "stop")), NOW) == [CommandReceived(Command("c1", "stop"))]
    assert session.handle_timer(NOW + 2)[0] == FellBack()


def test_a_late_welcome_begins_the_session() -> None:
    session = emitter_in(S.PLAIN)
    assert offer(session, 1, 2) == [True, True]
    session.data_to_send()
    [welcomed] = session.receive(welcome_frame(), NOW + 3)
    assert isinstance(welcomed, Welcomed)
    assert welcomed.late
    assert said(session.data_to_send()) == [OpenStream("run-1", STREAM.session_id)]
    assert offer(session, 3) == [False], "what was sent before counts as not sent (VER-3.6)"
    assert session.receive(ack_frame(0), NOW + 3) == [StreamOpened(STREAM, 0)]
    assert offer(session, 1) == [True]
    assert session.unacked_events == 1
    [failed] = session.receive(ack_frame(2), NOW + 3)
    assert isinstance(failed, PeerFailed), "seq 2 was sent before the session, and so not at all"


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": 2},
        {"protocol": 0},
        {"codec": "msgpack"},
        {"codec": "cbor"},
        {"max_frame": 0},
        {"max_frame": 65_535},
        {"max_frame": -(2**63)},
    ],
    ids=str,
)
def test_a_welcome_that_was_not_asked_for(changes: dict[str, int | str]) -> None:
    session = emitter_in(S.HELLO_SENT)
    [failed] = session.receive(welcome_frame(**changes), NOW)  # type: ignore[arg-type]
    assert isinstance(failed, PeerFailed)
    assert failed.error.code == "protocol_error"
    assert session.is_over


def test_frames_behind_the_welcome_are_in_its_codec() -> None:
    """VER-2.6: also when they come in the same piece of bytes."""
    command = Envelope.of(Command("c1", "stop"), seq=0, timestamp_us=1)
    data = welcome_frame(codec="msgpack") + encode_frame(command, "msgpack") + control(Ping())
    for size in (1, 3, 7, len(data)):
        session = EmitterSession(Hello([1], ["msgpack", "json"]))
        session.start(NOW)
        news = [item for at in range(0, len(data), size) for item in session.receive(data[at : at + size], NOW)]
        assert [type(item) for item in news] == [Welcomed, CommandReceived]
        session.open_stream(STREAM, NOW)
        session.receive(ack_frame(0), NOW)
        session.data_to_send()
        assert offer(session, 1) == [True]
        sent = session.data_to_send()
        assert sent[4] & 0xF0 == 0x80, "a MessagePack map"
        assert decode(sent[4:], codec="msgpack") == decode(event_payload(1))


def test_what_messagepack_cannot_hold_goes_as_json() -> None:
    session = EmitterSession(Hello([1], ["msgpack"]))
    session.start(NOW)
    session.receive(welcome_frame(codec="msgpack"), NOW)
    session.open_stream(STREAM, NOW)
    session.receive(ack_frame(0), NOW)
    session.data_to_send()
    payload = (
        b'{"t":"param","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"run-1","key":"k","value":123456789012345678901234}}'
    )
    assert session.offer(STREAM, 1, payload)
    assert decode(session.data_to_send()[4:], codec="msgpack") == decode(payload)


def test_members_that_nobody_knows_survive_in_messagepack() -> None:
    session = EmitterSession(Hello([1], ["msgpack"]))
    session.start(NOW)
    session.receive(welcome_frame(codec="msgpack"), NOW)
    session.open_stream(STREAM, NOW)
    session.receive(ack_frame(0), NOW)
    session.data_to_send()
    payload = event_payload(1)[:-1] + b',"later":[1.0,{"\\u00e4":null}]}'
    assert session.offer(STREAM, 1, payload)
    sent = session.data_to_send()[4:]
    assert msgspec.msgpack.decode(sent) == msgspec.json.decode(payload)


# ---------------------------------------------------------------------------------------------- order and window


def test_events_go_upwards_from_the_cursor() -> None:
    session = opened(cursor=5)
    assert session.position(STREAM) == 5
    for wrong in (1, 5, 7, 0, -1):
        with pytest.raises(LocalSessionError, match="6 comes next"):
            session.offer(STREAM, wrong, event_payload(6))
    assert offer(session, 6, 7) == [True, True]
    assert session.skip(STREAM, 8, 10, "disk full")
    assert offer(session, 11) == [True]
    sent = session.data_to_send()
    assert seqs(sent) == [6, 7, 11]
    assert said(sent)[2] == Skip("run-1", STREAM.session_id, 8, 10, "disk full")
    assert session.receive(ack_frame(11), NOW) == [Acked(STREAM, 11)]
    assert session.unacked_events == 0


def offer_many(session: EmitterSession, first: int, last: int, payloads: dict[int, bytes] | None = None) -> int:
    """Offer events at once; those of ``payloads`` in place of the usual ones."""
    given = [(payloads or {}).get(seq, event_payload(seq)) for seq in range(first, last + 1)]
    return session.offer_many(STREAM, first, given)


@st.composite
def exchanges(draw: st.DrawFn) -> list[tuple[str, int]]:
    return draw(
        st.lists(
            st.tuples(st.sampled_from(["offer", "skip", "ack", "refuse", "rewind", "send"]), st.integers(1, 12)),
            max_size=30,
        )
    )


@given(
    exchanges(),
    st.none() | st.integers(1, 12),
    st.none() | st.integers(200, 4000),
    st.sampled_from([300, 2000, 2**20]),
    st.sampled_from(["json", "msgpack"]),
    st.sets(st.integers(1, 60)),
)
def test_many_at_once_are_as_one_at_a_time(
    steps: list[tuple[str, int]],
    events: int | None,
    size: int | None,
    output_max: int,
    codec: str,
    in_messagepack: set[int],
) -> None:
    """The same bytes, the same window, whatever is acked or refused in between, and in whichever codec it was kept."""

    def payload(seq: int) -> bytes:
        kept = event_payload(seq)
        return encode(decode(kept), "msgpack") if seq in in_messagepack else kept

    one, many = (EmitterSession(Hello([1], ["msgpack", "json"]), output_max=output_max) for _ in range(2))
    for session in (one, many):
        session.start(NOW)
        session.receive(welcome_frame(events, size, codec=codec), NOW)
        session.open_stream(STREAM, NOW)
        session.receive(ack_frame(0), NOW)
        session.data_to_send()
    acked = 0
    for what, number in steps:
        position = one.position(STREAM)
        match what:
            case "offer":
                batch = [payload(seq) for seq in range(position + 1, position + number + 1)]
                taken = 0
                while taken < number and one.offer(STREAM, position + 1 + taken, batch[taken]):
                    taken += 1
                begun = 0
                while begun < number:
                    begun += many.offer_many(STREAM, position + 1 + begun, batch[begun:])
                    if begun == number or not many.offer(STREAM, position + 1 + begun, batch[begun]):
                        break  # else it was refused before, and is skipped
                    begun += 1
                assert (begun, many.position(STREAM)) == (taken, one.position(STREAM))
            case "skip":
                assert one.skip(STREAM, position + 1, position + number) == many.skip(
                    STREAM, position + 1, position + number
                )
            case "ack" | "refuse" | "rewind":
                acked = max(0, acked - number) if what == "rewind" else min(acked + number, position)
                rejected = [(acked, "invalid")] if what == "refuse" and acked else []
                frame = ack_frame(acked, rejected=rejected)
                assert one.receive(frame, NOW) == many.receive(frame, NOW)
            case _:
                assert one.data_to_send() == many.data_to_send()
        assert one.unacked_events == many.unacked_events
        assert one.output_size == many.output_size
    assert one.data_to_send() == many.data_to_send()


def test_many_at_once_end_before_what_is_for_the_caller_to_decide() -> None:
    session = opened(max_frame=65_536)
    large = event_payload(3) + b" " * 65_536
    assert offer_many(session, 1, 5, {3: large}) == 2
    assert offer_many(session, 3, 5, {3: large}) == 0
    assert session.skip(STREAM, 3, 3, "too large")
    assert offer_many(session, 4, 5) == 2
    session.receive(ack_frame(2, rejected=[(5, "invalid")]), NOW)
    session.receive(ack_frame(0), NOW)  # a collector that begins anew
    assert offer_many(session, 1, 7, {3: event_payload(3)}) == 4
    assert offer_many(session, 5, 7) == 0, "refused before"
    assert seqs(session.data_to_send()) == [1, 2, 4, 5, 1, 2, 3, 4]


def test_many_at_once_keep_the_order_and_the_state() -> None:
    session = opened(cursor=5)
    for wrong in (1, 5, 7):
        with pytest.raises(LocalSessionError, match="6 comes next"):
            offer_many(session, wrong, wrong + 2)
    assert session.offer_many(STREAM, 6, []) == 0
    with pytest.raises(LocalSessionError, match="isn't opened"):
        session.offer_many(OTHER, 1, [event_payload(1)])
    with pytest.raises(LocalSessionError, match="a payload of 0 bytes"):
        offer_many(session, 6, 8, {7: b""})
    assert session.position(STREAM) == 6, "what came before it was taken"
    session.receive(ack_frame(6, status="error", error="the store is full"), NOW)
    assert offer_many(session, 7, 9) == 0


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_many_at_once_in_the_codec_of_the_connection(codec: str) -> None:
    """Whichever the spool keeps them in."""
    session = EmitterSession(Hello([1], ["msgpack", "json"]))
    session.start(NOW)
    session.receive(welcome_frame(codec=codec), NOW)
    session.open_stream(STREAM, NOW)
    session.receive(ack_frame(0), NOW)
    session.data_to_send()
    packed = encode(decode(event_payload(2)), "msgpack")
    assert offer_many(session, 1, 3, {2: packed}) == 3
    sent = FrameDecoder(codec=codec).feed(session.data_to_send())
    assert [frame.envelope for frame in sent] == [decode(event_payload(seq)) for seq in (1, 2, 3)]
    if codec == "json":
        assert all(frame.raw.startswith(b"{") for frame in sent)


def test_many_at_once_to_a_plain_peer() -> None:
    session = emitter_in(S.PLAIN)
    assert offer_many(session, 1, 3) == 3
    assert seqs(session.data_to_send()) == [1, 2, 3]


def test_an_ack_in_the_midst_of_many() -> None:
    session = opened(events=4)
    assert offer_many(session, 1, 3) == 3
    assert offer_many(session, 4, 6) == 1
    session.receive(ack_frame(2), NOW)
    assert session.unacked_events == 2
    assert offer_many(session, 5, 9) == 2
    session.receive(ack_frame(6), NOW)
    assert session.unacked_events == 0


@pytest.mark.parametrize(("first", "last"), [(2, 3), (0, 3), (1, 0)])
def test_a_skip_keeps_the_order_too(first: int, last: int) -> None:
    with pytest.raises(LocalSessionError):
        opened().skip(STREAM, first, last)


def test_an_unopened_stream() -> None:
    session = opened()
    for call in (
        lambda: session.offer(OTHER, 1, event_payload(1)),
        lambda: session.skip(OTHER, 1, 1),
        lambda: session.position(OTHER),
    ):
        with pytest.raises(LocalSessionError, match="isn't opened"):
            call()


def test_the_window_in_events() -> None:
    session = opened(events=3)
    assert offer(session, 1, 2, 3) == [True, True, True]
    assert offer(session, 4) == [False]
    assert session.skip(STREAM, 4, 4), "what is lost takes no room"
    assert session.receive(ack_frame(1), NOW) == [Acked(STREAM, 1), WindowOpened()]
    assert offer(session, 5, 6) == [True, False]
    assert session.receive(ack_frame(5), NOW)[-1] == WindowOpened()


def test_the_window_is_of_the_connection() -> None:
    session = opened(events=2)
    session.open_stream(OTHER, NOW)
    session.receive(ack_frame(0, OTHER), NOW)
    assert offer(session, 1) == [True]
    assert session.offer(OTHER, 1, event_payload(1, OTHER))
    assert offer(session, 2) == [False]
    session.end_stream(OTHER)
    assert offer(session, 2) == [True], "a stream that was ended takes no room"
    with pytest.raises(LocalSessionError, match="was ended"):
        session.open_stream(OTHER, NOW)


def test_the_window_in_bytes() -> None:
    size = len(event_payload(1))
    session = opened(size=2 * size)
    assert offer(session, 1, 2, 3) == [True, True, False]
    assert session.receive(ack_frame(2), NOW) == [Acked(STREAM, 2), WindowOpened()]
    assert offer(session, 3) == [True]


@pytest.mark.parametrize(("events", "size"), [(0, None), (None, 0), (0, 0), (-5, None), (None, -(2**63)), (1, 1)])
def test_one_event_may_always_be_on_its_way(events: int | None, size: int | None) -> None:
    session = opened(events=events, size=size)
    for seq in range(1, 5):
        assert offer(session, seq) == [True]
        assert offer(session, seq + 1) == [False]
        assert session.receive(ack_frame(seq), NOW) == [Acked(STREAM, seq), WindowOpened()]


def test_a_huge_window_is_bounded_by_what_waits_to_be_sent() -> None:
    session = EmitterSession(HELLO, output_max=10_000)
    session.start(NOW)
    session.receive(welcome_frame(2**63 - 1, 2**63 - 1, 2**63 - 1), NOW)
    assert session.max_payload == FRAME_MAX_EMIT
    session.open_stream(STREAM, NOW)
    session.receive(ack_frame(0), NOW)
    taken = 0
    while session.offer(STREAM, taken + 1, event_payload(taken + 1)):
        taken += 1
    assert taken > 10
    assert session.output_size <= 10_000
    session.data_to_send()
    assert session.offer(STREAM, taken + 1, event_payload(taken + 1))


@pytest.mark.parametrize("size", [0, 70_001, FRAME_MAX_EMIT])
def test_an_event_larger_than_the_peer_takes(size: int) -> None:
    session = opened(max_frame=70_000)
    assert session.max_payload == 70_000
    with pytest.raises(LocalSessionError, match=f"{size} bytes"):
        session.offer(STREAM, 1, b"x" * size)
    assert session.skip(STREAM, 1, 1, "larger than the peer takes")


# ---------------------------------------------------------------------------------------------- acks


def test_acks_without_a_stream_are_for_the_only_one() -> None:
    session = opened()
    offer(session, 1)
    assert session.receive(ack_frame(1, None), NOW) == [Acked(STREAM, 1)]
    session.open_stream(OTHER, NOW)
    [failed] = session.receive(ack_frame(1, None), NOW)
    assert isinstance(failed, PeerFailed)
    assert "without sid" in failed.error.reason


@pytest.mark.parametrize("seq", [3, 4, 2**63 - 1, -1, -(2**63)])
def test_an_ack_of_what_was_never_sent(seq: int) -> None:
    """A spool would be trimmed for it."""
    session = opened()
    offer(session, 1, 2)
    [failed] = session.receive(ack_frame(seq), NOW)
    assert isinstance(failed, PeerFailed)
    error = failed.error
    assert (error.code, session.error) == ("protocol_error", error)
    for call in (
        lambda: session.receive(b"", NOW),
        lambda: session.offer(STREAM, 3, event_payload(3)),
        lambda: session.open_stream(OTHER, NOW),
        lambda: session.drain(NOW),
        lambda: session.position(STREAM),
    ):
        with pytest.raises(RemoteSessionError) as raised:
            call()
        assert raised.value is error
    assert session.handle_timer(NOW + 100) == []
    assert session.next_timer() is None
    session.close()
    assert session.state is S.POISONED


def test_a_refusal_of_what_was_never_sent() -> None:
    session = opened()
    offer(session, 1, 2)
    [failed] = session.receive(ack_frame(2, rejected=[(3, "forbidden")]), NOW)
    assert isinstance(failed, PeerFailed)


def test_a_negative_cursor() -> None:
    session = emitter_in(S.ACTIVE)
    session.open_stream(OTHER, NOW)
    assert isinstance(session.receive(ack_frame(-1, OTHER), NOW)[0], PeerFailed)


def test_refused_events_are_told_and_not_sent_again() -> None:
    session = opened()
    offer(session, 1, 2, 3)
    assert session.receive(ack_frame(3, rejected=[(2, "seq_conflict")]), NOW) == [
        Acked(STREAM, 3, ((2, "seq_conflict"),))
    ]
    assert session.receive(ack_frame(0), NOW) == [Rewound(STREAM, 0)]
    session.data_to_send()
    assert offer(session, 1, 2, 3) == [True, True, True]
    sent = session.data_to_send()
    assert seqs(sent) == [1, 3]
    assert Skip("run-1", STREAM.session_id, 2, 2, "refused before") in said(sent)


def test_a_cursor_that_goes_backwards() -> None:
    session = opened(cursor=10, events=3)
    offer(session, 11, 12, 13)
    assert offer(session, 14) == [False]
    assert session.receive(ack_frame(7), NOW) == [Rewound(STREAM, 7), WindowOpened()]
    assert session.position(STREAM) == 7
    assert offer(session, 8, 9) == [True, True]
    assert session.receive(ack_frame(13), NOW) == [Acked(STREAM, 13)], "what was on its way has come all the same"
    assert session.position(STREAM) == 13
    assert session.unacked_events == 0
    assert offer(session, 14) == [True]


def test_a_hold_and_its_end() -> None:
    session = opened()
    offer(session, 1, 2, 3)
    assert session.receive(ack_frame(1, status="error", error="the store is full"), NOW) == [
        Acked(STREAM, 1),
        StreamHeld(STREAM, 1, "the store is full"),
    ]
    assert session.unacked_events == 0
    assert offer(session, 2) == [False]
    assert session.skip(STREAM, 2, 2) is False
    assert session.receive(ack_frame(1, status="error", error="still full"), NOW) == [
        StreamHeld(STREAM, 1, "still full")
    ]
    assert session.receive(ack_frame(1), NOW) == [StreamOpened(STREAM, 1)]
    assert offer(session, 2) == [True]


def test_a_stream_held_from_the_beginning() -> None:
    session = emitter_in(S.ACTIVE)
    session.open_stream(OTHER, NOW)
    assert session.receive(ack_frame(0, OTHER, "error", "busy"), NOW) == [StreamHeld(OTHER, 0, "busy")]
    assert session.receive(ack_frame(40, OTHER), NOW) == [StreamOpened(OTHER, 40)]
    assert session.position(OTHER) == 40


def test_a_refusal_may_say_why() -> None:
    """spec: CTL-3.11."""
    session = emitter_in(S.ACTIVE)
    why = "run 'r' is somebody else's: choose another id"
    assert session.receive(ack_frame(0, status="error", error=f"forbidden: {why}"), NOW) == [
        StreamRefused(STREAM, "forbidden", why)
    ]
    session = emitter_in(S.ACTIVE)
    held = "forbidden fruit: for now"
    assert session.receive(ack_frame(0, status="error", error=held), NOW) == [StreamHeld(STREAM, 0, held)]


@pytest.mark.parametrize("code", ["fenced", "forbidden"])
def test_a_refused_stream(code: str) -> None:
    session = emitter_in(S.ACTIVE)
    session.open_stream(OTHER, NOW)
    assert session.receive(ack_frame(0, OTHER, "error", code), NOW) == [StreamRefused(OTHER, code)]
    assert session.offer(OTHER, 1, event_payload(1, OTHER)) is False
    assert session.receive(ack_frame(5, OTHER), NOW) == []
    assert session.open_stream(OTHER, NOW) == []
    assert offer(session, 1) == [True], "the others go on"


def test_fenced_as_a_whole() -> None:
    session = opened()
    assert session.receive(control(Reject("fenced", "newer")), NOW) == [
        StreamRefused(STREAM, "fenced"),
        Rejected("fenced", "newer"),
    ]
    assert session.is_over


@pytest.mark.parametrize("seq", [0, 1, 5, 2**63 - 1])
def test_acks_of_streams_that_are_not_open_mean_nothing(seq: int) -> None:
    session = opened()
    assert session.receive(ack_frame(seq, OTHER), NOW) == []
    assert session.frames_ignored == 1


def test_rejected() -> None:
    session = emitter_in(S.HELLO_SENT)
    assert session.receive(control(Reject("busy", "later", 12)), NOW) == [Rejected("busy", "later", 12.0)]
    assert session.state is S.CLOSED
    assert session.receive(welcome_frame(), NOW) == []


def test_drain() -> None:
    session = opened()
    session.open_stream(OTHER, NOW)
    offer(session, 1, 2)
    session.skip(STREAM, 3, 3)
    assert session.drain(NOW) == []
    with pytest.raises(LocalSessionError):
        offer(session, 4)
    assert session.receive(ack_frame(2), NOW) == [Acked(STREAM, 2)]
    assert session.receive(control(Command("c", "stop")) + control(Ping()), NOW) == [
        CommandReceived(Command("c", "stop"))
    ]
    assert session.send_command_result(CommandResult("run-1", "c", "ok"), NOW)
    assert session.receive(ack_frame(3), NOW) == [Acked(STREAM, 3), Drained()]
    assert session.is_over


def test_drain_with_nothing_under_way() -> None:
    assert opened().drain(NOW) == [Drained()]
    session = emitter_in(S.PLAIN)
    assert session.drain(NOW) == [Drained()]
    assert session.is_over


# ---------------------------------------------------------------------------------------------- the rest of the talk


def test_ping_pong_idle() -> None:
    session = opened()
    assert session.next_timer() == NOW + 20
    assert session.handle_timer(NOW + 20) == []
    assert said(session.data_to_send()) == [Ping()]
    session.receive(control(Pong()), NOW + 21)
    assert session.next_timer() == NOW + 41
    session.handle_timer(NOW + 41)
    session.handle_timer(NOW + 61)
    assert said(session.data_to_send()) == [Ping(), Ping()]
    assert session.next_timer() == NOW + 81, "sixty seconds after the last bytes"
    assert session.handle_timer(NOW + 80.9) == []
    [gone] = session.handle_timer(NOW + 81)
    assert isinstance(gone, PeerGone)
    assert gone.idle


def test_many_pings_one_pong() -> None:
    session = opened()
    session.receive(control(Ping()) * 1000, NOW)
    assert said(session.data_to_send()) == [Pong()]
    session.receive(control(Ping()), NOW)
    assert said(session.data_to_send()) == [Pong()]


def test_a_stream_that_is_shipped_for_another() -> None:
    session = emitter_in(S.HELLO_SENT)
    session.open_stream(OTHER, NOW, passive=True)
    session.receive(welcome_frame(), NOW)
    assert said(session.data_to_send()) == [
        OpenStream(STREAM.run_id, STREAM.session_id),
        OpenStream(OTHER.run_id, OTHER.session_id, OTHER.worker_id, True),
    ]


def test_a_subscription() -> None:
    session = opened()
    assert session.subscribe("run-9", 5, NOW)
    assert session.unsubscribe("run-9", NOW)
    assert said(session.data_to_send()) == [Subscribe("run-9", 5), Unsubscribe("run-9")]
    [published] = session.receive(event_frame(3), NOW)
    assert isinstance(published, EventPublished)
    assert published.frame.raw == event_payload(3)


def test_a_subscription_that_says_where_it_is() -> None:
    session = opened()
    assert session.subscribe("run-9", None, NOW, until_end=True)
    assert said(session.data_to_send()) == [Subscribe("run-9", None, True)]
    answers = control(Subscribe("run-9", 7)) + control(Unsubscribe("run-9", "ended", "completed"))
    assert session.receive(answers, NOW) == [
        SubscriptionStarted("run-9", 7),
        SubscriptionEnded("run-9", "ended", "completed"),
    ]
    bare = control(Subscribe("run-9")) + control(Unsubscribe(RunId("run-9")))
    assert session.receive(bare, NOW) == [SubscriptionStarted("run-9", 0), SubscriptionEnded("run-9", "")]


def test_a_command_through_the_collector() -> None:
    session = EmitterSession(Hello([1], features=["commands", "follow"]))
    session.start(NOW)
    assert session.features == ()
    session.receive(welcome_frame(features=["commands", "more"]), NOW)
    assert session.features == ("commands",)
    session.data_to_send()
    command = Command("c1", "stop", {}, "run-9")
    assert session.send_command(command, NOW)
    assert said(session.data_to_send()) == [command]
    answer = CommandResult("run-9", "c1", "ok", "stopping", "w1", 0)
    assert session.receive(control(answer), NOW) == [CommandResultReceived(answer)]
    with pytest.raises(LocalSessionError, match="run_id"):
        session.send_command(Command("c2", "stop"), NOW)


def test_no_command_to_a_collector_that_passes_none_on() -> None:
    assert opened().send_command(Command("c1", "stop", {}, "run-9"), NOW) is False
    assert emitter_in(S.PLAIN).send_command(Command("c1", "stop", {}, "run-9"), NOW) is False
    with pytest.raises(LocalSessionError):
        emitter_in(S.HELLO_SENT).send_command(Command("c1", "stop", {}, "run-9"), NOW)


def test_a_plain_peer_gets_no_control_events() -> None:
    session = emitter_in(S.PLAIN)
    assert session.send_command_result(CommandResult("run-1", "c", "ok"), NOW) is False
    assert session.subscribe("run-9", 5, NOW) is False
    assert session.skip(STREAM, 1, 3)
    assert session.receive(control(Ping()) + ack_frame(7), NOW) == []
    assert session.data_to_send() == b""
    assert session.position(STREAM) == 3


def test_a_bad_frame_costs_itself() -> None:
    session = opened()
    bad = frame_payload(b"{")
    news = session.receive(bad + control(Command("c", "stop")), NOW)
    assert [type(item) for item in news] == [FrameRefused, CommandReceived]


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request", b"\0\0\0\0", b"\x16\x03\x01", b"\0\x10\0\1", b"SSH-2.0-"]
)
@pytest.mark.parametrize("state", [S.HELLO_SENT, S.ACTIVE, S.PLAIN, S.DRAINING])
def test_a_peer_that_speaks_something_else(state: S, data: bytes) -> None:
    session = emitter_in(state)
    news = session.receive(control(Command("c", "stop")) + data, NOW)
    assert [type(item) for item in news] == [CommandReceived, PeerFailed], "what came before stands (FRM-5.3)"


def test_a_connection_that_ends_inside_a_frame() -> None:
    session = opened()
    session.receive(event_frame(1)[:-5], NOW)
    refused, gone = session.receive_eof(NOW)
    assert isinstance(refused, FrameRefused)
    assert (refused.error.kind, type(gone)) == ("truncated", PeerGone)


@given(st.lists(st.sampled_from(sorted(PEER_BYTES, key=lambda what: what.value)), max_size=12), st.data())
def test_any_frames_in_any_pieces(inputs: list, data: st.DataObject) -> None:
    """The same news however the bytes are divided; nothing else than what is documented is raised."""
    stream = b"".join(PEER_BYTES[what] for what in inputs)
    state = data.draw(st.sampled_from([S.HELLO_SENT, S.ACTIVE, S.PLAIN, S.DRAINING]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    whole, pieces = emitter_in(state), emitter_in(state)
    expected = whole.receive(stream, NOW)
    news = []
    for start, end in itertools.pairwise([0, *cuts, len(stream)]):
        if pieces.is_over:
            break
        news += pieces.receive(stream[start:end], NOW)
    assert [repr(item) for item in news] == [repr(item) for item in expected]
    assert pieces.state is whole.state
    assert pieces.data_to_send() == whole.data_to_send()
