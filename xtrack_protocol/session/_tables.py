"""The states of connections and streams, and what moves them, as data. It doesn't know which role reads it.

A table maps a state, and an input that does something there, to the state that follows; the same state stands there
where the input is acted on and changes none. An input that isn't listed is refused, by where it comes from (``LOCAL``,
``PEER``, ``TIME``), in the same way everywhere:

- a call of this side raises LocalSessionError and changes nothing;
- a frame of the peer is ignored (spec: CTL-1.4);
- a timer doesn't run.

POISONED is the end of a connection whose peer broke a rule that can't be overlooked: what this side calls and what the
peer sends both raise the error that poisoned it, except for CLOSE and GONE, which are always allowed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias, TypeVar

FEATURE_COMMANDS: Final = "commands"
"""Of a server: it passes commands on. Of a client: it takes them, for the streams it has open. spec: CTL-15"""
FEATURE_FOLLOW: Final = "follow"
"""A subscription says where it begins, and that it has ended. spec: CTL-11.5"""


class _Member(enum.Enum):
    """A member is itself and nothing else, which needs no hash of its name: every frame looks up several."""

    __hash__ = object.__hash__


class ConnectionState(_Member):
    """Where a connection stands, seen from one of its ends."""

    IDLE = "idle"
    """Nothing has been sent or taken."""
    HELLO_SENT = "hello_sent"
    """A client waits for the answer, and sends nothing until it has it. spec: CTL-5.1"""
    HELLO_WAIT = "hello_wait"
    """A server waits for the first frame, which decides what the connection is. spec: VER-3.4"""
    ACTIVE = "active"
    """A session: both know what they speak. spec: CTL-6"""
    PLAIN = "plain"
    """The peer is one of plain version 1. spec: VER-3"""
    DRAINING = "draining"
    """Nothing new is begun; what is under way is committed and acked."""
    CLOSED = "closed"
    """Over, as connections end."""
    POISONED = "poisoned"
    """Over, because the peer broke a rule. spec: FRM-5"""


class StreamState(_Member):
    """Where a stream stands within one connection."""

    UNOPENED = "unopened"
    OPENING = "opening"
    """``open`` is on its way, or waits for its answer. spec: CTL-8"""
    OPEN = "open"
    HELD = "held"
    """The collector takes no events for now. spec: CTL-3.6"""
    FENCED = "fenced"
    """A newer connection has it, or the collector refuses it: no more of it on this connection. spec: CTL-13"""
    ENDED = "ended"
    """This connection has nothing more to do with it."""


class Input(_Member):
    """What moves a connection."""

    # calls of this side
    START = "start"
    OPEN_STREAM = "open stream"
    SEND = "send event"
    ANSWER = "answer"
    """Of a server: accept, hold or refuse a stream, ack events, serve a subscriber, tell what came of a command."""
    REQUEST = "request"
    """Of a client: subscribe, unsubscribe, a command or the result of one. Of a server: a command."""
    SEND_REJECT = "reject"
    DRAIN = "drain"
    CLOSE = "close"
    # frames of the peer
    HELLO = "hello"
    """A hello with which the server agrees."""
    HELLO_REFUSED = "hello refused"
    """A hello, or a first frame that is none, which the server won't have. spec: VER-2.1, VER-4.1"""
    NOT_HELLO = "first frame is no hello"
    WELCOME = "welcome"
    REJECT = "reject received"
    OPEN = "open"
    EVENT = "event"
    SKIP = "skip"
    ACK = "ack"
    COMMAND = "command"
    COMMAND_RESULT = "command_result"
    PING = "ping"
    PONG = "pong"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    UNKNOWN = "unknown control event"
    BAD_FRAME = "bad frame"
    """A frame with an error that costs it alone. spec: FRM-5.4"""
    FATAL_FRAME = "bad framing"
    """An error after which nobody knows where the next frame begins. spec: FRM-5"""
    FAULT = "fault"
    """A frame that breaks a rule which can't be overlooked."""
    GONE = "peer gone"
    """The peer has closed, or the connection is broken."""
    # what time brings
    NO_ANSWER = "no answer"
    """To a hello, by a client that may fall back. spec: VER-3"""
    NO_SESSION = "no answer, no fallback"
    """To a hello, by a client that may not. spec: VER-4"""
    SILENCE = "silence"
    """Long enough for a ping. spec: CTL-10.1"""
    IDLE = "idle"
    """Too long. spec: CTL-10.2"""
    LATE = "late frame"
    """The first frame, or one that was begun, isn't there in time. spec: CTL-14"""
    DRAINED = "drained"
    """Everything sent is acked."""


