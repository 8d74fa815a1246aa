"""A collector of before, in raw bytes: it knows the published types, and throws away its buffer at any other."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

from small_collector import until
from typing_extensions import Self

PUBLISHED = {
    "run_start", "run_end", "param", "metric", "metric_batch", "artifact", "checkpoint", "status", "log", "command",
    "ack",
}  # fmt: skip


class LegacyCollector:
    """Takes what the original took. ``closes_at_unknown``: rather than throwing its buffer away, it closes."""

    def __init__(self, port: int = 0, *, path: Path | None = None, closes_at_unknown: bool = False) -> None:
        self.closes_at_unknown = closes_at_unknown
        self.events: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        self.thrown_away = 0
        """Bytes that stood in the buffer behind an unknown event."""
        self.connections: list[socket.socket] = []
        self.accepted = 0
        self.path = path
        if path is None:
            self._listening = socket.create_server(("127.0.0.1", port))
            self.port = self._listening.getsockname()[1]
        else:
            self._listening = socket.create_server(str(path), family=socket.AF_UNIX)
        self._listening.settimeout(0.05)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def spec(self) -> str:
        return f"tcp://127.0.0.1:{self.port}" if self.path is None else f"unix:{self.path}"

    @property
    def seqs(self) -> list[int]:
        return [event["m"]["seq"] for event in self.events]

    def kinds(self) -> list[str]:
        return [event["t"] for event in self.events]

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                continue
            connection.setblocking(True)
            self.accepted += 1
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                buffer += data
                while len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:4], "big"):
                    end = 4 + int.from_bytes(buffer[:4], "big")
                    event = json.loads(buffer[4:end])
                    buffer = buffer[end:]
                    if event["t"] in PUBLISHED:
                        self.events.append(event)
                        continue
                    self.unknown.append(event["t"])
                    self.thrown_away += len(buffer)
                    buffer = b""
                    if self.closes_at_unknown:
                        return

    def send(self, event: dict[str, Any]) -> None:
        payload = json.dumps(event).encode()
        self.connections[-1].sendall(len(payload).to_bytes(4, "big") + payload)

    def drop_all(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._stopping.set()
        self._threads[0].join(20)  # first, or it would take one more connection, which nobody drops
        self._listening.close()
        self.drop_all()
        for thread in self._threads:
            thread.join(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


__all__ = ["LegacyCollector", "until"]
