"""What a transport is: where an emitter's events go, and where its commands come from."""

from __future__ import annotations

import abc
from _thread import RLock  # the class, which threading has a function of
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, TypeAlias

import msgspec

from xtrack_protocol._value import Value
from xtrack_protocol.errors import TransportError
from xtrack_protocol.session.streams import StreamId

Promise: TypeAlias = Literal["none", "accepted", "durable", "acked"]
"""What has been promised of an event, from weakest to strongest, and never one reported as another.

``accepted``: it survives kill -9 of this process. ``durable``: it survives a power loss. ``acked``: a collector has
committed it. spec: DLV-1, DLV-2, DLV-3, DLV-4
"""


def _quietly(kind: str, text: str) -> None:
    """Tell nobody."""


class StreamInfo(Value, frozen=True, kw_only=True):
    """The stream that a transport is opened for, and where it goes on.

    ``warn``: takes a kind and a text, for what goes wrong where no call is there to raise from (a background thread).
    It may be called from any thread, writes a line a minute of each kind, and never raises. ``lock``: the re-entrant
    lock that is held during each call of ``send``, where there is one.
    """

    stream: StreamId
    first_seq: int = 1
    warn: Callable[[str, str], None] = _quietly
    lock: RLock | None = None


class Delivery(Value, frozen=True, kw_only=True):
    """How far a collector elsewhere has got with a stream.

    ``address``: the collector. ``acked``: events that it has committed, declared losses included. ``unconfirmed``:
    events sent to a plain peer, which acks nothing (spec: VER-3.3). ``waiting``: events that are in the spool only, or
    on their way. ``rejected``: events that it refused for good, by code. ``connections``: how often a session or a
    plain connection came about. ``problem``: why there is none now, for people; empty where all is well.
    ``ship_with``: the command that ships what is left in the spool.
    """

    address: str
    connected: bool = False
    acked: int = 0
    unconfirmed: int = 0
    waiting: int = 0
    rejected: Mapping[str, int] = msgspec.field(default_factory=dict)
    connections: int = 0
    problem: str = ""
    ship_with: str = ""


class Transport(abc.ABC):
    """Carries the events of one stream, and brings commands back.

    Promises, which the contract suite in ``xtrack_protocol.testing`` holds every transport to:

    - ``send`` either takes the whole payload or raises TransportError and has taken nothing that a reader would
      decode. When it returns, the event is kept as ``promise`` says. Events arrive in the order of the calls.
      Payloads have 1 byte to 1 MiB, and any content.
    - ``send`` never waits for a peer longer than its documented time-out, and never changes the payload.
    - ``open`` raises TransportError or ConfigurationError when events can't be taken; nothing else is opened,
      written or connected before it. A transport is opened once and closed once; ``close`` may be called again.
      Before ``open`` and after ``close``, ``send`` raises TransportClosed.
    - ``receive`` and ``send_control`` never block, and never raise. A transport without a way back returns nothing,
      and False.
    - Calls are serialised by the emitter: a transport needn't be thread-safe, but for ``receive``, ``send_control``
      and ``flush``, which may be called while another thread is in ``send``.
    - After a fork the child doesn't use the parent's transport: it opens what ``for_child`` returns. ``for_child``
      may close the child's copies of the parent's descriptors; the parent goes on undisturbed.
    """

    name: ClassVar[str]
    """What XTRACK_TRANSPORT calls it."""
    promise: ClassVar[Promise]
    """What holds for an event when ``send`` returns."""

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """Where events go, for messages: a path, or scheme and address."""

    @abc.abstractmethod
    def open(self, info: StreamInfo) -> None:
        """Make ready to take the events of ``info.stream``, from seq ``info.first_seq`` on."""

    @abc.abstractmethod
    def send(self, seq: int, payload: bytes) -> None:
        """Take one event: its seq, and its encoded envelope without a length."""

    def shortcut(self) -> Callable[[int, bytes], bool] | None:
        """Return what does the same as ``send``, in less time, until it returns False or this transport closes.

        False says that nothing was taken, and ``send`` has to be called. It is called as ``send`` is, and raises what a
        signal handler does. None, the default: there is none at the moment.
        """
        return None

    def send_control(self, payload: bytes) -> bool:  # noqa: ARG002 - for transports with a way back
        """Send a control event (an answer to a command); return whether there is a way for it."""
        return False

    def answers_as_events(self, command_id: str) -> bool:  # noqa: ARG002 - for transports that know what the peer is
        """Whether the answer to a command goes as an event: who asked is of plain version 1. spec: VER-3.1"""
        return False

    def receive(self) -> list[bytes]:
        """Return the payloads of control events that have come in since the last call."""
        return []

    def flush(self, until: Promise, timeout: float) -> bool:  # noqa: ARG002 - for transports that can wait
        """Wait at most ``timeout`` seconds until everything sent is kept as ``until`` says; return whether it is.

        A transport that can't give that promise returns False at once. What the file or the device refuses raises
        TransportError.
        """
        order: tuple[Promise, ...] = ("none", "accepted", "durable", "acked")
        return order.index(until) <= order.index(self.promise)

    def no_room(self) -> TransportError | None:
        """Return why nothing can be taken now, where that is known without a try; None where one is worth it."""
        return None

    def make_room(self) -> bool:
        """Give up what was kept back for the stream's last words; return whether another try may succeed by it."""
        return False

    def hurry(self) -> None:  # noqa: B027 - for transports that wait
        """Be told that the process ends in seconds: wait for room, or for a peer, as little as can be.

        Called from signal handlers, perhaps in the middle of ``send``. By default nothing changes.
        """

    def delivery(self) -> Delivery | None:
        """Return how far a collector elsewhere has got; None where there is none. May be called from any thread."""
        return None

    @abc.abstractmethod
    def close(self) -> None:
        """Release everything. What was accepted stays accepted."""

    @abc.abstractmethod
    def for_child(self) -> Transport:
        """Return an unopened transport for a forked child, which shares nothing with this one but its address."""