class StreamInput(_Member):
    """What moves a stream within a connection."""

    OPEN = "open"
    """The client's ``open``."""
    ACCEPT = "accept"
    """The answer with the stream's cursor; also the end of a hold."""
    ADOPT = "adopt"
    """A stream of a plain connection, which is never opened."""
    EVENT = "event"
    SKIP = "skip"
    ACK = "ack"
    HOLD = "hold"
    """An ack with status error: nothing more for now. spec: CTL-3.6"""
    REFUSE = "refuse"
    """An ack with status error and a final code, or ``reject`` with ``fenced``. spec: CTL-3.11, CTL-13"""
    END = "end"


LOCAL: Final = frozenset(
    {
        Input.START,
        Input.OPEN_STREAM,
        Input.SEND,
        Input.ANSWER,
        Input.REQUEST,
        Input.SEND_REJECT,
        Input.DRAIN,
        Input.CLOSE,
    }
)
"""Calls of this side."""
TIME: Final = frozenset({Input.NO_ANSWER, Input.NO_SESSION, Input.SILENCE, Input.IDLE, Input.LATE, Input.DRAINED})
"""What happens because time passes, or because nothing is left to wait for."""
PEER: Final = frozenset(Input) - LOCAL - TIME
"""What the peer does."""

_S = ConnectionState
_I = Input

ConnectionTable: TypeAlias = Mapping[ConnectionState, Mapping[Input, ConnectionState]]
StreamTable: TypeAlias = Mapping[StreamState, Mapping[StreamInput, StreamState]]

_BREAKS: Final = {_I.FATAL_FRAME: _S.POISONED, _I.FAULT: _S.POISONED, _I.GONE: _S.CLOSED, _I.CLOSE: _S.CLOSED}
"""How any connection under way can end."""
_OVER: Final[ConnectionTable] = {
    _S.CLOSED: {_I.GONE: _S.CLOSED, _I.CLOSE: _S.CLOSED},
    _S.POISONED: {_I.GONE: _S.POISONED, _I.CLOSE: _S.POISONED},
}

