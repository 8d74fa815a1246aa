"""A run's events from a collector on another machine, as an iterator that outlives its connections."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
from typing_extensions import Self

from xtrack_protocol.client.line import TRANSIENT, Line, refusal
from xtrack_protocol.errors import CollectorRefused, TransportError
from xtrack_protocol.ir import Envelope
from xtrack_protocol.net.endpoint import Endpoint
from xtrack_protocol.session import (
    Backoff,
    EmitterEvent,
    EventPublished,
    FrameRefused,
    SubscriptionEnded,
    SubscriptionStarted,
)
from xtrack_protocol.wire import Frame

_SLICE: Final = 0.5
"""Seconds after which a waiting iteration sees that it was closed."""


@attrs.frozen
class PublishedEvent:
    """An event of a run. ``position``: its number among the run's events, in the order of their commits, from 1 on.

    ``frame`` has the event, or why it can't be read, and its bytes.
    """

    position: int
    frame: Frame

    @property
    def envelope(self) -> Envelope | None:
        """The event; None where it can't be read, which ``frame.error`` explains."""
        return self.frame.envelope

    @property
    def raw(self) -> bytes:
        """Its payload as it was kept."""
        return self.frame.raw


class RemoteSubscription:
    """A run's events as an iterator: first what the collector has behind ``cursor``, then what comes, each once.

    It connects when it is asked for the first event, and raises then what keeps it from that: TransportError where
    nobody answers, CollectorRefused where the collector won't. A connection that breaks later is made again, for ever,
    with growing waits, and goes on behind the last event; ``trouble`` is told of each failure.

    Iteration ends when ``close`` is called (from any thread), when the run is deleted (``is_deleted``), when no event
    came for ``timeout`` seconds (``timed_out`` tells it of the last wait; one that timed out may be asked again), or,
    with ``until_end``, when the run has ended and all its events were given out. Where ``timeout`` runs out without a
    connection, what broke it is raised.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        run_id: str,
        *,
        cursor: int | None = 0,
        timeout: float | None = None,
        until_end: bool = False,
        connect_timeout: float,
        trouble: Callable[[TransportError], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self.timed_out = False
        self.is_deleted = False
        self.connections = 0
        """How often the subscription has begun."""
        self._endpoint = endpoint
        self._position = cursor
        self._timeout = timeout
        self._until_end = until_end
        self._connect_timeout = connect_timeout
        self._trouble = trouble
        self._events: deque[Frame] = deque()
        self._line: Line | None = None
        self._has_begun = False
        self._over = False
        self._failure: CollectorRefused | None = None
        self._backoff = Backoff()
        self._closed = threading.Event()
        self._in_use = threading.Lock()

    @property
    def position(self) -> int | None:
        """The position of the last event that was given out: what ``cursor`` takes to go on from here.

        None: it was asked for what comes from now on, and the collector hasn't said yet where that is.
        """
        return self._position

    @property
    def behind(self) -> bool:
        """Whether events have come that weren't given out yet."""
        return bool(self._events)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> PublishedEvent:
        with self._in_use:
            try:
                frame = self._next()
            except BaseException:
                self._hang_up()
                raise
            if frame is None:
                self._hang_up()
                raise StopIteration
        assert self._position is not None
        self._position += 1
        return PublishedEvent(self._position, frame)

    def close(self) -> None:
        """End the iteration, whoever is in it."""
        self._closed.set()
        if self._in_use.acquire(blocking=False):
            self._hang_up()
            self._in_use.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ inside

    def _next(self) -> Frame | None:
        self.timed_out = False
        deadline = math.inf if self._timeout is None else time.monotonic() + self._timeout
        while not self._closed.is_set():
            if self._events:
                return self._events.popleft()
            if self._failure is not None:
                raise self._failure
            if self._over:
                return None
            line = self._line or self._connect(deadline)
            if line is None:
                continue
            now = time.monotonic()
            try:
                self._take(line.exchange(min(deadline, now + _SLICE)))
            except TransportError as error:
                self._lost(error)
                continue
            if not self._has_news() and time.monotonic() >= deadline:
                self.timed_out = True
                return None
        return None

    def _has_news(self) -> bool:
        return bool(self._events) or self._over or self._failure is not None

    def _connect(self, deadline: float) -> Line | None:
        """Return a connection that was asked for the events; None after a try that failed, and a wait."""
        left = deadline - time.monotonic()
        line = None
        try:
            line = Line(self._endpoint, max(0.1, min(self._connect_timeout, left)))
            line.subscribe(self.run_id, self._position, until_end=self._until_end)
        except TransportError as error:
            if line is not None:
                line.close()
            final = isinstance(error, CollectorRefused) and error.code not in TRANSIENT | {"no_session"}
            if final or not self.connections:
                raise
            retry_after = error.retry_after if isinstance(error, CollectorRefused) else None
            self._tell(error)
            delay = self._backoff.next_delay(random.random(), retry_after)  # noqa: S311 - no secret
            if time.monotonic() + delay >= deadline:
                self._closed.wait(max(0.0, deadline - time.monotonic()))
                raise
            self._closed.wait(delay)
            return None
        self._line = line
        return line

    def _take(self, news: list[EmitterEvent]) -> None:
        for item in news:
            match item:
                case SubscriptionStarted(run_id=self.run_id, cursor=cursor):
                    self._begin(cursor)
                case EventPublished(frame=frame) if self._has_begun:
                    self._events.append(frame)
                case FrameRefused(error=error, raw=raw) if self._has_begun:
                    self._events.append(Frame(None, error, 0, len(raw), raw))
                case SubscriptionEnded(run_id=self.run_id, code=code, message=message):
                    self._end(code, message)
                case _:
                    continue

    def _begin(self, cursor: int) -> None:
        assert self._line is not None
        if self._position not in {None, cursor}:
            problem = f"the events of run {self.run_id!r} go on behind number {cursor}, not {self._position}"
            cure = "It may have been restored from a backup: follow the run from its beginning"
            self._failure = CollectorRefused(self._line.url, "renumbered", problem, cure)
            return
        self._position = cursor
        self._has_begun = True
        self.connections += 1
        self._backoff.reset()

    def _end(self, code: str, message: str) -> None:
        assert self._line is not None
        if code not in {"ended", "deleted"}:
            self._failure = refusal(self._line.url, code or "forbidden", message)
        self.is_deleted = code == "deleted"
        self._over = True

    def _lost(self, error: TransportError) -> None:
        """A connection is over: everything that came on it was given out, and the next one goes on behind it."""
        self._hang_up()
        if not self.connections or (isinstance(error, CollectorRefused) and error.code not in TRANSIENT):
            raise error
        self._tell(error)

    def _tell(self, error: TransportError) -> None:
        if self._trouble is not None:
            self._trouble(error)

    def _hang_up(self) -> None:
        self._has_begun = False
        if self._line is not None:
            self._line.close()
            self._line = None


__all__ = ["PublishedEvent", "RemoteSubscription"]
