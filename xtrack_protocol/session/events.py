"""What sessions tell their drivers: one class a thing that can happen, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from xtrack_protocol.errors import DecodeError, RemoteSessionError
from xtrack_protocol.ir import Command, CommandResult, Durability, Envelope
from xtrack_protocol.session.streams import StreamId
from xtrack_protocol.wire import Agreement, Frame

# ---------------------------------------------------------------------------------------------- both ends


@attrs.frozen
class FrameRefused:
    """A frame was no event; it cost itself alone. spec: ERR-4

    ``stream`` and ``seq``: which event it was to be, where that is known; a collector then records it as refused and
    names it in an ack with the class of ``error`` (spec: CTL-3.9).
    """

    error: DecodeError
    raw: bytes
    stream: StreamId | None = None
    seq: int | None = None


@attrs.frozen
class PeerGone:
    """The connection is over without anybody's fault: close it. ``reason``, for people.

    ``idle``: we gave it up because nothing came.
    """

    reason: str
    idle: bool = False


@attrs.frozen
class PeerFailed:
    """The peer broke a rule that can't be overlooked; the session is poisoned. Send what is left, and close."""

    error: RemoteSessionError


@attrs.frozen
class CommandResultReceived:
    """What came of a command: from its worker, or from the collector that passed the command on. spec: CTL-4, CTL-15"""

    result: CommandResult


# ---------------------------------------------------------------------------------------------- an emitter's


@attrs.frozen(kw_only=True)
class Welcomed:
    """A session. ``window_events`` and ``window_bytes`` None: no bound. spec: CTL-6

    ``late``: it came after the fallback; what was sent before counts as not sent (spec: VER-3.6).
    """

    agreement: Agreement
    durability: Durability
    max_frame: int
    window_events: int | None
    window_bytes: int | None
    late: bool = False


@attrs.frozen
class FellBack:
    """No answer: the peer is one of plain version 1. Nothing will be acked. spec: VER-3"""


@attrs.frozen
class Rejected:
    """The server won't have this connection; it is closed. ``code`` is an open set. spec: CTL-7

    ``retry_after``: seconds before which no new connection may be tried; None: the usual back-off.
    """

    code: str
    message: str = ""
    retry_after: float | None = None


@attrs.frozen
class StreamOpened:
    """Events of ``stream`` are taken from seq ``cursor`` + 1 on, whatever was sent before. spec: CTL-8

    On a plain connection the cursor is what the driver itself gave.
    """

    stream: StreamId
    cursor: int


@attrs.frozen
class StreamHeld:
    """The collector takes no more of ``stream`` for now; a StreamOpened will say that it does again. spec: CTL-3.6

    ``cursor``: as in Acked.
    """

    stream: StreamId
    cursor: int
    reason: str


@attrs.frozen
class StreamRefused:
    """No more of ``stream`` on this connection; where ``code`` is ``fenced``, on no other either. spec: CTL-13

    ``message``: why, for people, where the collector said so.
    """

    stream: StreamId
    code: str
    message: str = ""


@attrs.frozen
class Acked:
    """Everything up to ``seq`` is committed, skipped or refused. ``rejected``: refused seqs, each with a code.

    spec: CTL-3
    """

    stream: StreamId
    seq: int
    rejected: tuple[tuple[int, str], ...] = ()


@attrs.frozen
class Rewound:
    """The collector has less than before (it was restored from a backup): seqs from ``cursor`` + 1 on are sent again.

    spec: CTL-3.7
    """

    stream: StreamId
    cursor: int


@attrs.frozen
class WindowOpened:
    """An ``offer`` that was told to wait would be taken now."""


@attrs.frozen
class CommandReceived:
    """A command; whom it is meant for stands in it. spec: CTL-2"""

    command: Command


@attrs.frozen
class EventPublished:
    """An event of a run that was subscribed to. spec: CTL-11"""

    frame: Frame


@attrs.frozen
class SubscriptionStarted:
    """The events of ``run_id`` follow, the one numbered ``cursor`` + 1 first. spec: CTL-11.5"""

    run_id: str
    cursor: int


@attrs.frozen
class SubscriptionEnded:
    """No more events of ``run_id`` follow. ``code``: ended, deleted, forbidden; an open set. spec: CTL-11.6"""

    run_id: str
    code: str
    message: str = ""


