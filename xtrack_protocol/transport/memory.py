"""Keeps events in this process: for tests, and for whoever wants them as objects."""

from __future__ import annotations

from collections import deque

from xtrack_protocol.errors import TransportClosed
from xtrack_protocol.ir import Envelope
from xtrack_protocol.transport.base import StreamInfo, Transport
from xtrack_protocol.wire import decode


class MemoryTransport(Transport):
    """``payloads`` holds what was sent, ``answers`` what was answered; ``inbox`` is for commands to the worker."""

    name = "memory"
    promise = "none"

    def __init__(self) -> None:
        self.info: StreamInfo | None = None
        self.payloads: list[bytes] = []
        self.answers: list[bytes] = []
        self.inbox: deque[bytes] = deque()
        self._closed = False

    @property
    def address(self) -> str:
        return "memory:"

    @property
    def events(self) -> list[Envelope]:
        """What was sent, decoded."""
        return [decode(payload) for payload in self.payloads]

    def open(self, info: StreamInfo) -> None:
        self.info = info

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        if self.info is None or self._closed:
            raise TransportClosed(self.address, "is not open")
        self.payloads.append(payload)

    def send_control(self, payload: bytes) -> bool:
        if self.info is None or self._closed:
            return False
        self.answers.append(payload)
        return True

    def receive(self) -> list[bytes]:
        received = []
        while self.inbox:
            received.append(self.inbox.popleft())
        return received

    def close(self) -> None:
        self._closed = True

    def for_child(self) -> MemoryTransport:
        return MemoryTransport()
