"""The machines do what the tables say, and nothing else: each state with each input, on both sides."""

from __future__ import annotations

from typing import Any

import pytest
from session_machines import COLLECTOR_CALLS, EMITTER_CALLS, NOW, PEER_BYTES, S, collector_in, emitter_in, nobody

from xtrack_protocol.errors import LocalSessionError, RemoteSessionError
from xtrack_protocol.session import ConnectionState, FrameRefused, PeerFailed
from xtrack_protocol.session._tables import CLIENT, LOCAL, SERVER, Input

OVER = {S.CLOSED, S.POISONED}
SIDES: dict[str, tuple[Any, Any, Any]] = {
    "emitter": (emitter_in, CLIENT, EMITTER_CALLS),
    "collector": (collector_in, SERVER, COLLECTOR_CALLS),
}
QUIET_WHEN_OVER = {Input.ANSWER, Input.REQUEST, Input.SEND_REJECT, Input.DRAIN}
"""Calls of a collector that do nothing once the connection is over: commits outlive connections."""


def pairs(side: str, inputs: set[Input]) -> list[Any]:
    table = SIDES[side][1]
    return [
        pytest.param(side, state, what, id=f"{side}-{state.value}-{what.value}")
        for state in table
        for what in sorted(inputs, key=lambda item: item.value)
    ]


@pytest.mark.parametrize(
    ("side", "state", "what"), pairs("emitter", set(EMITTER_CALLS)) + pairs("collector", set(COLLECTOR_CALLS))
)
def test_calls(side: str, state: ConnectionState, what: Input) -> None:
    make, table, calls = SIDES[side]
    session = make(state)
    following = table[state].get(what)
    if following is not None:
        calls[what](session)
        assert session.state is following
    elif side == "collector" and state in OVER and what in QUIET_WHEN_OVER:
        assert calls[what](session) in {None, False}
        assert session.data_to_send() == b""
        assert session.state is state
    elif side == "collector" and what is Input.REQUEST:
        assert calls[what](session) is False, "there is no way to the peer"
        assert session.state is state
    else:
        with pytest.raises(RemoteSessionError if state is S.POISONED else LocalSessionError):
            calls[what](session)
        assert session.state is state
        assert session.data_to_send() == b""


@pytest.mark.parametrize(
    ("side", "state", "what"), pairs("emitter", set(PEER_BYTES)) + pairs("collector", set(PEER_BYTES))
)
def test_frames(side: str, state: ConnectionState, what: Input) -> None:
    make, table, _ = SIDES[side]
    session = make(state)
    data = PEER_BYTES[what]
    if state is S.IDLE:
        with pytest.raises(LocalSessionError):
            session.receive(data, NOW)
        return
    if state is S.POISONED:
        error = session.error
        for _ in range(3):
            with pytest.raises(RemoteSessionError) as raised:
                session.receive(data, NOW)
            assert raised.value is error
        return
    if state is S.CLOSED:
        assert session.receive(data, NOW) == []
        assert session.data_to_send() == b""
        return
    ignored = session.frames_ignored
    news = session.receive(data, NOW)
    following = table[state].get(what)
    if state is S.HELLO_WAIT and what not in {Input.HELLO, Input.FATAL_FRAME}:
        following = table[table[state][Input.NOT_HELLO]].get(what, S.PLAIN)  # the first frame decides, then it is taken
        assert session.state is following
    elif following is None:
        assert session.state is state
        assert news == []
        assert session.frames_ignored == ignored + 1
        assert session.data_to_send() == b""
    else:
        assert session.state is following
    assert (session.state is S.POISONED) == any(isinstance(item, PeerFailed) for item in news)
    assert session.frames_refused == sum(isinstance(item, FrameRefused | PeerFailed) for item in news)


@pytest.mark.parametrize("side", SIDES)
def test_the_peer_goes(side: str) -> None:
    make, table, _ = SIDES[side]
    for state in table:
        session = make(state)
        if state is S.IDLE:
            continue
        news = session.receive_eof(NOW)
        assert session.state is table[state][Input.GONE]
        assert len(news) == (state not in OVER)
        assert session.next_timer() is None
        assert session.receive_eof(NOW) == []


INSTANTS: dict[tuple[str, ConnectionState], list[tuple[float, Input]]] = {
    ("emitter", S.HELLO_SENT): [(2, Input.NO_ANSWER)],
    ("emitter", S.ACTIVE): [(20, Input.SILENCE), (40, Input.SILENCE), (60, Input.IDLE)],
    ("emitter", S.DRAINING): [(20, Input.SILENCE), (40, Input.SILENCE), (60, Input.IDLE)],
    ("collector", S.HELLO_WAIT): [(5, Input.LATE)],
    ("collector", S.ACTIVE): [(20, Input.SILENCE), (40, Input.SILENCE), (60, Input.IDLE)],
    ("collector", S.DRAINING): [(20, Input.SILENCE), (40, Input.SILENCE), (60, Input.IDLE)],
}
"""When something is due without anything coming in, in seconds, and what it is."""


@pytest.mark.parametrize("side", SIDES)
def test_time(side: str) -> None:
    make, table, _ = SIDES[side]
    for state in table:
        session = make(state)
        for after, what in INSTANTS.get((side, state), []):
            assert session.next_timer() == NOW + after
            assert session.handle_timer(NOW + after - 0.001) == []
            assert session.state is state
            session.handle_timer(NOW + after)
            assert session.state is table[state][what]
        assert session.handle_timer(NOW + 1e6) == [] or state is S.HELLO_SENT


@pytest.mark.parametrize("side", SIDES)
def test_a_timer_is_set_exactly_where_one_runs(side: str) -> None:
    make, table, _ = SIDES[side]
    for state in table:
        runs = state in {S.HELLO_SENT, S.HELLO_WAIT, S.ACTIVE, S.DRAINING}
        due = make(state).next_timer()
        assert (due is not None) == runs
        assert due is None or due > NOW


def test_no_fallback_where_it_is_not_allowed() -> None:
    session = emitter_in(S.HELLO_SENT, require_session=True)
    session.handle_timer(NOW + 2)
    assert session.state is CLIENT[S.HELLO_SENT][Input.NO_SESSION] is S.CLOSED


def test_a_refused_hello() -> None:
    session = collector_in(S.HELLO_WAIT, authenticate=nobody)
    session.receive(PEER_BYTES[Input.HELLO], NOW)
    assert session.state is SERVER[S.HELLO_WAIT][Input.HELLO_REFUSED] is S.CLOSED


def test_every_input_is_tried() -> None:
    elsewhere = {Input.GONE, Input.NO_ANSWER, Input.NO_SESSION, Input.SILENCE, Input.IDLE, Input.LATE, Input.DRAINED}
    elsewhere |= {Input.HELLO_REFUSED, Input.NOT_HELLO, Input.FAULT}
    assert set(EMITTER_CALLS) | set(COLLECTOR_CALLS) == LOCAL
    assert set(PEER_BYTES) | LOCAL | elsewhere == set(Input)