CLIENT: Final[ConnectionTable] = {
    _S.IDLE: {_I.START: _S.HELLO_SENT, _I.CLOSE: _S.CLOSED},
    _S.HELLO_SENT: {
        _I.OPEN_STREAM: _S.HELLO_SENT,  # noted, and opened when it is clear how
        _I.SEND: _S.HELLO_SENT,  # told to wait
        _I.WELCOME: _S.ACTIVE,
        _I.REJECT: _S.CLOSED,
        _I.COMMAND: _S.HELLO_SENT,  # a plain collector may well have one before the client has fallen back
        _I.BAD_FRAME: _S.HELLO_SENT,
        _I.NO_ANSWER: _S.PLAIN,
        _I.NO_SESSION: _S.CLOSED,
        **_BREAKS,
    },
    _S.ACTIVE: {
        _I.OPEN_STREAM: _S.ACTIVE,
        _I.SEND: _S.ACTIVE,
        _I.REQUEST: _S.ACTIVE,
        _I.ACK: _S.ACTIVE,
        _I.COMMAND: _S.ACTIVE,
        _I.COMMAND_RESULT: _S.ACTIVE,  # of a command that this client sent
        _I.EVENT: _S.ACTIVE,  # of a subscription
        _I.SUBSCRIBE: _S.ACTIVE,  # it begins, or
        _I.UNSUBSCRIBE: _S.ACTIVE,  # it has ended
        _I.PING: _S.ACTIVE,
        _I.PONG: _S.ACTIVE,
        _I.BAD_FRAME: _S.ACTIVE,
        _I.REJECT: _S.CLOSED,
        _I.SILENCE: _S.ACTIVE,
        _I.IDLE: _S.CLOSED,
        _I.DRAIN: _S.DRAINING,
        **_BREAKS,
    },
    _S.PLAIN: {
        _I.OPEN_STREAM: _S.PLAIN,
        _I.SEND: _S.PLAIN,
        _I.REQUEST: _S.PLAIN,  # refused with False: a plain peer gets no control event (spec: VER-3.2)
        _I.COMMAND: _S.PLAIN,
        _I.BAD_FRAME: _S.PLAIN,
        _I.WELCOME: _S.ACTIVE,  # the answer came late (spec: VER-3.6)
        _I.REJECT: _S.CLOSED,
        _I.DRAIN: _S.CLOSED,  # there are no acks to wait for
        **_BREAKS,
    },
    _S.DRAINING: {
        _I.REQUEST: _S.DRAINING,
        _I.ACK: _S.DRAINING,
        _I.COMMAND: _S.DRAINING,
        _I.COMMAND_RESULT: _S.DRAINING,
        _I.EVENT: _S.DRAINING,
        _I.SUBSCRIBE: _S.DRAINING,
        _I.UNSUBSCRIBE: _S.DRAINING,
        _I.PING: _S.DRAINING,
        _I.PONG: _S.DRAINING,
        _I.BAD_FRAME: _S.DRAINING,
        _I.REJECT: _S.CLOSED,
        _I.SILENCE: _S.DRAINING,
        _I.IDLE: _S.CLOSED,
        _I.DRAIN: _S.DRAINING,
        _I.DRAINED: _S.CLOSED,
        **_BREAKS,
    },
    **_OVER,
}
"""A connection, seen by the emitter or whatever else connects."""

SERVER: Final[ConnectionTable] = {
    _S.IDLE: {_I.START: _S.HELLO_WAIT, _I.CLOSE: _S.CLOSED},
    _S.HELLO_WAIT: {
        _I.HELLO: _S.ACTIVE,
        _I.HELLO_REFUSED: _S.CLOSED,
        _I.NOT_HELLO: _S.PLAIN,  # and the frame is then taken as any other
        _I.SEND_REJECT: _S.CLOSED,
        _I.DRAIN: _S.CLOSED,  # with a reject: come again later
        _I.LATE: _S.CLOSED,
        **_BREAKS,
    },
    _S.ACTIVE: {
        _I.OPEN: _S.ACTIVE,
        _I.EVENT: _S.ACTIVE,
        _I.SKIP: _S.ACTIVE,
        _I.COMMAND: _S.ACTIVE,  # for a worker on another connection
        _I.COMMAND_RESULT: _S.ACTIVE,
        _I.PING: _S.ACTIVE,
        _I.PONG: _S.ACTIVE,
        _I.SUBSCRIBE: _S.ACTIVE,
        _I.UNSUBSCRIBE: _S.ACTIVE,
        _I.BAD_FRAME: _S.ACTIVE,
        _I.ANSWER: _S.ACTIVE,
        _I.REQUEST: _S.ACTIVE,
        _I.SEND_REJECT: _S.CLOSED,
        _I.SILENCE: _S.ACTIVE,
        _I.IDLE: _S.CLOSED,
        _I.LATE: _S.CLOSED,
        _I.DRAIN: _S.DRAINING,
        **_BREAKS,
    },
    _S.PLAIN: {
        _I.EVENT: _S.PLAIN,
        _I.SKIP: _S.PLAIN,  # nobody should send it, and it says what it means all the same
        _I.COMMAND_RESULT: _S.PLAIN,
        _I.BAD_FRAME: _S.PLAIN,
        _I.REQUEST: _S.PLAIN,
        _I.SEND_REJECT: _S.CLOSED,  # in silence (spec: VER-3.5)
        _I.LATE: _S.CLOSED,
        _I.DRAIN: _S.PLAIN,  # what a plain peer has sent it won't send again: it is read to the end
        **_BREAKS,
    },
    _S.DRAINING: {
        _I.COMMAND_RESULT: _S.DRAINING,
        _I.PING: _S.DRAINING,
        _I.PONG: _S.DRAINING,
        _I.BAD_FRAME: _S.DRAINING,
        _I.ANSWER: _S.DRAINING,
        _I.SEND_REJECT: _S.CLOSED,
        _I.SILENCE: _S.DRAINING,
        _I.IDLE: _S.CLOSED,
        _I.LATE: _S.CLOSED,
        _I.DRAIN: _S.DRAINING,
        **_BREAKS,
    },
    **_OVER,
}
"""A connection, seen by the collector."""

