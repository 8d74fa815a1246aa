"""One connection of a client, driven by whoever waits: bytes between a channel and a session, and clear errors."""

from __future__ import annotations

import time
from typing import Final

from xtrack_protocol.errors import CollectorRefused, TransportClosed, TransportError
from xtrack_protocol.ir import Command
from xtrack_protocol.limits import FILE_LIMITS
from xtrack_protocol.net.channel import POLLOUT, wait
from xtrack_protocol.net.connect import connect
from xtrack_protocol.net.endpoint import Endpoint
from xtrack_protocol.session import (
    FEATURE_COMMANDS,
    FEATURE_FOLLOW,
    EmitterEvent,
    EmitterSession,
    FellBack,
    FrameRefused,
    PeerFailed,
    PeerGone,
    Rejected,
    Welcomed,
)

HELLO_MAX: Final = 5.0
"""Seconds for the answer to hello: there is no fallback to be made in a hurry, and a collector may be busy."""
TRANSIENT: Final = frozenset({"busy", "timeout"})
"""Codes of a refusal after which it is worth trying again."""

_CURES: Final = {
    "unauthorized": "Set XTRACK_KEY or XTRACK_KEY_FILE to a key of this collector",
    "forbidden": "Is that the run's whole id? Then its owner, or who keeps the collector, can permit it",
    "busy": "Try again later",
    "unsupported_version": "Upgrade with `pip install -U xtrack-protocol`",
}


def refusal(url: str, code: str, message: str, retry_after: float | None = None) -> CollectorRefused:
    """Return the error for what a collector has refused."""
    problem = f"the collector refuses: {message}" if message else "the collector refuses"
    return CollectorRefused(url, code, problem, _CURES.get(code, ""), retry_after=retry_after)


class Line:
    """A session with a collector. ``timeout``: seconds for the connection, and again for its hello.

    Raises TransportError where nobody answers, CollectorRefused where somebody does and refuses, or is no collector.
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        endpoint = endpoint.renewed()
        self.url: Final = endpoint.url
        self._out = memoryview(b"")
        self._is_welcomed = False
        self._ending: TransportError | None = None
        self._channel = connect(endpoint, timeout)
        self.session = EmitterSession(
            endpoint.hello(features=(FEATURE_FOLLOW, FEATURE_COMMANDS)),
            epoch_us=time.time_ns() // 1000 - int(time.monotonic() * 1_000_000),
            limits=FILE_LIMITS,  # a store may have larger events than come over a socket: from files
            hello_timeout=min(HELLO_MAX, timeout),
        )
        try:
            self._out = memoryview(self.session.start(time.monotonic()))
            while not self._is_welcomed:
                self.exchange(time.monotonic() + HELLO_MAX)
        except BaseException:
            self.close()
            raise

    def send_command(self, command: Command) -> None:
        """Send a command to workers. Raises CollectorRefused where the collector passes none on. spec: CTL-15"""
        if not self.session.send_command(command, time.monotonic()):
            raise CollectorRefused(
                self.url, "unsupported", "this collector passes no commands on", "Upgrade the collector"
            )

    def subscribe(self, run_id: str, cursor: int | None, *, until_end: bool) -> None:
        """Ask for a run's events. Raises CollectorRefused where the collector won't say which they are. spec: CTL-11"""
        if FEATURE_FOLLOW not in self.session.features:
            problem = "this collector doesn't say where a subscription begins and ends"
            raise CollectorRefused(self.url, "unsupported", problem, "Upgrade the collector")
        self.session.subscribe(run_id, cursor, time.monotonic(), until_end=until_end)

    def exchange(self, deadline: float) -> list[EmitterEvent]:
        """Send what waits and return what comes next; nothing at ``deadline`` (monotonic, seconds).

        Raises, after everything that came before it: CollectorRefused when the collector has ended the connection with
        a code, TransportClosed when it is over for any other reason.
        """
        while self._ending is None:
            self._write()
            data = self._read()
            now = time.monotonic()
            if data is None:
                news = self.session.handle_timer(now)
            elif data:
                news = self.session.receive(data, now)
            else:
                cut_off = self.session.receive_eof(now)  # a frame that was cut off comes whole on the next connection
                news = [item for item in cut_off if not isinstance(item, FrameRefused)]
            self._look(news)
            if news and self._is_welcomed:
                return news
            if data is None and not news:
                if now >= deadline:
                    return []
                self._wait(deadline)
        raise self._ending

    def close(self) -> None:
        """Close the connection. May be called again."""
        self.session.close()
        self._channel.close()

    def _wait(self, deadline: float) -> None:
        due = self.session.next_timer()
        until = min(deadline, time.monotonic() + 60 if due is None else due)
        if not self._channel.has_pending():
            wait(self._channel.fileno(), self._channel.events() | (POLLOUT if self._out else 0), until)

    def _read(self) -> bytes | None:
        try:
            return self._channel.read()
        except TransportClosed as error:
            self._ending = error
            return b""

    def _write(self) -> None:
        while True:
            if not self._out:
                if not self.session.output_size:
                    return
                self._out = memoryview(self.session.data_to_send())
            count = self._channel.write(self._out)
            if not count:
                return
            self._out = self._out[count:]

    def _look(self, news: list[EmitterEvent]) -> None:
        """See whether the session has begun, or is over, and why."""
        for item in news:
            match item:
                case Welcomed():
                    self._is_welcomed = True
                case FellBack():
                    self._ending = self._no_collector("it doesn't answer: it is none, or one of plain version 1")
                case Rejected(code=code, message=message, retry_after=retry_after):
                    self._ending = refusal(self.url, code, message, retry_after)
                case PeerFailed(error=error) if not self._is_welcomed:
                    self._ending = self._no_collector(f"what it says is no session: {error}")
                case PeerFailed(error=error):
                    self._ending = self._ending or TransportClosed(self.url, f"the connection is given up: {error}")
                case PeerGone(idle=False) if not self._is_welcomed:
                    self._ending = self._ending or self._no_collector("it closes the connection at hello")
                case PeerGone(reason=reason):
                    self._ending = self._ending or TransportClosed(self.url, reason)
                case _:
                    continue

    def _no_collector(self, problem: str) -> CollectorRefused:
        return CollectorRefused(
            self.url,
            "no_session",
            f"who listens there is no collector that can be asked: {problem}",
            "Subscriptions and commands need `xtrack serve`",
        )


__all__ = ["TRANSIENT", "Line", "refusal"]
