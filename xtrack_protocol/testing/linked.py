"""Two sessions and the network between them, in memory: what to try a driver's rules, or a peer of your own, against.

::

    link = LinkedPair(EmitterSession(Hello([1])), CollectorSession(authenticate=lambda auth: "me", durability="none"))
    link.connect()
    link.settle()
    link.emitter_news, link.collector_news   # what both have been told so far
"""

from __future__ import annotations

import attrs

from xtrack_protocol.errors import RemoteSessionError
from xtrack_protocol.session import CollectorEvent, CollectorSession, EmitterEvent, EmitterSession


@attrs.define
class LinkedPair:
    """An emitter's and a collector's session with bytes on their way in both directions, and a clock.

    Nothing moves by itself: ``deliver_to_collector`` and ``deliver_to_emitter`` hand on what has been sent, in pieces
    of any size; ``advance`` lets time pass; ``cut`` breaks the connection, with what is on its way. Bytes arrive in
    order and unchanged, as on any TCP connection. What the sessions tell is collected in ``emitter_news`` and
    ``collector_news``; take what you have acted on out of them.
    """

    emitter: EmitterSession
    collector: CollectorSession
    now: float = 0.0
    """Seconds, for both."""
    emitter_news: list[EmitterEvent] = attrs.field(factory=list)
    collector_news: list[CollectorEvent] = attrs.field(factory=list)
    to_collector: bytearray = attrs.field(factory=bytearray)
    """Bytes on their way."""
    to_emitter: bytearray = attrs.field(factory=bytearray)
    is_cut: bool = False

    def connect(self) -> None:
        """Begin: the emitter says hello, the collector has accepted."""
        self.collector.start(self.now)
        self.to_collector += self.emitter.start(self.now)

    def pump(self) -> None:
        """Put on their way what both sessions want to send; a side whose session is over closes after that."""
        if not self.is_cut:
            self.to_collector += self.emitter.data_to_send()
            self.to_emitter += self.collector.data_to_send()

    def deliver_to_collector(self, size: int | None = None) -> int:
        """Hand on up to ``size`` bytes (None: all), if the collector reads; return how many."""
        self.pump()
        if not self.collector.wants_data:
            return 0
        piece = _take(self.to_collector, size)
        if piece:
            self.collector_news += self.collector.receive(piece, self.now)
        elif self.emitter.is_over or self.is_cut:
            self.collector_news += self.collector.receive_eof(self.now)
        return len(piece)

    def deliver_to_emitter(self, size: int | None = None) -> int:
        """Hand on up to ``size`` bytes (None: all); return how many."""
        self.pump()
        piece = _take(self.to_emitter, size)
        if self.emitter.is_over:
            return len(piece)
        if piece:
            self.emitter_news += self.emitter.receive(piece, self.now)
        elif self.collector.is_over or self.is_cut:
            self.emitter_news += self.emitter.receive_eof(self.now)
        return len(piece)

    def settle(self) -> None:
        """Hand on everything in both directions until nothing is on its way."""
        while self.deliver_to_collector() + self.deliver_to_emitter():
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass, one timer after the other, with nothing delivered in between."""
        until = self.now + seconds
        while True:
            due = [at for at in (self.emitter.next_timer(), self.collector.next_timer()) if at is not None]
            self.now = min([until, *(max(at, self.now) for at in due)])
            self.emitter_news += self.emitter.handle_timer(self.now)
            self.collector_news += self.collector.handle_timer(self.now)
            if self.now >= until:
                return

    def cut(self) -> None:
        """Break the connection: what is on its way is lost, and both sides find out when they read next."""
        self.to_collector.clear()
        self.to_emitter.clear()
        self.is_cut = True

    @property
    def is_over(self) -> bool:
        """Whether both sides have finished with this connection."""
        return self.emitter.is_over and self.collector.is_over

    @property
    def errors(self) -> list[RemoteSessionError]:
        """What has poisoned either of the sessions: nothing, between two that keep the rules."""
        return [error for error in (self.emitter.error, self.collector.error) if error is not None]


def _take(way: bytearray, size: int | None) -> bytes:
    piece = bytes(way if size is None else way[:size])
    del way[: len(piece)]
    return piece
