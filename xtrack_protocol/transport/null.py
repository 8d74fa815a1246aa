"""Takes events and keeps none: tracking switched off without touching the training script."""

from __future__ import annotations

from xtrack_protocol.errors import TransportClosed
from xtrack_protocol.transport.base import StreamInfo, Transport


class NullTransport(Transport):
    """Promises nothing."""

    name = "null"
    promise = "none"

    def __init__(self) -> None:
        self._is_open = False

    @property
    def address(self) -> str:
        return "null:"

    def open(self, info: StreamInfo) -> None:  # noqa: ARG002
        self._is_open = True

    def send(self, seq: int, payload: bytes) -> None:  # noqa: ARG002
        if not self._is_open:
            raise TransportClosed(self.address, "is not open")

    def close(self) -> None:
        self._is_open = False

    def for_child(self) -> NullTransport:
        return NullTransport()