_T = StreamState
_J = StreamInput

CLIENT_STREAM: Final[StreamTable] = {
    _T.UNOPENED: {_J.OPEN: _T.OPENING, _J.ADOPT: _T.OPEN, _J.END: _T.ENDED},
    _T.OPENING: {_J.ACCEPT: _T.OPEN, _J.HOLD: _T.HELD, _J.REFUSE: _T.FENCED, _J.END: _T.ENDED},
    _T.OPEN: {
        _J.EVENT: _T.OPEN,
        _J.SKIP: _T.OPEN,
        _J.ACK: _T.OPEN,
        _J.HOLD: _T.HELD,
        _J.REFUSE: _T.FENCED,
        _J.OPEN: _T.OPENING,  # after a fallback, when the welcome came late (spec: VER-3.6)
        _J.END: _T.ENDED,
    },
    _T.HELD: {_J.ACCEPT: _T.OPEN, _J.HOLD: _T.HELD, _J.REFUSE: _T.FENCED, _J.END: _T.ENDED},
    _T.FENCED: {_J.END: _T.ENDED},
    _T.ENDED: {},
}
"""A stream within a connection, seen by the emitter."""

SERVER_STREAM: Final[StreamTable] = {
    _T.UNOPENED: {_J.OPEN: _T.OPENING},
    _T.OPENING: {_J.ACCEPT: _T.OPEN, _J.HOLD: _T.HELD, _J.REFUSE: _T.FENCED, _J.END: _T.ENDED},
    _T.OPEN: {
        _J.EVENT: _T.OPEN,
        _J.SKIP: _T.OPEN,
        _J.ACK: _T.OPEN,
        _J.OPEN: _T.OPENING,  # asked again, told again
        _J.HOLD: _T.HELD,
        _J.REFUSE: _T.FENCED,
        _J.END: _T.ENDED,
    },
    _T.HELD: {_J.ACCEPT: _T.OPEN, _J.OPEN: _T.OPENING, _J.HOLD: _T.HELD, _J.REFUSE: _T.FENCED, _J.END: _T.ENDED},
    _T.FENCED: {_J.END: _T.ENDED},
    _T.ENDED: {},
}
"""A stream within a connection, seen by the collector. Events that come when they aren't listed are ignored. The
streams of plain connections have no states, for nobody opens, acks or fences them."""

_StateT = TypeVar("_StateT", ConnectionState, StreamState)
_InputT = TypeVar("_InputT", Input, StreamInput)


def mermaid(table: Mapping[_StateT, Mapping[_InputT, _StateT]], initial: _StateT) -> str:
    """Return ``table`` as the text of a Mermaid state diagram; inputs that change no state stand at the state."""
    lines = ["stateDiagram-v2", f"    [*] --> {initial.value}"]
    lines += [
        f"    {state.value} --> {following.value}: {', '.join(labels)}"
        for state, following, labels in _edges(table)
        if following is not state
    ]
    lines += [
        f"    {state.value}: {state.value}<br>({', '.join(labels)})"
        for state, following, labels in _edges(table)
        if following is state
    ]
    lines += [f"    {state.value} --> [*]" for state, row in table.items() if all(to is state for to in row.values())]
    return "\n".join(lines) + "\n"


def _edges(
    table: Mapping[_StateT, Mapping[_InputT, _StateT]],
) -> Iterator[tuple[_StateT, _StateT, list[str]]]:
    """Yield each pair of states with what leads from the one to the other."""
    for state, row in table.items():
        grouped: dict[_StateT, list[str]] = {}
        for what, following in row.items():
            grouped.setdefault(following, []).append(what.value)
        for following, labels in grouped.items():
            yield state, following, labels
