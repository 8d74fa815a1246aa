"""Takes events and keeps none: tracking switched off without touching the training script."""

from __future__ import annotations

from xtrack_protocol.transport.base import StreamInfo, Transport


class NullTransport(Transport):
    """Promises nothing."""

    name = "null"
    promise = "none"

    @property
    def address(self) -> str:
        return "null:"

    def open(self, info: StreamInfo) -> None:
        pass

    def send(self, seq: int, payload: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def for_child(self) -> NullTransport:
        return NullTransport()