@attrs.frozen
class Drained:
    """After ``drain``: everything sent is acked, and the session is closed."""


EmitterEvent: TypeAlias = (
    Welcomed
    | FellBack
    | Rejected
    | StreamOpened
    | StreamHeld
    | StreamRefused
    | Acked
    | Rewound
    | WindowOpened
    | CommandReceived
    | CommandResultReceived
    | EventPublished
    | SubscriptionStarted
    | SubscriptionEnded
    | Drained
    | FrameRefused
    | PeerGone
    | PeerFailed
)
"""What an EmitterSession tells."""


# ---------------------------------------------------------------------------------------------- a collector's


@attrs.frozen
class Refusal:
    """What an ``authenticate`` returns for a peer that it won't have. ``retry_after`` in seconds. spec: CTL-7"""

    code: str = "unauthorized"
    message: str = ""
    retry_after: float | None = None


@attrs.frozen
class HelloReceived:
    """A session has begun. ``owner``: what ``authenticate`` returned. The key isn't kept. spec: CTL-5"""

    agreement: Agreement
    agent: str
    owner: object


@attrs.frozen
class PlainPeer:
    """The peer is one of plain version 1, and served as such. spec: VER-3.4"""

    owner: object


@attrs.frozen
class PeerRefused:
    """A peer was turned away, and the connection is closed: for the log and the counters. It holds no secret."""

    code: str
    message: str


@attrs.frozen
class StreamOpenRequested:
    """Answer with ``accept_stream``, ``hold_stream`` or ``refuse_stream``. spec: CTL-8

    ``passive``: it takes no commands, and its worker isn't there. spec: CTL-8.6
    """

    stream: StreamId
    passive: bool = False


@attrs.frozen
class EventsReceived:
    """Events of one stream, in the order they came. ``size``: bytes to give back with ``release`` once committed.

    ``last``: the highest seq among them. ``milestones``: those of them that begin or end the run.
    """

    stream: StreamId
    frames: Sequence[Frame]
    size: int
    last: int
    milestones: tuple[Envelope, ...] = ()


@attrs.frozen
class SkipDeclared:
    """The seqs ``first`` to ``last`` of ``stream`` will never come. spec: CTL-9, STR-7

    ``size`` as in EventsReceived.
    """

    stream: StreamId
    first: int
    last: int
    reason: str
    frame: Frame
    size: int


@attrs.frozen
class SubscribeRequested:
    """Send the run's events with ``send_event``; ``cursor`` None: from now on only. spec: CTL-11

    First say where with ``begin_subscription``; with ``until_end``, ``end_subscription`` when the run has ended. A
    subscription to the same run is replaced (spec: CTL-11.7).
    """

    run_id: str
    cursor: int | None
    until_end: bool = False


@attrs.frozen
class UnsubscribeRequested:
    """No more of that run. spec: CTL-11.3"""

    run_id: str


@attrs.frozen
class CommandRequested:
    """Pass a command on to workers, or answer it with ``send_command_result``. spec: CTL-15"""

    command: Command


CollectorEvent: TypeAlias = (
    HelloReceived
    | PlainPeer
    | PeerRefused
    | StreamOpenRequested
    | EventsReceived
    | SkipDeclared
    | SubscribeRequested
    | UnsubscribeRequested
    | CommandRequested
    | CommandResultReceived
    | FrameRefused
    | PeerGone
    | PeerFailed
)
"""What a CollectorSession tells."""

__all__ = [
    "Acked",
    "CollectorEvent",
    "CommandReceived",
    "CommandRequested",
    "CommandResultReceived",
    "Drained",
    "EmitterEvent",
    "EventPublished",
    "EventsReceived",
    "FellBack",
    "FrameRefused",
    "HelloReceived",
    "PeerFailed",
    "PeerGone",
    "PeerRefused",
    "PlainPeer",
    "Refusal",
    "Rejected",
    "Rewound",
    "SkipDeclared",
    "StreamHeld",
    "StreamOpenRequested",
    "StreamOpened",
    "StreamRefused",
    "SubscribeRequested",
    "SubscriptionEnded",
    "SubscriptionStarted",
    "UnsubscribeRequested",
    "Welcomed",
    "WindowOpened",
]
